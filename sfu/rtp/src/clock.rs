//! Places the frames of one participant on the lesson clock, with lips and sound together.
//!
//! Arrival times alone put a picture that travels 400 ms longer than its sound 400 ms too late. Sender reports tie RTP
//! timestamps to one clock of the sender (NTP); what is then missing is a single number for each participant: the
//! distance of that clock from ours. It is taken from the first report of any track and shared by all of them.

use std::time::{Duration, Instant, SystemTime};

use crate::{ClockSource, NtpTime};

/// The beginning of a lesson on both of the server's clocks.
#[derive(Clone, Copy, Debug)]
pub struct LessonStart {
    /// The steady clock, which arrival times are read from.
    pub instant: Instant,
    /// The wall clock at the same moment.
    pub system: SystemTime,
}

/// The clock of one participant, shared by all its tracks.
#[derive(Clone, Debug)]
pub struct ParticipantClock {
    start: LessonStart,
    reference: Option<Reference>,
}

#[derive(Clone, Copy, Debug)]
struct Reference {
    ntp: NtpTime,
    /// Lesson time that stands for `ntp`.
    at_ns: i64,
    /// Least delay of the reports in the current window against the reference.
    least_delay_ns: i64,
    reports: u32,
}

impl ParticipantClock {
    /// A clock that knows no report yet.
    #[must_use]
    pub fn new(start: LessonStart) -> Self {
        Self {
            start,
            reference: None,
        }
    }

    /// Lesson time of an arrival; negative before the lesson.
    fn lesson_ns(&self, arrival: Instant) -> i64 {
        match arrival.checked_duration_since(self.start.instant) {
            Some(after) => after.as_nanos() as i64,
            None => -(self.start.instant.duration_since(arrival).as_nanos() as i64),
        }
    }

    /// Wall-clock time of a lesson time.
    pub(crate) fn system_time(&self, at: Duration) -> SystemTime {
        self.start.system + at
    }

    /// Takes the sender's clock from a report. The first one sets the distance of the two clocks; later ones move it
    /// by little, so that drift (100 ppm are 360 ms in an hour) does not grow. All tracks move together.
    fn report(&mut self, ntp: NtpTime, arrival: Instant) {
        let arrival_ns = self.lesson_ns(arrival);
        let fresh = Reference {
            ntp,
            at_ns: arrival_ns,
            least_delay_ns: i64::MAX,
            reports: 0,
        };
        let Some(reference) = &mut self.reference else {
            self.reference = Some(fresh);
            return;
        };
        let delay_ns = arrival_ns.saturating_sub(
            reference
                .at_ns
                .saturating_add(ntp_distance_ns(ntp, reference.ntp)),
        );
        if delay_ns.abs() > CLOCK_JUMP_NS {
            self.reference = Some(fresh);
            return;
        }
        if delay_ns < 0 {
            // Nothing arrives before it is sent: the first report was the slow one.
            reference.at_ns += delay_ns.max(-STEP_BACK_NS);
        }
        reference.least_delay_ns = reference.least_delay_ns.min(delay_ns);
        reference.reports += 1;
        if reference.reports == DRIFT_WINDOW_REPORTS {
            reference.at_ns += reference.least_delay_ns.clamp(0, DRIFT_STEP_NS);
            (reference.least_delay_ns, reference.reports) = (i64::MAX, 0);
        }
    }

    fn lesson_ns_of(&self, ntp: NtpTime) -> Option<i64> {
        let reference = self.reference?;
        Some(
            reference
                .at_ns
                .saturating_add(ntp_distance_ns(ntp, reference.ntp)),
        )
    }
}

/// Maps the RTP timestamps of one track to lesson time; never goes back.
#[derive(Clone, Debug)]
pub(crate) struct TrackClock {
    rate_hz: u32,
    /// The last frame's RTP timestamp and the lesson time its arrival stands for.
    anchor: Option<(u32, i64)>,
    report: Option<(NtpTime, u32)>,
    last_ns: Option<i64>,
}

