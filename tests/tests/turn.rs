//! Short-lived credentials against Debian's coturn, and what doctor says of it.

use anyhow::Context as _;
use seodang_model::{ParticipantId, Token};
use seodang_sfu::probe::{ProbeError, Relay};
use seodang_signal::config::Config;
use seodang_signal::doctor::{self, Verdict};
use seodang_signal::turn::Turn;
use seodang_tests::Coturn;
use time::OffsetDateTime;

const SECRET: &str = "a secret of both";

#[test]
fn coturn_takes_our_credentials_and_refuses_expired_and_forged_ones() -> anyhow::Result<()> {
    let server = Coturn::start(SECRET)?;
    let now = OffsetDateTime::now_utc();
    let turn = turn(&server, SECRET)?;
    for over_tcp in [false, true] {
        let ask = |turn: &Turn, at| {
            let given = turn.ice_server(at, ParticipantId::random());
            Relay::allocate(server.address(), over_tcp, &given.username, &given.credential)
        };
        let relay = ask(&turn, now)?;
        assert!(relay.relayed_address().ip().is_loopback(), "{relay:?}");
        drop(relay);
        // Good for 60 s, from two minutes ago.
        let expired = ask(&turn, now - time::Duration::minutes(2));
        assert!(
            matches!(expired, Err(ProbeError::Refused { code: 401, .. })),
            "{expired:?}"
        );
        let forged = ask(&self::turn(&server, "another secret")?, now);
        assert!(
            matches!(forged, Err(ProbeError::Refused { code: 401, .. })),
            "{forged:?}"
        );
    }
    Ok(())
}

#[test]
fn doctor_tells_a_turn_server_that_works_from_one_with_another_secret() -> anyhow::Result<()> {
    let server = Coturn::start(SECRET)?;
    let folder = tempfile::tempdir()?;
    let free = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let mut config = Config {
        data: folder.path().join("data"),
        listen: "127.0.0.1:0".parse()?,
        media_bind: free.ip(),
        media_port: free.port(),
        ..settings(&server, SECRET)
    };
    let about = |config: &Config, word: &str| {
        let findings = doctor::examine(config);
        let found: Vec<_> = findings
            .into_iter()
            .filter(|finding| finding.what.contains(word))
            .collect();
        found
    };
    let taken = about(&config, "takes our credentials");
    assert_eq!(taken.len(), 2, "over UDP and TCP: {taken:?}");
    let through = about(&config, "the TURN server reaches UDP port");
    assert_eq!(through.len(), 1, "{through:?}");

    config.turn_secret = Some(Token::presented("another secret"));
    let refused = about(&config, "refuses our credentials");
    assert_eq!(refused.len(), 2, "{refused:?}");
    for finding in refused {
        assert_eq!(finding.verdict, Verdict::Bad);
        assert!(finding.mend.contains("static-auth-secret"), "{finding}");
        assert!(!finding.to_string().contains("another secret"));
    }
    Ok(())
}

fn turn(server: &Coturn, secret: &str) -> anyhow::Result<Turn> {
    Turn::of(&settings(server, secret)).context("a TURN server")
}

fn settings(server: &Coturn, secret: &str) -> Config {
    let address = server.address();
    Config {
        turn_urls: vec![format!("turn:{address}"), format!("turn:{address}?transport=tcp")],
        turn_secret: Some(Token::presented(secret)),
        turn_lifetime_s: 60,
        ..Config::default()
    }
}
