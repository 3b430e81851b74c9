//! The door: what a datagram must prove before it costs anything, cheapest test first.

use std::net::SocketAddr;
use std::time::Instant;

use seodang_model::ParticipantId;
use seodang_model::protocol::IceState;

use super::Worker;
use crate::transport::dtls::DtlsError;
use crate::transport::ice::{claimed_ufrag, handle_request};
use crate::transport::srtp::{MasterKeys, Opener, Profile, Sealer};

/// Shortest datagram that can be anything: an RTCP header.
const LEAST_BYTES: usize = 8;

impl Worker {
    /// Takes a datagram: STUN, DTLS, RTP or RTCP by its first byte (RFC 7983, RFC 5761 section 4).
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], from: SocketAddr) {
        self.out.counters.datagrams_in += 1;
        self.out.counters.bytes_in += datagram.len() as u64;
        if datagram.len() < LEAST_BYTES {
            self.out.counters.dropped_malformed += 1;
            return;
        }
        if datagram[0] < 4 {
            self.handle_stun(now, datagram, from);
            return;
        }
        let Some(participant) = self.addresses.get(&from).copied() else {
            self.out.counters.dropped_unknown_address += 1;
            return;
        };
        match datagram[0] {
            20..=63 => self.contained(now, participant, |worker| {
                worker.handle_dtls(now, participant, datagram)
            }),
            128..=191 => self.contained(now, participant, |worker| {
                worker.handle_media(now, participant, datagram)
            }),
            _ => self.out.counters.dropped_malformed += 1,
        }
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8], from: SocketAddr) {
        let named = claimed_ufrag(datagram).and_then(|ufrag| Some((ufrag, *self.ufrags.get(ufrag)?)));
        let Some((ufrag, participant)) = named else {
            self.out.counters.dropped_unknown_ufrag += 1;
            return;
        };
        self.contained(now, participant, |worker| {
            worker.handle_check(now, participant, ufrag, datagram, from)
        });
    }

    fn handle_check(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        ufrag: &str,
        datagram: &[u8],
        from: SocketAddr,
    ) {
        let Some(connection) = self.out.connections.get_mut(&participant) else {
            return;
        };
        let Some(exchange) = connection.ice.of(ufrag) else {
            return;
        };
        let crypto = self.provider.crypto();
        // A stream's name means something here alone.
        let streams = self.out.streams.as_ref();
        let seen = streams.and_then(|streams| streams.peer(from)).unwrap_or(from);
        let check = match handle_request(datagram, exchange, seen, crypto) {
            Ok(check) => check,
            Err(error) => {
                self.out.counters.count_stun(error);
                return;
            }
        };
        connection.heard = now;
        if check.nominated
            && let Some(forgotten) = connection.ice.nominated(ufrag)
        {
            self.ufrags.remove(&forgotten);
        }
        if check.usable {
            let forgotten = connection.learn(from, check.nominated);
            self.addresses.insert(from, participant);
            if let Some(forgotten) = forgotten {
                self.forget_address(forgotten, participant);
            }
        }
        self.out.send_plain(&check.answer, from);
        if check.usable {
            self.out.set_ice(participant, IceState::Connected);
        }
    }

    fn handle_dtls(&mut self, now: Instant, participant: ParticipantId, datagram: &[u8]) {
        let Some(connection) = self.out.connections.get_mut(&participant) else {
            return;
        };
        let outcome = connection.dtls.handle(now, datagram);
        self.handshakes_changed = true;
        self.send_dtls(participant);
        match outcome {
            Ok(None) => {}
            Ok(Some(keys)) => self.take_keys(now, participant, &keys),
            Err(error) => self.end_dtls(now, participant, error),
        }
    }

    pub(super) fn handle_dtls_timeout(&mut self, now: Instant, participant: ParticipantId) {
        let Some(connection) = self.out.connections.get_mut(&participant) else {
            return;
        };
        let outcome = connection.dtls.handle_timeout(now);
        self.send_dtls(participant);
        if let Err(error) = outcome {
            self.end_dtls(now, participant, error);
        }
    }

    fn send_dtls(&mut self, participant: ParticipantId) {
        loop {
            let Some(connection) = self.out.connections.get_mut(&participant) else {
                return;
            };
            let (Some(address), Some(datagram)) = (connection.address, connection.dtls.poll_transmit())
            else {
                return;
            };
            self.out.send_plain(&datagram, address);
        }
    }

    fn take_keys(&mut self, now: Instant, participant: ParticipantId, keys: &MasterKeys) {
        let Some(connection) = self.out.connections.get_mut(&participant) else {
            return;
        };
        let crypto = self.provider.crypto();
        // We are the DTLS server: ours are the server's keys (RFC 5764 section 4.2).
        let sealer = Sealer::new(keys.profile, &keys.server, crypto);
        let opener = Opener::new(keys.profile, &keys.client, crypto);
        if sealer.is_none() || opener.is_none() {
            self.out.counters.handshakes_failed += 1;
            self.disconnect(now, participant, Some("keys are not usable"));
            return;
        }
        (connection.sealer, connection.opener) = (sealer, opener);
        self.out.counters.handshakes_done += 1;
        self.out.counters.handshakes_gcm += u64::from(keys.profile == Profile::Gcm);
        self.with_room(participant, |room, out| room.ready(now, participant, out));
    }

    fn end_dtls(&mut self, now: Instant, participant: ParticipantId, error: DtlsError) {
        let reason = match error {
            DtlsError::Failed => {
                self.out.counters.handshakes_failed += 1;
                "the encryption could not be agreed on"
            }
            DtlsError::Fingerprint => {
                self.out.counters.fingerprint_mismatches += 1;
                "the certificate is not the announced one"
            }
            DtlsError::Closed => "the other end closed the connection",
        };
        self.disconnect(now, participant, Some(reason));
    }

    fn handle_media(&mut self, now: Instant, participant: ParticipantId, datagram: &mut [u8]) {
        let Some(connection) = self.out.connections.get_mut(&participant) else {
            return;
        };
        let Some(opener) = &mut connection.opener else {
            self.out.counters.dropped_before_keys += 1;
            return;
        };
        // RFC 5761 section 4: payload types 64 to 95 of the second byte are RTCP.
        let is_rtcp = (192..=223).contains(&datagram[1]);
        let opened = if is_rtcp {
            opener.open_rtcp(datagram)
        } else {
            match rtp_header_bytes(datagram) {
                Some(header_bytes) => opener.open_rtp(datagram, header_bytes),
                None => {
                    self.out.counters.dropped_malformed += 1;
                    return;
                }
            }
        };
        let length = match opened {
            Ok(length) => length,
            Err(error) => {
                self.out.counters.count_srtp(error);
                return;
            }
        };
        connection.heard = now;
        let Some(room) = self.rooms.get_mut(&connection.lesson) else {
            return;
        };
        let packet = &datagram[..length];
        if is_rtcp {
            room.handle_rtcp(now, participant, packet, &mut self.out);
        } else {
            room.handle_rtp(now, participant, packet, &mut self.out);
        }
    }
}

/// Bytes of an RTP header with its contributing sources and extension (RFC 3550 section 5.1, 5.3.1), all of which SRTP
/// leaves in the clear.
fn rtp_header_bytes(packet: &[u8]) -> Option<usize> {
    let fixed = 12 + 4 * usize::from(packet.first()? & 0x0f);
    if packet[0] & 0x10 == 0 {
        return (packet.len() >= fixed).then_some(fixed);
    }
    let words = packet.get(fixed + 2..fixed + 4)?;
    let header = fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    (packet.len() >= header).then_some(header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_ends_behind_sources_and_extension() {
        let mut packet = [0; 40];
        packet[0] = 0x80;
        assert_eq!(rtp_header_bytes(&packet), Some(12));
        packet[0] = 0x91;
        packet[19] = 2;
        assert_eq!(rtp_header_bytes(&packet), Some(28));
        packet[19] = 200;
        assert_eq!(rtp_header_bytes(&packet), None);
    }

    proptest! {
        #[test]
        fn no_header_reaches_beyond_its_packet(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(bytes) = rtp_header_bytes(&packet) {
                prop_assert!(bytes <= packet.len());
            }
        }
    }
}
