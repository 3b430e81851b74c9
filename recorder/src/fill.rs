//! Keeps both tracks of a recording going: decides what is written when nothing, or nothing usable, arrives.
//!
//! `webmmux` waits for data on every pad, so a silent track would keep the other one off the disk. Time is passed
//! in, on the lesson clock; nothing here knows a pipeline.

use std::time::Duration;

use bytes::Bytes;
use seodang_model::MediaKind;
use seodang_rtp::{Frame, FrameSize};

use crate::opus::{SILENCE, SILENCE_DURATION, packet_duration, silence_for};
use crate::vp8::{black_keyframe, repeat_frame};

/// A frame as it goes into the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: MediaKind,
    /// On the lesson clock; rises strictly within a kind.
    pub(crate) at: Duration,
    pub(crate) data: Bytes,
    pub(crate) keyframe: bool,
    /// Whether a participant sent it.
    pub(crate) real: bool,
}

/// What became of an offered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Written,
    /// Its place was filled already.
    Late,
    /// The source is off, or its participant away.
    NotSending,
    /// A picture that cannot be decoded before the next key frame.
    AwaitingKeyframe,
}

/// The state of both tracks of one recording.
#[derive(Debug)]
pub(crate) struct Fill {
    video: Video,
    audio: Audio,
    /// Nothing is filled before it is known where the file begins.
    begun: bool,
    away: bool,
}

#[derive(Debug)]
struct Video {
    sending: bool,
    /// See [`Fill::set_held`].
    held: Option<Duration>,
    awaiting_keyframe: bool,
    /// Whether the decoder holds a picture of the participant that may be repeated.
    shows_picture: bool,
    last: Option<Duration>,
    /// Time of the newest picture of the participant, which may stand later in the file.
    newest: Option<Duration>,
    /// Pictures from before are not written any more: the file began, the camera went off, or the participant came back.
    from: Duration,
    /// From where starvation is counted.
    since: Duration,
    size: FrameSize,
    black: Option<Bytes>,
    repeat: Option<Bytes>,
}

#[derive(Debug)]
struct Audio {
    sending: bool,
    /// See [`Fill::set_held`].
    held: Option<Duration>,
    /// When the source was switched off; sound captured before that may still arrive.
    stopped_at: Duration,
    last: Option<Duration>,
    /// Where a player is that plays one packet after the other and does not look at their times. Chromium is one:
    /// sound behind a hole would be heard early, so there are no holes.
    heard: Duration,
}

impl Fill {
    pub(crate) fn new() -> Self {
        Self {
            video: Video {
                sending: false,
                held: None,
                awaiting_keyframe: true,
                shows_picture: false,
                last: None,
                newest: None,
                from: Duration::ZERO,
                since: Duration::ZERO,
                size: FrameSize {
                    width: 640,
                    height: 360,
                },
                black: None,
                repeat: None,
            },
            audio: Audio {
                sending: false,
                held: None,
                stopped_at: Duration::ZERO,
                last: None,
                heard: Duration::ZERO,
            },
            begun: false,
            away: false,
        }
    }

    /// Offers a frame of a participant; the pieces it leads to are appended to `out`.
    pub(crate) fn write(&mut self, kind: MediaKind, frame: &Frame, out: &mut Vec<Piece>) -> Verdict {
        if self.away {
            return Verdict::NotSending;
        }
        match kind {
            MediaKind::Video => self.video.write(frame, out),
            MediaKind::Audio => self.audio.write(frame, out),
        }
    }

    /// The file begins at `origin`, that of its earliest frame: nothing earlier can be written any more, and what
    /// is missing from there on is filled.
    pub(crate) fn begin_at(&mut self, origin: Duration) {
        self.begun = true;
        self.video.from = self.video.from.max(origin);
        if self.video.last.is_none() {
            self.video.since = origin;
        }
        if self.audio.last.is_none() {
            self.audio.heard = origin;
        }
    }

