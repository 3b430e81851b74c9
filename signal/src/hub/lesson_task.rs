//! The task that owns one lesson: commits, asks the pure `lesson` what follows, and carries that out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use seodang_model::protocol::{
    ChatLine, ClientMessage, ClosingReason, Consents, ErrorCode, ErrorInfo, ServerMessage,
};
use seodang_model::{DisplayName, ParticipantId, PersonId, Rights, Role, Token};
use seodang_sfu::{Join, OfferError, SfuError};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::inbox::Inbox;
use super::opening::{self, Opened};
use super::report::{LessonReport, ParticipantState};
use super::{MEDIA_WITHIN, Shared, unavailable};
use crate::chat::{self, History, Scope};
use crate::error::ApiError;
use crate::lesson::{Joining, Lesson, MediaCommand, Output, Refusal, SocketId};
use crate::mirror::MirrorCommand;
use crate::session::outbox::{Ending, Outbox, to_json};
use crate::store::{EndReason, LessonEnd, NewSeat, RoomRecord, SeatRecord};

/// Commands waiting for a lesson: a full class that says several things at once. When full, sockets wait.
const COMMANDS: usize = 256;

/// What a lesson is asked to do.
#[derive(Debug)]
pub(super) enum LessonCommand {
    /// Take a seat.
    Join {
        request: Box<JoinRequest>,
        answer: oneshot::Sender<Result<ParticipantId, ApiError>>,
    },
    /// A participant said something.
    Message {
        participant: ParticipantId,
        socket: SocketId,
        message: ClientMessage,
    },
    /// A socket is gone.
    Disconnected {
        participant: ParticipantId,
        socket: SocketId,
    },
    /// End; answered when everybody has been told.
    Close {
        keep_recordings: bool,
        answer: oneshot::Sender<Result<(), ApiError>>,
    },
    /// Describe yourself.
    Report { answer: oneshot::Sender<LessonReport> },
}

/// Somebody who wants a seat.
#[derive(Debug)]
pub(super) struct JoinRequest {
    pub(super) name: DisplayName,
    pub(super) consents: Consents,
    pub(super) resume: Option<Token>,
    pub(super) person: Option<Token>,
    pub(super) is_host: bool,
    pub(super) socket: SocketId,
    pub(super) outbox: Outbox,
}

/// The way to a lesson task.
#[derive(Clone, Debug)]
pub(super) struct LessonHandle {
    pub(super) commands: mpsc::Sender<LessonCommand>,
    pub(super) gauge: Arc<Gauge>,
}

/// What may be known of a lesson without asking it.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    participants: AtomicU32,
    open: AtomicBool,
}

impl Gauge {
    pub(super) fn participants(&self) -> u32 {
        self.participants.load(Ordering::Relaxed)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

/// Starts the task of a room's lesson. It ends with the lesson, or with the server.
pub(super) fn start(shared: Arc<Shared>, room: RoomRecord) -> LessonHandle {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let gauge = Arc::new(Gauge::default());
    let handle = LessonHandle {
        commands: sender,
        gauge: gauge.clone(),
    };
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let id = room.id;
        let number = room.number.clone();
        match opening::open(&shared, room).await {
            Ok(opened) => LessonTask::new(shared.clone(), opened, commands, gauge).run().await,
            Err(error) => {
                tracing::error!(room.number = %number, error = &error as &dyn std::error::Error, "a lesson cannot be opened");
                // Whoever waits in `commands` learns it from their answers being dropped.
                drop(commands);
            }
        }
        shared.forget_ended(id);
    });
    handle
}

/// An offer that the SFU has answered.
struct Answered {
    participant: ParticipantId,
    socket: SocketId,
    connection: u32,
    outcome: Result<String, OfferError>,
}

