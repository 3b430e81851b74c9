//! Decides what feeds which slot; runs when something changed, never for a packet.

use std::time::Instant;

use seodang_model::{MediaKind, Source};

use super::line::{LineId, Route};
use super::loudness::Voice;
use super::publisher::{Publisher, place};
use super::{CONTEST_PERIOD, Output, Room, publication};
use crate::SfuEvent;

impl Room {
    /// Aims every slot, resolves the routes of every line, asks for the key frames that are then missing, and tells
    /// participants what changed.
    pub(super) fn resolve(&mut self, now: Instant, out: &mut dyn Output) {
        self.changed = false;
        self.aim_pictures();
        self.aim_sound(now);
        self.resolve_routes();
        for publisher in self.publishers.iter_mut().flatten() {
            publisher.ask_keyframes(now, &mut self.writer, &mut self.counters, out);
        }
        let publishers = &self.publishers;
        for subscriber in self.subscribers.iter_mut().flatten() {
            if let Some(slots) = subscriber.take_news(|line| publication(publishers, line)) {
                let (participant, generation) = (subscriber.participant, subscriber.generation);
                out.event(SfuEvent::Slots {
                    participant,
                    generation,
                    slots,
                });
            }
        }
    }

    fn aim_pictures(&mut self) {
        let Self {
            publishers,
            subscribers,
            seats,
            ..
        } = self;
        for subscriber in subscribers.iter_mut().flatten() {
            for place_in_slots in 0..subscriber.slots.len() {
                let slot = &subscriber.slots[place_in_slots];
                if slot.media.kind != MediaKind::Video {
                    continue;
                }
                let target = subscriber
                    .wanted(&slot.media.mid)
                    .and_then(|wanted| {
                        let seat = *seats.get(&wanted.participant)?;
                        Some(LineId {
                            seat,
                            line: place(wanted.source),
                        })
                    })
                    .filter(|line| subscriber.ready && is_active(publishers, *line));
                subscriber.slots[place_in_slots].aim(target, |line| is_active(publishers, line));
            }
        }
    }

    fn aim_sound(&mut self, now: Instant) {
        let mut voices = Vec::new();
        let mut screens = Vec::new();
        for (seat, publisher) in self.publishers.iter().enumerate() {
            let Some(publisher) = publisher else { continue };
            let (voice, screen) = (place(Source::Microphone), place(Source::ScreenAudio));
            if publisher.is_active(voice) {
                let score = publisher.lines[voice].loudness.score(now);
                voices.push(Voice {
                    line: LineId { seat, line: voice },
                    score,
                });
            }
            if publisher.is_active(screen) {
                screens.push(LineId { seat, line: screen });
            }
        }
        // Stable: equal voices keep the order of their seats.
        voices.sort_by(|left, right| right.score.total_cmp(&left.score));
        let mut contest = false;
        for (seat, subscriber) in self.subscribers.iter_mut().enumerate() {
            let Some(subscriber) = subscriber else { continue };
            if !subscriber.ready {
                continue;
            }
            let voices: Vec<_> = voices
                .iter()
                .copied()
                .filter(|voice| voice.line.seat != seat)
                .collect();
            let screens: Vec<_> = screens.iter().copied().filter(|line| line.seat != seat).collect();
            contest |= subscriber.has_contest(voices.len());
            subscriber.choose_sound(&voices, &screens);
        }
        self.contest_at = contest.then(|| now + CONTEST_PERIOD);
    }

    fn resolve_routes(&mut self) {
        for line in self
            .publishers
            .iter_mut()
            .flatten()
            .flat_map(|publisher| &mut publisher.lines)
        {
            line.routes.clear();
            line.wishes.waiting = false;
        }
        for (seat, subscriber) in self.subscribers.iter().enumerate() {
            let slots = subscriber
                .iter()
                .filter(|subscriber| subscriber.ready)
                .flat_map(|one| &one.slots);
            for (place, slot) in slots.enumerate() {
                let feed = slot.feed();
                let target = slot.target();
                let lines = [
                    feed.map(|(line, _)| line),
                    target.filter(|line| Some(*line) != feed.map(|feed| feed.0)),
                ];
                for line in lines.into_iter().flatten() {
                    let Some(publisher) = self.publishers[line.seat].as_mut() else {
                        continue;
                    };
                    publisher.lines[line.line]
                        .routes
                        .push(Route { seat, slot: place });
                }
                if slot.media.kind == MediaKind::Video
                    && let Some(target) = target
                    && let Some(publisher) = self.publishers[target.seat].as_mut()
                {
                    let line = &mut publisher.lines[target.line];
                    let epoch = line.stream.as_ref().map(|stream| stream.epoch);
                    line.wishes.waiting |= epoch.is_none() || feed != epoch.map(|epoch| (target, epoch));
                }
            }
        }
    }
}

fn is_active(publishers: &[Option<Publisher>], line: LineId) -> bool {
    publishers[line.seat]
        .as_ref()
        .is_some_and(|publisher| publisher.is_active(line.line))
}
