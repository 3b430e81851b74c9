//! What came under one SSRC of a line, as one unbroken count.

use std::time::{Duration, Instant};

use seodang_model::MediaKind;
use seodang_rtp::{NtpTime, SequenceExtender};

use super::history::History;
use super::nack::Missing;
use super::reception::Reception;

/// One SSRC's unbroken count on a line.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ssrc: u32,
    /// Unique in the room; a new one with each SSRC, each restart of the count and each publishing.
    pub(super) epoch: u64,
    /// The same count's in the room that its packets come to.
    pub(super) origin: u64,
    pub(super) sequence: SequenceExtender,
    pub(super) first: u64,
    pub(super) last_at: Instant,
    /// Where the newest key frame begins.
    pub(super) newest_keyframe: Option<u64>,
    /// The time of the key frame that began last.
    pub(super) keyframe_time: Option<u32>,
    pub(super) history: History,
    pub(super) missing: Missing,
    pub(super) reception: Reception,
    /// The sender's clock, from its last report.
    pub(super) report: Option<(NtpTime, u32)>,
}

impl Stream {
    /// Whether the newest key frame began so long ago that who got none since then stands still for too long.
    pub(super) fn keyframe_is_old(&self, now: Instant) -> bool {
        let begun_at = self.newest_keyframe.and_then(|index| self.history.get(index));
        begun_at.is_none_or(|packet| now.saturating_duration_since(packet.at) >= OLD_KEYFRAME)
    }

    /// A count that begins with index `first`.
    pub(super) fn new(now: Instant, kind: MediaKind, ssrc: u32, epoch: u64, first: u64) -> Self {
        Self {
            ssrc,
            epoch,
            origin: epoch,
            sequence: SequenceExtender::default(),
            first,
            last_at: now,
            newest_keyframe: None,
            keyframe_time: None,
            history: History::new(kind),
            missing: Missing::default(),
            reception: Reception::new(ssrc, kind.clock_rate_hz(), first),
            report: None,
        }
    }
}

/// Of the two seconds that a picture may stand still at most.
const OLD_KEYFRAME: Duration = Duration::from_millis(1_200);
