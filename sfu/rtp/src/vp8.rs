//! The VP8 payload descriptor (RFC 7741 section 4.2) and frame header (RFC 6386 section 9.1).

use crate::FrameSize;

/// The bytes are no VP8 payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("vp8 payload descriptor is cut short")]
pub struct Vp8Error;

/// What precedes the frame's bytes in every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// S bit: the packet begins a partition.
    pub partition_start: bool,
    /// 0 to 7; a frame begins with partition 0.
    pub partition: u8,
    /// Counts frames.
    pub picture_id: Option<PictureId>,
    /// Counts frames of the base temporal layer, wraps.
    pub tl0_pic_idx: Option<u8>,
    /// Bytes of the descriptor; the frame's bytes follow.
    pub len: usize,
    tl0_at: usize,
}

/// A picture id in the width its sender uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureId {
    /// 7 bits.
    Short(u8),
    /// 15 bits.
    Long(u16),
}

impl PictureId {
    /// The number.
    #[must_use]
    pub fn value(self) -> u16 {
        match self {
            Self::Short(id) => u16::from(id),
            Self::Long(id) => id,
        }
    }
}

impl Vp8Descriptor {
    /// Longest descriptor in bytes.
    pub const MAX_SIZE: usize = 6;

    /// Reads the descriptor at the beginning of an RTP payload.
    ///
    /// # Errors
    /// When the payload is shorter than its descriptor says.
    pub fn parse(payload: &[u8]) -> Result<Self, Vp8Error> {
        let byte = |at: usize| payload.get(at).copied().ok_or(Vp8Error);
        let first = byte(0)?;
        let mut descriptor = Self {
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            picture_id: None,
            tl0_pic_idx: None,
            len: 1,
            tl0_at: 0,
        };
        if first & 0x80 == 0 {
            return Ok(descriptor);
        }
        let present = byte(1)?;
        let mut at = 2;
        if present & 0x80 != 0 {
            let high = byte(at)?;
            descriptor.picture_id = Some(if high & 0x80 != 0 {
                at += 1;
                PictureId::Long(u16::from_be_bytes([high & 0x7f, byte(at)?]))
            } else {
                PictureId::Short(high)
            });
            at += 1;
        }
        if present & 0x40 != 0 {
            descriptor.tl0_pic_idx = Some(byte(at)?);
            descriptor.tl0_at = at;
            at += 1;
        }
        if present & 0x30 != 0 {
            byte(at)?;
            at += 1;
        }
        descriptor.len = at;
        Ok(descriptor)
    }

    /// Whether the packet is the first of a frame.
    #[must_use]
    pub fn is_frame_start(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// Writes the descriptor of `payload`, from which `self` was parsed, into `target` with both counters moved on by
    /// the given amounts, in the widths the sender chose; returns its length.
    #[must_use]
    pub fn rewrite(
        &self,
        payload: &[u8],
        picture_id_offset: u16,
        tl0_offset: u8,
        target: &mut [u8; Self::MAX_SIZE],
    ) -> usize {
        let len = self.len.min(payload.len()).min(Self::MAX_SIZE);
        target[..len].copy_from_slice(&payload[..len]);
        match self.picture_id {
            Some(PictureId::Short(id)) => {
                target[2] = id.wrapping_add((picture_id_offset & 0x7f) as u8) & 0x7f;
            }
            Some(PictureId::Long(id)) => {
                let [high, low] = id.wrapping_add(picture_id_offset).to_be_bytes();
                (target[2], target[3]) = (0x80 | high, low);
            }
            None => {}
        }
        if let Some(index) = self.tl0_pic_idx {
            target[self.tl0_at] = index.wrapping_add(tl0_offset);
        }
        len
    }
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8FrameHeader {
    /// Whether the frame is decodable on its own.
    pub keyframe: bool,
    /// Of a key frame; `None` for others.
    pub size: Option<FrameSize>,
}

impl Vp8FrameHeader {
    /// Reads the beginning of a frame; `None` when it is too short for its kind, or when a key frame has a wrong start
    /// code or a side of 0.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let tag: &[u8; 3] = frame.first_chunk()?;
        if tag[0] & 1 != 0 {
            return Some(Self {
                keyframe: false,
                size: None,
            });
        }
        let header: &[u8; 10] = frame.first_chunk()?;
        if header[3..6] != START_CODE {
            return None;
        }
        // The upper two bits are scaling hints for the display.
        let width = u16::from_le_bytes([header[6], header[7]]) & 0x3fff;
        let height = u16::from_le_bytes([header[8], header[9]]) & 0x3fff;
        (width > 0 && height > 0).then_some(Self {
            keyframe: true,
            size: Some(FrameSize { width, height }),
        })
    }
}

/// Whether a payload that follows a descriptor at a frame's start begins a key frame: the inverse of the lowest bit.
#[must_use]
pub fn begins_keyframe(payload: &[u8], descriptor: &Vp8Descriptor) -> bool {
    descriptor.is_frame_start() && payload.get(descriptor.len).is_some_and(|byte| byte & 1 == 0)
}

impl FrameSize {
    /// Whether a decoder may be given a frame of this size: no side below 16 or above 4096 pixels and no more pixels
    /// than the widest shared screen has, 4096 x 2304. A 210-byte frame that claims 16383 x 16383 costs libvpx
    /// 899 MB.
    #[must_use]
    pub fn is_reasonable(self) -> bool {
        let sides = 16..=4096;
        let pixels = u32::from(self.width) * u32::from(self.height);
        sides.contains(&self.width) && sides.contains(&self.height) && pixels <= 4096 * 2304
    }
}

const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_descriptor_is_read() {
        let payload = [0x90, 0xf0, 0x81, 0x02, 0x33, 0x20, 0x00];
        let descriptor = Vp8Descriptor::parse(&payload).expect("a descriptor");
        assert_eq!(descriptor.picture_id, Some(PictureId::Long(0x102)));
        assert_eq!(descriptor.tl0_pic_idx, Some(0x33));
        assert_eq!(descriptor.len, 6);
        assert!(descriptor.is_frame_start());
        assert!(begins_keyframe(&payload, &descriptor));
        for end in 0..6 {
            assert_eq!(Vp8Descriptor::parse(&payload[..end]), Err(Vp8Error), "{end}");
        }
    }

