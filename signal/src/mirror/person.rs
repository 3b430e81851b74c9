//! One participant on the assembler thread: packets become frames, frames go where the answers allow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use seodang_analyzer::{CameraState, MediaOrigin};
use seodang_model::protocol::Consents;
use seodang_model::{LessonId, MediaKind, RecordingKind, Source};
use seodang_recorder::GapReason;
use seodang_rtp::{Codec, Frame, LessonStart, ParticipantClock, TrackAssembler};

use super::desk::Desk;
use super::kept::Kept;
use super::plan::Copied;
use super::recording::{Ending, Recording, Turn};
use super::sink::{Content, Mirrored};
use super::{LessonInfo, Subject};

/// Key frames asked for by the recorder are spaced at least this far; the SFU limits them once more.
const WISH_SPACING: Duration = Duration::from_secs(1);
/// A recording that cannot be opened is tried again after this; a full disk must not keep the others waiting.
const OPEN_SPACING: Duration = Duration::from_secs(5);
/// A sink that the SFU did not take is offered again after this.
const ATTACH_SPACING: Duration = Duration::from_secs(1);
/// A participant whose WebSocket is lost counts as away once its media is silent for this long as well.
const SILENCE: Duration = Duration::from_secs(1);

/// What the assembler knows of a participant.
pub(super) struct Person {
    kept: Kept,
    start: LessonStart,
    consents: Consents,
    /// The WebSocket is lost, or the seat is free.
    absent: bool,
    /// Told to recorder and analyzer.
    away: bool,
    /// The seat is free.
    left: bool,
    /// When opening a recording that could not be opened is tried again; gone when it is open.
    retry_at: BTreeMap<RecordingKind, Instant>,
    heard: Instant,
    clock: ParticipantClock,
    tracks: BTreeMap<Copied, Track>,
    writers: BTreeMap<RecordingKind, Recording>,
    /// Recordings that a withdrawn answer ended: what follows is a further part.
    interrupted: BTreeSet<RecordingKind>,
    /// What the participant says it sends; kept while nothing is mirrored, so that a later yes starts right.
    sending: BTreeMap<Source, bool>,
    /// What everyone was told is kept.
    told: Option<Consents>,
    /// Where the analyzer was told that the webm begins.
    placed: MediaOrigin,
}

struct Track {
    assembler: TrackAssembler,
    attachment: u64,
    /// When attaching it is tried again; `None` once it is attached.
    attach_at: Option<Instant>,
    wished: Option<Instant>,
}

impl Person {
    pub(super) fn new(subject: Subject, lesson: &LessonInfo, start: LessonStart) -> Self {
        Self {
            kept: Kept::new(subject, lesson.clone()),
            start,
            consents: Consents::default(),
            absent: false,
            away: false,
            left: false,
            retry_at: BTreeMap::new(),
            heard: Instant::now(),
            clock: ParticipantClock::new(start),
            tracks: BTreeMap::new(),
            writers: BTreeMap::new(),
            interrupted: BTreeSet::new(),
            sending: BTreeMap::new(),
            told: None,
            placed: MediaOrigin::Unknown,
        }
    }

    pub(super) fn lesson(&self) -> LessonId {
        self.kept.lesson()
    }

    pub(super) fn consents(&self) -> Consents {
        self.consents
    }

    /// Packets of `copied` are expected through `attachment` from here on.
    pub(super) fn open_track(&mut self, copied: Copied, attachment: u64) {
        let codec = match copied.source().kind() {
            MediaKind::Video => Codec::Vp8,
            MediaKind::Audio => Codec::Opus,
        };
        self.tracks.insert(
            copied,
            Track {
                assembler: TrackAssembler::new(codec),
                attachment,
                attach_at: None,
                wished: None,
            },
        );
    }

    /// Nothing of `copied` is wanted any more; what was not yet whole is forgotten.
    pub(super) fn close_track(&mut self, copied: Copied) {
        self.tracks.remove(&copied);
        if let Copied::Whole(source) = copied
            && let Some(writer) = self.writers.get_mut(&kind_of(source))
        {
            writer.set_held(source.kind(), None);
        }
    }

