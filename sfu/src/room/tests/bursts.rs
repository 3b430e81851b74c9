//! Key frames over a thin line that is known to be thin, with hand-set time: what is lost of the voices beside one, and when it
//! is whole.

use std::collections::BTreeSet;

use super::*;

/// One way of a datagram, without the line's own time for it.
const DELAY: Duration = Duration::from_millis(20);
/// UDP, IP and what sealing adds.
const HEADERS_BYTES: usize = 44;
/// A browser takes this long for a packet of a key frame: two and a half times what its encoder may make.
const SENDER_BPS: u64 = 1_500_000;
const PACKET_BYTES: usize = 1_100;
const FRAME: Duration = Duration::from_millis(40);
const FRAME_BYTES: usize = 600;
const VOICE: Duration = Duration::from_millis(20);
const VOICE_BYTES: usize = 80;
/// Between key frames.
const ROUND: Duration = Duration::from_millis(1_800);
const ROUNDS: usize = 10;
/// Who watches has no RTX.
const WATCHER: usize = 0;
const SENDER: usize = 1;

/// A line that drops what its queue has no room for.
#[derive(Clone, Copy, Debug)]
struct Line {
    bps: u64,
    queue: Duration,
    free_at: Instant,
}

impl Line {
    /// When a datagram arrives, unless it is dropped.
    fn carry(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let bits = (bytes + HEADERS_BYTES) as u64 * 8;
        let takes = Duration::from_micros(bits * 1_000_000 / self.bps);
        let begins = self.free_at.max(now);
        if begins + takes > now + self.queue {
            return None;
        }
        self.free_at = begins + takes;
        Some(self.free_at + DELAY)
    }
}

#[derive(Debug, Default)]
struct Outcome {
    voice_packets: usize,
    voice_dropped: usize,
    /// Not here after 200 ms, asked for or not.
    voice_missed: usize,
    whole_ms: Vec<u64>,
    longest_queue: Duration,
    resent: usize,
}

/// What the watcher has of one slot.
#[derive(Default)]
struct Received {
    highest: Option<u16>,
    missing: BTreeMap<u16, (u32, Instant)>,
}

impl Received {
    fn packet(&mut self, now: Instant, number: u16) {
        self.missing.remove(&number);
        let highest = *self.highest.get_or_insert(number);
        let ahead = number.wrapping_sub(highest);
        if ahead < 0x8000 {
            for between in 1..ahead {
                self.missing.insert(highest.wrapping_add(between), (0, now));
            }
            self.highest = Some(number);
        }
    }

    fn due(&mut self, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        self.missing.retain(|number, (asked, at)| {
            if *at <= now {
                due.push(*number);
                *asked += 1;
                *at = now + 2 * DELAY + Duration::from_millis(20);
            }
            *asked < 10
        });
        due
    }
}

/// A packet of a camera; its payload ends with the number of the frame, and place and count in it.
fn part(sequence_number: u16, frame: u32, place: usize, count: usize, bytes: usize, key: bool) -> Vec<u8> {
    let header = RtpHeader {
        marker: place + 1 == count,
        payload_type: VP8,
        sequence_number,
        timestamp: frame * 3_600,
        ssrc: ssrc(SENDER, Source::Camera),
    };
    let mut packet = header.to_bytes().to_vec();
    let [_, _, high, low] = (frame & 0x7fff).to_be_bytes();
    packet.extend_from_slice(&[
        0x80 | if place == 0 { 0x10 } else { 0 },
        0xc0,
        0x80 | high,
        low,
        frame as u8,
    ]);
    packet.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a, 64, 0, 48, 0]);
    packet.resize(bytes.max(40), 0);
    packet.extend_from_slice(&frame.to_be_bytes());
    packet.extend_from_slice(&[place as u8, count as u8, u8::from(key)]);
    packet
}

fn voice(number: usize, count: u32) -> Vec<u8> {
    let mut packet = sound_of(number, Source::Microphone, count, 30);
    packet.resize(12 + VOICE_BYTES, 0);
    packet
}

