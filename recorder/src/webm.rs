//! Reads webm files as far as they go: what this program writes, whole or cut off by a crash.
//!
//! Element ids and layouts are those of RFC 9559 (Matroska) and RFC 8794 (EBML). Sizes of segments and clusters are
//! not relied on: a crash leaves them unknown.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use seodang_model::MediaKind;
use seodang_rtp::FrameSize;

use crate::vp8::keyframe_size;

/// A file being read from its beginning.
pub(crate) struct WebmReader<R> {
    input: R,
    head: Head,
    cluster: u64,
    has_cues: bool,
    cut_off: bool,
}

/// What stands in front of the media.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Head {
    /// Nanoseconds in a unit of time.
    scale: u64,
    /// Absent until the file is finished.
    pub(crate) duration: Option<Duration>,
    /// Wall-clock time of the file's zero.
    pub(crate) created: Option<SystemTime>,
    video: Option<u64>,
    audio: Option<u64>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: MediaKind,
    /// Since the file's zero.
    pub(crate) at: Duration,
    pub(crate) keyframe: bool,
    pub(crate) data: Bytes,
}

/// What a reading of the whole file found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scan {
    pub(crate) head: Head,
    pub(crate) has_cues: bool,
    pub(crate) video: Track,
    pub(crate) audio: Track,
    /// Size of the largest key frame.
    pub(crate) size: Option<FrameSize>,
}

