//! A WebSocket of a command: what goes out has a deadline, and what comes in has one, too.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::printout::clean;
use super::way::AsyncConversation;

/// A WebSocket.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn AsyncConversation>>,
    /// After this time without anything from the node, it gets a ping.
    ping_after: Duration,
}

/// What comes in.
pub(super) enum Heard {
    /// A message, as a value and as it came.
    Message(Value, String),
    /// The connection has ended.
    End(Ending),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// The code of the close frame. It is none if there was no such frame.
    code: Option<u16>,
    /// Why, for people.
    reason: String,
}

/// What to do after an ending.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Connect again, after this time. If there is none, after a delay that grows.
    Again(Option<Duration>),
    /// Do not connect again.
    Never,
}

/// How long a message may take to go out.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// After this time without anything from a node, it gets a ping. How often a node pings by itself is its own setting
/// (`websocket.ping_interval_ms`), and may be every five minutes.
const PING_AFTER: Duration = Duration::from_secs(30);

/// After so many pings without an answer, the node is gone.
const PINGS_MAX: u32 = 2;

/// How long the node may take to answer a close frame.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

impl Socket {
    pub(super) fn new(stream: WebSocketStream<Box<dyn AsyncConversation>>) -> Self {
        Self { stream, ping_after: PING_AFTER }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection has ended, or takes nothing.
    pub(super) async fn send(&mut self, request: &Value) -> anyhow::Result<()> {
        self.write(Message::text(request.to_string())).await
    }

    async fn write(&mut self, message: Message) -> anyhow::Result<()> {
        let sent = timeout(WRITE_WITHIN, self.stream.send(message)).await;
        Ok(sent.map_err(|_| anyhow!("the connection takes nothing"))??)
    }

    /// The next message, or the end. Pings are answered on the way, and a node that says nothing for long gets some.
    ///
    /// # Cancel safety
    /// Nothing is lost. But the silence counts anew.
    pub(super) async fn next(&mut self) -> Heard {
        let mut n_pings = 0;
        loop {
            let heard = timeout(self.ping_after, self.stream.next()).await;
            n_pings = if heard.is_ok() { 0 } else { n_pings + 1 };
            let ending = match heard {
                Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str(&text) {
                    Ok(message) => return Heard::Message(message, text.as_str().to_owned()),
                    Err(_) => Ending::broken("what comes is no JSON"),
                },
                Ok(Some(Ok(Message::Close(frame)))) => Ending {
                    code: frame.as_ref().map(|frame| frame.code.into()),
                    reason: frame.map(|frame| clean(frame.reason.as_str())).unwrap_or_default(),
                },
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => Ending::broken(&error.to_string()),
                Ok(None) => Ending::broken("the connection ended"),
                Err(_) if n_pings > PINGS_MAX => Ending::broken("the node is silent"),
                Err(_) => match self.write(Message::Ping(Bytes::new())).await {
                    Ok(()) => continue,
                    Err(error) => Ending::broken(&error.to_string()),
                },
            };
            return Heard::End(ending);
        }
    }

    /// Says goodbye with 1000, and waits for the answer for a moment.
    pub(super) async fn close(mut self) {
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // If it does not arrive, the connection breaks, and the grace begins.
        let _ = timeout(CLOSE_WITHIN, async {
            self.stream.close(Some(goodbye)).await?;
            while let Some(message) = self.stream.next().await {
                message?;
            }
            Ok::<_, tokio_tungstenite::tungstenite::Error>(())
        })
        .await;
    }
}

impl Ending {
    /// A connection that ended without a word.
    pub(super) fn broken(reason: &str) -> Self {
        Self { code: None, reason: clean(reason) }
    }

    /// Why, for people.
    pub(super) fn words(&self) -> String {
        match (self.code, self.reason.as_str()) {
            (Some(code), "") => format!("closed with {code}"),
            (Some(code), reason) => format!("closed with {code}: {reason}"),
            (None, reason) => reason.to_owned(),
        }
    }

    /// What to do now. docs/protocol.md has the table of codes.
    pub(super) fn verdict(&self) -> Verdict {
        match self.code {
            Some(1001) => {
                let said: Option<Value> = serde_json::from_str(&self.reason).ok();
                let delay_ms = said.and_then(|said| said["reconnectAfterMs"].as_u64());
                Verdict::Again(delay_ms.map(|ms| Duration::from_millis(ms).min(super::reconnect::DELAY_MAX)))
            }
            // The token is read anew. If it is still the old one, the node refuses it.
            Some(4402) => Verdict::Again(Some(Duration::ZERO)),
            Some(1002 | 1007 | 1008 | 1009 | 4003 | 4029 | 4401) => Verdict::Never,
            Some(_) | None => Verdict::Again(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// A socket that pings soon, and the other end of its connection.
    async fn impatient() -> (Socket, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1000);
        let ours: Box<dyn AsyncConversation> = Box::new(ours);
        let stream = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        (Socket { stream, ping_after: Duration::from_millis(20) }, theirs)
    }

    #[tokio::test]
    async fn a_node_that_seldom_says_anything_by_itself_is_not_gone() {
        let (mut socket, node) = impatient().await;
        let node = async {
            let mut node = WebSocketStream::from_raw_socket(node, Role::Server, None).await;
            for _ in 0..2 * PINGS_MAX {
                assert!(matches!(node.next().await, Some(Ok(Message::Ping(_)))));
            }
            node.send(Message::text("{}")).await.unwrap();
            pending().await
        };
        let heard = tokio::select! {
            heard = socket.next() => heard,
            () = node => unreachable!("it stays"),
        };
        assert!(matches!(heard, Heard::Message(..)));
    }

    #[tokio::test]
    async fn a_node_that_answers_no_ping_is_gone() {
        let (mut socket, _node) = impatient().await;
        let Heard::End(ending) = socket.next().await else { panic!("nobody has said anything") };
        assert_eq!(ending.words(), "the node is silent");
    }

    #[test]
    fn the_close_code_says_whether_to_come_again() {
        let verdict = |code, reason: &str| Ending { code, reason: reason.to_owned() }.verdict();
        let after = |ms| Verdict::Again(Some(Duration::from_millis(ms)));
        assert_eq!(verdict(Some(1001), r#"{"reconnectAfterMs":460}"#), after(460));
        assert_eq!(verdict(Some(1001), r#"{"reconnectAfterMs":999999999}"#), after(30_000));
        assert_eq!(verdict(Some(1001), ""), Verdict::Again(None));
        assert_eq!(verdict(Some(4402), ""), after(0));
        for code in [1002, 1007, 1008, 1009, 4003, 4029, 4401] {
            assert_eq!(verdict(Some(code), ""), Verdict::Never, "{code}");
        }
        for code in [None, Some(1000), Some(1011), Some(4001), Some(4008)] {
            assert_eq!(verdict(code, ""), Verdict::Again(None), "{code:?}");
        }
    }
}