fn run(line_bps: u64, limit_bps: u64, queue_ms: u64, key_bytes: usize) -> Outcome {
    let mut class = Class::of(4, 1, 3);
    class.publish(SENDER, Source::Camera);
    for number in [2, 3] {
        class.publish(number, Source::Microphone);
    }
    class.view(WATCHER, 1, &[(0, of(SENDER, Source::Camera))]);
    let start = class.now;
    let mut line = Line {
        bps: line_bps,
        queue: Duration::from_millis(queue_ms),
        free_at: start,
    };
    let mut outcome = Outcome::default();
    // What is to come to the room, and to the watcher.
    let mut up: BTreeMap<(Instant, u64), (usize, Vec<u8>)> = BTreeMap::new();
    let mut down: BTreeMap<(Instant, u64), Vec<u8>> = BTreeMap::new();
    let mut asked: BTreeMap<(Instant, u64), Vec<u8>> = BTreeMap::new();
    let mut count = 0;
    let (mut frame, mut sequence_number, mut voices) = (0_u32, 0_u16, 0_u32);
    let (mut frame_at, mut voice_at, mut turn_at, mut round_at) = (start, start, start, start);
    let mut rounds = 0;
    let mut key_at: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut places: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
    let mut slots: [Received; 4] = Default::default();
    let mut heard: BTreeSet<(usize, u16)> = BTreeSet::new();
    let mut said: BTreeMap<(usize, u16), Instant> = BTreeMap::new();
    let end = start + ROUND * (ROUNDS as u32 + 1);
    while class.now < end {
        let next = [
            up.first_key_value().map(|((at, _), _)| *at),
            down.first_key_value().map(|((at, _), _)| *at),
            asked.first_key_value().map(|((at, _), _)| *at),
            class.room.poll_timeout(),
            Some(frame_at),
            Some(voice_at),
            Some(turn_at),
        ];
        let now = next
            .into_iter()
            .flatten()
            .min()
            .expect("frames never end")
            .max(class.now);
        class.now = now;
        if now >= round_at {
            // What the line carries stays known.
            round_at = now + ROUND;
            rounds += 1;
            let subscriber = class.room.subscribers[WATCHER].as_mut().expect("a seat");
            subscriber.downlink = super::super::downlink::Downlink::default();
            if limit_bps > 0 {
                subscriber.downlink.handle_estimate(now, limit_bps, 2 * limit_bps);
                subscriber.downlink.handle_loss(now, 0.3, 2 * limit_bps);
                assert_eq!(subscriber.downlink.thin_bps(), Some(limit_bps));
            }
        }
        if now >= frame_at {
            let key = rounds > key_at.len();
            let bytes = if key { key_bytes } else { FRAME_BYTES };
            let packets = bytes.div_ceil(PACKET_BYTES);
            let mut at = now;
            for place in 0..packets {
                let packet = part(sequence_number, frame, place, packets, bytes / packets, key);
                at += Duration::from_micros(packet.len() as u64 * 8 * 1_000_000 / SENDER_BPS);
                count += 1;
                up.insert((at, count), (SENDER, packet));
                sequence_number = sequence_number.wrapping_add(1);
            }
            if key {
                key_at.insert(frame, now);
            }
            frame += 1;
            frame_at = (now + FRAME).max(at);
        }
        if now >= voice_at {
            for number in [2, 3] {
                count += 1;
                up.insert((now, count), (number, voice(number, voices)));
            }
            voices += 1;
            voice_at = now + VOICE;
        }
        while let Some(entry) = up.first_entry().filter(|entry| entry.key().0 <= now) {
            let (from, packet) = entry.remove();
            class.send(from, &packet);
        }
        while let Some(entry) = asked.first_entry().filter(|entry| entry.key().0 <= now) {
            let packet = entry.remove();
            class.room.handle_rtcp(now, who(WATCHER), &packet, &mut class.out);
        }
        class.room.handle_timeout(now, &mut class.out);
        for given in std::mem::take(&mut class.out).rtp {
            if given.to != who(WATCHER) {
                continue;
            }
            let header = given.view().header;
            let slot = (header.ssrc - slot_ssrc(WATCHER, 0)) as usize;
            let arrives = line.carry(now, given.bytes.len());
            outcome.longest_queue = outcome
                .longest_queue
                .max(line.free_at.saturating_duration_since(now));
            outcome.resent += usize::from(given.again);
            if slot > 0 && !given.again {
                outcome.voice_packets += 1;
                outcome.voice_dropped += usize::from(arrives.is_none());
                said.insert((slot, header.sequence_number), now);
            }
            if let Some(at) = arrives {
                count += 1;
                down.insert((at, count), given.bytes);
            }
        }
        while let Some(entry) = down.first_entry().filter(|entry| entry.key().0 <= now) {
            let bytes = entry.remove();
            let view = RtpView::parse(&bytes).expect("a packet");
            let slot = (view.header.ssrc - slot_ssrc(WATCHER, 0)) as usize;
            slots[slot].packet(now, view.header.sequence_number);
            if slot > 0 {
                let key = (slot, view.header.sequence_number);
                if now - said[&key] <= Duration::from_millis(200) + DELAY {
                    heard.insert(key);
                }
                continue;
            }
            let [a, b, c, d, place, packets, _] = *view.payload.last_chunk().expect("a tail");
            let number = u32::from_be_bytes([a, b, c, d]);
            let came = places.entry(number).or_default();
            if came.insert(place)
                && came.len() == usize::from(packets)
                && let Some(asked_at) = key_at.get(&number)
            {
                outcome.whole_ms.push((now - *asked_at).as_millis() as u64);
            }
        }
        if now >= turn_at {
            turn_at = now + Duration::from_millis(5);
            for (slot, received) in slots.iter_mut().enumerate() {
                let due = received.due(now);
                if due.is_empty() {
                    continue;
                }
                let mut writer = RtcpWriter::default();
                writer.nack(1, slot_ssrc(WATCHER, slot), due.into_iter());
                count += 1;
                asked.insert((now + DELAY, count), writer.take());
            }
        }
    }
    outcome.voice_missed = said.keys().filter(|key| !heard.contains(key)).count();
    outcome
}

#[test]
fn measured() {
    for queue_ms in [50, 100, 200] {
        for key_bytes in [12_000, 20_000, 40_000] {
            let out = run(300_000, 285_000, queue_ms, key_bytes);
            println!("{queue_ms} ms {key_bytes} B: {out:?}");
        }
    }
}
