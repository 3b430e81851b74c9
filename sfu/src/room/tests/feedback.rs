use seodang_model::Source::{Camera, Microphone};
use seodang_rtp::{NtpTime, ReportBlock, SenderInfo};

use super::*;

fn looking() -> Class {
    let mut class = Class::of(3, 2, 1);
    class.publish(1, Camera);
    class.publish(2, Camera);
    for number in [0, 2] {
        class.view(number, 1, &[(0, of(1, Camera))]);
    }
    class.camera(1, 10, true);
    class.wait(1000);
    class.forget();
    class
}

fn requested(class: &Class, of: usize) -> Vec<u16> {
    let datagrams = class.out.rtcp.iter().filter(|(to, _)| *to == who(of));
    let packets = datagrams.flat_map(|(_, bytes)| read_rtcp(bytes)).flatten();
    let lists = packets.filter_map(|packet| match packet {
        Rtcp::Nack { lost, .. } => Some(lost.iter().collect::<Vec<_>>()),
        _ => None,
    });
    lists.flatten().collect()
}

#[test]
fn wishes_of_many_are_one_request() {
    let mut class = looking();
    for number in [0, 2, 0] {
        class.rtcp(number, |writer| writer.pli(9, slot_ssrc(number, 0)));
    }
    class
        .room
        .request_keyframe(class.now, of(1, Camera), false, &mut class.out);
    assert_eq!(class.out.plis(who(1)), 1);
    class.camera(1, 11, true);
    class.rtcp(0, |writer| writer.pli(9, slot_ssrc(0, 0)));
    class.wait(299);
    assert_eq!(class.out.plis(who(1)), 1);
    class.wait(1);
    assert_eq!(class.out.plis(who(1)), 2, "who came later is served later");
    class.camera(1, 12, true);
    class.wait(5000);
    assert_eq!(class.out.plis(who(1)), 2);
}

#[test]
fn a_tick_asks_at_once_and_counts_for_the_limit() {
    let mut class = looking();
    class.rtcp(0, |writer| writer.pli(9, slot_ssrc(0, 0)));
    class
        .room
        .request_keyframe(class.now, of(1, Camera), true, &mut class.out);
    assert_eq!(class.out.plis(who(1)), 2);
    class.camera(1, 11, true);
    class.wait(500);
    class.rtcp(0, |writer| writer.pli(9, slot_ssrc(0, 0)));
    assert_eq!(class.out.plis(who(1)), 2);
    class.camera(1, 12, true);
    class.wait(5000);
    assert_eq!(class.out.plis(who(1)), 2, "the key frame served everybody");
}

#[test]
fn a_waiting_slot_asks_until_a_key_frame_comes() {
    let mut class = looking();
    class.view(0, 2, &[(0, of(2, Camera))]);
    class.camera(2, 1, false);
    class.wait(10_000);
    let asked = class.out.plis(who(2));
    assert!(
        (50..150).contains(&asked),
        "{asked} in ten seconds, most of them twice"
    );
    class.camera(2, 2, true);
    class.forget();
    class.wait(3500);
    assert_eq!(class.out.plis(who(2)), 0);
}

#[test]
fn who_comes_late_is_shown_at_once_where_nobody_asked_lately() {
    let mut class = Class::of(20, 19, 0);
    for number in 0..19 {
        class.publish(number, Camera);
        class.camera(number, 1, true);
    }
    class.wait(5000);
    class.forget();
    let wishes: Vec<_> = (0..19).map(|number| (number, of(number, Camera))).collect();
    class.view(19, 1, &wishes);
    for number in 0..19 {
        assert_eq!(class.out.plis(who(number)), 1, "of each, without waiting");
        class.camera(number, 2, true);
    }
    assert_eq!(class.given(19).len(), 19);
}

#[test]
fn nobody_asks_a_source_that_is_not_published() {
    let mut class = looking();
    class.unpublish(1, Camera);
    class.forget();
    class
        .room
        .request_keyframe(class.now, of(1, Camera), true, &mut class.out);
    class.rtcp(0, |writer| writer.pli(9, slot_ssrc(0, 0)));
    class.wait(3000);
    assert_eq!(class.out.plis(who(1)), 0);
}

#[test]
fn missing_packets_are_asked_for_even_when_nobody_watches() {
    let mut class = looking();
    class.view(0, 2, &[]);
    class.view(2, 2, &[]);
    class.camera(1, 11, false);
    class.camera(1, 14, false);
    assert!(requested(&class, 1).is_empty());
    class.wait(5);
    assert_eq!(requested(&class, 1), [12, 13]);
    class.camera(1, 12, false);
    class.wait(1000);
    assert_eq!(requested(&class, 1)[..3], [12, 13, 13]);
    assert_eq!(
        requested(&class, 1).len(),
        1 + 2 + 8 * 2,
        "ten times at most, from the third on in two copies"
    );
    assert!(class.out.plis(who(1)) > 0, "then a key frame mends it");
}

