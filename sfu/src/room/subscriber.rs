//! The receiving side of a participant.

use std::time::Instant;

use seodang_model::protocol::{SlotInfo, ViewSlot};
use seodang_model::{MediaKind, ParticipantId, Publication};
use seodang_rtp::ReportBlocks;

use super::Negotiated;
use super::downlink::Downlink;
use super::line::{LayerId, LineId};
use super::losses::{Losses, Rate};
use super::loudness::{Voice, choose_voices};
use super::pacing::{PACED_BELOW_BPS, Pacing, Turn};
use super::resend::{Allowance, LineQuality, ResendBudget, Resends};
use super::round_trip::RoundTrip;
use super::slot::{Incoming, Slot};

/// A participant as one who receives.
pub(super) struct Subscriber {
    pub(super) participant: ParticipantId,
    pub(super) ready: bool,
    pub(super) slots: Vec<Slot>,
    /// For each slot.
    pub(super) resends: Vec<Resends>,
    pub(super) budget: ResendBudget,
    /// Everything that is sent.
    pub(super) sent: Rate,
    /// The sound in it.
    sound: Rate,
    pub(super) downlink: Downlink,
    pub(super) pacing: Pacing,
    losses: Losses,
    pub(super) round_trip: RoundTrip,
    pub(super) generation: u32,
    view: Vec<ViewSlot>,
    /// What the participant was told last.
    told: Option<(u32, Vec<Shown>)>,
}

/// What a slot carries, and whether it pauses.
type Shown = (Option<Publication>, bool);

