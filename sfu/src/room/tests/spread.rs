//! One lesson on two workers: rooms that tell each other by parcels, handed over by hand.

use std::collections::HashMap;

use proptest::prelude::*;
use seodang_model::Source::{Camera, Microphone, Screen};
use seodang_rtp::{NtpTime, SenderInfo};

use super::mirror::attach;
use super::sound::heard;
use super::*;

/// Time between two turns of the workers.
const TURN_MS: u64 = 5;

/// The rooms of workers 0, 1 and so on.
struct Spread {
    rooms: Vec<Class>,
}

impl Spread {
    /// `here` are connected on worker 0, `there` on worker 1; each has slots.
    fn of(here: &[usize], there: &[usize], video: usize, audio: usize) -> Self {
        Self::over(&[here, there], video, audio)
    }

    /// A room for each of these groups.
    fn over(groups: &[&[usize]], video: usize, audio: usize) -> Self {
        let mut spread = Self {
            rooms: groups.iter().map(|_| Class::empty()).collect(),
        };
        let now = spread.rooms[0].now;
        for (room, people) in groups.iter().enumerate() {
            spread.rooms[room].now = now;
            for number in *people {
                spread.join(room, *number);
                spread.rooms[room].connect(*number, video, audio);
            }
        }
        spread.settle();
        spread
    }

    /// As the driver does for somebody who is placed there.
    fn join(&mut self, room: usize, number: usize) {
        let class = &mut self.rooms[room];
        if room > 0 {
            class.room.meet(&[0]);
        }
        if room > 1 {
            class.room.meet(&[1]);
        }
        class.room.join(class.now, who(number), ALL, &mut class.out);
    }

    /// One turn of a worker: its parcels reach the others.
    fn turn(&mut self, from: usize) -> bool {
        let mut addressees = Vec::new();
        self.rooms[from].room.addressees(&mut addressees);
        for worker in &addressees {
            let mut parcel = Parcel::default();
            self.rooms[from].room.post(*worker, &mut parcel);
            let class = &mut self.rooms[*worker];
            class.room.handle_parcel(class.now, from, &parcel, &mut class.out);
        }
        !addressees.is_empty()
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..20 {
            let told: Vec<_> = (0..self.rooms.len()).map(|room| self.turn(room)).collect();
            if !told.contains(&true) {
                return;
            }
        }
        panic!("the rooms talk without end");
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(TURN_MS) {
            for class in &mut self.rooms {
                class.wait(TURN_MS);
            }
            self.settle();
        }
    }

    fn publish(&mut self, room: usize, number: usize, source: Source) {
        self.rooms[room].publish(number, source);
        self.settle();
    }

    fn view(&mut self, room: usize, number: usize, generation: u32, shown: &[(usize, Publication)]) {
        self.rooms[room].view(number, generation, shown);
        self.settle();
    }

    fn camera(&mut self, room: usize, number: usize, sequence_number: u16, key: bool) {
        self.rooms[room].camera(number, sequence_number, key);
        self.settle();
    }

    /// Participant 0 sends its camera on worker 0; participant 1 watches it on worker 1.
    fn watched() -> Self {
        let mut spread = Self::of(&[0], &[1], 2, 2);
        spread.publish(0, 0, Camera);
        spread.view(1, 1, 1, &[(0, of(0, Camera))]);
        spread.camera(0, 0, 1, true);
        spread
    }

    fn forget(&mut self) {
        self.rooms.iter_mut().for_each(Class::forget);
    }

    /// Sequence numbers that the senders of the pictures given to `number` gave them.
    fn seen(&self, room: usize, number: usize) -> Vec<u16> {
        let given = self.rooms[room].given(number);
        given
            .iter()
            .map(|given| {
                let end = &given.bytes[given.bytes.len() - 2..];
                u16::from_be_bytes([end[0], end[1]])
            })
            .collect()
    }
}

fn counters(class: &Class) -> SfuStats {
    let mut stats = SfuStats::new();
    class.room.add_stats(&mut stats);
    stats
}

