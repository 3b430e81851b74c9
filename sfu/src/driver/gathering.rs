//! Whether a worker lets more datagrams come before it reads the first.
//!
//! A message to the kernel costs more than the packets in it, and packets of one frame that are read together go to each
//! receiver as one message. Where much arrives, a worker does not wait for datagrams at all: it looks for them in a rhythm,
//! and is woken half as often. Where little arrives but much of it leaves, a datagram waits a moment for the rest of its
//! frame. A quiet class is not kept waiting: there, waiting costs more than it saves (measured with one sender and with
//! eight).

use std::time::{Duration, Instant};

/// How long the first datagram waits for others, at most.
const MOMENT: Duration = Duration::from_millis(1);
/// The rates are taken over this time.
const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams read in a second from which on, and below which no longer, reading has a rhythm.
const RHYTHM: Rates = Rates {
    begin: 3_000,
    end: 2_000,
};
/// Datagrams sent in a second from which on, and below which no longer, what was read waits for its frame.
const FRAMES: Rates = Rates {
    begin: 10_000,
    end: 7_000,
};

/// Two, so that a class at the edge does not come and go.
struct Rates {
    begin: u64,
    end: u64,
}

/// When datagrams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As soon as the first is there.
    AtOnce,
    /// So long after the first.
    After(Duration),
    /// In so long from the last time, whether or not there are any.
    Every(Duration),
}

/// Watches how much arrives and leaves.
#[derive(Debug)]
pub(super) struct Gathering {
    window_began: Instant,
    /// The counts at that time.
    before: (u64, u64),
    pace: Pace,
}

impl Gathering {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_began: now,
            before: (0, 0),
            pace: Pace::AtOnce,
        }
    }

    /// Takes how many datagrams were read and sent since the start.
    pub(super) fn count(&mut self, now: Instant, read: u64, sent: u64) {
        let elapsed = now.saturating_duration_since(self.window_began);
        if elapsed < WINDOW {
            return;
        }
        // A window that was waited through is longer than it should be.
        let reaches = |count: u64, before: u64, rates: Rates, going: bool| {
            let least = if going { rates.end } else { rates.begin };
            u128::from(count.saturating_sub(before)) * Duration::from_secs(1).as_micros()
                >= u128::from(least) * elapsed.as_micros()
        };
        let (read_before, sent_before) = self.before;
        let rhythm = reaches(read, read_before, RHYTHM, matches!(self.pace, Pace::Every(_)));
        let frames = reaches(sent, sent_before, FRAMES, self.pace != Pace::AtOnce);
        self.pace = match (rhythm, frames) {
            (true, _) => Pace::Every(MOMENT),
            (false, true) => Pace::After(MOMENT),
            (false, false) => Pace::AtOnce,
        };
        (self.window_began, self.before) = (now, (read, sent));
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn datagrams_are_read_in_a_rhythm_only_while_many_arrive() {
        let mut class = Class::new(1);
        assert_eq!(class.receive(2_500, SECOND), Pace::AtOnce);
        assert_eq!(class.receive(3_500, SECOND), Pace::Every(MOMENT));
        assert_eq!(
            class.receive(2_500, SECOND),
            Pace::Every(MOMENT),
            "no coming and going at the edge"
        );
        assert_eq!(class.receive(1_500, SECOND), Pace::AtOnce);
    }

    #[test]
    fn frames_are_waited_for_while_little_comes_and_much_goes() {
        let mut class = Class::new(100);
        assert_eq!(class.receive(90, SECOND), Pace::AtOnce);
        assert_eq!(class.receive(120, SECOND), Pace::After(MOMENT));
        assert_eq!(class.receive(90, SECOND), Pace::After(MOMENT));
        assert_eq!(class.receive(3_500, SECOND), Pace::Every(MOMENT));
        assert_eq!(class.receive(90, SECOND), Pace::After(MOMENT));
        assert_eq!(class.receive(50, SECOND), Pace::AtOnce);
    }

    #[test]
    fn a_burst_after_silence_is_not_a_rate() {
        let mut class = Class::new(1);
        class.now += 60 * SECOND;
        assert_eq!(class.receive(1_000, Duration::from_millis(5)), Pace::AtOnce);
        assert_eq!(class.receive(10_000, SECOND), Pace::Every(MOMENT));
        class.now += 60 * SECOND;
        assert_eq!(
            class.receive(1_000, Duration::from_millis(5)),
            Pace::AtOnce,
            "silence ends it"
        );
    }

    struct Class {
        now: Instant,
        gathering: Gathering,
        read: u64,
        watchers: u64,
    }

    impl Class {
        fn new(watchers: u64) -> Self {
            let now = Instant::now();
            Self {
                now,
                gathering: Gathering::new(now),
                read: 0,
                watchers,
            }
        }

        /// Receives so many a second, one after the other, sends each to every watcher, and says what was decided last.
        fn receive(&mut self, a_second: u32, time: Duration) -> Pace {
            let end = self.now + time;
            while self.now < end {
                self.now += SECOND / a_second;
                self.read += 1;
                self.gathering
                    .count(self.now, self.read, self.read * self.watchers);
            }
            self.gathering.pace()
        }
    }
}
