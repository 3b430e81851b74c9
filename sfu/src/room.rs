//! One lesson's media: who publishes what, who is fed with it, and every packet's way between them.
//!
//! No socket and no clock: packets and the time come in, packets and events go out through [`Output`].

mod seam;

use std::time::Instant;

use seodang_model::protocol::ViewSlot;
use seodang_model::{ParticipantId, Publication, Rights};

pub(crate) use seam::{ExtensionIds, Negotiated, NegotiatedSlot, NegotiatedSource, Output, RoomConfig};

use crate::{RoomReport, SfuStats, TrackSink};

/// The media side of one lesson.
pub(crate) struct Room {
    config: RoomConfig,
}

impl Room {
    pub(crate) fn new(config: RoomConfig) -> Self {
        Self { config }
    }

    /// Takes a seat; joining again keeps everything but the rights.
    pub(crate) fn join(&mut self, now: Instant, participant: ParticipantId, rights: Rights, out: &mut dyn Output) {}
    pub(crate) fn set_rights(&mut self, now: Instant, participant: ParticipantId, rights: Rights, out: &mut dyn Output) {}
    /// A (re)negotiated connection replaces the earlier one: publications, view and sinks stay, slots start empty.
    pub(crate) fn connect(&mut self, now: Instant, participant: ParticipantId, media: Negotiated, out: &mut dyn Output) {}
    /// Keys are agreed: packets may be sent to it.
    pub(crate) fn ready(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {}
    /// The transport is lost; seat, publications, view and sinks stay.
    pub(crate) fn disconnect(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {}
    pub(crate) fn publish(&mut self, now: Instant, publication: Publication, out: &mut dyn Output) {}
    pub(crate) fn unpublish(&mut self, now: Instant, publication: Publication, out: &mut dyn Output) {}
    pub(crate) fn view(&mut self, now: Instant, participant: ParticipantId, generation: u32, slots: &[ViewSlot], out: &mut dyn Output) {}
    /// Dropped at once when the participant has no seat.
    pub(crate) fn attach(&mut self, publication: Publication, sink: Box<dyn TrackSink>) {}
    pub(crate) fn detach(&mut self, publication: Publication) {}
    pub(crate) fn request_keyframe(&mut self, now: Instant, publication: Publication, for_tick: bool, out: &mut dyn Output) {}
    /// Gives the seat up and drops its sinks.
    pub(crate) fn leave(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {}
    /// `packet`: decrypted, header included; `now`: when the datagram was read.
    pub(crate) fn handle_rtp(&mut self, now: Instant, from: ParticipantId, packet: &[u8], out: &mut dyn Output) {}
    /// `packet`: decrypted compound.
    pub(crate) fn handle_rtcp(&mut self, now: Instant, from: ParticipantId, packet: &[u8], out: &mut dyn Output) {}
    pub(crate) fn poll_timeout(&self) -> Option<Instant> { None }
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut dyn Output) {}
    pub(crate) fn has_participant(&self, participant: ParticipantId) -> bool { false }
    pub(crate) fn is_empty(&self) -> bool { true }
    /// ICE states are filled in by the driver.
    pub(crate) fn report(&self) -> RoomReport { RoomReport::default() }
    /// Adds the room's counters.
    pub(crate) fn add_stats(&self, stats: &mut SfuStats) {}
    // Closing a room is dropping it: that drops every sink.
}
