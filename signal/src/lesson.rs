//! One lesson: who sits where, what everyone is told. Pure: events and the time go in, [`Output`]s come out.
//!
//! The database has committed what these functions are told of. Nothing here waits, and nothing is dropped: the
//! driver (`hub::lesson_task`) carries the outputs out in their order.

mod names;
mod seat;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use seodang_model::protocol::{
    ChatLine, ClosingReason, Consents, ErrorCode, ExitReason, IceState, MediaState, Offer, RoomInfo,
    RoomSummary, ServerMessage, SignalingState, SlotInfo, UserInfo, ViewSlot,
};
use seodang_model::{DisplayName, MediaKind, ParticipantId, Publication, Rights, Source, StorageName, Token};

use crate::consent::TEXT_VERSION;
use crate::mirror::{LessonInfo, MirrorCommand, Subject};
use crate::store::{EndReason, LessonRecord, RoomRecord, SeatRecord};
pub(crate) use seat::Seat;

/// Slots that a `view` may name: as many as an offer has media lines. A page has nine for video.
const MOST_SLOTS: usize = 64;

/// One WebSocket, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SocketId(pub(crate) u64);

/// Time limits of a lesson.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LessonLimits {
    /// How long the seat of somebody who vanished is kept.
    pub(crate) seat_grace: Duration,
    /// How long a lesson goes on with nobody in it.
    pub(crate) empty_end: Duration,
    /// How long a lesson goes on without a host.
    pub(crate) hostless_end: Duration,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    /// A message for some sockets.
    Send {
        to: Vec<SocketId>,
        message: Box<ServerMessage>,
    },
    /// A socket ends.
    Close { socket: SocketId, reason: ClosingReason },
    /// Something for the SFU.
    Media(MediaCommand),
    /// Something for the files.
    Mirror(MirrorCommand),
    /// A seat is free: note when.
    Left(ParticipantId),
    /// The lesson is over. Comes once; the driver calls nothing else afterwards.
    End(EndReason),
}

/// What the SFU is told.
#[derive(Debug)]
pub(crate) enum MediaCommand {
    Join(ParticipantId, Rights),
    Offer {
        participant: ParticipantId,
        socket: SocketId,
        offer: Offer,
    },
    Publish(Publication),
    Unpublish(Publication),
    SetRights(ParticipantId, Rights),
    View {
        participant: ParticipantId,
        generation: u32,
        slots: Vec<ViewSlot>,
    },
    Leave(ParticipantId),
}

/// Why a message has no effect: the code, and a sentence for people.
pub(crate) type Refusal = (ErrorCode, &'static str);

/// A seat to be taken.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// As committed.
    pub(crate) record: SeatRecord,
    /// The socket it is taken from.
    pub(crate) socket: SocketId,
    /// Takes the seat again.
    pub(crate) resume: Token,
    /// Names the person.
    pub(crate) person: Token,
    /// Whether it is an earlier seat.
    pub(crate) resumed: bool,
}

/// What the media workers and the mirror said of a participant since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MediaNews {
    /// The newest states.
    pub(crate) states: Option<(IceState, MediaState)>,
    /// What the slots carry.
    pub(crate) slots: Option<(u32, Vec<SlotInfo>)>,
    /// The connection is gone.
    pub(crate) reoffer: Option<&'static str>,
    /// What is kept.
    pub(crate) kept: Option<Consents>,
}

/// A lesson that is going on.
#[derive(Debug)]
pub(crate) struct Lesson {
    room: RoomRecord,
    record: LessonRecord,
    limits: LessonLimits,
    capture_period_s: Option<u32>,
    seats: BTreeMap<ParticipantId, Seat>,
    /// Folded names on disk that were ever taken in this lesson.
    stored_names: BTreeSet<String>,
    /// Seats taken so far; orders them by arrival.
    arrivals: u64,
    empty_since: Option<Instant>,
    hostless_since: Option<Instant>,
}

impl Lesson {
    /// A lesson without anybody in it.
    pub(crate) fn new(
        room: RoomRecord,
        record: LessonRecord,
        limits: LessonLimits,
        capture_period_s: Option<u32>,
        now: Instant,
    ) -> Self {
        Self {
            room,
            record,
            limits,
            capture_period_s,
            seats: BTreeMap::new(),
            stored_names: BTreeSet::new(),
            arrivals: 0,
            empty_since: Some(now),
            hostless_since: Some(now),
        }
    }

