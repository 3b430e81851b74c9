//! What is reported back to a sender about its packets (RFC 3550 sections 6.4 and A.3, A.8).

use std::time::Instant;

use seodang_rtp::{NtpTime, ReportBlock};

/// Counts of one SSRC.
#[derive(Debug)]
pub(super) struct Reception {
    ssrc: u32,
    clock_rate_hz: u32,
    first: u64,
    highest: u64,
    received: u64,
    /// At the last report.
    expected_before: u64,
    received_before: u64,
    /// Arrival and RTP timestamp of the last packet, for the jitter.
    transit: Option<(Instant, u32)>,
    jitter: f64,
    last_report: Option<(NtpTime, Instant)>,
}

impl Reception {
    pub(super) fn new(ssrc: u32, clock_rate_hz: u32, first: u64) -> Self {
        Self {
            ssrc,
            clock_rate_hz,
            first,
            highest: first,
            received: 0,
            expected_before: 0,
            received_before: 0,
            transit: None,
            jitter: 0.0,
            last_report: None,
        }
    }

    /// Highest index received; that of the first packet before any.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    pub(super) fn packet(&mut self, now: Instant, index: u64, timestamp: u32) {
        self.received += 1;
        self.highest = self.highest.max(index);
        if let Some((arrival, before)) = self.transit {
            let elapsed =
                now.saturating_duration_since(arrival).as_secs_f64() * f64::from(self.clock_rate_hz);
            let sent = f64::from(timestamp.wrapping_sub(before) as i32);
            self.jitter += ((elapsed - sent).abs() - self.jitter) / 16.0;
        }
        self.transit = Some((now, timestamp));
    }

    /// A packet that came as repair: it stays counted as lost (RFC 4588 section 6.1), or the sender would not learn of
    /// the loss.
    pub(super) fn repaired(&mut self, index: u64) {
        self.highest = self.highest.max(index);
    }

    pub(super) fn sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.last_report = Some((ntp, now));
    }

    /// The report of what came since the last one.
    pub(super) fn report(&mut self, now: Instant) -> ReportBlock {
        let expected = self.highest - self.first + 1;
        let expected_since = expected.saturating_sub(self.expected_before);
        let received_since = self.received - self.received_before;
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction_lost = (lost_since * 256)
            .checked_div(expected_since)
            .unwrap_or(0)
            .min(255) as u8;
        let lost =
            i64::try_from(expected).unwrap_or(i64::MAX) - i64::try_from(self.received).unwrap_or(i64::MAX);
        let (last_report, since_last_report) = match self.last_report {
            Some((ntp, at)) => {
                let since = now.saturating_duration_since(at).as_millis() * 65_536 / 1000;
                ((ntp.0 >> 16) as u32, since as u32)
            }
            None => (0, 0),
        };
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: (self.highest - 0x1_0000) as u32,
            jitter: self.jitter as u32,
            last_report,
            since_last_report,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn loss_is_reported_since_the_last_report_and_in_all() {
        let start = Instant::now();
        let mut reception = Reception::new(9, 90_000, 0x1_fffe);
        for index in [0x1_fffe, 0x1_ffff, 0x2_0001] {
            reception.packet(start, index, 0);
        }
        let report = reception.report(start);
        assert_eq!(
            (report.lost, report.fraction_lost, report.highest),
            (1, 64, 0x1_0001)
        );
        reception.packet(start, 0x2_0000, 0);
        reception.packet(start, 0x2_0002, 0);
        let report = reception.report(start);
        assert_eq!((report.lost, report.fraction_lost), (0, 0));
    }

    #[test]
    fn the_last_sender_report_is_echoed() {
        let start = Instant::now();
        let mut reception = Reception::new(9, 48_000, 0x1_0000);
        reception.sender_report(start, NtpTime(0x1122_3344_5566_7788));
        let report = reception.report(start + Duration::from_millis(500));
        assert_eq!(
            (report.last_report, report.since_last_report),
            (0x3344_5566, 32_768)
        );
    }

    #[test]
    fn even_pacing_has_no_jitter() {
        let start = Instant::now();
        let mut reception = Reception::new(9, 48_000, 0x1_0000);
        for number in 0..50u32 {
            let at = start + Duration::from_millis(u64::from(number) * 20);
            reception.packet(at, 0x1_0000 + u64::from(number), number.wrapping_mul(960));
        }
        assert_eq!(reception.report(start).jitter, 0);
    }
}
