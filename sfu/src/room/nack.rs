//! Asking for missing packets again, and being asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The packets of one source that are missing. Requests go out whether or not anybody watches: the recorder does.
#[derive(Debug, Default)]
pub(super) struct Missing {
    packets: BTreeMap<u64, Attempt>,
    /// From a request to the packet, at best.
    round_trip: Option<Duration>,
    hopeless: bool,
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
            self.hopeless = true;
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
            self.hopeless = true;
        }
    }

    /// Puts the sequence numbers to be asked for at `now` into `due`, in order. Whether one of them was asked for in vain
    /// more than once.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<u16>) -> bool {
        let mut urgent = false;
        let least = self.round_trip.map_or(Duration::ZERO, |time| time + time / 4);
        let hopeless = &mut self.hopeless;
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
            *hopeless |= attempt.made == KEYFRAME_AFTER;
            match DELAYS.get(attempt.made) {
                Some(delay) => attempt.next_at = now + least.max(*delay),
                None => return false,
            }
            true
        });
        urgent
    }

    /// Whether a packet hardly comes any more: what follows it cannot be decoded.
    pub(super) fn take_hopeless(&mut self) -> bool {
        std::mem::take(&mut self.hopeless)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.packets.values().map(|attempt| attempt.next_at).min()
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

/// The packets of one slot that were sent again lately.
#[derive(Debug, Default)]
pub(super) struct Resends {
    /// By index; allocated by the first request.
    recent: Vec<Option<Resend>>,
}

#[derive(Clone, Copy, Debug)]
struct Resend {
    index: u64,
    times: u32,
    last_at: Instant,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The packet may be under way still.
    TooSoon,
    /// It is sent again.
    Admitted,
    /// It is sent again, twice: it was lost on its way at least twice.
    Twice,
    /// As before, and a key frame is wished: the picture shall not stand still for long.
    BadLine,
}

/// While the round trip is not known, a second request within this is the same request.
const RESEND_PAUSE: Duration = Duration::from_millis(30);
/// The same on the shortest way.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const RECENT_RESENDS: usize = 256;
/// Who asks for a packet this often has a line on which a browser may give one up: it does after ten requests, and asks
/// for a key frame only three seconds later.
const KEYFRAME_AFTER_REQUESTS: u32 = 4;

impl Resends {
    /// Whether packet `index`, first sent at `sent_at`, may be sent again at `now`; notes it. What was asked for before
    /// the packet could have come was asked for in vain.
    pub(super) fn request(
        &mut self,
        now: Instant,
        index: u64,
        sent_at: Instant,
        round_trip: Option<Duration>,
    ) -> Request {
        self.recent.resize(RECENT_RESENDS, None);
        // Measured times swing; a request that is refused wrongly costs a round trip.
        let under_way = round_trip.map(|time| time - time / 4);
        let place = &mut self.recent[(index % RECENT_RESENDS as u64) as usize];
        let earlier = place.filter(|earlier| earlier.index == index);
        let too_soon = match earlier {
            Some(earlier) => {
                now.saturating_duration_since(earlier.last_at)
                    < under_way.map_or(RESEND_PAUSE, |time| time.max(SHORTEST_PAUSE))
            }
            None => under_way.is_some_and(|time| now.saturating_duration_since(sent_at) < time),
        };
        if too_soon {
            return Request::TooSoon;
        }
        let times = earlier.map_or(1, |earlier| earlier.times + 1);
        *place = Some(Resend {
            index,
            times,
            last_at: now,
        });
        match times {
            1 => Request::Admitted,
            times if times < KEYFRAME_AFTER_REQUESTS => Request::Twice,
            _ => Request::BadLine,
        }
    }
}

/// Bytes a subscriber may have sent again: three quarters of what it got in the second before, and never less than a key frame: a
/// line that loses a third needs that much. An unlimited responder resent 139,000 packets to one starved receiver.
#[derive(Debug)]
pub(super) struct ResendBudget {
    window_start: Instant,
    sent_before_bytes: usize,
    sent_bytes: usize,
    resent_bytes: usize,
}

const BUDGET_WINDOW: Duration = Duration::from_secs(1);
const BUDGET_FLOOR_BYTES: usize = 64_000;

impl ResendBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_start: now,
            sent_before_bytes: 0,
            sent_bytes: 0,
            resent_bytes: 0,
        }
    }

    pub(super) fn sent(&mut self, now: Instant, bytes: usize) {
        self.roll(now);
        self.sent_bytes += bytes;
    }

    /// Whether `bytes` may be sent again; takes them from the budget.
    pub(super) fn admit(&mut self, now: Instant, bytes: usize) -> bool {
        self.roll(now);
        let allowed = BUDGET_FLOOR_BYTES.max(self.sent_before_bytes / 4 * 3);
        if self.resent_bytes + bytes > allowed {
            return false;
        }
        self.resent_bytes += bytes;
        true
    }

    fn roll(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.window_start);
        if age < BUDGET_WINDOW {
            return;
        }
        self.sent_before_bytes = if age < 2 * BUDGET_WINDOW {
            self.sent_bytes
        } else {
            0
        };
        (self.sent_bytes, self.resent_bytes) = (0, 0);
        self.window_start = now;
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
        assert_eq!((missing.deadline(), missing.take_hopeless()), (None, true));
        for index in 1..20 {
            missing.received(start, 1000 + index * 100, 1000 + (index - 1) * 100);
        }
        assert!(missing.packets.len() <= MAX_MISSING_PACKETS);
    }

    #[test]
    fn a_packet_is_sent_again_once_within_a_round_trip() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut resends = Resends::default();
        let mut request =
            |after: u64, index, round_trip| resends.request(start + ms(after), index, start, round_trip);
        assert_eq!(request(0, 7, None), Request::Admitted);
        assert_eq!(request(29, 7, None), Request::TooSoon);
        assert_eq!(request(29, 8, None), Request::Admitted);
        assert_eq!(request(30, 7, None), Request::Twice);
        let far = Some(ms(80));
        assert_eq!(request(59, 9, far), Request::TooSoon, "it may be under way still");
        assert_eq!(request(60, 9, far), Request::Admitted);
        assert_eq!(request(119, 9, far), Request::TooSoon);
        assert_eq!(request(120, 9, far), Request::Twice);
        assert_eq!(request(129, 9, Some(ms(1))), Request::TooSoon);
        assert_eq!(request(130, 9, Some(ms(1))), Request::Twice);
        assert_eq!(request(140, 9, Some(ms(1))), Request::BadLine);
    }

    #[test]
    fn a_subscriber_gets_three_quarters_again_at_most() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        assert!(budget.admit(start, BUDGET_FLOOR_BYTES));
        assert!(!budget.admit(start, 1));
        budget.sent(start, 1_000_000);
        let later = start + BUDGET_WINDOW;
        assert!(budget.admit(later, 750_000));
        assert!(!budget.admit(later, 1));
        assert!(
            !budget.admit(later + 3 * BUDGET_WINDOW, 750_000),
            "nothing was sent since"
        );
    }
}