    /// The source was published or unpublished at `at`. A picture switched off turns black at once.
    pub(crate) fn set_sending(&mut self, kind: MediaKind, sending: bool, at: Duration, out: &mut Vec<Piece>) {
        match kind {
            MediaKind::Video if sending == self.video.sending => {}
            MediaKind::Video => {
                self.video.sending = sending;
                self.video.awaiting_keyframe = true;
                if !sending {
                    self.video.from = self.video.from.max(at);
                    if self.holds_media() && !self.away {
                        self.video.push_black(at, out);
                    }
                }
            }
            MediaKind::Audio => {
                if self.audio.sending && !sending {
                    self.audio.stopped_at = at;
                }
                self.audio.sending = sending;
            }
        }
    }

    /// The participant left or came back at `at`. Black and silence mark the place, then nothing is written until it
    /// is back: no picture for the time between, and its silence at once in the longest packets there are.
    pub(crate) fn set_away(&mut self, away: bool, at: Duration, out: &mut Vec<Piece>) {
        if self.away == away {
            return;
        }
        self.away = away;
        self.video.awaiting_keyframe = true;
        if !self.holds_media() {
            return;
        }
        if away {
            self.video.push_black(at, out);
            self.audio.fill(at, out);
            self.audio
                .push(self.audio.heard.max(at), SILENCE, SILENCE_DURATION, false, out);
        } else {
            self.video.since = self.video.since.max(at);
            self.video.from = self.video.from.max(at);
            self.audio.fill(at, out);
        }
    }

    /// Fills what is missing at `now`, staying [`LAG`] behind it, or [`SOUND_LAG`] where sound may still come.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut Vec<Piece>) {
        if !self.begun || self.away {
            return;
        }
        let sound_lag = if self.audio.sending { SOUND_LAG } else { LAG };
        let edge = |lag, held: Option<Duration>| held.map_or(now, |since| now.min(since)).checked_sub(lag);
        if let Some(edge) = edge(LAG, self.video.held) {
            self.video.fill(edge, out);
        }
        if let Some(edge) = edge(sound_lag, self.audio.held) {
            self.audio.fill(edge, out);
        }
    }

    /// Frames that arrived from `since` on are held back by whoever times them: their place is left to them.
    pub(crate) fn set_held(&mut self, kind: MediaKind, since: Option<Duration>) {
        match kind {
            MediaKind::Video => self.video.held = since,
            MediaKind::Audio => self.audio.held = since,
        }
    }

    /// Whether frames are held back.
    pub(crate) fn is_held(&self) -> bool {
        self.video.held.is_some() || self.audio.held.is_some()
    }

    /// Pictures were lost on the way: the next one that helps is a key frame.
    pub(crate) fn lose_picture(&mut self) {
        self.video.awaiting_keyframe = true;
    }

    /// Whether a key frame would be of use.
    pub(crate) fn awaits_keyframe(&self) -> bool {
        self.video.sending && self.video.awaiting_keyframe && !self.away
    }

    fn holds_media(&self) -> bool {
        self.video.last.is_some() || self.audio.last.is_some()
    }

    /// Size of the last real picture, or what stands in for it.
    pub(crate) fn size(&self) -> FrameSize {
        self.video.size
    }
}

impl Video {
    fn write(&mut self, frame: &Frame, out: &mut Vec<Piece>) -> Verdict {
        if !self.sending {
            return Verdict::NotSending;
        }
        if self.awaiting_keyframe && !frame.keyframe {
            return Verdict::AwaitingKeyframe;
        }
        let last = self.last.unwrap_or_default();
        if frame.at < self.from
            || self.newest.is_some_and(|newest| frame.at <= newest)
            || last.saturating_sub(frame.at) > MOST_LATE
        {
            self.awaiting_keyframe = true;
            return Verdict::Late;
        }
        if let Some(size) = frame.size.filter(|size| *size != self.size) {
            self.size = size;
            self.black = None;
            self.repeat = None;
        }
        self.awaiting_keyframe = false;
        self.shows_picture = true;
        self.newest = Some(frame.at);
        // What others build on is shown late, behind the filler that stands in its place, rather than not at all.
        let at = self.last.map_or(frame.at, |last| frame.at.max(last + MOMENT));
        self.push(at, frame.data.clone(), frame.keyframe, true, out);
        Verdict::Written
    }

