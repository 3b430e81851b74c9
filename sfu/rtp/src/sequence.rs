//! Sequence numbers without their wraps (RFC 3550 appendix A.1).

/// Counts the wraps of 16-bit sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct SequenceExtender {
    highest: Option<u64>,
}

/// Where a packet stands among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Belongs to the sequence: the extended number.
    At(u64),
    /// Too far away to be loss or reordering: the sender began anew; the extended number in the new count.
    Restarted(u64),
}

impl SequenceExtender {
    /// Farther ahead is a new beginning, not loss (MAX_DROPOUT of RFC 3550 appendix A.1).
    pub const MAX_AHEAD: i16 = 3000;
    /// Farther behind is a new beginning, not a late packet.
    pub const MAX_BEHIND: i16 = 3000;

    /// Extends `sequence_number`. The count starts at 65536 and more, so that packets before the first have numbers
    /// too.
    pub fn extend(&mut self, sequence_number: u16) -> Position {
        let position = self.locate(sequence_number);
        self.highest = match position {
            Position::At(index) => self.highest.max(Some(index)),
            Position::Restarted(index) => Some(index),
        };
        position
    }

    /// Where a packet stands, without counting it.
    #[must_use]
    pub fn locate(&self, sequence_number: u16) -> Position {
        let fresh = 0x1_0000 + u64::from(sequence_number);
        let Some(highest) = self.highest else {
            return Position::At(fresh);
        };
        let distance = sequence_number.wrapping_sub(highest as u16) as i16;
        if (-Self::MAX_BEHIND..=Self::MAX_AHEAD).contains(&distance) {
            Position::At(highest.saturating_add_signed(i64::from(distance)))
        } else {
            Position::Restarted(fresh)
        }
    }

    /// The highest extended number so far.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wraps_are_counted_and_late_packets_belong_before_them() {
        let mut extender = SequenceExtender::default();
        assert_eq!(extender.extend(65535), Position::At(0x1_ffff));
        assert_eq!(extender.extend(1), Position::At(0x2_0001));
        assert_eq!(extender.extend(65534), Position::At(0x1_fffe));
        assert_eq!(extender.extend(0), Position::At(0x2_0000));
        assert_eq!(extender.highest(), Some(0x2_0001));
    }

    #[test]
    fn a_big_jump_is_a_new_beginning() {
        let mut extender = SequenceExtender::default();
        extender.extend(100);
        assert_eq!(extender.extend(3100), Position::At(0x1_0000 + 3100));
        assert_eq!(extender.extend(20_000), Position::Restarted(0x1_0000 + 20_000));
        assert_eq!(extender.extend(20_001), Position::At(0x1_0000 + 20_001));
        assert_eq!(extender.extend(4), Position::Restarted(0x1_0000 + 4));
    }

    proptest! {
        #[test]
        fn small_steps_are_followed_exactly(start: u16, steps in proptest::collection::vec(-1000i64..1000, 1..500)) {
            let mut extender = SequenceExtender::default();
            let mut truth = 0x1_0000 + i64::from(start);
            let mut highest = truth;
            extender.extend(start);
            for step in steps {
                truth = highest + step;
                prop_assume!(truth >= 0);
                highest = highest.max(truth);
                prop_assert_eq!(extender.extend(truth as u16), Position::At(truth as u64));
            }
        }
    }
}
