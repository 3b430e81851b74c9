//! RTP and RTCP as values: packets in, packets and frames out; no I/O and no clock.
//!
//! Knows neither sockets nor tokio nor GStreamer, and never panics on what comes from a network. Read [`Frame`] first: it
//! is what recorder and analyzer live on; [`TrackAssembler`] makes it from the packets of one publication.
//!
//! ```
//! use std::time::{Duration, Instant, SystemTime};
//! use seodang_rtp::{Codec, LessonStart, NtpTime, ParticipantClock, RtpView, TrackAssembler};
//!
//! let start = LessonStart { instant: Instant::now(), system: SystemTime::now() };
//! let mut clock = ParticipantClock::new(start); // one for each participant
//! let mut microphone = TrackAssembler::new(Codec::Opus); // one for each publication
//! let datagram = [0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0xf8, 0xff, 0xfe];
//! let packet = RtpView::parse(&datagram).expect("a packet").to_packet();
//! microphone.report(&mut clock, NtpTime(1 << 32), 0, start.instant, |_| {});
//! let mut frames = Vec::new();
//! microphone.write(&clock, packet, start.instant + Duration::from_millis(20), |frame| frames.push(frame));
//! assert_eq!(frames[0].at, Duration::ZERO);
//! ```

mod arrivals;
mod assembler;
mod clock;
mod depayload;
mod frame;
mod header;
mod packet;
mod reorder;
mod rtcp;
mod sequence;
mod vp8;

pub use arrivals::TransportArrivals;
pub use assembler::{Codec, TrackAssembler};
pub use clock::{LessonStart, ParticipantClock};
pub use frame::{ClockSource, Frame, FrameSize};
pub use header::{AudioLevel, Extensions, ExtensionsIter, RtpError, RtpHeader, RtpView};
pub use packet::{NtpTime, RtpPacket};
pub use rtcp::{
    FirRequests, NackList, ReportBlock, ReportBlocks, Rtcp, RtcpError, RtcpIter, RtcpWriter, SenderInfo,
    Words, read_rtcp,
};
pub use sequence::{Position, SequenceExtender};
pub use vp8::{PictureId, Vp8Descriptor, Vp8Error, Vp8FrameHeader, begins_keyframe};
