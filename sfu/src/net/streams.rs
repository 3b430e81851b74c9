//! TCP connections that carry datagrams, each behind its length (RFC 4571): the way of ICE-TCP (RFC 6544) through networks
//! that let no UDP out.
//!
//! To whoever sends and receives a stream is an address like any other: one of the discard-only block 100::/64 (RFC 6666),
//! from which no datagram is taken.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Streams of a worker at a time; more are refused.
const MOST_STREAMS: usize = 1_024;
/// Of which nobody has proved anything yet; the oldest goes when another comes, so that silent ones keep nobody out.
const MOST_UNPROVEN: usize = 128;
/// A stream that has proved nothing by then is closed.
const PROVE_WITHIN: Duration = Duration::from_secs(10);
/// A stream whose other end reads nothing for this long is closed.
const STALL: Duration = Duration::from_secs(10);
/// Bytes that wait for a slow reader: about a second of a class. A packet that finds them full is dropped, as by UDP.
const MOST_QUEUED_BYTES: usize = 256 * 1_024;
/// Longer datagrams are spoken nowhere here.
const MOST_DATAGRAM_BYTES: usize = 2_048;
/// Bytes read from one stream before the others get their turn.
const READ_A_TURN_BYTES: usize = 64 * 1_024;
const LENGTH_BYTES: usize = 2;
const BACKLOG: i32 = 128;

/// The listener of a worker and what came through it.
#[derive(Debug)]
pub(crate) struct Streams {
    listener: TcpListener,
    streams: HashMap<u64, Stream>,
    next: u64,
    unproven: usize,
    /// Have something to write that was not tried yet.
    unsent: Vec<u64>,
    /// May have more to read than their turn allowed.
    unread: VecDeque<u64>,
}

#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    peer: SocketAddr,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    proven: bool,
    opened: Instant,
    /// When the kernel first took no more of what waits.
    stalled: Option<Instant>,
}

/// What one turn of reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Bytes, to be taken apart with [`split`].
    Bytes(Vec<u8>),
    /// The stream ended; it is forgotten.
    Ended,
}

/// The first datagram in `bytes` and where it ends. `Ok(None)` when it is not whole yet.
///
/// # Errors
/// When it is longer than anything that is spoken here.
pub(crate) fn split(bytes: &mut [u8]) -> Result<Option<(&mut [u8], usize)>, TooLong> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MOST_DATAGRAM_BYTES {
        return Err(TooLong);
    }
    let end = LENGTH_BYTES + length;
    Ok(bytes.get_mut(LENGTH_BYTES..end).map(|datagram| (datagram, end)))
}

/// A length that no datagram has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Whether an address names a stream.
pub(crate) fn is_stream(address: SocketAddr) -> bool {
    id_of(address).is_some()
}

fn name_of(id: u64) -> SocketAddr {
    let bits = 0x0100_u128 << 112 | u128::from(id);
    SocketAddr::from((Ipv6Addr::from_bits(bits), 9))
}

fn id_of(address: SocketAddr) -> Option<u64> {
    let SocketAddr::V6(v6) = address else {
        return None;
    };
    let bits = v6.ip().to_bits();
    (bits >> 64 == 0x0100 << 48).then_some(bits as u64)
}

