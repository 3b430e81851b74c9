//! Being asked for packets again: which of them are sent, how often, and within which bounds.

use std::time::{Duration, Instant};

/// What one slot's subscriber missed lately.
#[derive(Debug, Default)]
pub(super) struct Resends {
    /// By index; allocated by the first request.
    recent: Vec<Option<Asked>>,
}

/// A packet that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    index: u64,
    /// First asked for; once it was sent again: first answered.
    first_at: Instant,
    times: u32,
    /// How often it was sent again, and when last.
    answers: u32,
    answered_at: Option<Instant>,
}

/// How a subscriber's line is, as far as known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineQuality {
    pub(super) round_trip: Option<Duration>,
    /// Loss that is not for too much being sent, 0 to 1.
    pub(super) own_loss: f32,
}

impl LineQuality {
    /// What is important goes out twice.
    pub(super) fn is_very_lossy(&self) -> bool {
        self.own_loss >= VERY_LOSSY
    }
}

/// While the round trip is not known, a second request within this is the same request.
const RESEND_PAUSE: Duration = Duration::from_millis(30);
/// The same on the shortest way.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const RECENT_RESENDS: usize = 256;
/// A browser gives a packet up after ten requests, a round trip apart, and asks for a key frame only three seconds
/// later. Who asks this often, or for this many round trips as some requests are lost, may be about to.
const KEYFRAME_AFTER_REQUESTS: u32 = 5;
const KEYFRAME_AFTER_ROUND_TRIPS: f32 = 4.0;
/// The same after answers.
const KEYFRAME_AFTER_ANSWERS: u32 = 4;
const ANSWERED_FOR_ROUND_TRIPS: f32 = 3.5;
/// What browsers take a round trip for at first.
const USUAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// On a line that loses this much by itself the first answer goes out twice: the next request may be lost.
const VERY_LOSSY: f32 = 0.2;
/// Who asked for a packet as often before it came has few tries left.
const IN_VAIN: u32 = 3;
/// A packet is sent at once, at most.
const MOST_COPIES: u32 = 3;

impl Resends {
    /// Packet `index`, which was first sent at `sent_at`, is asked for at `now`: how often to send it again. The oftener
    /// it was lost, the surer it shall come. What was asked for before the packet could have come was asked for in vain.
    pub(super) fn request(&mut self, now: Instant, index: u64, sent_at: Instant, line: LineQuality) -> u32 {
        // Measured times swing; a request that is refused wrongly costs a round trip.
        let under_way = line.round_trip.map(|time| time - time / 4);
        let asked = self.asked(now, index);
        let (last_at, pause) = match asked.answered_at {
            Some(at) => (
                at,
                under_way.map_or(RESEND_PAUSE, |time| time.max(SHORTEST_PAUSE)),
            ),
            None => (sent_at, under_way.unwrap_or_default()),
        };
        if now.saturating_duration_since(last_at) < pause {
            return 0;
        }
        if asked.answers == 0 {
            asked.first_at = now;
        }
        asked.times += 1;
        asked.answers += 1;
        asked.answered_at = Some(now);
        let least = 1 + u32::from(line.is_very_lossy());
        asked.answers.clamp(least, MOST_COPIES)
    }

    /// Whether packet `index`, which is sent again, was not sent again before: it was lost, and not an answer.
    pub(super) fn is_first_answer(&self, index: u64) -> bool {
        let place = (index % RECENT_RESENDS as u64) as usize;
        let asked = self.recent.get(place).copied().flatten();
        asked.is_some_and(|asked| asked.index == index && asked.answers == 1)
    }

    /// Whether packet `index` was sent again more than once: on a line that loses much its subscriber may give it up
    /// without another word.
    pub(super) fn was_answered_again(&self, index: u64) -> bool {
        let place = (index % RECENT_RESENDS as u64) as usize;
        let asked = self.recent.get(place).copied().flatten();
        asked.is_some_and(|asked| asked.index == index && asked.answers > 1)
    }

    /// Packet `index` is asked for at `now` and not here yet.
    pub(super) fn request_in_vain(&mut self, now: Instant, index: u64) {
        self.asked(now, index).times += 1;
    }