#[test]
fn who_sends_on_one_worker_is_seen_and_heard_on_the_other() {
    let mut spread = Spread::of(&[0], &[1, 2], 2, 2);
    spread.publish(0, 0, Camera);
    spread.publish(0, 0, Microphone);
    spread.view(1, 1, 3, &[(0, of(0, Camera))]);
    assert_eq!(
        spread.rooms[0].out.plis(who(0)),
        1,
        "the wish reaches the sender, of whom nothing came yet"
    );
    for number in 1..=5 {
        spread.camera(0, 0, number, number == 1);
        spread.rooms[0].microphone(0, number, 20);
        spread.settle();
        spread.wait(20);
    }
    let (pictures, sounds): (Vec<_>, Vec<_>) = spread.rooms[1]
        .given(1)
        .into_iter()
        .partition(|given| given.view().header.payload_type == 120);
    let sent: Vec<_> = (1..=5).map(|number| picture(0, number, number == 1)).collect();
    for (given, sent) in pictures.iter().zip(&sent) {
        assert_eq!(given.bytes[given.bytes.len() - 3..], sent[sent.len() - 3..]);
    }
    assert_eq!((pictures.len(), sounds.len()), (5, 5));
    for given in [&pictures, &sounds] {
        assert!(given.windows(2).all(|pair| pair[1].index == pair[0].index + 1));
    }
    assert_eq!(
        spread.rooms[1].out.shown(who(1))[..3],
        [Some(of(0, Camera)), None, Some(of(0, Microphone))]
    );
    assert_eq!(spread.rooms[1].given(2).len(), 5, "sound comes unasked");
}

#[test]
fn both_rooms_send_and_watch_at_once() {
    let mut spread = Spread::of(&[0], &[1], 1, 2);
    for number in 0..2 {
        spread.publish(number, number, Camera);
        spread.publish(number, number, Microphone);
        spread.view(number, number, 1, &[(0, of(1 - number, Camera))]);
    }
    for count in 1..=10 {
        for number in 0..2 {
            spread.camera(number, number, count, count == 1);
            spread.rooms[number].microphone(number, count, 20);
        }
        spread.wait(20);
    }
    for number in 0..2 {
        assert_eq!(spread.rooms[number].given(number).len(), 20, "{number}");
    }
}

#[test]
fn pictures_that_nobody_watches_there_stay_here() {
    let mut spread = Spread::of(&[0], &[1], 2, 1);
    spread.publish(0, 0, Camera);
    for number in 1..=10 {
        spread.camera(0, 0, number, number == 1);
    }
    assert_eq!(counters(&spread.rooms[0])["packets_relayed"], 0);
    spread.view(1, 1, 1, &[(0, of(0, Camera))]);
    spread.camera(0, 0, 11, true);
    assert_eq!(counters(&spread.rooms[0])["packets_relayed"], 1);
    spread.view(1, 1, 2, &[]);
    spread.wait(5_000);
    spread.camera(0, 0, 12, true);
    assert_eq!(
        counters(&spread.rooms[0])["packets_relayed"],
        1,
        "after a while, so that paging back costs nothing"
    );
}

#[test]
fn what_a_watcher_misses_comes_from_its_own_room() {
    let mut spread = Spread::watched();
    for number in 2..=9 {
        spread.camera(0, 0, number, false);
    }
    let missed: Vec<Given> = spread.rooms[1].given(1)[3..5].iter().copied().cloned().collect();
    spread.forget();
    let [first, second] = [0, 1].map(|place| missed[place].index as u16);
    spread.rooms[1].rtcp(1, |writer| {
        writer.nack(9, slot_ssrc(1, 0), [first, second].into_iter())
    });
    spread.settle();
    let again = spread.seen(1, 1);
    assert_eq!(again, [4, 5]);
    assert!(spread.rooms[0].out.rtcp.is_empty(), "nobody else is asked");
}

#[test]
fn what_the_sender_repairs_reaches_both_rooms() {
    let mut spread = Spread::watched();
    spread.camera(0, 0, 2, false);
    spread.camera(0, 0, 4, false);
    spread.wait(10);
    assert_eq!(spread.seen(1, 1), [1, 2, 4]);
    assert_eq!(
        spread.rooms[0]
            .out
            .count(who(0), |packet| matches!(packet, Rtcp::Nack { .. })),
        1
    );
    spread.rooms[0].send(0, &picture_again(0, 1, 3, false));
    spread.rooms[0].camera(0, 3, false);
    spread.settle();
    assert_eq!(spread.seen(1, 1), [1, 2, 4, 3], "once");
    assert!(
        spread.rooms[1].out.rtcp.iter().all(|(to, _)| *to != who(0)),
        "the other room asks nobody"
    );
}

