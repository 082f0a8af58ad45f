//! A WebSocket client that does only what it is told, byte for byte.
//!
//! ```ignore
//! let mut socket = RawWs::connect(node.addr(), "/ws?userId=ada").await;
//! socket.send(&frame(TEXT, br#"{"type":"leave"}"#)).await;
//! socket.send(&[FIN | TEXT, 0x00]).await;                 // not masked: against the protocol
//! assert_eq!(socket.expect_close().await.0, 1002);
//! ```
//!
//! It answers no ping and no close frame, checks every frame it reads, and takes nothing off the socket unless it is
//! asked: it is the client to show broken, silent and slow ones. For all others there is [`super::WsClient`].

use std::fmt::Display;
use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::DEADLINE;
use super::frame::whole_frame;
use super::http::{head_length, upgrade_request};

pub(crate) use super::frame::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT};

/// One WebSocket over a TCP stream that the test owns.
pub(crate) struct RawWs {
    stream: TcpStream,
    /// Read and not yet taken.
    unread: Vec<u8>,
    /// What failed, if the stream did not just end.
    failure: Option<io::Error>,
}

/// A frame from the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    /// The opcode; the server never sends fragments, so FIN is checked and left out.
    pub(crate) opcode: u8,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

/// A masked frame: `frame(FIN | TEXT, b"{}")`.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    super::frame::frame(first, Some([0x12, 0x34, 0x56, 0x78]), payload)
}

impl RawWs {
    /// Connects and upgrades.
    ///
    /// # Panics
    /// When the server refuses.
    pub(crate) async fn connect(addr: impl Display, path: &str) -> RawWs {
        RawWs::connect_with(&TcpSocket::new_v4, addr, path, &[]).await
    }

    /// The same with a receive buffer of about this size, so that the server soon notices that nobody reads.
    pub(crate) async fn connect_with_receive_buffer(addr: impl Display, path: &str, bytes: u32) -> RawWs {
        let small = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(bytes)?;
            Ok(socket)
        };
        RawWs::connect_with(&small, addr, path, &[]).await
    }

    /// The same with these bytes right behind the handshake, in one packet.
    pub(crate) async fn connect_and_send(addr: impl Display, path: &str, early: &[u8]) -> RawWs {
        RawWs::connect_with(&TcpSocket::new_v4, addr, path, early).await
    }

    async fn connect_with(
        socket: &dyn Fn() -> io::Result<TcpSocket>,
        addr: impl Display,
        path: &str,
        early: &[u8],
    ) -> RawWs {
        let addr = addr.to_string().parse().expect("an IP address and a port");
        let stream = socket().expect("a socket").connect(addr).await.expect("somebody listens");
        stream.set_nodelay(true).expect("a TCP stream");
        let mut socket = RawWs { stream, unread: Vec::new(), failure: None };
        socket.send(&[upgrade_request(path).as_bytes(), early].concat()).await;
        let head = loop {
            if let Some(length) = head_length(&socket.unread) {
                break socket.unread.drain(..length).collect::<Vec<_>>();
            }
            assert!(socket.read_more().await, "the stream ended before the upgrade");
        };
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the answer to the key of RFC 6455 §1.3: {head}");
        socket
    }

    /// Sends bytes as they are; frames come from [`frame`]. That the server has closed already is no failure: what it
    /// said before is still to be read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let sent = timeout(DEADLINE, self.stream.write_all(bytes)).await;
        self.failure = self.failure.take().or(sent.expect("the server reads in time").err());
    }

    /// The next frame, whatever it is; `None` at the end of the stream.
    ///
    /// # Panics
    /// When nothing comes in time, the stream ends within a frame, or a server may not send such a frame.
    pub(crate) async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Some(frame);
            }
            if !self.read_more().await {
                assert!(self.unread.is_empty(), "the stream ended within a frame: {:?}", self.unread);
                return None;
            }
        }
    }

    /// The next text frame as JSON; skips pings.
    ///
    /// # Panics
    /// Like [`RawWs::next_frame`], and at a close frame or the end.
    pub(crate) async fn next_json(&mut self) -> Value {
        loop {
            let frame = self.next_frame().await.expect("a text frame before the end of the stream");
            match frame.opcode {
                TEXT => return serde_json::from_slice(&frame.payload).expect("a text frame is JSON"),
                PING => {}
                _ => panic!("waited for a text frame, and got {frame:?}"),
            }
        }
    }

    /// Skips frames until a JSON frame of this type.
    pub(crate) async fn wait_for_type(&mut self, expected: &str) -> Value {
        loop {
            let frame = self.next_json().await;
            if frame["type"] == expected {
                return frame;
            }
        }
    }

    /// The code and reason of the server's close frame, which is not answered; frames before it are skipped. 1005 for a
    /// close frame without a code, 1006 for an end without a close frame.
    pub(crate) async fn expect_close(&mut self) -> (u16, String) {
        loop {
            let Some(frame) = self.next_frame().await else { return (1006, String::new()) };
            if frame.opcode == CLOSE {
                return match frame.payload.split_first_chunk() {
                    None => (1005, String::new()),
                    Some((code, reason)) => (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()),
                };
            }
        }
    }

    /// Waits for the end of the stream; nothing may come before it.
    pub(crate) async fn expect_end(&mut self) {
        let next = self.next_frame().await;
        assert_eq!(next, None, "the stream goes on");
    }

    /// The same, and the server must have read all that was sent: else it ends with a reset, which can take away from the
    /// client what it has not read yet.
    pub(crate) async fn expect_orderly_end(&mut self) {
        self.expect_end().await;
        assert!(self.failure.is_none(), "the end is not orderly: {:?}", self.failure);
    }

    /// Reads what there is; false at the end, which a reset is, too.
    async fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = timeout(DEADLINE, self.stream.read(&mut buffer)).await.expect("the server sends something in time");
        let count = read.unwrap_or_else(|error| {
            self.failure = Some(error);
            0
        });
        self.unread.extend(&buffer[..count]);
        count > 0
    }
}

/// The first frame in `bytes` and its length, if it is whole.
///
/// # Panics
/// When a server may not send it. The load tool checks none of this: what it measures would pay for it.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&[first, second], _) = bytes.split_first_chunk()?;
    assert_eq!(first & 0xF0, FIN, "neither fragments nor reserved bits come from the server: {first:#x}");
    let opcode = first & 0x0F;
    assert!([TEXT, CLOSE, PING, PONG].contains(&opcode), "no such opcode comes from the server: {opcode:#x}");
    assert!(second < 0x80, "a server does not mask");
    let (_, place) = whole_frame(bytes)?;
    let shortest = match place.len() {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => 10,
    };
    assert_eq!(place.start, shortest, "a server says a length of {} in as few bytes as it can", place.len());
    Some((Frame { opcode, payload: bytes[place.clone()].to_vec() }, place.end))
}
