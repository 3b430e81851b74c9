//! No packet index is ever given out twice with different bytes, whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;
use seodang_model::Source::{Camera, Microphone};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A camera's packets move on by `skip`; some are left out, and some come later.
    Picture {
        number: usize,
        back: u16,
        skip: u16,
        key: bool,
    },
    /// The same for one layer of the camera that has three.
    Layered {
        layer: usize,
        back: u16,
        skip: u16,
        key: bool,
    },
    Sound {
        number: usize,
        skip: u16,
        below: u8,
    },
    View {
        number: usize,
        shown: [usize; 2],
        /// Width of the tiles.
        width: u16,
    },
    Nack {
        number: usize,
        slot: usize,
        behind: u16,
    },
    Publish {
        number: usize,
        source: Source,
    },
    Unpublish {
        number: usize,
        source: Source,
    },
    /// A packet comes as repair.
    PictureAgain {
        number: usize,
        back: u16,
        key: bool,
    },
    /// The sender's count begins anew.
    Restart {
        number: usize,
        jump: u32,
    },
    Reconnect {
        number: usize,
    },
    Leave {
        number: usize,
    },
    /// What a line is known to carry changes: pictures wait in the source's ring.
    Thin {
        number: usize,
        bps: Option<u64>,
    },
    Wait {
        ms: u64,
    },
}

const PEOPLE: usize = 4;
/// Has a camera with three layers.
const LAYERED: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let source = prop_oneof![Just(Camera), Just(Microphone)];
    prop_oneof![
        12 => (0..PEOPLE, 0u16..20, 1u16..4, prop::bool::weighted(0.2))
            .prop_map(|(number, back, skip, key)| Step::Picture { number, back: back.saturating_sub(12), skip, key }),
        4 => (0..PEOPLE, 0u16..40, prop::bool::weighted(0.2))
            .prop_map(|(number, back, key)| Step::PictureAgain { number, back, key }),
        12 => (0usize..3, 0u16..20, 1u16..4, prop::bool::weighted(0.2))
            .prop_map(|(layer, back, skip, key)| Step::Layered { layer, back: back.saturating_sub(12), skip, key }),
        6 => (0..PEOPLE, 1u16..4, 0u8..128).prop_map(|(number, skip, below)| Step::Sound { number, skip, below }),
        3 => (0..PEOPLE, [0..PEOPLE, 0..PEOPLE], prop_oneof![Just(160u16), Just(320), Just(0)])
            .prop_map(|(number, shown, width)| Step::View { number, shown, width }),
        24 => (0..PEOPLE, 0usize..3, 0u16..8).prop_map(|(number, slot, behind)| Step::Nack { number, slot, behind }),
        1 => (0..PEOPLE, source.clone()).prop_map(|(number, source)| Step::Publish { number, source }),
        1 => (0..PEOPLE, source).prop_map(|(number, source)| Step::Unpublish { number, source }),
        1 => (0..PEOPLE, 4000u32..60_000).prop_map(|(number, jump)| Step::Restart { number, jump }),
        1 => (0..PEOPLE).prop_map(|number| Step::Reconnect { number }),
        1 => (0..PEOPLE).prop_map(|number| Step::Leave { number }),
        2 => (0..PEOPLE, prop_oneof![Just(Some(300_000)), Just(Some(2_000)), Just(None)])
            .prop_map(|(number, bps)| Step::Thin { number, bps }),
        3 => (0u64..200).prop_map(|ms| Step::Wait { ms }),
    ]
}

type Newest = (u64, [u8; 2], u32);

/// What every packet given out has to keep, under the keys of one connection.
#[derive(Default)]
struct Watch {
    connections: [u32; PEOPLE],
    seen: BTreeMap<(ParticipantId, u32, u32, u64), Vec<u8>>,
    /// Highest index, its sender and timestamp, of each connection and SSRC.
    newest: BTreeMap<(ParticipantId, u32, u32), Newest>,
    again: usize,
    repairs: usize,
    switches: usize,
    layer_switches: usize,
    /// Pictures that did not go out when they came.
    waited: usize,
}