#[test]
fn key_frame_wishes_of_all_rooms_are_one_request_a_second() {
    let mut spread = Spread::of(&[0, 3], &[1, 2], 2, 1);
    spread.publish(0, 0, Camera);
    for (room, number) in [(0, 3), (1, 1), (1, 2)] {
        spread.view(room, number, 1, &[(0, of(0, Camera))]);
    }
    spread.camera(0, 0, 1, true);
    spread.wait(1_000);
    spread.forget();
    for count in 2..52 {
        let asked = spread.rooms[0].out.plis(who(0));
        for (room, number) in [(0, 3), (1, 1), (1, 2)] {
            spread.rooms[room].rtcp(number, |writer| writer.pli(9, slot_ssrc(number, 0)));
        }
        // The sender answers every request.
        spread.wait(50);
        let key = spread.rooms[0].out.plis(who(0)) > asked;
        spread.camera(0, 0, count, key);
    }
    let asked = spread.rooms[0].out.plis(who(0));
    assert!((2..=4).contains(&asked), "{asked} in two and a half seconds");
}

#[test]
fn a_slot_goes_from_a_sender_there_to_one_here_and_back() {
    let mut spread = Spread::of(&[0], &[1, 2], 1, 1);
    spread.publish(0, 0, Camera);
    spread.publish(1, 2, Camera);
    let mut count = [0_u16; 3];
    let mut play = |spread: &mut Spread, key: bool| {
        for (room, number) in [(0, 0), (1, 2)] {
            count[number] += 1;
            spread.camera(room, number, count[number], key);
        }
        spread.wait(30);
    };
    for (generation, sender) in [(1, 0), (2, 2), (3, 0)] {
        spread.view(1, 1, generation, &[(0, of(sender, Camera))]);
        play(&mut spread, false);
        play(&mut spread, true);
        play(&mut spread, false);
    }
    let given = spread.rooms[1].given(1);
    let senders: Vec<_> = given
        .iter()
        .map(|given| given.bytes[given.bytes.len() - 3])
        .collect();
    assert_eq!(
        senders,
        [0, 0, 0, 0, 2, 2, 2, 0, 0],
        "the old one flows until the key frame"
    );
    assert!(given.windows(2).all(|pair| pair[1].index == pair[0].index + 1));
    let newer = |pair: &[&Given]| {
        let [before, after] = [pair[0], pair[1]].map(|given| given.view().header.timestamp);
        after.wrapping_sub(before) as i32 > 0
    };
    assert!(given.windows(2).all(newer));
}

#[test]
fn who_leaves_or_stops_is_gone_everywhere() {
    let mut spread = Spread::watched();
    spread.publish(0, 0, Microphone);
    let shown = |spread: &Spread| spread.rooms[1].out.shown(who(1))[0];
    assert_eq!(shown(&spread), Some(of(0, Camera)));
    spread.rooms[0].unpublish(0, Camera);
    spread.settle();
    assert_eq!(shown(&spread), None, "unpublished");
    spread.publish(0, 0, Camera);
    spread.camera(0, 0, 2, true);
    assert_eq!(shown(&spread), Some(of(0, Camera)), "the view still holds");
    let now = spread.rooms[0].now;
    let none = Rights {
        may_publish: false,
        may_share_screen: false,
    };
    let Class { room, out, .. } = &mut spread.rooms[0];
    room.set_rights(now, who(0), none, out);
    spread.settle();
    assert_eq!(shown(&spread), None, "not allowed");
    let Class { room, out, .. } = &mut spread.rooms[0];
    room.set_rights(now, who(0), ALL, out);
    spread.settle();
    spread.camera(0, 0, 3, true);
    assert_eq!(shown(&spread), Some(of(0, Camera)));
    let Class { room, out, .. } = &mut spread.rooms[0];
    room.leave(now, who(0), out);
    spread.settle();
    assert_eq!(shown(&spread), None, "left");
    assert!(!spread.rooms[1].room.seats.contains_key(&who(0)));
    assert!(spread.rooms[0].room.is_over() && !spread.rooms[1].room.is_spread());
}

