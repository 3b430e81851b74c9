//! The RTP header (RFC 3550 section 5.1) and its extensions (RFC 8285), read and written.

use bytes::Bytes;

use crate::RtpPacket;

/// The bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its header, its extensions or its padding say.
    #[error("rtp packet is cut short")]
    Short,
    /// Another version than 2.
    #[error("not rtp version 2")]
    Version,
}

/// The fields of the fixed header that anyone here needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Last packet of a picture for VP8.
    pub marker: bool,
    /// 0 to 127, as negotiated with the sender.
    pub payload_type: u8,
    /// 16 bits, wraps.
    pub sequence_number: u16,
    /// In units of the codec's clock rate, wraps.
    pub timestamp: u32,
    /// The sender's.
    pub ssrc: u32,
}

impl RtpHeader {
    /// Bytes of a header without contributing sources and extensions.
    pub const SIZE: usize = 12;

    /// The header as it goes on the wire, without padding, contributing sources and extensions.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = VERSION << 6;
        bytes[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        bytes[2..4].copy_from_slice(&self.sequence_number.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }
}

/// A parsed packet that borrows the datagram's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpView<'a> {
    /// The fixed header.
    pub header: RtpHeader,
    /// The header extensions.
    pub extensions: Extensions<'a>,
    /// Without padding; empty for a packet that only pads.
    pub payload: &'a [u8],
}

impl<'a> RtpView<'a> {
    /// Reads a decrypted packet.
    ///
    /// # Errors
    /// When it is cut short or of another version.
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let fixed: &[u8; RtpHeader::SIZE] = packet.first_chunk().ok_or(RtpError::Short)?;
        if fixed[0] >> 6 != VERSION {
            return Err(RtpError::Version);
        }
        let header = RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        let contributing = usize::from(fixed[0] & 0x0f) * 4;
        let mut rest = packet
            .get(RtpHeader::SIZE + contributing..)
            .ok_or(RtpError::Short)?;
        let mut extensions = Extensions::default();
        if fixed[0] & 0x10 != 0 {
            let [p0, p1, l0, l1] = *rest.first_chunk::<4>().ok_or(RtpError::Short)?;
            let length = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            let data = rest.get(4..4 + length).ok_or(RtpError::Short)?;
            extensions = Extensions {
                profile: u16::from_be_bytes([p0, p1]),
                data,
            };
            rest = rest.get(4 + length..).ok_or(RtpError::Short)?;
        }
        let mut payload = rest;
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(RtpError::Short)?);
            let end = rest
                .len()
                .checked_sub(padding)
                .filter(|_| padding > 0)
                .ok_or(RtpError::Short)?;
            payload = &rest[..end];
        }
        Ok(Self {
            header,
            extensions,
            payload,
        })
    }

    /// The packet that this one repairs (RFC 4588 section 4): its sequence number comes first in the payload, and
    /// everything else but `ssrc` and `payload_type` is the same. `None` where the payload is too short for that.
    #[must_use]
    pub fn repaired(&self, ssrc: u32, payload_type: u8) -> Option<RtpView<'a>> {
        let (sequence_number, payload) = self.payload.split_first_chunk::<2>()?;
        Some(Self {
            header: RtpHeader {
                payload_type,
                sequence_number: u16::from_be_bytes(*sequence_number),
                ssrc,
                ..self.header
            },
            payload,
            ..*self
        })
    }

    /// A packet of its own, with the payload copied.
    #[must_use]
    pub fn to_packet(&self) -> RtpPacket {
        RtpPacket {
            marker: self.header.marker,
            payload_type: self.header.payload_type,
            sequence_number: self.header.sequence_number,
            timestamp: self.header.timestamp,
            ssrc: self.header.ssrc,
            payload: Bytes::copy_from_slice(self.payload),
        }
    }
}

