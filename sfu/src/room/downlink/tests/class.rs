//! A model of a class on a line with a queue, and of a browser's estimator behind it.

use super::*;

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
        if self.step % 5 == 3 {
            // An answer to what was sent before anything waited.
            self.line.handle_queue(now, Duration::ZERO, sent_bps as u64);
        }
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
    let mut class = Class::new(0.2);
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
fn a_line_that_widens_is_used_within_half_a_minute_also_by_a_busy_machine() {
    for false_every_ms in [5_000, u64::MAX, 2_000, 1_000, 600, 200] {
        for thin_for in [10, 20, 30, 40] {
            let shown = widens(thin_for, false_every_ms);
            let back = shown.iter().find(|second| **second >= thin_for);
            assert!(
                back.is_some_and(|second| *second <= thin_for + 25),
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
