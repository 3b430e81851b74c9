//! What the way to a subscriber is believed to carry: from its loss reports and its estimates (REMB), with a floor, and
//! with careful probing after something had to be given up.
//!
//! Nothing limits a line until it shows trouble. A browser's estimate comes from delays and collapses when its machine
//! is merely busy: it makes pictures smaller, but alone it pauses next to nothing. Loss that stays whatever is given up
//! is the line's own (radio): it is repaired, not answered with less.

use std::time::{Duration, Instant};

use super::pacing::PACED_BELOW_BPS;

/// The belief about one subscriber's line.
#[derive(Debug)]
pub(super) struct Downlink {
    /// For pictures and sound together; `None`: nothing limits.
    limit_bps: Option<u64>,
    /// Loss that is the line's own, as far as known.
    own_loss: f32,
    /// What a trial proved of it; shares of some hundred packets swing below that.
    proven_loss: f32,
    /// Loss of any kind in the last seconds.
    recent_loss: Option<f32>,
    trial: Option<Trial>,
    next_trial_at: Option<Instant>,
    trials_apart: Duration,
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
    /// To where it was last cut, and what was sent since for two reports without loss: the line carries about as much.
    carried_bps: u64,
    /// What was sent for the last report, if nothing was lost.
    clean_bps: u64,
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
/// And the next one comes no sooner; twice as late after each that told nothing, up to the second.
const TRIALS_APART: Duration = Duration::from_secs(5);
const MOST_APART: Duration = Duration::from_secs(60);
/// Less above the line's own is none.
const CLEAN: f32 = 0.02;
/// Of a new share of loss, in what is known.
const LEARNT: f32 = 0.25;
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
const LONGEST_HOLD: Duration = Duration::from_secs(16);
/// The longest where only an estimate tells of the failure, or a newer one tells of more than the limit.
const LONGEST_UNSURE_HOLD: Duration = Duration::from_secs(8);
/// As much of what the line carries is more than that, and no unsteady second.
const MORE: f64 = 1.2;
/// An estimate that falls below as much of what is sent tells of a queue. To 0.85 of what arrives it falls for every moment
/// in which the receiving machine is busy.
const QUEUE_SHARE: f64 = 0.8;
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Growth in a second.
const GROWTH: f64 = 1.15;
/// No class needs more: the limit is forgotten.
const UNLIMITED_BPS: u64 = 20_000_000;

impl Default for Downlink {
    fn default() -> Self {
        Self {
            limit_bps: None,
            own_loss: 0.0,
            proven_loss: 0.0,
            recent_loss: None,
            trial: None,
            next_trial_at: None,
            trials_apart: TRIALS_APART,
            low_since: None,
            estimate: None,
            thin: false,
            hold_until: None,
            hold: FIRST_HOLD,
            cut_at: None,
            probed: false,
            carried_bps: 0,
            clean_bps: 0,
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

    /// A line that loses this share by itself, as a trial proved.
    pub(super) fn lossy(share: f32) -> Self {
        Self {
            own_loss: share,
            proven_loss: share,
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

    /// The share of packets, 0 to 1, that repair has to reckon with: not what is lost because too much is sent.
    pub(super) fn loss_to_repair(&self) -> f32 {
        self.recent_loss.filter(|_| !self.thin).unwrap_or(self.own_loss)
    }

    /// Takes the share of packets lost in about a second, 0 to 1.
    pub(super) fn note_loss(&mut self, loss: f32) {
        self.recent_loss = Some(self.recent_loss.map_or(loss, |before| (before + loss) / 2.0));
    }

    /// As [`Self::note_loss`], while `sent_bps` were sent, and `all_bps` with repair: whether less has to be sent.
    pub(super) fn handle_loss(&mut self, now: Instant, loss: f32, sent_bps: u64, all_bps: u64) {
        self.note_loss(loss);
        self.learn(loss);
        let clean_bps = if loss < self.own_loss + CLEAN { sent_bps } else { 0 };
        self.carried_bps = self.carried_bps.max(clean_bps.min(self.clean_bps));
        self.clean_bps = clean_bps;
        if let Some(trial) = self.trial {
            if now < trial.judged_at {
                return;
            }
            self.trial = None;
            let obeyed = self.limit_bps.is_some_and(|limit| sent_bps <= limit / 10 * 11);
            // Repair fills a thin line as well: less that is new is not less.
            let filled_bps = if self.thin { all_bps } else { sent_bps };
            let queues = self.fresh_estimate_bps(now).is_some_and(|bps| bps < filled_bps);
            if !queues && loss > trial.loss * STAYED && (obeyed || !self.thin) {
                if obeyed {
                    // Sending less did not help: it was not the cause.
                    (self.own_loss, self.proven_loss) = (loss, loss);
                    (self.thin, self.next_trial_at) = (false, None);
                    self.trials_apart = TRIALS_APART;
                    (self.limit_bps, self.hold_until) = (trial.limit_before_bps, None);
                } else {
                    self.end_trial(now, trial);
                }
                return;
            }
            if loss <= trial.loss * STAYED {
                // It helped.
                self.trials_apart = TRIALS_APART;
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
            if self.cut(now, arrived_bps.min(estimate_bps).max(FLOOR_BPS), LONGEST_HOLD) {
                self.trial = Some(Trial {
                    judged_at: now + JUDGED_AFTER,
                    loss,
                    limit_before_bps,
                });
            }
        }
    }

    /// Whether more is tried than a thin line was known to carry.
    pub(super) fn is_probing(&self) -> bool {
        self.thin && self.probed
    }

    /// Takes the share of packets that were asked for in the last moment: a probe that fails shall not cost sound a second.
    pub(super) fn handle_asked(&mut self, now: Instant, share: f32) {
        // Some few of a moment's packets are no sign.
        if self.is_probing() && share > self.own_loss + CONGESTED {
            self.cut(now, self.carried_bps.max(FLOOR_BPS), LONGEST_HOLD);
        }
    }

    /// Takes an estimate of the subscriber while `sent_bps` are sent.
    pub(super) fn handle_estimate(&mut self, now: Instant, estimate_bps: u64, sent_bps: u64) {
        let before = self.estimate.replace((now, estimate_bps));
        // One that lags behind falls for nothing: only from about what is sent is it a fall.
        let falls = before.is_some_and(|(_, before)| before as f64 >= sent_bps as f64 * LOW_SHARE);
        if self.limit_bps.is_some_and(|limit| estimate_bps > limit) {
            let soon = self.cut_at.map(|at| at + LONGEST_UNSURE_HOLD);
            self.hold_until = self.hold_until.min(soon.or(self.hold_until));
        }
        // Of what the line carried before, an estimate that is low tells nothing new.
        let known = self.thin && sent_bps as f64 <= self.carried_bps as f64 * MORE;
        if known || estimate_bps as f64 >= sent_bps as f64 * LOW_SHARE {
            self.low_since = None;
            return;
        }
        let queues = (estimate_bps as f64) < sent_bps as f64 * QUEUE_SHARE;
        if self.is_probing() && falls && queues {
            // No loss needs to tell.
            self.cut(now, estimate_bps.max(FLOOR_BPS), LONGEST_UNSURE_HOLD);
            return;
        }
        let since = *self.low_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= LOW_FOR && sent_bps > ESTIMATE_FLOOR_BPS {
            self.low_since = None;
            self.cut(now, estimate_bps.max(ESTIMATE_FLOOR_BPS), LONGEST_UNSURE_HOLD);
        }
    }

    /// Lets the limit grow while nothing is wrong; call it about twice a second while there is one.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(trial) = self.trial
            && now >= trial.judged_at + (TRIAL_ENDS_AFTER - JUDGED_AFTER)
            && !self.thin
        {
            self.end_trial(now, trial);
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

    /// A trial told nothing: less was not sent, or no report came.
    fn end_trial(&mut self, now: Instant, trial: Trial) {
        (self.trial, self.limit_bps, self.hold_until) = (None, trial.limit_before_bps, None);
        self.next_trial_at = Some(now + self.trials_apart);
        self.trials_apart = (self.trials_apart * 2).min(MOST_APART);
    }

    /// What is lost tells how good the line became, and never that it became worse: for that there are trials.
    fn learn(&mut self, loss: f32) {
        self.own_loss += (loss.min(self.proven_loss) - self.own_loss) * LEARNT;
        if self.own_loss < self.proven_loss / 2.0 {
            self.proven_loss = self.own_loss;
        }
    }

    fn fresh_estimate_bps(&self, now: Instant) -> Option<u64> {
        let fresh = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) < ESTIMATE_LASTS;
        self.estimate.filter(fresh).map(|(_, bps)| bps)
    }

    /// Whether the limit is lower than before.
    fn cut(&mut self, now: Instant, to_bps: u64, longest_hold: Duration) -> bool {
        if self.limit_bps.is_some_and(|limit| limit <= to_bps) {
            return false;
        }
        if self.probed {
            self.hold = (self.hold * 2).min(longest_hold).max(self.hold);
        }
        (self.limit_bps, self.carried_bps, self.clean_bps) = (Some(to_bps), to_bps, 0);
        (self.probed, self.cut_at) = (false, Some(now));
        self.hold_until = Some(now + self.hold.min(longest_hold));
        true
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
            line.handle_loss(now, own.max(congestion), sent_bps, sent_bps);
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
        line.handle_loss(after(200), 0.2, 500_000, 500_000);
        assert_eq!(line.thin_bps(), Some(250_000), "not what seems to have arrived");
        line.handle_estimate(after(1200), 260_000, 240_000);
        for half in 0..8 {
            line.handle_timeout(after(500 * half));
        }
        let probed = line.limit_bps().expect("thin still");
        assert!((280_000..330_000).contains(&probed), "{probed}");
        line.handle_estimate(after(4000), 260_000, 320_000);
        line.handle_estimate(after(4050), 250_000, 320_000);
        assert_eq!(line.limit_bps(), Some(probed), "it only lags");
        line.handle_estimate(after(4080), 280_000, 320_000);
        line.handle_estimate(after(4100), 240_000, 320_000);
        assert_eq!(line.limit_bps(), Some(240_000));
        line.handle_estimate(after(4200), 1_000, 320_000);
        assert_eq!(line.limit_bps(), Some(240_000), "nothing was probed since");
    }

    #[test]
    fn a_picture_does_not_pause_for_a_trial_that_no_report_judges() {
        let start = Instant::now();
        let mut line = Downlink::default();
        line.handle_loss(start, 0.3, 1_000_000, 1_000_000);
        assert!(line.limit_bps().is_some());
        line.handle_timeout(start + TRIAL_ENDS_AFTER);
        assert_eq!(line.limit_bps(), None);
        line.handle_loss(start + TRIALS_APART, 0.3, 1_000_000, 1_000_000);
        assert_eq!(line.limit_bps(), None, "not again so soon");
        line.handle_loss(start + TRIALS_APART + TRIAL_ENDS_AFTER, 0.3, 1_000_000, 1_000_000);
        assert!(line.limit_bps().is_some());
    }

    #[test]
    fn loss_that_is_the_lines_own_is_tried_once_however_its_shares_swing() {
        let start = Instant::now();
        let mut line = Downlink::default();
        let mut tried = 0;
        for second in 0..120 {
            let sent_bps = line.limit_bps().map_or(1_000_000, |limit| limit.min(1_000_000));
            let swing = [0.0, 0.06, -0.05, 0.1, -0.1, 0.03, -0.07][second as usize % 7];
            let now = start + Duration::from_secs(second);
            line.handle_loss(now, 0.3 + swing, sent_bps, sent_bps);
            tried += u32::from(line.limit_bps().is_some());
            for half in [0, 500] {
                line.handle_timeout(now + Duration::from_millis(half));
            }
        }
        assert_eq!(tried, 1);
        assert!(line.loss_to_repair() > 0.2);
        // The line becomes a good one, and then bad again.
        for second in 120..140 {
            line.handle_loss(start + Duration::from_secs(second), 0.0, 1_000_000, 1_000_000);
        }
        assert!(line.loss_to_repair() < 0.01);
        line.handle_loss(start + Duration::from_secs(140), 0.3, 1_000_000, 1_000_000);
        assert!(line.limit_bps().is_some(), "it may be another reason");
    }

    #[test]
    fn a_trial_in_which_no_less_could_be_sent_ends_and_is_made_ever_more_seldom() {
        let start = Instant::now();
        let mut line = Downlink::default();
        let mut tried = Vec::new();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            let before = line.limit_bps();
            line.handle_loss(now, 0.3, 1_000_000, 1_000_000);
            if before.is_none() && line.limit_bps().is_some() {
                tried.push(second);
            }
        }
        assert_eq!(tried, [0, 6, 17, 38]);
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
    fn a_probe_ends_as_soon_as_packets_are_asked_for() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut line = Downlink::default();
        line.handle_asked(start, 0.5);
        assert_eq!(line.limit_bps(), None);
        line.handle_estimate(start, 250_000, 500_000);
        line.handle_loss(after(200), 0.2, 500_000, 500_000);
        line.handle_estimate(after(1200), 250_000, 240_000);
        line.handle_asked(after(1300), 0.2);
        assert_eq!(line.limit_bps(), Some(250_000), "no more than that was tried");
        for half in 0..10 {
            line.handle_timeout(after(500 * half));
        }
        line.handle_asked(after(5000), 0.1);
        assert!(line.limit_bps() > Some(250_000));
        line.handle_asked(after(5000), 0.2);
        assert_eq!(line.limit_bps(), Some(250_000));
    }

    #[test]
    fn a_trial_that_helped_makes_the_next_one_no_rarer() {
        let start = Instant::now();
        let mut line = Downlink::default();
        let after = |seconds| start + Duration::from_secs(seconds);
        line.handle_loss(start, 0.3, 1_000_000, 1_000_000);
        line.handle_timeout(start + TRIAL_ENDS_AFTER);
        line.handle_loss(after(6), 0.3, 1_000_000, 1_000_000);
        line.handle_loss(after(7), 0.0, 600_000, 600_000);
        assert!(line.limit_bps().is_some(), "less helped");
        assert_eq!(line.trials_apart, TRIALS_APART);
    }

    #[test]
    fn a_thin_line_that_repair_fills_is_not_taken_for_one_that_loses_by_itself() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut line = Downlink::default();
        line.handle_estimate(start, 250_000, 500_000);
        line.handle_loss(after(200), 0.4, 500_000, 900_000);
        assert_eq!(line.thin_bps(), Some(250_000));
        line.handle_estimate(after(1000), 280_000, 900_000);
        line.handle_loss(after(1200), 0.4, 240_000, 900_000);
        assert!(line.thin_bps().is_some());
    }

    /// A browser's estimator (libwebrtc's): it grows slowly and never far above what arrives, and falls below that for each
    /// queue, as for each moment in which the machine is busy. It is given no sound.
    struct Receiver {
        pictures_bps: f64,
    }

    const SOUND_BPS: f64 = 95_000.0;

    impl Receiver {
        /// A fifth of a second, and what it then tells, with sound.
        fn estimate(&mut self, arrived_bps: f64, overused: bool) -> u64 {
            let arrived_bps = (arrived_bps - SOUND_BPS).max(0.0);
            if overused {
                self.pictures_bps = self.pictures_bps.min(arrived_bps * 0.85);
            } else {
                let most = (arrived_bps * 1.5 + 10_000.0).max(self.pictures_bps);
                self.pictures_bps = (self.pictures_bps * 1.08_f64.powf(0.2)).min(most);
            }
            (self.pictures_bps + SOUND_BPS) as u64
        }
    }

    /// A class for a line of 300 kbit/s that becomes wide after so many seconds, to a machine that seems to see a queue
    /// every so many milliseconds; the seconds in which all pictures were granted.
    fn widens(thin_for: u64, false_every_ms: u64) -> Vec<u64> {
        let start = Instant::now();
        let (mut line, mut receiver) = (
            Downlink::default(),
            Receiver {
                pictures_bps: 450_000.0,
            },
        );
        let (mut shown, mut sum, mut lost) = (Vec::new(), 0.0, 0.0);
        for step in 0..(thin_for + 40) * 5 {
            let (now, ms) = (start + Duration::from_millis(step * 200), step * 200);
            let wished_bps = match line.limit_bps() {
                Some(limit) if limit < 500_000 => 190_000.0,
                Some(limit) if limit < 600_000 => 430_000.0,
                _ => 520_000.0,
            };
            // Pictures are not all of one size.
            let sent_bps: f64 = wished_bps * [1.0, 1.08, 0.95, 1.02, 0.93, 1.05, 0.97][step as usize % 7];
            let line_bps = if ms < thin_for * 1000 { 300_000.0 } else { 1e9 };
            let arrived_bps = sent_bps.min(line_bps);
            (sum, lost) = (sum + sent_bps, lost + sent_bps - arrived_bps);
            let overused = arrived_bps < sent_bps || ms % false_every_ms == 0;
            let estimate_bps = receiver.estimate(arrived_bps, overused);
            line.handle_estimate(now, estimate_bps, sent_bps as u64);
            if step % 5 == 4 {
                let bps = (sum / 5.0) as u64;
                line.handle_loss(now, (lost / sum) as f32, bps, bps);
                (sum, lost) = (0.0, 0.0);
                if line.limit_bps().is_none_or(|limit| limit >= 600_000) {
                    shown.push(ms / 1000);
                }
            }
            if step % 5 % 3 == 0 {
                line.handle_timeout(now);
            }
        }
        shown
    }

    #[test]
    fn a_line_that_widens_is_used_within_twenty_seconds_also_by_a_busy_machine() {
        for false_every_ms in [5_000, u64::MAX, 2_000, 1_000, 600, 200] {
            for thin_for in [10, 20, 30, 40] {
                let shown = widens(thin_for, false_every_ms);
                let back = shown.iter().find(|second| **second >= thin_for);
                assert!(
                    back.is_some_and(|second| *second <= thin_for + 20),
                    "every {false_every_ms} ms, {thin_for} s: {shown:?}"
                );
                assert!(
                    shown.iter().all(|second| *second < 3 || *second >= thin_for),
                    "{shown:?}"
                );
                assert_eq!(shown.last(), Some(&(thin_for + 39)), "and stays so");
            }
        }
    }

    #[test]
    fn an_estimate_that_falls_while_no_more_is_sent_tells_nothing() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut line = Downlink::default();
        line.handle_estimate(start, 250_000, 500_000);
        line.handle_loss(after(200), 0.2, 500_000, 500_000);
        line.handle_estimate(after(1200), 250_000, 240_000);
        for half in 0..10 {
            line.handle_timeout(after(500 * half));
        }
        let probed = line.limit_bps();
        assert!(probed > Some(250_000));
        line.handle_estimate(after(5000), 230_000, 240_000);
        line.handle_estimate(after(5200), 180_000, 240_000);
        assert_eq!(line.limit_bps(), probed);
    }
}
