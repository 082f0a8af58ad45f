//! As much of the Redis protocol as a measurement needs, with nothing in between. The tests use the `redis` crate: its tasks and
//! channels would be measured along with Redis.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection to Redis.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects, and sees that the server answers.
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self(BufReader::new(stream));
        connection.send(&["PING"]).await?;
        connection.line().await?;
        Ok(connection)
    }

    /// Sends a command without waiting for its reply.
    pub(crate) async fn send(&mut self, words: &[&str]) -> Result<()> {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out += &format!("${}\r\n{word}\r\n", word.len());
        }
        Ok(self.0.write_all(out.as_bytes()).await?)
    }

    /// Reads one line of a reply.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.0.read_u8().await? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        let line = String::from_utf8(line)?.trim_end().to_owned();
        if line.starts_with('-') {
            bail!("Redis answers {line}");
        }
        Ok(line)
    }

    /// Reads a bulk string.
    async fn bulk(&mut self) -> Result<String> {
        let length: usize = self.line().await?.strip_prefix('$').context("a bulk string")?.parse()?;
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        Ok(String::from_utf8(bytes)?)
    }

    /// `INFO section`.
    pub(crate) async fn info(&mut self, section: &str) -> Result<String> {
        self.send(&["INFO", section]).await?;
        self.bulk().await
    }

    /// Subscribes to `channel`; from then on [`Connection::message`] is all there is to call.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> Result<()> {
        self.send(&["SUBSCRIBE", channel]).await?;
        self.line().await?;
        self.bulk().await?;
        self.bulk().await?;
        self.line().await?;
        Ok(())
    }

    /// The next message's payload.
    pub(crate) async fn message(&mut self) -> Result<String> {
        self.line().await?;
        self.bulk().await?;
        self.bulk().await?;
        self.bulk().await
    }
}
