//! From the packets of one publication to frames on the lesson clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clock::{ParticipantClock, TrackClock};
use crate::depayload::{OpusDepayloader, RawFrame, Vp8Depayloader};
use crate::reorder::Reorder;
use crate::{Frame, NtpTime, RtpPacket};

/// What a publication is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 7741, 90 kHz.
    Vp8,
    /// RFC 7587, 48 kHz.
    Opus,
}

/// Assembles one publication: order, whole frames, lesson time. Fed by one thread; drop it at the publication's end.
///
/// The first frames wait up to 600 ms for a sender report, so that sound and picture are together from the start;
/// afterwards frames are handed out as soon as they are whole. All tracks of a participant share one
/// [`ParticipantClock`].
#[derive(Debug)]
pub struct TrackAssembler {
    reorder: Reorder,
    depayloader: Depayloader,
    clock: TrackClock,
    held: VecDeque<RawFrame>,
    hold: Hold,
}

#[derive(Debug)]
enum Depayloader {
    Vp8(Vp8Depayloader),
    Opus(OpusDepayloader),
}

/// Whether frames wait for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Nothing came yet.
    NotBegun,
    Until(Instant),
    Over,
}

impl TrackAssembler {
    /// An assembler that has seen nothing.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let (depayloader, rate_hz) = match codec {
            Codec::Vp8 => (Depayloader::Vp8(Vp8Depayloader::default()), 90_000),
            Codec::Opus => (Depayloader::Opus(OpusDepayloader::default()), 48_000),
        };
        Self {
            reorder: Reorder::default(),
            depayloader,
            clock: TrackClock::new(rate_hz),
            held: VecDeque::new(),
            hold: Hold::NotBegun,
        }
    }

    /// Takes a packet; `arrival` is when its datagram was read from the socket. Hands every frame that is whole
    /// and timed to `frame`, in order.
    pub fn write(
        &mut self,
        clock: &ParticipantClock,
        packet: RtpPacket,
        arrival: Instant,
        mut frame: impl FnMut(Frame),
    ) {
        self.reorder.push(packet, arrival);
        self.drain(clock, arrival, &mut frame);
    }

    /// Takes a sender report (RFC 3550 section 6.4.1).
    pub fn report(
        &mut self,
        clock: &mut ParticipantClock,
        ntp: NtpTime,
        rtp: u32,
        arrival: Instant,
        mut frame: impl FnMut(Frame),
    ) {
        self.clock.report(clock, ntp, rtp, arrival);
        self.drain(clock, arrival, &mut frame);
    }

    /// Moves time on where no packet does. `now` must not be ahead of packets that wait in front of
    /// [`Self::write`]: call it when the queue is empty, or with the newest arrival taken from it.
    pub fn poll(&mut self, clock: &ParticipantClock, now: Instant, mut frame: impl FnMut(Frame)) {
        self.reorder.advance(now);
        self.drain(clock, now, &mut frame);
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hold = match self.hold {
            Hold::Until(deadline) if !self.held.is_empty() => Some(deadline),
            _ => None,
        };
        [self.reorder.deadline(), hold].into_iter().flatten().min()
    }

    /// Arrival of the first frame that waits for a sender report; `None` when none does.
    #[must_use]
    pub fn holds_since(&self) -> Option<Instant> {
        self.held.front().map(|first| first.arrival)
    }

    /// Whether packets come in vain until the next key frame. Stays `true` until it is there: ask again, at most once
    /// a second.
    #[must_use]
    pub fn wants_keyframe(&self) -> bool {
        match &self.depayloader {
            Depayloader::Vp8(depayloader) => depayloader.wants_keyframe(),
            Depayloader::Opus(_) => false,
        }
    }

    /// Frames given up since the beginning, for want of a packet or of a key frame before them.
    #[must_use]
    pub fn dropped_frames(&self) -> u64 {
        match &self.depayloader {
            Depayloader::Vp8(depayloader) => depayloader.dropped_frames,
            Depayloader::Opus(_) => 0,
        }
    }

    fn drain(&mut self, clock: &ParticipantClock, now: Instant, frame: &mut impl FnMut(Frame)) {
        while let Some(ordered) = self.reorder.pop() {
            match &mut self.depayloader {
                Depayloader::Vp8(depayloader) => {
                    depayloader.push(&ordered, &mut |raw| self.held.push_back(raw))
                }
                Depayloader::Opus(depayloader) => self.held.extend(depayloader.push(&ordered)),
            }
        }
        if self.hold == Hold::NotBegun
            && let Some(first) = self.held.front()
        {
            self.hold = Hold::Until(first.arrival + REPORT_PATIENCE);
        }
        if let Hold::Until(deadline) = self.hold
            && (self.clock.has_report() || now >= deadline || self.held.len() > MAX_HELD_FRAMES)
        {
            self.hold = Hold::Over;
        }
        if self.hold == Hold::Over {
            while let Some(raw) = self.held.pop_front() {
                frame(self.timed(clock, raw));
            }
        }
    }

    fn timed(&mut self, clock: &ParticipantClock, raw: RawFrame) -> Frame {
        // The very first frame is no restart: its report may have come before it.
        if raw.restarted && self.clock.has_stamped() {
            self.clock.restart();
        }
        let (at, source) = self.clock.stamp(clock, raw.timestamp, raw.arrival);
        Frame {
            data: raw.data,
            keyframe: raw.keyframe,
            size: raw.size,
            at,
            captured_at: clock.system_time(at),
            clock: source,
        }
    }
}

