//! Recordings: one participant's file of one lesson, from its first byte to its erasure.

use std::time::Duration;

use seodang_model::{
    DisplayName, LessonFolder, LessonId, ParticipantId, RecordingId, RecordingKind, RecordingPath, RoomId,
    RoomNumber,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Store, StoreError, from_ms, parse, to_ms, word};

/// How far a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// Being written.
    Recording,
    /// The lesson ended; duration and cues are being made.
    Finishing,
    /// Whole.
    Finished,
    /// Completed after a crash.
    Recovered,
    /// The disk was full: whole up to there.
    Truncated,
}

impl RecordingState {
    /// The word in rows and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Finishing => "finishing",
            Self::Finished => "finished",
            Self::Recovered => "recovered",
            Self::Truncated => "truncated",
        }
    }

    /// Whether the file can be fetched.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Finished | Self::Recovered | Self::Truncated)
    }
}

/// Which file: there is one of each kind for a participant of a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordingKey {
    /// The lesson.
    pub lesson: LessonId,
    /// Whose.
    pub participant: ParticipantId,
    /// Camera or screen.
    pub kind: RecordingKind,
}

/// What is known of a file once it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedRecording {
    /// Where it is, below the recordings folder.
    pub path: RecordingPath,
    /// `Finished`, `Recovered` or `Truncated`.
    pub state: RecordingState,
    /// From the start of the lesson to its first frame.
    pub offset: Duration,
    /// From its first to its last frame.
    pub duration: Duration,
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256 in 64 hexadecimal digits; its entity tag.
    pub sha256: String,
}

/// A recording as it is stored, with what a list shows beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRecord {
    /// Its id.
    pub id: RecordingId,
    /// Which file of which lesson.
    pub key: RecordingKey,
    /// The lesson's folder.
    pub folder: LessonFolder,
    /// When the lesson began.
    pub lesson_started_at: OffsetDateTime,
    /// When the lesson ended, if it has.
    pub lesson_ended_at: Option<OffsetDateTime>,
    /// The participant's shown name.
    pub name: DisplayName,
    /// Where the file is, below the recordings folder.
    pub path: RecordingPath,
    /// How far it is.
    pub state: RecordingState,
    /// From the start of the lesson to its first frame, once finished.
    pub offset: Option<Duration>,
    /// From first to last frame, once finished.
    pub duration: Option<Duration>,
    /// Its size, once finished.
    pub size_bytes: Option<u64>,
    /// Its SHA-256 in hexadecimal digits, once finished.
    pub sha256: Option<String>,
    /// When writing began.
    pub created_at: OffsetDateTime,
}

/// A lesson whose files are to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueErasure {
    /// The lesson.
    pub lesson: LessonId,
    /// The folder of its room.
    pub room: RoomNumber,
    /// Its folder in there.
    pub folder: LessonFolder,
}

/// The columns of a recording, read into a [`RecordingRecord`].
macro_rules! recording {
    ($row:expr) => {{
        let row = $row;
        Ok::<_, StoreError>(RecordingRecord {
            id: parse(&row.id, "recordings.id")?,
            key: RecordingKey {
                lesson: parse(&row.lesson_id, "recordings.lesson_id")?,
                participant: parse(&row.participant_id, "recordings.participant_id")?,
                kind: word(&row.kind, "recordings.kind")?,
            },
            folder: parse(&row.folder, "lessons.folder")?,
            lesson_started_at: from_ms(row.started_at, "lessons.started_at")?,
            lesson_ended_at: row
                .ended_at
                .map(|ms| from_ms(ms, "lessons.ended_at"))
                .transpose()?,
            name: DisplayName::parse(&row.display_name)
                .map_err(|_| StoreError::Corrupt("participants.display_name"))?,
            path: parse(&row.path, "recordings.path")?,
            state: word(&row.state, "recordings.state")?,
            offset: row
                .offset_ms
                .map(|ms| duration(ms, "recordings.offset_ms"))
                .transpose()?,
            duration: row
                .duration_ms
                .map(|ms| duration(ms, "recordings.duration_ms"))
                .transpose()?,
            size_bytes: row
                .size_bytes
                .map(u64::try_from)
                .transpose()
                .map_err(|_| StoreError::Corrupt("recordings.size_bytes"))?,
            sha256: row.sha256,
            created_at: from_ms(row.created_at, "recordings.created_at")?,
        })
    }};
}

