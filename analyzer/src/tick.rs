//! When ticks are: wall-clock multiples of the period, evenly spaced even when the wall clock is set.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Monotonic.
    pub(crate) at: Instant,
    /// Wall clock; may jump.
    pub(crate) wall: Timestamp,
}

impl Moment {
    /// What the wall clock will show at `at`, if nobody sets it.
    fn wall_at(self, at: Instant) -> Timestamp {
        let (ahead, behind) = (
            at.saturating_duration_since(self.at),
            self.at.saturating_duration_since(at),
        );
        shifted(self.wall, nanos(ahead) - nanos(behind))
    }
}

/// A tick: its name and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// A multiple of the period since 1970; stands in names and rows.
    pub(crate) named: Timestamp,
    /// When it is.
    pub(crate) at: Instant,
}

/// The sequence of ticks that all rooms share.
///
/// While the wall clock runs evenly a tick is due exactly when the wall clock shows its name. When the clock is set,
/// names follow it by whole periods at once, and the rest of the step is made up by at most 5 % of a period (and
/// 0.5 s) a tick, so that the distance of two ticks stays within 0.5 s of a ten-second period. Only a rest above 5 s,
/// possible with periods above 10 s, is made up at once.
#[derive(Debug)]
pub(crate) struct TickClock {
    period: Duration,
}

/// A rest larger than this is not made up little by little: names would stay wrong for too long.
const LARGEST_REST: i128 = 5_000_000_000;
/// Most that one tick makes up, the promised evenness of captures.
const MOST_MADE_UP: i128 = 500_000_000;

