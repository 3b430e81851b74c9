//! A server on free ports with a folder of its own, and participants that speak the protocol by hand.

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use seodang_signal::config::Config;
use seodang_signal::server::{self, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; a test that needs it has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct House {
    folder: tempfile::TempDir,
    config: Config,
    server: Option<Server>,
    shutdown: CancellationToken,
    address: std::net::SocketAddr,
}

/// A room with its host's token.
pub(crate) struct Room {
    pub(crate) number: String,
    pub(crate) host_token: String,
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data: folder.path().join("data"),
            media_port: 0,
            seat_grace_s: 1,
            ..Config::default()
        };
        change(&mut config);
        let shutdown = CancellationToken::new();
        let server = server::start(config.clone(), shutdown.clone())
            .await
            .expect("a server");
        let address = server.address();
        Self {
            folder,
            config,
            server: Some(server),
            shutdown,
            address,
        }
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        within(self.server.take().expect("running").finished()).await;
        assert!(Path::new(self.folder.path()).exists());
    }

    /// Stops, lets `meanwhile` look at what the participants are told, and starts again on the same data.
    pub(crate) async fn restart(&mut self, meanwhile: impl AsyncFnOnce(&Self)) {
        self.shutdown.cancel();
        meanwhile(self).await;
        within(self.server.take().expect("running").finished()).await;
        self.shutdown = CancellationToken::new();
        let server = server::start(self.config.clone(), self.shutdown.clone())
            .await
            .expect("a server");
        self.address = server.address();
        self.server = Some(server);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The headers our pages send.
    pub(crate) fn own_page(&self) -> Vec<(&'static str, String)> {
        vec![("origin", self.url()), ("x-seodang", "1".to_owned())]
    }

    /// Makes a room; `wish` overrides the defaults.
    pub(crate) async fn room(&self, wish: Value) -> Room {
        let mut body = json!({"title": "수학", "name": "김선생", "kind": "meeting"});
        for (key, value) in wish.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let (status, answer, headers) = self
            .request("POST", "/api/v1/rooms", &self.own_page(), Some(&body))
            .await;
        assert_eq!(status, 201, "{answer}");
        assert!(headers.iter().any(|(name, _)| name == "set-cookie"));
        Room {
            number: text(&answer["room"], "number").to_owned(),
            host_token: text(&answer, "host_token").to_owned(),
        }
    }

    pub(crate) async fn close(&self, room: &Room, keep_recordings: bool) {
        let path = format!("/api/v1/rooms/{}/close", room.number);
        let body = json!({"keep_recordings": keep_recordings});
        let headers = [("authorization", format!("Bearer {}", room.host_token))];
        let (status, answer, _) = self.request("POST", &path, &headers, Some(&body)).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// Waits until the room's lesson is over and finished.
    pub(crate) async fn until_no_lesson(&self, room: &Room) {
        let path = format!("/api/v1/rooms/{}/state", room.number);
        let headers = [("authorization", format!("Bearer {}", room.host_token))];
        within(async {
            while !self.request("GET", &path, &headers, None).await.1["lesson"].is_null() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// One HTTP request on a connection of its own.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&Value>,
    ) -> (u16, Value, Vec<(String, String)>) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut answer = Vec::new();
        within(async {
            let mut stream = TcpStream::connect(self.address).await.expect("a connection");
            stream.write_all(head.as_bytes()).await.expect("written");
            stream.read_to_end(&mut answer).await.expect("an answer");
        })
        .await;
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .expect("a status");
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        (
            status.parse().expect("a number"),
            serde_json::from_str(body).unwrap_or(Value::Null),
            headers,
        )
    }

    /// Opens a socket; the status when it is refused.
    pub(crate) async fn socket(&self, origin: Option<&str>) -> Result<Socket, u16> {
        self.socket_with(origin, None).await
    }

    /// A socket that was welcomed, with a bearer if one is given.
    pub(crate) async fn welcomed(&self, bearer: Option<&str>) -> Socket {
        let mut socket = self.socket_with(None, bearer).await.expect("a socket");
        socket.send(json!({"type": "hello", "version": 1})).await;
        assert_eq!(socket.next("welcome").await["version"], 1);
        socket
    }

    async fn socket_with(&self, origin: Option<&str>, bearer: Option<&str>) -> Result<Socket, u16> {
        let mut request = format!("ws://{}/api/v1/ws", self.address)
            .into_client_request()
            .expect("a request");
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert("origin", origin.parse().expect("a value"));
        }
        if let Some(bearer) = bearer {
            request.headers_mut().insert(
                "authorization",
                format!("Bearer {bearer}").parse().expect("a value"),
            );
        }
        match within(tokio_tungstenite::connect_async(request)).await {
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            outcome => Ok(Socket {
                stream: outcome.expect("an upgrade or a refusal").0,
            }),
        }
    }

    /// The first column of every row.
    pub(crate) async fn query(&self, sql: &'static str) -> Vec<String> {
        let mut database = self.database().await;
        sqlx::query_scalar(sql)
            .fetch_all(&mut database)
            .await
            .expect("rows")
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        let mut database = self.database().await;
        sqlx::query(sql).execute(&mut database).await.expect("a change");
    }

    async fn database(&self) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.config.data.join("seodang.db"));
        sqlx::ConnectOptions::connect(&options)
            .await
            .expect("the database")
    }
}

