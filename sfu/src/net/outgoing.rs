//! Packets on their way out: one after the other in one memory, in a lane for each address, cut into messages when they
//! are sent.
//!
//! A message holds packets of one size to one address, of which only the last may be shorter: that is what the kernel
//! cuts apart again (udp(7), `UDP_SEGMENT`). Packets of one stream keep their order; those of different streams may pass each
//! other, so that a packet of sound between those of a picture does not make two messages of it.

use std::net::SocketAddr;
use std::ops::Range;

use super::name::Name;

/// Bytes that wait at most; what comes then is sent before. A key frame of 35 kB to thirty people.
const MOST_BYTES: usize = 1 << 20;
/// Bytes of a packet, with its tag, at most.
const MOST_PACKET_BYTES: usize = 2_048;
/// What sealing adds at most: the tag of GCM and the index of SRTCP (RFC 7714 sections 8.1 and 9.2).
const MOST_SEAL_BYTES: usize = 16 + 4;
/// Packets of a message: what every kernel with GSO takes.
const MOST_SEGMENTS: usize = 64;
/// Bytes of a message: what an IPv4 datagram holds, and some to spare.
const MOST_MESSAGE_BYTES: usize = 65_000;
/// Packets of a lane among which those of one message are looked for: four pictures, or a whole turn of a class.
const LOOKED_THROUGH: usize = 16;
/// Larger packets may not fit through the network in one piece, and the kernel does not cut and fragment both.
const MOST_SEGMENT_BYTES: u16 = 1_432;

/// Packets that wait to be sent together.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// In use, or kept for the memory in them.
    lanes: Vec<Packets>,
    used: usize,
    /// Counts how often the memory was emptied, so that lanes of earlier are known as such.
    round: u64,
    arranged: Vec<Packet>,
    messages: Vec<Message>,
    /// What is left of a lane while it is arranged.
    rest: Vec<Waiting>,
}

/// Where the packets to one receiver wait; kept by whoever sends to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lane {
    round: u64,
    place: usize,
}

#[derive(Debug)]
struct Packets {
    to: SocketAddr,
    packets: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    stream: u32,
    packet: Packet,
}

/// A packet by its place in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) start: u32,
    pub(super) length: u16,
}

/// Packets that go to the kernel as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) to: Name,
    /// Among the arranged packets.
    pub(super) packets: Range<usize>,
    /// Where the kernel cuts; 0 for a single packet.
    pub(super) segment_bytes: u16,
}

impl Outgoing {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(MOST_BYTES),
            lanes: Vec::new(),
            used: 0,
            round: 1,
            arranged: Vec::new(),
            messages: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Whether everything has to be sent before another packet finds room.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() + MOST_PACKET_BYTES > MOST_BYTES
    }

    /// Whether an unsealed packet of so many bytes is one that is sent at all.
    pub(crate) fn takes(length: usize) -> bool {
        length + MOST_SEAL_BYTES <= MOST_PACKET_BYTES
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The memory; a packet is appended to it, and then added with [`Self::add`] or taken back by cutting it off.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds what was appended from `start` on as a packet of a stream: one that keeps its place among those with the same
    /// number to the same receiver.
    pub(crate) fn add(&mut self, start: usize, stream: u32, lane: &mut Lane, to: SocketAddr) {
        let length = self.bytes.len() - start;
        debug_assert!(length <= MOST_PACKET_BYTES, "{length}");
        let current = lane.round == self.round && self.lanes[lane.place].to == to;
        if !current {
            *lane = Lane {
                round: self.round,
                place: self.used,
            };
            match self.lanes.get_mut(self.used) {
                Some(packets) => packets.to = to,
                None => self.lanes.push(Packets {
                    to,
                    packets: Vec::new(),
                }),
            }
            self.used += 1;
        }
        // The memory is far below 4 GiB, and a packet below 64 KiB.
        let packet = Packet {
            start: start as u32,
            length: length as u16,
        };
        self.lanes[lane.place].packets.push(Waiting { stream, packet });
    }

    /// Makes messages of everything that waits; of one packet each where the kernel does not cut those to an address.
    pub(super) fn arrange(&mut self, socket_is_ipv6: bool, cuts: impl Fn(SocketAddr) -> bool) {
        self.arranged.clear();
        self.messages.clear();
        for lane in &self.lanes[..self.used] {
            let to = Name::new(lane.to, socket_is_ipv6);
            let segments = cuts(lane.to);
            self.rest.clear();
            self.rest.extend_from_slice(&lane.packets);
            let mut from = 0;
            while let Some(first) = self.rest.get(from) {
                let segment_bytes = first.packet.length;
                let count = if segments {
                    gather(&mut self.rest[from..])
                } else {
                    1
                };
                let start = self.arranged.len();
                let message = &self.rest[from..from + count];
                self.arranged.extend(message.iter().map(|waiting| waiting.packet));
                self.messages.push(Message {
                    to,
                    packets: start..start + count,
                    segment_bytes: if count == 1 { 0 } else { segment_bytes },
                });
                from += count;
            }
        }
    }

    /// What was arranged last: the memory, the packets in order, the messages.
    pub(super) fn arranged(&self) -> (&[u8], &[Packet], &[Message]) {
        (&self.bytes, &self.arranged, &self.messages)
    }

    /// Forgets everything; the memory stays.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        for lane in &mut self.lanes[..self.used] {
            lane.packets.clear();
        }
        self.used = 0;
        self.round += 1;
    }
}

