//! When each seat has something to do, kept beside the seats: a class waits for its next timer a thousand times a second,
//! and looking through everybody's lines for it cost a seminar a sixth of its time.

use std::time::Instant;

/// The next time of each seat.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// By seat.
    at: Vec<Option<Instant>>,
}

impl Timers {
    /// Sets when a seat has something to do; `None`: nothing.
    pub(super) fn set(&mut self, seat: usize, at: Option<Instant>) {
        if seat >= self.at.len() {
            self.at.resize(seat + 1, None);
        }
        self.at[seat] = at;
    }

    /// Whether a seat has something to do.
    pub(super) fn is_due(&self, seat: usize, now: Instant) -> bool {
        let at = self.at.get(seat).copied().flatten();
        at.is_some_and(|at| at <= now)
    }

    /// The earliest of all.
    pub(super) fn next(&self) -> Option<Instant> {
        self.at.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_seat_is_next_and_only_who_is_due_is_told_so() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(3, Some(later));
        timers.set(1, Some(now));
        assert_eq!(timers.next(), Some(now));
        assert!(timers.is_due(1, now) && !timers.is_due(3, now) && !timers.is_due(9, later));
        timers.set(1, None);
        assert_eq!(timers.next(), Some(later));
    }
}
