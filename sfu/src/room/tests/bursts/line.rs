//! A thin line with a short queue, played: what is lost of two voices beside key frames, and when these are whole.

use std::collections::BTreeSet;

use super::*;

/// One way of a datagram, without the line's own time for it.
const DELAY: Duration = Duration::from_millis(20);
/// What the line carries, and what the server knows of it.
const LINE_BPS: u64 = 300_000;
const KNOWN_BPS: u64 = 285_000;
/// UDP, IP and what sealing adds.
const HEADERS_BYTES: usize = 44;
/// A browser sends a key frame two and a half times as fast as its encoder may make frames.
const SENDER_BPS: u64 = 1_500_000;
const FRAME: Duration = Duration::from_millis(40);
const FRAME_BYTES: usize = 600;
const VOICE: Duration = Duration::from_millis(20);
const VOICE_BYTES: usize = 80;
const VOICES: [usize; 2] = [2, 3];
/// Between key frames, in frames.
const ROUND: u32 = 50;
const ROUNDS: u32 = 10;
/// Voices that are not here by then are not heard.
const HEARD_WITHIN: Duration = Duration::from_millis(200);

/// A line that drops what its queue has no room for.
struct Line {
    queue: Duration,
    free_at: Instant,
}

impl Line {
    /// When a datagram arrives, unless it is dropped.
    fn carry(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let bits = (bytes + HEADERS_BYTES) as u64 * 8;
        let free_at = self.free_at.max(now) + Duration::from_micros(bits * 1_000_000 / LINE_BPS);
        if free_at > now + self.queue {
            return None;
        }
        self.free_at = free_at;
        Some(free_at + DELAY)
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    voices: usize,
    /// By the queue.
    voices_dropped: usize,
    voices_not_heard: usize,
    pictures_dropped: usize,
    /// From the sender's encoder to the watcher, of each key frame that came.
    whole_ms: Vec<u64>,
}

/// What the watcher has of one slot; asks for what is missing up to ten times, as browsers do.
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
            let between = (1..ahead).map(|ahead| (highest.wrapping_add(ahead), (0, now)));
            self.missing.extend(between);
            self.highest = Some(number);
        }
    }

    fn due(&mut self, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        self.missing.retain(|number, (asked, at)| {
            if *at <= now {
                due.push(*number);
                *asked += 1;
                *at = now + 3 * DELAY;
            }
            *asked < 10
        });
        due
    }
}

/// Something on its way.
enum Packet {
    Up(usize, Vec<u8>),
    Asked(Vec<u8>),
    Down(Vec<u8>),
}

struct Play {
    class: Class,
    line: Line,
    under_way: BTreeMap<(Instant, u64), Packet>,
    count: u64,
    slots: [Received; 4],
    key_at: BTreeMap<u32, Instant>,
    places: BTreeMap<u32, BTreeSet<u8>>,
    /// When they were first sent, until they are heard.
    said: BTreeMap<(usize, u16), Instant>,
    outcome: Outcome,
}

impl Play {
    fn put(&mut self, at: Instant, packet: Packet) {
        self.count += 1;
        self.under_way.insert((at, self.count), packet);
    }

    /// Plays what is under way, and what the room has to do, until `until`.
    fn go(&mut self, until: Instant) {
        loop {
            let first = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let next = [first, self.class.room.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(now) = next.filter(|at| *at < until) else {
                self.class.now = until;
                return;
            };
            self.class.now = self.class.now.max(now);
            let now = self.class.now;
            if first.is_some_and(|at| at <= now)
                && let Some((_, packet)) = self.under_way.pop_first()
            {
                match packet {
                    Packet::Up(from, bytes) => self.class.send(from, &bytes),
                    Packet::Asked(bytes) => {
                        let class = &mut self.class;
                        class.room.handle_rtcp(now, who(WATCHER), &bytes, &mut class.out);
                    }
                    Packet::Down(bytes) => self.arrive(now, &bytes),
                }
            }
            self.class.room.handle_timeout(now, &mut self.class.out);
            for given in std::mem::take(&mut self.class.out).rtp {
                if given.to == who(WATCHER) {
                    self.carry(now, given);
                }
            }
        }
    }

    fn carry(&mut self, now: Instant, given: Given) {
        let header = given.view().header;
        let slot = (header.ssrc - slot_ssrc(WATCHER, 0)) as usize;
        let arrives = self.line.carry(now, given.bytes.len());
        let dropped = usize::from(arrives.is_none());
        if slot == 0 {
            self.outcome.pictures_dropped += dropped;
        } else if !given.again {
            self.outcome.voices += 1;
            self.outcome.voices_dropped += dropped;
            self.said.insert((slot, header.sequence_number), now);
        }
        if let Some(at) = arrives {
            self.put(at, Packet::Down(given.bytes));
        }
    }

    fn arrive(&mut self, now: Instant, bytes: &[u8]) {
        let header = RtpView::parse(bytes).expect("a packet").header;
        let slot = (header.ssrc - slot_ssrc(WATCHER, 0)) as usize;
        self.slots[slot].packet(now, header.sequence_number);
        if slot > 0 {
            let key = (slot, header.sequence_number);
            if self.said.get(&key).is_some_and(|at| now - *at <= HEARD_WITHIN) {
                self.said.remove(&key);
            }
            return;
        }
        let (frame, place, count) = tail(bytes);
        let came = self.places.entry(frame).or_default();
        if came.insert(place)
            && came.len() == usize::from(count)
            && let Some(at) = self.key_at.get(&frame)
        {
            self.outcome.whole_ms.push((now - *at).as_millis() as u64);
        }
    }

    fn ask(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            let due = self.slots[slot].due(now);
            if !due.is_empty() {
                let mut writer = RtcpWriter::default();
                writer.nack(1, slot_ssrc(WATCHER, slot), due.into_iter());
                self.put(now + DELAY, Packet::Asked(writer.take()));
            }
        }
    }
}

