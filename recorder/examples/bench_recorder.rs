//! What recording costs, beside a plain write of the same bytes in the same run.
//!
//! `cargo run --release -p seodang-recorder --example bench_recorder -- [PARTICIPANTS] [SECONDS] [FOLDER]`
//!
//! Plays a camera of 640x480 at 30 pictures a second and a microphone to every participant in real time, three
//! times: into nothing, into plain files, into recordings. Prints process CPU, memory and threads of each, and how
//! long finishing the lesson takes.

#[path = "../tests/recordings/media.rs"]
mod media;

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use seodang_model::{
    DisplayName, LessonFolder, LessonId, MediaKind, ParticipantId, RecordingKind, Role, StorageName,
};
use seodang_recorder::{
    LessonPlace, LessonSummary, ParticipantEntry, Recorder, RecorderConfig, RecordingInfo, finish_lesson,
};
use seodang_rtp::Frame;
use time::OffsetDateTime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let participants: usize = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(15), |text| text.parse())?;
    let folder = arguments.next().map_or_else(env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("seodang-bench-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let result = bench(participants, Duration::from_secs(seconds), &folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn bench(participants: usize, length: Duration, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let camera = media::video(
        "videotestsrc num-buffers=300 pattern=ball motion=sweep ! video/x-raw,width=640,height=480,framerate=30/1 \
         ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=300 end-usage=cbr target-bitrate=1000000 \
         ! appsink name=out sync=false max-buffers=0",
    );
    let round = media::interleaved(&camera, &media::microphone(10));
    let bytes: usize = round.iter().map(|(_, frame)| frame.data.len()).sum();
    println!(
        "{participants} participants, {} s, {} kbit/s each",
        length.as_secs(),
        bytes * 8 / 10_000
    );

    let nothing = measure(|| play(&round, length, |_, _| {}, |_| {}));
    report("feeding alone", &nothing, participants);

    let mut files = (0..participants)
        .map(|number| File::create_new(folder.join(format!("plain-{number}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let plain = measure(|| {
        let write = |_, frame: &Frame| {
            for file in &mut files {
                file.write_all(&frame.data).expect("a disk with room");
            }
        };
        play(&round, length, write, |_| {});
    });
    report("plain write", &plain, participants);

    let root = folder.join("recordings");
    let recorder = Recorder::start(RecorderConfig { root: root.clone() })?;
    let begin = Instant::now();
    let mut writers = (0..participants)
        .map(|number| recorder.open(info(number)))
        .collect::<Result<Vec<_>, _>>()?;
    println!(
        "opening: {:.1} ms each",
        begin.elapsed().as_secs_f64() * 1e3 / participants as f64
    );
    for writer in &mut writers {
        writer.set_sending(MediaKind::Video, true, Duration::ZERO);
        writer.set_sending(MediaKind::Audio, true, Duration::ZERO);
    }
    let writers = std::cell::RefCell::new(&mut writers);
    let recording = measure(|| {
        let write = |kind, frame: &Frame| {
            writers
                .borrow_mut()
                .iter_mut()
                .for_each(|writer| writer.write(kind, frame));
        };
        play(&round, length, write, |now| {
            writers
                .borrow_mut()
                .iter_mut()
                .for_each(|writer| writer.tick(now))
        });
    });
    report("recording", &recording, participants);
    let writers = std::mem::take(writers.into_inner());
    let dropped: u64 = writers
        .iter()
        .map(|writer| writer.status().dropped_video_frames)
        .sum();

    let begin = Instant::now();
    let pending: Vec<_> = writers.into_iter().map(|writer| writer.finish()).collect();
    for part in pending {
        part.wait(Duration::from_secs(60))?;
    }
    let ended = begin.elapsed();
    let manifest = finish_lesson(&root, &summary())?;
    println!(
        "finishing {} files of {} kB: {:.2} s to their ends, {:.2} s to the manifest; {} pictures dropped",
        manifest.files.len(),
        manifest.files.first().map_or(0, |file| file.bytes / 1_000),
        ended.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        dropped,
    );
    Ok(())
}

/// Plays the round over and over in real time.
fn play(
    round: &[(MediaKind, Frame)],
    length: Duration,
    mut write: impl FnMut(MediaKind, &Frame),
    mut tick: impl FnMut(Duration),
) {
    let (begin, mut base) = (Instant::now(), Duration::ZERO);
    let mut frames = round.iter().peekable();
    loop {
        let now = begin.elapsed();
        if now >= length {
            return;
        }
        loop {
            match frames.next_if(|(_, frame)| base + frame.at <= now) {
                Some((kind, frame)) => write(
                    *kind,
                    &Frame {
                        at: base + frame.at,
                        ..frame.clone()
                    },
                ),
                None if frames.peek().is_none() => {
                    base += Duration::from_secs(10);
                    frames = round.iter().peekable();
                }
                None => break,
            }
        }
        tick(now);
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a phase took of the machine.
struct Cost {
    cpu: Duration,
    wall: Duration,
    memory_kb: u64,
    threads: u64,
}

fn measure(work: impl FnOnce()) -> Cost {
    let (begin, before) = (Instant::now(), cpu_time());
    work();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Cost {
        cpu: cpu_time().saturating_sub(before),
        wall: begin.elapsed(),
        memory_kb: field("VmRSS:"),
        threads: field("Threads:"),
    }
}

/// User and system time of the process: fields 14 and 15 of `/proc/self/stat`, in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn report(phase: &str, cost: &Cost, participants: usize) {
    let percent = cost.cpu.as_secs_f64() / cost.wall.as_secs_f64() * 100.0;
    println!(
        "{phase}: {percent:.2} % of a core, {:.3} % a participant; {:.1} MB resident, {} threads",
        percent / participants as f64,
        cost.memory_kb as f64 / 1e3,
        cost.threads,
    );
}

fn info(number: usize) -> RecordingInfo {
    let name = DisplayName::parse(&format!("학생 {number}")).expect("a plain name");
    RecordingInfo {
        place: summary().place,
        lesson: LessonId::from_bits(1),
        lesson_started_at: OffsetDateTime::UNIX_EPOCH,
        participant: ParticipantEntry {
            id: ParticipantId::from_bits(number as u128),
            name: StorageName::for_display(&name),
            role: Role::Student,
            consent_version: 1,
        },
        kind: RecordingKind::Camera,
        resumed_after: None,
    }
}

fn summary() -> LessonSummary {
    LessonSummary {
        place: LessonPlace {
            room: "bench".parse().expect("a number"),
            folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        },
        lesson: LessonId::from_bits(1),
        started_at: OffsetDateTime::UNIX_EPOCH,
        ended_at: OffsetDateTime::UNIX_EPOCH,
        participants: Vec::new(),
        chat: Vec::new(),
    }
}
