//! A lesson on several workers: each has a room, and what is sent to one of them is seen and heard in all.
//!
//! Whoever sends on another worker has a seat here without a subscriber. Its packets come in parcels and are forwarded as
//! if they had come from the participant: kept for those who miss them, rewritten for each slot, measured for loudness. What
//! goes back is which layers are needed, and wishes for key frames. Sound is relayed to every room, so that each of them knows
//! all voices and chooses the loudest by itself; of pictures a room gets the layers that it needs.

use std::time::Instant;

use seodang_model::{MediaKind, ParticipantId, Rights};
use seodang_rtp::{RtpHeader, SenderInfo};

use super::layers::Needs;
use super::line::{Layer, LayerId, Line, LineId, Received, Receiving};
use super::parcel::{Item, LayerName, Need, Parcel, RelayedPacket, Sender, SentLine};
use super::publisher::Publisher;
use super::stats::Refusal;
use super::{Output, Room};

/// Workers there may be: one bit of a set each.
pub(super) const MOST_WORKERS: usize = 64;

/// The other rooms of the lesson.
#[derive(Default)]
pub(super) struct Relay {
    peers: Vec<Peer>,
    /// Who sends here, as the others were told or shall be.
    roster: Vec<Sender>,
    /// Seats of those who send elsewhere.
    seats: Vec<usize>,
}

/// The room of the lesson on another worker.
struct Peer {
    worker: usize,
    /// What waits for it.
    open: Parcel,
    tell_roster: bool,
    tell_needs: bool,
}

/// The end of a publisher who sends on another worker.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) worker: usize,
    /// Layers whose key frame shall be asked for there.
    pub(super) asked: Vec<(usize, usize)>,
}

/// Workers to which a layer is relayed, as bits.
pub(super) type Workers = u64;

impl Relay {
    fn peer(&mut self, worker: usize) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.worker == worker)
    }
}

impl Peer {
    fn new(worker: usize) -> Self {
        let mut peer = Self {
            worker,
            open: Parcel::default(),
            tell_roster: true,
            tell_needs: true,
        };
        peer.open.hello = true;
        peer
    }
}

impl Room {
    /// The lesson has rooms on these workers, too.
    pub(crate) fn meet(&mut self, workers: &[usize]) {
        for worker in workers.iter().filter(|worker| **worker < MOST_WORKERS) {
            if self.relay.peer(*worker).is_none() {
                self.relay.peers.push(Peer::new(*worker));
                self.changed = true;
            }
        }
        self.tell_rooms();
    }

    /// Whether the lesson has rooms on other workers.
    pub(crate) fn is_spread(&self) -> bool {
        !self.relay.peers.is_empty()
    }

    /// Nobody has a seat here: what the other rooms are to know before this one is dropped.
    pub(super) fn part(&mut self) {
        for peer in &mut self.relay.peers {
            peer.open.say_farewell();
        }
    }

    /// Somebody came before the others knew that nobody was here.
    pub(super) fn stay(&mut self) {
        for peer in &mut self.relay.peers {
            if std::mem::take(&mut peer.open.gone) {
                (peer.tell_roster, peer.tell_needs) = (true, true);
            }
        }
    }

    /// The workers for whose room something waits.
    pub(crate) fn addressees(&self, into: &mut Vec<usize>) {
        for peer in &self.relay.peers {
            let asks = |seat: &usize| {
                let remote = self.publishers[*seat]
                    .as_ref()
                    .and_then(|one| one.remote.as_ref());
                remote.is_some_and(|remote| remote.worker == peer.worker && !remote.asked.is_empty())
            };
            if !peer.open.is_empty()
                || peer.tell_roster
                || peer.tell_needs
                || self.relay.seats.iter().any(asks)
            {
                into.push(peer.worker);
            }
        }
    }

