//! The path grammars of recordings and captures: each type both prints and reads its path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::{RoomNumber, StorageName};

/// The text is not a path that this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path of this program")]
pub struct PathGrammarError;

const LESSON_TIME: &[FormatItem<'static>] = format_description!("[year][month][day]_[hour][minute][second]");
const CAPTURE_TIME: &[FormatItem<'static>] =
    format_description!("[year][month][day]_[hour]_[minute]_[second]");

/// A lesson's folder, `YYYYMMDD_HHMMSS` of its start in the server's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LessonFolder(PrimitiveDateTime);

impl LessonFolder {
    /// The folder of a lesson that starts at `start`, whose offset is the server's time zone.
    #[must_use]
    pub fn of(start: OffsetDateTime) -> Self {
        Self(PrimitiveDateTime::new(
            start.date(),
            start.time().truncate_to_second(),
        ))
    }
}

impl fmt::Display for LessonFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(LESSON_TIME).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for LessonFolder {
    type Err = PathGrammarError;

    fn from_str(text: &str) -> Result<Self, PathGrammarError> {
        PrimitiveDateTime::parse(text, LESSON_TIME)
            .map(Self)
            .map_err(|_| PathGrammarError)
    }
}

/// What a recording holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingKind {
    /// Camera and microphone: `<name>.webm`.
    Camera,
    /// Screen and its sound: `<name>_screen.webm`.
    Screen,
}

/// A recording's path below the recordings folder: `<room>/<lesson>/<name>[_screen][_partN].webm[.part]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordingPath {
    /// The room's number.
    pub room: RoomNumber,
    /// The lesson.
    pub lesson: LessonFolder,
    /// The participant's name on disk.
    pub name: StorageName,
    /// What the file holds.
    pub kind: RecordingKind,
    /// 1 for the first or only part; from 2 on it shows in the name.
    pub part: u32,
    /// Whether the file is still being written (or a crash left it so).
    pub unfinished: bool,
}

impl RecordingPath {
    /// The last component of the path.
    #[must_use]
    pub fn file_name(&self) -> String {
        use std::fmt::Write as _;
        let mut text = self.name.as_str().to_owned();
        if self.kind == RecordingKind::Screen {
            text.push_str("_screen");
        }
        if self.part > 1 {
            write!(text, "_part{}", self.part).expect("writing to a string does not fail");
        }
        text.push_str(if self.unfinished { ".webm.part" } else { ".webm" });
        text
    }
}

impl fmt::Display for RecordingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.room, self.lesson, self.file_name())
    }
}

impl FromStr for RecordingPath {
    type Err = PathGrammarError;

    fn from_str(text: &str) -> Result<Self, PathGrammarError> {
        let mut folders = text.split('/');
        let (Some(room), Some(lesson), Some(file), None) =
            (folders.next(), folders.next(), folders.next(), folders.next())
        else {
            return Err(PathGrammarError);
        };
        let (stem, unfinished) = match (file.strip_suffix(".webm.part"), file.strip_suffix(".webm")) {
            (Some(stem), _) => (stem, true),
            (None, Some(stem)) => (stem, false),
            (None, None) => return Err(PathGrammarError),
        };
        // Names hold no `_`, so everything behind the first one is ours.
        let mut words = stem.split('_').peekable();
        let name = words.next().ok_or(PathGrammarError)?;
        let kind = if words.next_if_eq(&"screen").is_some() {
            RecordingKind::Screen
        } else {
            RecordingKind::Camera
        };
        let part = match words.next() {
            None => 1,
            Some(word) => word
                .strip_prefix("part")
                .filter(|digits| !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|part| *part > 1)
                .ok_or(PathGrammarError)?,
        };
        if words.next().is_some() {
            return Err(PathGrammarError);
        }
        let path = Self {
            room: room.parse().map_err(|_| PathGrammarError)?,
            lesson: lesson.parse()?,
            name: StorageName::parse(name).map_err(|_| PathGrammarError)?,
            kind,
            part,
            unfinished,
        };
        if path.to_string() == text {
            Ok(path)
        } else {
            Err(PathGrammarError)
        }
    }
}