#[test]
fn what_was_sent_while_unpublished_is_not_asked_for() {
    let mut class = looking();
    class.unpublish(1, Camera);
    class.camera(1, 11, false);
    class.publish(1, Camera);
    class.camera(1, 20, true);
    class.wait(1000);
    assert!(requested(&class, 1).is_empty());
    class.forget();
    class.camera(1, 19, false);
    assert_eq!(class.given(0).len(), 0, "nor taken when it comes");
}

#[test]
fn a_missed_packet_is_sent_again_byte_for_byte_and_once_in_a_round_trip() {
    let mut class = looking();
    class.camera(1, 11, false);
    let first = (*class.given(0)[0]).clone();
    let sequence_number = first.view().header.sequence_number;
    class.forget();
    let ask = |class: &mut Class, sequence_number: u16| {
        class.rtcp(0, |writer| {
            writer.nack(9, slot_ssrc(0, 0), [sequence_number].into_iter())
        });
    };
    ask(&mut class, sequence_number);
    ask(&mut class, sequence_number);
    ask(&mut class, sequence_number.wrapping_add(1));
    ask(&mut class, sequence_number.wrapping_sub(2));
    assert_eq!(
        class.given(0),
        [&Given {
            again: true,
            ..first.clone()
        }]
    );
    class.wait(30);
    ask(&mut class, sequence_number);
    assert_eq!(class.given(0).len(), 1 + 2, "twice, as the first was lost");
    class.rtcp(2, |writer| {
        writer.nack(9, slot_ssrc(0, 0), [sequence_number].into_iter())
    });
    assert_eq!(class.given(2).len(), 0, "not its slot");
}

#[test]
fn nothing_is_sent_again_across_a_change_of_the_source() {
    let mut class = looking();
    class.camera(1, 11, false);
    let before = class.given(0)[0].view().header.sequence_number;
    class.view(0, 2, &[(0, of(2, Camera))]);
    class.camera(2, 700, true);
    class.forget();
    class.rtcp(0, |writer| {
        writer.nack(9, slot_ssrc(0, 0), [before, before.wrapping_add(1)].into_iter())
    });
    let given = class.given(0);
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].view().header.sequence_number, before.wrapping_add(1));
}

#[test]
fn a_publisher_is_told_the_estimate_at_once_and_every_second() {
    let class = Class::of(1, 0, 0);
    let estimate = |packet: &Rtcp<'_>| {
        matches!(
            packet,
            Rtcp::Remb {
                bitrate_bps: 2_000_000
            }
        )
    };
    assert_eq!(class.out.count(who(0), estimate), 1);
    let mut class = looking();
    class.camera(1, 11, false);
    class.wait(1000);
    assert_eq!(class.out.count(who(1), estimate), 1);
    let reports = |packet: &Rtcp<'_>| match packet {
        Rtcp::ReceiverReport { reports, .. } => reports
            .iter()
            .any(|report| report.highest == 11 && report.lost == 0),
        _ => false,
    };
    assert_eq!(class.out.count(who(1), reports), 1);
}

#[test]
fn who_only_watches_is_told_the_estimate_once_and_reports_of_a_class_go_out_together() {
    let mut class = Class::of(3, 0, 0);
    let estimate = |packet: &Rtcp<'_>| matches!(packet, Rtcp::Remb { .. });
    class.wait(5_100);
    assert_eq!(class.out.count(who(0), estimate), 1, "nothing is sent");
    class.connect(2, 0, 0);
    for number in [1, 2] {
        class.publish(number, Camera);
        class.camera(number, 11, false);
    }
    class.wait(1_000);
    class.forget();
    let mut told = Vec::new();
    for at in (0..2_000).step_by(10) {
        class.wait(10);
        for number in [1, 2] {
            told.extend((class.out.count(who(number), estimate) > 0).then_some((at, number)));
        }
        class.forget();
    }
    let [(first, 1), (second, 2), (third, 1), (fourth, 2)] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first, third), (second, fourth), "at the same times");
    assert_eq!(third - first, 1_000);
}

