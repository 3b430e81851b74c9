//! The writing half of a socket: messages, pings, and the last words.

use std::time::Duration;

use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use warp::ws::{Message, WebSocket};

use super::outbox::{Ending, Outgoing, Queue, to_json};
use crate::chat::{History, LINES_A_READ};
use crate::store::Store;
use seodang_model::protocol::{ClosingReason, ServerMessage};

/// How long one message may take to be taken by the system.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// How long last words may take.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// Close codes of RFC 6455 section 7.4.1.
const NORMAL: u16 = 1000;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;

/// The socket does not take what is written, or the database does not give the history.
struct Stuck;

/// Sends until the queue ends, the socket shall end, or it takes nothing any more.
pub(super) async fn run(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: Queue,
    store: Store,
    ping_every: Duration,
) {
    let mut ping = interval_at(Instant::now() + ping_every, ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = queue.ending.clone();
    loop {
        let outcome = tokio::select! {
            biased;
            ending = Queue::ended(&mut ending) => {
                let _ = timeout(LAST_WORDS_WITHIN, say_goodbye(&mut sink, &mut queue, ending)).await;
                return;
            }
            item = queue.items.recv() => match item {
                Some(Outgoing::Text(text)) => {
                    let outcome = write(&mut sink, Message::text(&*text)).await;
                    queue.sent(text.len());
                    outcome
                }
                Some(Outgoing::History(history)) => send_history(&mut sink, &store, history).await,
                None => return,
            },
            _ = ping.tick() => write(&mut sink, Message::ping(Vec::new())).await,
        };
        if outcome.is_err() {
            return;
        }
    }
}

async fn write(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), Stuck> {
    match timeout(WRITE_WITHIN, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Stuck),
    }
}

async fn send_history(
    sink: &mut SplitSink<WebSocket, Message>,
    store: &Store,
    mut history: History,
) -> Result<(), Stuck> {
    loop {
        let (scope, after, up_to) = history.wanted();
        let lines = store
            .chat_lines(scope, after, up_to, LINES_A_READ)
            .await
            .map_err(|error| {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the chat's history cannot be read"
                );
                Stuck
            })?;
        let (messages, complete) = history.handle_lines(lines, LINES_A_READ as usize);
        for message in &messages {
            write(sink, Message::text(&*to_json(message))).await?;
        }
        if complete {
            return Ok(());
        }
    }
}

/// Sends what is queued, unless the socket is too slow for it, then the reason and the close frame.
async fn say_goodbye(sink: &mut SplitSink<WebSocket, Message>, queue: &mut Queue, ending: Ending) {
    let slow = matches!(
        ending,
        Ending::Closing {
            reason: ClosingReason::TooSlow,
            ..
        } | Ending::Gone
    );
    while !slow && let Ok(item) = queue.items.try_recv() {
        if let Outgoing::Text(text) = item
            && sink.send(Message::text(&*text)).await.is_err()
        {
            return;
        }
    }
    let code = match ending {
        Ending::Gone => return,
        Ending::Goodbye => NORMAL,
        Ending::Idle => POLICY,
        Ending::TooLarge => TOO_BIG,
        Ending::Closing {
            reason,
            retry_after_ms,
        } => {
            let message = ServerMessage::Closing {
                reason,
                retry_after_ms,
            };
            if sink.send(Message::text(&*to_json(&message))).await.is_err() {
                return;
            }
            reason.close_code()
        }
    };
    let _ = sink.send(Message::close_with(code, "")).await;
}