/// A capture's path below the captures folder: `<room>/<name>_<YYYYMMDD>_<HH>_<MM>_<SS>.jpg`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapturePath {
    /// The room's number.
    pub room: RoomNumber,
    /// The participant's name on disk.
    pub name: StorageName,
    /// The tick in the server's time zone.
    tick: PrimitiveDateTime,
}

impl CapturePath {
    /// The path of the picture of `name` at `tick`, whose offset is the server's time zone.
    #[must_use]
    pub fn new(room: RoomNumber, name: StorageName, tick: OffsetDateTime) -> Self {
        let tick = PrimitiveDateTime::new(tick.date(), tick.time().truncate_to_second());
        Self { room, name, tick }
    }

    /// The last component of the path.
    #[must_use]
    pub fn file_name(&self) -> String {
        let tick = self
            .tick
            .format(CAPTURE_TIME)
            .expect("every field of the format is in a date and time");
        format!("{}_{tick}.jpg", self.name.as_str())
    }
}

impl fmt::Display for CapturePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.room, self.file_name())
    }
}

impl FromStr for CapturePath {
    type Err = PathGrammarError;

    fn from_str(text: &str) -> Result<Self, PathGrammarError> {
        let (room, file) = text.split_once('/').ok_or(PathGrammarError)?;
        let stem = file.strip_suffix(".jpg").ok_or(PathGrammarError)?;
        let (name, tick) = stem.split_once('_').ok_or(PathGrammarError)?;
        let path = Self {
            room: room.parse().map_err(|_| PathGrammarError)?,
            name: StorageName::parse(name).map_err(|_| PathGrammarError)?,
            tick: PrimitiveDateTime::parse(tick, CAPTURE_TIME).map_err(|_| PathGrammarError)?,
        };
        if path.to_string() == text {
            Ok(path)
        } else {
            Err(PathGrammarError)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::DisplayName;

    fn stored(text: &str) -> StorageName {
        StorageName::for_display(&DisplayName::parse(text).expect("a name"))
    }

    #[test]
    fn recordings_and_captures_are_named_as_promised() {
        let room: RoomNumber = "math-7b".parse().expect("a number");
        let start = datetime!(2026-11-21 09:00:05.7 +9);
        let recording = RecordingPath {
            room: room.clone(),
            lesson: LessonFolder::of(start),
            name: stored("김 민수"),
            kind: RecordingKind::Screen,
            part: 2,
            unfinished: true,
        };
        assert_eq!(
            recording.to_string(),
            "math-7b/20261121_090005/김-민수_screen_part2.webm.part"
        );
        assert_eq!(recording.to_string().parse(), Ok(recording));
        let capture = CapturePath::new(room, stored("민수-2"), start);
        assert_eq!(capture.to_string(), "math-7b/민수-2_20261121_09_00_05.jpg");
        assert_eq!(capture.to_string().parse(), Ok(capture));
    }

    #[test]
    fn foreign_files_are_not_ours() {
        for text in [
            "r/20261121_090005/a.mp4",
            "r/20261121_090005/../a.webm",
            "r/20261121_090005/a_part1.webm",
            "r/20261121_090005/a_part02.webm",
            "r/20261121_090005/a_b.webm",
            "r/x/a.webm",
            "R/20261121_090005/a.webm",
            "a.webm",
        ] {
            assert_eq!(text.parse::<RecordingPath>(), Err(PathGrammarError), "{text}");
        }
        for text in [
            "r/a_20261121_09_00.jpg",
            "r/.a_20261121_09_00_05.jpg",
            "a_20261121_09_00_05.jpg",
        ] {
            assert_eq!(text.parse::<CapturePath>(), Err(PathGrammarError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_path_reads_back(name in "[a-z가-힣0-9-]{1,20}", part in 1_u32..40, screen: bool, unfinished: bool, second in 0_i64..4_000_000_000) {
            let start = OffsetDateTime::from_unix_timestamp(second).expect("in range");
            let kind = if screen { RecordingKind::Screen } else { RecordingKind::Camera };
            let path = RecordingPath {
                room: "r-1".parse().expect("a number"),
                lesson: LessonFolder::of(start),
                name: stored(&name),
                kind,
                part,
                unfinished,
            };
            prop_assert_eq!(path.to_string().parse::<RecordingPath>(), Ok(path));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<RecordingPath>();
            let _ = text.parse::<CapturePath>();
        }
    }
}
