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
use crate::store::{RoomRecord, Store, StoreError};
use seodang_model::RoomNumber;
use seodang_model::protocol::ErrorCode;

/// What the routes share; cloning is cheap.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) downloads: Downloads,
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
///
/// Nothing is said about a room to anybody else: a wrong token and an unknown number get the same answer.
async fn host(app: &App, number: &str, headers: &HeaderMap) -> Result<RoomRecord, ApiError> {
    let number: RoomNumber = number.parse().map_err(|_| ApiError::not_found())?;
    let credentials = Credentials::of(headers);
    if !credentials.claims(&number) {
        return Err(ApiError::new(
            ErrorCode::Unauthorized,
            "this is for the hosts of the room",
        ));
    }
    app.store
        .room_by_number(&number)
        .await
        .map_err(unavailable)?
        .filter(|room| credentials.is_host(&number, room.host_token_hash))
        .ok_or_else(ApiError::not_found)
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
