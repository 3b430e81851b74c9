//! The pages and what they load.

use warp::filters::BoxedFilter;
use warp::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::path::Tail;
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::pages::Page;
use crate::routes::get_or_head;

/// Nothing but our own files, no inline script or style, in nobody's frame. The WebSocket of the same host is named
/// beside `'self'`, which older browsers do not take to cover it.
fn policy(headers: &HeaderMap) -> HeaderValue {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
        });
    let sockets = host
        .map(|host| format!(" ws://{host} wss://{host}"))
        .unwrap_or_default();
    let policy = format!(
        "default-src 'self'; connect-src 'self'{sockets}; img-src 'self' blob: data:; media-src 'self' blob:; \
         object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    );
    HeaderValue::try_from(policy).expect("words of ours and a checked host")
}

/// Our own pages alone may ask for camera, microphone and screen.
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), \
                           autoplay=(self), geolocation=(), payment=(), usb=()";
/// What is shown where there is no page; `web/404.html` takes its place if there is one.
const NOT_FOUND: &str = "<!doctype html><html lang=\"ko\"><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><title>서당 · 404</title>\
    <h1>이 주소에는 아무것도 없습니다</h1><p lang=\"en\">There is nothing at this address.</p>\
    <p><a href=\"/\">서당 Seodang</a></p></html>";

/// `/`, `/class/{number}`, `/recordings/{number}` and `/assets/...`.
pub(super) fn routes() -> BoxedFilter<(Response,)> {
    let start = warp::path::end().map(|| "index.html".to_owned());
    let class = warp::path!("class" / String).map(|_| "class.html".to_owned());
    let recordings = warp::path!("recordings" / String).map(|_| "recordings.html".to_owned());
    let icon = warp::path!("favicon.ico").map(|| "favicon.svg".to_owned());
    let asset = warp::path("assets")
        .and(warp::path::tail())
        .and_then(|tail: Tail| async move {
            // Pages have their own addresses; one file under two would be cached twice.
            let name = tail.as_str();
            if name.ends_with(".html") {
                Err(warp::reject::not_found())
            } else {
                Ok::<_, Rejection>(name.to_owned())
            }
        });
    get_or_head()
        .and(
            start
                .or(class)
                .unify()
                .or(recordings)
                .unify()
                .or(icon)
                .unify()
                .or(asset)
                .unify(),
        )
        .and(warp::header::headers_cloned())
        .and_then(|name: String, headers: HeaderMap| async move {
            Page::find(&name)
                .map(|page| answer(page, &headers))
                .ok_or_else(warp::reject::not_found)
        })
        .boxed()
}

/// A browser that asks for a page where there is none gets one that leads back.
pub(super) fn nowhere() -> BoxedFilter<(Response,)> {
    get_or_head()
        .and(warp::header::headers_cloned())
        .and(warp::path::full())
        .and_then(|headers: HeaderMap, path: warp::path::FullPath| async move {
            let accepts = headers.get(ACCEPT).and_then(|types| types.to_str().ok());
            let wants_page = accepts.is_some_and(|types| types.contains("text/html"));
            if wants_page && !path.as_str().starts_with("/api/") {
                Ok(not_found(&headers))
            } else {
                Err(warp::reject::not_found())
            }
        })
        .boxed()
}

fn answer(page: Page, headers: &HeaderMap) -> Response {
    let etag = page.etag();
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| {
            tags.split(',')
                .any(|tag| tag.trim().trim_start_matches("W/") == etag)
        });
    let content_type = page.content_type;
    let mut response = if known {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        match page.file.data {
            std::borrow::Cow::Borrowed(bytes) => Response::new(bytes.into()),
            std::borrow::Cow::Owned(bytes) => Response::new(bytes.into()),
        }
    };
    let fields = response.headers_mut();
    fields.insert(
        ETAG,
        HeaderValue::try_from(etag).expect("hexadecimal digits in quotes"),
    );
    // Asked again each time and answered with 304: an update reaches everyone at the next load.
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    add_page_headers(&mut response, headers, content_type);
    response
}

fn not_found(asked: &HeaderMap) -> Response {
    let mut response = match Page::find("404.html") {
        Some(page) => Response::new(page.file.data.into_owned().into()),
        None => Response::new(NOT_FOUND.into()),
    };
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    add_page_headers(&mut response, asked, "text/html; charset=utf-8");
    response
}

fn add_page_headers(response: &mut Response, asked: &HeaderMap, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, policy(asked));
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(PERMISSIONS),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
}
