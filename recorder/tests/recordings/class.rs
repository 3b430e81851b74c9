//! A lesson on a disk of its own, and the clock that drives its recordings.

use std::path::PathBuf;
use std::time::Duration;

use crate::media::video;
use seodang_model::{
    DisplayName, LessonFolder, LessonId, MediaKind, ParticipantId, RecordingKind, Role, StorageName,
};
use seodang_recorder::{
    GapReason, LessonManifest, LessonPlace, LessonSummary, ParticipantEntry, Recorder, RecorderConfig,
    RecordingInfo, RecordingWriter, finish_lesson,
};
use seodang_rtp::Frame;
use time::OffsetDateTime;
use time::macros::datetime;

pub(crate) const STARTED_AT: OffsetDateTime = datetime!(2026-11-21 00:00:05 UTC);

pub(crate) struct Class {
    pub(crate) root: tempfile::TempDir,
    pub(crate) recorder: Recorder,
    pub(crate) lesson: LessonId,
}

impl Class {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("서당 recordings ")
            .tempdir()
            .expect("a folder");
        let recorder = Recorder::start(RecorderConfig {
            root: root.path().to_owned(),
        })
        .expect("gstreamer");
        Self {
            root,
            recorder,
            lesson: LessonId::from_bits(7),
        }
    }

    /// A lesson whose recorder stands elsewhere: its own folder stays empty.
    pub(crate) fn beside(recorder: Recorder) -> Self {
        Self {
            root: tempfile::tempdir().expect("a folder"),
            recorder,
            lesson: LessonId::from_bits(7),
        }
    }

    pub(crate) fn place(&self) -> LessonPlace {
        LessonPlace {
            room: "math-7b".parse().expect("a number"),
            folder: LessonFolder::of(STARTED_AT),
        }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.place().path(self.root.path())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn info(&self, name: &str, kind: RecordingKind) -> RecordingInfo {
        RecordingInfo {
            place: self.place(),
            lesson: self.lesson,
            lesson_started_at: STARTED_AT,
            participant: participant(name),
            kind,
            resumed_after: None,
        }
    }

    pub(crate) fn open(&self, name: &str) -> RecordingWriter {
        self.recorder
            .open(self.info(name, RecordingKind::Camera))
            .expect("a recording")
    }

    pub(crate) fn open_again(&self, name: &str, reason: GapReason) -> RecordingWriter {
        let info = self.info(name, RecordingKind::Camera);
        self.recorder
            .open(RecordingInfo {
                resumed_after: Some(reason),
                ..info
            })
            .expect("a recording")
    }

    pub(crate) fn summary(&self, names: &[&str]) -> LessonSummary {
        LessonSummary {
            place: self.place(),
            lesson: self.lesson,
            started_at: STARTED_AT,
            ended_at: STARTED_AT + Duration::from_secs(60),
            participants: names.iter().map(|name| participant(name)).collect(),
            chat: Vec::new(),
        }
    }

    pub(crate) fn end(&self, names: &[&str]) -> LessonManifest {
        finish_lesson(self.root.path(), &self.summary(names)).expect("a finished lesson")
    }

    /// Names of all files in the lesson's folder, hidden ones too, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.folder())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn participant(name: &str) -> ParticipantEntry {
    let display = DisplayName::parse(name).expect("a name");
    let bits = name
        .bytes()
        .fold(0_u128, |sum, byte| (sum << 3) ^ u128::from(byte));
    ParticipantEntry {
        id: ParticipantId::from_bits(bits),
        name: StorageName::for_display(&display),
        role: Role::Student,
        consent_version: 3,
    }
}

/// What happens to a recording, and when on the lesson clock.
pub(crate) enum Event {
    Frame(MediaKind, Frame),
    Sending(MediaKind, bool),
    Away(bool),
}

/// Plays events to a recording, the clock ticking every 20 ms, up to `until`.
pub(crate) fn play(
    writer: &mut RecordingWriter,
    mut events: Vec<(Duration, Event)>,
    from: Duration,
    until: Duration,
) {
    events.sort_by_key(|(at, _)| *at);
    let mut events = events.into_iter().peekable();
    let mut now = from;
    while now <= until {
        while let Some((at, event)) = events.next_if(|(at, _)| *at <= now) {
            match event {
                Event::Frame(kind, frame) => writer.write(kind, &frame),
                Event::Sending(kind, sending) => writer.set_sending(kind, sending, at),
                Event::Away(away) => writer.set_away(away, at),
            }
        }
        writer.tick(now);
        now += Duration::from_millis(20);
    }
}

/// Frames that arrive 30 ms after they were captured.
pub(crate) fn arriving(kind: MediaKind, frames: &[Frame]) -> Vec<(Duration, Event)> {
    let delay = Duration::from_millis(30);
    frames
        .iter()
        .map(|frame| (frame.at + delay, Event::Frame(kind, frame.clone())))
        .collect()
}

pub(crate) fn both_sending(at: Duration) -> Vec<(Duration, Event)> {
    vec![
        (at, Event::Sending(MediaKind::Video, true)),
        (at, Event::Sending(MediaKind::Audio, true)),
    ]
}

pub(crate) fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A picture that moves all over, 30 a second.
pub(crate) fn camera(width: u16, height: u16, seconds: u32) -> Vec<Frame> {
    video(&format!(
        "videotestsrc num-buffers={} pattern=ball motion=sweep ! video/x-raw,width={width},height={height},framerate=30/1 \
         ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=90 target-bitrate=600000 error-resilient=default \
         ! appsink name=out sync=false max-buffers=0",
        seconds * 30
    ))
}

/// The same frames later on the lesson clock.
pub(crate) fn later(frames: &[Frame], by: Duration) -> Vec<Frame> {
    frames
        .iter()
        .map(|frame| Frame {
            at: frame.at + by,
            ..frame.clone()
        })
        .collect()
}
