//! One lesson's media: who publishes what, who is fed with it, and every packet's way between them.
//!
//! No socket and no clock: packets and the time come in, packets and events go out through [`Output`]. A packet's way is in
//! `forward`; what feeds which slot is decided in `feeding`, when something changes and never for a packet; `slot` keeps
//! the one invariant that must not break, that no packet index goes out twice with different bytes.

mod allot;
mod bindings;
mod downlink;
mod feeding;
mod forward;
mod giving;
mod history;
mod keyframe;
mod layers;
mod line;
mod losses;
mod loudness;
mod mirror;
mod nack;
mod pacing;
mod parcel;
mod publisher;
mod reception;
mod relay;
mod remote;
mod resend;
mod round_trip;
mod seam;
mod slot;
mod stats;
mod stream;
mod subscriber;
#[cfg(test)]
mod tests;
mod timeline;
mod timers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use seodang_model::protocol::{IceState, ViewSlot};
use seodang_model::{ParticipantId, Publication, Rights};
use seodang_rtp::RtcpWriter;

pub(crate) use layers::MOST_LAYERS;
pub(crate) use seam::{
    ExtensionIds, Negotiated, NegotiatedRtx, NegotiatedSlot, NegotiatedSource, Output, RoomConfig, SlotRtx,
};

use crate::{ParticipantReport, PublicationReport, RoomReport, SfuStats, TrackSink};
use line::{LineId, Route};
pub(crate) use parcel::Parcel;
use publisher::{Publisher, place, send_pli};
use relay::Relay;
use stats::Counters;
use subscriber::Subscriber;
use timers::Timers;

/// The media side of one lesson. Dropping it drops every sink.
pub(crate) struct Room {
    config: RoomConfig,
    seats: BTreeMap<ParticipantId, usize>,
    /// By seat; apart from the subscribers, so that a packet of the one can be handed to the others.
    publishers: Vec<Option<Publisher>>,
    /// By seat.
    subscribers: Vec<Option<Subscriber>>,
    /// When the first seat was taken.
    began: Option<Instant>,
    /// Counts begun streams.
    epochs: u64,
    /// What feeds the slots must be decided again.
    changed: bool,
    /// When loudness is compared again; only while more speak than slots carry.
    contest_at: Option<Instant>,
    /// When layers and limits are looked after; only while there are any.
    review_at: Option<Instant>,
    /// When something that waits for a thin line has its turn.
    pacing_at: Option<Instant>,
    /// Of the publishers.
    timers: Timers,
    /// The lesson's rooms on other workers.
    relay: Relay,
    counters: Counters,
    writer: RtcpWriter,
    /// A packet that is sent again.
    scratch: Vec<u8>,
    /// Who takes the packet at hand.
    takers: Vec<Route>,
}

/// Loudness is compared this often.
const CONTEST_PERIOD: Duration = Duration::from_millis(100);

impl Room {
    /// An empty room.
    pub(crate) fn new(config: RoomConfig) -> Self {
        Self {
            config,
            seats: BTreeMap::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            began: None,
            epochs: 0,
            changed: false,
            contest_at: None,
            review_at: None,
            pacing_at: None,
            timers: Timers::default(),
            relay: Relay::default(),
            counters: Counters::default(),
            writer: RtcpWriter::default(),
            scratch: Vec::new(),
            takers: Vec::new(),
        }
    }

    /// Takes a seat. Joining again keeps the connection and replaces the rights.
    pub(crate) fn join(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        rights: Rights,
        out: &mut dyn Output,
    ) {
        // Whoever moved here from another worker does not send there any more.
        self.forget_remote(now, participant, out);
        if self.seats.contains_key(&participant) {
            return self.set_rights(now, participant, rights, out);
        }
        self.stay();
        let seat = self.take_seat(participant);
        let began = *self.began.get_or_insert(now);
        self.publishers[seat] = Some(Publisher::new(began, participant, rights));
        self.subscribers[seat] = Some(Subscriber::new(now, participant));
    }

    /// A place for a participant who has none.
    fn take_seat(&mut self, participant: ParticipantId) -> usize {
        let free = self.publishers.iter().position(Option::is_none);
        let seat = free.unwrap_or_else(|| {
            self.publishers.push(None);
            self.subscribers.push(None);
            self.publishers.len() - 1
        });
        self.seats.insert(participant, seat);
        seat
    }

    /// Replaces the rights; what may no longer be sent is dropped from the next packet on.
    pub(crate) fn set_rights(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        rights: Rights,
        out: &mut dyn Output,
    ) {
        let Some(publisher) = self.publisher(participant) else {
            return;
        };
        publisher.rights = rights;
        for line in &mut publisher.lines {
            if !rights.allow(line.source) {
                line.reset();
            } else if line.heard_at.is_none() {
                line.heard_at = Some(now);
            }
        }
        self.resolve(now, out);
    }

