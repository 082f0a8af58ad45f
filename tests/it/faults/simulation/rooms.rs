//! What everybody must know of the rooms when all faults are over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::interests::ROOMS;
use super::listener::{Picture, RoomInterest};
use super::truth::{Shown, Truth, becomes};
use super::*;

/// The sockets in a room, by user.
type Entries = BTreeMap<String, BTreeSet<String>>;

impl Simulation {
    /// Everybody knows who is in which room: whose sockets are there, and who of them does not hide.
    pub(super) async fn check_rooms(&self, truth: &BTreeMap<String, Truth>) {
        for room in ROOMS {
            let shown = self.shown_in(room, truth);
            self.check_room_in_redis(room).await;
            for SimulatedNode { process, .. } in &self.nodes {
                check_room_on(process, room, &shown).await;
            }
        }
        self.check_all_rooms_in_redis().await;
        for socket in &self.sockets {
            let picture = |(room, interest): (&&str, &RoomInterest)| {
                let shown = self.shown_in(room, truth);
                let picture = match interest {
                    RoomInterest::Everyone => Picture::Everyone(shown),
                    RoomInterest::Count => Picture::Count(shown.len() as u64),
                    RoomInterest::Nobody => Picture::Nobody,
                };
                ((*room).to_owned(), picture)
            };
            let pictures: BTreeMap<_, _> = socket.wishes.rooms.iter().map(picture).collect();
            let what = format!("the rooms of {} on {} are the truth", socket.listener.user(), socket.node);
            becomes(async || socket.listener.rooms(), pictures, &what).await;
            socket.listener.assert_sound();
        }
    }

    /// Nobody is in a room, so nothing is left of any.
    pub(super) async fn check_that_no_room_is_left(&self) {
        for socket in &self.sockets {
            becomes(async || socket.listener.rooms(), BTreeMap::new(), "everybody has left").await;
        }
        for SimulatedNode { process, .. } in &self.nodes {
            for room in ROOMS {
                check_room_on(process, room, &Shown::new()).await;
            }
        }
        for keys in ["online:room:*", "online:rooms:set", "online:node:rooms:*"] {
            becomes(async || self.redis.keys(keys).await, NOBODY, &format!("no {keys} is left")).await;
        }
    }

    fn entries_in(&self, room: &str) -> Entries {
        let mut entries = Entries::new();
        for socket in self.sockets.iter().filter(|socket| socket.wishes.rooms.contains_key(room)) {
            let id = socket.listener.socket_id().expect("it is welcomed");
            entries.entry(socket.listener.user().to_owned()).or_default().insert(id);
        }
        entries
    }

    /// What the room shows: its members who do not hide, each as the service shows them. One's own user is among them.
    fn shown_in(&self, room: &str, truth: &BTreeMap<String, Truth>) -> Shown {
        let members = self.entries_in(room).into_keys();
        members.filter_map(|user| Some((user.clone(), truth[&user].shown(&user)?))).collect()
    }

    async fn check_room_in_redis(&self, room: &str) {
        let (redis, name, entries) = (&self.redis, name_in_keys(room), self.entries_in(room));
        let members: Vec<&str> = entries.keys().map(String::as_str).collect();
        let key = format!("online:room:{name}:users:set");
        becomes(async || redis.smembers(&key).await, members, &format!("{key} is the truth")).await;
        let sockets = async || {
            let prefix = format!("online:room:{name}:user:socket:");
            let mut stored = Entries::new();
            for key in redis.keys(&format!("{}*", as_pattern(&prefix))).await {
                let user = key.strip_prefix(&prefix).expect("that is the pattern").to_owned();
                stored.insert(user, redis.hgetall(&key).await.into_keys().collect());
            }
            stored
        };
        becomes(sockets, entries, &format!("Redis holds the open sockets in {room:?}")).await;
    }

    /// The rooms in which somebody is, and what the nodes hold in them.
    async fn check_all_rooms_in_redis(&self) {
        let redis = &self.redis;
        let mut rooms: Vec<&str> = ROOMS.into_iter().filter(|room| !self.entries_in(room).is_empty()).collect();
        rooms.sort_unstable();
        becomes(async || redis.smembers("online:rooms:set").await, rooms, "the rooms are the truth").await;
        let of_room = |room: &str| {
            let users = self.entries_in(room).into_iter();
            let sockets = users.flat_map(|(user, sockets)| sockets.into_iter().map(move |id| (id, user.clone())));
            sockets.map(|(id, user)| (format!("{room}\t{id}"), user)).collect::<Vec<_>>()
        };
        let entries: BTreeMap<String, String> = ROOMS.into_iter().flat_map(of_room).collect();
        let held = async || {
            let mut held = BTreeMap::new();
            for key in redis.keys("online:node:rooms:*").await {
                held.extend(redis.hgetall(&key).await);
            }
            held
        };
        becomes(held, entries, "the nodes hold the open sockets in rooms").await;
    }
}

/// What a node says of a room over HTTP.
async fn check_room_on(process: &NodeProcess, room: &str, shown: &Shown) {
    let path = format!("/api/chatroom/{}/online-users?userId=user-00", percent_encoded(room));
    let users: Vec<&str> = shown.keys().map(String::as_str).collect();
    let truth = json!({"status": 200, "roomId": room, "onlineCount": shown.len(), "users": users});
    let said = async || {
        let (status, answer) = process.get(&path).await;
        let data = &answer["data"];
        let mut users: Vec<Value> =
            data["onlineUsers"].as_array().into_iter().flatten().map(|user| user["userId"].clone()).collect();
        users.sort_by_key(ToString::to_string);
        json!({"status": status, "roomId": data["roomId"], "onlineCount": data["onlineCount"], "users": users})
    };
    becomes(said, truth, &format!("{path} of {} is the truth", process.node_id())).await;
}

/// The id of a room as it stands in the names of its keys (docs/redis.md).
fn name_in_keys(room: &str) -> String {
    room.replace('%', "%25").replace(':', "%3A")
}

/// A text as a pattern of Redis that only this text matches.
fn as_pattern(text: &str) -> String {
    let is_special = |character: char| "*?[]\\^-".contains(character);
    text.chars().fold(String::new(), |mut pattern, character| {
        if is_special(character) {
            pattern.push('\\');
        }
        pattern.push(character);
        pattern
    })
}
