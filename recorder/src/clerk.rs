//! The thread that does the small disk work of all recordings, so that whoever writes frames never waits.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use seodang_model::RecordingPath;
use tracing::warn;

use crate::RecorderError;
use crate::part::PartNote;

/// Sends work to the clerk; the clerk ends when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ClerkHandle(SyncSender<Work>);

/// Where the note of one part goes; only ever replaced by a later one.
#[derive(Debug)]
pub(crate) struct NoteFile {
    folder: PathBuf,
    path: RecordingPath,
    /// Number of the note on disk.
    written: Mutex<u64>,
}

#[derive(Debug)]
enum Work {
    Note(Arc<NoteFile>, u64, Box<PartNote>),
    Sync(Arc<File>),
}

impl ClerkHandle {
    /// Jobs that may wait: four for each of 64 recordings. When full, a job is refused and its owner asks again.
    const QUEUE: usize = 256;

    pub(crate) fn start() -> Result<Self, RecorderError> {
        let (sender, receiver) = sync_channel(Self::QUEUE);
        thread::Builder::new()
            .name("recorder-clerk".to_owned())
            .spawn(move || work(&receiver))
            .map_err(RecorderError::disk("starting a thread"))?;
        Ok(Self(sender))
    }

    /// Whether the note will be written.
    pub(crate) fn try_note(&self, file: &Arc<NoteFile>, number: u64, note: &PartNote) -> bool {
        self.try_send(Work::Note(file.clone(), number, Box::new(note.clone())))
    }

    /// Has what was written so far survive a power cut. Left out when the clerk is busy: the next one covers it.
    pub(crate) fn try_sync(&self, file: &Arc<File>) -> bool {
        self.try_send(Work::Sync(file.clone()))
    }

    fn try_send(&self, work: Work) -> bool {
        match self.0.try_send(work) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl NoteFile {
    pub(crate) fn new(folder: PathBuf, path: RecordingPath) -> Self {
        Self {
            folder,
            path,
            written: Mutex::new(0),
        }
    }

    /// Writes the note unless a later one is on disk.
    pub(crate) fn write(&self, number: u64, note: &PartNote) -> Result<(), RecorderError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if number >= *written {
            note.write(&self.folder, &self.path)?;
            *written = number;
        }
        Ok(())
    }
}

fn work(jobs: &Receiver<Work>) {
    for job in jobs {
        let result = match job {
            Work::Note(file, number, note) => file.write(number, &note),
            Work::Sync(file) => file
                .sync_data()
                .map_err(RecorderError::disk("syncing a recording")),
        };
        if let Err(error) = result {
            warn!(
                error = &error as &dyn std::error::Error,
                "the disk refuses what secures a recording"
            );
        }
    }
}