    /// Puts what waits for the room on `worker` into `parcel`, which is empty.
    pub(crate) fn post(&mut self, worker: usize, parcel: &mut Parcel) {
        let Self {
            relay, publishers, ..
        } = self;
        let Some(place) = relay.peers.iter().position(|peer| peer.worker == worker) else {
            return;
        };
        let peer = &mut relay.peers[place];
        std::mem::swap(&mut peer.open, parcel);
        if parcel.gone {
            relay.peers.remove(place);
            return;
        }
        if std::mem::take(&mut peer.tell_roster) {
            parcel.roster = Some(relay.roster.clone());
        }
        let tells_needs = std::mem::take(&mut peer.tell_needs);
        let needs = parcel.needs.insert(Vec::new());
        for seat in &relay.seats {
            let Some(publisher) = &mut publishers[*seat] else {
                continue;
            };
            let participant = publisher.participant;
            let Some(remote) = publisher.remote.as_mut().filter(|remote| remote.worker == worker) else {
                continue;
            };
            parcel
                .wishes
                .extend(remote.asked.drain(..).map(|(line, layer)| LayerName {
                    participant,
                    line,
                    layer,
                }));
            let lines = publisher
                .lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.published);
            needs.extend(lines.map(|(place, line)| Need {
                participant,
                line: place,
                layers: line.needs.told(),
            }));
        }
        if !tells_needs {
            parcel.needs = None;
        }
    }

    /// Takes what the room on `worker` sent.
    pub(crate) fn handle_parcel(
        &mut self,
        now: Instant,
        worker: usize,
        parcel: &Parcel,
        out: &mut dyn Output,
    ) {
        if parcel.hello {
            self.meet(&[worker]);
        }
        if self.relay.peer(worker).is_none() {
            // It was not told of this room, which began after another one had ended.
            return;
        }
        if parcel.gone {
            self.relay.peers.retain(|peer| peer.worker != worker);
            self.take_roster(now, worker, &[], out);
            self.take_needs(worker, &[]);
            return self.resolve(now, out);
        }
        if let Some(roster) = &parcel.roster {
            self.take_roster(now, worker, roster, out);
        }
        if let Some(needs) = &parcel.needs {
            self.take_needs(worker, needs);
        }
        if self.changed {
            self.resolve(now, out);
        }
        for name in &parcel.wishes {
            self.take_wish(now, *name, out);
        }
        for item in &parcel.items {
            match item {
                Item::Packet { packet, start, end } => {
                    let taken = self.take_packet(now, worker, packet, parcel.payload(*start, *end), out);
                    if let Err(refusal) = taken {
                        self.counters.refuse(refusal);
                    }
                }
                Item::Report { of, epoch, info } => self.take_report(now, worker, *of, *epoch, *info, out),
            }
            if self.changed {
                self.resolve(now, out);
            }
        }
    }

    /// Relays an accepted packet to the rooms that need it. For a picture that finds no place a key frame is wished.
    pub(super) fn relay(&mut self, id: LayerId, received: &Received, header: RtpHeader, payload: &[u8]) {
        let Some(publisher) = self.publishers[id.line.seat].as_mut() else {
            return;
        };
        let of = id.named(publisher.participant);
        let line = &mut publisher.lines[id.line.line];
        let workers = line.relays[id.layer];
        if workers == 0 {
            return;
        }
        let stream = line.layers[id.layer].stream.as_ref();
        let packet = RelayedPacket {
            of,
            epoch: received.epoch,
            index: received.index,
            header,
            vp8: received.vp8,
            level: received.level,
            report: stream.and_then(|stream| stream.report),
        };
        for peer in &mut self.relay.peers {
            if workers & (1 << peer.worker) == 0 {
                continue;
            }
            if peer.open.add(packet, payload) {
                self.counters.packets_relayed += 1;
                continue;
            }
            self.counters.dropped_relay_full += 1;
            if line.source.kind() == MediaKind::Video {
                line.layers[id.layer].wishes.wish();
            }
        }
    }

    /// Relays a sender's clock to the rooms that need its layer.
    pub(super) fn relay_report(&mut self, id: LayerId, epoch: u64, info: SenderInfo) {
        let Some(publisher) = self.publishers[id.line.seat].as_ref() else {
            return;
        };
        let workers = publisher.lines[id.line.line].relays[id.layer];
        let of = id.named(publisher.participant);
        for peer in &mut self.relay.peers {
            if workers & (1 << peer.worker) != 0 {
                peer.open.add_report(of, epoch, info);
            }
        }
    }

    /// Tells the other rooms of who sends here, if that changed.
    pub(super) fn tell_rooms(&mut self) {
        if self.relay.peers.is_empty() {
            return;
        }
        let roster: Vec<_> = self
            .publishers
            .iter()
            .flatten()
            .filter(|publisher| publisher.remote.is_none())
            .filter_map(sender)
            .collect();
        if roster != self.relay.roster {
            self.relay.roster = roster;
            self.relay
                .peers
                .iter_mut()
                .for_each(|peer| peer.tell_roster = true);
        }
    }

    /// What is needed of the publisher on `worker` changed.
    pub(super) fn tell_needs(&mut self, worker: usize) {
        if let Some(peer) = self.relay.peer(worker) {
            peer.tell_needs = true;
        }
    }

    /// Which layers go to which of the other rooms, and are needed therefore.
    pub(super) fn aim_relays(&mut self, now: Instant) {
        let everybody = self
            .relay
            .peers
            .iter()
            .fold(0, |all, peer| all | 1 << peer.worker);
        let publishers = self.publishers.iter_mut().flatten();
        for publisher in publishers.filter(|publisher| publisher.remote.is_none()) {
            for line in &mut publisher.lines {
                line.aim_relays(now, everybody);
            }
        }
    }

    /// Gives up the seat of a participant who sends elsewhere.
    pub(super) fn forget_remote(&mut self, now: Instant, participant: ParticipantId, out: &mut dyn Output) {
        let Some(seat) = self.seats.get(&participant).copied() else {
            return;
        };
        if self.publishers[seat]
            .as_ref()
            .is_some_and(|one| one.remote.is_some())
        {
            self.seats.remove(&participant);
            self.publishers[seat] = None;
            self.relay.seats.retain(|other| *other != seat);
            // Before another one takes the seat no slot may be fed from it.
            self.resolve(now, out);
        }
    }

    fn take_roster(&mut self, now: Instant, worker: usize, roster: &[Sender], out: &mut dyn Output) {
        let here = self.relay.seats.iter().filter_map(|seat| {
            let publisher = self.publishers[*seat].as_ref()?;
            let from = publisher.remote.as_ref()?.worker;
            (from == worker).then_some(publisher.participant)
        });
        let gone: Vec<_> = here
            .filter(|participant| roster.iter().all(|sender| sender.participant != *participant))
            .collect();
        for participant in gone {
            self.forget_remote(now, participant, out);
        }
        for sender in roster {
            let Some(seat) = self.remote_seat(now, worker, sender.participant) else {
                // It has moved here; the other room says so in a moment.
                continue;
            };
            if let Some(publisher) = &mut self.publishers[seat] {
                for (place, line) in publisher.lines.iter_mut().enumerate() {
                    let sent = sender.lines.iter().find(|sent| sent.line == place);
                    line.take_over(now, sent);
                }
            }
        }
        if let Some(peer) = self.relay.peer(worker) {
            peer.tell_needs = true;
        }
        self.changed = true;
    }

    /// The seat of a participant who sends on `worker`; `None` if the participant has a seat of its own here.
    fn remote_seat(&mut self, now: Instant, worker: usize, participant: ParticipantId) -> Option<usize> {
        if let Some(seat) = self.seats.get(&participant).copied() {
            let remote = self.publishers[seat].as_mut()?.remote.as_mut()?;
            remote.worker = worker;
            return Some(seat);
        }
        let seat = self.take_seat(participant);
        let began = *self.began.get_or_insert(now);
        self.publishers[seat] = Some(Publisher::remote(began, participant, worker));
        self.relay.seats.push(seat);
        Some(seat)
    }

    fn take_needs(&mut self, worker: usize, needs: &[Need]) {
        for publisher in self.publishers.iter_mut().flatten() {
            let participant = publisher.participant;
            for (place, line) in publisher.lines.iter_mut().enumerate() {
                let need = needs
                    .iter()
                    .find(|need| (need.participant, need.line) == (participant, place));
                line.elsewhere.retain(|(other, _)| *other != worker);
                line.elsewhere.extend(need.map(|need| (worker, need.layers)));
            }
        }
        self.changed = true;
    }

    fn take_packet(
        &mut self,
        now: Instant,
        worker: usize,
        packet: &RelayedPacket,
        payload: &[u8],
        out: &mut dyn Output,
    ) -> Result<(), Refusal> {
        let id = self.remote_layer(worker, packet.of).ok_or(Refusal::Unpublished)?;
        let publisher = self.publishers[id.line.seat].as_mut().ok_or(Refusal::Unbound)?;
        let line = &mut publisher.lines[id.line.line];
        let received = line.receive_relayed(now, packet, payload, &mut self.epochs)?;
        self.distribute(now, id, &received, packet.header, payload, out);
        self.rearm(id.line.seat);
        Ok(())
    }

    fn take_report(
        &mut self,
        now: Instant,
        worker: usize,
        of: LayerName,
        epoch: u64,
        info: SenderInfo,
        out: &mut dyn Output,
    ) {
        let Some(id) = self.remote_layer(worker, of) else {
            return;
        };
        let publisher = self.publishers[id.line.seat].as_mut();
        let layer = publisher.and_then(|publisher| publisher.lines[id.line.line].layers.get_mut(id.layer));
        let stream = layer.and_then(|layer| layer.stream.as_mut());
        if let Some(stream) = stream.filter(|stream| stream.origin == epoch) {
            stream.report = Some((info.ntp, info.rtp));
            let epoch = stream.epoch;
            self.distribute_report(now, id, epoch, info, out);
        }
    }

    /// A layer of a participant who sends on `worker`, as far as it may flow.
    fn remote_layer(&self, worker: usize, of: LayerName) -> Option<LayerId> {
        let seat = *self.seats.get(&of.participant)?;
        let publisher = self.publishers[seat].as_ref()?;
        let is_from = publisher
            .remote
            .as_ref()
            .is_some_and(|remote| remote.worker == worker);
        let line = publisher.lines.get(of.line)?;
        (is_from && line.published && of.layer < line.layers.len()).then_some(LayerId {
            line: LineId { seat, line: of.line },
            layer: of.layer,
        })
    }

    /// The key frame of a layer that is sent here is wished elsewhere.
    fn take_wish(&mut self, now: Instant, of: LayerName, out: &mut dyn Output) {
        let Some(seat) = self.seats.get(&of.participant).copied() else {
            return;
        };
        let publisher = self.publishers[seat].as_mut().filter(|one| one.remote.is_none());
        let Some(publisher) = publisher else { return };
        let line = publisher.lines.get_mut(of.line);
        if let Some(layer) = line.and_then(|line| line.layers.get_mut(of.layer)) {
            layer.wishes.wish();
            publisher.ask_keyframes(now, &mut self.writer, &mut self.counters, out);
            self.rearm(seat);
        }
    }
}

