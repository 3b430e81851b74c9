//! Many datagrams with one call into the kernel: read in batches, sent in messages that the kernel cuts apart (GSO).
//!
//! The kernel's way out is most of what a forwarded packet costs, and it is paid for each message, not for each byte. Here
//! and nowhere else is `unsafe`, all of it in `syscalls`: no safe crate sends messages with a segment size of their own
//! in one call (see ARCHITECTURE.md). What the kernel refuses is done without: first without GSO, then one by one.

mod inbox;
mod name;
mod outgoing;
mod streams;
mod syscalls;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use inbox::Inbox;
pub(crate) use outgoing::{Lane, Outgoing};
use outgoing::{Message, Packet};
pub(crate) use streams::{Reading, Streams, is_stream, split};
use syscalls::{Batch, Scratch};

/// Bytes of received datagrams that shall be able to wait at a media socket: it takes the key frames of a whole class at
/// once, and Linux's default of 208 KiB loses them at thirty people.
pub const WANTED_RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// After this many messages in a row that went out packet by packet and not cut by the kernel, it is asked no more.
const MOST_REFUSALS: u32 = 8;

/// A UDP socket that never waits.
#[derive(Debug)]
pub(crate) struct BatchSocket {
    socket: UdpSocket,
    is_ipv6: bool,
    /// The kernel takes many messages with one call.
    many: bool,
    /// The kernel cuts messages into datagrams.
    segments: bool,
    refusals: u32,
    scratch: Scratch,
}

/// What became of what was to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams handed to the kernel.
    pub(crate) datagrams: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Messages they were in.
    pub(crate) messages: u64,
    /// Calls it took.
    pub(crate) calls: u64,
    /// Datagrams dropped because the send queue was full.
    pub(crate) queue_full: u64,
    /// Datagrams the system could not send: no way there.
    pub(crate) unreachable: u64,
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
            is_ipv6: address.is_ipv6(),
            many: true,
            segments,
            refusals: 0,
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
            match inbox.fill(self.socket.as_fd(), &mut self.scratch, self.many) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if self.many && error.raw_os_error() == Some(libc::ENOSYS) => self.many = false,
                result => return result,
            }
        }
    }

    /// Sends everything that waits in `outgoing`, and empties it. What finds the send queue full is dropped: a packet that
    /// waited would be late, and what it would wait for is the one way out of everybody.
    pub(crate) fn send(&mut self, outgoing: &mut Outgoing) -> Sent {
        let mut sent = Sent::default();
        outgoing.arrange(self.is_ipv6, self.segments);
        let (bytes, packets, messages) = outgoing.arranged();
        let mut rest = messages;
        while let [first, behind @ ..] = rest {
            let batch = Batch {
                bytes,
                packets,
                messages: if self.many { rest } else { &rest[..1] },
            };
            sent.calls += 1;
            match syscalls::send(self.socket.as_fd(), &batch, &mut self.scratch, self.many) {
                Ok(taken) => {
                    for message in &rest[..taken] {
                        sent.count(&packets[message.packets.clone()]);
                        sent.messages += 1;
                        if message.segment_bytes != 0 {
                            self.refusals = 0;
                        }
                    }
                    rest = &rest[taken..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if self.many && error.raw_os_error() == Some(libc::ENOSYS) => self.many = false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What is behind would find the queue as full, at one call each.
                    let datagrams = rest.iter().map(|message| message.packets.len()).sum();
                    sent.lose(&error, datagrams);
                    break;
                }
                Err(error) => {
                    if first.segment_bytes != 0 && is_refusal(&error) {
                        self.send_apart(bytes, packets, first, &mut sent);
                    } else {
                        sent.lose(&error, first.packets.len());
                    }
                    rest = behind;
                }
            }
        }
        outgoing.clear();
        sent
    }

    /// Sends the packets of a message that the kernel would not cut.
    fn send_apart(&mut self, bytes: &[u8], packets: &[Packet], message: &Message, sent: &mut Sent) {
        for place in message.packets.clone() {
            let single = Message {
                packets: place..place + 1,
                segment_bytes: 0,
                ..*message
            };
            let batch = Batch {
                bytes,
                packets,
                messages: std::slice::from_ref(&single),
            };
            sent.calls += 1;
            match syscalls::send(self.socket.as_fd(), &batch, &mut self.scratch, self.many) {
                Ok(_) => {
                    sent.count(&packets[single.packets]);
                    sent.messages += 1;
                }
                Err(error) => sent.lose(&error, 1),
            }
        }
        // One refusal may be about one path alone, whose packets are too large for it.
        self.refusals += 1;
        if self.refusals == MOST_REFUSALS {
            self.segments = false;
            tracing::warn!("the kernel does not cut messages into datagrams (UDP GSO); sending costs more");
        }
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

impl Sent {
    fn count(&mut self, packets: &[Packet]) {
        self.datagrams += packets.len() as u64;
        self.bytes += packets.iter().map(|packet| u64::from(packet.length)).sum::<u64>();
    }

    fn lose(&mut self, error: &io::Error, datagrams: usize) {
        match error.kind() {
            ErrorKind::WouldBlock => self.queue_full += datagrams as u64,
            // The way there is gone (no route, refused): silence will tell.
            _ => self.unreachable += datagrams as u64,
        }
    }
}

/// Whether the kernel would not cut a message, while its packets may go one by one.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::EMSGSIZE | libc::ENOPROTOOPT)
    )
}

#[cfg(test)]
mod tests;
