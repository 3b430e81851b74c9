//! The drop policy: what is given up when the disk is slower than the class.
//!
//! Pictures first, and only whole runs up to the next key frame: a single missing frame would spoil all that follow.
//! Sound is given up last.

use seodang_model::MediaKind;

/// Watches how much of a recording waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    dropping: bool,
}

impl Backlog {
    /// Most bytes of pictures that may wait: the time they buy is 15 s at 2 Mbit/s.
    pub(crate) const VIDEO_BYTES: u64 = 4_000_000;
    /// Most bytes of sound that may wait: above two minutes at 64 kbit/s.
    pub(crate) const AUDIO_BYTES: u64 = 1_000_000;

    /// Whether a frame may join `waiting_bytes` of its kind; when not, it is lost.
    pub(crate) fn admits(&mut self, kind: MediaKind, keyframe: bool, waiting_bytes: u64) -> bool {
        match kind {
            MediaKind::Audio => waiting_bytes < Self::AUDIO_BYTES,
            MediaKind::Video => {
                if waiting_bytes >= Self::VIDEO_BYTES {
                    self.dropping = true;
                } else if keyframe && waiting_bytes < Self::VIDEO_BYTES / 2 {
                    // Room for half a queue, or the run would end where it began.
                    self.dropping = false;
                }
                !self.dropping
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_mark_pictures_are_dropped_up_to_a_keyframe_that_finds_room() {
        let mut backlog = Backlog::default();
        let video = MediaKind::Video;
        assert!(backlog.admits(video, false, Backlog::VIDEO_BYTES - 1));
        assert!(
            !backlog.admits(video, true, Backlog::VIDEO_BYTES),
            "not even a key frame"
        );
        assert!(!backlog.admits(video, false, 0), "never a delta in between");
        assert!(
            !backlog.admits(video, true, Backlog::VIDEO_BYTES - 1),
            "no room to go on"
        );
        assert!(backlog.admits(video, true, 1_000));
        assert!(backlog.admits(video, false, 2_000));
    }

    #[test]
    fn sound_goes_on_while_pictures_are_dropped() {
        let mut backlog = Backlog::default();
        assert!(!backlog.admits(MediaKind::Video, true, Backlog::VIDEO_BYTES));
        assert!(backlog.admits(MediaKind::Audio, true, 10));
        assert!(!backlog.admits(MediaKind::Audio, true, Backlog::AUDIO_BYTES));
    }
}
