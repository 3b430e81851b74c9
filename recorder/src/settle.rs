//! Brings one recording of an ended lesson as far as it can be brought.
//!
//! Every step may be the last before a crash: a file is checked before it gets its name, a part is removed after
//! the file that replaces it has its name, parts go from the last to the first, and what the notes know goes into
//! the manifest before the notes go. Whoever comes next finds from the names alone how far it came.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use seodang_model::{RecordingKind, RecordingPath, StorageName};
use seodang_rtp::FrameSize;
use time::OffsetDateTime;
use tracing::{error, warn};

use crate::RecorderError;
use crate::files::{Hashing, open, remove, rename_new, reserve, sync_folder};
use crate::manifest::{FileEntry, FileState, Gap, GapReason, LessonManifest, ParticipantEntry};
use crate::part::{LessonPlace, PartNote, PartState, damaged_path, growing_path, note_path, place};
use crate::remux::{Source, join, scan};
use crate::webm::{Scan, WebmReader};
use crate::writer::milliseconds;

/// All files of one recording.
#[derive(Debug)]
pub(crate) struct Group {
    place: LessonPlace,
    name: StorageName,
    kind: RecordingKind,
    finished: bool,
    parts: BTreeSet<u32>,
    notes: BTreeSet<u32>,
}

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

    fn part(&self, part: u32) -> RecordingPath {
        self.place.recording(&self.name, self.kind, part)
    }

    /// Every note there can be when the recording is settled: joining parts writes that of the first one, whether or
    /// not it was there before.
    fn note_paths(&self, folder: &Path) -> Vec<PathBuf> {
        let parts: BTreeSet<u32> = self.notes.iter().copied().chain([1]).collect();
        parts
            .into_iter()
            .map(|part| note_path(folder, &self.part(part)))
            .collect()
    }

    fn final_path(&self) -> RecordingPath {
        RecordingPath {
            unfinished: false,
            ..self.part(1)
        }
    }
}

