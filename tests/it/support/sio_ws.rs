//! A client of Socket.IO over WebSocket alone, by hand.
//!
//! ```ignore
//! let mut ada = SioWs::connect(&node, "").await;
//! ada.emit(json!(["join_user", 42])).await;
//! ada.wait_for("user_online").await;
//! let ack = ada.ask(json!(["check_user_online", "bob"])).await;
//! ```

use serde_json::{Value, json};

use super::polling::{WEBSOCKET, event, next_text, text};
use super::{Endpoint, RawWs};

/// One socket. Nothing is read in the background.
pub(crate) struct SioWs {
    socket: RawWs,
    n_asked: u32,
}

impl SioWs {
    /// Opens a session with this at the end of the query. The main namespace is not entered.
    pub(crate) async fn open(node: &Endpoint, query: &str) -> SioWs {
        SioWs::begin(RawWs::connect(node.addr(), &format!("{WEBSOCKET}&{query}")).await).await
    }

    /// Opens a session, and enters the main namespace.
    pub(crate) async fn connect(node: &Endpoint, query: &str) -> SioWs {
        SioWs::open(node, query).await.enter().await
    }

    /// The same with a small receive buffer, so that the server soon notices that nobody reads.
    pub(crate) async fn connect_slow(node: &Endpoint) -> SioWs {
        let socket = RawWs::connect_with_receive_buffer(node.addr(), WEBSOCKET, 4096).await;
        SioWs::begin(socket).await.enter().await
    }

    async fn begin(mut socket: RawWs) -> SioWs {
        let open = next_text(&mut socket).await;
        assert!(open.starts_with("0{"), "{open}");
        SioWs { socket, n_asked: 0 }
    }

    async fn enter(mut self) -> SioWs {
        self.send("40").await;
        let connected = self.next().await;
        assert!(connected.starts_with(r#"40{"sid":""#), "{connected}");
        self
    }

    /// Sends a packet.
    pub(crate) async fn send(&mut self, packet: &str) {
        self.socket.send(&text(packet)).await;
    }

    /// Sends a frame of a WebSocket as it is.
    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        self.socket.send(frame).await;
    }

    /// Sends an event: its name and its arguments.
    pub(crate) async fn emit(&mut self, event: Value) {
        self.send(&format!("42{event}")).await;
    }

    /// The next packet. Pings are answered.
    pub(crate) async fn next(&mut self) -> String {
        loop {
            match next_text(&mut self.socket).await {
                ping if ping == "2" => self.send("3").await,
                packet => return packet,
            }
        }
    }

    /// The name and the argument of the next event.
    pub(crate) async fn next_event(&mut self) -> (String, Value) {
        loop {
            if let Some(event) = event(&self.next().await) {
                return event;
            }
        }
    }

    /// The argument of the next event of this name. Other packets are skipped.
    pub(crate) async fn wait_for(&mut self, name: &str) -> Value {
        self.wait_until(name, |_| true).await
    }

    /// The argument of the next event of this name for which `matches` holds.
    pub(crate) async fn wait_until(&mut self, name: &str, matches: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (found, argument) = self.next_event().await;
            if found == name && matches(&argument) {
                return argument;
            }
        }
    }

    /// Sends an event that asks for an acknowledgement. Returns the events before that, and what is in it.
    pub(crate) async fn ask_and_hear(&mut self, event: Value) -> (Vec<(String, Value)>, Value) {
        self.n_asked += 1;
        let id = self.n_asked;
        self.send(&format!("42{id}{event}")).await;
        let (begin, mut heard) = (format!("43{id}["), Vec::new());
        loop {
            let packet = self.next().await;
            if packet.starts_with(&begin) {
                let mut ack: Vec<Value> = serde_json::from_str(&packet[begin.len() - 1..]).expect("an array");
                assert_eq!(ack.len(), 1, "{packet}");
                return (heard, ack.remove(0));
            }
            heard.extend(super::polling::event(&packet));
        }
    }

    /// Sends an event that asks for an acknowledgement. Returns what is in it.
    pub(crate) async fn ask(&mut self, event: Value) -> Value {
        self.ask_and_hear(event).await.1
    }

    /// What the socket was told until now.
    pub(crate) async fn fence(&mut self) -> Vec<(String, Value)> {
        let (mut heard, ack) = self.ask_and_hear(json!(["check_user_online", "fence"])).await;
        assert_eq!(ack["success"], true, "{ack}");
        assert_eq!(heard.pop().map(|(name, _)| name).as_deref(), Some("user_online_status"));
        heard
    }

    /// Reads to the end. Returns the packets before it, and the close code.
    pub(crate) async fn expect_close(&mut self) -> (Vec<String>, u16) {
        let mut packets = Vec::new();
        loop {
            let frame = self.socket.next_frame().await.expect("a close frame before the end");
            match frame.opcode {
                super::raw_ws::CLOSE => {
                    let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                    return (packets, code);
                }
                _ => packets.push(String::from_utf8(frame.payload).expect("UTF-8")),
            }
        }
    }
}