impl Streams {
    /// Mio tokens from here on belong to streams; the first is the listener's.
    pub(crate) const FIRST_TOKEN: usize = 16;

    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) fn listen(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            listener: TcpListener::from_std(socket.into()),
            streams: HashMap::new(),
            next: 1,
            unproven: 0,
            unsent: Vec::new(),
            unread: VecDeque::new(),
        })
    }

    /// Whether nobody is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Tells the poll of the listener.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.listener, Token(Self::FIRST_TOKEN), Interest::READABLE)
    }

    /// Takes what the poll said of a token of ours; the result is how many streams came, and how many were refused.
    pub(crate) fn handle_event(
        &mut self,
        now: Instant,
        event: &mio::event::Event,
        registry: &Registry,
    ) -> (u64, u64) {
        let Some(place) = event.token().0.checked_sub(Self::FIRST_TOKEN) else {
            return (0, 0);
        };
        if place == 0 {
            return self.accept(now, registry);
        }
        let id = place as u64;
        if event.is_writable() {
            self.unsent.push(id);
        }
        if (event.is_readable() || event.is_read_closed() || event.is_error()) && !self.unread.contains(&id) {
            self.unread.push_back(id);
        }
        (0, 0)
    }

    fn accept(&mut self, now: Instant, registry: &Registry) -> (u64, u64) {
        let (mut came, mut refused) = (0, 0);
        loop {
            let (mut socket, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (came, refused),
                // One that was gone before it was accepted; without descriptors the next event tries again.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(_) => return (came, refused + 1),
            };
            let id = self.next;
            if self.unproven >= MOST_UNPROVEN {
                let unproven = self.streams.iter().filter(|(_, stream)| !stream.proven);
                if let Some(oldest) = unproven.map(|(id, _)| *id).min() {
                    self.close(name_of(oldest));
                    refused += 1;
                }
            }
            let full = self.streams.len() >= MOST_STREAMS;
            let token = Token(Self::FIRST_TOKEN + id as usize);
            // A voice packet must not wait for its acknowledgement.
            let usable = socket.set_nodelay(true).is_ok()
                && !full
                && registry
                    .register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)
                    .is_ok();
            if !usable {
                refused += 1;
                continue;
            }
            came += 1;
            self.next += 1;
            self.unproven += 1;
            let stream = Stream {
                socket,
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                incoming: Vec::new(),
                outgoing: VecDeque::new(),
                proven: false,
                opened: now,
                stalled: None,
            };
            self.streams.insert(id, stream);
        }
    }

    /// The next stream that may have something to read.
    pub(crate) fn next_unread(&mut self) -> Option<SocketAddr> {
        self.unread.pop_front().map(name_of)
    }

    /// How many streams wait to be read.
    pub(crate) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Reads a turn's worth. What is not taken apart is given back with [`Self::give_back`].
    pub(crate) fn read(&mut self, name: SocketAddr) -> Reading {
        let Some((id, stream)) = id_of(name).and_then(|id| Some((id, self.streams.get_mut(&id)?))) else {
            return Reading::Ended;
        };
        let mut bytes = std::mem::take(&mut stream.incoming);
        let kept = bytes.len();
        let mut chunk = [0; 8 * 1_024];
        let most = bytes.len() + READ_A_TURN_BYTES;
        let ended = loop {
            if bytes.len() >= most {
                self.unread.push_back(id);
                break false;
            }
            match stream.socket.read(&mut chunk) {
                Ok(0) => break true,
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        // The beginning of a datagram whose rest will not come is no reason to look again.
        if ended && bytes.len() == kept {
            self.close(name);
            return Reading::Ended;
        }
        if ended {
            // What came before the end counts; the next turn finds the end again.
            self.unread.push_back(id);
        }
        Reading::Bytes(bytes)
    }

    /// Keeps the beginning of a datagram until its rest comes.
    pub(crate) fn give_back(&mut self, name: SocketAddr, rest: Vec<u8>) {
        if let Some(stream) = id_of(name).and_then(|id| self.streams.get_mut(&id)) {
            stream.incoming = rest;
        }
    }

    /// Somebody proved to be at the other end.
    pub(crate) fn prove(&mut self, name: SocketAddr) {
        if let Some(stream) = id_of(name).and_then(|id| self.streams.get_mut(&id))
            && !std::mem::replace(&mut stream.proven, true)
        {
            self.unproven -= 1;
        }
    }

    /// The address at the other end, if the stream is there.
    pub(crate) fn peer(&self, name: SocketAddr) -> Option<SocketAddr> {
        Some(self.streams.get(&id_of(name)?)?.peer)
    }

    /// Puts a datagram behind those that wait; `false` when they are too many, or the stream is gone.
    pub(crate) fn queue(&mut self, name: SocketAddr, datagram: &[u8]) -> bool {
        let Some((id, stream)) = id_of(name).and_then(|id| Some((id, self.streams.get_mut(&id)?))) else {
            return false;
        };
        let Ok(length) = u16::try_from(datagram.len()) else {
            return false;
        };
        if stream.outgoing.len() + LENGTH_BYTES + datagram.len() > MOST_QUEUED_BYTES {
            return false;
        }
        if stream.outgoing.is_empty() {
            self.unsent.push(id);
        }
        stream.outgoing.extend(length.to_be_bytes());
        stream.outgoing.extend(datagram);
        true
    }

    /// Writes what waits and the kernel takes.
    pub(crate) fn flush(&mut self, now: Instant) {
        while let Some(id) = self.unsent.pop() {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if stream.write(now).is_err() {
                // Reading finds out that it has ended.
                self.unread.push_back(id);
            }
        }
    }

    /// Streams that proved nothing, or whose other end reads nothing, in time: to be closed.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<SocketAddr> {
        let late = |stream: &Stream| {
            (!stream.proven && now >= stream.opened + PROVE_WITHIN)
                || stream.stalled.is_some_and(|since| now >= since + STALL)
        };
        let late = self.streams.iter().filter(|(_, stream)| late(stream));
        late.map(|(id, _)| name_of(*id)).collect()
    }

    /// Closes a stream and forgets it; what the kernel has taken still goes out.
    pub(crate) fn close(&mut self, name: SocketAddr) {
        if let Some(stream) = id_of(name).and_then(|id| self.streams.remove(&id))
            && !stream.proven
        {
            self.unproven -= 1;
        }
    }
}

