//! Those around the floor: publishers that seal and send in time, subscribers that receive, open and count.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::FloorConfig;
use super::forwarder::{
    DATAGRAM_BYTES, HEADER_BYTES, SourceKind, key_of_publisher, key_of_subscriber, open, seal,
};
use crate::sizes::{FRAMES_A_SECOND, VOICE_BYTES, VOICES_A_SECOND, payloads};

/// Sends what cameras and microphones send.
pub(super) struct Publishers {
    sockets: Vec<UdpSocket>,
    keys: Vec<ring::aead::LessSafeKey>,
    camera_bps: u32,
}

impl Publishers {
    pub(super) fn open(config: &FloorConfig, forwarder: SocketAddr) -> anyhow::Result<Self> {
        let sockets = (0..config.fanout.sources)
            .map(|_| {
                let socket = UdpSocket::bind((config.address, 0))?;
                socket.connect(forwarder)?;
                Ok(socket)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            sockets,
            keys: (0..config.fanout.sources).map(key_of_publisher).collect(),
            camera_bps: config.camera_bps,
        })
    }

    /// Sends each packet when it is due, the sources evenly shifted against each other.
    pub(super) fn play(self, until: Instant) -> anyhow::Result<()> {
        let start = Instant::now();
        let sources = self.sockets.len();
        let mut frames = vec![0_u32; sources];
        let mut voices = vec![0_u32; sources];
        let mut sequences = vec![[0_u16; 2]; sources];
        let mut packet = Vec::with_capacity(DATAGRAM_BYTES);
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            let mut next = until;
            for source in 0..sources {
                let share = source as f64 / sources as f64;
                let due = |number: u32, rate: u32| {
                    start + Duration::from_secs_f64((f64::from(number) + share) / f64::from(rate))
                };
                while due(frames[source], FRAMES_A_SECOND) <= now {
                    for payload in payloads(self.camera_bps, frames[source] as usize) {
                        let sequence = &mut sequences[source][0];
                        self.send(source, SourceKind::Camera, sequence, payload, &mut packet)?;
                    }
                    frames[source] += 1;
                }
                while due(voices[source], VOICES_A_SECOND) <= now {
                    let sequence = &mut sequences[source][1];
                    self.send(source, SourceKind::Microphone, sequence, VOICE_BYTES, &mut packet)?;
                    voices[source] += 1;
                }
                next = next
                    .min(due(frames[source], FRAMES_A_SECOND))
                    .min(due(voices[source], VOICES_A_SECOND));
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn send(
        &self,
        source: usize,
        kind: SourceKind,
        sequence: &mut u16,
        payload_bytes: usize,
        packet: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        packet.clear();
        packet.extend([0x80, 96]);
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(kind.ssrc(source).to_be_bytes());
        packet.resize(HEADER_BYTES + payload_bytes, 0x55);
        seal(&self.keys[source], packet, 0)?;
        *sequence = sequence.wrapping_add(1);
        self.sockets[source].send(packet)?;
        Ok(())
    }
}

/// Receives for every subscriber.
pub(super) struct Subscribers {
    sockets: Vec<UdpSocket>,
}

impl Subscribers {
    pub(super) fn open(count: usize, address: Ipv4Addr) -> anyhow::Result<Self> {
        let sockets = (0..count)
            .map(|_| {
                let socket = UdpSocket::bind((address, 0))?;
                socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { sockets })
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        // A bound socket has an address.
        self.sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Receives until then and returns how many packets came. The first packet of each subscriber is opened, which proves
    /// that it was sealed for it.
    pub(super) fn start(self, until: Instant) -> JoinHandle<anyhow::Result<u64>> {
        std::thread::spawn(move || {
            let mut poll = Poll::new()?;
            let mut sockets = Vec::new();
            for (index, socket) in self.sockets.into_iter().enumerate() {
                let mut socket = mio::net::UdpSocket::from_std(socket);
                poll.registry()
                    .register(&mut socket, Token(index), Interest::READABLE)?;
                sockets.push((socket, false));
            }
            let mut events = Events::with_capacity(256);
            let mut buffer = [0; DATAGRAM_BYTES];
            let mut received = 0;
            while Instant::now() < until {
                poll.poll(&mut events, Some(until.saturating_duration_since(Instant::now())))?;
                for event in &events {
                    let index = event.token().0;
                    let (socket, proved) = &mut sockets[index];
                    while let Ok(length) = socket.recv(&mut buffer) {
                        received += 1;
                        if !*proved {
                            *proved = true;
                            open(&key_of_subscriber(index), &mut buffer[..length])?;
                        }
                    }
                }
            }
            Ok(received)
        })
    }
}

/// Some hundred milliseconds of thirty cameras.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