    /// Puts back a seat from before the server's restart: whoever was present has the grace time to come back.
    pub(crate) fn restore(&mut self, now: Instant, record: SeatRecord) {
        self.stored_names.insert(record.storage_name.folded());
        if !record.left {
            let mut seat = Seat::new(record, self.next_arrival());
            seat.lost_at = Some(now);
            seat.reoffer_due = Some("the server was restarted");
            self.seats.insert(seat.record.participant, seat);
            self.watch_presence(now);
        }
    }

    /// The lesson as stored.
    pub(crate) const fn record(&self) -> &LessonRecord {
        &self.record
    }

    /// The room as stored.
    pub(crate) const fn room(&self) -> &RoomRecord {
        &self.room
    }

    /// The lesson as its files know it.
    pub(crate) fn info(&self, reopened: bool) -> LessonInfo {
        LessonInfo {
            lesson: self.record.id,
            room: self.room.id,
            number: self.room.number.clone(),
            folder: self.record.folder,
            started_at: self.record.started_at,
            reopened,
        }
    }

    /// What everyone may know of the room.
    pub(crate) fn summary(&self) -> RoomSummary {
        RoomSummary {
            number: self.room.number.clone(),
            title: self.room.title.clone(),
            kind: self.room.kind,
            capacity: self.room.capacity,
            participants: u32::try_from(self.seats.len()).unwrap_or(u32::MAX),
            open: true,
        }
    }

    /// Everyone present as hosts see them, in the order of arrival.
    pub(crate) fn users(&self) -> Vec<UserInfo> {
        self.by_arrival().map(|seat| seat.info_for_hosts()).collect()
    }

    /// A participant's seat, while the seat is held.
    pub(crate) fn seat(&self, participant: ParticipantId) -> Option<&Seat> {
        self.seats.get(&participant)
    }

    /// The seat that `socket` may speak for. A socket whose seat was taken by another one speaks for nobody.
    pub(crate) fn seat_of(&self, participant: ParticipantId, socket: SocketId) -> Option<&Seat> {
        self.seats
            .get(&participant)
            .filter(|seat| seat.socket == Some(socket))
    }

