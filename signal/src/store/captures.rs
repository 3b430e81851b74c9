//! Captures: one row for each participant and tick, in the order in which they were written.

use seodang_model::{CaptureId, CapturePath, LessonId, ParticipantId, RoomId};
use time::OffsetDateTime;

use super::{Store, StoreError, parse, to_ms};

/// A line of a room's `captures.jsonl`, with the fields that are searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCapture {
    /// Its id.
    pub id: CaptureId,
    /// The room.
    pub room: RoomId,
    /// The lesson.
    pub lesson: LessonId,
    /// Who is, or is not, in the picture.
    pub participant: ParticipantId,
    /// The wall-clock instant all captures of the round share.
    pub tick: OffsetDateTime,
    /// The manifest's word for how it went.
    pub status: String,
    /// The picture, if there is one.
    pub picture: Option<CapturedPicture>,
    /// The manifest's line as it stands in the file: one JSON object.
    pub line: String,
}

/// A picture on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPicture {
    /// Where it is, below the captures folder.
    pub path: CapturePath,
    /// Its SHA-256 in 64 hexadecimal digits; its entity tag.
    pub sha256: String,
}

/// A capture as readers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRecord {
    /// Its place in the order of writing: the cursor behind it.
    pub number: i64,
    /// Its id.
    pub id: CaptureId,
    /// Whether there is a picture.
    pub has_picture: bool,
    /// The manifest's line.
    pub line: String,
}

impl Store {
    /// A line stands in the manifest. Writing the same capture again changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn capture_written(&self, capture: &NewCapture) -> Result<(), StoreError> {
        let (id, room) = (capture.id.to_string(), capture.room.to_string());
        let (lesson, participant) = (capture.lesson.to_string(), capture.participant.to_string());
        let tick = to_ms(capture.tick);
        let path = capture.picture.as_ref().map(|picture| picture.path.to_string());
        let sha256 = capture.picture.as_ref().map(|picture| picture.sha256.as_str());
        sqlx::query!(
            "INSERT INTO captures (id, room_id, lesson_id, participant_id, tick, status, path, sha256, line)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            id,
            room,
            lesson,
            participant,
            tick,
            capture.status,
            path,
            sha256,
            capture.line,
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The captures of a room behind `cursor` (0: from the first), in order, at most `most`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn captures_after(
        &self,
        room: RoomId,
        cursor: i64,
        most: u32,
    ) -> Result<Vec<CaptureRecord>, StoreError> {
        let room = room.to_string();
        sqlx::query!(
            r#"SELECT number, id, path IS NOT NULL AS "has_picture!: bool", line FROM captures
               WHERE room_id = ? AND number > ? ORDER BY number LIMIT ?"#,
            room,
            cursor,
            most,
        )
        .fetch_all(&self.readers)
        .await?
        .into_iter()
        .map(|row| {
            Ok(CaptureRecord {
                number: row.number,
                id: parse(&row.id, "captures.id")?,
                has_picture: row.has_picture,
                line: row.line,
            })
        })
        .collect()
    }

    /// The picture of a capture; another room's is not found.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn picture_of_room(
        &self,
        room: RoomId,
        id: CaptureId,
    ) -> Result<Option<CapturedPicture>, StoreError> {
        let (room, id) = (room.to_string(), id.to_string());
        sqlx::query!(
            r#"SELECT path AS "path!", sha256 AS "sha256!" FROM captures
               WHERE id = ? AND room_id = ? AND path IS NOT NULL"#,
            id,
            room,
        )
        .fetch_optional(&self.readers)
        .await?
        .map(|row| {
            Ok(CapturedPicture {
                path: parse(&row.path, "captures.path")?,
                sha256: row.sha256,
            })
        })
        .transpose()
    }
}
