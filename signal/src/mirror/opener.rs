//! Opens recordings on a thread of its own: a stuck disk holds up that thread and no class.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use seodang_recorder::{RecorderError, RecordingInfo, RecordingWriter};

/// Recordings waiting to be opened, some milliseconds each: a school that begins at one instant. When it is full the
/// recording counts as one that cannot be opened, and is tried again like it.
const WAITING: usize = 1_024;

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub(super) struct Opener {
    asks: SyncSender<Ask>,
}

/// What becomes of an ask: a writer, or nothing, which has been logged.
pub(super) type Opened = Receiver<Option<RecordingWriter>>;

struct Ask {
    info: RecordingInfo,
    answer: SyncSender<Option<RecordingWriter>>,
}

impl Opener {
    /// Starts the thread; `open` may wait as long as the disk does.
    pub(super) fn start(
        mut open: impl FnMut(RecordingInfo) -> Result<RecordingWriter, RecorderError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (asks, asked) = sync_channel::<Ask>(WAITING);
        std::thread::Builder::new()
            .name("recording-opener".to_owned())
            .spawn(move || {
                for Ask { info, answer } in asked {
                    // Whoever does not want it any more drops it, which ends the file.
                    let _ = answer.send(open_logged(&mut open, info));
                }
            })?;
        Ok(Self { asks })
    }

    /// Asks for a recording; never waits. `None` when too many are waiting.
    pub(super) fn ask(&self, info: RecordingInfo) -> Option<Opened> {
        let (answer, opened) = sync_channel(1);
        match self.asks.try_send(Ask { info, answer }) {
            Ok(()) => Some(opened),
            Err(TrySendError::Full(ask) | TrySendError::Disconnected(ask)) => {
                tracing::error!(participant.id = %ask.info.participant.id, "too many recordings wait to be opened");
                None
            }
        }
    }
}

fn open_logged(
    open: &mut impl FnMut(RecordingInfo) -> Result<RecordingWriter, RecorderError>,
    info: RecordingInfo,
) -> Option<RecordingWriter> {
    let (participant, lesson) = (info.participant.id, info.lesson);
    match catch_unwind(AssertUnwindSafe(|| open(info))) {
        Ok(Ok(writer)) => Some(writer),
        Ok(Err(error)) => {
            tracing::error!(
                participant.id = %participant,
                lesson.id = %lesson,
                error = &error as &dyn std::error::Error,
                "a recording cannot be opened"
            );
            None
        }
        Err(_) => {
            tracing::error!(participant.id = %participant, "a panic kept a recording from being opened; this is a bug");
            None
        }
    }
}