/// A WebSocket that speaks JSON.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        // The server may have closed already; what follows finds out.
        let _ = self.stream.send(Message::text(text)).await;
    }

    /// The next message, whatever it is.
    pub(crate) async fn next_any(&mut self) -> Value {
        within(async {
            loop {
                let message = self
                    .stream
                    .next()
                    .await
                    .expect("an open socket")
                    .expect("a message");
                if let Message::Text(text) = &message {
                    return serde_json::from_str(text).expect("json");
                }
                assert!(!message.is_close(), "closed instead of a message");
            }
        })
        .await
    }

    /// The next message of a type; others are passed over.
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next_any().await;
            if text(&message, "type") == kind {
                return message;
            }
        }
    }

    /// The code with which the server closes.
    pub(crate) async fn close_code(&mut self) -> u16 {
        within(async {
            loop {
                let message = self
                    .stream
                    .next()
                    .await
                    .expect("a close frame")
                    .expect("a close frame");
                if let Message::Close(frame) = message {
                    return frame.expect("a code").code.into();
                }
            }
        })
        .await
    }
}

/// A participant in a lesson.
pub(crate) struct Seat {
    socket: Socket,
    pub(crate) info: Value,
    pub(crate) users: Vec<Value>,
    pub(crate) history: Vec<Value>,
}

impl Seat {
    pub(crate) async fn host(house: &House, room: &Room, name: &str) -> Self {
        let socket = house.welcomed(Some(&room.host_token)).await;
        Self::take(
            socket,
            json!({"type": "join_room", "room": room.number, "name": name}),
        )
        .await
    }

    pub(crate) async fn join(house: &House, room: &Room, name: &str) -> Self {
        let socket = house.welcomed(None).await;
        Self::take(
            socket,
            json!({"type": "join_room", "room": room.number, "name": name}),
        )
        .await
    }

    pub(crate) async fn back(house: &House, room: &Room, name: &str, resume: &str) -> Self {
        let socket = house.welcomed(None).await;
        Self::take(
            socket,
            json!({"type": "join_room", "room": room.number, "name": name, "resume": resume}),
        )
        .await
    }

    async fn take(mut socket: Socket, join: Value) -> Self {
        socket.send(join).await;
        let info = socket.next_any().await;
        assert_eq!(text(&info, "type"), "room_info", "{info}");
        let users = socket.next("all_users").await["users"]
            .as_array()
            .expect("a list")
            .clone();
        let mut history = Vec::new();
        loop {
            let page = socket.next("chat_history").await;
            history.extend(page["messages"].as_array().expect("a list").iter().cloned());
            if page["complete"] == true {
                return Self {
                    socket,
                    info,
                    users,
                    history,
                };
            }
        }
    }

    pub(crate) fn id(&self) -> String {
        text(&self.info["you"], "participant").to_owned()
    }

    pub(crate) fn resume(&self) -> String {
        text(&self.info, "resume").to_owned()
    }

    /// Leaves and waits for the goodbye.
    pub(crate) async fn leave(mut self) {
        self.send(json!({"type": "leave"})).await;
        assert_eq!(self.close_code().await, 1000);
    }
}

impl std::ops::Deref for Seat {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl std::ops::DerefMut for Seat {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// A text field.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}
