use super::*;

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

/// A browser's estimator (libwebrtc's): it grows slowly and never far above what arrives, and falls below that for each
/// queue, as for each moment in which the machine is busy. It is given no sound.
struct Receiver {
    pictures_bps: f64,
}

const SOUND_BPS: f64 = 95_000.0;

impl Receiver {
    /// A fifth of a second, and what it then tells, with sound.
    fn estimate(&mut self, arrived_bps: f64, overused: bool) -> u64 {
        let arrived_bps = (arrived_bps - SOUND_BPS).max(0.0);
        if overused {
            self.pictures_bps = self.pictures_bps.min(arrived_bps * 0.85);
        } else {
            let most = (arrived_bps * 1.5 + 10_000.0).max(self.pictures_bps);
            self.pictures_bps = (self.pictures_bps * 1.08_f64.powf(0.2)).min(most);
        }
        (self.pictures_bps + SOUND_BPS) as u64
    }
}

/// A page of 520 kbit/s on a line with a queue, in steps of a fifth of a second.
struct Class {
    start: Instant,
    step: u64,
    line: Downlink,
    receiver: Receiver,
    /// What waits, and at most, in seconds of the line.
    queue_s: f64,
    most_s: f64,
    /// Since the last report: what was sent and lost, summed over the steps.
    sent_bps: f64,
    lost_bps: f64,
}

impl Class {
    fn new(most_s: f64) -> Self {
        Self {
            start: Instant::now(),
            step: 0,
            line: Downlink::default(),
            receiver: Receiver {
                pictures_bps: 450_000.0,
            },
            queue_s: 0.0,
            most_s,
            sent_bps: 0.0,
            lost_bps: 0.0,
        }
    }

    /// What the limit lets of the page through, in bits per second.
    fn wished_bps(&self) -> f64 {
        match self.line.limit_bps() {
            Some(limit) if limit < 500_000 => 190_000.0,
            Some(limit) if limit < 600_000 => 430_000.0,
            _ => 520_000.0,
        }
    }

    /// Sends so much over a line that carries `line_bps`, to a machine that may seem to see a queue where none is.
    fn play(&mut self, sent_bps: f64, line_bps: f64, seems_queued: bool) {
        let now = self.start + Duration::from_millis(self.step * 200);
        let before_s = self.queue_s;
        let filled_s = before_s + (sent_bps / line_bps - 1.0) * 0.2;
        self.queue_s = filled_s.clamp(0.0, self.most_s);
        let lost_bps = (filled_s - self.most_s).max(0.0) * line_bps / 0.2;
        let arrived_bps = if self.queue_s > 0.0 {
            line_bps
        } else {
            sent_bps.min(line_bps)
        };
        self.sent_bps += sent_bps;
        self.lost_bps += lost_bps;
        let overused = self.queue_s > before_s || lost_bps > 0.0 || seems_queued;
        let estimate_bps = self.receiver.estimate(arrived_bps, overused);
        self.line.handle_estimate(now, estimate_bps, sent_bps as u64);
        if self.step % 5 == 4 {
            let bps = (self.sent_bps / 5.0) as u64;
            let queue = Duration::from_secs_f64(self.queue_s);
            self.line.handle_queue(now, queue, sent_bps as u64);
            let loss = (self.lost_bps / self.sent_bps) as f32;
            self.line.handle_loss(now, loss, bps, bps);
            (self.sent_bps, self.lost_bps) = (0.0, 0.0);
        }
        // About twice a second.
        if matches!(self.step % 5, 0 | 3) {
            self.line.handle_timeout(now);
        }
        self.step += 1;
    }
}

/// A line of 300 kbit/s that becomes wide after so many seconds, to a machine that seems to see a queue every so many
/// milliseconds; the seconds in which all pictures were granted.
fn widens(thin_for: u64, false_every_ms: u64) -> Vec<u64> {
    let mut class = Class::new(0.0);
    let mut shown = Vec::new();
    for step in 0..(thin_for + 40) * 5 {
        let ms = step * 200;
        // Pictures are not all of one size.
        let sent_bps = class.wished_bps() * [1.0, 1.08, 0.95, 1.02, 0.93, 1.05, 0.97][step as usize % 7];
        let line_bps = if ms < thin_for * 1000 { 300_000.0 } else { 1e9 };
        class.play(sent_bps, line_bps, ms % false_every_ms == 0);
        if step % 5 == 4 && class.line.limit_bps().is_none_or(|limit| limit >= 600_000) {
            shown.push(ms / 1000);
        }
    }
    shown
}

#[test]
fn a_line_that_widens_is_used_within_twenty_seconds_also_by_a_busy_machine() {
    for false_every_ms in [5_000, u64::MAX, 2_000, 1_000, 600, 200] {
        for thin_for in [10, 20, 30, 40] {
            let shown = widens(thin_for, false_every_ms);
            let back = shown.iter().find(|second| **second >= thin_for);
            assert!(
                back.is_some_and(|second| *second <= thin_for + 20),
                "every {false_every_ms} ms, {thin_for} s: {shown:?}"
            );
            assert!(
                shown.iter().all(|second| *second < 3 || *second >= thin_for),
                "{shown:?}"
            );
            assert_eq!(shown.last(), Some(&(thin_for + 39)), "and stays so");
        }
    }
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

/// The share of the time, after twenty seconds, in which a voice waits for half a second or more on a line of 400 kbit/s whose
/// queue holds `queue_s` of it.
fn voices_wait(queue_s: f64) -> f64 {
    let mut class = Class::new(queue_s);
    let mut late = 0;
    for step in 0..350 {
        class.play(class.wished_bps(), 400_000.0, false);
        late += u32::from(step >= 100 && class.queue_s >= 0.5);
    }
    f64::from(late) / 250.0
}

#[test]
fn a_long_queue_ends_a_probe_before_anything_is_lost() {
    for queue_s in [0.2, 0.6, 1.0, 2.0, 4.0] {
        let late = voices_wait(queue_s);
        assert!(late < 0.03, "{late} of the time with a queue of {queue_s} s");
    }
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
