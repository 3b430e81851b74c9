//! Turns packets in order into whole frames.

use std::time::Instant;

use bytes::Bytes;

use crate::FrameSize;
use crate::reorder::{Continuity, Ordered};
use crate::vp8::{Vp8Descriptor, Vp8FrameHeader};

/// A key frame of a camera has 20 to 200 kB; what is larger than this is no picture.
const MAX_FRAME_BYTES: usize = 4_000_000;

/// A frame whose place on the lesson clock is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) data: Bytes,
    pub(crate) keyframe: bool,
    pub(crate) size: Option<FrameSize>,
    pub(crate) timestamp: u32,
    /// Of its first packet.
    pub(crate) arrival: Instant,
    /// The first of another SSRC or of a sender that began anew: earlier reports say nothing about it.
    pub(crate) restarted: bool,
}

/// Joins VP8 packets; frames with a missing packet are dropped, and then all up to the next key frame.
#[derive(Debug, Default)]
pub(crate) struct Vp8Depayloader {
    building: Option<Building>,
    has_reference: bool,
    restarted: bool,
    /// Frames given up since the beginning.
    pub(crate) dropped_frames: u64,
}

#[derive(Debug)]
struct Building {
    data: Vec<u8>,
    timestamp: u32,
    arrival: Instant,
}

impl Vp8Depayloader {
    /// Takes the next packet in order and hands every frame that it completes to `frame`: at most two.
    pub(crate) fn push(&mut self, ordered: &Ordered, frame: &mut impl FnMut(RawFrame)) {
        if ordered.continuity != Continuity::Follows {
            self.lose();
            self.restarted |= ordered.continuity == Continuity::Restarted;
        }
        let payload = &ordered.packet.payload;
        if payload.is_empty() {
            return;
        }
        let Ok(descriptor) = Vp8Descriptor::parse(payload) else {
            self.lose();
            return;
        };
        if descriptor.is_frame_start() {
            // No packet is missing, so a frame that came without its marker is whole.
            self.finish(frame);
            self.building = Some(Building {
                data: Vec::new(),
                timestamp: ordered.packet.timestamp,
                arrival: ordered.arrival,
            });
        }
        let Some(building) = &mut self.building else {
            self.has_reference = false;
            return;
        };
        if building.timestamp != ordered.packet.timestamp
            || building.data.len() + payload.len() > MAX_FRAME_BYTES
        {
            self.lose();
            return;
        }
        building.data.extend_from_slice(&payload[descriptor.len..]);
        if ordered.packet.marker {
            self.finish(frame);
        }
    }

    /// Whether only a key frame helps.
    pub(crate) fn wants_keyframe(&self) -> bool {
        !self.has_reference
    }

    fn lose(&mut self) {
        self.dropped_frames += u64::from(self.building.take().is_some());
        self.has_reference = false;
    }

    fn finish(&mut self, frame: &mut impl FnMut(RawFrame)) {
        let Some(building) = self.building.take() else {
            return;
        };
        let header = Vp8FrameHeader::parse(&building.data);
        self.has_reference = header.is_some_and(|header| header.keyframe || self.has_reference);
        match header {
            Some(header) if self.has_reference => frame(RawFrame {
                data: building.data.into(),
                keyframe: header.keyframe,
                size: header.size,
                timestamp: building.timestamp,
                arrival: building.arrival,
                restarted: std::mem::take(&mut self.restarted),
            }),
            _ => self.dropped_frames += 1,
        }
    }
}

/// Every Opus packet is a frame (RFC 7587 section 4.2).
#[derive(Debug, Default)]
pub(crate) struct OpusDepayloader {
    restarted: bool,
}

