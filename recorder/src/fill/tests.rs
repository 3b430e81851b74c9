//! What is filled in, with hand-set time.

use std::time::SystemTime;

use proptest::prelude::*;
use seodang_rtp::ClockSource;

use super::*;
use crate::vp8::keyframe_size;

const SIZE: FrameSize = FrameSize {
    width: 320,
    height: 180,
};

#[test]
fn nothing_is_written_before_the_first_real_frame() {
    let (mut fill, mut out) = (Fill::new(), Vec::new());
    fill.tick(ms(5_000), &mut out);
    fill.set_sending(MediaKind::Video, false, ms(5_000), &mut out);
    fill.set_away(true, ms(6_000), &mut out);
    assert_eq!(out, []);
}

#[test]
fn an_absent_picture_is_black_every_200_ms_from_the_first_sound_on() {
    let (mut fill, mut out) = (Fill::new(), Vec::new());
    fill.set_sending(MediaKind::Audio, true, ms(0), &mut out);
    for at in (1_000..2_000).step_by(20) {
        assert_eq!(
            fill.write(MediaKind::Audio, &sound(at), &mut out),
            Verdict::Written
        );
        fill.begin_at(ms(1_000));
        fill.tick(ms(at + 20), &mut out);
    }
    let black: Vec<_> = of(&out, MediaKind::Video);
    let places: Vec<_> = black.iter().map(|piece| piece.at).collect();
    assert_eq!(places, [1_000, 1_200, 1_400, 1_600, 1_800].map(ms));
    assert!(black.iter().all(|piece| piece.keyframe && !piece.real));
    assert_eq!(
        keyframe_size(&black[0].data),
        Some(FrameSize {
            width: 640,
            height: 360
        })
    );
}

#[test]
fn a_muted_microphone_is_silence_every_20_ms() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.set_sending(MediaKind::Audio, false, ms(0), &mut out);
    for at in (0..2_000).step_by(40) {
        fill.write(MediaKind::Video, &picture(at, at == 0), &mut out);
        fill.tick(ms(at), &mut out);
    }
    let silence = of(&out, MediaKind::Audio);
    assert!(
        silence
            .windows(2)
            .all(|pair| pair[1].at - pair[0].at == SILENCE_DURATION)
    );
    assert_eq!((silence.len(), &silence[0].data), (88, &SILENCE));
}

#[test]
fn sound_that_is_held_back_finds_its_place_unfilled() {
    let (mut fill, mut out) = (sending(), Vec::new());
    for at in (0..1_000).step_by(40) {
        fill.write(MediaKind::Video, &picture(at, at == 0), &mut out);
        fill.set_held(MediaKind::Audio, (at >= 700).then_some(ms(700)));
        fill.tick(ms(at), &mut out);
    }
    fill.set_held(MediaKind::Audio, None);
    // Its clock says that it was sent before it arrived.
    for at in (300..1_000).step_by(20) {
        assert_eq!(
            fill.write(MediaKind::Audio, &sound(at), &mut out),
            Verdict::Written
        );
    }
    assert_eq!(of(&out, MediaKind::Audio).len(), 50);
    fill.tick(ms(1_700), &mut out);
    let last = of(&out, MediaKind::Audio)
        .pop()
        .expect("silence goes on behind it");
    assert!(!last.real && last.at >= ms(1_100), "{last:?}");
}

#[test]
fn a_camera_switched_off_turns_black_at_once_in_its_own_size_and_needs_a_keyframe_again() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Video, &picture(0, true), &mut out);
    fill.set_sending(MediaKind::Video, false, ms(500), &mut out);
    let black = out.last().expect("a filler").clone();
    assert_eq!((black.at, keyframe_size(&black.data)), (ms(500), Some(SIZE)));
    assert_eq!(
        fill.write(MediaKind::Video, &picture(510, true), &mut out),
        Verdict::NotSending
    );
    fill.set_sending(MediaKind::Video, true, ms(600), &mut out);
    assert!(fill.awaits_keyframe());
    assert_eq!(
        fill.write(MediaKind::Video, &picture(610, false), &mut out),
        Verdict::AwaitingKeyframe
    );
    assert_eq!(
        fill.write(MediaKind::Video, &picture(640, true), &mut out),
        Verdict::Written
    );
    assert!(!fill.awaits_keyframe());
}

