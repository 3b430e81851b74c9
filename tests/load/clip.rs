//! The clip: real VP8 frames, stuffed so that every packet says when it was sent and what it belongs to.
//!
//! VP8 tells the length of its first partition and of seven of its eight token partitions; what a decoder does not need of
//! a partition it never looks at. So each packet ends where a partition ends, and the record of the packet is the end of that
//! partition: the frames can be decoded, also those that travel on into files and captures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::sizes::{
    DESCRIPTOR_BYTES, FRAMES, FRAMES_A_SECOND, VOICE_BYTES, VOICES_A_SECOND, frame_bytes, key_frame_bytes,
    split,
};

const RECORD_BYTES: usize = 24;
const MAGIC: u32 = 0x5e0d_a902;
/// Token partitions of every frame.
const PARTITIONS: usize = 8;
/// Frames that are encoded; then the deltas begin again.
const ENCODED: usize = 26;

/// What each packet of the tool says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Microseconds since the tool's start at which it was sent.
    pub(crate) sent_us: u64,
    /// Number of the publisher.
    pub(crate) source: u16,
    /// Frame number, from 0.
    pub(crate) frame: u32,
    /// Place in the frame, from 0.
    pub(crate) index: u16,
    /// Packets of the frame.
    pub(crate) count: u16,
    /// Part of a picture; else sound.
    pub(crate) video: bool,
    /// Part of a key frame.
    pub(crate) key: bool,
    /// Simulcast layer, 0 the smallest.
    pub(crate) layer: u8,
}

impl Record {
    fn write(self, payload: &mut [u8]) {
        let at = payload.len() - RECORD_BYTES;
        let flags = u8::from(self.video) | u8::from(self.key) << 1;
        payload[at..at + 4].copy_from_slice(&MAGIC.to_be_bytes());
        payload[at + 4..at + 12].copy_from_slice(&self.sent_us.to_be_bytes());
        payload[at + 12..at + 16].copy_from_slice(&self.frame.to_be_bytes());
        payload[at + 16..at + 18].copy_from_slice(&self.source.to_be_bytes());
        payload[at + 18..at + 20].copy_from_slice(&self.index.to_be_bytes());
        payload[at + 20..at + 22].copy_from_slice(&self.count.to_be_bytes());
        payload[at + 22..].copy_from_slice(&[flags, self.layer]);
    }

    /// Reads the record at the end of a payload; `None` if it is none of ours.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let at = payload.len().checked_sub(RECORD_BYTES)?;
        let field = |from: usize, to: usize| {
            payload[at + from..at + to]
                .iter()
                .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte))
        };
        let flags = payload[at + 22];
        (field(0, 4) == u64::from(MAGIC)).then(|| Self {
            sent_us: field(4, 12),
            frame: field(12, 16) as u32,
            source: field(16, 18) as u16,
            index: field(18, 20) as u16,
            count: field(20, 22) as u16,
            video: flags & 1 != 0,
            key: flags & 2 != 0,
            layer: payload[at + 23],
        })
    }
}

/// The packets of one encoding of the clip.
#[derive(Debug)]
pub(crate) struct Clip {
    key: Vec<Vec<u8>>,
    /// One for each number of a frame modulo [`FRAMES`].
    deltas: Vec<Vec<Vec<u8>>>,
}

impl Clip {
    /// Encodes the clip at this size and rate: as good as leaves room for the records.
    ///
    /// # Errors
    /// When GStreamer's `vp8enc` is missing, or no quality fits into the rate.
    pub(crate) fn encode(width: u32, height: u32, bps: u32) -> anyhow::Result<Arc<Self>> {
        for quantizer in [24, 36, 48, 56, 63] {
            let frames = encode(width, height, quantizer)?;
            if let Some(clip) = Self::stuffed(&frames, bps) {
                return Ok(Arc::new(clip));
            }
        }
        anyhow::bail!("{bps} bit/s are too few for {width}x{height}")
    }

    fn stuffed(frames: &[Vec<u8>], bps: u32) -> Option<Self> {
        let (key, deltas) = frames.split_first()?;
        Some(Self {
            key: stuff(key, key_frame_bytes(bps))?,
            deltas: (0..FRAMES)
                .map(|frame| stuff(&deltas[frame % deltas.len()], frame_bytes(bps, frame)))
                .collect::<Option<_>>()?,
        })
    }
}

