//! Whom pictures are taken of, what their camera does, and where their webm begins.

use std::time::Duration;

use seodang_model::{DisplayName, LessonFolder, LessonId, ParticipantId, Role, RoomNumber, StorageName};

/// A participant who consented to captures. Who did not never becomes a `Subject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The room's number, which is the folder of its captures.
    pub room: RoomNumber,
    /// The lesson.
    pub lesson: LessonId,
    /// Where the lesson's recordings are, for joining rows with files.
    pub lesson_folder: LessonFolder,
    /// The person in this lesson.
    pub participant: ParticipantId,
    /// What stands in file names; unique in the lesson.
    pub storage_name: StorageName,
    /// What stands in the manifest.
    pub display_name: DisplayName,
    /// At the time of entering.
    pub role: Role,
    /// Version of the consent text that was agreed to.
    pub consent_version: u32,
}

/// What is known of a participant's camera; decides the reason in rows without a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CameraState {
    /// The participant never had a camera in this lesson, or may not send one.
    #[default]
    None,
    /// Switched off.
    Off,
    /// Published and mirrored.
    On,
    /// In a private talk: no picture may be taken, even if a frame should come.
    PrivateTalk,
    /// The media connection is lost, the seat is kept.
    Disconnected,
}

/// Where a participant's webm begins; places pictures in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MediaOrigin {
    /// Nothing is recorded, or where it will lie is decided when the lesson ends: pictures have no place.
    #[default]
    Unknown,
    /// The file is about to begin. Rows wait for it as long as a round lasts.
    Awaited,
    /// Lesson time of the file's zero.
    At(Duration),
}
