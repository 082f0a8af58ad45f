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

    /// Sends a command whose reply is a number.
    pub(crate) async fn number(&mut self, words: &[&str]) -> Result<u64> {
        self.send(words).await?;
        Ok(self.line().await?.strip_prefix(':').context("a number")?.parse()?)
    }

    /// `PUBSUB NUMSUB channel…`: how many subscribe to each, in the same order.
    pub(crate) async fn n_subscribers(&mut self, channels: &[&str]) -> Result<Vec<u64>> {
        self.send(&[&["PUBSUB", "NUMSUB"], channels].concat()).await?;
        self.line().await?;
        let mut numbers = Vec::with_capacity(channels.len());
        for _ in channels {
            self.bulk().await?;
            numbers.push(self.line().await?.strip_prefix(':').context("a number")?.parse()?);
        }
        Ok(numbers)
    }

    /// Sends a command whose reply is a list of bulk strings. Returns how many there are.
    pub(crate) async fn list_length(&mut self, words: &[&str]) -> Result<usize> {
        self.send(words).await?;
        let length = self.line().await?.strip_prefix('*').context("a list")?.parse()?;
        for _ in 0..length {
            self.bulk().await?;
        }
        Ok(length)
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[tokio::test]
    async fn replies_are_read_to_their_end() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = server.local_addr().expect("it is bound");
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("somebody comes");
            for reply in [
                "+PONG\r\n",
                "*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:0\r\n",
                "*2\r\n$1\r\na\r\n$2\r\nbc\r\n",
                ":7\r\n",
                "-ERR no\r\n",
            ] {
                // Each command of this test comes in one piece.
                let n_bytes = stream.read(&mut [0; 256]).expect("a command");
                assert!(n_bytes > 0);
                stream.write_all(reply.as_bytes()).expect("it is read");
            }
        });
        let mut connection = Connection::open(addr).await.expect("the server answers");
        assert_eq!(connection.n_subscribers(&["a", "b"]).await.expect("numbers"), [2, 0]);
        assert_eq!(connection.list_length(&["KEYS", "*"]).await.expect("a list"), 2);
        assert_eq!(connection.number(&["DBSIZE"]).await.expect("a number"), 7);
        connection.number(&["DBSIZE"]).await.expect_err("an error is no number");
        serving.join().expect("all was asked");
    }
}
