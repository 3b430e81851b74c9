//! Writes one webm for each participant and kind of recording, and mends what a crash left.
//!
//! Knows frames, the lesson clock and the disk; must know neither the SFU nor sockets nor who consented to what:
//! whoever opens a recording says by that that it may be made. Read [`RecordingWriter`] first.
//!
//! ```no_run
//! use std::time::Duration;
//! use seodang_model::MediaKind;
//! use seodang_recorder::{Recorder, RecorderConfig, RecordingInfo};
//! use seodang_rtp::Frame;
//!
//! fn record(info: RecordingInfo, sounds: Vec<Frame>) -> Result<(), Box<dyn std::error::Error>> {
//!     let recorder = Recorder::start(RecorderConfig { root: "data/recordings".into() })?;
//!     let mut writer = recorder.open(info)?;
//!     writer.set_sending(MediaKind::Audio, true, Duration::ZERO);
//!     for sound in sounds {
//!         writer.write(MediaKind::Audio, &sound);
//!         writer.tick(sound.at);
//!     }
//!     writer.finish().wait(Duration::from_secs(5))?;
//!     Ok(())
//! }
//! ```

mod backlog;
mod chat;
mod clerk;
mod closing;
mod discard;
mod error;
mod files;
mod fill;
mod finish;
mod manifest;
mod opus;
mod part;
mod pipeline;
mod recorder;
mod recover;
mod remux;
mod settle;
mod vp8;
mod webm;
mod writer;

pub use chat::ChatLine;
pub use closing::{FinishError, FinishedPart, PendingFinish};
pub use discard::{Erased, discard, erase_discarded};
pub use error::RecorderError;
pub use finish::{LessonSummary, finish_lesson};
pub use manifest::{FileEntry, FileState, Gap, GapReason, LessonManifest, ParticipantEntry};
pub use part::{LessonPlace, PartState};
pub use recorder::{Recorder, RecorderConfig, RecordingInfo, check_framework};
pub use recover::{RecoverReport, recover, recover_lesson};
pub use writer::{RecordingStatus, RecordingWriter};
