//! One participant's connection: credentials, address, keys and states.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seodang_model::LessonId;

use crate::net::Lane;
use crate::transport::dtls::{Dtls, Fingerprint, Identity};
use crate::transport::ice::Credentials;
use crate::transport::srtp::{Opener, Sealer};

/// Silence of the other end after which its connection is lost (RFC 7675 lets consent expire after 30 s; a class
/// notices an empty tile sooner).
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// An offer whose browser never shows up is forgotten after this.
const FIRST_CHECK: Duration = Duration::from_secs(30);

/// Addresses of one connection: the interfaces of a laptop, and some that changed on the way.
const MOST_ADDRESSES: usize = 8;

/// A connection from its offer to its end.
pub(super) struct Connection {
    pub(super) lesson: LessonId,
    pub(super) credentials: Credentials,
    pub(super) remote_ufrag: String,
    pub(super) dtls: Dtls,
    pub(super) sealer: Option<Sealer>,
    pub(super) opener: Option<Opener>,
    /// Where packets go: the first address that an authentic check came from, later the nominated one.
    pub(super) address: Option<SocketAddr>,
    /// Every address that an authentic check came from, the oldest first: a browser with several interfaces checks from
    /// all of them, and may send from another one than it nominated last.
    pub(super) addresses: Vec<SocketAddr>,
    /// Where packets to it wait until they are sent.
    pub(super) lane: Lane,
    pub(super) heard: Instant,
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
            addresses: Vec::new(),
            lane: Lane::default(),
            heard: now,
        }
    }

    /// Takes an address that an authentic check came from; the result is one that is forgotten for it.
    pub(super) fn learn(&mut self, from: SocketAddr, nominated: bool) -> Option<SocketAddr> {
        if nominated || self.address.is_none() {
            self.address = Some(from);
        }
        if self.addresses.contains(&from) {
            return None;
        }
        let forgotten = (self.addresses.len() >= MOST_ADDRESSES)
            .then(|| {
                self.addresses
                    .iter()
                    .position(|known| Some(*known) != self.address)
            })
            .flatten()
            .map(|oldest| self.addresses.remove(oldest));
        self.addresses.push(from);
        forgotten
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_follow_the_nomination_and_few_addresses_are_kept() {
        let provider = rtc_crypto::default_provider().expect("ring is compiled in");
        let identity = Arc::new(Identity::generate(&provider).expect("made"));
        let lesson = LessonId::from_bits(1);
        let mut connection = Connection::new(Instant::now(), lesson, identity, [0; 32], "them".to_owned());
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        assert_eq!(
            (connection.learn(at(1), false), connection.address),
            (None, Some(at(1)))
        );
        assert_eq!(
            (connection.learn(at(2), false), connection.address),
            (None, Some(at(1)))
        );
        assert_eq!(
            (connection.learn(at(2), true), connection.address),
            (None, Some(at(2)))
        );
        for port in 3..=8 {
            assert_eq!(connection.learn(at(port), false), None);
        }
        assert_eq!(connection.learn(at(9), false), Some(at(1)));
        assert_eq!(
            connection.learn(at(10), false),
            Some(at(3)),
            "the one in use stays"
        );
        assert_eq!(connection.addresses.len(), MOST_ADDRESSES);
    }
}