    /// The SFU did not take the sink of a track.
    pub(super) fn set_unattached(&mut self, copied: Copied, now: Instant) {
        if let Some(track) = self.tracks.get_mut(&copied) {
            track.attach_at = Some(now + ATTACH_SPACING);
        }
    }

    /// The SFU took the sink of a track after all.
    pub(super) fn set_attached(&mut self, copied: Copied) {
        if let Some(track) = self.tracks.get_mut(&copied) {
            track.attach_at = None;
        }
    }

    /// Tracks whose sinks are to be attached once more, with their attachments.
    pub(super) fn unattached(&self, now: Instant) -> Vec<(Copied, u64)> {
        let due = |track: &Track| track.attach_at.is_some_and(|at| at <= now);
        self.tracks
            .iter()
            .filter(|(_, track)| due(track))
            .map(|(copied, track)| (*copied, track.attachment))
            .collect()
    }

    /// Through what packets of `copied` are expected.
    #[cfg(test)]
    pub(super) fn attachment(&self, copied: Copied) -> Option<u64> {
        self.tracks.get(&copied).map(|track| track.attachment)
    }

    /// Whether a file is open and takes what is written.
    #[cfg(test)]
    pub(super) fn is_recorded(&self) -> bool {
        self.writers.values().any(Recording::is_writing)
    }

    /// Whether [`Self::tick`] has nothing to do until something else happens: nothing is to be kept, everyone knows, and it
    /// is not to be forgotten.
    pub(super) fn is_idle(&self) -> bool {
        let keeps_nothing = self.consents == Consents::default();
        let nothing_open = self.tracks.is_empty() && self.writers.is_empty();
        let stays = !self.left || !self.interrupted.is_empty();
        keeps_nothing && nothing_open && stays && self.told == Some(self.consents) && self.absent == self.away
    }

    /// What is kept, where it is not what everyone was told.
    pub(super) fn kept_news(&self, now: Instant) -> Option<Consents> {
        let kept = self.kept_now(now);
        (self.told != Some(kept)).then_some(kept)
    }

    /// Everyone was told, or is to be told again.
    pub(super) fn set_told(&mut self, told: Option<Consents>) {
        self.told = told;
    }

    /// What the answers allow and disk and SFU do not prevent.
    fn kept_now(&self, now: Instant) -> Consents {
        let is_attached = |copied: Copied| {
            let track = self.tracks.get(&copied);
            track.is_some_and(|track| track.attach_at.is_none())
        };
        let whole = |source: &Source| is_attached(Copied::Whole(*source));
        let in_trouble =
            !self.retry_at.is_empty() || self.writers.values().any(|writer| writer.is_failing(now));
        let is_written = self.writers.values().any(Recording::is_writing);
        Consents {
            recording: self.consents.recording
                && Source::ALL.iter().any(whole)
                && (is_written || !in_trouble),
            captures: self.consents.captures && is_attached(self.pictures()),
        }
    }

    /// Where captures are taken from: the plan mirrors their layer only if it is one of its own.
    fn pictures(&self) -> Copied {
        if self.tracks.contains_key(&Copied::CaptureLayer) {
            Copied::CaptureLayer
        } else {
            Copied::Whole(Source::Camera)
        }
    }

    /// Takes the answers. A withdrawn one ends the part that was being written.
    pub(super) fn set_consents(&mut self, consents: Consents, desk: &Desk) {
        let before = std::mem::replace(&mut self.consents, consents);
        if let Some(analyzer) = &desk.analyzer {
            if consents.captures && !before.captures {
                analyzer.enter(self.kept.analyzer_subject());
                self.tell_analyzer(desk);
            } else if before.captures && !consents.captures {
                analyzer.leave(self.kept.participant());
            }
        }
        if before.recording && !consents.recording {
            self.retry_at.clear();
            for (kind, writer) in std::mem::take(&mut self.writers) {
                self.interrupted.insert(kind);
                // Finished on a thread of its own; the end of the lesson finds it.
                drop(writer.finish());
            }
            if consents.captures {
                self.tell_analyzer(desk);
            }
        }
    }

    /// The participant says that it begins or stops to send.
    pub(super) fn set_sending(&mut self, source: Source, sending: bool, desk: &Desk) {
        self.sending.insert(source, sending);
        let at = self.start.instant.elapsed();
        if let Some(writer) = self.writers.get_mut(&kind_of(source)) {
            writer.set_sending(source.kind(), sending, at);
        }
        self.tell_analyzer(desk);
    }

