//! A client that listens in the background, and keeps what a real one would: who it believes to be online and with which
//! status, who is in its rooms, and its own status.

mod line;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use self::line::Line;
pub(crate) use self::line::Way;
use self::rooms::RoomPictures;
pub(crate) use self::rooms::{Picture, RoomInterest};
use crate::support::eventually;

/// One socket that reads all the time, answers pings, and checks every event against what was told before.
pub(crate) struct Listener {
    user: String,
    heard: Arc<Mutex<Heard>>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What a listener was told so far.
#[derive(Default)]
pub(crate) struct Heard {
    /// Whom it believes to be online, without itself, each as last shown: the list, and every event since. A client that
    /// watches knows of nobody else whom it watches.
    online: BTreeMap<String, Value>,
    listed: bool,
    /// Whom it watches, as the node has confirmed; none if it hears of everyone.
    watched: Option<BTreeSet<String>>,
    /// Its rooms.
    rooms: RoomPictures,
    /// Whether it is paused, as the node has confirmed.
    is_paused: bool,
    /// The id of the socket, from the last `welcome`.
    socket_id: Option<String>,
    /// The own status, as last shown.
    own: Option<OwnStatus>,
    /// The own status of the last event, since the last answer that shows it.
    own_event: Option<OwnStatus>,
    /// The marks of the questions that were answered.
    passed: BTreeSet<String>,
    /// The events about others since the first list, and what a `resumed` says that was missed of them.
    pub(crate) events: Vec<Event>,
    /// All other frames that show something: `welcome`, lists, own statuses, answers, and what is told of rooms.
    pub(crate) answers: Vec<Event>,
    /// What must never be, for example: somebody came or went twice in a row, or is shown as invisible.
    pub(crate) wrong: Vec<String>,
    /// The code and reason of the end, once there was one; 1006 without a close frame.
    pub(crate) end: Option<(u16, String)>,
}

/// What a socket is told of its own user's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnStatus {
    /// What was chosen.
    pub(crate) chosen: String,
    /// What others see.
    pub(crate) effective: String,
    /// The words beside it.
    pub(crate) text: Option<String>,
    /// When it ends.
    pub(crate) expires_at: Option<String>,
}

/// One frame.
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
    Send(Value),
    Close(u16),
    Abort,
}

