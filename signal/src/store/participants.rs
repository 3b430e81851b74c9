//! Persons and their seats in lessons.

use seodang_model::protocol::Consents;
use seodang_model::{
    DisplayName, LessonId, ParticipantId, PersonId, Rights, Role, RoomId, StorageName, Token, TokenHash,
};
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::consents::{Answer, append};
use super::{Store, StoreError, from_ms, parse, to_ms, unless_unique, word};

/// A participant as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatRecord {
    /// Who.
    pub participant: ParticipantId,
    /// The lasting identity behind.
    pub person: PersonId,
    /// Shown name.
    pub name: DisplayName,
    /// Name on disk, unique in the lesson.
    pub storage_name: StorageName,
    /// Role.
    pub role: Role,
    /// Rights.
    pub rights: Rights,
    /// The newest answers.
    pub consents: Consents,
    /// When the seat was first taken.
    pub joined_at: OffsetDateTime,
    /// Whether the participant left; the seat can be resumed all the same.
    pub left: bool,
}

/// A seat to be stored.
#[derive(Clone, Debug)]
pub struct NewSeat {
    /// The room.
    pub room: RoomId,
    /// Its lesson.
    pub lesson: LessonId,
    /// Who, with the answers given on joining. The person is replaced by the one the key belongs to.
    pub seat: SeatRecord,
    /// What the resume token hashes to.
    pub resume_token_hash: TokenHash,
    /// The key the browser presented, if any.
    pub person_key: Option<Token>,
}

impl Store {
    /// Stores a seat and the answers that came with it, in one change that is on the disk when this returns.
    ///
    /// Returns who the person is and the key that names them from then on: the presented one if it is known.
    ///
    /// # Errors
    /// [`StoreError::StorageNameTaken`] when another participant of the lesson has that name on disk.
    pub async fn take_seat(&self, new: &NewSeat) -> Result<(PersonId, Token), StoreError> {
        let NewSeat {
            room,
            lesson,
            seat,
            resume_token_hash,
            person_key,
        } = new;
        let now = to_ms(seat.joined_at);
        self.durably(async |connection| {
            let (person, key) = match known_person(connection, person_key.as_ref()).await? {
                Some(known) => known,
                None => add_person(connection, seat.person, now).await?,
            };
            let (id, lesson, person_id) = (
                seat.participant.to_string(),
                lesson.to_string(),
                person.to_string(),
            );
            let (name, storage_name) = (seat.name.as_str(), seat.storage_name.as_str());
            let (folded, role) = (seat.storage_name.folded(), seat.role.as_str());
            let hash = &resume_token_hash.as_bytes()[..];
            sqlx::query!(
                "INSERT INTO participants (id, lesson_id, person_id, display_name, storage_name,
                    storage_name_folded, role, may_publish, may_share_screen, resume_token_hash, joined_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                id,
                lesson,
                person_id,
                name,
                storage_name,
                folded,
                role,
                seat.rights.may_publish,
                seat.rights.may_share_screen,
                hash,
                now,
            )
            .execute(&mut *connection)
            .await
            .map_err(|error| unless_unique(error, StoreError::StorageNameTaken))?;
            append(
                connection,
                &Answer {
                    person,
                    room: *room,
                    participant: seat.participant,
                    at: now,
                },
                seat.consents,
            )
            .await?;
            Ok((person, key))
        })
        .await
    }

