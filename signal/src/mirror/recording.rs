//! One recording as the assembler sees it: being opened, with what it is to hold, or open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use seodang_model::MediaKind;
use seodang_recorder::{FinishError, FinishedPart, PendingFinish, RecordingWriter};
use seodang_rtp::Frame;

use super::opener::Opened;
use super::sink::Overload;

/// What a recording may hold back while it is opened: six seconds at 1.2 Mbit/s. Opening takes milliseconds; when a
/// stuck disk fills this, all that is held is dropped, counted, and the file begins with what comes then.
const MOST_HELD_BYTES: usize = 1 << 20;
/// As above, in frames and marks.
const MOST_HELD: usize = 2_048;
/// An opening that takes longer is trouble that everyone is told of.
const PATIENCE: Duration = Duration::from_secs(2);

/// A recording.
#[derive(Debug)]
pub(super) enum Recording {
    Opening(Opening),
    Open(Box<RecordingWriter>),
}

/// A recording on its way.
#[derive(Debug)]
pub(super) struct Opening {
    opened: Opened,
    asked_at: Instant,
    held: Vec<Held>,
    held_bytes: usize,
    overload: Arc<Overload>,
}

/// What happened to a recording before it was open, in order.
#[derive(Clone, Debug)]
enum Held {
    Frame(MediaKind, Frame),
    Sending(MediaKind, bool, Duration),
    Away(bool, Duration),
}

/// What an opening has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing has changed.
    Nothing,
    /// It is open from here on, and holds what was held back.
    Opened,
    /// It cannot be opened.
    Failed,
}

/// The end of a recording, to be waited for on a thread that may.
#[derive(Debug)]
pub(super) enum Ending {
    Finishing(PendingFinish),
    Opening(Opening),
}

impl Recording {
    pub(super) const fn opening(opened: Opened, asked_at: Instant, overload: Arc<Overload>) -> Self {
        Self::Opening(Opening {
            opened,
            asked_at,
            held: Vec::new(),
            held_bytes: 0,
            overload,
        })
    }

    /// Looks whether it is open by now; never waits.
    pub(super) fn poll(&mut self) -> Turn {
        let Self::Opening(opening) = self else {
            return Turn::Nothing;
        };
        match opening.opened.try_recv() {
            Ok(Some(mut writer)) => {
                opening.hand_over(&mut writer);
                *self = Self::Open(Box::new(writer));
                Turn::Opened
            }
            Ok(None) | Err(TryRecvError::Disconnected) => {
                opening.forget_frames();
                Turn::Failed
            }
            Err(TryRecvError::Empty) => Turn::Nothing,
        }
    }

    /// As [`RecordingWriter::write`].
    pub(super) fn write(&mut self, kind: MediaKind, frame: &Frame) {
        match self {
            Self::Opening(opening) => {
                opening.held_bytes += frame.data.len();
                opening.hold(Held::Frame(kind, frame.clone()));
            }
            Self::Open(writer) => writer.write(kind, frame),
        }
    }

    /// As [`RecordingWriter::set_sending`].
    pub(super) fn set_sending(&mut self, kind: MediaKind, sending: bool, at: Duration) {
        match self {
            Self::Opening(opening) => opening.hold(Held::Sending(kind, sending, at)),
            Self::Open(writer) => writer.set_sending(kind, sending, at),
        }
    }

    /// As [`RecordingWriter::set_away`].
    pub(super) fn set_away(&mut self, away: bool, at: Duration) {
        match self {
            Self::Opening(opening) => opening.hold(Held::Away(away, at)),
            Self::Open(writer) => writer.set_away(away, at),
        }
    }

    /// As [`RecordingWriter::set_held`]; said anew with every tick, so that nothing is kept of it before.
    pub(super) fn set_held(&mut self, kind: MediaKind, since: Option<Duration>) {
        if let Self::Open(writer) = self {
            writer.set_held(kind, since);
        }
    }

