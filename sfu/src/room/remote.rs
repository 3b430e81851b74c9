//! Who sends on another worker: a seat without a subscriber, fed from parcels.

use std::time::Instant;

use seodang_model::{MediaKind, ParticipantId, Rights};
use seodang_rtp::SenderInfo;

use super::layers::Needs;
use super::line::{Layer, LayerId, Line, LineId, Received, Receiving};
use super::parcel::{Item, LayerName, Need, Parcel, RelayedPacket, Sender, SentLine};
use super::publisher::Publisher;
use super::stats::Refusal;
use super::{Output, Room};

/// The end of a publisher who sends on another worker.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) worker: usize,
    /// Layers whose key frame shall be asked for there.
    pub(super) asked: Vec<(usize, usize)>,
}

impl Room {
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
            if let Some(peer) = self.relay.peer(worker) {
                // Who says hello knows nothing of what was told before.
                (peer.tell_roster, peer.tell_needs) = (true, true);
            }
            if self.subscribers.iter().all(Option::is_none) {
                self.part();
            }
        }
        if self.relay.peer(worker).is_none() {
            // It was not told of this room, which began after another one had ended.
            return;
        }
        if parcel.gone {
            self.relay.forget(worker);
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
        if let Some(peer) = self.relay.peer(worker) {
            peer.senders = roster.to_vec();
            peer.tell_needs = true;
        }
        // Who moved from one worker to another may be in both rosters for a moment.
        let rosters = self.relay.rosters();
        for (worker, sender) in &rosters {
            let Some(seat) = self.remote_seat(now, *worker, sender.participant) else {
                continue;
            };
            if let Some(publisher) = &mut self.publishers[seat] {
                for (place, line) in publisher.lines.iter_mut().enumerate() {
                    let sent = sender.lines.iter().find(|sent| sent.line == place);
                    line.take_over(now, sent);
                }
            }
        }
        self.changed = true;
    }

    /// The seat of a participant who sends on `worker`; `None` if the participant has one here, or sends elsewhere still.
    fn remote_seat(&mut self, now: Instant, worker: usize, participant: ParticipantId) -> Option<usize> {
        if let Some(seat) = self.seats.get(&participant).copied() {
            let remote = self.publishers[seat].as_ref()?.remote.as_ref()?;
            return (remote.worker == worker).then_some(seat);
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
