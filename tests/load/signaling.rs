//! The documented protocol, as little of it as a load needs.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use seodang_model::protocol::{ClientMessage, Consents, JoinRoom, Offer, ServerMessage, VERSION};
use seodang_model::{ParticipantId, RoomKind, Source, Token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::crew::PeerHandle;

/// A room and the secret of its host.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) number: String,
    pub(crate) host_token: Token,
}

/// Creates a room over HTTP.
pub(crate) async fn create_room(server: SocketAddr, kind: RoomKind) -> anyhow::Result<Room> {
    let body = serde_json::json!({
        "title": "load", "name": "load", "kind": kind, "listed": false, "capacity": CAPACITY,
    })
    .to_string();
    let request = format!(
        "POST /api/v1/rooms HTTP/1.1\r\nHost: {server}\r\nOrigin: http://{server}\r\nX-Seodang: 1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(server, &request).await?;
    ensure!(
        answer.starts_with("HTTP/1.1 201"),
        "the room was refused: {answer}"
    );
    let start = answer.find('{').context("a JSON body")?;
    let end = answer.rfind('}').context("a JSON body")?;
    let value: serde_json::Value = serde_json::from_str(&answer[start..=end])?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a text");
    Ok(Room {
        number: text(&value["room"]["number"])?,
        host_token: Token::presented(&text(&value["host_token"])?),
    })
}

/// Gets a page over HTTP: its answer, head and all.
pub(crate) async fn get(server: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let answer = ask(server, &request).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path} was refused: {answer}");
    Ok(answer)
}

async fn ask(server: SocketAddr, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Places of a room: the most there are.
const CAPACITY: u32 = 500;

/// What a seat is taken with.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) room: &'a str,
    pub(crate) host_token: Option<&'a str>,
    pub(crate) name: String,
    pub(crate) consent: bool,
    pub(crate) offer: Offer,
    /// Published at once.
    pub(crate) publishes: &'a [Source],
    /// Who obeys what the server wants sent.
    pub(crate) peer: PeerHandle,
}

/// An open seat: messages go out through it until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) participant: ParticipantId,
    out: mpsc::Sender<ClientMessage>,
}

impl Seat {
    /// Joins and has the offer answered; returns the seat and the answer.
    pub(crate) async fn take(server: SocketAddr, wish: Wish<'_>) -> anyhow::Result<(Self, String)> {
        let Wish {
            room,
            host_token,
            name,
            consent,
            offer,
            publishes,
            peer,
        } = wish;
        let mut request = format!("ws://{server}/api/v1/ws").into_client_request()?;
        request
            .headers_mut()
            .insert("origin", format!("http://{server}").parse()?);
        if let Some(token) = host_token {
            request
                .headers_mut()
                .insert("authorization", format!("Bearer {token}").parse()?);
        }
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
        let join = ClientMessage::JoinRoom(JoinRoom {
            room: room.to_owned(),
            name,
            consents: Consents {
                recording: consent,
                captures: consent,
            },
            resume: None,
            person: None,
        });
        let publish = publishes
            .iter()
            .map(|source| ClientMessage::Publish { source: *source });
        for message in [
            ClientMessage::Hello { version: VERSION },
            join,
            ClientMessage::Offer(offer),
        ]
        .into_iter()
        .chain(publish)
        {
            socket
                .send(Message::text(serde_json::to_string(&message)?))
                .await?;
        }
        let mut participant = None;
        let answer = loop {
            let message = socket.next().await.context("the socket closed")??;
            let Message::Text(text) = message else { continue };
            match serde_json::from_str(&text)? {
                ServerMessage::RoomInfo(info) => participant = Some(info.you.participant),
                ServerMessage::Answer { sdp, .. } => break sdp,
                ServerMessage::Error(error) => bail!("refused: {}", error.message),
                _ => {}
            }
        };
        let (out, mut queue) = mpsc::channel::<ClientMessage>(16);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    message = queue.recv() => {
                        let Some(message) = message else { break };
                        let Ok(text) = serde_json::to_string(&message) else { break };
                        if socket.send(Message::text(text)).await.is_err() {
                            break;
                        }
                    }
                    // Reading answers the server's pings.
                    message = socket.next() => match message {
                        Some(Ok(Message::Text(text))) => {
                            if let Some(rids) = camera_layers(&text) {
                                peer.choose_layers(rids);
                            }
                        }
                        Some(Ok(_)) => {}
                        _ => break,
                    },
                }
            }
        });
        Ok((
            Self {
                participant: participant.context("a seat")?,
                out,
            },
            answer,
        ))
    }

    /// Sends one message.
    pub(crate) async fn send(&self, message: ClientMessage) -> anyhow::Result<()> {
        self.out.send(message).await.context("the socket closed")
    }
}

/// The encodings of the camera that the server wants, if that is what it says.
fn camera_layers(text: &str) -> Option<Vec<String>> {
    // Most of what comes is about others and long.
    if !text.contains("layers") {
        return None;
    }
    let message: serde_json::Value = serde_json::from_str(text).ok()?;
    if message["type"] != "layers" || message["source"] != "camera" {
        return None;
    }
    let rids = message["rids"].as_array()?.iter();
    Some(rids.filter_map(|rid| rid.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_the_camera_are_obeyed_and_nothing_else() {
        let text = r#"{"type": "layers", "source": "camera", "rids": ["q", "h"]}"#;
        assert_eq!(camera_layers(text), Some(vec!["q".to_owned(), "h".to_owned()]));
        assert_eq!(camera_layers(&text.replace("camera", "screen")), None);
        assert_eq!(camera_layers(r#"{"type": "pong"}"#), None);
    }
}
