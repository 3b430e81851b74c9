//! Many datagrams with one call into the kernel: read in batches, sent in messages that the kernel cuts apart (GSO).
//!
//! The kernel's way out is most of what a forwarded packet costs, and it is paid for each message, not for each byte. Here
//! and nowhere else is `unsafe`, all of it in `syscalls`: no safe crate sends messages with a segment size of their own
//! in one call (see ARCHITECTURE.md). What the kernel refuses is done without: without GSO to an
//! address, and with one call for each message.

mod inbox;
mod name;
mod outgoing;
mod sending;
mod streams;
mod syscalls;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Instant;

use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use inbox::Inbox;
pub(crate) use outgoing::{Lane, Outgoing};
use sending::Sending;
pub(crate) use sending::Sent;
pub(crate) use streams::{Reading, Streams, is_stream, split};
use syscalls::Scratch;

/// Bytes of received datagrams that shall be able to wait at a media socket: it takes the key frames of a whole class at
/// once, and Linux's default of 208 KiB loses them at thirty people.
pub const WANTED_RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A UDP socket that never waits.
#[derive(Debug)]
pub(crate) struct BatchSocket {
    socket: UdpSocket,
    sending: Sending,
    /// The kernel reads many datagrams with one call.
    reads_many: bool,
    scratch: Scratch,
}

/// Bytes of received datagrams that a media socket of this process may let wait: [`WANTED_RECEIVE_BUFFER_BYTES`], or less
/// where the kernel's limit is lower. Opens a socket to find out.
///
/// # Errors
/// When no socket can be opened.
pub fn granted_receive_buffer_bytes() -> io::Result<usize> {
    BatchSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.receive_buffer_bytes()
}

impl BatchSocket {
    /// Binds a socket, both of whose buffers hold [`WANTED_RECEIVE_BUFFER_BYTES`], or of what the kernel's limits allow.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let size = i32::try_from(WANTED_RECEIVE_BUFFER_BYTES).expect("a few megabytes");
        // Beyond the limit only with CAP_NET_ADMIN; else the kernel gives what it may, and `doctor` names the limit.
        if syscalls::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size).is_err() {
            socket.set_recv_buffer_size(WANTED_RECEIVE_BUFFER_BYTES)?;
        }
        if syscalls::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size).is_err() {
            socket.set_send_buffer_size(WANTED_RECEIVE_BUFFER_BYTES)?;
        }
        if address.is_ipv6() {
            // One socket for both families, whatever the system's default (RFC 3493 section 5.3).
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        // Kernels before 4.18 do not know the option.
        let segments = syscalls::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        Ok(Self {
            socket: UdpSocket::from_std(socket.into()),
            sending: Sending::new(address.is_ipv6(), segments),
            reads_many: true,
            scratch: Scratch::default(),
        })
    }

    /// The address that is bound.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Bytes that may wait to be read, as the kernel granted them: it doubles what it grants and counts its own overhead.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn receive_buffer_bytes(&self) -> io::Result<usize> {
        Ok(socket2::SockRef::from(&self.socket).recv_buffer_size()? / 2)
    }

    /// Datagrams that found the receive buffer full, since the socket was opened; wraps. 0 where the kernel does not tell.
    pub(crate) fn dropped_by_kernel(&self) -> u32 {
        syscalls::drops(self.socket.as_fd()).unwrap_or_default()
    }

    /// Reads what waits, at most a batch; the result is how many there are.
    ///
    /// Fewer than [`Inbox::PLACES`] means that nothing waits any more.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when nothing waits.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox) -> io::Result<usize> {
        loop {
            match inbox.fill(self.socket.as_fd(), &mut self.scratch, self.reads_many) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if self.reads_many && error.raw_os_error() == Some(libc::ENOSYS) => {
                    self.reads_many = false
                }
                result => return result,
            }
        }
    }

    /// Sends everything that waits in `outgoing`, and empties it; what finds the send queue full is dropped.
    pub(crate) fn send(&mut self, now: Instant, outgoing: &mut Outgoing) -> Sent {
        let (socket, scratch) = (self.socket.as_fd(), &mut self.scratch);
        self.sending.send(now, outgoing, |batch, many| {
            syscalls::send(socket, batch, scratch, many)
        })
    }
}

impl Source for BatchSocket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

#[cfg(test)]
mod tests;