impl Watch {
    /// A stream that repairs has its own count, and brings what was given out before.
    fn check_repair(&mut self, given: &Given, connection: u32, number: usize) {
        let view = given.view();
        let key = (given.to, connection, view.header.ssrc, given.index);
        assert_eq!(self.seen.insert(key, given.bytes.clone()), None, "a nonce twice");
        let slot = view.header.ssrc - slot_rtx_ssrc(number, 0);
        let ssrc = slot_ssrc(number, slot as usize);
        let repaired = view.repaired(ssrc, 120).expect("a sequence number");
        let (newest, ..) = self.newest[&(given.to, connection, ssrc)];
        let behind = (newest as u16).wrapping_sub(repaired.header.sequence_number);
        let bytes = [&repaired.header.to_bytes()[..], repaired.payload].concat();
        let key = (given.to, connection, ssrc, newest - u64::from(behind));
        // What came just before the key frame that a feed begins with was not given out, and may be asked for.
        let before = self.seen.insert(key, bytes.clone());
        assert!(
            before.is_none_or(|before| before == bytes),
            "another packet than was given out"
        );
        self.repairs += 1;
    }

    fn check(&mut self, given: &Given) {
        let number = (0..PEOPLE)
            .find(|number| who(*number) == given.to)
            .expect("one of them");
        let view = given.view();
        let header = view.header;
        let connection = self.connections[number];
        assert_eq!(header.sequence_number, given.index as u16);
        if header.payload_type == SLOT_RTX {
            return self.check_repair(given, connection, number);
        }
        let before = self.seen.insert(
            (given.to, connection, header.ssrc, given.index),
            given.bytes.clone(),
        );
        if given.again {
            self.again += 1;
            assert!(
                before.is_none_or(|before| before == given.bytes),
                "another plaintext under one nonce"
            );
            return;
        }
        assert_eq!(before, None, "given out twice");
        let payload = view.payload;
        let video = header.payload_type == 120;
        // The layer of pictures, and who sends them.
        let layer = if video { payload[payload.len() - 4] } else { 0 };
        let sender = [layer, payload[payload.len() - 3]];
        let newest = self.newest.get(&(given.to, connection, header.ssrc)).copied();
        match newest {
            Some((index, ..)) if given.index < index => return,
            Some((index, feeder, timestamp)) => {
                assert!(
                    header.timestamp.wrapping_sub(timestamp) < 0x8000_0000,
                    "time goes back"
                );
                if feeder != sender && video {
                    assert_eq!(index + 1, given.index, "a gap that cannot be repaired");
                    assert_eq!(payload[5] & 1, 0, "a feed begins with a key frame");
                    self.switches += 1;
                    self.layer_switches += usize::from(feeder[1] == sender[1]);
                }
            }
            None if video => assert_eq!(payload[5] & 1, 0, "a feed begins with a key frame"),
            None => {}
        }
        self.newest.insert(
            (given.to, connection, header.ssrc),
            (given.index, sender, header.timestamp),
        );
    }
}

fn enter(class: &mut Class, number: usize) {
    class.room.join(class.now, who(number), ALL, &mut class.out);
    connect(class, number);
    class.publish(number, Camera);
    class.publish(number, Microphone);
}

fn connect(class: &mut Class, number: usize) {
    if number == LAYERED {
        class.connect_layered(number, 2, 2);
    } else {
        class.connect(number, 2, 2);
    }
}

