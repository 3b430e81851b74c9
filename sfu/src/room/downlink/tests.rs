use super::queue::QUEUE;
use super::*;

mod class;
mod own;

/// A line that carries `capacity_bps` for `seconds`, with a page that wants `wished_bps`; what was sent each second.
fn drive(
    line: &mut Downlink,
    start: Instant,
    seconds: u64,
    wished_bps: u64,
    capacity_bps: u64,
    own: f32,
) -> Vec<u64> {
    let mut sent = Vec::new();
    for second in 0..seconds {
        let sent_bps = line.limit_bps().map_or(wished_bps, |limit| limit.min(wished_bps));
        let congestion = 1.0 - capacity_bps.min(sent_bps) as f32 / sent_bps as f32;
        let now = start + Duration::from_secs(second);
        line.handle_loss(now, own.max(congestion), sent_bps, sent_bps);
        for half in [0, 500] {
            line.handle_timeout(now + Duration::from_millis(half));
        }
        sent.push(sent_bps);
    }
    sent
}

#[test]
fn a_good_line_is_never_limited() {
    let start = Instant::now();
    let mut line = Downlink::default();
    drive(&mut line, start, 30, 5_000_000, 10_000_000, 0.02);
    line.handle_estimate(start + LOW_FOR, 6_000_000, 5_000_000);
    assert_eq!(line.limit_bps(), None);
}

#[test]
fn a_thin_line_is_found_and_probed_ever_more_seldom() {
    let mut line = Downlink::default();
    let start = Instant::now();
    let found = drive(&mut line, start, 10, 3_000_000, 600_000, 0.0);
    assert!(found[9] < 750_000, "{found:?}");
    let probed = drive(
        &mut line,
        start + Duration::from_secs(10),
        120,
        3_000_000,
        600_000,
        0.0,
    );
    let over = probed.iter().filter(|sent| **sent > 600_000).count();
    assert!(
        (1..=20).contains(&over) && probed.iter().all(|sent| *sent < 800_000),
        "{over} seconds of loss in {probed:?}"
    );
    let rest = probed.iter().filter(|sent| **sent > 300_000).count();
    assert!(rest > 100, "{probed:?}");
}

#[test]
fn a_line_that_recovers_is_used_again() {
    let start = Instant::now();
    let mut line = Downlink::default();
    drive(&mut line, start, 10, 3_000_000, 600_000, 0.0);
    let sent = drive(
        &mut line,
        start + Duration::from_secs(10),
        60,
        3_000_000,
        50_000_000,
        0.0,
    );
    assert_eq!(sent.last(), Some(&3_000_000), "{sent:?}");
}

#[test]
fn loss_that_is_the_lines_own_is_not_answered_for_long() {
    let start = Instant::now();
    let mut line = Downlink::default();
    let sent = drive(&mut line, start, 60, 1_000_000, 50_000_000, 0.3);
    let less = sent.iter().filter(|sent| **sent < 1_000_000).count();
    assert!((1..=3).contains(&less), "{sent:?}");
}

#[test]
fn loss_and_estimate_together_are_believed_at_once_and_a_probe_ends_when_the_estimate_falls() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_estimate(start, 250_000, 500_000);
    assert_eq!(line.thin_bps(), None);
    line.handle_loss(after(200), 0.2, 500_000, 500_000);
    assert_eq!(line.thin_bps(), Some(250_000), "not what seems to have arrived");
    line.handle_estimate(after(1200), 260_000, 240_000);
    for half in 0..8 {
        line.handle_timeout(after(500 * half));
    }
    let probed = line.limit_bps().expect("thin still");
    assert!((280_000..330_000).contains(&probed), "{probed}");
    line.handle_estimate(after(4000), 260_000, 320_000);
    line.handle_estimate(after(4050), 250_000, 320_000);
    assert_eq!(line.limit_bps(), Some(probed), "it only lags");
    line.handle_estimate(after(4080), 280_000, 320_000);
    line.handle_estimate(after(4100), 240_000, 320_000);
    assert_eq!(line.limit_bps(), Some(240_000));
    line.handle_estimate(after(4200), 1_000, 320_000);
    assert_eq!(line.limit_bps(), Some(240_000), "nothing was probed since");
}

