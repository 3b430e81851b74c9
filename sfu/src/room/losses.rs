//! What is sent to a subscriber, and how much of it is lost, as its reports and its requests tell.

use std::time::{Duration, Instant};

use seodang_model::MediaKind;
use seodang_rtp::ReportBlock;

/// What a subscriber's reports say of all its slots together (RFC 3550 section 6.4.1).
#[derive(Debug, Default)]
pub(super) struct Losses {
    known: Vec<Known>,
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

/// What was last reported of a slot.
#[derive(Clone, Copy, Debug)]
struct Known {
    ssrc: u32,
    highest: u32,
    lost: i32,
    /// When a report last told of something new.
    moved_at: Instant,
}

/// Receivers report about once a second, which may be a little less.
const REPORTED_FOR: Duration = Duration::from_millis(800);
/// The end of a picture that paused may have been lost: one learns of it when the picture returns, however long ago that was.
const LONG_AGO: Duration = Duration::from_millis(2500);
/// In so short a time a probe that fails is seen.
const MOMENT: Duration = Duration::from_millis(250);
/// After a time without answers that is this long, what was counted in it says nothing of now.
const STALE: Duration = Duration::from_secs(5);
/// Fewer packets say nothing.
const LEAST_PACKETS: u64 = 50;

impl Losses {
    /// Takes a block about one of the slots.
    pub(super) fn add(&mut self, now: Instant, report: &ReportBlock, kind: MediaKind) {
        let fresh = Known {
            ssrc: report.ssrc,
            highest: report.highest,
            lost: report.lost,
            moved_at: now,
        };
        let Some(known) = self.known.iter_mut().find(|known| known.ssrc == report.ssrc) else {
            self.known.push(fresh);
            return;
        };
        if report.highest == known.highest {
            return;
        }
        let Known {
            highest,
            lost,
            moved_at,
            ..
        } = std::mem::replace(known, fresh);
        // Browsers report pictures once a second, and sound, which does not pause, every five.
        if kind == MediaKind::Video && now.saturating_duration_since(moved_at) >= LONG_AGO {
            return;
        }
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

    /// One of them, which was to be sent at `sent_at`, is asked for, and must have come by then. About once a second the
    /// share of those, and `soon` in a moment.
    pub(super) fn asked(&mut self, now: Instant, sent_at: Instant, soon: bool) -> Option<f32> {
        if now.saturating_duration_since(sent_at) >= LONG_AGO {
            return None;
        }
        self.asked += 1;
        self.just_asked += 1;
        let since = *self.asked_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= STALE {
            (self.asked_since, self.just_asked, self.just_given) = (Some(now), 0, 0);
            return None;
        }
        let (time, packets) = if soon {
            (MOMENT, LEAST_PACKETS / 2)
        } else {
            (REPORTED_FOR, LEAST_PACKETS)
        };
        if now.saturating_duration_since(since) < time || self.just_given < packets {
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
        let stale = |since: &Instant| now.saturating_duration_since(*since) >= STALE;
        let Some(since) = self.since.filter(|since| !stale(since)) else {
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

/// Bits in the last whole second that had any; after two without, in the time since the last.
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
    pub(super) fn bps(&self, now: Instant) -> Option<u64> {
        let (start, sum) = self.window?;
        let elapsed = now.saturating_duration_since(start);
        if elapsed < 2 * WINDOW {
            return self.last_bps;
        }
        // Nothing came that would have ended the window.
        Some((sum as f64 * 8.0 / elapsed.as_secs_f64()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ssrc: u32, highest: u32, lost: i32) -> ReportBlock {
        ReportBlock {
            ssrc,
            highest,
            lost,
            ..Default::default()
        }
    }

    #[test]
    fn reports_of_all_slots_are_one_share_a_second() {
        let start = Instant::now();
        let later = start + WINDOW;
        let mut losses = Losses::default();
        for (ssrc, highest, lost) in [(1, 1000, 50), (2, 10, 0)] {
            losses.add(start, &block(ssrc, highest, lost), MediaKind::Video);
        }
        assert_eq!(losses.take(start), None);
        losses.add(start, &block(1, 1060, 80), MediaKind::Video);
        losses.add(start, &block(2, 50, -1), MediaKind::Video);
        assert_eq!(losses.take(start + WINDOW / 2), None);
        assert_eq!(losses.take(later), Some((0.29, 0)));
        losses.add(later, &block(1, 5, 0), MediaKind::Video);
        losses.add(later, &block(2, 1_000_000, 900_000), MediaKind::Video);
        assert_eq!(losses.take(later + WINDOW), None, "no report goes back or leaps");
    }

    #[test]
    fn what_was_sent_before_the_first_report_does_not_count() {
        let start = Instant::now();
        let mut losses = Losses::default();
        (0..300).for_each(|_| losses.given(1_000, true));
        losses.add(start, &block(1, 300, 0), MediaKind::Video);
        assert_eq!(losses.take(start), None);
        (0..100).for_each(|_| losses.given(1_000, true));
        losses.add(start, &block(1, 400, 0), MediaKind::Video);
        assert_eq!(losses.take(start + WINDOW), Some((0.0, 800_000)));
    }

    #[test]
    fn what_is_asked_for_tells_of_loss_that_reports_hide() {
        let start = Instant::now();
        let mut losses = Losses::default();
        losses.add(start, &block(1, 0, 0), MediaKind::Video);
        assert_eq!(losses.take(start), None);
        for packet in 0..100 {
            losses.given(1_000, packet % 2 == 0);
            if packet % 5 == 0 {
                assert_eq!(losses.asked(start, start, false), None);
            }
        }
        assert_eq!(
            losses.asked(start + WINDOW, start, false),
            Some(0.42),
            "before any report"
        );
        losses.add(start, &block(1, 100, 0), MediaKind::Video);
        assert_eq!(losses.take(start + WINDOW), Some((0.42, 800_000)));
        losses.add(start, &block(1, 200, 0), MediaKind::Video);
        assert_eq!(losses.take(start + 2 * WINDOW), Some((0.0, 0)));
        (0..40).for_each(|_| losses.given(1_000, true));
        assert_eq!(losses.asked(start + WINDOW, start, true), None);
        assert_eq!(
            losses.asked(start + WINDOW + MOMENT, start, true),
            Some(0.05),
            "in a moment"
        );
    }

    #[test]
    fn sound_is_counted_though_it_is_reported_every_five_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut losses = Losses::default();
        losses.add(start, &block(1, 0, 0), MediaKind::Audio);
        assert_eq!(losses.take(start), None);
        losses.add(at(4), &block(1, 200, 60), MediaKind::Audio);
        assert_eq!(losses.take(at(4)), Some((0.3, 0)));
    }

    #[test]
    fn after_minutes_without_reports_nothing_is_divided_by_them() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut losses = Losses::default();
        losses.add(start, &block(1, 0, 0), MediaKind::Audio);
        assert_eq!(losses.take(start), None);
        losses.given(1_000, true);
        assert_eq!(losses.asked(at(1), at(1), false), None);
        losses.add(at(300), &block(1, 15_000, 3_000), MediaKind::Audio);
        assert_eq!(losses.take(at(300)), None);
        (0..100).for_each(|_| losses.given(1_000, true));
        assert_eq!(
            losses.asked(at(300), at(300), true),
            None,
            "of the minutes before"
        );
        losses.add(at(301), &block(1, 15_100, 3_000), MediaKind::Audio);
        assert_eq!(losses.take(at(301)), Some((0.01, 800_000)));
    }

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for place in 0..=50u64 {
            rate.add(start + Duration::from_millis(place * 40), 500);
        }
        assert_eq!(rate.bps(start + 2 * WINDOW), Some(100_000));
    }

    #[test]
    fn a_rate_ends_when_nothing_comes_any_more() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for place in 0..60u64 {
            rate.add(start + Duration::from_millis(place * 40), 500);
        }
        let after = |seconds| rate.bps(start + seconds * WINDOW).expect("seconds have passed");
        assert_eq!(after(3), 100_000);
        assert!(after(7) < 10_000, "{}", after(7));
    }

    #[test]
    fn what_was_lost_before_a_pause_is_no_loss_of_what_comes_after_it() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let at = |second| start + second * WINDOW;
        losses.add(start, &block(1, 100, 0), MediaKind::Video);
        losses.add(start, &block(2, 100, 0), MediaKind::Video);
        assert_eq!(losses.take(start), None);
        for second in 1..20 {
            losses.add(at(second), &block(1, 100 + 60 * second, 0), MediaKind::Video);
            losses.add(at(second), &block(2, 100, 0), MediaKind::Video);
            assert_eq!(losses.take(at(second)), Some((0.0, 0)));
        }
        // Twenty at the end of it were lost, and are asked for now that it returns.
        losses.add(at(20), &block(1, 1300, 0), MediaKind::Video);
        losses.add(at(20), &block(2, 130, 20), MediaKind::Video);
        (0..100).for_each(|_| losses.given(1_000, true));
        (0..20).for_each(|_| assert_eq!(losses.asked(at(20), start, false), None));
        assert_eq!(losses.take(at(20)), Some((0.0, 800_000)));
        losses.add(at(21), &block(1, 1330, 0), MediaKind::Video);
        losses.add(at(21), &block(2, 160, 26), MediaKind::Video);
        assert_eq!(losses.take(at(21)), Some((0.1, 0)), "this is of now");
    }
}
