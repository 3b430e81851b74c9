//! Lessons whose recordings nobody wants: put aside first, erased later.

use std::fs;
use std::io;
use std::path::Path;

use time::OffsetDateTime;

use crate::RecorderError;
use crate::files::{check_folder, make_folder, open, rename_new, sync_folder};
use crate::part::LessonPlace;

/// Puts a lesson's folder aside under `.discarded`, where nothing lists it. Nothing happens when there is none.
///
/// # Errors
/// [`RecorderError::StillRecording`] while a recording of it is open; else when the disk refuses.
pub fn discard(root: &Path, place: &LessonPlace, now: OffsetDateTime) -> Result<(), RecorderError> {
    let doing = RecorderError::disk;
    let folder = place.path(root);
    match check_folder(&folder) {
        Err(RecorderError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    for entry in fs::read_dir(&folder).map_err(doing("reading a folder"))? {
        let entry = entry.map_err(doing("reading a folder"))?;
        let is_part = entry.file_name().to_string_lossy().ends_with(".part");
        if is_part
            && matches!(
                open(&entry.path()).map(|file| file.try_lock()),
                Ok(Err(fs::TryLockError::WouldBlock))
            )
        {
            return Err(RecorderError::StillRecording);
        }
    }
    let aside = root.join(DISCARDED);
    make_folder(&aside)?;
    let seconds = now.unix_timestamp();
    // A lesson of the same name may have been put aside in the same second by a caller that repeats itself.
    for count in 0..100 {
        let target = aside.join(format!("{seconds}_{count}_{}_{}", place.room, place.folder));
        match rename_new(&folder, &target) {
            Ok(()) => {
                sync_folder(&aside)?;
                let room = root.join(place.room.as_str());
                return sync_folder(&room);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(doing("putting a lesson aside")(error)),
        }
    }
    Err(doing("putting a lesson aside")(
        io::ErrorKind::AlreadyExists.into(),
    ))
}

/// What [`erase_discarded`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Lessons that are gone.
    pub lessons: usize,
    /// Lessons whose folder the disk did not give up; they are tried again the next time.
    pub left: Vec<LessonPlace>,
}

/// Erases what was put aside before `before`; one lesson that cannot be erased stops no other.
///
/// # Errors
/// When the folder of what was put aside cannot be read.
pub fn erase_discarded(root: &Path, before: OffsetDateTime) -> Result<Erased, RecorderError> {
    let doing = RecorderError::disk;
    let aside = root.join(DISCARDED);
    let entries = match fs::read_dir(&aside) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Erased::default()),
        Err(error) => return Err(doing("reading a folder")(error)),
    };
    let mut erased = Erased::default();
    for entry in entries {
        let entry = entry.map_err(doing("reading a folder"))?;
        let name = entry.file_name();
        let discarded_at = name
            .to_str()
            .and_then(|name| name.split_once('_')?.0.parse::<i64>().ok());
        if discarded_at.is_some_and(|seconds| seconds < before.unix_timestamp()) {
            // Never follows links.
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => erased.lessons += 1,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a put-aside lesson is not erased"
                    );
                    erased.left.extend(name.to_str().and_then(place_of));
                }
            }
        }
    }
    if erased.lessons > 0 {
        sync_folder(&aside)?;
    }
    Ok(erased)
}

/// The lesson that was put aside under this name.
fn place_of(name: &str) -> Option<LessonPlace> {
    let lesson = name.splitn(3, '_').nth(2)?;
    let (room, folder) = lesson.split_once('_')?;
    Some(LessonPlace {
        room: room.parse().ok()?,
        folder: folder.parse().ok()?,
    })
}

/// Hidden, and no room's number: rooms have no dot in theirs.
const DISCARDED: &str = ".discarded";

#[cfg(test)]
mod tests {
    use seodang_model::LessonFolder;
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::files::reserve;

    #[test]
    fn a_discarded_lesson_is_gone_at_once_and_erased_when_its_time_has_come() {
        let root = tempfile::tempdir().expect("a folder");
        let now = datetime!(2026-11-21 10:00 UTC);
        let place = LessonPlace {
            room: "7b".parse().expect("a number"),
            folder: LessonFolder::of(now),
        };
        let folder = place.path(root.path());
        fs::create_dir_all(&folder).expect("a lesson");
        let part = reserve(&folder.join("민수.webm.part")).expect("a part");
        part.try_lock().expect("ours");
        assert!(matches!(
            discard(root.path(), &place, now),
            Err(RecorderError::StillRecording)
        ));
        drop(part);
        discard(root.path(), &place, now).expect("put aside");
        assert!(!folder.exists());
        discard(root.path(), &place, now).expect("nothing left to do");
        let erased = |before| erase_discarded(root.path(), before).expect("a folder").lessons;
        assert_eq!(erased(now), 0, "too early");
        assert_eq!(erased(now + Duration::HOUR), 1);
        assert_eq!(
            fs::read_dir(root.path().join(DISCARDED))
                .expect("a folder")
                .count(),
            0
        );
    }
    #[test]
    fn a_lesson_that_cannot_be_erased_is_named_and_stops_no_other() {
        let root = tempfile::tempdir().expect("a folder");
        let now = datetime!(2026-11-21 10:00 UTC);
        let place = |room: &str| LessonPlace {
            room: room.parse().expect("a number"),
            folder: LessonFolder::of(now),
        };
        for room in ["7a", "7b", "7c"] {
            fs::create_dir_all(place(room).path(root.path())).expect("a lesson");
            discard(root.path(), &place(room), now).expect("put aside");
        }
        // Not even root removes a file as a folder.
        let aside = root.path().join(DISCARDED);
        for entry in fs::read_dir(&aside).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().contains("_7b_") {
                fs::remove_dir(entry.path()).expect("removed");
                fs::write(entry.path(), "in the way").expect("a file");
            }
        }
        let erased = erase_discarded(root.path(), now + Duration::HOUR).expect("a folder");
        assert_eq!(
            erased,
            Erased {
                lessons: 2,
                left: vec![place("7b")]
            }
        );
    }
}
