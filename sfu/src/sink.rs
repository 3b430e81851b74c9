//! Where mirrored packets go.

use std::time::Instant;

use seodang_rtp::{NtpTime, RtpPacket};

/// Takes the packets of one publication after decryption, in order of arrival, each once.
///
/// Called on the media thread: an implementation must never wait, and bounds what it holds. Dropping it is the
/// end of the track; a detach, the publication's end and the room's closing all drop it.
pub trait TrackSink: Send {
    /// One packet; `arrival` is when the datagram was read from the socket.
    fn write(&mut self, packet: &RtpPacket, arrival: Instant);

    /// A sender report: the sender's clock `ntp` and its RTP timestamp `rtp` are the same instant
    /// (RFC 3550 section 6.4.1); `arrival` as above.
    fn clock(&mut self, ntp: NtpTime, rtp: u32, arrival: Instant);
}
