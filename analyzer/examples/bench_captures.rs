//! What captures cost: `cargo run --release -p seodang-analyzer --example bench_captures`.
//!
//! Prints CPU for each capture (key frame to stored JPEG with its row) at two sizes, and how long a class of 30 takes
//! from the moment every key frame is there to the last row.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use rustix::time::{ClockId, clock_gettime};
use seodang_analyzer::{Analyzer, AnalyzerConfig, CameraState, CaptureStatus, Subject};
use seodang_model::{DisplayName, LessonFolder, LessonId, ParticipantId, Role, StorageName};
use seodang_rtp::{ClockSource, Frame, FrameSize};

const CLASS: u128 = 30;
const ROUNDS: u32 = 5;
const PERIOD: Duration = Duration::from_secs(2);

fn main() {
    println!(
        "size      keyframe    jpeg        cpu/capture  wall/class of {CLASS} (median, worst of {ROUNDS})"
    );
    for size in [
        FrameSize {
            width: 320,
            height: 180,
        },
        FrameSize {
            width: 640,
            height: 480,
        },
    ] {
        measure(size);
    }
}

fn measure(size: FrameSize) {
    let root = tempfile::tempdir().expect("a folder");
    let config = AnalyzerConfig {
        period: PERIOD,
        ..AnalyzerConfig::new(root.path().to_owned())
    };
    let (analyzer, handle, events) = Analyzer::start(config, Box::new(|_| {})).expect("it starts");
    let pictures: BTreeMap<u128, Bytes> = (0..CLASS).map(|number| (number, keyframe(size))).collect();
    for number in 0..CLASS {
        handle.enter(subject(number));
        handle.set_camera(ParticipantId::from_bits(number), CameraState::On);
    }
    let (started, zero) = (Instant::now(), SystemTime::now());
    let (mut walls, mut cpu, mut bytes) = (Vec::new(), Duration::ZERO, 0);
    for _ in 0..ROUNDS {
        sleep_past_the_tick();
        let (cpu_before, begin) = (cpu_time(), Instant::now());
        for (number, data) in &pictures {
            let at = started.elapsed();
            let frame = Frame {
                data: data.clone(),
                keyframe: true,
                size: Some(size),
                at,
                captured_at: zero + at,
                clock: ClockSource::Arrival,
            };
            handle.frame(ParticipantId::from_bits(*number), frame);
        }
        for _ in 0..CLASS {
            let row = events.recv_timeout(PERIOD * 2).expect("a row").row;
            assert_eq!(row.status, CaptureStatus::Ok);
            bytes += row.bytes.unwrap_or(0);
        }
        walls.push(begin.elapsed());
        cpu += cpu_time() - cpu_before;
    }
    walls.sort_unstable();
    let captures = u64::from(ROUNDS) * 30;
    println!(
        "{:<9} {:>8} B  {:>8} B  {:>8.2} ms  {:.0} ms, {:.0} ms",
        format!("{}x{}", size.width, size.height),
        pictures.values().map(Bytes::len).sum::<usize>() / pictures.len(),
        bytes / captures,
        cpu.as_secs_f64() * 1_000.0 / captures as f64,
        walls[walls.len() / 2].as_secs_f64() * 1_000.0,
        walls[walls.len() - 1].as_secs_f64() * 1_000.0,
    );
    analyzer.shutdown(Duration::from_secs(5));
}

/// Key frames that come right after the tick are decided on at once.
fn sleep_past_the_tick() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let period = PERIOD.as_nanos();
    let wait = period - now.as_nanos() % period;
    std::thread::sleep(
        Duration::from_nanos(u64::try_from(wait).expect("below the period")) + Duration::from_millis(20),
    );
}

/// Of all threads.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("not negative")
}

fn subject(number: u128) -> Subject {
    let display_name = DisplayName::parse(&format!("student {number}")).expect("a name");
    Subject {
        room: "bench".parse().expect("a number"),
        lesson: LessonId::from_bits(1),
        lesson_folder: LessonFolder::of(SystemTime::now().into()),
        participant: ParticipantId::from_bits(number),
        storage_name: StorageName::for_display(&display_name),
        display_name,
        role: Role::Student,
        consent_version: 1,
    }
}

/// A test picture of flat bars and noise as a key frame.
fn keyframe(size: FrameSize) -> Bytes {
    gst::init().expect("GStreamer is installed");
    let FrameSize { width, height } = size;
    let description = format!(
        "videotestsrc num-buffers=1 pattern=smpte \
         ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
         ! vp8enc deadline=1 target-bitrate=1000000 ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&description).expect("the elements are installed");
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .expect("several elements make a bin");
    let sink = bin
        .by_name("sink")
        .and_then(|sink| sink.downcast::<AppSink>().ok())
        .expect("it is named");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let sample = sink.pull_sample().expect("one frame");
    let data = sample
        .buffer()
        .expect("a buffer")
        .map_readable()
        .expect("readable")
        .to_vec();
    pipeline.set_state(gst::State::Null).expect("it stops");
    Bytes::from(data)
}
