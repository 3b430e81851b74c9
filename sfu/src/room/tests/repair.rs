//! Repair by RTX (RFC 4588), from publishers and to subscribers.

use seodang_model::Source::Camera;

use super::*;

/// Participants 0 (no RTX) and 1 and 3 (RTX) watch the camera of 2.
fn looking() -> Class {
    let mut class = Class::of(4, 1, 0);
    class.publish(2, Camera);
    for number in [0, 1, 3] {
        class.view(number, 1, &[(0, of(2, Camera))]);
    }
    class.camera(2, 10, true);
    class.wait(1000);
    class.forget();
    class
}

fn stats(class: &Class) -> SfuStats {
    let mut stats = SfuStats::new();
    class.room.add_stats(&mut stats);
    stats
}

fn requested(class: &Class, of: usize) -> usize {
    let datagrams = class.out.rtcp.iter().filter(|(to, _)| *to == who(of));
    let packets = datagrams.flat_map(|(_, bytes)| read_rtcp(bytes)).flatten();
    packets
        .map(|packet| match packet {
            Rtcp::Nack { lost, .. } => lost.iter().count(),
            _ => 0,
        })
        .sum()
}

#[test]
fn after_an_outage_a_key_frame_is_asked_for_at_once() {
    let mut class = looking();
    class.camera(2, 11, false);
    class.wait(1);
    assert_eq!(class.out.plis(who(2)), 0);
    class.camera(2, 311, false);
    class.wait(1);
    assert_eq!(class.out.plis(who(2)), 1);
}

#[test]
fn a_repaired_packet_is_forwarded_as_the_one_it_repairs() {
    let mut class = looking();
    class.camera(2, 11, false);
    class.camera(2, 13, false);
    class.wait(5);
    assert_eq!(requested(&class, 2), 1);
    class.send(2, &picture_again(2, 700, 12, false));
    class.send(2, &picture_again(2, 701, 12, false));
    let expected = |number: usize| {
        let given = class.given(number);
        let first = given[0].view().header;
        let numbers: Vec<_> = given
            .iter()
            .map(|given| {
                let view = given.view();
                let distance = view.header.sequence_number.wrapping_sub(first.sequence_number);
                let payload = view.payload;
                assert_eq!(payload[payload.len() - 1], 11 + distance as u8);
                assert_eq!(
                    view.header.timestamp.wrapping_sub(first.timestamp),
                    3000 * u32::from(distance)
                );
                assert_eq!(view.header.ssrc, slot_ssrc(number, 0));
                distance
            })
            .collect();
        assert_eq!(numbers, [0, 2, 1], "once, although it came twice");
    };
    expected(0);
    expected(1);
    class.wait(1000);
    assert_eq!(
        requested(&class, 2),
        1,
        "what came as repair is not asked for again"
    );
    assert_eq!(stats(&class)["packets_repaired"], 1);
}

#[test]
fn who_asks_for_a_third_of_what_came_gets_key_frames_twice() {
    let mut class = looking();
    for number in 11..111 {
        class.camera(2, number, false);
        class.wait(15);
        for watcher in [0, 1].into_iter().filter(|_| number % 3 == 0) {
            let missed = class.given(watcher).last().map(|given| given.index as u16);
            class.rtcp(watcher, |writer| {
                writer.nack(9, slot_ssrc(watcher, 0), missed.into_iter())
            });
        }
        class.forget();
    }
    let given = |class: &Class| [0, 1, 3].map(|watcher| class.given(watcher).len());
    class.camera(2, 111, true);
    assert_eq!(given(&class), [2, 2, 1], "before any report tells of it");
    class.forget();
    class.camera(2, 112, false);
    assert_eq!(given(&class), [1, 1, 1]);
}

#[test]
fn what_was_repaired_is_reported_as_lost() {
    let mut class = looking();
    class.camera(2, 11, false);
    class.camera(2, 13, false);
    class.send(2, &picture_again(2, 1, 12, false));
    class.wait(1000);
    let lost = |packet: &Rtcp<'_>| match packet {
        Rtcp::ReceiverReport { reports, .. } => reports
            .iter()
            .any(|report| report.lost == 1 && report.highest == 13),
        _ => false,
    };
    assert_eq!(class.out.count(who(2), lost), 1);
}

