//! Whether a worker lets datagrams gather for a moment before it reads them.
//!
//! A call into the kernel costs more than the packet it carries, and what arrives together goes on together. A moment is
//! only worth it while several datagrams arrive in it; a quiet class is not kept waiting.

use std::time::{Duration, Instant};

/// How long datagrams gather.
const MOMENT: Duration = Duration::from_millis(1);
/// The rate is taken over this time.
const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams of a window from which on they gather: 3,000 a second, three in a moment.
const BEGIN: usize = 300;
/// Datagrams of a window below which they are read at once again.
const END: usize = 200;

/// Counts what arrives.
#[derive(Debug)]
pub(super) struct Gathering {
    window_began: Instant,
    arrived: usize,
    read_at: Instant,
    gathers: bool,
}

impl Gathering {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_began: now,
            arrived: 0,
            read_at: now,
            gathers: false,
        }
    }

    /// Datagrams were read.
    pub(super) fn received(&mut self, now: Instant, datagrams: usize) {
        self.read_at = now;
        self.arrived += datagrams;
    }

    /// When to read next; `None`: as soon as something arrives.
    pub(super) fn until(&mut self, now: Instant) -> Option<Instant> {
        let elapsed = now.saturating_duration_since(self.window_began);
        if elapsed >= WINDOW {
            let least = if self.gathers { END } else { BEGIN };
            // A window that was slept through is longer than it should be.
            let in_a_window = self.arrived as u128 * WINDOW.as_micros() / elapsed.as_micros();
            self.gathers = in_a_window >= least as u128;
            (self.window_began, self.arrived) = (now, 0);
        }
        let until = self.read_at + MOMENT;
        (self.gathers && until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `rate` datagrams a second, one every so often, and says what was decided last.
    fn play(gathering: &mut Gathering, now: &mut Instant, rate: u32, time: Duration) -> Option<Duration> {
        let end = *now + time;
        let mut until = None;
        while *now < end {
            *now += Duration::from_secs(1) / rate;
            gathering.received(*now, 1);
            until = gathering.until(*now);
        }
        until.map(|until| until - *now)
    }

    #[test]
    fn datagrams_gather_only_while_many_arrive() {
        let mut now = Instant::now();
        let mut gathering = Gathering::new(now);
        let second = Duration::from_secs(1);
        assert_eq!(play(&mut gathering, &mut now, 2_500, second), None);
        assert_eq!(play(&mut gathering, &mut now, 4_000, second), Some(MOMENT));
        assert_eq!(
            play(&mut gathering, &mut now, 2_500, second),
            Some(MOMENT),
            "no coming and going at the edge"
        );
        assert_eq!(play(&mut gathering, &mut now, 1_500, second), None);
    }

    #[test]
    fn a_moment_that_is_over_is_not_waited_for_again() {
        let mut now = Instant::now();
        let mut gathering = Gathering::new(now);
        play(&mut gathering, &mut now, 10_000, Duration::from_secs(1));
        let later = now + MOMENT / 2;
        assert_eq!(gathering.until(later), Some(now + MOMENT));
        assert_eq!(gathering.until(now + MOMENT), None);
        assert_eq!(
            gathering.until(now + Duration::from_secs(60)),
            None,
            "and silence ends it"
        );
        assert!(!gathering.gathers);
    }
}
