//! The room with hand-set time and collected output.

mod abuse;
mod bursts;
mod captures;
mod feedback;
mod layers;
mod loss;
mod mirror;
mod nonces;
mod pictures;
mod repair;
mod sound;
mod spread;

use std::time::{Duration, Instant};

use seodang_model::protocol::{MediaState, SlotInfo, ViewSlot};
use seodang_model::{MediaKind, ParticipantId, Publication, Rights, Source};
use seodang_rtp::{FrameSize, Rtcp, RtcpWriter, RtpHeader, RtpView, read_rtcp};

use super::downlink::Downlink;
use super::*;
use crate::SfuEvent;

pub(super) const ALL: Rights = Rights {
    may_publish: true,
    may_share_screen: true,
};
pub(super) const VP8: u8 = 96;
pub(super) const OPUS: u8 = 111;
/// Repair of pictures, from participants and to them.
pub(super) const RTX: u8 = 97;
pub(super) const SLOT_RTX: u8 = 122;
const MID_ID: u8 = 4;
const RID_ID: u8 = 5;
const LEVEL_ID: u8 = 1;

/// An RTP packet that a subscriber was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) to: ParticipantId,
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) again: bool,
}

impl Given {
    pub(super) fn view(&self) -> RtpView<'_> {
        RtpView::parse(&self.bytes).expect("a packet")
    }
}

#[derive(Default)]
pub(super) struct Collected {
    pub(super) rtp: Vec<Given>,
    pub(super) rtcp: Vec<(ParticipantId, Vec<u8>)>,
    pub(super) media: Vec<(ParticipantId, MediaState)>,
    pub(super) events: Vec<SfuEvent>,
}

impl Output for Collected {
    fn rtp(&mut self, to: ParticipantId, index: u64, header: &[u8; 12], prefix: &[u8], payload: &[u8]) {
        let bytes = [header, prefix, payload].concat();
        self.rtp.push(Given {
            to,
            index,
            bytes,
            again: false,
        });
    }

    fn rtp_again(&mut self, to: ParticipantId, index: u64, packet: &[u8]) {
        self.rtp.push(Given {
            to,
            index,
            bytes: packet.to_vec(),
            again: true,
        });
    }

    fn rtcp(&mut self, to: ParticipantId, compound: &[u8]) {
        self.rtcp.push((to, compound.to_vec()));
    }

    fn media(&mut self, participant: ParticipantId, state: MediaState) {
        self.media.push((participant, state));
    }

    fn event(&mut self, event: SfuEvent) {
        self.events.push(event);
    }
}

impl Collected {
    pub(super) fn plis(&self, to: ParticipantId) -> usize {
        self.count(to, |packet| matches!(packet, Rtcp::Pli { .. }))
    }

    pub(super) fn count(&self, to: ParticipantId, which: impl Fn(&Rtcp<'_>) -> bool) -> usize {
        let datagrams = self.rtcp.iter().filter(|(receiver, _)| *receiver == to);
        datagrams
            .flat_map(|(_, bytes)| read_rtcp(bytes))
            .filter(|packet| packet.as_ref().is_ok_and(&which))
            .count()
    }

    /// The newest slots that `of` was told.
    pub(super) fn slots(&self, of: ParticipantId) -> Option<(u32, Vec<SlotInfo>)> {
        self.events.iter().rev().find_map(|event| match event {
            SfuEvent::Slots {
                participant,
                generation,
                slots,
            } if *participant == of => Some((*generation, slots.clone())),
            _ => None,
        })
    }

    /// Who is in each slot of `of`.
    pub(super) fn shown(&self, of: ParticipantId) -> Vec<Option<Publication>> {
        let (_, slots) = self.slots(of).expect("told of its slots");
        slots
            .iter()
            .map(|slot| {
                Some(Publication {
                    participant: slot.participant?,
                    source: slot.source?,
                })
            })
            .collect()
    }
}

/// A class of participants 0..n with four sources, `video` and `audio` slots each.
pub(super) struct Class {
    pub(super) room: Room,
    pub(super) out: Collected,
    pub(super) now: Instant,
}

pub(super) fn who(number: usize) -> ParticipantId {
    ParticipantId::from_bits(number as u128 + 1)
}

pub(super) fn of(number: usize, source: Source) -> Publication {
    Publication {
        participant: who(number),
        source,
    }
}

/// The SSRC that a participant announces for a source.
pub(super) fn ssrc(number: usize, source: Source) -> u32 {
    (number as u32 + 1) * 100 + place(source) as u32
}

/// The SSRC under which it is repaired.
pub(super) fn rtx_ssrc(number: usize, source: Source) -> u32 {
    ssrc(number, source) + 50
}

pub(super) fn slot_ssrc(number: usize, slot: usize) -> u32 {
    (number as u32 + 1) * 10_000 + slot as u32
}

pub(super) fn slot_rtx_ssrc(number: usize, slot: usize) -> u32 {
    slot_ssrc(number, slot) + 5_000
}

/// Slots of participants with odd numbers are repaired with RTX, those of the others with the same packets again.
pub(super) fn negotiated(number: usize, video: usize, audio: usize) -> Negotiated {
    let extensions = ExtensionIds {
        mid: Some(MID_ID),
        audio_level: Some(LEVEL_ID),
        ..Default::default()
    };
    let sources = Source::ALL.map(|source| NegotiatedSource {
        source,
        mid: format!("up{}", place(source)),
        ssrcs: vec![ssrc(number, source)],
        rids: Vec::new(),
        payload_type: if source.kind() == MediaKind::Video {
            VP8
        } else {
            OPUS
        },
        rtx: (source.kind() == MediaKind::Video).then(|| NegotiatedRtx {
            payload_type: RTX,
            pairs: vec![(ssrc(number, source), rtx_ssrc(number, source))],
        }),
        extensions,
        nack: true,
    });
    let slots = (0..video + audio).map(|slot| NegotiatedSlot {
        mid: format!("s{slot}"),
        lips: None,
        kind: if slot < video {
            MediaKind::Video
        } else {
            MediaKind::Audio
        },
        ssrc: slot_ssrc(number, slot),
        payload_type: if slot < video { 120 } else { 121 },
        nack: true,
        rtx: (slot < video && number % 2 == 1).then(|| SlotRtx {
            ssrc: slot_rtx_ssrc(number, slot),
            payload_type: SLOT_RTX,
        }),
    });
    Negotiated {
        sources: sources.into(),
        slots: slots.collect(),
    }
}

impl Class {
    pub(super) fn empty() -> Self {
        let room = Room::new(RoomConfig {
            publisher_bitrate_bps: 2_000_000,
            recording_size: FrameSize {
                width: 640,
                height: 480,
            },
            capture_size: FrameSize {
                width: 320,
                height: 240,
            },
        });
        Self {
            room,
            out: Collected::default(),
            now: Instant::now(),
        }
    }

