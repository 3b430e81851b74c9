use std::sync::{Arc, Mutex};

use seodang_model::Source::{Camera, Microphone};
use seodang_rtp::{NtpTime, RtpPacket, SenderInfo};

use super::*;

#[derive(Default)]
pub(super) struct Written {
    pub(super) packets: Vec<RtpPacket>,
    pub(super) clocks: Vec<(NtpTime, u32)>,
    dropped: bool,
}

struct TestSink(Arc<Mutex<Written>>);

impl TrackSink for TestSink {
    fn write(&mut self, packet: &RtpPacket, _arrival: Instant) {
        self.0.lock().expect("one thread").packets.push(packet.clone());
    }

    fn clock(&mut self, ntp: NtpTime, rtp: u32, _arrival: Instant) {
        self.0.lock().expect("one thread").clocks.push((ntp, rtp));
    }
}

impl Drop for TestSink {
    fn drop(&mut self) {
        self.0.lock().expect("one thread").dropped = true;
    }
}

pub(super) fn attach(class: &mut Class, publication: Publication) -> Arc<Mutex<Written>> {
    let written = Arc::default();
    class
        .room
        .attach(publication, Box::new(TestSink(Arc::clone(&written))));
    written
}

pub(super) fn attach_captures(class: &mut Class, publication: Publication) -> Arc<Mutex<Written>> {
    let written = Arc::default();
    let sink = Box::new(TestSink(Arc::clone(&written)));
    class.room.attach_captures(publication, sink);
    written
}

fn numbers(written: &Mutex<Written>) -> Vec<u16> {
    let written = written.lock().expect("one thread");
    written
        .packets
        .iter()
        .map(|packet| packet.sequence_number)
        .collect()
}

fn dropped(written: &Mutex<Written>) -> bool {
    written.lock().expect("one thread").dropped
}

#[test]
fn a_mirror_gets_each_packet_once_whatever_the_slots_carry() {
    let mut class = Class::of(1, 0, 0);
    let written = attach(&mut class, of(0, Microphone));
    class.microphone(0, 1, 20);
    class.publish(0, Microphone);
    for number in [2, 4, 3, 3] {
        class.microphone(0, number, 20);
    }
    assert_eq!(
        numbers(&written),
        [2, 4, 3],
        "what is not published is not mirrored"
    );
    let info = SenderInfo {
        ntp: NtpTime(5),
        rtp: 6,
        packets: 0,
        bytes: 0,
    };
    class.rtcp(0, |writer| writer.sender_report(ssrc(0, Microphone), info));
    assert_eq!(written.lock().expect("one thread").clocks, [(NtpTime(5), 6)]);
    assert_eq!(
        written.lock().expect("one thread").packets[0].payload[..],
        sound(0, Microphone, 2, 20)[20..]
    );
    assert!(class.room.report().participants[0].publications[0].mirrored);
}

#[test]
fn a_mirror_survives_a_camera_off_and_a_reconnect_until_detach() {
    let mut class = Class::of(1, 0, 0);
    let written = attach(&mut class, of(0, Camera));
    class.publish(0, Camera);
    class.camera(0, 1, true);
    class.unpublish(0, Camera);
    class.camera(0, 2, true);
    class.publish(0, Camera);
    class.camera(0, 3, true);
    class.room.disconnect(class.now, who(0), &mut class.out);
    class.connect(0, 1, 1);
    class.camera(0, 900, true);
    assert_eq!(numbers(&written), [1, 3, 900]);
    assert!(!dropped(&written));
    class.room.detach(of(0, Camera));
    assert!(dropped(&written));
    class.camera(0, 901, false);
    assert_eq!(numbers(&written), [1, 3, 900]);
}

#[test]
fn nothing_from_before_the_attachment_is_mirrored() {
    let mut class = Class::of(1, 0, 0);
    class.publish(0, Microphone);
    class.microphone(0, 1, 20);
    class.microphone(0, 3, 20);
    let written = attach(&mut class, of(0, Microphone));
    class.microphone(0, 2, 20);
    class.microphone(0, 4, 20);
    assert_eq!(numbers(&written), [4]);
}

#[test]
fn leaving_closing_and_having_no_seat_drop_mirrors() {
    let mut class = Class::of(2, 0, 0);
    let (left, closed) = (
        attach(&mut class, of(0, Camera)),
        attach(&mut class, of(1, Camera)),
    );
    let nobody = attach(&mut class, of(7, Camera));
    assert!(dropped(&nobody));
    class.room.leave(class.now, who(0), &mut class.out);
    assert!(dropped(&left) && !dropped(&closed));
    drop(class);
    assert!(dropped(&closed));
}

#[test]
fn two_mirrors_of_a_line_get_the_same_and_go_each_for_itself() {
    let mut class = Class::of(1, 0, 0);
    class.publish(0, Camera);
    let files = attach(&mut class, of(0, Camera));
    class.camera(0, 1, true);
    let captures = attach_captures(&mut class, of(0, Camera));
    class.camera(0, 2, false);
    assert_eq!((numbers(&files), numbers(&captures)), (vec![1, 2], vec![2]));
    class.room.detach(of(0, Camera));
    assert!(dropped(&files) && !dropped(&captures));
    class.camera(0, 3, false);
    class.room.detach_captures(of(0, Camera));
    assert!(dropped(&captures));
    class.camera(0, 4, false);
    assert_eq!((numbers(&files), numbers(&captures)), (vec![1, 2], vec![2, 3]));
}
