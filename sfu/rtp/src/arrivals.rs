//! When packets arrived, as transport-wide feedback tells it to their sender
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::{Duration, Instant};

use crate::{Position, RtcpWriter, SequenceExtender};

/// Arrivals of one transport by their transport-wide sequence numbers. Memory is bounded: a ring of 1,024 packets.
#[derive(Clone, Debug, Default)]
pub struct TransportArrivals {
    sequence: SequenceExtender,
    /// Where the clock of the feedback begins: the first arrival.
    zero: Option<Instant>,
    /// First index that the next feedback tells of.
    next: u64,
    /// By index.
    ring: Vec<Option<(u64, Ticks)>>,
    unreported: bool,
    feedbacks: u8,
}

/// Time in units of 250 µs.
type Ticks = u64;

/// One feedback packet's worth of arrivals.
struct Feedback {
    base: u64,
    count: u16,
    reference: u64,
    symbols: Vec<u8>,
    deltas: Vec<i16>,
}

const TICK: Duration = Duration::from_micros(250);
/// The reference time counts in 64 ms.
const REFERENCE_TICKS: Ticks = 256;
/// Four times what the fastest sender sends between two feedbacks.
const RING: u64 = 1_024;
/// Keeps a feedback packet below 1,200 bytes whatever is in it.
const MOST_STATUSES: u64 = 500;
/// Symbols of section 3.1.1.
const LOST: u8 = 0;
const SMALL: u8 = 1;
const LARGE: u8 = 2;

impl TransportArrivals {
    /// Notes a packet. A repeated one and one that is more than 1,024 packets late is ignored.
    pub fn packet(&mut self, now: Instant, sequence_number: u16) {
        let first = self.sequence.highest().is_none();
        let index = match self.sequence.extend(sequence_number) {
            Position::At(index) => index,
            Position::Restarted(index) => {
                self.ring.clear();
                self.next = index;
                index
            }
        };
        if first {
            self.next = index;
        }
        self.ring.resize(RING as usize, None);
        let highest = self.sequence.highest().unwrap_or(index);
        let place = &mut self.ring[(index % RING) as usize];
        if highest - index >= RING || place.is_some_and(|(kept, _)| kept == index) {
            return;
        }
        let zero = *self.zero.get_or_insert(now);
        let ticks = now.saturating_duration_since(zero).as_micros() / TICK.as_micros();
        *place = Some((index, ticks as Ticks));
        // A late packet was told of as lost: it is told again, with those behind it.
        self.next = self.next.min(index).max((highest + 1).saturating_sub(RING));
        self.unreported = true;
    }

    /// Whether there is something to tell.
    #[must_use]
    pub fn is_unreported(&self) -> bool {
        self.unreported
    }

    /// Writes what has not been told, or the beginning of it in one packet of at most 1,200 bytes; `false` when all is told.
    /// `media_ssrc` is any SSRC of the sender.
    pub fn report(&mut self, sender_ssrc: u32, media_ssrc: u32, writer: &mut RtcpWriter) -> bool {
        self.unreported = false;
        let Some(highest) = self.sequence.highest() else {
            return false;
        };
        while self.next <= highest {
            let feedback = self.collect(highest);
            self.next = feedback.base + u64::from(feedback.count);
            if feedback.deltas.is_empty() {
                // An outage: without an arrival there is no time to tell of.
                continue;
            }
            writer.transport_feedback(sender_ssrc, media_ssrc, self.feedbacks, &feedback);
            self.feedbacks = self.feedbacks.wrapping_add(1);
            return true;
        }
        false
    }