/// A camera with a key frame of `key_bytes` every two seconds and two voices, over a line with such a queue.
fn play(queue: Duration, key_bytes: usize, known: bool) -> Outcome {
    let mut class = Class::of(4, 1, 3);
    class.publish(SENDER, Source::Camera);
    VOICES
        .iter()
        .for_each(|number| class.publish(*number, Source::Microphone));
    class.view(WATCHER, 1, &[(0, of(SENDER, Source::Camera))]);
    class.thin(WATCHER, known.then_some(KNOWN_BPS));
    let free_at = class.now;
    let mut play = Play {
        class,
        line: Line { queue, free_at },
        under_way: BTreeMap::new(),
        count: 0,
        slots: Default::default(),
        key_at: BTreeMap::new(),
        places: BTreeMap::new(),
        said: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    let (mut sequence_number, mut voices, mut sent_at) = (0, 0, play.class.now);
    for frame in 0..ROUND * ROUNDS {
        let now = play.class.now;
        let key = frame.is_multiple_of(ROUND);
        if key {
            play.key_at.insert(frame, now);
        }
        let bytes = if key { key_bytes } else { FRAME_BYTES };
        let packets = bytes.div_ceil(PACKET_BYTES);
        sent_at = sent_at.max(now);
        for place in 0..packets {
            let packet = part(
                SENDER,
                sequence_number,
                frame,
                (place, packets),
                (bytes / packets, key),
            );
            sent_at += Duration::from_micros(packet.len() as u64 * 8 * 1_000_000 / SENDER_BPS);
            play.put(sent_at, Packet::Up(SENDER, packet));
            sequence_number = sequence_number.wrapping_add(1);
        }
        for half in 0..2 {
            for number in VOICES {
                let mut packet = sound_of(number, Source::Microphone, voices, 30);
                packet.resize(RtpHeader::SIZE + VOICE_BYTES, 0);
                play.put(now + half * VOICE, Packet::Up(number, packet));
            }
            voices += 1;
        }
        for step in 1..=8 {
            play.go(now + FRAME * step / 8);
            play.ask(play.class.now);
        }
    }
    // What was said last is still under way.
    let heard_by_now = play.class.now - HEARD_WITHIN;
    play.outcome.voices_not_heard = play.said.values().filter(|at| **at < heard_by_now).count();
    play.outcome
}

#[test]
fn key_frames_come_whole_over_a_line_known_to_be_thin_and_no_voice_is_lost() {
    for queue_ms in [50, 100, 200] {
        // A packet of pictures takes 50 ms beside two voices.
        for (key_bytes, within_ms) in [(12_000, 600), (20_000, 1_000), (30_000, 1_500)] {
            let queue = Duration::from_millis(queue_ms);
            let unknown = play(queue, key_bytes, false);
            let known = play(queue, key_bytes, true);
            println!("{queue_ms} ms, {key_bytes} B: {unknown:?} {known:?}");
            assert!(unknown.pictures_dropped > 0, "the line is not thin: {unknown:?}");
            assert_eq!(known.voices, unknown.voices);
            assert_eq!(
                (known.voices_dropped, known.voices_not_heard),
                (0, 0),
                "{known:?}"
            );
            assert_eq!(known.pictures_dropped, 0);
            assert_eq!(known.whole_ms.len(), ROUNDS as usize);
            assert!(known.whole_ms.iter().all(|ms| *ms < within_ms), "{known:?}");
        }
    }
}

#[test]
fn a_key_frame_that_the_line_needs_seconds_for_comes_whole_as_well() {
    let outcome = play(Duration::from_millis(100), 60_000, true);
    assert!(outcome.whole_ms.len() >= 5, "{outcome:?}");
    assert!(outcome.voices_dropped * 500 < outcome.voices, "{outcome:?}");
}
