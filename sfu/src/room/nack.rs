//! Asking for missing packets again, and being asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The packets of one source that are missing. Requests go out whether or not anybody watches: the recorder does.
#[derive(Debug, Default)]
pub(super) struct Missing {
    packets: BTreeMap<u64, Attempt>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    made: usize,
    next_at: Instant,
}

/// Time before each request: reordering gets 5 ms, an answer a round trip; all within the 200 ms for which assemblers
/// wait.
const DELAYS: [Duration; 5] = [
    Duration::from_millis(5),
    Duration::from_millis(30),
    Duration::from_millis(40),
    Duration::from_millis(50),
    Duration::from_millis(60),
];
/// More missing packets at once are an outage: a key frame mends it cheaper.
const MAX_GAP_PACKETS: u64 = 128;
/// Bound of the memory; the oldest are given up first.
const MAX_MISSING_PACKETS: usize = 256;

impl Missing {
    /// Packet `index` came while `highest` was the highest so far.
    pub(super) fn received(&mut self, now: Instant, index: u64, highest: u64) {
        if index <= highest {
            self.packets.remove(&index);
            return;
        }
        if index - highest > MAX_GAP_PACKETS {
            self.packets.clear();
            return;
        }
        for missing in highest + 1..index {
            self.packets.insert(
                missing,
                Attempt {
                    made: 0,
                    next_at: now + DELAYS[0],
                },
            );
        }
        while self.packets.len() > MAX_MISSING_PACKETS {
            self.packets.pop_first();
        }
    }

    /// Puts the sequence numbers to be asked for at `now` into `due`, in order.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<u16>) {
        self.packets.retain(|index, attempt| {
            if attempt.next_at > now {
                return true;
            }
            due.push(*index as u16);
            attempt.made += 1;
            match DELAYS.get(attempt.made) {
                Some(delay) => attempt.next_at = now + *delay,
                None => return false,
            }
            true
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.packets.values().map(|attempt| attempt.next_at).min()
    }
}

/// The packets of one slot that were sent again lately.
#[derive(Debug, Default)]
pub(super) struct Resends {
    /// By index; allocated by the first request.
    recent: Vec<Option<(u64, Instant)>>,
}

/// Within a round trip a request for the same packet is the same request.
const RESEND_PAUSE: Duration = Duration::from_millis(30);
const RECENT_RESENDS: usize = 256;

impl Resends {
    /// Whether packet `index` may be sent again at `now`; notes it.
    pub(super) fn admit(&mut self, now: Instant, index: u64) -> bool {
        self.recent.resize(RECENT_RESENDS, None);
        let recent = &mut self.recent[(index % RECENT_RESENDS as u64) as usize];
        if recent.is_some_and(|(of, at)| of == index && now.saturating_duration_since(at) < RESEND_PAUSE) {
            return false;
        }
        *recent = Some((index, now));
        true
    }
}

/// Bytes a subscriber may have sent again: a quarter of what it got in the second before, and never less than
/// a key frame. An unlimited responder resent 139,000 packets to one starved receiver.
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
        let allowed = BUDGET_FLOOR_BYTES.max(self.sent_before_bytes / 4);
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
    fn a_gap_is_asked_for_five_times_and_then_given_up() {
        let start = Instant::now();
        let mut missing = Missing::default();
        missing.received(start, 13, 10);
        assert_eq!(missing.deadline(), Some(start + DELAYS[0]));
        assert!(due(&mut missing, start).is_empty());
        let mut asked = 0;
        let mut now = start;
        while let Some(deadline) = missing.deadline() {
            now = deadline;
            assert_eq!(due(&mut missing, now), [11, 12]);
            asked += 1;
        }
        assert_eq!(asked, 5);
        assert!(now - start < Duration::from_millis(200));
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
        assert_eq!(missing.deadline(), None);
        for index in 1..20 {
            missing.received(start, 1000 + index * 100, 1000 + (index - 1) * 100);
        }
        assert!(missing.packets.len() <= MAX_MISSING_PACKETS);
    }

    #[test]
    fn a_packet_is_sent_again_once_within_a_round_trip() {
        let start = Instant::now();
        let mut resends = Resends::default();
        assert!(resends.admit(start, 7));
        assert!(!resends.admit(start + Duration::from_millis(29), 7));
        assert!(resends.admit(start, 8));
        assert!(resends.admit(start + RESEND_PAUSE, 7));
    }

    #[test]
    fn a_subscriber_gets_a_quarter_again_at_most() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        assert!(budget.admit(start, BUDGET_FLOOR_BYTES));
        assert!(!budget.admit(start, 1));
        budget.sent(start, 1_000_000);
        let later = start + BUDGET_WINDOW;
        assert!(budget.admit(later, 250_000));
        assert!(!budget.admit(later, 1));
        assert!(
            !budget.admit(later + 3 * BUDGET_WINDOW, 250_000),
            "nothing was sent since"
        );
    }
}
