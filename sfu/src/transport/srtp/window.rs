//! Replay windows: one for each SSRC that proved authentic, and the guess of a packet's index from its 16 bits.

use super::SrtpError;

/// SSRCs a connection may have: four sources, their repair, and as many again after a sender began anew.
const MOST_SSRCS: usize = 16;
/// Packets a late one may lag behind the newest: repaired packets come up to a second late.
const WINDOW_PACKETS: u64 = 1_024;
const WORDS: usize = (WINDOW_PACKETS / 64) as usize;

/// The windows of one direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    ssrc: u32,
    newest: u64,
    /// Bit `index % WINDOW_PACKETS` of the packets up to `newest`.
    seen: [u64; WORDS],
}

impl Windows {
    /// The 48-bit index that a sequence number most likely stands for (RFC 3711 appendix A).
    pub(super) fn guess(&self, ssrc: u32, sequence_number: u16) -> u64 {
        let Some(window) = self.window(ssrc) else {
            return u64::from(sequence_number);
        };
        let (rollover, newest) = (window.newest >> 16, window.newest as u16);
        let rollover = if newest < 1 << 15 {
            if i32::from(sequence_number) - i32::from(newest) > 1 << 15 {
                rollover.wrapping_sub(1)
            } else {
                rollover
            }
        } else if i32::from(newest) - (1 << 15) > i32::from(sequence_number) {
            rollover + 1
        } else {
            rollover
        };
        // Before the first packet there is no earlier round; the check of authenticity settles it.
        let rollover = if rollover > u64::from(u32::MAX) {
            0
        } else {
            rollover
        };
        rollover << 16 | u64::from(sequence_number)
    }

    /// Whether a packet of this index may be looked at.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), SrtpError> {
        let Some(window) = self.window(ssrc) else {
            return self.admits(ssrc);
        };
        let old = window.newest.checked_sub(index);
        match old {
            None => Ok(()),
            Some(lag) if lag >= WINDOW_PACKETS || window.has(index) => Err(SrtpError::Replayed),
            Some(_) => Ok(()),
        }
    }

    /// Whether a packet of this SSRC proved authentic before.
    pub(super) fn knows(&self, ssrc: u32) -> bool {
        self.window(ssrc).is_some()
    }

    /// Whether a packet of this SSRC may be looked at.
    pub(super) fn admits(&self, ssrc: u32) -> Result<(), SrtpError> {
        if self.0.len() < MOST_SSRCS || self.window(ssrc).is_some() {
            Ok(())
        } else {
            Err(SrtpError::TooManySources)
        }
    }

    /// A packet of this index proved authentic.
    pub(super) fn accept(&mut self, ssrc: u32, index: u64) {
        let Some(window) = self.0.iter_mut().find(|window| window.ssrc == ssrc) else {
            let mut window = Window {
                ssrc,
                newest: index,
                seen: [0; WORDS],
            };
            window.set(index, true);
            self.0.push(window);
            return;
        };
        if index > window.newest {
            if index - window.newest >= WINDOW_PACKETS {
                window.seen = [0; WORDS];
            } else {
                for between in window.newest + 1..index {
                    window.set(between, false);
                }
            }
            window.newest = index;
        }
        window.set(index, true);
    }

    fn window(&self, ssrc: u32) -> Option<&Window> {
        self.0.iter().find(|window| window.ssrc == ssrc)
    }
}

impl Window {
    fn has(&self, index: u64) -> bool {
        let bit = index % WINDOW_PACKETS;
        self.seen[(bit / 64) as usize] & 1 << (bit % 64) != 0
    }

    fn set(&mut self, index: u64, seen: bool) {
        let bit = index % WINDOW_PACKETS;
        let word = &mut self.seen[(bit / 64) as usize];
        if seen {
            *word |= 1 << (bit % 64)
        } else {
            *word &= !(1 << (bit % 64))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_packet_is_taken_once_also_late_and_over_the_wrap() {
        let mut windows = Windows::default();
        let order = [65_534_u64, 65_536, 65_535, 65_540, 65_537, 65_539, 65_538];
        for index in order {
            assert_eq!(windows.guess(1, index as u16), index);
            assert_eq!(windows.check(1, index), Ok(()));
            windows.accept(1, index);
        }
        for index in order {
            assert_eq!(windows.check(1, index), Err(SrtpError::Replayed));
        }
        windows.accept(1, 70_000);
        assert_eq!(
            windows.check(1, 70_000 - WINDOW_PACKETS),
            Err(SrtpError::Replayed),
            "too old to tell"
        );
    }

    #[test]
    fn a_connection_has_a_bounded_number_of_sources() {
        let mut windows = Windows::default();
        for ssrc in 0..MOST_SSRCS as u32 {
            windows.accept(ssrc, 1);
        }
        assert_eq!(windows.check(99, 1), Err(SrtpError::TooManySources));
        assert_eq!(windows.check(3, 2), Ok(()));
    }

    proptest! {
        #[test]
        fn no_index_is_accepted_twice(steps in prop::collection::vec(0_u64..3_000, 1..400)) {
            let mut windows = Windows::default();
            let mut taken = std::collections::BTreeSet::new();
            let mut base = 60_000_u64;
            for step in steps {
                let index = base + step;
                base += 40;
                if windows.check(7, index).is_ok() {
                    prop_assert!(taken.insert(index));
                    windows.accept(7, index);
                }
            }
        }
    }
}
