//! One picture of every camera at the same instant, and a manifest that accounts for every participant.
//!
//! Just before a wall-clock tick every camera is asked for a key frame; the one nearest the tick is checked, decoded,
//! measured, written as JPEG and entered in `captures.jsonl`. Where there is no picture, a row says why. The contract
//! with the readers of the captures folder is `docs/captures.md`.
//!
//! This crate must not know the SFU, the recorder, HTTP or SQL, nor anyone who did not consent to captures. Read
//! [`AnalyzerHandle`] first.
//!
//! ```no_run
//! use std::time::Duration;
//! use seodang_analyzer::{Analyzer, AnalyzerConfig};
//!
//! # fn main() -> Result<(), seodang_analyzer::AnalyzerError> {
//! let config = AnalyzerConfig::new("data/captures".into());
//! let (analyzer, handle, events) = Analyzer::start(config, Box::new(|camera| println!("key frame of {camera}?")))?;
//! // handle.enter(subject); handle.set_camera(participant, CameraState::On); handle.frame(participant, frame);
//! let row = events.recv_timeout(Duration::from_secs(12)).map(|event| event.row);
//! analyzer.shutdown(Duration::from_secs(5));
//! # Ok(()) }
//! ```

mod analyzer;
mod counts;
mod decode;
mod develop;
mod driver;
mod error;
#[cfg(test)]
mod fake;
mod files;
mod frame_clock;
mod header;
mod mend;
mod picture;
mod round;
mod row;
mod store;
mod subject;
mod tick;

pub use analyzer::{Analyzer, AnalyzerConfig, AnalyzerHandle};
pub use counts::AnalyzerCounts;
pub use error::AnalyzerError;
pub use mend::{MendReport, mend};
pub use picture::Statistics;
pub use row::{CaptureClock, CaptureRow, CaptureStatus, ROW_SCHEMA};
pub use store::CaptureEvent;
pub use subject::{CameraState, MediaOrigin, Subject};
