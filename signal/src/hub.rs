//! The rooms as signaling sees them: finds a room, opens its lesson, and leads everyone into it.
//!
//! Each open lesson is one task that owns the lesson's state; the hub holds handles to them and nothing else that
//! changes. What a lesson decides is in `lesson`, what it does about it is in `hub::lesson_task`.

mod allowance;
mod config;
mod inbox;
mod lesson_task;
mod opening;
mod report;
mod rooms;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seodang_model::protocol::{ClientMessage, ErrorCode, JoinRoom};
use seodang_model::{DisplayName, ParticipantId, RoomId};
use seodang_sfu::{SfuEvent, SfuHandle};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Credentials;
use crate::error::ApiError;
use crate::lesson::SocketId;
use crate::mirror::{KeptReport, Mirror};
use crate::session::SessionLimits;
use crate::session::outbox::Outbox;
use crate::session::places::{Place, Places};
use crate::store::{RoomRecord, Store, StoreError};
use allowance::Allowance;
pub use config::HubConfig;
use inbox::Inbox;
use lesson_task::{JoinRequest, LessonCommand, LessonHandle};
pub use report::{LessonReport, ParticipantState};
pub use rooms::NewRoom;

/// How often a lesson may end just as somebody comes in.
const JOIN_TRIES: u32 = 3;
/// How long a media worker may take to answer; a class must go on without it.
const MEDIA_WITHIN: Duration = Duration::from_secs(5);
/// How long lessons may take to tell everybody that the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(4);

/// What the hub works with.
#[derive(Debug)]
pub struct HubParts {
    /// The database.
    pub store: Store,
    /// The SFU's commands.
    pub sfu: SfuHandle,
    /// The SFU's events.
    pub sfu_events: mpsc::Receiver<SfuEvent>,
    /// What the files are told.
    pub mirror: Mirror,
    /// What is kept.
    pub mirror_reports: mpsc::Receiver<KeptReport>,
}

/// The rooms. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// What the hub, its lessons and its sockets share.
#[derive(Debug)]
struct Shared {
    config: HubConfig,
    store: Store,
    sfu: SfuHandle,
    mirror: Mirror,
    lessons: Mutex<HashMap<RoomId, LessonHandle>>,
    /// Where news of a participant goes.
    inboxes: Mutex<HashMap<ParticipantId, Arc<Inbox>>>,
    places: Places,
    /// Wrong guesses of numbers and tokens. Right ones cost nothing: a school sits behind one address.
    guesses: Allowance,
    creations: Allowance,
    sockets: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A seat that was taken, and the way to its lesson.
#[derive(Debug)]
pub(crate) struct Joined {
    participant: ParticipantId,
    lesson: mpsc::Sender<LessonCommand>,
    mirror: Mirror,
}

/// The lesson is over.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the lesson is over")]
pub(crate) struct LessonOver;

impl Joined {
    /// Hands a message to the lesson; waits while the lesson is behind.
    pub(crate) async fn message(&self, socket: SocketId, message: ClientMessage) -> Result<(), LessonOver> {
        if let ClientMessage::Consent(wish) = message {
            // Past everything that waits for the lesson, which may itself be waiting for the database.
            self.mirror.withdraw(self.participant, wish).await;
        }
        let command = LessonCommand::Message {
            participant: self.participant,
            socket,
            message,
        };
        self.lesson.send(command).await.map_err(|_| LessonOver)
    }

    /// The socket is gone. A lesson that is over does not mind.
    pub(crate) async fn disconnected(&self, socket: SocketId) {
        let command = LessonCommand::Disconnected {
            participant: self.participant,
            socket,
        };
        let _ = self.lesson.send(command).await;
    }
}

impl Hub {
    /// Starts the hub and goes on with the lessons that a restart interrupted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn start(parts: HubParts, config: HubConfig) -> Result<Self, StoreError> {
        let HubParts {
            store,
            sfu,
            sfu_events,
            mirror,
            mirror_reports,
        } = parts;
        let shared = Arc::new(Shared {
            places: Places::new(config.places),
            guesses: Allowance::new(),
            creations: Allowance::new(),
            config,
            store,
            sfu,
            mirror,
            lessons: Mutex::default(),
            inboxes: Mutex::default(),
            sockets: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        shared
            .tasks
            .spawn(inbox::distribute(shared.clone(), sfu_events, mirror_reports));
        for room in shared.store.rooms_with_open_lessons().await? {
            tracing::info!(room.number = %room.number, "the lesson goes on");
            shared.lesson_of(&room);
        }
        Ok(Self { shared })
    }

    /// Tells everybody that the server stops, and waits until they have been told. Lessons stay open: the next
    /// start goes on with them.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(STOP_WITHIN, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("not every socket could be told that the server stops");
        }
    }

