//! `rollcall healthcheck`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::way::Way;

/// Asks `/healthz` of the node at this address. It uses no HTTP client, because only one line of the answer matters. The image
/// has no other tool for this.
///
/// # Errors
/// The node does not answer, or is not alive.
pub(crate) fn run(address: SocketAddr, way: &Way) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut stream = way.open(address, PATIENCE).context("not listening")?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    ensure!(status.starts_with("HTTP/1.1 200 "), "not alive: {}", status.trim_end());
    Ok(())
}
