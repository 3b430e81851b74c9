//! One participant on the assembler thread: packets become frames, frames go where the answers allow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use seodang_analyzer::{AnalyzerHandle, CameraState, Subject};
use seodang_model::protocol::Consents;
use seodang_model::{MediaKind, ParticipantId, RecordingKind, Source};
use seodang_recorder::{Recorder, RecorderError, RecordingInfo, RecordingWriter};
use seodang_rtp::{Codec, Frame, LessonStart, ParticipantClock, TrackAssembler};

use super::sink::{Content, Mirrored};

/// Key frames asked for by the recorder are spaced at least this far; the SFU limits them once more.
const WISH_SPACING: Duration = Duration::from_secs(1);

/// What the assembler knows of a participant that may be kept.
#[derive(Debug)]
pub(super) struct Person {
    subject: Subject,
    start: LessonStart,
    consents: Consents,
    connected: bool,
    clock: ParticipantClock,
    tracks: BTreeMap<Source, Track>,
    writers: BTreeMap<RecordingKind, RecordingWriter>,
    /// What the participant says it sends; kept while nothing is mirrored, so that a later yes starts right.
    sending: BTreeMap<Source, bool>,
}

#[derive(Debug)]
struct Track {
    assembler: TrackAssembler,
    attachment: u64,
    wished: Option<Instant>,
}


impl Person {
    pub(super) fn new(subject: Subject, start: LessonStart) -> Self {
        Self {
            subject,
            start,
            consents: Consents::default(),
            connected: true,
            clock: ParticipantClock::new(start),
            tracks: BTreeMap::new(),
            writers: BTreeMap::new(),
            sending: BTreeMap::new(),
        }
    }

    pub(super) fn consents(&self) -> Consents {
        self.consents
    }

    /// Packets of `source` are expected through `attachment` from here on.
    pub(super) fn open_track(&mut self, source: Source, attachment: u64) {
        let codec = match source.kind() {
            MediaKind::Video => Codec::Vp8,
            MediaKind::Audio => Codec::Opus,
        };
        let assembler = TrackAssembler::new(codec);
        self.tracks.insert(source, Track { assembler, attachment, wished: None });
    }

    /// Nothing of `source` is wanted any more; what was not yet whole is forgotten.
    pub(super) fn close_track(&mut self, source: Source) {
        self.tracks.remove(&source);
    }

    /// Takes the answers. Parts that a withdrawn answer ends are returned, to be finished off this thread.
    pub(super) fn set_consents(&mut self, consents: Consents, analyzer: &AnalyzerHandle) -> Vec<RecordingWriter> {
        let before = std::mem::replace(&mut self.consents, consents);
        if consents.captures && !before.captures {
            analyzer.enter(self.subject.clone());
            analyzer.set_camera(self.subject.participant, self.camera());
        } else if before.captures && !consents.captures {
            analyzer.leave(self.subject.participant);
        }
        if consents.recording { Vec::new() } else { std::mem::take(&mut self.writers).into_values().collect() }
    }

    /// The participant says that it begins or stops to send.
    pub(super) fn set_sending(&mut self, source: Source, sending: bool, analyzer: &AnalyzerHandle) {
        self.sending.insert(source, sending);
        let at = self.start.instant.elapsed();
        if let Some(writer) = self.writers.get_mut(&kind_of(source)) {
            writer.set_sending(source.kind(), sending, at);
        }
        self.tell_camera(analyzer);
    }

    /// The media connection came or went.
    pub(super) fn set_connected(&mut self, connected: bool, analyzer: &AnalyzerHandle) {
        self.connected = connected;
        let at = self.start.instant.elapsed();
        for writer in self.writers.values_mut() {
            writer.set_away(!connected, at);
        }
        self.tell_camera(analyzer);
    }

