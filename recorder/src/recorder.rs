//! Opening recordings: folders, names, pipelines.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstreamer as gst;
use seodang_model::{LessonId, RecordingKind, RecordingPath};
use time::OffsetDateTime;

use crate::RecorderError;
use crate::clerk::{ClerkHandle, NoteFile};
use crate::files::{check_folder, make_folder, reserve};
use crate::manifest::{GapReason, ParticipantEntry};
use crate::part::{LessonPlace, PartNote, PartState};
use crate::pipeline::{ELEMENTS, Pipeline};
use crate::writer::{Opened, RecordingWriter};

/// What the recorder needs to know at its start.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// The recordings folder, `<data>/recordings`; its parent exists.
    pub root: PathBuf,
}

/// Opens recordings. Cheap to clone; the thread behind it ends with the last clone and the last writer.
#[derive(Clone, Debug)]
pub struct Recorder {
    root: PathBuf,
    clerk: ClerkHandle,
}

/// Whose recording, of what, in which lesson. Making one means: this participant consented to being recorded.
#[derive(Clone, Debug)]
pub struct RecordingInfo {
    /// Room and folder of the lesson.
    pub place: LessonPlace,
    /// The lesson.
    pub lesson: LessonId,
    /// Zero of the lesson clock.
    pub lesson_started_at: OffsetDateTime,
    /// Whose.
    pub participant: ParticipantEntry,
    /// Camera and microphone, or a screen and its sound.
    pub kind: RecordingKind,
    /// Why this is a further part of a recording; `None` for its beginning.
    pub resumed_after: Option<GapReason>,
}

impl Recorder {
    /// Prepares GStreamer, and the recordings folder (0700).
    ///
    /// # Errors
    /// When GStreamer or an element is missing, or the folder cannot be made.
    pub fn start(config: RecorderConfig) -> Result<Self, RecorderError> {
        check_framework()?;
        make_folder(&config.root)?;
        Ok(Self {
            root: config.root,
            clerk: ClerkHandle::start()?,
        })
    }

    /// Reserves the next free part of a recording and starts writing it. Touches the disk: not for a media thread.
    ///
    /// # Errors
    /// When the disk refuses or the pipeline does not start; nothing is left behind then.
    pub fn open(&self, info: RecordingInfo) -> Result<RecordingWriter, RecorderError> {
        check_folder(&self.root)?;
        let folder = info.place.path(&self.root);
        make_folder(&self.root.join(info.place.room.as_str()))?;
        make_folder(&folder)?;
        let first = info.place.recording(&info.participant.name, info.kind, 1);
        let (file, path) = claim(&folder, first, |_| {})?;
        let note = PartNote {
            lesson: info.lesson,
            lesson_started_at: info.lesson_started_at,
            participant: info.participant,
            resumed_after: info
                .resumed_after
                .or((path.part > 1).then_some(GapReason::Restart)),
            state: PartState::Recording,
            offset_ms: None,
            width: None,
            height: None,
            gaps: Vec::new(),
            dropped_video_frames: 0,
            dropped_audio_packets: 0,
            joined: false,
        };
        let started = note
            .write_soon(&folder, &path)
            .and_then(|()| Pipeline::start(&file));
        let pipeline = match started {
            Ok(pipeline) => pipeline,
            Err(error) => {
                // Best effort: what is left is empty, and the next recovery removes it.
                let _ = fs::remove_file(folder.join(path.file_name()));
                let _ = fs::remove_file(crate::part::note_path(&folder, &path));
                return Err(error);
            }
        };
        let note_file = Arc::new(NoteFile::new(folder, path));
        let clerk = self.clerk.clone();
        let kind = info.kind;
        Ok(RecordingWriter::new(Opened {
            kind,
            file: Arc::new(file),
            pipeline,
            note,
            note_file,
            clerk,
        }))
    }
}

/// Reserves the next free part from `path` on. `between` is called with each reserved part before it is ours: what
/// happens there is a race of the real program.
fn claim(
    folder: &Path,
    mut path: RecordingPath,
    mut between: impl FnMut(&RecordingPath),
) -> Result<(File, RecordingPath), RecorderError> {
    loop {
        // A finished file of this name is an earlier part that a recovery finished meanwhile.
        let finished = RecordingPath {
            unfinished: false,
            ..path.clone()
        };
        let finished = folder.join(finished.file_name());
        if fs::symlink_metadata(&finished).is_err() {
            match reserve(&folder.join(path.file_name())) {
                Ok(file) => {
                    between(&path);
                    file.try_lock()
                        .map_err(|error| RecorderError::disk("locking a recording")(error.into()))?;
                    // A recovery beside us may have finished the earlier part of this number between the two
                    // looks, or taken our empty file for a leftover before it was locked.
                    let is_ours = file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
                    if is_ours && fs::symlink_metadata(&finished).is_err() {
                        return Ok((file, path));
                    }
                    if is_ours {
                        let _ = fs::remove_file(folder.join(path.file_name()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(RecorderError::disk("making a recording")(error)),
            }
        }
        path.part += 1;
    }
}

/// Whether GStreamer and everything recording needs of it is there; for `seodang doctor`.
///
/// # Errors
/// Names what is missing.
pub fn check_framework() -> Result<(), RecorderError> {
    gst::init().map_err(RecorderError::Framework)?;
    match ELEMENTS
        .into_iter()
        .find(|element| gst::ElementFactory::find(element).is_none())
    {
        Some(element) => Err(RecorderError::MissingElement(element)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use seodang_model::{DisplayName, LessonFolder, StorageName};

    use super::*;

    #[test]
    fn a_part_that_a_recovery_finishes_meanwhile_is_not_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let finished = folder.path().join("민수.webm");
        let (_file, path) = claim(folder.path(), first_part(), |path| {
            if path.part == 1 {
                fs::write(&finished, "an earlier part").expect("a finished file");
            }
        })
        .expect("a part");
        assert_eq!(path.part, 2);
        assert!(
            !folder.path().join("민수.webm.part").exists(),
            "nothing is left of the try"
        );
        assert_eq!(
            fs::read_to_string(&finished).expect("still there"),
            "an earlier part"
        );
    }

    #[test]
    fn a_part_that_a_recovery_takes_for_a_leftover_is_reserved_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, path) = claim(folder.path(), first_part(), |path| {
            if path.part == 1 {
                fs::remove_file(folder.path().join(path.file_name())).expect("removed");
            }
        })
        .expect("a part");
        assert_eq!(path.part, 2);
        assert_eq!(file.metadata().expect("metadata").nlink(), 1, "it has a name");
        assert!(folder.path().join("민수_part2.webm.part").exists());
    }

    fn first_part() -> RecordingPath {
        let place = LessonPlace {
            room: "7b".parse().expect("a number"),
            folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        };
        let name = StorageName::for_display(&DisplayName::parse("민수").expect("a name"));
        place.recording(&name, RecordingKind::Camera, 1)
    }
}
