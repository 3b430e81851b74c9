//! What kill -9 at any moment leaves, and what becomes of it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seodang_model::MediaKind::{self, Audio, Video};
use seodang_recorder::{FileState, GapReason, RecorderConfig, recover};
use seodang_rtp::Frame;

use crate::PATIENCE;
use crate::class::{Class, arriving, both_sending, camera, later, play, s};
use crate::media::{interleaved, microphone, video};
use crate::probe::{decode, heard, probe};

/// What a crash may take of each track.
const MOST_LOST: Duration = Duration::from_secs(1);

/// What the child records; each is slow to fill a buffer in its own way.
const SCENES: [&str; 6] = [
    "both",
    "sound only",
    "picture only",
    "muted after a second",
    "still screen",
    "away after a second",
];

#[test]
fn after_kill_9_at_any_moment_every_file_plays_and_at_most_a_second_is_lost() {
    let seed = env::var("SEODANG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("SEODANG_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let runs: usize = env::var("SEODANG_KILLS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(2);
    for _ in 0..runs {
        let children: Vec<_> = SCENES
            .iter()
            .map(|scene| {
                (
                    scene,
                    Recording::start(scene),
                    Duration::from_millis(random.random_range(100..5_000)),
                )
            })
            .collect();
        thread::scope(|scope| {
            for (scene, recording, moment) in children {
                scope.spawn(move || check_crash(scene, recording, moment));
            }
        });
    }
}

fn check_crash(scene: &str, mut recording: Recording, moment: Duration) {
    recording.wait_for_first_frame();
    thread::sleep(moment);
    let fed = recording.kill();
    let class = recording.class;
    let Some(last) = fed.frames.iter().map(|(_, at)| *at).max() else {
        return;
    };
    let label = format!("{scene}, killed {moment:?} after its first frame");

    let report = recover(class.root.path(), &[]).expect("a readable folder");
    assert!(report.failures.is_empty(), "{label}: {:?}", report.failures);
    let path = class.file("민수-1.webm");
    if !path.exists() {
        assert!(last <= MOST_LOST, "{label}: nothing was kept of {last:?}");
        return;
    }
    decode(&path);
    let found = probe(&path);
    for kind in [Video, Audio] {
        let there: BTreeSet<_> = if kind == Video { &found.video } else { &found.audio }
            .iter()
            .map(|packet| packet.at.as_millis())
            .collect();
        let due = fed
            .frames
            .iter()
            .filter(|(of, at)| *of == kind && *at + MOST_LOST < fed.clock);
        // Times in the file are whole milliseconds, rounded one way or the other.
        let missing: Vec<_> = due
            .filter(|(_, at)| ![0, 1].iter().any(|more| there.contains(&(at.as_millis() + more))))
            .collect();
        assert!(
            missing.is_empty(),
            "{label}: {kind:?} lacks {missing:?} of {:?}",
            fed.clock
        );
    }
    let manifest = &report.lessons[0].1;
    assert_eq!(
        (manifest.files[0].state, manifest.state),
        (FileState::Recovered, FileState::Recovered),
        "{label}"
    );
    assert_eq!(manifest.files[0].offset_ms, 0, "{label}");
    let duration = found.duration.expect("a duration");
    assert!(duration >= found.end(), "{label}");
    assert_eq!(class.names(), ["lesson.json", "민수-1.webm"], "{label}");
    let again = recover(class.root.path(), &[]).expect("a readable folder");
    assert!(again.lessons.is_empty(), "nothing left to do");
}

#[test]
fn after_a_restart_a_lesson_goes_on_in_a_second_part_and_ends_as_one_file_with_the_gap_kept() {
    let mut recording = Recording::start("both");
    recording.wait_for_first_frame();
    thread::sleep(s(1.6));
    let fed = recording.kill();
    let class = recording.class;

    let report = recover(class.root.path(), &[class.place()]).expect("a readable folder");
    assert_eq!(
        (report.open.len(), report.lessons.len()),
        (1, 0),
        "the lesson goes on: its part is left alone"
    );
    let (video, audio) = (
        later(&camera(320, 180, 2), s(10.0)),
        later(&microphone(2), s(10.0)),
    );
    let mut writer = class.open_again("민수 1", GapReason::Restart);
    let events = [
        both_sending(s(9.9)),
        arriving(Video, &video),
        arriving(Audio, &audio),
    ];
    play(
        &mut writer,
        events.into_iter().flatten().collect(),
        s(9.8),
        s(12.1),
    );
    assert!(class.names().contains(&"민수-1_part2.webm.part".to_owned()));
    writer.finish().wait(PATIENCE).expect("finished");
    let manifest = class.end(&["민수 1"]);

    assert_eq!(
        class.names(),
        ["chat.jsonl", "chat.vtt", "lesson.json", "민수-1.webm"]
    );
    let path = class.file("민수-1.webm");
    decode(&path);
    let found = probe(&path);
    assert!(found.duration.expect("a duration").abs_diff(s(12.0)) < s(0.1));
    assert!(
        heard(&path).abs_diff(s(12.0)) < s(0.1),
        "no hole in the sound: {:?}",
        heard(&path)
    );
    let entry = &manifest.files[0];
    assert_eq!(
        (entry.state, entry.offset_ms, entry.gaps.len()),
        (FileState::Recovered, 0, 1)
    );
    let gap = entry.gaps[0];
    assert_eq!((gap.reason, gap.to_ms), (GapReason::Restart, 10_000));
    assert!(
        Duration::from_millis(gap.from_ms) + MOST_LOST >= fed.clock && gap.from_ms < 3_000,
        "{gap:?}"
    );
    let second: Vec<_> = found
        .video
        .iter()
        .filter(|packet| packet.at >= s(10.0))
        .map(|packet| packet.bytes)
        .collect();
    assert_eq!(
        second,
        video
            .iter()
            .map(|frame| frame.data.len() as u64)
            .collect::<Vec<_>>(),
        "all of part 2"
    );
}

#[test]
fn a_finished_lesson_that_goes_on_after_all_is_joined_again() {
    let class = Class::new();
    let (video, audio) = (camera(320, 180, 1), microphone(1));
    for (offset, name) in [(0.0, "first"), (5.0, "second")] {
        let mut writer = class.open("민수 1");
        let events = [
            both_sending(s(offset)),
            arriving(Video, &later(&video, s(offset))),
            arriving(Audio, &later(&audio, s(offset))),
        ];
        play(
            &mut writer,
            events.into_iter().flatten().collect(),
            s(offset),
            s(offset + 1.1),
        );
        writer.finish().wait(PATIENCE).expect(name);
        recover(class.root.path(), &[]).expect("a readable folder");
    }
    let manifest = class.end(&["민수 1"]);
    decode(&class.file("민수-1.webm"));
    assert_eq!(
        class.names(),
        ["chat.jsonl", "chat.vtt", "lesson.json", "민수-1.webm"]
    );
    assert_eq!(manifest.files.len(), 1);
    assert!(
        (5_900..6_100).contains(&manifest.files[0].duration_ms),
        "{:?}",
        manifest.files[0]
    );
    let sizes: Vec<_> = video.iter().map(|frame| frame.data.len() as u64).collect();
    let found: Vec<_> = probe(&class.file("민수-1.webm"))
        .video
        .iter()
        .map(|packet| packet.bytes)
        .collect();
    assert!(
        found.starts_with(&sizes) && found.ends_with(&sizes),
        "all of both parts"
    );
}

/// The muxer gives each of two tracks a random number, and writes it without its leading zeros.
const RANDOM_NUMBERS_BYTES: usize = 2 * 8;

#[test]
fn finishing_that_is_killed_anywhere_is_completed_by_the_next() {
    let class = Class::new();
    let (video, audio) = (camera(320, 180, 1), microphone(1));
    for offset in [0.0, 3.0] {
        let mut writer = class.open("민수 1");
        let events = [
            both_sending(s(offset)),
            arriving(Video, &later(&video, s(offset))),
            arriving(Audio, &later(&audio, s(offset))),
        ];
        play(
            &mut writer,
            events.into_iter().flatten().collect(),
            s(offset),
            s(offset + 1.1),
        );
        writer.finish().wait(PATIENCE).expect("finished");
    }
    let before = copy_of(&class.folder());
    class.end(&["민수 1"]);
    let after = copy_of(&class.folder());
    let joined = ("민수-1.webm", after["민수-1.webm"].clone());
    let half = (".민수-1.growing", joined.1[..joined.1.len() / 2].to_vec());
    let [one, two] = ["민수-1.webm.part", "민수-1_part2.webm.part"].map(|name| (name, before[name].clone()));
    let [note_one, note_two] =
        [".민수-1.json", ".민수-1_part2.json"].map(|name| (name, before[name].clone()));
    let manifest = ("lesson.json", after["lesson.json"].clone());
    // The note that speaks for both parts, written before the first of them goes.
    let whole: serde_json::Value = serde_json::from_slice(&manifest.1).expect("json");
    let mut note: serde_json::Value = serde_json::from_slice(&note_one.1).expect("json");
    (note["joined"], note["gaps"]) = (true.into(), whole["files"][0]["gaps"].clone());
    let note_both = (note_one.0, serde_json::to_vec(&note).expect("json"));
    // Every state between two steps.
    let states = [
        vec![&one, &two, &note_one, &note_two, &half],
        vec![&one, &two, &note_one, &note_two, &joined],
        vec![&one, &two, &note_both, &note_two, &joined],
        vec![&one, &note_both, &note_two, &joined],
        vec![&note_both, &note_two, &joined],
        vec![&note_both, &note_two, &joined, &manifest],
        vec![&note_two, &joined, &manifest],
        vec![&joined, &manifest],
    ];
    for (step, state) in states.into_iter().enumerate() {
        fs::remove_dir_all(class.folder())
            .and_then(|()| fs::create_dir(class.folder()))
            .expect("an empty folder");
        for (name, content) in state {
            fs::write(class.file(name), content).expect("a file");
        }
        let manifest = class.end(&["민수 1"]);
        assert_eq!(
            class.names(),
            ["chat.jsonl", "chat.vtt", "lesson.json", "민수-1.webm"],
            "step {step}"
        );
        let entry = &manifest.files[0];
        assert!(
            (3_900..4_100).contains(&entry.duration_ms),
            "step {step}: {entry:?}"
        );
        let bytes = fs::read(class.file("민수-1.webm")).expect("a file").len();
        assert!(
            bytes.abs_diff(joined.1.len()) <= RANDOM_NUMBERS_BYTES,
            "step {step}: {bytes} instead of {}",
            joined.1.len()
        );
        assert_eq!(
            (entry.state, entry.gaps.len()),
            (FileState::Finished, 1),
            "step {step}"
        );
        assert_eq!(manifest.participants.len(), 1, "step {step}");
    }
}

#[test]
fn files_without_media_vanish_and_files_that_cannot_be_read_are_kept_aside() {
    let class = Class::new();
    drop(class.open("민수 1"));
    let folder = class.folder();
    let mut garbage = vec![0xd5; 5_000];
    fs::write(folder.join("가-2.webm.part"), &garbage).expect("garbage");
    fs::write(folder.join("나.webm.part"), b"").expect("an empty file");
    fs::write(folder.join(".나.growing"), b"half").expect("a growing file");
    fs::write(folder.join("notes of the teacher.txt"), b"mine").expect("a foreign file");
    let deadline = Instant::now() + PATIENCE;
    while class.names().contains(&"민수-1.webm.part".to_owned()) && Instant::now() < deadline {
        recover(class.root.path(), &[]).expect("a readable folder");
    }
    assert_eq!(
        class.names(),
        [
            "lesson.json",
            "notes of the teacher.txt",
            "가-2.webm.part.damaged"
        ]
    );
    let manifest = class.end(&["민수 1"]);
    assert_eq!(
        fs::read(folder.join("가-2.webm.part.damaged")).expect("kept"),
        std::mem::take(&mut garbage)
    );
    assert_eq!(
        manifest.state,
        FileState::Damaged,
        "still told after another finishing"
    );
}

/// A process that records one participant in real time until it is killed.
struct Recording {
    class: Class,
    child: Child,
    lines: Box<dyn Iterator<Item = String> + Send>,
    fed: Fed,
}

/// What the recorder had been given.
#[derive(Default)]
struct Fed {
    frames: Vec<(MediaKind, Duration)>,
    clock: Duration,
}

impl Recording {
    fn start(scene: &str) -> Self {
        let class = Class::new();
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args([
                "--exact",
                "crashes::a_process_that_records_until_it_is_killed",
                "--nocapture",
            ])
            .env(SCENE, scene)
            .env(ROOT, class.root.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output"))
            .lines()
            .map_while(Result::ok);
        Self {
            class,
            child,
            lines: Box::new(lines),
            fed: Fed::default(),
        }
    }

    fn wait_for_first_frame(&mut self) {
        while self.fed.frames.is_empty() {
            let line = self.lines.next().expect("the child records");
            self.fed.read(&line);
        }
    }

    fn kill(&mut self) -> Fed {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("killed");
        let mut fed = std::mem::take(&mut self.fed);
        self.lines.by_ref().for_each(|line| fed.read(&line));
        fed
    }
}

impl Fed {
    fn read(&mut self, line: &str) {
        let Some((kind, at)) = line.split_once(' ') else {
            return;
        };
        let Ok(at) = at.parse().map(Duration::from_micros) else {
            return;
        };
        match kind {
            "fed-video" => self.frames.push((Video, at)),
            "fed-audio" => self.frames.push((Audio, at)),
            "fed-clock" => self.clock = at,
            _ => {}
        }
    }
}

const SCENE: &str = "SEODANG_TEST_SCENE";
const ROOT: &str = "SEODANG_TEST_ROOT";

/// The other side of [`Recording`]; nothing to do when the tests are run as usual.
#[test]
fn a_process_that_records_until_it_is_killed() {
    let (Ok(scene), Ok(root)) = (env::var(SCENE), env::var(ROOT)) else {
        return;
    };
    let recorder =
        seodang_recorder::Recorder::start(RecorderConfig { root: root.into() }).expect("gstreamer");
    let class = Class::beside(recorder);
    let video = match scene.as_str() {
        "still screen" => vec![video(
            "videotestsrc num-buffers=1 ! video/x-raw,width=320,height=180,framerate=1/1 ! vp8enc deadline=1 \
             ! appsink name=out sync=false",
        )[0]
        .clone()],
        "sound only" => Vec::new(),
        _ => camera(320, 180, 3),
    };
    let audio = if scene == "picture only" {
        Vec::new()
    } else {
        microphone(3)
    };
    let mut writer = class.open("민수 1");
    writer.set_sending(Video, scene != "sound only", Duration::ZERO);
    writer.set_sending(Audio, scene != "picture only", Duration::ZERO);
    let round = interleaved(&video, &audio);
    let mut frames = (0_u64..).flat_map(|count| {
        let by = s(3.0) * u32::try_from(count).expect("a short test");
        // A still screen sends its picture once.
        let once = scene == "still screen" && count > 0;
        let round: Vec<_> = round
            .iter()
            .filter(|(kind, _)| !(once && *kind == Video))
            .cloned()
            .collect();
        round.into_iter().map(move |(kind, frame)| {
            (
                kind,
                Frame {
                    at: frame.at + by,
                    ..frame
                },
            )
        })
    });
    let (begin, mut next) = (Instant::now(), frames.next());
    let mut out = std::io::stdout().lock();
    let mut silenced = false;
    loop {
        let now = begin.elapsed();
        if now > s(1.0) && !silenced {
            silenced = true;
            if scene == "muted after a second" {
                writer.set_sending(Video, false, now);
                writer.set_sending(Audio, false, now);
            }
            if scene == "away after a second" {
                writer.set_away(true, now);
            }
        }
        let quiet = silenced && (scene.starts_with("muted") || scene.starts_with("away"));
        while let Some((kind, frame)) = next.take_if(|(_, frame)| frame.at <= now) {
            if !quiet {
                writer.write(kind, &frame);
                let word = if kind == Video { "video" } else { "audio" };
                writeln!(out, "fed-{word} {}", frame.at.as_micros()).expect("a listening parent");
            }
            next = frames.next();
        }
        writer.tick(now);
        writeln!(out, "fed-clock {}", now.as_micros())
            .and_then(|()| out.flush())
            .expect("a listening parent");
        thread::sleep(Duration::from_millis(20));
    }
}

fn copy_of(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (
                entry.file_name().into_string().expect("text"),
                fs::read(entry.path()).expect("a file"),
            )
        })
        .collect()
}
