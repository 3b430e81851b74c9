//! What waits to be sent on one socket, and how the socket ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seodang_model::protocol::{ClosingReason, ServerMessage};
use tokio::sync::{mpsc, watch};

use crate::chat::History;

/// Messages that may wait on one socket: several joins of a full class at once. When full, the socket is closed
/// with `too_slow`, and its participant may resume.
const MOST_MESSAGES: usize = 1_024;
/// Bytes that may wait on one socket; same policy.
const MOST_BYTES: usize = 256 * 1024;

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `closing` with the reason, then its close code.
    Closing {
        /// Why.
        reason: ClosingReason,
        /// When it makes sense to come back.
        retry_after_ms: Option<u64>,
    },
    /// The participant left: 1000.
    Goodbye,
    /// A message above the limit: 1009.
    TooLarge,
    /// Nobody joined in time: 1008.
    Idle,
    /// The other end is gone: nothing to say and nobody to say it to.
    Gone,
}

/// One thing to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message, as JSON.
    Text(Arc<str>),
    /// The chat's history, read while it is sent.
    History(History),
}

/// The socket does not read fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the socket does not read fast enough")]
pub(crate) struct TooSlow;

/// The filling end of one socket's queue. Never waits. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    items: mpsc::Sender<Outgoing>,
    queued_bytes: Arc<AtomicUsize>,
    ending: Arc<watch::Sender<Option<Ending>>>,
}

/// The emptying end.
#[derive(Debug)]
pub(crate) struct Queue {
    /// In the order of sending.
    pub(super) items: mpsc::Receiver<Outgoing>,
    /// Set once, when the socket shall end.
    pub(super) ending: watch::Receiver<Option<Ending>>,
    queued_bytes: Arc<AtomicUsize>,
}

/// Both ends.
pub(crate) fn channel() -> (Outbox, Queue) {
    let (items, receiver) = mpsc::channel(MOST_MESSAGES);
    let (ending, end) = watch::channel(None);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let outbox = Outbox {
        items,
        queued_bytes: queued_bytes.clone(),
        ending: Arc::new(ending),
    };
    (
        outbox,
        Queue {
            items: receiver,
            ending: end,
            queued_bytes,
        },
    )
}

/// A message as it is sent.
pub(crate) fn to_json(message: &ServerMessage) -> Arc<str> {
    serde_json::to_string(message)
        .expect("messages are plain structs with text keys")
        .into()
}

impl Outbox {
    /// Queues a message.
    ///
    /// # Errors
    /// When too much waits already; nothing was queued, and the caller ends the socket.
    pub(crate) fn try_send(&self, text: Arc<str>) -> Result<(), TooSlow> {
        let bytes = text.len();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MOST_BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(TooSlow);
        }
        self.items.try_send(Outgoing::Text(text)).or_else(unless_closed)
    }

    /// Queues the chat's history at this place among the messages.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub(crate) fn try_send_history(&self, history: History) -> Result<(), TooSlow> {
        self.items
            .try_send(Outgoing::History(history))
            .or_else(unless_closed)
    }

    /// Ends the socket. The first reason counts.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(ending);
            }
            first
        });
    }

    /// Ends the socket, telling why and when to come back.
    pub(crate) fn close(&self, reason: ClosingReason) {
        let retry_after_ms = match reason {
            // A class must not come back in one instant.
            ClosingReason::ServerRestart => Some(rand::random_range(1_000..3_000)),
            ClosingReason::TooSlow => Some(1_000),
            _ => None,
        };
        self.end(Ending::Closing {
            reason,
            retry_after_ms,
        });
    }
}

impl Queue {
    /// Waits until the socket shall end; says how.
    pub(super) async fn ended(ending: &mut watch::Receiver<Option<Ending>>) -> Ending {
        ending
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|ending| *ending)
            .unwrap_or(Ending::Gone)
    }

    /// The next message, as its receiver would read it; `None` when the socket ends.
    #[cfg(test)]
    pub(crate) async fn next(&mut self) -> Option<ServerMessage> {
        let mut ending = self.ending.clone();
        loop {
            let item = tokio::select! {
                biased;
                item = self.items.recv() => item?,
                _ = Self::ended(&mut ending) => return None,
            };
            if let Outgoing::Text(text) = item {
                self.sent(text.len());
                return serde_json::from_str(&text).ok();
            }
        }
    }

    /// `bytes` of text left the queue.
    pub(super) fn sent(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A writer that is gone has ended already; only a full queue is slow.
fn unless_closed(error: mpsc::error::TrySendError<Outgoing>) -> Result<(), TooSlow> {
    match error {
        mpsc::error::TrySendError::Full(_) => Err(TooSlow),
        mpsc::error::TrySendError::Closed(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_stays_slow_is_found_out_by_bytes_and_by_messages() {
        let (outbox, _queue) = channel();
        let text: Arc<str> = "x".repeat(MOST_BYTES / 4).into();
        assert_eq!(
            (0..10).filter(|_| outbox.try_send(text.clone()).is_ok()).count(),
            4
        );
        let (outbox, _queue) = channel();
        let text: Arc<str> = "x".into();
        assert_eq!(
            (0..2_000)
                .filter(|_| outbox.try_send(text.clone()).is_ok())
                .count(),
            MOST_MESSAGES
        );
    }

    #[test]
    fn what_was_sent_makes_room() {
        let (outbox, queue) = channel();
        let text: Arc<str> = "x".repeat(MOST_BYTES).into();
        outbox.try_send(text.clone()).expect("room");
        assert_eq!(outbox.try_send(text.clone()), Err(TooSlow));
        queue.sent(text.len());
        assert_eq!(outbox.try_send(text), Ok(()));
    }

    #[test]
    fn the_first_reason_to_end_counts() {
        let (outbox, queue) = channel();
        outbox.close(ClosingReason::Replaced);
        outbox.end(Ending::Gone);
        let expected = Ending::Closing {
            reason: ClosingReason::Replaced,
            retry_after_ms: None,
        };
        assert_eq!(*queue.ending.borrow(), Some(expected));
    }
}