#[test]
fn a_sender_who_connects_again_is_seen_again_and_no_index_comes_twice() {
    let mut spread = Spread::watched();
    spread.camera(0, 0, 2, false);
    let now = spread.rooms[0].now;
    let Class { room, out, .. } = &mut spread.rooms[0];
    room.disconnect(now, who(0), out);
    spread.settle();
    assert_eq!(spread.rooms[1].out.shown(who(1))[0], None);
    spread.rooms[0].connect(0, 2, 2);
    spread.settle();
    // The count begins where it began before, with other pictures.
    spread.camera(0, 0, 1, false);
    spread.camera(0, 0, 2, true);
    spread.camera(0, 0, 3, false);
    assert_eq!(spread.seen(1, 1), [1, 2, 2, 3]);
    let mut given_out = HashMap::new();
    for given in spread.rooms[1].given(1) {
        assert_eq!(given_out.insert(given.index, given.bytes.clone()), None);
    }
}

#[test]
fn a_count_that_restarts_between_two_turns_is_another_one_there_too() {
    let mut spread = Spread::watched();
    spread.rooms[0].unpublish(0, Camera);
    spread.rooms[0].publish(0, Camera);
    spread.rooms[0].camera(0, 1, true);
    spread.settle();
    assert_eq!(spread.seen(1, 1), [1, 1], "the same number, another picture");
    let given = spread.rooms[1].given(1);
    assert_eq!(given[1].index, given[0].index + 1);
}

#[test]
fn who_moves_to_the_other_worker_is_there_once() {
    let mut spread = Spread::of(&[0, 3], &[1], 1, 1);
    spread.publish(0, 0, Camera);
    spread.view(1, 1, 1, &[(0, of(0, Camera))]);
    spread.camera(0, 0, 1, true);
    let now = spread.rooms[0].now;
    // The seat here is taken before the other room could say that its own is given up.
    let Class { room, out, .. } = &mut spread.rooms[0];
    room.leave(now, who(0), out);
    spread.join(1, 0);
    spread.rooms[1].connect(0, 1, 1);
    spread.rooms[1].publish(0, Camera);
    spread.settle();
    spread.rooms[0].view(3, 1, &[(0, of(0, Camera))]);
    spread.settle();
    spread.forget();
    spread.camera(1, 0, 7, true);
    assert_eq!(spread.seen(1, 1), [7]);
    assert_eq!(spread.seen(0, 3), [7]);
    assert_eq!(spread.rooms[1].room.report().participants.len(), 2);
    assert_eq!(spread.rooms[0].room.report().participants.len(), 1);
}

#[test]
fn three_rooms_agree_on_who_moved_whatever_comes_first() {
    let mut spread = Spread::over(&[&[0, 3], &[1], &[2]], 1, 1);
    spread.publish(0, 0, Camera);
    spread.view(2, 2, 1, &[(0, of(0, Camera))]);
    spread.camera(0, 0, 1, true);
    assert_eq!(spread.seen(2, 2), [1]);
    let now = spread.rooms[0].now;
    for late in [false, true] {
        // What the first worker says of its participant is still under way when the second has it.
        let (from, to) = if late { (1, 0) } else { (0, 1) };
        spread.rooms[from].publish(0, Microphone);
        let mut stale = Parcel::default();
        spread.rooms[from].room.post(2, &mut stale);
        let Class { room, out, .. } = &mut spread.rooms[from];
        room.leave(now, who(0), out);
        spread.join(to, 0);
        spread.rooms[to].connect(0, 1, 1);
        spread.rooms[to].publish(0, Camera);
        if late {
            spread.turn(to);
        }
        let Class { room, out, .. } = &mut spread.rooms[2];
        room.handle_parcel(now, from, &stale, out);
        spread.settle();
        spread.forget();
        spread.camera(to, 0, 1, true);
        spread.camera(to, 0, 2, false);
        assert_eq!(spread.seen(2, 2), [1, 2], "late: {late}");
    }
}

