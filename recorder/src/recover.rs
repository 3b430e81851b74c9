//! After a crash: every lesson that is over gets its files finished.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use seodang_model::{LessonFolder, RoomNumber};
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::RecorderError;
use crate::files::check_folder;
use crate::finish::{OpenLesson, worst};
use crate::manifest::LessonManifest;
use crate::part::{LessonPlace, PartNote, is_growing};
use crate::recorder::check_framework;

/// What [`recover`] did.
#[derive(Debug, Default)]
pub struct RecoverReport {
    /// Lessons that had something unfinished, and what became of them.
    pub lessons: Vec<(LessonPlace, LessonManifest)>,
    /// Lessons that could not be worked on.
    pub failures: Vec<(LessonPlace, RecorderError)>,
    /// Lessons left alone because they go on.
    pub open: Vec<LessonPlace>,
}

/// Finishes what a crash left in every lesson, but not in those that `still_open` says go on: their parts stay
/// playable as they are, and are joined when the lesson ends.
///
/// May run beside a server that is recording: parts being written are locked and left alone. Reads the names in
/// every lesson's folder; files only where something is unfinished.
///
/// # Errors
/// When GStreamer is not there, or the recordings folder itself cannot be read.
pub fn recover(root: &Path, still_open: &[LessonPlace]) -> Result<RecoverReport, RecorderError> {
    check_framework()?;
    let mut report = RecoverReport::default();
    for place in lessons(root)? {
        match is_unfinished(&place.path(root)) {
            Ok(false) => {}
            Ok(true) if still_open.contains(&place) => report.open.push(place),
            Ok(true) => match recover_lesson(root, &place) {
                Ok(manifest) => report.lessons.push((place, manifest)),
                Err(error) => report.failures.push((place, error)),
            },
            Err(error) => report.failures.push((place, error)),
        }
    }
    Ok(report)
}

/// Finishes what a crash left in one lesson that is over. Everything the manifest says comes from the disk; the
/// chat is left as it is. A later `finish_lesson` adds what the class knows.
///
/// # Errors
/// When GStreamer is not there, or the lesson's folder or manifest cannot be read or written.
pub fn recover_lesson(root: &Path, place: &LessonPlace) -> Result<LessonManifest, RecorderError> {
    check_framework()?;
    let known = first_note(root, place)?;
    let lesson = OpenLesson::lock(root, place)?;
    let earlier = lesson.earlier.clone();
    let started_at = known.as_ref().map(|note| note.lesson_started_at);
    let started_at = started_at.or(earlier.as_ref().map(|earlier| earlier.started_at));
    let started_at = started_at.unwrap_or_else(|| folder_time(place));
    let settled = lesson.settle(started_at)?;
    lesson.write_manifest(settled, |files, recorded| {
        let last = files
            .iter()
            .map(|file| file.offset_ms + file.duration_ms)
            .max()
            .unwrap_or(0);
        let last = started_at + Duration::from_millis(last);
        let mut participants = recorded.to_vec();
        for participant in earlier.iter().flat_map(|earlier| &earlier.participants) {
            if participants.iter().all(|known| known.id != participant.id) {
                participants.push(participant.clone());
            }
        }
        LessonManifest {
            schema: LessonManifest::SCHEMA,
            room: place.room.clone(),
            lesson: known
                .map(|note| note.lesson)
                .or(earlier.as_ref().and_then(|earlier| earlier.lesson)),
            state: worst(&files),
            started_at,
            ended_at: earlier.map_or(last, |earlier| earlier.ended_at.max(last)),
            participants,
            files,
        }
    })
}

fn lessons(root: &Path) -> Result<Vec<LessonPlace>, RecorderError> {
    let mut places = Vec::new();
    for room in names(root)? {
        let Ok(number) = room.parse::<RoomNumber>() else {
            continue;
        };
        if number.as_str() != room || check_folder(&root.join(&room)).is_err() {
            continue;
        }
        let lessons = match names(&root.join(&room)) {
            Ok(lessons) => lessons,
            Err(error) => {
                // The other rooms' lessons must not wait for it.
                tracing::error!(room.number = %number, error = &error as &dyn std::error::Error, "a room's folder cannot be read");
                continue;
            }
        };
        for lesson in lessons {
            let Ok(folder) = lesson.parse::<LessonFolder>() else {
                continue;
            };
            let place = LessonPlace {
                room: number.clone(),
                folder,
            };
            if folder.to_string() == lesson && check_folder(&place.path(root)).is_ok() {
                places.push(place);
            }
        }
    }
    places.sort();
    Ok(places)
}

/// Parts, notes and growing files are all gone from a lesson that was finished.
fn is_unfinished(folder: &Path) -> Result<bool, RecorderError> {
    let left = |name: &String| {
        name.ends_with(".part") || is_growing(name) || (name.starts_with('.') && name.ends_with(".json"))
    };
    Ok(names(folder)?.iter().any(left))
}

fn first_note(root: &Path, place: &LessonPlace) -> Result<Option<PartNote>, RecorderError> {
    let folder = place.path(root);
    let paths = names(&folder)?
        .into_iter()
        .filter_map(|name| place.file(&name))
        .filter(|(_, is_note)| *is_note);
    for (path, _) in paths {
        if let Ok(Some(note)) = PartNote::read(&folder, &path) {
            return Ok(Some(note));
        }
    }
    Ok(None)
}

fn names(folder: &Path) -> Result<Vec<String>, RecorderError> {
    let doing = RecorderError::disk;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(doing("reading a folder")(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(doing("reading a folder"))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The folder's own time, read as UTC: what is left when every note is lost.
fn folder_time(place: &LessonPlace) -> OffsetDateTime {
    let format = time::macros::format_description!("[year][month][day]_[hour][minute][second]");
    PrimitiveDateTime::parse(&place.folder.to_string(), format)
        .map_or(OffsetDateTime::UNIX_EPOCH, PrimitiveDateTime::assume_utc)
}
