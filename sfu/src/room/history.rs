//! The last packets of one source, kept once for all subscribers that may miss them.

use std::time::Instant;

use seodang_model::MediaKind;
use seodang_rtp::{RtpHeader, Vp8Descriptor};

/// A packet as it came.
#[derive(Debug)]
pub(super) struct Stored {
    index: u64,
    /// When it came, and was forwarded.
    pub(super) at: Instant,
    pub(super) header: RtpHeader,
    pub(super) vp8: Option<Vp8Descriptor>,
    pub(super) payload: Vec<u8>,
}

/// A ring of packets by index; also tells duplicates and packets that come too late.
#[derive(Debug)]
pub(super) struct History {
    ring: Vec<Option<Stored>>,
}

/// Largest payload that is forwarded: no path to a browser carries more in a datagram.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1500;

impl History {
    /// Two seconds of pictures at 2.5 Mbit/s, or 2.5 s of sound: at most 770 kB and 190 kB.
    pub(super) fn new(kind: MediaKind) -> Self {
        let packets = match kind {
            MediaKind::Video => 512,
            MediaKind::Audio => 128,
        };
        Self {
            ring: std::iter::repeat_with(|| None).take(packets).collect(),
        }
    }

    /// How many packets there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.ring.len()
    }

    /// Keeps a packet. `false` when it is here already or older than the ring: it must not be forwarded.
    pub(super) fn insert(
        &mut self,
        at: Instant,
        index: u64,
        header: RtpHeader,
        vp8: Option<Vp8Descriptor>,
        payload: &[u8],
    ) -> bool {
        let place = self.place(index);
        let mut memory = match self.ring[place].take() {
            Some(stored) if stored.index >= index => {
                self.ring[place] = Some(stored);
                return false;
            }
            Some(stored) => stored.payload,
            None => Vec::new(),
        };
        memory.clear();
        memory.extend_from_slice(payload);
        self.ring[place] = Some(Stored {
            index,
            at,
            header,
            vp8,
            payload: memory,
        });
        true
    }

    pub(super) fn get(&self, index: u64) -> Option<&Stored> {
        self.ring[self.place(index)]
            .as_ref()
            .filter(|stored| stored.index == index)
    }

    fn place(&self, index: u64) -> usize {
        (index % self.ring.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: RtpHeader = RtpHeader {
        marker: false,
        payload_type: 1,
        sequence_number: 1,
        timestamp: 1,
        ssrc: 1,
    };

    #[test]
    fn duplicates_and_packets_older_than_the_ring_are_refused() {
        let now = Instant::now();
        let mut history = History::new(MediaKind::Audio);
        assert!(history.insert(now, 1000, HEADER, None, b"a"));
        assert!(!history.insert(now, 1000, HEADER, None, b"b"));
        assert!(history.insert(now, 1128, HEADER, None, b"c"));
        assert!(
            !history.insert(now, 1000, HEADER, None, b"a"),
            "its place is taken by a later one"
        );
        assert!(history.get(1000).is_none());
        assert_eq!(history.get(1128).expect("kept").payload, b"c");
    }
}
