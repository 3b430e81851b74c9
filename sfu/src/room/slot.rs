//! One receiving line of a subscriber: packets of whichever source feeds it, rewritten into one unbroken sequence.
//!
//! A packet index is given out once. Within one feed it follows from the source's index by a constant, so that a packet
//! that is sent again is the same byte for byte; a further feed starts above everything that was ever given out. Two
//! plaintexts under one SRTP nonce would give the authentication key away.

use std::time::Instant;

use seodang_model::MediaKind;
use seodang_rtp::{NtpTime, RtpHeader, SenderInfo, Vp8Descriptor, begins_keyframe};

use super::NegotiatedSlot;
use super::history::Stored;
use super::line::{LayerId, LineId};
use super::timeline::Timeline;

/// A slot and what feeds it. In this order: what every packet needs lies together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Slot {
    feed: Option<Feed>,
    /// What shall feed it.
    target: Option<LayerId>,
    /// Highest index given out; the next feed starts above it.
    highest: u64,
    last: Option<Last>,
    packets: u32,
    bytes: u32,
    timeline: Timeline,
    pub(super) media: NegotiatedSlot,
    /// The layer that its subscriber's line carries of what it shall show.
    pub(super) granted: Option<(LineId, Option<usize>)>,
    /// What it would show if the subscriber's line carried more.
    paused: Option<LineId>,
    /// The next index of the stream that repairs; each is used once, so that its nonces are safe by themselves.
    next_repair: u64,
}

/// The constants by which a source's packets become the slot's.
#[derive(Clone, Copy, Debug)]
struct Feed {
    layer: LayerId,
    /// Which of the layer's counts.
    epoch: u64,
    /// Source index of the first packet; earlier ones come too late.
    first: u64,
    /// The slot's index of that packet.
    base: u64,
    timestamp_offset: u32,
    picture_id_offset: u16,
    tl0_offset: u8,
}

/// The newest picture given out.
#[derive(Clone, Copy, Debug)]
struct Last {
    picture_id: u16,
    tl0: u8,
}

/// A packet of a source on its way to the slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) now: Instant,
    pub(super) layer: LayerId,
    pub(super) epoch: u64,
    pub(super) index: u64,
    pub(super) header: RtpHeader,
    pub(super) payload: &'a [u8],
    pub(super) vp8: Option<Vp8Descriptor>,
    /// First packet of a key frame that is not much older than the newest packet.
    pub(super) may_switch: bool,
    /// The layer's last report of the sender's clock.
    pub(super) report: Option<(NtpTime, u32)>,
}

/// A packet as the subscriber gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) index: u64,
    pub(super) header: [u8; RtpHeader::SIZE],
    /// Of a packet that repairs: the sequence number first (RFC 4588 section 4).
    prefix: [u8; SEQUENCE_NUMBER_SIZE + Vp8Descriptor::MAX_SIZE],
    prefix_len: usize,
    pub(super) payload: &'a [u8],
    /// It is the first of a feed.
    pub(super) switched: bool,
}

impl Incoming<'_> {
    /// Whether it is the first packet of a key frame.
    pub(super) fn begins_keyframe(&self) -> bool {
        self.vp8.is_some_and(|vp8| begins_keyframe(self.payload, &vp8))
    }
}

const SEQUENCE_NUMBER_SIZE: usize = 2;

impl Outgoing<'_> {
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix[..self.prefix_len]
    }

    pub(super) fn len(&self) -> usize {
        self.header.len() + self.prefix_len + self.payload.len()
    }
}

impl Slot {
    pub(super) fn new(media: NegotiatedSlot) -> Self {
        // Receivers guess a rollover counter of 0 at first; a start in the lower half survives early loss (RFC 3711
        // section 3.3.1).
        let highest = u64::from(media.ssrc & 0x3fff);
        Self {
            next_repair: highest,
            timeline: Timeline::new(media.kind),
            media,
            target: None,
            granted: None,
            paused: None,
            feed: None,
            highest,
            last: None,
            packets: 0,
            bytes: 0,
        }
    }

