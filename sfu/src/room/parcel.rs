//! What the room of a lesson on one worker tells that on another: one parcel a turn.
//!
//! Who publishes, and what is needed of that, is told as a whole whenever it changed, so that a parcel that had to wait
//! says what is true when it leaves; only packets are ever dropped.

use seodang_model::ParticipantId;
use seodang_rtp::{AudioLevel, FrameSize, NtpTime, RtpHeader, SenderInfo, Vp8Descriptor};

use super::layers::LayerSet;

/// Payloads of one parcel. While the other worker is busy a lesson's packets wait in one: two thirds of a second of 3
/// Mbit/s. What has no room any more is dropped and counted, and a key frame is wished.
pub(super) const PARCEL_BYTES: usize = 256 * 1024;

/// What one room has for another of the same lesson. Its memory is used again: [`Self::clear`].
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    /// The first from this room.
    pub(super) hello: bool,
    /// The last from this room: nobody has a seat there.
    pub(super) gone: bool,
    /// Everybody who sends there, if that is another than before.
    pub(super) roster: Option<Vec<Sender>>,
    /// Everything that is needed there of who sends here, if that is another than before.
    pub(super) needs: Option<Vec<Need>>,
    /// Layers whose key frame is wished there.
    pub(super) wishes: Vec<LayerName>,
    pub(super) items: Vec<Item>,
    bytes: Vec<u8>,
}

/// A participant who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) participant: ParticipantId,
    /// What is published, may be, and is connected.
    pub(super) lines: Vec<SentLine>,
}

/// A line that may flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentLine {
    /// Its place.
    pub(super) line: usize,
    /// Of each layer, as far as it was seen.
    pub(super) sizes: Vec<Option<FrameSize>>,
}

/// What is needed of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) participant: ParticipantId,
    pub(super) line: usize,
    pub(super) layers: LayerSet,
}

/// A layer by names that mean the same in every room of the lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerName {
    pub(super) participant: ParticipantId,
    pub(super) line: usize,
    pub(super) layer: usize,
}

/// What came from a participant, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    /// A packet that was accepted.
    Packet {
        packet: RelayedPacket,
        /// Of the payload, in the parcel's bytes.
        start: usize,
        end: usize,
    },
    /// The sender's clock.
    Report {
        of: LayerName,
        epoch: u64,
        info: SenderInfo,
    },
}

/// A packet without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct RelayedPacket {
    pub(super) of: LayerName,
    /// Of the room it came to.
    pub(super) epoch: u64,
    pub(super) index: u64,
    pub(super) header: RtpHeader,
    pub(super) vp8: Option<Vp8Descriptor>,
    pub(super) level: Option<AudioLevel>,
    /// The layer's last report.
    pub(super) report: Option<(NtpTime, u32)>,
}

impl Parcel {
    /// Packs a packet; `false` when there is no room for it.
    pub(super) fn add(&mut self, packet: RelayedPacket, payload: &[u8]) -> bool {
        let start = self.bytes.len();
        let end = start + payload.len();
        if end > PARCEL_BYTES || self.items.len() >= PARCEL_ITEMS {
            return false;
        }
        self.bytes.extend_from_slice(payload);
        self.items.push(Item::Packet { packet, start, end });
        true
    }

    /// Packs a sender's clock. Dropped when there is no room: the next one comes soon.
    pub(super) fn add_report(&mut self, of: LayerName, epoch: u64, info: SenderInfo) {
        if self.items.len() < PARCEL_ITEMS {
            self.items.push(Item::Report { of, epoch, info });
        }
    }

    /// The payload of a packed packet.
    pub(super) fn payload(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Says that nobody has a seat where it comes from, and nothing else.
    pub(crate) fn say_farewell(&mut self) {
        self.clear();
        self.gone = true;
    }

    /// Whether it is the last one.
    pub(crate) fn is_farewell(&self) -> bool {
        self.gone
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            hello,
            gone,
            roster,
            needs,
            wishes,
            items,
            bytes: _,
        } = self;
        !hello && !gone && roster.is_none() && needs.is_none() && wishes.is_empty() && items.is_empty()
    }

    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        (self.hello, self.gone) = (false, false);
        (self.roster, self.needs) = (None, None);
        self.wishes.clear();
        self.items.clear();
        self.bytes.clear();
    }
}

/// Bounds what small packets take: a second and more of twenty voices.
const PARCEL_ITEMS: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_takes_nothing_more_and_what_is_emptied_does() {
        let of = LayerName {
            participant: ParticipantId::from_bits(1),
            line: 0,
            layer: 0,
        };
        let header = RtpHeader {
            marker: false,
            payload_type: 96,
            sequence_number: 1,
            timestamp: 1,
            ssrc: 1,
        };
        let packet = RelayedPacket {
            of,
            epoch: 1,
            index: 1,
            header,
            vp8: None,
            level: None,
            report: None,
        };
        let payload = [7; 1_000];
        let mut parcel = Parcel::default();
        let packed = std::iter::repeat_with(|| parcel.add(packet, &payload)).take_while(|taken| *taken);
        assert_eq!(packed.count(), PARCEL_BYTES / payload.len());
        parcel.clear();
        assert!(parcel.is_empty());
        let packed = std::iter::repeat_with(|| parcel.add(packet, &[])).take_while(|taken| *taken);
        assert_eq!(packed.count(), PARCEL_ITEMS);
    }
}
