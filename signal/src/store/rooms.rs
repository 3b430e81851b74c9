//! Rooms: lasting places with a number.

use seodang_model::{RoomId, RoomKind, RoomNumber, RoomTitle, TokenHash};
use time::OffsetDateTime;

use super::{Store, StoreError, parse, to_ms, unless_unique, word};

/// A room as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// Its id.
    pub id: RoomId,
    /// Its number, which is its folder too.
    pub number: RoomNumber,
    /// Its title.
    pub title: RoomTitle,
    /// How it meets.
    pub kind: RoomKind,
    /// Whether the list of rooms shows it.
    pub listed: bool,
    /// Most participants at a time.
    pub capacity: u32,
    /// What the host's token hashes to.
    pub host_token_hash: TokenHash,
}

/// The columns of a room, read into a [`RoomRecord`].
macro_rules! room {
    ($row:expr) => {{
        let row = $row;
        Ok::<_, StoreError>(RoomRecord {
            id: parse(&row.id, "rooms.id")?,
            number: parse(&row.number, "rooms.number")?,
            title: RoomTitle::parse(&row.title).map_err(|_| StoreError::Corrupt("rooms.title"))?,
            kind: word::<RoomKind>(&row.kind, "rooms.kind")?,
            listed: row.listed,
            capacity: u32::try_from(row.capacity).map_err(|_| StoreError::Corrupt("rooms.capacity"))?,
            host_token_hash: TokenHash::from_slice(&row.host_token_hash)
                .ok_or(StoreError::Corrupt("rooms.host_token_hash"))?,
        })
    }};
}

impl Store {
    /// Adds a room.
    ///
    /// # Errors
    /// [`StoreError::NumberTaken`] when the number was given out before.
    pub async fn add_room(&self, room: &RoomRecord, now: OffsetDateTime) -> Result<(), StoreError> {
        let (id, number, title, kind) = (
            room.id.to_string(),
            room.number.as_str(),
            room.title.as_str(),
            room.kind.as_str(),
        );
        let (listed, capacity, now) = (room.listed, room.capacity, to_ms(now));
        let hash = &room.host_token_hash.as_bytes()[..];
        sqlx::query!(
            "INSERT INTO rooms (id, number, title, kind, listed, capacity, host_token_hash, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            id,
            number,
            title,
            kind,
            listed,
            capacity,
            hash,
            now,
        )
        .execute(&self.writer)
        .await
        .map_err(|error| unless_unique(error, StoreError::NumberTaken))?;
        Ok(())
    }

    /// The room of a number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn room_by_number(&self, number: &RoomNumber) -> Result<Option<RoomRecord>, StoreError> {
        let number = number.as_str();
        sqlx::query!(
            r#"SELECT id, number, title, kind, listed AS "listed: bool", capacity, host_token_hash
               FROM rooms WHERE number = ?"#,
            number,
        )
        .fetch_optional(&self.readers)
        .await?
        .map(|row| room!(row))
        .transpose()
    }

    /// The rooms that the list shows, the newest first, at most `most`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn listed_rooms(&self, most: u32) -> Result<Vec<RoomRecord>, StoreError> {
        sqlx::query!(
            r#"SELECT id, number, title, kind, listed AS "listed: bool", capacity, host_token_hash
               FROM rooms WHERE listed = 1 ORDER BY created_at DESC, id LIMIT ?"#,
            most,
        )
        .fetch_all(&self.readers)
        .await?
        .into_iter()
        .map(|row| room!(row))
        .collect()
    }

    /// Rooms with a lesson that has not ended: what a restart goes on with.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rooms_with_open_lessons(&self) -> Result<Vec<RoomRecord>, StoreError> {
        sqlx::query!(
            r#"SELECT rooms.id, number, title, kind, listed AS "listed: bool", capacity, host_token_hash
               FROM rooms JOIN lessons ON lessons.room_id = rooms.id
               WHERE lessons.ended_at IS NULL ORDER BY lessons.started_at"#,
        )
        .fetch_all(&self.readers)
        .await?
        .into_iter()
        .map(|row| room!(row))
        .collect()
    }
}
