//! The WebSocket of a class: `GET /api/v1/ws`.

use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::reply::Response;
use warp::ws::Ws;
use warp::{Filter, Reply as _};

use crate::auth::{self, Credentials};
use crate::error::ApiError;
use crate::routes::App;
use crate::server::Peer;
use crate::session::{self, MOST_READ_BYTES};

/// The upgrade.
pub(super) fn routes(app: &App) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "v1" / "ws")
        .and(warp::ws())
        .and(app.filter())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .map(|ws: Ws, app: App, headers: HeaderMap, Peer(peer): Peer| {
            open(ws, &app, &headers, peer.ip()).unwrap_or_else(ApiError::into_response)
        })
        .boxed()
}

fn open(ws: Ws, app: &App, headers: &HeaderMap, address: std::net::IpAddr) -> Result<Response, ApiError> {
    auth::check_origin(headers, app.config.public_url.as_deref())?;
    let hub = app.hub.clone();
    let place = hub.place(address)?;
    let credentials = Credentials::of(headers);
    let upgraded = ws
        .max_message_size(MOST_READ_BYTES)
        .max_frame_size(MOST_READ_BYTES)
        .on_upgrade(move |socket| {
            hub.clone()
                .track(session::run(socket, hub, credentials, address, place))
        });
    Ok(upgraded.into_response())
}
