//! Which addresses are offered to browsers.

use std::net::{IpAddr, Ipv4Addr};

use crate::SfuError;

/// The configured addresses; else the one that is bound; else every IPv4 address of this machine that is not loopback;
/// else loopback.
pub(crate) fn host_addresses(bind: IpAddr, configured: &[IpAddr]) -> Result<Vec<IpAddr>, SfuError> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    if !bind.is_unspecified() {
        return Ok(vec![bind]);
    }
    let interfaces = if_addrs::get_if_addrs().map_err(SfuError::Thread)?;
    Ok(choose(interfaces.iter().map(if_addrs::Interface::ip)))
}

fn choose(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    // A socket bound to the unspecified IPv4 address hears IPv4 only.
    let reachable = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if !v4.is_loopback() && !v4.is_link_local());
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
            "10.0.0.5",
            "169.254.1.1",
            "192.168.1.2",
        ];
        assert_eq!(
            choose(all.into_iter().map(ip)),
            [ip("10.0.0.5"), ip("192.168.1.2")]
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
            host_addresses(ip("127.0.0.1"), &public).expect("addresses"),
            public
        );
        assert_eq!(
            host_addresses(ip("127.0.0.1"), &[]).expect("addresses"),
            [ip("127.0.0.1")]
        );
    }
}
