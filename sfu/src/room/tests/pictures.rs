use seodang_model::Source::{Camera, Microphone, Screen};

use super::*;

/// Participant 0 looks at the cameras of 1 in slot 0; everybody has three video slots.
fn looking() -> Class {
    let mut class = Class::of(3, 3, 1);
    class.publish(1, Camera);
    class.publish(2, Camera);
    class.view(0, 1, &[(0, of(1, Camera))]);
    class
}

fn sender(given: &Given) -> u8 {
    given.bytes[given.bytes.len() - 3]
}

#[test]
fn a_picture_is_shown_from_its_key_frame_on() {
    let mut class = looking();
    assert_eq!(class.out.plis(who(1)), 1, "asked for at once");
    class.camera(1, 10, false);
    assert_eq!(class.given(0).len(), 0);
    assert_eq!(class.out.shown(who(0))[0], None);
    class.camera(1, 11, true);
    class.camera(1, 12, false);
    assert_eq!(class.out.shown(who(0)), [Some(of(1, Camera)), None, None, None]);
    let given = class.given(0);
    assert_eq!(given.len(), 2);
    assert_eq!(given[1].index, given[0].index + 1);
    let header = given[0].view().header;
    assert_eq!(
        (header.ssrc, header.payload_type, header.marker),
        (slot_ssrc(0, 0), 120, true)
    );
    assert_eq!(given[0].bytes[0], 0x80, "no header extensions downstream");
    assert_eq!(given[0].view().payload[5..], picture(1, 11, true)[17..]);
}

#[test]
fn the_earlier_picture_flows_until_the_other_ones_key_frame() {
    let mut class = looking();
    class.camera(1, 10, true);
    class.camera(2, 500, true);
    class.forget();
    class.view(0, 2, &[(0, of(2, Camera))]);
    assert_eq!(class.out.slots(who(0)).expect("told").0, 2);
    assert_eq!(
        class.out.shown(who(0))[0],
        Some(of(1, Camera)),
        "the earlier one is still seen"
    );
    class.camera(1, 11, false);
    class.camera(2, 501, false);
    class.wait(100);
    class.camera(2, 502, true);
    class.camera(1, 12, false);
    class.camera(2, 503, false);
    assert_eq!(class.out.shown(who(0))[0], Some(of(2, Camera)));
    let given = class.given(0);
    assert_eq!(
        given.iter().map(|given| sender(given)).collect::<Vec<_>>(),
        [1, 2, 2]
    );
    let headers: Vec<_> = given.iter().map(|given| given.view().header).collect();
    assert!(headers.is_sorted_by(|a, b| a.sequence_number.wrapping_add(1) == b.sequence_number));
    assert_eq!(
        headers[1].timestamp.wrapping_sub(headers[0].timestamp),
        9000,
        "100 ms passed"
    );
    assert_eq!(headers[2].timestamp.wrapping_sub(headers[1].timestamp), 3000);
    let picture_ids: Vec<_> = given
        .iter()
        .map(|given| u16::from_be_bytes([given.bytes[14] & 0x7f, given.bytes[15]]))
        .collect();
    assert!(picture_ids.is_sorted_by(|a, b| a + 1 == *b), "{picture_ids:?}");
    assert!(
        given.is_sorted_by(|a, b| a.bytes[16].wrapping_add(1) == b.bytes[16]),
        "tl0picidx"
    );
}

#[test]
fn packets_older_than_the_switching_key_frame_are_dropped() {
    let mut class = looking();
    class.camera(1, 10, false);
    class.camera(1, 12, true);
    class.camera(1, 11, false);
    class.camera(1, 13, false);
    let given = class.given(0);
    assert_eq!(given.len(), 2);
    assert_eq!(given[1].index, given[0].index + 1);
}

#[test]
fn loss_and_reordering_keep_their_gaps() {
    let mut class = looking();
    for (sequence_number, key) in [(65534, true), (1, false), (65535, false)] {
        class.camera(1, sequence_number, key);
    }
    let first = class.given(0)[0].index;
    assert_eq!(
        class
            .given(0)
            .iter()
            .map(|given| given.index - first)
            .collect::<Vec<_>>(),
        [0, 3, 1]
    );
}

#[test]
fn a_slot_is_empty_when_its_source_ends_and_is_fed_again_by_a_key_frame() {
    let mut class = looking();
    class.camera(1, 10, true);
    class.unpublish(1, Camera);
    assert_eq!(class.out.shown(who(0))[0], None);
    class.forget();
    class.camera(1, 11, true);
    assert_eq!(class.given(0).len(), 0, "not published");
    class.publish(1, Camera);
    class.camera(1, 12, false);
    class.camera(1, 13, true);
    assert_eq!(class.given(0).len(), 1);
    assert_eq!(class.out.shown(who(0))[0], Some(of(1, Camera)));
}

#[test]
fn who_leaves_is_gone_from_the_slots() {
    let mut class = looking();
    class.camera(1, 10, true);
    class.room.leave(class.now, who(1), &mut class.out);
    assert_eq!(class.out.shown(who(0))[0], None);
    class.forget();
    class.camera(1, 11, true);
    assert_eq!(class.given(0).len(), 0);
    assert!(
        class
            .room
            .report()
            .participants
            .iter()
            .all(|report| report.participant != who(1))
    );
}

