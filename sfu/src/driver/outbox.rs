//! Where a room's decisions become datagrams: copied behind their header, sealed in place, and sent together.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::Instant;

use seodang_model::ParticipantId;
use seodang_model::protocol::{IceState, MediaState};

use super::connection::Connection;
use super::counters::Counters;
use super::events::Events;
use super::filling::fill;
use crate::SfuEvent;
use crate::net::{BatchSocket, Lane, Outgoing, Streams, is_stream};
use crate::room::Output;
use crate::transport::srtp::Sealer;

/// The way out of a worker.
pub(super) struct Outbox {
    pub(super) socket: BatchSocket,
    /// The way over TCP, where it could be opened.
    pub(super) streams: Option<Streams>,
    pub(super) connections: HashMap<ParticipantId, Connection, BuildHasherDefault<IdHasher>>,
    /// Of everyone with a seat, connected or not.
    states: HashMap<ParticipantId, (IceState, MediaState)>,
    pub(super) counters: Counters,
    pub(super) events: Events,
    /// Sealed, and sent with [`Self::flush`] or when it is full.
    outgoing: Outgoing,
}

impl Outbox {
    pub(super) fn new(socket: BatchSocket, streams: Option<Streams>, events: Events) -> Self {
        Self {
            socket,
            streams,
            connections: HashMap::default(),
            states: HashMap::new(),
            counters: Counters::default(),
            events,
            outgoing: Outgoing::new(),
        }
    }

    /// Sends a datagram that needs no sealing.
    pub(super) fn send_plain(&mut self, datagram: &[u8], to: SocketAddr) {
        self.make_room();
        let start = self.outgoing.bytes().len();
        self.outgoing.bytes().extend_from_slice(datagram);
        if is_stream(to) {
            self.stream(start, to);
        } else {
            self.outgoing.add(start, NO_STREAM, &mut Lane::default(), to);
        }
    }

    /// Sends everything that waits.
    pub(super) fn flush(&mut self) {
        let now = Instant::now();
        self.flush_datagrams(now);
        if let Some(streams) = &mut self.streams {
            streams.flush(now);
        }
    }

    fn flush_datagrams(&mut self, now: Instant) {
        if !self.outgoing.is_empty() {
            let sent = self.socket.send(now, &mut self.outgoing);
            self.counters.count_sent(&sent);
        }
    }

    /// Moves what was written from `start` on to a stream.
    fn stream(&mut self, start: usize, to: SocketAddr) {
        let bytes = self.outgoing.bytes();
        let length = (bytes.len() - start) as u64;
        if self
            .streams
            .as_mut()
            .is_some_and(|streams| streams.queue(to, &bytes[start..]))
        {
            self.counters.datagrams_out += 1;
            self.counters.bytes_out += length;
        } else {
            self.counters.dropped_stream_full += 1;
        }
        bytes.truncate(start);
    }

    /// Reads the kernel's count of what it could not keep for us.
    pub(super) fn count_kernel_drops(&mut self) {
        let dropped = self.socket.dropped_by_kernel();
        let before = self.counters.dropped_receive_queue_full;
        // The kernel's count has 32 bits and wraps.
        self.counters.dropped_receive_queue_full += u64::from(dropped.wrapping_sub(before as u32));
    }

    /// Keeps the states of a participant who has a seat from here on.
    pub(super) fn join(&mut self, participant: ParticipantId) {
        self.states.entry(participant).or_default();
    }

    /// Forgets a participant's states, told or not.
    pub(super) fn leave(&mut self, participant: ParticipantId) {
        self.states.remove(&participant);
        self.events.forget(participant);
    }

    /// How a participant's path is.
    pub(super) fn ice(&self, participant: ParticipantId) -> IceState {
        self.states
            .get(&participant)
            .map_or(IceState::New, |states| states.0)
    }

    /// Changes it, and tells the outside if it was another.
    pub(super) fn set_ice(&mut self, participant: ParticipantId, ice: IceState) {
        if let Some(states) = self.states.get_mut(&participant)
            && states.0 != ice
        {
            states.0 = ice;
            self.events.states(participant, ice, states.1);
        }
    }

    fn make_room(&mut self) {
        if self.outgoing.is_full() {
            self.flush_datagrams(Instant::now());
        }
    }

    /// Seals a packet of `length` bytes behind what waits, and lets it wait there as well, in its stream. `seal` appends it,
    /// sealed; `false` when it cannot be.
    fn seal_and_send(
        &mut self,
        to: ParticipantId,
        stream: u32,
        length: usize,
        seal: impl FnOnce(&mut Sealer, &mut Vec<u8>) -> bool,
    ) {
        if !Outgoing::takes(length) {
            self.counters.dropped_too_long += 1;
            return;
        }
        self.make_room();
        let Some(connection) = self.connections.get_mut(&to) else {
            return;
        };
        let (Some(sealer), Some(address)) = (&mut connection.sealer, connection.address) else {
            return;
        };
        let bytes = self.outgoing.bytes();
        let start = bytes.len();
        if !seal(sealer, bytes) {
            bytes.truncate(start);
            self.counters.dropped_unsealed += 1;
        } else if is_stream(address) {
            self.stream(start, address);
        } else {
            self.outgoing.add(start, stream, &mut connection.lane, address);
        }
    }

    fn send_rtp(&mut self, to: ParticipantId, index: u64, parts: [&[u8]; 3]) {
        let length = parts.iter().map(|part| part.len()).sum();
        let stream = parts[0].get(8..12).map_or(NO_STREAM, |ssrc| {
            u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]])
        });
        self.seal_and_send(to, stream, length, |sealer, bytes| {
            let start = bytes.len();
            for part in parts {
                bytes.extend_from_slice(part);
            }
            fill(bytes, start);
            sealer.seal_rtp(index, bytes, start)
        });
    }
}

/// Datagrams that are no RTP keep their place among each other.
const NO_STREAM: u32 = 0;

impl Output for Outbox {
    fn rtp(&mut self, to: ParticipantId, index: u64, header: &[u8; 12], prefix: &[u8], payload: &[u8]) {
        self.send_rtp(to, index, [header, prefix, payload]);
    }

    fn rtp_again(&mut self, to: ParticipantId, index: u64, packet: &[u8]) {
        self.send_rtp(to, index, [packet, &[], &[]]);
    }

    fn rtcp(&mut self, to: ParticipantId, compound: &[u8]) {
        self.seal_and_send(to, NO_STREAM, compound.len(), |sealer, bytes| {
            sealer.seal_rtcp(compound, bytes)
        });
    }

    fn media(&mut self, participant: ParticipantId, state: MediaState) {
        if let Some(states) = self.states.get_mut(&participant) {
            states.1 = state;
            self.events.states(participant, states.0, state);
        }
    }

    fn event(&mut self, event: SfuEvent) {
        self.events.send(event);
    }
}

/// For ids, which are random already: the default one costs as much as everything else there is to look up for a packet.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = (id ^ (id >> 64)) as u64;
    }

    fn finish(&self) -> u64 {
        // Spreads the small numbers of tests.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