/// The `ref` of a question who is in a room, if it need not have an answer.
pub(crate) const ROOM_PAGE: &str = "page";

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
        Listener::connect_by(Way::Native, addr, user, "").await
    }

    /// Does the same as [`Listener::connect`] another way, with this end of the URL: `&status=busy`.
    pub(crate) async fn connect_by(way: Way, addr: SocketAddr, user: &str, query: &str) -> Result<Listener, String> {
        let watches = query.contains("presence=watch");
        let listener = Listener::open(way, addr, user, &format!("userId={user}{query}")).await?;
        listener.heard().watched = watches.then(BTreeSet::new);
        Ok(listener)
    }

    /// Connects, and joins with a `join_user` that has these members. The answer may come later.
    pub(crate) async fn connect_and_join(
        way: Way,
        addr: SocketAddr,
        user: &str,
        mut join: Value,
    ) -> Result<Listener, String> {
        let listener = Listener::open(way, addr, user, "").await?;
        listener.heard().watched = (join["presence"] == "watch").then(BTreeSet::new);
        (join["type"], join["userId"]) = ("join_user".into(), user.into());
        listener.send(&join);
        Ok(listener)
    }

    async fn open(way: Way, addr: SocketAddr, user: &str, query: &str) -> Result<Listener, String> {
        let connecting = timeout(HANDSHAKE, Line::connect(way, addr, query));
        let line = connecting.await.map_err(|_| "no handshake in time".to_owned())??;
        let (orders, orders_taken) = mpsc::unbounded_channel();
        let heard = Arc::new(Mutex::new(Heard::default()));
        tokio::spawn(listen(line, orders_taken, heard.clone(), user.to_owned()));
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
        let mut online: BTreeSet<String> = self.heard().online.keys().cloned().collect();
        online.insert(self.user.clone());
        online.into_iter().collect()
    }

    /// The id of the socket, once the node has said it.
    pub(crate) fn socket_id(&self) -> Option<String> {
        self.heard().socket_id.clone()
    }

    /// What the listener knows of every room in which it is.
    pub(crate) fn rooms(&self) -> BTreeMap<String, Picture> {
        self.heard().rooms.all()
    }

    /// Whom the listener believes to be in a room. It is none if the listener is not there, or does not hear who is.
    pub(crate) fn in_room(&self, room: &str) -> Option<Vec<String>> {
        match self.heard().rooms.get(room) {
            Some(Picture::Everyone(users)) => Some(users.keys().cloned().collect()),
            _ => None,
        }
    }

    /// Asks to be in a room.
    pub(crate) fn enter(&self, room: &str, interest: RoomInterest) {
        let name = interest.name();
        self.send(&json!({"type": "join_room", "roomId": room, "presence": name, "ref": name}));
    }

    /// Asks to be in a room, and returns once the room was shown.
    pub(crate) async fn join_room(&self, room: &str) {
        self.enter(room, RoomInterest::Everyone);
        eventually(async || self.in_room(room).is_some(), &format!("{} is in {room}", self.user)).await;
    }

    /// Asks to be in a room no more.
    pub(crate) fn leave_room(&self, room: &str) {
        self.send(&json!({"type": "leave_room", "roomId": room, "ref": "leave"}));
    }

    /// Waits until everything that the node told this socket of a room before now has been read. The socket is in the room.
    pub(crate) async fn fence_in_room(&self, room: &str) {
        let mark = format!("fence-{}", rand::random::<u64>());
        self.send(&json!({"type": "get_room_users", "roomId": room, "ref": mark}));
        let passed = async || self.heard().answers.iter().rev().any(|event| event.frame["ref"] == *mark);
        eventually(passed, &format!("the answer to a question of {} about {room}", self.user)).await;
    }

    /// The events of this type and room, in the order they came.
    pub(crate) fn room_events(&self, kind: &str, room: &str) -> Vec<Event> {
        let is_one = |event: &&Event| event.frame["type"] == kind && event.frame["roomId"] == room;
        self.heard().answers.iter().filter(is_one).cloned().collect()
    }

    /// Everybody else whom the listener believes to be online, as last shown.
    pub(crate) fn others(&self) -> BTreeMap<String, Value> {
        self.heard().online.clone()
    }

    /// The status of the listener's own user, as last shown.
    pub(crate) fn own_status(&self) -> Option<OwnStatus> {
        self.heard().own.clone()
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
        let passed = async || self.heard().passed.contains(&mark);
        eventually(passed, &format!("the answer to a question of {}", self.user)).await;
    }

    /// Nothing was heard that must not be, and the socket was not closed.
    pub(crate) fn assert_sound(&self) {
        let heard = self.heard();
        assert!(heard.wrong.is_empty(), "{} heard what must not be: {:#?}", self.user, heard.wrong);
        assert_eq!(heard.end, None, "the socket of {} stays open", self.user);
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &Value) {
        let _ = self.orders.send(Order::Send(frame.clone()));
    }

    /// Closes with this code.
    pub(crate) fn close(&self, code: u16) {
        let _ = self.orders.send(Order::Close(code));
    }

    /// Resets the TCP connection.
    pub(crate) fn abort(&self) {
        let _ = self.orders.send(Order::Abort);
    }
}