impl LayerId {
    /// Of a line of `participant`.
    fn named(self, participant: ParticipantId) -> LayerName {
        LayerName {
            participant,
            line: self.line.line,
            layer: self.layer,
        }
    }
}

impl Publisher {
    /// Of a participant who sends on `worker`.
    pub(super) fn remote(began: Instant, participant: ParticipantId, worker: usize) -> Self {
        // What it may send is decided there.
        let rights = Rights {
            may_publish: true,
            may_share_screen: true,
        };
        let mut publisher = Self::new(began, participant, rights);
        publisher.ready = true;
        publisher.remote = Some(Remote {
            worker,
            asked: Vec::new(),
        });
        publisher
    }

    /// Whether somebody is told which layers of a line are needed: the sender of several, or the room it sends to.
    pub(super) fn has_needs(&self, line: usize) -> bool {
        let line = &self.lines[line];
        line.layers.len() > 1 || self.remote.is_some() && line.source.kind() == MediaKind::Video
    }
}

impl Line {
    /// Becomes what a participant sends elsewhere; `None` if it does not.
    fn take_over(&mut self, now: Instant, sent: Option<&SentLine>) {
        let Some(sent) = sent else {
            if self.published {
                self.published = false;
                self.reset();
            }
            return;
        };
        if !self.published || self.layers.len() != sent.sizes.len() {
            self.layers.clear();
            self.layers.resize_with(sent.sizes.len().max(1), Layer::default);
            self.needs = Needs::of_another_room(self.layers.len());
            self.published = true;
            self.packets = 0;
            self.heard_at = Some(now);
        }
        for (layer, size) in self.layers.iter_mut().zip(&sent.sizes) {
            layer.size = size.or(layer.size);
        }
    }

