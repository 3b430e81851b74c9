//! Every address the program answers, group by group.

mod health;
mod pages;

use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::Method;
use warp::reply::Response;

use crate::config::Config;
use crate::error;
use crate::health::Health;
use crate::metrics::Metrics;

/// What the routes share; cloning is cheap.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
}

impl App {
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