    /// Sets what shall feed the slot. A picture keeps flowing until the other layer's key frame if `keep_feed` says
    /// that its source still may be seen; sound is cut at once.
    pub(super) fn aim(&mut self, target: Option<LayerId>, keep_feed: impl Fn(LineId) -> bool) {
        self.target = target;
        self.paused = None;
        let Some(feed) = self.feed else { return };
        let keeps = match self.media.kind {
            MediaKind::Video => target.is_some() && keep_feed(feed.layer.line),
            MediaKind::Audio => target == Some(feed.layer),
        };
        if !keeps {
            self.feed = None;
        }
    }

    /// Sends nothing of `line`, which the slot would show, because the subscriber's line does not carry it.
    pub(super) fn pause(&mut self, line: LineId) {
        self.aim(None, |_| false);
        self.paused = Some(line);
    }

    /// Its feed goes on with the next packet that may begin one, above everything that was given out.
    pub(super) fn break_off(&mut self) {
        self.feed = None;
    }

    pub(super) fn target(&self) -> Option<LayerId> {
        self.target
    }

    pub(super) fn paused(&self) -> Option<LineId> {
        self.paused
    }

    /// The layer that feeds the slot, and which of its counts.
    pub(super) fn feed(&self) -> Option<(LayerId, u64)> {
        self.feed.map(|feed| (feed.layer, feed.epoch))
    }

    /// What the subscriber sees or hears of: a picture from its key frame on, or paused; a voice from its choice on.
    pub(super) fn shown(&self) -> Option<LineId> {
        match self.media.kind {
            MediaKind::Video => self.feed.map(|feed| feed.layer.line).or(self.paused),
            MediaKind::Audio => self.target.map(|layer| layer.line),
        }
    }

    /// Whether [`Self::offer`] may take the packet.
    pub(super) fn takes(&self, packet: &Incoming<'_>) -> bool {
        self.feed() == Some((packet.layer, packet.epoch))
            || packet.may_switch && self.target == Some(packet.layer)
    }