    /// Takes one packet or report off the queue.
    pub(super) fn handle(&mut self, item: Mirrored, desk: &Desk<'_>) {
        let source = item.publication.source;
        let Some(track) = self.tracks.get_mut(&source).filter(|track| track.attachment == item.attachment) else {
            return;
        };
        let mut frames = Vec::new();
        match item.content {
            Content::Packet(packet) => {
                track.assembler.write(&self.clock, packet, item.arrival, |frame| frames.push(frame));
            }
            Content::Clock { ntp, rtp } => {
                track.assembler.report(&mut self.clock, ntp, rtp, item.arrival, |frame| frames.push(frame));
            }
        }
        self.deliver(source, frames, desk);
    }

    /// Moves time on: gaps are given up, fillers written, key frames asked for. `seen` is the newest arrival taken
    /// off the queue, or the present when the queue is empty.
    pub(super) fn tick(&mut self, seen: Instant, desk: &Desk<'_>) {
        let sources: Vec<Source> = self.tracks.keys().copied().collect();
        for source in sources {
            let Some(track) = self.tracks.get_mut(&source) else { continue };
            let mut frames = Vec::new();
            track.assembler.poll(&self.clock, seen, |frame| frames.push(frame));
            self.deliver(source, frames, desk);
        }
        let at = seen.saturating_duration_since(self.start.instant);
        for (kind, writer) in &mut self.writers {
            writer.tick(at);
            let video = if *kind == RecordingKind::Camera { Source::Camera } else { Source::Screen };
            let writer_wishes = writer.take_keyframe_wish();
            if let Some(track) = self.tracks.get_mut(&video)
                && (writer_wishes || track.assembler.wants_keyframe())
                && track.wished.is_none_or(|wished| seen.saturating_duration_since(wished) >= WISH_SPACING)
            {
                track.wished = Some(seen);
                (desk.wish_keyframe)(self.subject.participant, video);
            }
        }
    }

    /// Hands out what is still held, as nothing more will come.
    pub(super) fn close(mut self, desk: &Desk<'_>) -> Vec<RecordingWriter> {
        // Longer than any packet is waited for, and than frames wait for a sender report.
        let end = Instant::now() + Duration::from_secs(2);
        let sources: Vec<Source> = self.tracks.keys().copied().collect();
        for source in sources {
            let Some(track) = self.tracks.get_mut(&source) else { continue };
            let mut frames = Vec::new();
            track.assembler.poll(&self.clock, end, |frame| frames.push(frame));
            self.deliver(source, frames, desk);
        }
        if self.consents.captures {
            desk.analyzer.leave(self.subject.participant);
        }
        self.writers.into_values().collect()
    }

    fn deliver(&mut self, source: Source, frames: Vec<Frame>, desk: &Desk<'_>) {
        for frame in frames {
            if self.consents.captures && source == Source::Camera && frame.keyframe {
                desk.analyzer.frame(self.subject.participant, frame.clone());
            }
            if self.consents.recording {
                self.record(source, &frame, desk);
            }
        }
    }

    fn record(&mut self, source: Source, frame: &Frame, desk: &Desk<'_>) {
        let kind = kind_of(source);
        if !self.writers.contains_key(&kind) {
            match desk.open(&self.subject, kind) {
                Some(mut writer) => {
                    for (other, sending) in &self.sending {
                        if kind_of(*other) == kind {
                            writer.set_sending(other.kind(), *sending, frame.at);
                        }
                    }
                    if kind == RecordingKind::Camera {
                        desk.analyzer.set_media_origin(self.subject.participant, Some(frame.at));
                    }
                    self.writers.insert(kind, writer);
                }
                None => return,
            }
        }
        if let Some(writer) = self.writers.get_mut(&kind) {
            writer.write(source.kind(), frame);
        }
    }

    fn tell_camera(&self, analyzer: &AnalyzerHandle) {
        if self.consents.captures {
            analyzer.set_camera(self.subject.participant, self.camera());
        }
    }

    fn camera(&self) -> CameraState {
        match self.sending.get(&Source::Camera) {
            _ if !self.connected => CameraState::Disconnected,
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