#[test]
fn who_comes_and_goes_before_the_first_word_leaves_nobody_deaf() {
    let mut spread = Spread::of(&[0], &[], 1, 1);
    spread.publish(0, 0, Camera);
    spread.join(1, 1);
    let now = spread.rooms[1].now;
    let Class { room, out, .. } = &mut spread.rooms[1];
    room.leave(now, who(1), out);
    spread.join(1, 2);
    spread.rooms[1].connect(2, 1, 1);
    spread.settle();
    spread.view(1, 2, 1, &[(0, of(0, Camera))]);
    spread.camera(0, 0, 1, true);
    assert_eq!(spread.seen(1, 2), [1]);
}

#[test]
fn a_hello_to_a_room_that_nobody_is_in_is_answered_with_a_farewell() {
    let mut spread = Spread::of(&[0], &[1], 1, 1);
    let now = spread.rooms[1].now;
    let Class { room, out, .. } = &mut spread.rooms[1];
    room.leave(now, who(1), out);
    spread.settle();
    spread.rooms[0].room.meet(&[1]);
    spread.settle();
    assert!(spread.rooms[1].room.is_over() && !spread.rooms[0].room.is_spread());
}

#[test]
fn a_room_that_was_empty_for_a_moment_is_told_everything_again() {
    let mut spread = Spread::watched();
    let now = spread.rooms[1].now;
    let Class { room, out, .. } = &mut spread.rooms[1];
    room.leave(now, who(1), out);
    assert!(!room.is_over(), "the other room has to know");
    spread.join(1, 2);
    spread.rooms[1].connect(2, 1, 1);
    spread.settle();
    spread.view(1, 2, 1, &[(0, of(0, Camera))]);
    spread.camera(0, 0, 2, true);
    assert_eq!(spread.seen(1, 2), [2]);

    let Class { room, out, .. } = &mut spread.rooms[1];
    room.leave(now, who(2), out);
    spread.settle();
    assert!(spread.rooms[1].room.is_over());
    let before = counters(&spread.rooms[0])["packets_relayed"];
    spread.camera(0, 0, 3, true);
    assert_eq!(counters(&spread.rooms[0])["packets_relayed"], before);
    spread.rooms[1].room = Class::empty().room;
    spread.join(1, 4);
    spread.rooms[1].connect(4, 1, 1);
    spread.view(1, 4, 1, &[(0, of(0, Camera))]);
    spread.camera(0, 0, 4, true);
    assert_eq!(spread.seen(1, 4), [4]);
}

#[test]
fn what_a_busy_worker_has_no_place_for_is_dropped_and_a_key_frame_mends_it() {
    let mut spread = Spread::watched();
    spread.wait(1_000);
    spread.forget();
    let mut packet = picture(0, 0, false);
    packet.resize(1_200, 7);
    let mut count = 1_u16;
    while counters(&spread.rooms[0])["dropped_relay_full"] < 5 {
        count += 1;
        packet[2..4].copy_from_slice(&count.to_be_bytes());
        spread.rooms[0].send(0, &packet);
        assert!(count < 1_000, "a queue without end");
    }
    spread.rooms[0].wait(1);
    assert_eq!(spread.rooms[0].out.plis(who(0)), 1);
    spread.rooms[1].now = spread.rooms[0].now;
    spread.settle();
    spread.forget();
    spread.camera(0, 0, count + 1, true);
    spread.camera(0, 0, count + 2, false);
    assert_eq!(spread.seen(1, 1), [count + 1, count + 2]);
}

