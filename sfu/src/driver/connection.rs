//! One participant's connection: credentials, address, keys and states.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seodang_model::LessonId;
use seodang_model::protocol::{IceState, MediaState};

use crate::transport::dtls::{Dtls, Fingerprint, Identity};
use crate::transport::ice::Credentials;
use crate::transport::srtp::{Opener, Sealer};

/// Silence of the other end after which its connection is lost (RFC 7675 lets consent expire after 30 s; a class
/// notices an empty tile sooner).
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// An offer whose browser never shows up is forgotten after this.
const FIRST_CHECK: Duration = Duration::from_secs(30);

/// A connection from its offer to its end.
pub(super) struct Connection {
    pub(super) lesson: LessonId,
    pub(super) credentials: Credentials,
    pub(super) remote_ufrag: String,
    pub(super) dtls: Dtls,
    pub(super) sealer: Option<Sealer>,
    pub(super) opener: Option<Opener>,
    /// Where packets go; learned only from an authentic check.
    pub(super) address: Option<SocketAddr>,
    pub(super) heard: Instant,
    pub(super) ice: IceState,
    pub(super) media: MediaState,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        lesson: LessonId,
        identity: Arc<Identity>,
        fingerprint: Fingerprint,
        remote_ufrag: String,
    ) -> Self {
        Self {
            lesson,
            credentials: Credentials::random(),
            remote_ufrag,
            dtls: Dtls::new(identity, fingerprint),
            sealer: None,
            opener: None,
            address: None,
            heard: now,
            ice: IceState::New,
            media: MediaState::New,
        }
    }

    /// When the other end counts as gone.
    pub(super) fn lost_at(&self) -> Instant {
        self.heard
            + if self.address.is_some() {
                SILENCE
            } else {
                FIRST_CHECK
            }
    }
}
