//! One sending line of a participant: what arrives on it, and what is known about it.

use std::time::Instant;

use seodang_model::{MediaKind, Source};
use seodang_rtp::{NtpTime, Position, RtpPacket, RtpView, SequenceExtender, Vp8Descriptor, begins_keyframe};

use super::NegotiatedSource;
use super::history::{History, MAX_PAYLOAD_BYTES};
use super::keyframe::KeyframeWishes;
use super::loudness::Loudness;
use super::nack::Missing;
use super::reception::Reception;
use super::stats::Refusal;
use crate::TrackSink;

/// A line by the seat of its participant and the place of its source in [`Source::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineId {
    pub(super) seat: usize,
    pub(super) line: usize,
}

/// A slot by the seat of its subscriber and its place there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) seat: usize,
    pub(super) slot: usize,
}

/// A sending line; exists for each source of a seat whether or not it is used.
pub(super) struct Line {
    pub(super) source: Source,
    pub(super) media: Option<NegotiatedSource>,
    pub(super) published: bool,
    pub(super) sink: Option<Sink>,
    pub(super) stream: Option<Stream>,
    /// The slots its packets may be for, resolved when something changes.
    pub(super) routes: Vec<Route>,
    pub(super) wishes: KeyframeWishes,
    pub(super) loudness: Loudness,
    /// Since it was published.
    pub(super) packets: u64,
    /// The last packet, or when packets could be expected first.
    pub(super) heard_at: Option<Instant>,
}

/// The mirror's end of a publication.
pub(super) struct Sink {
    target: Box<dyn TrackSink>,
    /// Packets from before it was attached are not for it, even if they come again.
    after: Option<(u64, u64)>,
}

/// One SSRC's unbroken count on a line.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ssrc: u32,
    /// Unique in the room; a new one with each SSRC, each restart of the count and each publishing.
    pub(super) epoch: u64,
    sequence: SequenceExtender,
    first: u64,
    last_at: Instant,
    pub(super) history: History,
    pub(super) missing: Missing,
    pub(super) reception: Reception,
    /// The sender's clock, from its last report.
    pub(super) report: Option<(NtpTime, u32)>,
}

/// What became of an accepted packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) index: u64,
    pub(super) epoch: u64,
    pub(super) vp8: Option<Vp8Descriptor>,
    /// A key frame begins.
    pub(super) keyframe: bool,
    /// A slot may begin with this packet.
    pub(super) may_switch: bool,
    /// It is the first of its epoch.
    pub(super) begun: bool,
    /// It is the first since the line was published.
    pub(super) flowing: bool,
}

