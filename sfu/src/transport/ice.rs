//! ICE-lite (RFC 8445 section 2.5): the browser checks, we answer, and learn its address from what is authentic.

mod agreed;

use std::net::SocketAddr;

use rand::Rng as _;
use rtc_crypto::RTCCrypto;
use rtc_stun::attributes::{
    ATTR_ERROR_CODE, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter as _};
use rtc_stun::xoraddr::XorMappedAddress;

pub(crate) use agreed::{Agreed, Exchange};

/// User name fragment and password of one side (RFC 8445 section 5.3).
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Fresh ones: 96 and 192 random bits, in characters every browser takes.
    pub(crate) fn random() -> Self {
        Self {
            ufrag: random_text(16),
            password: random_text(32),
        }
    }
}

/// Why a datagram is no check of ours; each has its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StunError {
    /// Not a binding request that can be read.
    #[error("malformed")]
    Malformed,
    /// Another user name or password.
    #[error("not authentic")]
    NotAuthentic,
}

/// An authentic check.
#[derive(Debug)]
pub(crate) struct Check {
    /// What to send back to where it came from.
    pub(crate) answer: Vec<u8>,
    /// Whether the address may be used: not when the other end has taken the wrong role.
    pub(crate) usable: bool,
    /// Whether the other end nominates this address (RFC 8445 section 8.1.1).
    pub(crate) nominated: bool,
}

