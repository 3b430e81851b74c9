//! What happened so far, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::row::CaptureStatus;

/// Totals since the start, none of which ever goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyzerCounts {
    /// Rows in manifests by status, in the order of [`CaptureStatus::ALL`].
    pub rows: [u64; CaptureStatus::ALL.len()],
    /// Calls of a decoder.
    pub decodes: u64,
    /// Rows that never reached a manifest: the disk was unusable for longer than the backlog lasts.
    pub lost_rows: u64,
    /// Commands dropped because the queue to the analyzer was full.
    pub dropped_commands: u64,
    /// Key frames dropped because the queue to the analyzer was full.
    pub dropped_keyframes: u64,
    /// Events dropped because their reader was too slow; the rows are in the manifest.
    pub dropped_events: u64,
}

impl AnalyzerCounts {
    /// Rows with this status.
    #[must_use]
    pub fn rows_with(&self, status: CaptureStatus) -> u64 {
        self.rows[status as usize]
    }
}

/// The same, counted up by several threads.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    rows: [AtomicU64; CaptureStatus::ALL.len()],
    pub(crate) decodes: Counter,
    pub(crate) lost_rows: Counter,
    pub(crate) dropped_commands: Counter,
    pub(crate) dropped_keyframes: Counter,
    pub(crate) dropped_events: Counter,
}

/// One total.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn add_row(&self, status: CaptureStatus) {
        self.rows[status as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> AnalyzerCounts {
        AnalyzerCounts {
            rows: std::array::from_fn(|status| self.rows[status].load(Ordering::Relaxed)),
            decodes: self.decodes.get(),
            lost_rows: self.lost_rows.get(),
            dropped_commands: self.dropped_commands.get(),
            dropped_keyframes: self.dropped_keyframes.get(),
            dropped_events: self.dropped_events.get(),
        }
    }
}
