//! What participants send and view, their rights, and what the media workers say of them.

use std::collections::BTreeSet;

use seodang_model::protocol::{ErrorCode, Offer, ServerMessage, ViewSlot};
use seodang_model::{MediaKind, ParticipantId, Publication, Rights, Source};

use super::{Lesson, MediaCommand, MediaNews, Output, Refusal, Seat, SocketId, send};
use crate::mirror::MirrorCommand;

/// Slots that a `view` may name: as many as an offer has media lines. A page has nine for video.
const MOST_SLOTS: usize = 64;

impl Lesson {
    /// An offer, to be answered by the SFU; one at a time.
    pub(crate) fn handle_offer(
        &mut self,
        participant: ParticipantId,
        socket: SocketId,
        offer: Offer,
    ) -> Result<Vec<Output>, Refusal> {
        let seat = self.present(participant)?;
        if seat.is_offering {
            return Err((ErrorCode::SlowDown, "the last offer is not answered yet"));
        }
        seat.is_offering = true;
        if !offer.restart {
            // The connection to come sends all it offers until it is told otherwise.
            seat.layers.clear();
        }
        seat.reoffer_due = None;
        Ok(vec![Output::Media(MediaCommand::Offer {
            participant,
            socket,
            offer,
        })])
    }

    /// The SFU answered, or refused, an offer that came over `socket`.
    pub(crate) fn handle_answer(
        &mut self,
        participant: ParticipantId,
        socket: SocketId,
        reply: ServerMessage,
    ) -> Vec<Output> {
        let Some(seat) = self.seats.get_mut(&participant) else {
            return Vec::new();
        };
        seat.is_offering = false;
        // What the slots of the connection carry makes sense only behind the answer that makes them.
        let slots = seat.waiting_slots.take();
        if seat.socket != Some(socket) {
            return Vec::new();
        }
        let mut out = vec![send(socket, reply)];
        out.extend(slots.map(|(generation, slots)| send(socket, ServerMessage::Slots { generation, slots })));
        out.extend(seat.layers_messages().map(|message| send(socket, message)));
        out
    }

    /// A source begins to send.
    pub(crate) fn handle_publish(
        &mut self,
        participant: ParticipantId,
        source: Source,
    ) -> Result<Vec<Output>, Refusal> {
        let seat = self.present(participant)?;
        if !seat.record.rights.allow(source) {
            return Err((ErrorCode::Forbidden, "the right to send this is missing"));
        }
        let mut out = Vec::new();
        if seat.publications.insert(source) {
            let publication = Publication { participant, source };
            out.push(Output::Mirror(MirrorCommand::Published(publication)));
            out.push(Output::Media(MediaCommand::Publish(publication)));
            self.announce(participant, &mut out);
        }
        Ok(out)
    }

    /// A source stops.
    pub(crate) fn handle_unpublish(
        &mut self,
        participant: ParticipantId,
        source: Source,
    ) -> Result<Vec<Output>, Refusal> {
        self.present(participant)?;
        let mut out = Vec::new();
        if self.stop(participant, source, &mut out) {
            self.announce(participant, &mut out);
        }
        Ok(out)
    }

    /// What the video slots shall show. Whoever is not there any more is left out: the news may be on its way.
    pub(crate) fn handle_view(
        &mut self,
        participant: ParticipantId,
        generation: u32,
        slots: Vec<ViewSlot>,
    ) -> Result<Vec<Output>, Refusal> {
        self.present(participant)?;
        if slots.len() > MOST_SLOTS {
            return Err((ErrorCode::BadView, "there are not so many slots"));
        }
        let mut mids = BTreeSet::new();
        if !slots
            .iter()
            .all(|slot| (1..=32).contains(&slot.mid.len()) && mids.insert(slot.mid.clone()))
        {
            return Err((ErrorCode::BadView, "a slot is named twice or not at all"));
        }
        if slots.iter().any(|slot| slot.source.kind() != MediaKind::Video) {
            return Err((ErrorCode::BadView, "only camera and screen can be viewed"));
        }
        let slots = slots
            .into_iter()
            .filter(|slot| self.seats.contains_key(&slot.participant))
            .collect();
        Ok(vec![Output::Media(MediaCommand::View {
            participant,
            generation,
            slots,
        })])
    }

    /// Whether `host` may give `participant` rights.
    pub(crate) fn may_set_rights(
        &self,
        host: ParticipantId,
        participant: ParticipantId,
    ) -> Result<(), Refusal> {
        if !self.seats.get(&host).is_some_and(Seat::is_host) {
            return Err((ErrorCode::Forbidden, "only hosts give and take rights"));
        }
        if !self.seats.contains_key(&participant) {
            return Err((ErrorCode::UnknownParticipant, "nobody with this id is here"));
        }
        Ok(())
    }

    /// Changed rights, committed. What may not be sent any more stops at once.
    pub(crate) fn handle_rights(&mut self, participant: ParticipantId, rights: Rights) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(seat) = self.seats.get_mut(&participant) else {
            return out;
        };
        seat.record.rights = rights;
        out.push(Output::Media(MediaCommand::SetRights(participant, rights)));
        for source in Source::ALL.into_iter().filter(|source| !rights.allow(*source)) {
            self.stop(participant, source, &mut out);
        }
        self.announce(participant, &mut out);
        out
    }

    /// News of a participant's media and files.
    pub(crate) fn handle_news(&mut self, participant: ParticipantId, news: MediaNews) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(seat) = self.seats.get_mut(&participant) else {
            return out;
        };
        if let Some((generation, slots)) = news.slots {
            match seat.socket {
                _ if seat.is_offering => seat.waiting_slots = Some((generation, slots)),
                Some(socket) => out.push(send(socket, ServerMessage::Slots { generation, slots })),
                None => {}
            }
        }
        for (source, rids) in news.layers {
            let message = ServerMessage::Layers {
                source,
                rids: rids.clone(),
            };
            seat.layers.insert(source, rids);
            // While an offer is being answered it is not known whether the news are of that connection: they wait.
            if !seat.is_offering {
                out.extend(seat.socket.map(|socket| send(socket, message)));
            }
        }
        if let Some(reason) = news.reoffer {
            match seat.socket {
                Some(socket) => out.push(send(
                    socket,
                    ServerMessage::Reoffer {
                        reason: reason.to_owned(),
                    },
                )),
                None => seat.reoffer_due = Some(reason),
            }
        }
        if let Some(kept) = news.kept {
            seat.kept = kept;
        }
        let states = news.states.filter(|states| *states != seat.media);
        if let Some(states) = states {
            seat.media = states;
            let hosts = self
                .seats
                .values()
                .filter(|seat| seat.is_host())
                .filter_map(|seat| seat.socket)
                .collect();
            let user = self.seats[&participant].info_for_hosts();
            out.push(Output::Send {
                to: hosts,
                message: Box::new(ServerMessage::UserUpdate { user }),
            });
        }
        if news.kept.is_some() {
            self.tell_what_is_kept(&mut out);
        }
        out
    }

    fn stop(&mut self, participant: ParticipantId, source: Source, out: &mut Vec<Output>) -> bool {
        let Some(seat) = self.seats.get_mut(&participant) else {
            return false;
        };
        let publication = Publication { participant, source };
        let stopped = seat.publications.remove(&source);
        if stopped {
            out.push(Output::Media(MediaCommand::Unpublish(publication)));
            out.push(Output::Mirror(MirrorCommand::Unpublished(publication)));
        }
        stopped
    }
}