impl OpusDepayloader {
    /// Takes the next packet in order.
    pub(crate) fn push(&mut self, ordered: &Ordered) -> Option<RawFrame> {
        self.restarted |= ordered.continuity == Continuity::Restarted;
        (!ordered.packet.payload.is_empty()).then(|| RawFrame {
            data: ordered.packet.payload.clone(),
            keyframe: true,
            size: None,
            timestamp: ordered.packet.timestamp,
            arrival: ordered.arrival,
            restarted: std::mem::take(&mut self.restarted),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RtpPacket;

    const KEY: [u8; 10] = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01];
    const DELTA: [u8; 4] = [0x11, 0x02, 0x00, 0x55];

    fn ordered(timestamp: u32, payload: &[u8], marker: bool, continuity: Continuity) -> Ordered {
        let payload = Bytes::copy_from_slice(payload);
        let packet = RtpPacket {
            marker,
            payload_type: 96,
            sequence_number: 0,
            timestamp,
            ssrc: 1,
            payload,
        };
        Ordered {
            packet,
            arrival: Instant::now(),
            continuity,
        }
    }

    fn start(frame: &[u8]) -> Vec<u8> {
        [&[0x10], frame].concat()
    }

    fn frames(packets: &[Ordered]) -> (Vec<RawFrame>, Vp8Depayloader) {
        let mut depayloader = Vp8Depayloader::default();
        let mut frames = Vec::new();
        for packet in packets {
            depayloader.push(packet, &mut |frame| frames.push(frame));
        }
        (frames, depayloader)
    }

    use Continuity::{AfterLoss, Follows, Restarted};

    #[test]
    fn packets_of_a_frame_are_joined() {
        let (frames, depayloader) = frames(&[
            ordered(1, &start(&KEY), false, Restarted),
            ordered(1, &[0x00, 1, 2], false, Follows),
            ordered(1, &[0x11, 3], true, Follows),
            ordered(2, &start(&DELTA), true, Follows),
        ]);
        assert_eq!(frames[0].data, [&KEY[..], &[1, 2, 3]].concat());
        assert_eq!(
            frames[0].size,
            Some(FrameSize {
                width: 640,
                height: 480
            })
        );
        assert!(frames[0].keyframe && frames[0].restarted);
        assert_eq!(frames[1].data, DELTA[..]);
        assert!(!frames[1].keyframe && !frames[1].restarted);
        assert!(!depayloader.wants_keyframe());
    }

    #[test]
    fn after_a_loss_nothing_comes_before_the_next_key_frame() {
        let (frames, depayloader) = frames(&[
            ordered(1, &start(&KEY), true, Restarted),
            ordered(2, &start(&DELTA), false, Follows),
            ordered(3, &start(&DELTA), true, AfterLoss),
            ordered(4, &start(&DELTA), true, Follows),
            ordered(5, &start(&KEY), true, Follows),
            ordered(6, &start(&DELTA), true, Follows),
        ]);
        assert_eq!(
            frames.iter().map(|frame| frame.timestamp).collect::<Vec<_>>(),
            [1, 5, 6]
        );
        assert_eq!(depayloader.dropped_frames, 3);
    }

    #[test]
    fn a_key_frame_is_wanted_from_the_start_and_after_a_loss() {
        let (_, mut depayloader) = frames(&[ordered(1, &start(&KEY), true, Restarted)]);
        assert!(Vp8Depayloader::default().wants_keyframe() && !depayloader.wants_keyframe());
        depayloader.push(&ordered(2, &[0x00, 1], true, AfterLoss), &mut |_| {});
        assert!(depayloader.wants_keyframe());
    }

    #[test]
    fn a_frame_without_marker_ends_where_the_next_begins() {
        let (frames, _) = frames(&[
            ordered(1, &start(&KEY), false, Restarted),
            ordered(2, &start(&DELTA), true, Follows),
        ]);
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn padding_between_frames_breaks_nothing() {
        let (frames, _) = frames(&[
            ordered(1, &start(&KEY), true, Restarted),
            ordered(1, &[], false, Follows),
            ordered(2, &start(&DELTA), true, Follows),
        ]);
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn opus_packets_pass_and_padding_does_not() {
        let mut depayloader = OpusDepayloader::default();
        let frame = depayloader
            .push(&ordered(1, &[0xf8, 1], true, Restarted))
            .expect("a frame");
        assert!(frame.restarted && frame.keyframe);
        assert_eq!(depayloader.push(&ordered(2, &[], true, AfterLoss)), None);
        assert!(
            !depayloader
                .push(&ordered(3, &[0xf8], true, AfterLoss))
                .expect("a frame")
                .restarted
        );
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(
            packets in proptest::collection::vec((0u32..3, any::<Vec<u8>>(), any::<bool>(), 0u8..3), 0..50),
        ) {
            let packets: Vec<_> = packets
                .iter()
                .map(|(timestamp, payload, marker, kind)| {
                    ordered(*timestamp, payload, *marker, [Follows, AfterLoss, Restarted][usize::from(*kind)])
                })
                .collect();
            let (frames, _) = frames(&packets);
            prop_assert!(frames.first().is_none_or(|first| first.keyframe));
        }
    }
}
