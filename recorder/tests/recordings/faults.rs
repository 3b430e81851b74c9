//! Disks that are full, slow or stuck, and participants that come and go.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use seodang_model::MediaKind::{Audio, Video};
use seodang_model::RecordingKind;
use seodang_recorder::{ChatLine, FileState, GapReason, PartState, Recorder, RecorderConfig, finish_lesson};

use crate::PATIENCE;
use crate::class::{Class, Event, STARTED_AT, arriving, both_sending, camera, later, participant, play, s};
use crate::media::{microphone, video};
use crate::probe::{decode, heard, luma, pictures, probe};

#[test]
fn a_participant_that_was_away_leaves_a_gap_and_not_hours_of_black() {
    let class = Class::new();
    let (video, audio) = (camera(320, 180, 2), microphone(2));
    let mut writer = class.open("민수");
    let mut events: Vec<_> = [
        both_sending(s(0.0)),
        arriving(Video, &video),
        arriving(Audio, &audio),
        arriving(Video, &later(&video, s(600.0))),
        arriving(Audio, &later(&audio, s(600.0))),
    ]
    .into_iter()
    .flatten()
    .collect();
    events.push((s(2.1), Event::Away(true)));
    events.push((s(599.9), Event::Away(false)));
    play(&mut writer, events, s(0.0), s(602.1));
    writer.finish().wait(PATIENCE).expect("finished");
    let manifest = class.end(&["민수"]);
    assert_eq!(manifest.files[0].state, FileState::Finished);
    let path = class.file("민수.webm");
    decode(&path);
    let found = probe(&path);
    assert!(
        found.video.len() <= 2 * video.len() + 4,
        "{} pictures",
        found.video.len()
    );
    assert!(found.duration.expect("a duration").abs_diff(s(602.0)) < s(0.1));
    assert!(luma(&path, s(2.0)) <= 20, "black while away");
    assert!(
        heard(&path).abs_diff(s(602.0)) < s(0.1),
        "no hole in the sound: {:?}",
        heard(&path)
    );
    let gaps: Vec<_> = manifest.files[0]
        .gaps
        .iter()
        .map(|gap| (gap.from_ms, gap.to_ms, gap.reason))
        .collect();
    assert_eq!(gaps, [(2_100, 599_900, GapReason::Away)]);
}

#[test]
fn a_picture_may_change_its_size_as_often_as_it_likes() {
    let class = Class::new();
    let sizes = [(640, 360), (320, 180), (1280, 720), (160, 90)];
    let mut writer = class.open("민수");
    let mut events = both_sending(s(0.0));
    for (index, (width, height)) in (0_u32..).zip(sizes) {
        events.extend(arriving(Video, &later(&camera(width, height, 1), s(1.0) * index)));
    }
    events.extend(arriving(Audio, &microphone(4)));
    play(&mut writer, events, s(0.0), s(4.1));
    writer.finish().wait(PATIENCE).expect("finished");
    let manifest = class.end(&["민수"]);
    decode(&class.file("민수.webm"));
    assert_eq!(probe(&class.file("민수.webm")).video.len(), 120);
    assert_eq!(
        (manifest.files[0].width, manifest.files[0].height),
        (Some(1280), Some(720))
    );
}

#[test]
fn a_screen_that_stands_still_stays_visible_in_a_file_of_its_own() {
    let class = Class::new();
    let screen = video(
        "videotestsrc num-buffers=30 pattern=smpte ! video/x-raw,width=640,height=360,framerate=30/1 \
         ! vp8enc deadline=1 ! appsink name=out sync=false max-buffers=0",
    );
    let info = class.info("민수", RecordingKind::Screen);
    let mut writer = class.recorder.open(info).expect("a recording");
    let mut events = arriving(Video, &screen);
    events.push((s(0.0), Event::Sending(Video, true)));
    play(&mut writer, events, s(0.0), s(20.0));
    writer.finish().wait(PATIENCE).expect("finished");
    class.end(&["민수"]);
    let path = class.file("민수_screen.webm");
    decode(&path);
    let shown = pictures(&path);
    let last = shown.last().expect("pictures");
    assert!(last.0 >= s(19.5), "{:?}", last.0);
    assert!(
        shown[29..].iter().all(|(_, digest)| *digest == last.1),
        "the last real picture stands"
    );
    assert!(luma(&path, s(15.0)) > 50);
}

