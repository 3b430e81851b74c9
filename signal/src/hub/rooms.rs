//! Rooms apart from what happens in them: make, list, look up, close, look into.

use std::net::IpAddr;

use seodang_model::protocol::{ErrorCode, RoomSummary};
use seodang_model::{NameError, RoomId, RoomKind, RoomNumber, RoomTitle, Token};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::lesson_task::LessonCommand;
use super::report::LessonReport;
use super::{Hub, MEDIA_WITHIN, guessing, unavailable};
use crate::auth::Credentials;
use crate::error::ApiError;
use crate::store::{RoomRecord, StoreError};

/// Rooms that the list shows at most.
const MOST_LISTED: u32 = 200;
/// How often a chosen-at-random number may be taken already.
const NUMBER_TRIES: u32 = 8;

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

impl Hub {
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
        let room = self
            .shared
            .store
            .room_by_number(number)
            .await
            .map_err(|error| unavailable(&error))?;
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

    /// Whether an address may make one more room.
    pub(crate) fn may_create(&self, address: IpAddr) -> bool {
        let may = self.shared.creations.is_left(address);
        self.shared.creations.spend(address);
        may
    }

    /// The room of a number as typed.
    pub(super) async fn find(&self, number: &str, address: IpAddr) -> Result<RoomRecord, ApiError> {
        let number: RoomNumber = number
            .parse()
            .map_err(|error: NameError| ApiError::new(ErrorCode::BadNumber, error.to_string()))?;
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
