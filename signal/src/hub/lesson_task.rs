//! The task that owns one lesson: commits, asks the pure `lesson` what follows, and carries that out.

mod consents;
mod ending;
mod messages;
mod outputs;
mod seats;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use seodang_model::protocol::{ClientMessage, ClosingReason, Consents};
use seodang_model::{DisplayName, ParticipantId, PersonId, Token};
use seodang_sfu::OfferError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Shared;
use super::inbox::Inbox;
use super::opening::{self, Opened};
use super::report::{LessonReport, ParticipantState};
use crate::error::ApiError;
use crate::lesson::{Lesson, SocketId};
use crate::mirror::MirrorCommand;
use crate::session::outbox::Outbox;
use crate::store::{EndReason, LessonEnd, RoomRecord};

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

/// An answer that the database did not take: it can only have taken something back.
#[derive(Clone, Copy)]
struct Unstored {
    person: PersonId,
    consents: Consents,
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
    unstored: BTreeMap<ParticipantId, Unstored>,
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
            unstored: BTreeMap::new(),
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
                    self.carry_out(outputs).await;
                    return self.empty_queue(&self.report()).await;
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
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
