//! Answers about recording and captures: append-only, the newest counts, a missing one is a no.

use seodang_model::protocol::Consents;
use seodang_model::{ParticipantId, PersonId, RoomId};
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::{Store, StoreError, from_ms, to_ms};
use crate::consent::TEXT_VERSION;

/// Whose answer it is, where and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) person: PersonId,
    pub(super) room: RoomId,
    pub(super) participant: ParticipantId,
    pub(super) at: i64,
}

impl Store {
    /// Stores changed answers; they are on the disk when this returns.
    ///
    /// # Errors
    /// When the database does not answer; the earlier answers then stand.
    pub async fn add_consents(
        &self,
        person: PersonId,
        room: RoomId,
        participant: ParticipantId,
        consents: Consents,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let answer = Answer {
            person,
            room,
            participant,
            at: to_ms(now),
        };
        self.durably(async |connection| append(connection, &answer, consents).await)
            .await
    }

    /// The newest answers of a participant.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn consents(&self, participant: ParticipantId) -> Result<Consents, StoreError> {
        let id = participant.to_string();
        let rows = sqlx::query!(
            r#"SELECT purpose, answer AS "answer: bool" FROM consents WHERE participant_id = ? ORDER BY id"#,
            id,
        )
        .fetch_all(&self.readers)
        .await?;
        let mut consents = Consents::default();
        for row in rows {
            match row.purpose.as_str() {
                "recording" => consents.recording = row.answer,
                "captures" => consents.captures = row.answer,
                _ => {}
            }
        }
        Ok(consents)
    }

    /// Since when a participant has agreed to recording without a break; `None` if the newest answer is a no.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recording_agreed_since(
        &self,
        participant: ParticipantId,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        let id = participant.to_string();
        let rows = sqlx::query!(
            r#"SELECT answer AS "answer: bool", given_at FROM consents
               WHERE participant_id = ? AND purpose = 'recording' ORDER BY id"#,
            id,
        )
        .fetch_all(&self.readers)
        .await?;
        let mut since = None;
        for row in rows {
            since = match (row.answer, since) {
                (true, None) => Some(from_ms(row.given_at, "consents.given_at")?),
                (true, since) => since,
                (false, _) => None,
            };
        }
        Ok(since)
    }
}

/// Appends the answers for both purposes that make files.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    answer: &Answer,
    consents: Consents,
) -> Result<(), StoreError> {
    let (person, room, participant) = (
        answer.person.to_string(),
        answer.room.to_string(),
        answer.participant.to_string(),
    );
    for (purpose, yes) in [("recording", consents.recording), ("captures", consents.captures)] {
        sqlx::query!(
            "INSERT INTO consents (person_id, room_id, participant_id, purpose, answer, given_by, text_version,
                given_at)
             VALUES (?, ?, ?, ?, ?, 'self', ?, ?)",
            person,
            room,
            participant,
            purpose,
            yes,
            TEXT_VERSION,
            answer.at,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
