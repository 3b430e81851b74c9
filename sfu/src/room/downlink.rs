//! What the way to a subscriber is believed to carry: from its loss reports and its estimates (REMB), with a floor, and
//! with careful probing after something had to be given up.
//!
//! Nothing limits a line until it shows trouble. A browser's estimate comes from delays and collapses when its machine
//! is merely busy: it makes pictures smaller, but alone it pauses next to nothing. Loss that stays whatever is given up
//! is the line's own (radio): it is repaired, not answered with less.

use std::time::{Duration, Instant};

use seodang_rtp::ReportBlock;

use super::pacing::PACED_BELOW_BPS;

/// The belief about one subscriber's line.
#[derive(Debug)]
pub(super) struct Downlink {
    /// For pictures and sound together; `None`: nothing limits.
    limit_bps: Option<u64>,
    /// Loss that is the line's own, as far as known.
    own_loss: f32,
    trial: Option<Trial>,
    next_trial_at: Option<Instant>,
    /// Since when the estimate is below what is sent.
    low_since: Option<Instant>,
    /// The last one.
    estimate: Option<(Instant, u64)>,
    /// Loss and estimate agree: what is sent is more than the line carries.
    thin: bool,
    /// The limit does not grow before.
    hold_until: Option<Instant>,
    hold: Duration,
    cut_at: Option<Instant>,
    /// The limit was raised since it was last cut: the next cut is a probe that failed.
    probed: bool,
    grown_at: Option<Instant>,
}

/// Less is sent because of loss: does it help?
#[derive(Clone, Copy, Debug)]
struct Trial {
    judged_at: Instant,
    loss: f32,
    limit_before_bps: Option<u64>,
}

/// Loss above the line's own by as much is congestion; less is repaired.
const CONGESTED: f32 = 0.15;
/// The same once the line is known to be thin.
const CONGESTED_AGAIN: f32 = 0.05;
/// A report later than this tells of what was sent since, for the most part.
const JUDGED_AFTER: Duration = Duration::from_millis(800);
/// A trial that no report judged by then ends: a picture that pauses for it shall not stand still for two seconds.
const TRIAL_ENDS_AFTER: Duration = Duration::from_millis(1000);
/// And the next one comes no sooner.
const TRIALS_APART: Duration = Duration::from_secs(5);
/// A share of the loss that stayed.
const STAYED: f32 = 0.6;
/// Estimates alone never limit below this: a page at its smallest with a speaker and voices.
const ESTIMATE_FLOOR_BPS: u64 = 1_000_000;
/// Nothing limits below this: one small picture and voices.
const FLOOR_BPS: u64 = 200_000;
/// Below this share of what is sent, for this long, an estimate is believed.
const LOW_SHARE: f64 = 0.85;
const LOW_FOR: Duration = Duration::from_millis(1500);
/// Browsers tell theirs once a second, and at once when it falls.
const ESTIMATE_LASTS: Duration = Duration::from_millis(2500);
/// The first pause after a cut; doubled with each probe that fails, up to the second, forgotten after a good minute.
const FIRST_HOLD: Duration = Duration::from_secs(2);
const LONGEST_HOLD: Duration = Duration::from_secs(32);
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Growth in a second.
const GROWTH: f64 = 1.1;
/// No class needs more: the limit is forgotten.
const UNLIMITED_BPS: u64 = 20_000_000;

impl Default for Downlink {
    fn default() -> Self {
        Self {
            limit_bps: None,
            own_loss: 0.0,
            trial: None,
            next_trial_at: None,
            low_since: None,
            estimate: None,
            thin: false,
            hold_until: None,
            hold: FIRST_HOLD,
            cut_at: None,
            probed: false,
            grown_at: None,
        }
    }
}

#[cfg(test)]
impl Downlink {
    /// A line of which it is known that it carries so much, and stays so.
    pub(super) fn thin(now: Instant, limit_bps: u64) -> Self {
        Self {
            limit_bps: Some(limit_bps),
            thin: true,
            hold_until: Some(now + Duration::from_secs(3_600)),
            ..Self::default()
        }
    }
}

