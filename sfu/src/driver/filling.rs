//! Packets of one picture are made equally long, so that the kernel cuts them from one message (GSO).
//!
//! Browsers split a picture into packets about equal in size, of which the last ones are a byte longer than the first. The
//! kernel takes packets of one size as one message, and only the last may be shorter: a picture would be two. Padding
//! (RFC 3550 section 5.1) up to a multiple of [`STEP_BYTES`] makes it one, but where a multiple lies between the sizes.

/// What lengths are rounded up to: 7.5 bytes of a thousand are added, and one picture of sixteen stays two messages.
const STEP_BYTES: usize = 16;
/// Shorter packets stay as they are: they are sound, or a picture of their own.
const LEAST_BYTES: usize = 512;
/// A filled packet is no longer than what browsers keep their own packets to.
const MOST_BYTES: usize = 1_200;

/// Fills the RTP packet that begins at `start`, before it is sealed. Depends on its length alone, so that a packet that is
/// sent again is filled as before.
pub(super) fn fill(bytes: &mut Vec<u8>, start: usize) {
    let length = bytes.len() - start;
    let filled = length.next_multiple_of(STEP_BYTES);
    if !(LEAST_BYTES..=MOST_BYTES).contains(&length) || filled == length {
        return;
    }
    bytes.resize(start + filled, 0);
    // The last byte of padding says how much it is.
    bytes[start + filled - 1] = (filled - length) as u8;
    bytes[start] |= PADDING_BIT;
}

/// In the first byte of the header.
const PADDING_BIT: u8 = 0x20;

#[cfg(test)]
mod tests {
    use seodang_rtp::RtpView;

    use super::*;

    #[test]
    fn a_filled_packet_is_read_as_the_same_packet() {
        for length in [
            12, 100, 511, 512, 513, 1_000, 1_001, 1_008, 1_187, 1_200, 1_201, 1_432,
        ] {
            let mut bytes = vec![9; 5];
            bytes.extend(packet(length));
            fill(&mut bytes, 5);
            let view = RtpView::parse(&bytes[5..]).expect("an RTP packet");
            let plain = packet(length);
            let before = RtpView::parse(&plain).expect("an RTP packet");
            assert_eq!((view.header, view.payload), (before.header, before.payload));
            assert_eq!(bytes[..5], [9; 5], "what waits before it is not its own");
        }
    }

    #[test]
    fn nearly_equal_packets_of_a_picture_become_equal_and_others_stay() {
        assert_eq!([filled(1_010), filled(1_011), filled(1_024)], [1_024; 3]);
        assert_eq!([filled(80), filled(511)], [80, 511], "sound, and small pictures");
        assert_eq!([filled(1_199), filled(1_200)], [1_200; 2]);
        assert_eq!(filled(1_201), 1_201, "nothing grows beyond what fits everywhere");
    }

    fn filled(length: usize) -> usize {
        let mut bytes = packet(length);
        fill(&mut bytes, 0);
        bytes.len()
    }

    fn packet(length: usize) -> Vec<u8> {
        let mut bytes = vec![7; length];
        bytes[0] = 0x80;
        bytes
    }
}
