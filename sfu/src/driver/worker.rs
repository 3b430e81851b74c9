//! One media thread: commands and datagrams in, datagrams and events out, no lock and no waiting but for the socket.

mod commands;
mod door;
mod relay;
mod streams;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use mio::{Interest, Poll, Token, Waker};
use rtc_crypto::RTCCryptoProvider;
use seodang_model::protocol::{IceState, ViewSlot};
use seodang_model::{LessonId, ParticipantId, Publication, Rights};
use tokio::sync::{mpsc, oneshot};

use super::events::Events;
use super::gathering::{Gathering, Traffic};
use super::links::Links;
use super::outbox::Outbox;
use crate::net::{BatchSocket, Inbox, Streams, is_stream};
use crate::room::{Output as _, Room, RoomConfig};
use crate::transport::dtls::Identity;
use crate::transport::sdp::ReadOffer;
use crate::{OfferError, RoomReport, SfuError, SfuEvent, SfuStats, TrackSink};

/// Commands that may wait: some seconds of the busiest class. When it is full the command is refused as busy.
const COMMANDS: usize = 4_096;
/// Batches of datagrams read before what they led to is sent and commands and timers get their turn.
const BATCHES_A_TURN: usize = 4;
/// Events that found their channel full are tried again after this.
const EVENTS_RETRY: Duration = Duration::from_millis(20);
/// Parcels for which another worker has no place are tried again after this.
const PARCELS_RETRY: Duration = Duration::from_millis(2);
/// How often silent connections are looked for.
const LIVENESS_PERIOD: Duration = Duration::from_secs(1);

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// What a worker is told; see the methods of `SfuHandle` of the same names.
pub(crate) enum Command {
    Join {
        lesson: LessonId,
        participant: ParticipantId,
        rights: Rights,
        /// The other workers on which the lesson has a room.
        others: Vec<usize>,
        done: oneshot::Sender<()>,
    },
    Offer {
        participant: ParticipantId,
        /// Read by who sends the command: reading takes longer than a packet may wait.
        offer: Box<ReadOffer>,
        answer: oneshot::Sender<Result<String, OfferError>>,
    },
    Publish(Publication),
    Unpublish(Publication),
    SetRights(ParticipantId, Rights),
    View {
        participant: ParticipantId,
        generation: u32,
        slots: Vec<ViewSlot>,
    },
    Attach(Publication, Box<dyn TrackSink>),
    Detach(Publication),
    AttachCaptures(Publication, Box<dyn TrackSink>),
    DetachCaptures(Publication),
    RequestKeyframe {
        publication: Publication,
        for_tick: bool,
    },
    Leave(ParticipantId),
    CloseRoom {
        lesson: LessonId,
        done: oneshot::Sender<()>,
    },
    Report {
        lesson: LessonId,
        report: oneshot::Sender<RoomReport>,
    },
    Stats(oneshot::Sender<SfuStats>),
    Shutdown,
}

/// The outside's end of a worker.
#[derive(Clone)]
pub(crate) struct CommandQueue {
    commands: SyncSender<Command>,
    pub(crate) waker: Arc<Waker>,
}

impl CommandQueue {
    /// Hands a command over without waiting.
    pub(crate) fn send(&self, command: Command) -> Result<(), SfuError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => SfuError::Busy,
        })?;
        self.waker.wake().map_err(SfuError::Thread)
    }
}

/// What a worker is made with.
pub(crate) struct WorkerConfig {
    pub(crate) socket: BatchSocket,
    /// The same port over TCP.
    pub(crate) streams: Option<Streams>,
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) provider: Arc<dyn RTCCryptoProvider>,
    pub(crate) room: RoomConfig,
    pub(crate) events: mpsc::Sender<SfuEvent>,
}

