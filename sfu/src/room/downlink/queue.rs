//! Whether what is sent to a subscriber waits in a queue before its line, as its answers to sender reports tell.

use std::time::{Duration, Instant};

use super::ESTIMATE_LASTS;

/// What the answers told.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What was sent last waited.
    waits: bool,
    /// Since when: the sum of what reports had waited that were answered since the last look, and how many answers came.
    waited: Option<(Instant, Duration, u32)>,
    /// When it was looked last, if nothing stood before the line then.
    empty_at: Option<Instant>,
}

/// What is known when a share of loss is told; neither where nothing is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) stands: bool,
    pub(super) empty: bool,
}

/// What takes longer than usual by as much waited.
pub(super) const QUEUE: Duration = Duration::from_millis(150);
/// What waits less in the mean does not wait in a queue that is full, and what waits more does.
const EMPTY_QUEUE: Duration = Duration::from_millis(50);
pub(super) const STANDING_QUEUE: Duration = Duration::from_millis(100);

impl Queue {
    /// A report was answered that had waited for so long.
    pub(super) fn answered(&mut self, now: Instant, waited: Duration) {
        self.waits = waited >= QUEUE;
        let recent =
            |(since, ..): &(Instant, Duration, u32)| now.saturating_duration_since(*since) < ESTIMATE_LASTS;
        let (since, sum, answers) = self.waited.filter(recent).unwrap_or((now, Duration::ZERO, 0));
        self.waited = Some((since, sum + waited, answers + 1));
    }

    /// Whether what was sent last waited.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// What was answered since the last look. Between the bursts of pictures nothing stands before a `thin` line either, which is
    /// therefore never empty.
    pub(super) fn look(&mut self, now: Instant, thin: bool) -> Seen {
        let mean = self.take_mean();
        // Where much is lost some answers are too: what the last one told holds for a while.
        let empty = !thin && mean.map_or_else(|| self.was_empty(now), |queue| queue < EMPTY_QUEUE);
        if mean.is_some() || thin {
            self.empty_at = empty.then_some(now);
        }
        Seen {
            stands: mean >= Some(STANDING_QUEUE),
            empty,
        }
    }

    /// Whether nothing stood before the line when that was known last.
    pub(super) fn was_empty(&self, now: Instant) -> bool {
        self.empty_at
            .is_some_and(|at| now.saturating_duration_since(at) < ESTIMATE_LASTS)
    }

    fn take_mean(&mut self) -> Option<Duration> {
        let (_, sum, answers) = self.waited.take()?;
        sum.checked_div(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_long_ago_tell_nothing_of_a_queue() {
        let start = Instant::now();
        let mut queue = Queue::default();
        for second in 0..60 {
            queue.answered(start + Duration::from_secs(second), Duration::ZERO);
        }
        queue.answered(start + Duration::from_secs(70), Duration::from_millis(600));
        assert_eq!(queue.take_mean(), Some(Duration::from_millis(600)));
    }
}
