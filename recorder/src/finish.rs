//! The end of a lesson: parts become files, files get a manifest, the chat is laid beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use seodang_model::{LessonId, ParticipantId, RecordingKind, RecordingPath, StorageName};
use time::OffsetDateTime;
use tracing::error;

use crate::RecorderError;
use crate::chat::{ChatLine, render};
use crate::files::{check_folder, make_folder, read_json, remove, sync_folder, write_whole};
use crate::manifest::{FileEntry, FileState, LessonManifest, ParticipantEntry};
use crate::part::{LessonPlace, is_growing};
use crate::settle::{Group, Settled, give_up, settle};

/// What the class knows of a lesson that ended.
#[derive(Clone, Debug)]
pub struct LessonSummary {
    /// Room and folder.
    pub place: LessonPlace,
    /// The lesson.
    pub lesson: LessonId,
    /// Zero of the lesson clock.
    pub started_at: OffsetDateTime,
    /// Its end.
    pub ended_at: OffsetDateTime,
    /// Everybody who consented to being recorded, and nobody else.
    pub participants: Vec<ParticipantEntry>,
    /// The chat, in order; lines of anybody not among the participants are left out.
    pub chat: Vec<ChatLine>,
}

/// Finishes every recording of a lesson and writes `lesson.json`, `chat.vtt` and `chat.jsonl`.
///
/// Parts are joined, checked and only then removed. A recording that cannot be finished is left as it is and says
/// so in the manifest; one still being written is left alone. May be called again at any time, also after a crash
/// in the middle. Works on the calling thread and a few more, as long as the disk takes.
///
/// # Errors
/// When the folder or the manifest cannot be read or written; the recordings are then untouched or finished.
pub fn finish_lesson(root: &Path, summary: &LessonSummary) -> Result<LessonManifest, RecorderError> {
    let folder = summary.place.path(root);
    if summary.participants.is_empty() && fs::symlink_metadata(&folder).is_err() {
        // Nobody was recorded: no trace of the lesson either.
        return Ok(manifest(summary, Vec::new(), summary.participants.clone()));
    }
    make_folder(root)?;
    make_folder(&root.join(summary.place.room.as_str()))?;
    make_folder(&folder)?;
    let lesson = OpenLesson::lock(root, &summary.place)?;
    let settled = lesson.settle(summary.started_at)?;
    let manifest = lesson.write_manifest(settled, |files, recorded| {
        let known: BTreeSet<_> = recorded.iter().map(|participant| participant.id).collect();
        let others = summary
            .participants
            .iter()
            .filter(|participant| !known.contains(&participant.id))
            .cloned();
        let participants = recorded.iter().cloned().chain(others).collect();
        manifest(summary, files, participants)
    })?;
    let consenting: BTreeSet<ParticipantId> = summary
        .participants
        .iter()
        .map(|participant| participant.id)
        .collect();
    let (vtt, jsonl) = render(&summary.chat, &consenting).map_err(RecorderError::Manifest)?;
    write_whole(&folder.join("chat.vtt"), vtt.as_bytes())?;
    write_whole(&folder.join("chat.jsonl"), jsonl.as_bytes())?;
    Ok(manifest)
}

fn manifest(
    summary: &LessonSummary,
    files: Vec<FileEntry>,
    participants: Vec<ParticipantEntry>,
) -> LessonManifest {
    LessonManifest {
        schema: LessonManifest::SCHEMA,
        room: summary.place.room.clone(),
        lesson: Some(summary.lesson),
        state: worst(&files),
        started_at: summary.started_at,
        ended_at: summary.ended_at,
        participants,
        files,
    }
}

pub(crate) fn worst(files: &[FileEntry]) -> FileState {
    files
        .iter()
        .map(|file| file.state)
        .max()
        .unwrap_or(FileState::Finished)
}

/// A lesson's folder while its files are being finished, by one process at a time.
pub(crate) struct OpenLesson {
    place: LessonPlace,
    folder: std::path::PathBuf,
    pub(crate) earlier: Option<LessonManifest>,
    _lock: File,
}

impl OpenLesson {
    pub(crate) fn lock(root: &Path, place: &LessonPlace) -> Result<Self, RecorderError> {
        let folder = place.path(root);
        check_folder(&folder)?;
        let lock = File::open(&folder).map_err(RecorderError::disk("opening a folder"))?;
        // Another process may be recovering: afterwards there is nothing left to do but to say so.
        lock.lock().map_err(RecorderError::disk("locking a folder"))?;
        let earlier = read_json(&folder.join(LessonManifest::FILE_NAME))?;
        Ok(Self {
            place: place.clone(),
            folder,
            earlier,
            _lock: lock,
        })
    }

    /// Brings every recording as far as it can be brought, several at a time.
    ///
    /// # Errors
    /// When the folder cannot be read: a manifest without its files would be a lie.
    pub(crate) fn settle(&self, started_at: OffsetDateTime) -> Result<Vec<Settled>, RecorderError> {
        self.settle_each(started_at, |group| {
            settle(&self.folder, group, self.earlier.as_ref(), started_at)
        })
    }

