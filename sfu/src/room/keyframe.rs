//! The wishes for key frames of one source, merged and limited.

use std::time::{Duration, Instant};

/// Key frames are costly for everybody who watches: one request a second serves all, in the long run.
const PAUSE: Duration = Duration::from_secs(1);
/// One more is free after a quiet second, so that who comes just after the last one, or lost it, need not wait; this long
/// after it, as browsers make no two within 300 ms.
const SPACING: Duration = Duration::from_millis(300);
/// A request without an answer may be lost: it is repeated after this, and so often.
const REPEAT: Duration = Duration::from_millis(150);
const REPEATS: u8 = 8;

/// What was wished and when it was last asked for.
#[derive(Debug, Default)]
pub(super) struct KeyframeWishes {
    wished: bool,
    /// A slot waits for this source: asked for again until a key frame comes.
    pub(super) waiting: bool,
    asked_at: Option<Instant>,
    /// When all that was asked for is paid at the pace of one a second.
    paid_at: Option<Instant>,
    /// How often the unanswered request may still be repeated.
    repeats: u8,
}

impl KeyframeWishes {
    pub(super) fn wish(&mut self) {
        self.wished = true;
    }

    /// A key frame begins: everybody is served.
    pub(super) fn arrived(&mut self) {
        self.wished = false;
        self.repeats = 0;
    }

    /// How many requests to send now; notes it. The second time a request is sent twice: the line loses, and browsers
    /// take two for one.
    pub(super) fn take(&mut self, now: Instant) -> usize {
        if self.deadline().is_some_and(|at| at > now) || !self.is_wanted() {
            return 0;
        }
        match self.repeats.checked_sub(1) {
            Some(left) => {
                self.repeats = left;
                self.wished = false;
                self.asked_at = Some(now);
                2
            }
            None => {
                self.force(now);
                1
            }
        }
    }

    /// Asks now whatever was asked before; counts for the limit.
    pub(super) fn force(&mut self, now: Instant) {
        self.wished = false;
        self.asked_at = Some(now);
        self.paid_at = Some(self.paid_at.map_or(now, |at| at.max(now)) + PAUSE);
        self.repeats = REPEATS;
    }

    /// When [`Self::take`] will say yes; `None` while nothing is wished.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked_at = self.asked_at.filter(|_| self.is_wanted())?;
        if self.repeats > 0 {
            return Some(asked_at + REPEAT);
        }
        let spaced = asked_at + SPACING;
        let affordable = self.paid_at.and_then(|at| at.checked_sub(PAUSE));
        Some(affordable.map_or(spaced, |at| at.max(spaced)))
    }

    fn is_wanted(&self) -> bool {
        self.wished || self.waiting || self.repeats > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When the wishes, each answered at once, are granted.
    fn granted(wishes: &mut KeyframeWishes, start: Instant, count: usize) -> Vec<Duration> {
        let mut at = start;
        let grant = |_| {
            wishes.wish();
            at = wishes.deadline().unwrap_or(at);
            assert_eq!(wishes.take(at), 1);
            wishes.arrived();
            at - start
        };
        (0..count).map(grant).collect()
    }

    #[test]
    fn many_wishes_are_one_request() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        assert_eq!(wishes.take(start), 0);
        wishes.wish();
        wishes.wish();
        assert_eq!(wishes.take(start), 1);
        wishes.arrived();
        assert_eq!((wishes.take(start + PAUSE), wishes.deadline()), (0, None));
    }

    #[test]
    fn a_second_wish_is_granted_soon_and_then_one_a_second() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        let in_a_row = granted(&mut wishes, start, 5);
        let expected = [Duration::ZERO, SPACING, PAUSE, PAUSE * 2, PAUSE * 3];
        assert_eq!(in_a_row, expected);
        wishes.wish();
        assert!(wishes.deadline() < Some(start + PAUSE * 10));
        assert_eq!(wishes.take(start + PAUSE * 10), 1);
        wishes.arrived();
        wishes.wish();
        assert_eq!(
            wishes.deadline(),
            Some(start + PAUSE * 10 + SPACING),
            "quiet made up for it"
        );
    }

    #[test]
    fn a_request_that_may_be_lost_is_repeated_twice_over_until_a_key_frame_comes() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        wishes.wish();
        assert_eq!(wishes.take(start), 1);
        assert_eq!(wishes.take(start + REPEAT - MS), 0);
        let mut at = start;
        let mut repeated = 0;
        while let Some(next) = wishes.deadline() {
            assert_eq!(next, at + REPEAT);
            assert_eq!(wishes.take(next), 2);
            (at, repeated) = (next, repeated + 1);
        }
        assert_eq!(repeated, REPEATS, "not without end");
        wishes.wish();
        assert_eq!(wishes.take(at + SPACING), 1);
        wishes.arrived();
        assert_eq!(wishes.deadline(), None, "answered");
    }

    #[test]
    fn a_forced_request_counts_for_the_limit() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        for _ in 0..2 {
            wishes.force(start);
            wishes.arrived();
        }
        wishes.wish();
        assert_eq!(wishes.deadline(), Some(start + PAUSE));
        wishes.arrived();
        assert_eq!(wishes.take(start + PAUSE), 0, "somebody else's served it");
    }

    #[test]
    fn a_waiting_slot_asks_again_until_it_is_served() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes {
            waiting: true,
            ..Default::default()
        };
        assert_eq!(wishes.take(start), 1);
        wishes.arrived();
        assert_eq!(wishes.deadline(), Some(start + SPACING));
        assert_eq!(wishes.take(start + SPACING), 1);
        wishes.arrived();
        wishes.waiting = false;
        assert_eq!(wishes.deadline(), None);
    }
}
