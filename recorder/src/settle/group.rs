//! The files of one recording, by name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use seodang_model::{RecordingKind, RecordingPath, StorageName};

use crate::part::{LessonPlace, note_path};

/// All files of one recording.
#[derive(Debug)]
pub(crate) struct Group {
    place: LessonPlace,
    pub(super) name: StorageName,
    pub(super) kind: RecordingKind,
    pub(super) finished: bool,
    pub(super) parts: BTreeSet<u32>,
    pub(super) notes: BTreeSet<u32>,
}

impl Group {
    pub(crate) fn new(place: &LessonPlace, name: StorageName, kind: RecordingKind) -> Self {
        let (parts, notes) = (BTreeSet::new(), BTreeSet::new());
        Self {
            place: place.clone(),
            name,
            kind,
            finished: false,
            parts,
            notes,
        }
    }

    pub(crate) fn add(&mut self, path: &RecordingPath, is_note: bool) {
        if is_note {
            self.notes.insert(path.part);
        } else if path.unfinished || path.part > 1 {
            self.parts.insert(path.part);
        } else {
            self.finished = true;
        }
    }

    pub(super) fn part(&self, part: u32) -> RecordingPath {
        self.place.recording(&self.name, self.kind, part)
    }

    /// Every note there can be when the recording is settled: joining parts writes that of the first one, whether or
    /// not it was there before.
    pub(super) fn note_paths(&self, folder: &Path) -> Vec<PathBuf> {
        let parts: BTreeSet<u32> = self.notes.iter().copied().chain([1]).collect();
        parts
            .into_iter()
            .map(|part| note_path(folder, &self.part(part)))
            .collect()
    }

    pub(super) fn final_path(&self) -> RecordingPath {
        RecordingPath {
            unfinished: false,
            ..self.part(1)
        }
    }
}
