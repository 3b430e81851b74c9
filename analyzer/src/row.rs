//! The manifest's rows; `docs/captures.md` describes every field.

use std::time::Instant;

use jiff::tz::TimeZone;
use seodang_model::{CaptureId, DisplayName, LessonFolder, LessonId, ParticipantId, Role, RoomNumber};
use seodang_rtp::ClockSource;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::picture::Statistics;
use crate::round::Decision;
use crate::subject::MediaOrigin;

/// Version of the row's fields. A field is added without a new version, renamed or removed only with one.
pub const ROW_SCHEMA: u32 = 1;

/// One line of `captures.jsonl`: one participant at one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptureRow {
    /// [`ROW_SCHEMA`] at the time of writing.
    pub schema: u32,
    /// Names this row for ever.
    pub capture_id: CaptureId,
    /// The room's number.
    pub room: RoomNumber,
    /// The lesson.
    pub lesson: LessonId,
    /// The lesson's folder below the recordings of the room.
    #[serde(with = "as_text")]
    pub lesson_folder: LessonFolder,
    /// The person in this lesson.
    pub participant: ParticipantId,
    /// As shown in the class.
    pub name: DisplayName,
    /// At the tick.
    pub role: Role,
    /// The instant of the round, common to all rooms.
    #[serde(with = "time::serde::rfc3339")]
    pub tick_utc: OffsetDateTime,
    /// The same instant in the server's time zone; its digits are the ones in the file name.
    #[serde(with = "time::serde::rfc3339")]
    pub tick_local: OffsetDateTime,
    /// When the picture was taken, on the clock of `tick_utc`, in whole milliseconds.
    #[serde(with = "time::serde::rfc3339::option")]
    pub captured_at: Option<OffsetDateTime>,
    /// How `captured_at` was found.
    pub clock: Option<CaptureClock>,
    /// Where the same picture is in the participant's webm, in milliseconds from its start.
    pub media_time_ms: Option<u64>,
    /// Pixels in a row of the picture.
    pub width: Option<u16>,
    /// Rows of the picture.
    pub height: Option<u16>,
    /// Simulcast layer (rid) of the picture; none where the camera sends a single encoding.
    pub layer: Option<String>,
    /// Size of the JPEG file.
    pub bytes: Option<u64>,
    /// Of the JPEG file, 64 hexadecimal digits in lower case.
    pub sha256: Option<String>,
    /// Measured without any model.
    pub statistics: Option<Statistics>,
    /// Of the consent text that was agreed to.
    pub consent_version: u32,
    /// `ok`, or why there is no picture.
    pub status: CaptureStatus,
    /// Of the JPEG below the captures folder; none without a picture.
    pub path: Option<String>,
}

/// What became of one participant's picture at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureStatus {
    /// There is a picture.
    Ok,
    /// The camera was switched off.
    CameraOff,
    /// There is no camera, or it may not be sent.
    NoCamera,
    /// The camera was on, but sent no key frame near the tick.
    NoKeyframe,
    /// What was sent as a key frame is not one that can be decoded.
    RejectedFrame,
    /// The server was too busy to take or keep the picture in time.
    MissedTick,
    /// In a 1:1 talk, of which nothing is kept.
    PrivateTalk,
    /// The media connection was lost, or the participant left before a key frame came.
    Disconnected,
    /// The picture could not be stored.
    Disk,
}

impl CaptureStatus {
    /// Every status, in the order of [`crate::AnalyzerCounts::rows`].
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::CameraOff,
        Self::NoCamera,
        Self::NoKeyframe,
        Self::RejectedFrame,
        Self::MissedTick,
        Self::PrivateTalk,
        Self::Disconnected,
        Self::Disk,
    ];

    /// The word used in rows and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CameraOff => "camera_off",
            Self::NoCamera => "no_camera",
            Self::NoKeyframe => "no_keyframe",
            Self::RejectedFrame => "rejected_frame",
            Self::MissedTick => "missed_tick",
            Self::PrivateTalk => "private_talk",
            Self::Disconnected => "disconnected",
            Self::Disk => "disk",
        }
    }
}

