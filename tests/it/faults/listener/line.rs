//! What a listener hears over: each way has the same words.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Carrier, DEADLINE, SioClient};

/// How a listener connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A WebSocket at `/ws`.
    Native,
    /// Socket.IO.
    Socketio(Carrier),
}

/// An open connection.
pub(super) enum Line {
    Native { socket: Box<WebSocketStream<TcpStream>>, close: Option<(u16, String)> },
    Socketio(Box<SioClient>),
}

impl Line {
    /// Connects with this in the query. The error is why there is no socket.
    pub(super) async fn connect(way: Way, addr: SocketAddr, query: &str) -> Result<Line, String> {
        match way {
            Way::Native => {
                let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
                let url = format!("ws://{addr}/ws?{query}");
                let upgraded = tokio_tungstenite::client_async(url, stream).await;
                let (socket, _) = upgraded.map_err(refusal)?;
                Ok(Line::Native { socket: Box::new(socket), close: None })
            }
            Way::Socketio(carrier) => {
                let client = SioClient::connect(addr, query, carrier).await?;
                Ok(Line::Socketio(Box::new(client)))
            }
        }
    }

    /// The next frame, and when it was read; or the code and reason of the end.
    ///
    /// # Cancel safety
    /// Nothing that was read is lost.
    pub(super) async fn next(&mut self) -> Result<(Instant, Value), (u16, String)> {
        let (socket, close) = match self {
            Line::Native { socket, close } => (socket, close),
            Line::Socketio(client) => return client.next().await,
        };
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
                    return Ok((Instant::now(), frame));
                }
                Some(Ok(Message::Close(frame))) => {
                    let ended = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    *close = Some(ended.unwrap_or((1005, String::new())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(close.take().unwrap_or((1006, String::new()))),
            }
        }
    }

    /// Sends a request. A failure shows as the end.
    pub(super) async fn send(&mut self, request: &Value) {
        match self {
            Line::Native { socket, .. } => {
                drop(timeout(DEADLINE, socket.send(Message::text(request.to_string()))).await);
            }
            Line::Socketio(client) => client.send(request).await,
        }
    }

    /// Closes with this code.
    pub(super) async fn close(&mut self, code: u16) {
        match self {
            Line::Native { socket, .. } => {
                let frame = CloseFrame { code: code.into(), reason: "".into() };
                drop(timeout(DEADLINE, socket.send(Message::Close(Some(frame)))).await);
            }
            Line::Socketio(client) => client.close(code).await,
        }
    }

    /// Breaks off.
    pub(super) fn abort(&mut self) {
        match self {
            Line::Native { socket, .. } => _ = socket.get_ref().set_zero_linger(),
            Line::Socketio(client) => client.abort(),
        }
    }
}

/// Why there is no WebSocket: an answer shows its whole head and what was read of its body.
fn refusal(error: Error) -> String {
    let Error::Http(answer) = error else { return error.to_string() };
    let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    format!("{} {:?} {body}", answer.status(), answer.headers())
}