impl Downlink {
    /// What may be sent, in bits per second; `None`: as much as is wished.
    pub(super) fn limit_bps(&self) -> Option<u64> {
        self.limit_bps
    }

    /// As [`Self::limit_bps`], where it is sure that the line carries no more.
    pub(super) fn thin_bps(&self) -> Option<u64> {
        self.limit_bps.filter(|_| self.thin)
    }

    /// What pictures share on a line so thin that they have to wait for each other; `None`: they go out as they come.
    pub(super) fn paced_bps(&self) -> Option<u64> {
        self.thin_bps().filter(|bps| *bps < PACED_BELOW_BPS)
    }

    /// The share of packets, 0 to 1, that is lost however little is sent, as far as known.
    pub(super) fn own_loss(&self) -> f32 {
        self.own_loss
    }

    /// Takes the share of packets lost in about a second, 0 to 1, while `sent_bps` were sent.
    pub(super) fn handle_loss(&mut self, now: Instant, loss: f32, sent_bps: u64) {
        self.own_loss = self.own_loss.min(loss);
        if let Some(trial) = self.trial {
            if now < trial.judged_at {
                return;
            }
            self.trial = None;
            let obeyed = self.limit_bps.is_some_and(|limit| sent_bps <= limit / 10 * 11);
            let queues = self.fresh_estimate_bps(now).is_some_and(|bps| bps < sent_bps);
            if obeyed && !queues && loss > trial.loss * STAYED {
                // Sending less did not help: it was not the cause.
                (self.own_loss, self.limit_bps, self.hold_until) = (loss, trial.limit_before_bps, None);
                self.thin = false;
                return;
            }
        }
        let congested = if self.thin { CONGESTED_AGAIN } else { CONGESTED };
        if loss > self.own_loss + congested {
            let limit_before_bps = self.limit_bps;
            // What arrived, and a little less, so that queues empty.
            let arrived_bps = (sent_bps as f64 * f64::from(1.0 - loss) * 0.95) as u64;
            // With loss beside it an estimate is believed at once: what was sent lies a second back.
            let estimate_bps = self.fresh_estimate_bps(now).unwrap_or(u64::MAX);
            self.thin |= (estimate_bps as f64) < sent_bps as f64 * LOW_SHARE;
            if !self.thin && self.next_trial_at.is_some_and(|at| now < at) {
                return;
            }
            if self.cut(now, arrived_bps.min(estimate_bps).max(FLOOR_BPS)) {
                self.trial = Some(Trial {
                    judged_at: now + JUDGED_AFTER,
                    loss,
                    limit_before_bps,
                });
            }
        }
    }

    /// Takes an estimate of the subscriber while `sent_bps` are sent.
    pub(super) fn handle_estimate(&mut self, now: Instant, estimate_bps: u64, sent_bps: u64) {
        let before = self.estimate.replace((now, estimate_bps));
        let falls = before.is_some_and(|(_, before)| estimate_bps < before);
        if estimate_bps as f64 >= sent_bps as f64 * LOW_SHARE {
            self.low_since = None;
            return;
        }
        if self.thin && self.probed && falls {
            // More than before was tried, and queues: no loss needs to tell. An estimate that only lags does not fall.
            self.cut(now, estimate_bps.max(FLOOR_BPS));
            return;
        }
        let since = *self.low_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= LOW_FOR && sent_bps > ESTIMATE_FLOOR_BPS {
            self.low_since = None;
            self.cut(now, estimate_bps.max(ESTIMATE_FLOOR_BPS));
        }
    }

