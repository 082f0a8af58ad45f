//! `rollcall healthcheck`.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};

use super::way::Way;

/// How much of an answer is read. A node's answer has some hundred bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What a node is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question {
    /// Whether it is alive. If not, a restart may help.
    Alive,
    /// Whether it knows who is online. If not, no clients should be sent to it.
    Ready,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Self::Alive => "not alive",
            Self::Ready => "not ready",
        }
    }
}

/// Asks the node at this address. It uses no HTTP client, because only the first line of the answer matters, and the reason if
/// it is a refusal. The image has no other tool for this.
///
/// # Errors
/// The node does not answer, or the answer is no.
pub(crate) fn run(address: SocketAddr, way: &Way, question: Question) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut stream = way.open(&address.ip().to_string(), address, PATIENCE).context("not listening")?;
    let path = question.path();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut status = String::new();
    answer.read_line(&mut status)?;
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let reason = answer.lines().map_while(Result::ok).last().unwrap_or_default();
    bail!("{}: {} {reason}", question.refusal(), status.trim_end())
}
