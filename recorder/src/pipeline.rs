//! The GStreamer pipeline of one file: timed frames in, webm out, into a descriptor that is open already.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::{AppSrc, AppStreamType};
use seodang_model::MediaKind;
use seodang_rtp::FrameSize;

use crate::RecorderError;

/// Two sources, a muxer and a sink. Dropping it without [`Self::close`] stops it without an end of stream.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pipeline: gst::Pipeline,
    muxer: gst::Element,
    video: AppSrc,
    audio: AppSrc,
    bus: gst::Bus,
}

/// A frame with its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct TimedFrame {
    pub(crate) at: Duration,
    pub(crate) data: Bytes,
    pub(crate) keyframe: bool,
}

/// What must be installed for [`Pipeline`].
pub(crate) const ELEMENTS: [&str; 3] = ["appsrc", "webmmux", "filesink"];

impl Pipeline {
    /// Starts a pipeline that writes into `file`, which must be empty.
    ///
    /// `filesink` opens a path; `/proc/self/fd/N` is the open file itself, whatever its name is by then, so that
    /// no link and no other file can get in between. (`fdsink` cannot seek, and the muxer must.)
    pub(crate) fn start(file: &File) -> Result<Self, RecorderError> {
        let pipeline = gst::Pipeline::new();
        let video = source("v");
        let audio = source("a");
        let muxer = gst::ElementFactory::make("webmmux")
            .name("mux")
            .property("streamable", false)
            // A cluster is what the muxer seeks back for; one a second keeps a crash's damage small.
            .property("max-cluster-duration", nanoseconds(Duration::from_secs(1)))
            // Fillers are key frames: without a limit each would become a cue.
            .property("min-index-interval", nanoseconds(Duration::from_secs(1)))
            .property("writing-app", "seodang")
            .build()
            .map_err(|_| RecorderError::MissingElement("webmmux"))?;
        let sink = gst::ElementFactory::make("filesink")
            .property("location", format!("/proc/self/fd/{}", file.as_raw_fd()))
            .property("async", false)
            .property("sync", false)
            .property_from_str("buffer-mode", "unbuffered")
            .build()
            .map_err(|_| RecorderError::MissingElement("filesink"))?;
        let failed = |error: glib::BoolError| RecorderError::Pipeline(error.to_string());
        pipeline
            .add_many([video.upcast_ref(), audio.upcast_ref(), &muxer, &sink])
            .map_err(failed)?;
        video
            .link_pads(Some("src"), &muxer, Some("video_0"))
            .map_err(failed)?;
        audio
            .link_pads(Some("src"), &muxer, Some("audio_0"))
            .map_err(failed)?;
        muxer.link(&sink).map_err(failed)?;
        let bus = pipeline
            .bus()
            .ok_or_else(|| RecorderError::Pipeline("no bus".to_owned()))?;
        let this = Self {
            pipeline,
            muxer,
            video,
            audio,
            bus,
        };
        if this.pipeline.set_state(gst::State::Playing).is_err() {
            let reason = this.failure().unwrap_or_else(|| "no reason given".to_owned());
            return Err(RecorderError::Pipeline(reason));
        }
        Ok(this)
    }

    /// Says what comes, before the first frame: the header's picture size and the wall-clock time of zero.
    pub(crate) fn begin(&self, size: FrameSize, created: SystemTime) {
        let since = created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let date = glib::DateTime::from_unix_utc(since.as_secs().cast_signed())
            .and_then(|date| date.add(glib::TimeSpan::from_microseconds(since.subsec_micros().into())));
        if let Ok(date) = date {
            self.muxer.set_property("creation-time", date);
        }
        self.video.set_caps(Some(
            &gst::Caps::builder("video/x-vp8")
                .field("width", i32::from(size.width))
                .field("height", i32::from(size.height))
                .field("framerate", gst::Fraction::new(0, 1))
                .build(),
        ));
        self.audio.set_caps(Some(
            &gst::Caps::builder("audio/x-opus")
                .field("rate", 48_000)
                .field("channels", 2)
                .field("channel-mapping-family", 0)
                .build(),
        ));
    }

    /// Queues frames of one kind; never waits. Whether they got anywhere shows in [`Self::failure`].
    pub(crate) fn push(&self, kind: MediaKind, frames: impl ExactSizeIterator<Item = TimedFrame>) {
        let mut list = gst::BufferList::new_sized(frames.len());
        {
            let list = list.get_mut().expect("nobody else holds a list just made");
            frames.for_each(|frame| list.add(buffer(frame)));
        }
        if !list.is_empty() {
            // After an error on the bus the source refuses; the error itself is what counts.
            let _ = self.source(kind).push_buffer_list(list);
        }
    }

    /// Bytes of one kind that wait for the disk.
    pub(crate) fn waiting_bytes(&self, kind: MediaKind) -> u64 {
        self.source(kind).current_level_bytes()
    }

    /// The error that ended the pipeline, if one did; never waits.
    pub(crate) fn failure(&self) -> Option<String> {
        self.bus
            .pop_filtered(&[gst::MessageType::Error])
            .map(|message| describe(&message))
    }

    /// Waits for an error at most so long.
    pub(crate) fn failure_within(&self, most: Duration) -> Option<String> {
        let most = gst::ClockTime::try_from(most).unwrap_or(gst::ClockTime::ZERO);
        self.bus
            .timed_pop_filtered(most, &[gst::MessageType::Error])
            .map(|message| describe(&message))
    }

    /// Writes duration and cues and lets go of the file. Waits as long as the disk takes, if need be for ever.
    ///
    /// # Errors
    /// The pipeline's own: the file then lacks its end.
    pub(crate) fn close(self) -> Result<(), String> {
        let refused = [&self.video, &self.audio]
            .iter()
            .any(|source| source.end_of_stream().is_err());
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = if refused {
            self.bus.pop_filtered(&kinds)
        } else {
            self.bus.timed_pop_filtered(None, &kinds)
        };
        match end {
            Some(message) if message.type_() == gst::MessageType::Eos => Ok(()),
            Some(message) => Err(describe(&message)),
            None => Err("the pipeline had stopped".to_owned()),
        }
    }

    fn source(&self, kind: MediaKind) -> &AppSrc {
        match kind {
            MediaKind::Video => &self.video,
            MediaKind::Audio => &self.audio,
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Hangs where the disk does: see `closing`.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn source(name: &str) -> AppSrc {
    AppSrc::builder()
        .name(name)
        .format(gst::Format::Time)
        .stream_type(AppStreamType::Stream)
        .is_live(false)
        .block(false)
        // Enforced by the drop policy before a push, in whole runs of pictures.
        .max_bytes(0)
        .build()
}

fn buffer(frame: TimedFrame) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(frame.data);
    let inner = buffer.get_mut().expect("nobody else holds a buffer just made");
    inner.set_pts(gst::ClockTime::try_from(frame.at).ok());
    if !frame.keyframe {
        inner.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    buffer
}

/// The error without GStreamer's debug text, which holds paths.
fn describe(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Error(error) => error.error().message().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    duration.as_nanos().try_into().unwrap_or(i64::MAX)
}