    /// Lets the limit grow while nothing is wrong; call it about twice a second while there is one.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(trial) = self.trial
            && now >= trial.judged_at + (TRIAL_ENDS_AFTER - JUDGED_AFTER)
            && !self.thin
        {
            (self.trial, self.limit_bps, self.hold_until) = (None, trial.limit_before_bps, None);
            self.next_trial_at = Some(now + TRIALS_APART);
        }
        let Some(limit_bps) = self.limit_bps else { return };
        let since = self.grown_at.replace(now).unwrap_or(now);
        if self.hold_until.is_some_and(|until| now < until) || self.low_since.is_some() {
            return;
        }
        if self
            .cut_at
            .is_some_and(|at| now.saturating_duration_since(at) >= FORGET_AFTER)
        {
            self.hold = FIRST_HOLD;
        }
        let elapsed = now.saturating_duration_since(since).as_secs_f64().min(1.0);
        let grown = (limit_bps as f64 * GROWTH.powf(elapsed)).ceil() as u64;
        self.probed = true;
        self.limit_bps = (grown < UNLIMITED_BPS).then_some(grown);
        self.thin &= self.limit_bps.is_some();
    }

    fn fresh_estimate_bps(&self, now: Instant) -> Option<u64> {
        let fresh = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) < ESTIMATE_LASTS;
        self.estimate.filter(fresh).map(|(_, bps)| bps)
    }

    /// Whether the limit is lower than before.
    fn cut(&mut self, now: Instant, to_bps: u64) -> bool {
        if self.limit_bps.is_some_and(|limit| limit <= to_bps) {
            return false;
        }
        if self.probed {
            self.hold = (self.hold * 2).min(LONGEST_HOLD);
        }
        self.limit_bps = Some(to_bps);
        (self.probed, self.cut_at, self.hold_until) = (false, Some(now), Some(now + self.hold));
        true
    }
}

