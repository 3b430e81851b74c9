//! What participants say: commits what has to be, then asks the lesson.

use std::time::Instant;

use seodang_model::ParticipantId;
use seodang_model::protocol::{ChatLine, ClientMessage, ErrorCode, ErrorInfo, ServerMessage};
use time::OffsetDateTime;

use super::LessonTask;
use crate::chat;
use crate::lesson::{Output, Refusal, SocketId};
use crate::session::outbox::Ending;
use crate::store::StoreError;

impl LessonTask {
    pub(super) async fn handle_message(
        &mut self,
        participant: ParticipantId,
        socket: SocketId,
        message: ClientMessage,
    ) {
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
}

/// The database did not answer, in a message's words.
pub(super) fn refused(error: &StoreError) -> Refusal {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the database did not answer"
    );
    (
        ErrorCode::Unavailable,
        "the database does not answer now; try again",
    )
}
