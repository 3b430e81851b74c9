//! A received RTP packet and the sender's clock.

use bytes::Bytes;

/// One received RTP packet: fields of the fixed header (RFC 3550 section 5.1) and the payload, with header
/// extensions and padding removed. Cloning is cheap: the payload is reference-counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPacket {
    /// Last packet of a picture for VP8.
    pub marker: bool,
    /// As negotiated with the sender.
    pub payload_type: u8,
    /// 16 bits, wraps.
    pub sequence_number: u16,
    /// In units of the codec's clock rate, wraps.
    pub timestamp: u32,
    /// The sender's.
    pub ssrc: u32,
    /// Without padding.
    pub payload: Bytes,
}

/// A time in NTP format: seconds since 1900 in the upper, fractions in the lower 32 bits (RFC 3550 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime(pub u64);
