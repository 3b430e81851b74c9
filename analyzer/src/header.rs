//! The look at a key frame's header that comes before any decoder (RFC 6386 section 9.1).

use seodang_rtp::{FrameSize, Vp8FrameHeader};

/// Why a frame never reaches a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("shorter than a key frame header")]
    Short,
    #[error("not a key frame")]
    NotKeyframe,
    #[error("a bitstream version or hidden frame that no browser sends")]
    Unusual,
    #[error("wrong start code, or a side of 0")]
    StartCode,
    #[error("{}x{} pixels are outside the limits", .0.width, .0.height)]
    Size(FrameSize),
    #[error("the first partition is cut off")]
    Truncated,
}

/// Longest side that is decoded; a portrait picture of a phone is as welcome as a landscape one.
const LONGEST_SIDE: u16 = 1_920;
/// Largest area that is decoded, in pixels: a claim of 16383x16383 costs the decoder 900 MB and seconds.
const LARGEST_AREA: u32 = 1_920 * 1_080;
/// One macroblock.
const SHORTEST_SIDE: u16 = 16;
/// Frame tag (3 bytes), start code (3 bytes), width and height (2 bytes each).
const HEADER_BYTES: usize = 10;

/// The size of a VP8 key frame that is worth decoding.
///
/// # Errors
/// When the header tells that it is not.
pub(crate) fn check(data: &[u8]) -> Result<FrameSize, HeaderError> {
    let Some((header, rest)) = data.split_at_checked(HEADER_BYTES) else {
        return Err(HeaderError::Short);
    };
    let tag = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    if tag & 1 != 0 {
        return Err(HeaderError::NotKeyframe);
    }
    let (version, shown, first_partition_bytes) = ((tag >> 1) & 7, (tag >> 4) & 1 == 1, tag >> 5);
    if version > 3 || !shown {
        return Err(HeaderError::Unusual);
    }
    let size = Vp8FrameHeader::parse(data)
        .and_then(|header| header.size)
        .ok_or(HeaderError::StartCode)?;
    let area = u32::from(size.width) * u32::from(size.height);
    let (short, long) = (size.width.min(size.height), size.width.max(size.height));
    if short < SHORTEST_SIDE || long > LONGEST_SIDE || area > LARGEST_AREA {
        return Err(HeaderError::Size(size));
    }
    // At least one byte of coefficients has to follow the first partition.
    if usize::try_from(first_partition_bytes).map_or(true, |bytes| bytes == 0 || bytes >= rest.len()) {
        return Err(HeaderError::Truncated);
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(width: u16, height: u16, first_partition_bytes: u32) -> Vec<u8> {
        let tag = (first_partition_bytes << 5 | 1 << 4).to_le_bytes();
        let mut data = vec![tag[0], tag[1], tag[2], 0x9d, 0x01, 0x2a];
        data.extend(width.to_le_bytes());
        data.extend(height.to_le_bytes());
        data.extend([0; 200]);
        data
    }

    #[test]
    fn sizes_of_cameras_pass_in_both_orientations() {
        for (width, height) in [(16, 16), (320, 180), (640, 480), (1_920, 1_080), (1_080, 1_920)] {
            assert_eq!(
                check(&header(width, height, 100)),
                Ok(FrameSize { width, height })
            );
        }
    }

    #[test]
    fn monstrous_and_tiny_claims_are_refused() {
        for (width, height) in [(16_383, 16_383), (1_921, 100), (1_920, 1_088), (15, 480)] {
            assert_eq!(
                check(&header(width, height, 100)),
                Err(HeaderError::Size(FrameSize { width, height })),
                "{width}x{height}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_whole_shown_keyframe_is_refused() {
        let whole = header(640, 480, 100);
        assert_eq!(check(&whole[..9]), Err(HeaderError::Short));
        assert_eq!(check(&whole[..60]), Err(HeaderError::Truncated));
        assert_eq!(check(&header(640, 480, 200)), Err(HeaderError::Truncated));
        let changed = |place: usize, value: u8| {
            let mut data = whole.clone();
            data[place] = value;
            check(&data)
        };
        assert_eq!(changed(0, whole[0] | 1), Err(HeaderError::NotKeyframe));
        assert_eq!(changed(0, whole[0] | 0b1000), Err(HeaderError::Unusual));
        assert_eq!(changed(0, whole[0] & !0b1_0000), Err(HeaderError::Unusual));
        assert_eq!(changed(4, 0), Err(HeaderError::StartCode));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(data: Vec<u8>) {
            let _ = check(&data);
        }
    }
}
