//! The RTP timestamps of one receiving line over the changes of what feeds it.

use std::time::{Duration, Instant};

use seodang_model::MediaKind;
use seodang_rtp::NtpTime;

use super::line::LineId;

/// What was given out last, and how it relates to the sender's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    kind: MediaKind,
    last: Option<(Instant, u32)>,
    clock: Option<Clock>,
}

/// A sender's report in the line's own timestamps.
#[derive(Clone, Copy, Debug)]
struct Clock {
    of: LineId,
    ntp: NtpTime,
    timestamp: u32,
}

impl Timeline {
    pub(super) const fn new(kind: MediaKind) -> Self {
        Self {
            kind,
            last: None,
            clock: None,
        }
    }

    /// Notes the newest packet given out.
    pub(super) fn gave(&mut self, now: Instant, timestamp: u32) {
        self.last = Some((now, timestamp));
    }

    /// Notes a report of what feeds the line; `timestamp` is the line's.
    pub(super) fn reported(&mut self, of: LineId, ntp: NtpTime, timestamp: u32) {
        self.clock = Some(Clock { of, ntp, timestamp });
    }

    /// What is to be added to the timestamps of `of` when it feeds the line from a packet with `timestamp` on. Layers of
    /// one source are related by their `report`s, so that a picture keeps its instant; everything else by arrival.
    pub(super) fn offset(
        &self,
        now: Instant,
        of: LineId,
        timestamp: u32,
        report: Option<(NtpTime, u32)>,
    ) -> u32 {
        let Some((at, last)) = self.last else { return 0 };
        let by_arrival =
            last.wrapping_add(self.ticks(now.saturating_duration_since(at).max(self.least_step())));
        let by_report = self
            .clock
            .filter(|clock| clock.of == of)
            .zip(report)
            .map(|(clock, (ntp, rtp))| {
                let elapsed = self.signed_ticks(ntp, clock.ntp);
                let placed = clock
                    .timestamp
                    .wrapping_add(elapsed)
                    .wrapping_add(timestamp.wrapping_sub(rtp));
                // The same picture may have been given out in the other layer: two pictures never share a timestamp.
                let earliest = last.wrapping_add(self.ticks(LEAST_BETWEEN_LAYERS));
                if (placed.wrapping_sub(earliest) as i32) < 0 {
                    earliest
                } else {
                    placed
                }
            });
        let trusted = by_report.filter(|placed| {
            let apart = (placed.wrapping_sub(by_arrival) as i32).unsigned_abs();
            apart <= self.ticks(MOST_APART)
        });
        trusted.unwrap_or(by_arrival).wrapping_sub(timestamp)
    }

    fn least_step(&self) -> Duration {
        match self.kind {
            MediaKind::Video => Duration::from_millis(10),
            MediaKind::Audio => Duration::from_millis(20),
        }
    }

    fn ticks(&self, elapsed: Duration) -> u32 {
        // 32 bits wrap: only the place in the wrap counts.
        (elapsed.as_micros() * u128::from(self.kind.clock_rate_hz()) / 1_000_000) as u32
    }

    fn signed_ticks(&self, to: NtpTime, from: NtpTime) -> u32 {
        let distance = i128::from(to.0.wrapping_sub(from.0) as i64);
        ((distance * i128::from(self.kind.clock_rate_hz())) >> 32) as u32
    }
}

/// Between the same picture in two layers.
const LEAST_BETWEEN_LAYERS: Duration = Duration::from_millis(1);
/// Reports that disagree with arrival by more are not believed.
const MOST_APART: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: LineId = LineId { seat: 1, line: 0 };
    const OTHER: LineId = LineId { seat: 2, line: 0 };

    fn ntp(ms: u64) -> NtpTime {
        NtpTime((3_900_000_000u64 << 32) + (ms << 32) / 1000)
    }

    /// A line that gave out a picture of `CAMERA` captured at 1000 ms with timestamp 500,000.
    fn line(start: Instant) -> Timeline {
        let mut line = Timeline::new(MediaKind::Video);
        line.reported(CAMERA, ntp(900), 500_000 - 9000);
        line.gave(start, 500_000);
        line
    }

    fn placed(
        line: &Timeline,
        now: Instant,
        of: LineId,
        timestamp: u32,
        report: Option<(NtpTime, u32)>,
    ) -> u32 {
        timestamp.wrapping_add(line.offset(now, of, timestamp, report))
    }

    #[test]
    fn layers_of_one_source_are_related_by_their_reports() {
        let start = Instant::now();
        let late = start + Duration::from_millis(77);
        // Captured at 1040 ms, that is 40 ms after the last one, however late it arrives.
        let report = Some((ntp(1200), u32::MAX - 100));
        let timestamp = (u32::MAX - 100).wrapping_sub(160 * 90);
        let at = placed(&line(start), late, CAMERA, timestamp, report);
        assert!(at.abs_diff(500_000 + 3600) <= 1, "{at}");
    }

    #[test]
    fn the_same_picture_in_another_layer_comes_a_millisecond_later() {
        let start = Instant::now();
        let at = placed(&line(start), start, CAMERA, 77, Some((ntp(1000), 77)));
        assert_eq!(at, 500_090);
        let earlier = placed(&line(start), start, CAMERA, 77, Some((ntp(1050), 77 + 9000)));
        assert_eq!(earlier, 500_090, "and one of before as well");
    }

    #[test]
    fn strangers_and_liars_are_placed_by_arrival() {
        let start = Instant::now();
        let now = start + Duration::from_millis(100);
        for (of, report) in [
            (CAMERA, None),
            (OTHER, Some((ntp(1100), 77))),
            (CAMERA, Some((ntp(900_000), 77))),
            (CAMERA, Some((NtpTime(u64::MAX), 77))),
        ] {
            assert_eq!(placed(&line(start), now, of, 77, report), 509_000);
        }
        assert_eq!(
            placed(&line(start), start, OTHER, 77, None),
            500_900,
            "at least 10 ms"
        );
    }

    #[test]
    fn the_first_feed_keeps_its_timestamps() {
        assert_eq!(
            Timeline::new(MediaKind::Audio).offset(Instant::now(), CAMERA, 5, None),
            0
        );
    }
}
