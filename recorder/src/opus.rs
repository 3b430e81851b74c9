//! What the recorder knows of Opus: packets of silence and how long a packet lasts.

use std::time::Duration;

use bytes::Bytes;

/// 20 ms of silence: one full-band CELT frame, mono, without content (RFC 6716 section 3.1).
pub(crate) const SILENCE: Bytes = Bytes::from_static(&[0xf8, 0xff, 0xfe]);

/// What [`SILENCE`] lasts.
pub(crate) const SILENCE_DURATION: Duration = Duration::from_millis(20);

/// 120 ms of silence, the most a packet can hold: six times the same frame (RFC 6716 section 3.2.5, code 3).
const LONG_SILENCE: Bytes = Bytes::from_static(&[
    0xfb, 0x06, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe,
]);
const LONG_SILENCE_DURATION: Duration = Duration::from_millis(120);

/// The packet of silence to put where `missing` of sound is missing, and what it lasts; `None` when even the
/// shortest is too long.
pub(crate) fn silence_for(missing: Duration) -> Option<(Bytes, Duration)> {
    if missing >= LONG_SILENCE_DURATION {
        Some((LONG_SILENCE, LONG_SILENCE_DURATION))
    } else {
        (missing >= SILENCE_DURATION).then_some((SILENCE, SILENCE_DURATION))
    }
}

/// How long the sound of a packet lasts, at most 120 ms; that of an empty or damaged one counts as 20 ms.
pub(crate) fn packet_duration(packet: &[u8]) -> Duration {
    let Some(toc) = packet.first() else {
        return SILENCE_DURATION;
    };
    // RFC 6716 section 3.1, table 2: frame sizes by configuration.
    let frame_us = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config % 4)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config % 2)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(1, |count| u64::from(count & 0x3f)),
    };
    match frame_us * frames {
        us @ 2_500..=120_000 => Duration::from_micros(us),
        _ => SILENCE_DURATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_table_of_contents() {
        assert_eq!(packet_duration(&SILENCE), SILENCE_DURATION);
        assert_eq!(packet_duration(&LONG_SILENCE), LONG_SILENCE_DURATION);
        assert_eq!(packet_duration(&[0x18]), Duration::from_millis(60));
        assert_eq!(packet_duration(&[0xf9, 0]), Duration::from_millis(40));
        assert_eq!(packet_duration(&[0x83, 3]), Duration::from_micros(7_500));
        assert_eq!(
            packet_duration(&[0xfb, 63]),
            SILENCE_DURATION,
            "more than a packet may hold"
        );
        assert_eq!(packet_duration(&[]), SILENCE_DURATION);
    }
}
