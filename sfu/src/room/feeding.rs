//! Decides what feeds which slot and what is needed of each source; runs when something changed, never for a packet.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use seodang_model::{MediaKind, ParticipantId, Publication, Source};

use super::allot::{Claim, allot};
use super::layers::{LayerSet, MOST_LAYERS, suited, within};
use super::line::{Layer, LayerId, Line, LineId, Route};
use super::loudness::Voice;
use super::publisher::{Publisher, place};
use super::subscriber::Subscriber;
use super::{CONTEST_PERIOD, Output, Room, publication};
use crate::SfuEvent;

/// Layers that came or went by themselves, layers not needed any more and lines with a limit are looked after this
/// often.
const REVIEW_PERIOD: Duration = Duration::from_millis(500);
/// A tile of more pixels shows a speaker, or one of few; smaller ones are given up first.
const LARGE_PIXELS: u32 = 480 * 360;
/// What a layer takes as long as nothing of it was seen, in bits per second: pages send no more than this.
const GUESSED_BPS: [u64; MOST_LAYERS] = [120_000, 400_000, 1_200_000];
/// The same for a camera that sends one picture.
const GUESSED_ONLY_BPS: u64 = 600_000;

/// A picture that a slot shall show.
struct Wish {
    slot: usize,
    line: LineId,
    /// The most important has the least.
    rank: (bool, Reverse<u32>, usize),
    claim: Claim,
    /// What each layer takes between key frames, as far as known.
    deltas_bps: [u64; MOST_LAYERS],
}

impl Room {
    /// Aims every slot, resolves the routes of every line, asks for the key frames that are then missing, and tells
    /// participants what changed.
    pub(super) fn resolve(&mut self, now: Instant, out: &mut dyn Output) {
        self.changed = false;
        self.aim(now);
        for publisher in self.publishers.iter_mut().flatten() {
            publisher.ask_keyframes(now, &mut self.writer, &mut self.counters, out);
        }
        (0..self.publishers.len()).for_each(|seat| self.rearm(seat));
        self.tell_slots(out);
        self.tell_layers(now, out);
        self.tell_rooms();
        let layered = |publisher: &Publisher| {
            (0..publisher.lines.len()).any(|line| publisher.has_needs(line) && publisher.is_active(line))
        };
        let limited = |subscriber: &Subscriber| subscriber.ready && subscriber.downlink.limit_bps().is_some();
        let reviewed =
            self.publishers.iter().flatten().any(layered) || self.subscribers.iter().flatten().any(limited);
        let at = self.review_at.unwrap_or(now + REVIEW_PERIOD);
        self.review_at = reviewed.then_some(at);
    }

    /// Chooses the layers of all slots and mirrors, and resolves routes, without telling anybody.
    pub(super) fn aim(&mut self, now: Instant) {
        self.aim_pictures(now);
        self.aim_sound(now);
        self.aim_mirrors(now);
        self.aim_relays(now);
        self.resolve_routes();
    }