/// Reads until the end of the socket.
async fn listen(mut line: Line, mut orders: mpsc::UnboundedReceiver<Order>, heard: Arc<Mutex<Heard>>, user: String) {
    let lock = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        tokio::select! {
            next = line.next() => match next {
                Ok((at, frame)) => lock().take_in(at, frame, &user),
                Err(end) => {
                    lock().end = Some(end);
                    return;
                }
            },
            order = orders.recv() => match order {
                Some(Order::Send(frame)) => line.send(&frame).await,
                Some(Order::Close(code)) => line.close(code).await,
                Some(Order::Abort) => {
                    line.abort();
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
    fn take_in(&mut self, at: Instant, frame: Value, own: &str) {
        self.expect(!self.is_paused || !is_event(&frame), "an event comes in a pause", &frame);
        match frame["type"].as_str().unwrap_or_default() {
            "user_online" | "user_offline" | "user_changed" | "user_status_changed" => {
                self.take_event(&frame, own);
                self.events.push(Event { at, frame });
                return;
            }
            "online_users_list" => self.take_list(&frame, own),
            "user_online_status" => {
                self.passed.insert(frame["userId"].as_str().unwrap_or_default().to_owned());
                self.expect(frame["user"]["status"] != "invisible", "somebody is shown as invisible", &frame);
            }
            "welcome" => {
                self.rooms.leave_all();
                self.socket_id = frame["socketId"].as_str().map(str::to_owned);
                self.take_own(&frame);
            }
            "own_status" => self.take_own(&frame),
            "left" => self.rooms.leave_all(),
            "watching" => self.take_watching(&frame),
            "unwatched" => self.take_unwatched(&frame),
            "subscribed" => self.take_interest(&frame),
            "paused" => self.is_paused = true,
            "resumed" => self.take_resumed(at, &frame, own),
            "resync" => self.forget(),
            // Nobody can say who is in a room that was entered while Redis was away.
            "error" if frame["code"] == "store_unavailable" && frame["ref"] == ROOM_PAGE => {}
            "error" => self.expect(false, "a request is refused", &frame),
            kind if kind.starts_with("room_") => {
                if let Err(what) = self.rooms.take_in(&frame) {
                    self.wrong.push(format!("{what}: {frame}"));
                }
            }
            _ => {}
        }
        self.answers.push(Event { at, frame });
    }

    /// Who watches is told the states that it misses, all the same.
    fn forget(&mut self) {
        self.own_event = None;
        self.rooms.forget();
        if self.watched.is_none() {
            self.online.clear();
            self.listed = false;
        }
    }

    fn take_list(&mut self, frame: &Value, own: &str) {
        assert!(frame["nextCursor"].is_null(), "the tests' lists have one page");
        let users = frame["users"].as_array().expect("a list has users");
        let id_of = |user: &Value| user["id"].as_str().expect("an id").to_owned();
        self.online = users.iter().map(|user| (id_of(user), user.clone())).collect();
        self.expect(!self.online.values().any(is_invisible), "somebody is shown as invisible", frame);
        self.online.remove(own);
        self.listed = true;
    }

    /// From now on the client hears of those whom it watches, and of nobody else.
    fn take_watching(&mut self, frame: &Value) {
        if self.watched.is_none() {
            self.online.clear();
        }
        let watched = self.watched.get_or_insert_default();
        for state in frame["users"].as_array().expect("it says how they are") {
            let user = state["userId"].as_str().expect("a user");
            watched.insert(user.to_owned());
            match state.get("user") {
                Some(shown) => _ = self.online.insert(user.to_owned(), shown.clone()),
                None => _ = self.online.remove(user),
            }
        }
        self.expect(!self.online.values().any(is_invisible), "somebody is shown as invisible", frame);
    }

    fn take_unwatched(&mut self, frame: &Value) {
        for user in frame["userIds"].as_array().expect("it says whom").iter().filter_map(Value::as_str) {
            let was_watched = self.watched.as_mut().is_some_and(|watched| watched.remove(user));
            if was_watched {
                self.online.remove(user);
            }
        }
    }

    fn take_interest(&mut self, frame: &Value) {
        assert_eq!(frame["presence"], "everyone", "the tests ask for nothing else");
        (self.watched, self.listed) = (None, false);
        self.online.clear();
    }

    /// What was missed may be known already, but nobody comes or goes twice.
    fn take_resumed(&mut self, at: Instant, frame: &Value, own: &str) {
        self.is_paused = false;
        self.own_event = None;
        for change in frame["changes"].as_array().expect("it says what was missed") {
            let id = change["userId"].as_str().unwrap_or_default();
            let before = match change["type"].as_str().unwrap_or_default() {
                "user_offline" => self.online.remove(id),
                _ => self.online.insert(id.to_owned(), change["user"].clone()),
            };
            let fits = (change["type"] == "user_online") == before.is_none();
            let is_right = fits && self.hears_of(id, own) && !is_invisible(&change["user"]);
            self.expect(is_right, &format!("{change} is told to one who knew {before:?}"), frame);
            let mut change = change.clone();
            (change["epoch"], change["revision"]) = (frame["epoch"].clone(), frame["revision"].clone());
            self.events.push(Event { at, frame: change });
        }
    }

    /// Whether an event about this user may be told.
    fn hears_of(&self, user: &str, own: &str) -> bool {
        let is_of_interest = self.watched.as_ref().map_or(self.listed, |watched| watched.contains(user));
        is_of_interest && user != own
    }

    /// An event must fit to what was told before, and change it.
    fn take_event(&mut self, frame: &Value, own: &str) {
        let id = frame["userId"].as_str().unwrap_or_default();
        let kind = frame["type"].as_str().unwrap_or_default();
        let shown = &frame["user"];
        let before = match kind {
            "user_offline" => self.online.remove(id),
            _ => self.online.insert(id.to_owned(), shown.clone()),
        };
        let fits = match (kind, &before) {
            ("user_online", before) => before.is_none(),
            ("user_offline", before) => before.is_some(),
            ("user_changed", Some(before)) => status_of(before) == status_of(shown) && before != shown,
            ("user_status_changed", Some(before)) => {
                status_of(before) != status_of(shown) && status_of(frame) == status_of(shown)
            }
            _ => false,
        };
        if !fits || !self.hears_of(id, own) {
            let earlier = self.events.iter().filter(|event| event.frame["userId"] == id);
            let earlier: Vec<String> = earlier.map(|event| event.frame.to_string()).collect();
            self.wrong.push(format!("{frame} to one who knew {before:?}, after {earlier:#?}"));
        }
        self.expect(!is_invisible(shown), "somebody is shown as invisible", frame);
        self.expect(kind == "user_offline" || shown["id"] == id, "an event shows another user", frame);
    }

    fn take_own(&mut self, frame: &Value) {
        let text = |member: &str| frame[member].as_str().map(str::to_owned);
        let own = OwnStatus {
            chosen: text("chosen").unwrap_or_default(),
            effective: text("effective").unwrap_or_default(),
            text: text("statusText"),
            expires_at: text("expiresAt"),
        };
        // A user whose data are lost, and who hid, stays hidden until a node has asserted the user again.
        let may_differ = own.chosen == "online" && ["away", "invisible"].contains(&own.effective.as_str());
        self.expect(own.effective == own.chosen || may_differ, "others see what was not chosen", frame);
        let is_event = frame["type"] == "own_status" && frame["ref"].is_null() && frame["timestamp"].is_string();
        if is_event {
            self.expect(self.own.is_some(), "an event comes before the welcome", frame);
            self.expect(self.own_event.as_ref() != Some(&own), "the same is told twice in a row", frame);
        }
        self.own_event = is_event.then(|| own.clone());
        self.own = Some(own);
    }

    fn expect(&mut self, is_right: bool, what: &str, frame: &Value) {
        if !is_right {
            self.wrong.push(format!("{what}: {frame}"));
        }
    }
}

/// Whether the node tells this by itself. Such a frame answers nothing, and says when it happened.
fn is_event(frame: &Value) -> bool {
    let kind = frame["type"].as_str().unwrap_or_default();
    let is_told = kind.starts_with("user_") || kind.starts_with("room_") || kind == "own_status";
    is_told && kind != "user_activity_ack" && kind != "user_online_status" && frame.get("ref").is_none()
}

fn is_invisible(user: &Value) -> bool {
    user["status"] == "invisible"
}

/// The status that a user object or an event shows, and the words beside it.
fn status_of(shown: &Value) -> (&Value, &Value) {
    (&shown["status"], &shown["statusText"])
}
