//! Who is loud, and which voices a subscriber hears.

use std::time::{Duration, Instant};

use seodang_rtp::AudioLevel;

use super::line::LineId;

/// The loudness of one microphone: rises within about 300 ms, so that a cough takes no slot, and is held for 2 s, so that
/// a pause between two sentences gives none away.
#[derive(Debug, Default)]
pub(super) struct Loudness {
    /// In decibel above digital silence: 0 to 127.
    level_db: f32,
    held_db: f32,
    held_until: Option<Instant>,
    last: Option<Instant>,
}

/// Reaches 86 % in 300 ms.
const TIME_CONSTANT: Duration = Duration::from_millis(150);
const HOLD: Duration = Duration::from_secs(2);
/// A sender that measures nothing (no RFC 6464) counts as quiet speech at -40 dBov.
const UNKNOWN_DB: u8 = 40;
/// A voice must be louder by this much to take another's slot.
const MARGIN_DB: f32 = 3.0;
/// Below -75 dBov there is room noise only, which takes nobody's slot.
const AUDIBLE_DB: f32 = 127.0 - 75.0;

impl Loudness {
    pub(super) fn packet(&mut self, now: Instant, level: Option<AudioLevel>) {
        let below = level.map_or(UNKNOWN_DB, |level| level.below_full_scale_db.min(127));
        let elapsed = self.last.map_or(Duration::from_millis(20), |last| {
            now.saturating_duration_since(last)
        });
        let weight = 1.0 - (-elapsed.as_secs_f32() / TIME_CONSTANT.as_secs_f32()).exp();
        self.level_db += weight * (f32::from(127 - below) - self.level_db);
        self.last = Some(now);
        if self.level_db >= self.held_db || self.held_until.is_none_or(|until| until <= now) {
            self.held_db = self.level_db;
            self.held_until = Some(now + HOLD);
        }
    }

    /// Decibel above digital silence, with attack and hold; 0 when nothing came for long.
    pub(super) fn score(&self, now: Instant) -> f32 {
        match self.held_until {
            Some(until) if until > now => self.held_db,
            _ => 0.0,
        }
    }
}

/// A microphone that may be heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Voice {
    pub(super) line: LineId,
    pub(super) score: f32,
}

/// Chooses what the voice slots of a subscriber carry. `slots` is what they carry; `voices` are all that may be heard by
/// it, loudest first. A voice keeps its slot as long as it is among the chosen; where all fit, nothing ever moves.
pub(super) fn choose_voices(slots: &mut [Option<LineId>], voices: &[Voice]) {
    let score = |line: LineId| {
        voices
            .iter()
            .find(|voice| voice.line == line)
            .map(|voice| voice.score)
    };
    for slot in slots.iter_mut() {
        *slot = slot.filter(|line| score(*line).is_some());
    }
    for challenger in voices {
        if slots.contains(&Some(challenger.line)) {
            continue;
        }
        if let Some(empty) = slots.iter_mut().find(|slot| slot.is_none()) {
            *empty = Some(challenger.line);
            continue;
        }
        let quietest = slots
            .iter_mut()
            .filter_map(|slot| Some((score((*slot)?)?, slot)))
            .min_by(|(left, _), (right, _)| left.total_cmp(right));
        match quietest {
            Some((quiet, slot)) if challenger.score > AUDIBLE_DB && challenger.score > quiet + MARGIN_DB => {
                *slot = Some(challenger.line);
            }
            // Later challengers are no louder.
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(seat: usize) -> LineId {
        LineId { seat, line: 1 }
    }

    fn voices(scores: &[f32]) -> Vec<Voice> {
        let mut voices: Vec<_> = scores
            .iter()
            .enumerate()
            .map(|(seat, score)| Voice {
                line: line(seat),
                score: *score,
            })
            .collect();
        voices.sort_by(|left, right| right.score.total_cmp(&left.score));
        voices
    }

    fn speak(loudness: &mut Loudness, from: Instant, duration_ms: u64, below: u8) -> Instant {
        let mut now = from;
        for _ in 0..duration_ms / 20 {
            now += Duration::from_millis(20);
            loudness.packet(
                now,
                Some(AudioLevel {
                    voice: true,
                    below_full_scale_db: below,
                }),
            );
        }
        now
    }

    #[test]
    fn a_voice_rises_within_300_ms_and_is_held_for_2_s() {
        let start = Instant::now();
        let mut loudness = Loudness::default();
        let coughed = speak(&mut loudness, start, 40, 20);
        assert!(loudness.score(coughed) < 40.0);
        let spoke = speak(&mut loudness, coughed, 300, 20);
        assert!(loudness.score(spoke) > 85.0);
        let paused = speak(&mut loudness, spoke, 1900, 127);
        assert!(loudness.score(paused) > 85.0);
        let silent = speak(&mut loudness, paused, 400, 127);
        assert!(loudness.score(silent) < 10.0);
        assert_eq!(
            loudness.score(silent + Duration::from_secs(5)),
            0.0,
            "gone without a packet"
        );
    }

    #[test]
    fn where_all_fit_nothing_moves() {
        let mut slots = [None; 3];
        choose_voices(&mut slots, &voices(&[0.0, 50.0]));
        let first = slots;
        choose_voices(&mut slots, &voices(&[100.0, 0.0]));
        assert_eq!(slots, first);
        choose_voices(&mut slots, &voices(&[100.0, 0.0, 60.0]));
        assert_eq!(slots[..2], first[..2]);
        assert_eq!(slots[2], Some(line(2)));
    }

    #[test]
    fn a_louder_voice_takes_the_place_of_the_quietest() {
        let mut slots = [Some(line(0)), Some(line(1))];
        choose_voices(&mut slots, &voices(&[90.0, 60.0, 62.0]));
        assert_eq!(slots, [Some(line(0)), Some(line(1))], "hardly louder");
        choose_voices(&mut slots, &voices(&[90.0, 60.0, 80.0]));
        assert_eq!(slots, [Some(line(0)), Some(line(2))]);
        choose_voices(&mut slots, &voices(&[1.0, 40.0, 2.0]));
        assert_eq!(slots, [Some(line(0)), Some(line(2))], "noise is no voice");
    }

    #[test]
    fn who_leaves_makes_room() {
        let mut slots = [Some(line(7)), Some(line(1))];
        choose_voices(&mut slots, &voices(&[0.0, 0.0]));
        assert_eq!(slots, [Some(line(0)), Some(line(1))]);
    }

    proptest! {
        #[test]
        fn nobody_is_heard_twice_and_no_slot_is_wasted(
            rounds in proptest::collection::vec(proptest::collection::vec(0f32..127.0, 0..12), 1..10),
        ) {
            let mut slots = [None; 5];
            for scores in rounds {
                choose_voices(&mut slots, &voices(&scores));
                let mut heard: Vec<_> = slots.iter().flatten().map(|line| line.seat).collect();
                prop_assert_eq!(heard.len(), scores.len().min(5));
                heard.sort_unstable();
                prop_assert!(heard.is_sorted_by(|a, b| a < b));
            }
        }
    }
}
