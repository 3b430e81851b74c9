//! Puts packets back into order, waiting for a missing one no longer than a deadline.
//!
//! Time is the arrival of packets at the socket, never the time of the loop that handles them: a loop that comes late
//! must not look like loss.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::RtpPacket;
use crate::sequence::{Position, SequenceExtender};

/// How long a missing packet is waited for: longer than the requests for it take.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);
/// Packets held at most, 200 ms of 10 Mbit/s in packets of 500 bytes; when full, the oldest gap is given up.
const MAX_HELD_PACKETS: usize = 512;

/// How a packet follows the one handed out before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// Directly.
    Follows,
    /// Packets between them are lost.
    AfterLoss,
    /// The first of all, of another SSRC, or of a sender that began its count anew.
    Restarted,
}

/// A packet in its place.
#[derive(Clone, Debug)]
pub(crate) struct Ordered {
    pub(crate) packet: RtpPacket,
    pub(crate) arrival: Instant,
    pub(crate) continuity: Continuity,
}

/// The packets of one publication that wait for an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Reorder {
    ssrc: Option<u32>,
    extender: SequenceExtender,
    /// The number to be handed out next.
    next: Option<u64>,
    held: BTreeMap<u64, (RtpPacket, Instant)>,
    ready: VecDeque<Ordered>,
    newest_arrival: Option<Instant>,
}

impl Reorder {
    /// Takes a packet; late ones and duplicates are dropped.
    pub(crate) fn push(&mut self, packet: RtpPacket, arrival: Instant) {
        self.advance(arrival);
        if self.ssrc != Some(packet.ssrc) {
            self.restart();
            self.ssrc = Some(packet.ssrc);
            self.extender = SequenceExtender::default();
        }
        let index = match self.extender.extend(packet.sequence_number) {
            Position::At(index) => index,
            Position::Restarted(index) => {
                self.restart();
                index
            }
        };
        match self.next {
            None => {
                self.next = Some(index + 1);
                self.ready.push_back(Ordered {
                    packet,
                    arrival,
                    continuity: Continuity::Restarted,
                });
                return;
            }
            Some(next) if index < next => return,
            Some(_) => {
                self.held.entry(index).or_insert((packet, arrival));
            }
        }
        self.release_continuous();
        while self.held.len() > MAX_HELD_PACKETS {
            self.give_up_gap();
        }
    }