impl Stream {
    fn write(&mut self, now: Instant) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.socket.write(self.outgoing.as_slices().0) {
                Ok(length) => {
                    self.outgoing.drain(..length);
                    self.stalled = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert(now);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_cut_apart_by_their_lengths() {
        let mut bytes = [0, 3, 1, 2, 3, 0, 1, 9, 0];
        let (datagram, end) = split(&mut bytes).expect("short").expect("whole");
        assert_eq!((&*datagram, end), ([1, 2, 3].as_slice(), 5));
        let (datagram, end) = split(&mut bytes[5..]).expect("short").expect("whole");
        assert_eq!((&*datagram, end), ([9].as_slice(), 3));
        assert_eq!(split(&mut bytes[8..]), Ok(None));
        assert_eq!(split(&mut [0, 5, 1, 2]), Ok(None));
        assert_eq!(split(&mut [0xff, 0xff, 0]), Err(TooLong));
    }

    #[test]
    fn a_stream_is_an_address_that_nobody_else_has() {
        for id in [1, u64::MAX] {
            assert_eq!(id_of(name_of(id)), Some(id));
        }
        for other in ["[2001:db8::1]:9", "[::1]:9", "127.0.0.1:9", "[100:0:0:1::1]:9"] {
            assert!(!is_stream(other.parse().expect("an address")), "{other}");
        }
    }

    #[test]
    fn silent_streams_make_room_for_the_next_from_the_oldest_on() {
        let start = Instant::now();
        let mut streams = Streams::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = streams.listener.local_addr().expect("bound");
        let poll = mio::Poll::new().expect("a poll");
        let mut others = Vec::new();
        let (mut came, mut refused) = (0, 0);
        for _ in 0..MOST_UNPROVEN + 2 {
            others.push(std::net::TcpStream::connect(address).expect("it listens"));
            let before = came;
            while came == before {
                let (more, gone) = streams.accept(start, poll.registry());
                (came, refused) = (came + more, refused + gone);
            }
            // The first one proves to be somebody.
            streams.prove(name_of(1));
        }
        assert_eq!((came, refused), (MOST_UNPROVEN as u64 + 2, 1));
        let here = |id| streams.peer(name_of(id)).is_some();
        assert!(here(1) && !here(2) && here(3) && here(MOST_UNPROVEN as u64 + 2));
    }

    #[test]
    fn a_reader_that_stalls_loses_packets_and_then_its_stream() {
        let start = Instant::now();
        let mut streams = Streams::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = streams.listener.local_addr().expect("bound");
        let poll = mio::Poll::new().expect("a poll");
        let _reader = std::net::TcpStream::connect(address).expect("it listens");
        while streams.accept(start, poll.registry()).0 == 0 {}
        let name = name_of(1);
        assert_eq!(
            streams.overdue(start + PROVE_WITHIN),
            [name],
            "it has proved nothing"
        );
        streams.prove(name);
        assert!(streams.overdue(start + PROVE_WITHIN).is_empty());
        let mut taken = 0;
        while streams.queue(name, &[7; 1_200]) {
            streams.flush(start);
            taken += 1;
            assert!(taken < 100_000, "nobody reads, and nothing is ever full");
        }
        assert!(streams.streams[&1].outgoing.len() <= MOST_QUEUED_BYTES);
        assert_eq!(streams.overdue(start + STALL), [name]);
        streams.close(name);
        assert!(streams.peer(name).is_none() && !streams.queue(name, &[7]));
    }
}
