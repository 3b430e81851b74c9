use seodang_model::Source::{Camera, Microphone, ScreenAudio};

use super::*;

fn speak(class: &mut Class, from: u16, packets: u16, levels: &[(usize, u8)]) {
    for place in 0..packets {
        for (number, below) in levels {
            class.microphone(*number, from + place, *below);
        }
        class.wait(20);
    }
}

pub(super) fn heard(class: &Class, by: usize) -> Vec<usize> {
    let mut heard: Vec<_> = class
        .given(by)
        .iter()
        .map(|given| usize::from(given.view().payload[1]))
        .collect();
    heard.sort_unstable();
    heard.dedup();
    heard
}

#[test]
fn in_a_small_room_everybody_hears_everybody_else_in_fixed_slots() {
    let mut class = Class::of(4, 0, 4);
    for number in 0..4 {
        class.publish(number, Microphone);
    }
    let shown = class.out.shown(who(0));
    assert_eq!(shown[3], None, "kept for a screen's sound");
    speak(&mut class, 1, 150, &[(0, 90), (1, 10), (2, 60), (3, 20)]);
    speak(&mut class, 151, 150, &[(0, 10), (1, 90), (2, 10), (3, 90)]);
    assert_eq!(heard(&class, 0), [1, 2, 3], "never oneself");
    assert_eq!(heard(&class, 3), [0, 1, 2]);
    assert_eq!(class.out.shown(who(0)), shown);
    assert_eq!(class.given(0)[0].view().header.payload_type, 121);
}

#[test]
fn in_a_large_room_the_loudest_are_heard() {
    let mut class = Class::of(10, 0, 3);
    for number in 0..10 {
        class.publish(number, Microphone);
    }
    let silence: Vec<_> = (0..10).map(|number| (number, 127)).collect();
    speak(&mut class, 1, 10, &silence);
    let before = class.out.shown(who(0));
    speak(&mut class, 11, 200, &silence);
    assert_eq!(class.out.shown(who(0)), before, "silence moves nothing");
    let mut levels = silence.clone();
    (levels[8].1, levels[9].1) = (20, 30);
    speak(&mut class, 211, 25, &levels);
    class.forget();
    speak(&mut class, 236, 5, &levels);
    assert_eq!(heard(&class, 0), [8, 9]);
    assert!(!heard(&class, 8).contains(&8) && heard(&class, 8).contains(&9));
    speak(&mut class, 241, 50, &silence);
    class.forget();
    speak(&mut class, 291, 5, &silence);
    assert_eq!(heard(&class, 0), [8, 9], "held after the last word");
}

#[test]
fn a_screens_sound_has_the_last_slot() {
    let mut class = Class::of(3, 0, 2);
    class.publish(1, ScreenAudio);
    class.publish(1, Microphone);
    class.publish(2, Microphone);
    assert_eq!(
        class.out.shown(who(0)),
        [Some(of(1, Microphone)), Some(of(1, ScreenAudio))]
    );
    assert_eq!(
        class.out.shown(who(1)),
        [Some(of(2, Microphone)), None],
        "not one's own"
    );
    class.send(1, &sound(1, ScreenAudio, 1, 20));
    assert_eq!(class.given(0).len(), 1);
    class.unpublish(1, ScreenAudio);
    assert_eq!(class.out.shown(who(0))[1], None);
}

#[test]
fn a_single_slot_carries_a_voice_and_none_nothing() {
    let mut class = Class::of(2, 0, 1);
    class.room.join(class.now, who(2), ALL, &mut class.out);
    class.connect(2, 0, 0);
    class.publish(1, ScreenAudio);
    class.publish(1, Microphone);
    class.microphone(1, 1, 20);
    assert_eq!(class.out.shown(who(0)), [Some(of(1, Microphone))]);
    assert_eq!((class.given(0).len(), class.given(2).len()), (1, 0));
}

#[test]
fn who_is_seen_large_is_heard_in_the_slot_that_goes_with_it_and_nowhere_else() {
    let mut class = Class::of(4, 0, 0);
    let mut media = negotiated(0, 1, 4);
    media.slots[1].lips = Some("s0".to_owned());
    class.room.connect(class.now, who(0), &media, &mut class.out);
    class.room.ready(class.now, who(0), &mut class.out);
    for number in 1..4 {
        class.publish(number, Microphone);
        class.publish(number, Camera);
    }
    let heard = |class: &Class| class.out.shown(who(0))[1..4].to_vec();
    let [one, two, three] = [1, 2, 3].map(|number| Some(of(number, Microphone)));
    assert_eq!(heard(&class), [one, two, three]);
    class.view(0, 1, &[(0, of(3, Camera))]);
    assert_eq!(heard(&class), [one, two, three], "not before the picture comes");
    class.camera(3, 1, true);
    assert_eq!(heard(&class)[0], three);
    let others = &heard(&class)[1..];
    assert!(
        others.contains(&one) && others.contains(&two),
        "everybody else stays heard"
    );
    class.unpublish(3, Microphone);
    assert!(!heard(&class).contains(&three));
    class.publish(3, Microphone);
    assert_eq!(heard(&class)[0], three);
    class.view(0, 2, &[]);
    assert_eq!(heard(&class)[0], three, "nobody moves without need");
}

#[test]
fn a_voice_change_is_cut_without_a_jump_in_the_sequence() {
    let mut class = Class::of(3, 0, 1);
    class.publish(1, Microphone);
    class.microphone(1, 100, 20);
    class.wait(20);
    class.unpublish(1, Microphone);
    class.publish(2, Microphone);
    class.microphone(2, 60_000, 20);
    let headers: Vec<_> = class.given(0).iter().map(|given| given.view().header).collect();
    assert_eq!(
        headers[1].sequence_number,
        headers[0].sequence_number.wrapping_add(1)
    );
    assert_eq!(headers[1].timestamp.wrapping_sub(headers[0].timestamp), 960);
}
