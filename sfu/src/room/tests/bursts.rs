//! Key frames over a line that is known to be thin: voices go first, and key frames come whole.

mod line;

use super::*;

/// Who watches; slots 0 and 1 are for pictures.
const WATCHER: usize = 0;
const SENDER: usize = 1;
const OTHER: usize = 2;
/// A packet of a key frame takes 45 ms of it.
const THIN: Option<u64> = Some(200_000);
const PACKET_BYTES: usize = 1_100;

/// A packet of `number`'s camera, `bytes` of payload: part `place` of `count` of a frame. Its payload ends with the frame's number,
/// place and count.
fn part(
    number: usize,
    sequence_number: u16,
    frame: u32,
    (place, count): (usize, usize),
    (bytes, key): (usize, bool),
) -> Vec<u8> {
    let header = RtpHeader {
        marker: place + 1 == count,
        payload_type: VP8,
        sequence_number,
        timestamp: frame * 3_600,
        ssrc: ssrc(number, Source::Camera),
    };
    let mut packet = header.to_bytes().to_vec();
    let [_, _, high, low] = (frame & 0x7fff).to_be_bytes();
    let start = if place == 0 { 0x90 } else { 0x80 };
    packet.extend_from_slice(&[start, 0xc0, 0x80 | high, low, frame as u8]);
    packet.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a, 64, 0, 48, 0]);
    packet.resize(RtpHeader::SIZE + bytes, 0);
    packet.extend_from_slice(&frame.to_be_bytes());
    packet.extend_from_slice(&[place as u8, count as u8]);
    packet
}

/// Frame, place and count of a packet that was given out.
fn tail(bytes: &[u8]) -> (u32, u8, u8) {
    let [a, b, c, d, place, count] = *bytes.last_chunk().expect("a tail");
    (u32::from_be_bytes([a, b, c, d]), place, count)
}

/// A camera and how far it is.
struct Camera {
    number: usize,
    sequence_number: u16,
    frame: u32,
}

impl Camera {
    fn new(number: usize) -> Self {
        Self {
            number,
            sequence_number: 65_000,
            frame: 0,
        }
    }

    /// Sends a frame, all of it at once.
    fn send(&mut self, class: &mut Class, packets: usize, key: bool) {
        for place in 0..packets {
            let what = (PACKET_BYTES, key);
            let packet = part(
                self.number,
                self.sequence_number,
                self.frame,
                (place, packets),
                what,
            );
            self.sequence_number = self.sequence_number.wrapping_add(1);
            class.send(self.number, &packet);
        }
        self.frame += 1;
    }
}

/// Two cameras, of which the watcher sees the first; one voice.
fn class() -> (Class, Camera, Camera) {
    let mut class = Class::of(4, 2, 2);
    class.publish(SENDER, Source::Camera);
    class.publish(OTHER, Source::Camera);
    class.publish(3, Source::Microphone);
    class.view(WATCHER, 1, &[(0, of(SENDER, Source::Camera))]);
    let (mut sender, mut other) = (Camera::new(SENDER), Camera::new(OTHER));
    // So long that it is known how little they take.
    for key in [true, false, false] {
        sender.send(&mut class, 1, key);
        other.send(&mut class, 1, key);
        class.wait(1_100);
    }
    class.forget();
    (class, sender, other)
}

/// Which frames were given out, packet for packet, and that no number was left out between them.
fn frames(class: &Class, slot: usize) -> Vec<u32> {
    let given = class.given(WATCHER);
    let given = given.iter().map(|given| (given.view().header, &given.bytes));
    let of_slot: Vec<_> = given
        .filter(|(header, _)| header.ssrc == slot_ssrc(WATCHER, slot))
        .collect();
    for pair in of_slot.windows(2) {
        let [before, after] = [pair[0].0, pair[1].0].map(|header| header.sequence_number);
        assert_eq!(before.wrapping_add(1), after, "a gap that cannot be repaired");
    }
    of_slot.iter().map(|(_, bytes)| tail(bytes).0).collect()
}

#[test]
fn on_a_line_that_is_not_known_to_be_thin_pictures_go_out_as_they_come() {
    for bps in [None, Some(5_000_000)] {
        let (mut class, mut sender, _) = class();
        class.thin(WATCHER, bps);
        sender.send(&mut class, 12, true);
        assert_eq!(class.given(WATCHER).len(), 12, "{bps:?}");
    }
}

#[test]
fn on_a_thin_line_a_key_frame_and_what_follows_it_go_out_slowly_and_voices_at_once() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 6, true);
    sender.send(&mut class, 1, false);
    class.microphone(3, 1, 20);
    let given = class.given(WATCHER);
    let types: Vec<_> = given
        .iter()
        .map(|given| given.view().header.payload_type)
        .collect();
    assert_eq!(types, [121], "the voice, at once");
    class.wait(150);
    assert_eq!(frames(&class, 0), [3; 4], "one each 46 ms");
    class.wait(200);
    assert_eq!(frames(&class, 0), [3, 3, 3, 3, 3, 3, 4]);
    assert_eq!(class.out.plis(who(SENDER)), 0);
}

