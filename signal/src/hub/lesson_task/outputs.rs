//! Carries out what the lesson decided.

use std::collections::VecDeque;
use std::time::Instant;

use seodang_model::protocol::{ClosingReason, ErrorCode, ErrorInfo, ServerMessage};
use seodang_sfu::{Join, OfferError, SfuError};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{Answered, LessonTask};
use crate::hub::MEDIA_WITHIN;
use crate::lesson::{MediaCommand, Output, SocketId};
use crate::session::outbox::to_json;
use crate::store::LessonEnd;

impl LessonTask {
    pub(super) async fn handle_answered(&mut self, answered: Answered) {
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
                    OfferError::Bad { .. } | OfferError::Gone => ErrorCode::BadOffer,
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
    pub(super) async fn carry_out(&mut self, outputs: Vec<Output>) {
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
                Output::RenewRelays { participant, socket } => {
                    let ice_servers = self.ice_servers(participant);
                    todo.extend(self.send(&[socket], &ServerMessage::IceServers { ice_servers }));
                }
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
}
