use proptest::prelude::*;
use seodang_model::Source::{Camera, Microphone};

use super::*;

proptest! {
    /// A participant with our page's keys and somebody else's program.
    #[test]
    fn arbitrary_packets_disturb_nobody(
        packets in proptest::collection::vec(
            (any::<u16>(), any::<u8>(), 0u8..4, 0u64..300, proptest::collection::vec(any::<u8>(), 0..60)), 0..200,
        ),
    ) {
        let mut class = Class::of(3, 2, 2);
        class.publish(1, Camera);
        class.publish(1, Microphone);
        class.publish(2, Camera);
        class.view(0, 1, &[(0, of(1, Camera)), (1, of(2, Camera))]);
        for (sequence_number, first, kind, ms, bytes) in packets {
            match kind {
                0 => class.send(1, &bytes),
                1 | 2 => {
                    let (source, payload_type) = if kind == 1 { (Camera, VP8) } else { (Microphone, OPUS) };
                    let header = RtpHeader {
                        marker: false,
                        payload_type,
                        sequence_number,
                        timestamp: 0,
                        ssrc: ssrc(1, source),
                    };
                    let mut packet = header.to_bytes().to_vec();
                    packet[0] = 0x80 | (first & 0x3f);
                    packet.extend_from_slice(&bytes);
                    class.send(1, &packet);
                }
                _ => {
                    let mut packet = vec![0x80 | (first & 0x1f), 200 + (sequence_number % 8) as u8, 0, 3];
                    packet.extend_from_slice(&1u32.to_be_bytes());
                    packet.extend_from_slice(&slot_ssrc(1, usize::from(first) % 4).to_be_bytes());
                    packet.extend_from_slice(&bytes);
                    class.room.handle_rtcp(class.now, who(1), &packet, &mut class.out);
                }
            }
            class.wait(ms);
        }
        class.forget();
        class.camera(2, 10, true);
        prop_assert_eq!(class.given(0).len(), 1);
    }
}

#[test]
fn a_receiver_that_asks_without_end_costs_little() {
    let mut class = Class::of(2, 1, 0);
    class.publish(1, Camera);
    class.view(0, 1, &[(0, of(1, Camera))]);
    for number in 0..400 {
        class.camera(1, number, number == 0);
    }
    let newest = class.given(0).last().expect("given").index as u16;
    class.forget();
    for _ in 0..1000 {
        class.rtcp(0, |writer| {
            writer.nack(
                1,
                slot_ssrc(0, 0),
                (0..400).rev().map(|behind| newest.wrapping_sub(behind)),
            );
            writer.pli(1, slot_ssrc(0, 0));
        });
        class.wait(1);
    }
    let bytes: usize = class.given(0).iter().map(|given| given.bytes.len()).sum();
    assert!(bytes <= 2 * 64_000, "{bytes}");
    assert!(
        class.out.plis(who(1)) <= 1 + 2 * 8,
        "one request, repeated as no key frame comes"
    );
}
