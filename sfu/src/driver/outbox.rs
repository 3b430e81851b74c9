//! Where a room's decisions become datagrams: copied behind their header, sealed in place, sent.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use seodang_model::ParticipantId;
use seodang_model::protocol::{IceState, MediaState};

use super::connection::Connection;
use super::counters::Counters;
use super::events::Events;
use crate::SfuEvent;
use crate::room::Output;

/// The way out of a worker.
pub(super) struct Outbox {
    pub(super) socket: UdpSocket,
    pub(super) connections: HashMap<ParticipantId, Connection>,
    /// Of everyone with a seat, connected or not.
    states: HashMap<ParticipantId, (IceState, MediaState)>,
    pub(super) counters: Counters,
    pub(super) events: Events,
    /// Reused for every packet, so that sending allocates nothing.
    buffer: Vec<u8>,
}

impl Outbox {
    pub(super) fn new(socket: UdpSocket, events: Events) -> Self {
        Self {
            socket,
            connections: HashMap::new(),
            states: HashMap::new(),
            counters: Counters::default(),
            events,
            buffer: Vec::with_capacity(2_048),
        }
    }

    /// Sends a datagram that needs no sealing.
    pub(super) fn send_plain(&mut self, datagram: &[u8], to: SocketAddr) {
        send(&self.socket, &mut self.counters, datagram, to);
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

    fn seal_and_send(&mut self, to: ParticipantId, index: u64, parts: [&[u8]; 3]) {
        let Some(connection) = self.connections.get_mut(&to) else {
            return;
        };
        let (Some(sealer), Some(address)) = (&mut connection.sealer, connection.address) else {
            return;
        };
        self.buffer.clear();
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        if sealer.seal_rtp(index, &mut self.buffer, 0) {
            send(&self.socket, &mut self.counters, &self.buffer, address);
        } else {
            self.counters.dropped_unsealed += 1;
        }
    }
}

impl Output for Outbox {
    fn rtp(&mut self, to: ParticipantId, index: u64, header: &[u8; 12], prefix: &[u8], payload: &[u8]) {
        self.seal_and_send(to, index, [header, prefix, payload]);
    }

    fn rtp_again(&mut self, to: ParticipantId, index: u64, packet: &[u8]) {
        self.seal_and_send(to, index, [packet, &[], &[]]);
    }

    fn rtcp(&mut self, to: ParticipantId, compound: &[u8]) {
        let Some(connection) = self.connections.get_mut(&to) else {
            return;
        };
        let (Some(sealer), Some(address)) = (&mut connection.sealer, connection.address) else {
            return;
        };
        self.buffer.clear();
        if sealer.seal_rtcp(compound, &mut self.buffer) {
            send(&self.socket, &mut self.counters, &self.buffer, address);
        } else {
            self.counters.dropped_unsealed += 1;
        }
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

fn send(socket: &UdpSocket, counters: &mut Counters, datagram: &[u8], to: SocketAddr) {
    match socket.send_to(datagram, to) {
        Ok(_) => {
            counters.datagrams_out += 1;
            counters.bytes_out += datagram.len() as u64;
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => counters.dropped_send_queue_full += 1,
        // The way there is gone (no route, refused): silence will tell.
        Err(_) => counters.dropped_unreachable += 1,
    }
}
