//! Captures that take another layer than recordings: 320x240 beside 640x480.

use std::sync::Mutex;

use seodang_model::Source::Camera;

use super::layers::{ALL_LAYERS, Lesson};
use super::mirror::{Written, attach, attach_captures};
use super::*;

#[test]
fn captures_and_recording_each_get_their_own_layer_from_its_own_key_frame_on() {
    let mut lesson = Lesson::new();
    let files = attach(&mut lesson.class, of(1, Camera));
    let captures = attach_captures(&mut lesson.class, of(1, Camera));
    lesson.key(&[0]);
    lesson.run(&[0], 1);
    lesson.key(&[0, 1]);
    lesson.run(&[0, 1], 1);
    lesson.key(&ALL_LAYERS);
    lesson.run(&ALL_LAYERS, 1);
    assert_eq!((changes(&files), changes(&captures)), (vec![0, 1, 2], vec![0, 1]));
    lesson.class.room.detach_captures(of(1, Camera));
    lesson.run(&ALL_LAYERS, 1);
    let newest = |written: &Mutex<Written>| written.lock().expect("one thread").packets.len();
    assert_eq!(
        newest(&files) - newest(&captures),
        1 + 30,
        "the picture of its last change in both layers, and what it got alone"
    );
}

#[test]
fn the_sender_sends_what_either_needs() {
    let mut lesson = Lesson::new();
    let _captures = attach_captures(&mut lesson.class, of(1, Camera));
    lesson.key(&ALL_LAYERS);
    lesson.forget();
    lesson.run(&ALL_LAYERS, 6);
    assert_eq!(lesson.told(), Some(vec!["q".to_owned(), "h".to_owned()]));
    let _files = attach(&mut lesson.class, of(1, Camera));
    lesson.run(&ALL_LAYERS, 1);
    let all = vec!["q".to_owned(), "h".to_owned(), "f".to_owned()];
    assert_eq!(lesson.told(), Some(all));
}

#[test]
fn a_tick_asks_the_capture_layer_and_the_recorder_its_own() {
    let mut lesson = Lesson::new();
    let _files = attach(&mut lesson.class, of(1, Camera));
    let _captures = attach_captures(&mut lesson.class, of(1, Camera));
    lesson.key(&ALL_LAYERS);
    lesson.class.wait(2_000);
    for (for_tick, layer) in [(true, 1), (false, 2)] {
        lesson.forget();
        let class = &mut lesson.class;
        class
            .room
            .request_keyframe(class.now, of(1, Camera), for_tick, &mut class.out);
        assert_eq!(lesson.asked(), [layer], "for a tick: {for_tick}");
    }
}

/// The layers that were written, in order, each change once; checks that each begins with a key frame and nothing is missing.
fn changes(written: &Mutex<Written>) -> Vec<u8> {
    let packets = &written.lock().expect("one thread").packets;
    let layer = |packet: &seodang_rtp::RtpPacket| packet.payload[packet.payload.len() - 4];
    for pair in packets.windows(2) {
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1));
        assert!(layer(&pair[0]) == layer(&pair[1]) || pair[1].payload[5] & 1 == 0);
    }
    let mut layers: Vec<u8> = packets.iter().map(layer).collect();
    layers.dedup();
    layers
}
