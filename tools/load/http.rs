//! A keep-alive HTTP client that costs next to nothing. The tests use a library's: here it would cost more than the answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http::head_length;

/// A response.
pub(crate) struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What is sent next.
    pub request: String,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects; `request` is sent first.
    pub(crate) async fn open(addr: SocketAddr, request: String) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request, buffer: Vec::new() })
    }

    /// One request and its whole response: status and body.
    pub(crate) async fn exchange(&mut self) -> Result<(u16, &[u8])> {
        self.stream.write_all(self.request.as_bytes()).await?;
        self.buffer.clear();
        let mut whole = None;
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ended");
            if whole.is_none()
                && let Some(length) = head_length(&self.buffer)
            {
                // actix writes the names of headers in lower case, and Node as engine.io has them.
                let head = std::str::from_utf8(&self.buffer[..length])?;
                let status: u16 = head.get(9..12).context("a status")?.parse()?;
                let body =
                    ["\r\ncontent-length: ", "\r\nContent-Length: "].iter().find_map(|name| head.split_once(name));
                let (_, body) = body.context("a content-length")?;
                let body: usize = body.split("\r\n").next().context("a length")?.parse()?;
                whole = Some((status, length..length + body));
            }
            if let Some((status, body)) = &whole
                && self.buffer.len() >= body.end
            {
                return Ok((*status, &self.buffer[body.clone()]));
            }
        }
    }
}

/// The request that reads `path`.
pub(crate) fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// The request that sends JSON to `path`.
pub(crate) fn post_request(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Reads `path` on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Result<Response> {
    let mut connection = Connection::open(addr, get_request(path)).await?;
    let (status, body) = connection.exchange().await?;
    Ok(Response { status, body: String::from_utf8(body.to_vec())? })
}

/// Sends the request again and again on `n_connections`, for as long as `time`. Returns how many answers came; every one was a 200 for
/// which `is_right` holds.
pub(crate) async fn hammer(
    addr: SocketAddr,
    request: &str,
    n_connections: usize,
    time: Duration,
    is_right: fn(&[u8]) -> bool,
) -> Result<u64> {
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..n_connections {
        let mut connection = Connection::open(addr, request.to_owned()).await?;
        tasks.spawn(async move {
            let mut n_answers = 0;
            while Instant::now() < until {
                let (status, body) = connection.exchange().await?;
                ensure!(status == 200 && is_right(body), "a wrong answer with status {status}");
                n_answers += 1;
            }
            Ok(n_answers)
        });
    }
    let mut n_answers = 0;
    for answers in tasks.join_all().await {
        n_answers += answers?;
    }
    Ok(n_answers)
}

/// Sends the request again and again on one connection, `every` so often, until `is_over`. Returns how long each answer
/// took; every one was a 200.
pub(crate) async fn pace(
    addr: SocketAddr,
    request: &str,
    every: Duration,
    is_over: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(addr, request.to_owned()).await?;
    let mut times = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let asked = Instant::now();
        let (status, _) = connection.exchange().await?;
        ensure!(status == 200, "a wrong answer with status {status}");
        times.push(asked.elapsed());
        tokio::time::sleep(every).await;
    }
    Ok(times)
}

/// Sends the requests of `request` for 0 to `n_requests`, each once, on `n_connections`. Every answer is one of `status` for
/// which `is_right` holds.
pub(crate) async fn ask_all(
    addr: SocketAddr,
    n_requests: usize,
    n_connections: usize,
    request: fn(usize) -> String,
    status: u16,
    is_right: fn(&[u8]) -> bool,
) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..n_connections {
        let mut connection = Connection::open(addr, String::new()).await?;
        tasks.spawn(async move {
            for i in (first..n_requests).step_by(n_connections) {
                connection.request = request(i);
                let (got, body) = connection.exchange().await?;
                let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
                ensure!(got == status && is_right(body), "a wrong answer to request {i} with status {got}: {text}");
            }
            Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect()
}
