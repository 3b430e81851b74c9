//! The two VP8 frames this program makes itself, for any size: a black key frame and a frame that repeats the last.
//!
//! Both are written from RFC 6386. Neither needs an encoder: every macroblock but one is predicted without a
//! residual.

use bytes::Bytes;
use seodang_rtp::FrameSize;

use self::bool_encoder::BoolEncoder;
use self::tables::{
    CATEGORY_4, CHROMA_TOKEN, FIRST_LUMA_TOKEN, LUMA_TOKEN, MOTION_UPDATE, SECOND_LUMA_TOKEN, TOKEN_UPDATE,
};

mod bool_encoder;
mod tables;

/// A key frame of `size` that decodes to black (luma 16, chroma 128).
///
/// The first macroblock carries one coefficient, every other one is predicted from its neighbours alone.
pub(crate) fn black_keyframe(size: FrameSize) -> Bytes {
    let (columns, rows) = macroblocks(size);
    let mut header = BoolEncoder::new();
    header.literal(0, 1); // colour space: BT.601
    header.literal(0, 1); // clamping needed
    header.literal(0, 1); // no segments
    loop_filter_off(&mut header);
    header.literal(0, 2); // one token partition
    quantizer(&mut header, BLACK_QUANTIZER_INDEX);
    header.literal(0, 1); // keep no probabilities
    unchanged(&mut header, &TOKEN_UPDATE);
    header.literal(1, 1); // macroblocks may be skipped
    header.literal(SKIP_RARELY_FALSE.into(), 8);
    for row in 0..rows {
        for column in 0..columns {
            header.bit(row + column > 0, SKIP_RARELY_FALSE);
            // DC_PRED for luma: the mean of the neighbours, 128 where there are none (RFC 6386 section 11.2).
            header.bit(true, 145);
            header.bit(false, 156);
            header.bit(false, 163);
            header.bit(false, 142); // and for chroma
        }
    }
    frame(Some(size), &header.finish(), &black_tokens())
}

/// An inter frame of `size` that shows the last frame again and leaves the decoder as it was.
///
/// Every macroblock is skipped with a zero vector into the last frame; nothing it decodes to, and no probability,
/// filter level or segment, is kept (RFC 6386 section 9.7 and 9.11), so that the sender's own frames may follow.
pub(crate) fn repeat_frame(size: FrameSize) -> Bytes {
    let (columns, rows) = macroblocks(size);
    let mut header = BoolEncoder::new();
    // Segments stay "enabled, nothing updated": with them off, ffmpeg forgets the map that a later frame of a
    // sender using segments relies on (RFC 6386 section 9.3: the map persists).
    header.literal(1, 1);
    header.literal(0, 2);
    loop_filter_off(&mut header);
    header.literal(0, 2); // one token partition
    quantizer(&mut header, 0);
    header.literal(0, 1); // golden frame stays
    header.literal(0, 1); // alternate frame stays
    header.literal(0, 2); // nothing copied to golden
    header.literal(0, 2); // nothing copied to alternate
    header.literal(0, 2); // sign biases
    header.literal(0, 1); // keep no probabilities
    header.literal(0, 1); // last frame stays
    unchanged(&mut header, &TOKEN_UPDATE);
    header.literal(1, 1); // macroblocks may be skipped
    header.literal(SKIP_RARELY_FALSE.into(), 8);
    header.literal(INTRA_RARE.into(), 8);
    header.literal(LAST_COMMON.into(), 8);
    header.literal(128, 8); // golden against alternate, never read
    header.literal(0, 2); // intra mode probabilities stay
    unchanged(&mut header, &MOTION_UPDATE);
    for row in 0..rows {
        for column in 0..columns {
            header.bit(true, SKIP_RARELY_FALSE);
            header.bit(true, INTRA_RARE); // inter
            header.bit(false, LAST_COMMON); // from the last frame
            // The neighbours' zero vectors (above 2, left 2, corner 1) choose the probability of another zero
            // vector (RFC 6386 section 18.3).
            let probability = match (row > 0, column > 0) {
                (false, false) => 7,
                (true, true) => 234,
                _ => 135,
            };
            header.bit(false, probability);
        }
    }
    frame(None, &header.finish(), &BoolEncoder::new().finish())
}

/// The picture size in the header of a key frame; `None` for any other frame and for damaged bytes (RFC 6386
/// section 9.1).
pub(crate) fn keyframe_size(data: &[u8]) -> Option<FrameSize> {
    let (tag, rest) = data.split_first_chunk::<3>()?;
    let (start, rest) = rest.split_first_chunk::<3>()?;
    let (sizes, _) = rest.split_first_chunk::<4>()?;
    if tag[0] & 1 != 0 || *start != START_CODE {
        return None;
    }
    let width = u16::from_le_bytes([sizes[0], sizes[1]]) & MOST_PIXELS;
    let height = u16::from_le_bytes([sizes[2], sizes[3]]) & MOST_PIXELS;
    (width > 0 && height > 0).then_some(FrameSize { width, height })
}

