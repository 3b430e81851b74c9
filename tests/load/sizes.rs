//! How large the clip's packets are: frames as an encoder makes them, split as a browser splits them.

/// Pictures a second.
pub(crate) const FRAMES_A_SECOND: u32 = 25;
/// Packets of sound a second.
pub(crate) const VOICES_A_SECOND: u32 = 50;
/// Payload of an Opus packet: 20 ms at 32 kbit/s.
pub(crate) const VOICE_BYTES: usize = 80;
/// Frames after which the sizes repeat.
pub(crate) const FRAMES: usize = 250;
/// Largest RTP payload of a video packet: with header and tag it stays below the 1,200 bytes browsers keep to.
pub(crate) const PAYLOAD_BYTES: usize = 1_160;
/// RFC 7741 section 4.2, with X, I and a picture id of 15 bits.
pub(crate) const DESCRIPTOR_BYTES: usize = 4;
/// How much larger a key frame is than another one.
const KEY_FACTOR: usize = 4;

/// Bytes of the delta frame with this number at a rate of `bps`: between 0.6 and 1.4 times the mean, the same way in
/// every run.
pub(crate) fn frame_bytes(bps: u32, frame: usize) -> usize {
    let mean = bps as usize / 8 / FRAMES_A_SECOND as usize;
    // Multiplying by a number without a common divisor visits every share once before it repeats.
    let share = (frame % FRAMES) * 97 % FRAMES;
    (mean * (600 * (FRAMES - 1) + share * 800) / (1_000 * (FRAMES - 1))).max(64)
}

/// Bytes of a key frame at a rate of `bps`.
pub(crate) fn key_frame_bytes(bps: u32) -> usize {
    KEY_FACTOR * bps as usize / 8 / FRAMES_A_SECOND as usize
}

/// Splits a frame into payloads about equal in size, the larger ones last, as Chromium does; `extra` bytes of each
/// payload are not the frame's.
pub(crate) fn split(bytes: usize, extra: usize) -> Vec<usize> {
    let count = bytes.div_ceil(PAYLOAD_BYTES - extra).max(1);
    let larger = bytes % count;
    (0..count)
        .map(|index| bytes / count + usize::from(index >= count - larger))
        .collect()
}

/// RTP payloads of the delta frame with this number, the codec's descriptor in front of each included.
pub(crate) fn payloads(bps: u32, frame: usize) -> impl Iterator<Item = usize> {
    split(frame_bytes(bps, frame), DESCRIPTOR_BYTES)
        .into_iter()
        .map(|bytes| bytes + DESCRIPTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_vary_about_the_rate() {
        let sizes: Vec<usize> = (0..FRAMES).map(|frame| frame_bytes(600_000, frame)).collect();
        let mean = sizes.iter().sum::<usize>() / FRAMES;
        assert!((2_980..=3_020).contains(&mean), "{mean}");
        assert_eq!(sizes.iter().min(), Some(&1_800));
        assert_eq!(sizes.iter().max(), Some(&4_200));
    }

    #[test]
    fn a_frame_is_split_into_nearly_equal_payloads() {
        assert_eq!(split(3_002, 24), [1_000, 1_001, 1_001]);
        assert_eq!(split(100, 24), [100]);
        assert!(split(12_000, 24).iter().all(|bytes| bytes + 24 <= PAYLOAD_BYTES));
    }
}