impl TickClock {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period }
    }

    /// The first tick at least `lead` after `now`.
    pub(crate) fn first(&self, now: Moment, lead: Duration) -> Tick {
        let earliest = now.wall.as_nanosecond() + nanos(lead);
        let period = nanos(self.period);
        let named = earliest + (period - earliest.rem_euclid(period)) % period;
        let wait = u64::try_from(named - now.wall.as_nanosecond()).unwrap_or(0);
        Tick {
            named: at_nanosecond(named),
            at: now.at + Duration::from_nanos(wait),
        }
    }

    /// The tick that follows `previous`; at least `lead` after `now`, unless the even spacing itself comes before that.
    pub(crate) fn next(&self, previous: Tick, now: Moment, lead: Duration) -> Tick {
        let period = nanos(self.period);
        let even = previous.at + self.period;
        // How far the wall clock will be ahead of the name the even spacing would give.
        let ahead = now.wall_at(even).as_nanosecond() - (previous.named.as_nanosecond() + period);
        let whole = (ahead + period / 2).div_euclid(period) * period;
        let rest = ahead - whole;
        let most = (period / 20).min(MOST_MADE_UP);
        let made_up = if rest.abs() > LARGEST_REST {
            rest
        } else {
            rest.clamp(-most, most)
        };
        let magnitude = Duration::from_nanos(u64::try_from(made_up.unsigned_abs()).unwrap_or(0));
        // `rest` is at most half a period, so the subtraction never reaches before `previous`.
        let at = if made_up >= 0 {
            even - magnitude
        } else {
            even + magnitude
        };
        Tick {
            named: shifted(previous.named, period + whole),
            // A clock set just before a tick would pull it into the past, where nobody was counted. The next makes up more.
            at: at.max(even.min(now.at + lead)),
        }
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

fn at_nanosecond(nanosecond: i128) -> Timestamp {
    Timestamp::from_nanosecond(nanosecond).unwrap_or(Timestamp::MAX)
}

fn shifted(time: Timestamp, by_nanos: i128) -> Timestamp {
    let by = SignedDuration::from_nanos(i64::try_from(by_nanos).unwrap_or(i64::MAX));
    time.checked_add(by).unwrap_or(if by_nanos < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);
    const LEAD: Duration = Duration::from_millis(400);

    fn moment(base: Instant, after_ms: u64, wall_ms: i64) -> Moment {
        Moment {
            at: base + Duration::from_millis(after_ms),
            wall: Timestamp::from_millisecond(wall_ms).expect("in range"),
        }
    }

    fn spacing_ms(first: Tick, second: Tick) -> u128 {
        second.at.duration_since(first.at).as_millis()
    }

    #[test]
    fn ticks_are_multiples_of_the_period() {
        let base = Instant::now();
        let now = moment(base, 0, 1_000_003_700);
        let clock = TickClock::new(PERIOD);
        let first = clock.first(now, Duration::from_millis(400));
        assert_eq!(first.named.as_millisecond(), 1_000_010_000);
        assert_eq!(first.at, base + Duration::from_millis(6_300));
        let second = clock.next(first, now, LEAD);
        assert_eq!(
            (second.named.as_millisecond(), spacing_ms(first, second)),
            (1_000_020_000, 10_000)
        );
    }

    #[test]
    fn an_hour_forward_or_back_keeps_the_spacing_and_the_phase() {
        let base = Instant::now();
        let clock = TickClock::new(PERIOD);
        let first = clock.first(moment(base, 0, 1_000_000_000), Duration::ZERO);
        for jump_ms in [3_600_000, -3_600_000] {
            let next = clock.next(first, moment(base, 2_000, 1_000_002_000 + jump_ms), LEAD);
            assert_eq!(spacing_ms(first, next), 10_000);
            assert_eq!(next.named.as_millisecond(), 1_000_010_000 + jump_ms);
        }
    }

    proptest! {
        #[test]
        fn a_clock_set_at_any_time_puts_no_tick_into_the_past(
            set_after_ms in 0_u64..9_500, jump_ms in -4_000_000_i64..4_000_000, period_s in 10_u64..=60,
        ) {
            let base = Instant::now();
            let clock = TickClock::new(Duration::from_secs(period_s));
            let first = clock.first(moment(base, 0, 1_000_000_000), Duration::ZERO);
            let since_ms = u64::try_from(first.at.duration_since(base).as_millis()).expect("small") + set_after_ms;
            let wall = 1_000_000_000 + i64::try_from(since_ms).expect("small") + jump_ms;
            let now = moment(base, since_ms, wall);
            let next = clock.next(first, now, LEAD);
            prop_assert!(next.at >= now.at + LEAD, "{:?}", next.at.checked_duration_since(now.at));
        }

        #[test]
        fn any_clock_step_keeps_ticks_even_and_is_made_up_in_the_end(
            start_ms in 1_000_000_000_000_i64..2_000_000_000_000,
            jump_ms in -4_000_000_i64..4_000_000,
            period_s in 2_u64..=10,
        ) {
            let base = Instant::now();
            let clock = TickClock::new(Duration::from_secs(period_s));
            let period_ms = i64::try_from(period_s * 1_000).expect("small");
            let mut tick = clock.first(moment(base, 0, start_ms), Duration::ZERO);
            for _ in 0..40 {
                let passed = u64::try_from(tick.at.duration_since(base).as_millis()).expect("small");
                let wall = start_ms + i64::try_from(passed).expect("small") + jump_ms;
                let next = clock.next(tick, moment(base, passed, wall), LEAD);
                let spacing = i64::try_from(spacing_ms(tick, next)).expect("small");
                prop_assert!((spacing - period_ms).abs() <= 500.min(period_ms / 20 + 1), "{spacing}");
                prop_assert_eq!(next.named.as_millisecond() % period_ms, 0);
                tick = next;
            }
            let passed = i64::try_from(tick.at.duration_since(base).as_millis()).expect("small");
            prop_assert!((start_ms + passed + jump_ms - tick.named.as_millisecond()).abs() <= 2);
        }

        #[test]
        fn ticks_never_go_back_on_the_monotonic_clock(jump_ms in -40_000_000_i64..40_000_000, period_s in 2_u64..=3600) {
            let base = Instant::now();
            let clock = TickClock::new(Duration::from_secs(period_s));
            let first = clock.first(moment(base, 0, 1_500_000_000_000), Duration::ZERO);
            let next = clock.next(first, moment(base, 0, 1_500_000_000_000 + jump_ms), LEAD);
            prop_assert!(spacing_ms(first, next) >= u128::from(period_s) * 500 - 1);
            prop_assert!(spacing_ms(first, next) <= u128::from(period_s) * 1_500 + 1);
        }
    }
}
