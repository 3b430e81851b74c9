//! What is sent to a subscriber, and how much of it is lost, as its reports and its requests tell.

use std::time::{Duration, Instant};

use seodang_rtp::ReportBlock;

/// What a subscriber's reports say of all its slots together (RFC 3550 section 6.4.1).
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Highest sequence number and loss so far, by SSRC.
    known: Vec<(u32, u32, i32)>,
    since: Option<Instant>,
    expected: u64,
    lost: i64,
    /// Packets given out on lines whose subscriber asks for what is missing, and of these those that it asked for.
    given: u64,
    asked: u64,
    /// The same since [`Self::asked_since`].
    just_given: u64,
    just_asked: u64,
    asked_since: Option<Instant>,
    /// What was given out for the first time, to anybody.
    bytes: u64,
}

/// Receivers report about once a second, which may be a little less.
const REPORTED_FOR: Duration = Duration::from_millis(800);
/// Fewer packets say nothing.
const LEAST_PACKETS: u64 = 50;

impl Losses {
    /// Takes a block about one of the slots.
    pub(super) fn add(&mut self, report: &ReportBlock) {
        let Some(known) = self.known.iter_mut().find(|known| known.0 == report.ssrc) else {
            self.known.push((report.ssrc, report.highest, report.lost));
            return;
        };
        let (highest, lost) = (known.1, known.2);
        (known.1, known.2) = (report.highest, report.lost);
        // A report that goes back, or leaps over a minute of packets, is none.
        if let Some(expected) = report
            .highest
            .checked_sub(highest)
            .filter(|expected| *expected < 65_536)
        {
            self.expected += u64::from(expected);
            self.lost += i64::from(report.lost.saturating_sub(lost)).min(i64::from(expected));
        }
    }

    /// A packet is given out for the first time, to who `would_ask` for it or not.
    pub(super) fn given(&mut self, bytes: usize, would_ask: bool) {
        self.given += u64::from(would_ask);
        self.just_given += u64::from(would_ask);
        self.bytes += bytes as u64;
    }

    /// One of them is asked for, and must have come by then. About once a second the share of those.
    pub(super) fn asked(&mut self, now: Instant) -> Option<f32> {
        self.asked += 1;
        self.just_asked += 1;
        let since = *self.asked_since.get_or_insert(now);
        if now.saturating_duration_since(since) < REPORTED_FOR || self.just_given < LEAST_PACKETS {
            return None;
        }
        let share = share(self.just_asked, self.just_given);
        (self.asked_since, self.just_asked, self.just_given) = (Some(now), 0, 0);
        Some(share)
    }

    /// The share lost since the last answer, of about a second and only of enough packets, and what was sent in that time
    /// without repair, in bits per second. Of reports and requests counts what tells of more: some receivers report what
    /// came again as never lost, and some never ask.
    pub(super) fn take(&mut self, now: Instant) -> Option<(f32, u64)> {
        let Some(since) = self.since else {
            // What was sent before the first report has no time to be divided by.
            (self.since, self.expected, self.lost) = (Some(now), 0, 0);
            (self.given, self.asked, self.bytes) = (0, 0, 0);
            return None;
        };
        if now.saturating_duration_since(since) < REPORTED_FOR || self.expected < LEAST_PACKETS {
            return None;
        }
        let mut lost = self.lost.max(0) as f32 / self.expected as f32;
        if self.given >= LEAST_PACKETS {
            lost = lost.max(share(self.asked, self.given));
        }
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        let sent_bps = (self.bytes as f64 * 8.0 / elapsed) as u64;
        (self.since, self.expected, self.lost) = (Some(now), 0, 0);
        (self.given, self.asked, self.bytes) = (0, 0, 0);
        Some((lost, sent_bps))
    }
}

fn share(part: u64, all: u64) -> f32 {
    (part as f32 / all as f32).min(1.0)
}

/// Bits in the last whole second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    window: Option<(Instant, usize)>,
    last_bps: Option<u64>,
    steady_bps: Option<u64>,
}

const WINDOW: Duration = Duration::from_secs(1);

impl Rate {
    pub(super) fn add(&mut self, now: Instant, bytes: usize) {
        match &mut self.window {
            Some((start, sum)) if now.saturating_duration_since(*start) < WINDOW => *sum += bytes,
            Some((start, sum)) => {
                let elapsed = now.saturating_duration_since(*start).as_secs_f64();
                let bps = (*sum as f64 * 8.0 / elapsed) as u64;
                self.last_bps = Some(bps);
                self.steady_bps = Some(self.steady_bps.map_or(bps, |before| (before * 7 + bps) / 8));
                (*start, *sum) = (now, bytes);
            }
            None => self.window = Some((now, bytes)),
        }
    }

    /// Over some seconds, so that a key frame makes little difference; in bits per second.
    pub(super) fn steady_bps(&self) -> Option<u64> {
        self.steady_bps
    }

    /// In bits per second; `None` before a whole second has passed.
    pub(super) fn bps(&self) -> Option<u64> {
        self.last_bps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_all_slots_are_one_share_a_second() {
        let start = Instant::now();
        let later = start + WINDOW;
        let mut losses = Losses::default();
        let block = |ssrc, highest, lost| ReportBlock {
            ssrc,
            highest,
            lost,
            ..Default::default()
        };
        for (ssrc, highest, lost) in [(1, 1000, 50), (2, 10, 0)] {
            losses.add(&block(ssrc, highest, lost));
        }
        assert_eq!(losses.take(start), None);
        losses.add(&block(1, 1060, 80));
        losses.add(&block(2, 50, -1));
        assert_eq!(losses.take(start + WINDOW / 2), None);
        assert_eq!(losses.take(later), Some((0.29, 0)));
        losses.add(&block(1, 5, 0));
        losses.add(&block(2, 1_000_000, 900_000));
        assert_eq!(losses.take(later + WINDOW), None, "no report goes back or leaps");
    }

    #[test]
    fn what_was_sent_before_the_first_report_does_not_count() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let block = |highest| ReportBlock {
            ssrc: 1,
            highest,
            ..Default::default()
        };
        (0..300).for_each(|_| losses.given(1_000, true));
        losses.add(&block(300));
        assert_eq!(losses.take(start), None);
        (0..100).for_each(|_| losses.given(1_000, true));
        losses.add(&block(400));
        assert_eq!(losses.take(start + WINDOW), Some((0.0, 800_000)));
    }

    #[test]
    fn what_is_asked_for_tells_of_loss_that_reports_hide() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let block = |highest| ReportBlock {
            ssrc: 1,
            highest,
            ..Default::default()
        };
        losses.add(&block(0));
        assert_eq!(losses.take(start), None);
        for packet in 0..100 {
            losses.given(1_000, packet % 2 == 0);
            if packet % 5 == 0 {
                assert_eq!(losses.asked(start), None);
            }
        }
        assert_eq!(losses.asked(start + WINDOW), Some(0.42), "before any report");
        losses.add(&block(100));
        assert_eq!(losses.take(start + WINDOW), Some((0.42, 800_000)));
        losses.add(&block(200));
        assert_eq!(losses.take(start + 2 * WINDOW), Some((0.0, 0)));
    }

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for place in 0..=50u64 {
            rate.add(start + Duration::from_millis(place * 40), 500);
        }
        assert_eq!(rate.bps(), Some(100_000));
    }
}
