//! The real server on a free port, spoken to over TCP and TLS.

mod client;
mod files;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use client::{Answered, get, send, send_tls};

/// A server with its data folder, stopped when dropped.
struct Place {
    server: Option<Server>,
    shutdown: CancellationToken,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Place {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            media_bind: "127.0.0.1".parse().expect("an address"),
            media_port: 0,
            data: folder.path().join("data"),
            ..Config::default()
        };
        change(&mut config);
        let shutdown = CancellationToken::new();
        let server = start(config.clone(), shutdown.clone()).await.expect("a server");
        Self {
            server: Some(server),
            shutdown,
            config,
            _folder: folder,
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.server().address().port())
    }

    async fn get(&self, path: &str) -> Answered {
        get(self.address(), path, "").await
    }

    async fn stop(&mut self) {
        self.shutdown.cancel();
        let server = self.server.take().expect("running");
        tokio::time::timeout(STOP_WITHIN, server.finished())
            .await
            .expect("stops in time");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn media_comes_over_tcp_unless_that_is_switched_off() {
    for media_tcp in [true, false] {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let media = free.local_addr().expect("bound");
        drop(free);
        let mut place = Place::start(|config| {
            (config.media_port, config.workers) = (media.port(), 1);
            config.media_tcp = media_tcp;
        })
        .await;
        assert_eq!(TcpStream::connect(media).await.is_ok(), media_tcp);
        place.stop().await;
    }
}

#[tokio::test]
async fn pages_carry_the_headers_that_protect_them() {
    let place = Place::start(|_| {}).await;
    for (path, status) in [
        ("/", 200),
        ("/class/7b", 200),
        ("/recordings/7b", 200),
        ("/nowhere", 404),
    ] {
        let answer = get(place.address(), path, "Accept: text/html\r\n").await;
        assert_eq!(answer.status, status, "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        assert!(policy.contains("connect-src 'self' ws://test.example wss://test.example;"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert!(
            answer
                .header("permissions-policy")
                .is_some_and(|value| value.contains("camera=(self)"))
        );
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    }
}

#[tokio::test]
async fn a_forged_host_does_not_reach_the_policy() {
    let place = Place::start(|_| {}).await;
    let request = "GET / HTTP/1.1\r\nHost: x; script-src *\r\nConnection: close\r\n\r\n";
    let answer = send(place.address(), request).await;
    assert!(
        answer
            .header("content-security-policy")
            .is_none_or(|policy| !policy.contains("script-src"))
    );
}

#[tokio::test]
async fn a_page_that_is_known_is_not_sent_again() {
    let place = Place::start(|_| {}).await;
    let first = place.get("/assets/js/protocol.js").await;
    assert_eq!(
        (first.status, first.header("content-type")),
        (200, Some("text/javascript; charset=utf-8"))
    );
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    let etag = first.header("etag").expect("an entity tag");
    let again = get(
        place.address(),
        "/assets/js/protocol.js",
        &format!("If-None-Match: {etag}\r\n"),
    )
    .await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = send(
        place.address(),
        "HEAD /assets/js/protocol.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn no_path_leads_out_of_the_pages() {
    let place = Place::start(|_| {}).await;
    for path in [
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/Cargo.toml",
        "/assets//etc/passwd",
        "/assets/js/%00",
        "/assets/package.json",
        "/assets/index.html",
        "/assets/",
        "/assets/js",
        "/class/a/b",
        "/class",
        "/index.html",
    ] {
        let answer = place.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn probes_answer_and_an_unknown_address_is_a_json_error() {
    let place = Place::start(|_| {}).await;
    assert_eq!(place.get("/livez").await.status, 200);
    let ready: serde_json::Value = serde_json::from_slice(&place.get("/readyz").await.body).expect("json");
    assert_eq!(
        (&ready["ready"], &ready["reasons"]),
        (&true.into(), &serde_json::json!([]))
    );
    let metrics = place.get("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("seodang_http_requests_total{route=\"health\",code=\"200\"}")
    );
    let by_proxy = get(place.address(), "/metrics", "X-Forwarded-For: 203.0.113.9\r\n").await;
    assert_eq!(by_proxy.status, 404);
    let lost = place.get("/api/v1/nothing").await;
    assert_eq!(
        (lost.status, lost.error_code().as_deref()),
        (404, Some("not_found"))
    );
}

#[tokio::test]
async fn an_unfinished_header_is_closed_in_time() {
    let place = Place::start(|config| config.header_timeout_ms = 200).await;
    for beginning in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let started = Instant::now();
        let mut socket = TcpStream::connect(place.address()).await.expect("connects");
        socket.write_all(beginning.as_bytes()).await.expect("written");
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(3), socket.read_to_end(&mut rest))
            .await
            .expect("closed by the server")
            .expect("an orderly end");
        assert!(started.elapsed() >= Duration::from_millis(150), "{beginning:?}");
    }
}

#[tokio::test]
async fn oversize_requests_are_refused_and_others_still_answered() {
    let place = Place::start(|_| {}).await;
    let long = format!("/{}", "a".repeat(3_000));
    assert_eq!(place.get(&long).await.status, 414);
    let many: String = (0..100).map(|index| format!("X-{index}: y\r\n")).collect();
    assert_eq!(get(place.address(), "/livez", &many).await.status, 431);
    let large = format!("X: {}\r\n", "y".repeat(40_000));
    assert_eq!(get(place.address(), "/livez", &large).await.status, 431);
    assert_eq!(place.get("/livez").await.status, 200);
}

#[tokio::test]
async fn lan_serves_tls_with_its_own_certificate_and_sends_plain_http_there() {
    let place = Place::start(|config| {
        config.lan = true;
        config.header_timeout_ms = 300;
    })
    .await;
    let fingerprint = place.server().fingerprint().expect("tls").to_owned();
    assert!(place.server().url().starts_with("https://"));

    let (answer, seen) = send_tls(
        place.address(),
        "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!((answer.status, seen), (200, fingerprint));

    let plain = get(place.address(), "/class/7b?x=1", "").await;
    assert_eq!(
        (plain.status, plain.header("location")),
        (308, Some("https://test.example/class/7b?x=1"))
    );

    // A handshake that never goes on is closed too.
    let mut socket = TcpStream::connect(place.address()).await.expect("connects");
    socket.write_all(&[22, 3, 1]).await.expect("written");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(3), socket.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "closed by the server");
}

#[tokio::test]
async fn a_stopped_server_has_let_go_of_everything() {
    let mut place = Place::start(|_| {}).await;
    let address = place.address();
    // A connection in the middle of a request must not hold the end up.
    let mut idle = TcpStream::connect(address).await.expect("connects");
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        .await
        .expect("written");
    let started = Instant::now();

    place.stop().await;

    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(address).await.is_err(), "no longer listening");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(1), idle.read_to_end(&mut rest))
        .await
        .expect("closed");
    DataFolder::open(&place.config.data).expect("the data folder is free");
}