    /// `people` are connected; nobody publishes.
    pub(super) fn of(people: usize, video: usize, audio: usize) -> Self {
        let mut class = Self::empty();
        for number in 0..people {
            class.room.join(class.now, who(number), ALL, &mut class.out);
            class.connect(number, video, audio);
        }
        class
    }

    pub(super) fn connect(&mut self, number: usize, video: usize, audio: usize) {
        let media = negotiated(number, video, audio);
        self.room.connect(self.now, who(number), &media, &mut self.out);
        self.room.ready(self.now, who(number), &mut self.out);
    }

    /// Connects with a camera in three layers.
    pub(super) fn connect_layered(&mut self, number: usize, video: usize, audio: usize) {
        let mut media = negotiated(number, video, audio);
        let camera = &mut media.sources[0];
        camera.ssrcs.clear();
        camera.rids = ["q", "h", "f"].map(str::to_owned).into();
        camera.extensions.rid = Some(RID_ID);
        self.room.connect(self.now, who(number), &media, &mut self.out);
        self.room.ready(self.now, who(number), &mut self.out);
    }

    pub(super) fn publish(&mut self, number: usize, source: Source) {
        self.room.publish(self.now, of(number, source), &mut self.out);
    }

    pub(super) fn unpublish(&mut self, number: usize, source: Source) {
        self.room.unpublish(self.now, of(number, source), &mut self.out);
    }

    /// `shown`: slot and publication.
    pub(super) fn view(&mut self, number: usize, generation: u32, shown: &[(usize, Publication)]) {
        let shown: Vec<_> = shown
            .iter()
            .map(|(slot, publication)| (*slot, *publication, (0, 0)))
            .collect();
        self.view_sized(number, generation, &shown);
    }

    /// `shown`: slot, publication, and size of the tile.
    pub(super) fn view_sized(
        &mut self,
        number: usize,
        generation: u32,
        shown: &[(usize, Publication, (u16, u16))],
    ) {
        let slots: Vec<_> = shown
            .iter()
            .map(|(slot, publication, (width, height))| ViewSlot {
                mid: format!("s{slot}"),
                participant: publication.participant,
                source: publication.source,
                width: *width,
                height: *height,
            })
            .collect();
        self.room
            .view(self.now, who(number), generation, &slots, &mut self.out);
    }

    pub(super) fn send(&mut self, number: usize, packet: &[u8]) {
        self.room.handle_rtp(self.now, who(number), packet, &mut self.out);
    }

    /// A camera's packet that is a whole frame; its payload ends with the sender's number and the sequence number.
    pub(super) fn camera(&mut self, number: usize, sequence_number: u16, key: bool) {
        self.send(number, &picture(number, sequence_number, key));
    }

    pub(super) fn microphone(&mut self, number: usize, sequence_number: u16, below_full_scale_db: u8) {
        self.send(
            number,
            &sound(number, Source::Microphone, sequence_number, below_full_scale_db),
        );
    }

    pub(super) fn rtcp(&mut self, number: usize, write: impl FnOnce(&mut RtcpWriter)) {
        let mut writer = RtcpWriter::default();
        write(&mut writer);
        self.room
            .handle_rtcp(self.now, who(number), writer.as_bytes(), &mut self.out);
    }