/// What a subscriber's reports say of all its slots together (RFC 3550 section 6.4.1).
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Highest sequence number and loss so far, by SSRC.
    known: Vec<(u32, u32, i32)>,
    since: Option<Instant>,
    expected: u64,
    lost: i64,
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

    /// The share lost since the last answer, of about a second and only of enough packets.
    pub(super) fn take(&mut self, now: Instant) -> Option<f32> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < REPORTED_FOR || self.expected < LEAST_PACKETS {
            return None;
        }
        let share = self.lost.max(0) as f32 / self.expected as f32;
        (self.since, self.expected, self.lost) = (Some(now), 0, 0);
        Some(share)
    }
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

    /// A line that carries `capacity_bps` for `seconds`, with a page that wants `wished_bps`; what was sent each second.
    fn drive(
        line: &mut Downlink,
        start: Instant,
        seconds: u64,
        wished_bps: u64,
        capacity_bps: u64,
        own: f32,
    ) -> Vec<u64> {
        let mut sent = Vec::new();
        for second in 0..seconds {
            let sent_bps = line.limit_bps().map_or(wished_bps, |limit| limit.min(wished_bps));
            let congestion = 1.0 - capacity_bps.min(sent_bps) as f32 / sent_bps as f32;
            let now = start + Duration::from_secs(second);
            line.handle_loss(now, own.max(congestion), sent_bps);
            for half in [0, 500] {
                line.handle_timeout(now + Duration::from_millis(half));
            }
            sent.push(sent_bps);
        }
        sent
    }

    #[test]
    fn a_good_line_is_never_limited() {
        let start = Instant::now();
        let mut line = Downlink::default();
        drive(&mut line, start, 30, 5_000_000, 10_000_000, 0.02);
        line.handle_estimate(start + LOW_FOR, 6_000_000, 5_000_000);
        assert_eq!(line.limit_bps(), None);
    }

    #[test]
    fn a_thin_line_is_found_and_probed_ever_more_seldom() {
        let mut line = Downlink::default();
        let start = Instant::now();
        let found = drive(&mut line, start, 10, 3_000_000, 600_000, 0.0);
        assert!(found[9] < 750_000, "{found:?}");
        let probed = drive(
            &mut line,
            start + Duration::from_secs(10),
            120,
            3_000_000,
            600_000,
            0.0,
        );
        let over = probed.iter().filter(|sent| **sent > 600_000).count();
        assert!(
            (1..=20).contains(&over) && probed.iter().all(|sent| *sent < 800_000),
            "{over} seconds of loss in {probed:?}"
        );
        let rest = probed.iter().filter(|sent| **sent > 300_000).count();
        assert!(rest > 100, "{probed:?}");
    }

    #[test]
    fn a_line_that_recovers_is_used_again() {
        let start = Instant::now();
        let mut line = Downlink::default();
        drive(&mut line, start, 10, 3_000_000, 600_000, 0.0);
        let sent = drive(
            &mut line,
            start + Duration::from_secs(10),
            60,
            3_000_000,
            50_000_000,
            0.0,
        );
        assert_eq!(sent.last(), Some(&3_000_000), "{sent:?}");
    }

    #[test]
    fn loss_that_is_the_lines_own_is_not_answered_for_long() {
        let start = Instant::now();
        let mut line = Downlink::default();
        let sent = drive(&mut line, start, 60, 1_000_000, 50_000_000, 0.3);
        let less = sent.iter().filter(|sent| **sent < 1_000_000).count();
        assert!((1..=3).contains(&less), "{sent:?}");
    }

    #[test]
    fn loss_and_estimate_together_are_believed_at_once_and_a_probe_ends_when_the_estimate_falls() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut line = Downlink::default();
        line.handle_estimate(start, 250_000, 500_000);
        assert_eq!(line.thin_bps(), None);
        line.handle_loss(after(200), 0.2, 500_000);
        assert_eq!(line.thin_bps(), Some(250_000), "not what seems to have arrived");
        line.handle_estimate(after(1200), 260_000, 240_000);
        for half in 0..8 {
            line.handle_timeout(after(500 * half));
        }
        let probed = line.limit_bps().expect("thin still");
        assert!((280_000..330_000).contains(&probed), "{probed}");
        line.handle_estimate(after(4000), 260_000, 320_000);
        assert_eq!(line.limit_bps(), Some(probed), "it only lags");
        line.handle_estimate(after(4100), 240_000, 320_000);
        assert_eq!(line.limit_bps(), Some(240_000));
        line.handle_estimate(after(4200), 1_000, 320_000);
        assert_eq!(line.limit_bps(), Some(240_000), "nothing was probed since");
    }

    #[test]
    fn a_picture_does_not_pause_for_a_trial_that_no_report_judges() {
        let start = Instant::now();
        let mut line = Downlink::default();
        line.handle_loss(start, 0.3, 1_000_000);
        assert!(line.limit_bps().is_some());
        line.handle_timeout(start + TRIAL_ENDS_AFTER);
        assert_eq!(line.limit_bps(), None);
        line.handle_loss(start + TRIALS_APART, 0.3, 1_000_000);
        assert_eq!(line.limit_bps(), None, "not again so soon");
        line.handle_loss(start + TRIALS_APART + TRIAL_ENDS_AFTER, 0.3, 1_000_000);
        assert!(line.limit_bps().is_some());
    }

    #[test]
    fn nothing_limits_below_the_floor() {
        let start = Instant::now();
        let mut line = Downlink::default();
        for second in 0..20 {
            line.handle_loss(
                start + Duration::from_secs(3 * second),
                (second % 2) as f32,
                500_000,
            );
        }
        assert_eq!(line.limit_bps(), Some(FLOOR_BPS));
    }

    #[test]
    fn an_estimate_counts_when_it_stays_low_and_down_to_its_own_floor() {
        let start = Instant::now();
        let mut line = Downlink::default();
        line.handle_estimate(start, 100_000, 3_000_000);
        line.handle_estimate(start + Duration::from_secs(1), 4_000_000, 3_000_000);
        line.handle_estimate(start + Duration::from_secs(2), 100_000, 3_000_000);
        assert_eq!(line.limit_bps(), None, "low for a moment");
        line.handle_estimate(start + Duration::from_secs(4), 2_000_000, 3_000_000);
        assert_eq!(line.limit_bps(), Some(2_000_000));
        line.handle_estimate(start + Duration::from_secs(5), 13_000, 2_000_000);
        line.handle_estimate(start + Duration::from_secs(7), 13_000, 2_000_000);
        assert_eq!(line.limit_bps(), Some(ESTIMATE_FLOOR_BPS));
    }

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
        assert_eq!(losses.take(later), Some(0.29));
        losses.add(&block(1, 5, 0));
        losses.add(&block(2, 1_000_000, 900_000));
        assert_eq!(losses.take(later + WINDOW), None, "no report goes back or leaps");
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
