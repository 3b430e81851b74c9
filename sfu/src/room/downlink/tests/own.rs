//! Loss that is the line's own, and how it is told from that of too much being sent.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::queue::STANDING_QUEUE;
use super::*;

#[test]
fn a_lossy_line_before_which_nothing_stands_is_not_thin_whatever_a_browser_estimates() {
    let start = Instant::now();
    let mut line = Downlink::default();
    let mut limited = 0;
    for second in 0..60 {
        let now = start + Duration::from_secs(second);
        let sent_bps = line.limit_bps().map_or(1_200_000, |limit| limit.min(1_200_000));
        for ms in [100, 300, 700] {
            // A way is longer at times.
            let queue = Duration::from_millis(if ms == 300 { 120 } else { 5 });
            line.handle_queue(now + Duration::from_millis(ms), queue, sent_bps);
        }
        for ms in [200, 600, 900] {
            // What comes by repair comes late, and looks like a queue.
            line.handle_estimate(now + Duration::from_millis(ms), sent_bps / 4, sent_bps);
        }
        let now = start + Duration::from_secs(second + 1);
        line.handle_loss(now, 0.3, sent_bps, sent_bps * 3 / 2);
        assert_eq!(line.thin_bps(), None);
        limited += u32::from(line.limit_bps().is_some());
        line.handle_timeout(now);
    }
    assert_eq!(limited, 1, "one trial");
}

#[test]
fn what_was_given_up_in_several_steps_for_nothing_comes_back_in_one() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_estimate(start, 600_000, 1_000_000);
    line.handle_loss(after(200), 0.3, 1_000_000, 1_000_000);
    assert_eq!(line.limit_bps(), Some(600_000));
    line.handle_estimate(after(1_100), 420_000, 590_000);
    line.handle_loss(after(1_200), 0.3, 590_000, 590_000);
    assert!(line.limit_bps().is_some_and(|bps| bps < 400_000), "{line:?}");
    line.handle_estimate(after(2_100), 800_000, 390_000);
    line.handle_loss(after(2_200), 0.3, 390_000, 390_000);
    assert_eq!(line.limit_bps(), None);
}

#[test]
fn one_bad_second_of_a_line_that_loses_much_is_no_reason_for_a_trial() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut line = Downlink::lossy(0.3);
    line.handle_loss(after(1), 0.3, 600_000, 900_000);
    line.handle_loss(after(2), 0.5, 600_000, 900_000);
    line.handle_loss(after(3), 0.25, 600_000, 900_000);
    assert_eq!(line.limit_bps(), None);
    line.handle_loss(after(4), 0.5, 600_000, 900_000);
    assert_eq!(line.limit_bps(), None);
    line.handle_loss(after(5), 0.6, 600_000, 900_000);
    assert!(line.limit_bps().is_some(), "two are");
}

/// One of a tenth, of whose packets some fifty are reported at a time.
#[test]
fn a_line_that_loses_a_tenth_is_not_limited_in_an_hour() {
    let mut chance = StdRng::seed_from_u64(1);
    let start = Instant::now();
    let mut line = Downlink::default();
    let mut limited = 0;
    for second in 0..3_600 {
        let now = start + Duration::from_secs(second);
        let lost = (0..55).filter(|_| chance.random_bool(0.1)).count();
        line.handle_queue(now, Duration::from_millis(5), 300_000);
        line.handle_estimate(now, 150_000, 300_000);
        line.handle_loss(now, lost as f32 / 55.0, 300_000, 330_000);
        line.handle_timeout(now);
        limited += u32::from(line.limit_bps().is_some());
    }
    assert!(limited <= 2, "{limited} seconds");
}

#[test]
fn a_trial_is_judged_by_how_much_less_was_sent_and_not_made_where_nothing_can_be() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut line = Downlink::default();
    line.handle_loss(start, 0.28, 1_290_000, 1_700_000);
    let limit_bps = line.limit_bps().expect("a trial");
    assert!(limit_bps < 900_000);
    // Pictures take more than was thought.
    line.handle_loss(after(1), 0.27, 1_030_000, 1_500_000);
    assert_eq!((line.limit_bps(), line.proven_loss), (None, 0.27));

    let mut line = Downlink::default();
    line.handle_loss(start, 0.3, 210_000, 300_000);
    assert_eq!(line.limit_bps(), None, "less than the floor is never sent");
}

#[test]
fn a_thin_line_before_which_nothing_stands_between_bursts_stays_thin() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_estimate(start, 250_000, 500_000);
    line.handle_loss(after(200), 0.3, 500_000, 500_000);
    line.handle_estimate(after(1_000), 200_000, 240_000);
    line.handle_queue(after(1_100), Duration::from_millis(5), 240_000);
    line.handle_loss(after(1_200), 0.3, 240_000, 300_000);
    assert!(line.thin_bps().is_some());
}

