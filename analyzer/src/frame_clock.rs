//! When a key frame was captured, on the monotonic clock, whatever the wall clock does meanwhile.

use std::time::{Duration, Instant, SystemTime};

use seodang_rtp::{ClockSource, Frame};

/// When a frame came, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) wall: SystemTime,
}

/// One participant's frames carry the lesson time and the wall-clock time of its zero, which is fixed when the lesson
/// begins. The first frame tells which instant that was; a wall clock that is set later changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameClock {
    origin: Option<(SystemTime, Instant)>,
}

/// A capture time farther before the arrival than this is not believed: assembling and repair never hold a frame that
/// long, so one of the clocks was set.
const OLDEST: Duration = Duration::from_secs(3);
/// As above, for a sender whose reports run ahead.
const NEWEST: Duration = Duration::from_millis(250);

impl FrameClock {
    /// The instant of capture, and how it was found.
    pub(crate) fn handle_frame(&mut self, frame: &Frame, arrival: Arrival) -> (Instant, ClockSource) {
        let captured = self.origin(frame, arrival).map(|origin| origin + frame.at);
        match captured.filter(|at| *at <= arrival.at + NEWEST && arrival.at <= *at + OLDEST) {
            Some(at) => (at, frame.clock),
            None => (arrival.at, ClockSource::Arrival),
        }
    }

    fn origin(&mut self, frame: &Frame, arrival: Arrival) -> Option<Instant> {
        let zero = frame.captured_at.checked_sub(frame.at)?;
        if let Some((known, at)) = self.origin
            && known == zero
        {
            return Some(at);
        }
        let at = match arrival.wall.duration_since(zero) {
            Ok(age) => arrival.at.checked_sub(age)?,
            Err(ahead) => arrival.at + ahead.duration().min(OLDEST),
        };
        self.origin = Some((zero, at));
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(zero: SystemTime, at_ms: u64) -> Frame {
        let at = Duration::from_millis(at_ms);
        Frame {
            data: Bytes::new(),
            keyframe: true,
            size: None,
            at,
            captured_at: zero + at,
            clock: ClockSource::SenderReport,
        }
    }

    /// Long after the machine was started, so that the lesson can have begun before.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(10_000)
    }

    #[test]
    fn the_sender_s_time_stands_when_the_wall_clock_is_set_later() {
        let (start, zero) = (later(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let after = |ms, wall_ms| Arrival {
            at: start + Duration::from_millis(ms),
            wall: zero + Duration::from_millis(wall_ms),
        };
        let mut clock = FrameClock::default();
        let first = clock.handle_frame(&frame(zero, 5_000), after(5_080, 5_080));
        assert_eq!(
            first,
            (start + Duration::from_millis(5_000), ClockSource::SenderReport)
        );
        for wall_ms in [15_080, 16_080, 3_615_080] {
            let next = clock.handle_frame(&frame(zero, 15_000), after(15_080, wall_ms));
            assert_eq!(
                next,
                (start + Duration::from_millis(15_000), ClockSource::SenderReport)
            );
        }
    }

    #[test]
    fn a_time_far_from_the_arrival_is_not_believed() {
        let (start, zero) = (later(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        for wall_ms in [8_100, 4_700, 3_605_000] {
            let arrival = Arrival {
                at: start,
                wall: zero + Duration::from_millis(wall_ms),
            };
            let captured = FrameClock::default().handle_frame(&frame(zero, 5_000), arrival);
            assert_eq!(captured, (start, ClockSource::Arrival), "{wall_ms}");
        }
    }
}
