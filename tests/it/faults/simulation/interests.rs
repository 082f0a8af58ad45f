//! What users want to hear of others: they enter and leave rooms, watch others, and pause.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use serde_json::{Value, json};

use super::listener::{ROOM_PAGE, RoomInterest};
use super::users::Socket;
use super::*;

/// The rooms. Their ids are as odd as ids may be.
pub(super) const ROOMS: [&str; 4] = ["team:7", "%3A", "42", "käse / \"brot\""];

/// How many users a socket asks to watch at once, at most.
const N_WATCHED: usize = 6;

/// What a client wants to hear, and says to its node. A client that comes back says it again.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes {
    /// The rooms that it wants to be in.
    pub(super) rooms: BTreeMap<&'static str, RoomInterest>,
    /// Whom it watches; none if it hears of everyone.
    pub(super) watches: Option<BTreeSet<String>>,
    /// Whether it has paused.
    pub(super) is_paused: bool,
}

impl Wishes {
    /// The members of a `join_user` that says this, and what the client has to say afterwards.
    pub(super) fn in_join(&self) -> (Value, Wishes) {
        let is_for_all = |(_, interest): &(&&str, &RoomInterest)| **interest == RoomInterest::Everyone;
        let (in_join, later): (Vec<_>, Vec<_>) = self.rooms.iter().partition(is_for_all);
        let mut join = json!({});
        if !in_join.is_empty() {
            join["rooms"] = in_join.into_iter().map(|(room, _)| id_in_json(room)).collect();
        }
        if self.watches.is_some() {
            join["presence"] = "watch".into();
        }
        let rooms = later.into_iter().map(|(room, interest)| (*room, *interest)).collect();
        (join, Wishes { rooms, ..self.clone() })
    }

    /// What a client that has just been welcomed has to say.
    pub(super) fn say_all(&self, listener: &Listener) {
        for (room, interest) in &self.rooms {
            listener.enter(room, *interest);
        }
        if let Some(watches) = self.watches.as_ref().filter(|watches| !watches.is_empty()) {
            listener.send(&json!({"type": "watch", "userIds": watches}));
        }
        if self.is_paused {
            listener.send(&json!({"type": "pause"}));
        }
    }
}

/// An id that is a number may be sent as one.
fn id_in_json(room: &str) -> Value {
    room.parse::<u64>().map_or_else(|_| room.into(), Value::from)
}

impl Simulation {
    /// Somebody changes what they want to hear.
    pub(super) fn change_interest(&mut self) {
        match self.random.random_range(0..100) {
            0..45 => self.enter_room(),
            45..60 => self.leave_room(),
            60..68 => self.ask_who_is_in_a_room(),
            68..76 => self.watch(),
            76..80 => self.unwatch(),
            80..84 => self.hear_everyone(),
            84..90 => self.pause(),
            90..100 => self.resume(),
            _ => {}
        }
    }

    fn enter_room(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let room = ROOMS[self.random.random_range(0..ROOMS.len())];
        let interest = match self.random.random_range(0..10) {
            0..2 => RoomInterest::Count,
            2 => RoomInterest::Nobody,
            _ => RoomInterest::Everyone,
        };
        let socket = &mut self.sockets[index];
        let before = socket.wishes.rooms.insert(room, interest);
        let (user, node) = (socket.listener.user(), &socket.node);
        self.story.tell(format_args!("{user} on {node} enters {room:?} for {interest:?}, after {before:?}"));
        let request = json!({"type": "join_room", "roomId": id_in_json(room), "presence": interest.name()});
        socket.listener.send(&with_ref(request, interest.name()));
    }

    fn leave_room(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let Some(room) = self.some_room_of(index) else { return };
        let socket = &mut self.sockets[index];
        socket.wishes.rooms.remove(room);
        self.story.tell(format_args!("{} on {} leaves {room:?}", socket.listener.user(), socket.node));
        socket.listener.leave_room(room);
    }

    fn ask_who_is_in_a_room(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let Some(room) = self.some_room_of(index) else { return };
        self.sockets[index].listener.send(&with_ref(json!({"type": "get_room_users", "roomId": room}), ROOM_PAGE));
    }

    fn some_room_of(&mut self, socket: usize) -> Option<&'static str> {
        let rooms: Vec<&'static str> = self.sockets[socket].wishes.rooms.keys().copied().collect();
        rooms.choose(&mut self.random).copied()
    }

    /// Whoever has heard of everyone hears of these alone from now on.
    fn watch(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let n_users = self.random.random_range(1..=N_WATCHED);
        let mut users: BTreeSet<String> = (0..n_users).map(|_| self.some_user()).collect();
        let socket = &mut self.sockets[index];
        users.remove(socket.listener.user());
        self.story.tell(format_args!("{} on {} watches {users:?}", socket.listener.user(), socket.node));
        socket.listener.send(&json!({"type": "watch", "userIds": users}));
        socket.wishes.watches.get_or_insert_default().extend(users);
    }

    fn unwatch(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let socket = &mut self.sockets[index];
        let Some(watches) = &mut socket.wishes.watches else { return };
        let Some(user) = watches.pop_first() else { return };
        self.story.tell(format_args!("{} on {} unwatches {user}", socket.listener.user(), socket.node));
        socket.listener.send(&json!({"type": "unwatch", "userIds": [user]}));
    }

    fn hear_everyone(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let socket = &mut self.sockets[index];
        socket.wishes.watches = None;
        self.story.tell(format_args!("{} on {} hears everyone", socket.listener.user(), socket.node));
        socket.listener.send(&json!({"type": "subscribe", "presence": "everyone"}));
    }

    fn pause(&mut self) {
        let Some(index) = self.some_socket_to_speak_on() else { return };
        let socket = &mut self.sockets[index];
        socket.wishes.is_paused = true;
        self.story.tell(format_args!("{} on {} pauses", socket.listener.user(), socket.node));
        socket.listener.send(&json!({"type": "pause"}));
    }

    fn resume(&mut self) {
        let is_paused = |index: &usize| self.sockets[*index].wishes.is_paused && self.sockets[*index].has_said_all();
        let paused: Vec<usize> = (0..self.sockets.len()).filter(is_paused).collect();
        if let Some(index) = paused.choose(&mut self.random).copied() {
            self.resume_socket(index);
        }
    }

    fn resume_socket(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        socket.wishes.is_paused = false;
        self.story.tell(format_args!("{} on {} resumes", socket.listener.user(), socket.node));
        socket.listener.send(&json!({"type": "resume"}));
    }

    /// Every client is welcomed, has said what it wants, and hears.
    pub(super) async fn resume_everybody(&mut self) {
        let is_unheard = async || {
            self.listen();
            self.sockets.iter().any(|socket| !socket.has_said_all())
        };
        eventually_eq_within(2 * DEADLINE, is_unheard, false, "everybody is welcomed").await;
        for index in 0..self.sockets.len() {
            if self.sockets[index].wishes.is_paused {
                self.resume_socket(index);
            }
        }
    }

    /// Everybody leaves all rooms.
    pub(super) fn leave_all_rooms(&mut self) {
        self.story.tell(format_args!("everybody leaves all rooms"));
        for Socket { listener, wishes, .. } in &mut self.sockets {
            for room in std::mem::take(&mut wishes.rooms).into_keys() {
                listener.leave_room(room);
            }
        }
    }
}

fn with_ref(mut request: Value, reference: &str) -> Value {
    request["ref"] = reference.into();
    request
}