    /// As [`RecordingWriter::tick`].
    pub(super) fn tick(&mut self, now: Duration) {
        if let Self::Open(writer) = self {
            writer.tick(now);
        }
    }

    /// As [`RecordingWriter::take_keyframe_wish`].
    pub(super) fn take_keyframe_wish(&mut self) -> bool {
        match self {
            Self::Opening(_) => false,
            Self::Open(writer) => writer.take_keyframe_wish(),
        }
    }

    /// As [`RecordingWriter::origin`].
    pub(super) fn origin(&self) -> Option<Duration> {
        match self {
            Self::Opening(_) => None,
            Self::Open(writer) => writer.origin(),
        }
    }

    /// As [`RecordingWriter::is_further_part`].
    pub(super) const fn is_further_part(&self) -> bool {
        match self {
            Self::Opening(_) => false,
            Self::Open(writer) => writer.is_further_part(),
        }
    }

    /// Whether what is written reaches the disk, as far as is known.
    pub(super) const fn is_writing(&self) -> bool {
        match self {
            Self::Opening(_) => false,
            Self::Open(writer) => !writer.is_truncated(),
        }
    }

    /// Whether it is known that nothing reaches the disk.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        match self {
            Self::Opening(opening) => now.saturating_duration_since(opening.asked_at) >= PATIENCE,
            Self::Open(writer) => writer.is_truncated(),
        }
    }

    /// Ends it; never waits. Dropping the end of one that is not open yet drops what it holds.
    pub(super) fn finish(self) -> Ending {
        match self {
            Self::Opening(opening) => Ending::Opening(opening),
            Self::Open(writer) => Ending::Finishing(writer.finish()),
        }
    }
}

impl Opening {
    fn hold(&mut self, held: Held) {
        self.held.push(held);
        if self.held_bytes > MOST_HELD_BYTES || self.held.len() > MOST_HELD {
            self.forget_frames();
        }
    }

    fn hand_over(&mut self, writer: &mut RecordingWriter) {
        for held in self.held.drain(..) {
            match held {
                Held::Frame(kind, frame) => writer.write(kind, &frame),
                Held::Sending(kind, sending, at) => writer.set_sending(kind, sending, at),
                Held::Away(away, at) => writer.set_away(away, at),
            }
        }
    }

    /// Drops the frames, and of everything else what a later word has replaced.
    fn forget_frames(&mut self) {
        let (mut frames, mut kinds, mut has_away) = (0, BTreeSet::new(), false);
        let mut kept: Vec<Held> = Vec::new();
        for held in self.held.drain(..).rev() {
            match held {
                Held::Frame(..) => frames += 1,
                Held::Sending(kind, ..) if kinds.insert(kind == MediaKind::Video) => kept.push(held),
                Held::Away(..) if !std::mem::replace(&mut has_away, true) => kept.push(held),
                Held::Sending(..) | Held::Away(..) => {}
            }
        }
        kept.reverse();
        self.held = kept;
        self.held_bytes = 0;
        self.overload.add_unopened(frames);
    }
}

impl Ending {
    /// Waits for the end of the file, at most so long.
    pub(super) fn wait(self, within: Duration) -> Result<FinishedPart, FinishError> {
        let deadline = Instant::now() + within;
        match self {
            Self::Finishing(pending) => pending.wait(within),
            Self::Opening(mut opening) => match opening.opened.recv_timeout(within) {
                Ok(Some(mut writer)) => {
                    opening.hand_over(&mut writer);
                    let left = deadline.saturating_duration_since(Instant::now());
                    writer.finish().wait(left)
                }
                Ok(None) | Err(RecvTimeoutError::Disconnected) => Err(FinishError::Failed),
                Err(RecvTimeoutError::Timeout) => {
                    opening.forget_frames();
                    Err(FinishError::Deadline)
                }
            },
        }
    }
}
