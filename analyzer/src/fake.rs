//! Participants and frames for this crate's tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use seodang_model::{DisplayName, LessonFolder, LessonId, ParticipantId, Role, StorageName};
use seodang_rtp::{ClockSource, Frame, Vp8FrameHeader};
use time::OffsetDateTime;

use crate::develop::{Developed, sha256_text};
use crate::files::MANIFEST;
use crate::picture::I420;
use crate::round::Decision;
use crate::row::{CaptureRow, CaptureStatus};
use crate::store::{Entry, file_name};
use crate::subject::{MediaOrigin, Subject};
use crate::tick::Tick;

pub(crate) fn participant(number: u128) -> ParticipantId {
    ParticipantId::from_bits(number)
}

pub(crate) fn subject(number: u128, name: &str) -> Subject {
    let display_name = DisplayName::parse(name).expect("a name");
    Subject {
        room: "math-7b".parse().expect("a number"),
        lesson: LessonId::from_bits(7),
        lesson_folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        participant: participant(number),
        storage_name: StorageName::for_display(&display_name),
        display_name,
        role: Role::Student,
        consent_version: 1,
    }
}

/// A frame of this lesson time; the lesson began at `zero`.
pub(crate) fn frame(data: impl Into<Bytes>, zero: SystemTime, at: Duration) -> Frame {
    let data = data.into();
    Frame {
        size: Vp8FrameHeader::parse(&data).and_then(|header| header.size),
        data,
        keyframe: true,
        at,
        captured_at: zero + at,
        clock: ClockSource::SenderReport,
    }
}

/// A real VP8 key frame of one of GStreamer's test pictures.
pub(crate) fn keyframe(pattern: &str, width: u16, height: u16) -> Bytes {
    gst::init().expect("GStreamer is installed");
    let description = format!(
        "videotestsrc num-buffers=1 pattern={pattern} ! video/x-raw,format=I420,width={width},height={height} \
         ! vp8enc deadline=1 target-bitrate=20000000 min-quantizer=0 max-quantizer=4 ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&description).expect("the elements are installed");
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .expect("two elements make a bin");
    let sink = bin
        .by_name("sink")
        .and_then(|sink| sink.downcast::<AppSink>().ok())
        .expect("it is named");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let sample = sink.pull_sample().expect("one frame");
    pipeline.set_state(gst::State::Null).expect("it stops");
    let map = sample
        .buffer()
        .expect("a buffer")
        .map_readable()
        .expect("readable")
        .to_vec();
    Bytes::from(map)
}

/// A row of a picture that is not stored yet.
pub(crate) fn row(number: u128, name: &str, tick_s: i64, picture: &[u8]) -> CaptureRow {
    let now = Instant::now();
    let decision = Decision {
        subject: Arc::new(subject(number, name)),
        tick: Tick {
            named: Timestamp::from_second(tick_s).expect("in range"),
            at: now,
        },
        media_origin: MediaOrigin::Unknown,
        outcome: Err(CaptureStatus::NoKeyframe),
    };
    CaptureRow {
        status: CaptureStatus::Ok,
        bytes: Some(picture.len() as u64),
        sha256: Some(sha256_text(picture)),
        ..CaptureRow::of(&decision, &TimeZone::UTC, CaptureStatus::Ok)
    }
}

/// The same on its way to the disk.
pub(crate) fn entry(number: u128, name: &str, tick_s: i64, picture: &[u8]) -> Entry {
    Entry {
        storage_name: subject(number, name).storage_name,
        developed: Developed {
            row: row(number, name, tick_s, picture),
            picture: Some(picture.to_vec()),
        },
    }
}

/// A JPEG of some kilobytes.
pub(crate) fn jpeg() -> Vec<u8> {
    let (width, height) = (320, 180);
    let luma = (0..width * height)
        .map(|place| u8::try_from(place * 31 % 220 + 16).expect("below 256"))
        .collect();
    let chroma = vec![128; width * height / 4];
    I420 {
        width,
        height,
        luma,
        blue: chroma.clone(),
        red: chroma,
    }
    .to_jpeg(85)
    .expect("a JPEG")
}

/// The whole lines of a room's manifest.
pub(crate) fn rows(root: &Path) -> Vec<CaptureRow> {
    let text = std::fs::read_to_string(root.join("math-7b/captures.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect()
}

/// Asserts that pictures and rows match one to one, and that nothing else is there.
pub(crate) fn assert_matching(root: &Path) {
    let manifest = std::fs::read(root.join("math-7b/captures.jsonl")).expect("a manifest");
    assert!(
        manifest.is_empty() || manifest.ends_with(b"\n"),
        "the last line is torn"
    );
    let rows = rows(root);
    let ids: BTreeSet<_> = rows.iter().map(|row| row.capture_id).collect();
    assert_eq!(ids.len(), rows.len(), "a row is there twice");
    let mut expected: BTreeSet<String> = [MANIFEST.to_owned()].into();
    for row in rows.iter().filter(|row| row.status == CaptureStatus::Ok) {
        let path = row.path.as_deref().expect("a path");
        let picture = std::fs::read(root.join(path)).expect("the picture of a row");
        assert_eq!(row.sha256.as_deref(), Some(sha256_text(&picture).as_str()));
        assert!(expected.insert(file_name(row)), "two rows for one picture");
    }
    let entries = std::fs::read_dir(root.join("math-7b")).expect("the room's folder");
    let names: BTreeSet<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    assert_eq!(names, expected);
}