    pub(super) fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.room.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.room.handle_timeout(self.now, &mut self.out);
            assert!(
                self.room.poll_timeout().is_none_or(|next| next > self.now),
                "a timer that never rests"
            );
        }
        self.now = until;
    }

    /// The line to `number` is known to carry so much, or nothing limits it as far as known.
    pub(super) fn thin(&mut self, number: usize, bps: Option<u64>) {
        let seat = self.room.seats[&who(number)];
        let subscriber = self.room.subscribers[seat].as_mut().expect("a seat");
        subscriber.downlink = bps.map_or_else(Downlink::default, |bps| Downlink::thin(self.now, bps));
    }

    pub(super) fn forget(&mut self) {
        self.out = Collected::default();
    }

    /// Packets given to `number` since [`Self::forget`].
    pub(super) fn given(&self, number: usize) -> Vec<&Given> {
        self.out
            .rtp
            .iter()
            .filter(|given| given.to == who(number))
            .collect()
    }
}

pub(super) fn picture(number: usize, sequence_number: u16, key: bool) -> Vec<u8> {
    picture_of(number, u32::from(sequence_number), key)
}

/// The SSRC under which a participant sends a layer of its camera; announced nowhere.
pub(super) fn layer_ssrc(number: usize, layer: usize) -> u32 {
    (number as u32 + 1) * 100 + 20 + layer as u32
}

/// The `count`th packet of a layer of a camera with three, half a picture each; layer 0 is 160x120. Its timestamps and
/// counters have nothing to do with those of the other layers.
pub(super) fn layered(number: usize, layer: usize, count: u32, key: bool) -> Vec<u8> {
    let header = RtpHeader {
        marker: true,
        payload_type: VP8,
        sequence_number: (count as u16).wrapping_add(layer as u16 * 20_000),
        timestamp: layer_timestamp(layer, count),
        ssrc: layer_ssrc(number, layer),
    };
    let [high, low] = (header.sequence_number & 0x7fff).to_be_bytes();
    let mut bytes = header.to_bytes().to_vec();
    bytes[0] |= 0x10;
    let rid = b"qhf"[layer];
    bytes.extend_from_slice(&[
        0xbe,
        0xde,
        0,
        2,
        (MID_ID << 4) | 2,
        b'u',
        b'p',
        b'0',
        RID_ID << 4,
        rid,
        0,
        0,
    ]);
    bytes.extend_from_slice(&[0x90, 0xc0, 0x80 | high, low, low]);
    let [width, height] = [160u16 << layer, 120 << layer].map(u16::to_le_bytes);
    bytes.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a]);
    bytes.extend_from_slice(&[
        width[0],
        width[1],
        height[0],
        height[1],
        layer as u8,
        number as u8,
    ]);
    bytes.extend_from_slice(&(count as u16).to_be_bytes());
    bytes
}

/// The timestamp of a layer's `count`th picture, at 30 in a second.
pub(super) fn layer_timestamp(layer: usize, count: u32) -> u32 {
    count
        .wrapping_mul(3000)
        .wrapping_add(layer as u32 * 1_000_000_000)
}

/// The sender's `count`th picture; its sequence number wraps long before its timestamp.
pub(super) fn picture_of(number: usize, count: u32, key: bool) -> Vec<u8> {
    let sequence_number = count as u16;
    let header = RtpHeader {
        marker: true,
        payload_type: VP8,
        sequence_number,
        timestamp: count.wrapping_mul(3000),
        ssrc: ssrc(number, Source::Camera),
    };
    let [high, low] = (sequence_number & 0x7fff).to_be_bytes();
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&[0x90, 0xc0, 0x80 | high, low, sequence_number as u8]);
    bytes.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a, 64, 0, 48, 0]);
    bytes.push(number as u8);
    bytes.extend_from_slice(&sequence_number.to_be_bytes());
    bytes
}

/// The camera's packet as one that repairs it.
pub(super) fn picture_again(number: usize, repair: u16, count: u32, key: bool) -> Vec<u8> {
    let mut bytes = picture_of(number, count, key);
    bytes[1] = bytes[1] & 0x80 | RTX;
    bytes[2..4].copy_from_slice(&repair.to_be_bytes());
    bytes[8..12].copy_from_slice(&rtx_ssrc(number, Source::Camera).to_be_bytes());
    bytes.splice(12..12, (count as u16).to_be_bytes());
    bytes
}

pub(super) fn sound(number: usize, source: Source, sequence_number: u16, below_full_scale_db: u8) -> Vec<u8> {
    sound_of(number, source, u32::from(sequence_number), below_full_scale_db)
}

pub(super) fn sound_of(number: usize, source: Source, count: u32, below_full_scale_db: u8) -> Vec<u8> {
    let sequence_number = count as u16;
    let header = RtpHeader {
        marker: false,
        payload_type: OPUS,
        sequence_number,
        timestamp: count.wrapping_mul(960),
        ssrc: ssrc(number, source),
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes[0] |= 0x10;
    bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, LEVEL_ID << 4, 0x80 | below_full_scale_db, 0, 0]);
    bytes.extend_from_slice(&[0xf8, number as u8]);
    bytes.extend_from_slice(&sequence_number.to_be_bytes());
    bytes
}
