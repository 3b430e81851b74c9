//! One recording being written: frames in as they come, a file that keeps growing whatever is missing.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use seodang_model::{MediaKind, ParticipantId, RecordingKind};
use seodang_rtp::{Frame, FrameSize};
use tracing::warn;

use crate::backlog::Backlog;
use crate::clerk::{ClerkHandle, NoteFile};
use crate::closing::{Closing, PendingFinish};
use crate::fill::{Fill, Piece, Verdict};
use crate::manifest::{Gap, GapReason};
use crate::part::{PartNote, PartState};
use crate::pipeline::{Pipeline, TimedFrame};

/// Writes one part of one recording. Owned by one thread, which never waits for the disk.
///
/// The caller must call [`Self::tick`] every 20 to 50 ms while the lesson goes on. Dropping the writer finishes the
/// file like [`Self::finish`], with nobody waiting for it.
#[derive(Debug)]
pub struct RecordingWriter {
    kind: RecordingKind,
    /// Kinds of media whose source is on.
    sending: Vec<MediaKind>,
    participant: ParticipantId,
    fill: Fill,
    backlog: Backlog,
    pipeline: Option<Pipeline>,
    file: Arc<File>,
    /// Decided and not yet handed to the pipeline.
    pending: Vec<Piece>,
    pending_since: Option<Duration>,
    /// Lesson time of the file's zero, and the wall-clock time of the frame there.
    origin: Option<Duration>,
    earliest: Option<(Duration, SystemTime)>,
    end: Duration,
    keyframe_wish: bool,
    next_wish: Duration,
    away_since: Option<Duration>,
    overload_since: Option<Duration>,
    next_sync: Duration,
    note: PartNote,
    note_file: Arc<NoteFile>,
    note_number: u64,
    note_is_due: bool,
    clerk: ClerkHandle,
}

/// How a recording stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingStatus {
    /// Size of the file.
    pub bytes: u64,
    /// Lesson time of the file's zero, its first frame; `None` before that.
    pub offset: Option<Duration>,
    /// Lesson time of the last frame decided on.
    pub end: Duration,
    /// Size of the last real picture; 640x360 before one.
    pub size: FrameSize,
    /// Pictures that arrived and are not in the file.
    pub dropped_video_frames: u64,
    /// Sound packets that arrived and are not in the file.
    pub dropped_audio_packets: u64,
    /// The disk was full or failed: nothing is written any more, what was written stays playable.
    pub truncated: bool,
}

/// What the recorder prepared for a writer.
pub(crate) struct Opened {
    pub(crate) kind: RecordingKind,
    pub(crate) file: Arc<File>,
    pub(crate) pipeline: Pipeline,
    pub(crate) note: PartNote,
    pub(crate) note_file: Arc<NoteFile>,
    pub(crate) clerk: ClerkHandle,
}

impl RecordingWriter {
    pub(crate) fn new(opened: Opened) -> Self {
        Self {
            kind: opened.kind,
            sending: Vec::new(),
            participant: opened.note.participant.id,
            fill: Fill::new(),
            backlog: Backlog::default(),
            pipeline: Some(opened.pipeline),
            file: opened.file,
            pending: Vec::new(),
            pending_since: None,
            origin: None,
            earliest: None,
            end: Duration::ZERO,
            keyframe_wish: false,
            next_wish: Duration::ZERO,
            away_since: None,
            overload_since: None,
            next_sync: SYNC_PERIOD,
            note: opened.note,
            note_file: opened.note_file,
            note_number: 0,
            // The one on disk may not survive a power cut.
            note_is_due: true,
            clerk: opened.clerk,
        }
    }

