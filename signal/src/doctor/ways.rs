//! The ways of the media: what browsers are offered, whether that leads here, and whether the TURN servers play along.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use seodang_model::ParticipantId;
use seodang_model::protocol::IceServer;
use seodang_sfu::offered_addresses;
use seodang_sfu::probe::{self, ProbeError, Relay};
use time::OffsetDateTime;

use super::{Finding, bad, good, weak};
use crate::config::Config;
use crate::turn::{Turn, TurnTransport, TurnUrl};

/// Which addresses browsers get.
pub(super) fn media_addresses(config: &Config) -> Finding {
    let offered = offered(config);
    if offered.iter().all(IpAddr::is_loopback) {
        return weak(
            "media: 127.0.0.1 alone can be offered; only browsers on this machine will see and hear anything",
            "connect the network, or set media_addresses to the address that browsers reach",
        );
    }
    let list: Vec<String> = offered.iter().map(ToString::to_string).collect();
    good(format!(
        "media: browsers are offered {}; behind a router set media_addresses to the outer address",
        list.join(", ")
    ))
}

/// What firewalls have to let through to a media port.
pub(super) fn transports(config: &Config) -> &'static str {
    if config.media_tcp { "UDP and TCP" } else { "UDP" }
}

/// The address to bind as the media does: without IPv6, every address is every IPv4 address.
pub(super) fn bindable(bind: IpAddr) -> IpAddr {
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if bind == both && UdpSocket::bind((both, 0)).is_err() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        bind
    }
}

/// Whether datagrams to the offered addresses come in at the media port. Nothing when the port cannot be opened.
pub(super) fn ways_in(config: &Config) -> Vec<Finding> {
    let port = config.media_port;
    if port == 0 {
        return Vec::new();
    }
    let Ok(socket) = UdpSocket::bind(SocketAddr::new(bindable(config.media_bind), port)) else {
        return Vec::new();
    };
    let addresses = offered(config);
    let mut findings: Vec<Finding> = addresses
        .iter()
        .map(|ip| way_from_here(config, &socket, SocketAddr::new(*ip, port)))
        .collect();
    findings.extend(way_through_turn(config, &socket, &addresses));
    findings
}

fn way_from_here(config: &Config, socket: &UdpSocket, target: SocketAddr) -> Finding {
    match probe::reaches(socket, target) {
        Ok(()) => good(format!("media: {target} (UDP) leads to this machine")),
        Err(error) => weak(
            format!("media: {target} (UDP) does not lead here from this machine: {error}"),
            format!(
                "let port {} ({}) through the firewall and forward it on the router; a router that does not lead back to its own \
                 inside cannot be examined from here: then try from outside, or with turn_urls",
                target.port(),
                transports(config)
            ),
        ),
    }
}

/// The outside's view, if a TURN server lends its own.
fn way_through_turn(config: &Config, socket: &UdpSocket, addresses: &[IpAddr]) -> Option<Finding> {
    let server = credential(config)?;
    let mut relay = server.urls.iter().find_map(|url| match allocate(url, &server) {
        Ok(Taken::Relay(relay)) => Some(relay),
        _ => None,
    })?;
    let port = config.media_port;
    let mut open = Vec::new();
    for ip in addresses.iter().filter(|ip| ip.is_ipv4()) {
        match probe::reaches_through(&mut relay, socket, SocketAddr::new(*ip, port)) {
            Ok(()) => open.push(ip.to_string()),
            // What the server's rules forbid says nothing about the way.
            Err(ProbeError::Refused { code: 403, .. }) => return None,
            Err(_) => {}
        }
    }
    Some(if open.is_empty() {
        weak(
            format!("media: UDP port {port} cannot be reached from the TURN server"),
            format!(
                "let port {port} ({}) through the firewall, and set media_addresses to an address that is reached from outside",
                transports(config)
            ),
        )
    } else {
        good(format!(
            "media: the TURN server reaches UDP port {port} at {}",
            open.join(", ")
        ))
    })
}

/// Whether each TURN server answers, and takes a credential as browsers get it.
pub(super) fn turn_servers(config: &Config) -> Vec<Finding> {
    let Some(server) = credential(config) else {
        return vec![good(format!(
            "TURN: none; browsers whose network does not let out {} to the media port cannot join (turn_urls)",
            transports(config).replace("and", "or")
        ))];
    };
    server.urls.iter().map(|url| turn_server(url, &server)).collect()
}

