//! RTP and RTCP as values: packets in, packets and frames out; no I/O and no clock.
//!
//! Knows neither sockets nor tokio nor GStreamer. Read [`Frame`] first: it is what recorder and analyzer live on.

mod frame;
mod packet;

pub use frame::{ClockSource, Frame, FrameSize};
pub use packet::{NtpTime, RtpPacket};
