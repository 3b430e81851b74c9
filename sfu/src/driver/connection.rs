//! One participant's connection: credentials, address, keys and states.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seodang_model::LessonId;

use crate::net::Lane;
use crate::transport::dtls::{Dtls, Identity};
use crate::transport::ice::Agreed;
use crate::transport::sdp::{ReadOffer, SlotSsrcs};
use crate::transport::srtp::{Opener, Sealer};

/// Silence of the other end after which its connection is lost: sooner than consent expires, because a class notices
/// an empty tile.
const SILENCE: Duration = Duration::from_secs(15);
/// Nothing may be sent for longer to somebody who does not prove to want it (RFC 7675 section 5.1); time enough to
/// restart ICE.
const CONSENT: Duration = Duration::from_secs(30);
/// An offer whose browser never shows up, or agrees on no keys, is forgotten after this.
const FIRST_KEYS: Duration = Duration::from_secs(30);

/// Addresses of one connection. A browser checks from each of its interfaces (four with a VPN and containers) to each
/// address of ours of the family (two, or more), by UDP and by TCP, and a translator on the way may give each of these pairs
/// a port of its own: sixteen. As many again while ICE restarts.
const MOST_ADDRESSES: usize = 32;

/// A connection from its offer to its end.
pub(super) struct Connection {
    pub(super) lesson: LessonId,
    /// As it was first offered.
    pub(super) offer: Box<ReadOffer>,
    /// Of each slot, by its place in the offer.
    pub(super) slot_ssrcs: Vec<SlotSsrcs>,
    pub(super) answers: u32,
    pub(super) ice: Agreed,
    pub(super) dtls: Dtls,
    pub(super) sealer: Option<Sealer>,
    pub(super) opener: Option<Opener>,
    /// Where packets go: the first address that an authentic check came from, later the nominated one.
    pub(super) address: Option<SocketAddr>,
    /// Every address that an authentic check came from, the one that was silent longest first: a browser with several
    /// interfaces checks from all of them, and may send from another one than it nominated last. From where it sends it
    /// goes on checking (RFC 7675 section 5.1).
    pub(super) addresses: Vec<SocketAddr>,
    /// Where packets to it wait until they are sent.
    pub(super) lane: Lane,
    /// When the other end last proved to be there.
    pub(super) heard: Instant,
    made: Instant,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        lesson: LessonId,
        identity: Arc<Identity>,
        offer: Box<ReadOffer>,
        slot_ssrcs: Vec<SlotSsrcs>,
    ) -> Self {
        Self {
            lesson,
            ice: Agreed::new(offer.ufrag.clone()),
            dtls: Dtls::new(identity, offer.fingerprint),
            offer,
            slot_ssrcs,
            answers: 0,
            sealer: None,
            opener: None,
            address: None,
            addresses: Vec::new(),
            lane: Lane::default(),
            heard: now,
            made: now,
        }
    }

    /// Takes an address that an authentic check came from; the result is one that is forgotten for it.
    pub(super) fn learn(&mut self, from: SocketAddr, nominated: bool) -> Option<SocketAddr> {
        if nominated || self.address.is_none() {
            self.address = Some(from);
        }
        if let Some(place) = self.addresses.iter().position(|known| *known == from) {
            self.addresses[place..].rotate_left(1);
            return None;
        }
        let forgotten = (self.addresses.len() >= MOST_ADDRESSES)
            .then(|| {
                let mut known = self.addresses.iter();
                known.position(|known| Some(*known) != self.address)
            })
            .flatten()
            .map(|place| self.addresses.remove(place));
        self.addresses.push(from);
        forgotten
    }

    /// When the other end counts as gone.
    pub(super) fn lost_at(&self) -> Instant {
        if self.address.is_none() {
            self.made + FIRST_KEYS
        } else if self.opener.is_none() {
            (self.made + FIRST_KEYS).min(self.heard + SILENCE)
        } else if self.ice.is_restarting() {
            self.heard + CONSENT
        } else {
            self.heard + SILENCE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::srtp::{MasterKey, Profile};

    #[test]
    fn packets_follow_the_nomination_and_few_addresses_are_kept() {
        let mut connection = connection(Instant::now());
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
        for port in 3..=32 {
            assert_eq!(connection.learn(at(port), false), None);
        }
        assert_eq!(connection.learn(at(33), false), Some(at(1)));
        assert_eq!(
            connection.learn(at(34), false),
            Some(at(3)),
            "the one in use stays"
        );
        assert_eq!(connection.addresses.len(), MOST_ADDRESSES);
    }

    #[test]
    fn the_address_that_was_silent_longest_is_forgotten_first() {
        let mut connection = connection(Instant::now());
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        connection.learn(at(100), true);
        for port in 1..=31 {
            connection.learn(at(port), false);
        }
        for port in [1, 2, 4] {
            assert_eq!(connection.learn(at(port), false), None, "it checks again");
        }
        let forgotten: Vec<_> = (40..44).map(|port| connection.learn(at(port), false)).collect();
        assert_eq!(forgotten, [3, 5, 6, 7].map(|port| Some(at(port))));
        assert!(
            [1, 2, 4, 100]
                .iter()
                .all(|port| connection.addresses.contains(&at(*port)))
        );
    }

    #[test]
    fn who_never_comes_or_agrees_on_no_keys_is_forgotten_after_thirty_seconds() {
        let start = Instant::now();
        let mut connection = connection(start);
        let second = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(connection.lost_at(), second(30));
        connection.learn(SocketAddr::from(([192, 0, 2, 1], 1)), true);
        connection.heard = second(5);
        assert_eq!(connection.lost_at(), second(20));
        connection.heard = second(29);
        assert_eq!(
            connection.lost_at(),
            second(30),
            "checks alone keep nothing alive"
        );
    }

    #[test]
    fn silence_ends_a_connection_and_a_restart_lasts_no_longer_than_consent() {
        let start = Instant::now();
        let mut connection = connection(start);
        let second = |seconds| start + Duration::from_secs(seconds);
        connection.learn(SocketAddr::from(([192, 0, 2, 1], 1)), true);
        connection.opener = opener();
        connection.heard = second(100);
        assert_eq!(connection.lost_at(), second(115));
        for ufrag in ["two", "three", "four"] {
            connection.ice.offered(ufrag);
            assert_eq!(connection.lost_at(), second(130), "however often it is restarted");
        }
        let ufrag = connection.ice.newest().local.ufrag.clone();
        connection.ice.nominated(&ufrag);
        assert_eq!(connection.lost_at(), second(115));
    }

    fn connection(now: Instant) -> Connection {
        let provider = rtc_crypto::default_provider().expect("ring is compiled in");
        let identity = Arc::new(Identity::generate(&provider).expect("made"));
        let offer = ReadOffer {
            connection: 1,
            restart: false,
            ufrag: "them".to_owned(),
            fingerprint: [0; 32],
            lines: Vec::new(),
            slots: 0,
        };
        Connection::new(now, LessonId::from_bits(1), identity, Box::new(offer), Vec::new())
    }

    fn opener() -> Option<Opener> {
        let provider = rtc_crypto::default_provider().expect("ring is compiled in");
        let key = MasterKey {
            key: [1; 16],
            salt: vec![2; 12],
        };
        Opener::new(Profile::Gcm, &key, provider.crypto())
    }
}
