//! The one entry: commands in, events out.

use std::collections::BTreeMap;

use seodang_model::protocol::ViewSlot;
use seodang_model::{LessonId, ParticipantId, Publication, Rights, Source};
use tokio::sync::mpsc;

use crate::{OfferError, RoomReport, SfuConfig, SfuError, SfuEvent, SfuStats, TrackSink};

/// The running SFU.
#[derive(Debug)]
pub struct Sfu;

/// A participant takes its place on a worker.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// The lesson; its first join chooses the worker.
    pub lesson: LessonId,
    /// Who. Joining again keeps the connection and replaces the rights.
    pub participant: ParticipantId,
    /// What may be published.
    pub rights: Rights,
}

/// Sends commands to the media workers. Cloning is cheap. Methods that are not `async` never wait.
#[derive(Clone, Debug)]
pub struct SfuHandle;