impl Store {
    /// A file is being written: a fresh recording, or a further part of the one that is there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recording_started(
        &self,
        key: RecordingKey,
        path: &RecordingPath,
        now: OffsetDateTime,
    ) -> Result<RecordingId, StoreError> {
        let id = RecordingId::random().to_string();
        let (lesson, participant, kind) = columns(key);
        let (path, now) = (path.to_string(), to_ms(now));
        let id = sqlx::query_scalar!(
            r#"INSERT INTO recordings (id, lesson_id, participant_id, kind, path, state, created_at)
               VALUES (?, ?, ?, ?, ?, 'recording', ?)
               ON CONFLICT (lesson_id, participant_id, kind) DO UPDATE
               SET state = 'recording', path = excluded.path, finished_at = NULL
               RETURNING id"#,
            id,
            lesson,
            participant,
            kind,
            path,
            now,
        )
        .fetch_one(&self.writer)
        .await?;
        parse(&id, "recordings.id")
    }

    /// The lesson ended: what was being written is being finished.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recordings_finishing(&self, lesson: LessonId) -> Result<(), StoreError> {
        let lesson = lesson.to_string();
        sqlx::query!(
            "UPDATE recordings SET state = 'finishing' WHERE lesson_id = ? AND state = 'recording'",
            lesson,
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// A file is whole; from here on it is served. A crash may have swallowed the row of its beginning.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recording_finished(
        &self,
        key: RecordingKey,
        file: &FinishedRecording,
        now: OffsetDateTime,
    ) -> Result<RecordingId, StoreError> {
        debug_assert!(file.state.is_done(), "a finished file has a finished state");
        let id = RecordingId::random().to_string();
        let (lesson, participant, kind) = columns(key);
        let (path, state, now) = (file.path.to_string(), file.state.as_str(), to_ms(now));
        let (offset_ms, duration_ms) = (whole_ms(file.offset), whole_ms(file.duration));
        let size_bytes = i64::try_from(file.size_bytes).unwrap_or(i64::MAX);
        let id = sqlx::query_scalar!(
            r#"INSERT INTO recordings (id, lesson_id, participant_id, kind, path, state, offset_ms, duration_ms,
                                       size_bytes, sha256, created_at, finished_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (lesson_id, participant_id, kind) DO UPDATE
               SET path = excluded.path, state = excluded.state, offset_ms = excluded.offset_ms,
                   duration_ms = excluded.duration_ms, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
                   finished_at = excluded.finished_at
               RETURNING id"#,
            id,
            lesson,
            participant,
            kind,
            path,
            state,
            offset_ms,
            duration_ms,
            size_bytes,
            file.sha256,
            now,
            now,
        )
        .fetch_one(&self.writer)
        .await?;
        parse(&id, "recordings.id")
    }

    /// A lesson's files are settled: rows of what never got a frame, or cannot be read, go. Those in `unfinished` wait
    /// for the next start. Returns how many went.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drop_empty_recordings(
        &self,
        lesson: LessonId,
        unfinished: &[RecordingKey],
    ) -> Result<u64, StoreError> {
        let text = lesson.to_string();
        let mut transaction = self.begin().await?;
        let rows = sqlx::query!(
            "SELECT participant_id, kind FROM recordings
             WHERE lesson_id = ? AND state IN ('recording', 'finishing')",
            text,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let mut count = 0;
        for row in rows {
            let key = RecordingKey {
                lesson,
                participant: parse(&row.participant_id, "recordings.participant_id")?,
                kind: word(&row.kind, "recordings.kind")?,
            };
            if unfinished.contains(&key) {
                continue;
            }
            count += sqlx::query!(
                "DELETE FROM recordings WHERE lesson_id = ? AND participant_id = ? AND kind = ?
                 AND state IN ('recording', 'finishing')",
                text,
                row.participant_id,
                row.kind,
            )
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        }
        transaction.commit().await?;
        Ok(count)
    }

    /// The recordings of a room that can be seen: newest lesson first, then by name; put-aside ones are left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recordings_of_room(&self, room: RoomId) -> Result<Vec<RecordingRecord>, StoreError> {
        let room = room.to_string();
        sqlx::query!(
            r#"SELECT recordings.id, recordings.lesson_id, participant_id, recordings.kind, path AS "path!", state,
                      offset_ms, duration_ms, size_bytes, sha256, recordings.created_at, folder, started_at, ended_at,
                      display_name
               FROM recordings
               JOIN lessons ON lessons.id = recordings.lesson_id
               JOIN participants ON participants.id = recordings.participant_id
               WHERE lessons.room_id = ? AND erased_at IS NULL
                 AND recordings.lesson_id NOT IN (SELECT lesson_id FROM discarded_lessons)
               ORDER BY started_at DESC, display_name, recordings.kind, recordings.id"#,
            room,
        )
        .fetch_all(&self.readers)
        .await?
        .into_iter()
        .map(|row| recording!(row))
        .collect()
    }

    /// One of [`Self::recordings_of_room`]; another room's is not found.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recording_of_room(
        &self,
        room: RoomId,
        id: RecordingId,
    ) -> Result<Option<RecordingRecord>, StoreError> {
        let (room, id) = (room.to_string(), id.to_string());
        sqlx::query!(
            r#"SELECT recordings.id, recordings.lesson_id, participant_id, recordings.kind, path AS "path!", state,
                      offset_ms, duration_ms, size_bytes, sha256, recordings.created_at, folder, started_at, ended_at,
                      display_name
               FROM recordings
               JOIN lessons ON lessons.id = recordings.lesson_id
               JOIN participants ON participants.id = recordings.participant_id
               WHERE recordings.id = ? AND lessons.room_id = ? AND erased_at IS NULL
                 AND recordings.lesson_id NOT IN (SELECT lesson_id FROM discarded_lessons)"#,
            id,
            room,
        )
        .fetch_optional(&self.readers)
        .await?
        .map(|row| recording!(row))
        .transpose()
    }

    /// The host does not keep a lesson's recordings: nobody sees them any more, and they are erased after `keep`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn discard_lesson(
        &self,
        lesson: LessonId,
        now: OffsetDateTime,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let (lesson, now) = (lesson.to_string(), to_ms(now));
        let erase_after = now.saturating_add(whole_ms(keep));
        sqlx::query!(
            "INSERT INTO discarded_lessons (lesson_id, discarded_at, erase_after) VALUES (?, ?, ?)
             ON CONFLICT (lesson_id) DO NOTHING",
            lesson,
            now,
            erase_after,
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Put-aside lessons whose time has come, the oldest first, at most 100. One that is not over is none of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_erasures(&self, now: OffsetDateTime) -> Result<Vec<DueErasure>, StoreError> {
        let now = to_ms(now);
        sqlx::query!(
            "SELECT lesson_id, number, folder FROM discarded_lessons
             JOIN lessons ON lessons.id = lesson_id
             JOIN rooms ON rooms.id = room_id
             WHERE erase_after <= ? AND erased_at IS NULL AND ended_at IS NOT NULL
             ORDER BY erase_after, lesson_id LIMIT 100",
            now,
        )
        .fetch_all(&self.readers)
        .await?
        .into_iter()
        .map(|row| {
            Ok(DueErasure {
                lesson: parse(&row.lesson_id, "discarded_lessons.lesson_id")?,
                room: parse(&row.number, "rooms.number")?,
                folder: parse(&row.folder, "lessons.folder")?,
            })
        })
        .collect()
    }

    /// The files of a put-aside lesson are gone from the disk; their names go from the rows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lesson_erased(&self, lesson: LessonId, now: OffsetDateTime) -> Result<(), StoreError> {
        let (lesson, now) = (lesson.to_string(), to_ms(now));
        let mut transaction = self.begin().await?;
        sqlx::query!(
            "UPDATE recordings SET erased_at = ?, path = NULL WHERE lesson_id = ?",
            now,
            lesson
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE discarded_lessons SET erased_at = ? WHERE lesson_id = ?",
            now,
            lesson
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn columns(key: RecordingKey) -> (String, String, &'static str) {
    let kind = match key.kind {
        RecordingKind::Camera => "camera",
        RecordingKind::Screen => "screen",
    };
    (key.lesson.to_string(), key.participant.to_string(), kind)
}

fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(ms: i64, column: &'static str) -> Result<Duration, StoreError> {
    u64::try_from(ms)
        .map(Duration::from_millis)
        .map_err(|_| StoreError::Corrupt(column))
}