    /// Whether packet `index`, which comes late, shall go out twice: who asked for it has few tries left.
    pub(super) fn was_asked_in_vain(&self, index: u64) -> bool {
        let place = (index % RECENT_RESENDS as u64) as usize;
        let asked = self.recent.get(place).copied().flatten();
        asked.is_some_and(|asked| asked.index == index && asked.times >= IN_VAIN)
    }

    /// Whether the subscriber, who asks for packet `index` at `now`, may be about to give it up.
    pub(super) fn is_hopeless(&mut self, now: Instant, index: u64, line: LineQuality) -> bool {
        let asked = self.asked(now, index);
        let round_trip = line.round_trip.unwrap_or(USUAL_ROUND_TRIP).max(SHORTEST_PAUSE);
        let round_trips = if asked.answers > 0 {
            ANSWERED_FOR_ROUND_TRIPS
        } else {
            KEYFRAME_AFTER_ROUND_TRIPS
        };
        asked.times >= KEYFRAME_AFTER_REQUESTS
            || asked.answers >= KEYFRAME_AFTER_ANSWERS
            || now.saturating_duration_since(asked.first_at) >= round_trip.mul_f32(round_trips)
    }

    fn asked(&mut self, now: Instant, index: u64) -> &mut Asked {
        self.recent.resize(RECENT_RESENDS, None);
        let fresh = Asked {
            index,
            first_at: now,
            times: 0,
            answers: 0,
            answered_at: None,
        };
        let asked = self.recent[(index % RECENT_RESENDS as u64) as usize].get_or_insert(fresh);
        if asked.index != index {
            *asked = fresh;
        }
        asked
    }
}

/// Bytes a subscriber may have sent again: as much as it got in the second before, and never less than a key frame; half of it for
/// packets that go out more than once, so that these shut out none that was not sent again yet. A line that loses a third
/// needs half as much again. An unlimited responder resent 139,000 packets to one starved receiver.
#[derive(Debug)]
pub(super) struct ResendBudget {
    window_start: Instant,
    sent_before_bytes: usize,
    sent_bytes: usize,
    resent_bytes: usize,
}

/// What a subscriber's line allows to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    Usual,
    /// It loses much, and not for too much being sent.
    VeryLossy,
    /// It carries no more than these bits per second.
    Thin(u64),
}

/// What is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It is small, and nobody waits for it in vain.
    Sound,
    Picture,
    /// Of a picture, beside another copy.
    Copy,
}