#[test]
fn a_screen_share_that_has_ended_costs_nothing_until_the_next_one() {
    let class = Class::new();
    let mut writer = class
        .recorder
        .open(class.info("민수", RecordingKind::Screen))
        .expect("a recording");
    let screen = camera(320, 180, 2);
    let mut events = Vec::new();
    for begin in [0.0, 300.0] {
        events.push((s(begin), Event::Sending(Video, true)));
        events.extend(arriving(Video, &later(&screen, s(begin))));
        events.push((s(begin + 2.1), Event::Sending(Video, false)));
    }
    play(&mut writer, events, s(0.0), s(600.0));
    writer.finish().wait(PATIENCE).expect("finished");
    let manifest = class.end(&["민수"]);
    let path = class.file("민수_screen.webm");
    decode(&path);
    let found = probe(&path);
    assert!(
        found.video.len() <= 2 * screen.len() + 4,
        "{} pictures",
        found.video.len()
    );
    assert!(found.duration.expect("a duration").abs_diff(s(302.1)) < s(0.1));
    assert!(heard(&path).abs_diff(s(302.1)) < s(0.1));
    assert_eq!(manifest.files[0].gaps, [], "nobody was away");
}

#[test]
fn thirty_recordings_are_finished_within_seconds_and_private() {
    let class = Class::new();
    let (video, audio) = (camera(320, 180, 3), microphone(3));
    let mut writers: Vec<_> = (0..30)
        .map(|number| class.open(&format!("학생 {number}")))
        .collect();
    for writer in &mut writers {
        let events = [
            both_sending(s(0.0)),
            arriving(Video, &video),
            arriving(Audio, &audio),
        ];
        play(writer, events.into_iter().flatten().collect(), s(0.0), s(3.1));
    }
    let begin = Instant::now();
    let pending: Vec<_> = writers.into_iter().map(|writer| writer.finish()).collect();
    for part in pending {
        assert_eq!(part.wait(PATIENCE).expect("finished").state, PartState::Finished);
    }
    let manifest = class.end(&[]);
    assert!(begin.elapsed() < s(10.0), "{:?}", begin.elapsed());
    assert_eq!((manifest.files.len(), manifest.participants.len()), (30, 30));
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    for name in class.names() {
        assert_eq!(mode(&class.file(&name)), 0o600, "{name}");
    }
    let folder = class.folder();
    assert_eq!(
        [folder.as_path(), folder.parent().expect("a room")].map(mode),
        [0o700, 0o700]
    );
}

#[test]
fn a_second_person_of_the_same_recording_never_overwrites_the_first() {
    let class = Class::new();
    let (first, second) = (class.open("민수"), class.open("민수"));
    let names = class.names();
    assert!(
        names.contains(&"민수.webm.part".to_owned()) && names.contains(&"민수_part2.webm.part".to_owned())
    );
    drop((first, second));
}

#[test]
fn a_lesson_being_recorded_is_left_alone_by_whoever_recovers() {
    let class = Class::new();
    let mut writer = class.open("민수");
    let events = [both_sending(s(0.0)), arriving(Video, &camera(320, 180, 1))];
    play(
        &mut writer,
        events.into_iter().flatten().collect(),
        s(0.0),
        s(1.1),
    );
    let report = seodang_recorder::recover(class.root.path(), &[]).expect("a readable folder");
    assert_eq!(report.lessons[0].1.files[0].state, FileState::Unfinished);
    assert!(class.names().contains(&".민수.json".to_owned()), "its note stays");
    writer.finish().wait(PATIENCE).expect("finished");
    assert_eq!(class.end(&["민수"]).files[0].state, FileState::Finished);
    decode(&class.file("민수.webm"));
}

#[test]
fn nobody_without_consent_is_in_the_manifest_or_the_chat() {
    let class = Class::new();
    let line = |name: &str| {
        let participant = participant(name);
        let text = format!("I am {name}");
        let name = seodang_model::DisplayName::parse(name).expect("a name");
        ChatLine {
            at: s(1.0),
            sent_at: STARTED_AT,
            participant: participant.id,
            name,
            text,
        }
    };
    let mut summary = class.summary(&["민수"]);
    summary.chat = vec![line("민수"), line("철수")];
    finish_lesson(class.root.path(), &summary).expect("finished");
    for name in class.names() {
        let content = fs::read_to_string(class.file(&name)).expect("text");
        assert!(
            !name.contains("철수") && !content.contains("철수") && content.contains("민수"),
            "{name}"
        );
    }
}

