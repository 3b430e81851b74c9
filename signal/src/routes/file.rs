//! Answers with a stored file: conditions, ranges, names, limits.

use std::path::PathBuf;

use seodang_model::RoomId;
use seodang_model::protocol::ErrorCode;
use warp::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::Response;

use crate::error::ApiError;
use crate::files::{content_disposition, open_below, stream};
use crate::range::{Conditions, Plan, plan};
use crate::routes::App;
use crate::server::Peer;

/// The parts of a request that decide what is sent.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) peer: Peer,
}

/// A file that may be sent: found in the database, and the asker is allowed to have it.
#[derive(Debug)]
pub(super) struct StoredFile {
    pub(super) root: PathBuf,
    pub(super) relative: String,
    pub(super) file_name: String,
    /// Its entity tag.
    pub(super) sha256: String,
    /// As the database knows it.
    pub(super) size_bytes: Option<u64>,
    pub(super) content_type: &'static str,
    pub(super) inline: bool,
}

/// Sends the file, or the part of it that is asked for.
pub(super) async fn answer(
    app: &App,
    room: RoomId,
    request: Request,
    stored: StoredFile,
) -> Result<Response, ApiError> {
    let Some(slot) = app.downloads.try_enter(room, request.peer.0.ip()) else {
        return Err(ApiError::new(ErrorCode::SlowDown, "too many downloads at a time"));
    };
    let (root, relative) = (stored.root.clone(), stored.relative.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let file = open_below(&root, &relative)?;
        let size_bytes = file.metadata()?.len();
        Ok::<_, std::io::Error>((file, size_bytes))
    });
    let (file, size_bytes) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            // The path holds a name and stays out of the log.
            tracing::error!(%error, "a file that the database knows cannot be opened");
            return Err(ApiError::not_found());
        }
        Err(_) => return Err(ApiError::internal()),
    };
    if stored.size_bytes.is_some_and(|known| known != size_bytes) {
        tracing::error!(size_bytes, "a finished file has changed its size");
        return Err(ApiError::internal());
    }

    let etag = format!("\"{}\"", stored.sha256);
    let field = |name: HeaderName| {
        request
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let conditions = Conditions {
        range: field(RANGE),
        if_range: field(IF_RANGE),
        if_none_match: field(IF_NONE_MATCH),
    };
    // RFC 9110 section 14.2: ranges are for GET alone.
    let conditions = if request.method == Method::GET {
        conditions
    } else {
        Conditions {
            range: None,
            ..conditions
        }
    };
    let (status, start, length_bytes) = match plan(conditions, &etag, size_bytes) {
        Plan::Whole => (StatusCode::OK, 0, size_bytes),
        Plan::Part(part) => (
            StatusCode::PARTIAL_CONTENT,
            *part.start(),
            part.end() - part.start() + 1,
        ),
        Plan::NotModified => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            add_headers(&mut response, &etag);
            return Ok(response);
        }
        Plan::Unsatisfiable => {
            let mut response =
                ApiError::new(ErrorCode::BadRange, "the range lies outside the file").into_response();
            response
                .headers_mut()
                .insert(CONTENT_RANGE, value(format!("bytes */{size_bytes}")));
            add_headers(&mut response, &etag);
            return Ok(response);
        }
    };
    let mut response = if request.method == Method::GET {
        stream(file, start, length_bytes, slot, app.metrics.clone())
            .await
            .map_err(|error| {
                tracing::error!(%error, "a file cannot be read");
                ApiError::internal()
            })?
    } else {
        Response::default()
    };
    *response.status_mut() = status;
    add_headers(&mut response, &etag);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(stored.content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length_bytes));
    headers.insert(
        CONTENT_DISPOSITION,
        value(content_disposition(stored.inline, &stored.file_name)),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let end = start + length_bytes - 1;
        headers.insert(CONTENT_RANGE, value(format!("bytes {start}-{end}/{size_bytes}")));
    }
    Ok(response)
}

fn add_headers(response: &mut Response, etag: &str) {
    let headers = response.headers_mut();
    headers.insert(ETAG, value(etag.to_owned()));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits, quotes and escaped names are allowed in a header")
}