    fn fill(&mut self, edge: Duration, out: &mut Vec<Piece>) {
        if self.last.is_none() && edge >= self.since {
            self.push_black(self.since, out);
        }
        while edge >= self.since + VIDEO_STEP {
            let at = self.since + VIDEO_STEP;
            if self.sending && self.shows_picture {
                let size = self.size;
                let data = self.repeat.get_or_insert_with(|| repeat_frame(size)).clone();
                self.push(at, data, false, false, out);
            } else {
                self.push_black(at, out);
            }
        }
    }

    /// Black from `at` on, or just behind what stands there already.
    fn push_black(&mut self, at: Duration, out: &mut Vec<Piece>) {
        let at = self.last.map_or(at, |last| at.max(last + MOMENT));
        let size = self.size;
        let data = self.black.get_or_insert_with(|| black_keyframe(size)).clone();
        self.shows_picture = false;
        self.awaiting_keyframe = true;
        self.push(at, data, true, false, out);
    }

    fn push(&mut self, at: Duration, data: Bytes, keyframe: bool, real: bool, out: &mut Vec<Piece>) {
        self.last = Some(at);
        self.since = self.since.max(at);
        out.push(Piece {
            kind: MediaKind::Video,
            at,
            data,
            keyframe,
            real,
        });
    }
}

impl Audio {
    fn write(&mut self, frame: &Frame, out: &mut Vec<Piece>) -> Verdict {
        if !self.sending && frame.at >= self.stopped_at {
            return Verdict::NotSending;
        }
        let begun = self.last.is_some() || self.heard > Duration::ZERO;
        let late = self.last.map_or(frame.at < self.heard, |last| frame.at <= last);
        if late || (begun && frame.at.saturating_sub(self.heard) > MOST_MISSING) {
            return Verdict::Late;
        }
        if begun {
            self.fill(frame.at, out);
        } else {
            self.heard = frame.at;
        }
        self.push(
            frame.at,
            frame.data.clone(),
            packet_duration(&frame.data),
            true,
            out,
        );
        Verdict::Written
    }

    /// Silence for what is missing up to `edge`, in whole packets.
    fn fill(&mut self, edge: Duration, out: &mut Vec<Piece>) {
        while let Some((data, duration)) = silence_for(edge.saturating_sub(self.heard)) {
            self.push(self.heard, data, duration, false, out);
        }
    }

    fn push(&mut self, at: Duration, data: Bytes, duration: Duration, real: bool, out: &mut Vec<Piece>) {
        let at = self.last.map_or(at, |last| at.max(last + MOMENT));
        self.last = Some(at);
        self.heard += duration;
        out.push(Piece {
            kind: MediaKind::Audio,
            at,
            data,
            keyframe: true,
            real,
        });
    }
}

/// How far fillers stay behind the clock: a real frame late by less, after reordering and repair, finds its place.
/// With [`VIDEO_STEP`] it is also what a crash loses of the sound that goes on.
const LAG: Duration = Duration::from_millis(200);
/// As above for sound that is being sent: what comes later is lost, for a player would play it in addition to the silence in
/// its place. Browsers on a busy machine hold back some 300 ms. It is also what a crash loses of a picture that goes on.
const SOUND_LAG: Duration = Duration::from_millis(500);
/// Pictures that are later have a damaged time.
const MOST_LATE: Duration = Duration::from_secs(1);
/// A starved picture is refilled so often.
const VIDEO_STEP: Duration = Duration::from_millis(200);
/// No hole in a lesson is longer: a packet behind one has a damaged time.
const MOST_MISSING: Duration = Duration::from_secs(24 * 3600);
/// The resolution of times in the file.
const MOMENT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