#[tokio::test]
async fn what_cannot_be_had_is_said_and_leaves_nothing_running() {
    let place = Place::start(|_| {}).await;
    let taken = Config {
        data: place.config.data.join("other"),
        listen: place.server().address(),
        ..place.config.clone()
    };
    let error = start(taken.clone(), CancellationToken::new())
        .await
        .expect_err("the port is taken");
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    DataFolder::open(&taken.data).expect("let go of");
    let same = start(
        Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            ..place.config.clone()
        },
        CancellationToken::new(),
    );
    assert!(matches!(
        same.await,
        Err(StartError::Data(DataError::InUse { .. }))
    ));
}

#[tokio::test]
async fn every_operation_of_the_api_document_is_answered_by_a_route() {
    let place = Place::start(|_| {}).await;
    let document = place.get("/api/v1/openapi.json").await.json();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let asked = path
            .replace("{number}", "no-such-room")
            .replace("{id}", "00000000000000000000000000");
        for (method, operation) in operations.as_object().expect("operations") {
            let request = format!(
                "{} {asked} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                method.to_uppercase()
            );
            let answer = send(place.address(), &request).await;
            let routed = answer.status != 404 || answer.error_code().as_deref() == Some("unknown_room");
            assert!(routed, "{method} {path} is answered like an unknown address");
            // Upgrades ask for more than this request brings.
            let documented = operation["responses"].get(answer.status.to_string()).is_some();
            assert!(
                documented || path == "/api/v1/ws",
                "{method} {path} answers {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn metrics_are_read_from_elsewhere_with_the_token_alone() {
    let place =
        Place::start(|config| config.metrics_token = Some(seodang_model::Token::presented("hush"))).await;
    for (token, status) in [("hush", 200), ("other", 404), ("", 404)] {
        let headers = format!("X-Forwarded-For: 203.0.113.9\r\nAuthorization: Bearer {token}\r\n");
        assert_eq!(
            get(place.address(), "/metrics", &headers).await.status,
            status,
            "{token:?}"
        );
    }
}

#[tokio::test]
async fn a_time_zone_that_is_none_starts_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = Ipv4Addr::LOCALHOST;
    let free = std::net::UdpSocket::bind((here, 0)).expect("a port");
    let media_port = free.local_addr().expect("an address").port();
    drop(free);
    let config = Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        media_bind: here.into(),
        media_port,
        workers: 1,
        data: folder.path().join("data"),
        time_zone: Some("Nowhere/Nothing".to_owned()),
        ..Config::default()
    };
    let started = start(config, CancellationToken::new()).await;
    assert!(matches!(started, Err(StartError::Config(_))));
    std::net::UdpSocket::bind((here, media_port)).expect("no media worker is left behind");
}
