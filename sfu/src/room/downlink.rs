//! What the way to a subscriber is believed to carry: from its loss reports and its estimates (REMB), with a floor, and
//! with careful probing after something had to be given up.
//!
//! Nothing limits a line until it shows trouble. A browser's estimate comes from delays and collapses when its machine
//! is merely busy: it makes pictures smaller, but alone it pauses next to nothing. Loss that stays whatever is given up
//! is the line's own (radio): it is repaired, not answered with less.

mod queue;
mod trial;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::pacing::PACED_BELOW_BPS;
use queue::{Queue, Seen};
use trial::Trial;

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
    /// The last one, if it ended before a report came that tells of it.
    unjudged: Option<Trial>,
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
    /// To where it was last cut, and what was sent since for two reports without loss or queue: the line carries about as much.
    carried_bps: u64,
    /// What was sent for the last report, if nothing was lost.
    clean_bps: u64,
    grown_at: Option<Instant>,
    queue: Queue,
}

/// A share of loss, and what was so when it was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    loss: f32,
    sent_bps: u64,
    /// With repair.
    all_bps: u64,
    queue: Seen,
}

/// Whether an estimate is clearly below what is sent.
fn is_low(estimate_bps: u64, sent_bps: u64) -> bool {
    (estimate_bps as f64) < sent_bps as f64 * LOW_SHARE
}

