//! Lessons: openings of a room.

use seodang_model::{LessonFolder, LessonId, RoomId};
use time::OffsetDateTime;

use super::{Store, StoreError, from_ms, parse, to_ms, unless_unique};

/// A lesson as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LessonRecord {
    /// Its id.
    pub id: LessonId,
    /// The room.
    pub room: RoomId,
    /// Its folder, unique in the room.
    pub folder: LessonFolder,
    /// Zero of the lesson clock.
    pub started_at: OffsetDateTime,
    /// The end that was decided and not finished, if any.
    pub ending: Option<LessonEnd>,
}

/// How a lesson ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LessonEnd {
    /// Why.
    pub reason: EndReason,
    /// Whether its recordings are kept; otherwise they are put aside to be erased.
    pub keep_recordings: bool,
}

/// Why a lesson ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A host closed the room.
    Closed,
    /// Nobody was in it for too long.
    Empty,
    /// No host was in it for too long.
    HostMissing,
}

impl EndReason {
    /// The word in the row.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Empty => "empty",
            Self::HostMissing => "host_missing",
        }
    }

    fn from_word(word: &str) -> Result<Self, StoreError> {
        [Self::Closed, Self::Empty, Self::HostMissing]
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .ok_or(StoreError::Corrupt("lessons.end_reason"))
    }
}

impl Store {
    /// Adds a lesson that begins.
    ///
    /// # Errors
    /// [`StoreError::LessonTaken`] when the room has an open one, or one with the same folder.
    pub async fn add_lesson(&self, lesson: &LessonRecord) -> Result<(), StoreError> {
        let (id, room, folder) = (
            lesson.id.to_string(),
            lesson.room.to_string(),
            lesson.folder.to_string(),
        );
        let started_at = to_ms(lesson.started_at);
        sqlx::query!(
            "INSERT INTO lessons (id, room_id, folder, started_at) VALUES (?, ?, ?, ?)",
            id,
            room,
            folder,
            started_at,
        )
        .execute(&self.writer)
        .await
        .map_err(|error| unless_unique(error, StoreError::LessonTaken))?;
        Ok(())
    }

    /// The lesson of a room that has not ended, if any.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_lesson(&self, room: RoomId) -> Result<Option<LessonRecord>, StoreError> {
        let text = room.to_string();
        let row = sqlx::query!(
            r#"SELECT id, folder, started_at, end_reason, keep_recordings AS "keep_recordings: bool"
               FROM lessons WHERE room_id = ? AND ended_at IS NULL"#,
            text,
        )
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let ending = match row.end_reason {
            Some(word) => Some(LessonEnd {
                reason: EndReason::from_word(&word)?,
                keep_recordings: row.keep_recordings,
            }),
            None => None,
        };
        Ok(Some(LessonRecord {
            id: parse(&row.id, "lessons.id")?,
            room,
            folder: parse(&row.folder, "lessons.folder")?,
            started_at: from_ms(row.started_at, "lessons.started_at")?,
            ending,
        }))
    }

    /// Whether a lesson has not ended, nor begun to.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lesson_goes_on(&self, lesson: LessonId) -> Result<bool, StoreError> {
        let lesson = lesson.to_string();
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!: i64" FROM lessons WHERE id = ? AND end_reason IS NULL"#,
            lesson,
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(count > 0)
    }

    /// Notes that a lesson is to end, so that a crash while its files are finished does not forget it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_ending_lesson(&self, lesson: LessonId, end: LessonEnd) -> Result<(), StoreError> {
        let (id, reason) = (lesson.to_string(), end.reason.as_str());
        sqlx::query!(
            "UPDATE lessons SET end_reason = ?, keep_recordings = ? WHERE id = ? AND ended_at IS NULL",
            reason,
            end.keep_recordings,
            id,
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Notes that a lesson has ended; whoever is still marked present left at that moment.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_lesson(&self, lesson: LessonId, now: OffsetDateTime) -> Result<(), StoreError> {
        let (id, now) = (lesson.to_string(), to_ms(now));
        let mut transaction = self.begin().await?;
        // `max`: the wall clock may have been set back.
        sqlx::query!(
            "UPDATE participants SET left_at = max(?, joined_at) WHERE lesson_id = ? AND left_at IS NULL",
            now,
            id,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE lessons SET ended_at = max(?, started_at) WHERE id = ? AND ended_at IS NULL",
            now,
            id,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
