//! Which publications are mirrored: a pure function of the answers, so that nothing else can open a file.

use std::collections::BTreeSet;

use seodang_model::Source;
use seodang_model::protocol::Consents;

/// The sources of a participant whose packets may leave the SFU.
///
/// Recording needs all four; captures need the camera alone; without a yes there is nothing to copy.
pub(super) fn mirrored_sources(consents: Consents) -> BTreeSet<Source> {
    if consents.recording {
        Source::ALL.into()
    } else if consents.captures {
        BTreeSet::from([Source::Camera])
    } else {
        BTreeSet::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mirrored_without_a_yes() {
        assert!(mirrored_sources(Consents::default()).is_empty());
    }

    #[test]
    fn captures_alone_never_mirror_a_voice_or_a_screen() {
        let only_captures = Consents {
            recording: false,
            captures: true,
        };
        assert_eq!(mirrored_sources(only_captures), BTreeSet::from([Source::Camera]));
    }

    #[test]
    fn a_recording_needs_every_source() {
        let recording = Consents {
            recording: true,
            captures: false,
        };
        assert_eq!(mirrored_sources(recording).len(), Source::ALL.len());
    }
}
