//! Lines of chat; a line's id is its place in the order that everyone sees.

use seodang_model::protocol::ChatLine;
use seodang_model::{DisplayName, LessonId, ParticipantId, RoomId};
use time::OffsetDateTime;

use super::{Store, StoreError, from_ms, parse, to_ms};
use crate::chat::Scope;

impl Store {
    /// Stores a line and returns its id.
    ///
    /// # Errors
    /// When the database does not answer; the line is then not part of the chat.
    pub async fn add_chat_line(
        &self,
        room: RoomId,
        lesson: LessonId,
        participant: ParticipantId,
        text: &str,
        now: OffsetDateTime,
    ) -> Result<i64, StoreError> {
        let (room, lesson, participant, now) = (
            room.to_string(),
            lesson.to_string(),
            participant.to_string(),
            to_ms(now),
        );
        let done = sqlx::query!(
            "INSERT INTO chat_messages (room_id, lesson_id, participant_id, text, sent_at) VALUES (?, ?, ?, ?, ?)",
            room,
            lesson,
            participant,
            text,
            now,
        )
        .execute(&self.writer)
        .await?;
        Ok(done.last_insert_rowid())
    }

    /// The id of the newest line of a room, 0 when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newest_chat_line(&self, room: RoomId) -> Result<i64, StoreError> {
        let room = room.to_string();
        let newest = sqlx::query_scalar!(
            r#"SELECT coalesce(max(id), 0) AS "newest!: i64" FROM chat_messages WHERE room_id = ?"#,
            room,
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(newest)
    }

    /// The lines behind `after` up to `up_to` in order, at most `most`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn chat_lines(
        &self,
        scope: Scope,
        after: i64,
        up_to: i64,
        most: u32,
    ) -> Result<Vec<ChatLine>, StoreError> {
        let rows = match scope {
            Scope::Lesson(lesson) => {
                let lesson = lesson.to_string();
                sqlx::query_as!(
                    LineRow,
                    "SELECT chat_messages.id, participant_id, display_name, text, sent_at
                     FROM chat_messages JOIN participants ON participants.id = participant_id
                     WHERE chat_messages.lesson_id = ? AND chat_messages.id > ? AND chat_messages.id <= ?
                     ORDER BY chat_messages.id LIMIT ?",
                    lesson,
                    after,
                    up_to,
                    most,
                )
                .fetch_all(&self.readers)
                .await?
            }
            Scope::Room(room) => {
                let room = room.to_string();
                sqlx::query_as!(
                    LineRow,
                    "SELECT chat_messages.id, participant_id, display_name, text, sent_at
                     FROM chat_messages JOIN participants ON participants.id = participant_id
                     WHERE chat_messages.room_id = ? AND chat_messages.id > ? AND chat_messages.id <= ?
                     ORDER BY chat_messages.id LIMIT ?",
                    room,
                    after,
                    up_to,
                    most,
                )
                .fetch_all(&self.readers)
                .await?
            }
        };
        rows.into_iter().map(LineRow::into_line).collect()
    }
}

/// The columns a line is read from.
struct LineRow {
    id: i64,
    participant_id: String,
    display_name: String,
    text: String,
    sent_at: i64,
}

impl LineRow {
    fn into_line(self) -> Result<ChatLine, StoreError> {
        Ok(ChatLine {
            id: self.id,
            participant: parse(&self.participant_id, "chat_messages.participant_id")?,
            name: DisplayName::parse(&self.display_name)
                .map_err(|_| StoreError::Corrupt("participants.display_name"))?,
            text: self.text,
            sent_at: from_ms(self.sent_at, "chat_messages.sent_at")?,
            nonce: None,
        })
    }
}
