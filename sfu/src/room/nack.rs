//! Asking senders for missing packets again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The packets of one source that are missing. Requests go out whether or not anybody watches: the recorder does.
#[derive(Debug, Default)]
pub(super) struct Missing {
    packets: BTreeMap<u64, Attempt>,
    /// From a request to the packet, at best.
    round_trip: Option<Duration>,
    /// Since when a key frame is the only remedy.
    hopeless: Option<Instant>,
    /// Where the newest key frame begins: nobody waits for what is before it.
    keyframe: u64,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    made: usize,
    first_at: Instant,
    next_at: Instant,
}

/// Time before each request: reordering gets 5 ms, an answer a round trip. Five are within the 200 ms for which assemblers
/// wait; the others are for who watches.
const DELAYS: [Duration; 10] = [
    Duration::from_millis(5),
    Duration::from_millis(30),
    Duration::from_millis(40),
    Duration::from_millis(50),
    Duration::from_millis(60),
    Duration::from_millis(60),
    Duration::from_millis(60),
    Duration::from_millis(60),
    Duration::from_millis(60),
    Duration::from_millis(60),
];
/// After so many requests a key frame is wished as well: a picture shall not stand still for longer.
const KEYFRAME_AFTER: usize = 5;
/// More missing packets at once are an outage: a key frame mends it cheaper.
const MAX_GAP_PACKETS: u64 = 128;
/// Bound of the memory; the oldest are given up first.
const MAX_MISSING_PACKETS: usize = 256;
/// A round trip is not believed to be longer.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(500);

impl Missing {
    /// Packet `index` came while `highest` was the highest so far.
    pub(super) fn received(&mut self, now: Instant, index: u64, highest: u64) {
        if index <= highest {
            if let Some(attempt) = self.packets.remove(&index).filter(|attempt| attempt.made > 0) {
                self.answered(now.saturating_duration_since(attempt.first_at));
            }
            return;
        }
        if index - highest > MAX_GAP_PACKETS {
            self.packets.clear();
            self.hopeless.get_or_insert(now);
            return;
        }
        for missing in highest + 1..index {
            self.packets.insert(
                missing,
                Attempt {
                    made: 0,
                    first_at: now,
                    next_at: now + DELAYS[0],
                },
            );
        }
        while self.packets.len() > MAX_MISSING_PACKETS {
            self.packets.pop_first();
            self.hopeless.get_or_insert(now);
        }
    }

    /// Puts the sequence numbers to be asked for at `now` into `due`, in order. Whether one of them was asked for in vain
    /// more than once.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<u16>) -> bool {
        let mut urgent = false;
        let least = self.round_trip.map_or(Duration::ZERO, |time| time + time / 4);
        let (hopeless, keyframe) = (&mut self.hopeless, self.keyframe);
        self.packets.retain(|index, attempt| {
            if attempt.next_at > now {
                return true;
            }
            due.push(*index as u16);
            if attempt.made == 0 {
                attempt.first_at = now;
            }
            attempt.made += 1;
            urgent |= attempt.made > 2;
            if attempt.made == KEYFRAME_AFTER && *index >= keyframe {
                hopeless.get_or_insert(now);
            }
            match DELAYS.get(attempt.made) {
                Some(delay) => attempt.next_at = now + least.max(*delay),
                None => return false,
            }
            true
        });
        urgent
    }

    /// A key frame begins with packet `index`.
    pub(super) fn keyframe(&mut self, index: u64) {
        self.keyframe = self.keyframe.max(index);
    }

    /// Whether a packet hardly comes any more: what follows it cannot be decoded.
    pub(super) fn take_hopeless(&mut self) -> bool {
        self.hopeless.take().is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let attempts = self.packets.values().map(|attempt| attempt.next_at);
        attempts.chain(self.hopeless).min()
    }

    /// Where the first request or its answer was lost the time is too long, and never too short: it falls fast and
    /// rises slowly.
    fn answered(&mut self, after: Duration) {
        let after = after.min(LONGEST_ROUND_TRIP);
        self.round_trip = Some(match self.round_trip {
            Some(before) if after > before => before + (after - before) / 16,
            Some(before) => before - (before - after) / 2,
            None => after,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(missing: &mut Missing, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        missing.take_due(now, &mut due);
        due
    }

    #[test]
    fn a_gap_is_asked_for_ten_times_and_for_a_key_frame_before_the_end() {
        let start = Instant::now();
        let mut missing = Missing::default();
        missing.received(start, 13, 10);
        assert_eq!(missing.deadline(), Some(start + DELAYS[0]));
        assert!(due(&mut missing, start).is_empty());
        let mut asked = Vec::new();
        let mut hopeless = Vec::new();
        while let Some(now) = missing.deadline() {
            assert_eq!(due(&mut missing, now), [11, 12]);
            asked.push(now - start);
            hopeless.extend(missing.take_hopeless().then_some(asked.len()));
        }
        assert_eq!((asked.len(), hopeless), (DELAYS.len(), vec![KEYFRAME_AFTER]));
        assert!(asked[4] < Duration::from_millis(200), "{asked:?}");
    }

    #[test]
    fn requests_are_a_round_trip_apart_where_it_is_long() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut missing = Missing::default();
        missing.received(start, 12, 10);
        assert_eq!(due(&mut missing, start + ms(5)), [11]);
        missing.received(start + ms(125), 11, 12);
        missing.received(start + ms(200), 14, 12);
        assert_eq!(due(&mut missing, start + ms(205)), [13]);
        assert_eq!(
            missing.deadline(),
            Some(start + ms(205 + 150)),
            "120 ms and a quarter"
        );
        missing.received(start + ms(225), 13, 14);
        missing.received(start + ms(300), 16, 14);
        assert_eq!(due(&mut missing, start + ms(305)), [15]);
        assert!(missing.deadline() < Some(start + ms(305 + 100)), "falls fast");
    }

    #[test]
    fn what_comes_is_not_asked_for() {
        let start = Instant::now();
        let mut missing = Missing::default();
        missing.received(start, 65_538, 65_534);
        missing.received(start, 65_536, 65_538);
        assert_eq!(due(&mut missing, start + DELAYS[0]), [65535, 1]);
    }

    #[test]
    fn an_outage_is_not_asked_for_and_memory_is_bounded() {
        let start = Instant::now();
        let mut missing = Missing::default();
        missing.received(start, 140, 10);
        assert_eq!(missing.deadline(), Some(start), "a key frame is due");
        assert!(missing.take_hopeless());
        assert_eq!(missing.deadline(), None);
        for index in 1..20 {
            missing.received(start, 1000 + index * 100, 1000 + (index - 1) * 100);
        }
        assert!(missing.packets.len() <= MAX_MISSING_PACKETS);
    }
}
