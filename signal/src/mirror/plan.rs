//! What is mirrored: a pure function of the answers, so that nothing else can open a file.

use std::collections::BTreeSet;

use seodang_model::Source;
use seodang_model::protocol::Consents;

/// Something of a participant that is copied out of the SFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Copied {
    /// A source as recordings get it; captures take their pictures from it unless they have a layer of their own.
    Whole(Source),
    /// The camera in the layer of captures.
    CaptureLayer,
}

impl Copied {
    /// Whatever there is.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Source::ALL
            .into_iter()
            .map(Self::Whole)
            .chain([Self::CaptureLayer])
    }

    /// What it is a copy of.
    pub(super) fn source(self) -> Source {
        match self {
            Self::Whole(source) => source,
            Self::CaptureLayer => Source::Camera,
        }
    }
}

/// What of a participant may leave the SFU; `capture_layer` if captures have one of their own.
///
/// Recording needs all four sources; captures need the camera alone; without a yes there is nothing to copy.
pub(super) fn mirrored(consents: Consents, capture_layer: bool) -> BTreeSet<Copied> {
    let mut mirrored = BTreeSet::new();
    if consents.recording {
        mirrored.extend(Source::ALL.map(Copied::Whole));
    }
    if consents.captures {
        mirrored.insert(if capture_layer {
            Copied::CaptureLayer
        } else {
            Copied::Whole(Source::Camera)
        });
    }
    mirrored
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURES: Consents = Consents {
        recording: false,
        captures: true,
    };
    const RECORDING: Consents = Consents {
        recording: true,
        captures: false,
    };

    #[test]
    fn nothing_is_mirrored_without_a_yes() {
        for capture_layer in [false, true] {
            assert!(mirrored(Consents::default(), capture_layer).is_empty());
        }
    }

    #[test]
    fn captures_alone_never_mirror_a_voice_or_a_screen() {
        let camera = Copied::Whole(Source::Camera);
        assert_eq!(mirrored(CAPTURES, false), BTreeSet::from([camera]));
        assert_eq!(mirrored(CAPTURES, true), BTreeSet::from([Copied::CaptureLayer]));
    }

    #[test]
    fn a_recording_needs_every_source_and_no_capture_layer() {
        for capture_layer in [false, true] {
            let sources = BTreeSet::from(Source::ALL.map(Copied::Whole));
            assert_eq!(mirrored(RECORDING, capture_layer), sources);
        }
    }

    #[test]
    fn both_answers_copy_the_camera_twice_only_for_a_capture_layer() {
        let both = Consents {
            recording: true,
            captures: true,
        };
        assert_eq!(mirrored(both, false).len(), Source::ALL.len());
        assert_eq!(mirrored(both, true).len(), Source::ALL.len() + 1);
    }
}