#[test]
fn pictures_get_a_quarter_of_a_thin_line_that_voices_fill() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 12, true);
    class.forget();
    for count in 0..100 {
        // 220 kbit/s with their headers.
        let mut packet = sound_of(3, Source::Microphone, count, 20);
        packet.resize(500, 0);
        class.send(3, &packet);
        class.wait(20);
    }
    let given = frames(&class, 0).len();
    assert!((10..=12).contains(&given), "one each 185 ms: {given}");
    assert_eq!(class.given(WATCHER).len() - given, 100);
    class.wait(600);
    assert_eq!(frames(&class, 0).len(), 12);
    class.forget();
    sender.send(&mut class, 5, true);
    class.wait(200);
    assert_eq!(frames(&class, 0).len(), 5, "voices that are over are forgotten");
}

#[test]
fn the_picture_that_never_pauses_is_as_fast_as_it_comes_on_a_line_that_is_thought_too_thin_for_it() {
    let (mut class, _, _) = class();
    class.thin(WATCHER, THIN);
    let mut behind = 0;
    for frame in 3..253 {
        // 130 kbit/s beside a voice of 220.
        for count in 0..2 {
            let mut packet = sound_of(3, Source::Microphone, frame * 2 + count, 20);
            packet.resize(500, 0);
            class.send(3, &packet);
            class.wait(20);
        }
        class.send(
            SENDER,
            &part(SENDER, 65_000 + frame as u16, frame, (0, 1), (600, frame == 3)),
        );
        behind = frame - frames(&class, 0).last().copied().unwrap_or(frame);
        assert!(frame < 75 || behind < 40, "{behind} pictures behind at {frame}");
    }
    assert!(behind < 3, "{behind} pictures behind in the end");
    assert_eq!(class.out.plis(who(SENDER)), 0);
}

#[test]
fn the_key_frame_that_came_first_goes_first_and_pictures_without_one_do_not_wait() {
    let (mut class, mut sender, mut other) = class();
    let both = [(0, of(SENDER, Source::Camera)), (1, of(OTHER, Source::Camera))];
    class.view(WATCHER, 2, &both);
    other.send(&mut class, 1, true);
    class.thin(WATCHER, THIN);
    class.wait(100);
    class.forget();
    sender.send(&mut class, 4, true);
    class.wait(100);
    other.send(&mut class, 1, false);
    class.wait(10);
    other.send(&mut class, 3, true);
    class.wait(500);
    let given = class.given(WATCHER);
    let slots: Vec<_> = given
        .iter()
        .map(|given| given.view().header.ssrc - slot_ssrc(WATCHER, 0))
        .collect();
    assert_eq!(slots, [0, 0, 0, 1, 0, 1, 1, 1]);
}

#[test]
fn another_page_does_not_wait_for_the_one_before_and_its_key_frame_is_asked_for_once() {
    let (mut class, mut sender, mut other) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 12, true);
    class.wait(100);
    class.forget();
    class.view(WATCHER, 2, &[(0, of(OTHER, Source::Camera))]);
    other.send(&mut class, 3, true);
    sender.send(&mut class, 1, false);
    class.wait(400);
    assert_eq!(frames(&class, 0), [3, 3, 3]);
    assert_eq!(class.out.shown(who(WATCHER))[0], Some(of(OTHER, Source::Camera)));
    class.forget();
    class.wait(3_000);
    assert_eq!(class.out.plis(who(OTHER)), 0, "it came");
}

#[test]
fn a_page_that_is_turned_back_before_its_key_frame_had_its_turn_goes_on_with_the_one_before() {
    let (mut class, mut sender, mut other) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 4, true);
    class.wait(10);
    class.view(WATCHER, 2, &[(0, of(OTHER, Source::Camera))]);
    other.send(&mut class, 3, true);
    class.view(WATCHER, 3, &[(0, of(SENDER, Source::Camera))]);
    class.wait(100);
    assert_eq!(frames(&class, 0), [3], "what followed was broken off");
    assert_eq!(class.out.shown(who(WATCHER))[0], Some(of(SENDER, Source::Camera)));
    assert_eq!(class.out.plis(who(SENDER)), 1);
    sender.send(&mut class, 1, false);
    sender.send(&mut class, 2, true);
    class.wait(200);
    assert_eq!(frames(&class, 0), [3, 5, 5]);
}

