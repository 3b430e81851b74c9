//! The books: what happened to files becomes rows, and the end of a lesson becomes finished files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use seodang_analyzer::{CaptureEvent, CaptureRow};
use seodang_model::{CapturePath, LessonId, ParticipantId, RecordingPath, RoomId};
use seodang_recorder::{
    ChatLine, FileEntry, FileState, LessonManifest, LessonPlace, LessonSummary, ParticipantEntry,
    RecorderError, RecordingInfo, discard, finish_lesson, recover,
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use super::recording::Ending;
use super::{LessonInfo, consent_number, lesson_place};
use crate::chat::Scope;
use crate::consent::TEXT_VERSION;
use crate::store::{
    CapturedPicture, FinishedRecording, NewCapture, RecordingKey, RecordingState, Store, StoreError,
};

/// Entries that may wait for the database: the files and pictures of a school at one instant.
pub(super) const ENTRIES: usize = 4_096;
/// How long the end of a file is waited for; a disk that hangs longer keeps its part for the next start.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// Chat lines read at a time.
const CHAT_PAGE: u32 = 1_000;

/// Something that happened to files.
pub(super) enum Entry {
    /// A lesson is open.
    Opened { lesson: LessonId, room: RoomId },
    /// A file is being written.
    Started { key: RecordingKey, path: RecordingPath },
    /// A row of captures was written.
    Captured(Box<CaptureRow>),
    /// A lesson ends.
    Closing {
        lesson: LessonInfo,
        pending: Vec<Ending>,
        keep_recordings: bool,
        unstored: BTreeSet<ParticipantId>,
        closed: oneshot::Sender<()>,
    },
    /// The program ends; its lessons go on after the restart.
    Stopping { pending: Vec<Ending> },
}

impl Entry {
    pub(super) fn started(info: &RecordingInfo) -> Self {
        Self::Started {
            key: RecordingKey {
                lesson: info.lesson,
                participant: info.participant.id,
                kind: info.kind,
            },
            path: RecordingPath {
                room: info.place.room.clone(),
                lesson: info.place.folder,
                name: info.participant.name.clone(),
                kind: info.kind,
                part: 1,
                unfinished: false,
            },
        }
    }
}

/// Keeps the books until nobody has anything to enter any more.
pub(super) struct Books {
    store: Store,
    recordings: PathBuf,
    discarded_keep: Duration,
    rooms: BTreeMap<LessonId, RoomId>,
}

impl Books {
    pub(super) fn new(store: Store, recordings: PathBuf, discarded_keep: Duration) -> Self {
        Self {
            store,
            recordings,
            discarded_keep,
            rooms: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let mut finishing = tokio::task::JoinSet::new();
        while let Some(entry) = entries.recv().await {
            let outcome = match entry {
                Entry::Opened { lesson, room } => {
                    self.rooms.insert(lesson, room);
                    Ok(())
                }
                Entry::Started { key, path } => self
                    .store
                    .recording_started(key, &path, OffsetDateTime::now_utc())
                    .await
                    .map(drop),
                Entry::Captured(row) => self.enter_capture(*row).await,
                Entry::Closing {
                    lesson,
                    pending,
                    keep_recordings,
                    unstored,
                    closed,
                } => {
                    let closing = Closing {
                        store: self.store.clone(),
                        recordings: self.recordings.clone(),
                        discarded_keep: self.discarded_keep,
                        lesson,
                        keep_recordings,
                        unstored,
                    };
                    // Lessons end side by side; the books of the others go on.
                    finishing.spawn(async move {
                        if closing.run(pending).await {
                            // Whoever waits may have given up.
                            let _ = closed.send(());
                        }
                    });
                    Ok(())
                }
                Entry::Stopping { pending } => {
                    wait_for(pending).await;
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a row about a file was not stored"
                );
            }
        }
        while finishing.join_next().await.is_some() {}
    }

    async fn enter_capture(&self, row: CaptureRow) -> Result<(), StoreError> {
        let Some(room) = self.rooms.get(&row.lesson).copied() else {
            return Ok(());
        };
        let Ok(line) = serde_json::to_string(&row) else {
            return Ok(());
        };
        let path = row
            .path
            .as_deref()
            .and_then(|path| path.parse::<CapturePath>().ok());
        let picture = path
            .zip(row.sha256)
            .map(|(path, sha256)| CapturedPicture { path, sha256 });
        let capture = NewCapture {
            id: row.capture_id,
            room,
            lesson: row.lesson,
            participant: row.participant,
            tick: row.tick_utc,
            status: row.status.as_str().to_owned(),
            picture,
            line,
        };
        self.store.capture_written(&capture).await
    }
}

/// Hands the analyzer's rows to the books. Ends with the analyzer.
pub(super) fn forward_captures(
    events: &std::sync::mpsc::Receiver<CaptureEvent>,
    books: &mpsc::Sender<Entry>,
) {
    for event in events {
        if books.blocking_send(Entry::Captured(Box::new(event.row))).is_err() {
            return;
        }
    }
}

/// One lesson's end.
struct Closing {
    store: Store,
    recordings: PathBuf,
    discarded_keep: Duration,
    lesson: LessonInfo,
    keep_recordings: bool,
    /// Their newest answer is a no that has no row.
    unstored: BTreeSet<ParticipantId>,
}

impl Closing {
    /// Whether the files are finished and have their rows. If not, the lesson is to be closed again.
    async fn run(self, pending: Vec<Ending>) -> bool {
        let lesson = self.lesson.lesson;
        let started = Instant::now();
        let mut whole = true;
        if !self.keep_recordings {
            // First of all: whatever goes wrong below, nobody sees the files any more, and they will be erased.
            whole = self.hide().await;
        }
        if let Err(error) = self.store.recordings_finishing(lesson).await {
            tracing::error!(lesson.id = %lesson, error = &error as &dyn std::error::Error, "a lesson's rows");
        }
        wait_for(pending).await;
        let summary = match self.summary().await {
            Ok(summary) => summary,
            Err(error) => {
                tracing::error!(
                    lesson.id = %lesson,
                    error = &error as &dyn std::error::Error,
                    "the database does not say who was there; the files are finished at the next start"
                );
                return false;
            }
        };
        let root = self.recordings.clone();
        let finished = tokio::task::spawn_blocking(move || finish_lesson(&root, &summary)).await;
        match finished {
            Ok(Ok(manifest)) => {
                let files = manifest.files.len();
                whole &= settle_rows(&self.store, &lesson_place(&self.lesson), &manifest).await;
                let duration_ms = started.elapsed().as_millis() as u64;
                tracing::info!(lesson.id = %lesson, files, duration_ms, "recordings finished");
            }
            Ok(Err(error)) => {
                whole = false;
                tracing::error!(
                    lesson.id = %lesson,
                    error = &error as &dyn std::error::Error,
                    "recordings are not finished; the next start tries again"
                );
            }
            Err(_) => {
                whole = false;
                tracing::error!(lesson.id = %lesson, "finishing recordings ended with a fault");
            }
        }
        if !self.keep_recordings {
            self.put_aside().await;
        }
        whole
    }

    async fn hide(&self) -> bool {
        let (lesson, now) = (self.lesson.lesson, OffsetDateTime::now_utc());
        let hidden = self.store.discard_lesson(lesson, now, self.discarded_keep).await;
        if let Err(error) = &hidden {
            tracing::error!(lesson.id = %lesson, error = error as &dyn std::error::Error, "a lesson is not hidden");
        }
        hidden.is_ok()
    }

    async fn put_aside(&self) {
        let (lesson, now) = (self.lesson.lesson, OffsetDateTime::now_utc());
        let (root, place) = (self.recordings.clone(), lesson_place(&self.lesson));
        let moved = tokio::task::spawn_blocking(move || discard(&root, &place, now)).await;
        if !matches!(moved, Ok(Ok(()))) {
            tracing::error!(lesson.id = %lesson, "a lesson's folder is not put aside; it is erased where it is");
        }
    }

    async fn summary(&self) -> Result<LessonSummary, StoreError> {
        let lesson = self.lesson.lesson;
        let mut agreed = BTreeMap::new();
        let mut consenting = Vec::new();
        for seat in self.store.seats(lesson).await? {
            if self.unstored.contains(&seat.participant) {
                continue;
            }
            if let Some(since) = self.store.recording_agreed_since(seat.participant).await? {
                agreed.insert(seat.participant, since);
                consenting.push(seat);
            }
        }
        let participants = consenting
            .into_iter()
            .map(|seat| ParticipantEntry {
                id: seat.participant,
                name: seat.storage_name,
                role: seat.role,
                consent_version: consent_number(TEXT_VERSION),
            })
            .collect();
        let mut chat = Vec::new();
        let mut after = 0;
        loop {
            let lines = self
                .store
                .chat_lines(Scope::Lesson(lesson), after, i64::MAX, CHAT_PAGE)
                .await?;
            let Some(last) = lines.last() else { break };
            after = last.id;
            // Nothing that was written before the yes, or under a no, gets beside the files.
            let said = lines.into_iter().filter(|line| {
                agreed
                    .get(&line.participant)
                    .is_some_and(|since| *since <= line.sent_at)
            });
            chat.extend(said.map(|line| ChatLine {
                at: Duration::try_from(line.sent_at - self.lesson.started_at).unwrap_or_default(),
                sent_at: line.sent_at,
                participant: line.participant,
                name: line.name,
                text: line.text,
            }));
        }
        Ok(LessonSummary {
            place: lesson_place(&self.lesson),
            lesson,
            started_at: self.lesson.started_at,
            ended_at: OffsetDateTime::now_utc(),
            participants,
            chat,
        })
    }
}

/// What a look through the recordings found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Lessons with something unfinished.
    pub found: usize,
    /// Of these, now finished.
    pub finished: usize,
}

/// Finishes what a crash left, in the background of a start or for `seodang recover`.
///
/// # Errors
/// When the recordings folder cannot be read.
pub async fn recover_recordings(store: &Store, recordings: PathBuf) -> Result<Recovered, RecorderError> {
    let report = tokio::task::spawn_blocking(move || recover(&recordings, &[])).await;
    let report = match report {
        Ok(report) => report?,
        Err(error) => {
            tracing::error!(%error, "looking through the recordings ended with a fault");
            return Ok(Recovered {
                found: 1,
                finished: 0,
            });
        }
    };
    for (place, manifest) in &report.lessons {
        // A lesson that goes on is being recorded again: its files can be fetched when it has ended.
        let goes_on = match manifest.lesson {
            Some(lesson) => store.lesson_goes_on(lesson).await.unwrap_or(true),
            None => false,
        };
        if !goes_on {
            settle_rows(store, place, manifest).await;
        }
    }
    for (_, error) in &report.failures {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "an unfinished lesson cannot be recovered"
        );
    }
    let whole = |manifest: &LessonManifest| manifest.state < FileState::Unfinished;
    Ok(Recovered {
        found: report.lessons.len() + report.failures.len(),
        finished: report
            .lessons
            .iter()
            .filter(|(_, manifest)| whole(manifest))
            .count(),
    })
}

