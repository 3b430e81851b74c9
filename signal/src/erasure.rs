//! Erases what hosts did not keep, once its time has come.

use std::path::{Path, PathBuf};
use std::time::Duration;

use seodang_recorder::{LessonPlace, erase_discarded};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::files::erase_folder_below;
use crate::store::{Store, StoreError};

/// How often it is looked for lessons whose time has come.
const PERIOD: Duration = Duration::from_secs(10 * 60);
/// A row is written some moments before its files are put aside; it is settled this much later than they are erased.
const LATER: Duration = Duration::from_secs(60);

/// Erases put-aside lessons until `stop`; what fails is tried again the next time.
pub async fn run(store: Store, recordings: PathBuf, keep: Duration, stop: CancellationToken) {
    loop {
        match sweep(&store, &recordings, keep, OffsetDateTime::now_utc()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "put-aside lessons erased"),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "put-aside lessons are not erased"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Erases the lessons whose time has come at `now`; returns how many.
///
/// Files are where the recorder put them aside, or still in their place if it could not. They go first: a crash in
/// between leaves rows that lead to nothing, and the next sweep mends them.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(
    store: &Store,
    recordings: &Path,
    keep: Duration,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    let root = recordings.to_owned();
    let aside = tokio::task::spawn_blocking(move || erase_discarded(&root, now - keep)).await;
    let Ok(Ok(aside)) = aside else {
        tracing::error!("what was put aside is not erased");
        return Ok(0);
    };
    let mut count = 0;
    for due in store.due_erasures(now - LATER).await? {
        let is_left = |place: &LessonPlace| (&place.room, place.folder) == (&due.room, due.folder);
        if aside.left.iter().any(is_left) {
            // Its row says that the files are gone only when they are.
            continue;
        }
        let (root, folder) = (recordings.to_owned(), format!("{}/{}", due.room, due.folder));
        let erased = tokio::task::spawn_blocking(move || erase_folder_below(&root, &folder)).await;
        if matches!(erased, Ok(Ok(()))) {
            store.lesson_erased(due.lesson, now).await?;
            count += 1;
        } else {
            tracing::error!(lesson.id = %due.lesson, "a put-aside lesson is not erased");
        }
    }
    Ok(count)
}
