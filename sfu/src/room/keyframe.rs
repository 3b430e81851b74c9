//! The wishes for key frames of one source, merged and limited.

use std::time::{Duration, Instant};

/// Key frames are costly for everybody who watches: one request a second serves all.
const PAUSE: Duration = Duration::from_secs(1);
/// A request without an answer may be lost: it is repeated after this, and so often.
const REPEAT: Duration = Duration::from_millis(200);
const REPEATS: u8 = 6;

/// What was wished and when it was last asked for.
#[derive(Debug, Default)]
pub(super) struct KeyframeWishes {
    wished: bool,
    /// A slot waits for this source: asked for again until a key frame comes.
    pub(super) waiting: bool,
    asked_at: Option<Instant>,
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

    /// Whether to ask now; notes it.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.deadline().is_some_and(|at| at > now) || !self.is_wanted() {
            return false;
        }
        let left = self.repeats.checked_sub(1);
        self.force(now);
        if let Some(left) = left {
            self.repeats = left;
        }
        true
    }

    /// Asks now whatever was asked before; counts for the limit.
    pub(super) fn force(&mut self, now: Instant) {
        self.wished = false;
        self.asked_at = Some(now);
        self.repeats = REPEATS;
    }

    /// When [`Self::take`] will say yes; `None` while nothing is wished.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pause = if self.repeats > 0 { REPEAT } else { PAUSE };
        self.asked_at.filter(|_| self.is_wanted()).map(|at| at + pause)
    }

    fn is_wanted(&self) -> bool {
        self.wished || self.waiting || self.repeats > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_are_one_request_a_second() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        assert!(!wishes.take(start));
        wishes.wish();
        wishes.wish();
        assert!(wishes.take(start));
        wishes.arrived();
        assert!(
            !wishes.take(start) && wishes.deadline().is_none(),
            "asked once for both"
        );
        wishes.wish();
        assert!(!wishes.take(start + Duration::from_millis(999)));
        assert_eq!(wishes.deadline(), Some(start + PAUSE));
        assert!(wishes.take(start + PAUSE));
    }

    #[test]
    fn a_request_that_may_be_lost_is_repeated_until_a_key_frame_comes() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        wishes.wish();
        assert!(wishes.take(start));
        assert!(!wishes.take(start + REPEAT / 2));
        assert!(wishes.take(start + REPEAT));
        wishes.arrived();
        assert_eq!(wishes.deadline(), None);
        wishes.wish();
        let mut asked = Vec::new();
        while let Some(at) = wishes.deadline() {
            assert!(wishes.take(at));
            asked.push(at - start);
        }
        assert_eq!(asked.len(), 1 + usize::from(REPEATS), "not without end");
        assert_eq!(asked[0], REPEAT + PAUSE, "a new wish is not urgent");
        assert_eq!(asked[1], REPEAT * 2 + PAUSE);
    }

    #[test]
    fn a_forced_request_counts_for_the_limit() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        wishes.force(start);
        wishes.arrived();
        wishes.wish();
        assert!(!wishes.take(start + Duration::from_millis(500)));
        wishes.arrived();
        assert!(!wishes.take(start + PAUSE), "somebody else's served it");
    }

    #[test]
    fn a_waiting_slot_asks_again_until_it_is_served() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes {
            waiting: true,
            ..Default::default()
        };
        assert!(wishes.take(start));
        wishes.arrived();
        assert_eq!(wishes.deadline(), Some(start + PAUSE));
        assert!(wishes.take(start + PAUSE));
        wishes.arrived();
        wishes.waiting = false;
        assert_eq!(wishes.deadline(), None);
    }
}
