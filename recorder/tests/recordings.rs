//! Recordings judged by their content: ffprobe and ffmpeg read what the recorder wrote.

#[path = "recordings/class.rs"]
mod class;
#[path = "recordings/crashes.rs"]
mod crashes;
#[path = "recordings/faults.rs"]
mod faults;
#[path = "recordings/media.rs"]
mod media;
#[path = "recordings/probe.rs"]
mod probe;
#[path = "recordings/repeats.rs"]
mod repeats;

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use seodang_model::MediaKind::{Audio, Video};
use seodang_recorder::{FileState, PartState};

use class::{Class, Event, arriving, both_sending, camera, later, play, s};
use media::microphone;
use probe::{decode, loudness, luma, pictures, probe};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_lesson_becomes_one_file_with_duration_and_cues_in_which_nothing_is_missing() {
    let class = Class::new();
    let (video, audio) = (later(&camera(320, 180, 5), s(2.0)), later(&microphone(5), s(2.0)));
    let mut writer = class.open("김 민수");
    let events = [
        both_sending(s(1.9)),
        arriving(Video, &video),
        arriving(Audio, &audio),
    ];
    play(
        &mut writer,
        events.into_iter().flatten().collect(),
        s(1.8),
        s(7.2),
    );
    assert!(class.names().contains(&"김-민수.webm.part".to_owned()));
    let part = writer.finish().wait(PATIENCE).expect("finished");
    assert_eq!(
        (part.state, part.status.offset),
        (PartState::Finished, Some(s(2.0)))
    );
    let inode = |name: &str| std::fs::metadata(class.file(name)).expect("a file").ino();
    let part = inode("김-민수.webm.part");
    let manifest = class.end(&["김 민수"]);

    assert_eq!(inode("김-민수.webm"), part, "named, not written once more");
    let path = class.file("김-민수.webm");
    decode(&path);
    let found = probe(&path);
    let sizes = |frames: &[seodang_rtp::Frame]| {
        frames
            .iter()
            .map(|frame| frame.data.len() as u64)
            .collect::<Vec<_>>()
    };
    let real: Vec<_> = found.video.iter().map(|packet| packet.bytes).collect();
    assert_eq!(real, sizes(&video), "every picture, and no filler");
    let sound: Vec<_> = found.audio.iter().map(|packet| packet.bytes).collect();
    assert_eq!(sound[..audio.len()], sizes(&audio));
    let duration = found.duration.expect("a duration");
    assert!(duration.abs_diff(s(5.0)) < s(0.1), "{duration:?}");
    let entry = &manifest.files[0];
    assert_eq!(
        (entry.path.as_str(), entry.state, entry.offset_ms),
        ("김-민수.webm", FileState::Finished, 2_000)
    );
    assert_eq!(
        (entry.width, entry.height, entry.gaps.len()),
        (Some(320), Some(180), 0)
    );
    assert_eq!(entry.bytes, std::fs::metadata(&path).expect("a file").len());
    assert!(duration.abs_diff(Duration::from_millis(entry.duration_ms)) < s(0.002));
    assert_eq!(
        class.names(),
        ["chat.jsonl", "chat.vtt", "lesson.json", "김-민수.webm"]
    );
}

#[test]
fn a_muted_microphone_is_silent_and_a_camera_switched_off_is_black_and_both_come_back() {
    let class = Class::new();
    let (video, audio) = (camera(320, 180, 6), microphone(6));
    let mut writer = class.open("민수");
    let mut events = [
        both_sending(s(0.0)),
        arriving(Video, &video),
        arriving(Audio, &audio),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    events.push((s(2.0), Event::Sending(Video, false)));
    events.push((s(4.0), Event::Sending(Video, true)));
    events.push((s(1.0), Event::Sending(Audio, false)));
    events.push((s(3.0), Event::Sending(Audio, true)));
    play(&mut writer, events, s(0.0), s(6.2));
    assert!(writer.take_keyframe_wish());
    writer.finish().wait(PATIENCE).expect("finished");
    class.end(&["민수"]);

    let path = class.file("민수.webm");
    decode(&path);
    assert!(loudness(&path, s(0.2), s(0.8)) > 0.05);
    assert!(loudness(&path, s(1.2), s(2.8)) < 0.001);
    assert!(loudness(&path, s(3.2), s(5.0)) > 0.05);
    assert!(luma(&path, s(2.5)) <= 20, "black while off");
    let shown = pictures(&path);
    assert!(
        shown.windows(2).all(|pair| pair[1].0 - pair[0].0 <= s(0.41)),
        "never starved"
    );
    assert!(probe(&path).duration.expect("a duration") >= s(5.9));
}