    /// Takes a seat. From then on everything for `socket` is queued in `outbox`.
    pub(crate) async fn join(
        &self,
        join: JoinRoom,
        credentials: &Credentials,
        address: IpAddr,
        socket: SocketId,
        outbox: Outbox,
    ) -> Result<Joined, ApiError> {
        let name = DisplayName::parse(&join.name)
            .map_err(|error| ApiError::new(ErrorCode::BadName, error.to_string()))?;
        let room = self.find(&join.room, address).await?;
        let is_host = credentials.is_host(&room.number, room.host_token_hash);
        if !is_host && credentials.bearer().is_some() {
            self.shared.guesses.spend(address);
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                "the bearer token is not this room's host token",
            ));
        }
        for _ in 0..JOIN_TRIES {
            if self.shared.stop.is_cancelled() {
                break;
            }
            let lesson = self.shared.lesson_of(&room);
            let (answer, answered) = oneshot::channel();
            let request = JoinRequest {
                name: name.clone(),
                consents: join.consents,
                resume: join.resume.clone(),
                person: join.person.clone(),
                is_host,
                socket,
                outbox: outbox.clone(),
            };
            let command = LessonCommand::Join {
                request: Box::new(request),
                answer,
            };
            if lesson.commands.send(command).await.is_err() {
                continue;
            }
            if let Ok(answer) = answered.await {
                return answer.map(|participant| Joined {
                    participant,
                    lesson: lesson.commands,
                    mirror: self.shared.mirror.clone(),
                });
            }
        }
        Err(ApiError::new(
            ErrorCode::Unavailable,
            "the lesson cannot be opened now; try again",
        ))
    }

    /// A place for one more socket of an address.
    ///
    /// # Errors
    /// [`ErrorCode::SlowDown`] when it has too many, [`ErrorCode::Unavailable`] while the server stops.
    pub(crate) fn place(&self, address: IpAddr) -> Result<Place, ApiError> {
        if self.shared.stop.is_cancelled() {
            return Err(ApiError::new(ErrorCode::Unavailable, "the server is stopping"));
        }
        let full = || ApiError::new(ErrorCode::SlowDown, "too many open sockets from this address");
        self.shared.places.try_take(address).ok_or_else(full)
    }

    /// Runs a socket's future so that shutdown waits for it.
    pub(crate) fn track<F: Future>(&self, session: F) -> impl Future<Output = F::Output> + use<F> {
        self.shared.tasks.track_future(session)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn session_limits(&self) -> SessionLimits {
        self.shared.config.session
    }

    pub(crate) fn next_socket(&self) -> SocketId {
        SocketId(self.shared.sockets.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until the server stops.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + use<> {
        self.shared.stop.clone().cancelled_owned()
    }
}

impl Shared {
    /// The lesson task of a room, started if there is none.
    fn lesson_of(self: &Arc<Self>, room: &RoomRecord) -> LessonHandle {
        let mut lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lesson) = lessons
            .get(&room.id)
            .filter(|lesson| !lesson.commands.is_closed())
        {
            return lesson.clone();
        }
        let lesson = lesson_task::start(self.clone(), room.clone());
        lessons.insert(room.id, lesson.clone());
        lesson
    }

    /// The lesson task of a room, if there is one.
    fn running(&self, room: RoomId) -> Option<LessonHandle> {
        self.lessons
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&room)
            .cloned()
    }

    /// Removes the lesson task of a room if it has ended; the next one may be there already.
    fn forget_ended(&self, room: RoomId) {
        let mut lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        if lessons
            .get(&room)
            .is_some_and(|lesson| lesson.commands.is_closed())
        {
            lessons.remove(&room);
        }
    }
}

/// The database did not answer.
fn unavailable(error: &StoreError) -> ApiError {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the database did not answer"
    );
    ApiError::new(
        ErrorCode::Unavailable,
        "the database does not answer now; try again",
    )
}

fn guessing() -> ApiError {
    ApiError::new(
        ErrorCode::SlowDown,
        "too many unknown rooms or wrong tokens from this address; wait a minute",
    )
}

#[cfg(test)]
mod tests;
