//! Whether a worker lets more datagrams come before it reads the first.
//!
//! A message to the kernel costs more than the packets in it, and packets of one frame that are read together go to each
//! receiver as one message. Where little arrives, waiting costs more than it saves (measured with one sender and with
//! eight), and a quiet class is not kept waiting.

use std::time::{Duration, Instant};

/// How long the first datagram waits for others: a millisecond saves no more.
const MOMENT: Duration = Duration::from_micros(500);
/// The rate is taken over this time.
const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams read in a second from which on it waits.
const BEGIN_RATE: u64 = 4_000;
/// Datagrams read in a second below which it reads at once again.
const END_RATE: u64 = 3_000;

/// Watches how much arrives.
#[derive(Debug)]
pub(super) struct Gathering {
    window_began: Instant,
    /// The count at that time.
    before: u64,
    gathers: bool,
}

impl Gathering {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_began: now,
            before: 0,
            gathers: false,
        }
    }

    /// Takes how many datagrams were read since the start.
    pub(super) fn received(&mut self, now: Instant, datagrams: u64) {
        let elapsed = now.saturating_duration_since(self.window_began);
        if elapsed < WINDOW {
            return;
        }
        let least = if self.gathers { END_RATE } else { BEGIN_RATE };
        let read = u128::from(datagrams.saturating_sub(self.before));
        // A window that was waited through is longer than it should be.
        self.gathers = read * Duration::from_secs(1).as_micros() >= u128::from(least) * elapsed.as_micros();
        (self.window_began, self.before) = (now, datagrams);
    }

    /// How long a datagram that has just arrived waits for others.
    pub(super) fn moment(&self) -> Option<Duration> {
        self.gathers.then_some(MOMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn datagrams_gather_only_while_many_arrive() {
        let mut class = Class::new();
        assert_eq!(class.receive(3_500, SECOND), None);
        assert_eq!(class.receive(4_500, SECOND), Some(MOMENT));
        assert_eq!(
            class.receive(3_500, SECOND),
            Some(MOMENT),
            "no coming and going at the edge"
        );
        assert_eq!(class.receive(2_500, SECOND), None);
    }

    #[test]
    fn a_burst_after_silence_is_not_a_rate() {
        let mut class = Class::new();
        class.now += 60 * SECOND;
        assert_eq!(class.receive(1_000, Duration::from_millis(5)), None);
        assert_eq!(class.receive(10_000, SECOND), Some(MOMENT));
        class.now += 60 * SECOND;
        assert_eq!(
            class.receive(1_000, Duration::from_millis(5)),
            None,
            "silence ends it"
        );
    }

    struct Class {
        now: Instant,
        gathering: Gathering,
        read: u64,
    }

    impl Class {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                now,
                gathering: Gathering::new(now),
                read: 0,
            }
        }

        /// Receives so many a second, one after the other, and says what was decided last.
        fn receive(&mut self, a_second: u32, time: Duration) -> Option<Duration> {
            let end = self.now + time;
            while self.now < end {
                self.now += SECOND / a_second;
                self.read += 1;
                self.gathering.received(self.now, self.read);
            }
            self.gathering.moment()
        }
    }
}