    /// Takes a frame, in order of arrival within its kind. Frames of a source that is not sending, see
    /// [`Self::set_sending`], are dropped: "camera off" holds whatever is still on the way.
    pub fn write(&mut self, kind: MediaKind, frame: &Frame) {
        let Some(pipeline) = &self.pipeline else { return };
        let waiting_bytes = pipeline.waiting_bytes(kind);
        if !self.backlog.admits(kind, frame.keyframe, waiting_bytes) {
            if kind == MediaKind::Video {
                self.fill.lose_picture();
                self.overload_since.get_or_insert(frame.at);
            }
            self.count_dropped(kind);
            return;
        }
        match self.fill.write(kind, frame, &mut self.pending) {
            Verdict::Written => {
                if self.earliest.is_none_or(|(at, _)| frame.at < at) {
                    self.earliest = Some((frame.at, frame.captured_at));
                }
                if kind == MediaKind::Video {
                    self.saw_picture(frame);
                }
            }
            Verdict::Late | Verdict::AwaitingKeyframe => self.count_dropped(kind),
            Verdict::NotSending => {}
        }
    }

    /// The source of this kind was published or unpublished at this lesson time. Nothing is sending at first.
    ///
    /// A camera switched off turns black. A screen share that has ended leaves nothing but a mark, until the next.
    pub fn set_sending(&mut self, kind: MediaKind, sending: bool, at: Duration) {
        self.sending.retain(|other| *other != kind);
        if sending {
            self.sending.push(kind);
            self.pause_or_go_on(at);
        }
        self.fill.set_sending(kind, sending, at, &mut self.pending);
        self.pause_or_go_on(at);
    }

    /// Frames of this kind that arrived from this lesson time on are held back until their time is known, `None` when
    /// they were written. Nothing is filled in their place, nor is the file's beginning settled without them.
    pub fn set_held(&mut self, kind: MediaKind, since: Option<Duration>) {
        self.fill.set_held(kind, since);
    }

    /// The participant left or lost its connection, or came back, at this lesson time. While it is away nothing is
    /// written.
    pub fn set_away(&mut self, away: bool, at: Duration) {
        match (away, self.away_since) {
            (true, None) => self.away_since = Some(at),
            (false, Some(since)) => {
                self.away_since = None;
                self.note_gap(since, at, GapReason::Away);
            }
            _ => {}
        }
        self.pause_or_go_on(at);
    }

    fn pause_or_go_on(&mut self, at: Duration) {
        let ended = self.kind == RecordingKind::Screen && self.sending.is_empty();
        self.fill
            .set_away(self.away_since.is_some() || ended, at, &mut self.pending);
        self.next_wish = Duration::ZERO;
    }

    /// Fills what is missing at lesson time `now`, hands what is due to the disk, and notices its errors.
    pub fn tick(&mut self, now: Duration) {
        if let Some(reason) = self.pipeline.as_ref().and_then(Pipeline::failure) {
            self.truncate(&reason);
        }
        if self.pipeline.is_none() {
            return;
        }
        self.fill.tick(now, &mut self.pending);
        if self.pending.is_empty() {
            self.pending_since = None;
        } else {
            let since = *self.pending_since.get_or_insert(now);
            let is_due = match self.origin {
                Some(_) => now.saturating_sub(since) >= BATCH,
                None => now.saturating_sub(since) >= START_HOLD && !self.fill.is_held(),
            };
            if is_due {
                self.flush();
            }
        }
        if self.fill.awaits_keyframe() && now >= self.next_wish {
            self.keyframe_wish = true;
            self.next_wish = now + WISH_PERIOD;
        }
        if self.note_is_due {
            self.note_number += 1;
            self.note_is_due = !self.clerk.try_note(&self.note_file, self.note_number, &self.note);
        }
        if now >= self.next_sync && self.origin.is_some() {
            self.clerk.try_sync(&self.file);
            self.next_sync = now + SYNC_PERIOD;
        }
    }

    /// Whether a key frame of the picture is wished; asking takes the wish, which comes again every second while
    /// it is not fulfilled.
    pub fn take_keyframe_wish(&mut self) -> bool {
        std::mem::take(&mut self.keyframe_wish)
    }

    /// Lesson time of the file's zero, its first frame; `None` until that is settled, some 100 ms after it arrived.
    #[must_use]
    pub const fn origin(&self) -> Option<Duration> {
        self.origin
    }

