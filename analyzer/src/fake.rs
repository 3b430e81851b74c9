//! Participants and frames for this crate's tests.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use seodang_model::{DisplayName, LessonFolder, LessonId, ParticipantId, Role, StorageName};
use seodang_rtp::{ClockSource, Frame, Vp8FrameHeader};
use time::OffsetDateTime;

use crate::subject::Subject;

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
        joined_at: SystemTime::now(),
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
    let bin = pipeline.downcast_ref::<gst::Bin>().expect("two elements make a bin");
    let sink = bin.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok()).expect("it is named");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let sample = sink.pull_sample().expect("one frame");
    pipeline.set_state(gst::State::Null).expect("it stops");
    let map = sample.buffer().expect("a buffer").map_readable().expect("readable").to_vec();
    Bytes::from(map)
}