#[test]
fn a_key_frame_that_waits_for_its_turn_is_not_asked_for_again() {
    let (mut class, mut sender, mut other) = class();
    class.thin(WATCHER, THIN);
    let both = [(0, of(SENDER, Source::Camera)), (1, of(OTHER, Source::Camera))];
    sender.send(&mut class, 40, true);
    class.view(WATCHER, 2, &both);
    other.send(&mut class, 3, true);
    class.forget();
    class.wait(1_500);
    assert_eq!(frames(&class, 1), [0; 0]);
    assert_eq!(class.out.plis(who(OTHER)), 0);
    class.wait(1_000);
    assert_eq!(frames(&class, 1), [3, 3, 3]);
}

#[test]
fn a_picture_that_waited_too_long_goes_on_with_a_key_frame_that_is_asked_for() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 2, true);
    for _ in 0..60 {
        sender.send(&mut class, 1, false);
    }
    class.wait(1_950);
    let before = frames(&class, 0).len();
    assert!((40..44).contains(&before), "{before}");
    assert_eq!(class.out.plis(who(SENDER)), 0);
    class.wait(100);
    assert_eq!(class.out.plis(who(SENDER)), 1);
    let broken_off = frames(&class, 0).len();
    sender.send(&mut class, 1, false);
    class.wait(100);
    assert_eq!(frames(&class, 0).len(), broken_off, "it cannot be decoded");
    sender.send(&mut class, 2, true);
    sender.send(&mut class, 1, false);
    class.wait(200);
    let key = sender.frame - 2;
    assert_eq!(frames(&class, 0)[broken_off..], [key, key, key + 1]);
    assert!(
        class.out.slots(who(WATCHER)).is_none(),
        "nothing to tell the watcher"
    );
    class.forget();
    class.wait(3_000);
    assert_eq!(class.out.plis(who(SENDER)), 0);
}

#[test]
fn a_key_frame_that_has_begun_is_finished_and_the_newest_one_is_next() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    // 1.9 s of the line.
    sender.send(&mut class, 41, true);
    class.wait(100);
    sender.send(&mut class, 1, false);
    sender.send(&mut class, 2, true);
    sender.send(&mut class, 1, false);
    sender.send(&mut class, 2, true);
    sender.send(&mut class, 1, false);
    class.wait(2_500);
    let given = frames(&class, 0);
    assert_eq!(
        (given[..41].to_vec(), &given[41..]),
        (vec![3; 41], &[7, 7, 8][..])
    );
}

#[test]
fn a_picture_of_which_the_ring_holds_no_more_goes_on_with_a_key_frame() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 600, true);
    class.wait(10);
    assert!(frames(&class, 0).len() < 2);
    assert_eq!(class.out.plis(who(SENDER)), 1);
    class.forget();
    sender.send(&mut class, 1, true);
    class.wait(100);
    assert_eq!(frames(&class, 0), [4]);
}

#[test]
fn what_came_late_goes_out_when_it_comes_or_in_its_place() {
    let (mut class, _, _) = class();
    class.thin(WATCHER, THIN);
    let packet = |place: usize| {
        let what = (PACKET_BYTES, true);
        part(SENDER, 65_003 + place as u16, 3, (place, 6), what)
    };
    for place in [0, 2, 3, 5] {
        class.send(SENDER, &packet(place));
    }
    class.wait(60);
    class.send(SENDER, &packet(1));
    class.send(SENDER, &packet(4));
    class.wait(400);
    let given = class.given(WATCHER);
    let places: Vec<_> = given.iter().map(|given| tail(&given.bytes).1).collect();
    assert_eq!(places, [0, 2, 1, 3, 4, 5]);
}

/// On a line that loses much by itself key frames go out twice, but not before they went out once.
#[test]
fn what_waits_on_a_line_that_turns_out_to_be_lossy_and_not_thin_is_not_repaired_before_it_is_given_out() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 6, true);
    class.forget();
    let seat = class.room.seats[&who(WATCHER)];
    let subscriber = class.room.subscribers[seat].as_mut().expect("a seat");
    subscriber.downlink = Downlink::lossy(0.3);
    sender.send(&mut class, 3, true);
    assert_eq!(class.given(WATCHER).len(), 0, "before anything was given out");
    class.wait(600);
    assert_eq!(frames(&class, 0).len(), 3);
}

#[test]
fn what_waited_for_a_line_that_is_good_again_goes_out_soon_and_in_order() {
    let (mut class, mut sender, _) = class();
    class.thin(WATCHER, THIN);
    sender.send(&mut class, 12, true);
    class.wait(10);
    class.thin(WATCHER, None);
    sender.send(&mut class, 1, false);
    class.wait(110);
    let expected = [[3; 12].as_slice(), &[4]].concat();
    assert_eq!(frames(&class, 0), expected);
    class.forget();
    sender.send(&mut class, 12, true);
    assert_eq!(class.given(WATCHER).len(), 12, "nothing waits any more");
}