/// The frames of a moving test picture: the first one a key frame, the others none.
fn encode(width: u32, height: u32, quantizer: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    gst::init()?;
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers={ENCODED} pattern=zone-plate kx2=2 ky2=2 kt=3 \
         ! video/x-raw,format=I420,width={width},height={height},framerate={FRAMES_A_SECOND}/1 \
         ! vp8enc deadline=1 cpu-used=8 token-partitions=8 lag-in-frames=0 keyframe-max-dist=9000 \
           min-quantizer={quantizer} max-quantizer=63 end-usage=cbr target-bitrate=100000 \
         ! appsink name=frames sync=false"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow::anyhow!("a pipeline was described"))?;
    let sink = pipeline
        .by_name("frames")
        .and_then(|element| element.downcast::<gst_app::AppSink>().ok())
        .context("an appsink was described")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut frames = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let map = sample.buffer().context("a frame")?.map_readable()?;
        frames.push(map.to_vec());
    }
    pipeline.set_state(gst::State::Null)?;
    ensure!(
        frames.len() > 1 && frames.iter().position(|frame| frame[0] & 1 == 0) == Some(0),
        "vp8enc made {} frames",
        frames.len()
    );
    Ok(frames)
}

/// Payloads of a frame that is enlarged to `bytes`, with room for a record at the end of each; `None` when the frame is too
/// large for that.
fn stuff(frame: &[u8], bytes: usize) -> Option<Vec<Vec<u8>>> {
    let pieces = Pieces::of(frame)?;
    let sizes: Vec<usize> = split(bytes, DESCRIPTOR_BYTES);
    // Which pieces go into which packet: as many as fit.
    let mut ends = Vec::new();
    let mut next = 0;
    for size in &sizes {
        let mut used = RECORD_BYTES;
        while next < pieces.bytes.len() && used + pieces.bytes[next].len() <= *size {
            used += pieces.bytes[next].len();
            next += 1;
        }
        ends.push((next, size - used));
    }
    if next < pieces.bytes.len() || ends[0].0 == 0 {
        return None;
    }
    // What is stuffed behind a piece makes it longer: the record's place, the rest of the packet, and packets without a
    // piece of their own.
    let mut longer = [0_usize; PARTITIONS + 1];
    for (end, rest) in &ends {
        longer[end - 1] += rest + RECORD_BYTES;
    }
    let lengths = pieces.with_lengths(&longer)?;
    let mut packets = Vec::new();
    let mut piece = 0;
    for (index, (size, (end, _))) in sizes.iter().zip(&ends).enumerate() {
        let start = if index == 0 { 0x10 } else { 0 };
        let mut payload = vec![0x80 | start, 0x80, 0x80, 0];
        while piece < *end {
            payload.extend(&lengths[piece]);
            piece += 1;
        }
        payload.resize(DESCRIPTOR_BYTES + size, 0x55);
        packets.push(payload);
    }
    Some(packets)
}

/// A frame cut where partitions end: header with the first partition, then the token partitions, the table of their
/// lengths with the first of them.
struct Pieces {
    bytes: Vec<Vec<u8>>,
}

impl Pieces {
    /// RFC 6386 section 9.1 (frame tag) and 9.5 (token partitions).
    fn of(frame: &[u8]) -> Option<Self> {
        let tag = read_u24(frame.get(..3)?);
        let header = if tag & 1 == 0 { 10 } else { 3 };
        let (first, rest) = frame.split_at_checked(header + (tag >> 5))?;
        let (table, mut rest) = rest.split_at_checked(3 * (PARTITIONS - 1))?;
        let mut bytes = vec![first.to_vec(), table.to_vec()];
        for length in table.chunks(3).map(read_u24) {
            let (partition, others) = rest.split_at_checked(length)?;
            bytes.push(partition.to_vec());
            rest = others;
        }
        bytes.push(rest.to_vec());
        let partition = bytes.remove(2);
        bytes[1].extend(partition);
        Some(Self { bytes })
    }

    /// The pieces, telling lengths that are larger by so much.
    fn with_lengths(&self, longer: &[usize; PARTITIONS + 1]) -> Option<Vec<Vec<u8>>> {
        let mut bytes = self.bytes.clone();
        let tag = read_u24(&bytes[0]);
        let first = (tag >> 5) + longer[0];
        // 19 bits.
        (first < 1 << 19).then_some(())?;
        write_u24(&mut bytes[0], tag & 0x1f | first << 5);
        for (partition, longer) in longer[1..PARTITIONS].iter().enumerate() {
            let place = 3 * partition;
            let length = read_u24(&bytes[1][place..]) + longer;
            write_u24(&mut bytes[1][place..], length);
        }
        Some(bytes)
    }
}

fn read_u24(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) | usize::from(bytes[1]) << 8 | usize::from(bytes[2]) << 16
}

fn write_u24(bytes: &mut [u8], value: usize) {
    bytes[..3].copy_from_slice(&(value as u32).to_le_bytes()[..3]);
}

