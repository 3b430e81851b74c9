//! What arrived: packets, complete frames, delays.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clip::Record;

/// Counts of one class within the measured window.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// RTP packets received by all participants.
    pub(crate) packets: u64,
    /// Pictures and packets of sound of which at least one packet came.
    pub(crate) frames_seen: u64,
    /// Pictures and packets of sound of which every packet came.
    pub(crate) frames_complete: u64,
    /// Delay from sending to receiving, in milliseconds.
    pub(crate) delay_p50_ms: f64,
    /// As above.
    pub(crate) delay_p99_ms: f64,
    /// From opening the WebSocket to a connected media path, in milliseconds.
    pub(crate) join_p50_ms: f64,
    /// As above.
    pub(crate) join_p99_ms: f64,
    #[serde(skip)]
    delays_us: Vec<u32>,
    #[serde(skip)]
    frames: BTreeMap<(usize, u32, u32), (u16, u16)>,
}

impl Tally {
    /// Takes one packet: whose slot (receiver and SSRC) it came through and what it says.
    pub(crate) fn take(&mut self, receiver: usize, ssrc: u32, record: Record, now_us: u64) {
        self.packets += 1;
        self.delays_us
            .push(now_us.saturating_sub(record.sent_us).min(u64::from(u32::MAX)) as u32);
        if record.count > 0 {
            let entry = self
                .frames
                .entry((receiver, ssrc, record.frame))
                .or_insert((0, record.count));
            entry.0 += 1;
        }
    }

    /// Settles the sums.
    pub(crate) fn settle(&mut self, joins_ms: &[f64]) {
        self.frames_seen = self.frames.len() as u64;
        self.frames_complete = self.frames.values().filter(|(came, count)| came == count).count() as u64;
        self.delays_us.sort_unstable();
        let delays: Vec<f64> = self.delays_us.iter().map(|us| f64::from(*us) / 1_000.0).collect();
        (self.delay_p50_ms, self.delay_p99_ms) = (quantile(&delays, 0.5), quantile(&delays, 0.99));
        let mut joins = joins_ms.to_vec();
        joins.sort_by(f64::total_cmp);
        (self.join_p50_ms, self.join_p99_ms) = (quantile(&joins, 0.5), quantile(&joins, 0.99));
    }
}

/// One line of results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) publishers: usize,
    pub(crate) watchers: usize,
    pub(crate) recorded: bool,
    pub(crate) seconds: f64,
    pub(crate) server_cores: f64,
    pub(crate) us_a_forwarded_packet: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) idle_bytes: u64,
    #[serde(flatten)]
    pub(crate) tally: Tally,
}

/// The value below which `share` of the sorted values lie; 0 when there is none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}