#[test]
fn the_key_frame_for_what_a_busy_worker_has_no_place_for_is_asked_at_once() {
    let mut spread = Spread::of(&[2], &[1], 1, 1);
    spread.join(0, 0);
    spread.rooms[0].connect_layered(0, 1, 1);
    spread.publish(0, 0, Camera);
    spread.view(1, 1, 1, &[(0, of(0, Camera))]);
    // No SSRC was announced: whom to ask for a key frame is known from the first one on, so none was ever asked for.
    let layers = 0..3;
    for layer in layers.clone() {
        spread.rooms[0].send(0, &layered(0, layer, 1, true));
    }
    spread.settle();
    assert_eq!(spread.rooms[0].out.plis(who(0)), 0);
    let mut count = 1;
    while counters(&spread.rooms[0])["dropped_relay_full"] == 0 {
        count += 1;
        for layer in layers.clone() {
            spread.rooms[0].send(0, &layered(0, layer, count, false));
        }
        assert!(count < 5_000, "a queue without end");
    }
    assert_eq!(spread.rooms[0].out.plis(who(0)), 1, "no timer is waited for");
}

#[test]
fn the_loudest_of_all_rooms_are_heard_in_all_rooms() {
    let people: Vec<_> = (0..6).collect();
    let mut spread = Spread::of(&people[..3], &people[3..], 0, 3);
    for number in &people {
        spread.publish(number / 3, *number, Microphone);
    }
    let speak = |spread: &mut Spread, from: u16, packets: u16, loud: [usize; 2]| {
        for count in from..from + packets {
            for number in &people {
                let below = if loud.contains(number) { 20 } else { 127 };
                spread.rooms[number / 3].microphone(*number, count, below);
            }
            spread.wait(20);
        }
    };
    speak(&mut spread, 1, 150, [0, 1]);
    // One of each room.
    speak(&mut spread, 151, 150, [1, 5]);
    spread.forget();
    speak(&mut spread, 301, 5, [1, 5]);
    let heard_in = |room: usize, by: usize| heard(&spread.rooms[room], by);
    for (room, by, expected) in [(0, 0, vec![1, 5]), (1, 3, vec![1, 5])] {
        assert_eq!(heard_in(room, by), expected, "by {by}");
    }
    assert!(
        heard_in(0, 1).contains(&5) && !heard_in(0, 1).contains(&1),
        "never oneself"
    );
}

#[test]
fn the_sender_sends_the_layers_that_any_room_needs_and_each_gets_its_own() {
    let mut spread = Spread::of(&[0], &[1], 1, 1);
    spread.join(0, 2);
    spread.rooms[0].connect_layered(2, 1, 1);
    spread.publish(0, 2, Camera);
    let camera = of(2, Camera);
    let mut count = 0;
    let mut play = |spread: &mut Spread, layers: &[usize], seconds: u32, key: bool| {
        for picture in 0..seconds * 30 {
            count += 1;
            for layer in layers {
                let key = key && picture % 30 == 0;
                spread.rooms[0].send(2, &layered(2, *layer, count, key));
            }
            spread.settle();
            spread.wait(30);
        }
    };
    let told = |spread: &Spread| {
        spread.rooms[0]
            .out
            .events
            .iter()
            .rev()
            .find_map(|event| match event {
                SfuEvent::Layers { rids, .. } => Some(rids.concat()),
                _ => None,
            })
    };
    let layers = |spread: &Spread, room: usize, number: usize| {
        let given = spread.rooms[room].given(number);
        let mut layers: Vec<_> = given
            .iter()
            .map(|given| given.bytes[given.bytes.len() - 4])
            .collect();
        layers.dedup();
        layers
    };
    spread.rooms[0].view_sized(0, 1, &[(0, camera, (160, 120))]);
    spread.rooms[1].view_sized(1, 1, &[(0, camera, (160, 120))]);
    // The other room waits before it needs less, and so does the sender's.
    play(&mut spread, &[0, 1, 2], 10, true);
    assert_eq!(told(&spread).as_deref(), Some("q"), "nobody needs more");
    spread.rooms[1].view_sized(1, 2, &[(0, camera, (960, 720))]);
    spread.settle();
    assert_eq!(told(&spread).as_deref(), Some("qf"), "at once");
    spread.forget();
    // So long that the other room is not sent the small one any more.
    play(&mut spread, &[0, 2], 6, true);
    assert_eq!(layers(&spread, 0, 0), [0]);
    assert_eq!(
        layers(&spread, 1, 1),
        [0, 2],
        "the small one until the large one comes"
    );
    // The sender's line is too thin for the large one.
    play(&mut spread, &[0], 2, true);
    spread.forget();
    play(&mut spread, &[0], 1, true);
    assert_eq!(layers(&spread, 1, 1), [0]);
    play(&mut spread, &[0, 2], 1, true);
    assert_eq!(layers(&spread, 1, 1), [0, 2]);
}

