//! Probes for whoever watches the server, and its counters.

use std::time::Duration;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{AUTHORIZATION, CONTENT_TYPE};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use seodang_model::Token;

use crate::disk;
use crate::error::{ApiError, json};
use crate::health::{Observed, Readiness};
use crate::metrics::{counter_line, gauge_line};
use crate::routes::{App, get_or_head};
use crate::server::Peer;

/// A media worker that does not answer for this long is stuck: its loop turns every few milliseconds.
const MEDIA_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// `/livez`, `/readyz`, `/metrics`.
pub(super) fn routes(app: &App) -> BoxedFilter<(Response,)> {
    let alive = warp::path!("livez").map(|| Response::new("alive\n".into()));
    let ready = warp::path!("readyz").and(app.filter()).then(ready);
    let metrics = warp::path!("metrics")
        .and(app.filter())
        .and(warp::ext::get::<Peer>())
        .and(warp::header::headers_cloned())
        .then(metrics);
    get_or_head()
        .and(alive.or(ready).unify().or(metrics).unify())
        .boxed()
}

async fn ready(app: App) -> Response {
    let readiness = Readiness::of(Observed {
        draining: app.stop.is_cancelled(),
        database: app.store.check().await.is_ok(),
        media: tokio::time::timeout(MEDIA_ANSWERS_WITHIN, app.sfu.stats())
            .await
            .is_ok_and(|stats| !stats.is_empty()),
        mirror: app.mirror.is_alive(),
        elements: app.elements,
        disk: disk::space(&app.config.data).ok(),
    });
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &readiness)
}

/// For loopback, or whoever holds the token; for others the address does not exist.
async fn metrics(app: App, Peer(peer): Peer, headers: HeaderMap) -> Response {
    let presented = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(|token| Token::presented(token).hash());
    let wanted = app.config.metrics_token.as_ref().map(Token::hash);
    // A proxy on this machine is on loopback too, and says so.
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let is_local = peer.ip().to_canonical().is_loopback() && !forwarded;
    if !(is_local || wanted.is_some() && presented == wanted) {
        return ApiError::not_found().into_response();
    }
    let mut text = app.metrics.to_text();
    let stats = tokio::time::timeout(MEDIA_ANSWERS_WITHIN, app.sfu.stats())
        .await
        .unwrap_or_default();
    for (name, count) in stats {
        match name {
            // How many there are, not how many there were.
            "rooms" | "connections" | "receive_buffer_bytes" => {
                gauge_line(&mut text, &format!("seodang_sfu_{name}"), count)
            }
            _ => counter_line(&mut text, &format!("seodang_sfu_{name}_total"), count),
        }
    }
    let [video, audio, unopened] = app.overload.dropped();
    counter_line(&mut text, "seodang_mirror_video_packets_dropped_total", video);
    counter_line(&mut text, "seodang_mirror_audio_packets_dropped_total", audio);
    counter_line(
        &mut text,
        "seodang_mirror_unopened_frames_dropped_total",
        unopened,
    );
    if let Ok(space) = disk::space(&app.config.data) {
        gauge_line(&mut text, "seodang_disk_free_bytes", space.free_bytes);
    }
    let mut response = Response::new(text.into());
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