    fn collect(&self, highest: u64) -> Feedback {
        let mut feedback = Feedback {
            base: self.next,
            count: 0,
            reference: 0,
            symbols: Vec::new(),
            deltas: Vec::new(),
        };
        let mut before: Option<Ticks> = None;
        for index in self.next..=highest.min(self.next + MOST_STATUSES - 1) {
            let arrival = self.ring[(index % RING) as usize].filter(|(kept, _)| *kept == index);
            let symbol = match arrival {
                None => LOST,
                Some((_, at)) => {
                    let reference = before.unwrap_or_else(|| {
                        feedback.reference = at / REFERENCE_TICKS;
                        feedback.reference * REFERENCE_TICKS
                    });
                    // More than 8 s apart: the next packet has a reference of its own.
                    let Ok(delta) = i16::try_from(at as i64 - reference as i64) else {
                        break;
                    };
                    before = Some(at);
                    feedback.deltas.push(delta);
                    if (0..=255).contains(&delta) { SMALL } else { LARGE }
                }
            };
            feedback.symbols.push(symbol);
        }
        feedback.count = feedback.symbols.len() as u16;
        feedback
    }
}

impl RtcpWriter {
    fn transport_feedback(&mut self, sender_ssrc: u32, media_ssrc: u32, number: u8, feedback: &Feedback) {
        self.feedback(FORMAT, sender_ssrc, media_ssrc, |bytes| {
            bytes.extend_from_slice(&(feedback.base as u16).to_be_bytes());
            bytes.extend_from_slice(&feedback.count.to_be_bytes());
            let reference = (feedback.reference as u32) << 8 | u32::from(number);
            bytes.extend_from_slice(&reference.to_be_bytes());
            let mut rest = &feedback.symbols[..];
            while !rest.is_empty() {
                let (chunk, told) = next_chunk(rest);
                bytes.extend_from_slice(&chunk.to_be_bytes());
                rest = &rest[told..];
            }
            for delta in &feedback.deltas {
                match u8::try_from(*delta) {
                    Ok(small) => bytes.push(small),
                    Err(_) => bytes.extend_from_slice(&delta.to_be_bytes()),
                }
            }
        });
    }
}

const FORMAT: u8 = 15;