#[test]
fn a_picture_does_not_pause_for_a_trial_that_no_report_judges() {
    let start = Instant::now();
    let mut line = Downlink::default();
    line.handle_loss(start, 0.3, 1_000_000, 1_000_000);
    assert!(line.limit_bps().is_some());
    line.handle_timeout(start + TRIAL_ENDS_AFTER);
    assert_eq!(line.limit_bps(), None);
    line.handle_loss(start + TRIALS_APART, 0.3, 1_000_000, 1_000_000);
    assert_eq!(line.limit_bps(), None, "not again so soon");
    line.handle_loss(start + TRIALS_APART + TRIAL_ENDS_AFTER, 0.3, 1_000_000, 1_000_000);
    assert!(line.limit_bps().is_some());
}

#[test]
fn loss_that_is_the_lines_own_is_tried_once_however_its_shares_swing() {
    let start = Instant::now();
    let mut line = Downlink::default();
    let mut tried = 0;
    for second in 0..120 {
        let sent_bps = line.limit_bps().map_or(1_000_000, |limit| limit.min(1_000_000));
        let swing = [0.0, 0.06, -0.05, 0.1, -0.1, 0.03, -0.07][second as usize % 7];
        let now = start + Duration::from_secs(second);
        line.handle_loss(now, 0.3 + swing, sent_bps, sent_bps);
        tried += u32::from(line.limit_bps().is_some());
        for half in [0, 500] {
            line.handle_timeout(now + Duration::from_millis(half));
        }
    }
    assert_eq!(tried, 1);
    assert!(line.loss_to_repair() > 0.2);
    // The line becomes a good one, and then bad again.
    for second in 120..140 {
        line.handle_loss(start + Duration::from_secs(second), 0.0, 1_000_000, 1_000_000);
    }
    assert!(line.loss_to_repair() < 0.01);
    line.handle_loss(start + Duration::from_secs(140), 0.3, 1_000_000, 1_000_000);
    assert!(line.limit_bps().is_some(), "it may be another reason");
}

#[test]
fn a_trial_in_which_no_less_could_be_sent_ends_and_is_made_ever_more_seldom() {
    let start = Instant::now();
    let mut line = Downlink::default();
    let mut tried = Vec::new();
    for second in 0..60 {
        let now = start + Duration::from_secs(second);
        let before = line.limit_bps();
        line.handle_loss(now, 0.3, 1_000_000, 1_000_000);
        if before.is_none() && line.limit_bps().is_some() {
            tried.push(second);
        }
    }
    assert_eq!(tried, [0, 6, 17, 38]);
}

#[test]
fn nothing_limits_below_the_floor() {
    let start = Instant::now();
    let mut line = Downlink::default();
    for second in 0..20 {
        line.handle_loss(
            start + Duration::from_secs(3 * second),
            (second % 2) as f32,
            500_000,
            500_000,
        );
    }
    assert_eq!(line.limit_bps(), Some(FLOOR_BPS));
}

#[test]
fn an_estimate_counts_when_it_stays_low_and_down_to_its_own_floor() {
    let start = Instant::now();
    let mut line = Downlink::default();
    line.handle_estimate(start, 100_000, 3_000_000);
    line.handle_estimate(start + Duration::from_secs(1), 4_000_000, 3_000_000);
    line.handle_estimate(start + Duration::from_secs(2), 100_000, 3_000_000);
    assert_eq!(line.limit_bps(), None, "low for a moment");
    line.handle_estimate(start + Duration::from_secs(4), 2_000_000, 3_000_000);
    assert_eq!(line.limit_bps(), Some(2_000_000));
    line.handle_estimate(start + Duration::from_secs(5), 13_000, 2_000_000);
    line.handle_estimate(start + Duration::from_secs(7), 13_000, 2_000_000);
    assert_eq!(line.limit_bps(), Some(ESTIMATE_FLOOR_BPS));
}

