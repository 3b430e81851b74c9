//! Addresses as the kernel writes them: `sockaddr_in` and `sockaddr_in6` (Linux, every architecture), byte for byte.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// One address, large enough for either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; Self::BYTES],
    length: u32,
}

const IPV4_BYTES: u32 = 16;
const IPV6_BYTES: u32 = 28;

impl Name {
    /// The larger of the two.
    pub(super) const BYTES: usize = IPV6_BYTES as usize;
    /// Nobody's; the kernel writes over it.
    pub(super) const EMPTY: Self = Self {
        bytes: [0; Self::BYTES],
        length: 0,
    };

    /// For a socket of either family: one of IPv6 reaches IPv4 under mapped addresses (RFC 4291 section 2.5.5.2).
    pub(super) fn new(address: SocketAddr, socket_is_ipv6: bool) -> Self {
        let mut name = Self::EMPTY;
        name.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) if !socket_is_ipv6 => {
                name.set_family(libc::AF_INET);
                name.bytes[4..8].copy_from_slice(&v4.ip().octets());
                name.length = IPV4_BYTES;
            }
            SocketAddr::V4(v4) => name.set_ipv6(&v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => name.set_ipv6(v6.ip(), v6.scope_id()),
        }
        name
    }

    /// The address, a mapped one as the IPv4 address it is; `None` if it is none of the two families.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let [family_a, family_b, port_a, port_b, rest @ ..] = self.bytes;
        let port = u16::from_be_bytes([port_a, port_b]);
        match i32::from(u16::from_ne_bytes([family_a, family_b])) {
            libc::AF_INET => {
                let octets: [u8; 4] = *rest.first_chunk()?;
                Some(SocketAddr::new(Ipv4Addr::from(octets).into(), port))
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = *rest.get(4..)?.first_chunk()?;
                let ip = Ipv6Addr::from(octets);
                Some(match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddr::new(v4.into(), port),
                    None => {
                        let scope = u32::from_ne_bytes(*rest.get(20..)?.first_chunk()?);
                        SocketAddrV6::new(ip, port, 0, scope).into()
                    }
                })
            }
            _ => None,
        }
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn set_family(&mut self, family: i32) {
        // Both are small numbers.
        self.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    }

    fn set_ipv6(&mut self, ip: &Ipv6Addr, scope: u32) {
        self.set_family(libc::AF_INET6);
        self.bytes[8..24].copy_from_slice(&ip.octets());
        self.bytes[24..28].copy_from_slice(&scope.to_ne_bytes());
        self.length = IPV6_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for (text, socket_is_ipv6) in [
            ("192.0.2.7:4000", false),
            ("192.0.2.7:4000", true),
            ("[2001:db8::7]:4000", true),
            ("[fe80::1%3]:65535", true),
        ] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(
                Name::new(address, socket_is_ipv6).address(),
                Some(address),
                "{text}"
            );
        }
        assert_eq!(Name::EMPTY.address(), None);
    }
}