/// The chunk that tells most of what follows, and of how many packets it tells: one run, 14 symbols of one bit, or 7 of
/// two.
fn next_chunk(symbols: &[u8]) -> (u16, usize) {
    const LONGEST_RUN: usize = (1 << 13) - 1;
    let first = symbols[0];
    let run = symbols
        .iter()
        .take(LONGEST_RUN)
        .take_while(|symbol| **symbol == first)
        .count();
    let next_14 = &symbols[..symbols.len().min(14)];
    let (one_bit, told) = if next_14.contains(&LARGE) {
        (false, symbols.len().min(7))
    } else {
        (true, next_14.len())
    };
    if run >= told {
        return (u16::from(first) << 13 | run as u16, run);
    }
    let bits = symbols[..told].iter().enumerate();
    let chunk = if one_bit {
        bits.fold(0x8000, |chunk, (place, symbol)| {
            chunk | u16::from(*symbol) << (13 - place)
        })
    } else {
        bits.fold(0xc000, |chunk, (place, symbol)| {
            chunk | u16::from(*symbol) << (12 - 2 * place)
        })
    };
    (chunk, told)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A feedback packet read by the letter of the draft: sequence numbers with their arrival in ticks, or `None`.
    fn decode(packet: &[u8]) -> (u8, Vec<(u16, Option<i64>)>) {
        assert_eq!((packet[0] & 0xdf, packet[1]), (0x8f, 205));
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!(usize::from(word(2)) * 4 + 4, packet.len());
        let padding = if packet[0] & 0x20 != 0 {
            usize::from(packet[packet.len() - 1])
        } else {
            0
        };
        assert!(padding < 4);
        let (base, count) = (word(12), usize::from(word(14)));
        let reference = i64::from(u32::from_be_bytes([0, packet[16], packet[17], packet[18]]));
        let mut at = 20;
        let mut symbols = Vec::new();
        while symbols.len() < count {
            let chunk = word(at);
            at += 2;
            match chunk >> 14 {
                0 | 1 => symbols.extend(std::iter::repeat_n(chunk >> 13 & 3, usize::from(chunk & 0x1fff))),
                2 => symbols.extend((0..14).map(|place| chunk >> (13 - place) & 1)),
                _ => symbols.extend((0..7).map(|place| chunk >> (12 - 2 * place) & 3)),
            }
        }
        assert!(symbols[count..].iter().all(|symbol| *symbol == 0));
        let mut time = reference * 256;
        let arrivals = symbols[..count].iter().enumerate().map(|(place, symbol)| {
            let arrival = match symbol {
                0 => None,
                1 => {
                    time += i64::from(packet[at]);
                    at += 1;
                    Some(time)
                }
                2 => {
                    time += i64::from(word(at) as i16);
                    at += 2;
                    Some(time)
                }
                _ => panic!("a reserved symbol"),
            };
            (base.wrapping_add(place as u16), arrival)
        });
        let arrivals = arrivals.collect();
        assert_eq!(at + padding, packet.len());
        (packet[19], arrivals)
    }

    fn packets(mut compound: &[u8]) -> Vec<&[u8]> {
        let mut packets = Vec::new();
        while !compound.is_empty() {
            let bytes = usize::from(u16::from_be_bytes([compound[2], compound[3]])) * 4 + 4;
            let (packet, rest) = compound.split_at(bytes);
            packets.push(packet);
            compound = rest;
        }
        packets
    }

    fn report(arrivals: &mut TransportArrivals) -> Vec<u8> {
        let mut writer = RtcpWriter::default();
        let mut bytes = 0;
        while arrivals.report(1, 0x0102_0304, &mut writer) {
            let packet_bytes = writer.as_bytes().len() - bytes;
            assert!(packet_bytes <= 1_200, "{packet_bytes} bytes fit no datagram");
            bytes += packet_bytes;
        }
        writer.take()
    }

    fn decoded(arrivals: &mut TransportArrivals) -> Vec<(u16, Option<i64>)> {
        let compound = report(arrivals);
        let read = packets(&compound).into_iter().flat_map(|packet| decode(packet).1);
        read.collect()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_feedback_has_the_bytes_of_the_draft() {
        let start = Instant::now();
        let mut arrivals = TransportArrivals::default();
        arrivals.packet(start, 65_534);
        arrivals.packet(start + ms(1), 65_535);
        arrivals.packet(start + ms(101), 1);
        assert!(arrivals.is_unreported());
        #[rustfmt::skip]
        let expected = [
            // Version 2, padding, format 15; transport feedback; 6 words follow.
            0xaf, 205, 0, 6,
            0, 0, 0, 1,
            1, 2, 3, 4,
            // From 65534, four packets.
            0xff, 0xfe, 0, 4,
            // Reference time 0, first feedback.
            0, 0, 0, 0,
            // Two-bit symbols: small, small, lost, large.
            0b1101_0100, 0b1000_0000,
            // 0, 4 and 400 ticks later; padding.
            0, 4, 0x01, 0x90, 0, 2,
        ];
        assert_eq!(report(&mut arrivals), expected);
        assert!(!arrivals.is_unreported());
        assert_eq!(report(&mut arrivals), [], "told once");

        for number in 2..30 {
            arrivals.packet(start + ms(640), number);
        }
        #[rustfmt::skip]
        let expected = [
            0xaf, 205, 0, 12,
            0, 0, 0, 1,
            1, 2, 3, 4,
            0, 2, 0, 28,
            // Reference time 10 (of 64 ms), second feedback.
            0, 0, 10, 1,
            // A run of 28 small ones.
            0b0010_0000, 28,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 2,
        ];
        assert_eq!(report(&mut arrivals), expected);
    }

    #[test]
    fn a_late_packet_is_told_of_after_all_with_those_behind_it() {
        let start = Instant::now();
        let mut arrivals = TransportArrivals::default();
        for (number, at) in [(10, 0), (12, 1)] {
            arrivals.packet(start + ms(at), number);
        }
        assert_eq!(decoded(&mut arrivals), [(10, Some(0)), (11, None), (12, Some(4))]);
        arrivals.packet(start + ms(2), 11);
        arrivals.packet(start + ms(3), 13);
        assert_eq!(
            decoded(&mut arrivals),
            [(11, Some(8)), (12, Some(4)), (13, Some(12))]
        );
        arrivals.packet(start + ms(4), 11);
        assert_eq!(decoded(&mut arrivals), [], "a repeated packet is no news");
    }

    #[test]
    fn what_follows_an_outage_is_told() {
        let start = Instant::now();
        let mut arrivals = TransportArrivals::default();
        arrivals.packet(start, 1);
        assert_eq!(decoded(&mut arrivals).len(), 1);
        arrivals.packet(start + ms(1), 802);
        let told = decoded(&mut arrivals);
        assert_eq!(told.last(), Some(&(802, Some(4))));
        assert_eq!(told.len(), 301, "what was lost last is told too");
    }

    #[test]
    fn pauses_jumps_and_floods_are_followed() {
        let start = Instant::now();
        let mut arrivals = TransportArrivals::default();
        arrivals.packet(start, 1);
        arrivals.packet(start + ms(20_000), 2);
        assert_eq!(
            decoded(&mut arrivals),
            [(1, Some(0)), (2, Some(80_000))],
            "in two packets"
        );
        arrivals.packet(start + ms(20_000), 30_000);
        assert_eq!(decoded(&mut arrivals), [(30_000, Some(80_000))], "a count anew");
        for number in 30_001..32_500 {
            arrivals.packet(start + ms(20_001), number);
        }
        let compound = report(&mut arrivals);
        assert!(packets(&compound).iter().all(|packet| packet.len() <= 1_200));
        let told: usize = packets(&compound)
            .iter()
            .map(|packet| decode(packet).1.len())
            .sum();
        assert_eq!(told, RING as usize);
        assert_eq!(arrivals.ring.len(), RING as usize);
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_came(
            steps in prop::collection::vec((1_u16..40, 0_u16..60, 0_u64..300_000, 0_u8..8), 1..300), start: u16,
        ) {
            let zero = Instant::now();
            let mut arrivals = TransportArrivals::default();
            let (mut highest, mut micros) = (u64::from(start) + 0x1_0000, 0);
            let mut truth = BTreeMap::new();
            let mut told: BTreeMap<u64, Option<i64>> = BTreeMap::new();
            let mut number = 0_u8;
            let mut first = None;
            for (ahead, back, pause, rare) in steps {
                // Mostly one after the other.
                highest += if rare == 0 { u64::from(ahead) } else { 1 };
                micros += if rare == 1 { pause * 100 } else { pause / 100 };
                let index = if rare == 2 { highest - u64::from(back) } else { highest };
                let first = *first.get_or_insert(index);
                if index >= first {
                    arrivals.packet(zero + Duration::from_micros(micros), index as u16);
                    truth.entry(index).or_insert((micros / 250) as i64);
                }
                if rare != 3 {
                    continue;
                }
                let compound = report(&mut arrivals);
                for packet in packets(&compound) {
                    let (count, read) = decode(packet);
                    prop_assert_eq!(count, number);
                    number = number.wrapping_add(1);
                    for (sequence_number, at) in read {
                        let index = highest - u64::from((highest as u16).wrapping_sub(sequence_number));
                        told.insert(index, at);
                    }
                }
                let zero_at = truth.get(&first).copied().unwrap_or_default();
                let highest_came = truth.keys().next_back().copied().unwrap_or_default();
                for index in first..=highest_came {
                    let came = truth.get(&index).map(|at| at - zero_at);
                    let off = came.zip(told[&index]).map(|(came, told)| (came - told).abs());
                    prop_assert_eq!(came.is_some(), told[&index].is_some(), "{}", index);
                    prop_assert!(off.is_none_or(|off| off <= 1), "{:?} {:?}", came, told[&index]);
                }
            }
        }

        #[test]
        fn arbitrary_numbers_never_panic(numbers in prop::collection::vec((any::<u16>(), 0_u64..100_000), 0..300)) {
            let mut now = Instant::now();
            let mut arrivals = TransportArrivals::default();
            for (number, ms) in numbers {
                now += Duration::from_millis(ms);
                arrivals.packet(now, number);
                if ms % 7 == 0 {
                    let compound = report(&mut arrivals);
                    packets(&compound).into_iter().for_each(|packet| drop(decode(packet)));
                }
            }
        }
    }
}
