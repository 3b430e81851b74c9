//! The time to a participant and back, from its reports (RFC 3550 section 6.4.1).

use std::time::{Duration, Instant};

use seodang_rtp::{NtpTime, ReportBlock};

/// The last sender reports that went out, and what the answers to them told.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    sent: [Option<Sent>; REPORTS],
    next: usize,
    measured: Option<Duration>,
    /// The shortest lately.
    shortest: Option<Duration>,
}

/// A sender report that went out.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// What a receiver calls it by.
    name: u32,
    at: Instant,
    answered: bool,
}

/// Four rounds of reports to a page of fifteen slots, less the empty ones.
const REPORTS: usize = 32;
/// Nobody answers later; whoever claims so would never get anything again.
const LONGEST: Duration = Duration::from_secs(1);
/// Of this many answers, a minute's worth and more, a longer way is taken for the usual one: the participant changed the
/// network.
const FORGETTING: u32 = 512;

impl RoundTrip {
    /// A sender report with this time goes out.
    pub(super) fn report_sent(&mut self, now: Instant, ntp: NtpTime) {
        self.sent[self.next % REPORTS] = Some(Sent {
            name: middle(ntp),
            at: now,
            answered: false,
        });
        self.next = (self.next + 1) % REPORTS;
    }

    /// A report block came; it measures if it answers one of the last sender reports, and tells how much longer that took
    /// than on the empty line. Only the first answer to a report counts: browsers repeat it with each request for packets, many times a
    /// second where much is lost.
    pub(super) fn answered(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        let sent = self.sent.iter().flatten();
        let named = sent.filter(|sent| sent.name == block.last_report && !sent.answered);
        // A feed begins with the report that its source sent last, which may have gone out before: the answer to the
        // earlier one has been held for longer than the later one was under way, and does not count.
        let at = named.map(|sent| sent.at).max()?;
        let held = Duration::from_secs_f64(f64::from(block.since_last_report) / 65_536.0);
        let sample = now.saturating_duration_since(at).checked_sub(held)?;
        let sample = sample.min(LONGEST);
        for sent in self.sent.iter_mut().flatten() {
            sent.answered |= sent.name == block.last_report;
        }
        let shortest = self.shortest.map_or(sample, |shortest| {
            sample.min(shortest + sample.saturating_sub(shortest) / FORGETTING)
        });
        self.shortest = Some(shortest);
        self.measured = Some(
            self.measured
                .map_or(sample, |measured| (measured * 7 + sample) / 8),
        );
        Some(sample.saturating_sub(shortest))
    }

    /// `None` until an answer came.
    pub(super) fn get(&self) -> Option<Duration> {
        self.measured
    }
}

fn middle(ntp: NtpTime) -> u32 {
    (ntp.0 >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn block(ntp: NtpTime, held_ms: u32) -> ReportBlock {
        ReportBlock {
            last_report: middle(ntp),
            since_last_report: held_ms * 65_536 / 1_000,
            ..Default::default()
        }
    }

    #[test]
    fn the_time_a_receiver_held_a_report_does_not_count() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::default();
        let (first, second) = (NtpTime(5 << 32), NtpTime(6 << 32));
        round_trip.report_sent(start, first);
        round_trip.report_sent(start + ms(10), second);
        round_trip.answered(start + ms(500), &block(NtpTime(7 << 32), 0));
        assert_eq!(round_trip.get(), None, "answers nothing that was sent");
        round_trip.answered(start + ms(1_040), &block(first, 1_000));
        let measured = round_trip.get().expect("an answer");
        assert!(measured.abs_diff(ms(40)) < ms(1), "{measured:?}");
        round_trip.answered(start + ms(90), &block(second, 0));
        let measured = round_trip.get().expect("an answer");
        assert!(measured.abs_diff(ms(45)) < ms(1), "{measured:?}");
    }

    #[test]
    fn a_report_that_went_out_twice_is_measured_from_the_second_time() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::default();
        let ntp = NtpTime(5 << 32);
        round_trip.report_sent(start, ntp);
        round_trip.report_sent(start + ms(700), ntp);
        round_trip.answered(start + ms(720), &block(ntp, 680));
        assert_eq!(round_trip.get(), None, "an answer to the first");
        round_trip.answered(start + ms(760), &block(ntp, 20));
        let measured = round_trip.get().expect("an answer");
        assert!(measured.abs_diff(ms(40)) < ms(1), "{measured:?}");
    }

    #[test]
    fn what_takes_longer_than_usual_waited_in_a_queue_until_it_is_usual() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::default();
        let mut queued = |way: u64, second: u32| {
            let ntp = NtpTime(u64::from(second) << 32);
            round_trip.report_sent(start, ntp);
            round_trip
                .answered(start + ms(way), &block(ntp, 0))
                .expect("an answer")
        };
        assert_eq!(queued(40, 5), ms(0));
        assert!(queued(540, 6).abs_diff(ms(499)) < ms(2));
        assert!(queued(30, 7) == ms(0) && queued(130, 8) > ms(98));
        let last = (9..3_000).map(|second| queued(530, second)).last();
        assert!(last.is_some_and(|queued| queued < ms(5)), "{last:?}");
    }

    #[test]
    fn an_answer_that_is_repeated_counts_once() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::default();
        for (second, way) in [(5, 40), (6, 240)] {
            let ntp = NtpTime(second << 32);
            round_trip.report_sent(start, ntp);
            let queued = round_trip.answered(start + ms(way), &block(ntp, 0));
            assert!(queued.is_some_and(|queued| queued.abs_diff(ms(way - 40)) < ms(2)));
            for later in 1..1_000 {
                let again = round_trip.answered(start + ms(way + later), &block(ntp, later as u32));
                assert_eq!(again, None);
            }
        }
        let measured = round_trip.get().expect("two answers");
        assert!(measured.abs_diff(ms(65)) < ms(2), "{measured:?}");
    }

    #[test]
    fn false_answers_do_no_harm() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::default();
        let ntp = NtpTime(5 << 32);
        round_trip.report_sent(start, ntp);
        round_trip.answered(start + ms(10), &block(ntp, 5_000));
        assert_eq!(round_trip.get(), None, "held for longer than it was under way");
        round_trip.answered(start + ms(60_000), &block(ntp, 0));
        assert_eq!(round_trip.get(), Some(LONGEST));
    }
}
