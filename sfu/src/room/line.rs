//! One sending line of a participant: what arrives on it, and what is known about it.

use std::time::Instant;

use seodang_model::{MediaKind, Source};
use seodang_rtp::{
    AudioLevel, FrameSize, NtpTime, Position, RtpHeader, RtpView, SequenceExtender, Vp8Descriptor,
    Vp8FrameHeader, begins_keyframe,
};

use super::NegotiatedSource;
use super::history::MAX_PAYLOAD_BYTES;
use super::keyframe::KeyframeWishes;
use super::layers::{LayerSet, MOST_LAYERS, Needs};
use super::losses::Rate;
use super::loudness::Loudness;
use super::mirror::Mirror;
use super::pacing::HEADERS_BYTES;
use super::parcel::RelayedPacket;
use super::relay::Workers;
use super::stats::Refusal;
use super::stream::Stream;
use crate::TrackSink;

/// A line by the seat of its participant and the place of its source in [`Source::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineId {
    pub(super) seat: usize,
    pub(super) line: usize,
}

/// One of a line's encodings, by its place among them; 0 on a line that sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerId {
    pub(super) line: LineId,
    pub(super) layer: usize,
}

impl LayerId {
    /// The one layer of a line that sends no more.
    pub(super) const fn only(line: LineId) -> Self {
        Self { line, layer: 0 }
    }
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
    pub(super) mirror: Option<Mirror>,
    /// Of captures that do not take what recordings take.
    pub(super) captures: Option<Mirror>,
    /// At least one; from the smallest picture to the largest.
    pub(super) layers: Vec<Layer>,
    /// Which of them the sender is told to send.
    pub(super) needs: Needs,
    /// Which of them somebody needs at the moment.
    pub(super) needed: LayerSet,
    pub(super) loudness: Loudness,
    /// Since it was published.
    pub(super) packets: u64,
    /// The last packet, or when packets could be expected first.
    pub(super) heard_at: Option<Instant>,
    /// What the lesson's rooms on other workers need.
    pub(super) elsewhere: Vec<(usize, LayerSet)>,
    /// For each layer: the workers it is relayed to.
    pub(super) relays: [Workers; MOST_LAYERS],
}

/// One encoding of a line.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) stream: Option<Stream>,
    /// The slots its packets may be for, resolved when something changes.
    pub(super) routes: Vec<Route>,
    pub(super) wishes: KeyframeWishes,
    /// Of the last key frame.
    pub(super) size: Option<FrameSize>,
    pub(super) rate: Rate,
    /// Without key frames, and with what the way adds to each packet.
    pub(super) deltas: Rate,
}

/// What became of an accepted packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) layer: usize,
    pub(super) index: u64,
    pub(super) epoch: u64,
    pub(super) vp8: Option<Vp8Descriptor>,
    /// A key frame begins.
    pub(super) keyframe: bool,
    /// It is a part of one whose beginning came.
    pub(super) of_keyframe: bool,
    /// A slot may begin with this packet.
    pub(super) may_switch: bool,
    /// It is the first of its epoch.
    pub(super) begun: bool,
    /// Later ones came before it.
    pub(super) late: bool,
    /// Its layer did not flow before it.
    pub(super) resumed: bool,
    /// It is the first since the line was published.
    pub(super) flowing: bool,
    /// Pictures have another size from here on.
    pub(super) resized: bool,
    pub(super) level: Option<AudioLevel>,
}

/// A packet whose place is known.
pub(super) struct Receiving<'a> {
    pub(super) index: u64,
    /// It is the first of its epoch.
    pub(super) begun: bool,
    /// It came as repair.
    pub(super) repaired: bool,
    /// What is missing before it may be asked for.
    pub(super) nack: bool,
    pub(super) header: RtpHeader,
    pub(super) vp8: Option<Vp8Descriptor>,
    pub(super) level: Option<AudioLevel>,
    pub(super) payload: &'a [u8],
}