struct LessonTask {
    shared: Arc<Shared>,
    lesson: Lesson,
    commands: mpsc::Receiver<LessonCommand>,
    inbox: Arc<Inbox>,
    gauge: Arc<Gauge>,
    outboxes: HashMap<SocketId, (ParticipantId, Outbox)>,
    offers: JoinSet<Answered>,
    newest_chat_line: i64,
    reopened: bool,
    ending: Option<LessonEnd>,
}

impl LessonTask {
    fn new(
        shared: Arc<Shared>,
        opened: Opened,
        commands: mpsc::Receiver<LessonCommand>,
        gauge: Arc<Gauge>,
    ) -> Self {
        Self {
            shared,
            lesson: opened.lesson,
            commands,
            inbox: Arc::default(),
            gauge,
            outboxes: HashMap::new(),
            offers: JoinSet::new(),
            newest_chat_line: opened.newest_chat_line,
            reopened: opened.reopened,
            ending: opened.ending,
        }
    }

    async fn run(mut self) {
        let info = self.lesson.info(self.reopened);
        tracing::info!(lesson.id = %info.lesson, room.number = %info.number, reopened = info.reopened, "lesson open");
        self.shared.mirror.tell(MirrorCommand::LessonOpened(info)).await;
        self.gauge.open.store(true, Ordering::Relaxed);
        let stop = self.shared.stop.clone();
        while self.ending.is_none() {
            let deadline = self.lesson.poll_timeout();
            self.gauge
                .participants
                .store(self.lesson.summary().participants, Ordering::Relaxed);
            tokio::select! {
                () = stop.cancelled() => {
                    let outputs = self.lesson.handle_end(ClosingReason::ServerRestart);
                    return self.carry_out(outputs).await;
                }
                Some(command) = self.commands.recv() => self.handle(command).await,
                news = self.inbox.take() => {
                    for (participant, news) in news {
                        let outputs = self.lesson.handle_news(participant, news);
                        self.carry_out(outputs).await;
                    }
                }
                Some(Ok(answered)) = self.offers.join_next() => self.handle_answered(answered).await,
                () = sleep_until(deadline) => {
                    let outputs = self.lesson.handle_timeout(Instant::now());
                    self.carry_out(outputs).await;
                }
            }
        }
        self.finish().await;
    }

    async fn handle(&mut self, command: LessonCommand) {
        match command {
            LessonCommand::Join { request, answer } => {
                let outcome = self.join(*request).await;
                // The socket may have gone meanwhile; its session says so itself.
                let _ = answer.send(outcome);
            }
            LessonCommand::Message {
                participant,
                socket,
                message,
            } => {
                self.handle_message(participant, socket, message).await;
            }
            LessonCommand::Disconnected { participant, socket } => {
                self.outboxes.remove(&socket);
                let outputs = self.lesson.handle_disconnect(Instant::now(), participant, socket);
                self.carry_out(outputs).await;
            }
            LessonCommand::Close {
                keep_recordings,
                answer,
            } => {
                let end = LessonEnd {
                    reason: EndReason::Closed,
                    keep_recordings,
                };
                let outcome = self.begin_ending(end).await;
                let _ = answer.send(outcome);
            }
            LessonCommand::Report { answer } => {
                let _ = answer.send(self.report());
            }
        }
    }

    fn report(&self) -> LessonReport {
        let record = self.lesson.record();
        LessonReport {
            lesson: record.id,
            folder: record.folder.to_string(),
            started_at: record.started_at,
            ending: self.ending.is_some(),
            participants: self
                .lesson
                .users()
                .into_iter()
                .map(ParticipantState::new)
                .collect(),
        }
    }

