//! The way of one connection in one direction: what is lost on it, how long it takes, what is sent again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

/// What a way does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Share that vanishes, 0 to 1.
    pub(crate) loss: f64,
    /// How long each takes.
    pub(crate) delay: Duration,
}

impl Faults {
    /// It does nothing to them.
    pub(crate) fn is_none(&self) -> bool {
        self.loss <= 0.0 && self.delay.is_zero()
    }
}

/// Counts of one direction since its faults began.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct WireCounts {
    /// Datagrams of media that were sent, lost or not.
    pub(crate) media: u64,
    /// Of these, those that vanished.
    pub(crate) media_lost: u64,
    /// Of these, those that were sent before, or carry what was.
    pub(crate) resends: u64,
}

impl WireCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.media += other.media;
        self.media_lost += other.media_lost;
        self.resends += other.resends;
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Wire {
    faults: Faults,
    chance: StdRng,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// Sequence numbers seen, by SSRC.
    seen: HashMap<u32, Box<Seen>>,
    resend_payload_types: Vec<u8>,
    pub(crate) counts: WireCounts,
}

/// Which of the last sequence numbers were seen.
#[derive(Debug)]
struct Seen {
    newest: u16,
    bits: [u64; 1_024],
}

impl Wire {
    /// A way that loses the same datagrams for the same seed; payload types that only resends have are named.
    pub(crate) fn new(seed: u64, faults: Faults, resend_payload_types: Vec<u8>) -> Self {
        Self {
            faults,
            chance: StdRng::seed_from_u64(seed),
            under_way: VecDeque::new(),
            seen: HashMap::new(),
            resend_payload_types,
            counts: WireCounts::default(),
        }
    }

    /// Whether a datagram arrives at once; else it is lost or comes out of [`Self::arrived`] later. With `faulty` the
    /// faults are in effect.
    pub(crate) fn pass(&mut self, now: Instant, datagram: &[u8], faulty: bool) -> bool {
        if !faulty {
            return true;
        }
        let media = rtp_head(datagram);
        if let Some((payload_type, ssrc, sequence)) = media {
            self.counts.media += 1;
            let again = self.resend_payload_types.contains(&payload_type) || self.is_repeated(ssrc, sequence);
            self.counts.resends += u64::from(again);
        }
        if self.faults.loss > 0.0 && self.chance.random_bool(self.faults.loss) {
            self.counts.media_lost += u64::from(media.is_some());
            return false;
        }
        if self.faults.delay.is_zero() {
            return true;
        }
        self.under_way
            .push_back((now + self.faults.delay, datagram.to_vec()));
        false
    }

    /// A datagram whose time has come.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.under_way
            .pop_front_if(|(due, _)| *due <= now)
            .map(|(_, datagram)| datagram)
    }

    /// When the next one comes.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    fn is_repeated(&mut self, ssrc: u32, sequence: u16) -> bool {
        let seen = self.seen.entry(ssrc).or_insert_with(|| {
            Box::new(Seen {
                newest: sequence.wrapping_sub(1),
                bits: [0; 1_024],
            })
        });
        let ahead = sequence.wrapping_sub(seen.newest);
        if ahead < 0x8000 {
            for step in 1..=ahead {
                let number = usize::from(seen.newest.wrapping_add(step));
                seen.bits[number / 64] &= !(1 << (number % 64));
            }
            seen.newest = sequence;
        }
        let (word, bit) = (usize::from(sequence) / 64, 1 << (sequence % 64));
        let repeated = seen.bits[word] & bit != 0;
        seen.bits[word] |= bit;
        repeated
    }
}

/// Whether a datagram is a packet of media and not RTCP, STUN or DTLS (RFC 7983, RFC 5761 section 4).
pub(crate) fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..192, second, ..] if !(192..224).contains(second))
}

/// Payload type, SSRC and sequence number of an RTP packet, which are in the clear; `None` for anything else.
fn rtp_head(datagram: &[u8]) -> Option<(u8, u32, u16)> {
    let header: &[u8; 12] = datagram.first_chunk()?;
    is_rtp(datagram).then(|| {
        (
            header[1] & 0x7f,
            u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            u16::from_be_bytes([header[2], header[3]]),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload_type: u8, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(9_u32.to_be_bytes());
        packet
    }

    #[test]
    fn resends_are_told_by_number_or_payload_type() {
        let mut wire = Wire::new(1, Faults::default(), vec![97]);
        let now = Instant::now();
        for sequence in [65_534, 65_535, 1, 0, 65_535] {
            assert!(wire.pass(now, &packet(96, sequence), true));
        }
        wire.pass(now, &packet(97, 5), true);
        wire.pass(now, &[0; 20], true);
        assert_eq!((wire.counts.media, wire.counts.resends), (6, 2));
    }

    #[test]
    fn the_same_seed_loses_the_same_share() {
        let faults = Faults {
            loss: 0.1,
            delay: Duration::ZERO,
        };
        let lost = |seed| -> Vec<bool> {
            let mut wire = Wire::new(seed, faults, Vec::new());
            (0..2_000)
                .map(|sequence| wire.pass(Instant::now(), &packet(96, sequence), true))
                .collect()
        };
        assert_eq!(lost(4), lost(4));
        assert_ne!(lost(4), lost(5));
        let arrived = lost(4).iter().filter(|arrived| **arrived).count();
        assert!((1_740..1_860).contains(&arrived), "{arrived}");
    }

    #[test]
    fn a_delayed_datagram_comes_when_its_time_has_come() {
        let delay = Duration::from_millis(20);
        let mut wire = Wire::new(1, Faults { loss: 0.0, delay }, Vec::new());
        let now = Instant::now();
        assert!(!wire.pass(now, &packet(96, 1), true));
        assert_eq!(wire.next_at(), Some(now + delay));
        assert_eq!(wire.arrived(now), None);
        assert_eq!(wire.arrived(now + delay), Some(packet(96, 1)));
    }
}
