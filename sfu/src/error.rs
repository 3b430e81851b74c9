//! What can go wrong at the SFU's seam.

use std::io;

use seodang_model::ParticipantId;

/// The SFU cannot start, or a command cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SfuError {
    /// The port of a worker cannot be opened for UDP. Where it cannot be opened for TCP, media over TCP is off.
    #[error("udp port {port} cannot be opened")]
    Bind {
        /// The port.
        port: u16,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// No address can be offered to browsers.
    #[error("no network address to offer")]
    NoCandidate,
    /// A media thread cannot be started or set up.
    #[error("media thread")]
    Thread(#[source] io::Error),
    /// The certificate for DTLS cannot be made.
    #[error("dtls certificate: {0}")]
    Certificate(String),
    /// The participant has not joined.
    #[error("participant {0} is not in a room")]
    UnknownParticipant(ParticipantId),
    /// The worker's command queue is full or the worker is gone.
    #[error("the media worker does not take commands")]
    Busy,
}

/// Why an offer is refused; the text names the line for people who write participants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The SDP holds an `m=application` line.
    #[error("m=application is not accepted")]
    Datachannel,
    /// The SDP or its description in the message is wrong.
    #[error("media line {line:?}: {reason}")]
    Bad {
        /// Index of the media line, from 0; `None` when it is about the whole.
        line: Option<usize>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An ICE restart of a connection that is gone.
    #[error("the connection is gone: make another one")]
    Gone,
    /// The participant has not joined.
    #[error("the participant is not in a room")]
    UnknownParticipant,
    /// The worker does not take commands.
    #[error("the media worker does not take commands")]
    Busy,
}