/// Makes finished files fetchable and lets rows go that lead to none; whether the rows say what the manifest says.
async fn settle_rows(store: &Store, place: &LessonPlace, manifest: &LessonManifest) -> bool {
    let Some(lesson) = manifest.lesson else {
        return true;
    };
    let mut whole = true;
    for file in &manifest.files {
        let Some((key, finished)) = row_of(lesson, place, file) else {
            continue;
        };
        if let Err(error) = store
            .recording_finished(key, &finished, OffsetDateTime::now_utc())
            .await
        {
            whole = false;
            tracing::error!(
                lesson.id = %lesson,
                participant.id = %key.participant,
                error = &error as &dyn std::error::Error,
                "a finished recording has no row"
            );
        }
    }
    let left = |file: &&FileEntry| file.state == FileState::Unfinished;
    let unfinished: Option<Vec<RecordingKey>> = manifest
        .files
        .iter()
        .filter(left)
        .map(|file| key_of(lesson, file))
        .collect();
    // A part whose note is lost may be anybody's.
    let Some(unfinished) = unfinished else {
        return whole;
    };
    match store.drop_empty_recordings(lesson, &unfinished).await {
        Ok(0) => whole,
        Ok(count) => {
            tracing::info!(lesson.id = %lesson, count, "recordings without a readable frame are not listed");
            whole
        }
        Err(error) => {
            tracing::error!(
                lesson.id = %lesson,
                error = &error as &dyn std::error::Error,
                "recordings without a frame stay listed"
            );
            false
        }
    }
}

