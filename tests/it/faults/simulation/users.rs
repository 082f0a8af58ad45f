//! What users do: they come and go, and say something about themselves.

use rand::RngExt;
use serde_json::json;

use super::interests::Wishes;
use super::listener::Way;
use super::model::Said;
use super::*;

/// An open socket, as its client sees it.
pub(super) struct Socket {
    /// Which node, by its id: a place in the cluster is taken again by another.
    pub(super) node: String,
    /// How its client connects, each time.
    pub(super) way: Way,
    pub(super) listener: Listener,
    /// The statement that came with the join.
    pub(super) stated: Option<u64>,
    /// Whether the client said last that nobody is there.
    is_idle: bool,
    /// Whether the client ever said `user_activity`. Otherwise it is never idle by the time alone.
    says_activity: bool,
    /// What the client wants to hear.
    pub(super) wishes: Wishes,
    /// What it has to say of this once it is welcomed.
    unsaid: Option<Wishes>,
    /// How many events and answers were looked at ([`Simulation::listen`]).
    pub(super) n_looked_at: (usize, usize),
}

/// Users who come and go; each may have several sockets.
const N_USERS: usize = 24;

const STATUSES: [&str; 7] = ["online", "away", "busy", "dnd", "invisible", "invisible", "invisible"];

impl Socket {
    /// Whether the client was welcomed.
    pub(super) fn is_welcomed(&self) -> bool {
        self.listener.own_status().is_some()
    }

    /// Whether the client was welcomed, and has said what it wants to hear.
    pub(super) fn has_said_all(&self) -> bool {
        self.is_welcomed() && self.unsaid.is_none()
    }

    /// Whether the socket is idle when nobody has said anything for a while.
    pub(super) fn is_idle_in_the_end(&self, variant: Variant) -> bool {
        self.is_idle || variant.falls_idle && self.says_activity
    }

    pub(super) fn assert_heard_nothing_wrong(&self) {
        assert_eq!(self.listener.heard().wrong, NOBODY, "{} heard what must not be", self.listener.user());
    }
}

impl Simulation {
    pub(super) async fn open(&mut self) {
        let user = self.some_user();
        if let Some(index) = self.some_node_that_is_up() {
            let status = self.random.random_bool(0.2).then(|| self.some_status());
            let way = self.some_way();
            self.open_on(index, way, &user, status, Wishes::default()).await;
        }
    }

    /// Opens a socket that joins as this user. There are two ways: by the URL, and by a message that also says in which
    /// rooms the user wants to be.
    async fn open_on(&mut self, index: usize, way: Way, user: &str, status: Option<&str>, wishes: Wishes) {
        let joins_by_message = self.random.random_bool(0.5);
        let process = &self.nodes[index].process;
        let node = process.node_id().to_owned();
        let said = status.map(|status| Said::Status { status: status.to_owned(), text: None, lasts: None });
        let stated = said.map(|said| self.model.say(user, &node, said, true));
        let (listener, unsaid) = if joins_by_message {
            let (mut join, unsaid) = wishes.in_join();
            if let Some(status) = status {
                join["status"] = status.into();
            }
            (Listener::connect_and_join(way, process.addr(), user, join).await, unsaid)
        } else {
            let query = status.map(|status| format!("&status={status}")).unwrap_or_default();
            let presence = if wishes.watches.is_some() { "&presence=watch" } else { "" };
            (Listener::connect_by(way, process.addr(), user, &format!("{query}{presence}")).await, wishes.clone())
        };
        let failure = listener.as_ref().err();
        let word = if joins_by_message { "a message" } else { "its URL" };
        self.story.tell(format_args!(
            "{user} opens a socket on node {index}, {way:?} by {word}, {status:?} {stated:?} {wishes:?}: {failure:?}"
        ));
        match listener {
            Ok(listener) => self.sockets.push(Socket {
                node,
                way,
                listener,
                stated,
                is_idle: false,
                says_activity: false,
                wishes,
                unsaid: Some(unsaid),
                n_looked_at: (0, 0),
            }),
            Err(_) => self.note_end(user, &node),
        }
    }

    pub(super) fn some_user(&mut self) -> String {
        format!("user-{:02}", self.random.random_range(0..N_USERS))
    }

    /// A third of the clients speak Socket.IO, and half of these poll.
    fn some_way(&mut self) -> Way {
        match self.random.random_range(0..6) {
            0 => Way::Socketio(Carrier::WebSocket),
            1 => Way::Socketio(Carrier::Polling),
            _ => Way::Native,
        }
    }