impl TrackClock {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            anchor: None,
            report: None,
            last_ns: None,
        }
    }

    pub(crate) fn has_report(&self) -> bool {
        self.report.is_some()
    }

    /// Whether any frame was placed.
    pub(crate) fn has_stamped(&self) -> bool {
        self.last_ns.is_some()
    }

    pub(crate) fn report(&mut self, clock: &mut ParticipantClock, ntp: NtpTime, rtp: u32, arrival: Instant) {
        // RFC 3550 section 6.4.1: a sender without a clock says 0.
        if ntp.0 != 0 {
            clock.report(ntp, arrival);
            self.report = Some((ntp, rtp));
        }
    }

    /// Another SSRC or another count: reports of the earlier one say nothing about it.
    pub(crate) fn restart(&mut self) {
        (self.anchor, self.report) = (None, None);
    }

    /// The place of the next frame; more than a millisecond after the one before.
    pub(crate) fn stamp(
        &mut self,
        clock: &ParticipantClock,
        timestamp: u32,
        arrival: Instant,
    ) -> (Duration, ClockSource) {
        let arrival_ns = clock.lesson_ns(arrival);
        let by_arrival_ns = match self.anchor {
            Some((last, at_ns)) => at_ns.saturating_add(self.ticks_ns(timestamp, last)),
            None => arrival_ns,
        };
        let by_arrival_ns = if by_arrival_ns.abs_diff(arrival_ns) > ANCHOR_JUMP_NS {
            arrival_ns
        } else {
            by_arrival_ns
        };
        self.anchor = Some((timestamp, by_arrival_ns));
        let by_report_ns = self.report.and_then(|(ntp, rtp)| {
            let at_ns = clock
                .lesson_ns_of(ntp)?
                .saturating_add(self.ticks_ns(timestamp, rtp));
            // A report about another count, or a lie.
            (at_ns.abs_diff(arrival_ns) <= REPORT_TRUST_NS).then_some(at_ns)
        });
        let (at_ns, source) = match by_report_ns {
            Some(at_ns) => (at_ns, ClockSource::SenderReport),
            None => (by_arrival_ns, ClockSource::Arrival),
        };
        let earliest_ns = self.last_ns.map_or(0, |last| last.saturating_add(LEAST_STEP_NS));
        let at_ns = at_ns.max(earliest_ns);
        self.last_ns = Some(at_ns);
        (Duration::from_nanos(at_ns.unsigned_abs()), source)
    }

    fn ticks_ns(&self, timestamp: u32, from: u32) -> i64 {
        i64::from(timestamp.wrapping_sub(from) as i32) * 1_000_000_000 / i64::from(self.rate_hz)
    }
}

/// `to` minus `from`, over the wrap of the year 2036.
fn ntp_distance_ns(to: NtpTime, from: NtpTime) -> i64 {
    ((i128::from(to.0.wrapping_sub(from.0) as i64) * 1_000_000_000) >> 32) as i64
}