#[test]
fn a_lesson_in_which_nobody_consented_leaves_no_trace() {
    let class = Class::new();
    class.end(&[]);
    assert_eq!(fs::read_dir(class.root.path()).expect("a folder").count(), 0);
}

#[test]
fn a_disk_that_fills_up_cuts_the_recording_short_and_leaves_it_playable() {
    let class = Class::new();
    in_child_with_little_space("faults::a_process_that_records_into_a_full_disk", &class, 300);
    let manifest = class.end(&["민수"]);
    let entry = &manifest.files[0];
    assert_eq!(
        (entry.state, entry.path.as_str()),
        (FileState::Truncated, "민수.webm")
    );
    let path = class.file("민수.webm");
    decode(&path);
    let found = probe(&path);
    assert!(
        found.end() > s(1.0) && fs::metadata(&path).expect("a file").len() > 290 << 10,
        "{:?}",
        found.end()
    );
    assert!(found.duration.expect("a duration") >= found.end());
}

#[test]
fn parts_that_find_no_space_to_be_joined_stay_until_there_is_some() {
    let class = Class::new();
    for offset in [0.0, 5.0] {
        let mut writer = class.open("민수");
        let video = later(&camera(640, 360, 3), s(offset));
        let events = [both_sending(s(offset)), arriving(Video, &video)];
        play(
            &mut writer,
            events.into_iter().flatten().collect(),
            s(offset),
            s(offset + 3.1),
        );
        writer.finish().wait(PATIENCE).expect("finished");
    }
    let parts = [
        ".민수.json",
        ".민수_part2.json",
        "민수.webm.part",
        "민수_part2.webm.part",
    ];
    assert_eq!(class.names(), parts);
    let size = |name: &str| fs::metadata(class.file(name)).expect("a file").len();
    let one = size(parts[2]).max(size(parts[3]));
    in_child_with_little_space(
        "faults::a_process_that_finishes_on_a_full_disk",
        &class,
        one / 1024 + 10,
    );
    let names = class.names();
    assert!(
        parts.iter().all(|part| names.contains(&(*part).to_owned())),
        "nothing is lost: {names:?}"
    );
    assert_eq!(class.end(&["민수"]).files[0].state, FileState::Finished);
    decode(&class.file("민수.webm"));
    assert_eq!(
        class.names(),
        ["chat.jsonl", "chat.vtt", "lesson.json", "민수.webm"]
    );
}

/// Runs a test below in a process whose files cannot grow beyond some blocks of 1 KiB and which, like a server,
/// ignores the signal that says so.
fn in_child_with_little_space(test: &str, class: &Class, blocks: u64) {
    let status = Command::new("bash")
        .args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""),
        ])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(ROOT, class.root.path())
        .status()
        .expect("a child");
    assert!(status.success());
}

const ROOT: &str = "SEODANG_TEST_FULL_DISK";

/// The other side of the test above; nothing to do when the tests are run as usual.
#[test]
fn a_process_that_finishes_on_a_full_disk() {
    let Ok(root) = env::var(ROOT) else { return };
    let class = Class::beside(Recorder::start(RecorderConfig { root: (&root).into() }).expect("gstreamer"));
    let manifest = finish_lesson(Path::new(&root), &class.summary(&["민수"])).expect("a manifest");
    assert_eq!(
        (manifest.files[0].state, manifest.files[0].path.as_str()),
        (FileState::Unfinished, "민수.webm.part")
    );
}

/// The other side of the test of a full disk; nothing to do when the tests are run as usual.
#[test]
fn a_process_that_records_into_a_full_disk() {
    let Ok(root) = env::var(ROOT) else { return };
    let class = Class::beside(Recorder::start(RecorderConfig { root: root.into() }).expect("gstreamer"));
    let mut writer = class.open("민수");
    let events = [
        both_sending(s(0.0)),
        arriving(Video, &camera(640, 360, 20)),
        arriving(Audio, &microphone(20)),
    ];
    play(
        &mut writer,
        events.into_iter().flatten().collect(),
        s(0.0),
        s(20.1),
    );
    let deadline = Instant::now() + PATIENCE;
    let mut now = s(20.2);
    while !writer.status().truncated && Instant::now() < deadline {
        now += Duration::from_millis(20);
        writer.tick(now);
        std::thread::yield_now();
    }
    assert!(writer.status().truncated);
    assert_eq!(
        writer.finish().wait(PATIENCE).expect("an answer").state,
        PartState::Truncated
    );
}
