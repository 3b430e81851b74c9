//! The receiving side of a participant.

use std::time::Instant;

use seodang_model::protocol::{SlotInfo, ViewSlot};
use seodang_model::{MediaKind, ParticipantId, Publication};

use super::Negotiated;
use super::line::LineId;
use super::loudness::{Voice, choose_voices};
use super::nack::{ResendBudget, Resends};
use super::round_trip::RoundTrip;
use super::slot::Slot;

/// A participant as one who receives.
pub(super) struct Subscriber {
    pub(super) participant: ParticipantId,
    pub(super) ready: bool,
    pub(super) slots: Vec<Slot>,
    /// For each slot.
    pub(super) resends: Vec<Resends>,
    pub(super) budget: ResendBudget,
    pub(super) round_trip: RoundTrip,
    pub(super) generation: u32,
    view: Vec<ViewSlot>,
    /// What the participant was told last.
    told: Option<(u32, Vec<Option<Publication>>)>,
}

/// More wishes than a connection has lines make no sense.
const MAX_VIEW_SLOTS: usize = 32;

impl Subscriber {
    pub(super) fn new(now: Instant, participant: ParticipantId) -> Self {
        Self {
            participant,
            ready: false,
            slots: Vec::new(),
            resends: Vec::new(),
            budget: ResendBudget::new(now),
            round_trip: RoundTrip::default(),
            generation: 0,
            view: Vec::new(),
            told: None,
        }
    }

    pub(super) fn connect(&mut self, now: Instant, media: &Negotiated) {
        self.disconnect();
        self.slots = media.slots.iter().cloned().map(Slot::new).collect();
        self.resends.resize_with(self.slots.len(), Resends::default);
        self.budget = ResendBudget::new(now);
        self.round_trip = RoundTrip::default();
    }

    pub(super) fn disconnect(&mut self) {
        self.ready = false;
        self.slots.clear();
        self.resends.clear();
        self.told = None;
    }

    /// Replaces what the video slots shall show. Kept over a reconnect, so that a view may come before its connection.
    pub(super) fn view(&mut self, generation: u32, view: &[ViewSlot]) {
        self.generation = generation;
        self.view = view.iter().take(MAX_VIEW_SLOTS).cloned().collect();
    }

    /// The publication that a video slot shall show; only pictures count.
    pub(super) fn wanted(&self, mid: &str) -> Option<Publication> {
        let wish = self.view.iter().find(|wish| wish.mid == mid)?;
        let publication = Publication {
            participant: wish.participant,
            source: wish.source,
        };
        (wish.source.kind() == MediaKind::Video).then_some(publication)
    }

    /// Chooses what the audio slots carry: voices, and in the last one a screen's sound. With a single audio slot there
    /// is no place for the latter.
    pub(super) fn choose_sound(&mut self, voices: &[Voice], screens: &[LineId]) {
        let places: Vec<_> = (0..self.slots.len())
            .filter(|place| self.slots[*place].media.kind == MediaKind::Audio)
            .collect();
        let (places, last) = match places.split_last() {
            Some((last, rest)) if !rest.is_empty() => (rest, Some(*last)),
            _ => (&places[..], None),
        };
        let mut chosen: Vec<_> = places.iter().map(|place| self.slots[*place].target()).collect();
        choose_voices(&mut chosen, voices);
        for (place, line) in places.iter().zip(chosen) {
            self.slots[*place].aim(line, |_| false);
        }
        if let Some(last) = last {
            let slot = &mut self.slots[last];
            let stays = slot.target().filter(|line| screens.contains(line));
            slot.aim(stays.or(screens.first().copied()), |_| false);
        }
    }

    /// Whether more voices than slots compete, so that loudness decides.
    pub(super) fn has_contest(&self, voices: usize) -> bool {
        let slots = self
            .slots
            .iter()
            .filter(|slot| slot.media.kind == MediaKind::Audio)
            .count();
        self.ready && slots > 0 && voices > if slots > 1 { slots - 1 } else { 1 }
    }

    /// What is to be told, if it is another than before.
    pub(super) fn take_news(
        &mut self,
        publication: impl Fn(LineId) -> Option<Publication>,
    ) -> Option<Vec<SlotInfo>> {
        let shown: Vec<_> = self
            .slots
            .iter()
            .map(|slot| slot.shown().and_then(&publication))
            .collect();
        let told = Some((self.generation, shown));
        if !self.ready || told == self.told {
            return None;
        }
        self.told = told;
        Some(self.slot_infos(publication))
    }

    pub(super) fn slot_infos(&self, publication: impl Fn(LineId) -> Option<Publication>) -> Vec<SlotInfo> {
        self.slots
            .iter()
            .map(|slot| {
                let shown = slot.shown().and_then(&publication);
                SlotInfo {
                    mid: slot.media.mid.clone(),
                    participant: shown.map(|publication| publication.participant),
                    source: shown.map(|publication| publication.source),
                }
            })
            .collect()
    }
}
