//! What arrived: packets, whole frames, delays, freezes.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::clip::Record;

/// Counts of some receivers within the measured window.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    packets: u64,
    repeated: u64,
    delays_us: Vec<u32>,
    tracks: HashMap<(usize, u16, bool), Track>,
}

/// What one packet made of its track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// It completed a key frame.
    pub(crate) key_frame: bool,
    /// The picture stands still, and only a key frame will move it.
    pub(crate) stuck: bool,
}

/// The measured time, in microseconds since the tool's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) begin_us: u64,
    pub(crate) end_us: u64,
}

impl Window {
    fn contains(self, at_us: u64) -> bool {
        (self.begin_us..self.end_us).contains(&at_us)
    }
}

/// What one receiver got of one source.
#[derive(Debug, Default)]
struct Track {
    /// The newest frames in the order of number and layer; what comes nearly always belongs to the last one.
    frames: VecDeque<Frame>,
    /// First and last number within the window.
    numbers: Option<(u32, u32)>,
    complete: u32,
    shown: Option<u32>,
    shown_at_us: u64,
    stuck_since_us: Option<u64>,
    longest_freeze_us: u64,
}

#[derive(Debug)]
struct Frame {
    number: u32,
    layer: u8,
    complete: bool,
    came: u64,
}

impl Tally {
    /// Takes one packet that `receiver` got.
    pub(crate) fn take(&mut self, receiver: usize, record: Record, now_us: u64, window: Window) -> Progress {
        let track = self
            .tracks
            .entry((receiver, record.source, record.video))
            .or_default();
        let measured = window.contains(record.sent_us);
        let Some(progress) = track.take(record, now_us, measured, window) else {
            self.repeated += u64::from(measured);
            return Progress::default();
        };
        if measured {
            self.packets += 1;
            let delay_us = now_us.saturating_sub(record.sent_us);
            self.delays_us.push(u32::try_from(delay_us).unwrap_or(u32::MAX));
        }
        progress
    }

    /// Adds what other receivers got.
    pub(crate) fn merge(&mut self, other: Self) {
        self.packets += other.packets;
        self.repeated += other.repeated;
        self.delays_us.extend(other.delays_us);
        self.tracks.extend(other.tracks);
    }

    /// The sums.
    pub(crate) fn settle(mut self, window: Window) -> Arrivals {
        self.delays_us.sort_unstable();
        let delays: Vec<f64> = self.delays_us.iter().map(|us| f64::from(*us) / 1e3).collect();
        let mut arrivals = Arrivals {
            packets: self.packets,
            packets_repeated: self.repeated,
            delay_p50_ms: quantile(&delays, 0.5),
            delay_p99_ms: quantile(&delays, 0.99),
            ..Arrivals::default()
        };
        for ((_, _, video), track) in &mut self.tracks {
            let Some((first, last)) = track.numbers else {
                continue;
            };
            arrivals.tracks += 1;
            let expected = u64::from(last - first) + 1;
            let complete = u64::from(track.complete).min(expected);
            if *video {
                arrivals.pictures_expected += expected;
                arrivals.pictures_complete += complete;
                track.note_freeze(window.end_us, window);
                let freeze_ms = track.longest_freeze_us as f64 / 1e3;
                arrivals.longest_freeze_ms = arrivals.longest_freeze_ms.max(freeze_ms);
            } else {
                arrivals.sounds_expected += expected;
                arrivals.sounds_complete += complete;
            }
        }
        let share = |complete: u64, expected: u64| complete as f64 / expected.max(1) as f64;
        arrivals.pictures_complete_share = share(arrivals.pictures_complete, arrivals.pictures_expected);
        arrivals.sounds_complete_share = share(arrivals.sounds_complete, arrivals.sounds_expected);
        arrivals
    }
}

