//! Short-lived credentials for a TURN server that shares a secret with this program (coturn's `use-auth-secret`;
//! draft-uberti-behave-turn-rest-00): the name says until when it is good and whose it is, the password signs the name.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use seodang_model::protocol::IceServer;
use seodang_model::{ParticipantId, Token};
use time::OffsetDateTime;

use crate::config::Config;

/// A TURN server, and how its credentials are made.
#[derive(Clone, Debug)]
pub struct Turn {
    urls: Vec<String>,
    secret: Token,
    lifetime: Duration,
}

impl Turn {
    /// The one of the configuration, if there is one.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let secret = config.turn_secret.clone()?;
        (!config.turn_urls.is_empty()).then(|| Self {
            urls: config.turn_urls.clone(),
            secret,
            lifetime: Duration::from_secs(config.turn_lifetime_s),
        })
    }

    /// After how long a credential is renewed: whoever has one can use it for as long again.
    #[must_use]
    pub fn renewal(&self) -> Duration {
        self.lifetime / 2
    }

    /// What a participant's browser is told, good from `now` for the configured time.
    #[must_use]
    pub fn ice_server(&self, now: OffsetDateTime, participant: ParticipantId) -> IceServer {
        let until = (now + self.lifetime).unix_timestamp();
        let username = format!("{until}:{participant}");
        // SHA-1 is what the servers speak; in an HMAC it still holds.
        let key = hmac::Key::new(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            self.secret.as_str().as_bytes(),
        );
        let credential = BASE64.encode(hmac::sign(&key, username.as_bytes()));
        IceServer {
            urls: self.urls.clone(),
            username,
            credential,
        }
    }
}

/// The parts of a `turn:` or `turns:` address (RFC 7065).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnUrl {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub transport: TurnTransport,
}

/// How a TURN server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnTransport {
    /// Datagrams.
    Udp,
    /// A connection in the clear.
    Tcp,
    /// A connection with TLS.
    Tls,
}

impl fmt::Display for TurnTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        })
    }
}

impl TurnUrl {
    /// Reads an address; `None` when it is none that browsers take.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    host,
                    if port.is_empty() {
                        None
                    } else {
                        Some(port.strip_prefix(':')?)
                    },
                )
            }
            None => place
                .split_once(':')
                .map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let named = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
        let transport = match (scheme, query) {
            ("turn", "" | "transport=udp") => TurnTransport::Udp,
            ("turn", "transport=tcp") => TurnTransport::Tcp,
            ("turns", "" | "transport=tcp") => TurnTransport::Tls,
            _ => return None,
        };
        let usual = if transport == TurnTransport::Tls {
            5_349
        } else {
            3_478
        };
        let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
        named.then(|| Self {
            host: host.to_owned(),
            port,
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn() -> Turn {
        Turn {
            urls: vec!["turn:turn.example.org".to_owned()],
            secret: Token::presented("north"),
            lifetime: Duration::from_secs(3_600),
        }
    }

    #[test]
    fn a_credential_says_until_when_and_for_whom_and_is_signed() {
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
        let participant = ParticipantId::from_bits(7);
        let server = turn().ice_server(now, participant);
        assert_eq!(server.username, format!("1700003600:{participant}"));
        assert_eq!(server.username, "1700003600:00000000000000000000000007");
        // printf '1700003600:00000000000000000000000007' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(server.credential, "4y2lprrq5L4g0R+tcSQJyB0rb/0=");
        assert_ne!(
            server.credential,
            turn().ice_server(now, ParticipantId::from_bits(8)).credential
        );
    }

    #[test]
    fn a_credential_and_a_secret_never_print() {
        let server = turn().ice_server(OffsetDateTime::UNIX_EPOCH, ParticipantId::from_bits(7));
        let printed = format!("{server:?} {:?}", turn());
        assert!(!printed.contains(&server.credential) && !printed.contains("north"));
    }

    #[test]
    fn addresses_are_those_that_browsers_take() {
        let read = |url| TurnUrl::parse(url).map(|url| (url.host, url.port, url.transport));
        let host = || "turn.example.org".to_owned();
        assert_eq!(
            read("turn:turn.example.org"),
            Some((host(), 3_478, TurnTransport::Udp))
        );
        assert_eq!(
            read("turn:turn.example.org:80?transport=tcp"),
            Some((host(), 80, TurnTransport::Tcp))
        );
        assert_eq!(
            read("turns:turn.example.org"),
            Some((host(), 5_349, TurnTransport::Tls))
        );
        assert_eq!(
            read("turn:[2001:db8::1]:3479"),
            Some(("2001:db8::1".to_owned(), 3_479, TurnTransport::Udp))
        );
        for bad in [
            "turn.example.org",
            "stun:turn.example.org",
            "turn://turn.example.org",
            "turn:",
            "turn:host:0",
            "turn:host:99999",
            "turn:host?transport=tls",
            "turns:host?transport=udp",
            "turn:[::1",
            "turn:[host]",
            "turn:a b",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
