//! The wishes for key frames of one source, merged and limited.

use std::time::{Duration, Instant};

/// Key frames are costly for everybody who watches: one request a second serves all.
const PAUSE: Duration = Duration::from_secs(1);

/// What was wished and when it was last asked for.
#[derive(Debug, Default)]
pub(super) struct KeyframeWishes {
    wished: bool,
    /// A slot waits for this source: asked for again until a key frame comes.
    pub(super) waiting: bool,
    asked_at: Option<Instant>,
}

impl KeyframeWishes {
    pub(super) fn wish(&mut self) {
        self.wished = true;
    }

    /// A key frame begins: everybody is served.
    pub(super) fn arrived(&mut self) {
        self.wished = false;
    }

    /// Whether to ask now; notes it.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let may = self
            .asked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= PAUSE);
        if !(self.wished || self.waiting) || !may {
            return false;
        }
        self.force(now);
        true
    }

    /// Asks now whatever was asked before; counts for the limit.
    pub(super) fn force(&mut self, now: Instant) {
        self.wished = false;
        self.asked_at = Some(now);
    }

    /// When [`Self::take`] will say yes; `None` while nothing is wished.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked_at
            .filter(|_| self.wished || self.waiting)
            .map(|at| at + PAUSE)
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
    fn a_forced_request_counts_for_the_limit() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes::default();
        wishes.force(start);
        wishes.wish();
        assert!(!wishes.take(start + Duration::from_millis(500)));
        wishes.arrived();
        assert!(!wishes.take(start + PAUSE), "the forced one served it");
    }

    #[test]
    fn a_waiting_slot_asks_again_until_it_is_served() {
        let start = Instant::now();
        let mut wishes = KeyframeWishes {
            waiting: true,
            ..Default::default()
        };
        assert!(wishes.take(start));
        assert_eq!(wishes.deadline(), Some(start + PAUSE));
        assert!(wishes.take(start + PAUSE));
        wishes.waiting = false;
        assert_eq!(wishes.deadline(), None);
    }
}
