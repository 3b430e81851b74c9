//! What the assembler thread works with: SFU, recorder, analyzer, and the books that the database keeps.

use std::sync::Arc;
use std::time::Instant;

use seodang_analyzer::AnalyzerHandle;
use seodang_model::protocol::Consents;
use seodang_model::{ParticipantId, Publication, RecordingKind, Source};
use seodang_recorder::GapReason;
use seodang_sfu::{SfuHandle, TrackSink};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::KeptReport;
use super::books::Entry;
use super::kept::Kept;
use super::opener::Opener;
use super::plan::Copied;
use super::recording::Recording;
use super::sink::Overload;

/// The assembler's access to everything else.
pub(super) struct Desk {
    pub(super) sfu: SfuHandle,
    /// `None` when GStreamer or the disk do not allow it: nothing is recorded then, and nobody is told otherwise.
    pub(super) opener: Option<Opener>,
    /// Counts what a recording that does not open has to drop.
    pub(super) overload: Arc<Overload>,
    /// `None` when captures are switched off or cannot be taken.
    pub(super) analyzer: Option<AnalyzerHandle>,
    /// Captures take a layer of their own.
    pub(super) capture_layer: bool,
    /// What happened to files, for the database. When it is full the assembler waits with the beginning and the end of
    /// a lesson, which must not be lost; packets have a second of room meanwhile.
    pub(super) books: mpsc::Sender<Entry>,
    pub(super) reporter: mpsc::Sender<KeptReport>,
}

impl Desk {
    /// What can be kept of somebody with these answers.
    pub(super) fn possible(&self, consents: Consents) -> Consents {
        Consents {
            recording: consents.recording && self.opener.is_some(),
            captures: consents.captures && self.analyzer.is_some(),
        }
    }

    /// Whether it is mirrored from here on.
    pub(super) fn attach(
        &self,
        participant: ParticipantId,
        copied: Copied,
        sink: Box<dyn TrackSink>,
    ) -> bool {
        let publication = publication(participant, copied);
        let attached = match copied {
            Copied::Whole(_) => self.sfu.attach(publication, sink),
            Copied::CaptureLayer => self.sfu.attach_captures(publication, sink),
        };
        if let Err(error) = &attached {
            tracing::warn!(participant.id = %participant, %error, "a publication cannot be mirrored yet");
        }
        attached.is_ok()
    }

    pub(super) fn detach(&self, participant: ParticipantId, copied: Copied) {
        let publication = publication(participant, copied);
        let detached = match copied {
            Copied::Whole(_) => self.sfu.detach(publication),
            Copied::CaptureLayer => self.sfu.detach_captures(publication),
        };
        if let Err(error) = detached {
            // The assembler forgets the track as well, so nothing of it is kept even so.
            tracing::warn!(participant.id = %participant, %error, "a mirror cannot be taken off");
        }
    }

    pub(super) fn wish_keyframe(&self, participant: ParticipantId, source: Source) {
        // A full queue drops the wish; it comes again within a second.
        let _ = self
            .sfu
            .request_keyframe(Publication { participant, source }, false);
    }

    /// Asks for the next part of somebody's recording; `None` when it cannot be asked for.
    pub(super) fn open(
        &self,
        kept: &Kept,
        kind: RecordingKind,
        resumed_after: Option<GapReason>,
        now: Instant,
    ) -> Option<Recording> {
        let opened = self
            .opener
            .as_ref()?
            .ask(kept.recording_info(kind, resumed_after))?;
        Some(Recording::opening(opened, now, Arc::clone(&self.overload)))
    }

    /// Notes that a recording is being written. Without the note its row is made when it is finished.
    pub(super) fn note_started(&self, kept: &Kept, kind: RecordingKind) {
        let entry = Entry::started(&kept.recording_info(kind, None));
        if self.books.try_send(entry).is_err() {
            tracing::warn!(participant.id = %kept.participant(), "a recording is not listed before it is finished");
        }
    }

    pub(super) fn enter(&self, entry: Entry) {
        if self.books.blocking_send(entry).is_err() {
            tracing::error!("the books are closed: a file has no row until the next start");
        }
    }

    /// Whether it was told; never waits. The hub is gone only when the program ends: then nobody is left to be told.
    pub(super) fn report(&self, report: KeptReport) -> bool {
        !matches!(self.reporter.try_send(report), Err(TrySendError::Full(_)))
    }
}

/// What something is a copy of.
pub(super) fn publication(participant: ParticipantId, copied: Copied) -> Publication {
    Publication {
        participant,
        source: copied.source(),
    }
}
