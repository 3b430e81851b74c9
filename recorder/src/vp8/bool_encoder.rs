//! The boolean entropy encoder of RFC 6386 section 7.

use bytes::Bytes;

/// Writes bits, each at a stated probability of being 0 (in 256ths).
pub(super) struct BoolEncoder {
    output: Vec<u8>,
    /// The lower end of the interval: 8 bits in work, above them `held` bits not yet written, above those a carry.
    low: u64,
    held: u32,
    /// Width of the interval, 128 to 255 between bits.
    range: u32,
}

impl BoolEncoder {
    pub(super) fn new() -> Self {
        Self {
            output: Vec::new(),
            low: 0,
            held: 0,
            range: 255,
        }
    }

    /// One bit; `probability` is that of `false`.
    pub(super) fn bit(&mut self, bit: bool, probability: u8) {
        let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
        if bit {
            self.low += u64::from(split);
            self.range -= split;
        } else {
            self.range = split;
        }
        let shift = self.range.leading_zeros() - 24;
        self.range <<= shift;
        self.low <<= shift;
        self.held += shift;
        while self.held >= 8 {
            self.put_byte();
        }
    }

    /// An unsigned number of `bits` bits, most significant first, each at even odds.
    pub(super) fn literal(&mut self, value: u32, bits: u32) {
        for place in (0..bits).rev() {
            self.bit((value >> place) & 1 == 1, 128);
        }
    }

    pub(super) fn finish(mut self) -> Bytes {
        // A decoder reads up to two bytes beyond the last bit it needs.
        (0..32).for_each(|_| self.bit(false, 128));
        self.output.into()
    }

    fn put_byte(&mut self) {
        let top = self.low >> self.held;
        self.low &= (1 << self.held) - 1;
        self.held -= 8;
        if top > 0xff {
            for byte in self.output.iter_mut().rev() {
                let (sum, carried_on) = byte.overflowing_add(1);
                *byte = sum;
                if !carried_on {
                    break;
                }
            }
        }
        self.output.push((top & 0xff) as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads as RFC 6386 section 7.3 prescribes, one bit of input at a time.
    struct Reader<'a> {
        data: &'a [u8],
        value: u32,
        range: u32,
        bits: u32,
    }

    impl<'a> Reader<'a> {
        fn new(data: &'a [u8]) -> Self {
            let mut reader = Self {
                data,
                value: 0,
                range: 255,
                bits: 0,
            };
            reader.value = (reader.byte() << 8) | reader.byte();
            reader
        }

        fn byte(&mut self) -> u32 {
            let (first, rest) = self
                .data
                .split_first()
                .map_or((0, self.data), |(byte, rest)| (*byte, rest));
            self.data = rest;
            first.into()
        }

        fn bit(&mut self, probability: u8) -> bool {
            let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
            let bit = self.value >= split << 8;
            if bit {
                self.range -= split;
                self.value -= split << 8;
            } else {
                self.range = split;
            }
            while self.range < 128 {
                self.value <<= 1;
                self.range <<= 1;
                self.bits += 1;
                if self.bits == 8 {
                    self.bits = 0;
                    self.value |= self.byte();
                }
            }
            bit
        }
    }

    proptest! {
        #[test]
        fn every_bit_reads_back(bits in proptest::collection::vec((any::<bool>(), 1_u8..=255), 0..600)) {
            let mut encoder = BoolEncoder::new();
            for (bit, probability) in &bits {
                encoder.bit(*bit, *probability);
            }
            let data = encoder.finish();
            let mut reader = Reader::new(&data);
            for (bit, probability) in bits {
                prop_assert_eq!(reader.bit(probability), bit);
            }
        }
    }
}
