//! The parts of a recording: their names, and the note beside each that survives a crash.

use std::path::{Path, PathBuf};
use std::time::Duration;

use seodang_model::{LessonFolder, LessonId, RecordingKind, RecordingPath, RoomNumber, StorageName};
use seodang_rtp::FrameSize;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::RecorderError;
use crate::files::{read_json, write_soon, write_whole};
use crate::manifest::{FileEntry, Gap, GapReason, ParticipantEntry};

/// Where the recordings of one lesson are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LessonPlace {
    /// The room's number.
    pub room: RoomNumber,
    /// The lesson's folder.
    pub folder: LessonFolder,
}

impl LessonPlace {
    /// The lesson's folder below the recordings folder.
    #[must_use]
    pub fn path(&self, root: &Path) -> PathBuf {
        root.join(self.room.as_str()).join(self.folder.to_string())
    }

    pub(crate) fn recording(&self, name: &StorageName, kind: RecordingKind, part: u32) -> RecordingPath {
        let (room, lesson) = (self.room.clone(), self.folder);
        RecordingPath {
            room,
            lesson,
            name: name.clone(),
            kind,
            part,
            unfinished: true,
        }
    }
}

/// The hidden file beside a part that says what the part itself cannot: whose it is and where on the lesson clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartNote {
    pub(crate) lesson: LessonId,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) lesson_started_at: OffsetDateTime,
    pub(crate) participant: ParticipantEntry,
    /// Why there is a further part; `None` for the first.
    pub(crate) resumed_after: Option<GapReason>,
    pub(crate) state: PartState,
    /// Place of the part's zero on the lesson clock; `None` before its first frame.
    pub(crate) offset_ms: Option<u64>,
    pub(crate) width: Option<u16>,
    pub(crate) height: Option<u16>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) dropped_video_frames: u64,
    pub(crate) dropped_audio_packets: u64,
    /// Whether it speaks for all parts, which were joined.
    #[serde(default)]
    pub(crate) joined: bool,
}

/// How far a part has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// Being written, or a crash left it so.
    Recording,
    /// Written to its end.
    Finished,
    /// The disk was full or failed.
    Truncated,
}

impl PartNote {
    pub(crate) fn read(folder: &Path, path: &RecordingPath) -> Result<Option<Self>, RecorderError> {
        read_json(&note_path(folder, path))
    }

    pub(crate) fn write(&self, folder: &Path, path: &RecordingPath) -> Result<(), RecorderError> {
        write_whole(&note_path(folder, path), &self.text()?)
    }

    /// As [`Self::write`], without waiting for the disk.
    pub(crate) fn write_soon(&self, folder: &Path, path: &RecordingPath) -> Result<(), RecorderError> {
        write_soon(&note_path(folder, path), &self.text()?)
    }

    fn text(&self) -> Result<Vec<u8>, RecorderError> {
        serde_json::to_vec_pretty(self).map_err(RecorderError::Manifest)
    }

    /// What a manifest written earlier knows of a file that a lesson going on makes a part again.
    pub(crate) fn of_entry(
        entry: &FileEntry,
        participant: ParticipantEntry,
        lesson: LessonId,
        lesson_started_at: OffsetDateTime,
    ) -> Self {
        Self {
            lesson,
            lesson_started_at,
            participant,
            resumed_after: None,
            state: PartState::Recording,
            offset_ms: Some(entry.offset_ms),
            width: entry.width,
            height: entry.height,
            gaps: entry.gaps.clone(),
            dropped_video_frames: entry.dropped_video_frames,
            dropped_audio_packets: entry.dropped_audio_packets,
            joined: false,
        }
    }

    pub(crate) fn size(&self) -> Option<FrameSize> {
        Some(FrameSize {
            width: self.width?,
            height: self.height?,
        })
    }
}

/// The note's file: hidden, and named like the part.
pub(crate) fn note_path(folder: &Path, path: &RecordingPath) -> PathBuf {
    folder.join(format!(".{}.json", stem(path)))
}

/// Where a joined or mended file grows before it is checked.
pub(crate) fn growing_path(folder: &Path, path: &RecordingPath) -> PathBuf {
    folder.join(format!(".{}.growing", stem(path)))
}

/// Whether a file name is one of [`growing_path`]: worthless without the program that was writing it.
pub(crate) fn is_growing(file_name: &str) -> bool {
    file_name.starts_with('.') && file_name.ends_with(".growing")
}

/// Where a file goes in which nothing can be read.
pub(crate) fn damaged_path(folder: &Path, path: &RecordingPath) -> PathBuf {
    folder.join(format!("{}.damaged", path.file_name()))
}

fn stem(path: &RecordingPath) -> String {
    let whole = RecordingPath {
        unfinished: false,
        ..path.clone()
    };
    whole.file_name().trim_end_matches(".webm").to_owned()
}

/// Where the parts of a recording stand on the lesson clock, in order, and the gaps between them.
///
/// `parts` has each part's noted offset, the offset its header's wall-clock time gives, and its length. A part
/// never begins before the one before it ends: where neither is known, or clocks disagree, it follows at once.
pub(crate) fn place(parts: &[(Option<Duration>, Option<Duration>, Duration)]) -> Vec<Duration> {
    let mut places: Vec<Duration> = Vec::with_capacity(parts.len());
    let mut end = Duration::ZERO;
    for (noted, dated, length) in parts {
        let offset = noted.or(*dated).unwrap_or(end).max(end);
        places.push(offset);
        // One unit of the file's times between two parts.
        end = offset + *length + Duration::from_millis(1);
    }
    places
}

#[cfg(test)]
mod tests {
    use seodang_model::DisplayName;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn hidden_companions_are_named_like_their_part() {
        let place = LessonPlace {
            room: "math-7b".parse().expect("a number"),
            folder: LessonFolder::of(datetime!(2026-11-21 09:00:05 +9)),
        };
        let name = StorageName::for_display(&DisplayName::parse("김 민수").expect("a name"));
        let path = place.recording(&name, RecordingKind::Screen, 2);
        let folder = place.path(Path::new("/r"));
        assert_eq!(
            note_path(&folder, &path),
            folder.join(".김-민수_screen_part2.json")
        );
        assert_eq!(
            growing_path(&folder, &path),
            folder.join(".김-민수_screen_part2.growing")
        );
        assert_eq!(
            damaged_path(&folder, &path),
            folder.join("김-민수_screen_part2.webm.part.damaged")
        );
        assert!(is_growing(".김-민수_screen_part2.growing") && !is_growing("김-민수.webm"));
    }

    #[test]
    fn parts_stand_where_their_notes_say_and_never_overlap() {
        let s = Duration::from_secs;
        let noted = [(Some(s(5)), None, s(10)), (Some(s(40)), Some(s(1)), s(3))];
        assert_eq!(place(&noted), [s(5), s(40)]);
        let unknown = [
            (Some(s(5)), None, s(10)),
            (None, Some(s(30)), s(1)),
            (None, None, s(1)),
        ];
        assert_eq!(place(&unknown), [s(5), s(30), s(31) + Duration::from_millis(1)]);
        let overlapping = [(Some(s(5)), None, s(10)), (Some(s(7)), None, s(1))];
        assert_eq!(place(&overlapping), [s(5), s(15) + Duration::from_millis(1)]);
    }
}
