//! Frames that repeat a picture leave every decoder as it was.

use std::path::Path;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use seodang_model::MediaKind::{Audio, Video};
use seodang_rtp::Frame;

use crate::PATIENCE;
use crate::class::{Class, arriving, both_sending, later, play, s};
use crate::media::{microphone, video};
use crate::probe::{decode, pictures};

/// Encoders as browsers set them, and in ways that lean on everything a decoder keeps: segments, golden and
/// alternate frames, probabilities, odd sizes.
const ENCODERS: [(&str, u16, u16, &str); 6] = [
    (
        "realtime",
        320,
        180,
        "deadline=1 cpu-used=8 error-resilient=default",
    ),
    (
        "screen",
        640,
        360,
        "deadline=1 cpu-used=4 error-resilient=default static-threshold=100",
    ),
    ("odd", 141, 99, "deadline=1 cpu-used=2 token-partitions=2"),
    (
        "half a macroblock",
        136,
        90,
        "deadline=1 cpu-used=2 token-partitions=2",
    ),
    (
        "golden",
        320,
        180,
        "deadline=100000 cpu-used=0 sharpness=4 noise-sensitivity=2",
    ),
    (
        "partitions",
        176,
        144,
        "deadline=1 cpu-used=0 error-resilient=partitions",
    ),
];

#[test]
fn real_frames_decode_to_the_same_pictures_with_and_without_repeats_between_them() {
    for (name, width, height, settings) in ENCODERS {
        let frames = video(&format!(
            "videotestsrc num-buffers=120 pattern=ball motion=sweep ! video/x-raw,width={width},height={height},framerate=30/1 \
             ! vp8enc keyframe-max-dist=1000 target-bitrate=300000 {settings} ! appsink name=out sync=false max-buffers=0"
        ));
        let class = Class::new();
        let straight = record(&class, "straight", &frames);
        // Three holes of up to four seconds, after each of which delta frames go on.
        let holes = [(40, 1.0), (41, 0.5), (80, 4.0)];
        let mut broken = frames.clone();
        for (index, seconds) in holes {
            let moved = later(&broken[index..], s(seconds));
            broken.splice(index.., moved);
        }
        let broken = record(&class, "broken", &broken);

        compare(name, frames.len(), &pictures(&straight), &pictures(&broken));
        // GStreamer pads rows to four bytes with whatever was there.
        if width % 8 == 0 {
            compare(
                name,
                frames.len(),
                &pictures_of_gstreamer(&straight),
                &pictures_of_gstreamer(&broken),
            );
        }
        decode(&broken);
    }
}

/// A repeat is the picture before it; without repeats, and without what the encoder repeated itself, both runs are
/// the same.
fn compare(name: &str, count: usize, straight: &[(Duration, String)], broken: &[(Duration, String)]) {
    let distinct = |pictures: &[(Duration, String)]| {
        let mut digests: Vec<_> = pictures.iter().map(|(_, digest)| digest.clone()).collect();
        digests.dedup();
        digests
    };
    assert_eq!(straight.len(), count, "{name}");
    assert!(broken.len() >= count + 20, "{name}: {} pictures", broken.len());
    assert!(distinct(straight).len() > 100, "{name}: the picture moves");
    let first = distinct(straight)
        .iter()
        .zip(&distinct(broken))
        .position(|(one, other)| one != other);
    assert_eq!(
        (first, distinct(straight).len()),
        (None, distinct(broken).len()),
        "{name}"
    );
}

fn record(class: &Class, name: &str, frames: &[Frame]) -> std::path::PathBuf {
    let mut writer = class.open(name);
    let end = frames.last().expect("frames").at;
    let events = [
        both_sending(s(0.0)),
        arriving(Video, frames),
        arriving(Audio, &microphone(2)),
    ];
    play(
        &mut writer,
        events.into_iter().flatten().collect(),
        s(0.0),
        end + s(0.1),
    );
    writer.finish().wait(PATIENCE).expect("finished");
    class.end(&[name]);
    class.file(&format!("{name}.webm"))
}

/// The MD5 of every picture that GStreamer's `vp8dec` (libvpx) shows.
fn pictures_of_gstreamer(path: &Path) -> Vec<(Duration, String)> {
    let description =
        "filesrc name=in ! matroskademux ! vp8dec ! video/x-raw,format=I420 ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(description)
        .expect("a pipeline")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    pipeline
        .by_name("in")
        .expect("a source")
        .set_property("location", path.to_str().expect("text"));
    let sink = pipeline
        .by_name("out")
        .expect("a sink")
        .downcast::<AppSink>()
        .expect("a sink for us");
    pipeline
        .set_state(gst::State::Playing)
        .expect("the pipeline starts");
    let mut pictures = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().expect("a picture");
        let digest = gst::glib::compute_checksum_for_data(
            gst::glib::ChecksumType::Md5,
            &buffer.map_readable().expect("bytes"),
        );
        pictures.push((
            Duration::from(buffer.pts().unwrap_or_default()),
            digest.expect("md5").to_string(),
        ));
    }
    let failure = pipeline
        .bus()
        .expect("a bus")
        .pop_filtered(&[gst::MessageType::Error]);
    assert!(failure.is_none(), "{failure:?}");
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    pictures
}