#[test]
fn a_probe_ends_as_soon_as_packets_are_asked_for() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_asked(start, 0.5);
    assert_eq!(line.limit_bps(), None);
    line.handle_estimate(start, 250_000, 500_000);
    line.handle_loss(after(200), 0.2, 500_000, 500_000);
    line.handle_estimate(after(1200), 250_000, 240_000);
    line.handle_asked(after(1300), 0.2);
    assert_eq!(line.limit_bps(), Some(250_000), "no more than that was tried");
    for half in 0..10 {
        line.handle_timeout(after(500 * half));
    }
    line.handle_asked(after(5000), 0.1);
    assert!(line.limit_bps() > Some(250_000));
    line.handle_asked(after(5000), 0.2);
    assert_eq!(line.limit_bps(), Some(250_000));
}

#[test]
fn a_trial_that_helped_makes_the_next_one_no_rarer() {
    let start = Instant::now();
    let mut line = Downlink::default();
    let after = |seconds| start + Duration::from_secs(seconds);
    line.handle_loss(start, 0.3, 1_000_000, 1_000_000);
    line.handle_timeout(start + TRIAL_ENDS_AFTER);
    line.handle_loss(after(6), 0.3, 1_000_000, 1_000_000);
    line.handle_loss(after(7), 0.0, 600_000, 600_000);
    assert!(line.limit_bps().is_some(), "less helped");
    assert_eq!(line.trials_apart, TRIALS_APART);
}

#[test]
fn a_thin_line_that_repair_fills_is_not_taken_for_one_that_loses_by_itself() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_estimate(start, 250_000, 500_000);
    line.handle_loss(after(200), 0.4, 500_000, 900_000);
    assert_eq!(line.thin_bps(), Some(250_000));
    line.handle_estimate(after(1000), 280_000, 900_000);
    line.handle_loss(after(1200), 0.4, 240_000, 900_000);
    assert!(line.thin_bps().is_some());
}

#[test]
fn an_estimate_that_falls_while_no_more_is_sent_tells_nothing() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_estimate(start, 250_000, 500_000);
    line.handle_loss(after(200), 0.2, 500_000, 500_000);
    line.handle_estimate(after(1200), 250_000, 240_000);
    for half in 0..10 {
        line.handle_timeout(after(500 * half));
    }
    let probed = line.limit_bps();
    assert!(probed > Some(250_000));
    line.handle_estimate(after(5000), 230_000, 240_000);
    line.handle_estimate(after(5200), 180_000, 240_000);
    assert_eq!(line.limit_bps(), probed);
}

#[test]
fn an_estimate_that_nothing_follows_holds_up_no_growth() {
    let start = Instant::now();
    let mut line = Downlink::thin(start, 300_000);
    line.hold_until = None;
    line.handle_estimate(start, 100_000, 300_000);
    line.handle_timeout(start + Duration::from_millis(500));
    assert_eq!(line.limit_bps(), Some(300_000), "it is low");
    line.handle_timeout(start + 2 * ESTIMATE_LASTS);
    line.handle_timeout(start + 3 * ESTIMATE_LASTS);
    assert!(line.limit_bps() > Some(300_000));
}

#[test]
fn an_estimate_above_the_limit_shortens_a_long_pause() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let grown = |estimate_bps| {
        let mut line = Downlink::thin(start, 300_000);
        (line.cut_at, line.hold_until) = (Some(start), Some(after(16)));
        line.handle_estimate(after(1), estimate_bps, 250_000);
        line.handle_timeout(after(9));
        line.handle_timeout(after(10));
        line.limit_bps() > Some(300_000)
    };
    assert!(grown(310_000) && !grown(290_000));
}

#[test]
fn what_waited_in_a_queue_proves_nothing_of_what_a_line_carries() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    for (queue, carried_bps) in [(Duration::ZERO, 300_000), (QUEUE, 0)] {
        let mut line = Downlink::thin(start, 300_000);
        for second in 1..=2 {
            line.handle_queue(after(second), queue, 300_000);
            line.handle_loss(after(second), 0.0, 300_000, 300_000);
        }
        assert_eq!(line.carried_bps, carried_bps);
    }
}

#[test]
fn a_report_of_minutes_later_judges_no_trial() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut line = Downlink::default();
    line.handle_estimate(start, 250_000, 500_000);
    line.handle_loss(after(200), 0.2, 500_000, 500_000);
    line.handle_timeout(after(5_000));
    line.handle_loss(after(120_000), 0.2, 240_000, 240_000);
    assert!(
        line.thin_bps().is_some(),
        "the loss is not taken for the line's own"
    );
}