/// One encoding of a camera, played from its start.
#[derive(Debug)]
pub(crate) struct Camera {
    clip: Arc<Clip>,
    source: u16,
    layer: u8,
    frame: u32,
    key_wished: bool,
}

impl Camera {
    pub(crate) fn new(clip: Arc<Clip>, source: u16, layer: u8) -> Self {
        Self {
            clip,
            source,
            layer,
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

    /// A frame that is not sent.
    pub(crate) fn skip(&mut self) {
        self.frame += 1;
    }

    /// The payloads of the next frame; the last one ends the picture.
    pub(crate) fn next(&mut self, epoch: Instant) -> Vec<Vec<u8>> {
        let key = std::mem::take(&mut self.key_wished);
        let templates = if key {
            &self.clip.key
        } else {
            &self.clip.deltas[self.frame as usize % FRAMES]
        };
        let sent_us = epoch.elapsed().as_micros() as u64;
        let mut packets = templates.clone();
        let count = packets.len() as u16;
        for (index, payload) in packets.iter_mut().enumerate() {
            let picture_id = (self.frame & 0x7fff) as u16 | 0x8000;
            payload[2..4].copy_from_slice(&picture_id.to_be_bytes());
            Record {
                sent_us,
                source: self.source,
                frame: self.frame,
                index: index as u16,
                count,
                video: true,
                key,
                layer: self.layer,
            }
            .write(payload);
        }
        self.frame += 1;
        packets
    }
}

/// A microphone.
#[derive(Debug)]
pub(crate) struct Microphone {
    source: u16,
    packet: u32,
}

impl Microphone {
    pub(crate) fn new(source: u16) -> Self {
        Self { source, packet: 0 }
    }

    pub(crate) fn next_at(&self) -> Duration {
        Duration::from_secs(1) * self.packet / VOICES_A_SECOND
    }

    pub(crate) fn next(&mut self, epoch: Instant) -> Vec<u8> {
        let mut payload = vec![0xf8; VOICE_BYTES];
        Record {
            sent_us: epoch.elapsed().as_micros() as u64,
            source: self.source,
            frame: self.packet,
            index: 0,
            count: 1,
            video: false,
            key: true,
            layer: 0,
        }
        .write(&mut payload);
        self.packet += 1;
        payload
    }
}

#[cfg(test)]
mod tests {
    use seodang_fixtures::codec::Vp8Decoder;

    use super::*;

    #[test]
    fn a_packet_tells_when_and_what_it_is() {
        let clip = Clip::encode(640, 360, 600_000).expect("vp8enc");
        let mut camera = Camera::new(clip, 7, 1);
        let first = camera.next(Instant::now());
        let second = camera.next(Instant::now());
        assert!(first.len() > 2 * second.len(), "the first frame is a key frame");
        let record = Record::read(&second[1]).expect("a record");
        assert_eq!(
            (
                record.source,
                record.frame,
                record.index,
                usize::from(record.count)
            ),
            (7, 1, 1, second.len())
        );
        assert_eq!((record.video, record.key, record.layer), (true, false, 1));
        assert_eq!(Record::read(b"foreign"), None);
    }

    #[test]
    fn frames_with_records_inside_can_be_decoded() {
        for (width, height, bps) in [(640, 360, 600_000), (320, 180, 150_000), (160, 90, 60_000)] {
            let mut camera = Camera::new(Clip::encode(width, height, bps).expect("vp8enc"), 1, 0);
            let mut decoder = Vp8Decoder::start().expect("vp8dec");
            for _ in 0..20 {
                let frame: Vec<u8> = camera
                    .next(Instant::now())
                    .iter()
                    .flat_map(|payload| payload[DESCRIPTOR_BYTES..].to_vec())
                    .collect();
                let picture = decoder.decode(&frame).expect("a picture");
                assert_eq!((picture.width, picture.height), (width as usize, height as usize));
            }
        }
    }

    #[test]
    fn the_same_picture_comes_out_with_and_without_records() {
        let frames = encode(640, 360, 48).expect("vp8enc");
        let stuffed: Vec<u8> = stuff(&frames[0], 14_000)
            .expect("room")
            .iter()
            .flat_map(|payload| payload[DESCRIPTOR_BYTES..].to_vec())
            .collect();
        assert_eq!(stuffed.len(), 14_000);
        let decode = |frame: &[u8]| {
            Vp8Decoder::start()
                .expect("vp8dec")
                .decode(frame)
                .expect("a picture")
        };
        assert_eq!(decode(&stuffed).luma, decode(&frames[0]).luma);
    }
}
