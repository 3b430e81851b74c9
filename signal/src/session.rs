//! One WebSocket: reads messages, checks their order and rate, hands them to the lesson, and ends as it must.
//!
//! The socket may die without its seat: the lesson keeps that for the grace time.

pub(crate) mod outbox;
pub(crate) mod places;
pub(crate) mod rate;
mod writer;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use seodang_model::protocol::{
    ClientMessage, ClosingReason, ErrorCode, ErrorInfo, JoinRoom, MOST_MESSAGE_BYTES, ParseMessageError,
    ServerMessage, VERSION,
};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};
use warp::ws::WebSocket;

use crate::auth::Credentials;
use crate::error::ApiError;
use crate::hub::{Hub, Joined};
use crate::lesson::SocketId;
use outbox::{Ending, Outbox};
use places::Place;
pub use places::PlaceLimits;
use rate::TokenBucket;

/// What is read of a message before it is given up. More than is allowed: a message that is read to its end and
/// refused leaves the peer able to read why, one that is cut off resets the connection.
pub(crate) const MOST_READ_BYTES: usize = 4 * MOST_MESSAGE_BYTES;
/// Wrong or superfluous messages after which a socket is closed.
const MOST_STRIKES: u32 = 20;
/// Messages a second, and at once.
const MESSAGES: (f64, f64) = (50.0, 100.0);
/// Lines of chat a second, and at once.
const CHAT_LINES: (f64, f64) = (5.0, 10.0);
/// Offers a second, and at once.
const OFFERS: (f64, f64) = (2.0, 2.0);
/// How long the writer may take to finish once the reader has.
const WRITER_WITHIN: Duration = Duration::from_secs(2);
/// How long the peer may take to answer our close frame.
const LINGER: Duration = Duration::from_secs(1);

/// Time limits of a socket.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Pause between two WebSocket pings.
    pub ping_every: Duration,
    /// Silence after which a socket is dead.
    pub silence: Duration,
    /// From the upgrade until somebody has joined a room.
    pub join_within: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            join_within: Duration::from_secs(20),
        }
    }
}

/// A socket that was just opened.
#[derive(Debug)]
pub(crate) struct Session {
    hub: Hub,
    socket: SocketId,
    credentials: Credentials,
    address: IpAddr,
    place: Place,
    outbox: Outbox,
    step: Step,
    opened_at: Instant,
    messages: TokenBucket,
    chat_lines: TokenBucket,
    offers: TokenBucket,
    /// Whether the sender of too much chat was told so, and has not been quiet since.
    told_of_chat: bool,
    strikes: u32,
}

/// How far a socket has come.
#[derive(Debug)]
enum Step {
    Opened,
    Welcomed,
    Joined(Joined),
}

/// Runs a socket until it has ended.
pub(crate) async fn run(
    socket: WebSocket,
    hub: Hub,
    credentials: Credentials,
    address: IpAddr,
    place: Place,
) {
    let (sink, mut stream) = socket.split();
    let (outbox, queue) = outbox::channel();
    let now = std::time::Instant::now();
    let limits = hub.session_limits();
    let writer = writer::run(sink, queue, hub.store().clone(), limits.ping_every);
    let mut session = Session {
        socket: hub.next_socket(),
        hub,
        credentials,
        address,
        place,
        outbox,
        step: Step::Opened,
        opened_at: Instant::now(),
        messages: TokenBucket::new(MESSAGES.0, MESSAGES.1, now),
        chat_lines: TokenBucket::new(CHAT_LINES.0, CHAT_LINES.1, now),
        offers: TokenBucket::new(OFFERS.0, OFFERS.1, now),
        told_of_chat: false,
        strikes: 0,
    };
    {
        let mut writer = std::pin::pin!(writer);
        tokio::select! {
            ending = session.read(&mut stream, limits) => {
                session.outbox.end(ending);
                let _ = timeout(WRITER_WITHIN, &mut writer).await;
            }
            () = &mut writer => {}
        }
    }
    if let Step::Joined(joined) = &session.step {
        joined.disconnected(session.socket).await;
    }
    drop(session);
    // Closing at once could reset the connection before the peer has read the close frame.
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = stream.next().await {} }).await;
}