impl Line {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            media: None,
            published: false,
            mirror: None,
            captures: None,
            layers: vec![Layer::default()],
            needs: Needs::new(1),
            needed: LayerSet::default(),
            loudness: Loudness::default(),
            packets: 0,
            heard_at: None,
            elsewhere: Vec::new(),
            relays: Default::default(),
        }
    }

    /// Takes over what a connection agreed on.
    pub(super) fn connect(&mut self, media: NegotiatedSource) {
        let layers = media.rids.len().max(1);
        self.layers.clear();
        self.layers.resize_with(layers, Layer::default);
        self.needs = Needs::new(layers);
        self.media = Some(media);
    }

    /// Forgets everything that belonged to the earlier counts; the sink stays, and the sizes: the camera is most likely
    /// the same.
    pub(super) fn reset(&mut self) {
        for layer in &mut self.layers {
            *layer = Layer {
                size: layer.size,
                ..Layer::default()
            };
        }
        self.loudness = Loudness::default();
        self.heard_at = None;
    }

    pub(super) fn attach(&mut self, sink: Box<dyn TrackSink>) {
        self.mirror = Some(self.mirror_to(sink));
    }

    pub(super) fn attach_captures(&mut self, sink: Box<dyn TrackSink>) {
        self.captures = Some(self.mirror_to(sink));
    }

    /// A mirror of what comes from here on.
    fn mirror_to(&self, sink: Box<dyn TrackSink>) -> Mirror {
        let streams = self.layers.iter().filter_map(|layer| layer.stream.as_ref());
        let after = streams.filter_map(|stream| Some((stream.epoch, stream.sequence.highest()?)));
        Mirror::new(sink, self.source.kind(), after.collect())
    }

    /// Where key frames are asked of: the SSRC that sends, else the one that was announced.
    pub(super) fn media_ssrc(&self, layer: usize) -> Option<u32> {
        match &self.layers.get(layer)?.stream {
            Some(stream) => Some(stream.ssrc),
            None if self.layers.len() == 1 => self.media.as_ref()?.ssrcs.first().copied(),
            None => None,
        }
    }

    /// Whether a layer's packets come. A browser switches layers off by itself when its way or its machine is too slow;
    /// on a line with one layer that makes no difference.
    pub(super) fn flows(&self, now: Instant, layer: usize) -> bool {
        let stream = self.layers.get(layer).and_then(|layer| layer.stream.as_ref());
        let recently = |stream: &Stream| now.saturating_duration_since(stream.last_at) < LAYER_SILENCE;
        self.layers.len() == 1 || stream.is_some_and(recently)
    }

    /// What shall be taken instead of `wish`, as far as it flows: the next lower layer that does, else a higher one.
    pub(super) fn flowing_instead(&self, now: Instant, wish: usize) -> usize {
        let lower = (0..=wish).rev();
        let mut candidates = lower.chain(wish + 1..self.layers.len());
        candidates.find(|layer| self.flows(now, *layer)).unwrap_or(wish)
    }

    /// The sizes of the layers, as far as seen.
    pub(super) fn sizes(&self) -> Vec<Option<FrameSize>> {
        self.layers.iter().map(|layer| layer.size).collect()
    }

    /// The stream of an SSRC and its layer.
    pub(super) fn stream_of(&mut self, ssrc: u32) -> Option<(usize, &mut Stream)> {
        let streams = self.layers.iter_mut().enumerate();
        let mut streams = streams.filter_map(|(place, layer)| Some((place, layer.stream.as_mut()?)));
        streams.find(|(_, stream)| stream.ssrc == ssrc)
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

    /// Takes a packet of a published and allowed source, of one of its layers; `repaired` if it came as repair. `epochs` counts the room's
    /// epochs.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        which: usize,
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
            (
                self.place_repaired(which, header.ssrc, header.sequence_number)?,
                false,
            )
        } else {
            self.place(now, which, &header, epochs)?
        };
        let level = level_id.and_then(|id| packet.extensions.audio_level(id));
        self.accept(
            now,
            which,
            &Receiving {
                index,
                begun,
                repaired,
                nack,
                header,
                vp8,
                level,
                payload: packet.payload,
            },
        )
    }

    /// Takes a packet whose place is known, and keeps it unless it is here.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        which: usize,
        packet: &Receiving<'_>,
    ) -> Result<Received, Refusal> {
        let Receiving {
            index,
            begun,
            repaired,
            nack,
            header,
            vp8,
            level,
            ..
        } = *packet;
        let kind = self.source.kind();
        let layer = self.layers.get_mut(which).ok_or(Refusal::Unbound)?;
        let stream = layer.stream.as_mut().ok_or(Refusal::Unbound)?;
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
        let resumed = now.saturating_duration_since(stream.last_at) >= LAYER_SILENCE;
        stream.last_at = now;
        if kind == MediaKind::Audio {
            self.loudness.packet(now, level);
        }
        let behind = stream.reception.highest() - index;
        let keyframe = vp8.is_some_and(|vp8| begins_keyframe(packet.payload, &vp8));
        let mut resized = false;
        if keyframe {
            if stream.newest_keyframe < Some(index) {
                stream.newest_keyframe = Some(index);
                stream.keyframe_time = Some(header.timestamp);
            }
            stream.missing.keyframe(index);
            layer.wishes.arrived();
            let frame = vp8.and_then(|vp8| packet.payload.get(vp8.len..));
            let size = frame
                .and_then(Vp8FrameHeader::parse)
                .and_then(|header| header.size);
            resized = size.is_some() && size != layer.size;
            layer.size = size.or(layer.size);
        }
        let bytes = packet.payload.len() + RtpHeader::SIZE;
        layer.rate.add(now, bytes);
        let of_keyframe = stream.keyframe_time == Some(header.timestamp);
        if !of_keyframe {
            layer.deltas.add(now, bytes + HEADERS_BYTES);
        }
        let flowing = self.packets == 0;
        self.packets += 1;
        self.heard_at = Some(now);
        Ok(Received {
            layer: which,
            index,
            epoch: stream.epoch,
            vp8,
            keyframe,
            of_keyframe,
            may_switch: match kind {
                MediaKind::Video => keyframe && behind < SWITCH_WINDOW_PACKETS,
                MediaKind::Audio => behind == 0 && !packet.payload.is_empty(),
            },
            begun,
            late: behind > 0,
            resumed: begun || resumed,
            flowing,
            resized,
            level,
        })
    }

    /// Hands an accepted packet to the mirrors.
    pub(super) fn mirror(&mut self, now: Instant, id: LineId, received: &Received, packet: &RtpView<'_>) {
        for mirror in self.mirror.iter_mut().chain(&mut self.captures) {
            if self.layers.len() == 1 {
                mirror.write(now, received, packet);
                continue;
            }
            let stream = self.layers[received.layer].stream.as_ref();
            let report = stream.and_then(|stream| stream.report);
            mirror.write_layer(now, id, received, packet, report);
        }
    }

    /// Takes a sender report of one of the line's SSRCs; returns its layer and count.
    pub(super) fn sender_report(
        &mut self,
        now: Instant,
        id: LineId,
        ssrc: u32,
        (ntp, rtp): (NtpTime, u32),
    ) -> Option<(usize, u64)> {
        let (layer, stream) = self.stream_of(ssrc)?;
        stream.report = Some((ntp, rtp));
        stream.reception.sender_report(now, ntp);
        let from = (layer, stream.epoch);
        for mirror in self.mirror.iter_mut().chain(&mut self.captures) {
            if self.layers.len() == 1 {
                mirror.report(now, ntp, rtp);
            } else {
                mirror.report_layer(now, id, from, ntp, rtp);
            }
        }
        Some(from)
    }

    /// Finds the index of a packet that comes again. Repair begins nothing: what it repairs was sent before.
    fn place_repaired(&mut self, which: usize, ssrc: u32, sequence_number: u16) -> Result<u64, Refusal> {
        let stream = self.layers.get_mut(which).and_then(|layer| layer.stream.as_mut());
        let stream = stream.filter(|stream| stream.ssrc == ssrc);
        let stream = stream.ok_or(Refusal::Late)?;
        match stream.sequence.locate(sequence_number) {
            Position::At(index) => {
                stream.sequence.extend(sequence_number);
                Ok(index)
            }
            Position::Restarted(_) => Err(Refusal::Late),
        }
    }

    /// Begins another count where the room that the packet came to began one; whether it did.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        packet: &RelayedPacket,
        epochs: &mut u64,
    ) -> Result<bool, Refusal> {
        let kind = self.source.kind();
        let layer = self.layers.get_mut(packet.of.layer).ok_or(Refusal::Unbound)?;
        if layer
            .stream
            .as_ref()
            .is_some_and(|stream| stream.origin == packet.epoch)
        {
            return Ok(false);
        }
        *epochs += 1;
        let mut stream = Stream::new(now, kind, packet.header.ssrc, *epochs, packet.index);
        stream.origin = packet.epoch;
        layer.stream = Some(stream);
        Ok(true)
    }

    /// Finds the packet's index and begins another count where that is needed.
    fn place(
        &mut self,
        now: Instant,
        which: usize,
        header: &RtpHeader,
        epochs: &mut u64,
    ) -> Result<(u64, bool), Refusal> {
        let RtpHeader {
            ssrc,
            sequence_number,
            ..
        } = *header;
        let layer = self.layers.get_mut(which).ok_or(Refusal::Unbound)?;
        if let Some(stream) = &mut layer.stream {
            if stream.ssrc == ssrc {
                if let Position::At(index) = stream.sequence.extend(sequence_number) {
                    return Ok((index, false));
                }
            } else if now.saturating_duration_since(stream.last_at) < TAKEOVER_SILENCE {
                // Two SSRCs at once on a layer: simulcast that was not negotiated.
                return Err(Refusal::SecondSsrc);
            }
        }
        *epochs += 1;
        let mut sequence = SequenceExtender::default();
        let (Position::At(first) | Position::Restarted(first)) = sequence.extend(sequence_number);
        let mut stream = Stream::new(now, self.source.kind(), ssrc, *epochs, first);
        stream.sequence = sequence;
        layer.stream = Some(stream);
        Ok((first, true))
    }
}

/// A key frame this far behind the newest packet was repaired late; a slot that began with it would miss what followed.
const SWITCH_WINDOW_PACKETS: u64 = 16;
/// Another SSRC takes a line over when the first was silent for as long.
const TAKEOVER_SILENCE: std::time::Duration = std::time::Duration::from_secs(1);
/// A layer that is silent for as long does not flow: longer than the pause between pictures of a slow camera.
const LAYER_SILENCE: std::time::Duration = std::time::Duration::from_millis(700);