    /// A (re)negotiated connection replaces the earlier one: publications, view and sinks stay, slots start empty.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        media: &Negotiated,
        out: &mut dyn Output,
    ) {
        let Some(seat) = self.seats.get(&participant).copied() else {
            return;
        };
        self.meet_again();
        if let (Some(publisher), Some(subscriber)) = (&mut self.publishers[seat], &mut self.subscribers[seat])
        {
            publisher.connect(media);
            publisher.tell_state(now, out);
            for line in publisher.lines.iter().filter(|line| line.layers.len() > 1) {
                // What an earlier connection was told says nothing about this one.
                out.event(feeding::layers_event(participant, line));
            }
            subscriber.connect(now, media);
        }
        self.resolve(now, out);
    }

    /// Keys are agreed: packets may be sent to the participant.
    pub(crate) fn ready(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {
        let Some(seat) = self.seats.get(&participant).copied() else {
            return;
        };
        if let (Some(publisher), Some(subscriber)) = (&mut self.publishers[seat], &mut self.subscribers[seat])
        {
            publisher.ready(now);
            publisher.tell_state(now, out);
            subscriber.ready = true;
        }
        self.resolve(now, out);
        self.handle_timeout(now, out);
    }

    /// The transport is lost; seat, publications, view and sinks stay.
    pub(crate) fn disconnect(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {
        let Some(seat) = self.seats.get(&participant).copied() else {
            return;
        };
        if let (Some(publisher), Some(subscriber)) = (&mut self.publishers[seat], &mut self.subscribers[seat])
        {
            publisher.disconnect();
            publisher.tell_state(now, out);
            subscriber.disconnect();
        }
        self.resolve(now, out);
    }

    /// The participant sends this source from here on; packets of sources that are not published are dropped.
    pub(crate) fn publish(&mut self, now: Instant, publication: Publication, out: &mut dyn Output) {
        let Some(publisher) = self.publisher(publication.participant) else {
            return;
        };
        let line = &mut publisher.lines[place(publication.source)];
        if !line.published {
            line.reset();
            line.published = true;
            line.packets = 0;
            line.heard_at = Some(now);
        }
        self.resolve(now, out);
    }

    /// The participant no longer sends this source. The sink stays: a camera that is turned on again continues.
    pub(crate) fn unpublish(&mut self, now: Instant, publication: Publication, out: &mut dyn Output) {
        let Some(publisher) = self.publisher(publication.participant) else {
            return;
        };
        let line = &mut publisher.lines[place(publication.source)];
        line.published = false;
        line.packets = 0;
        line.reset();
        publisher.tell_state(now, out);
        self.resolve(now, out);
    }

    /// Replaces what the participant's video slots shall show. Wishes for unknown slots, for sounds and for who is not
    /// there have no effect; the latter take effect once they publish.
    pub(crate) fn view(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        generation: u32,
        slots: &[ViewSlot],
        out: &mut dyn Output,
    ) {
        let Some(seat) = self.seats.get(&participant).copied() else {
            return;
        };
        if let Some(subscriber) = &mut self.subscribers[seat] {
            subscriber.view(generation, slots);
        }
        self.resolve(now, out);
    }

    /// Mirrors a publication to `sink` from the next packet on, in place of an earlier sink; until detach or leave. The
    /// sink is dropped at once when the participant has no seat.
    pub(crate) fn attach(&mut self, publication: Publication, sink: Box<dyn TrackSink>) {
        if let Some(publisher) = self.publisher(publication.participant) {
            publisher.lines[place(publication.source)].attach(sink);
            self.changed = true;
        }
    }

    /// Drops the publication's sink.
    pub(crate) fn detach(&mut self, publication: Publication) {
        if let Some(publisher) = self.publisher(publication.participant) {
            publisher.lines[place(publication.source)].mirror = None;
        }
    }

    /// Mirrors a publication's capture layer to a sink of its own, beside that of [`Self::attach`].
    pub(crate) fn attach_captures(&mut self, publication: Publication, sink: Box<dyn TrackSink>) {
        if let Some(publisher) = self.publisher(publication.participant) {
            publisher.lines[place(publication.source)].attach_captures(sink);
            self.changed = true;
        }
    }

    /// Drops the sink of [`Self::attach_captures`].
    pub(crate) fn detach_captures(&mut self, publication: Publication) {
        if let Some(publisher) = self.publisher(publication.participant) {
            publisher.lines[place(publication.source)].captures = None;
        }
    }

    /// Asks for a key frame: at most once a second together with all other wishes, or at once if `for_tick`.
    pub(crate) fn request_keyframe(
        &mut self,
        now: Instant,
        publication: Publication,
        for_tick: bool,
        out: &mut dyn Output,
    ) {
        let Some(seat) = self.seats.get(&publication.participant).copied() else {
            return;
        };
        let Some(publisher) = &mut self.publishers[seat] else {
            return;
        };
        let which = place(publication.source);
        if !publisher.is_active(which) {
            return;
        }
        let line = &mut publisher.lines[which];
        // Files ask for it: the layer they get.
        let (files, captures) = (line.mirror.as_ref(), line.captures.as_ref());
        let asking = if for_tick {
            captures.or(files)
        } else {
            files.or(captures)
        };
        let layer = asking
            .map_or(0, |mirror| mirror.feed().map_or(mirror.target, |feed| feed.0))
            // A new connection may have fewer than the one that fed it.
            .min(line.layers.len() - 1);
        match line.media_ssrc(layer) {
            Some(ssrc) if for_tick => {
                line.layers[layer].wishes.force(now);
                self.counters.keyframes_requested += 1;
                send_pli(&mut self.writer, publisher.participant, ssrc, out);
            }
            _ => {
                line.layers[layer].wishes.wish();
                publisher.ask_keyframes(now, &mut self.writer, &mut self.counters, out);
            }
        }
        self.rearm(seat);
    }

    /// Gives the seat up and drops its sinks.
    pub(crate) fn leave(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {
        let Some(seat) = self.seats.remove(&participant) else {
            return;
        };
        (self.publishers[seat], self.subscribers[seat]) = (None, None);
        self.resolve(now, out);
        if self.subscribers.iter().all(Option::is_none) {
            self.part();
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut dyn Output) {
        let bitrate_bps = self.config.publisher_bitrate_bps;
        for seat in 0..self.publishers.len() {
            if self.timers.is_due(seat, now)
                && let Some(publisher) = &mut self.publishers[seat]
            {
                // A panic in it must not be due for ever.
                self.timers.set(seat, None);
                publisher.handle_timeout(now, bitrate_bps, &mut self.writer, &mut self.counters, out);
                self.timers.set(seat, publisher.poll_timeout());
            }
        }
        if self.review_at.is_some_and(|at| at <= now) {
            self.review_at = None;
            for subscriber in self.subscribers.iter_mut().flatten() {
                subscriber.downlink.handle_timeout(now);
            }
            self.changed = true;
        }
        if self.pacing_at.is_some_and(|at| at <= now) {
            self.give_waiting(now, out);
        }
        if self.changed || self.contest_at.is_some_and(|at| at <= now) {
            self.resolve(now, out);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let others = [self.contest_at, self.review_at, self.pacing_at];
        self.timers
            .next()
            .into_iter()
            .chain(others.into_iter().flatten())
            .min()
    }

    /// Whether nobody has a seat, and every other room of the lesson was told so.
    pub(crate) fn is_over(&self) -> bool {
        self.subscribers.iter().all(Option::is_none) && !self.is_spread()
    }

    /// Everyone's publications and slots. ICE states are the driver's to fill in.
    pub(crate) fn report(&self) -> RoomReport {
        let participants = self.seats.iter().filter_map(|(participant, seat)| {
            let (publisher, subscriber) = (
                self.publishers[*seat].as_ref()?,
                self.subscribers[*seat].as_ref()?,
            );
            let published = publisher.lines.iter().filter(|line| line.published);
            Some(ParticipantReport {
                participant: *participant,
                ice: IceState::New,
                media: publisher.state,
                publications: published
                    .map(|line| PublicationReport {
                        publication: Publication {
                            participant: *participant,
                            source: line.source,
                        },
                        packets: line.packets,
                        mirrored: line.mirror.is_some() || line.captures.is_some(),
                    })
                    .collect(),
                slots: subscriber.slot_infos(|line| self.publication(line)),
            })
        });
        RoomReport {
            participants: participants.collect(),
        }
    }

    /// Adds the room's counters.
    pub(crate) fn add_stats(&self, stats: &mut SfuStats) {
        self.counters.add_to(stats);
    }

    /// Looks up when a seat has something to do, after something happened there.
    fn rearm(&mut self, seat: usize) {
        let publisher = self.publishers[seat].as_ref();
        self.timers.set(seat, publisher.and_then(Publisher::poll_timeout));
    }

    fn publisher(&mut self, participant: ParticipantId) -> Option<&mut Publisher> {
        self.publishers[*self.seats.get(&participant)?].as_mut()
    }

    fn publication(&self, line: LineId) -> Option<Publication> {
        publication(&self.publishers, line)
    }
}

fn publication(publishers: &[Option<Publisher>], line: LineId) -> Option<Publication> {
    let publisher = publishers.get(line.seat)?.as_ref()?;
    Some(Publication {
        participant: publisher.participant,
        source: publisher.lines[line.line].source,
    })
}
