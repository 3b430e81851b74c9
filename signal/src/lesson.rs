//! One lesson: who sits where, what everyone is told. Pure: events and the time go in, [`Output`]s come out.
//!
//! The database has committed what these functions are told of. Nothing here waits, and nothing is dropped: the
//! driver (`hub::lesson_task`) carries the outputs out in their order.

mod media;
mod names;
mod presence;
mod relays;
mod seat;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use seodang_model::protocol::{
    ChatLine, ClosingReason, Consents, ErrorCode, IceServer, IceState, MediaState, Offer, RoomInfo,
    RoomSummary, ServerMessage, SlotInfo, UserInfo, ViewSlot,
};
use seodang_model::{DisplayName, ParticipantId, Publication, Rights, Source, StorageName, Token};

use crate::consent::TEXT_VERSION;
use crate::mirror::{LessonInfo, MirrorCommand};
use crate::store::{EndReason, LessonRecord, RoomRecord, SeatRecord};
pub(crate) use seat::Seat;

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
    /// After how long credentials for relays are renewed, where there are relays.
    pub(crate) relay_renewal: Option<Duration>,
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
    /// Fresh credentials for relays, for a socket.
    RenewRelays {
        participant: ParticipantId,
        socket: SocketId,
    },
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
    /// Relays its holder may use.
    pub(crate) ice_servers: Vec<IceServer>,
}

/// What the media workers and the mirror said of a participant since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MediaNews {
    /// The newest states.
    pub(crate) states: Option<(IceState, MediaState)>,
    /// What the slots carry.
    pub(crate) slots: Option<(u32, Vec<SlotInfo>)>,
    /// The encodings to be sent of each source.
    pub(crate) layers: BTreeMap<Source, Vec<String>>,
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
            ice_servers,
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
        seat.relays_due = self.limits.relay_renewal.map(|after| now + after);
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
        let room_info = RoomInfo {
            room: self.summary(),
            lesson_started_at: self.record.started_at,
            you: self.seats[&participant].info_for_itself(),
            resume,
            person,
            resumed,
            capture_period_s: self.capture_period_s,
            ice_servers,
        };
        self.greet(participant, socket, room_info, &mut out);
        // Its media may have gone on while nobody could be told.
        let layers = self.seats[&participant].layers_messages();
        out.extend(layers.map(|message| send(socket, message)));
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
}

fn send(socket: SocketId, message: ServerMessage) -> Output {
    Output::Send {
        to: vec![socket],
        message: Box::new(message),
    }
}

#[cfg(test)]
mod tests;
