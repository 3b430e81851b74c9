//! The thread whose processor time is the floor.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use nix::time::{ClockId, clock_gettime};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{FloorConfig, FloorReport};

/// Larger than any packet here.
pub(super) const DATAGRAM_BYTES: usize = 2_048;
/// Length of an RTP header without extensions.
pub(super) const HEADER_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Packets taken with one system call.
const RECEIVE_BATCH: usize = 64;
/// Messages handed over with one system call: their packets still lie in the second cache.
const SEND_BATCH: usize = 64;
/// What the kernel takes as segments of one message.
const SEGMENTS: usize = 64;
/// What one message may hold.
const MESSAGE_BYTES: usize = 65_000;
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Which of a source's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    Camera,
    Microphone,
}

impl SourceKind {
    /// The SSRC by which everybody here knows a stream.
    pub(super) fn ssrc(self, source: usize) -> u32 {
        source as u32 * 2 + u32::from(self == Self::Microphone)
    }
}

/// Key of the way from a publisher.
pub(super) fn key_of_publisher(source: usize) -> LessSafeKey {
    key(1, source)
}

/// Key of the way to a subscriber.
pub(super) fn key_of_subscriber(subscriber: usize) -> LessSafeKey {
    key(2, subscriber)
}

fn key(way: u8, number: usize) -> LessSafeKey {
    let mut bytes = [way; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).expect("16 bytes are a key of AES-128"))
}

/// RFC 7714 section 8.1 without salt: SSRC, rollovers, sequence number.
fn nonce(header: &[u8], rollovers: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[2..6].copy_from_slice(&header[8..12]);
    bytes[6..10].copy_from_slice(&rollovers.to_be_bytes());
    bytes[10..].copy_from_slice(&header[2..4]);
    Nonce::assume_unique_for_key(bytes)
}