    /// Moves time on to `now` as seen by the socket.
    pub(crate) fn advance(&mut self, now: Instant) {
        let now = self.newest_arrival.map_or(now, |newest| newest.max(now));
        self.newest_arrival = Some(now);
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.give_up_gap();
        }
    }

    /// When the oldest gap is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held
            .first_key_value()
            .map(|(_, (_, arrival))| *arrival + PATIENCE)
    }

    /// The next packet in order.
    pub(crate) fn pop(&mut self) -> Option<Ordered> {
        self.ready.pop_front()
    }

    fn release_continuous(&mut self) {
        while let Some(entry) = self.held.first_entry()
            && Some(*entry.key()) == self.next
        {
            let (index, (packet, arrival)) = entry.remove_entry();
            self.next = Some(index + 1);
            self.ready.push_back(Ordered {
                packet,
                arrival,
                continuity: Continuity::Follows,
            });
        }
    }

    fn give_up_gap(&mut self) {
        if let Some((index, (packet, arrival))) = self.held.pop_first() {
            let continuity = if self.next == Some(index) {
                Continuity::Follows
            } else {
                Continuity::AfterLoss
            };
            self.next = Some(index + 1);
            self.ready.push_back(Ordered {
                packet,
                arrival,
                continuity,
            });
            self.release_continuous();
        }
    }

    /// Hands everything out that is held and waits for a first packet.
    fn restart(&mut self) {
        while !self.held.is_empty() {
            self.give_up_gap();
        }
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn packet(ssrc: u32, sequence_number: u16) -> RtpPacket {
        RtpPacket {
            marker: true,
            payload_type: 96,
            sequence_number,
            timestamp: 0,
            ssrc,
            payload: Bytes::new(),
        }
    }

    fn drain(reorder: &mut Reorder) -> Vec<(u16, Continuity)> {
        std::iter::from_fn(|| reorder.pop())
            .map(|ordered| (ordered.packet.sequence_number, ordered.continuity))
            .collect()
    }

    use Continuity::{AfterLoss, Follows, Restarted};

    #[test]
    fn reordered_packets_come_out_in_order_over_the_wrap() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        for sequence_number in [65534, 0, 65535, 65535, 1] {
            reorder.push(packet(1, sequence_number), start);
        }
        assert_eq!(
            drain(&mut reorder),
            [(65534, Restarted), (65535, Follows), (0, Follows), (1, Follows)]
        );
    }

    #[test]
    fn a_gap_is_given_up_by_arrival_time_alone() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(packet(1, 1), start);
        reorder.push(packet(1, 3), start);
        assert_eq!(reorder.deadline(), Some(start + PATIENCE));
        reorder.push(packet(1, 4), start + PATIENCE - Duration::from_millis(1));
        assert_eq!(drain(&mut reorder), [(1, Restarted)]);
        reorder.push(packet(1, 5), start + PATIENCE);
        assert_eq!(drain(&mut reorder), [(3, AfterLoss), (4, Follows), (5, Follows)]);
        reorder.push(packet(1, 2), start + PATIENCE);
        assert_eq!(drain(&mut reorder), [], "too late");
    }

    #[test]
    fn an_idle_source_is_released_by_time_alone() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(packet(1, 1), start);
        reorder.push(packet(1, 3), start);
        reorder.advance(start + PATIENCE);
        assert_eq!(drain(&mut reorder), [(1, Restarted), (3, AfterLoss)]);
    }

    #[test]
    fn another_ssrc_or_a_big_jump_begins_anew() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        for (ssrc, sequence_number) in [(1, 1), (1, 3), (2, 60000), (2, 60001), (2, 9)] {
            reorder.push(packet(ssrc, sequence_number), start);
        }
        let expected = [
            (1, Restarted),
            (3, AfterLoss),
            (60000, Restarted),
            (60001, Follows),
            (9, Restarted),
        ];
        assert_eq!(drain(&mut reorder), expected);
    }

    proptest! {
        #[test]
        fn nothing_comes_twice_or_backwards_and_memory_is_bounded(
            packets in proptest::collection::vec((0u16..3000, 0u64..50), 1..2000),
        ) {
            let mut now = Instant::now();
            let mut reorder = Reorder::default();
            let mut last = None;
            for (sequence_number, step) in packets {
                now += Duration::from_millis(step);
                reorder.push(packet(1, sequence_number), now);
                prop_assert!(reorder.held.len() <= MAX_HELD_PACKETS);
                for (sequence_number, _) in drain(&mut reorder) {
                    prop_assert!(last < Some(sequence_number));
                    last = Some(sequence_number);
                }
            }
        }

        #[test]
        fn shuffling_within_the_patience_loses_nothing(
            start: u16, delays in proptest::collection::vec(0u64..150, 1..500),
        ) {
            let origin = Instant::now();
            let mut arrivals: Vec<_> = delays
                .iter()
                .enumerate()
                .map(|(number, delay)| (number as u64 * 5 + if number == 0 { 0 } else { *delay }, number as u16))
                .collect();
            arrivals.sort_unstable();
            let mut reorder = Reorder::default();
            for (at, number) in arrivals {
                reorder.push(packet(1, start.wrapping_add(number)), origin + Duration::from_millis(at));
            }
            let numbers: Vec<_> = drain(&mut reorder).into_iter().map(|(number, _)| number).collect();
            let expected: Vec<_> = (0..delays.len()).map(|number| start.wrapping_add(number as u16)).collect();
            prop_assert_eq!(numbers, expected);
        }
    }
}