    /// Commits a seat and leads its holder in.
    async fn join(&mut self, request: JoinRequest) -> Result<ParticipantId, ApiError> {
        let earlier = match &request.resume {
            Some(token) => {
                let lesson = self.lesson.record().id;
                let seat = self.shared.store.seat_by_resume_token(lesson, token.hash()).await;
                seat.map_err(|error| unavailable(&error))?
            }
            None => None,
        };
        let held = earlier
            .as_ref()
            .is_some_and(|seat| self.lesson.seat(seat.participant).is_some());
        // A full class must not lock its own teacher out.
        if self.lesson.is_full() && !held && !request.is_host {
            return Err(ApiError::new(ErrorCode::Full, "the room has no free seat"));
        }
        let JoinRequest {
            socket, ref outbox, ..
        } = request;
        let outbox = outbox.clone();
        let joining = match earlier {
            Some(seat) => self.retake_seat(seat, request).await?,
            None => self.take_seat(request).await?,
        };
        let participant = joining.record.participant;
        let scope = match joining.record.role {
            Role::Host | Role::Cohost => Scope::Room(self.lesson.room().id),
            Role::Student => Scope::Lesson(self.lesson.record().id),
        };
        tracing::info!(participant.id = %participant, role = joining.record.role.as_str(), resumed = joining.resumed, "joined");
        self.shared.route_news(participant, &self.inbox);
        self.outboxes.insert(socket, (participant, outbox.clone()));
        let outputs = self.lesson.handle_join(Instant::now(), joining);
        self.carry_out(outputs).await;
        // The outbox is there: every line above the newest one comes through it, behind the history.
        if outbox
            .try_send_history(History::new(scope, self.newest_chat_line))
            .is_err()
        {
            outbox.close(ClosingReason::TooSlow);
        }
        Ok(participant)
    }

    async fn take_seat(&self, request: JoinRequest) -> Result<Joining, ApiError> {
        let role = if request.is_host {
            Role::Host
        } else {
            Role::Student
        };
        let room = self.lesson.room();
        let (name, storage_name) = self.lesson.names_for(&request.name);
        let resume = Token::random();
        let mut new = NewSeat {
            room: room.id,
            lesson: self.lesson.record().id,
            seat: SeatRecord {
                participant: ParticipantId::random(),
                person: PersonId::random(),
                name,
                storage_name,
                role,
                rights: Rights::on_joining(room.kind, role),
                consents: request.consents,
                joined_at: OffsetDateTime::now_utc(),
                left: false,
            },
            resume_token_hash: resume.hash(),
            person_key: request.person,
        };
        let (person, key) = self
            .shared
            .store
            .take_seat(&new)
            .await
            .map_err(|error| unavailable(&error))?;
        new.seat.person = person;
        Ok(Joining {
            record: new.seat,
            socket: request.socket,
            resume,
            person: key,
            resumed: false,
        })
    }

    /// The seat again: same id, same name; the answers are those given with this join.
    async fn retake_seat(&self, mut seat: SeatRecord, request: JoinRequest) -> Result<Joining, ApiError> {
        let room = self.lesson.room();
        if request.is_host && seat.role == Role::Student {
            seat.role = Role::Host;
            seat.rights = Rights::on_joining(room.kind, seat.role);
        }
        let store = &self.shared.store;
        if seat.consents != request.consents {
            store
                .add_consents(
                    seat.person,
                    room.id,
                    seat.participant,
                    request.consents,
                    OffsetDateTime::now_utc(),
                )
                .await
                .map_err(|error| unavailable(&error))?;
            seat.consents = request.consents;
        }
        let person = store
            .retake_seat(&seat, request.person.as_ref())
            .await
            .map_err(|error| unavailable(&error))?;
        seat.left = false;
        let resume = request.resume.unwrap_or_else(Token::random);
        Ok(Joining {
            record: seat,
            socket: request.socket,
            resume,
            person,
            resumed: true,
        })
    }

