//! Commands: what the outside tells a worker, carried out one after the other.

use std::sync::Arc;
use std::time::Instant;

use seodang_model::ParticipantId;
use seodang_model::protocol::IceState;

use super::{Command, Outbox, Worker};
use crate::OfferError;
use crate::driver::connection::Connection;
use crate::room::{Negotiated, NegotiatedSlot, Room, SlotRtx};
use crate::transport::sdp::{AnswerLines, LineUse, ReadOffer, SlotSsrcs, write_answer};

impl Worker {
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join {
                lesson,
                participant,
                rights,
                done,
            } => {
                let room = self
                    .rooms
                    .entry(lesson)
                    .or_insert_with(|| Room::new(self.room_config));
                room.join(now, participant, rights, &mut self.out);
                self.out.join(participant);
                self.lessons.insert(participant, lesson);
                // Who asked may have given up; the seat is taken all the same.
                let _ = done.send(());
            }
            Command::Offer {
                participant,
                offer,
                answer,
            } => {
                self.contained(now, participant, |worker| {
                    let _ = answer.send(worker.handle_offer(now, participant, offer));
                });
            }
            Command::CloseRoom { lesson, done } => {
                for participant in self.participants_of(lesson) {
                    self.disconnect(now, participant, None);
                    self.lessons.remove(&participant);
                    self.out.leave(participant);
                }
                // Dropping the room drops every sink, and only then is it answered.
                self.drop_room(lesson);
                let _ = done.send(());
            }
            Command::Leave(participant) => {
                self.contained(now, participant, |worker| worker.leave(now, participant))
            }
            Command::Report { lesson, report } => {
                let mut answer = self.rooms.get(&lesson).map(Room::report).unwrap_or_default();
                for participant in &mut answer.participants {
                    participant.ice = self.out.ice(participant.participant);
                }
                let _ = report.send(answer);
            }
            Command::Stats(answer) => {
                let mut stats = self.past_rooms.clone();
                self.out.count_kernel_drops();
                self.out.counters.add_to(&mut stats);
                for room in self.rooms.values() {
                    room.add_stats(&mut stats);
                }
                stats.insert("rooms", self.rooms.len() as u64);
                stats.insert("connections", self.out.connections.len() as u64);
                let _ = answer.send(stats);
            }
            Command::Publish(publication) => self.order(now, publication.participant, |room, out| {
                room.publish(now, publication, out);
            }),
            Command::Unpublish(publication) => self.order(now, publication.participant, |room, out| {
                room.unpublish(now, publication, out);
            }),
            Command::SetRights(participant, rights) => self.order(now, participant, |room, out| {
                room.set_rights(now, participant, rights, out);
            }),
            Command::View {
                participant,
                generation,
                slots,
            } => self.order(now, participant, |room, out| {
                room.view(now, participant, generation, &slots, out);
            }),
            Command::Attach(publication, sink) => {
                self.order(now, publication.participant, |room, _| {
                    room.attach(publication, sink)
                });
            }
            Command::Detach(publication) => {
                self.order(now, publication.participant, |room, _| room.detach(publication));
            }
            Command::RequestKeyframe {
                publication,
                for_tick,
            } => self.order(now, publication.participant, |room, out| {
                room.request_keyframe(now, publication, for_tick, out);
            }),
            Command::Shutdown => {}
        }
    }

    fn handle_offer(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        read: Box<ReadOffer>,
    ) -> Result<String, OfferError> {
        let lesson = *self
            .lessons
            .get(&participant)
            .ok_or(OfferError::UnknownParticipant)?;
        if let Some(connection) = self.out.connections.get(&participant)
            && read.is_of_the_connection(&connection.offer)
        {
            return self.restart(participant, &read);
        }
        if read.restart {
            return Err(OfferError::Gone);
        }
        let slot_ssrcs: Vec<SlotSsrcs> = (0..read.slots)
            .map(|_| SlotSsrcs {
                media: self.fresh_ssrc(),
                rtx: self.fresh_ssrc(),
            })
            .collect();
        let mut media = Negotiated::default();
        let mut slots: Vec<Option<NegotiatedSlot>> = vec![None; read.slots];
        for line in &read.lines {
            match (line.used, line.codec) {
                (LineUse::Source(source), _) => media.sources.extend(line.negotiated_source(source)),
                (LineUse::Slot(place), Some(codec)) => {
                    slots[place] = Some(NegotiatedSlot {
                        mid: line.mid.clone(),
                        kind: line.kind,
                        ssrc: slot_ssrcs[place].media,
                        payload_type: codec.payload_type,
                        nack: codec.nack,
                        lips: line.lips.clone(),
                        rtx: codec.rtx.map(|payload_type| SlotRtx {
                            ssrc: slot_ssrcs[place].rtx,
                            payload_type,
                        }),
                    });
                }
                _ => {}
            }
        }
        media.slots = slots.into_iter().flatten().collect();

        self.disconnect(now, participant, None);
        let identity = Arc::clone(&self.identity);
        let connection = Connection::new(now, lesson, identity, read, slot_ssrcs);
        self.out.connections.insert(participant, connection);
        self.handshakes_changed = true;
        self.out.set_ice(participant, IceState::New);
        self.with_room(participant, |room, out| {
            room.connect(now, participant, &media, out)
        });
        self.answer(participant)
    }

    /// Seeks another path for a connection whose keys, slots and streams stay (RFC 8842 section 5.5). What would change
    /// them is refused, and nothing has changed then.
    fn restart(&mut self, participant: ParticipantId, read: &ReadOffer) -> Result<String, OfferError> {
        let connection = self.out.connections.get_mut(&participant);
        let connection = connection.ok_or(OfferError::Gone)?;
        if !read.has_the_lines(&connection.offer) {
            return Err(OfferError::Bad {
                line: None,
                reason: "the lines are not those of the connection: make another one",
            });
        }
        if let Some(forgotten) = connection.ice.offered(&read.ufrag) {
            self.ufrags.remove(&forgotten);
        }
        self.answer(participant)
    }

    /// Answers the newest offer of a connection and listens for its checks.
    fn answer(&mut self, participant: ParticipantId) -> Result<String, OfferError> {
        let connection = self.out.connections.get_mut(&participant);
        let connection = connection.ok_or(OfferError::Gone)?;
        connection.answers += 1;
        let credentials = &connection.ice.newest().local;
        let with = AnswerLines {
            credentials,
            fingerprint: self.identity.fingerprint(),
            candidates: &self.candidates,
            over_tcp: self.out.streams.is_some(),
            slot_ssrcs: &connection.slot_ssrcs,
            version: connection.answers,
        };
        let answer = write_answer(&connection.offer, &with);
        self.ufrags.insert(credentials.ufrag.clone(), participant);
        Ok(answer)
    }

    fn fresh_ssrc(&mut self) -> u32 {
        self.next_ssrc = self.next_ssrc.wrapping_add(1);
        self.next_ssrc
    }

    /// Carries out what concerns one participant of a room.
    fn order(&mut self, now: Instant, participant: ParticipantId, act: impl FnOnce(&mut Room, &mut Outbox)) {
        self.contained(now, participant, |worker| worker.with_room(participant, act));
    }
}