/// Loss above the line's own by as much is congestion; less is repaired.
const CONGESTED: f32 = 0.15;
/// The same once the line is known to be thin.
const CONGESTED_AGAIN: f32 = 0.05;
/// Shares of some fifty packets swing by as much.
const SWING: f32 = 0.2;
/// A report later than this tells of what was sent since, for the most part.
const JUDGED_AFTER: Duration = Duration::from_millis(800);
/// A trial that no report judged by then ends: a picture that pauses for it shall not stand still for two seconds.
const TRIAL_ENDS_AFTER: Duration = Duration::from_millis(1000);
/// And the next one comes no sooner; twice as late after each that did not help, up to the second.
const TRIALS_APART: Duration = Duration::from_secs(5);
const MOST_APART: Duration = Duration::from_secs(60);
/// Less above the line's own is none.
const CLEAN: f32 = 0.02;
/// So much is taken for the line's own without a trial while nothing stands before it.
const UNPROVEN: f32 = 0.1;
/// Of a new share of loss, in what is known.
const LEARNT: f32 = 0.25;
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
/// Who sends this many times what a thin line carried tries more; less is a picture's own swing.
const MORE: f64 = 1.2;
/// From so much loss on estimates take the time of repair for that of a queue, and fall.
const REPAIRED: f32 = 0.05;
/// So long a queue delays voices for as long: less is sent, and once it could have become shorter, less again.
const LONG_QUEUE: Duration = Duration::from_millis(300);
const QUEUE_SHRINKS_IN: Duration = Duration::from_millis(1500);
/// Of what is sent, then.
const LESS: f64 = 0.85;
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
            unjudged: None,
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
            queue: Queue::default(),
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

    /// As [`Self::note_loss`], while `sent_bps` were sent, and `all_bps` with repair; decides whether less has to be sent.
    pub(super) fn handle_loss(&mut self, now: Instant, loss: f32, sent_bps: u64, all_bps: u64) {
        self.note_loss(loss);
        let queue = self.queue.look(now, self.thin);
        let told = Told {
            loss,
            sent_bps,
            all_bps,
            queue,
        };
        let forgotten = self.forget(now, told);
        self.learn(loss, queue.empty);
        self.note_clean(told);
        if let ControlFlow::Continue(limit_before_bps) = self.judge(now, told) {
            self.try_less(now, told, limit_before_bps, !queue.empty && !forgotten);
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

    /// Takes for how long what was sent lately waited, while `sent_bps` are sent. Some lines have a queue of seconds before anything is
    /// lost.
    pub(super) fn handle_queue(&mut self, now: Instant, queue: Duration, sent_bps: u64) {
        self.queue.answered(now, queue);
        let shrank = |at| now.saturating_duration_since(at) >= QUEUE_SHRINKS_IN;
        if self.thin && queue >= LONG_QUEUE && self.cut_at.is_none_or(shrank) {
            let limit_bps = self.limit_bps.unwrap_or(sent_bps).min(sent_bps);
            let less_bps = (limit_bps as f64 * LESS) as u64;
            self.cut(now, less_bps.max(FLOOR_BPS), LONGEST_UNSURE_HOLD);
        }
    }

    /// Takes an estimate of the subscriber while `sent_bps` are sent.
    pub(super) fn handle_estimate(&mut self, now: Instant, estimate_bps: u64, sent_bps: u64) {
        let before = self.estimate.replace((now, estimate_bps));
        // One that lags behind falls for nothing: only from about what is sent is it a fall.
        let falls = before.is_some_and(|(_, before)| !is_low(before, sent_bps));
        if self.limit_bps.is_some_and(|limit| estimate_bps > limit) {
            let soon = self.cut_at.map(|at| at + LONGEST_UNSURE_HOLD);
            self.hold_until = self.hold_until.min(soon.or(self.hold_until));
        }
        // Of what the line carried before, an estimate that is low tells nothing new.
        let known = self.thin && sent_bps as f64 <= self.carried_bps as f64 * MORE;
        let repaired = self.recent_loss.is_some_and(|loss| loss >= REPAIRED) && self.queue.was_empty(now);
        if known || repaired || !is_low(estimate_bps, sent_bps) {
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
            self.unjudged = Some(trial);
        }
        // What is reported later than that tells of another time.
        self.trial = self.trial.filter(|trial| now < trial.judged_at + ESTIMATE_LASTS);
        let Some(limit_bps) = self.limit_bps else { return };
        let since = self.grown_at.replace(now).unwrap_or(now);
        // Without pictures there are no estimates, and the last one stops counting.
        let low = self.low_since.is_some() && self.fresh_estimate_bps(now).is_some();
        if self.hold_until.is_some_and(|until| now < until) || low {
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

    /// Forgets what a trial proved where a queue stands and an estimate is low: it may have been wrong, and another trial tells.
    fn forget(&mut self, now: Instant, told: Told) -> bool {
        let forgotten = told.queue.stands
            && self.proven_loss > 0.0
            && !self.is_too_soon(now)
            && told.loss > CONGESTED
            && self
                .fresh_estimate_bps(now)
                .is_some_and(|bps| is_low(bps, told.sent_bps));
        if forgotten {
            self.prove(0.0);
        }
        forgotten
    }

    /// What was sent for two reports without loss or queue is carried.
    fn note_clean(&mut self, told: Told) {
        let clean = told.loss < self.own_loss + CLEAN && !self.queue.waits();
        let clean_bps = if clean { told.sent_bps } else { 0 };
        self.carried_bps = self.carried_bps.max(clean_bps.min(self.clean_bps));
        self.clean_bps = clean_bps;
    }

    /// Judges the trial that is under way, or the last one if no report has judged it. Goes on with the limit that comes back when less
    /// does not help either.
    fn judge(&mut self, now: Instant, told: Told) -> ControlFlow<(), Option<u64>> {
        let Told { loss, sent_bps, .. } = told;
        let queues = self.queues(now, told);
        let stayed = |trial: &Trial| trial.stayed(loss, sent_bps, told.queue.empty);
        let unjudged = self
            .unjudged
            .take()
            .filter(|trial| now < trial.judged_at + ESTIMATE_LASTS && trial.tells(sent_bps));
        if let Some(trial) = unjudged {
            if !stayed(&trial) {
                // It helped.
                (self.next_trial_at, self.trials_apart) = (None, TRIALS_APART);
                self.cut(now, trial.lower_bps(), LONGEST_HOLD);
                return ControlFlow::Break(());
            }
            if !queues {
                self.prove(loss);
            }
        }
        let Some(trial) = self.trial else {
            return ControlFlow::Continue(self.limit_bps);
        };
        if now < trial.judged_at {
            return ControlFlow::Break(());
        }
        self.trial = None;
        if !stayed(&trial) {
            // It helped.
            self.trials_apart = TRIALS_APART;
            return ControlFlow::Continue(self.limit_bps);
        }
        let obeyed = self.limit_bps.is_some_and(|limit| sent_bps <= limit / 10 * 11) || trial.tells(sent_bps);
        if queues || !obeyed && self.thin {
            return ControlFlow::Continue(trial.limit_before_bps);
        }
        if obeyed {
            // Sending less did not help: it was not the cause.
            self.prove(loss);
            self.thin = false;
        }
        self.end_trial(now, trial);
        ControlFlow::Break(())
    }

    /// Sends less if more is lost than the line loses by itself.
    fn try_less(&mut self, now: Instant, told: Told, limit_before_bps: Option<u64>, believes: bool) {
        let Told { loss, sent_bps, .. } = told;
        let congested = if self.thin { CONGESTED_AGAIN } else { CONGESTED };
        // One share alone tells nothing where much is lost anyway, nor a small one where nothing stands.
        let swings = self.proven_loss > CONGESTED || told.queue.empty && loss < self.own_loss + SWING;
        let surely = self.recent_loss.filter(|_| swings).unwrap_or(loss).min(loss);
        if surely <= self.own_loss + congested {
            return;
        }
        let trial = Trial {
            judged_at: now + JUDGED_AFTER,
            loss: surely,
            arrived_bps: sent_bps as f64 * f64::from(1.0 - loss),
            limit_before_bps,
        };
        // With loss beside it an estimate is believed at once: what was sent lies a second back.
        let estimate_bps = self.fresh_estimate_bps(now).filter(|_| believes);
        self.thin |= estimate_bps.is_some_and(|bps| is_low(bps, told.sent_bps));
        let lower_bps = trial.lower_bps();
        let to_bps = estimate_bps.map_or(lower_bps, |bps| lower_bps.min(bps).max(FLOOR_BPS));
        // Next to the floor no less could be sent that would tell anything.
        let in_vain = to_bps as f64 > sent_bps as f64 * LESS && !trial.tells(to_bps);
        if (self.thin || !self.is_too_soon(now) && !in_vain) && self.cut(now, to_bps, LONGEST_HOLD) {
            self.trial = Some(trial);
        }
    }

    /// Whether what is lost waits for too much that was sent.
    fn queues(&self, now: Instant, told: Told) -> bool {
        // Repair fills a thin line as well: less that is new is not less.
        let filled_bps = if self.thin { told.all_bps } else { told.sent_bps };
        told.queue.stands
            || !told.queue.empty && self.fresh_estimate_bps(now).is_some_and(|bps| bps < filled_bps)
    }

    fn is_too_soon(&self, now: Instant) -> bool {
        self.next_trial_at.is_some_and(|at| now < at)
    }

    /// So much is the line's own.
    fn prove(&mut self, loss: f32) {
        (self.own_loss, self.proven_loss) = (loss, loss);
    }

    /// What was given up comes back: less did not help, or was not sent, or no report came.
    fn end_trial(&mut self, now: Instant, trial: Trial) {
        (self.trial, self.limit_bps, self.hold_until) = (None, trial.limit_before_bps, None);
        self.next_trial_at = Some(now + self.trials_apart);
        self.trials_apart = (self.trials_apart * 2).min(MOST_APART);
    }

    /// What is lost tells how good the line became, and that it became much worse never: for that there are trials.
    fn learn(&mut self, loss: f32, empty: bool) {
        let most = self.proven_loss.max(if empty { UNPROVEN } else { 0.0 });
        self.own_loss += (loss.min(most) - self.own_loss) * LEARNT;
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
mod tests;