    async fn handle_message(&mut self, participant: ParticipantId, socket: SocketId, message: ClientMessage) {
        if self.lesson.seat_of(participant, socket).is_none() {
            // Said by a socket whose seat another one has taken; it has been told.
            return;
        }
        let kind = message.type_name();
        let nonce = match &message {
            ClientMessage::Chat { nonce, .. } if nonce.len() <= 64 => Some(nonce.clone()),
            _ => None,
        };
        match self.decide(participant, socket, message).await {
            Ok(outputs) => self.carry_out(outputs).await,
            Err((code, message)) => {
                let reply_to = Some(kind.to_owned());
                let error = ErrorInfo {
                    code,
                    message: message.to_owned(),
                    reply_to,
                    nonce,
                };
                let message = Box::new(ServerMessage::Error(error));
                self.carry_out(vec![Output::Send {
                    to: vec![socket],
                    message,
                }])
                .await;
            }
        }
    }

    /// Commits what has to be, then asks the lesson.
    async fn decide(
        &mut self,
        participant: ParticipantId,
        socket: SocketId,
        message: ClientMessage,
    ) -> Result<Vec<Output>, Refusal> {
        match message {
            ClientMessage::Offer(offer) => self.lesson.handle_offer(participant, socket, offer),
            ClientMessage::Publish { source } => self.lesson.handle_publish(participant, source),
            ClientMessage::Unpublish { source } => self.lesson.handle_unpublish(participant, source),
            ClientMessage::View { generation, slots } => {
                self.lesson.handle_view(participant, generation, slots)
            }
            ClientMessage::Chat { text, nonce } => self.chat(participant, &text, nonce).await,
            ClientMessage::Consent(consents) => self.consent(participant, consents).await,
            ClientMessage::SetRights {
                participant: whose,
                rights,
            } => {
                self.lesson.may_set_rights(participant, whose)?;
                self.shared
                    .store
                    .set_rights(whose, rights)
                    .await
                    .map_err(|error| refused(&error))?;
                Ok(self.lesson.handle_rights(whose, rights))
            }
            ClientMessage::Leave => {
                if let Some((_, outbox)) = self.outboxes.remove(&socket) {
                    outbox.end(Ending::Goodbye);
                }
                Ok(self.lesson.handle_leave(Instant::now(), participant))
            }
            // The session answers these itself.
            ClientMessage::Hello { .. } | ClientMessage::JoinRoom(_) | ClientMessage::Ping => Ok(Vec::new()),
        }
    }

    async fn chat(
        &mut self,
        participant: ParticipantId,
        text: &str,
        nonce: String,
    ) -> Result<Vec<Output>, Refusal> {
        let text = chat::check(text, &nonce)?;
        let Some(seat) = self.lesson.seat(participant) else {
            return Ok(Vec::new());
        };
        let name = seat.record.name.clone();
        let (room, lesson) = (self.lesson.room().id, self.lesson.record().id);
        let sent_at = OffsetDateTime::now_utc();
        let id = self
            .shared
            .store
            .add_chat_line(room, lesson, participant, &text, sent_at)
            .await
            .map_err(|error| refused(&error))?;
        self.newest_chat_line = id;
        let sent_at = sent_at
            .replace_millisecond(sent_at.millisecond())
            .unwrap_or(sent_at);
        Ok(self.lesson.handle_chat(
            ChatLine {
                id,
                participant,
                name,
                text,
                sent_at,
                nonce: None,
            },
            nonce,
        ))
    }

    async fn consent(&mut self, participant: ParticipantId, wish: Consents) -> Result<Vec<Output>, Refusal> {
        let Some(seat) = self.lesson.seat(participant) else {
            return Ok(Vec::new());
        };
        let (person, before) = (seat.record.person, seat.record.consents);
        let room = self.lesson.room().id;
        let now = OffsetDateTime::now_utc();
        match self
            .shared
            .store
            .add_consents(person, room, participant, wish, now)
            .await
        {
            Ok(()) => Ok(self.lesson.handle_consents(participant, wish)),
            Err(error) => {
                // A yes needs its row; a no counts at once, whatever the database says.
                let both = Consents {
                    recording: before.recording && wish.recording,
                    captures: before.captures && wish.captures,
                };
                if both != before {
                    let outputs = self.lesson.handle_consents(participant, both);
                    self.carry_out(outputs).await;
                }
                Err(refused(&error))
            }
        }
    }