/// The header extensions of one packet, in the one-byte or the two-byte form of RFC 8285.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    profile: u16,
    data: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// The first element with this id.
    #[must_use]
    pub fn get(self, id: u8) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|(found, _)| *found == id)
            .map(|(_, data)| data)
    }

    /// The first element with this id as text: mid, rid and rrid (RFC 9143, RFC 8852). `None` if it is empty or
    /// holds anything but visible ASCII.
    #[must_use]
    pub fn text(self, id: u8) -> Option<&'a str> {
        let text = std::str::from_utf8(self.get(id)?).ok()?;
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
    }

    /// The number of this packet among all of its transport (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    #[must_use]
    pub fn transport_sequence_number(self, id: u8) -> Option<u16> {
        self.get(id)?
            .first_chunk()
            .map(|number| u16::from_be_bytes(*number))
    }

    /// The level of the sound in this packet (RFC 6464).
    #[must_use]
    pub fn audio_level(self, id: u8) -> Option<AudioLevel> {
        let byte = *self.get(id)?.first()?;
        Some(AudioLevel {
            voice: byte & 0x80 != 0,
            below_full_scale_db: byte & 0x7f,
        })
    }
}

impl<'a> IntoIterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);
    type IntoIter = ExtensionsIter<'a>;

    fn into_iter(self) -> ExtensionsIter<'a> {
        let form = match self.profile {
            0xbede => Form::OneByte,
            profile if profile & 0xfff0 == 0x1000 => Form::TwoByte,
            _ => Form::Unknown,
        };
        ExtensionsIter {
            form,
            data: self.data,
        }
    }
}

/// Yields (id, data) until the end or the first malformed element.
#[derive(Clone, Debug)]
pub struct ExtensionsIter<'a> {
    form: Form,
    data: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Form {
    OneByte,
    TwoByte,
    Unknown,
}

impl<'a> Iterator for ExtensionsIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.data.split_first()?;
            if first == 0 {
                self.data = rest;
                continue;
            }
            let (id, length, rest) = match self.form {
                // Id 15 is reserved: "processing MUST stop" (RFC 8285 section 4.2).
                Form::OneByte if first >> 4 == 15 => return None,
                Form::OneByte => (first >> 4, usize::from(first & 0x0f) + 1, rest),
                Form::TwoByte => {
                    let (&length, rest) = rest.split_first()?;
                    (first, usize::from(length), rest)
                }
                Form::Unknown => return None,
            };
            let (element, rest) = rest.split_at_checked(length)?;
            self.data = rest;
            return Some((id, element));
        }
    }
}

/// Loudness of one packet of sound as its sender measured it (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender believes that somebody speaks.
    pub voice: bool,
    /// 0 is the loudest, 127 is silence; decibel below full scale (-dBov).
    pub below_full_scale_db: u8,
}