/// The single coefficient of a black frame and the empty blocks around it, in the first macroblock.
fn black_tokens() -> Bytes {
    let mut tokens = BoolEncoder::new();
    let first = FIRST_LUMA_TOKEN;
    // The way through the token tree to category 4 (RFC 6386 section 13.2), then 32 = 19 + 0b1101, then the sign.
    for (bit, probability) in [
        (true, first[0]),
        (true, first[1]),
        (true, first[2]),
        (true, first[3]),
        (true, first[6]),
        (false, first[8]),
        (true, first[9]),
    ] {
        tokens.bit(bit, probability);
    }
    for (bit, probability) in [true, true, false, true].into_iter().zip(CATEGORY_4) {
        tokens.bit(bit, probability);
    }
    tokens.bit(true, 128); // negative
    tokens.bit(false, SECOND_LUMA_TOKEN);
    (0..16).for_each(|_| tokens.bit(false, LUMA_TOKEN));
    (0..8).for_each(|_| tokens.bit(false, CHROMA_TOKEN));
    tokens.finish()
}

fn loop_filter_off(header: &mut BoolEncoder) {
    header.literal(0, 1); // normal filter
    header.literal(0, 6); // level
    header.literal(0, 3); // sharpness
    header.literal(0, 1); // no adjustments
}

fn quantizer(header: &mut BoolEncoder, index: u32) {
    header.literal(index, 7);
    header.literal(0, 5); // no difference for any kind of coefficient
}

fn unchanged(header: &mut BoolEncoder, probabilities: &[u8]) {
    for probability in probabilities {
        header.bit(false, *probability);
    }
}

/// The frame tag, the size of a key frame, and both partitions (RFC 6386 section 9.1).
fn frame(keyframe: Option<FrameSize>, header: &[u8], tokens: &[u8]) -> Bytes {
    const SHOWN: u32 = 1 << 4;
    let size = u32::try_from(header.len()).expect("a header of skipped macroblocks is small");
    let tag = u32::from(keyframe.is_none()) | SHOWN | (size << 5);
    let mut data = Vec::with_capacity(10 + header.len() + tokens.len());
    data.extend_from_slice(&tag.to_le_bytes()[..3]);
    if let Some(size) = keyframe {
        data.extend_from_slice(&START_CODE);
        data.extend_from_slice(&(size.width & MOST_PIXELS).to_le_bytes());
        data.extend_from_slice(&(size.height & MOST_PIXELS).to_le_bytes());
    }
    data.extend_from_slice(header);
    data.extend_from_slice(tokens);
    data.into()
}

fn macroblocks(size: FrameSize) -> (u16, u16) {
    (size.width.div_ceil(16), size.height.div_ceil(16))
}

/// Behind the tag of every key frame.
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
/// Sizes have 14 bits; the upper two of their field ask for scaling.
const MOST_PIXELS: u16 = 0x3fff;
/// The step of a luma DC coefficient at this index is 112: -32 steps of twice that, divided by 64 in the two
/// transforms (RFC 6386 sections 14.1, 14.3 and 14.4), take 128 to exactly 16.
const BLACK_QUANTIZER_INDEX: u32 = 108;
/// Probabilities chosen so that what every macroblock says costs next to nothing.
const SKIP_RARELY_FALSE: u8 = 1;
const INTRA_RARE: u8 = 1;
const LAST_COMMON: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_frames_are_small_and_say_what_they_are() {
        for (width, height) in [(1, 1), (16, 16), (640, 360), (641, 359), (1920, 1080)] {
            let size = FrameSize { width, height };
            let black = black_keyframe(size);
            assert_eq!(keyframe_size(&black), Some(size));
            let repeat = repeat_frame(size);
            assert_eq!(keyframe_size(&repeat), None);
            assert!(
                black.len() < 4_000 && repeat.len() < 500,
                "{width}x{height}: {} {}",
                black.len(),
                repeat.len()
            );
        }
    }

    #[test]
    fn damaged_bytes_have_no_size() {
        for data in [
            &b""[..],
            b"\x10",
            b"\x10\0\0\x9d\x01\x2a\x10\0\x10",
            b"\x10\0\0\x9d\x01\x2b\x10\0\x10\0",
        ] {
            assert_eq!(keyframe_size(data), None);
        }
        assert_eq!(keyframe_size(b"\x10\0\0\x9d\x01\x2a\0\0\0\0"), None);
    }
}