    /// A panic in one recording leaves that one as it is, and no other.
    fn settle_each(
        &self,
        started_at: OffsetDateTime,
        settle: impl Fn(&Group) -> Settled + Sync,
    ) -> Result<Vec<Settled>, RecorderError> {
        let groups = self.groups()?;
        let settle = |group: &Group| {
            catch_unwind(AssertUnwindSafe(|| settle(group))).unwrap_or_else(|_| {
                error!("a panic left a recording as it is; this is a bug");
                give_up(&self.folder, group, self.earlier.as_ref(), started_at)
            })
        };
        let threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(groups.len());
        let queue = Mutex::new(groups.into_iter());
        let settled = Mutex::new(Vec::new());
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(group) = next else { break };
                let result = settle(&group);
                settled
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(result);
            }
        };
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        Ok(settled.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the manifest that `build` makes of the files and the people recorded in them; only then the notes,
    /// which knew the same, go.
    pub(crate) fn write_manifest(
        &self,
        mut settled: Vec<Settled>,
        build: impl FnOnce(Vec<FileEntry>, &[ParticipantEntry]) -> LessonManifest,
    ) -> Result<LessonManifest, RecorderError> {
        settled.sort_by(|one, other| (&one.name, one.kind).cmp(&(&other.name, other.kind)));
        let mut recorded: Vec<ParticipantEntry> = Vec::new();
        for participant in settled.iter().filter_map(|settled| settled.participant.clone()) {
            if recorded.iter().all(|known| known.id != participant.id) {
                recorded.push(participant);
            }
        }
        let mut files: Vec<_> = settled
            .iter()
            .flat_map(|settled| settled.entries.clone())
            .collect();
        files.extend(self.damaged_before());
        let mut manifest = build(files, &recorded);
        manifest
            .participants
            .sort_by(|one, other| one.name.cmp(&other.name));
        let text = serde_json::to_vec_pretty(&manifest).map_err(RecorderError::Manifest)?;
        write_whole(&self.folder.join(LessonManifest::FILE_NAME), &text)?;
        for note in settled.iter().flat_map(|settled| &settled.spent_notes) {
            remove(note)?;
        }
        sync_folder(&self.folder)?;
        Ok(manifest)
    }

    /// What an earlier finishing put aside as unreadable, and nobody has taken away since.
    fn damaged_before(&self) -> Vec<FileEntry> {
        let entries = self.earlier.iter().flat_map(|earlier| &earlier.files);
        let damaged = entries.filter(|entry| entry.state == FileState::Damaged);
        damaged
            .filter(|entry| fs::symlink_metadata(self.folder.join(&entry.path)).is_ok())
            .cloned()
            .collect()
    }

    /// The recordings in the folder, each with all its parts. Files that only an interrupted finishing can have left
    /// are removed.
    fn groups(&self) -> Result<Vec<Group>, RecorderError> {
        let mut groups: BTreeMap<(StorageName, RecordingKind), Group> = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(RecorderError::disk("reading a folder"))? {
            let entry = entry.map_err(RecorderError::disk("reading a folder"))?;
            let Ok(file_name) = entry.file_name().into_string() else {
                continue;
            };
            if is_growing(&file_name) {
                remove(&entry.path())?;
            }
            let Some((path, is_note)) = self.place.file(&file_name) else {
                continue;
            };
            let group = groups
                .entry((path.name.clone(), path.kind))
                .or_insert_with(|| Group::new(&self.place, path.name.clone(), path.kind));
            group.add(&path, is_note);
        }
        Ok(groups.into_values().collect())
    }
}

impl LessonPlace {
    /// The recording a file name of this lesson stands for, and whether it is the note beside it.
    pub(crate) fn file(&self, file_name: &str) -> Option<(RecordingPath, bool)> {
        let note = file_name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".json"));
        let file_name = note.map_or_else(|| file_name.to_owned(), |stem| format!("{stem}.webm.part"));
        let path: RecordingPath = format!("{}/{}/{file_name}", self.room, self.folder)
            .parse()
            .ok()?;
        Some((path, note.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use seodang_model::LessonFolder;

    use super::*;

    #[test]
    fn a_panic_in_one_recording_leaves_that_one_and_no_other() {
        let root = tempfile::tempdir().expect("a folder");
        let place = LessonPlace {
            room: "7b".parse().expect("a number"),
            folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        };
        let folder = place.path(root.path());
        fs::create_dir_all(&folder).expect("a lesson");
        for name in ["민수", "서연", "지우"] {
            fs::write(folder.join(format!("{name}.webm.part")), "").expect("a part");
        }
        let lesson = OpenLesson::lock(root.path(), &place).expect("a lesson");
        let started_at = OffsetDateTime::UNIX_EPOCH;
        let settled = lesson
            .settle_each(started_at, |group| {
                let settled = settle(&folder, group, None, started_at);
                assert_ne!(settled.name.as_str(), "서연", "made by the test");
                settled
            })
            .expect("a folder");
        let mut states: Vec<_> = settled
            .iter()
            .map(|one| (one.name.as_str(), one.entries.first().map(|entry| entry.state)))
            .collect();
        states.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(
            states,
            [
                ("민수", None),
                ("서연", Some(FileState::Unfinished)),
                ("지우", None)
            ]
        );
    }
}
