//! A lesson on several workers: each has a room, and what is sent to one of them is seen and heard in all.
//!
//! Whoever sends on another worker has a seat here without a subscriber (`remote`). Its packets come in parcels and are forwarded
//! as if they had come from the participant: kept for those who miss them, rewritten for each slot, measured for loudness. What
//! goes back is which layers are needed, and wishes for key frames. Sound is relayed to every room, so that each of them knows
//! all voices and chooses the loudest by itself; of pictures a room gets the layers that it needs.

use std::time::Instant;

use seodang_model::{MediaKind, ParticipantId};
use seodang_rtp::{RtpHeader, SenderInfo};

use super::line::{LayerId, Line, Received};
use super::parcel::{LayerName, Need, Parcel, RelayedPacket, Sender, SentLine};
use super::publisher::Publisher;
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
    pub(super) seats: Vec<usize>,
    /// Workers that were told farewell because of a fault.
    parted: Vec<usize>,
}

/// The room of the lesson on another worker.
pub(super) struct Peer {
    worker: usize,
    /// What waits for it.
    open: Parcel,
    pub(super) tell_roster: bool,
    pub(super) tell_needs: bool,
    /// Who sends there.
    pub(super) senders: Vec<Sender>,
}

/// Workers to which a layer is relayed, as bits.
pub(super) type Workers = u64;

impl Relay {
    pub(super) fn peer(&mut self, worker: usize) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.worker == worker)
    }

    /// Nobody has a seat on `worker` any more.
    pub(super) fn forget(&mut self, worker: usize) {
        self.peers.retain(|peer| peer.worker != worker);
    }

    /// Everybody who sends elsewhere, with the worker.
    pub(super) fn rosters(&self) -> Vec<(usize, Sender)> {
        let all = self
            .peers
            .iter()
            .flat_map(|peer| peer.senders.iter().map(|sender| (peer.worker, sender.clone())));
        all.collect()
    }
}

impl Peer {
    fn new(worker: usize) -> Self {
        let mut peer = Self {
            worker,
            open: Parcel::default(),
            tell_roster: true,
            tell_needs: true,
            senders: Vec::new(),
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
                // The farewell took the place of a hello that may not have left yet.
                peer.open.hello = true;
                (peer.tell_roster, peer.tell_needs) = (true, true);
            }
        }
    }

    /// A fault in what the others are told: they hear that nobody is here, for which nothing else of the room is looked at.
    pub(crate) fn part_after_fault(&mut self) {
        let workers = self.relay.peers.iter().map(|peer| peer.worker);
        self.relay.parted.extend(workers);
        self.part();
    }

    /// Somebody connects: those from whom a fault parted this room are met again. Not before, as the fault may be there
    /// still.
    pub(super) fn meet_again(&mut self) {
        let parted = std::mem::take(&mut self.relay.parted);
        if !parted.is_empty() {
            self.stay();
            self.meet(&parted);
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
        let mut needs = std::mem::take(&mut peer.tell_needs).then(Vec::new);
        for seat in &relay.seats {
            let Some(publisher) = &mut publishers[*seat] else {
                continue;
            };
            let participant = publisher.participant;
            let Some(remote) = publisher.remote.as_mut().filter(|remote| remote.worker == worker) else {
                continue;
            };
            let asked = remote.asked.drain(..).map(|(line, layer)| LayerName {
                participant,
                line,
                layer,
            });
            parcel.wishes.extend(asked);
            if let Some(needs) = &mut needs {
                let lines = publisher.lines.iter().enumerate();
                let published = lines.filter(|(_, line)| line.published);
                needs.extend(published.map(|(place, line)| Need {
                    participant,
                    line: place,
                    layers: line.needs.told(),
                }));
            }
        }
        parcel.needs = needs;
    }

    /// Relays an accepted packet to the rooms that need it. For a picture that finds no place a key frame is asked for.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        id: LayerId,
        received: &Received,
        header: RtpHeader,
        payload: &[u8],
        out: &mut dyn Output,
    ) {
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
        let mut dropped = false;
        for peer in &mut self.relay.peers {
            if workers & (1 << peer.worker) == 0 {
                continue;
            }
            if peer.open.add(packet, payload) {
                self.counters.packets_relayed += 1;
                continue;
            }
            self.counters.dropped_relay_full += 1;
            dropped = true;
        }
        if dropped && line.source.kind() == MediaKind::Video {
            line.layers[id.layer].wishes.wish();
            // A first wish has no time of its own: it would wait for the seat's next timer.
            publisher.ask_keyframes(now, &mut self.writer, &mut self.counters, out);
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

impl Line {
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

#[cfg(test)]
impl Room {
    /// Breaks it, so that telling others something panics.
    pub(crate) fn break_parcels(&mut self) {
        self.relay.seats.push(usize::MAX);
    }
}
