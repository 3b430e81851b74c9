//! As much of an HTTP client as the tests need: one request a connection, whole answers.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Names in lower case, values as sent, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// First header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of an error body.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let json = self.json();
        let code = json.get("code").or_else(|| json.pointer("/error/code"))?;
        code.as_str().map(str::to_owned)
    }
}

/// `GET`, with a bearer if there is one.
///
/// # Errors
/// When the server does not answer with HTTP.
pub async fn get(server: SocketAddr, path: &str, bearer: Option<&str>) -> anyhow::Result<Reply> {
    let authorization = bearer.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = authorization
        .iter()
        .map(|value| ("Authorization", value.as_str()))
        .collect();
    request(server, "GET", path, &headers, b"").await
}

/// `POST` of JSON as a page of the server itself sends it, with a bearer if there is one.
///
/// # Errors
/// When the server does not answer with HTTP.
pub async fn post(
    server: SocketAddr,
    path: &str,
    bearer: Option<&str>,
    body: &Value,
) -> anyhow::Result<Reply> {
    let origin = format!("http://{server}");
    let mut headers = vec![
        ("Content-Type", "application/json"),
        ("X-Seodang", "1"),
        ("Origin", origin.as_str()),
    ];
    let authorization = bearer.map(|token| format!("Bearer {token}"));
    headers.extend(
        authorization
            .iter()
            .map(|value| ("Authorization", value.as_str())),
    );
    request(server, "POST", path, &headers, body.to_string().as_bytes()).await
}

/// Any request.
///
/// # Errors
/// When the server does not answer with HTTP.
pub async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Reply> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(server).await.context("connect")?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("answer")?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> anyhow::Result<Reply> {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("no end of header")?;
    let head = std::str::from_utf8(&answer[..end]).context("header is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no status")?
        .parse()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply {
        status,
        headers,
        body: answer[end + 4..].to_vec(),
    };
    if reply
        .header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        reply.body = join_chunks(&reply.body)?;
    }
    Ok(reply)
}

fn join_chunks(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .context("no chunk size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?.trim(), 16)?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Ok(body);
        }
        ensure!(rest.len() >= size + 2, "a chunk is cut off");
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_joined() {
        let reply = parse(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n",
        );
        assert_eq!(reply.expect("an answer").json(), serde_json::json!({"a": 1}));
    }
}