/// A sender's clock that is off by more was set, or is another machine's.
const CLOCK_JUMP_NS: i64 = 1_000_000_000;
/// Largest correction by one report that came faster than the first.
const STEP_BACK_NS: i64 = 20_000_000;
/// About ten seconds of the reports of a camera and a microphone.
const DRIFT_WINDOW_REPORTS: u32 = 10;
/// Largest correction of a window: follows 200 ppm, unheard.
const DRIFT_STEP_NS: i64 = 2_000_000;
/// Without reports: timestamps that part from arrival by more do not follow time (a sender that paused).
const ANCHOR_JUMP_NS: u64 = 500_000_000;
/// A frame that would have been captured this long before or after its arrival is placed by arrival.
const REPORT_TRUST_NS: u64 = 3_000_000_000;
/// Matroska counts milliseconds.
const LEAST_STEP_NS: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    fn assert_near(at: Duration, expected_ms: u64) {
        assert!(
            at.abs_diff(ms(expected_ms)) <= ms(1),
            "{at:?} is not {expected_ms} ms"
        );
    }

    #[test]
    fn a_picture_that_travels_longer_stays_with_its_sound() {
        let (start, mut clock) = lesson();
        let (mut sound, mut picture) = (TrackClock::new(48_000), TrackClock::new(90_000));
        // Captured at 1000 ms of the sender's clock; sound travels 20 ms, the picture 420 ms.
        sound.report(&mut clock, ntp(1000), 777, start + ms(20));
        picture.report(&mut clock, ntp(1000), u32::MAX - 5, start + ms(420));
        let (heard, source) = sound.stamp(&clock, 777 + 48 * 500, start + ms(520));
        let (seen, _) = picture.stamp(&clock, 90 * 500 - 6, start + ms(920));
        assert_eq!(source, ClockSource::SenderReport);
        assert_near(heard, 520);
        assert_near(seen, 520);
    }

    #[test]
    fn without_reports_timestamps_space_the_frames_from_the_first_arrival_on() {
        let (start, clock) = lesson();
        let mut track = TrackClock::new(90_000);
        let (first, source) = track.stamp(&clock, u32::MAX, start + ms(100));
        let (second, _) = track.stamp(&clock, 90 * 33 - 1, start + ms(180));
        assert_eq!(source, ClockSource::Arrival);
        assert_near(first, 100);
        assert_near(second, 133);
    }

    #[test]
    fn a_pause_without_reports_is_bridged_by_arrival() {
        let (start, clock) = lesson();
        let mut track = TrackClock::new(90_000);
        track.stamp(&clock, 0, start);
        let (after, _) = track.stamp(&clock, 90 * 33, start + ms(5000));
        assert_near(after, 5000);
    }

    #[test]
    fn a_restart_forgets_reports_of_the_earlier_count() {
        let (start, mut clock) = lesson();
        let mut track = TrackClock::new(90_000);
        track.report(&mut clock, ntp(0), 0, start);
        track.stamp(&clock, 90 * 100, start + ms(100));
        track.restart();
        let (at, source) = track.stamp(&clock, 0x8000_0000, start + ms(200));
        assert_eq!(source, ClockSource::Arrival);
        assert_near(at, 200);
    }

    #[test]
    fn a_lying_report_is_not_believed() {
        let (start, mut clock) = lesson();
        let mut track = TrackClock::new(90_000);
        track.report(&mut clock, ntp(0), 90 * 60_000, start);
        let (at, source) = track.stamp(&clock, 0, start + ms(10));
        assert_eq!(source, ClockSource::Arrival);
        assert_near(at, 10);
        track.report(&mut clock, NtpTime(0), 0, start);
        track.report(&mut clock, NtpTime(u64::MAX), 0, start);
        track.stamp(&clock, u32::MAX / 2, start);
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let (start, mut clock) = lesson();
        let mut track = TrackClock::new(90_000);
        track.report(&mut clock, ntp(0), 0, start);
        track.report(&mut clock, ntp(3_600_000), 90 * 1000, start + ms(1000));
        let (at, source) = track.stamp(&clock, 90 * 1100, start + ms(1100));
        assert_eq!(source, ClockSource::SenderReport);
        assert_near(at, 1100);
    }

    #[test]
    fn drift_does_not_grow() {
        let (start, mut clock) = lesson();
        let mut track = TrackClock::new(48_000);
        // The sender's clock is 100 ppm slow for an hour: it says 0.9999 s for each of our seconds.
        let mut worst = Duration::ZERO;
        for second in 1..3600u64 {
            let sender_ms = second * 1000 - second / 10;
            track.report(
                &mut clock,
                ntp(sender_ms),
                (sender_ms * 48) as u32,
                start + ms(second * 1000),
            );
            let (at, _) = track.stamp(&clock, (sender_ms * 48) as u32, start + ms(second * 1000));
            worst = worst.max(at.abs_diff(ms(second * 1000)));
        }
        assert!(worst < ms(10), "{worst:?}");
    }

    #[test]
    fn frames_from_before_the_lesson_stand_at_its_beginning() {
        let (start, mut clock) = lesson();
        let mut track = TrackClock::new(90_000);
        track.report(&mut clock, ntp(1000), 90_000, start);
        assert_eq!(track.stamp(&clock, 0, start).0, Duration::ZERO);
        assert_eq!(track.stamp(&clock, 1, start).0, ms(1));
    }

    proptest! {
        #[test]
        fn lesson_time_always_grows(
            steps in proptest::collection::vec((any::<u32>(), any::<u64>(), 0u64..2000, 0u8..4), 1..200),
        ) {
            let (start, mut clock) = lesson();
            let mut track = TrackClock::new(90_000);
            let mut now = start;
            let mut last = None;
            for (timestamp, report, step, kind) in steps {
                now += ms(step);
                match kind {
                    0 => track.report(&mut clock, NtpTime(report), timestamp, now),
                    1 => track.restart(),
                    _ => {
                        let (at, _) = track.stamp(&clock, timestamp, now);
                        prop_assert!(last.is_none_or(|last| last + ms(1) <= at));
                        prop_assert!(at <= now.duration_since(start) + ms(3000) + ms(200));
                        last = Some(at);
                    }
                }
            }
        }
    }
}
