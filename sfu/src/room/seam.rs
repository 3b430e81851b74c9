//! What the room is told about a connection, and where its decisions go.

use seodang_model::protocol::MediaState;
use seodang_model::{MediaKind, ParticipantId, Source};
use seodang_rtp::FrameSize;

use crate::SfuEvent;

/// What a room is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomConfig {
    /// Constant estimate sent to publishers as REMB, in bits per second for each connection.
    pub(crate) publisher_bitrate_bps: u64,
    /// Mirrors get the highest layer within this size.
    pub(crate) recording_size: FrameSize,
    /// And those for captures alone the highest one within this.
    pub(crate) capture_size: FrameSize,
}

/// The media lines of one connection, as offer and answer agreed on them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Negotiated {
    /// The lines the participant sends on; at most one for each source counts.
    pub(crate) sources: Vec<NegotiatedSource>,
    /// The lines it receives on, in the order in which they are filled.
    pub(crate) slots: Vec<NegotiatedSlot>,
}

/// A line the participant sends on.
#[derive(Clone, Debug)]
pub(crate) struct NegotiatedSource {
    /// What is sent.
    pub(crate) source: Source,
    /// The line's mid.
    pub(crate) mid: String,
    /// The SSRCs the offer announced; may be empty. RTX SSRCs do not belong here.
    pub(crate) ssrcs: Vec<u32>,
    /// The encodings that were answered with yes (RFC 8853); empty for a line that sends one, which has no name.
    pub(crate) rids: Vec<String>,
    /// The one payload type that is accepted, beside that of repair.
    pub(crate) payload_type: u8,
    /// How missing packets come again; `None`: as they were.
    pub(crate) rtx: Option<NegotiatedRtx>,
    /// Ids of the header extensions that were answered.
    pub(crate) extensions: ExtensionIds,
    /// Whether missing packets may be asked for.
    pub(crate) nack: bool,
}

/// Repair of a line that the participant sends on (RFC 4588).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NegotiatedRtx {
    /// Of the packets that repair.
    pub(crate) payload_type: u8,
    /// What the offer announced: an SSRC and the one that repairs it. Empty: learned from packets.
    pub(crate) pairs: Vec<(u32, u32)>,
}

/// Ids of RFC 8285 header extensions; `None` when not negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    pub(crate) mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852): an encoding.
    pub(crate) rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852): the encoding a packet repairs.
    pub(crate) rrid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub(crate) audio_level: Option<u8>,
    /// The transport-wide sequence number, where feedback about it was negotiated too.
    pub(crate) transport_cc: Option<u8>,
}

/// A line the participant receives on.
#[derive(Clone, Debug)]
pub(crate) struct NegotiatedSlot {
    /// The line's mid.
    pub(crate) mid: String,
    /// Picture or sound.
    pub(crate) kind: MediaKind,
    /// For sound: the mid of the slot for pictures whose participant is to be heard.
    pub(crate) lips: Option<String>,
    /// The SSRC the answer announced; never used twice under one set of keys.
    pub(crate) ssrc: u32,
    /// The payload type the subscriber expects.
    pub(crate) payload_type: u8,
    /// Whether requests to send again are answered.
    pub(crate) nack: bool,
    /// How they are answered; `None`: with the same packet again.
    pub(crate) rtx: Option<SlotRtx>,
}

/// Repair of a slot (RFC 4588).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRtx {
    /// As [`NegotiatedSlot::ssrc`].
    pub(crate) ssrc: u32,
    /// The payload type the subscriber expects of packets that repair.
    pub(crate) payload_type: u8,
}

/// Where the room's decisions go: the driver seals and sends, tests collect.
///
/// Nothing is handed out for a participant that is not [ready](super::Room::ready).
pub(crate) trait Output {
    /// One RTP packet: `header` (12 bytes, complete), then `prefix` (a rewritten VP8 payload descriptor, else
    /// empty), then `payload`. `index` is the 48-bit SRTP packet index (RFC 3711 section 3.3.1): rollover counter
    /// and sequence number of the header; each (SSRC, index) comes once.
    fn rtp(&mut self, to: ParticipantId, index: u64, header: &[u8; 12], prefix: &[u8], payload: &[u8]);

    /// A packet that was handed out before under this `index`, byte for byte the same.
    fn rtp_again(&mut self, to: ParticipantId, index: u64, packet: &[u8]);

    /// One compound RTCP packet.
    fn rtcp(&mut self, to: ParticipantId, compound: &[u8]);

    /// A participant's media state changed; the driver knows the ICE state that goes with it.
    fn media(&mut self, participant: ParticipantId, state: MediaState);

    /// Something to tell the outside: [`SfuEvent::Slots`], [`SfuEvent::Layers`] and [`SfuEvent::Flowing`].
    fn event(&mut self, event: SfuEvent);
}