    /// Whether there is room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.seats.len() >= usize::try_from(self.room.capacity).unwrap_or(usize::MAX)
    }

    /// The shown name and the name on disk that somebody gets who wants to be called `wish`.
    pub(crate) fn names_for(&self, wish: &DisplayName) -> (DisplayName, StorageName) {
        let present: BTreeSet<String> = self
            .seats
            .values()
            .map(|seat| seat.record.name.skeleton())
            .collect();
        let shown = names::shown(wish, &present);
        let stored = names::stored(&shown, &self.stored_names);
        (shown, stored)
    }

    /// Somebody takes a seat, the first time, again, or from another socket.
    pub(crate) fn handle_join(&mut self, now: Instant, joining: Joining) -> Vec<Output> {
        let Joining {
            record,
            socket,
            resume,
            person,
            resumed,
        } = joining;
        let participant = record.participant;
        let mut out = Vec::new();
        self.stored_names.insert(record.storage_name.folded());
        let arrival = self.next_arrival();
        let was_held = self.seats.contains_key(&participant);
        let seat = self
            .seats
            .entry(participant)
            .or_insert_with(|| Seat::new(record.clone(), arrival));
        if let Some(earlier) = seat.socket.replace(socket) {
            out.push(Output::Close {
                socket: earlier,
                reason: ClosingReason::Replaced,
            });
        }
        let was_away = seat.lost_at.take().is_some();
        let consents_before = std::mem::replace(&mut seat.record, record).consents;
        let (consents, rights) = (seat.record.consents, seat.record.rights);
        let reoffer = seat.reoffer_due.take();
        let mirrored = std::mem::replace(&mut seat.mirrored, true);
        let subject = seat.subject(self.record.id, TEXT_VERSION, resumed);
        out.push(Output::Media(MediaCommand::Join(participant, rights)));
        if !mirrored {
            out.push(Output::Mirror(MirrorCommand::Joined(subject)));
        } else if consents_before != consents {
            out.push(Output::Mirror(MirrorCommand::ConsentsChanged {
                participant,
                consents,
            }));
        }
        if mirrored && was_away {
            out.push(Output::Mirror(MirrorCommand::Back(participant)));
        }
        self.watch_presence(now);
        self.greet(participant, socket, resume, person, resumed, &mut out);
        if was_held {
            self.announce(participant, &mut out);
        } else {
            let to_students = self.seats[&participant].info_for_students();
            let to_hosts = self.seats[&participant].info_for_hosts();
            self.tell(
                participant,
                |user| ServerMessage::UserEnter { user },
                to_students,
                to_hosts,
                &mut out,
            );
        }
        if let Some(reason) = reoffer {
            out.push(send(
                socket,
                ServerMessage::Reoffer {
                    reason: reason.to_owned(),
                },
            ));
        }
        out
    }

    /// A socket is gone without having said why; whatever it held is kept for the grace time.
    pub(crate) fn handle_disconnect(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        socket: SocketId,
    ) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(seat) = self
            .seats
            .get_mut(&participant)
            .filter(|seat| seat.socket == Some(socket))
        else {
            return out;
        };
        seat.socket = None;
        seat.lost_at = Some(now);
        out.push(Output::Mirror(MirrorCommand::Away(participant)));
        self.announce(participant, &mut out);
        out
    }

    /// Somebody leaves.
    pub(crate) fn handle_leave(&mut self, now: Instant, participant: ParticipantId) -> Vec<Output> {
        let mut out = Vec::new();
        self.free(now, participant, ExitReason::Left, &mut out);
        out
    }

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

    /// Changed answers, committed.
    pub(crate) fn handle_consents(&mut self, participant: ParticipantId, consents: Consents) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(seat) = self.seats.get_mut(&participant) else {
            return out;
        };
        seat.record.consents = consents;
        out.push(Output::Mirror(MirrorCommand::ConsentsChanged {
            participant,
            consents,
        }));
        self.announce(participant, &mut out);
        out
    }

    /// A committed line of chat; the nonce goes to its author alone.
    pub(crate) fn handle_chat(&self, line: ChatLine, nonce: String) -> Vec<Output> {
        let author = self.seats.get(&line.participant).and_then(|seat| seat.socket);
        let others = self.sockets().filter(|socket| Some(*socket) != author).collect();
        let mut out = vec![Output::Send {
            to: others,
            message: Box::new(ServerMessage::Chat(line.clone())),
        }];
        out.extend(author.map(|socket| {
            send(
                socket,
                ServerMessage::Chat(ChatLine {
                    nonce: Some(nonce),
                    ..line
                }),
            )
        }));
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

    /// The next instant at which [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let graces = self
            .seats
            .values()
            .filter_map(|seat| seat.lost_at)
            .map(|at| at + self.limits.seat_grace);
        let empty = self.empty_since.map(|at| at + self.limits.empty_end);
        let hostless = self.hostless_since.map(|at| at + self.limits.hostless_end);
        graces.chain(empty).chain(hostless).min()
    }

    /// Frees the seats whose grace time is over, and ends a lesson that nobody holds.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        let grace = self.limits.seat_grace;
        let gone: Vec<ParticipantId> = self
            .seats
            .values()
            .filter(|seat| seat.lost_at.is_some_and(|at| at + grace <= now))
            .map(|seat| seat.record.participant)
            .collect();
        for participant in gone {
            self.free(now, participant, ExitReason::Lost, &mut out);
        }
        if self
            .empty_since
            .is_some_and(|at| at + self.limits.empty_end <= now)
        {
            out.push(Output::End(EndReason::Empty));
        } else if self
            .hostless_since
            .is_some_and(|at| at + self.limits.hostless_end <= now)
        {
            out.push(Output::End(EndReason::HostMissing));
        }
        out
    }

    /// Ends every socket, for the reason given.
    pub(crate) fn handle_end(&mut self, reason: ClosingReason) -> Vec<Output> {
        self.seats
            .values_mut()
            .filter_map(|seat| seat.socket.take())
            .map(|socket| Output::Close { socket, reason })
            .collect()
    }

    /// The seat of somebody who is there to speak for it.
    fn present(&mut self, participant: ParticipantId) -> Result<&mut Seat, Refusal> {
        self.seats
            .get_mut(&participant)
            .ok_or((ErrorCode::BadState, "this seat is not taken"))
    }

    fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn by_arrival(&self) -> impl Iterator<Item = &Seat> {
        let mut seats: Vec<&Seat> = self.seats.values().collect();
        seats.sort_by_key(|seat| seat.arrival);
        seats.into_iter()
    }

    fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.seats.values().filter_map(|seat| seat.socket)
    }

    /// What somebody is told who takes a seat.
    fn greet(
        &mut self,
        participant: ParticipantId,
        socket: SocketId,
        resume: Token,
        person: Token,
        resumed: bool,
        out: &mut Vec<Output>,
    ) {
        let seat = &self.seats[&participant];
        let is_host = seat.is_host();
        out.push(send(
            socket,
            ServerMessage::RoomInfo(RoomInfo {
                room: self.summary(),
                lesson_started_at: self.record.started_at,
                you: seat.info_for_itself(),
                resume,
                person,
                resumed,
                capture_period_s: self.capture_period_s,
            }),
        ));
        let users = self
            .by_arrival()
            .filter(|other| other.record.participant != participant)
            .map(|other| {
                if is_host {
                    other.info_for_hosts()
                } else {
                    other.info_for_students()
                }
            })
            .collect();
        out.push(send(socket, ServerMessage::AllUsers { users }));
        if let Some(seat) = self.seats.get_mut(&participant) {
            seat.told_kept = None;
        }
        self.tell_what_is_kept(out);
    }

    /// Tells everyone how a participant is.
    fn announce(&self, participant: ParticipantId, out: &mut Vec<Output>) {
        let Some(seat) = self.seats.get(&participant) else {
            return;
        };
        if let Some(socket) = seat.socket {
            out.push(send(
                socket,
                ServerMessage::UserUpdate {
                    user: seat.info_for_itself(),
                },
            ));
        }
        let (students, hosts) = (seat.info_for_students(), seat.info_for_hosts());
        self.tell(
            participant,
            |user| ServerMessage::UserUpdate { user },
            students,
            hosts,
            out,
        );
    }

    /// Tells everyone but the participant itself; hosts see more.
    fn tell(
        &self,
        about: ParticipantId,
        message: impl Fn(UserInfo) -> ServerMessage,
        to_students: UserInfo,
        to_hosts: UserInfo,
        out: &mut Vec<Output>,
    ) {
        let others = self
            .seats
            .values()
            .filter(|seat| seat.record.participant != about);
        let (hosts, students): (Vec<&Seat>, Vec<&Seat>) = others.partition(|seat| seat.is_host());
        for (seats, user) in [(hosts, to_hosts), (students, to_students)] {
            let to: Vec<SocketId> = seats.into_iter().filter_map(|seat| seat.socket).collect();
            if !to.is_empty() {
                out.push(Output::Send {
                    to,
                    message: Box::new(message(user)),
                });
            }
        }
    }

    /// Tells everyone to whom it is news what is being kept.
    fn tell_what_is_kept(&mut self, out: &mut Vec<Output>) {
        let room = Consents {
            recording: self.seats.values().any(|seat| seat.kept.recording),
            captures: self.seats.values().any(|seat| seat.kept.captures),
        };
        for seat in self.seats.values_mut() {
            let Some(socket) = seat.socket else { continue };
            let news = (seat.kept, room);
            if seat.told_kept.replace(news) != Some(news) {
                out.push(send(
                    socket,
                    ServerMessage::RecordingState { you: seat.kept, room },
                ));
            }
        }
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

    fn free(&mut self, now: Instant, participant: ParticipantId, reason: ExitReason, out: &mut Vec<Output>) {
        let Some(seat) = self.seats.remove(&participant) else {
            return;
        };
        let to: Vec<SocketId> = self.sockets().collect();
        out.push(Output::Send {
            to,
            message: Box::new(ServerMessage::UserExit { participant, reason }),
        });
        out.push(Output::Media(MediaCommand::Leave(participant)));
        if seat.mirrored {
            out.push(Output::Mirror(MirrorCommand::Left(participant)));
        }
        out.push(Output::Left(participant));
        self.tell_what_is_kept(out);
        self.watch_presence(now);
    }

    /// Starts and stops the clocks of a lesson that nobody, or no host, is in.
    fn watch_presence(&mut self, now: Instant) {
        let empty = self.seats.is_empty();
        self.empty_since = empty.then(|| self.empty_since.unwrap_or(now));
        let hostless = !self.seats.values().any(Seat::is_host);
        self.hostless_since = hostless.then(|| self.hostless_since.unwrap_or(now));
    }
}

fn send(socket: SocketId, message: ServerMessage) -> Output {
    Output::Send {
        to: vec![socket],
        message: Box::new(message),
    }
}

impl Seat {
    fn subject(
        &self,
        lesson: seodang_model::LessonId,
        consent_version: &'static str,
        resumed: bool,
    ) -> Subject {
        Subject {
            lesson,
            participant: self.record.participant,
            person: self.record.person,
            name: self.record.name.clone(),
            storage_name: self.record.storage_name.clone(),
            role: self.record.role,
            consents: self.record.consents,
            consent_version,
            joined_at: self.record.joined_at,
            resumed,
        }
    }

    fn signaling(&self) -> SignalingState {
        if self.lost_at.is_some() {
            SignalingState::Lost
        } else {
            SignalingState::Connected
        }
    }
}

#[cfg(test)]
mod tests;
