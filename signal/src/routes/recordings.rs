//! A room's recordings, for its hosts.

use seodang_model::{RecordingId, RoomNumber};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use seodang_model::protocol::ErrorCode;
use seodang_model::{LessonId, ParticipantId, RecordingKind};

use crate::error::{ApiError, json, reply};
use crate::routes::file::{self, StoredFile};
use crate::routes::{App, get_or_head, host, unavailable};
use crate::server::Peer;
use crate::store::{RecordingRecord, RecordingState};

/// `recordings` and `recordings/{id}` of a room.
pub(super) fn routes(app: &App) -> BoxedFilter<(Response,)> {
    let list = warp::path!("api" / "v1" / "rooms" / String / "recordings")
        .and(get_or_head())
        .and(app.filter())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .then(|number: String, app: App, headers: HeaderMap, peer| async move {
            reply(list(&app, &number, &headers, peer).await)
        });
    let fetch = warp::path!("api" / "v1" / "rooms" / String / "recordings" / String)
        .and(get_or_head())
        .and(app.filter())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .and(
            warp::query::<Options>()
                .or(warp::any().map(Options::default))
                .unify(),
        )
        .then(
            |number: String, id: String, app: App, method, headers, peer, options| async move {
                let request = file::Request {
                    method,
                    headers,
                    peer,
                };
                reply(fetch(&app, &number, &id, request, options).await)
            },
        );
    list.or(fetch).unify().boxed()
}

/// How a file is asked for.
#[derive(Debug, Default, Deserialize)]
struct Options {
    /// `1`: to be played in the page instead of saved.
    #[serde(default)]
    inline: Option<String>,
}

/// The answer to a list.
#[derive(Debug, Serialize)]
struct List {
    room: Room,
    lessons: Vec<Lesson>,
}

#[derive(Debug, Serialize)]
struct Room {
    number: RoomNumber,
    title: seodang_model::RoomTitle,
}

/// A lesson with its files, newest lesson first.
#[derive(Debug, Serialize)]
struct Lesson {
    id: LessonId,
    /// `YYYYMMDD_HHMMSS` in the server's time zone.
    folder: String,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    recordings: Vec<Recording>,
}

#[derive(Debug, Serialize)]
struct Recording {
    id: RecordingId,
    lesson: LessonId,
    participant: ParticipantId,
    name: String,
    kind: RecordingKind,
    state: RecordingState,
    file_name: String,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    offset_ms: Option<u64>,
    duration_ms: Option<u64>,
    size_bytes: Option<u64>,
    sha256: Option<String>,
    href: String,
}

async fn list(app: &App, number: &str, headers: &HeaderMap, peer: Peer) -> Result<Response, ApiError> {
    let room = host(app, number, headers, peer).await?;
    let rows = app.store.recordings_of_room(room.id).await.map_err(unavailable)?;
    let mut lessons: Vec<Lesson> = Vec::new();
    for row in rows {
        let recording = Recording::of(&room.number, &row);
        match lessons.last_mut().filter(|lesson| lesson.id == row.key.lesson) {
            Some(lesson) => lesson.recordings.push(recording),
            None => lessons.push(Lesson {
                id: row.key.lesson,
                folder: row.folder.to_string(),
                started_at: row.lesson_started_at,
                ended_at: row.lesson_ended_at,
                recordings: vec![recording],
            }),
        }
    }
    let room = Room {
        number: room.number,
        title: room.title,
    };
    Ok(json(StatusCode::OK, &List { room, lessons }))
}

impl Recording {
    fn of(number: &RoomNumber, row: &RecordingRecord) -> Self {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut path = row.path.clone();
        path.unfinished = false;
        Self {
            id: row.id,
            lesson: row.key.lesson,
            participant: row.key.participant,
            name: row.name.as_str().to_owned(),
            kind: row.key.kind,
            state: row.state,
            file_name: path.file_name(),
            started_at: row
                .offset
                .map_or(row.created_at, |offset| row.lesson_started_at + offset),
            offset_ms: row.offset.map(ms),
            duration_ms: row.duration.map(ms),
            size_bytes: row.size_bytes,
            sha256: row.sha256.clone(),
            href: format!("/api/v1/rooms/{number}/recordings/{}", row.id),
        }
    }
}

async fn fetch(
    app: &App,
    number: &str,
    id: &str,
    request: file::Request,
    options: Options,
) -> Result<Response, ApiError> {
    let room = host(app, number, &request.headers, request.peer).await?;
    let id: RecordingId = id.parse().map_err(|_| ApiError::not_found())?;
    let row = app
        .store
        .recording_of_room(room.id, id)
        .await
        .map_err(unavailable)?
        .ok_or_else(ApiError::not_found)?;
    let (true, Some(sha256)) = (row.state.is_done(), row.sha256) else {
        return Err(ApiError::new(
            ErrorCode::StillRecording,
            "the file is not finished yet",
        ));
    };
    let stored = StoredFile {
        root: app.config.recordings_folder(),
        file_name: row.path.file_name(),
        relative: row.path.to_string(),
        sha256,
        size_bytes: row.size_bytes,
        content_type: "video/webm",
        inline: options.inline.is_some_and(|value| value == "1"),
    };
    file::answer(app, room.id, request, stored).await
}