    /// Whether an earlier part comes before it: then times in this file are not those of the joined one.
    #[must_use]
    pub const fn is_further_part(&self) -> bool {
        self.note.resumed_after.is_some()
    }

    /// Whether the disk was full or failed: nothing is written any more, what was written stays.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        matches!(self.note.state, PartState::Truncated)
    }

    /// How the recording stands; asks the system for the file's size.
    #[must_use]
    pub fn status(&self) -> RecordingStatus {
        RecordingStatus {
            bytes: self.file.metadata().map_or(0, |metadata| metadata.len()),
            offset: self.origin.or(self.earliest.map(|(at, _)| at)),
            end: self.end,
            size: self.fill.size(),
            dropped_video_frames: self.note.dropped_video_frames,
            dropped_audio_packets: self.note.dropped_audio_packets,
            truncated: self.note.state == PartState::Truncated,
        }
    }

    /// Ends the file on a thread of its own, which a stuck disk may keep for ever; never waits.
    pub fn finish(mut self) -> PendingFinish {
        self.close()
    }

    fn close(&mut self) -> PendingFinish {
        if self.note.state == PartState::Recording {
            self.flush();
        }
        if let Some(since) = self.overload_since.take() {
            self.note_gap(since, self.end.max(since), GapReason::Overload);
        }
        self.start_closing()
    }

    fn start_closing(&mut self) -> PendingFinish {
        self.note_number += 1;
        let closing = Closing {
            pipeline: self.pipeline.take(),
            file: self.file.clone(),
            note: self.note.clone(),
            note_file: self.note_file.clone(),
            note_number: self.note_number,
            status: self.status(),
        };
        closing.start()
    }

    fn flush(&mut self) {
        let Some(pipeline) = &self.pipeline else { return };
        let Some((earliest, captured_at)) = self.earliest else {
            self.pending.clear();
            return;
        };
        let origin = *self.origin.get_or_insert_with(|| {
            let origin = self
                .pending
                .iter()
                .map(|piece| piece.at)
                .min()
                .unwrap_or(earliest)
                .min(earliest);
            self.fill.begin_at(origin);
            pipeline.begin(self.fill.size(), captured_at);
            self.note.offset_ms = Some(milliseconds(origin));
            self.note_is_due = true;
            origin
        });
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let frames: Vec<_> = self
                .pending
                .iter()
                .filter(|piece| piece.kind == kind)
                .map(|piece| TimedFrame {
                    at: piece.at.saturating_sub(origin),
                    data: piece.data.clone(),
                    keyframe: piece.keyframe,
                })
                .collect();
            pipeline.push(kind, frames.into_iter());
        }
        self.end = self
            .pending
            .iter()
            .map(|piece| piece.at)
            .fold(self.end, Duration::max);
        self.pending.clear();
        self.pending_since = None;
    }

    fn saw_picture(&mut self, frame: &Frame) {
        if let Some(since) = self.overload_since.take() {
            self.note_gap(since, frame.at, GapReason::Overload);
        }
        let size = self.fill.size();
        let area = |width: u16, height: u16| u32::from(width) * u32::from(height);
        if self
            .note
            .size()
            .is_none_or(|known| area(known.width, known.height) < area(size.width, size.height))
        {
            (self.note.width, self.note.height) = (Some(size.width), Some(size.height));
            self.note_is_due = true;
        }
    }

    fn note_gap(&mut self, from: Duration, to: Duration, reason: GapReason) {
        if to > from {
            self.note.gaps.push(Gap {
                from_ms: milliseconds(from),
                to_ms: milliseconds(to),
                reason,
            });
            self.note_is_due = true;
        }
    }

    fn count_dropped(&mut self, kind: MediaKind) {
        match kind {
            MediaKind::Video => self.note.dropped_video_frames += 1,
            MediaKind::Audio => self.note.dropped_audio_packets += 1,
        }
    }

    /// The disk is full or failed. The class goes on; what was written stays.
    fn truncate(&mut self, reason: &str) {
        warn!(participant.id = %self.participant, error = reason, "a recording was cut short");
        self.note.state = PartState::Truncated;
        self.note_is_due = false;
        self.pending.clear();
        // Nobody waits for it here: `finish` gives the note its last word.
        drop(self.start_closing());
    }
}