#[test]
fn a_forbidden_source_is_dropped_until_it_is_allowed() {
    let mut class = looking();
    class.camera(1, 10, true);
    let none = Rights::default();
    class.room.set_rights(class.now, who(1), none, &mut class.out);
    class.forget();
    class.camera(1, 11, true);
    assert_eq!(class.given(0).len(), 0);
    class.room.set_rights(class.now, who(1), ALL, &mut class.out);
    class.camera(1, 12, true);
    assert_eq!(class.given(0).len(), 1);
}

#[test]
fn a_view_shows_nothing_but_what_it_names() {
    let mut class = looking();
    class.camera(1, 10, true);
    class.view(
        0,
        7,
        &[
            (0, of(1, Microphone)),
            (9, of(2, Camera)),
            (3, of(2, Camera)),
            (1, of(5, Screen)),
        ],
    );
    assert_eq!(class.out.slots(who(0)).map(|slots| slots.0), Some(7));
    assert_eq!(class.out.shown(who(0)), [None, None, None, None]);
}

#[test]
fn a_view_may_come_before_the_connection_and_before_the_publication() {
    let mut class = Class::empty();
    for number in 0..2 {
        class.room.join(class.now, who(number), ALL, &mut class.out);
    }
    class.view(0, 3, &[(1, of(1, Camera))]);
    class.connect(0, 2, 0);
    class.publish(1, Camera);
    class.connect(1, 0, 0);
    class.camera(1, 10, true);
    assert_eq!(class.out.shown(who(0)), [None, Some(of(1, Camera))]);
}

#[test]
fn a_reconnected_publisher_is_seen_again() {
    let mut class = looking();
    class.camera(1, 10, true);
    class.room.disconnect(class.now, who(1), &mut class.out);
    assert_eq!(class.out.shown(who(0))[0], None);
    class.connect(1, 3, 1);
    class.forget();
    class.camera(1, 40_000, true);
    assert_eq!(class.given(0).len(), 1);
    assert_eq!(class.out.shown(who(0))[0], Some(of(1, Camera)));
}

#[test]
fn a_subscriber_that_is_not_ready_gets_nothing() {
    let mut class = looking();
    class.room.disconnect(class.now, who(0), &mut class.out);
    class
        .room
        .connect(class.now, who(0), &negotiated(0, 3, 1), &mut class.out);
    class.forget();
    class.camera(1, 10, true);
    assert_eq!(class.given(0).len(), 0);
    class.room.ready(class.now, who(0), &mut class.out);
    class.camera(1, 11, true);
    assert_eq!(class.given(0).len(), 1);
}

#[test]
fn two_slots_may_show_the_same_camera() {
    let mut class = looking();
    class.view(0, 2, &[(0, of(1, Camera)), (2, of(1, Camera))]);
    class.camera(1, 10, true);
    assert_eq!(class.given(0).len(), 2);
}

#[test]
fn padding_and_foreign_packets_do_no_harm() {
    let mut class = looking();
    class.camera(1, 10, true);
    let mut padding = picture(1, 11, false)[..12].to_vec();
    padding[0] |= 0x20;
    padding.extend_from_slice(&[0, 0, 3]);
    class.send(1, &padding);
    let mut foreign = picture(1, 12, false);
    foreign[1] = 97;
    class.send(1, &foreign);
    class.send(1, &picture(2, 13, true));
    class.send(1, &[0x80; 5]);
    class.send(1, &[]);
    class
        .room
        .handle_rtp(class.now, who(9), &picture(1, 14, true), &mut class.out);
    let given = class.given(0);
    assert_eq!(given.len(), 2);
    assert_eq!(given[1].view().payload, b"", "keeps its place in the sequence");
}

#[test]
fn an_unannounced_ssrc_is_learned_by_its_mid_sixteen_times_at_most() {
    let mut class = looking();
    let with_mid = |ssrc: u32, mid: &[u8; 3], sequence_number| {
        let mut packet = picture(1, sequence_number, true);
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        packet[0] |= 0x10;
        let extension = [0xbe, 0xde, 0, 1, (MID_ID << 4) | 2, mid[0], mid[1], mid[2]];
        packet.splice(12..12, extension);
        packet
    };
    class.send(1, &with_mid(7777, b"upx", 10));
    assert_eq!(class.given(0).len(), 0);
    class.send(1, &with_mid(7777, b"up0", 11));
    assert_eq!(class.given(0).len(), 1);
    for other in 0..20 {
        class.wait(1100);
        class.send(1, &with_mid(8000 + other, b"up0", 100));
    }
    assert_eq!(class.given(0).len(), 16);
}

#[test]
fn a_second_ssrc_takes_a_line_over_only_after_a_silence() {
    let mut class = looking();
    let mut media = negotiated(1, 0, 0);
    media.sources[0].ssrcs.push(4242);
    class.room.connect(class.now, who(1), &media, &mut class.out);
    class.room.ready(class.now, who(1), &mut class.out);
    let other = |sequence_number| {
        let mut packet = picture(1, sequence_number, true);
        packet[8..12].copy_from_slice(&4242u32.to_be_bytes());
        packet
    };
    class.camera(1, 10, true);
    class.send(1, &other(900));
    assert_eq!(class.given(0).len(), 1);
    class.wait(1000);
    class.send(1, &other(901));
    assert_eq!(class.given(0).len(), 2);
}
