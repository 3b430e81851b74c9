//! ICE-TCP: datagrams that come over streams go through the same door.

use std::net::SocketAddr;
use std::time::Instant;

use super::Worker;
use crate::net::{Reading, split};

impl Worker {
    /// Takes what the poll said of listener and streams.
    pub(super) fn handle_stream_events(&mut self, now: Instant, events: &mio::Events) {
        let Some(streams) = &mut self.out.streams else {
            return;
        };
        for event in events {
            let (came, refused) = streams.handle_event(now, event, self.poll.registry());
            self.out.counters.streams_accepted += came;
            self.out.counters.streams_refused += refused;
        }
    }

    /// Whether streams may have more to read.
    pub(super) fn has_unread_streams(&self) -> bool {
        self.out
            .streams
            .as_ref()
            .is_some_and(|streams| streams.unread() > 0)
    }

    /// Gives each stream that has something its turn.
    pub(super) fn read_streams(&mut self, now: Instant) {
        let turns = self.out.streams.as_ref().map_or(0, |streams| streams.unread());
        for _ in 0..turns {
            let streams = self.out.streams.as_mut();
            let Some((streams, name)) = streams.and_then(|streams| {
                let name = streams.next_unread()?;
                Some((streams, name))
            }) else {
                return;
            };
            match streams.read(name) {
                Reading::Bytes(bytes) => self.handle_stream(now, name, bytes),
                Reading::Ended => self.close_stream(name),
            }
        }
    }

    fn handle_stream(&mut self, now: Instant, name: SocketAddr, mut bytes: Vec<u8>) {
        let mut start = 0;
        loop {
            match split(&mut bytes[start..]) {
                Ok(Some((datagram, end))) => {
                    self.handle_datagram(now, datagram, name);
                    start += end;
                    // On a path of its own junk is nobody's accident: whoever has proved nothing is shown out at once.
                    if !self.addresses.contains_key(&name) {
                        self.close_stream(name);
                        return;
                    }
                    if let Some(streams) = &mut self.out.streams {
                        streams.prove(name);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    self.out.counters.dropped_malformed += 1;
                    self.close_stream(name);
                    return;
                }
            }
        }
        bytes.drain(..start);
        if let Some(streams) = &mut self.out.streams {
            streams.give_back(name, bytes);
        }
    }

    /// Closes streams that are late with a proof, or with reading.
    pub(super) fn close_overdue_streams(&mut self, now: Instant) {
        let overdue = self.out.streams.as_ref().map(|streams| streams.overdue(now));
        for name in overdue.into_iter().flatten() {
            self.out.counters.streams_overdue += 1;
            self.close_stream(name);
        }
    }

    fn close_stream(&mut self, name: SocketAddr) {
        if let Some(participant) = self.addresses.remove(&name)
            && let Some(connection) = self.out.connections.get_mut(&participant)
        {
            connection.addresses.retain(|address| *address != name);
        }
        if let Some(streams) = &mut self.out.streams {
            streams.close(name);
        }
    }
}