#[test]
fn a_still_screen_is_repeated_and_never_black() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Video, &picture(0, true), &mut out);
    for now in (0..3_000).step_by(50) {
        fill.tick(ms(now), &mut out);
    }
    let fillers = of(&out, MediaKind::Video).split_off(1);
    assert_eq!(fillers.len(), 13);
    assert!(
        fillers
            .iter()
            .all(|piece| !piece.keyframe && piece.data == repeat_frame(SIZE))
    );
    assert_eq!(
        fill.write(MediaKind::Video, &picture(3_000, false), &mut out),
        Verdict::Written,
        "deltas go on"
    );
}

#[test]
fn pictures_that_come_behind_a_filler_are_shown_late_and_in_order() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Video, &picture(0, true), &mut out);
    fill.tick(ms(650), &mut out);
    for at in [190, 230, 500] {
        assert_eq!(
            fill.write(MediaKind::Video, &picture(at, false), &mut out),
            Verdict::Written
        );
    }
    let video: Vec<_> = of(&out, MediaKind::Video);
    let places: Vec<_> = video.iter().map(|piece| (piece.at, piece.real)).collect();
    let expected = [(0, true), (200, false), (400, false)];
    assert_eq!(places[..3], expected.map(|(at, real)| (ms(at), real)));
    assert!(places[3..].iter().all(|(_, real)| *real));
    let late: Vec<_> = places[3..].iter().map(|(at, _)| *at).collect();
    assert_eq!(late, [ms(400) + MOMENT, ms(400) + 2 * MOMENT, ms(500)]);
    assert!(!fill.awaits_keyframe());
}

#[test]
fn a_picture_from_before_the_camera_went_off_is_not_shown_when_it_is_on_again() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Video, &picture(0, true), &mut out);
    fill.set_sending(MediaKind::Video, false, ms(500), &mut out);
    fill.set_sending(MediaKind::Video, true, ms(600), &mut out);
    assert_eq!(
        fill.write(MediaKind::Video, &picture(480, true), &mut out),
        Verdict::Late
    );
}

#[test]
fn sound_half_a_second_late_finds_its_place_and_later_sound_is_dropped() {
    for (late_ms, verdict) in [(480, Verdict::Written), (540, Verdict::Late)] {
        let (mut fill, mut out) = (sending(), Vec::new());
        for at in (0..1_000).step_by(20) {
            fill.write(MediaKind::Audio, &sound(at), &mut out);
            fill.tick(ms(at), &mut out);
        }
        fill.tick(ms(1_000 + late_ms), &mut out);
        assert_eq!(
            fill.write(MediaKind::Audio, &sound(1_000), &mut out),
            verdict,
            "{late_ms}"
        );
    }
}

#[test]
fn a_picture_with_a_damaged_time_is_dropped_and_a_keyframe_wished() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Video, &picture(0, true), &mut out);
    fill.tick(ms(2_050), &mut out);
    assert_eq!(
        fill.write(MediaKind::Video, &picture(600, false), &mut out),
        Verdict::Late
    );
    assert!(fill.awaits_keyframe());
    fill.tick(ms(3_000), &mut out);
    assert_eq!(
        out.last().map(|piece| piece.keyframe),
        Some(true),
        "silence comes last"
    );
    assert!(
        of(&out, MediaKind::Video)
            .iter()
            .skip(1)
            .all(|piece| !piece.keyframe),
        "the good picture stands"
    );
}

#[test]
fn while_its_participant_is_away_nothing_is_written_and_on_return_its_silence_at_once() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Video, &picture(0, true), &mut out);
    fill.write(MediaKind::Audio, &sound(0), &mut out);
    fill.set_away(true, ms(1_000), &mut out);
    let marks: Vec<_> = out
        .iter()
        .rev()
        .take(1)
        .chain(of(&out, MediaKind::Video).last())
        .cloned()
        .collect();
    assert!(
        marks
            .iter()
            .all(|piece| piece.at == ms(1_000) && piece.keyframe && !piece.real)
    );
    out.clear();
    (1_000..60_000)
        .step_by(500)
        .for_each(|now| fill.tick(ms(now), &mut out));
    assert_eq!(
        fill.write(MediaKind::Audio, &sound(2_000), &mut out),
        Verdict::NotSending
    );
    assert_eq!(out, []);
    fill.set_away(false, ms(60_000), &mut out);
    assert!(
        of(&out, MediaKind::Video).is_empty() && out.len() < 500,
        "{}",
        out.len()
    );
    fill.tick(ms(60_300), &mut out);
    assert!(
        of(&out, MediaKind::Video)
            .iter()
            .all(|piece| piece.at >= ms(60_000))
    );
    assert_eq!(
        fill.write(MediaKind::Video, &picture(60_150, false), &mut out),
        Verdict::AwaitingKeyframe
    );
    assert_eq!(
        fill.write(MediaKind::Audio, &sound(60_150), &mut out),
        Verdict::Written
    );
}