fn turn_server(url: &str, server: &IceServer) -> Finding {
    match allocate(url, server) {
        Ok(Taken::Relay(relay)) => good(format!(
            "TURN: {url} takes our credentials and relays from {}",
            relay.relayed_address()
        )),
        Ok(Taken::Connection) => good(format!(
            "TURN: {url} takes connections; what it says behind TLS is not examined"
        )),
        Err(Trouble::Name) => bad(
            format!("TURN: {url}: the name is not known"),
            "check turn_urls, and the name's entry in the DNS",
        ),
        Err(Trouble::Probe(ProbeError::Refused { code: 401 | 441, .. })) => bad(
            format!("TURN: {url} refuses our credentials"),
            "give turn_secret and coturn's static-auth-secret the same value, and both machines the right time; coturn needs use-auth-secret",
        ),
        Err(Trouble::Probe(error @ ProbeError::Refused { .. })) => bad(
            format!("TURN: {url}: {error}"),
            "see the TURN server's log; 486 and 508 mean that it has no room left",
        ),
        Err(Trouble::Probe(error)) => bad(
            format!("TURN: {url}: {error}"),
            "start the TURN server, and let this port through its firewall",
        ),
    }
}

enum Taken {
    Relay(Relay),
    Connection,
}

enum Trouble {
    Name,
    Probe(ProbeError),
}

fn allocate(url: &str, server: &IceServer) -> Result<Taken, Trouble> {
    let url = TurnUrl::parse(url).ok_or(Trouble::Name)?;
    let mut addresses = (url.host.as_str(), url.port)
        .to_socket_addrs()
        .map_err(|_| Trouble::Name)?;
    let address = addresses.next().ok_or(Trouble::Name)?;
    if url.transport == TurnTransport::Tls {
        let connected = TcpStream::connect_timeout(&address, Duration::from_secs(2));
        return connected
            .map(|_| Taken::Connection)
            .map_err(|error| Trouble::Probe(error.into()));
    }
    let over_tcp = url.transport == TurnTransport::Tcp;
    Relay::allocate(address, over_tcp, &server.username, &server.credential)
        .map(Taken::Relay)
        .map_err(Trouble::Probe)
}

/// As a browser would get it, for nobody.
fn credential(config: &Config) -> Option<IceServer> {
    Some(Turn::of(config)?.ice_server(OffsetDateTime::now_utc(), ParticipantId::from_bits(0)))
}

fn offered(config: &Config) -> Vec<IpAddr> {
    offered_addresses(config.media_bind, &config.media_addresses).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn config(addresses: &[&str]) -> Config {
        let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        Config {
            media_bind: "127.0.0.1".parse().expect("an address"),
            media_port: free.local_addr().expect("bound").port(),
            media_addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ..Config::default()
        }
    }

    #[test]
    fn an_address_that_does_not_lead_here_is_weak_and_has_a_mend() {
        let findings = ways_in(&config(&["127.0.0.1", "127.0.0.9"]));
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Good, Verdict::Weak], "{findings:?}");
        assert!(findings[1].mend.contains("forward it on the router"));
        assert!(findings[1].mend.contains("(UDP and TCP)"), "{}", findings[1]);
        let udp_alone = Config {
            media_tcp: false,
            ..config(&["127.0.0.9"])
        };
        assert!(ways_in(&udp_alone)[0].mend.contains("(UDP)"));
    }

    #[test]
    fn a_turn_server_that_does_not_answer_is_bad_and_has_a_mend() {
        let closed = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = closed.local_addr().expect("bound").port();
        drop(closed);
        let config = Config {
            turn_urls: vec![
                format!("turn:127.0.0.1:{port}"),
                format!("turn:127.0.0.1:{port}?transport=tcp"),
                format!("turns:127.0.0.1:{port}"),
                "turn:nowhere.invalid".to_owned(),
            ],
            turn_secret: Some(seodang_model::Token::presented("north")),
            ..config(&[])
        };
        for finding in turn_servers(&config) {
            assert_eq!(finding.verdict, Verdict::Bad, "{finding}");
            assert!(!finding.mend.is_empty() && !finding.what.contains("north"));
        }
        assert_eq!(turn_servers(&Config::default())[0].verdict, Verdict::Good);
    }
}
