//! Brings one recording of an ended lesson as far as it can be brought.
//!
//! Every step may be the last before a crash: a file is checked before it gets its name, a part is removed after
//! the file that replaces it has its name, parts go from the last to the first, and what the notes know goes into
//! the manifest before the notes go. Whoever comes next finds from the names alone how far it came.

mod entry;
mod group;
mod joined;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use seodang_model::{RecordingKind, RecordingPath, StorageName};
use seodang_rtp::FrameSize;
use time::OffsetDateTime;
use tracing::{error, warn};

use crate::RecorderError;
use crate::files::{Hashing, open, remove, rename_new, reserve, sync_folder};
use crate::manifest::{FileEntry, FileState, LessonManifest, ParticipantEntry};
use crate::part::{PartNote, PartState, damaged_path, growing_path};
use crate::remux::{Source, join, scan};
use crate::webm::Scan;
pub(crate) use group::Group;
use joined::largest;

/// How far one recording came.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) name: StorageName,
    pub(crate) kind: RecordingKind,
    pub(crate) participant: Option<ParticipantEntry>,
    /// None where nothing was recorded; more than one where something could not be read.
    pub(crate) entries: Vec<FileEntry>,
    /// Notes to be removed once the manifest says what they say.
    pub(crate) spent_notes: Vec<PathBuf>,
}

/// Settles one recording. Failures are logged and leave it `unfinished`.
pub(crate) fn settle(
    folder: &Path,
    group: &Group,
    earlier: Option<&LessonManifest>,
    lesson_started_at: OffsetDateTime,
) -> Settled {
    let mut work = Work::new(folder, group, earlier, lesson_started_at);
    let participant = work.participant();
    let outcome = work.run();
    let mut entries = std::mem::take(&mut work.set_aside);
    let mut spent_notes = Vec::new();
    match outcome {
        Ok(Some(entry)) => {
            if entry.state != FileState::Unfinished {
                spent_notes = group.note_paths(folder);
            }
            entries.insert(0, entry);
        }
        Ok(None) => spent_notes = group.note_paths(folder),
        Err(error) => {
            let id = participant
                .as_ref()
                .map(|participant| participant.id.to_string())
                .unwrap_or_default();
            error!(
                participant.id = id,
                error = &error as &dyn std::error::Error,
                "a recording cannot be finished"
            );
            entries.insert(0, work.unfinished());
        }
    }
    let participant = participant.filter(|_| !entries.is_empty());
    Settled {
        name: group.name.clone(),
        kind: group.kind,
        participant,
        entries,
        spent_notes,
    }
}

/// A recording that is left as it is.
pub(crate) fn give_up(
    folder: &Path,
    group: &Group,
    earlier: Option<&LessonManifest>,
    lesson_started_at: OffsetDateTime,
) -> Settled {
    let work = Work::new(folder, group, earlier, lesson_started_at);
    Settled {
        name: group.name.clone(),
        kind: group.kind,
        participant: work.participant(),
        entries: vec![work.unfinished()],
        spent_notes: Vec::new(),
    }
}

struct Work<'a> {
    folder: &'a Path,
    group: &'a Group,
    earlier: Option<&'a LessonManifest>,
    lesson_started_at: OffsetDateTime,
    notes: BTreeMap<u32, PartNote>,
    set_aside: Vec<FileEntry>,
}

/// A part that can be read.
struct Sound {
    part: u32,
    file: File,
    scan: Scan,
}

impl<'a> Work<'a> {
    fn new(
        folder: &'a Path,
        group: &'a Group,
        earlier: Option<&'a LessonManifest>,
        lesson_started_at: OffsetDateTime,
    ) -> Self {
        let mut work = Self {
            folder,
            group,
            earlier,
            lesson_started_at,
            notes: BTreeMap::new(),
            set_aside: Vec::new(),
        };
        work.read_notes();
        work
    }