fn key_of(lesson: LessonId, file: &FileEntry) -> Option<RecordingKey> {
    Some(RecordingKey {
        lesson,
        participant: file.participant?,
        kind: file.kind,
    })
}

/// The row of a file that can be fetched; `None` for others.
fn row_of(
    lesson: LessonId,
    place: &LessonPlace,
    file: &FileEntry,
) -> Option<(RecordingKey, FinishedRecording)> {
    let state = match file.state {
        FileState::Finished => RecordingState::Finished,
        FileState::Recovered => RecordingState::Recovered,
        FileState::Truncated => RecordingState::Truncated,
        FileState::Unfinished | FileState::Damaged => return None,
    };
    let key = key_of(lesson, file)?;
    let finished = FinishedRecording {
        path: format!("{}/{}/{}", place.room, place.folder, file.path)
            .parse()
            .ok()?,
        state,
        offset: Duration::from_millis(file.offset_ms),
        duration: Duration::from_millis(file.duration_ms),
        size_bytes: file.bytes,
        sha256: file.sha256.clone(),
    };
    Some((key, finished))
}

/// Waits for the ends of files, all together as long as one may take.
async fn wait_for(pending: Vec<Ending>) {
    let waited = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + FINISH_WITHIN;
        for finish in pending {
            if let Err(error) = finish.wait(deadline.saturating_duration_since(Instant::now())) {
                tracing::error!(%error, "a recording's end is left to the next start");
            }
        }
    });
    if waited.await.is_err() {
        tracing::error!("waiting for recordings ended with a fault");
    }
}

#[cfg(test)]
mod tests;
