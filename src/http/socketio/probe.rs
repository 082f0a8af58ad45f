//! The way from polling to a WebSocket: `2probe`, `3probe`, `5`.
//!
//! The client sends `5` when all its requests have ended. From then on, the WebSocket is its session's only connection. If
//! anything else happens, the WebSocket is closed, and the client goes on polling.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::http::Connection;
use crate::metrics::UpgradeOutcome;
use crate::transport::Probe;
use crate::wire::frame;
use crate::wire::reader::{Incoming, Reader};

/// Longest message of a WebSocket before it has taken over, in bytes. `2probe` has 6.
const MESSAGE_BYTES_MAX: usize = 64;

/// How many bytes one read takes. What a client sends right after its `5` is often with it.
const READ_BYTES: usize = 1024;

/// Runs a WebSocket until it has taken over, or is given up. `early` came right after its handshake.
pub(super) async fn run(probe: Probe, connection: Connection, early: &[u8], patience: Duration) -> UpgradeOutcome {
    let mut reader = Reader::new(MESSAGE_BYTES_MAX);
    reader.push(early);
    let mut probing = Probing { connection, reader };
    let agreed = tokio::select! {
        agreed = timeout(patience, probing.agree(&probe)) => agreed,
        // The session has ended.
        () = probe.ended() => return UpgradeOutcome::GivenUp,
    };
    match agreed {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return UpgradeOutcome::GivenUp,
        Err(_) => return UpgradeOutcome::TimedOut,
    }
    let Ok(detached) = probing.connection.detach() else { return UpgradeOutcome::GivenUp };
    if probe.complete(detached, probing.reader.into_unread()) { UpgradeOutcome::Done } else { UpgradeOutcome::GivenUp }
}

/// A WebSocket that has not taken over yet.
struct Probing {
    connection: Connection,
    reader: Reader,
}

impl Probing {
    /// Hears the client's question, answers it, and waits for its word.
    async fn agree(&mut self, probe: &Probe) -> io::Result<()> {
        self.expect("2probe").await?;
        // GETs end from now on, so that the client need not wait for theirs.
        probe.asked();
        self.send(&frame::text(b"3probe")).await?;
        self.expect("5").await
    }

    async fn expect(&mut self, expected: &str) -> io::Result<()> {
        loop {
            match self.next().await? {
                Incoming::Text(text) if text == expected => return Ok(()),
                Incoming::Ping(payload) => self.send(&frame::pong(&payload)).await?,
                Incoming::Pong => {}
                Incoming::Text(_) | Incoming::Binary | Incoming::Close(_) => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }

    async fn next(&mut self) -> io::Result<Incoming> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(incoming) = self.reader.next_message().map_err(|_| io::ErrorKind::InvalidData)? {
                return Ok(incoming);
            }
            match self.connection.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n_bytes => self.reader.push(&buffer[..n_bytes]),
            }
        }
    }

    async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.connection.write_all(frame).await?;
        self.connection.flush().await
    }
}