    /// The seat of a lesson that a resume token opens, present or left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn seat_by_resume_token(
        &self,
        lesson: LessonId,
        token: TokenHash,
    ) -> Result<Option<SeatRecord>, StoreError> {
        let (lesson, hash) = (lesson.to_string(), &token.as_bytes()[..]);
        let row = sqlx::query_as!(
            SeatRow,
            r#"SELECT id, person_id, display_name, storage_name, role, may_publish AS "may_publish: bool",
                   may_share_screen AS "may_share_screen: bool", joined_at, left_at
               FROM participants WHERE lesson_id = ? AND resume_token_hash = ?"#,
            lesson,
            hash,
        )
        .fetch_optional(&self.readers)
        .await?;
        match row {
            Some(row) => Ok(Some(self.seat(row).await?)),
            None => Ok(None),
        }
    }

    /// Everyone who ever took a seat in a lesson, in the order of joining.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn seats(&self, lesson: LessonId) -> Result<Vec<SeatRecord>, StoreError> {
        let lesson = lesson.to_string();
        let rows = sqlx::query_as!(
            SeatRow,
            r#"SELECT id, person_id, display_name, storage_name, role, may_publish AS "may_publish: bool",
                   may_share_screen AS "may_share_screen: bool", joined_at, left_at
               FROM participants WHERE lesson_id = ? ORDER BY joined_at, id"#,
            lesson,
        )
        .fetch_all(&self.readers)
        .await?;
        let mut seats = Vec::with_capacity(rows.len());
        for row in rows {
            seats.push(self.seat(row).await?);
        }
        Ok(seats)
    }

    /// A seat that had been left is taken again, perhaps by somebody who meanwhile shows the host's token.
    ///
    /// Returns the key that names the person: the presented one when it is theirs, else a fresh one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retake_seat(
        &self,
        seat: &SeatRecord,
        person_key: Option<&Token>,
    ) -> Result<Token, StoreError> {
        let (id, role) = (seat.participant.to_string(), seat.role.as_str());
        let mut transaction = self.begin().await?;
        sqlx::query!(
            "UPDATE participants SET left_at = NULL, role = ?, may_publish = ?, may_share_screen = ? WHERE id = ?",
            role,
            seat.rights.may_publish,
            seat.rights.may_share_screen,
            id,
        )
        .execute(&mut *transaction)
        .await?;
        let key = match known_person(&mut transaction, person_key).await? {
            Some((person, key)) if person == seat.person => key,
            _ => {
                // The seat's token proves the person; only the hash of the key is known, so it gets another.
                let key = Token::random();
                let (person, hash) = (seat.person.to_string(), key.hash());
                let hash = &hash.as_bytes()[..];
                sqlx::query!("UPDATE persons SET key_hash = ? WHERE id = ?", hash, person)
                    .execute(&mut *transaction)
                    .await?;
                key
            }
        };
        transaction.commit().await?;
        Ok(key)
    }

    /// Notes that somebody left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn leave_seat(
        &self,
        participant: ParticipantId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (id, now) = (participant.to_string(), to_ms(now));
        sqlx::query!(
            "UPDATE participants SET left_at = max(?, joined_at) WHERE id = ?",
            now,
            id
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Stores changed rights.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_rights(&self, participant: ParticipantId, rights: Rights) -> Result<(), StoreError> {
        let id = participant.to_string();
        sqlx::query!(
            "UPDATE participants SET may_publish = ?, may_share_screen = ? WHERE id = ?",
            rights.may_publish,
            rights.may_share_screen,
            id,
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    async fn seat(&self, row: SeatRow) -> Result<SeatRecord, StoreError> {
        let participant = parse(&row.id, "participants.id")?;
        Ok(SeatRecord {
            participant,
            person: parse(&row.person_id, "participants.person_id")?,
            name: DisplayName::parse(&row.display_name)
                .map_err(|_| StoreError::Corrupt("participants.display_name"))?,
            storage_name: StorageName::parse(&row.storage_name)
                .map_err(|_| StoreError::Corrupt("participants.storage_name"))?,
            role: word(&row.role, "participants.role")?,
            rights: Rights {
                may_publish: row.may_publish,
                may_share_screen: row.may_share_screen,
            },
            consents: self.consents(participant).await?,
            joined_at: from_ms(row.joined_at, "participants.joined_at")?,
            left: row.left_at.is_some(),
        })
    }
}

/// The columns a seat is read from.
struct SeatRow {
    id: String,
    person_id: String,
    display_name: String,
    storage_name: String,
    role: String,
    may_publish: bool,
    may_share_screen: bool,
    joined_at: i64,
    left_at: Option<i64>,
}

async fn known_person(
    connection: &mut SqliteConnection,
    key: Option<&Token>,
) -> Result<Option<(PersonId, Token)>, StoreError> {
    let Some(key) = key else { return Ok(None) };
    let hash = key.hash();
    let hash = &hash.as_bytes()[..];
    let row = sqlx::query!("SELECT id FROM persons WHERE key_hash = ?", hash)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((parse(&row.id, "persons.id")?, key.clone())))
        .transpose()
}

/// Keys are made here and only here: one that somebody made up would be as strong as its author wanted.
async fn add_person(
    connection: &mut SqliteConnection,
    person: PersonId,
    now: i64,
) -> Result<(PersonId, Token), StoreError> {
    let key = Token::random();
    let (id, hash) = (person.to_string(), key.hash());
    let hash = &hash.as_bytes()[..];
    sqlx::query!(
        "INSERT INTO persons (id, key_hash, created_at) VALUES (?, ?, ?)",
        id,
        hash,
        now
    )
    .execute(connection)
    .await?;
    Ok((person, key))
}
