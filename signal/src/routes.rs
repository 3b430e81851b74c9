//! Every address the program answers, group by group.

mod captures;
mod file;
mod health;
mod openapi;
mod pages;
mod recordings;
mod rooms;
mod socket;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, Method};
use warp::reply::Response;

use crate::auth::Credentials;
use crate::config::Config;
use crate::error::{self, ApiError};
use crate::files::Downloads;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::mirror::{Alive, Overload};
use crate::server::Peer;
use crate::store::{RoomRecord, Store, StoreError};
use seodang_model::protocol::ErrorCode;
use seodang_sfu::SfuHandle;

/// What the routes share; cloning is cheap.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) sfu: SfuHandle,
    pub(crate) downloads: Downloads,
    /// What could not be kept for want of time.
    pub(crate) overload: Arc<Overload>,
    /// Whether what keeps classes is at work.
    pub(crate) mirror: Alive,
    /// Whether every GStreamer element was found at the start.
    pub(crate) elements: bool,
    /// Cancelled when the server begins to stop.
    pub(crate) stop: CancellationToken,
}

impl App {
    /// Whether browsers reach the server over TLS, directly or through a proxy.
    pub(crate) fn is_secure(&self) -> bool {
        let public = self.config.public_url.as_deref();
        self.config.is_tls() || public.is_some_and(|url| url.starts_with("https://"))
    }

    /// A filter that hands the shared state to a handler.
    pub(crate) fn filter(
        &self,
    ) -> impl Filter<Extract = (Self,), Error = std::convert::Infallible> + Clone + use<> {
        let app = self.clone();
        warp::any().map(move || app.clone())
    }
}

/// All routes; whatever none of them takes is answered with an error.
pub(crate) fn all(app: &App) -> BoxedFilter<(Response,)> {
    health::routes(app)
        .or(openapi::routes())
        .unify()
        .or(socket::routes(app))
        .unify()
        .or(rooms::routes(app))
        .unify()
        .or(recordings::routes(app))
        .unify()
        .or(captures::routes(app))
        .unify()
        .or(pages::routes())
        .unify()
        .or(pages::nowhere())
        .unify()
        .recover(error::recover)
        .unify()
        .boxed()
}

/// `GET`, or `HEAD`, which is answered the same and sent without its body.
pub(crate) fn get_or_head() -> impl Filter<Extract = (), Error = warp::Rejection> + Copy {
    warp::method()
        .and_then(|method: Method| async move {
            if method == Method::GET || method == Method::HEAD {
                Ok(())
            } else {
                Err(warp::reject::not_found())
            }
        })
        .untuple_one()
}

/// The room, if the request comes from one of its hosts.
async fn host(app: &App, number: &str, headers: &HeaderMap, peer: Peer) -> Result<RoomRecord, ApiError> {
    app.hub
        .hosted_room(number, &Credentials::of(headers), peer.0.ip())
        .await
}

/// The database did not answer.
fn unavailable(error: StoreError) -> ApiError {
    tracing::error!(
        error = &error as &dyn std::error::Error,
        "the database did not answer"
    );
    ApiError::new(
        ErrorCode::Unavailable,
        "the database does not answer now; try again",
    )
}
