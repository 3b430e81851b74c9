//! The accept loop: TCP, TLS, time-outs and limits around the warp filters.
//!
//! warp's own server has no header time-out, no TLS and no limits, so its filters are served from here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::http::uri::Authority;
use warp::http::{HeaderValue, Request, StatusCode, header};
use warp::reply::Response;

use super::stall::Stalling;
use crate::metrics::Metrics;

/// Most header lines of a request; browsers send about 20.
const MOST_HEADERS: usize = 64;
/// Most bytes of a request line with its headers, and of what is buffered of a body.
const MOST_HEADER_BYTES: usize = 16 * 1_024;
/// First byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// Pause after the system refused a connection, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Until a request's header, or a TLS handshake, is complete.
    pub(super) header_timeout: Duration,
    /// Without progress of a write.
    pub(super) write_stall: Duration,
}

/// Answers a request; the peer's address is given apart because a proxy header could be forged.
pub(super) trait Answer: Clone + Send + 'static {
    /// Never fails: errors are answers.
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

/// Accepts connections until `stop`, then lets the requests under way finish until `hard_stop`.
pub(super) struct Front<A> {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: Limits,
    pub(super) answer: A,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    pub(super) hard_stop: CancellationToken,
}

impl<A: Answer> Front<A> {
    /// Runs until every connection has ended.
    pub(super) async fn run(self) {
        let tracker = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let place = tokio::select! {
                () = self.stop.cancelled() => break,
                place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    // Answers are small and written whole; waiting for more would only delay them.
                    let _ = socket.set_nodelay(true);
                    let connection = Connection {
                        tls: self.tls.clone(),
                        limits: self.limits,
                        answer: self.answer.clone(),
                        metrics: self.metrics.clone(),
                        stop: self.stop.clone(),
                        peer,
                    };
                    let hard_stop = self.hard_stop.clone();
                    let (stall, metrics) = (self.limits.write_stall, self.metrics.clone());
                    tracker.spawn(async move {
                        tokio::select! {
                            () = hard_stop.cancelled() => {}
                            () = connection.run(socket, |socket| Stalling::new(socket, stall, metrics, place)) => {}
                        }
                    });
                }
                Err(error) => {
                    self.metrics.accept_failed();
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        tracker.close();
        tracker.wait().await;
    }
}

/// One accepted connection.
struct Connection<A> {
    tls: Option<TlsAcceptor>,
    limits: Limits,
    answer: A,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    peer: SocketAddr,
}

impl<A: Answer> Connection<A> {
    async fn run(self, socket: TcpStream, wrap: impl FnOnce(TcpStream) -> Stalling<TcpStream>) {
        let Some(tls) = self.tls.clone() else {
            return self.serve(wrap(socket), false).await;
        };
        let mut first = [0];
        match timeout(self.limits.header_timeout, socket.peek(&mut first)).await {
            Ok(Ok(1..)) if first == [TLS_HANDSHAKE] => {
                match timeout(self.limits.header_timeout, tls.accept(wrap(socket))).await {
                    Ok(Ok(stream)) => self.serve(stream, false).await,
                    // Browsers do this on every first visit, until the certificate is accepted.
                    Ok(Err(error)) => {
                        self.metrics.tls_failed();
                        tracing::debug!(%error, "tls handshake failed");
                    }
                    Err(_) => self.metrics.tls_failed(),
                }
            }
            Ok(Ok(1..)) => self.serve(wrap(socket), true).await,
            _ => {}
        }
    }

    /// Speaks HTTP/1.1; `to_tls` answers everything with the same address under https.
    async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: I, to_tls: bool) {
        let Self {
            answer,
            peer,
            stop,
            limits,
            ..
        } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let response = if to_tls {
                    redirect_to_tls(&request)
                } else {
                    answer.answer(request, peer).await
                };
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(MOST_HEADERS)
            .max_header_size(MOST_HEADER_BYTES)
            .max_buf_size(2 * MOST_HEADER_BYTES)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Somebody typed http:// where https:// is spoken.
fn redirect_to_tls(request: &Request<Incoming>) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .and_then(|host| host.parse::<Authority>().ok())
        .filter(|host| !host.as_str().contains('@'));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = host.and_then(|host| HeaderValue::try_from(format!("https://{host}{path}")).ok());
    let mut response = Response::new("this server speaks https only\n".into());
    match target {
        Some(target) => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(header::LOCATION, target);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
