//! Writes the media of one or more parts into a fresh file that has duration and cues.

use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, SystemTime};

use seodang_model::MediaKind;
use seodang_rtp::FrameSize;

use crate::RecorderError;
use crate::opus::SILENCE;
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
        Err(RecorderError::Pipeline(
            "the joined recording is not whole".to_owned(),
        ))
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
}

/// What went into one track.
#[derive(Clone, Copy, Default)]
struct Lane {
    frames: u64,
    bytes: u64,
    last: Option<Duration>,
}

impl Output {
    fn put(&mut self, block: Block) -> Result<(), RecorderError> {
        // A file's frames stand in order of time, so a track without any up to here has none; the muxer would hold
        // the other one back for it.
        let other = match block.kind {
            MediaKind::Video => self.audio,
            MediaKind::Audio => self.video,
        };
        let waits = other.last.map_or(Duration::ZERO, |last| last + MOST_APART) < block.at;
        if let Some(before) = block.at.checked_sub(MOMENT).filter(|_| waits) {
            self.fill(block.kind, before);
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

    /// Black and silence from the end of the part before up to where the next one begins.
    fn mark_gap(&mut self, until: Duration) -> Result<(), RecorderError> {
        let Some(end) = self.video.last.max(self.audio.last) else {
            return Ok(());
        };
        if end + MOMENT < until {
            self.fill(MediaKind::Audio, end + MOMENT);
            self.fill(MediaKind::Video, end + MOMENT);
        }
        self.flush()
    }

    /// A filler at `at` on the other track than `kind`.
    fn fill(&mut self, kind: MediaKind, at: Duration) {
        match kind {
            MediaKind::Video => {
                self.queue(
                    MediaKind::Audio,
                    TimedFrame {
                        at,
                        data: SILENCE,
                        keyframe: true,
                    },
                );
            }
            MediaKind::Audio => {
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
        }
    }

    fn queue(&mut self, kind: MediaKind, frame: TimedFrame) {
        let lane = match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        };
        lane.frames += 1;
        lane.bytes += frame.data.len() as u64;
        lane.last = Some(frame.at);
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

/// One track may lag so far behind the other within a file.
const MOST_APART: Duration = Duration::from_secs(1);
/// The resolution of times in the file.
const MOMENT: Duration = Duration::from_millis(1);
const BATCH_FRAMES: usize = 256;
/// Frames read ahead of the muxer.
const MOST_WAITING_BYTES: u64 = 8 << 20;
