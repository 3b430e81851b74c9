//! Opens a room's lesson, or goes on with the one that a restart interrupted.

use std::time::{Duration, Instant};

use seodang_model::{LessonFolder, LessonId};
use time::{OffsetDateTime, UtcOffset};

use super::Shared;
use crate::lesson::Lesson;
use crate::store::{LessonEnd, LessonRecord, RoomRecord, StoreError};

/// Lessons of one room that may begin in one second.
const FOLDER_TRIES: u32 = 8;

/// A lesson that was opened.
pub(super) struct Opened {
    pub(super) lesson: Lesson,
    /// The newest line of the room's chat.
    pub(super) newest_chat_line: i64,
    /// Whether it goes on after a restart.
    pub(super) reopened: bool,
    /// The end that a restart interrupted.
    pub(super) ending: Option<LessonEnd>,
}

/// Opens the lesson of a room.
pub(super) async fn open(shared: &Shared, room: RoomRecord) -> Result<Opened, StoreError> {
    let (record, reopened) = match shared.store.open_lesson(room.id).await? {
        Some(record) => (record, true),
        None => (add(shared, &room).await?, false),
    };
    let newest_chat_line = shared.store.newest_chat_line(room.id).await?;
    let now = Instant::now();
    let config = &shared.config;
    let mut lesson = Lesson::new(room, record, config.lesson_limits(), config.capture_period_s, now);
    if reopened {
        for seat in shared.store.seats(record.id).await? {
            lesson.restore(now, seat);
        }
    }
    Ok(Opened {
        lesson,
        newest_chat_line,
        reopened,
        ending: record.ending,
    })
}

async fn add(shared: &Shared, room: &RoomRecord) -> Result<LessonRecord, StoreError> {
    let started_at = OffsetDateTime::now_utc();
    let mut tries = 0;
    loop {
        // A room that is closed and opened again within a second: the folder is a name, not a clock.
        let local = in_zone(started_at, &shared.config.time_zone) + Duration::from_secs(tries.into());
        let record = LessonRecord {
            id: LessonId::random(),
            room: room.id,
            folder: LessonFolder::of(local),
            started_at,
            ending: None,
        };
        match shared.store.add_lesson(&record).await {
            Err(StoreError::LessonTaken) if tries < FOLDER_TRIES => tries += 1,
            Err(error) => return Err(error),
            // As it is stored: whole milliseconds.
            Ok(()) => {
                return Ok(LessonRecord {
                    started_at: truncate(started_at),
                    ..record
                });
            }
        }
    }
}

fn truncate(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_millisecond(time.millisecond()).unwrap_or(time)
}

/// The same instant with the zone's offset.
fn in_zone(time: OffsetDateTime, zone: &jiff::tz::TimeZone) -> OffsetDateTime {
    let offset_s = jiff::Timestamp::from_second(time.unix_timestamp())
        .map_or(0, |timestamp| zone.to_offset(timestamp).seconds());
    time.to_offset(UtcOffset::from_whole_seconds(offset_s).unwrap_or(UtcOffset::UTC))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn folders_carry_the_schools_own_time() {
        let seoul = jiff::tz::TimeZone::get("Asia/Seoul").expect("a zone");
        let local = in_zone(datetime!(2026-11-21 00:00:05.7 UTC), &seoul);
        assert_eq!(LessonFolder::of(local).to_string(), "20261121_090005");
        assert_eq!(
            truncate(datetime!(2026-11-21 00:00:05.123456 UTC)),
            datetime!(2026-11-21 00:00:05.123 UTC)
        );
    }
}