#[test]
fn a_senders_clock_reaches_the_other_room_and_its_mirror_alone_stays() {
    let mut spread = Spread::watched();
    let written = attach(&mut spread.rooms[0], of(0, Camera));
    spread.forget();
    let info = SenderInfo {
        ntp: NtpTime(5 << 32),
        rtp: 3_000,
        packets: 1,
        bytes: 1,
    };
    spread.rooms[0].rtcp(0, |writer| writer.sender_report(ssrc(0, Camera), info));
    spread.settle();
    let reports = |packet: &Rtcp<'_>| {
        matches!(packet, Rtcp::SenderReport { ssrc, info, .. }
            if *ssrc == slot_ssrc(1, 0) && info.ntp == NtpTime(5 << 32))
    };
    assert_eq!(spread.rooms[1].out.count(who(1), reports), 1);
    spread.camera(0, 0, 2, false);
    let written = written.lock().expect("one thread");
    assert_eq!((written.packets.len(), written.clocks.len()), (1, 1));
    assert!(
        spread.rooms[1].out.media.is_empty()
            && !spread.rooms[1]
                .out
                .events
                .iter()
                .any(|event| matches!(event, SfuEvent::Flowing { .. })),
        "only the room of the sender speaks of it"
    );
}

#[test]
fn a_screen_and_its_sharer_are_told_apart_from_afar() {
    let mut spread = Spread::of(&[0], &[1], 2, 1);
    spread.publish(0, 0, Camera);
    spread.publish(0, 0, Screen);
    spread.view(1, 1, 1, &[(0, of(0, Screen)), (1, of(0, Camera))]);
    spread.camera(0, 0, 1, true);
    let mut screen = picture(0, 1, true);
    screen[8..12].copy_from_slice(&ssrc(0, Screen).to_be_bytes());
    spread.rooms[0].send(0, &screen);
    spread.settle();
    let shown = spread.rooms[1].out.shown(who(1));
    assert_eq!(shown[..2], [Some(of(0, Screen)), Some(of(0, Camera))]);
}

#[test]
fn forged_or_stale_parcels_of_nobody_change_nothing() {
    let mut spread = Spread::watched();
    let mut parcel = Parcel::default();
    spread.rooms[0].camera(0, 2, false);
    spread.rooms[0].room.post(1, &mut parcel);
    let now = spread.rooms[0].now;
    let Class { room, out, .. } = &mut spread.rooms[0];
    room.leave(now, who(0), out);
    spread.settle();
    spread.forget();
    let Class { room, out, .. } = &mut spread.rooms[1];
    room.handle_parcel(now, 0, &parcel, out);
    assert!(out.rtp.is_empty() && !room.is_spread());
}

#[test]
fn a_room_that_a_fault_parted_from_the_others_meets_them_again_when_somebody_connects() {
    // Before and after they were told.
    for told in [false, true] {
        let mut spread = Spread::watched();
        spread.rooms[1].room.part_after_fault();
        if told {
            spread.settle();
            assert!(!spread.rooms[0].room.is_spread() && !spread.rooms[1].room.is_spread());
        }
        spread.rooms[1].connect(1, 2, 2);
        spread.settle();
        spread.forget();
        spread.camera(0, 0, 2, true);
        assert_eq!(spread.seen(1, 1), [2], "told: {told}");
    }
}