    /// Takes a packet of a layer that feeds the slot or shall feed it.
    pub(super) fn offer<'a>(&mut self, packet: &Incoming<'a>) -> Option<Outgoing<'a>> {
        let feeds = self.feed() == Some((packet.layer, packet.epoch));
        let feed = match self.feed {
            Some(feed) if feeds => feed,
            _ if self.target == Some(packet.layer) && packet.may_switch => self.switch(packet),
            _ => return None,
        };
        let index = packet.index.checked_sub(feed.first)?.checked_add(feed.base)?;
        let outgoing = self.rewrite(
            feed,
            index,
            packet.header,
            packet.vp8.as_ref(),
            packet.payload,
            !feeds,
        );
        if index > self.highest {
            self.highest = index;
            let picture_id = packet.vp8.and_then(|vp8| vp8.picture_id).map(|id| id.value());
            let tl0 = packet.vp8.and_then(|vp8| vp8.tl0_pic_idx);
            let before = self.last;
            let timestamp = packet.header.timestamp.wrapping_add(feed.timestamp_offset);
            self.timeline.gave(packet.now, timestamp);
            self.last = Some(Last {
                picture_id: picture_id.map_or(before.map_or(0, |last| last.picture_id), |id| {
                    id.wrapping_add(feed.picture_id_offset)
                }),
                tl0: tl0.map_or(before.map_or(0, |last| last.tl0), |tl0| {
                    tl0.wrapping_add(feed.tl0_offset)
                }),
            });
        }
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(packet.payload.len() as u32);
        Some(outgoing)
    }

    /// The slot's index behind a sequence number that the subscriber misses, and the source's, if the present feed gave
    /// it out.
    pub(super) fn source_index(&self, sequence_number: u16) -> Option<(LayerId, u64, u64, u64)> {
        let feed = self.feed?;
        let behind = (self.highest as u16).wrapping_sub(sequence_number);
        let index = self.highest.checked_sub(u64::from(behind))?;
        let distance = index.checked_sub(feed.base)?;
        Some((feed.layer, feed.epoch, index, feed.first + distance))
    }

    /// A stored packet of the present feed, exactly as it was given out.
    pub(super) fn again<'a>(&self, index: u64, stored: &'a Stored) -> Option<Outgoing<'a>> {
        let feed = self.feed?;
        let index = index.checked_sub(feed.first)?.checked_add(feed.base)?;
        if index > self.highest {
            // Still to be given out, perhaps under another index: this one may then belong to another packet.
            return None;
        }
        Some(self.rewrite(
            feed,
            index,
            stored.header,
            stored.vp8.as_ref(),
            &stored.payload,
            false,
        ))
    }

    /// A stored packet of the present feed as one that repairs it, where that was negotiated.
    pub(super) fn repair<'a>(&mut self, index: u64, stored: &'a Stored) -> Option<Outgoing<'a>> {
        let rtx = self.media.rtx?;
        let again = self.again(index, stored)?;
        let index = self.next_repair;
        self.next_repair += 1;
        let mut prefix = [0; SEQUENCE_NUMBER_SIZE + Vp8Descriptor::MAX_SIZE];
        let prefix_len = SEQUENCE_NUMBER_SIZE + again.prefix_len;
        prefix[..SEQUENCE_NUMBER_SIZE].copy_from_slice(&(again.index as u16).to_be_bytes());
        prefix[SEQUENCE_NUMBER_SIZE..prefix_len].copy_from_slice(again.prefix());
        let feed = self.feed?;
        let header = RtpHeader {
            marker: stored.header.marker,
            payload_type: rtx.payload_type,
            sequence_number: index as u16,
            timestamp: stored.header.timestamp.wrapping_add(feed.timestamp_offset),
            ssrc: rtx.ssrc,
        };
        Some(Outgoing {
            index,
            header: header.to_bytes(),
            prefix,
            prefix_len,
            payload: again.payload,
            switched: false,
        })
    }

    /// The report of what feeds the slot, in the slot's terms.
    pub(super) fn sender_info(&mut self, ntp: NtpTime, rtp: u32) -> Option<SenderInfo> {
        let feed = self.feed?;
        let rtp = rtp.wrapping_add(feed.timestamp_offset);
        self.timeline.reported(feed.layer.line, ntp, rtp);
        Some(SenderInfo {
            ntp,
            rtp,
            packets: self.packets,
            bytes: self.bytes,
        })
    }

    fn switch(&mut self, packet: &Incoming<'_>) -> Feed {
        let mut feed = Feed {
            layer: packet.layer,
            epoch: packet.epoch,
            first: packet.index,
            base: self.highest + 1,
            timestamp_offset: self.timeline.offset(
                packet.now,
                packet.layer.line,
                packet.header.timestamp,
                packet.report,
            ),
            picture_id_offset: 0,
            tl0_offset: 0,
        };
        if let Some(last) = self.last {
            if let Some(id) = packet.vp8.and_then(|vp8| vp8.picture_id) {
                feed.picture_id_offset = last.picture_id.wrapping_add(1).wrapping_sub(id.value());
            }
            if let Some(tl0) = packet.vp8.and_then(|vp8| vp8.tl0_pic_idx) {
                feed.tl0_offset = last.tl0.wrapping_add(1).wrapping_sub(tl0);
            }
        }
        self.feed = Some(feed);
        feed
    }

    /// Depends on nothing but the feed and the packet: see the module's invariant.
    fn rewrite<'a>(
        &self,
        feed: Feed,
        index: u64,
        header: RtpHeader,
        vp8: Option<&Vp8Descriptor>,
        payload: &'a [u8],
        switched: bool,
    ) -> Outgoing<'a> {
        let header = RtpHeader {
            marker: header.marker,
            payload_type: self.media.payload_type,
            sequence_number: index as u16,
            timestamp: header.timestamp.wrapping_add(feed.timestamp_offset),
            ssrc: self.media.ssrc,
        };
        let mut prefix = [0; SEQUENCE_NUMBER_SIZE + Vp8Descriptor::MAX_SIZE];
        let prefix_len = match (vp8, prefix.first_chunk_mut()) {
            (Some(vp8), Some(prefix)) => {
                vp8.rewrite(payload, feed.picture_id_offset, feed.tl0_offset, prefix)
            }
            _ => 0,
        };
        Outgoing {
            index,
            header: header.to_bytes(),
            prefix,
            prefix_len,
            payload: payload.get(prefix_len..).unwrap_or_default(),
            switched,
        }
    }
}