/// What a reading found of one track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Time of its last frame.
    pub(crate) last: Duration,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebmError {
    #[error("not a webm file")]
    NotWebm,
    #[error("the disk refused while reading")]
    Io(#[from] io::Error),
}

impl<R: Read> WebmReader<R> {
    /// Reads the first element.
    pub(crate) fn new(input: R) -> Result<Self, WebmError> {
        let head = Head {
            scale: 1_000_000,
            ..Head::default()
        };
        let mut reader = Self {
            input,
            head,
            cluster: 0,
            has_cues: false,
            cut_off: false,
        };
        match reader.element()? {
            Some((EBML, Some(size))) if reader.skip(size)? => Ok(reader),
            _ => Err(WebmError::NotWebm),
        }
    }

    /// The next frame; `None` at the end, or where a crash cut the file off.
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, WebmError> {
        while !self.cut_off {
            let Some((id, size)) = self.element()? else { break };
            match (id, size) {
                (SEGMENT | CLUSTER | BLOCK_GROUP, _) => {}
                (INFO | TRACKS | TIMESTAMP | SIMPLE_BLOCK | BLOCK, Some(size)) => {
                    let Some(body) = self.body(size)? else { break };
                    match id {
                        INFO => self.head.read_info(&body),
                        TRACKS => self.head.read_tracks(&body),
                        TIMESTAMP => self.cluster = unsigned(&body),
                        _ => {
                            if let Some(block) = self.block(body) {
                                return Ok(Some(block));
                            }
                        }
                    }
                }
                (_, Some(size)) => {
                    if !self.skip(size)? {
                        break;
                    }
                    self.has_cues |= id == CUES;
                }
                (_, None) => self.cut_off = true,
            }
        }
        Ok(None)
    }

    /// Reads to the end and sums up; the input is handed back.
    pub(crate) fn scan(mut self) -> Result<(Scan, R), WebmError> {
        let mut scan = Scan::default();
        while let Some(block) = self.next_block()? {
            let track = match block.kind {
                MediaKind::Video => &mut scan.video,
                MediaKind::Audio => &mut scan.audio,
            };
            track.frames += 1;
            track.bytes += block.data.len() as u64;
            track.last = track.last.max(block.at);
            if block.kind == MediaKind::Video
                && let Some(size) = keyframe_size(&block.data)
            {
                let area = |size: FrameSize| u32::from(size.width) * u32::from(size.height);
                scan.size = Some(
                    scan.size
                        .filter(|largest| area(*largest) >= area(size))
                        .unwrap_or(size),
                );
            }
        }
        scan.head = self.head;
        scan.has_cues = self.has_cues;
        Ok((scan, self.input))
    }

    /// What stands in front of the media, as far as it was read.
    #[cfg(test)]
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    fn block(&self, body: Bytes) -> Option<Block> {
        let mut rest = &body[..];
        let track = take_number(&mut rest, false)?;
        let (header, data) = rest.split_first_chunk::<3>()?;
        let kind = match Some(track) {
            track if track == self.head.video => MediaKind::Video,
            track if track == self.head.audio => MediaKind::Audio,
            _ => return None,
        };
        const LACING: u8 = 0x06;
        if header[2] & LACING != 0 || data.is_empty() {
            return None;
        }
        let units = self
            .cluster
            .checked_add_signed(i16::from_be_bytes([header[0], header[1]]).into())?;
        let data = body.slice(body.len() - data.len()..);
        // The flag is missing in block groups; the frames themselves say it in both (RFC 6386 section 9.1).
        let keyframe = kind == MediaKind::Audio || data[0] & 1 == 0;
        Some(Block {
            kind,
            at: self.head.time(units),
            keyframe,
            data,
        })
    }

    /// Id and size of the next element; a size of `None` is "unknown". `None` at the end.
    fn element(&mut self) -> Result<Option<(u64, Option<u64>)>, WebmError> {
        let Some(id) = self.number(true)? else {
            return Ok(None);
        };
        let Some((size, length)) = self.number_and_length(false)? else {
            return Ok(None);
        };
        let unknown = (1 << (7 * length)) - 1;
        Ok(Some((id, (size != unknown).then_some(size))))
    }

    fn number(&mut self, keep_marker: bool) -> Result<Option<u64>, WebmError> {
        Ok(self.number_and_length(keep_marker)?.map(|(number, _)| number))
    }

    /// A variable-length number (RFC 8794 section 4) and its length in bytes.
    fn number_and_length(&mut self, keep_marker: bool) -> Result<Option<(u64, u32)>, WebmError> {
        let mut bytes = [0; 8];
        if !self.fill(&mut bytes[..1])? {
            return Ok(None);
        }
        let length = bytes[0].leading_zeros() as usize + 1;
        if length > 8 || !self.fill(&mut bytes[1..length])? {
            self.cut_off = true;
            return Ok(None);
        }
        let mut rest = &bytes[..length];
        Ok(take_number(&mut rest, keep_marker).map(|number| (number, length as u32)))
    }

    fn body(&mut self, size: u64) -> Result<Option<Bytes>, WebmError> {
        /// No frame is larger; a size above it is damage.
        const MOST_BYTES: u64 = 32 << 20;
        if size > MOST_BYTES {
            self.cut_off = true;
            return Ok(None);
        }
        let mut body = Vec::new();
        let count = self.input.by_ref().take(size).read_to_end(&mut body)?;
        self.cut_off = count as u64 != size;
        Ok((!self.cut_off).then(|| body.into()))
    }

    fn skip(&mut self, size: u64) -> Result<bool, WebmError> {
        let count = io::copy(&mut self.input.by_ref().take(size), &mut io::sink())?;
        self.cut_off = count != size;
        Ok(!self.cut_off)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, WebmError> {
        match self.input.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.cut_off = true;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Scan {
    /// Time of the last frame of either track.
    pub(crate) fn end(&self) -> Duration {
        self.video.last.max(self.audio.last)
    }

    /// Whether there is any frame.
    pub(crate) fn has_media(&self) -> bool {
        self.video.frames + self.audio.frames > 0
    }

    /// Whether browsers can show its length and seek in it.
    pub(crate) fn is_complete(&self) -> bool {
        // Durations are floating point, times whole units.
        let reaches = |duration: Duration| duration + Duration::from_millis(1) > self.end();
        self.has_cues && self.head.duration.is_some_and(reaches)
    }
}

impl Head {
    fn time(&self, units: u64) -> Duration {
        Duration::from_nanos(units.saturating_mul(self.scale))
    }

    fn read_info(&mut self, mut body: &[u8]) {
        let mut duration = None;
        while let Some((id, value)) = take_element(&mut body) {
            match id {
                TIMESTAMP_SCALE => self.scale = unsigned(value).max(1),
                DURATION => duration = float(value),
                DATE_UTC => self.created = date(value),
                _ => {}
            }
        }
        // A placeholder of zero stands there while the file is being written.
        self.duration = duration
            .filter(|units| *units > 0.0)
            .and_then(|units| Duration::try_from_secs_f64(units * self.scale as f64 / 1e9).ok());
    }

    fn read_tracks(&mut self, mut body: &[u8]) {
        while let Some((id, mut entry)) = take_element(&mut body) {
            let (mut number, mut codec) = (None, &b""[..]);
            while let Some((id, value)) = take_element(&mut entry) {
                match id {
                    TRACK_NUMBER => number = Some(unsigned(value)),
                    // Strings may be padded with zeros (RFC 8794 section 7.4); `webmmux` does.
                    CODEC_ID => codec = value.split(|byte| *byte == 0).next().unwrap_or_default(),
                    _ => {}
                }
            }
            match codec {
                b"V_VP8" if id == TRACK_ENTRY => self.video = number,
                b"A_OPUS" if id == TRACK_ENTRY => self.audio = number,
                _ => {}
            }
        }
    }
}

/// One child element of a master that was read whole.
fn take_element<'a>(body: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let id = take_number(body, true)?;
    let size = usize::try_from(take_number(body, false)?).ok()?;
    let (value, rest) = body.split_at_checked(size)?;
    *body = rest;
    Some((id, value))
}

fn take_number(body: &mut &[u8], keep_marker: bool) -> Option<u64> {
    let first = *body.first()?;
    let length = first.leading_zeros() as usize + 1;
    let (bytes, rest) = body.split_at_checked(length).filter(|_| length <= 8)?;
    *body = rest;
    let number = unsigned(bytes);
    Some(if keep_marker {
        number
    } else {
        number & ((1 << (7 * length)) - 1)
    })
}

fn unsigned(value: &[u8]) -> u64 {
    value
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn float(value: &[u8]) -> Option<f64> {
    match value.len() {
        4 => Some(f32::from_be_bytes(value.try_into().ok()?).into()),
        8 => Some(f64::from_be_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// Nanoseconds since 2001 (RFC 8794 section 7.6).
fn date(value: &[u8]) -> Option<SystemTime> {
    const EPOCH: Duration = Duration::from_secs(978_307_200);
    let since = i64::from_be_bytes(value.try_into().ok()?);
    SystemTime::UNIX_EPOCH
        .checked_add(EPOCH)?
        .checked_add(Duration::from_nanos(since.try_into().ok()?))
}

const EBML: u64 = 0x1a45_dfa3;
const SEGMENT: u64 = 0x1853_8067;
const INFO: u64 = 0x1549_a966;
const TIMESTAMP_SCALE: u64 = 0x2a_d7b1;
const DURATION: u64 = 0x4489;
const DATE_UTC: u64 = 0x4461;
const TRACKS: u64 = 0x1654_ae6b;
const TRACK_ENTRY: u64 = 0xae;
const TRACK_NUMBER: u64 = 0xd7;
const CODEC_ID: u64 = 0x86;
const CLUSTER: u64 = 0x1f43_b675;
const TIMESTAMP: u64 = 0xe7;
const SIMPLE_BLOCK: u64 = 0xa3;
const BLOCK_GROUP: u64 = 0xa0;
const BLOCK: u64 = 0xa1;
const CUES: u64 = 0x1c53_bb6b;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hand-made file: one of each element that is read.
    fn file(finished: bool) -> Vec<u8> {
        let master =
            |id: &[u8], body: &[u8]| [id, &[0x80 | u8::try_from(body.len()).expect("short")], body].concat();
        let duration = if finished {
            master(&[0x44, 0x89], &1_040_f64.to_be_bytes())
        } else {
            Vec::new()
        };
        let info = master(
            &[0x15, 0x49, 0xa9, 0x66],
            &[master(&[0x2a, 0xd7, 0xb1], &[0x0f, 0x42, 0x40]), duration].concat(),
        );
        let track = |number: u8, codec: &[u8]| {
            master(
                &[0xae],
                &[master(&[0xd7], &[number]), master(&[0x86], codec)].concat(),
            )
        };
        let tracks = master(
            &[0x16, 0x54, 0xae, 0x6b],
            &[track(1, b"V_VP8\0"), track(2, b"A_OPUS")].concat(),
        );
        let unknown = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let mut file = [
            master(&[0x1a, 0x45, 0xdf, 0xa3], &[]),
            [&[0x18, 0x53, 0x80, 0x67][..], &unknown].concat(),
            info,
            tracks,
            [&[0x1f, 0x43, 0xb6, 0x75][..], &unknown].concat(),
            master(&[0xe7], &[0x03, 0xe8]),
            master(
                &[0xa3],
                &[
                    0x81, 0, 0, 0x80, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00,
                ],
            ),
            master(&[0xa0], &master(&[0xa1], &[0x82, 0, 20, 0, 0xf8, 0xff, 0xfe])),
        ]
        .concat();
        if finished {
            file.extend(master(&[0x1c, 0x53, 0xbb, 0x6b], &[]));
        }
        file
    }

    #[test]
    fn a_finished_file_is_complete_and_one_being_written_is_not() {
        let (scan, _) = WebmReader::new(&file(true)[..])
            .and_then(WebmReader::scan)
            .expect("readable");
        assert!(scan.is_complete() && scan.has_media());
        assert_eq!(
            (scan.end(), scan.size),
            (
                Duration::from_millis(1_020),
                Some(FrameSize {
                    width: 320,
                    height: 180
                })
            )
        );
        let (scan, _) = WebmReader::new(&file(false)[..])
            .and_then(WebmReader::scan)
            .expect("readable");
        assert!(!scan.is_complete());
        assert_eq!((scan.video.frames, scan.audio.frames), (1, 1));
    }

    #[test]
    fn a_file_cut_off_anywhere_gives_what_is_whole() {
        let whole = file(true);
        for length in 5..whole.len() {
            let (scan, _) = WebmReader::new(&whole[..length])
                .and_then(WebmReader::scan)
                .expect("readable");
            assert!(scan.video.frames <= 1 && !scan.is_complete(), "{length}");
        }
        let mut reader = WebmReader::new(&whole[..]).expect("readable");
        let block = reader.next_block().expect("readable").expect("a picture");
        assert!(block.keyframe && block.kind == MediaKind::Video);
        assert_eq!(reader.head().duration, Some(Duration::from_millis(1_040)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..150) {
            let mut damaged = file(true);
            let at = at.min(damaged.len());
            let end = (at + bytes.len()).min(damaged.len());
            damaged[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = WebmReader::new(&damaged[..]).and_then(WebmReader::scan);
            let _ = WebmReader::new(&bytes[..]).and_then(WebmReader::scan);
        }
    }
}