/// How the time of a picture was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureClock {
    /// From the sender's reports: when the camera took it, to some milliseconds.
    SenderReport,
    /// From the arrival of the frame: the camera took it some tens to hundreds of milliseconds earlier.
    Arrival,
}

impl From<ClockSource> for CaptureClock {
    fn from(source: ClockSource) -> Self {
        match source {
            ClockSource::SenderReport => Self::SenderReport,
            ClockSource::Arrival => Self::Arrival,
        }
    }
}

impl CaptureRow {
    /// The row of a decision, without a picture yet: `ok` is for the writer to say.
    pub(crate) fn of(decision: &Decision, time_zone: &TimeZone, status: CaptureStatus) -> Self {
        let subject = &decision.subject;
        let tick_utc = OffsetDateTime::from_unix_timestamp(decision.tick.named.as_second())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let offset = UtcOffset::from_whole_seconds(time_zone.to_offset(decision.tick.named).seconds())
            .unwrap_or(UtcOffset::UTC);
        let shot = decision.outcome.as_ref().ok();
        let media_time = match (shot, decision.media_origin) {
            (Some(shot), MediaOrigin::At(origin)) => shot.frame.at.checked_sub(origin),
            _ => None,
        };
        Self {
            schema: ROW_SCHEMA,
            capture_id: CaptureId::random(),
            room: subject.room.clone(),
            lesson: subject.lesson,
            lesson_folder: subject.lesson_folder,
            participant: subject.participant,
            name: subject.display_name.clone(),
            role: subject.role,
            tick_utc,
            tick_local: tick_utc.to_offset(offset),
            captured_at: shot.map(|shot| captured_at(tick_utc, decision.tick.at, shot.captured)),
            clock: shot.map(|shot| shot.clock.into()),
            media_time_ms: media_time.and_then(|time| u64::try_from(time.as_millis()).ok()),
            width: None,
            height: None,
            layer: None,
            bytes: None,
            sha256: None,
            statistics: None,
            consent_version: subject.consent_version,
            status,
            path: None,
        }
    }

    /// The row as it stands in the manifest, with its line end.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a row has only text keys and finite numbers");
        line.push(b'\n');
        line
    }
}

/// In whole milliseconds: nobody's clock is better, and every JSON reader takes three digits.
fn captured_at(tick_utc: OffsetDateTime, tick: Instant, captured: Instant) -> OffsetDateTime {
    let millis =
        |time: std::time::Duration| Duration::milliseconds(i64::try_from(time.as_millis()).unwrap_or(0));
    tick_utc + millis(captured.saturating_duration_since(tick))
        - millis(tick.saturating_duration_since(captured))
}

/// A path grammar type as JSON text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_rows_are_the_words_in_the_code() {
        for status in CaptureStatus::ALL {
            assert_eq!(serde_json::to_value(status).expect("a word"), status.as_str());
        }
    }

    #[test]
    fn the_documented_rows_are_rows() {
        let document = include_str!("../../docs/captures.md");
        let rows: Vec<CaptureRow> = document
            .split("```json\n")
            .skip(1)
            .map(|block| block.split("```").next().unwrap_or_default())
            .map(|row| serde_json::from_str(row).expect("the example is a row"))
            .collect();
        assert_eq!(
            rows.iter().map(|row| row.status).collect::<Vec<_>>(),
            [CaptureStatus::Ok, CaptureStatus::CameraOff]
        );
        for row in &rows {
            let line: serde_json::Value = serde_json::from_slice(&row.to_line()).expect("JSON");
            for field in line.as_object().expect("an object").keys() {
                assert!(
                    document.contains(&format!("| `{field}` |")),
                    "{field} is not described"
                );
            }
            let path = row
                .path
                .as_ref()
                .map(|path| path.parse::<seodang_model::CapturePath>());
            assert!(path.is_none_or(|path| path.is_ok()));
        }
        for status in CaptureStatus::ALL {
            assert!(
                document.contains(&format!("| `{}` |", status.as_str())),
                "{}",
                status.as_str()
            );
        }
    }
}