#[test]
fn nothing_of_an_emptied_room_stays_in_the_other() {
    let mut spread = Spread::of(&[0, 3], &[1, 2], 2, 2);
    for (room, number) in [(0, 0), (1, 1)] {
        spread.publish(room, number, Camera);
        spread.publish(room, number, Microphone);
        spread.view(1 - room, [2, 3][room], 1, &[(0, of(number, Camera))]);
        spread.camera(room, number, 1, true);
    }
    let senders = |spread: &Spread| spread.rooms[0].room.publishers.iter().flatten().count();
    assert_eq!(senders(&spread), 3);
    for number in [1, 2] {
        let now = spread.rooms[1].now;
        let Class { room, out, .. } = &mut spread.rooms[1];
        room.leave(now, who(number), out);
        spread.settle();
    }
    assert!(spread.rooms[1].room.is_over());
    let room = &spread.rooms[0].room;
    assert_eq!(
        (senders(&spread), room.seats.len(), room.relay.seats.len()),
        (2, 2, 0)
    );
    let lines = room.publishers.iter().flatten().flat_map(|one| &one.lines);
    let mut told = lines.map(|line| {
        (
            line.elsewhere.len(),
            line.relays.iter().any(|workers| *workers != 0),
        )
    });
    assert!(told.all(|line| line == (0, false)));
    let before = counters(&spread.rooms[0])["packets_relayed"];
    spread.camera(0, 0, 2, true);
    assert_eq!(counters(&spread.rooms[0])["packets_relayed"], before);
}

/// Senders 0 and 1 and watchers 2 and 3, of whom the first are on worker 0.
#[derive(Clone, Debug)]
enum Step {
    Picture { sender: usize, skip: u16, key: bool },
    View { watcher: usize, sender: usize },
    Nack { watcher: usize, behind: u16 },
    Republish { sender: usize },
    Reconnect { sender: usize },
    Turn { room: usize },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let one = || 0..2_usize;
    prop_oneof![
        12 => (one(), 1..4_u16, prop::bool::weighted(0.3))
            .prop_map(|(sender, skip, key)| Step::Picture { sender, skip, key }),
        2 => (one(), one()).prop_map(|(watcher, sender)| Step::View { watcher, sender }),
        4 => (one(), 0..8_u16).prop_map(|(watcher, behind)| Step::Nack { watcher, behind }),
        1 => one().prop_map(|sender| Step::Republish { sender }),
        1 => one().prop_map(|sender| Step::Reconnect { sender }),
        6 => one().prop_map(|room| Step::Turn { room }),
        1 => (1..3_000_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #[test]
    fn no_index_is_given_out_twice_with_different_bytes_in_any_room(steps in prop::collection::vec(step(), 1..120)) {
        let mut spread = Spread::of(&[0, 2], &[1, 3], 1, 1);
        let mut counts = [0_u16; 2];
        let mut pictures = 0_u16;
        for sender in 0..2 {
            spread.publish(sender, sender, Camera);
        }
        for (generation, step) in (1..).zip(steps) {
            match step {
                Step::Picture { sender, skip, key } => {
                    counts[sender] = counts[sender].wrapping_add(skip);
                    pictures += 1;
                    let mut packet = picture(sender, counts[sender], key);
                    let end = packet.len() - 2;
                    packet[end..].copy_from_slice(&pictures.to_be_bytes());
                    spread.rooms[sender].send(sender, &packet);
                }
                Step::View { watcher, sender } => {
                    spread.rooms[watcher].view(watcher + 2, generation, &[(0, of(sender, Camera))]);
                }
                Step::Nack { watcher, behind } => {
                    let newest = spread.rooms[watcher].given(watcher + 2).last().map(|given| given.index as u16);
                    let lost = newest.map(|newest| newest.wrapping_sub(behind));
                    spread.rooms[watcher]
                        .rtcp(watcher + 2, |writer| writer.nack(9, slot_ssrc(watcher + 2, 0), lost.into_iter()));
                }
                Step::Republish { sender } => {
                    spread.rooms[sender].unpublish(sender, Camera);
                    spread.rooms[sender].publish(sender, Camera);
                    counts[sender] = 0;
                }
                Step::Reconnect { sender } => {
                    spread.rooms[sender].connect(sender, 1, 1);
                    counts[sender] = 0;
                }
                Step::Turn { room } => {
                    spread.turn(room);
                }
                Step::Wait { ms } => spread.wait(ms),
            }
        }
        for (room, class) in spread.rooms.iter().enumerate() {
            let mut given_out = HashMap::new();
            for given in class.given(room + 2) {
                let ssrc = given.view().header.ssrc;
                let before = given_out.insert((ssrc, given.index), &given.bytes);
                prop_assert!(before.is_none_or(|before| *before == given.bytes), "{given:?}");
            }
        }
    }
}
