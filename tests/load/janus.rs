//! Janus' videoroom over its WebSocket, as little of it as a load needs.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PLUGIN: &str = "janus.plugin.videoroom";
/// The only room.
const ROOM: u64 = 1;

/// One participant's session.
#[derive(Debug)]
pub(crate) struct JanusSession {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: u64,
    transactions: u64,
}

impl JanusSession {
    /// Opens a session.
    pub(crate) async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let mut request = format!("ws://{server}/").into_client_request()?;
        request
            .headers_mut()
            .insert("sec-websocket-protocol", "janus-protocol".parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        let mut janus = Self {
            socket,
            session: 0,
            transactions: 0,
        };
        let reply = janus.ask(json!({ "janus": "create" })).await?;
        janus.session = number(&reply["data"]["id"])?;
        Ok(janus)
    }

    /// Creates the room.
    pub(crate) async fn create_room(&mut self, publishers: usize) -> anyhow::Result<()> {
        let handle = self.attach().await?;
        let body = json!({
            "request": "create", "room": ROOM, "publishers": publishers.max(1), "bitrate": 4_000_000,
            "videocodec": "vp8", "audiocodec": "opus",
        });
        let reply = self.message(handle, body, None).await?;
        match &reply["plugindata"]["data"]["videoroom"] {
            Value::String(created) if created == "created" => Ok(()),
            _ => bail!("janus refused the room: {reply}"),
        }
    }

    /// Publishes with an offer; returns the answer and the number of the feed.
    pub(crate) async fn publish(&mut self, name: &str, offer: &str) -> anyhow::Result<(String, u64)> {
        let handle = self.attach().await?;
        let body = json!({
            "request": "joinandconfigure", "room": ROOM, "ptype": "publisher", "display": name,
        });
        let jsep = json!({ "type": "offer", "sdp": offer, "trickle": false });
        let reply = self.message(handle, body, Some(jsep)).await?;
        Ok((sdp(&reply)?, number(&reply["plugindata"]["data"]["id"])?))
    }

    /// Subscribes to feeds with one connection; returns its handle and the server's offer.
    pub(crate) async fn subscribe(&mut self, feeds: &[u64]) -> anyhow::Result<(u64, String)> {
        let handle = self.attach().await?;
        let streams: Vec<Value> = feeds.iter().map(|feed| json!({ "feed": feed })).collect();
        let body = json!({ "request": "join", "room": ROOM, "ptype": "subscriber", "streams": streams });
        let reply = self.message(handle, body, None).await?;
        Ok((handle, sdp(&reply)?))
    }

    /// Answers the offer of a subscription.
    pub(crate) async fn start(&mut self, handle: u64, answer: &str) -> anyhow::Result<()> {
        let jsep = json!({ "type": "answer", "sdp": answer, "trickle": false });
        self.message(handle, json!({ "request": "start", "room": ROOM }), Some(jsep))
            .await?;
        Ok(())
    }

    async fn attach(&mut self) -> anyhow::Result<u64> {
        let reply = self.ask(json!({ "janus": "attach", "plugin": PLUGIN })).await?;
        number(&reply["data"]["id"])
    }

    async fn message(&mut self, handle: u64, body: Value, jsep: Option<Value>) -> anyhow::Result<Value> {
        let mut message = json!({ "janus": "message", "handle_id": handle, "body": body });
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        let reply = self.ask(message).await?;
        let error = &reply["plugindata"]["data"]["error"];
        if !error.is_null() {
            bail!("janus: {error}");
        }
        Ok(reply)
    }

    /// Sends a request and waits for what answers it; everything else that comes meanwhile is news nobody needs.
    async fn ask(&mut self, mut request: Value) -> anyhow::Result<Value> {
        self.transactions += 1;
        let transaction = self.transactions.to_string();
        request["transaction"] = json!(transaction);
        if self.session != 0 {
            request["session_id"] = json!(self.session);
        }
        self.socket.send(Message::text(request.to_string())).await?;
        loop {
            let message = self.socket.next().await.context("janus closed the socket")??;
            let Message::Text(text) = message else { continue };
            let reply: Value = serde_json::from_str(&text)?;
            if reply["transaction"] != transaction.as_str() || reply["janus"] == "ack" {
                continue;
            }
            if reply["janus"] == "error" {
                bail!("janus: {}", reply["error"]["reason"]);
            }
            return Ok(reply);
        }
    }
}

fn number(value: &Value) -> anyhow::Result<u64> {
    value.as_u64().context("a number")
}

fn sdp(reply: &Value) -> anyhow::Result<String> {
    let sdp = reply["jsep"]["sdp"].as_str().context("a session description")?;
    Ok(sdp.to_owned())
}
