//! Commits a seat, fresh or again, and leads its holder in.

use std::time::Instant;

use seodang_model::protocol::{ClosingReason, ErrorCode, IceServer};
use seodang_model::{ParticipantId, PersonId, Rights, Role, Token};
use time::OffsetDateTime;

use super::{JoinRequest, LessonTask};
use crate::chat::{History, Scope};
use crate::error::ApiError;
use crate::hub::unavailable;
use crate::lesson::Joining;
use crate::store::{NewSeat, SeatRecord};

impl LessonTask {
    /// Commits a seat and leads its holder in.
    pub(super) async fn join(&mut self, request: JoinRequest) -> Result<ParticipantId, ApiError> {
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
        let ice_servers = self.ice_servers(new.seat.participant);
        Ok(Joining {
            record: new.seat,
            socket: request.socket,
            resume,
            person: key,
            resumed: false,
            ice_servers,
        })
    }

    /// With a credential of its own, good from here on.
    pub(super) fn ice_servers(&self, participant: ParticipantId) -> Vec<IceServer> {
        let turn = self.shared.config.turn.iter();
        turn.map(|turn| turn.ice_server(OffsetDateTime::now_utc(), participant))
            .collect()
    }

    /// The seat again: same id, same name; the answers are those given with this join.
    async fn retake_seat(&mut self, mut seat: SeatRecord, request: JoinRequest) -> Result<Joining, ApiError> {
        let kind = self.lesson.room().kind;
        if request.is_host && seat.role == Role::Student {
            seat.role = Role::Host;
            seat.rights = Rights::on_joining(kind, seat.role);
        }
        let (participant, before, wish) = (seat.participant, seat.consents, request.consents);
        if before != wish || self.unstored.contains_key(&participant) {
            if let Err(error) = self.store_answer(participant, seat.person, wish).await {
                self.take_back(participant, seat.person, before, wish).await;
                return Err(unavailable(&error));
            }
            seat.consents = wish;
        }
        let person = self
            .shared
            .store
            .retake_seat(&seat, request.person.as_ref())
            .await
            .map_err(|error| unavailable(&error))?;
        seat.left = false;
        let resume = request.resume.unwrap_or_else(Token::random);
        let ice_servers = self.ice_servers(seat.participant);
        Ok(Joining {
            record: seat,
            socket: request.socket,
            resume,
            person,
            resumed: true,
            ice_servers,
        })
    }
}