/// Pictures that are sent again take at most this part of a line that does not carry everything.
const THIN_SHARE: u64 = 5;
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
    pub(super) fn admit(
        &mut self,
        now: Instant,
        bytes: usize,
        urgency: Urgency,
        allowance: Allowance,
    ) -> bool {
        self.roll(now);
        let sent = BUDGET_FLOOR_BYTES.max(self.sent_before_bytes);
        let (most, copies) = match allowance {
            Allowance::Usual => (sent, sent / 2),
            Allowance::VeryLossy => (sent + sent / 2, sent),
            // On a line that is full, what is sent again makes room for more loss.
            Allowance::Thin(bps) => (sent.min((bps / 8 / THIN_SHARE) as usize), 0),
        };
        let allowed = match urgency {
            Urgency::Sound => most.max(sent),
            Urgency::Picture => most,
            Urgency::Copy => copies,
        };
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

    const fn line(round_trip: Option<Duration>, own_loss: f32) -> LineQuality {
        LineQuality { round_trip, own_loss }
    }

    #[test]
    fn a_packet_is_sent_again_once_within_a_round_trip_and_ever_oftener() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut resends = Resends::default();
        let mut request = |after: u64, index, round_trip| {
            resends.request(start + ms(after), index, start, line(round_trip, 0.0))
        };
        assert_eq!(request(0, 7, None), 1);
        assert_eq!(request(29, 7, None), 0);
        assert_eq!(request(29, 8, None), 1);
        assert_eq!(request(30, 7, None), 2);
        let far = Some(ms(80));
        assert_eq!(request(59, 9, far), 0, "it may be under way still");
        assert_eq!(request(60, 9, far), 1);
        assert_eq!(request(119, 9, far), 0);
        assert_eq!(request(120, 9, far), 2);
        assert_eq!(request(129, 9, Some(ms(1))), 0);
        assert_eq!(request(130, 9, Some(ms(1))), 3);
        assert_eq!(request(140, 9, Some(ms(1))), MOST_COPIES);
        assert_eq!(
            resends.request(start, 300, start, line(None, 0.3)),
            2,
            "much is lost anyway"
        );
    }

    #[test]
    fn who_asks_often_or_for_long_may_be_about_to_give_a_packet_up() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let near = line(Some(ms(40)), 0.0);
        let mut resends = Resends::default();
        let mut hopeless = |after: u64, index, here: bool| {
            let now = start + ms(after);
            if here {
                resends.request(now, index, start, near);
            } else {
                resends.request_in_vain(now, index);
            }
            resends.is_hopeless(now, index, near)
        };
        assert_eq!(
            [0, 30, 60, 90, 120].map(|after| hopeless(after, 7, false)),
            [false, false, false, false, true]
        );
        assert_eq!(
            [0, 158, 161].map(|after| hopeless(after, 8, false)),
            [false, false, true],
            "requests between were lost"
        );
        assert_eq!(
            [30, 61, 92, 123].map(|after| hopeless(after, 9, true)),
            [false, false, false, true]
        );
        assert_eq!(
            [30, 168, 171].map(|after| hopeless(after, 10, true)),
            [false, false, true]
        );
        assert!(!hopeless(180, 10 + 256, true), "another packet");
    }

    #[test]
    fn what_comes_late_goes_out_twice_to_who_asked_for_it_often() {
        let start = Instant::now();
        let mut resends = Resends::default();
        for number in 1..=IN_VAIN {
            assert!(!resends.was_asked_in_vain(7));
            resends.request_in_vain(start, 7);
            assert_eq!(resends.was_asked_in_vain(7), number == IN_VAIN);
        }
        assert!(!resends.was_asked_in_vain(7 + 256));
        assert_eq!(
            resends.request(start, 7, start, line(None, 0.0)),
            1,
            "it was never lost so far"
        );
    }

    #[test]
    fn a_subscriber_gets_everything_again_once_at_most_and_half_of_it_in_further_copies() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        assert!(budget.admit(start, BUDGET_FLOOR_BYTES, Urgency::Picture, Allowance::Usual));
        assert!(!budget.admit(start, 1, Urgency::Picture, Allowance::Usual));
        budget.sent(start, 1_000_000);
        let later = start + BUDGET_WINDOW;
        assert!(budget.admit(later, 500_000, Urgency::Copy, Allowance::Usual));
        assert!(!budget.admit(later, 1, Urgency::Copy, Allowance::Usual));
        assert!(budget.admit(later, 500_000, Urgency::Picture, Allowance::Usual));
        assert!(!budget.admit(later, 1, Urgency::Picture, Allowance::Usual));
        assert!(
            !budget.admit(
                later + 3 * BUDGET_WINDOW,
                750_000,
                Urgency::Picture,
                Allowance::Usual
            ),
            "nothing was sent since"
        );
        let thin = Allowance::Thin(400_000);
        let now = later + 6 * BUDGET_WINDOW;
        assert!(budget.admit(now, 10_000, Urgency::Picture, thin));
        assert!(!budget.admit(now, 1, Urgency::Picture, thin));
        assert!(!budget.admit(now, 1, Urgency::Copy, thin));
        assert!(budget.admit(now, 1_000, Urgency::Sound, thin));
    }

    #[test]
    fn a_line_that_loses_much_gets_half_as_much_again() {
        let start = Instant::now();
        let later = start + BUDGET_WINDOW;
        let mut budget = ResendBudget::new(start);
        budget.sent(start, 1_000_000);
        assert!(budget.admit(later, 1_000_000, Urgency::Copy, Allowance::VeryLossy));
        assert!(!budget.admit(later, 1, Urgency::Copy, Allowance::VeryLossy));
        assert!(budget.admit(later, 500_000, Urgency::Picture, Allowance::VeryLossy));
        assert!(!budget.admit(later, 1, Urgency::Picture, Allowance::VeryLossy));
    }
}
