//! Which addresses are offered to browsers.

use std::net::{IpAddr, Ipv4Addr};

use crate::SfuError;

/// The configured addresses; else every IPv4 address of this machine that is not loopback; else loopback.
pub(crate) fn host_addresses(configured: &[IpAddr]) -> Result<Vec<IpAddr>, SfuError> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    let interfaces = if_addrs::get_if_addrs().map_err(SfuError::Thread)?;
    let mut addresses: Vec<IpAddr> = interfaces
        .iter()
        .map(if_addrs::Interface::ip)
        // A socket bound to the unspecified IPv4 address hears IPv4 only.
        .filter(|address| matches!(address, IpAddr::V4(v4) if !v4.is_loopback() && !v4.is_link_local()))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Ok(addresses)
}