    fn read_notes(&mut self) {
        for part in &self.group.notes {
            match PartNote::read(self.folder, &self.group.part(*part)) {
                Ok(Some(note)) => drop(self.notes.insert(*part, note)),
                Ok(None) => {}
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "the note of a recording is unreadable"
                ),
            }
        }
    }

    fn participant(&self) -> Option<ParticipantEntry> {
        let noted = self.notes.values().next().map(|note| note.participant.clone());
        noted.or_else(|| {
            self.earlier?
                .participants
                .iter()
                .find(|participant| participant.name == self.group.name)
                .cloned()
        })
    }

    fn run(&mut self) -> Result<Option<FileEntry>, RecorderError> {
        let mut parts = self.group.parts.clone();
        let mut finished = self.group.finished;
        if finished && !parts.is_empty() && !parts.contains(&1) {
            self.reopen()?;
            parts.insert(1);
            finished = false;
        }
        let mut sound = Vec::new();
        for part in &parts {
            match self.open_part(*part)? {
                Opened::Sound(part) => sound.push(part),
                Opened::Locked => return Ok(Some(self.unfinished())),
                Opened::Nothing => {}
            }
        }
        if finished {
            // An earlier finishing came as far as the name; the file was checked before.
            self.conclude(&sound)?;
            return self.entry().map(Some);
        }
        match &sound[..] {
            [] => Ok(None),
            [only] if self.is_whole(only) => {
                let from = self.path_of(only.part);
                let to = self.folder.join(self.group.final_path().file_name());
                rename_new(&from, &to).map_err(RecorderError::disk("naming a recording"))?;
                if only.part != 1
                    && let Some(note) = self.notes.get(&only.part)
                {
                    note.write(self.folder, &self.group.part(1))?;
                }
                sync_folder(self.folder)?;
                self.adopt(only.part);
                self.entry().map(Some)
            }
            parts => {
                self.join(parts)?;
                self.conclude(&sound)?;
                self.entry().map(Some)
            }
        }
    }

    /// A recovery finished the file, and then the lesson went on: the file is a part again.
    fn reopen(&mut self) -> Result<(), RecorderError> {
        let path = self.group.part(1);
        if !self.notes.contains_key(&1)
            && let (Some(entry), Some(participant)) = (self.earlier_entry(), self.participant())
            && let Some(lesson) = self.earlier.and_then(|earlier| earlier.lesson)
        {
            let note = PartNote::of_entry(entry, participant, lesson, self.lesson_started_at);
            note.write(self.folder, &path)?;
            self.notes.insert(1, note);
        }
        let from = self.folder.join(self.group.final_path().file_name());
        rename_new(&from, &self.folder.join(path.file_name()))
            .map_err(RecorderError::disk("naming a part"))?;
        sync_folder(self.folder)
    }

    fn open_part(&mut self, part: u32) -> Result<Opened, RecorderError> {
        let path = self.path_of(part);
        let file = open(&path).map_err(RecorderError::disk("opening a recording"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Opened::Locked),
            Err(TryLockError::Error(error)) => return Err(RecorderError::disk("locking a recording")(error)),
        }
        match scan(&file) {
            Ok(scan) if scan.has_media() => Ok(Opened::Sound(Sound { part, file, scan })),
            Ok(_) | Err(RecorderError::NotWebm) => {
                let bytes = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
                let begun = self.notes.get(&part).is_some_and(|note| note.offset_ms.is_some());
                if bytes < SMALLEST_HEAD_BYTES || (!begun && bytes < SMALLEST_MEDIA_BYTES) {
                    remove(&path)?;
                } else {
                    self.put_aside(part, &path, &file)?;
                }
                Ok(Opened::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps what cannot be read, under a name that says so.
    fn put_aside(&mut self, part: u32, path: &Path, file: &File) -> Result<(), RecorderError> {
        let target = damaged_path(self.folder, &self.group.part(part));
        rename_new(path, &target).map_err(RecorderError::disk("putting a damaged recording aside"))?;
        let (bytes, sha256) = Hashing::new(file)
            .finish()
            .map_err(RecorderError::disk("reading a damaged recording"))?;
        let name = target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let offset_ms = self.notes.get(&part).and_then(|note| note.offset_ms).unwrap_or(0);
        let entry = self.bare_entry(name, FileState::Damaged);
        self.set_aside.push(FileEntry {
            bytes,
            sha256,
            offset_ms,
            ..entry
        });
        Ok(())
    }

    fn is_whole(&self, part: &Sound) -> bool {
        // Without its note nobody would know that a crash cut it, but a file with its end was not cut.
        let truncated = self
            .notes
            .get(&part.part)
            .is_some_and(|note| note.state == PartState::Truncated);
        part.scan.is_complete() && !truncated
    }

    /// Writes all parts into one file under a growing name, checks it, and gives it its name.
    fn join(&mut self, parts: &[Sound]) -> Result<(), RecorderError> {
        let path = growing_path(self.folder, &self.group.part(1));
        let target = reserve(&path).map_err(RecorderError::disk("making a recording"))?;
        let offsets = self.offsets(parts);
        let sources: Vec<_> = parts
            .iter()
            .zip(&offsets)
            .map(|(part, offset)| Source {
                file: &part.file,
                offset: *offset,
            })
            .collect();
        let size = largest(parts.iter().filter_map(|part| part.scan.size));
        let size = size.unwrap_or(FrameSize {
            width: 640,
            height: 360,
        });
        let created = parts.iter().find_map(|part| part.scan.head.created);
        let created = created.unwrap_or_else(|| SystemTime::from(self.lesson_started_at));
        let joined = join(&sources, &target, size, created).and_then(|_| {
            let name = self.folder.join(self.group.final_path().file_name());
            rename_new(&path, &name).map_err(RecorderError::disk("naming a recording"))?;
            sync_folder(self.folder)
        });
        if joined.is_err() {
            remove(&path)?;
        }
        joined
    }

    /// One note speaks for all parts; then the parts go, the last one first.
    fn conclude(&mut self, parts: &[Sound]) -> Result<(), RecorderError> {
        if parts.is_empty() {
            return Ok(());
        }
        if let Some(note) = self.joined_note(parts) {
            note.write(self.folder, &self.group.part(1))?;
            self.notes.insert(1, note);
        }
        for part in parts.iter().rev() {
            remove(&self.path_of(part.part))?;
        }
        sync_folder(self.folder)
    }

    /// After a rename of the only part: its note is the recording's note.
    fn adopt(&mut self, part: u32) {
        if let Some(note) = self.notes.remove(&part) {
            self.notes.insert(1, note);
        }
    }

    /// Where a part is: a further part may have been left without `.part` by a recovery of its own.
    fn path_of(&self, part: u32) -> PathBuf {
        let path = self.group.part(part);
        let unfinished = self.folder.join(path.file_name());
        if part > 1 && fs::symlink_metadata(&unfinished).is_err() {
            return self.folder.join(
                RecordingPath {
                    unfinished: false,
                    ..path
                }
                .file_name(),
            );
        }
        unfinished
    }
}

enum Opened {
    Sound(Sound),
    /// Somebody is writing it.
    Locked,
    /// There was no media in it, or none that can be read.
    Nothing,
}

/// A file without even a whole header holds no media: EBML header, segment, info and tracks take more.
const SMALLEST_HEAD_BYTES: u64 = 64;
/// The headers of a file into which no frame was written stay below this.
const SMALLEST_MEDIA_BYTES: u64 = 1_024;
