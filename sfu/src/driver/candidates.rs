//! Which addresses are offered to browsers.

use std::net::{IpAddr, Ipv4Addr};

use crate::SfuError;

/// The configured addresses; else the one that is bound; else every address of this machine that the socket hears and
/// that others can reach, IPv4 first; else loopback.
///
/// # Errors
/// When the system does not tell its interfaces.
pub fn offered_addresses(bind: IpAddr, configured: &[IpAddr]) -> Result<Vec<IpAddr>, SfuError> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    if !bind.is_unspecified() {
        return Ok(vec![bind]);
    }
    let interfaces = if_addrs::get_if_addrs().map_err(SfuError::Thread)?;
    let hears_both = bind.is_ipv6();
    let all = interfaces.iter().map(if_addrs::Interface::ip);
    Ok(choose(all.filter(|ip| hears_both || ip.is_ipv4())))
}

fn choose(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    // A link-local IPv6 address means nothing without an interface, which a candidate cannot name.
    let reachable = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
    };
    let mut chosen: Vec<IpAddr> = addresses.filter(reachable).collect();
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() {
        chosen.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn loopback_is_offered_only_when_there_is_nothing_else() {
        let all = [
            "127.0.0.1",
            "10.0.0.5",
            "::1",
            "fe80::1",
            "2001:db8::7",
            "fd00::7",
            "10.0.0.5",
            "169.254.1.1",
            "192.168.1.2",
        ];
        assert_eq!(
            choose(all.into_iter().map(ip)),
            [
                ip("10.0.0.5"),
                ip("192.168.1.2"),
                ip("2001:db8::7"),
                ip("fd00::7")
            ]
        );
        assert_eq!(
            choose(["127.0.0.1", "::1"].into_iter().map(ip)),
            [ip("127.0.0.1")]
        );
    }

    #[test]
    fn configured_addresses_stand_before_the_bound_one() {
        let public = [ip("203.0.113.7")];
        assert_eq!(
            offered_addresses(ip("127.0.0.1"), &public).expect("addresses"),
            public
        );
        assert_eq!(
            offered_addresses(ip("127.0.0.1"), &[]).expect("addresses"),
            [ip("127.0.0.1")]
        );
    }
}
