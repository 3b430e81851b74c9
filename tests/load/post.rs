//! Many datagrams with one call into the kernel, each with the time at which it arrived.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use str0m::net::DatagramSend;

/// Buffers of one thread, with which all its sockets are read and written.
///
/// What the server had the kernel cut apart (GSO) is read in pieces. To read it whole (GRO) would save time here, and in
/// the server as well: on loopback nobody cuts then, and no figure of it would hold for a network.
pub(crate) struct Post {
    heads_in: MultiHeaders<SockaddrIn>,
    heads_out: MultiHeaders<SockaddrIn>,
    buffers: Vec<[u8; DATAGRAM_BYTES]>,
    arrivals: Vec<Arrival>,
}

struct Arrival {
    length: usize,
    source: SocketAddr,
    at: Instant,
}

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) source: SocketAddr,
    /// When the kernel had it, however late it was read.
    pub(crate) at: Instant,
}

impl Post {
    /// Datagrams that one call reads or writes at most.
    pub(crate) const BATCH: usize = 16;

    pub(crate) fn new() -> Self {
        Self {
            heads_in: MultiHeaders::preallocate(Self::BATCH, Some(nix::cmsg_space!(TimeSpec))),
            heads_out: MultiHeaders::preallocate(Self::BATCH, None),
            buffers: vec![[0; DATAGRAM_BYTES]; Self::BATCH],
            arrivals: Vec::with_capacity(Self::BATCH),
        }
    }

    /// Has the kernel note when what comes to this socket arrives.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn note_arrivals(socket: &std::net::UdpSocket) -> anyhow::Result<()> {
        Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
    }

    /// Reads what is there and returns how many datagrams that is: with fewer than [`Self::BATCH`] no more are left.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn read(&mut self, socket: &UdpSocket) -> anyhow::Result<usize> {
        self.arrivals.clear();
        let mut slices = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let mut slices: [_; Self::BATCH] =
            std::array::from_fn(|_| slices.next().expect("there is a buffer for each of a batch"));
        let messages = match recvmmsg(
            socket.as_raw_fd(),
            &mut self.heads_in,
            &mut slices,
            MsgFlags::MSG_DONTWAIT,
            None,
        ) {
            Ok(messages) => messages,
            // A server that is gone is noticed by who started it.
            Err(Errno::EAGAIN | Errno::ECONNREFUSED) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let clocks = Clocks::read();
        for message in messages {
            let at = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(at) => Some(clocks.instant_of(at)),
                _ => None,
            });
            let Some(source) = message.address else { continue };
            self.arrivals.push(Arrival {
                length: message.bytes,
                source: source.into(),
                at: at.unwrap_or(clocks.now),
            });
        }
        Ok(self.arrivals.len())
    }

    /// One of the datagrams that were read last.
    pub(crate) fn received(&self, index: usize) -> Received<'_> {
        let arrival = &self.arrivals[index];
        Received {
            bytes: &self.buffers[index][..arrival.length],
            source: arrival.source,
            at: arrival.at,
        }
    }

    /// Sends datagrams and forgets them. What finds the queue full is lost, as on any line.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        datagrams: &mut Vec<(DatagramSend, SocketAddr)>,
    ) -> anyhow::Result<()> {
        for batch in datagrams.chunks(Self::BATCH) {
            let slices: Vec<[IoSlice<'_>; 1]> =
                batch.iter().map(|(bytes, _)| [IoSlice::new(bytes)]).collect();
            let addresses: Vec<Option<SockaddrIn>> = batch.iter().map(|(_, to)| ipv4(*to)).collect();
            let mut sent = 0;
            while sent < batch.len() {
                match sendmmsg(
                    socket.as_raw_fd(),
                    &mut self.heads_out,
                    &slices[sent..],
                    &addresses[sent..],
                    [],
                    MsgFlags::MSG_DONTWAIT,
                ) {
                    Ok(done) => sent += done.count(),
                    Err(Errno::EAGAIN | Errno::ECONNREFUSED) => sent += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        datagrams.clear();
        Ok(())
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Post").finish_non_exhaustive()
    }
}

/// The same moment on the clock of this program and on that of the kernel's notes.
struct Clocks {
    now: Instant,
    wall: Duration,
}

impl Clocks {
    fn read() -> Self {
        Self {
            now: Instant::now(),
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("this is after 1970"),
        }
    }

    /// A clock that is set meanwhile makes nothing arrive in the future.
    fn instant_of(&self, at: TimeSpec) -> Instant {
        let age = self.wall.saturating_sub(Duration::from(at));
        self.now.checked_sub(age).unwrap_or(self.now)
    }
}

fn ipv4(address: SocketAddr) -> Option<SockaddrIn> {
    match address {
        SocketAddr::V4(address) => Some(address.into()),
        SocketAddr::V6(_) => None,
    }
}

/// Larger than any datagram of media.
const DATAGRAM_BYTES: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("an option");
        socket
    }

    #[test]
    fn more_than_a_batch_is_sent_and_read_in_order_with_its_sender() {
        let (from, to) = (socket(), socket());
        let address = to.local_addr().expect("bound");
        let (from, to) = (UdpSocket::from_std(from), UdpSocket::from_std(to));
        let mut post = Post::new();
        let mut datagrams: Vec<(DatagramSend, SocketAddr)> = (0..Post::BATCH as u8 + 3)
            .map(|number| (vec![number; 9].into(), address))
            .collect();
        post.send(&from, &mut datagrams).expect("sent");
        assert!(datagrams.is_empty());

        assert_eq!(post.read(&to).expect("read"), Post::BATCH);
        assert_eq!(post.received(1).bytes, [1; 9]);
        assert_eq!(post.received(1).source, from.local_addr().expect("bound"));
        assert_eq!(post.read(&to).expect("read"), 3);
        assert_eq!(post.received(2).bytes, [Post::BATCH as u8 + 2; 9]);
        assert_eq!(post.read(&to).expect("read"), 0);
    }

    #[test]
    fn a_datagram_arrives_when_it_comes_and_not_when_it_is_read() {
        let (from, to) = (socket(), socket());
        Post::note_arrivals(&to).expect("the kernel notes arrivals");
        let before = Instant::now();
        from.send_to(&[7], to.local_addr().expect("bound")).expect("sent");
        let after = Instant::now();
        std::thread::sleep(Duration::from_millis(60));

        let mut post = Post::new();
        assert_eq!(post.read(&UdpSocket::from_std(to)).expect("read"), 1);
        let at = post.received(0).at;
        // Two clocks are read one after the other.
        let slack = Duration::from_millis(20);
        assert!(at + slack >= before && at <= after + slack, "{:?}", after - at);
    }
}