impl Line {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            media: None,
            published: false,
            sink: None,
            stream: None,
            routes: Vec::new(),
            wishes: KeyframeWishes::default(),
            loudness: Loudness::default(),
            packets: 0,
            heard_at: None,
        }
    }

    /// Forgets everything that belonged to the earlier count; the sink stays.
    pub(super) fn reset(&mut self) {
        self.stream = None;
        self.wishes = KeyframeWishes::default();
        self.loudness = Loudness::default();
        self.heard_at = None;
    }

    pub(super) fn attach(&mut self, target: Box<dyn TrackSink>) {
        let after = self
            .stream
            .as_ref()
            .and_then(|stream| Some((stream.epoch, stream.sequence.highest()?)));
        self.sink = Some(Sink { target, after });
    }

    /// Where key frames are asked of: the SSRC that sends, else the one that was announced.
    pub(super) fn media_ssrc(&self) -> Option<u32> {
        match &self.stream {
            Some(stream) => Some(stream.ssrc),
            None => self.media.as_ref()?.ssrcs.first().copied(),
        }
    }

    /// The packet of `ssrc` that a repairing packet brings again.
    pub(super) fn repaired<'a>(&self, packet: &RtpView<'a>, ssrc: u32) -> Result<RtpView<'a>, Refusal> {
        let media = self.media.as_ref().ok_or(Refusal::Unbound)?;
        let rtx = media.rtx.as_ref().ok_or(Refusal::Unbound)?;
        if packet.header.payload_type != rtx.payload_type {
            return Err(Refusal::PayloadType);
        }
        if packet.payload.is_empty() {
            // Browsers probe the way with padding.
            return Err(Refusal::Padding);
        }
        packet
            .repaired(ssrc, media.payload_type)
            .ok_or(Refusal::Malformed)
    }

    /// Takes a packet of a published and allowed source; `repaired` if it came as repair. `epochs` counts the room's
    /// epochs.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        packet: &RtpView<'_>,
        repaired: bool,
        epochs: &mut u64,
    ) -> Result<Received, Refusal> {
        let header = packet.header;
        let media = self.media.as_ref().ok_or(Refusal::Unbound)?;
        if header.payload_type != media.payload_type {
            return Err(Refusal::PayloadType);
        }
        let kind = self.source.kind();
        if packet.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Refusal::Malformed);
        }
        let vp8 = match kind {
            MediaKind::Video if !packet.payload.is_empty() => {
                Some(Vp8Descriptor::parse(packet.payload).map_err(|_| Refusal::Malformed)?)
            }
            _ => None,
        };
        let (nack, level_id) = (media.nack, media.extensions.audio_level);
        let (index, begun) = if repaired {
            (self.place_repaired(header.ssrc, header.sequence_number)?, false)
        } else {
            self.place(now, header.ssrc, header.sequence_number, epochs)?
        };
        let stream = self.stream.as_mut().ok_or(Refusal::Unbound)?;
        if index < stream.first {
            return Err(Refusal::Late);
        }
        if !stream.history.insert(now, index, header, vp8, packet.payload) {
            return Err(Refusal::Duplicate);
        }
        if nack && !begun {
            stream.missing.received(now, index, stream.reception.highest());
        }
        if repaired {
            stream.reception.repaired(index);
        } else {
            stream.reception.packet(now, index, header.timestamp);
        }
        stream.last_at = now;
        if kind == MediaKind::Audio {
            let level = level_id.and_then(|id| packet.extensions.audio_level(id));
            self.loudness.packet(now, level);
        }
        let behind = stream.reception.highest() - index;
        let keyframe = vp8.is_some_and(|vp8| begins_keyframe(packet.payload, &vp8));
        if keyframe {
            self.wishes.arrived();
        }
        let flowing = self.packets == 0;
        self.packets += 1;
        self.heard_at = Some(now);
        Ok(Received {
            index,
            epoch: stream.epoch,
            vp8,
            keyframe,
            may_switch: match kind {
                MediaKind::Video => keyframe && behind < SWITCH_WINDOW_PACKETS,
                MediaKind::Audio => behind == 0 && !packet.payload.is_empty(),
            },
            begun,
            flowing,
        })
    }

    /// Hands an accepted packet to the mirror.
    pub(super) fn mirror(&mut self, received: &Received, packet: &RtpView<'_>, now: Instant) {
        let Some(sink) = &mut self.sink else { return };
        if sink
            .after
            .is_some_and(|(epoch, after)| epoch == received.epoch && received.index <= after)
        {
            return;
        }
        let packet: RtpPacket = packet.to_packet();
        sink.target.write(&packet, now);
    }

    /// Takes a sender report of the line's SSRC.
    pub(super) fn sender_report(&mut self, now: Instant, ntp: NtpTime, rtp: u32) {
        if let Some(stream) = &mut self.stream {
            stream.report = Some((ntp, rtp));
            stream.reception.sender_report(now, ntp);
        }
        if let Some(sink) = &mut self.sink {
            sink.target.clock(ntp, rtp, now);
        }
    }

    /// Finds the index of a packet that comes again. Repair begins nothing: what it repairs was sent before.
    fn place_repaired(&mut self, ssrc: u32, sequence_number: u16) -> Result<u64, Refusal> {
        let stream = self.stream.as_mut().filter(|stream| stream.ssrc == ssrc);
        let stream = stream.ok_or(Refusal::Late)?;
        match stream.sequence.locate(sequence_number) {
            Position::At(index) => {
                stream.sequence.extend(sequence_number);
                Ok(index)
            }
            Position::Restarted(_) => Err(Refusal::Late),
        }
    }

    /// Finds the packet's index and begins another count where that is needed.
    fn place(
        &mut self,
        now: Instant,
        ssrc: u32,
        sequence_number: u16,
        epochs: &mut u64,
    ) -> Result<(u64, bool), Refusal> {
        if let Some(stream) = &mut self.stream {
            if stream.ssrc == ssrc {
                if let Position::At(index) = stream.sequence.extend(sequence_number) {
                    return Ok((index, false));
                }
            } else if now.saturating_duration_since(stream.last_at) < TAKEOVER_SILENCE {
                // Two SSRCs at once on a line: simulcast that was not negotiated.
                return Err(Refusal::SecondSsrc);
            }
        }
        *epochs += 1;
        let mut sequence = SequenceExtender::default();
        let (Position::At(first) | Position::Restarted(first)) = sequence.extend(sequence_number);
        self.stream = Some(Stream {
            ssrc,
            epoch: *epochs,
            sequence,
            first,
            last_at: now,
            history: History::new(self.source.kind()),
            missing: Missing::default(),
            reception: Reception::new(ssrc, self.source.kind().clock_rate_hz(), first),
            report: None,
        });
        Ok((first, true))
    }
}

/// A key frame this far behind the newest packet was repaired late; a slot that began with it would miss what followed.
const SWITCH_WINDOW_PACKETS: u64 = 16;
/// Another SSRC takes a line over when the first was silent for as long.
const TAKEOVER_SILENCE: std::time::Duration = std::time::Duration::from_secs(1);
