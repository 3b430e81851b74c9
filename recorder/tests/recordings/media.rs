//! Synthetic camera and microphone: frames as the assembler would hand them over.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use seodang_model::MediaKind;
use seodang_rtp::{ClockSource, Frame, FrameSize};

/// The frames of any pipeline that ends in VP8 and `appsink name=out`.
pub(crate) fn video(description: &str) -> Vec<Frame> {
    pull(description)
        .into_iter()
        .map(|(at, data)| {
            let keyframe = data[0] & 1 == 0;
            let number = |place: usize| u16::from_le_bytes([data[place], data[place + 1]]) & 0x3fff;
            let size = keyframe.then(|| FrameSize {
                width: number(6),
                height: number(8),
            });
            frame(at, data.clone(), keyframe, size)
        })
        .collect()
}

/// A tone in packets of 20 ms.
pub(crate) fn microphone(seconds: u32) -> Vec<Frame> {
    pull(&format!(
        "audiotestsrc num-buffers={} samplesperbuffer=960 freq=440 ! audio/x-raw,rate=48000,channels=1 \
         ! opusenc bitrate=32000 ! appsink name=out sync=false max-buffers=0",
        seconds * 50
    ))
    .into_iter()
    .map(|(at, data)| frame(at, data, true, None))
    .collect()
}

/// Both tracks in order of time.
pub(crate) fn interleaved(video: &[Frame], audio: &[Frame]) -> Vec<(MediaKind, Frame)> {
    let mut all: Vec<_> = video
        .iter()
        .map(|frame| (MediaKind::Video, frame.clone()))
        .chain(audio.iter().map(|frame| (MediaKind::Audio, frame.clone())))
        .collect();
    all.sort_by_key(|(_, frame)| frame.at);
    all
}

fn pull(description: &str) -> Vec<(Duration, Bytes)> {
    gst::init().expect("gstreamer is installed");
    let pipeline = gst::parse::launch(description)
        .expect("a pipeline")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    let sink = pipeline
        .by_name("out")
        .expect("a sink")
        .downcast::<AppSink>()
        .expect("a sink for us");
    pipeline
        .set_state(gst::State::Playing)
        .expect("the pipeline starts");
    let mut frames = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().expect("a frame");
        let at = Duration::from(buffer.pts().unwrap_or_default());
        frames.push((at, Bytes::copy_from_slice(&buffer.map_readable().expect("bytes"))));
    }
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    frames
}

fn frame(at: Duration, data: Bytes, keyframe: bool, size: Option<FrameSize>) -> Frame {
    let captured_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + at;
    Frame {
        data,
        keyframe,
        size,
        at,
        captured_at,
        clock: ClockSource::Arrival,
    }
}
