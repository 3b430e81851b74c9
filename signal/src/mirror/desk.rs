//! What the assembler thread works with: SFU, recorder, analyzer, and the books that the database keeps.

use seodang_analyzer::AnalyzerHandle;
use seodang_model::protocol::Consents;
use seodang_model::{ParticipantId, Publication, RecordingKind, Source};
use seodang_recorder::{GapReason, Recorder, RecordingWriter};
use seodang_sfu::{SfuHandle, TrackSink};
use tokio::sync::mpsc;

use super::KeptReport;
use super::books::Entry;
use super::person::Kept;

/// The assembler's access to everything else.
pub(super) struct Desk {
    pub(super) sfu: SfuHandle,
    /// `None` when GStreamer or the disk do not allow it: nothing is recorded then, and nobody is told otherwise.
    pub(super) recorder: Option<Recorder>,
    /// `None` when captures are switched off or cannot be taken.
    pub(super) analyzer: Option<AnalyzerHandle>,
    /// What happened to files, for the database. When it is full the assembler waits: a row must not be lost, and
    /// packets have a second of room meanwhile.
    pub(super) books: mpsc::Sender<Entry>,
    pub(super) reporter: mpsc::Sender<KeptReport>,
}

impl Desk {
    /// What can be kept of somebody with these answers.
    pub(super) fn possible(&self, consents: Consents) -> Consents {
        Consents {
            recording: consents.recording && self.recorder.is_some(),
            captures: consents.captures && self.analyzer.is_some(),
        }
    }

    pub(super) fn attach(&self, publication: Publication, sink: Box<dyn TrackSink>) {
        if let Err(error) = self.sfu.attach(publication, sink) {
            tracing::warn!(participant.id = %publication.participant, %error, "a publication cannot be mirrored");
        }
    }

    pub(super) fn detach(&self, publication: Publication) {
        if let Err(error) = self.sfu.detach(publication) {
            // The assembler forgets the track as well, so nothing of it is kept even so.
            tracing::warn!(participant.id = %publication.participant, %error, "a mirror cannot be taken off");
        }
    }

    pub(super) fn wish_keyframe(&self, participant: ParticipantId, source: Source) {
        // A full queue drops the wish; it comes again within a second.
        let _ = self
            .sfu
            .request_keyframe(Publication { participant, source }, false);
    }

    /// Opens the next part of somebody's recording; `None` when that cannot be done, which is logged.
    pub(super) fn open(
        &self,
        kept: &Kept,
        kind: RecordingKind,
        resumed_after: Option<GapReason>,
    ) -> Option<RecordingWriter> {
        let info = kept.recording_info(kind, resumed_after);
        let entry = Entry::started(&info);
        match self.recorder.as_ref()?.open(info) {
            Ok(writer) => {
                self.enter(entry);
                Some(writer)
            }
            Err(error) => {
                tracing::error!(
                    participant.id = %kept.participant(),
                    lesson.id = %kept.lesson().lesson,
                    error = &error as &dyn std::error::Error,
                    "a recording cannot be opened"
                );
                None
            }
        }
    }

    pub(super) fn enter(&self, entry: Entry) {
        if self.books.blocking_send(entry).is_err() {
            tracing::error!("the books are closed: a file has no row until the next start");
        }
    }

    pub(super) fn report(&self, report: KeptReport) {
        // The hub is gone only when the program ends; then nobody is left to be told.
        let _ = self.reporter.blocking_send(report);
    }
}
