//! A camera in three layers: who gets which, the change between them, and what the sender is told.

use seodang_model::Source::{Camera, Microphone};
use seodang_rtp::{NtpTime, ReportBlock, RtpPacket, SenderInfo};

use super::mirror::{Written, attach};
use super::*;

const SMALL: (u16, u16) = (160, 120);
const MIDDLE: (u16, u16) = (320, 240);
const LARGE: (u16, u16) = (960, 720);
pub(super) const ALL_LAYERS: [usize; 3] = [0, 1, 2];

/// Camera 1 in three layers, 33 ms a picture; participants 0 and 2 have three slots for pictures and one for sound.
pub(super) struct Lesson {
    pub(super) class: Class,
    count: u32,
}

impl Lesson {
    pub(super) fn new() -> Self {
        let mut class = Class::of(3, 3, 1);
        class.connect_layered(1, 3, 1);
        class.publish(1, Camera);
        Self { class, count: 0 }
    }

    /// Participant 0 looks at the camera in a tile of this size.
    fn watched(size: (u16, u16)) -> Self {
        let mut lesson = Self::new();
        lesson.look(size);
        lesson.key(&ALL_LAYERS);
        lesson.forget();
        lesson
    }

    fn look(&mut self, size: (u16, u16)) {
        self.class.view_sized(0, 1, &[(0, of(1, Camera), size)]);
    }

    /// One picture in each of these layers, from the smallest on, as browsers send them.
    fn picture(&mut self, layers: &[usize], key: bool) {
        self.count += 1;
        for layer in layers {
            self.class.send(1, &layered(1, *layer, self.count, key));
        }
        self.class.wait(33);
    }

    pub(super) fn key(&mut self, layers: &[usize]) {
        self.picture(layers, true);
    }

    pub(super) fn run(&mut self, layers: &[usize], seconds: u64) {
        for _ in 0..seconds * 30 {
            self.picture(layers, false);
        }
    }

    /// The sender's clock for each layer: picture `count` was captured `count` thirtieths of a second after hour 1.
    fn report(&mut self) {
        for layer in ALL_LAYERS {
            let info = SenderInfo {
                ntp: NtpTime((3600 << 32) + (u64::from(self.count) << 32) / 30),
                rtp: layer_timestamp(layer, self.count),
                packets: 1,
                bytes: 1,
            };
            self.class
                .rtcp(1, |writer| writer.sender_report(layer_ssrc(1, layer), info));
        }
    }

    pub(super) fn forget(&mut self) {
        self.class.forget();
    }

    /// The layer of each packet that participant 0 was given, and checks that nothing is missing, repeated, or of a time
    /// before.
    fn given(&self) -> Vec<usize> {
        let given = self.class.given(0);
        for pair in given.windows(2) {
            let [before, after] = [pair[0].view().header, pair[1].view().header];
            assert_eq!(after.sequence_number, before.sequence_number.wrapping_add(1));
            assert!((after.timestamp.wrapping_sub(before.timestamp) as i32) > 0);
            assert_eq!(after.ssrc, slot_ssrc(0, 0));
            let counters = |given: &Given| {
                [
                    u16::from_be_bytes([given.bytes[14] & 0x7f, given.bytes[15]]),
                    u16::from(given.bytes[16]),
                ]
            };
            assert_eq!(
                counters(pair[1])[0],
                (counters(pair[0])[0] + 1) & 0x7fff,
                "picture id"
            );
            assert_eq!(
                counters(pair[1])[1],
                (counters(pair[0])[1] + 1) & 0xff,
                "tl0picidx"
            );
        }
        given
            .iter()
            .map(|given| usize::from(given.bytes[given.bytes.len() - 4]))
            .collect()
    }

    /// The encodings that the sender was told last.
    pub(super) fn told(&self) -> Option<Vec<String>> {
        self.class.out.events.iter().rev().find_map(|event| match event {
            SfuEvent::Layers { publication, rids } if *publication == of(1, Camera) => Some(rids.clone()),
            _ => None,
        })
    }

