//! Writes the media of one or more parts into a fresh file that has duration and cues.

use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, SystemTime};

use seodang_model::MediaKind;
use seodang_rtp::FrameSize;

use crate::RecorderError;
use crate::opus::{packet_duration, silence_for};
use crate::pipeline::{Pipeline, TimedFrame};
use crate::vp8::black_keyframe;
use crate::webm::{Block, Scan, WebmError, WebmReader};

/// A part to be joined, and its place on the lesson clock.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: Duration,
}

/// Joins `sources`, which follow one another, into the empty file `target`, gaps kept; then reads it back.
///
/// # Errors
/// When a part cannot be read, the disk refuses, or anything of the parts is missing in the result.
pub(crate) fn join(
    sources: &[Source<'_>],
    target: &File,
    size: FrameSize,
    created: SystemTime,
) -> Result<Scan, RecorderError> {
    let pipeline = Pipeline::start(target)?;
    pipeline.begin(size, created);
    let mut output = Output {
        pipeline,
        size,
        pending: Vec::new(),
        video: Lane::default(),
        audio: Lane::default(),
        unpaired_bytes: 0,
    };
    let origin = sources.first().map_or(Duration::ZERO, |source| source.offset);
    for source in sources {
        let offset = source.offset.saturating_sub(origin);
        output.mark_gap(offset)?;
        let mut reader = reader(source.file)?;
        while let Some(block) = reader.next_block().map_err(unreadable)? {
            output.put(Block {
                at: block.at + offset,
                ..block
            })?;
        }
    }
    let (video, audio) = (output.video, output.audio);
    output.close()?;
    target
        .sync_all()
        .map_err(RecorderError::disk("syncing a recording"))?;
    let scan = scan(target)?;
    let same =
        |lane: Lane, track: crate::webm::Track| (lane.frames, lane.bytes) == (track.frames, track.bytes);
    if scan.is_complete() && same(video, scan.video) && same(audio, scan.audio) {
        Ok(scan)
    } else {
        let counts = |lane: Lane| (lane.frames, lane.bytes);
        let found = |track: crate::webm::Track| (track.frames, track.bytes);
        Err(RecorderError::Pipeline(format!(
            "the joined recording is not whole: complete {} ({:?} of {:?}), pictures {:?} of {:?}, sounds {:?} of {:?} (frames, bytes)",
            scan.is_complete(),
            scan.head.duration,
            scan.end(),
            found(scan.video),
            counts(video),
            found(scan.audio),
            counts(audio),
        )))
    }
}

/// Reads a file from its beginning to its end.
pub(crate) fn scan(file: &File) -> Result<Scan, RecorderError> {
    reader(file)?.scan().map(|(scan, _)| scan).map_err(unreadable)
}

struct Output {
    pipeline: Pipeline,
    size: FrameSize,
    pending: Vec<(MediaKind, TimedFrame)>,
    video: Lane,
    audio: Lane,
    /// Sound since the last picture, which the muxer keeps until the next one.
    unpaired_bytes: usize,
}

/// What went into one track.
#[derive(Clone, Copy, Default)]
struct Lane {
    frames: u64,
    bytes: u64,
    last: Option<Duration>,
    /// For sound: where a player is that does not look at times, see `fill`.
    heard: Duration,
}

impl Output {
    fn put(&mut self, block: Block) -> Result<(), RecorderError> {
        // A file's frames stand in order of time, so a track without any up to here has none; the muxer would hold
        // the other one back for it.
        match block.kind {
            MediaKind::Audio => {
                self.fill_sound(block.at);
                if self.unpaired_bytes > MOST_UNPAIRED_BYTES {
                    self.put_black(block.at.saturating_sub(MOMENT));
                }
            }
            MediaKind::Video => {
                if self.audio.heard + MOST_APART < block.at {
                    self.fill_sound(block.at);
                }
            }
        }
        self.queue(
            block.kind,
            TimedFrame {
                at: block.at,
                data: block.data,
                keyframe: block.keyframe,
            },
        );
        if self.pending.len() >= BATCH_FRAMES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Black from the end of the part before, and silence up to where the next one begins.
    fn mark_gap(&mut self, until: Duration) -> Result<(), RecorderError> {
        let Some(end) = self.video.last.max(self.audio.last) else {
            return Ok(());
        };
        if end + MOMENT < until {
            self.put_black(end + MOMENT);
            self.fill_sound(until);
        }
        self.flush()
    }

    fn put_black(&mut self, at: Duration) {
        let data = black_keyframe(self.size);
        self.queue(
            MediaKind::Video,
            TimedFrame {
                at,
                data,
                keyframe: true,
            },
        );
    }

    /// Silence wherever sound is missing up to `edge`.
    fn fill_sound(&mut self, edge: Duration) {
        while let Some((data, _)) = silence_for(edge.saturating_sub(self.audio.heard)) {
            let at = self
                .audio
                .last
                .map_or(Duration::ZERO, |last| last + MOMENT)
                .max(self.audio.heard);
            self.queue(
                MediaKind::Audio,
                TimedFrame {
                    at,
                    data,
                    keyframe: true,
                },
            );
        }
    }

    fn queue(&mut self, kind: MediaKind, frame: TimedFrame) {
        let lane = match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        };
        self.unpaired_bytes = match kind {
            MediaKind::Video => 0,
            MediaKind::Audio => self.unpaired_bytes + frame.data.len(),
        };
        lane.frames += 1;
        lane.bytes += frame.data.len() as u64;
        lane.last = Some(frame.at);
        lane.heard += packet_duration(&frame.data);
        self.pending.push((kind, frame));
    }

    fn flush(&mut self) -> Result<(), RecorderError> {
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let frames: Vec<_> = self
                .pending
                .iter()
                .filter(|(of, _)| *of == kind)
                .map(|(_, frame)| frame.clone())
                .collect();
            self.pipeline.push(kind, frames.into_iter());
        }
        self.pending.clear();
        let waiting = |pipeline: &Pipeline| {
            pipeline.waiting_bytes(MediaKind::Video) + pipeline.waiting_bytes(MediaKind::Audio)
        };
        while waiting(&self.pipeline) > MOST_WAITING_BYTES {
            if let Some(reason) = self.pipeline.failure_within(Duration::from_millis(5)) {
                return Err(RecorderError::Pipeline(reason));
            }
        }
        self.pipeline
            .failure()
            .map_or(Ok(()), |reason| Err(RecorderError::Pipeline(reason)))
    }

    fn close(mut self) -> Result<(), RecorderError> {
        self.flush()?;
        self.pipeline.close().map_err(RecorderError::Pipeline)
    }
}

