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

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seodang_model::protocol::{ClientMessage, ErrorCode, JoinRoom, RoomSummary};
use seodang_model::{DisplayName, ParticipantId, RoomId, RoomKind, RoomNumber, RoomTitle, Token};
use seodang_sfu::{SfuEvent, SfuHandle};
use time::OffsetDateTime;
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

/// Rooms that the list shows at most.
const MOST_LISTED: u32 = 200;
/// How often a chosen-at-random number may be taken already.
const NUMBER_TRIES: u32 = 8;
/// How often a lesson may end just as somebody comes in.
const JOIN_TRIES: u32 = 3;
/// How long a media worker may take to answer; a class must go on without it.
const MEDIA_WITHIN: Duration = Duration::from_secs(5);
/// How long lessons may take to tell everybody that the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

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

/// A room to be made.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// Its title.
    pub title: RoomTitle,
    /// Its number; chosen here when absent.
    pub number: Option<RoomNumber>,
    /// How it meets.
    pub kind: RoomKind,
    /// Whether the list of rooms shows it.
    pub listed: bool,
    /// Most participants; the configured number when absent.
    pub capacity: Option<u32>,
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
}

/// The lesson is over.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the lesson is over")]
pub(crate) struct LessonOver;

impl Joined {
    /// Hands a message to the lesson; waits while the lesson is behind.
    pub(crate) async fn message(&self, socket: SocketId, message: ClientMessage) -> Result<(), LessonOver> {
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

    /// Makes a room; returns it with the token of its hosts, which is not stored and cannot be shown again.
    ///
    /// # Errors
    /// [`ErrorCode::NumberTaken`], or [`ErrorCode::Unavailable`].
    pub async fn create_room(&self, new: NewRoom) -> Result<(RoomSummary, Token), ApiError> {
        let token = Token::random();
        let most = self.shared.config.room_capacity;
        let mut room = RoomRecord {
            id: RoomId::random(),
            number: new.number.clone().unwrap_or_else(RoomNumber::random),
            title: new.title,
            kind: new.kind,
            listed: new.listed,
            capacity: new.capacity.map_or(most, |capacity| capacity.clamp(1, most)),
            host_token_hash: token.hash(),
        };
        for _ in 0..NUMBER_TRIES {
            match self.shared.store.add_room(&room, OffsetDateTime::now_utc()).await {
                Ok(()) => return Ok((self.summary(&room), token)),
                Err(StoreError::NumberTaken) if new.number.is_none() => room.number = RoomNumber::random(),
                Err(StoreError::NumberTaken) => break,
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(ApiError::new(
            ErrorCode::NumberTaken,
            "this number is taken, or was once",
        ))
    }

    /// The rooms that the list shows, the newest first.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`].
    pub async fn listed_rooms(&self) -> Result<Vec<RoomSummary>, ApiError> {
        let rooms = self
            .shared
            .store
            .listed_rooms(MOST_LISTED)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(rooms.iter().map(|room| self.summary(room)).collect())
    }

    /// What everyone who knows the number may know of a room.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownRoom`], and [`ErrorCode::SlowDown`] for an address that guesses numbers.
    pub async fn room(&self, number: &str, address: IpAddr) -> Result<RoomSummary, ApiError> {
        Ok(self.summary(&self.find(number, address).await?))
    }

    /// The room, for whoever presents its host token.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthorized`] without a token; an unknown number and a wrong token get the same
    /// [`ErrorCode::NotFound`].
    pub(crate) async fn hosted_room(
        &self,
        number: &str,
        credentials: &Credentials,
        address: IpAddr,
    ) -> Result<RoomRecord, ApiError> {
        let number: RoomNumber = number.parse().map_err(|_| ApiError::not_found())?;
        if !credentials.claims(&number) {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                "this is for the hosts of the room",
            ));
        }
        if !self.shared.guesses.is_left(address) {
            return Err(guessing());
        }
        let room = self
            .shared
            .store
            .room_by_number(&number)
            .await
            .map_err(|error| unavailable(&error))?;
        room.filter(|room| credentials.is_host(&number, room.host_token_hash))
            .ok_or_else(|| {
                self.shared.guesses.spend(address);
                ApiError::not_found()
            })
    }

    /// Closes a room's lesson and waits until its files are finished.
    ///
    /// # Errors
    /// When there is no such room, no lesson is going on in it, or its end cannot be stored.
    pub async fn close_and_finish(&self, number: &RoomNumber, keep_recordings: bool) -> Result<(), ApiError> {
        let room = self.shared.store.room_by_number(number).await.map_err(|error| unavailable(&error))?;
        let room = room.ok_or_else(|| ApiError::new(ErrorCode::UnknownRoom, "no room has this number"))?;
        let lesson = self.shared.running(room.id);
        self.close_room(&room, keep_recordings).await?;
        if let Some(lesson) = lesson {
            // The lesson's task drops its end of the channel when everything is done.
            lesson.commands.closed().await;
        }
        Ok(())
    }

    /// Ends the lesson of a room; everybody has been told when this returns, the files are finished later.
    ///
    /// # Errors
    /// [`ErrorCode::NoLesson`] when none is going on.
    pub(crate) async fn close_room(&self, room: &RoomRecord, keep_recordings: bool) -> Result<(), ApiError> {
        let none = || ApiError::new(ErrorCode::NoLesson, "no lesson is going on in this room");
        let lesson = self.shared.running(room.id).ok_or_else(none)?;
        let (answer, answered) = oneshot::channel();
        lesson
            .commands
            .send(LessonCommand::Close {
                keep_recordings,
                answer,
            })
            .await
            .map_err(|_| none())?;
        answered.await.map_err(|_| none())?
    }

    /// The lesson of a room in all its states, for hosts; `None` when no lesson is going on.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`].
    pub(crate) async fn report(&self, room: &RoomRecord) -> Result<Option<LessonReport>, ApiError> {
        let Some(lesson) = self.shared.running(room.id) else {
            return Ok(None);
        };
        let (answer, answered) = oneshot::channel();
        if lesson
            .commands
            .send(LessonCommand::Report { answer })
            .await
            .is_err()
        {
            return Ok(None);
        }
        let Ok(mut report) = answered.await else {
            return Ok(None);
        };
        let media = self.shared.sfu.room_report(report.lesson);
        match tokio::time::timeout(MEDIA_WITHIN, media).await {
            Ok(Ok(media)) => report.add_media(media),
            _ => tracing::debug!(lesson.id = %report.lesson, "no report of the media"),
        }
        Ok(Some(report))
    }

    /// What everyone may know of a room.
    pub(crate) fn summary(&self, room: &RoomRecord) -> RoomSummary {
        let lesson = self
            .shared
            .running(room.id)
            .filter(|lesson| lesson.gauge.is_open());
        RoomSummary {
            number: room.number.clone(),
            title: room.title.clone(),
            kind: room.kind,
            capacity: room.capacity,
            participants: lesson.as_ref().map_or(0, |lesson| lesson.gauge.participants()),
            open: lesson.is_some(),
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
                });
            }
        }
        Err(ApiError::new(
            ErrorCode::Unavailable,
            "the lesson cannot be opened now; try again",
        ))
    }

    /// Whether an address may make one more room.
    pub(crate) fn may_create(&self, address: IpAddr) -> bool {
        let may = self.shared.creations.is_left(address);
        self.shared.creations.spend(address);
        may
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

    /// The room of a number as typed.
    async fn find(&self, number: &str, address: IpAddr) -> Result<RoomRecord, ApiError> {
        let number: RoomNumber = number.parse().map_err(|error: seodang_model::NameError| {
            ApiError::new(ErrorCode::BadNumber, error.to_string())
        })?;
        if !self.shared.guesses.is_left(address) {
            return Err(guessing());
        }
        let room = self
            .shared
            .store
            .room_by_number(&number)
            .await
            .map_err(|error| unavailable(&error))?;
        room.ok_or_else(|| {
            self.shared.guesses.spend(address);
            ApiError::new(ErrorCode::UnknownRoom, "no room has this number")
        })
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