/// Brings the packets that make one message with the first one to the front, and says how many they are.
fn gather(waiting: &mut [Waiting]) -> usize {
    let segment = waiting[0].packet.length;
    if segment > MOST_SEGMENT_BYTES {
        return 1;
    }
    let most = MOST_SEGMENTS.min(MOST_MESSAGE_BYTES / usize::from(segment.max(1)));
    let mut count = 1;
    while count < most
        && waiting
            .get(count)
            .is_some_and(|next| next.packet.length == segment)
    {
        count += 1;
    }
    // Behind the first packet of another length: `count` to `place` are left for later messages.
    let mut place = count;
    let mut shorter = None;
    while count < most && place < waiting.len().min(LOOKED_THROUGH) {
        let Waiting { stream, packet } = waiting[place];
        let in_order = waiting[count..place].iter().all(|left| left.stream != stream);
        if in_order && packet.length == segment {
            waiting[count..=place].rotate_right(1);
            shorter = shorter.map(|shorter| shorter + 1);
            count += 1;
        } else if in_order && packet.length < segment && shorter.is_none() {
            shorter = Some(place);
        }
        place += 1;
    }
    // The packets of the message that come behind it in the lane are of other streams.
    if let Some(shorter) = shorter.filter(|_| count < most) {
        waiting[count..=shorter].rotate_right(1);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_packets_make_one_message_and_a_shorter_one_ends_it() {
        let mut outgoing = Outgoing::new();
        let (mut ann, mut ben) = (Lane::default(), Lane::default());
        for length in [1_000, 1_000, 300, 300, 1_000, 1_400, 1_433, 1_433] {
            push(&mut outgoing, length, &mut ann, 1);
            push(&mut outgoing, length, &mut ben, 2);
        }
        outgoing.arrange(false, |_| true);
        let lengths = [
            vec![1_000, 1_000, 300],
            vec![300],
            vec![1_000],
            vec![1_400],
            vec![1_433],
            vec![1_433],
        ];
        assert_eq!(arranged(&outgoing, 1), lengths);
        assert_eq!(arranged(&outgoing, 2), lengths);
        outgoing.arrange(false, |_| false);
        assert!(outgoing.messages.iter().all(|message| message.packets.len() == 1));
    }

    #[test]
    fn a_lane_of_an_earlier_round_or_another_address_is_not_used_again() {
        let mut outgoing = Outgoing::new();
        let (mut ann, mut ben) = (Lane::default(), Lane::default());
        push(&mut outgoing, 100, &mut ann, 1);
        outgoing.clear();
        assert!(outgoing.is_empty());
        push(&mut outgoing, 200, &mut ben, 2);
        push(&mut outgoing, 100, &mut ann, 1);
        push(&mut outgoing, 100, &mut ann, 3);
        outgoing.arrange(false, |_| true);
        assert_eq!(arranged(&outgoing, 1), [[100]]);
        assert_eq!(arranged(&outgoing, 2), [[200]]);
        assert_eq!(arranged(&outgoing, 3), [[100]], "the receiver moved");
    }

    #[test]
    fn it_is_full_before_its_memory_has_to_grow() {
        let mut outgoing = Outgoing::new();
        let capacity = outgoing.bytes.capacity();
        let mut lane = Lane::default();
        while !outgoing.is_full() {
            push(&mut outgoing, MOST_PACKET_BYTES, &mut lane, 1);
        }
        assert_eq!(outgoing.bytes.capacity(), capacity);
    }

    #[test]
    fn sound_between_the_packets_of_a_picture_does_not_cut_it_in_two() {
        let (picture, sound, other) = (1, 2, 3);
        let mut outgoing = Outgoing::new();
        let mut ann = Lane::default();
        let packets = [
            (picture, 1_008),
            (sound, 108),
            (picture, 1_008),
            (other, 800),
            (picture, 1_008),
            (sound, 108),
            (other, 1_008),
        ];
        for (stream, length) in packets {
            push_of(&mut outgoing, stream, length, &mut ann, 1);
        }
        outgoing.arrange(false, |_| true);
        let messages = [vec![1_008, 1_008, 1_008, 108], vec![800, 108], vec![1_008]];
        assert_eq!(
            arranged(&outgoing, 1),
            messages,
            "the other picture's second packet waits for its first"
        );
    }

    proptest! {
        #[test]
        fn every_message_can_be_cut_and_every_stream_keeps_its_order(
            packets in prop::collection::vec((prop::sample::select(vec![80_u16, 90, 700, 1_000, 1_433]), 0_u16..3, 0_u32..4), 0..400),
        ) {
            let mut outgoing = Outgoing::new();
            let mut lanes = [Lane::default(); 3];
            for (length, to, stream) in &packets {
                push_of(&mut outgoing, *stream, usize::from(*length), &mut lanes[usize::from(*to)], *to);
            }
            outgoing.arrange(true, |_| true);
            let (_, all, messages) = outgoing.arranged();
            prop_assert_eq!(all.len(), packets.len());
            // Where a packet begins says which one it is.
            let starts: Vec<u32> = packets
                .iter()
                .scan(0, |end, (length, ..)| {
                    let start = *end;
                    *end += u32::from(*length);
                    Some(start)
                })
                .collect();
            for to in 0..3 {
                let to_port = messages.iter().filter(|message| message.to.address() == Some(at(to)));
                let sent: Vec<u32> = to_port.flat_map(|message| &all[message.packets.clone()]).map(|packet| packet.start).collect();
                for stream in 0..4 {
                    let of = |start: &&u32| starts.binary_search(start).is_ok_and(|place| packets[place].1 == to && packets[place].2 == stream);
                    let sent: Vec<u32> = sent.iter().filter(of).copied().collect();
                    let wanted: Vec<u32> = starts.iter().filter(of).copied().collect();
                    prop_assert_eq!(sent, wanted);
                }
                for message in arranged(&outgoing, to) {
                    let total: usize = message.iter().copied().map(usize::from).sum();
                    prop_assert!(message.len() <= MOST_SEGMENTS && (total <= MOST_MESSAGE_BYTES || message.len() == 1));
                    let (last, rest) = message.split_last().expect("not empty");
                    prop_assert!(rest.iter().all(|length| *length == message[0]) && *last <= message[0]);
                }
            }
        }
    }

    fn push(outgoing: &mut Outgoing, length: usize, lane: &mut Lane, port: u16) {
        push_of(outgoing, 0, length, lane, port);
    }

    fn push_of(outgoing: &mut Outgoing, stream: u32, length: usize, lane: &mut Lane, port: u16) {
        let start = outgoing.bytes().len();
        outgoing.bytes().resize(start + length, 7);
        outgoing.add(start, stream, lane, at(port));
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// The lengths of the packets of every message to a port.
    fn arranged(outgoing: &Outgoing, port: u16) -> Vec<Vec<u16>> {
        let (_, packets, messages) = outgoing.arranged();
        let to_port = messages
            .iter()
            .filter(|message| message.to.address() == Some(at(port)));
        to_port
            .map(|message| {
                packets[message.packets.clone()]
                    .iter()
                    .map(|packet| packet.length)
                    .collect()
            })
            .collect()
    }
}