/// What a voice takes with its headers.
const SOUND_BPS: u64 = 45_000;
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
            sent: Rate::default(),
            sound: Rate::default(),
            downlink: Downlink::default(),
            pacing: Pacing::default(),
            losses: Losses::default(),
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
        self.pacing.reset(self.slots.len());
        (self.sent, self.sound, self.downlink, self.losses) = Default::default();
        self.round_trip = RoundTrip::default();
    }

    pub(super) fn disconnect(&mut self) {
        self.ready = false;
        self.slots.clear();
        self.resends.clear();
        self.pacing.reset(0);
        self.told = None;
    }

    /// Replaces what the video slots shall show. Kept over a reconnect, so that a view may come before its connection.
    pub(super) fn view(&mut self, generation: u32, view: &[ViewSlot]) {
        self.generation = generation;
        self.view = view.iter().take(MAX_VIEW_SLOTS).cloned().collect();
    }

    /// What a video slot shall show, and how large; only pictures count.
    pub(super) fn wanted(&self, mid: &str) -> Option<&ViewSlot> {
        let mut wishes = self.view.iter();
        wishes.find(|wish| wish.mid == mid && wish.source.kind() == MediaKind::Video)
    }

    /// A packet of `bytes` was given to the slot at `place` for the first time.
    pub(super) fn gave(&mut self, now: Instant, place: usize, bytes: usize) {
        self.budget.sent(now, bytes);
        self.count_sent(now, place, bytes);
        let would_ask = self.slots.get(place).is_some_and(|slot| slot.media.nack);
        self.losses.given(bytes, would_ask);
    }

    /// A packet of `sent_at` was lost on the way to the participant.
    /// Answers as [`Self::handle_reports`].
    pub(super) fn lost(&mut self, now: Instant, sent_at: Instant) -> bool {
        let before = self.downlink.limit_bps();
        if let Some(share) = self.losses.asked(now, sent_at, self.downlink.is_probing()) {
            self.downlink.note_loss(share);
            self.downlink.handle_asked(now, share);
        }
        self.downlink.limit_bps() != before
    }

    /// How fast pictures go out where they wait for each other; `None`: as they come.
    pub(super) fn paced_bps(&self) -> Option<u64> {
        // What waited for a line that is good again goes out without making another burst.
        let rest = || self.pacing.is_busy().then_some(PACED_BELOW_BPS);
        self.downlink.paced_bps().or_else(rest)
    }

    /// What becomes of a packet that a slot takes, and that came `late` or in order.
    pub(super) fn turn(&mut self, place: usize, packet: &Incoming<'_>, late: bool) -> Turn {
        let slot = &self.slots[place];
        if slot.media.kind == MediaKind::Audio || self.paced_bps().is_none() {
            return Turn::Now;
        }
        self.pacing.turn(place, slot, packet, late)
    }

    /// Counts what is sent for the slot at `place`.
    pub(super) fn count_sent(&mut self, now: Instant, place: usize, bytes: usize) {
        self.sent.add(now, bytes);
        let slot = self.slots.get(place);
        if slot.is_some_and(|slot| slot.media.kind == MediaKind::Audio) {
            self.sound.add(now, bytes);
        }
        if let Some(bps) = self.paced_bps() {
            self.pacing.spend(now, bytes, bps);
        }
    }

    /// What repair has to reckon with.
    pub(super) fn line_quality(&self) -> LineQuality {
        LineQuality {
            round_trip: self.round_trip.get(),
            own_loss: self.downlink.loss_to_repair(),
        }
    }

    /// What of it may be sent again.
    pub(super) fn allowance(&self) -> Allowance {
        match self.downlink.thin_bps() {
            Some(bps) => Allowance::Thin(bps),
            None if self.line_quality().is_very_lossy() => Allowance::VeryLossy,
            None => Allowance::Usual,
        }
    }

    /// Takes what the participant says of its slots' packets; whether that changes what its line is believed to carry.
    pub(super) fn handle_reports(&mut self, now: Instant, reports: ReportBlocks<'_>) -> bool {
        let own = |ssrc| self.slots.iter().find(|slot| slot.media.ssrc == ssrc);
        let mut queued = None;
        for report in reports.iter() {
            queued = queued.max(self.round_trip.answered(now, &report));
            if let Some(slot) = own(report.ssrc) {
                self.losses.add(now, &report, slot.media.kind);
            }
        }
        let before = self.downlink.limit_bps();
        if let (Some(queued), Some(sent_bps)) = (queued, self.sent.bps(now)) {
            self.downlink.handle_queue(now, queued, sent_bps);
        }
        if let Some((loss, sent_bps)) = self.losses.take(now) {
            let all_bps = self.sent.bps(now).unwrap_or(sent_bps);
            self.downlink.handle_loss(now, loss, sent_bps, all_bps);
        }
        self.downlink.limit_bps() != before
    }

    /// Takes the participant's own estimate, which browsers make of pictures alone; answers as [`Self::handle_reports`].
    pub(super) fn handle_estimate(&mut self, now: Instant, pictures_bps: u64) -> bool {
        let before = self.downlink.limit_bps();
        if let Some(sent_bps) = self.sent.bps(now) {
            let estimate_bps = pictures_bps.saturating_add(self.sound.bps(now).unwrap_or(0));
            self.downlink.handle_estimate(now, estimate_bps, sent_bps);
        }
        self.downlink.limit_bps() != before
    }

    /// What is left of the line's limit when all sound is sent; `None`: there is no limit.
    pub(super) fn left_for_pictures_bps(&self) -> Option<u64> {
        let sounds = self
            .slots
            .iter()
            .filter(|slot| slot.media.kind == MediaKind::Audio);
        let heard = sounds.filter(|slot| slot.target().is_some()).count() as u64;
        let limit_bps = self.downlink.limit_bps()?;
        Some(limit_bps.saturating_sub(heard * SOUND_BPS))
    }

    /// Chooses what the audio slots carry: voices, and in the last one a screen's sound. With a single audio slot there
    /// is no place for the latter. A slot that goes with a picture carries who is seen in it.
    pub(super) fn choose_sound(&mut self, voices: &[Voice], screens: &[LineId]) {
        let places: Vec<_> = (0..self.slots.len())
            .filter(|place| self.slots[*place].media.kind == MediaKind::Audio)
            .collect();
        let (places, last) = match places.split_last() {
            Some((last, rest)) if !rest.is_empty() => (rest, Some(*last)),
            _ => (&places[..], None),
        };
        let carried = |slot: &Slot| slot.target().map(|layer| layer.line);
        let (mut free, mut others) = (Vec::new(), voices.to_vec());
        for place in places {
            let seen = self.seen_with(*place);
            match others.iter().position(|voice| Some(voice.line.seat) == seen) {
                Some(voice) => {
                    let voice = others.remove(voice);
                    self.slots[*place].aim(Some(LayerId::only(voice.line)), |_| false);
                }
                None => free.push(*place),
            }
        }
        let mut chosen: Vec<_> = free.iter().map(|place| carried(&self.slots[*place])).collect();
        choose_voices(&mut chosen, &others);
        for (place, line) in free.iter().zip(chosen) {
            self.slots[*place].aim(line.map(LayerId::only), |_| false);
        }
        if let Some(last) = last {
            let seen = self.seen_with(last);
            let slot = &mut self.slots[last];
            let with = screens.iter().find(|line| Some(line.seat) == seen).copied();
            let stays = carried(slot).filter(|line| screens.contains(line));
            let line = with.or(stays).or(screens.first().copied());
            slot.aim(line.map(LayerId::only), |_| false);
        }
    }

    /// The seat of who is seen in the picture that an audio slot goes with.
    fn seen_with(&self, place: usize) -> Option<usize> {
        let picture = self.slots[place].media.lips.as_ref()?;
        let slot = self.slots.iter().find(|slot| slot.media.mid == *picture)?;
        Some(slot.shown()?.seat)
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
            .map(|slot| (slot.shown().and_then(&publication), slot.paused().is_some()))
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
                    paused: slot.paused().is_some(),
                }
            })
            .collect()
    }
}