impl Track {
    /// `None` for a packet that came before.
    fn take(&mut self, record: Record, now_us: u64, measured: bool, window: Window) -> Option<Progress> {
        let frame = self.frame(record.frame, record.layer);
        let bit = 1 << (record.index % 64);
        if frame.came & bit != 0 {
            return None;
        }
        frame.came |= bit;
        let complete = frame.came.count_ones() == u32::from(record.count.min(64));
        frame.complete = complete;
        if measured {
            let (first, last) = self.numbers.unwrap_or((record.frame, record.frame));
            self.numbers = Some((first.min(record.frame), last.max(record.frame)));
            self.complete += u32::from(complete);
        }
        if record.video && complete {
            self.show(record.frame, record.key, now_us, window);
        }
        if self.frames.len() > KEPT_FRAMES {
            self.frames.pop_front();
        }
        Some(Progress {
            key_frame: complete && record.key && record.video,
            stuck: self
                .stuck_since_us
                .is_some_and(|since| now_us.saturating_sub(since) > STUCK_US),
        })
    }

    fn frame(&mut self, number: u32, layer: u8) -> &mut Frame {
        let key = (number, layer);
        let before = self
            .frames
            .iter()
            .rposition(|frame| (frame.number, frame.layer) <= key);
        let index = match before {
            Some(index) if (self.frames[index].number, self.frames[index].layer) == key => index,
            before => {
                let index = before.map_or(0, |index| index + 1);
                let frame = Frame {
                    number,
                    layer,
                    complete: false,
                    came: 0,
                };
                self.frames.insert(index, frame);
                index
            }
        };
        &mut self.frames[index]
    }

    /// A whole frame came: shows it, and what waited for it, as a decoder would.
    fn show(&mut self, number: u32, key: bool, now_us: u64, window: Window) {
        let next = match self.shown {
            Some(shown) if number <= shown => return,
            Some(shown) if !key => shown + 1,
            None if !key => return,
            _ => number,
        };
        if next != number {
            self.stuck_since_us.get_or_insert(now_us);
            return;
        }
        let mut last = number;
        while self.is_complete(last + 1) {
            last += 1;
        }
        if self.shown.is_some() {
            self.note_freeze(now_us, window);
        }
        self.shown = Some(last);
        self.shown_at_us = now_us;
        let newest = self.frames.back().map_or(last, |newest| newest.number);
        let waiting = (last + 1..=newest).any(|frame| self.is_complete(frame));
        self.stuck_since_us = waiting.then_some(now_us);
    }

    fn is_complete(&self, number: u32) -> bool {
        self.frames
            .iter()
            .rev()
            .take_while(|frame| frame.number >= number)
            .any(|frame| frame.number == number && frame.complete)
    }

    /// The time since the last picture, as far as it lies in the window.
    fn note_freeze(&mut self, now_us: u64, window: Window) {
        let from = self.shown_at_us.max(window.begin_us);
        let freeze_us = now_us.min(window.end_us).saturating_sub(from);
        self.longest_freeze_us = self.longest_freeze_us.max(freeze_us);
    }
}

/// Frames that are still followed: ten seconds of a camera.
const KEPT_FRAMES: usize = 250;
/// After this a receiver asks for a key frame, as browsers do when repair does not come.
const STUCK_US: u64 = 250_000;

/// Sums over all receivers.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Arrivals {
    /// Different RTP packets received.
    pub(crate) packets: u64,
    /// Packets received once more.
    pub(crate) packets_repeated: u64,
    /// Pairs of a receiver and a camera or microphone it received.
    pub(crate) tracks: u64,
    /// Pictures that were sent to receivers, by their numbers.
    pub(crate) pictures_expected: u64,
    /// Of these, those of which every packet came.
    pub(crate) pictures_complete: u64,
    /// The same as a share.
    pub(crate) pictures_complete_share: f64,
    /// As above, packets of sound.
    pub(crate) sounds_expected: u64,
    /// As above.
    pub(crate) sounds_complete: u64,
    /// As above.
    pub(crate) sounds_complete_share: f64,
    /// Longest time in which some receiver could show no new picture of some camera: 40 ms when all is well.
    pub(crate) longest_freeze_ms: f64,
    /// Delay from sending to receiving.
    pub(crate) delay_p50_ms: f64,
    /// As above.
    pub(crate) delay_p99_ms: f64,
}

