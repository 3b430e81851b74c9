//! Starts and stops everything, in this order.
//!
//! Start: data folder (and its lock), database, TCP port, media workers, mirror, rooms and lessons, pages and API.
//! Stop: no new connection, everybody is told, files on the disk, requests under way finish, media workers, database,
//! data folder free. Tests and the program call the same [`start`].

mod accept;
mod stall;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use warp::filters::BoxedFilter;
use warp::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use warp::reply::Response;

use crate::config::{Config, ConfigError};
use crate::data::{DataError, DataFolder};
use crate::elements;
use crate::erasure;
use crate::error::ApiError;
use crate::files::Downloads;
use crate::hub::{Hub, HubConfig, HubParts};
use crate::metrics::{Metrics, Route};
use crate::mirror::{Keeping, KeepingConfig, Mirror, Recovered, recover_recordings};
use crate::routes::{self, App};
use crate::store::{Store, StoreError};
use crate::tls::{Identity, TlsError, interface_addresses};
use accept::{Answer, Front, Limits};
use seodang_model::protocol::ErrorCode;
use seodang_recorder::RecorderError;
use seodang_sfu::{Sfu, SfuConfig, SfuError};

/// From the wish to stop until the process may end; files are finished within it.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Of which the files get what is left up to here once everybody has been told.
const FILES_WITHIN: Duration = Duration::from_millis(7_500);
/// And everything else up to here; what hangs then is left behind.
const ALL_WITHIN: Duration = Duration::from_millis(9_500);
/// Of which requests under way get this much to finish, which they had all the while.
const REQUESTS_WITHIN: Duration = Duration::from_secs(1);
/// Longest that a request may take to be read and answered; the body of the answer may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Longest address; ours have at most 200 bytes.
const MOST_ADDRESS_BYTES: usize = 2_048;

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The database cannot be opened.
    #[error("database")]
    Store(#[from] StoreError),
    /// The media workers cannot start.
    #[error("media")]
    Media(#[from] SfuError),
    /// The recordings folder cannot be looked through.
    #[error("recordings")]
    Recover(#[from] RecorderError),
    /// The threads that keep a class cannot be started.
    #[error("threads for recordings")]
    Keeping(#[source] std::io::Error),
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TCP address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// The other end of the connection, given to routes as a request extension.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    urls: Vec<String>,
    fingerprint: Option<String>,
    hub: Hub,
    running: JoinHandle<()>,
}

/// Starts everything; cancelling `shutdown` stops it.
///
/// # Errors
/// When something cannot be started; what had been started is stopped again.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Server, StartError> {
    let config = Arc::new(config);
    let data = DataFolder::open(&config.data)?;
    let store = Store::open(&config.data.join("seodang.db")).await?;
    let identity = Identity::of_config(&config)?;
    let tls = identity
        .as_ref()
        .map(Identity::server_config)
        .transpose()?
        .map(TlsAcceptor::from);
    let asked = config.bind_address();
    let listener = TcpListener::bind(asked)
        .await
        .map_err(|source| StartError::Listen {
            address: asked,
            source,
        })?;
    let address = listener.local_addr().map_err(|source| StartError::Listen {
        address: asked,
        source,
    })?;

    let time_zone = config.zone()?;
    let metrics = Arc::new(Metrics::default());
    let stop = CancellationToken::new();
    let (media, sfu, sfu_events) = Sfu::start(media_config(&config))?;
    let ends = Mirror::ends();
    let parts = HubParts {
        store: store.clone(),
        sfu: sfu.clone(),
        sfu_events,
        mirror: ends.mirror,
        mirror_reports: ends.reports,
    };
    let keep = Duration::from_secs(3_600 * u64::from(config.discarded_keep_hours));
    let keeping = KeepingConfig {
        recordings: config.recordings_folder(),
        captures: config.captures_folder(),
        capture_period: Duration::from_secs(u64::from(config.capture_period_s)),
        jpeg_quality: config.capture_quality,
        capture_layer: config.capture_size() != config.recording_size(),
        time_zone,
        discarded_keep: keep,
    };
    let keeping = match Keeping::start(&keeping, store.clone(), sfu.clone(), ends.commands, ends.reporter) {
        Ok(keeping) => keeping,
        Err(error) => {
            stop_media(media).await;
            return Err(StartError::Keeping(error));
        }
    };
    let hub = match Hub::start(parts, HubConfig::of(&config)).await {
        Ok(hub) => hub,
        Err(error) => {
            keeping.shutdown(Instant::now() + FILES_WITHIN).await;
            stop_media(media).await;
            return Err(error.into());
        }
    };
    let app = App {
        hub: hub.clone(),
        sfu,
        store: store.clone(),
        downloads: Downloads::default(),
        config: config.clone(),
        elements: elements_are_there().await,
        overload: keeping.overload(),
        mirror: keeping.alive(),
        stop: stop.clone(),
        metrics: metrics.clone(),
    };
    let hard_stop = CancellationToken::new();
    let front = Front {
        listener,
        tls,
        limits: limits(&config),
        answer: Routes {
            filter: routes::all(&app),
            metrics: metrics.clone(),
        },
        metrics,
        stop: stop.clone(),
        hard_stop: hard_stop.clone(),
    };
    let front = tokio::spawn(front.run());
    let erasing = tokio::spawn(erasure::run(
        store.clone(),
        config.recordings_folder(),
        keep,
        stop.clone(),
    ));
    let urls = urls(&config, address);
    tracing::info!(%address, tls = identity.is_some(), "serving");

    let rooms = hub.clone();
    let running = tokio::spawn(async move {
        shutdown.cancelled().await;
        tracing::info!("stopping");
        let begin = Instant::now();
        stop.cancel();
        hub.shutdown().await;
        keeping.shutdown(begin + FILES_WITHIN).await;
        let rest = async {
            let mut front = front;
            if tokio::time::timeout(REQUESTS_WITHIN, &mut front).await.is_err() {
                hard_stop.cancel();
                let _ = front.await;
            }
            stop_media(media).await;
            let _ = erasing.await;
            store.close().await;
        };
        if tokio::time::timeout_at((begin + ALL_WITHIN).into(), rest)
            .await
            .is_err()
        {
            tracing::error!("something hangs and is left behind");
        }
        drop(data);
        tracing::info!("stopped");
    });
    Ok(Server {
        address,
        urls,
        fingerprint: identity.map(|identity| identity.fingerprint()),
        hub: rooms,
        running,
    })
}

/// Finishes what a crash left, for `seodang recover`; refused while a server uses the data folder.
///
/// # Errors
/// When the data folder is in use, or it or the database cannot be read.
pub async fn recover(config: &Config) -> Result<Recovered, StartError> {
    let data = DataFolder::open(&config.data)?;
    let store = Store::open(&config.data.join("seodang.db")).await?;
    let recovered = recover_recordings(&store, config.recordings_folder()).await?;
    store.close().await;
    drop(data);
    Ok(recovered)
}

impl Server {
    /// The bound TCP address; its port is the true one where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a browser finds the start page, without a slash at the end; the best of [`Self::urls`].
    #[must_use]
    pub fn url(&self) -> &str {
        &self.urls[0]
    }

    /// Every address of the start page: the configured one, or one for each network interface; never empty.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// SHA-256 fingerprint of the certificate that is served, if TLS is.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The rooms, for who runs in the same process.
    #[must_use]
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Waits until everything has stopped.
    pub async fn finished(self) {
        if let Err(error) = self.running.await {
            tracing::error!(%error, "the server ended with a fault");
        }
    }
}

/// The warp filters with what every answer carries.
#[derive(Clone)]
struct Routes {
    filter: BoxedFilter<(Response,)>,
    metrics: Arc<Metrics>,
}

impl Answer for Routes {
    async fn answer(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Response {
        let path = request.uri().path();
        let route = Route::of(path);
        tracing::debug!(method = %request.method(), path, "request");
        let mut response = if request
            .uri()
            .path_and_query()
            .map_or(0, |path| path.as_str().len())
            > MOST_ADDRESS_BYTES
        {
            let mut response =
                ApiError::new(ErrorCode::BadMessage, "the address is too long").into_response();
            *response.status_mut() = StatusCode::URI_TOO_LONG;
            response
        } else {
            request.extensions_mut().insert(Peer(peer));
            let answer = warp::service(self.filter.clone()).call(request);
            match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => ApiError::new(ErrorCode::Unavailable, "the request took too long").into_response(),
            }
        };
        let headers = response.headers_mut();
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        );
        self.metrics.answered(route, response.status().as_u16());
        response
    }
}

/// Its threads are joined, which blocks for some milliseconds.
async fn stop_media(media: Sfu) {
    if tokio::task::spawn_blocking(move || media.shutdown())
        .await
        .is_err()
    {
        tracing::error!("a media worker ended with a fault");
    }
}

fn media_config(config: &Config) -> SfuConfig {
    SfuConfig {
        bind: config.media_bind,
        port: config.media_port,
        tcp: config.media_tcp,
        workers: config.media_workers(),
        worker_seats: config.worker_seats,
        candidates: config.media_addresses.clone(),
        publisher_bitrate_bps: config.media_bitrate_bps,
        recording_size: config.recording_size(),
        capture_size: config.capture_size(),
    }
}

fn limits(config: &Config) -> Limits {
    // Files, database and media need descriptors too.
    let by_system = crate::disk::most_open_files().map_or(u64::MAX, |most| most / 4 * 3);
    Limits {
        connections: usize::try_from(u64::from(config.connections).min(by_system)).unwrap_or(usize::MAX),
        header_timeout: Duration::from_millis(config.header_timeout_ms),
        write_stall: Duration::from_millis(config.write_stall_ms),
    }
}

/// Looks for the elements and says which are missing; classes go on without, recordings and captures do not.
async fn elements_are_there() -> bool {
    match tokio::task::spawn_blocking(elements::missing).await {
        Ok(Ok(missing)) => {
            for element in &missing {
                tracing::error!(
                    element = element.name,
                    package = element.package,
                    needed_for = element.needed_for,
                    "a GStreamer element is missing"
                );
            }
            missing.is_empty()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "GStreamer does not start");
            false
        }
        Err(_) => false,
    }
}

fn urls(config: &Config, address: SocketAddr) -> Vec<String> {
    if let Some(url) = &config.public_url {
        return vec![url.clone()];
    }
    let scheme = if config.is_tls() { "https" } else { "http" };
    let mut hosts = vec![address.ip()];
    if address.ip().is_unspecified() {
        hosts = interface_addresses(false);
        hosts.retain(|host| host.is_ipv4() || address.is_ipv6());
        hosts.push(Ipv4Addr::LOCALHOST.into());
    }
    hosts
        .iter()
        .map(|host| format!("{scheme}://{}", SocketAddr::new(*host, address.port())))
        .collect()
}

#[cfg(test)]
mod tests;