/// The state of a media thread.
pub(crate) struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    candidates: Vec<SocketAddr>,
    identity: Arc<Identity>,
    provider: Arc<dyn RTCCryptoProvider>,
    room_config: RoomConfig,
    rooms: HashMap<LessonId, Room>,
    lessons: HashMap<ParticipantId, LessonId>,
    /// Whose packets come from where; only authentic checks write it.
    addresses: HashMap<SocketAddr, ParticipantId>,
    ufrags: HashMap<String, ParticipantId>,
    out: Outbox,
    /// Counters of rooms that are gone.
    past_rooms: SfuStats,
    next_ssrc: u32,
    liveness_at: Instant,
    /// When a handshake has something to do, as far as [`Self::handshakes_changed`] does not say that it was looked up before.
    handshakes_at: Option<Instant>,
    handshakes_changed: bool,
    gathering: Gathering,
    links: Links,
    /// Used in each turn: workers that get a parcel.
    addressees: Vec<usize>,
}

impl Worker {
    /// A worker and the way to tell it something.
    ///
    /// # Errors
    /// When the kernel refuses what a thread needs to wait for a socket.
    pub(crate) fn new(config: WorkerConfig) -> io::Result<(Self, CommandQueue)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut socket = config.socket;
        poll.registry()
            .register(&mut socket, SOCKET, Interest::READABLE)?;
        let mut streams = config.streams;
        if let Some(streams) = &mut streams {
            streams.register(poll.registry())?;
        }
        let (sender, commands) = sync_channel(COMMANDS);
        let worker = Self {
            poll,
            commands,
            candidates: config.candidates,
            identity: config.identity,
            provider: config.provider,
            room_config: config.room,
            rooms: HashMap::new(),
            lessons: HashMap::new(),
            addresses: HashMap::new(),
            ufrags: HashMap::new(),
            out: Outbox::new(socket, streams, Events::new(config.events)),
            past_rooms: SfuStats::new(),
            // Any start will do; each is used once, so no two streams under one set of keys ever share one.
            next_ssrc: rand::random(),
            liveness_at: Instant::now() + LIVENESS_PERIOD,
            handshakes_at: None,
            handshakes_changed: false,
            gathering: Gathering::new(Instant::now()),
            links: Links::default(),
            addressees: Vec::new(),
        };
        Ok((
            worker,
            CommandQueue {
                commands: sender,
                waker,
            },
        ))
    }

    /// Runs until told to stop. `links` lead to the other workers.
    pub(crate) fn run(mut self, links: Links) {
        self.links = links;
        let mut parcels = Vec::new();
        let mut events = mio::Events::with_capacity(8);
        let mut inbox = Inbox::new();
        let mut unread = false;
        let mut next = Instant::now();
        let mut read_at = Instant::now();
        loop {
            let wait = if unread || self.has_unread_streams() {
                None
            } else {
                Some(next)
            };
            if (wait.is_some() || self.out.streams.is_some())
                && let Err(error) = self.wait(&mut events, wait, read_at)
            {
                tracing::error!(%error, "a media worker cannot wait for its socket");
                return;
            }
            // Before the commands are taken, to be handled after them: what a parcel speaks of was commanded before it
            // was sent.
            self.links.receive(&mut parcels);
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Command::Shutdown) {
                    self.say_goodbye();
                    return;
                }
                self.handle_command(Instant::now(), command);
            }
            self.handle_parcels(Instant::now(), &mut parcels);
            // Readiness is told once: reading goes on until the socket is empty, a turn at a time.
            read_at = Instant::now();
            unread = self.read_datagrams(&mut inbox);
            self.read_streams(Instant::now());
            let now = Instant::now();
            next = self.next_timeout();
            if next <= now {
                self.handle_timeouts(now);
                next = self.next_timeout();
            }
            // Before the datagrams, so that other workers send at the same time.
            let parcels_wait = self.send_parcels(now);
            self.out.flush();
            self.gathering.count(
                now,
                Traffic {
                    datagrams_in: self.out.counters.datagrams_in,
                    datagrams_out: self.out.counters.datagrams_out,
                },
            );
            self.out.events.flush();
            if self.out.events.is_waiting() {
                next = next.min(now + EVENTS_RETRY);
            }
            if parcels_wait {
                next = next.min(now + PARCELS_RETRY);
            }
        }
    }

    /// Waits for a datagram, a command or a timer; where many datagrams come, for as long as the rhythm says since
    /// `read_at`, when they were read last. `None` only looks.
    fn wait(
        &mut self,
        events: &mut mio::Events,
        mut next: Option<Instant>,
        read_at: Instant,
    ) -> io::Result<()> {
        if next.is_some()
            && let Some(rhythm) = self.gathering.rhythm()
        {
            // Commands and timers are in no greater hurry.
            std::thread::sleep((read_at + rhythm).saturating_duration_since(Instant::now()));
            let streams = self.out.streams.as_ref();
            let connected = streams.is_some_and(|streams| !streams.is_empty());
            if !self.gathering.listens(Instant::now(), connected) {
                // Datagrams and commands are looked for in every turn anyway.
                return Ok(());
            }
            next = None;
        }
        let time = next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        });
        match self.poll.poll(events, Some(time)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        self.handle_stream_events(Instant::now(), events);
        Ok(())
    }

    fn next_timeout(&mut self) -> Instant {
        if std::mem::take(&mut self.handshakes_changed) {
            let connections = self.out.connections.values();
            self.handshakes_at = connections
                .filter_map(|connection| connection.dtls.poll_timeout())
                .min();
        }
        let rooms = self.rooms.values().filter_map(Room::poll_timeout);
        rooms
            .chain(self.handshakes_at)
            .fold(self.liveness_at, Instant::min)
    }

    /// Whether there may be more to read.
    fn read_datagrams(&mut self, inbox: &mut Inbox) -> bool {
        for _ in 0..BATCHES_A_TURN {
            let Ok(count) = self.out.socket.receive(inbox) else {
                return false;
            };
            let now = Instant::now();
            self.out.counters.receive_calls += 1;
            for place in 0..count {
                match inbox.datagram(place) {
                    Some((datagram, from)) if !is_stream(from) => self.handle_datagram(now, datagram, from),
                    _ => {
                        self.out.counters.datagrams_in += 1;
                        self.out.counters.dropped_malformed += 1;
                    }
                }
            }
            if count < Inbox::PLACES {
                return false;
            }
        }
        true
    }

    fn handle_timeouts(&mut self, now: Instant) {
        let mut faulty = Vec::new();
        for (lesson, room) in &mut self.rooms {
            if room.poll_timeout().is_some_and(|at| at <= now)
                && catch_unwind(AssertUnwindSafe(|| room.handle_timeout(now, &mut self.out))).is_err()
            {
                faulty.push(*lesson);
            }
        }
        for lesson in faulty {
            self.end_faulty(now, lesson);
        }
        if self.handshakes_at.is_some_and(|at| at <= now) {
            self.handle_handshake_timeouts(now);
        }
        if now >= self.liveness_at {
            self.liveness_at = now + LIVENESS_PERIOD;
            self.close_overdue_streams(now);
            let silent: Vec<ParticipantId> = self
                .out
                .connections
                .iter()
                .filter(|(_, connection)| connection.lost_at() <= now)
                .map(|(participant, _)| *participant)
                .collect();
            for participant in silent {
                self.out.counters.connections_lost += 1;
                self.disconnect(now, participant, Some("no sign of the other end"));
            }
        }
    }

    /// A panic in a room, of which it is not known whose state it was.
    fn end_faulty(&mut self, now: Instant, lesson: LessonId) {
        self.out.counters.panics_contained += 1;
        tracing::error!(%lesson, "a panic in a room ended its media connections; this is a bug");
        // Without connections only those who send on another worker have timers, and a faulty one is not due again.
        for participant in self.participants_of(lesson) {
            self.disconnect(now, participant, Some("fault on the server"));
        }
    }

    fn handle_handshake_timeouts(&mut self, now: Instant) {
        self.handshakes_changed = true;
        let due: Vec<ParticipantId> = self
            .out
            .connections
            .iter()
            .filter(|(_, connection)| connection.dtls.poll_timeout().is_some_and(|at| at <= now))
            .map(|(participant, _)| *participant)
            .collect();
        for participant in due {
            self.contained(now, participant, |worker| {
                worker.handle_dtls_timeout(now, participant)
            });
        }
    }

    fn leave(&mut self, now: Instant, participant: ParticipantId) {
        self.disconnect(now, participant, None);
        self.out.leave(participant);
        if let Some(lesson) = self.lessons.remove(&participant)
            && let Some(room) = self.rooms.get_mut(&lesson)
        {
            room.leave(now, participant, &mut self.out);
            if room.is_over() {
                self.drop_room(lesson);
            }
        }
    }

    fn participants_of(&self, lesson: LessonId) -> Vec<ParticipantId> {
        let here = self.lessons.iter().filter(|(_, of)| **of == lesson);
        here.map(|(participant, _)| *participant).collect()
    }

    fn drop_room(&mut self, lesson: LessonId) {
        if let Some(room) = self.rooms.remove(&lesson) {
            room.add_stats(&mut self.past_rooms);
            // Sinks are other people's code.
            if catch_unwind(AssertUnwindSafe(|| drop(room))).is_err() {
                self.out.counters.panics_contained += 1;
                tracing::error!("a sink panicked while it was dropped; this is a bug");
            }
        }
    }

    fn with_room(&mut self, participant: ParticipantId, act: impl FnOnce(&mut Room, &mut Outbox)) {
        if let Some(room) = self
            .lessons
            .get(&participant)
            .and_then(|lesson| self.rooms.get_mut(lesson))
        {
            act(room, &mut self.out);
        }
    }

    /// Forgets a connection; with a reason the participant is asked to offer again.
    fn disconnect(&mut self, now: Instant, participant: ParticipantId, reoffer: Option<&'static str>) {
        let Some(mut connection) = self.out.connections.remove(&participant) else {
            return;
        };
        self.handshakes_changed = true;
        connection.dtls.close(now);
        if let Some(address) = connection.address {
            while let Some(datagram) = connection.dtls.poll_transmit() {
                self.out.send_plain(&datagram, address);
            }
        }
        for address in connection.addresses {
            self.forget_address(address, participant);
        }
        for ufrag in connection.ice.local_ufrags() {
            self.ufrags.remove(ufrag);
        }
        if reoffer.is_some() {
            self.out.set_ice(participant, IceState::Lost);
        }
        let in_room = AssertUnwindSafe(|| {
            self.with_room(participant, |room, out| room.disconnect(now, participant, out));
        });
        let sound = catch_unwind(in_room).is_ok();
        if let Some(reason) = reoffer {
            self.out.event(SfuEvent::ReofferNeeded { participant, reason });
        }
        if !sound {
            self.out.counters.panics_contained += 1;
            tracing::error!(participant.id = %participant, "a panic ended a seat; this is a bug");
            // What the room holds of the participant is broken: it goes, and the next offer finds no seat.
            if catch_unwind(AssertUnwindSafe(|| self.leave(now, participant))).is_err() {
                self.out.counters.panics_contained += 1;
            }
        }
    }

    /// Forgets an address unless it is somebody else's by now.
    fn forget_address(&mut self, address: SocketAddr, participant: ParticipantId) {
        if self.addresses.get(&address) == Some(&participant) {
            self.addresses.remove(&address);
            if let Some(streams) = &mut self.out.streams {
                streams.flush(Instant::now());
                streams.close(address);
            }
        }
    }

    fn say_goodbye(&mut self) {
        let now = Instant::now();
        let everyone: Vec<ParticipantId> = self.out.connections.keys().copied().collect();
        for participant in everyone {
            self.disconnect(now, participant, None);
        }
        self.out.flush();
    }

    /// Runs what one participant's input triggers; a panic in it ends that participant's connection alone.
    fn contained(&mut self, now: Instant, participant: ParticipantId, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            self.out.counters.panics_contained += 1;
            tracing::error!(participant.id = %participant, "a panic ended a media connection; this is a bug");
            self.disconnect(now, participant, Some("fault on the server"));
        }
    }
}