/// The value below which `share` of the sorted values lie; 0 when there is none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// Two quantiles of values in any order.
pub(crate) fn quantiles(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (quantile(&sorted, 0.5), quantile(&sorted, 0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        begin_us: 0,
        end_us: 10_000_000,
    };

    fn packet(frame: u32, index: u16, key: bool) -> Record {
        Record {
            sent_us: u64::from(frame) * 40_000,
            source: 3,
            frame,
            index,
            count: 2,
            video: true,
            key,
            layer: 0,
        }
    }

    fn give(tally: &mut Tally, frame: u32, key: bool, at_ms: u64) -> Progress {
        tally.take(0, packet(frame, 0, key), at_ms * 1_000, WINDOW);
        tally.take(0, packet(frame, 1, key), at_ms * 1_000, WINDOW)
    }

    #[test]
    fn a_frame_that_lacks_a_packet_and_one_that_lacks_all_are_missing() {
        let mut tally = Tally::default();
        assert!(give(&mut tally, 0, true, 1).key_frame);
        tally.take(0, packet(1, 0, false), 41_000, WINDOW);
        give(&mut tally, 3, false, 121);
        let arrivals = tally.settle(WINDOW);
        assert_eq!((arrivals.pictures_expected, arrivals.pictures_complete), (4, 2));
        assert_eq!((arrivals.packets, arrivals.tracks), (5, 1));
        assert!((arrivals.delay_p50_ms - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_packet_that_comes_twice_counts_once() {
        let mut tally = Tally::default();
        give(&mut tally, 0, true, 1);
        give(&mut tally, 0, true, 2);
        let arrivals = tally.settle(WINDOW);
        assert_eq!((arrivals.packets, arrivals.packets_repeated), (2, 2));
        assert_eq!(arrivals.pictures_complete, 1);
    }

    #[test]
    fn a_late_repair_shows_what_waited_for_it() {
        let mut tally = Tally::default();
        give(&mut tally, 0, true, 0);
        for frame in 2..5 {
            give(&mut tally, frame, false, u64::from(frame) * 40);
        }
        give(&mut tally, 1, false, 180);
        give(&mut tally, 5, false, 200);
        let end = Window {
            end_us: 210_000,
            ..WINDOW
        };
        let arrivals = tally.settle(end);
        assert_eq!(arrivals.pictures_complete, 6);
        assert!((arrivals.longest_freeze_ms - 180.0).abs() < 1e-6, "{arrivals:?}");
    }

    #[test]
    fn a_picture_that_is_not_repaired_is_stuck_until_a_key_frame() {
        let mut tally = Tally::default();
        give(&mut tally, 0, true, 0);
        assert!(!give(&mut tally, 2, false, 80).stuck);
        assert!(!give(&mut tally, 3, false, 120).stuck);
        assert!(give(&mut tally, 9, false, 360).stuck);
        assert!(!give(&mut tally, 10, true, 400).stuck);
        assert!((tally.settle(WINDOW).longest_freeze_ms - 9_600.0).abs() < 1e-6);
    }

    #[test]
    fn what_was_sent_outside_the_window_is_not_counted() {
        let window = Window {
            begin_us: 40_000,
            end_us: 80_000,
        };
        let mut tally = Tally::default();
        for frame in 0..4 {
            for index in 0..2 {
                tally.take(0, packet(frame, index, frame == 0), 100_000, window);
            }
        }
        let arrivals = tally.settle(window);
        assert_eq!((arrivals.packets, arrivals.pictures_expected), (2, 1));
    }

    #[test]
    fn quantiles_of_nothing_are_nothing() {
        assert_eq!(quantiles(&[]), (0.0, 0.0));
        assert_eq!(quantiles(&[3.0, 1.0, 2.0]), (2.0, 3.0));
    }
}
