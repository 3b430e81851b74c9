//! What is known of a recording that was joined from several parts.

use std::time::{Duration, SystemTime};

use seodang_rtp::FrameSize;

use super::{Sound, Work};
use crate::manifest::{Gap, GapReason};
use crate::part::{PartNote, PartState, place};
use crate::writer::milliseconds;

impl Work<'_> {
    /// The note that speaks for all parts.
    pub(super) fn joined_note(&self, parts: &[Sound]) -> Option<PartNote> {
        let first = self.notes.get(&1).filter(|note| note.joined);
        if first.is_some() {
            return first.cloned();
        }
        let offsets = self.offsets(parts);
        let mut joined = parts
            .iter()
            .find_map(|part| self.notes.get(&part.part))
            .cloned()?;
        let noted: Vec<_> = parts.iter().map(|part| self.notes.get(&part.part)).collect();
        joined.joined = true;
        joined.offset_ms = offsets.first().copied().map(milliseconds);
        let all_finished = noted
            .iter()
            .all(|note| note.is_some_and(|note| note.state == PartState::Finished));
        let any_truncated = noted
            .iter()
            .flatten()
            .any(|note| note.state == PartState::Truncated);
        joined.state = match (all_finished && self.set_aside.is_empty(), any_truncated) {
            (_, true) => PartState::Truncated,
            (true, false) => PartState::Finished,
            (false, false) => PartState::Recording,
        };
        joined.gaps = noted
            .iter()
            .flatten()
            .flat_map(|note| note.gaps.clone())
            .collect();
        for (index, pair) in parts.windows(2).enumerate() {
            let end = offsets[index] + pair[0].scan.end();
            let reason = noted[index + 1]
                .and_then(|note| note.resumed_after)
                .unwrap_or(GapReason::Restart);
            joined.gaps.push(Gap {
                from_ms: milliseconds(end),
                to_ms: milliseconds(offsets[index + 1]),
                reason,
            });
        }
        joined.gaps.sort_by_key(|gap| (gap.from_ms, gap.to_ms));
        joined.dropped_video_frames = noted.iter().flatten().map(|note| note.dropped_video_frames).sum();
        joined.dropped_audio_packets = noted
            .iter()
            .flatten()
            .map(|note| note.dropped_audio_packets)
            .sum();
        let size = largest(noted.iter().flatten().filter_map(|note| note.size()));
        (joined.width, joined.height) = (size.map(|size| size.width), size.map(|size| size.height));
        Some(joined)
    }

    pub(super) fn offsets(&self, parts: &[Sound]) -> Vec<Duration> {
        let started_at = SystemTime::from(self.lesson_started_at);
        let known: Vec<_> = parts
            .iter()
            .map(|part| {
                let noted = self
                    .notes
                    .get(&part.part)
                    .and_then(|note| note.offset_ms)
                    .map(Duration::from_millis);
                let dated = part
                    .scan
                    .head
                    .created
                    .and_then(|created| created.duration_since(started_at).ok());
                (noted, dated, part.scan.end())
            })
            .collect();
        place(&known)
    }
}

/// The size in which every picture has room.
pub(super) fn largest(sizes: impl Iterator<Item = FrameSize>) -> Option<FrameSize> {
    sizes.max_by_key(|size| u32::from(size.width) * u32::from(size.height))
}