    fn aim_relays(&mut self, now: Instant, everybody: Workers) {
        self.relays = Default::default();
        if self.source.kind() == MediaKind::Audio {
            self.relays[0] = everybody;
            return;
        }
        for place in 0..self.elsewhere.len() {
            let (worker, needs) = self.elsewhere[place];
            for layer in (0..self.layers.len()).filter(|layer| needs.contains(*layer)) {
                // The other room sees by itself what flows of what it gets.
                for relayed in [layer, self.flowing_instead(now, layer)] {
                    self.relays[relayed] |= 1 << worker;
                    self.needed.insert(relayed);
                }
            }
        }
    }

    /// Takes a packet that another room of the lesson accepted.
    fn receive_relayed(
        &mut self,
        now: Instant,
        packet: &RelayedPacket,
        payload: &[u8],
        epochs: &mut u64,
    ) -> Result<Received, Refusal> {
        let begun = self.follow(now, packet, epochs)?;
        let received = self.accept(
            now,
            packet.of.layer,
            &Receiving {
                index: packet.index,
                begun,
                repaired: false,
                nack: false,
                header: packet.header,
                vp8: packet.vp8,
                level: packet.level,
                payload,
            },
        )?;
        if let Some(stream) = &mut self.layers[packet.of.layer].stream {
            stream.report = packet.report.or(stream.report);
        }
        Ok(received)
    }
}

fn sender(publisher: &Publisher) -> Option<Sender> {
    let active = (0..publisher.lines.len()).filter(|line| publisher.is_active(*line));
    let lines: Vec<_> = active
        .map(|line| SentLine {
            line,
            sizes: publisher.lines[line].sizes(),
        })
        .collect();
    (!lines.is_empty()).then_some(Sender {
        participant: publisher.participant,
        lines,
    })
}
