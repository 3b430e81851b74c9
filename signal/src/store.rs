//! The database: one module of functions named by intent, checked queries on SQLite.
//!
//! One connection writes (WAL has one writer anyway, and a queue of our own is fairer than SQLite's busy
//! waiting), a few read. A function returns when its change is committed; nobody is told of a change before.
//! Ids are stored as text, times as milliseconds since 1970 UTC.

mod captures;
mod chat;
mod consents;
mod lessons;
mod participants;
mod recordings;
mod rooms;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

pub use captures::{CaptureRecord, CapturedPicture, NewCapture};
pub use lessons::{EndReason, LessonEnd, LessonRecord};
pub use participants::{NewSeat, SeatRecord};
pub use recordings::{DueErasure, FinishedRecording, RecordingKey, RecordingRecord, RecordingState};
pub use rooms::RoomRecord;

/// How long a query waits for a lock held by another process, such as `seodang erase`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change waits for its turn: longer than a lock may be held.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers; each is a thread.
const READERS: u32 = 4;

/// What can go wrong in the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The room number is taken, or was once.
    #[error("the room number was given out before")]
    NumberTaken,
    /// A lesson of this room is open, or one of the same second was.
    #[error("the room has such a lesson already")]
    LessonTaken,
    /// The name on disk is taken in this lesson.
    #[error("the name on disk is taken in this lesson")]
    StorageNameTaken,
    /// A row holds what this program never writes.
    #[error("column {0} holds a value of unknown form")]
    Corrupt(&'static str),
    /// The schema cannot be brought up to date.
    #[error("database schema")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Everything else: disk, lock, shutdown. Nothing was changed.
    #[error("database")]
    Database(#[from] sqlx::Error),
}

/// The open database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the database file, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened or written, or was made by a newer program.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(TURN_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await?;
        sqlx::migrate!("./migrations").run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(TURN_TIMEOUT)
            .connect_with(options.create_if_missing(false).pragma("query_only", "ON"))
            .await?;
        Ok(Self { writer, readers })
    }

    /// Waits for running queries, writes everything into the main file and closes it.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!(r#"SELECT 1 AS "one!: i64""#)
            .fetch_one(&self.readers)
            .await?;
        Ok(())
    }

    /// A transaction that holds the write lock from its beginning, so that it never fails half-way for a lock.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Runs `change` in a transaction that is on the disk, not only with the operating system, when it is
    /// committed: an answer about consent must survive a power cut.
    async fn durably<T>(
        &self,
        change: impl AsyncFnOnce(&mut sqlx::SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        use sqlx::Connection as _;
        let mut connection = self.writer.acquire().await?;
        // The setting cannot change inside a transaction. Left behind by a cancelled call it costs time only.
        sqlx::query("PRAGMA synchronous = FULL")
            .execute(&mut *connection)
            .await?;
        let outcome = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let value = change(&mut transaction).await?;
            transaction.commit().await?;
            Ok(value)
        }
        .await;
        sqlx::query("PRAGMA synchronous = NORMAL")
            .execute(&mut *connection)
            .await?;
        outcome
    }
}

/// Milliseconds since 1970 UTC.
pub(crate) fn to_ms(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).expect("the years 1 to 9999 fit")
}

/// Back from [`to_ms`].
pub(crate) fn from_ms(ms: i64, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .map_err(|_| StoreError::Corrupt(column))
}

/// Reads a text column that one of our types wrote.
pub(crate) fn parse<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(column))
}

/// Reads a word that serde knows, such as a role.
pub(crate) fn word<T: serde::de::DeserializeOwned>(
    text: &str,
    column: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| StoreError::Corrupt(column))
}

/// Gives a broken uniqueness its meaning.
fn unless_unique(error: sqlx::Error, taken: StoreError) -> StoreError {
    match &error {
        sqlx::Error::Database(cause) if cause.is_unique_violation() => taken,
        _ => StoreError::Database(error),
    }
}

#[cfg(test)]
mod tests;