#[test]
fn a_trial_that_begins_in_a_bad_second_is_not_judged_by_a_better_one() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut line = Downlink::lossy(0.2);
    line.handle_loss(after(1), 0.3, 1_000_000, 1_400_000);
    line.handle_loss(after(2), 0.5, 1_000_000, 1_400_000);
    assert!(line.limit_bps().is_some());
    line.handle_loss(after(3), 0.28, 600_000, 800_000);
    assert_eq!(line.limit_bps(), None, "about as much as usual");
}

#[test]
fn a_line_is_tried_again_when_a_queue_stands_before_it_but_not_at_once() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut line = Downlink::lossy(0.3);
    line.next_trial_at = Some(after(3));
    let mut second = |at, queue, sent_bps| {
        line.handle_queue(after(at), queue, sent_bps);
        line.handle_estimate(after(at), sent_bps / 2, sent_bps);
        line.handle_loss(after(at), 0.3, sent_bps, sent_bps + 200_000);
        (line.limit_bps(), line.thin_bps().is_some())
    };
    assert_eq!(second(1, STANDING_QUEUE, 500_000), (None, false), "too soon");
    assert_eq!(second(4, STANDING_QUEUE / 2, 500_000), (None, false), "no queue");
    let (limit_bps, thin) = second(5, STANDING_QUEUE, 500_000);
    assert!(
        limit_bps > Some(300_000) && !thin,
        "the estimate is not believed at once"
    );
    assert_eq!(
        second(6, STANDING_QUEUE / 4, 330_000),
        (None, false),
        "the queue was another's"
    );
    assert!(second(12, STANDING_QUEUE, 500_000).0.is_some());
    assert!(second(13, STANDING_QUEUE, 330_000).1, "it was not");
}

#[test]
fn what_is_known_of_a_queue_holds_while_no_answer_comes() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    for (silent_ms, thin) in [(1_000, false), (3_000, true)] {
        let mut line = Downlink::default();
        line.handle_queue(after(900), Duration::from_millis(5), 1_000_000);
        line.handle_loss(after(1_000), 0.0, 1_000_000, 1_000_000);
        line.handle_estimate(after(900 + silent_ms), 300_000, 1_000_000);
        line.handle_loss(after(1_000 + silent_ms), 0.3, 1_000_000, 1_300_000);
        assert_eq!(line.thin_bps().is_some(), thin);
    }
}

#[test]
fn loss_that_what_was_sent_explains_is_not_the_lines_own() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_loss(start, 0.5, 1_000_000, 1_000_000);
    line.handle_queue(after(800), Duration::from_millis(40), 650_000);
    line.handle_loss(after(900), 0.23, 650_000, 700_000);
    assert!(line.own_loss < 0.1 && line.limit_bps().is_some());
}

#[test]
fn loss_behind_a_queue_is_not_the_lines_own_whatever_is_estimated() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    // Once with an estimate that makes it a thin one at once.
    for estimate_bps in [600_000, 370_000] {
        let mut line = Downlink::default();
        line.handle_estimate(after(0), estimate_bps, 550_000);
        line.handle_loss(after(0), 0.3, 550_000, 550_000);
        for (ms, queue) in [(300, 190), (600, 195), (700, 40)] {
            line.handle_queue(after(ms), Duration::from_millis(queue), 370_000);
        }
        line.handle_estimate(after(750), 1_440_000, 370_000);
        line.handle_loss(after(800), 0.6, 370_000, 1_300_000);
        assert_eq!(line.own_loss, 0.0);
        assert!(line.limit_bps() < Some(370_000));
    }
}

#[test]
fn a_report_that_comes_just_after_a_trial_judges_it() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    for (late_ms, sent_bps, loss, own_loss, limited) in [
        (50, 640_000, 0.25, 0.25, false),
        (50, 1_000_000, 0.25, 0.0, false),
        (50, 640_000, 0.1, 0.0, true),
        (4_000, 640_000, 0.25, 0.0, false),
    ] {
        let mut line = Downlink::default();
        line.handle_loss(start, 0.3, 1_000_000, 1_000_000);
        line.handle_timeout(start + TRIAL_ENDS_AFTER);
        line.handle_loss(after(1_000 + late_ms), loss, sent_bps, sent_bps);
        let outcome = (line.own_loss, line.limit_bps().is_some());
        assert_eq!(outcome, (own_loss, limited), "{late_ms} {sent_bps} {loss}");
    }
}

#[test]
fn a_trial_does_not_help_that_leaves_much_lost_before_an_empty_line() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    // Of the other line it is not known whether anything stands before it.
    for empty in [true, false] {
        let mut line = Downlink::default();
        line.handle_loss(start, 0.34, 2_800_000, 3_500_000);
        assert!(line.limit_bps().is_some());
        if empty {
            line.handle_queue(after(500), Duration::from_millis(5), 1_000_000);
        }
        line.handle_loss(after(1_000), 0.14, 800_000, 1_000_000);
        assert_eq!((line.own_loss > 0.13, line.limit_bps().is_none()), (empty, empty));
    }
}
