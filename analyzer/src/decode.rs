//! One VP8 key frame through a decoder of its own: nothing of an earlier picture or participant can leak into it.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoFormat, VideoFrameRef, VideoInfo};
use seodang_rtp::FrameSize;

use crate::error::AnalyzerError;
use crate::picture::I420;

/// Why a frame with a good header gave no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the decoding pipeline does not start")]
    Pipeline(#[from] gst::glib::BoolError),
    #[error("the decoding pipeline does not change its state")]
    State(#[from] gst::StateChangeError),
    #[error("the decoding pipeline takes no frame")]
    Flow(#[from] gst::FlowError),
    /// A broken frame, or one on which the decoder never answers.
    #[error("the decoder gives no picture")]
    NoPicture,
    #[error("the decoder gives a picture of another size or format than the header says")]
    OtherPicture,
    #[error("decoding panicked")]
    Panicked,
}

/// libvpx needs a few milliseconds; a broken frame gives neither picture nor error and is waited for in vain.
const LONGEST_DECODE: gst::ClockTime = gst::ClockTime::from_seconds(3);

/// Starts GStreamer and looks for what decoding needs.
///
/// # Errors
/// When GStreamer does not start or an element is missing.
pub(crate) fn prepare() -> Result<(), AnalyzerError> {
    gst::init().map_err(AnalyzerError::Gstreamer)?;
    for element in ["appsrc", "vp8dec", "appsink"] {
        if gst::ElementFactory::find(element).is_none() {
            return Err(AnalyzerError::MissingElement(element));
        }
    }
    Ok(())
}

/// Decodes one key frame whose header says `size`.
///
/// # Errors
/// When no picture of that size comes out within the time-out.
pub(crate) fn decode(data: &Bytes, size: FrameSize) -> Result<I420, DecodeError> {
    let caps = gst::Caps::builder("video/x-vp8")
        .field("width", i32::from(size.width))
        .field("height", i32::from(size.height))
        .field("framerate", gst::Fraction::new(0, 1))
        .build();
    let source = AppSrc::builder()
        .caps(&caps)
        .format(gst::Format::Time)
        .is_live(false)
        .build();
    // One thread: pictures of a class are decoded side by side, and a thread pool for one frame costs more than it gives.
    let decoder = gst::ElementFactory::make("vp8dec")
        .property("threads", 1_u32)
        .build()?;
    let sink = AppSink::builder()
        .caps(&gst::Caps::builder("video/x-raw").field("format", "I420").build())
        .sync(false)
        .max_buffers(1)
        .build();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([source.upcast_ref(), &decoder, sink.upcast_ref()])?;
    gst::Element::link_many([source.upcast_ref(), &decoder, sink.upcast_ref()])?;
    let running = Running(pipeline);
    running.0.set_state(gst::State::Playing)?;
    let mut buffer = gst::Buffer::from_slice(data.clone());
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::ZERO);
    }
    source.push_buffer(buffer)?;
    source.end_of_stream()?;
    let sample = sink
        .try_pull_sample(LONGEST_DECODE)
        .ok_or(DecodeError::NoPicture)?;
    unpack(&sample, size)
}

/// Stops the pipeline whichever way decoding ends.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.set_state(gst::State::Null) {
            tracing::warn!(error = %error, "a decoding pipeline does not stop");
        }
    }
}

fn unpack(sample: &gst::Sample, size: FrameSize) -> Result<I420, DecodeError> {
    let info = sample
        .caps()
        .and_then(|caps| VideoInfo::from_caps(caps).ok())
        .ok_or(DecodeError::OtherPicture)?;
    let (width, height) = (usize::from(size.width), usize::from(size.height));
    if info.format() != VideoFormat::I420
        || info.width() != u32::from(size.width)
        || info.height() != u32::from(size.height)
    {
        return Err(DecodeError::OtherPicture);
    }
    let buffer = sample.buffer().ok_or(DecodeError::OtherPicture)?;
    // Maps by the buffer's own strides and offsets, which need not be those of the format.
    let frame =
        VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| DecodeError::OtherPicture)?;
    let plane = |index: u32, width: usize, height: usize| {
        let data = frame.plane_data(index).map_err(|_| DecodeError::OtherPicture)?;
        let stride = usize::try_from(frame.plane_stride()[index as usize]).unwrap_or(0);
        let mut packed = Vec::with_capacity(width * height);
        for row in 0..height {
            let line = data
                .get(row * stride..row * stride + width)
                .ok_or(DecodeError::OtherPicture)?;
            packed.extend_from_slice(line);
        }
        Ok::<_, DecodeError>(packed)
    };
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    Ok(I420 {
        width,
        height,
        luma: plane(0, width, height)?,
        blue: plane(1, chroma_width, chroma_height)?,
        red: plane(2, chroma_width, chroma_height)?,
    })
}

#[cfg(test)]
mod tests;