/// Seals the packet that begins at `start`, in place, and appends its tag.
pub(super) fn seal(key: &LessSafeKey, packets: &mut Vec<u8>, start: usize) -> anyhow::Result<()> {
    let (header, payload) = packets[start..].split_at_mut(HEADER_BYTES);
    let tag = key
        .seal_in_place_separate_tag(nonce(header, 0), Aad::from(&*header), payload)
        .map_err(|_| anyhow!("a packet cannot be sealed"))?;
    packets.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens a packet in place and returns the length without its tag.
pub(super) fn open(key: &LessSafeKey, packet: &mut [u8]) -> anyhow::Result<usize> {
    anyhow::ensure!(packet.len() >= HEADER_BYTES + TAG_BYTES, "a packet is too short");
    let (header, sealed) = packet.split_at_mut(HEADER_BYTES);
    key.open_in_place(nonce(header, 0), Aad::from(&*header), sealed)
        .map_err(|_| anyhow!("a packet was sealed with another key"))?;
    Ok(packet.len() - TAG_BYTES)
}

/// What the thread did.
pub(super) struct Costs {
    pub(super) report: FloorReport,
    pub(super) sent_in_all: u64,
}

/// Socket, keys and the table of who receives what.
pub(super) struct Forwarder {
    socket: UdpSocket,
    publishers: Vec<LessSafeKey>,
    subscribers: Vec<Subscriber>,
    gather: Duration,
}

struct Subscriber {
    key: LessSafeKey,
    address: SockaddrIn,
    /// By SSRC.
    receives: Vec<bool>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    received: u64,
    receives: u64,
    sent: u64,
    messages: u64,
    sends: u64,
}

impl Forwarder {
    pub(super) fn open(config: &FloorConfig, addresses: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((config.address, 0))?;
        socket.set_nonblocking(true)?;
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        let sources = config.fanout.sources;
        let subscribers = config
            .fanout
            .subscribers
            .iter()
            .zip(addresses)
            .enumerate()
            .map(|(index, (watch, address))| {
                let SocketAddr::V4(address) = address else {
                    anyhow::bail!("the floor speaks IPv4")
                };
                let mut receives = vec![false; sources * 2];
                for camera in &watch.cameras {
                    receives[SourceKind::Camera.ssrc(*camera) as usize] = true;
                }
                for microphone in &watch.microphones {
                    receives[SourceKind::Microphone.ssrc(*microphone) as usize] = true;
                }
                Ok(Subscriber {
                    key: key_of_subscriber(index),
                    address: address.into(),
                    receives,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            socket,
            publishers: (0..sources).map(key_of_publisher).collect(),
            subscribers,
            gather: config.gather,
        })
    }

    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Forwards until then; what is between the two times is measured.
    pub(super) fn run(self, from: Instant, until: Instant) -> anyhow::Result<Costs> {
        let mut receiver = Receiver::new();
        let mut sender = Sender::new();
        let mut counts = Counts::default();
        let mut measured = None;
        let (begun, before, counts_before) = loop {
            if measured.is_none() && Instant::now() >= from {
                measured = Some((Instant::now(), thread_time()?, counts));
            }
            if let Some(measured) = measured
                && Instant::now() >= until
            {
                break measured;
            }
            let mut readable = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut readable, PollTimeout::from(POLL_MS)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            if !self.gather.is_zero() {
                std::thread::sleep(self.gather);
            }
            loop {
                let batch = receiver.receive(&self)?;
                if batch == 0 {
                    break;
                }
                counts.receives += 1;
                counts.received += batch as u64;
                sender.forward(&self, &receiver, batch, &mut counts)?;
                if batch < RECEIVE_BATCH {
                    break;
                }
            }
        };
        let (seconds, spent) = (begun.elapsed().as_secs_f64(), thread_time()? - before);
        let per = |count: u64, calls: u64| count as f64 / calls.max(1) as f64;
        let packets = counts.sent - counts_before.sent;
        Ok(Costs {
            report: FloorReport {
                us_a_forwarded_packet: spent.as_secs_f64() * 1e6 / packets.max(1) as f64,
                cores: spent.as_secs_f64() / seconds,
                packets,
                lost: 0,
                packets_a_receive: per(counts.received, counts.receives),
                packets_a_message: per(counts.sent, counts.messages),
                messages_a_send: per(counts.messages, counts.sends),
                gather_us: self.gather.as_micros() as u64,
            },
            sent_in_all: counts.sent,
        })
    }
}

/// Buffers of one batch in.
struct Receiver {
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<[u8; DATAGRAM_BYTES]>,
    lengths: Vec<usize>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(RECEIVE_BATCH, None),
            buffers: vec![[0; DATAGRAM_BYTES]; RECEIVE_BATCH],
            lengths: Vec::with_capacity(RECEIVE_BATCH),
        }
    }

    /// Takes what is there, at most a batch, opens it in place and returns how many packets it is.
    fn receive(&mut self, forwarder: &Forwarder) -> anyhow::Result<usize> {
        self.lengths.clear();
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self
            .buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        match recvmmsg(
            forwarder.socket.as_raw_fd(),
            &mut self.headers,
            &mut slices,
            MsgFlags::MSG_DONTWAIT,
            None,
        ) {
            Ok(messages) => self.lengths.extend(messages.map(|message| message.bytes)),
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        for (buffer, length) in self.buffers.iter_mut().zip(&mut self.lengths) {
            let ssrc = ssrc_of(buffer);
            let key = forwarder.publishers.get(ssrc / 2).context("a packet of nobody")?;
            *length = open(key, &mut buffer[..*length])?;
        }
        Ok(self.lengths.len())
    }

    fn packet(&self, index: usize) -> &[u8] {
        &self.buffers[index][..self.lengths[index]]
    }
}

/// Buffers of one batch out.
struct Sender {
    single: MultiHeaders<SockaddrIn>,
    segmented: MultiHeaders<SockaddrIn>,
    arena: Vec<u8>,
    /// Where each message ends in the arena.
    ends: Vec<usize>,
    addresses: Vec<Option<SockaddrIn>>,
}

impl Sender {
    fn new() -> Self {
        Self {
            single: MultiHeaders::preallocate(SEND_BATCH, None),
            segmented: MultiHeaders::preallocate(SEND_BATCH, Some(nix::cmsg_space!(u16))),
            arena: Vec::with_capacity(SEND_BATCH * MESSAGE_BYTES),
            ends: Vec::with_capacity(SEND_BATCH),
            addresses: Vec::with_capacity(SEND_BATCH),
        }
    }

    /// Sends a batch to all who receive of it, one run of equally long packets after the other.
    fn forward(
        &mut self,
        forwarder: &Forwarder,
        received: &Receiver,
        batch: usize,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let mut start = 0;
        while start < batch {
            let length = run_length(&received.lengths[start..]);
            let run = start..start + length;
            for subscriber in &forwarder.subscribers {
                let begin = self.arena.len();
                for index in run.clone() {
                    let packet = received.packet(index);
                    if subscriber.receives[ssrc_of(packet)] {
                        let at = self.arena.len();
                        self.arena.extend_from_slice(packet);
                        seal(&subscriber.key, &mut self.arena, at)?;
                        counts.sent += 1;
                    }
                }
                if self.arena.len() > begin {
                    self.ends.push(self.arena.len());
                    self.addresses.push(Some(subscriber.address));
                    if self.ends.len() == SEND_BATCH {
                        self.flush(forwarder, received.lengths[run.start] + TAG_BYTES, counts)?;
                    }
                }
            }
            self.flush(forwarder, received.lengths[run.start] + TAG_BYTES, counts)?;
            start = run.end;
        }
        Ok(())
    }

    fn flush(&mut self, forwarder: &Forwarder, segment: usize, counts: &mut Counts) -> anyhow::Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let mut begin = 0;
        let slices: Vec<[IoSlice<'_>; 1]> = self
            .ends
            .iter()
            .map(|end| {
                [IoSlice::new(
                    &self.arena[std::mem::replace(&mut begin, *end)..*end],
                )]
            })
            .collect();
        let size = segment as u16;
        let gso = [ControlMessage::UdpGsoSegments(&size)];
        let (headers, control) = if slices.iter().any(|slice| slice[0].len() > segment) {
            (&mut self.segmented, &gso[..])
        } else {
            (&mut self.single, &[][..])
        };
        let mut sent = 0;
        while sent < slices.len() {
            match sendmmsg(
                forwarder.socket.as_raw_fd(),
                headers,
                &slices[sent..],
                &self.addresses[sent..],
                control,
                MsgFlags::empty(),
            ) {
                Ok(done) => sent += done.count(),
                // On loopback the queue empties while we wait.
                Err(Errno::EAGAIN) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
            counts.sends += 1;
        }
        counts.messages += slices.len() as u64;
        self.arena.clear();
        self.ends.clear();
        self.addresses.clear();
        Ok(())
    }
}

/// How many packets from the first one on fit into one message: all of one length, the last perhaps shorter.
fn run_length(lengths: &[usize]) -> usize {
    let segment = lengths[0] + TAG_BYTES;
    let most = SEGMENTS.min(MESSAGE_BYTES / segment).min(lengths.len());
    let equal = lengths[..most]
        .iter()
        .take_while(|length| **length == lengths[0])
        .count();
    if equal < most && lengths[equal] < lengths[0] {
        equal + 1
    } else {
        equal
    }
}

fn ssrc_of(packet: &[u8]) -> usize {
    packet[8..12]
        .iter()
        .fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// Processor time of this thread.
fn thread_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// How often the end is looked for when nothing comes, in milliseconds.
const POLL_MS: u8 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_length_and_a_shorter_one_are_one_message() {
        assert_eq!(run_length(&[1_000, 1_000, 1_000]), 3);
        assert_eq!(run_length(&[1_000, 1_000, 80, 1_000]), 3);
        assert_eq!(run_length(&[1_000, 1_001, 1_001]), 1);
        assert_eq!(run_length(&[80]), 1);
        assert_eq!(run_length(&[1_160; 100]), MESSAGE_BYTES / (1_160 + TAG_BYTES));
    }

    #[test]
    fn a_packet_opens_with_its_own_key_alone() {
        let mut packet = vec![7; 40];
        seal(&key_of_subscriber(3), &mut packet, 0).expect("sealed");
        assert_eq!(packet.len(), 56);
        assert!(open(&key_of_subscriber(4), &mut packet.clone()).is_err());
        assert_eq!(open(&key_of_subscriber(3), &mut packet).expect("opened"), 40);
        assert_eq!(packet[12..40], [7; 28]);
    }
}