impl Session {
    /// Reads until the socket shall end; says how.
    async fn read(&mut self, stream: &mut SplitStream<WebSocket>, limits: SessionLimits) -> Ending {
        let stopping = self.hub.stopping();
        let mut stopping = std::pin::pin!(stopping);
        loop {
            let by = match self.step {
                Step::Joined(_) => Instant::now() + limits.silence,
                Step::Opened | Step::Welcomed => self.opened_at + limits.join_within,
            };
            let message = tokio::select! {
                message = timeout_at(by, stream.next()) => message,
                () = &mut stopping => {
                    self.outbox.close(ClosingReason::ServerRestart);
                    // The writer says goodbye and ends the socket.
                    return std::future::pending().await;
                }
            };
            let message = match message {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) if is_too_large(&error) => return Ending::TooLarge,
                Ok(Some(Err(_)) | None) => return Ending::Gone,
                Err(_) if matches!(self.step, Step::Joined(_)) => return Ending::Gone,
                Err(_) => return Ending::Idle,
            };
            if message.is_close() {
                return Ending::Gone;
            }
            if message.is_ping() || message.is_pong() {
                continue;
            }
            if message.as_bytes().len() > MOST_MESSAGE_BYTES {
                return Ending::TooLarge;
            }
            if let ControlFlow::Break(ending) = self.handle(message.to_str()).await {
                return ending;
            }
        }
    }

    /// Takes one message; `Err` is a binary one.
    async fn handle(&mut self, text: Result<&str, ()>) -> ControlFlow<Ending> {
        if !self.messages.try_take(std::time::Instant::now()) {
            let error = ApiError::new(ErrorCode::SlowDown, "too many messages; this one was dropped");
            return self.strike(error, None);
        }
        let message = match text {
            Err(()) => Err(ParseMessageError::Malformed("messages are text".to_owned())),
            Ok(text) => ClientMessage::parse(text),
        };
        match message {
            Ok(message) => self.handle_message(message).await,
            Err(ParseMessageError::UnknownType(kind)) => {
                let error = ApiError::new(ErrorCode::UnknownType, "this type of message is not known here");
                // What was sent is repeated only where it is a plain word.
                let kind = (kind.len() <= 32
                    && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
                .then_some(kind);
                self.strike(error, kind)
            }
            Err(error @ ParseMessageError::Malformed(_)) => {
                self.strike(ApiError::new(ErrorCode::BadMessage, error.to_string()), None)
            }
        }
    }

    async fn handle_message(&mut self, message: ClientMessage) -> ControlFlow<Ending> {
        let kind = message.type_name();
        let wrong = |text: &str| ApiError::new(ErrorCode::BadState, text);
        match (&self.step, message) {
            (_, ClientMessage::Ping) => self.send(&ServerMessage::Pong),
            (Step::Opened, ClientMessage::Hello { version }) => {
                if version != VERSION {
                    let error = ApiError::new(ErrorCode::UnsupportedVersion, "version 1 is spoken here");
                    return self.strike(error, Some(kind.to_owned()));
                }
                self.step = Step::Welcomed;
                self.send(&ServerMessage::Welcome {
                    version: VERSION,
                    server_time: OffsetDateTime::now_utc(),
                    silence_ms: u64::try_from(self.hub.session_limits().silence.as_millis())
                        .unwrap_or(u64::MAX),
                })
            }
            (Step::Welcomed, ClientMessage::JoinRoom(join)) => self.join(join).await,
            (Step::Joined(_), ClientMessage::Hello { .. } | ClientMessage::JoinRoom(_))
            | (Step::Welcomed, ClientMessage::Hello { .. }) => {
                self.strike(wrong("this was said before"), Some(kind.to_owned()))
            }
            (Step::Opened, _) => self.strike(wrong("hello comes first"), Some(kind.to_owned())),
            (Step::Welcomed, _) => self.strike(wrong("join_room comes first"), Some(kind.to_owned())),
            (Step::Joined(_), message) => self.pass_on(message).await,
        }
    }

    async fn join(&mut self, join: JoinRoom) -> ControlFlow<Ending> {
        let joined = self
            .hub
            .join(
                join,
                &self.credentials,
                self.address,
                self.socket,
                self.outbox.clone(),
            )
            .await;
        match joined {
            Ok(joined) => {
                self.place.joined();
                self.step = Step::Joined(joined);
                ControlFlow::Continue(())
            }
            Err(error) => self.strike(error, Some("join_room".to_owned())),
        }
    }

    /// Hands a message to the lesson, unless it is one too many.
    async fn pass_on(&mut self, message: ClientMessage) -> ControlFlow<Ending> {
        let now = std::time::Instant::now();
        match &message {
            ClientMessage::Chat { nonce, .. } => {
                if !self.chat_lines.try_take(now) {
                    if std::mem::replace(&mut self.told_of_chat, true) {
                        return ControlFlow::Continue(());
                    }
                    let error = ErrorInfo {
                        code: ErrorCode::SlowDown,
                        message: "too many lines; those above five a second are dropped".to_owned(),
                        reply_to: Some("chat".to_owned()),
                        nonce: (nonce.len() <= 64).then(|| nonce.clone()),
                    };
                    return self.send(&ServerMessage::Error(error));
                }
                self.told_of_chat = false;
            }
            ClientMessage::Offer(_) if !self.offers.try_take(now) => {
                let error = ApiError::new(ErrorCode::SlowDown, "two offers a second are enough");
                return self.strike(error, Some("offer".to_owned()));
            }
            _ => {}
        }
        let Step::Joined(joined) = &self.step else {
            return ControlFlow::Continue(());
        };
        if joined.message(self.socket, message).await.is_err() {
            // The lesson is over; it has told this socket why.
            return ControlFlow::Break(Ending::Closing {
                reason: ClosingReason::LessonEnded,
                retry_after_ms: None,
            });
        }
        ControlFlow::Continue(())
    }

    /// Answers a message that has no effect, and ends a socket that sends nothing else.
    fn strike(&mut self, error: ApiError, reply_to: Option<String>) -> ControlFlow<Ending> {
        self.strikes += 1;
        let error = ErrorInfo {
            code: error.code,
            message: error.message,
            reply_to,
            nonce: None,
        };
        self.send(&ServerMessage::Error(error))?;
        if self.strikes >= MOST_STRIKES {
            return ControlFlow::Break(Ending::Closing {
                reason: ClosingReason::Misbehaved,
                retry_after_ms: None,
            });
        }
        ControlFlow::Continue(())
    }

    fn send(&self, message: &ServerMessage) -> ControlFlow<Ending> {
        match self.outbox.try_send(outbox::to_json(message)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                self.outbox.close(ClosingReason::TooSlow);
                ControlFlow::Break(Ending::Gone)
            }
        }
    }
}

/// Whether reading failed because the message is above [`MOST_READ_BYTES`].
fn is_too_large(error: &warp::Error) -> bool {
    use tokio_tungstenite::tungstenite::Error;
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<Error>())
        .is_some_and(|error| matches!(error, Error::Capacity(_)))
}