    async fn handle_answered(&mut self, answered: Answered) {
        let Answered {
            participant,
            socket,
            connection,
            outcome,
        } = answered;
        let reply = match outcome {
            Ok(sdp) => ServerMessage::Answer { connection, sdp },
            Err(error) => {
                let code = match error {
                    OfferError::Datachannel => ErrorCode::NoDatachannel,
                    OfferError::Bad { .. } => ErrorCode::BadOffer,
                    OfferError::UnknownParticipant | OfferError::Busy => ErrorCode::Unavailable,
                };
                tracing::debug!(participant.id = %participant, %error, "offer refused");
                let reply_to = Some("offer".to_owned());
                ServerMessage::Error(ErrorInfo {
                    code,
                    message: error.to_string(),
                    reply_to,
                    nonce: None,
                })
            }
        };
        let outputs = self.lesson.handle_answer(participant, socket, reply);
        self.carry_out(outputs).await;
    }

    /// Does what the lesson decided, in that order, and whatever follows from it.
    async fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut todo = VecDeque::from(outputs);
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Send { to, message } => todo.extend(self.send(&to, &message)),
                Output::Close { socket, reason } => {
                    if let Some((_, outbox)) = self.outboxes.remove(&socket) {
                        outbox.close(reason);
                    }
                }
                Output::Media(command) => self.tell_sfu(command).await,
                Output::Mirror(command) => self.shared.mirror.tell(command).await,
                Output::Left(participant) => {
                    tracing::info!(participant.id = %participant, "left");
                    self.shared.drop_news(participant);
                    if let Err(error) = self
                        .shared
                        .store
                        .leave_seat(participant, OffsetDateTime::now_utc())
                        .await
                    {
                        // The end of the lesson notes it for everybody who is left.
                        tracing::error!(error = &error as &dyn std::error::Error, "a leave was not stored");
                    }
                }
                Output::End(reason) => {
                    let end = LessonEnd {
                        reason,
                        keep_recordings: true,
                    };
                    if let Err(error) = self
                        .shared
                        .store
                        .begin_ending_lesson(self.lesson.record().id, end)
                        .await
                    {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "an ending was not stored"
                        );
                    }
                    self.ending = Some(end);
                }
            }
        }
    }

    /// Queues a message; sockets that do not read are closed, and that has consequences.
    fn send(&mut self, to: &[SocketId], message: &ServerMessage) -> Vec<Output> {
        let mut outputs = Vec::new();
        if to.is_empty() {
            return outputs;
        }
        let text = to_json(message);
        for socket in to {
            let Some((participant, outbox)) = self.outboxes.get(socket) else {
                continue;
            };
            let participant = *participant;
            if outbox.try_send(text.clone()).is_err() {
                tracing::warn!(participant.id = %participant, "a socket reads too slowly and is closed");
                outbox.close(ClosingReason::TooSlow);
                self.outboxes.remove(socket);
                outputs.extend(
                    self.lesson
                        .handle_disconnect(Instant::now(), participant, *socket),
                );
            }
        }
        outputs
    }

    async fn tell_sfu(&mut self, command: MediaCommand) {
        let sfu = &self.shared.sfu;
        let lesson = self.lesson.record().id;
        let outcome: Result<(), SfuError> = match command {
            MediaCommand::Join(participant, rights) => {
                let join = sfu.join(Join {
                    lesson,
                    participant,
                    rights,
                });
                timeout(MEDIA_WITHIN, join).await.unwrap_or(Err(SfuError::Busy))
            }
            MediaCommand::Offer {
                participant,
                socket,
                offer,
            } => {
                let sfu = sfu.clone();
                self.offers.spawn(async move {
                    let connection = offer.connection;
                    let answer = timeout(MEDIA_WITHIN, sfu.offer(participant, offer));
                    let outcome = answer.await.unwrap_or(Err(OfferError::Busy));
                    Answered {
                        participant,
                        socket,
                        connection,
                        outcome,
                    }
                });
                Ok(())
            }
            MediaCommand::Publish(publication) => sfu.publish(publication),
            MediaCommand::Unpublish(publication) => sfu.unpublish(publication),
            MediaCommand::SetRights(participant, rights) => sfu.set_rights(participant, rights),
            MediaCommand::View {
                participant,
                generation,
                slots,
            } => sfu.view(participant, generation, slots),
            MediaCommand::Leave(participant) => sfu.leave(participant),
        };
        if let Err(error) = outcome {
            // The class goes on without media; offers are answered with `unavailable`.
            tracing::warn!(lesson.id = %lesson, %error, "the media worker did not take a command");
        }
    }

    /// Stores that the lesson ends; the loop does the rest.
    async fn begin_ending(&mut self, end: LessonEnd) -> Result<(), ApiError> {
        let lesson = self.lesson.record().id;
        self.shared
            .store
            .begin_ending_lesson(lesson, end)
            .await
            .map_err(|error| unavailable(&error))?;
        self.ending = Some(end);
        let outputs = self.lesson.handle_end(ClosingReason::LessonEnded);
        self.carry_out(outputs).await;
        Ok(())
    }

    /// Tells everybody, then ends media, files and row, in this order. Nobody joins meanwhile.
    async fn finish(mut self) {
        let Some(end) = self.ending else { return };
        self.gauge.open.store(false, Ordering::Relaxed);
        let told = match end.reason {
            EndReason::HostMissing => ClosingReason::HostMissing,
            EndReason::Closed | EndReason::Empty => ClosingReason::LessonEnded,
        };
        let outputs = self.lesson.handle_end(told);
        self.carry_out(outputs).await;
        let lesson = self.lesson.record().id;
        tracing::info!(lesson.id = %lesson, reason = end.reason.as_str(), keep = end.keep_recordings, "lesson ends");
        for user in self.lesson.users() {
            self.shared.drop_news(user.participant);
        }
        let report = self.report();
        let shared = self.shared.clone();
        let mut finishing = std::pin::pin!(async {
            let closing = timeout(MEDIA_WITHIN, shared.sfu.close_room(lesson)).await;
            if let Err(error) = closing.unwrap_or(Err(SfuError::Busy)) {
                tracing::warn!(lesson.id = %lesson, %error, "the media worker did not close the room");
            }
            let files = shared.mirror.close_lesson(lesson, end.keep_recordings);
            if timeout(shared.config.finish_within, files).await.is_err() {
                tracing::error!(lesson.id = %lesson, "the lesson's files are not finished yet");
            }
            if let Err(error) = shared.store.end_lesson(lesson, OffsetDateTime::now_utc()).await {
                // The row says that it is ending: the next join, or the next start, finishes it.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the lesson's end was not stored"
                );
            }
        });
        loop {
            tokio::select! {
                () = &mut finishing => break,
                Some(command) = self.commands.recv() => refuse(command, &report),
            }
        }
        tracing::info!(lesson.id = %lesson, "lesson ended");
    }
}

/// What a lesson answers that is ending.
fn refuse(command: LessonCommand, report: &LessonReport) {
    match command {
        LessonCommand::Join { answer, .. } => {
            let text = "the last lesson is being finished; try again in a few seconds";
            let _ = answer.send(Err(ApiError::new(ErrorCode::Unavailable, text)));
        }
        LessonCommand::Close { answer, .. } => {
            let _ = answer.send(Ok(()));
        }
        LessonCommand::Report { answer } => {
            let _ = answer.send(report.clone());
        }
        LessonCommand::Message { .. } | LessonCommand::Disconnected { .. } => {}
    }
}

/// The database did not answer, in a message's words.
fn refused(error: &crate::store::StoreError) -> Refusal {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the database did not answer"
    );
    (
        ErrorCode::Unavailable,
        "the database does not answer now; try again",
    )
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