#[test]
fn probing_with_padding_disturbs_nobody() {
    let mut class = looking();
    let mut padding = picture_again(2, 1, 12, false);
    padding.truncate(12);
    padding[0] |= 0x20;
    padding.extend_from_slice(&[0, 0, 0, 4]);
    class.send(2, &padding);
    let mut cut = picture_again(2, 2, 12, false);
    cut.truncate(13);
    class.send(2, &cut);
    class.camera(2, 11, false);
    class.wait(500);
    assert_eq!((class.given(0).len(), requested(&class, 2)), (1, 0));
    let stats = stats(&class);
    assert_eq!((stats["dropped_padding"], stats["dropped_malformed"]), (1, 1));
}

#[test]
fn repair_begins_no_count_and_no_feed() {
    let mut class = looking();
    class.send(2, &picture_again(2, 1, 30_000, true));
    class.send(2, &picture_again(2, 2, 9, true));
    assert_eq!(class.given(0).len(), 0);
    assert_eq!(stats(&class)["dropped_late"], 2);
    class.camera(2, 11, false);
    assert_eq!(class.given(0).len(), 1, "the count goes on");
    let mut fresh = Class::of(2, 1, 0);
    fresh.publish(1, Camera);
    fresh.view(0, 1, &[(0, of(1, Camera))]);
    fresh.send(1, &picture_again(1, 1, 10, true));
    assert_eq!(fresh.given(0).len(), 0, "repairs what nobody sent");
}

#[test]
fn a_subscriber_with_rtx_gets_a_missed_packet_under_its_second_ssrc() {
    let mut class = looking();
    class.camera(2, 11, false);
    class.camera(2, 12, false);
    let first = (*class.given(1)[0]).clone();
    let sequence_number = first.view().header.sequence_number;
    class.forget();
    for _ in 0..2 {
        class.rtcp(1, |writer| {
            writer.nack(9, slot_ssrc(1, 0), [sequence_number].into_iter())
        });
        class.wait(30);
    }
    let given = class.given(1);
    assert_eq!(given.len(), 1 + 2, "twice, as the first was lost");
    for repair in &given {
        let view = repair.view();
        assert_eq!(view.header.ssrc, slot_rtx_ssrc(1, 0));
        assert_eq!(view.header.payload_type, SLOT_RTX);
        let repaired = view.repaired(slot_ssrc(1, 0), 120).expect("a sequence number");
        let bytes = [&repaired.header.to_bytes()[..], repaired.payload].concat();
        assert_eq!(bytes, first.bytes, "nothing but the names differs");
    }
    assert_eq!(
        given[1].index,
        given[0].index + 1,
        "an index of its own each time"
    );
    assert!(!given.iter().any(|given| given.again), "no nonce is used again");
}

#[test]
fn arrivals_are_told_ten_times_a_second_also_of_packets_that_belong_nowhere() {
    let mut class = Class::empty();
    class.room.join(class.now, who(0), ALL, &mut class.out);
    let mut media = negotiated(0, 0, 0);
    for source in &mut media.sources {
        source.extensions.transport_cc = Some(5);
    }
    class.room.connect(class.now, who(0), &media, &mut class.out);
    class.room.ready(class.now, who(0), &mut class.out);
    class.forget();
    let told = |class: &Class| {
        class.out.count(who(0), |packet| {
            matches!(packet, Rtcp::Other { packet_type: 205 })
        })
    };
    for number in 0..50u16 {
        let mut bytes = picture(0, number, number == 0);
        bytes[0] |= 0x10;
        let [high, low] = number.to_be_bytes();
        bytes.splice(12..12, [0xbe, 0xde, 0, 1, 0x51, high, low, 0]);
        if number % 2 == 0 {
            bytes[8..12].copy_from_slice(&77u32.to_be_bytes());
        }
        class.send(0, &bytes);
        class.wait(20);
    }
    assert_eq!(told(&class), 10, "1 s of packets");
    class.forget();
    class.camera(0, 100, false);
    class.wait(3000);
    assert_eq!(told(&class), 0, "only what carries a number is told of");
}