#[test]
fn a_senders_clock_reaches_the_slots_in_their_own_time() {
    let mut class = looking();
    let info = SenderInfo {
        ntp: NtpTime(77 << 32),
        rtp: 33_000,
        packets: 1,
        bytes: 1,
    };
    class.camera(1, 11, false);
    let timestamp = class.given(0)[0].view().header.timestamp;
    class.rtcp(1, |writer| writer.sender_report(ssrc(1, Camera), info));
    let told = |class: &Class, number: usize, timestamp: u32| {
        class.out.count(who(number), |packet| {
            matches!(packet, Rtcp::SenderReport { ssrc, info: told, .. }
                if *ssrc == slot_ssrc(number, 0) && told.ntp == info.ntp && told.rtp == timestamp)
        })
    };
    // Packet 11 has timestamp 33,000: the very instant of the report.
    assert_eq!(
        (
            told(&class, 0, timestamp),
            class
                .out
                .count(who(1), |p| matches!(p, Rtcp::SenderReport { .. }))
        ),
        (1, 0)
    );
    class.rtcp(2, |writer| writer.sender_report(ssrc(2, Camera), info));
    class.view(0, 2, &[(0, of(2, Camera))]);
    class.camera(2, 11, true);
    class.rtcp(2, |writer| writer.sender_report(ssrc(2, Camera), info));
    let switched = class.given(0)[1].view().header.timestamp;
    assert_eq!(told(&class, 0, switched), 1);
    assert_eq!(
        class.out.count(who(0), |packet| matches!(
            packet,
            Rtcp::Other { packet_type: 202 }
        )),
        2,
        "with a cname"
    );
}

#[test]
fn a_feed_begins_with_the_senders_last_report() {
    let mut class = looking();
    let info = SenderInfo {
        ntp: NtpTime(77 << 32),
        rtp: 3000,
        packets: 1,
        bytes: 1,
    };
    class.camera(2, 1, true);
    class.rtcp(2, |writer| writer.sender_report(ssrc(2, Camera), info));
    class.view(0, 2, &[(0, of(2, Camera))]);
    class.forget();
    class.camera(2, 2, true);
    assert_eq!(
        class
            .out
            .count(who(0), |packet| matches!(packet, Rtcp::SenderReport { .. })),
        1
    );
}

#[test]
fn a_publication_flows_with_its_first_packet_and_stalls_without() {
    let mut class = Class::of(1, 0, 0);
    class.publish(0, Microphone);
    class.forget();
    class.wait(6100);
    assert_eq!(class.out.media, [(who(0), MediaState::Stalled)]);
    assert_eq!(class.out.events, []);
    class.forget();
    class.microphone(0, 1, 20);
    class.microphone(0, 2, 20);
    assert_eq!(class.out.media, [(who(0), MediaState::Ready)]);
    assert_eq!(
        class.out.events,
        [SfuEvent::Flowing {
            publication: of(0, Microphone)
        }]
    );
    class.wait(6100);
    assert_eq!(class.out.media.len(), 2);
    class.unpublish(0, Microphone);
    assert_eq!(class.out.media.last(), Some(&(who(0), MediaState::Ready)));
    class.publish(0, Microphone);
    class.microphone(0, 3, 20);
    assert_eq!(class.out.events.len(), 2);
}

#[test]
fn malformed_feedback_is_counted() {
    let mut class = looking();
    class
        .room
        .handle_rtcp(class.now, who(0), &[0x81, 206, 0, 9, 1], &mut class.out);
    class.room.handle_rtcp(class.now, who(9), &[0x81], &mut class.out);
    let mut stats = SfuStats::new();
    class.room.add_stats(&mut stats);
    assert_eq!(stats["rtcp_malformed"], 1);
}

/// Chromium's and Firefox's estimator (REMB) is given no sound.
#[test]
fn an_estimate_of_pictures_alone_is_no_sign_that_voices_beside_them_are_too_much() {
    const PICTURE_BYTES: usize = 300;
    for (pictures_share, thin) in [(1.0, false), (0.1, true)] {
        let mut class = Class::of(4, 1, 4);
        class.publish(1, Camera);
        (1..4).for_each(|number| class.publish(number, Microphone));
        class.view(0, 1, &[(0, of(1, Camera))]);
        for second in 0..5_u16 {
            for tick in second * 50..second * 50 + 50 {
                (1..4).for_each(|number| class.microphone(number, tick, 20));
                if tick % 5 == 0 {
                    let mut packet = picture(1, tick / 5, tick == 0);
                    packet.resize(PICTURE_BYTES, 0);
                    class.send(1, &packet);
                }
                class.wait(20);
            }
            let estimate_bps = (10 * PICTURE_BYTES * 8) as f64 * pictures_share;
            class.rtcp(0, |writer| writer.remb(1, estimate_bps as u64, &[]));
            let block = ReportBlock {
                ssrc: slot_ssrc(0, 0),
                highest: 1_000 + u32::from(second) * 100,
                lost: if second == 4 { 30 } else { 0 },
                ..Default::default()
            };
            class.rtcp(0, |writer| writer.receiver_report(1, &[block]));
        }
        assert!(class.given(0).len() > 5 * 3 * 50, "three voices");
        let seat = class.room.seats[&who(0)];
        let subscriber = class.room.subscribers[seat].as_ref().expect("a seat");
        assert_eq!(subscriber.downlink.thin_bps().is_some(), thin, "{pictures_share}");
    }
}
