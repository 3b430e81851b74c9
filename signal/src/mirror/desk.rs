//! What the assembler thread works with: SFU, recorder, analyzer, and the books that the database keeps.

use seodang_analyzer::AnalyzerHandle;
use seodang_model::{ParticipantId, Publication, RecordingKind, RecordingPath, Source};
use seodang_recorder::{Recorder, RecordingWriter};
use seodang_sfu::{SfuHandle, TrackSink};
use tokio::sync::mpsc;

use super::KeptReport;
use super::books::Entry;
use super::person::Kept;

/// The assembler's access to everything else; nothing in here waits for a disk, a database or a network.
pub(super) struct Desk {
    pub(super) sfu: SfuHandle,
    pub(super) recorder: Recorder,
    pub(super) analyzer: AnalyzerHandle,
    /// What happened to files, for the database. When it is full the assembler waits: a row must not be lost, and
    /// packets have a second of room meanwhile.
    pub(super) books: mpsc::Sender<Entry>,
}

impl Desk {
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
        // A full queue drops the wish; the next tick has it again.
        let _ = self.sfu.request_keyframe(Publication { participant, source }, false);
    }

    /// Opens the next part of somebody's recording; `None` when that cannot be done, which is logged.
    pub(super) fn open(&self, kept: &Kept, kind: RecordingKind) -> Option<RecordingWriter> {
        match self.recorder.open(kept.recording_info(kind)) {
            Ok(writer) => Some(writer),
            Err(error) => {
                tracing::error!(participant.id = %kept.participant(), %error, "a recording cannot be opened");
                None
            }
        }
    }

    pub(super) fn enter(&self, entry: Entry) {
        if self.books.blocking_send(entry).is_err() {
            tracing::error!("the books are closed: a file has no row until the next start");
        }
    }

    pub(super) fn report(&self, reporter: &mpsc::Sender<KeptReport>, report: KeptReport) {
        // The hub is gone only when the program ends; then nobody is left to be told.
        let _ = reporter.blocking_send(report);
    }
}