const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version 2 with one contributing source, extensions, padding.
    fn packet(profile: u16, extensions: &[u8], payload: &[u8], padding: u8) -> Vec<u8> {
        let header = RtpHeader {
            marker: true,
            payload_type: 96,
            sequence_number: 7,
            timestamp: 9,
            ssrc: 0x0102_0304,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes[0] |= 0x10 | 1 | if padding > 0 { 0x20 } else { 0 };
        bytes.extend_from_slice(&[1, 1, 1, 1]);
        bytes.extend_from_slice(&profile.to_be_bytes());
        let words = u16::try_from(extensions.len().div_ceil(4)).expect("short");
        bytes.extend_from_slice(&words.to_be_bytes());
        bytes.extend_from_slice(extensions);
        bytes.resize(20 + usize::from(words) * 4, 0);
        bytes.extend_from_slice(payload);
        bytes.extend(std::iter::repeat_n(0, usize::from(padding.saturating_sub(1))));
        bytes.extend((padding > 0).then_some(padding));
        bytes
    }

    #[test]
    fn header_extensions_and_payload_are_told_apart() {
        let bytes = packet(0xbede, &[0x10, b'3', 0, 0x20, 0x80 | 30], b"sound", 3);
        let view = RtpView::parse(&bytes).expect("a packet");
        assert_eq!(view.header.ssrc, 0x0102_0304);
        assert!(view.header.marker);
        assert_eq!(view.payload, b"sound");
        assert_eq!(view.extensions.text(1), Some("3"));
        assert_eq!(
            view.extensions.audio_level(2),
            Some(AudioLevel {
                voice: true,
                below_full_scale_db: 30
            })
        );
        assert_eq!(view.extensions.get(3), None);
    }

    #[test]
    fn two_byte_extensions_may_be_empty_or_long() {
        let bytes = packet(0x1000, &[1, 0, 0, 200, 3, b'm', b'i', b'd', 3, 9, 1], b"x", 0);
        let view = RtpView::parse(&bytes).expect("a packet");
        assert_eq!(view.extensions.get(1), Some(&[][..]));
        assert_eq!(view.extensions.text(200), Some("mid"));
        assert_eq!(view.extensions.get(3), None, "longer than the block");
        assert_eq!(view.extensions.text(1), None, "an empty mid names nothing");
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let whole = packet(0xbede, &[0x10, b'3'], b"", 0);
        for end in 0..whole.len() {
            assert_eq!(RtpView::parse(&whole[..end]), Err(RtpError::Short), "{end}");
        }
        let mut padded = packet(0xbede, &[], b"ab", 2);
        *padded.last_mut().expect("bytes") = 0;
        assert_eq!(RtpView::parse(&padded), Err(RtpError::Short), "padding of 0");
        *padded.last_mut().expect("bytes") = 5;
        assert_eq!(
            RtpView::parse(&padded),
            Err(RtpError::Short),
            "padding longer than the payload"
        );
        padded[0] &= 0x3f;
        assert_eq!(RtpView::parse(&padded), Err(RtpError::Version));
    }

    #[test]
    fn a_packet_of_padding_alone_has_an_empty_payload() {
        let bytes = packet(0xbede, &[], b"", 4);
        assert_eq!(RtpView::parse(&bytes).expect("a packet").payload, b"");
    }

    #[test]
    fn what_a_packet_repairs_is_the_same_but_for_its_names() {
        let bytes = packet(0xbede, &[0x10, b'3'], &[0x12, 0x34, b'v', b'8'], 0);
        let view = RtpView::parse(&bytes).expect("a packet");
        let repaired = view.repaired(5, 100).expect("a sequence number");
        assert_eq!(repaired.payload, b"v8");
        assert_eq!(
            repaired.header,
            RtpHeader {
                marker: true,
                payload_type: 100,
                sequence_number: 0x1234,
                timestamp: 9,
                ssrc: 5
            }
        );
        let padding = packet(0xbede, &[], b"", 4);
        let padding = RtpView::parse(&padding).expect("a packet");
        assert_eq!(padding.repaired(5, 100), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, first in 0x80u8..0xc0) {
            let mut shaped = bytes.clone();
            if let Some(byte) = shaped.first_mut() {
                *byte = first;
            }
            for bytes in [bytes, shaped] {
                if let Ok(view) = RtpView::parse(&bytes) {
                    let _ = view.extensions.into_iter().count();
                    let _ = (view.extensions.text(1), view.extensions.audio_level(2), view.to_packet());
                }
            }
        }

        #[test]
        fn what_is_written_reads_back(
            marker: bool, payload_type in 0u8..128, sequence_number: u16, timestamp: u32, ssrc: u32,
            payload: Vec<u8>,
        ) {
            let header = RtpHeader { marker, payload_type, sequence_number, timestamp, ssrc };
            let mut bytes = header.to_bytes().to_vec();
            bytes.extend_from_slice(&payload);
            let view = RtpView::parse(&bytes).expect("a packet");
            prop_assert_eq!(view.header, header);
            prop_assert_eq!(view.payload, &payload[..]);
        }
    }
}
