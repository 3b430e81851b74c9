//! Whether a worker lets more datagrams come before it reads the first.
//!
//! A message to the kernel costs more than the packets in it, and being woken costs more than a message. Where much arrives,
//! a worker does not wait for datagrams at all: it looks for them in a rhythm. Where little arrives, waiting saves nothing
//! (measured with one, eight and two hundred receivers), and nobody is kept waiting.

use std::time::{Duration, Instant};

/// Time between two looks: twice as much would save a class that shows six of thirty another fifth, and a delay of 2 ms
/// would no longer be kept.
const RHYTHM: Duration = Duration::from_millis(1);
/// The same where much is sent, for sending takes its part of the 2 ms; looking more often costs a twentieth.
const BUSY_RHYTHM: Duration = Duration::from_micros(800);
/// Datagrams sent in a second from which on much is sent; looks are rarer again below the half of it. A class of twenty in
/// which everybody sees everybody sends as many.
const BUSY_RATE: u64 = 40_000;
/// How often a worker that reads in a rhythm looks for connections over TCP while there are none: each look is a call into
/// the kernel (a twentieth of what a page of six costs), and a connection may take that much longer to be made.
const LISTENING_PERIOD: Duration = Duration::from_millis(10);
/// The rate is taken over this time.
const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams read in a second from which on reading has a rhythm.
const BEGIN_RATE: u64 = 3_000;
/// Datagrams read in a second below which it has none again.
const END_RATE: u64 = 2_000;

/// What a worker read and sent since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) datagrams_in: u64,
    pub(super) datagrams_out: u64,
}

/// Watches how much arrives and leaves.
#[derive(Debug)]
pub(super) struct Gathering {
    window_began: Instant,
    /// The counts at that time.
    before: Traffic,
    gathers: bool,
    busy: bool,
    /// When TCP was looked for last.
    listened_at: Instant,
}

impl Gathering {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_began: now,
            before: Traffic::default(),
            gathers: false,
            busy: false,
            listened_at: now,
        }
    }

    /// Takes what there was since the start.
    pub(super) fn count(&mut self, now: Instant, traffic: Traffic) {
        let elapsed = now.saturating_duration_since(self.window_began);
        if elapsed < WINDOW {
            return;
        }
        // A window that was waited through is longer than it should be.
        let reaches = |now: u64, before: u64, rate: u64| {
            let counted = u128::from(now.saturating_sub(before));
            counted * Duration::from_secs(1).as_micros() >= u128::from(rate) * elapsed.as_micros()
        };
        let least = if self.gathers { END_RATE } else { BEGIN_RATE };
        self.gathers = reaches(traffic.datagrams_in, self.before.datagrams_in, least);
        let least = if self.busy { BUSY_RATE / 2 } else { BUSY_RATE };
        self.busy = reaches(traffic.datagrams_out, self.before.datagrams_out, least);
        (self.window_began, self.before) = (now, traffic);
    }

    /// How long after the last time datagrams are read again, whether or not there are any; `None`: when there are.
    pub(super) fn rhythm(&self) -> Option<Duration> {
        let rhythm = if self.busy { BUSY_RHYTHM } else { RHYTHM };
        self.gathers.then_some(rhythm)
    }

    /// Whether it is time to look for what happened on TCP, on which there are connections or none.
    pub(super) fn listens(&mut self, now: Instant, connected: bool) -> bool {
        let due = connected || now >= self.listened_at + LISTENING_PERIOD;
        if due {
            self.listened_at = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn datagrams_are_read_in_a_rhythm_only_while_many_arrive() {
        let mut class = Class::new();
        assert_eq!(class.receive(2_500, SECOND), None);
        assert_eq!(class.receive(3_500, SECOND), Some(RHYTHM));
        assert_eq!(
            class.receive(2_500, SECOND),
            Some(RHYTHM),
            "no coming and going at the edge"
        );
        assert_eq!(class.receive(1_500, SECOND), None);
    }

    #[test]
    fn where_much_is_sent_datagrams_are_read_more_often() {
        let mut class = Class::new();
        class.fanout = 6;
        assert_eq!(class.receive(4_000, SECOND), Some(RHYTHM));
        class.fanout = 29;
        assert_eq!(class.receive(4_000, SECOND), Some(BUSY_RHYTHM));
        class.fanout = 8;
        assert_eq!(class.receive(4_000, SECOND), Some(BUSY_RHYTHM));
        class.fanout = 4;
        assert_eq!(class.receive(4_000, SECOND), Some(RHYTHM));
    }

    #[test]
    fn a_burst_after_silence_is_not_a_rate() {
        let mut class = Class::new();
        class.now += 60 * SECOND;
        assert_eq!(class.receive(1_000, Duration::from_millis(5)), None);
        assert_eq!(class.receive(10_000, SECOND), Some(RHYTHM));
        class.now += 60 * SECOND;
        assert_eq!(
            class.receive(1_000, Duration::from_millis(5)),
            None,
            "silence ends it"
        );
    }

    #[test]
    fn connections_are_looked_for_at_once_where_there_are_some_and_else_now_and_then() {
        let start = Instant::now();
        let mut gathering = Gathering::new(start);
        let looks = |gathering: &mut Gathering, connected| {
            let turns = (1..=100).filter(|turn| gathering.listens(start + *turn * RHYTHM, connected));
            turns.count()
        };
        assert_eq!(looks(&mut gathering, false), 10);
        assert_eq!(looks(&mut Gathering::new(start), true), 100);
    }

    struct Class {
        now: Instant,
        gathering: Gathering,
        traffic: Traffic,
        /// Datagrams sent for each that comes.
        fanout: u64,
    }

    impl Class {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                now,
                gathering: Gathering::new(now),
                traffic: Traffic::default(),
                fanout: 1,
            }
        }

        /// Receives so many a second, one after the other, and says what was decided last.
        fn receive(&mut self, a_second: u32, time: Duration) -> Option<Duration> {
            let end = self.now + time;
            while self.now < end {
                self.now += SECOND / a_second;
                self.traffic.datagrams_in += 1;
                self.traffic.datagrams_out += self.fanout;
                self.gathering.count(self.now, self.traffic);
            }
            self.gathering.rhythm()
        }
    }
}