    /// The WebSocket is lost or back. The media may go on without it; whether it does shows within a second.
    pub(super) fn set_absent(&mut self, absent: bool, desk: &Desk) {
        self.absent = absent;
        if !absent {
            self.left = false;
            self.set_away(false, desk);
        }
    }

    /// The seat is free; nothing is sent any more.
    pub(super) fn leave(&mut self, desk: &Desk) {
        (self.absent, self.left) = (true, true);
        self.sending.clear();
        self.set_away(true, desk);
        if self.consents.captures
            && let Some(analyzer) = &desk.analyzer
        {
            // Rows are written from join to leave.
            analyzer.leave(self.kept.participant());
        }
        self.consents.captures = false;
    }

    /// The seat is free, there is no file that could go on, and everyone was told that nothing is kept.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left
            && !self.consents.recording
            && self.writers.is_empty()
            && self.interrupted.is_empty()
            && self.kept_news(now).is_none()
    }

    fn set_away(&mut self, away: bool, desk: &Desk) {
        if self.away == away {
            return;
        }
        self.away = away;
        let at = self.start.instant.elapsed();
        for writer in self.writers.values_mut() {
            writer.set_away(away, at);
        }
        self.tell_analyzer(desk);
    }

    /// Takes one packet or report off the queue.
    pub(super) fn handle(&mut self, item: Mirrored, desk: &Desk) {
        let source = item.publication.source;
        let mut tracks = self.tracks.iter_mut();
        let Some((copied, track)) =
            tracks.find(|(copied, track)| copied.source() == source && track.attachment == item.attachment)
        else {
            return;
        };
        let copied = *copied;
        self.heard = self.heard.max(item.arrival);
        let back = self.away && !self.left;
        let mut frames = Vec::new();
        match item.content {
            Content::Packet(packet) => {
                track
                    .assembler
                    .write(&self.clock, packet, item.arrival, |frame| frames.push(frame));
            }
            Content::Clock { ntp, rtp } => {
                track
                    .assembler
                    .report(&mut self.clock, ntp, rtp, item.arrival, |frame| {
                        frames.push(frame)
                    });
            }
        }
        if back {
            // The media came back before the WebSocket did.
            self.set_away(false, desk);
        }
        self.deliver(copied, frames, desk);
    }

    /// Moves time on: gaps are given up, fillers written, key frames asked for. `seen` is the newest arrival taken off
    /// the queue, or the present when the queue is empty.
    pub(super) fn tick(&mut self, seen: Instant, desk: &Desk) {
        self.poll_openings(desk);
        if self.absent && !self.away && seen.saturating_duration_since(self.heard) > SILENCE {
            self.set_away(true, desk);
        }
        self.poll_tracks(seen, desk);
        let at = seen.saturating_duration_since(self.start.instant);
        for (copied, track) in &self.tracks {
            if let Copied::Whole(source) = copied
                && let Some(writer) = self.writers.get_mut(&kind_of(*source))
            {
                let since = track.assembler.holds_since();
                let since = since.map(|since| since.saturating_duration_since(self.start.instant));
                writer.set_held(source.kind(), since);
            }
        }
        for (kind, writer) in &mut self.writers {
            writer.tick(at);
            let video = match kind {
                RecordingKind::Camera => Source::Camera,
                RecordingKind::Screen => Source::Screen,
            };
            let writer_wishes = writer.take_keyframe_wish();
            if let Some(track) = self.tracks.get_mut(&Copied::Whole(video))
                && (writer_wishes || track.assembler.wants_keyframe())
                && track
                    .wished
                    .is_none_or(|wished| seen.saturating_duration_since(wished) >= WISH_SPACING)
            {
                track.wished = Some(seen);
                desk.wish_keyframe(self.kept.participant(), video);
            }
        }
        if self.media_origin() != self.placed {
            self.tell_analyzer(desk);
        }
    }

    /// Hands out what is still held, as nothing more will come, and ends the files.
    pub(super) fn close(mut self, desk: &Desk) -> Vec<Ending> {
        // Longer than any packet is waited for, and than frames wait for a sender report.
        self.poll_tracks(Instant::now() + Duration::from_secs(2), desk);
        if self.consents.captures
            && let Some(analyzer) = &desk.analyzer
        {
            analyzer.leave(self.kept.participant());
        }
        self.writers.into_values().map(Recording::finish).collect()
    }

    /// Takes what has been opened meanwhile.
    fn poll_openings(&mut self, desk: &Desk) {
        let kinds: Vec<RecordingKind> = self.writers.keys().copied().collect();
        for kind in kinds {
            match self.writers.get_mut(&kind).map_or(Turn::Nothing, Recording::poll) {
                Turn::Nothing => {}
                Turn::Opened => {
                    self.retry_at.remove(&kind);
                    desk.note_started(&self.kept, kind);
                }
                Turn::Failed => {
                    self.writers.remove(&kind);
                    self.retry_at.insert(kind, self.heard + OPEN_SPACING);
                }
            }
        }
    }

    fn poll_tracks(&mut self, now: Instant, desk: &Desk) {
        let tracks: Vec<Copied> = self.tracks.keys().copied().collect();
        for copied in tracks {
            let Some(track) = self.tracks.get_mut(&copied) else {
                continue;
            };
            let mut frames = Vec::new();
            track.assembler.poll(&self.clock, now, |frame| frames.push(frame));
            self.deliver(copied, frames, desk);
        }
    }

    fn deliver(&mut self, copied: Copied, frames: Vec<Frame>, desk: &Desk) {
        let pictures = self.pictures();
        for frame in frames {
            if self.consents.recording
                && let Copied::Whole(source) = copied
            {
                self.record(source, &frame, desk);
            }
            if self.consents.captures
                && copied == pictures
                && frame.keyframe
                && let Some(analyzer) = &desk.analyzer
            {
                analyzer.frame(self.kept.participant(), frame);
            }
        }
    }

    fn record(&mut self, source: Source, frame: &Frame, desk: &Desk) {
        let kind = kind_of(source);
        if !self.writers.contains_key(&kind) {
            let resumed_after = self.interrupted.contains(&kind).then_some(GapReason::Consent);
            if self.retry_at.get(&kind).is_some_and(|at| self.heard < *at) {
                return;
            }
            let Some(mut writer) = desk.open(&self.kept, kind, resumed_after, self.heard) else {
                self.retry_at.insert(kind, self.heard + OPEN_SPACING);
                return;
            };
            for (other, sending) in &self.sending {
                if kind_of(*other) == kind {
                    writer.set_sending(other.kind(), *sending, frame.at);
                }
            }
            self.writers.insert(kind, writer);
        }
        if let Some(writer) = self.writers.get_mut(&kind) {
            writer.write(source.kind(), frame);
        }
    }

    fn tell_analyzer(&mut self, desk: &Desk) {
        self.placed = self.media_origin();
        if self.consents.captures
            && let Some(analyzer) = &desk.analyzer
        {
            analyzer.set_camera(self.kept.participant(), self.camera());
            analyzer.set_media_origin(self.kept.participant(), self.placed);
        }
    }

    fn media_origin(&self) -> MediaOrigin {
        let kind = RecordingKind::Camera;
        match self.writers.get(&kind) {
            _ if !self.consents.recording || self.retry_at.contains_key(&kind) => MediaOrigin::Unknown,
            // Pictures are placed in the first part; a later one is laid behind it when the lesson ends.
            _ if self.interrupted.contains(&kind) => MediaOrigin::Unknown,
            Some(writer) if writer.is_further_part() => MediaOrigin::Unknown,
            writer => writer
                .and_then(Recording::origin)
                .map_or(MediaOrigin::Awaited, MediaOrigin::At),
        }
    }

    fn camera(&self) -> CameraState {
        match self.sending.get(&Source::Camera) {
            _ if self.away => CameraState::Disconnected,
            Some(true) => CameraState::On,
            Some(false) => CameraState::Off,
            None => CameraState::None,
        }
    }
}

fn kind_of(source: Source) -> RecordingKind {
    match source {
        Source::Camera | Source::Microphone => RecordingKind::Camera,
        Source::Screen | Source::ScreenAudio => RecordingKind::Screen,
    }
}

#[cfg(test)]
mod tests;
