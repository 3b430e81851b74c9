//! `lesson.json`: what a finished lesson left on disk.

use seodang_model::{LessonId, ParticipantId, RecordingKind, Role, RoomNumber, StorageName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The manifest of one lesson. Only this file, not a file name, says who is recorded.
///
/// Nobody without a consent to recording occurs in it. Unknown fields are ignored when reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LessonManifest {
    /// [`LessonManifest::SCHEMA`]; raised when a field changes its meaning.
    pub schema: u32,
    /// The room's number.
    pub room: RoomNumber,
    /// The lesson; `null` only when a crash took that knowledge along.
    pub lesson: Option<LessonId>,
    /// The worst state of any file: `finished`, `recovered`, and so on.
    pub state: FileState,
    /// When the lesson began: zero of the lesson clock.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it ended; after a crash, when its last recorded frame was.
    #[serde(with = "time::serde::rfc3339")]
    pub ended_at: OffsetDateTime,
    /// Everybody with a file, and everybody else who consented to being recorded; ordered by name.
    pub participants: Vec<ParticipantEntry>,
    /// The recordings, ordered by name, camera before screen.
    pub files: Vec<FileEntry>,
}

impl LessonManifest {
    /// The schema this program writes.
    pub const SCHEMA: u32 = 1;
    /// Its name in the lesson's folder.
    pub const FILE_NAME: &'static str = "lesson.json";
}

/// A participant who consented to being recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantEntry {
    /// The participant.
    pub id: ParticipantId,
    /// The name on disk.
    pub name: StorageName,
    /// What the participant was in the lesson.
    pub role: Role,
    /// Which text of the consent was answered with yes.
    pub consent_version: u32,
}

/// One recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// File name in the lesson's folder.
    pub path: String,
    /// What it holds.
    pub kind: RecordingKind,
    /// Whose it is; `null` only when a crash took that knowledge along.
    pub participant: Option<ParticipantId>,
    /// How whole it is.
    pub state: FileState,
    /// Place of the file's zero on the lesson clock.
    pub offset_ms: u64,
    /// Length of the file.
    pub duration_ms: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Of the whole file, 64 hexadecimal characters; the `ETag` of its download.
    pub sha256: String,
    /// Width in pixels of the largest picture in it; `null` without one.
    pub width: Option<u16>,
    /// Height in pixels of the largest picture in it; `null` without one.
    pub height: Option<u16>,
    /// Spans of the lesson clock without this participant's media, where it should have had some.
    pub gaps: Vec<Gap>,
    /// Pictures that arrived and are not in the file.
    pub dropped_video_frames: u64,
    /// Sound packets that arrived and are not in the file.
    pub dropped_audio_packets: u64,
}

/// A span without media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its beginning on the lesson clock.
    pub from_ms: u64,
    /// Its end on the lesson clock.
    pub to_ms: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why there is no media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The participant had left or lost its connection.
    Away,
    /// The server was restarted.
    Restart,
    /// The participant had withdrawn its consent.
    Consent,
    /// The disk was slower than the class: pictures up to the next key frame were dropped.
    Overload,
}

/// How whole a file is; a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// Everything that arrived is in it.
    Finished,
    /// A crash interrupted it; what was on disk by then is in it.
    Recovered,
    /// The disk was full or failed; it ends early.
    Truncated,
    /// It could not be finished yet and still ends in `.part`; the next recovery tries again.
    Unfinished,
    /// Nothing in it could be read; it is kept under a name ending in `.damaged`.
    Damaged,
}
