//! Ending a file on a thread that may be abandoned: a stuck disk must hold up nobody.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::{error, warn};

use crate::clerk::NoteFile;
use crate::part::{PartNote, PartState};
use crate::pipeline::Pipeline;
use crate::writer::RecordingStatus;

/// A file that is being ended.
#[derive(Debug)]
pub struct PendingFinish(Receiver<FinishedPart>);

/// A part that was written to its end, or as far as the disk allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedPart {
    /// How far it came; never [`PartState::Recording`].
    pub state: PartState,
    /// Its last status.
    pub status: RecordingStatus,
}

/// The file was not ended in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// The disk did not answer by the deadline. The thread that ends the file is left behind and may still
    /// succeed; until then `finish_lesson` leaves the part alone.
    #[error("the recording was not finished in time")]
    Deadline,
    /// The thread that ends the file could not be started or died.
    #[error("the recording could not be finished")]
    Failed,
}

impl PendingFinish {
    /// Waits for the end of the file, at most so long.
    ///
    /// # Errors
    /// When the disk does not answer in time.
    pub fn wait(self, deadline: Duration) -> Result<FinishedPart, FinishError> {
        self.0.recv_timeout(deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => FinishError::Deadline,
            RecvTimeoutError::Disconnected => FinishError::Failed,
        })
    }
}

/// What is left of a writer when its file is ended.
pub(crate) struct Closing {
    /// `None` when it was closed before, on an error.
    pub(crate) pipeline: Option<Pipeline>,
    pub(crate) file: Arc<File>,
    pub(crate) note: PartNote,
    pub(crate) note_file: Arc<NoteFile>,
    pub(crate) note_number: u64,
    pub(crate) status: RecordingStatus,
}

impl Closing {
    pub(crate) fn start(self) -> PendingFinish {
        let (sender, receiver) = sync_channel(1);
        let started = thread::Builder::new()
            .name("recorder-closing".to_owned())
            .spawn(move || self.run(&sender));
        if let Err(error) = started {
            error!(
                error = &error as &dyn std::error::Error,
                "a recording cannot be finished"
            );
        }
        PendingFinish(receiver)
    }

    fn run(mut self, done: &SyncSender<FinishedPart>) {
        match (self.pipeline.take(), self.note.state, self.note.offset_ms) {
            // Nothing was written: there is no end to wait for.
            (pipeline, PartState::Recording, None) => drop(pipeline),
            (Some(pipeline), PartState::Recording, Some(_)) => {
                if let Err(reason) = pipeline.close() {
                    warn!(participant.id = %self.note.participant.id, error = reason, "a recording lacks its end");
                    self.note.state = PartState::Truncated;
                }
            }
            (pipeline, _, _) => drop(pipeline),
        }
        if self.note.state == PartState::Recording {
            self.note.state = PartState::Finished;
        }
        if let Err(error) = self.file.sync_all() {
            warn!(
                error = &error as &dyn std::error::Error,
                "a recording may not survive a power cut"
            );
        }
        if let Err(error) = self.note_file.write(self.note_number, &self.note) {
            warn!(
                error = &error as &dyn std::error::Error,
                "the note of a recording could not be written"
            );
        }
        self.status.truncated = self.note.state == PartState::Truncated;
        self.status.bytes = self.file.metadata().map_or(0, |metadata| metadata.len());
        // Before anybody hears of the end: whoever finishes the lesson must find the part free. The clerk may hold
        // the file a moment longer.
        if let Err(error) = self.file.unlock() {
            warn!(
                error = &error as &dyn std::error::Error,
                "a recording stays locked"
            );
        }
        // Nobody may be waiting any more.
        let _ = done.send(FinishedPart {
            state: self.note.state,
            status: self.status,
        });
    }
}