/// Our own fragment that a binding request names, without any proof: only good for finding whom to ask for one.
pub(crate) fn claimed_ufrag(datagram: &[u8]) -> Option<&str> {
    /// Longer than any pair of fragments we answer.
    const MOST_ATTRIBUTES: usize = 16;
    let mut rest = datagram.get(20..)?;
    for _ in 0..MOST_ATTRIBUTES {
        let (head, body) = rest.split_at_checked(4)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if kind == ATTR_USERNAME.0 {
            return std::str::from_utf8(body.get(..length)?).ok()?.split(':').next();
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Reads and answers a binding request that claims to be of this exchange.
///
/// # Errors
/// When it is malformed or not authentic; it is not answered then.
pub(crate) fn handle_request(
    datagram: &[u8],
    exchange: &Exchange,
    from: SocketAddr,
    crypto: &dyn RTCCrypto,
) -> Result<Check, StunError> {
    let mut request = Message::new();
    request
        .unmarshal_binary(datagram)
        .map_err(|_| StunError::Malformed)?;
    if request.typ != BINDING_REQUEST {
        return Err(StunError::Malformed);
    }
    // What stands behind MESSAGE-INTEGRITY is not covered by it (RFC 8489 section 14.5).
    let covered = request
        .attributes
        .0
        .iter()
        .position(|attribute| attribute.typ == ATTR_MESSAGE_INTEGRITY);
    let covered = &request.attributes.0[..covered.ok_or(StunError::NotAuthentic)?];
    let value = |kind| {
        covered
            .iter()
            .find(|attribute| attribute.typ == kind)
            .map(|attribute| attribute.value.as_slice())
    };
    let Exchange { local, remote_ufrag } = exchange;
    let expected = format!("{}:{remote_ufrag}", local.ufrag);
    if value(ATTR_USERNAME) != Some(expected.as_bytes()) {
        return Err(StunError::NotAuthentic);
    }
    let nominated = value(ATTR_USE_CANDIDATE).is_some();
    let conflict = value(ATTR_ICE_CONTROLLED).is_some();
    MessageIntegrity::check(&mut request, local.password.as_bytes(), crypto)
        .map_err(|_| StunError::NotAuthentic)?;

    let mut answer = Message::new();
    answer.transaction_id = request.transaction_id;
    answer.set_type(if conflict { BINDING_ERROR } else { BINDING_SUCCESS });
    answer.write_header();
    if conflict {
        // RFC 8445 section 7.3.1.1: a lite agent is always the controlled one.
        answer.add(ATTR_ERROR_CODE, b"\0\0\x04\x57Role Conflict");
    } else {
        XorMappedAddress {
            ip: from.ip(),
            port: from.port(),
        }
        .add_to(&mut answer)
        .map_err(|_| StunError::Malformed)?;
    }
    MessageIntegrity::new_short_term_integrity_with_provider(local.password.clone(), crypto)
        .add_to(&mut answer)
        .and_then(|()| FINGERPRINT.add_to(&mut answer))
        .map_err(|_| StunError::Malformed)?;
    Ok(Check {
        answer: answer.raw,
        usable: !conflict,
        nominated: nominated && !conflict,
    })
}

fn random_text(characters: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = rand::rng();
    (0..characters)
        .map(|_| char::from(ALPHABET[random.random_range(0..64)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use rtc_stun::attributes::ATTR_PRIORITY;

    use super::*;

    const FROM: &str = "192.0.2.7:4000";

    #[test]
    fn an_authentic_check_is_answered_with_the_address_it_came_from() {
        let (agreed, crypto) = agreed();
        let local = &agreed.newest().local;
        let request = request(local, &local.password, true, crypto.crypto());
        assert_eq!(claimed_ufrag(&request), Some(local.ufrag.as_str()));
        let from = FROM.parse().expect("an address");
        let check = handle_request(&request, agreed.newest(), from, crypto.crypto()).expect("authentic");
        assert!(check.usable && check.nominated);
        let mut answer = Message::new();
        answer.unmarshal_binary(&check.answer).expect("an answer");
        assert_eq!(answer.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped
            .get_from_as(&answer, rtc_stun::attributes::ATTR_XORMAPPED_ADDRESS)
            .expect("an address");
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), from);
        MessageIntegrity::check(&mut answer, local.password.as_bytes(), crypto.crypto()).expect("signed");
        FINGERPRINT.check(&answer).expect("a fingerprint");
    }

    #[test]
    fn a_wrong_password_or_name_is_not_answered() {
        let (agreed, crypto) = agreed();
        let local = &agreed.newest().local;
        let from = FROM.parse().expect("an address");
        let forged = request(local, "guess", false, crypto.crypto());
        let refused = handle_request(&forged, agreed.newest(), from, crypto.crypto());
        assert_eq!(refused.map(|check| check.nominated), Err(StunError::NotAuthentic));
        let right = request(local, &local.password, false, crypto.crypto());
        let others = Exchange {
            local: local.clone(),
            remote_ufrag: "others".to_owned(),
        };
        let refused = handle_request(&right, &others, from, crypto.crypto());
        assert_eq!(refused.map(|check| check.nominated), Err(StunError::NotAuthentic));
    }

    #[test]
    fn what_stands_behind_the_integrity_does_not_count() {
        let (agreed, crypto) = agreed();
        let local = &agreed.newest().local;
        let mut message = Message::new();
        message
            .unmarshal_binary(&request(local, &local.password, false, crypto.crypto()))
            .expect("a request");
        message.add(ATTR_USE_CANDIDATE, &[]);
        let from = FROM.parse().expect("an address");
        let check = handle_request(&message.raw, agreed.newest(), from, crypto.crypto()).expect("authentic");
        assert!(!check.nominated);
    }

    #[test]
    fn truncated_and_random_datagrams_never_panic() {
        let (agreed, crypto) = agreed();
        let local = &agreed.newest().local;
        let request = request(local, &local.password, true, crypto.crypto());
        let from = FROM.parse().expect("an address");
        for length in 0..request.len() {
            let _ = claimed_ufrag(&request[..length]);
            assert!(handle_request(&request[..length], agreed.newest(), from, crypto.crypto()).is_err());
        }
    }

    fn agreed() -> (Agreed, std::sync::Arc<dyn rtc_crypto::RTCCryptoProvider>) {
        let crypto = rtc_crypto::default_provider().expect("ring is compiled in");
        (Agreed::new("them".to_owned()), crypto)
    }

    fn request(local: &Credentials, password: &str, nominate: bool, crypto: &dyn RTCCrypto) -> Vec<u8> {
        let mut message = Message::new();
        message.new_transaction_id().expect("random");
        message.set_type(BINDING_REQUEST);
        message.write_header();
        message.add(ATTR_USERNAME, format!("{}:them", local.ufrag).as_bytes());
        message.add(ATTR_PRIORITY, &[0, 0, 0, 1]);
        if nominate {
            message.add(ATTR_USE_CANDIDATE, &[]);
        }
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
        integrity.add_to(&mut message).expect("signed");
        message.raw
    }
}