impl Drop for RecordingWriter {
    fn drop(&mut self) {
        if self.pipeline.is_some() {
            drop(self.close());
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Frames are handed to the pipeline in batches of so much time: fewer wake-ups of its threads, at the price of as
/// much media in a crash.
const BATCH: Duration = Duration::from_millis(100);
/// The file's zero is settled after so long: sound and picture of one instant do not arrive together. What is held
/// back for its clock is waited for besides.
const START_HOLD: Duration = Duration::from_millis(100);
/// An unfulfilled wish for a key frame comes again.
const WISH_PERIOD: Duration = Duration::from_secs(1);
/// A power cut takes so much.
const SYNC_PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::Command;
    use std::time::Instant;

    use bytes::Bytes;
    use seodang_model::{DisplayName, LessonFolder, LessonId, Role, StorageName};
    use seodang_rtp::ClockSource;
    use time::OffsetDateTime;

    use super::*;
    use crate::closing::FinishError;
    use crate::manifest::ParticipantEntry;
    use crate::part::LessonPlace;

    /// A pipe that nobody reads takes 64 KiB and then blocks whoever writes, as a disk does that has gone.
    #[test]
    fn a_stuck_disk_holds_up_neither_the_class_nor_its_end() {
        crate::check_framework().expect("gstreamer");
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .expect("mkfifo")
                .success()
        );
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&pipe)
            .expect("a pipe");
        let pipeline = Pipeline::start(&file).expect("a pipeline");
        let place = LessonPlace {
            room: "r".parse().expect("a number"),
            folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        };
        let name = StorageName::for_display(&DisplayName::parse("민수").expect("a name"));
        let note_file = NoteFile::new(
            folder.path().to_owned(),
            place.recording(&name, RecordingKind::Camera, 1),
        );
        let mut writer = RecordingWriter::new(Opened {
            kind: RecordingKind::Camera,
            file: Arc::new(file),
            pipeline,
            note: note(name),
            note_file: Arc::new(note_file),
            clerk: ClerkHandle::start().expect("a clerk"),
        });
        writer.set_sending(MediaKind::Video, true, Duration::ZERO);
        writer.set_sending(MediaKind::Audio, true, Duration::ZERO);
        let begin = Instant::now();
        for index in 0..3_000 {
            let at = Duration::from_millis(index * 20);
            writer.write(MediaKind::Video, &frame(at, index % 100 == 0, 10_000));
            writer.write(MediaKind::Audio, &frame(at, true, 80));
            writer.tick(at);
        }
        let status = writer.status();
        assert!(status.dropped_video_frames > 1_000, "{status:?}");
        assert_eq!(status.dropped_audio_packets, 0, "sound is given up last");
        assert!(writer.take_keyframe_wish());
        assert!(matches!(
            writer.finish().wait(Duration::from_millis(300)),
            Err(FinishError::Deadline)
        ));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    fn frame(at: Duration, keyframe: bool, bytes: usize) -> Frame {
        Frame {
            data: Bytes::from(vec![u8::from(!keyframe); bytes]),
            keyframe,
            size: keyframe.then_some(FrameSize {
                width: 640,
                height: 480,
            }),
            at,
            captured_at: SystemTime::UNIX_EPOCH + at,
            clock: ClockSource::Arrival,
        }
    }

    fn note(name: StorageName) -> PartNote {
        let id = ParticipantId::from_bits(1);
        PartNote {
            lesson: LessonId::from_bits(1),
            lesson_started_at: OffsetDateTime::UNIX_EPOCH,
            participant: ParticipantEntry {
                id,
                name,
                role: Role::Student,
                consent_version: 1,
            },
            resumed_after: None,
            state: PartState::Recording,
            offset_ms: None,
            width: None,
            height: None,
            gaps: Vec::new(),
            dropped_video_frames: 0,
            dropped_audio_packets: 0,
            joined: false,
        }
    }
}
