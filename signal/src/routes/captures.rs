//! A room's captures, for its hosts.

use seodang_model::CaptureId;
use seodang_model::protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::error::{ApiError, json, reply};
use crate::routes::file::{self, StoredFile};
use crate::routes::{App, get_or_head, host, unavailable};
use crate::server::Peer;

/// Rows of one answer, unless fewer are asked for.
const USUAL_LIMIT: u32 = 100;
/// Rows of one answer at most.
const MOST_LIMIT: u32 = 500;

/// `captures` and `captures/{id}` of a room.
pub(super) fn routes(app: &App) -> BoxedFilter<(Response,)> {
    let list = warp::path!("api" / "v1" / "rooms" / String / "captures")
        .and(get_or_head())
        .and(app.filter())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .and(
            warp::query::<Page>()
                .map(Some)
                .or(warp::any().map(|| None))
                .unify(),
        )
        .then(
            |number: String, app: App, headers: HeaderMap, peer, page| async move {
                reply(list(&app, &number, &headers, peer, page).await)
            },
        );
    let fetch = warp::path!("api" / "v1" / "rooms" / String / "captures" / String)
        .and(get_or_head())
        .and(app.filter())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .then(
            |number: String, id: String, app: App, method, headers, peer| async move {
                let request = file::Request {
                    method,
                    headers,
                    peer,
                };
                reply(fetch(&app, &number, &id, request).await)
            },
        );
    list.or(fetch).unify().boxed()
}

/// Which rows are asked for.
#[derive(Debug, Deserialize)]
struct Page {
    /// `next_cursor` of the answer before; absent for the first rows.
    #[serde(default)]
    cursor: Option<i64>,
    /// 1 to 500.
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize)]
struct List {
    /// The lines of `captures.jsonl` in their order, each with `href` where there is a picture.
    captures: Vec<Value>,
    /// Asks for what comes behind; stays the same until there is more.
    next_cursor: i64,
}

async fn list(
    app: &App,
    number: &str,
    headers: &HeaderMap,
    peer: Peer,
    page: Option<Page>,
) -> Result<Response, ApiError> {
    let room = host(app, number, headers, peer).await?;
    let wrong = || {
        ApiError::new(
            ErrorCode::BadMessage,
            "cursor is a number of an earlier answer, limit 1 to 500",
        )
    };
    let Page { cursor, limit } = page.ok_or_else(wrong)?;
    let (cursor, limit) = (cursor.unwrap_or(0), limit.unwrap_or(USUAL_LIMIT));
    if cursor < 0 || !(1..=MOST_LIMIT).contains(&limit) {
        return Err(wrong());
    }
    let rows = app
        .store
        .captures_after(room.id, cursor, limit)
        .await
        .map_err(unavailable)?;
    let next_cursor = rows.last().map_or(cursor, |row| row.number);
    let mut captures = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line: Value = serde_json::from_str(&row.line).map_err(|error| {
            tracing::error!(%error, capture.id = %row.id, "a line of the manifest is no JSON");
            ApiError::internal()
        })?;
        if let (true, Some(fields)) = (row.has_picture, line.as_object_mut()) {
            fields.insert(
                "href".to_owned(),
                format!("/api/v1/rooms/{}/captures/{}", room.number, row.id).into(),
            );
        }
        captures.push(line);
    }
    Ok(json(
        StatusCode::OK,
        &List {
            captures,
            next_cursor,
        },
    ))
}

async fn fetch(app: &App, number: &str, id: &str, request: file::Request) -> Result<Response, ApiError> {
    let room = host(app, number, &request.headers, request.peer).await?;
    let id: CaptureId = id.parse().map_err(|_| ApiError::not_found())?;
    let picture = app
        .store
        .picture_of_room(room.id, id)
        .await
        .map_err(unavailable)?
        .ok_or_else(ApiError::not_found)?;
    let stored = StoredFile {
        root: app.config.captures_folder(),
        file_name: picture.path.file_name(),
        relative: picture.path.to_string(),
        sha256: picture.sha256,
        size_bytes: None,
        content_type: "image/jpeg",
        inline: true,
    };
    file::answer(app, room.id, request, stored).await
}
