//! The one entry: commands in, events out.

use seodang_model::protocol::{Offer, ViewSlot};
use seodang_model::{LessonId, ParticipantId, Publication, Rights};
use tokio::sync::mpsc;

use crate::{OfferError, RoomReport, SfuError, SfuEvent, SfuStats, TrackSink};

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

#[allow(missing_docs, unused_variables, clippy::missing_errors_doc, clippy::unused_async)]
impl SfuHandle {
    /// Stands in until the transport is there.
    pub fn stand_in() -> (Self, mpsc::Receiver<SfuEvent>) {
        (Self, mpsc::channel(1).1)
    }
    pub async fn join(&self, join: Join) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub async fn offer(&self, participant: ParticipantId, offer: Offer) -> Result<String, OfferError> {
        Err(OfferError::Busy)
    }
    pub fn publish(&self, publication: Publication) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn unpublish(&self, publication: Publication) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn set_rights(&self, participant: ParticipantId, rights: Rights) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn view(&self, participant: ParticipantId, generation: u32, slots: Vec<ViewSlot>) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn attach(&self, publication: Publication, sink: Box<dyn TrackSink>) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn detach(&self, publication: Publication) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn request_keyframe(&self, publication: Publication, for_tick: bool) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub fn leave(&self, participant: ParticipantId) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub async fn close_room(&self, lesson: LessonId) -> Result<(), SfuError> {
        Err(SfuError::Busy)
    }
    pub async fn room_report(&self, lesson: LessonId) -> Result<RoomReport, SfuError> {
        Err(SfuError::Busy)
    }
    pub async fn stats(&self) -> SfuStats {
        SfuStats::new()
    }
}