    fn tell_slots(&mut self, out: &mut dyn Output) {
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

    /// Tells senders, or the rooms they send to, which layers are needed.
    fn tell_layers(&mut self, now: Instant, out: &mut dyn Output) {
        let mut rooms = Vec::new();
        for publisher in self.publishers.iter_mut().flatten() {
            for place in 0..publisher.lines.len() {
                if !publisher.has_needs(place) || !publisher.is_active(place) {
                    continue;
                }
                let line = &mut publisher.lines[place];
                if line.needs.update(now, line.needed).is_none() {
                    continue;
                }
                match &publisher.remote {
                    Some(remote) => rooms.push(remote.worker),
                    None => out.event(layers_event(publisher.participant, &publisher.lines[place])),
                }
            }
        }
        rooms.into_iter().for_each(|worker| self.tell_needs(worker));
    }

    fn aim_pictures(&mut self, now: Instant) {
        for publisher in self.publishers.iter_mut().flatten() {
            // The lowest layer is always sent: whoever comes to look sees something at once. It need not come here.
            let always = LayerSet::first(usize::from(publisher.remote.is_none()));
            for line in &mut publisher.lines {
                line.needed = always;
            }
        }
        let Self {
            publishers,
            subscribers,
            seats,
            ..
        } = self;
        for subscriber in subscribers.iter_mut().flatten() {
            let mut wishes = Vec::new();
            for place_in_slots in 0..subscriber.slots.len() {
                let slot = &subscriber.slots[place_in_slots];
                if slot.media.kind != MediaKind::Video {
                    continue;
                }
                let wished = subscriber.wanted(&slot.media.mid).and_then(|wanted| {
                    let line = LineId {
                        seat: *seats.get(&wanted.participant)?,
                        line: place(wanted.source),
                    };
                    Some((line, (wanted.width, wanted.height)))
                });
                match wished.filter(|(line, _)| subscriber.ready && is_active(publishers, *line)) {
                    Some((line, asked)) => wishes.extend(wish(now, publishers, place_in_slots, line, asked)),
                    None => {
                        let slot = &mut subscriber.slots[place_in_slots];
                        slot.granted = None;
                        slot.aim(None, |_| false);
                    }
                }
            }
            grant(subscriber, &mut wishes);
            for Wish { slot, line, .. } in wishes {
                let slot = &mut subscriber.slots[slot];
                let Some((_, Some(granted))) = slot.granted else {
                    slot.pause(line);
                    continue;
                };
                let Some(publisher) = publishers[line.seat].as_mut() else {
                    continue;
                };
                let sender = &mut publisher.lines[line.line];
                let layer = sender.flowing_instead(now, granted);
                sender.needed.insert(granted);
                sender.needed.insert(layer);
                slot.aim(Some(LayerId { line, layer }), |line| is_active(publishers, line));
                if let Some((feed, _)) = slot.feed()
                    && let Some(publisher) = publishers[feed.line.seat].as_mut()
                {
                    // It flows until the other one's key frame.
                    publisher.lines[feed.line.line].needed.insert(feed.layer);
                }
            }
        }
    }

    /// Files get the recording layer, captures theirs, and until it flows the best one below it.
    fn aim_mirrors(&mut self, now: Instant) {
        let sizes = [self.config.recording_size, self.config.capture_size];
        for line in self
            .publishers
            .iter_mut()
            .flatten()
            .flat_map(|publisher| &mut publisher.lines)
        {
            let attached = [line.mirror.is_some(), line.captures.is_some()];
            if line.layers.len() == 1 || attached == [false; 2] {
                continue;
            }
            let seen = line.sizes();
            let wishes = sizes.map(|limit| within(&seen, limit));
            let targets = wishes.map(|wish| line.flowing_instead(now, wish));
            let mirrors = [&mut line.mirror, &mut line.captures];
            for ((mirror, wish), target) in mirrors.into_iter().zip(wishes).zip(targets) {
                let Some(mirror) = mirror else { continue };
                mirror.target = target;
                line.needed.insert(wish);
                line.needed.insert(target);
                if let Some((feed, _)) = mirror.feed() {
                    line.needed.insert(feed);
                }
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
            let layered = line.layers.len() > 1;
            let awaited = [&line.mirror, &line.captures].map(|mirror| {
                let mirror = mirror.as_ref().filter(|_| layered);
                mirror.map(|mirror| (mirror.target, mirror.feed()))
            });
            for (place, layer) in line.layers.iter_mut().enumerate() {
                layer.routes.clear();
                let epoch = layer.stream.as_ref().map(|stream| stream.epoch);
                layer.wishes.waiting = awaited
                    .iter()
                    .flatten()
                    .any(|(target, feed)| *target == place && *feed != epoch.map(|epoch| (place, epoch)));
            }
        }
        for (seat, subscriber) in self.subscribers.iter().enumerate() {
            let Some(subscriber) = subscriber.as_ref().filter(|subscriber| subscriber.ready) else {
                continue;
            };
            let pacing = &subscriber.pacing;
            for (place, slot) in subscriber.slots.iter().enumerate() {
                let feed = slot.feed();
                let target = slot.target();
                let sources = [
                    feed.map(|(layer, _)| layer),
                    target.filter(|layer| Some(*layer) != feed.map(|feed| feed.0)),
                ];
                for source in sources.into_iter().flatten() {
                    if let Some(layer) = layer_mut(&mut self.publishers, source) {
                        layer.routes.push(Route { seat, slot: place });
                    }
                }
                if slot.media.kind == MediaKind::Video
                    && let Some(target) = target
                    && let Some(layer) = layer_mut(&mut self.publishers, target)
                {
                    let epoch = layer.stream.as_ref().map(|stream| stream.epoch);
                    let lacks = || epoch.is_none() || feed != epoch.map(|epoch| (target, epoch));
                    layer.wishes.waiting |= pacing.lacks_keyframe(place, target, epoch).unwrap_or_else(lacks);
                }
            }
        }
    }
}

/// What a slot asks of a line, in a tile of `asked` pixels.
fn wish(
    now: Instant,
    publishers: &[Option<Publisher>],
    slot: usize,
    line: LineId,
    asked: (u16, u16),
) -> Option<Wish> {
    let sender = &publishers[line.seat].as_ref()?.lines[line.line];
    let mut rates_bps = if sender.layers.len() == 1 {
        [GUESSED_ONLY_BPS; MOST_LAYERS]
    } else {
        GUESSED_BPS
    };
    for (rate, layer) in rates_bps.iter_mut().zip(&sender.layers) {
        *rate = layer.rate.steady_bps().unwrap_or(*rate);
    }
    let mut deltas_bps = [0; MOST_LAYERS];
    for (rate, layer) in deltas_bps.iter_mut().zip(&sender.layers) {
        *rate = layer.deltas.bps(now).max(layer.deltas.steady_bps()).unwrap_or(0);
    }
    let pixels = u32::from(asked.0) * u32::from(asked.1);
    let screen = sender.source == Source::Screen;
    Some(Wish {
        slot,
        line,
        rank: (
            !screen,
            Reverse(if pixels == 0 { u32::MAX } else { pixels }),
            slot,
        ),
        claim: Claim {
            large: screen || pixels == 0 || pixels >= LARGE_PIXELS,
            wish: suited(&sender.sizes(), asked),
            rates_bps,
        },
        deltas_bps,
    })
}

/// Divides what the subscriber's line carries among what it shall show.
fn grant(subscriber: &mut Subscriber, wishes: &mut [Wish]) {
    wishes.sort_by_key(|wish| wish.rank);
    let given = match subscriber.left_for_pictures_bps() {
        None => wishes.iter().map(|wish| Some(wish.claim.wish)).collect(),
        Some(budget_bps) => {
            let claims: Vec<_> = wishes.iter().map(|wish| wish.claim).collect();
            let before = |wish: &Wish| {
                let granted = subscriber.slots[wish.slot].granted;
                granted
                    .filter(|(line, _)| *line == wish.line)
                    .and_then(|(_, layer)| layer)
            };
            let before: Vec<_> = wishes.iter().map(before).collect();
            allot(&claims, budget_bps, &before)
        }
    };
    let mut granted_bps = 0;
    for (wish, layer) in wishes.iter().zip(given) {
        subscriber.slots[wish.slot].granted = Some((wish.line, layer));
        granted_bps += layer.map_or(0, |layer| wish.deltas_bps[layer]);
    }
    subscriber.pacing.grant(granted_bps);
}

/// Which layers of a line its sender shall send.
pub(super) fn layers_event(participant: ParticipantId, line: &Line) -> SfuEvent {
    let rids = line.media.iter().flat_map(|media| &media.rids);
    let told = rids
        .enumerate()
        .filter(|(layer, _)| line.needs.told().contains(*layer));
    SfuEvent::Layers {
        publication: Publication {
            participant,
            source: line.source,
        },
        rids: told.map(|(_, rid)| rid.clone()).collect(),
    }
}

fn layer_mut(publishers: &mut [Option<Publisher>], id: LayerId) -> Option<&mut Layer> {
    let publisher = publishers[id.line.seat].as_mut()?;
    publisher.lines[id.line.line].layers.get_mut(id.layer)
}

fn is_active(publishers: &[Option<Publisher>], line: LineId) -> bool {
    publishers[line.seat]
        .as_ref()
        .is_some_and(|publisher| publisher.is_active(line.line))
}