fn run(steps: &[Step]) -> Watch {
    let mut class = Class::empty();
    let mut watch = Watch::default();
    let mut pictures = [65_500u32; PEOPLE];
    let mut layers = [65_500u32; 3];
    let mut sounds = [65_500u32; PEOPLE];
    let mut repairs = 0u16;
    for number in 0..PEOPLE {
        enter(&mut class, number);
    }
    for step in steps {
        match step.clone() {
            Step::Picture {
                number,
                back,
                skip,
                key,
            } => {
                pictures[number] += u32::from(skip);
                class.send(
                    number,
                    &picture_of(number, pictures[number] - u32::from(back), key),
                );
            }
            Step::Layered {
                layer,
                back,
                skip,
                key,
            } => {
                layers[layer] += u32::from(skip);
                class.send(
                    LAYERED,
                    &layered(LAYERED, layer, layers[layer] - u32::from(back), key),
                );
            }
            Step::PictureAgain { number, back, key } => {
                repairs += 1;
                let count = pictures[number] - u32::from(back);
                class.send(number, &picture_again(number, repairs, count, key));
            }
            Step::Sound { number, skip, below } => {
                sounds[number] += u32::from(skip);
                class.send(number, &sound_of(number, Microphone, sounds[number], below));
            }
            Step::View { number, shown, width } => {
                let size = (width, width / 4 * 3);
                let shown = [0, 1].map(|slot| (slot, of(shown[slot], Camera), size));
                class.view_sized(number, 1, &shown);
            }
            Step::Nack { number, slot, behind } => {
                let ssrc = slot_ssrc(number, slot);
                let newest = watch.newest.get(&(who(number), watch.connections[number], ssrc));
                let sequence_number = newest.map_or(0, |(index, ..)| *index as u16).wrapping_sub(behind);
                let lost = (0..4).map(|ahead| sequence_number.wrapping_add(ahead));
                class.rtcp(number, |writer| writer.nack(1, ssrc, lost));
            }
            Step::Publish { number, source } => class.publish(number, source),
            Step::Unpublish { number, source } => class.unpublish(number, source),
            Step::Restart { number, jump } => pictures[number] += jump,
            Step::Reconnect { number } => {
                watch.connections[number] += 1;
                connect(&mut class, number);
            }
            Step::Leave { number } => {
                class.room.leave(class.now, who(number), &mut class.out);
                watch.connections[number] += 1;
                enter(&mut class, number);
            }
            Step::Thin { number, bps } => class.thin(number, bps),
            Step::Wait { ms } => class.wait(ms),
        }
        for given in std::mem::take(&mut class.out.rtp) {
            watch.waited += usize::from(matches!(step, Step::Wait { .. }));
            watch.check(&given);
        }
        class.forget();
    }
    watch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_index_is_given_out_twice_with_different_bytes(steps in proptest::collection::vec(step(), 1..400)) {
        run(&steps);
    }
}

#[test]
fn the_watch_sees_resends_and_switches() {
    let mut steps = Vec::new();
    for round in 0..100 {
        for number in 0..PEOPLE {
            steps.push(Step::Picture {
                number,
                back: 0,
                skip: 1,
                key: round % 5 == 0,
            });
        }
        for layer in 0..3 {
            steps.push(Step::Layered {
                layer,
                back: 0,
                skip: 1,
                key: round % 5 == 0,
            });
        }
        for number in [0, 1] {
            steps.push(Step::View {
                number,
                shown: [round % 2 + 1, LAYERED],
                width: if round % 20 < 10 { 160 } else { 0 },
            });
            steps.push(Step::Nack {
                number,
                slot: 0,
                behind: 1,
            });
        }
        steps.push(Step::Wait { ms: 33 });
    }
    let watch = run(&steps);
    assert!(
        watch.again > 20 && watch.repairs > 20 && watch.switches > 10 && watch.layer_switches > 10,
        "{} {} {} {}",
        watch.again,
        watch.repairs,
        watch.switches,
        watch.layer_switches
    );
}

#[test]
fn the_watch_sees_pictures_that_waited() {
    let view = |round: usize| Step::View {
        number: 1,
        shown: [round / 20 % 2 * 2, LAYERED],
        width: 160,
    };
    let mut steps = Vec::new();
    for round in 0..200 {
        if round % 20 == 0 {
            steps.push(view(round));
        }
        let bps = (round % 50 < 40).then_some(6_000);
        steps.push(Step::Thin { number: 1, bps });
        for number in [0, 2] {
            steps.push(Step::Picture {
                number,
                back: 0,
                skip: 1,
                key: round % 10 == 5,
            });
        }
        steps.push(Step::Nack {
            number: 1,
            slot: 0,
            behind: 1,
        });
        steps.push(Step::Wait { ms: 33 });
    }
    let watch = run(&steps);
    assert!(
        watch.waited > 20 && watch.switches > 3 && watch.repairs > 20,
        "{} {} {}",
        watch.waited,
        watch.switches,
        watch.repairs
    );
}