    #[test]
    fn a_plain_descriptor_is_one_byte() {
        let descriptor = Vp8Descriptor::parse(&[0x01]).expect("a descriptor");
        assert_eq!((descriptor.len, descriptor.picture_id), (1, None));
        assert!(!descriptor.is_frame_start(), "partition 1 goes on");
        assert!(!begins_keyframe(
            &[0x10],
            &Vp8Descriptor::parse(&[0x10]).expect("a descriptor")
        ));
    }

    #[test]
    fn counters_wrap_in_their_own_width() {
        let mut target = [0; 6];
        let long = [0x90, 0xc0, 0xff, 0xff, 0xff];
        let descriptor = Vp8Descriptor::parse(&long).expect("a descriptor");
        assert_eq!(descriptor.rewrite(&long, 2, 3, &mut target), 5);
        assert_eq!(target[..5], [0x90, 0xc0, 0x80, 0x01, 0x02]);
        let short = [0x90, 0x80, 0x7f];
        let descriptor = Vp8Descriptor::parse(&short).expect("a descriptor");
        assert_eq!(descriptor.rewrite(&short, 130, 3, &mut target), 3);
        assert_eq!(target[..3], [0x90, 0x80, 0x01]);
    }

    #[test]
    fn a_key_frame_tells_its_size() {
        let frame = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x01];
        let header = Vp8FrameHeader::parse(&frame).expect("a key frame");
        assert_eq!(
            header,
            Vp8FrameHeader {
                keyframe: true,
                size: Some(FrameSize {
                    width: 640,
                    height: 480
                })
            }
        );
        assert_eq!(Vp8FrameHeader::parse(&frame[..9]), None);
        assert_eq!(
            Vp8FrameHeader::parse(&[0x10, 0, 0, 0, 1, 0x2a, 1, 0, 1, 0]),
            None,
            "wrong start code"
        );
        let delta = Vp8FrameHeader::parse(&[0x11, 0, 0]).expect("a delta frame");
        assert!(!delta.keyframe);
    }

    #[test]
    fn a_size_no_camera_has_is_unreasonable() {
        let size = |width, height| FrameSize { width, height };
        assert!(
            size(640, 480).is_reasonable()
                && size(720, 1280).is_reasonable()
                && size(3840, 2160).is_reasonable()
        );
        assert!(
            !size(16383, 16383).is_reasonable()
                && !size(1, 480).is_reasonable()
                && !size(4096, 4096).is_reasonable()
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, offset: u16, tl0: u8) {
            let _ = Vp8FrameHeader::parse(&bytes);
            if let Ok(descriptor) = Vp8Descriptor::parse(&bytes) {
                prop_assert!(descriptor.len <= Vp8Descriptor::MAX_SIZE && descriptor.len <= bytes.len());
                let _ = begins_keyframe(&bytes, &descriptor);
                let mut target = [0; Vp8Descriptor::MAX_SIZE];
                let len = descriptor.rewrite(&bytes, offset, tl0, &mut target);
                let again = Vp8Descriptor::parse(&target[..len]).expect("as long as before");
                prop_assert_eq!(again.len, descriptor.len);
                // Moving back again restores every byte.
                let moved = target;
                let _ = again.rewrite(&moved, offset.wrapping_neg(), tl0.wrapping_neg(), &mut target);
                prop_assert_eq!(&target[..len], &bytes[..len]);
            }
        }
    }
}
