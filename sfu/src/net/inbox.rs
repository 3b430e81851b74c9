//! The datagrams of one call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::name::Name;
use super::syscalls::{Arrived, Scratch, receive};

/// Room for a batch of datagrams, used again for each.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    names: Vec<Name>,
    arrived: Vec<Arrived>,
}

/// Larger than any datagram that comes through the internet.
const DATAGRAM_BYTES: usize = 2_048;

impl Inbox {
    /// Datagrams that one call reads at most.
    pub(crate) const PLACES: usize = 64;

    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; Self::PLACES * DATAGRAM_BYTES],
            names: vec![Name::EMPTY; Self::PLACES],
            arrived: Vec::with_capacity(Self::PLACES),
        }
    }

    /// A datagram by its place in the batch, and where it came from. `None` for one that was longer than anything that
    /// is spoken here, or that came from nowhere.
    pub(crate) fn datagram(&mut self, place: usize) -> Option<(&mut [u8], SocketAddr)> {
        let arrived = self.arrived.get(place).filter(|arrived| arrived.whole)?;
        let from = self.names[place].address()?;
        let start = place * DATAGRAM_BYTES;
        Some((&mut self.bytes[start..start + arrived.length], from))
    }

    pub(super) fn fill(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut Scratch,
        many: bool,
    ) -> io::Result<usize> {
        let places = if many { Self::PLACES } else { 1 };
        self.arrived.clear();
        let (bytes, names) = (&mut self.bytes, &mut self.names[..places]);
        receive(
            socket,
            bytes.chunks_exact_mut(DATAGRAM_BYTES),
            names,
            &mut self.arrived,
            scratch,
            many,
        )?;
        Ok(self.arrived.len())
    }
}
