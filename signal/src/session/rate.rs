//! How much one socket, or one address, may ask for.

use std::time::{Duration, Instant};

/// A token bucket: `burst` at once, `per_second` in the long run. Pure; the time is passed in.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            level: burst,
            at: now,
        }
    }

    /// Takes one, if there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at);
        self.level = elapsed
            .as_secs_f64()
            .mul_add(self.per_second, self.level)
            .min(self.burst);
        self.at = now;
        let taken = self.level >= 1.0;
        if taken {
            self.level -= 1.0;
        }
        taken
    }

    /// Whether it has been left alone long enough to be as good as a fresh one.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        let missing = (self.burst - self.level) / self.per_second;
        now.saturating_duration_since(self.at) >= Duration::from_secs_f64(missing.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5.0, 10.0, start);
        assert_eq!((0..20).filter(|_| bucket.try_take(start)).count(), 10);
        let later = start + Duration::from_millis(600);
        assert_eq!((0..20).filter(|_| bucket.try_take(later)).count(), 3);
        assert!(!bucket.is_full(later));
        assert!(bucket.is_full(later + Duration::from_secs(2)));
        assert!(!bucket.try_take(start), "a clock that goes back gives nothing");
    }
}