    fn some_status(&mut self) -> &'static str {
        STATUSES[self.random.random_range(0..STATUSES.len())]
    }

    /// A socket whose client has been welcomed, has no question open, and is not paused.
    pub(super) fn some_socket_to_speak_on(&mut self) -> Option<usize> {
        let index = self.some_socket()?;
        let socket = &self.sockets[index];
        let waits = self.model.is_waiting(socket.listener.user(), &socket.node);
        (socket.has_said_all() && !socket.wishes.is_paused && !waits).then_some(index)
    }

    pub(super) fn set_status(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let status = self.some_status().to_owned();
        let lasts = self.random.random_bool(0.25).then(|| Duration::from_millis(self.random.random_range(300..3000)));
        let text = self.random.random_bool(0.3).then(|| self.new_words(index));
        self.say(index, Said::Status { status, text, lasts });
    }

    pub(super) fn rename(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let name = self.new_words(index);
        self.say(index, Said::Name(name));
    }

    /// Words that nobody has said, and that name who says them.
    pub(super) fn new_words(&mut self, socket: usize) -> String {
        format!("{} \"{:x}\"", self.sockets[socket].listener.user(), self.random.random::<u32>())
    }

    /// Says something on a socket.
    pub(super) fn say(&mut self, index: usize, said: Said) {
        let socket = &mut self.sockets[index];
        // To hide is no activity.
        let hides = matches!(&said, Said::Status { status, .. } if status == "invisible");
        socket.is_idle &= hides;
        let (user, node) = (socket.listener.user(), &socket.node);
        let number = self.model.say(user, node, said.clone(), false);
        self.story.tell(format_args!("{user} on {node} says {said:?}, {number}"));
        let mut request = match said {
            Said::Status { status, text, lasts } => {
                let lasts = lasts.map(|lasts| u64::try_from(lasts.as_millis()).expect("it is short"));
                json!({"type": "set_status", "status": status, "text": text, "expiresInMs": lasts})
            }
            Said::Name(name) => json!({"type": "update_presence", "name": name}),
        };
        let members = request.as_object_mut().expect("an object");
        members.retain(|_, value| !value.is_null());
        members.insert("ref".to_owned(), number.into());
        socket.listener.send(&request);
    }

    pub(super) fn be_active_or_idle(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let idle = self.random.random_bool(0.7);
        let socket = &mut self.sockets[index];
        (socket.is_idle, socket.says_activity) = (idle, true);
        self.story.tell(format_args!("{} on {} is idle: {idle}", socket.listener.user(), socket.node));
        socket.listener.send(&json!({"type": "user_activity", "idle": idle}));
    }

    /// Three ways to leave by one's own word.
    pub(super) fn say_goodbye(&mut self) {
        let Some(socket) = self.some_socket() else { return };
        let Socket { listener, node, .. } = self.end(socket);
        let way = self.random.random_range(0..3);
        self.story.tell(format_args!("{} says goodbye to {node}, way {way}", listener.user()));
        match way {
            0 => listener.close(1000),
            1 => {
                listener.send(&json!({"type": "leave"}));
                listener.close(1000);
            }
            _ => {
                listener.send(&json!({"type": "leave"}));
                listener.abort();
            }
        }
    }

    /// Closes with 1001 and comes back at once, perhaps elsewhere.
    pub(super) async fn reload(&mut self) {
        let Some(socket) = self.some_socket().filter(|_| self.is_any_node_up()) else { return };
        let socket = self.end(socket);
        self.story.tell(format_args!("{} reloads, from {}", socket.listener.user(), socket.node));
        socket.listener.close(1001);
        self.come_back(socket).await;
    }

    /// Breaks off, and comes back or not.
    pub(super) async fn abort(&mut self) {
        let Some(socket) = self.some_socket() else { return };
        let socket = self.end(socket);
        self.story.tell(format_args!("{} breaks off, from {}", socket.listener.user(), socket.node));
        socket.listener.abort();
        if self.random.random_bool(0.3) {
            self.come_back(socket).await;
        }
    }

    /// The client of a socket that ended connects again, perhaps elsewhere, and wants to hear what it wanted to hear.
    pub(super) async fn come_back(&mut self, Socket { way, listener, wishes, .. }: Socket) {
        if let Some(index) = self.some_node_that_is_up() {
            self.open_on(index, way, listener.user(), None, wishes).await;
        }
    }

    /// Takes a socket that its client ends; what it heard must be right.
    fn end(&mut self, index: usize) -> Socket {
        let socket = self.sockets.swap_remove(index);
        socket.assert_heard_nothing_wrong();
        self.note_end(socket.listener.user(), &socket.node);
        socket
    }

    /// Whoever was welcomed says what it wants to hear.
    pub(super) fn speak_after_welcome(&mut self) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.is_welcomed()) {
            if let Some(unsaid) = socket.unsaid.take() {
                unsaid.say_all(&socket.listener);
            }
        }
    }

    fn note_end(&mut self, user: &str, node: &str) {
        let is_other = |socket: &Socket| socket.listener.user() == user && socket.node == node && socket.is_welcomed();
        let has_others = self.sockets.iter().any(is_other);
        self.model.socket_ended(user, node, has_others);
    }
}
