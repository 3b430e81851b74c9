//! The mirror's end of a publication: one layer at a time, in order of arrival.
//!
//! A line with one layer is handed on as it comes. Of a line with several the sink sees one stream that never breaks:
//! it changes with a key frame, of another layer or after a reconnect, and from there on packets carry on its SSRC, count
//! and timestamps.

use std::time::Instant;

use seodang_model::MediaKind;
use seodang_rtp::{NtpTime, RtpPacket, RtpView};

use super::line::{LineId, Received};
use super::timeline::Timeline;
use crate::TrackSink;

/// A sink and what feeds it.
pub(super) struct Mirror {
    sink: Box<dyn TrackSink>,
    /// The newest packet (epoch and index) of each layer at the attachment: what came before is not for the sink, even if
    /// it comes again.
    after: Vec<(u64, u64)>,
    /// The layer it shall get.
    pub(super) target: usize,
    feed: Option<Feed>,
    timeline: Timeline,
}

/// The constants by which a layer's packets become the sink's.
#[derive(Clone, Copy, Debug)]
struct Feed {
    layer: usize,
    epoch: u64,
    /// Source index of the first packet; earlier ones come too late.
    first: u64,
    /// Source index of the newest packet.
    highest: u64,
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
}

impl Mirror {
    /// A mirror that has seen nothing; `after` as in the field.
    pub(super) fn new(sink: Box<dyn TrackSink>, kind: MediaKind, after: Vec<(u64, u64)>) -> Self {
        Self {
            sink,
            after,
            target: 0,
            feed: None,
            timeline: Timeline::new(kind),
        }
    }

    /// The layer that feeds the sink, and which of its counts.
    pub(super) fn feed(&self) -> Option<(usize, u64)> {
        self.feed.map(|feed| (feed.layer, feed.epoch))
    }

    /// Takes a packet of a line that has one layer.
    pub(super) fn write(&mut self, now: Instant, received: &Received, packet: &RtpView<'_>) {
        if !self.is_before(received) {
            self.sink.write(&packet.to_packet(), now);
        }
    }

    /// Takes a packet of one of several layers; `report` is the layer's last one.
    pub(super) fn write_layer(
        &mut self,
        now: Instant,
        line: LineId,
        received: &Received,
        packet: &RtpView<'_>,
        report: Option<(NtpTime, u32)>,
    ) {
        let from = (received.layer, received.epoch);
        if self.feed() != Some(from) {
            if received.layer != self.target || !received.may_switch || self.is_before(received) {
                return;
            }
            self.switch(now, line, received, packet, report);
        }
        let Some(feed) = &mut self.feed else { return };
        if received.index < feed.first {
            return;
        }
        let packet = RtpPacket {
            ssrc: feed.ssrc,
            sequence_number: packet.header.sequence_number.wrapping_add(feed.sequence_offset),
            timestamp: packet.header.timestamp.wrapping_add(feed.timestamp_offset),
            ..packet.to_packet()
        };
        if received.index >= feed.highest {
            feed.highest = received.index;
            self.timeline.gave(now, packet.timestamp);
        }
        self.sink.write(&packet, now);
    }

    /// Takes a report of a line that has one layer.
    pub(super) fn report(&mut self, now: Instant, ntp: NtpTime, rtp: u32) {
        self.sink.clock(ntp, rtp, now);
    }

    /// Takes a report of one of several layers.
    pub(super) fn report_layer(
        &mut self,
        now: Instant,
        line: LineId,
        from: (usize, u64),
        ntp: NtpTime,
        rtp: u32,
    ) {
        if let Some(feed) = self.feed.filter(|feed| (feed.layer, feed.epoch) == from) {
            let rtp = rtp.wrapping_add(feed.timestamp_offset);
            self.timeline.reported(line, ntp, rtp);
            self.sink.clock(ntp, rtp, now);
        }
    }

    fn switch(
        &mut self,
        now: Instant,
        line: LineId,
        received: &Received,
        packet: &RtpView<'_>,
        report: Option<(NtpTime, u32)>,
    ) {
        let header = packet.header;
        let before = self.feed;
        self.feed = Some(Feed {
            layer: received.layer,
            epoch: received.epoch,
            first: received.index,
            highest: received.index,
            ssrc: before.map_or(header.ssrc, |feed| feed.ssrc),
            sequence_offset: before.map_or(0, |feed| {
                let next = (feed.highest as u16)
                    .wrapping_add(feed.sequence_offset)
                    .wrapping_add(1);
                next.wrapping_sub(header.sequence_number)
            }),
            timestamp_offset: self.timeline.offset(now, line, header.timestamp, report),
        });
        if let Some((ntp, rtp)) = report {
            self.report_layer(now, line, (received.layer, received.epoch), ntp, rtp);
        }
    }

    fn is_before(&self, received: &Received) -> bool {
        self.after
            .iter()
            .any(|(epoch, after)| *epoch == received.epoch && received.index <= *after)
    }
}