/// How long the first frames wait for a report. What waits here is lost by a crash, of which a recording may lose a
/// second in all, with what is being batched and opened.
const REPORT_PATIENCE: Duration = Duration::from_millis(600);
/// A second of pictures at 60 Hz, or of sound in packets of 10 ms, twice.
const MAX_HELD_FRAMES: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{ClockSource, LessonStart};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ntp(ms: u64) -> NtpTime {
        NtpTime((3_900_000_000u64 << 32) + (ms << 32) / 1000)
    }

    fn lesson() -> (Instant, ParticipantClock) {
        let start = Instant::now();
        (
            start,
            ParticipantClock::new(LessonStart {
                instant: start,
                system: SystemTime::UNIX_EPOCH,
            }),
        )
    }

    fn opus(ssrc: u32, number: u16) -> RtpPacket {
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        let timestamp = u32::from(number) * 960;
        RtpPacket {
            marker: false,
            payload_type: 111,
            sequence_number: number,
            timestamp,
            ssrc,
            payload,
        }
    }

    /// A key frame every 30 frames, two packets a frame.
    fn vp8(ssrc: u32, frame: u16) -> [RtpPacket; 2] {
        let head: &[u8] = if frame.is_multiple_of(30) {
            &[0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]
        } else {
            &[0x10, 0x11, 0x02, 0x00]
        };
        let number = frame.to_be_bytes();
        let packet = |marker, place, payload| RtpPacket {
            marker,
            payload_type: 96,
            sequence_number: (frame * 2).wrapping_add(place),
            timestamp: u32::from(frame) * 3000,
            ssrc,
            payload,
        };
        [
            packet(false, 0, Bytes::copy_from_slice(head)),
            packet(true, 1, Bytes::from([&[0], &number[..]].concat())),
        ]
    }

    #[test]
    fn the_first_frames_wait_for_their_report() {
        let (start, mut clock) = lesson();
        let mut track = TrackAssembler::new(Codec::Opus);
        let mut frames = Vec::new();
        for number in 0..10 {
            track.write(
                &clock,
                opus(1, number),
                start + ms(400 + u64::from(number) * 20),
                |frame| frames.push(frame),
            );
        }
        assert_eq!(frames.len(), 0);
        assert_eq!(track.poll_timeout(), Some(start + ms(1000)));
        assert_eq!(track.holds_since(), Some(start + ms(400)));
        // The clock was set by another track's report that travelled 0 ms; ours travels 400 ms.
        TrackAssembler::new(Codec::Vp8).report(&mut clock, ntp(100), 0, start + ms(100), |_| {});
        track.report(&mut clock, ntp(180), 9 * 960, start + ms(580), |frame| {
            frames.push(frame)
        });
        assert_eq!((frames.len(), track.holds_since()), (10, None));
        assert!(
            frames
                .iter()
                .all(|frame| frame.clock == ClockSource::SenderReport)
        );
        assert_eq!(frames[9].at.as_millis(), 180);
        assert_eq!(frames[9].captured_at, SystemTime::UNIX_EPOCH + frames[9].at);
    }

    #[test]
    fn without_a_report_the_first_frames_come_after_some_patience() {
        let (start, clock) = lesson();
        let mut track = TrackAssembler::new(Codec::Opus);
        let mut frames = Vec::new();
        track.write(&clock, opus(1, 0), start, |frame| frames.push(frame));
        track.poll(&clock, start + ms(599), |frame| frames.push(frame));
        assert_eq!(frames.len(), 0);
        track.poll(&clock, start + ms(600), |frame| frames.push(frame));
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].clock, ClockSource::Arrival);
        track.write(&clock, opus(1, 1), start + ms(601), |frame| frames.push(frame));
        assert_eq!(frames.len(), 2, "later frames do not wait");
    }

    #[test]
    fn a_report_before_the_first_packet_counts() {
        let (start, mut clock) = lesson();
        let mut track = TrackAssembler::new(Codec::Opus);
        track.report(&mut clock, ntp(0), 0, start, |_| panic!("nothing came"));
        let mut frames = Vec::new();
        track.write(&clock, opus(1, 5), start + ms(130), |frame| frames.push(frame));
        assert_eq!(
            (frames[0].at.as_millis(), frames[0].clock),
            (100, ClockSource::SenderReport)
        );
    }

    #[test]
    fn a_reconnect_continues_on_the_lesson_clock_and_needs_a_key_frame() {
        let (start, mut clock) = lesson();
        let mut track = TrackAssembler::new(Codec::Vp8);
        assert!(track.wants_keyframe());
        let mut frames = Vec::new();
        track.report(&mut clock, ntp(0), 0, start, |_| {});
        for (ssrc, frame, at) in [
            (1, 0, 10),
            (1, 1, 43),
            (2, 7000, 5000),
            (2, 7020, 5010),
            (2, 7021, 5043),
        ] {
            for packet in vp8(ssrc, frame) {
                track.write(&clock, packet, start + ms(at), |frame| frames.push(frame));
            }
        }
        let times: Vec<_> = frames.iter().map(|frame| frame.at.as_millis()).collect();
        assert_eq!(times, [0, 33], "7020 begins 33 packets later and is waited for");
        track.poll(&clock, start + ms(5300), |frame| frames.push(frame));
        assert!(frames[2].keyframe);
        assert_eq!(frames[2].at.as_millis(), 5010);
        assert!(!track.wants_keyframe());
    }

    proptest! {
        /// Delay, reordering and duplicates within the patience lose nothing; loss costs frames, never order.
        #[test]
        fn frames_come_whole_in_order_and_once(
            faults in proptest::collection::vec((0u64..150, 0u8..100), 240..241), lossy: bool,
        ) {
            let (start, clock) = lesson();
            let packets: Vec<_> = (0..120).flat_map(|frame| vp8(1, frame)).collect();
            let mut arrivals = Vec::new();
            for (place, (delay, fault)) in faults.iter().enumerate() {
                let at = place as u64 / 2 * 33 + if place == 0 { 0 } else { *delay };
                if *fault < 5 && lossy && place != 0 {
                    continue;
                }
                arrivals.push((at, place));
                if *fault > 95 {
                    arrivals.push((at + 7, place));
                }
            }
            arrivals.sort_unstable();
            let mut track = TrackAssembler::new(Codec::Vp8);
            let mut frames = Vec::new();
            for (at, place) in &arrivals {
                track.write(&clock, packets[*place].clone(), start + ms(*at), |frame| frames.push(frame));
            }
            track.poll(&clock, start + ms(60_000), |frame| frames.push(frame));
            let numbers: Vec<_> =
                frames.iter().map(|frame| u16::from_be_bytes([frame.data[frame.data.len() - 2], frame.data[frame.data.len() - 1]])).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b));
            prop_assert!(frames.is_sorted_by(|a, b| a.at < b.at));
            if !lossy {
                prop_assert_eq!(numbers.len(), 120);
            }
            for (frame, number) in frames.iter().zip(&numbers) {
                prop_assert_eq!(frame.keyframe, number.is_multiple_of(30));
                prop_assert_eq!(frame.data.len(), if frame.keyframe { 12 } else { 5 });
            }
        }

        #[test]
        fn arbitrary_packets_never_panic(
            packets in proptest::collection::vec((any::<(u16, u32, bool, u8)>(), any::<Vec<u8>>()), 0..100),
            codec in prop_oneof![Just(Codec::Vp8), Just(Codec::Opus)],
        ) {
            let (start, mut clock) = lesson();
            let mut track = TrackAssembler::new(codec);
            for (place, ((sequence_number, timestamp, marker, kind), payload)) in packets.into_iter().enumerate() {
                let now = start + ms(place as u64 * 7);
                if kind < 30 {
                    track.report(&mut clock, NtpTime(u64::from(timestamp) << 20), timestamp, now, |_| {});
                }
                let ssrc = u32::from(kind) % 2;
                let payload = Bytes::from(payload);
                let packet = RtpPacket { marker, payload_type: 96, sequence_number, timestamp, ssrc, payload };
                track.write(&clock, packet, now, |_| {});
            }
        }
    }
}
