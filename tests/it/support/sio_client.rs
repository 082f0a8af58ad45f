//! A client of Socket.IO that shows what it hears in the words of the native format. So what is written for one fits the other.
//!
//! ```ignore
//! let mut ada = SioClient::connect(node.addr(), "userId=ada", Carrier::Polling).await?;
//! ada.send(&json!({"type": "get_online_users", "ref": "list"})).await;      // 42["get_online_users",{}], with a callback
//! let (_, list) = ada.next().await.expect("an event");                      // {"type":"online_users_list", …, "ref":"list"}
//! ```
//!
//! An event and its acknowledgement must say the same. Then they are shown as one frame, with the `ref` of the request.
//! A client that polls has its GET in the background. One that has a WebSocket reads while it is asked for frames.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::DEADLINE;
use super::poller::Poller;
use super::polling::WEBSOCKET;

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A WebSocket from the begin.
    WebSocket,
    /// GET and POST.
    Polling,
}

/// The code and the reason of an end, as a WebSocket has them.
pub(crate) type Ended = (u16, String);

/// One socket in the main namespace.
pub(crate) struct SioClient {
    line: Line,
    words: Words,
    /// A ping was read that has no answer yet.
    owes_pong: bool,
}

/// What the packets go over.
enum Line {
    WebSocket { socket: Box<WebSocketStream<TcpStream>>, close: Option<Ended> },
    Polling(Poller),
}

/// From the native words to packets and back.
#[derive(Default)]
struct Words {
    /// The `ref` of each request whose acknowledgement has not come, by the number of that.
    asked: BTreeMap<u64, Value>,
    last_number: u64,
    /// The last event, while it may still turn out to be an answer.
    held: Option<(Instant, Value)>,
    shown: VecDeque<(Instant, Value)>,
}

impl SioClient {
    /// Connects with this in the query (`userId=ada`, or nothing), and asks to enter the main namespace. What the node says of
    /// that comes later. The error is why there is no socket.
    pub(crate) async fn connect(addr: SocketAddr, query: &str, carrier: Carrier) -> Result<SioClient, String> {
        let line = match carrier {
            Carrier::Polling => Line::Polling(Poller::begin(addr, query).await?),
            Carrier::WebSocket => {
                let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
                let url = format!("ws://{addr}{WEBSOCKET}&{query}");
                let upgraded = tokio_tungstenite::client_async(url, stream).await;
                let (socket, _) = upgraded.map_err(|error| error.to_string())?;
                Line::WebSocket { socket: Box::new(socket), close: None }
            }
        };
        let mut client = SioClient { line, words: Words::default(), owes_pong: false };
        client.line.send("40").await;
        Ok(client)
    }

    /// The next frame, and when it was read; or how the socket ended.
    ///
    /// # Cancel safety
    /// Nothing that was read is lost.
    pub(crate) async fn next(&mut self) -> Result<(Instant, Value), Ended> {
        loop {
            if let Some(shown) = self.words.shown.pop_front() {
                return Ok(shown);
            }
            if self.owes_pong {
                // A second pong does no harm.
                self.line.send("3").await;
                self.owes_pong = false;
            }
            let packet = self.line.next().await?;
            match packet.as_str() {
                "2" => self.owes_pong = true,
                "6" => {}
                "41" => return Err((1005, "the namespace was left".to_owned())),
                _ if packet.starts_with("0{") || packet.starts_with("40{") => {}
                _ => self.words.take_in(&packet),
            }
        }
    }

    /// Makes a request, given in the words of the native format. A failure shows as the end of the socket.
    pub(crate) async fn send(&mut self, request: &Value) {
        let packet = self.words.packet(request);
        self.line.send(&packet).await;
    }

    /// Says goodbye with 1000, as the official client does. Any other code is that of a page that goes away: a WebSocket has it,
    /// and polling just ends.
    pub(crate) async fn close(&mut self, code: u16) {
        if code == 1000 {
            self.line.send("41").await;
        }
        match &mut self.line {
            Line::WebSocket { socket, .. } => {
                let frame = CloseFrame { code: code.into(), reason: "".into() };
                let _ = timeout(DEADLINE, socket.send(Message::Close(Some(frame)))).await;
            }
            Line::Polling(poller) => poller.break_off(),
        }
    }

    /// Breaks off.
    pub(crate) fn abort(&mut self) {
        match &mut self.line {
            Line::WebSocket { socket, .. } => {
                let _ = socket.get_ref().set_zero_linger();
            }
            Line::Polling(poller) => poller.break_off(),
        }
    }
}

impl Line {
    async fn send(&mut self, packet: &str) {
        match self {
            Line::WebSocket { socket, .. } => drop(timeout(DEADLINE, socket.send(Message::text(packet))).await),
            Line::Polling(poller) => poller.post(packet).await,
        }
    }

    async fn next(&mut self) -> Result<String, Ended> {
        match self {
            Line::WebSocket { socket, close } => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                    Some(Ok(Message::Close(frame))) => {
                        let ended = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                        *close = Some(ended.unwrap_or((1005, String::new())));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(close.take().unwrap_or((1006, String::new()))),
                }
            },
            Line::Polling(poller) => poller.next().await,
        }
    }
}

