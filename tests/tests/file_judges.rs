//! The judges of recordings are judged: they must see every fault that they are there to see.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;
use seodang_fixtures::codec::{OpusEncoder, Vp8Encoder};
use seodang_fixtures::picture::{Counter, Picture};
use seodang_fixtures::timeline::{SAMPLES_PER_PACKET, frame_time, packet_time};
use seodang_fixtures::tone::Tone;
use seodang_tests::files::Recording;

#[test]
fn a_good_file_is_found_good() {
    let (_folder, path) = write(|_| true, 0);
    let recording = Recording::read(&path).expect("ffmpeg reads it");
    assert_eq!(recording.codecs, ["vp8", "opus"]);
    assert!(
        recording.decode_errors.is_empty(),
        "{:?}",
        recording.decode_errors
    );
    assert_eq!(recording.numbers(), (0..FRAMES).collect::<Vec<_>>());
    assert!(recording.missing(&(0..FRAMES).collect::<Vec<_>>()).is_empty());
    assert_eq!(
        (recording.steps_back(), recording.shown(), recording.heard.clone()),
        (0, vec![6], vec![6])
    );
    assert!(recording.has_cues, "webmmux writes cues");
    let duration_s = recording.duration_s.expect("webmmux writes the duration");
    assert!((9.9..10.2).contains(&duration_s), "{duration_s}");
    let sync = recording.sync_error().expect("both tracks");
    assert!(sync.steps > 40 && sync.p90_s < 0.02, "{sync:?}");
}

#[test]
fn missing_pictures_are_found() {
    let (_folder, path) = write(|frame| !(50..53).contains(&frame), 0);
    let recording = Recording::read(&path).expect("ffmpeg reads it");
    assert_eq!(recording.missing(&(0..FRAMES).collect::<Vec<_>>()), [50, 51, 52]);
}

#[test]
fn late_and_early_sound_are_measured() {
    for late_ms in [-100_i64, 60, 150, 700] {
        let (_folder, path) = write(|_| true, late_ms);
        let sync = Recording::read(&path)
            .expect("ffmpeg reads it")
            .sync_error()
            .expect("both tracks");
        let error_ms = sync.median_s * 1000.0;
        assert!(
            (error_ms - late_ms as f64).abs() < 15.0,
            "{late_ms} ms were measured as {error_ms}"
        );
    }
}

#[test]
fn a_cut_file_has_no_cues_and_no_duration_or_a_decode_error() {
    let (_folder, path) = write(|_| true, 0);
    let data = std::fs::read(&path).expect("the file");
    std::fs::write(&path, &data[..data.len() / 2]).expect("written");
    let recording = Recording::read(&path).expect("ffmpeg reads what is there");
    assert!(!recording.has_cues);
}

const FRAMES: u32 = 150;

/// Ten seconds of participant 6 in a webm: the frames that `keep` keeps, with sound that is `late_ms` late.
fn write(keep: impl Fn(u32) -> bool, late_ms: i64) -> (tempfile::TempDir, PathBuf) {
    gst::init().expect("GStreamer");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("민수 1.webm");
    let pipeline = mux(&path);
    let source = |name: &str| {
        let element = pipeline.by_name(name).expect("named below");
        element.downcast::<gstreamer_app::AppSrc>().expect("an appsrc")
    };
    let (video, audio) = (source("v"), source("a"));
    pipeline.set_state(gst::State::Playing).expect("plays");
    let mut pictures = Vp8Encoder::start(320, 180).expect("vp8enc");
    let mut sounds = OpusEncoder::start().expect("opusenc");
    for frame in (0..FRAMES).filter(|frame| keep(*frame)) {
        let picture = Picture::draw(
            Counter {
                participant: 6,
                frame,
            },
            320,
            180,
        );
        let encoded = pictures
            .encode(picture, frame_time(frame), frame % 30 == 0)
            .expect("vp8enc");
        push(&video, &encoded.data, frame_time(frame), encoded.keyframe);
    }
    for packet in 0..500 {
        let mut samples = [0; SAMPLES_PER_PACKET as usize];
        Tone { participant: 6 }.fill(u64::from(packet) * u64::from(SAMPLES_PER_PACKET), &mut samples);
        let at_ms = packet_time(packet).as_millis() as i64 + late_ms;
        if let (Some(data), Ok(at_ms)) = (
            sounds.encode(&samples, packet).expect("opusenc"),
            u64::try_from(at_ms),
        ) {
            push(&audio, &data, std::time::Duration::from_millis(at_ms), true);
        }
    }
    video.end_of_stream().expect("takes the end");
    audio.end_of_stream().expect("takes the end");
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let end = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(20),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert!(
        end.is_some_and(|message| message.type_() == gst::MessageType::Eos),
        "the file was not finished"
    );
    pipeline.set_state(gst::State::Null).expect("stops");
    (folder, path)
}

fn mux(path: &Path) -> gst::Pipeline {
    let description = "appsrc name=v format=time max-bytes=0 caps=video/x-vp8,width=320,height=180,framerate=0/1 ! mux.video_0 \
        appsrc name=a format=time max-bytes=0 caps=audio/x-opus,rate=48000,channels=2,channel-mapping-family=0 ! mux.audio_0 \
        webmmux name=mux ! filesink name=file";
    let pipeline = gst::parse::launch(description).expect("elements are installed");
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .expect("several elements make a pipeline");
    pipeline
        .by_name("file")
        .expect("named above")
        .set_property("location", path.to_str().expect("UTF-8"));
    pipeline
}

fn push(to: &gstreamer_app::AppSrc, data: &[u8], at: std::time::Duration, keyframe: bool) {
    let mut buffer = gst::Buffer::from_mut_slice(data.to_vec());
    let fresh = buffer.make_mut();
    fresh.set_pts(gst::ClockTime::from_nseconds(at.as_nanos() as u64));
    if !keyframe {
        fresh.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    to.push_buffer(buffer).expect("takes buffers");
}
