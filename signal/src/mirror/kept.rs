//! A participant as recorder and analyzer know it.

use seodang_model::{LessonId, ParticipantId, RecordingKind};
use seodang_recorder::{GapReason, ParticipantEntry, RecordingInfo};

use super::{LessonInfo, Subject, consent_number, lesson_place};

/// Names and places of what is kept of a participant.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    subject: Subject,
    lesson: LessonInfo,
}

impl Kept {
    pub(super) const fn new(subject: Subject, lesson: LessonInfo) -> Self {
        Self { subject, lesson }
    }

    pub(super) const fn lesson(&self) -> LessonId {
        self.lesson.lesson
    }

    pub(super) fn participant(&self) -> ParticipantId {
        self.subject.participant
    }

    pub(super) fn recording_info(
        &self,
        kind: RecordingKind,
        resumed_after: Option<GapReason>,
    ) -> RecordingInfo {
        RecordingInfo {
            place: lesson_place(&self.lesson),
            lesson: self.lesson.lesson,
            lesson_started_at: self.lesson.started_at,
            participant: ParticipantEntry {
                id: self.subject.participant,
                name: self.subject.storage_name.clone(),
                role: self.subject.role,
                consent_version: consent_number(self.subject.consent_version),
            },
            kind,
            resumed_after,
        }
    }

    /// As the analyzer knows the participant.
    pub(super) fn analyzer_subject(&self) -> seodang_analyzer::Subject {
        seodang_analyzer::Subject {
            room: self.lesson.number.clone(),
            lesson: self.lesson.lesson,
            lesson_folder: self.lesson.folder,
            participant: self.subject.participant,
            storage_name: self.subject.storage_name.clone(),
            display_name: self.subject.name.clone(),
            role: self.subject.role,
            consent_version: consent_number(self.subject.consent_version),
        }
    }
}