/// Settles one recording. Failures are logged and leave it `unfinished`.
pub(crate) fn settle(
    folder: &Path,
    group: &Group,
    earlier: Option<&LessonManifest>,
    lesson_started_at: OffsetDateTime,
) -> Settled {
    let mut work = Work {
        folder,
        group,
        earlier,
        lesson_started_at,
        notes: BTreeMap::new(),
        set_aside: Vec::new(),
    };
    work.read_notes();
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
    let mut work = Work {
        folder,
        group,
        earlier,
        lesson_started_at,
        notes: BTreeMap::new(),
        set_aside: Vec::new(),
    };
    work.read_notes();
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

impl Work<'_> {
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

    fn earlier_entry(&self) -> Option<&FileEntry> {
        let name = self.group.final_path().file_name();
        self.earlier?.files.iter().find(|entry| entry.path == name)
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

    fn joined_note(&self, parts: &[Sound]) -> Option<PartNote> {
        let first = self.notes.get(&1).filter(|note| note.joined);
        if first.is_some() {
            return first.cloned();
        }
        let offsets = self.offsets(parts);
        let mut joined = parts
            .iter()
            .find_map(|part| self.notes.get(&part.part))
            .cloned()?;
        let noted: Vec<_> = parts.iter().map(|part| self.notes.get(&part.part)).collect();
        joined.joined = true;
        joined.offset_ms = offsets.first().copied().map(milliseconds);
        let all_finished = noted
            .iter()
            .all(|note| note.is_some_and(|note| note.state == PartState::Finished));
        let any_truncated = noted
            .iter()
            .flatten()
            .any(|note| note.state == PartState::Truncated);
        joined.state = match (all_finished && self.set_aside.is_empty(), any_truncated) {
            (_, true) => PartState::Truncated,
            (true, false) => PartState::Finished,
            (false, false) => PartState::Recording,
        };
        joined.gaps = noted
            .iter()
            .flatten()
            .flat_map(|note| note.gaps.clone())
            .collect();
        for (index, pair) in parts.windows(2).enumerate() {
            let end = offsets[index] + pair[0].scan.end();
            let reason = noted[index + 1]
                .and_then(|note| note.resumed_after)
                .unwrap_or(GapReason::Restart);
            joined.gaps.push(Gap {
                from_ms: milliseconds(end),
                to_ms: milliseconds(offsets[index + 1]),
                reason,
            });
        }
        joined.gaps.sort_by_key(|gap| (gap.from_ms, gap.to_ms));
        joined.dropped_video_frames = noted.iter().flatten().map(|note| note.dropped_video_frames).sum();
        joined.dropped_audio_packets = noted
            .iter()
            .flatten()
            .map(|note| note.dropped_audio_packets)
            .sum();
        let size = largest(noted.iter().flatten().filter_map(|note| note.size()));
        (joined.width, joined.height) = (size.map(|size| size.width), size.map(|size| size.height));
        Some(joined)
    }

    fn offsets(&self, parts: &[Sound]) -> Vec<Duration> {
        let started_at = SystemTime::from(self.lesson_started_at);
        let known: Vec<_> = parts
            .iter()
            .map(|part| {
                let noted = self
                    .notes
                    .get(&part.part)
                    .and_then(|note| note.offset_ms)
                    .map(Duration::from_millis);
                let dated = part
                    .scan
                    .head
                    .created
                    .and_then(|created| created.duration_since(started_at).ok());
                (noted, dated, part.scan.end())
            })
            .collect();
        place(&known)
    }

    /// After a rename of the only part: its note is the recording's note.
    fn adopt(&mut self, part: u32) {
        if let Some(note) = self.notes.remove(&part) {
            self.notes.insert(1, note);
        }
    }

    /// What the manifest says of the finished file, from the file itself and its note or earlier entry.
    fn entry(&self) -> Result<FileEntry, RecorderError> {
        let name = self.group.final_path().file_name();
        let doing = RecorderError::disk;
        let file = open(&self.folder.join(&name)).map_err(doing("opening a recording"))?;
        let note = self.notes.get(&1);
        let bytes = file.metadata().map_err(doing("looking at a recording"))?.len();
        if let Some(entry) = self
            .earlier_entry()
            .filter(|entry| note.is_none() && entry.bytes == bytes)
        {
            return Ok(entry.clone());
        }
        let reader = WebmReader::new(Hashing::new(io::BufReader::with_capacity(1 << 18, file)));
        let (scan, hashing) = reader
            .and_then(WebmReader::scan)
            .map_err(|_| RecorderError::NotWebm)?;
        let (bytes, sha256) = hashing.finish().map_err(doing("reading a recording"))?;
        let state = match note.map(|note| note.state) {
            Some(PartState::Finished) => FileState::Finished,
            Some(PartState::Truncated) => FileState::Truncated,
            Some(PartState::Recording) | None => FileState::Recovered,
        };
        let dated = scan
            .head
            .created
            .and_then(|at| at.duration_since(self.lesson_started_at.into()).ok());
        let offset_ms = note
            .and_then(|note| note.offset_ms)
            .or(dated.map(milliseconds))
            .unwrap_or(0);
        let size = note.and_then(PartNote::size).or(scan.size);
        Ok(FileEntry {
            state,
            offset_ms,
            duration_ms: milliseconds(scan.head.duration.unwrap_or(scan.end())),
            bytes,
            sha256,
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
            gaps: note.map(|note| note.gaps.clone()).unwrap_or_default(),
            dropped_video_frames: note.map_or(0, |note| note.dropped_video_frames),
            dropped_audio_packets: note.map_or(0, |note| note.dropped_audio_packets),
            ..self.bare_entry(name, state)
        })
    }

    /// The entry of a recording left as it is.
    fn unfinished(&self) -> FileEntry {
        let part = self.group.parts.first().copied().unwrap_or(1);
        let path = self.path_of(part);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let offset_ms = self.notes.get(&part).and_then(|note| note.offset_ms).unwrap_or(0);
        let bytes = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
        FileEntry {
            offset_ms,
            bytes,
            ..self.bare_entry(name, FileState::Unfinished)
        }
    }

    fn bare_entry(&self, path: String, state: FileState) -> FileEntry {
        FileEntry {
            path,
            kind: self.group.kind,
            participant: self.participant().map(|participant| participant.id),
            state,
            offset_ms: 0,
            duration_ms: 0,
            bytes: 0,
            sha256: String::new(),
            width: None,
            height: None,
            gaps: Vec::new(),
            dropped_video_frames: 0,
            dropped_audio_packets: 0,
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

fn largest(sizes: impl Iterator<Item = FrameSize>) -> Option<FrameSize> {
    sizes.max_by_key(|size| u32::from(size.width) * u32::from(size.height))
}

/// A file without even a whole header holds no media: EBML header, segment, info and tracks take more.
const SMALLEST_HEAD_BYTES: u64 = 64;
/// The headers of a file into which no frame was written stay below this.
const SMALLEST_MEDIA_BYTES: u64 = 1_024;