impl Words {
    /// A request as an event. If it has a `ref`, the event asks for an acknowledgement.
    fn packet(&mut self, request: &Value) -> String {
        let mut members = request.as_object().expect("a request is an object").clone();
        let name = members.remove("type").expect("a request has a type");
        let number = members.remove("ref").map(|reference| {
            self.last_number += 1;
            self.asked.insert(self.last_number, reference);
            self.last_number.to_string()
        });
        let event = if members.is_empty() { json!([name]) } else { json!([name, members]) };
        format!("42{}{event}", number.unwrap_or_default())
    }

    /// Takes in an event or an acknowledgement.
    ///
    /// # Panics
    /// When it is neither, or when an acknowledgement says something else than the event before it.
    fn take_in(&mut self, packet: &str) {
        let now = Instant::now();
        let payload_at =
            packet.find('[').unwrap_or_else(|| panic!("neither an event nor an acknowledgement: {packet}"));
        let (head, payload) = packet.split_at(payload_at);
        let mut payload: Vec<Value> = serde_json::from_str(payload).unwrap_or_else(|error| panic!("{error}: {packet}"));
        match (head, payload.len()) {
            ("42", 2) => {
                let mut frame = payload.pop().expect("it has two");
                frame["type"] = payload.pop().expect("it has two");
                self.release();
                // An event is an answer if its acknowledgement is the next packet.
                self.held = Some((now, frame));
                if self.asked.is_empty() {
                    self.release();
                }
            }
            (_, 1) if head.starts_with("43") => {
                let number = head[2..].parse().unwrap_or_else(|error| panic!("{error}: {packet}"));
                let reference = self.asked.remove(&number).unwrap_or_else(|| panic!("nobody asked for {packet}"));
                self.acknowledge(reference, payload.remove(0));
            }
            _ => panic!("neither an event nor an acknowledgement: {packet}"),
        }
    }

    fn acknowledge(&mut self, reference: Value, mut said: Value) {
        let members = said.as_object_mut().expect("an acknowledgement has an object");
        let success = members.remove("success").expect("an acknowledgement says how it went");
        if let Some((at, mut frame)) = self.held.take() {
            let kind = frame["type"].take();
            frame.as_object_mut().expect("an object").remove("type");
            assert_eq!(frame, said, "the event and its acknowledgement say the same");
            assert_eq!(success, kind != "error", "an acknowledgement says how it went: {frame}");
            (frame["type"], frame["ref"]) = (kind, reference);
            self.shown.push_back((at, frame));
        } else {
            (said["type"], said["ref"]) = ("acknowledged".into(), reference);
            self.shown.push_back((Instant::now(), said));
        }
    }

    fn release(&mut self) {
        self.shown.extend(self.held.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &mut Words) -> Vec<Value> {
        words.shown.drain(..).map(|(_, frame)| frame).collect()
    }

    #[test]
    fn a_request_with_a_ref_asks_for_an_acknowledgement() {
        let mut words = Words::default();
        assert_eq!(words.packet(&json!({"type": "pause"})), r#"42["pause"]"#);
        assert_eq!(words.packet(&json!({"type": "watch", "userIds": ["a"]})), r#"42["watch",{"userIds":["a"]}]"#);
        assert_eq!(words.packet(&json!({"type": "leave", "ref": "x"})), r#"421["leave"]"#);
        assert_eq!(words.packet(&json!({"type": "leave", "ref": 7})), r#"422["leave"]"#);
    }

    #[test]
    fn an_event_and_its_acknowledgement_are_one_answer() {
        let mut words = Words::default();
        words.take_in(r#"42["user_online",{"userId":"a"}]"#);
        assert_eq!(shown(&mut words), [json!({"type": "user_online", "userId": "a"})]);
        words.packet(&json!({"type": "leave", "ref": "x"}));
        words.take_in(r#"42["user_online",{"userId":"b"}]"#);
        assert_eq!(words.shown, [], "it may be the answer");
        words.take_in(r#"42["left",{"userId":"me"}]"#);
        assert_eq!(shown(&mut words), [json!({"type": "user_online", "userId": "b"})]);
        words.take_in(r#"431[{"success":true,"userId":"me"}]"#);
        assert_eq!(shown(&mut words), [json!({"type": "left", "userId": "me", "ref": "x"})]);
        words.packet(&json!({"type": "user_activity", "ref": "y"}));
        words.take_in(r#"432[{"success":true}]"#);
        assert_eq!(shown(&mut words), [json!({"type": "acknowledged", "ref": "y"})]);
    }

    #[test]
    #[should_panic(expected = "the event and its acknowledgement say the same")]
    fn an_acknowledgement_that_says_something_else_is_found() {
        let mut words = Words::default();
        words.packet(&json!({"type": "leave", "ref": "x"}));
        words.take_in(r#"42["left",{"userId":"me"}]"#);
        words.take_in(r#"431[{"success":true,"userId":"you"}]"#);
    }
}