#[test]
fn lost_sound_is_filled_when_the_next_packet_arrives() {
    let (mut fill, mut out) = (sending(), Vec::new());
    for at in [0, 20, 100] {
        fill.write(MediaKind::Audio, &sound(at), &mut out);
    }
    let places: Vec<_> = out.iter().map(|piece| (piece.at, piece.real)).collect();
    assert_eq!(
        places,
        [
            (0, true),
            (20, true),
            (40, false),
            (60, false),
            (80, false),
            (100, true)
        ]
        .map(|(at, real)| (ms(at), real))
    );
}

#[test]
fn sound_from_before_the_mute_still_counts() {
    let (mut fill, mut out) = (sending(), Vec::new());
    fill.write(MediaKind::Audio, &sound(0), &mut out);
    fill.set_sending(MediaKind::Audio, false, ms(50), &mut out);
    assert_eq!(
        fill.write(MediaKind::Audio, &sound(20), &mut out),
        Verdict::Written
    );
    assert_eq!(
        fill.write(MediaKind::Audio, &sound(60), &mut out),
        Verdict::NotSending
    );
}

proptest! {
    /// Whatever happens, each track's times rise, and neither lags far behind the clock.
    #[test]
    fn both_tracks_keep_up(steps in proptest::collection::vec((0_u8..8, 0_u64..300, any::<bool>()), 1..300)) {
        let (mut fill, mut out) = (sending(), Vec::new());
        let mut now = 1_000;
        let mut back_at = 0;
        let mut away = false;
        for (step, delay, flag) in steps {
            now += 20;
            match step {
                0..3 => { fill.write(MediaKind::Video, &picture(now - delay, flag), &mut out); }
                3..5 => { fill.write(MediaKind::Audio, &sound(now - delay), &mut out); }
                5 => fill.set_sending(MediaKind::Video, flag, ms(now), &mut out),
                6 => fill.set_sending(MediaKind::Audio, flag, ms(now), &mut out),
                _ => { fill.set_away(flag, ms(now), &mut out); away = flag; back_at = now; }
            }
            fill.tick(ms(now), &mut out);
            for kind in [MediaKind::Video, MediaKind::Audio] {
                let track = of(&out, kind);
                prop_assert!(track.windows(2).all(|pair| pair[0].at < pair[1].at));
                if kind == MediaKind::Audio && let [first, .., last] = &track[..] {
                    let before = &track[..track.len() - 1];
                    let heard = first.at + before.iter().map(|piece| packet_duration(&piece.data)).sum::<Duration>();
                    // One packet may overlap the silence before it, each time the source comes back.
                    prop_assert!(heard + SILENCE_DURATION > last.at, "a hole before {:?}: {heard:?}", last.at);
                }
                if !away && now > back_at + 400 {
                    let end = track.last().map_or(Duration::ZERO, |piece| match kind {
                        MediaKind::Video => piece.at,
                        MediaKind::Audio => piece.at + packet_duration(&piece.data),
                    });
                    // A filler lags and is 200 ms from the next; sound is filled in whole packets of 20 ms.
                    let behind = if kind == MediaKind::Video { 401 } else { 521 };
                    prop_assert!(end + ms(behind) >= ms(now), "{kind:?} ends at {end:?} at {now}");
                }
            }
        }
    }
}

fn sending() -> Fill {
    let mut fill = Fill::new();
    fill.begin_at(ms(0));
    fill.set_sending(MediaKind::Video, true, ms(0), &mut Vec::new());
    fill.set_sending(MediaKind::Audio, true, ms(0), &mut Vec::new());
    fill
}

fn of(pieces: &[Piece], kind: MediaKind) -> Vec<Piece> {
    pieces
        .iter()
        .filter(|piece| piece.kind == kind)
        .cloned()
        .collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn picture(at: u64, keyframe: bool) -> Frame {
    frame(at, keyframe, keyframe.then_some(SIZE))
}

fn sound(at: u64) -> Frame {
    Frame {
        data: Bytes::from_static(&[0xf8, 1]),
        ..frame(at, true, None)
    }
}

fn frame(at: u64, keyframe: bool, size: Option<FrameSize>) -> Frame {
    Frame {
        data: Bytes::from_static(b"picture"),
        keyframe,
        size,
        at: ms(at),
        captured_at: SystemTime::UNIX_EPOCH,
        clock: ClockSource::Arrival,
    }
}