    /// PLIs that participant 1 got, by layer.
    pub(super) fn asked(&self) -> Vec<u32> {
        let datagrams = self.class.out.rtcp.iter().filter(|(to, _)| *to == who(1));
        let packets = datagrams.flat_map(|(_, bytes)| read_rtcp(bytes)).flatten();
        packets
            .filter_map(|packet| match packet {
                Rtcp::Pli { media_ssrc } => Some(media_ssrc - layer_ssrc(1, 0)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_tile_gets_the_smallest_layer_that_fills_it() {
    for (size, layer) in [(SMALL, 0), (MIDDLE, 1), (LARGE, 2), ((0, 0), 2)] {
        let mut lesson = Lesson::watched(size);
        lesson.run(&ALL_LAYERS, 2);
        lesson.key(&ALL_LAYERS);
        lesson.forget();
        lesson.run(&ALL_LAYERS, 1);
        assert_eq!(lesson.given(), [layer; 30], "{size:?}");
    }
}

#[test]
fn another_layer_comes_with_its_key_frame_without_a_gap_and_the_old_one_flows_until_then() {
    let mut lesson = Lesson::watched(SMALL);
    lesson.run(&ALL_LAYERS, 1);
    lesson.forget();
    lesson.look(LARGE);
    assert_eq!(lesson.asked(), [2], "a key frame of the layer to come");
    lesson.run(&ALL_LAYERS, 1);
    lesson.key(&ALL_LAYERS);
    lesson.run(&ALL_LAYERS, 1);
    // The picture of the change comes in both layers: the smaller one before the larger one's key frame.
    assert_eq!(lesson.given(), [vec![0; 31], vec![2; 31]].concat());
    lesson.forget();
    lesson.look(SMALL);
    lesson.key(&ALL_LAYERS);
    lesson.run(&ALL_LAYERS, 1);
    assert_eq!(lesson.given(), [vec![0; 31]].concat());
    assert_eq!(lesson.class.out.slots(who(0)), None, "the same camera all along");
}

#[test]
fn a_picture_keeps_its_instant_over_a_change_of_layers() {
    let mut lesson = Lesson::watched(SMALL);
    lesson.report();
    lesson.run(&ALL_LAYERS, 1);
    lesson.forget();
    let timestamp = |lesson: &Lesson| {
        let newest = *lesson.class.given(0).last().expect("a packet");
        (newest.view().header.timestamp, lesson.count)
    };
    lesson.picture(&ALL_LAYERS, false);
    let (before, first) = timestamp(&lesson);
    lesson.look(LARGE);
    // The larger picture takes 20 ms longer.
    lesson.class.wait(20);
    lesson.key(&[2]);
    lesson.picture(&[2], false);
    let (after, last) = timestamp(&lesson);
    assert_eq!(lesson.given().last(), Some(&2));
    assert_eq!(after.wrapping_sub(before), (last - first) * 3000);
}

#[test]
fn until_the_larger_layer_comes_a_smaller_one_is_shown_from_its_first_picture_on() {
    let mut lesson = Lesson::new();
    lesson.look(LARGE);
    lesson.key(&[0]);
    lesson.run(&[0], 1);
    lesson.key(&[0, 1]);
    lesson.run(&[0, 1], 1);
    lesson.key(&ALL_LAYERS);
    lesson.run(&ALL_LAYERS, 1);
    let given = lesson.given();
    assert_eq!(
        given.len(),
        31 + 32 + 32,
        "of the two pictures of a change both layers"
    );
    assert!(given.is_sorted() && given.contains(&1) && given.last() == Some(&2));
    assert!(
        lesson.asked().is_empty(),
        "each began with a key frame of its own"
    );
}

#[test]
fn a_layer_that_falls_silent_is_replaced_by_the_next_smaller_one() {
    let mut lesson = Lesson::watched(LARGE);
    lesson.run(&ALL_LAYERS, 1);
    lesson.forget();
    lesson.run(&[0, 1], 2);
    assert!(lesson.asked().starts_with(&[1]), "{:?}", lesson.asked());
    lesson.key(&[0, 1]);
    lesson.run(&[0, 1], 1);
    assert_eq!(lesson.given().first(), Some(&1));
    lesson.key(&ALL_LAYERS);
    assert_eq!(lesson.given().last(), Some(&2), "and comes back by itself");
}

#[test]
fn each_layer_is_repaired_for_itself() {
    let mut lesson = Lesson::watched(MIDDLE);
    lesson.picture(&[0, 2], false);
    lesson.forget();
    lesson.picture(&ALL_LAYERS, false);
    let datagrams = lesson.class.out.rtcp.iter().filter(|(to, _)| *to == who(1));
    let mut nacks = Vec::new();
    for packet in datagrams.flat_map(|(_, bytes)| read_rtcp(bytes)).flatten() {
        if let Rtcp::Nack { media_ssrc, lost } = packet {
            nacks.extend(lost.iter().map(|number| (media_ssrc, number)));
        }
    }
    nacks.dedup();
    assert_eq!(nacks, [(layer_ssrc(1, 1), 20_002)]);
    lesson.class.send(1, &layered(1, 1, 2, false));
    lesson.class.wait(1000);
    let lost = |layer| {
        lesson.class.out.count(who(1), |packet| match packet {
            Rtcp::ReceiverReport { reports, .. } => reports
                .iter()
                .any(|report| report.ssrc == layer_ssrc(1, layer) && report.lost == 0),
            _ => false,
        })
    };
    assert!(
        ALL_LAYERS.into_iter().all(|layer| lost(layer) == 1),
        "each is reported on"
    );
}

#[test]
fn layers_that_nobody_needs_are_switched_off_after_a_while_and_on_at_once() {
    let mut lesson = Lesson::new();
    assert_eq!(
        lesson.told(),
        Some(vec!["q".to_owned(), "h".to_owned(), "f".to_owned()]),
        "a connection begins with all"
    );
    lesson.look(SMALL);
    lesson.key(&ALL_LAYERS);
    lesson.forget();
    lesson.run(&ALL_LAYERS, 3);
    assert_eq!(lesson.told(), None);
    lesson.run(&ALL_LAYERS, 2);
    assert_eq!(lesson.told(), Some(vec!["q".to_owned()]));
    lesson.forget();
    lesson.look(LARGE);
    assert_eq!(lesson.told(), Some(vec!["q".to_owned(), "f".to_owned()]));
    lesson.run(&[0], 1);
    lesson.key(&[0, 2]);
    lesson.run(&[0, 2], 1);
    assert!(
        lesson.given().starts_with(&[0; 30]),
        "the smaller one is seen meanwhile"
    );
    assert_eq!(lesson.given().last(), Some(&2));
}

#[test]
fn a_layer_is_needed_until_the_one_after_it_has_come() {
    let mut lesson = Lesson::watched(MIDDLE);
    lesson.run(&ALL_LAYERS, 6);
    assert_eq!(lesson.told(), Some(vec!["q".to_owned(), "h".to_owned()]));
    lesson.look(LARGE);
    lesson.run(&ALL_LAYERS, 6);
    assert_eq!(
        lesson.told(),
        Some(vec!["q".to_owned(), "h".to_owned(), "f".to_owned()]),
        "no key frame came"
    );
    lesson.key(&ALL_LAYERS);
    lesson.run(&ALL_LAYERS, 6);
    assert_eq!(lesson.told(), Some(vec!["q".to_owned(), "f".to_owned()]));
}

#[test]
fn the_recording_layer_is_needed_while_there_is_a_mirror() {
    let mut lesson = Lesson::new();
    let _written = attach(&mut lesson.class, of(1, Camera));
    lesson.key(&ALL_LAYERS);
    lesson.forget();
    lesson.run(&ALL_LAYERS, 6);
    assert_eq!(
        lesson.told(),
        Some(vec!["q".to_owned(), "f".to_owned()]),
        "640x480, and the smallest"
    );
    lesson.class.room.detach(of(1, Camera));
    lesson.run(&ALL_LAYERS, 6);
    assert_eq!(lesson.told(), Some(vec!["q".to_owned()]));
}

#[test]
fn a_mirror_gets_one_unbroken_stream_from_the_first_picture_on_and_the_recording_layer_when_it_comes() {
    let mut lesson = Lesson::new();
    let written = attach(&mut lesson.class, of(1, Camera));
    lesson.key(&[0]);
    lesson.report();
    lesson.run(&[0], 1);
    lesson.key(&[0, 1]);
    lesson.report();
    lesson.run(&[0, 1], 1);
    lesson.key(&ALL_LAYERS);
    lesson.report();
    lesson.run(&ALL_LAYERS, 1);
    // The camera goes off and on again, on the same connection.
    lesson.class.unpublish(1, Camera);
    lesson.class.wait(5000);
    lesson.class.publish(1, Camera);
    lesson.key(&ALL_LAYERS);
    lesson.run(&ALL_LAYERS, 1);
    let Written { packets, clocks, .. } = std::mem::take(&mut *written.lock().expect("one thread"));
    let layer = |packet: &RtpPacket| packet.payload[packet.payload.len() - 4];
    assert_eq!((layer(&packets[0]), layer(&packets[packets.len() - 1])), (0, 2));
    for pair in packets.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1));
        assert!((pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32) > 0);
        if layer(&pair[0]) != layer(&pair[1]) {
            assert_eq!(pair[1].payload[5] & 1, 0, "a layer begins with a key frame");
        }
    }
    assert_eq!(
        packets.iter().map(layer).filter(|layer| *layer == 1).count(),
        33,
        "nothing was left out meanwhile; at both changes the larger one comes behind it"
    );
    assert_eq!(clocks.len(), 3, "the reports of the layer it gets");
}

#[test]
fn what_is_mirrored_is_asked_for_a_tick() {
    let mut lesson = Lesson::new();
    let _written = attach(&mut lesson.class, of(1, Camera));
    lesson.key(&ALL_LAYERS);
    lesson.forget();
    lesson
        .class
        .room
        .request_keyframe(lesson.class.now, of(1, Camera), true, &mut lesson.class.out);
    assert_eq!(lesson.asked(), [2]);
}

#[test]
fn a_tick_asks_a_camera_that_came_back_with_fewer_layers() {
    let mut lesson = Lesson::new();
    let _written = attach(&mut lesson.class, of(1, Camera));
    lesson.key(&ALL_LAYERS);
    let class = &mut lesson.class;
    class.connect(1, 3, 1);
    class
        .room
        .request_keyframe(class.now, of(1, Camera), true, &mut class.out);
    class.camera(1, 1, true);
    lesson.forget();
    let class = &mut lesson.class;
    class
        .room
        .request_keyframe(class.now, of(1, Camera), true, &mut class.out);
    let asked = lesson.class.out.rtcp.iter().filter(|(to, _)| *to == who(1));
    assert_eq!(asked.count(), 1);
}

/// Participant 0 looks at camera 1 in a large tile and, in a small one, at camera 2, which has one layer; it hears 2.
fn crowded() -> Lesson {
    let mut lesson = Lesson::new();
    lesson.class.publish(2, Camera);
    lesson.class.publish(2, Microphone);
    lesson
        .class
        .view_sized(0, 1, &[(0, of(1, Camera), LARGE), (1, of(2, Camera), SMALL)]);
    lesson.key(&ALL_LAYERS);
    lesson
}

/// Everything that 0 is sent for a second, of which this share is lost as it reports; each large picture is 100 times as
/// long.
fn lossy_second(lesson: &mut Lesson, from: u16, share: f64, reported: &mut [(u32, f64)]) {
    for place in 0..30 {
        lesson.picture(&ALL_LAYERS, place == 0);
        for part in 0..10 {
            let mut packet = picture(2, from + place * 10 + part, place + part == 0);
            packet.resize(1000, 0);
            lesson.class.send(2, &packet);
        }
        lesson.class.microphone(2, from + place, 20);
    }
    let blocks: Vec<_> = reported
        .iter_mut()
        .enumerate()
        .map(|(slot, (highest, lost))| {
            *highest += 100;
            *lost += 100.0 * share;
            ReportBlock {
                ssrc: slot_ssrc(0, slot),
                highest: *highest,
                lost: *lost as i32,
                ..Default::default()
            }
        })
        .collect();
    lesson.class.rtcp(0, |writer| writer.receiver_report(1, &blocks));
}

#[test]
fn on_a_thin_line_small_pictures_pause_first_the_large_one_gets_smaller_and_sound_goes_on() {
    let mut lesson = crowded();
    let mut reported = [(1000, 0.0); 2];
    for second in 0..4 {
        lossy_second(&mut lesson, second * 300, 0.0, &mut reported);
    }
    let (_, slots) = lesson.class.out.slots(who(0)).expect("told");
    assert!(
        slots
            .iter()
            .all(|slot| !slot.paused && slot.participant.is_some() || slot.mid == "s2"),
        "{slots:?}"
    );
    lossy_second(&mut lesson, 1200, 0.9, &mut reported);
    let (_, slots) = lesson.class.out.slots(who(0)).expect("told");
    assert_eq!((slots[1].paused, slots[1].participant), (true, Some(who(2))));
    assert_eq!((slots[0].paused, slots[0].participant), (false, Some(who(1))));
    lesson.forget();
    lossy_second(&mut lesson, 1500, 0.0, &mut reported);
    let ssrcs: Vec<_> = lesson
        .class
        .given(0)
        .iter()
        .map(|given| given.view().header.ssrc)
        .collect();
    assert!(!ssrcs.contains(&slot_ssrc(0, 1)), "it pauses");
    assert!(ssrcs.contains(&slot_ssrc(0, 3)), "sound goes on");
    // A good minute later everything is back.
    for second in 0..60 {
        lossy_second(&mut lesson, 1800 + second * 300, 0.0, &mut reported);
    }
    let (_, slots) = lesson.class.out.slots(who(0)).expect("told");
    assert!(slots.iter().all(|slot| !slot.paused), "{slots:?}");
    lesson.forget();
    lossy_second(&mut lesson, 20_000, 0.0, &mut reported);
    assert!(
        lesson
            .class
            .given(0)
            .iter()
            .any(|given| given.view().header.ssrc == slot_ssrc(0, 1))
    );
}

#[test]
fn a_picture_that_pauses_is_needed_no_more() {
    let mut lesson = Lesson::new();
    lesson.class.publish(2, Camera);
    lesson
        .class
        .view_sized(0, 1, &[(0, of(2, Camera), LARGE), (1, of(1, Camera), MIDDLE)]);
    let mut reported = [(1000, 0.0); 2];
    for second in 0..3 {
        lossy_second(&mut lesson, second * 300, 0.0, &mut reported);
    }
    for second in 3..10 {
        lossy_second(
            &mut lesson,
            second * 300,
            if second == 3 { 0.95 } else { 0.0 },
            &mut reported,
        );
    }
    assert_eq!(lesson.told(), Some(vec!["q".to_owned()]));
}

#[test]
fn a_camera_that_is_switched_on_again_is_taken_for_the_same_one() {
    let mut lesson = Lesson::watched(SMALL);
    lesson.run(&ALL_LAYERS, 6);
    lesson.forget();
    lesson.class.unpublish(1, Camera);
    lesson.class.publish(1, Camera);
    assert_eq!(
        lesson.told(),
        None,
        "no larger layer is asked for before its size is known again"
    );
    lesson.key(&[0]);
    assert_eq!(lesson.given(), [0]);
}

#[test]
fn who_leaves_or_stops_leaves_its_slots_clean() {
    let mut lesson = Lesson::watched(LARGE);
    lesson.class.unpublish(1, Camera);
    assert_eq!(lesson.class.out.shown(who(0))[0], None);
    lesson.forget();
    lesson.key(&ALL_LAYERS);
    assert!(lesson.given().is_empty());
    lesson.class.publish(1, Camera);
    lesson.key(&ALL_LAYERS);
    assert_eq!(lesson.class.out.shown(who(0))[0], Some(of(1, Camera)));
    lesson
        .class
        .room
        .leave(lesson.class.now, who(1), &mut lesson.class.out);
    assert_eq!(lesson.class.out.shown(who(0))[0], None);
}
