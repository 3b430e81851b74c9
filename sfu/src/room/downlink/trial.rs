//! Less is sent because of loss: does it help?

use std::time::Instant;

use super::{FLOOR_BPS, UNPROVEN};

/// What was so when less began to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub(super) judged_at: Instant,
    pub(super) loss: f32,
    pub(super) arrived_bps: f64,
    pub(super) limit_before_bps: Option<u64>,
}

/// A share of the loss that stayed.
const STAYED: f32 = 0.6;

impl Trial {
    /// The share that would be lost of this, if too much was sent.
    fn expected(&self, sent_bps: u64) -> f64 {
        (1.0 - self.arrived_bps / sent_bps.max(1) as f64).max(0.0)
    }

    /// Whether half of the loss would be gone with this being sent, if too much was.
    pub(super) fn tells(&self, sent_bps: u64) -> bool {
        self.expected(sent_bps) <= f64::from(self.loss) / 2.0
    }

    /// Whether the loss stayed while this was sent, for the most part or, where nothing stands before the line, in more than what was sent
    /// explains.
    pub(super) fn stayed(&self, loss: f32, sent_bps: u64, empty: bool) -> bool {
        let much_still = f64::from(loss) > f64::from(UNPROVEN) + self.expected(sent_bps);
        loss > self.loss * STAYED || empty && much_still
    }

    /// What arrived, and a little less, so that queues empty.
    pub(super) fn lower_bps(&self) -> u64 {
        ((self.arrived_bps * 0.95) as u64).max(FLOOR_BPS)
    }
}
