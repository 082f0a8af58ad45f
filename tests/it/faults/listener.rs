//! A client that listens in the background, and keeps what a real one would: who it believes to be online.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::{DEADLINE, eventually};

/// One socket that reads all the time, answers pings, and checks every event against what was told before.
pub(crate) struct Listener {
    user: String,
    heard: Arc<Mutex<Heard>>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What a listener was told so far.
#[derive(Default)]
pub(crate) struct Heard {
    /// Whom it believes to be online, without itself: the list, and every event since.
    online: BTreeSet<String>,
    listed: bool,
    /// The events since the first list.
    pub(crate) events: Vec<Event>,
    /// What must never be: somebody came or went twice in a row, or an event about the listener itself.
    pub(crate) wrong: Vec<String>,
    /// The code and reason of the end, once there was one; 1006 without a close frame.
    pub(crate) end: Option<(u16, String)>,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When it was read.
    pub(crate) at: Instant,
    /// The whole frame.
    pub(crate) frame: Value,
}

impl Event {
    /// Whether the frame is of this type and about this user.
    pub(crate) fn is(&self, kind: &str, user: &str) -> bool {
        self.frame["type"] == kind && self.frame["userId"] == user
    }
}

enum Order {
    Send(Message),
    Abort,
}

/// For the handshake. A node that cannot answer now is a fault that a test wants to see, so this is no panic.
const HANDSHAKE: Duration = Duration::from_secs(5);

impl Listener {
    /// Connects, and returns once the list has come.
    pub(crate) async fn join(addr: SocketAddr, user: &str) -> Listener {
        let listener = Listener::connect(addr, user).await.unwrap_or_else(|error| panic!("{user} at {addr}: {error}"));
        eventually(async || listener.heard().listed, &format!("{user} at {addr} gets the list")).await;
        listener
    }

    /// Connects; the welcome may come later. The error is why there is no socket.
    pub(crate) async fn connect(addr: SocketAddr, user: &str) -> Result<Listener, String> {
        let socket = async {
            let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
            let url = format!("ws://{addr}/ws?userId={user}");
            let (socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(socket)
        };
        let socket = timeout(HANDSHAKE, socket).await.map_err(|_| "no handshake in time".to_owned())??;
        let (orders, orders_taken) = mpsc::unbounded_channel();
        let heard = Arc::new(Mutex::new(Heard::default()));
        tokio::spawn(listen(socket, orders_taken, heard.clone(), user.to_owned()));
        Ok(Listener { user: user.to_owned(), heard, orders })
    }

    /// Whose socket it is.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// What was heard so far. Hold it shortly: the socket is not read meanwhile.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom the listener believes to be online, and itself, sorted.
    pub(crate) fn online(&self) -> Vec<String> {
        let mut online = self.heard().online.clone();
        online.insert(self.user.clone());
        online.into_iter().collect()
    }

    /// Whether the socket is open, as far as the client knows.
    pub(crate) fn is_open(&self) -> bool {
        self.heard().end.is_none()
    }

    /// The events of this type, in the order they came.
    pub(crate) fn events(&self, kind: &str) -> Vec<Event> {
        self.heard().events.iter().filter(|event| event.frame["type"] == kind).cloned().collect()
    }

    /// Whom an event is about.
    pub(crate) fn whom(event: &Event) -> String {
        event.frame["userId"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an event of this type about this user has come, and returns the first.
    pub(crate) async fn wait_for(&self, kind: &str, user: &str) -> Event {
        let found = || self.heard().events.iter().find(|event| event.is(kind, user)).cloned();
        eventually(async || found().is_some(), &format!("{} hears {kind} of {user}", self.user)).await;
        found().expect("it was there")
    }

    /// Waits until everything that the node told this socket before now has been read.
    pub(crate) async fn fence(&self) {
        let mark = format!("fence-{}", rand::random::<u64>());
        self.send(&json!({"type": "check_user_online", "userId": mark}));
        let passed = async || self.heard().online.contains(&format!("passed {mark}"));
        eventually(passed, &format!("the answer to a question of {}", self.user)).await;
        self.heard().online.remove(&format!("passed {mark}"));
    }

    /// Nobody came twice or went twice in a row, and the socket was not closed.
    pub(crate) fn assert_sound(&self) {
        let heard = self.heard();
        assert!(heard.wrong.is_empty(), "{} heard what must not be: {:#?}", self.user, heard.wrong);
        assert_eq!(heard.end, None, "the socket of {} stays open", self.user);
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &Value) {
        let _ = self.orders.send(Order::Send(Message::text(frame.to_string())));
    }

    /// Sends a close frame with this code.
    pub(crate) fn close(&self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        let _ = self.orders.send(Order::Send(Message::Close(Some(frame))));
    }

    /// Resets the TCP connection.
    pub(crate) fn abort(&self) {
        let _ = self.orders.send(Order::Abort);
    }
}

/// Reads until the end of the socket.
async fn listen(
    mut socket: WebSocketStream<TcpStream>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    heard: Arc<Mutex<Heard>>,
    user: String,
) {
    let lock = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    let mut close = None;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
                    lock().take_in(frame, &user);
                }
                Some(Ok(Message::Close(frame))) => {
                    close = Some(frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    lock().end = Some(close.unwrap_or((1006, String::new())));
                    return;
                }
            },
            order = orders.recv() => match order {
                // A failure shows as the end of the stream.
                Some(Order::Send(message)) => drop(timeout(DEADLINE, socket.send(message)).await),
                Some(Order::Abort) => {
                    let _ = socket.get_ref().set_zero_linger();
                    lock().end = Some((1006, "aborted by the test".to_owned()));
                    return;
                }
                // The listener was dropped: the socket ends without a close frame.
                None => return,
            },
        }
    }
}

impl Heard {
    fn take_in(&mut self, frame: Value, own: &str) {
        let user = frame["userId"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str().unwrap_or_default() {
            "online_users_list" => {
                assert!(frame["nextCursor"].is_null(), "the tests' lists have one page");
                let users = frame["users"].as_array().expect("a list has users");
                self.online = users.iter().map(|user| user["id"].as_str().expect("an id").to_owned()).collect();
                self.online.remove(own);
                self.listed = true;
                return;
            }
            "user_online_status" => {
                self.online.insert(format!("passed {user}"));
                return;
            }
            kind @ ("user_online" | "user_offline" | "user_changed") => {
                let fits = match kind {
                    "user_online" => self.online.insert(user.clone()),
                    "user_offline" => self.online.remove(&user),
                    _ => self.online.contains(&user),
                };
                if !fits || user == own || !self.listed {
                    let before = self.events.iter().filter(|event| event.frame["userId"] == *user);
                    let before: Vec<String> = before.map(|event| event.frame.to_string()).collect();
                    self.wrong.push(format!("{frame} after {before:#?}"));
                }
            }
            _ => return,
        }
        self.events.push(Event { at: Instant::now(), frame });
    }
}
