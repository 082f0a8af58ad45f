//! A client of Socket.IO that polls, by hand: each GET and POST is a request of its own.
//!
//! ```ignore
//! let mut ada = Polling::connect(&node, "userId=ada").await;
//! ada.send(r#"42["user_activity"]"#).await;
//! ada.wait_for("user_online").await;
//! ```

use std::collections::VecDeque;

use reqwest::Method;
use serde_json::Value;

use super::raw_ws::{FIN, TEXT, frame};
use super::{Endpoint, HttpAnswer, RawWs};

/// One session that polls. Nothing is fetched in the background.
pub(crate) struct Polling {
    endpoint: Endpoint,
    sid: String,
    /// What the open packet says.
    pub(crate) open: Value,
    fetched: VecDeque<String>,
}

/// Where a session begins that polls.
pub(crate) const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Where a session begins with a WebSocket, or goes on with one if a `sid` follows.
pub(crate) const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// What separates the packets of a payload.
pub(crate) const SEPARATOR: char = '\x1e';

impl Polling {
    /// Begins a session, with this at the end of the query.
    ///
    /// # Panics
    /// When it is refused.
    pub(crate) async fn open(node: &Endpoint, query: &str) -> Polling {
        let endpoint = Endpoint::new(node.addr(), node.node_id().to_owned());
        let answer = endpoint.get_raw(&format!("{POLLING}&{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let open = answer.body.strip_prefix('0').unwrap_or_else(|| panic!("no open packet: {answer:?}"));
        let open: Value = serde_json::from_str(open).expect("JSON");
        let sid = open["sid"].as_str().expect("a text").to_owned();
        Polling { endpoint, sid, open, fetched: VecDeque::new() }
    }

    /// Begins a session, and enters the main namespace.
    pub(crate) async fn connect(node: &Endpoint, query: &str) -> Polling {
        let mut client = Polling::open(node, query).await;
        client.send("40").await;
        // A user whom the URL names joins before.
        let mut earlier = VecDeque::new();
        loop {
            let packet = client.next().await;
            if packet.starts_with("40{") {
                break;
            }
            earlier.push_back(packet);
        }
        earlier.append(&mut client.fetched);
        client.fetched = earlier;
        client
    }

    /// The id of the session.
    pub(crate) fn sid(&self) -> &str {
        &self.sid
    }

    /// The path of its requests.
    pub(crate) fn path(&self) -> String {
        format!("{POLLING}&sid={}", self.sid)
    }

    /// One GET.
    pub(crate) async fn get(&self) -> HttpAnswer {
        self.endpoint.get_raw(&self.path()).await
    }

    /// One POST.
    pub(crate) async fn post(&self, body: &str) -> HttpAnswer {
        let headers = [("content-type", "text/plain;charset=UTF-8")];
        self.endpoint.request(Method::POST, &self.path(), &headers, body).await
    }

    /// One POST, which must be taken.
    pub(crate) async fn send(&self, body: &str) {
        let answer = self.post(body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{body}");
    }

    /// The next packet. Those that say nothing are skipped, and pings are answered.
    pub(crate) async fn next(&mut self) -> String {
        loop {
            while let Some(packet) = self.fetched.pop_front() {
                match packet.as_str() {
                    "6" => {}
                    "2" => self.send("3").await,
                    _ => return packet,
                }
            }
            self.fetch().await;
        }
    }

    /// Fetches one payload. Returns what has been fetched and not read.
    pub(crate) async fn fetch(&mut self) -> &VecDeque<String> {
        let answer = self.get().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.fetched.extend(answer.body.split(SEPARATOR).map(str::to_owned));
        &self.fetched
    }

    /// The argument of the next event of this name. Other packets are skipped.
    pub(crate) async fn wait_for(&mut self, name: &str) -> Value {
        loop {
            if let Some((found, argument)) = event(&self.next().await)
                && found == name
            {
                return argument;
            }
        }
    }

    /// A WebSocket that has asked, and was answered. The session still polls.
    pub(crate) async fn probe(&self) -> RawWs {
        let mut probe = RawWs::connect(self.endpoint.addr(), &format!("{WEBSOCKET}&sid={}", self.sid)).await;
        probe.send(&text("2probe")).await;
        assert_eq!(next_text(&mut probe).await, "3probe");
        probe
    }

    /// What was fetched and not read.
    pub(crate) fn into_fetched(self) -> VecDeque<String> {
        self.fetched
    }
}

/// A text frame of a client.
pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(FIN | TEXT, text.as_bytes())
}

/// The next text frame.
pub(crate) async fn next_text(socket: &mut RawWs) -> String {
    let frame = socket.next_frame().await.expect("a frame before the end");
    assert_eq!(frame.opcode, TEXT, "{frame:?}");
    String::from_utf8(frame.payload).expect("UTF-8")
}

/// The name and the argument of a packet that is an event.
pub(crate) fn event(packet: &str) -> Option<(String, Value)> {
    let event: Value = serde_json::from_str(packet.strip_prefix("42")?).expect("an array");
    Some((event[0].as_str().expect("a name").to_owned(), event[1].clone()))
}
