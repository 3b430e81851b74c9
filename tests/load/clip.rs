//! Ready-made packets: VP8 and Opus by their headers, and a record of when and what inside.

use std::time::{Duration, Instant};

/// Pictures a second.
pub(crate) const FRAMES_A_SECOND: u32 = 25;
/// Payload bytes of a video packet, as browsers send on a 1200-byte path.
const PACKET_BYTES: usize = 1_100;
/// How much larger a key frame is than another one.
const KEY_FACTOR: usize = 5;
/// Bytes of an Opus packet: 20 ms at about 32 kbit/s.
const VOICE_BYTES: usize = 80;
const RECORD_BYTES: usize = 20;
const MAGIC: u32 = 0x5e0d_a901;

/// What each packet of the tool says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Microseconds since the tool's start at which it was sent.
    pub(crate) sent_us: u64,
    /// Frame number, from 0.
    pub(crate) frame: u32,
    /// Place in the frame, from 0.
    pub(crate) index: u16,
    /// Packets of the frame.
    pub(crate) count: u16,
}

impl Record {
    fn write(self, payload: &mut [u8]) {
        let at = payload.len() - RECORD_BYTES;
        payload[at..at + 4].copy_from_slice(&MAGIC.to_be_bytes());
        payload[at + 4..at + 12].copy_from_slice(&self.sent_us.to_be_bytes());
        payload[at + 12..at + 16].copy_from_slice(&self.frame.to_be_bytes());
        payload[at + 16..at + 18].copy_from_slice(&self.index.to_be_bytes());
        payload[at + 18..].copy_from_slice(&self.count.to_be_bytes());
    }

    /// Reads the record at the end of a payload; `None` if it is none of ours.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let at = payload.len().checked_sub(RECORD_BYTES)?;
        let field = |from: usize, to: usize| {
            payload[at + from..at + to]
                .iter()
                .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte))
        };
        (field(0, 4) == u64::from(MAGIC)).then(|| Self {
            sent_us: field(4, 12),
            frame: field(12, 16) as u32,
            index: field(16, 18) as u16,
            count: field(18, 20) as u16,
        })
    }
}

/// A camera that sends `bps` bits a second.
#[derive(Debug)]
pub(crate) struct Camera {
    bps: u32,
    frame: u32,
    key_wished: bool,
}

impl Camera {
    pub(crate) fn new(bps: u32) -> Self {
        Self {
            bps,
            frame: 0,
            key_wished: true,
        }
    }

    /// The next frame is a key frame.
    pub(crate) fn wish_key_frame(&mut self) {
        self.key_wished = true;
    }

    /// Time of the next frame on the camera's clock.
    pub(crate) fn next_at(&self) -> Duration {
        Duration::from_secs(1) * self.frame / FRAMES_A_SECOND
    }

    /// The payloads of the next frame; the last one ends the picture.
    pub(crate) fn next(&mut self, epoch: Instant) -> Vec<Vec<u8>> {
        let key = std::mem::take(&mut self.key_wished);
        let bytes = self.bps as usize / 8 / FRAMES_A_SECOND as usize * if key { KEY_FACTOR } else { 1 };
        let count = bytes.div_ceil(PACKET_BYTES).max(1);
        let picture_id = (self.frame & 0x7fff) as u16;
        let packets = (0..count)
            .map(|index| {
                // RFC 7741 section 4.2: X set, S on the first packet; then I set; then a 15-bit picture id.
                let mut payload = vec![0x80 | if index == 0 { 0x10 } else { 0 }, 0x80];
                payload.extend((picture_id | 0x8000).to_be_bytes());
                if index == 0 {
                    // RFC 6386 section 9.1: frame tag (bit 0 clear: key frame), start code, 640x360.
                    payload.extend([u8::from(!key) | 0x10, 0, 0]);
                    if key {
                        payload.extend([0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
                    }
                }
                payload.resize(PACKET_BYTES.min(bytes.max(64)), 0x55);
                Record {
                    sent_us: epoch.elapsed().as_micros() as u64,
                    frame: self.frame,
                    index: index as u16,
                    count: count as u16,
                }
                .write(&mut payload);
                payload
            })
            .collect();
        self.frame += 1;
        packets
    }
}

/// A microphone: 50 packets a second.
#[derive(Debug, Default)]
pub(crate) struct Microphone {
    packet: u32,
}

impl Microphone {
    pub(crate) fn next_at(&self) -> Duration {
        Duration::from_millis(20) * self.packet
    }

    pub(crate) fn next(&mut self, epoch: Instant) -> Vec<u8> {
        let mut payload = vec![0xf8; VOICE_BYTES];
        Record {
            sent_us: epoch.elapsed().as_micros() as u64,
            frame: self.packet,
            index: 0,
            count: 1,
        }
        .write(&mut payload);
        self.packet += 1;
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_tells_when_and_what_it_is() {
        let mut camera = Camera::new(1_500_000);
        let first = camera.next(Instant::now());
        let second = camera.next(Instant::now());
        assert!(first.len() > 3 * second.len(), "the first frame is a key frame");
        let record = Record::read(&second[1]).expect("a record");
        assert_eq!(
            (record.frame, record.index, usize::from(record.count)),
            (1, 1, second.len())
        );
        assert_eq!(Record::read(b"foreign"), None);
    }
}