fn reader(file: &File) -> Result<WebmReader<BufReader<AtStart<'_>>>, RecorderError> {
    WebmReader::new(BufReader::with_capacity(1 << 18, AtStart { file, place: 0 })).map_err(unreadable)
}

/// Reads a file from its beginning without moving the place that other readers of the descriptor share.
struct AtStart<'a> {
    file: &'a File,
    place: u64,
}

impl std::io::Read for AtStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.place)?;
        self.place += count as u64;
        Ok(count)
    }
}

fn unreadable(error: WebmError) -> RecorderError {
    match error {
        WebmError::NotWebm => RecorderError::NotWebm,
        WebmError::Io(source) => RecorderError::Disk {
            doing: "reading a recording",
            source,
        },
    }
}

/// The sound may lag so far behind the picture within a file.
const MOST_APART: Duration = Duration::from_secs(1);
/// The resolution of times in the file.
const MOMENT: Duration = Duration::from_millis(1);
const BATCH_FRAMES: usize = 256;
/// Half an hour away, or minutes of speech without a picture; well below [`MOST_WAITING_BYTES`].
const MOST_UNPAIRED_BYTES: usize = 2 << 20;
/// Frames read ahead of the muxer.
const MOST_WAITING_BYTES: u64 = 8 << 20;
