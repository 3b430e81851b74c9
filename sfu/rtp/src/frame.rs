//! One encoded picture or one sound packet with its place on the lesson clock.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A whole VP8 frame, or one Opus packet, as recorder and analyzer take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The encoded bytes, without any RTP payload descriptor.
    pub data: Bytes,
    /// Decodable on its own. Always `true` for sound.
    pub keyframe: bool,
    /// Picture size of a key frame, from its header; `None` for other frames and for sound.
    pub size: Option<FrameSize>,
    /// Place on the lesson clock: time since the lesson began.
    pub at: Duration,
    /// Wall-clock time at which it was captured.
    pub captured_at: SystemTime,
    /// How `at` and `captured_at` were found.
    pub clock: ClockSource,
}

/// Width and height in pixels, 1 to 16383 each (RFC 6386 section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameSize {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Where the time of a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClockSource {
    /// The sender's reports (RFC 3550 section 6.4.1).
    SenderReport,
    /// The arrival of its first packet, before a sender report was seen.
    Arrival,
}
