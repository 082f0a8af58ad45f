//! Every Redis key and channel is spelled here, and only here. `docs/redis.md` describes what each holds.
//!
//! The keys of a room have the room's id in the middle, and may have the id of a user at the end. Both may be any text. So a
//! `:` in the id of the room is written `%3A`, and a `%` is written `%25`. Then the id ends at the next `:`, and no two rooms
//! or users share a key.

use std::fmt::{self, Display};

use redis::{Cmd, RedisWrite, ToRedisArgs};

use crate::domain::{NodeId, RoomId, SocketId, UserId};

/// The names of one partition, of the service and of the rooms in it.
///
/// A script's keys must all share one partition. Standalone Redis has exactly one partition, with the plain names.
/// Redis Cluster would put the partition's hash tag into `prefix`. So it needs new names but no new design.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// HASH `run_id`, `epoch`, `holdUntil`, `holdLimit`.
    pub(super) epoch: String,
    /// ZSET node id to lease end in ms. The lease end is 0 while the node is being swept.
    pub(super) nodes: String,
    /// ZSET node id to a time in ms. At that time the node had asserted its sockets. With `:rooms` behind the node id: it had
    /// asserted their entries in rooms as well.
    pub(super) asserted: String,
    /// STRING, a time in ms. No sweep begins before it.
    pub(super) sweep_after: String,
    /// STRING, the node that audits or has just audited. No other node audits while this key lives.
    pub(super) audit: String,
    /// ZSET user id to a time in ms. At that time an audit first found that the user looks like a ghost.
    pub(super) audit_suspects: String,
    /// Pub/sub channel of the signals for every node.
    pub(super) signals: String,
    /// What the name of a node's inbox begins with.
    inbox: String,
    /// The beginnings of keys that are the same in every scope. A script completes each with an id. They are in the
    /// order of `lua/prelude.lua`.
    families: [String; 5],
    pub(super) service: ServiceKeys,
    /// SET of the ids of rooms in which somebody is.
    pub(super) rooms: String,
    /// SET of the ids of registered rooms.
    pub(super) registered: String,
    /// The beginnings of the keys of a room, of a node's entries in rooms, and of a room's registered members.
    room: String,
    node_rooms: String,
    registered_members: String,
}

/// The names of the service as a scope.
#[derive(Debug, Clone)]
pub(super) struct ServiceKeys {
    /// STRING, the last revision.
    pub(super) revision: String,
    /// STREAM of transitions.
    pub(super) log: String,
    /// SET of the users who are present and visible.
    pub(super) users: String,
    /// SET of the users who are present and hidden.
    pub(super) hidden: String,
    /// Pub/sub channel of transitions.
    pub(super) events: String,
    /// The beginning of the key of a user's sockets.
    user_sockets: String,
}

/// The names of one room.
#[derive(Debug, Clone)]
pub(super) struct RoomKeys {
    begin: String,
}

/// The key of one id. It is written straight into a command, because heartbeats name three keys each
/// (docs/performance.md).
pub(super) struct Key<'a, Id> {
    family: &'a str,
    id: Id,
}

/// The one partition of standalone Redis.
pub(super) struct Partition;

impl Keys {
    /// The names under `prefix` (setting `redis.prefix`).
    pub(super) fn new(prefix: &str, _partition: Partition) -> Self {
        let name = |rest: &str| format!("{prefix}:{rest}");
        Self {
            epoch: name("epoch"),
            nodes: name("nodes"),
            asserted: name("nodes:asserted"),
            sweep_after: name("sweep:after"),
            audit: name("audit"),
            audit_suspects: name("audit:suspects"),
            signals: name("signals"),
            inbox: name("node:"),
            families: ["socket:user:", "presence:", "node:sockets:", "node:generation:", "last-seen:"].map(name),
            service: ServiceKeys {
                revision: name("revision"),
                log: name("log"),
                users: name("users:set"),
                hidden: name("users:hidden"),
                events: name("events"),
                user_sockets: name("user:socket:"),
            },
            rooms: name("rooms:set"),
            registered: name("registered:rooms"),
            room: name("room:"),
            node_rooms: name("node:rooms:"),
            registered_members: name("registered:members:"),
        }
    }

    /// The names of a room.
    pub(super) fn room(&self, room: &RoomId) -> RoomKeys {
        RoomKeys { begin: format!("{}{}:", self.room, escaped(room.as_str())) }
    }

    /// The room to which a channel belongs.
    pub(super) fn room_of_channel(&self, channel: &[u8]) -> Option<RoomId> {
        let name = std::str::from_utf8(channel).ok()?.strip_prefix(&self.room)?;
        let (escaped, _) = name.split_once(':')?;
        RoomId::parse(&escaped.replace("%3A", ":").replace("%25", "%")).ok()
    }

    /// HASH `{roomId}`, a tab and the socket id, to user id: the entries of a node in rooms. No id has a tab in it.
    pub(super) fn node_rooms(&self, node: NodeId) -> Key<'_, NodeId> {
        Key { family: &self.node_rooms, id: node }
    }

    /// SET: the ids of the registered members of a room.
    pub(super) fn registered_members<'a>(&'a self, room: &'a RoomId) -> Key<'a, &'a RoomId> {
        Key { family: &self.registered_members, id: room }
    }

    /// STRING: the user of a socket.
    pub(super) fn socket_user(&self, socket: SocketId) -> Key<'_, SocketId> {
        Key { family: &self.families[0], id: socket }
    }

    /// STRING: a user's data as JSON.
    pub(super) fn presence<'a>(&'a self, user: &'a UserId) -> Key<'a, &'a UserId> {
        Key { family: &self.families[1], id: user }
    }

    /// Reads the presences of these users.
    pub(super) fn get_presences(&self, users: &[UserId]) -> Cmd {
        let mut get = redis::cmd("MGET");
        for user in users {
            get.arg(self.presence(user));
        }
        get
    }

    /// HASH socket id to user id: the sockets of a node.
    pub(super) fn node_sockets(&self, node: NodeId) -> Key<'_, NodeId> {
        Key { family: &self.families[2], id: node }
    }

    /// STRING: the generation of a node's writer, or `drained`.
    pub(super) fn node_generation(&self, node: NodeId) -> Key<'_, NodeId> {
        Key { family: &self.families[3], id: node }
    }

    /// `KEYS` of every script, in the order of `lua/prelude.lua`.
    pub(super) fn fixed(&self) -> [&str; 8] {
        let ServiceKeys { revision, log, users, hidden, .. } = &self.service;
        [&self.epoch, revision, log, &self.nodes, &self.sweep_after, users, &self.asserted, hidden]
    }

    /// Pub/sub channel of the signals for one node.
    pub(super) fn inbox(&self, node: NodeId) -> String {
        format!("{}{node}:inbox", self.inbox)
    }

    /// STRING: when a user who is not visible was last seen, as JSON.
    pub(super) fn last_seen<'a>(&'a self, user: &'a UserId) -> Key<'a, &'a UserId> {
        Key { family: &self.families[4], id: user }
    }

    /// A pattern for each channel, as a rule of `ACL SETUSER`. After each pattern comes a channel that it must cover.
    pub(super) fn channel_samples(&self, node: NodeId) -> Vec<String> {
        let plain = [&self.service.events, &self.signals];
        let plain = plain.into_iter().flat_map(|channel| [format!("&{channel}"), channel.clone()]);
        let inboxes = [format!("&{}*", self.inbox), self.inbox(node)];
        let rooms = [format!("&{}*", self.room), format!("{}id:events", self.room)];
        plain.chain(inboxes).chain(rooms).collect()
    }

    /// A pattern for each key or family of keys, as a rule of `ACL SETUSER`. After each pattern comes a key that the
    /// pattern must cover.
    pub(super) fn samples(&self) -> Vec<String> {
        let more = [&*self.audit, &self.audit_suspects, &self.rooms, &self.registered];
        let fixed = self.fixed().into_iter().chain(more).flat_map(|key| [format!("~{key}"), key.to_owned()]);
        let of_rooms = [&self.room, &self.node_rooms, &self.registered_members];
        let families = self.families.iter().chain([&self.service.user_sockets]).chain(of_rooms);
        fixed.chain(families.flat_map(|family| [format!("~{family}*"), format!("{family}id")])).collect()
    }

    /// The first members of `ARGV` of every script, in the order of `lua/prelude.lua`.
    pub(super) fn families(&self) -> [&str; 7] {
        let ServiceKeys { user_sockets, events, .. } = &self.service;
        let [socket_user, presence, node_sockets, node_generation, last_seen] = &self.families;
        [user_sockets, socket_user, presence, node_sockets, node_generation, last_seen, events]
    }

    /// The first own arguments of every script about rooms, in the order of `lua/room.lua`.
    pub(super) fn room_names(&self) -> [&str; 3] {
        [&self.room, &self.node_rooms, &self.rooms]
    }

    /// What the channel of a node's inbox has before the id of the node.
    pub(super) fn inbox_begin(&self) -> &str {
        &self.inbox
    }
}

fn escaped(id: &str) -> String {
    id.replace('%', "%25").replace(':', "%3A")
}

impl RoomKeys {
    /// HASH `birth`, `revision`.
    pub(super) fn head(&self) -> String {
        self.name("head")
    }

    /// SET of the members.
    pub(super) fn users(&self) -> String {
        self.name("users:set")
    }

    /// HASH socket id to JSON: the entries of a user in the room.
    pub(super) fn user_sockets(&self, user: &UserId) -> String {
        format!("{}user:socket:{user}", self.begin)
    }

    /// Pub/sub channel of transitions.
    pub(super) fn events(&self) -> String {
        self.name("events")
    }

    /// Pub/sub channel of signals.
    pub(super) fn signals(&self) -> String {
        self.name("signals")
    }

    fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.begin)
    }
}

impl ServiceKeys {
    /// HASH socket id to JSON: the live sockets of a user.
    pub(super) fn user_sockets<'a>(&'a self, user: &'a UserId) -> Key<'a, &'a UserId> {
        Key { family: &self.user_sockets, id: user }
    }
}

impl<Id: Display> Display for Key<'_, Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.family, self.id)
    }
}

impl<Id: Display> ToRedisArgs for Key<'_, Id> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::KEY_WORDS;

    fn keys() -> Keys {
        Keys::new("app", Partition)
    }

    #[test]
    fn every_key_begins_with_a_word_that_no_prefix_has() {
        let samples = [keys().samples(), keys().channel_samples(NodeId::from_bits(1))].concat();
        for key in samples {
            let word = key.split(':').nth(1).expect("a name after the prefix");
            assert!(KEY_WORDS.contains(&word), "{key}: add {word} to KEY_WORDS");
        }
    }

    /// Ids that look like parts of key names.
    fn id() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec!["a", ":", "%", "3A", "25", "user:socket:", ":users:set", ":head", "ë"]);
        prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
    }

    /// Every key of a room and one of its members.
    fn names(room: &str, user: &str) -> [String; 5] {
        let (room, user) = (RoomId::parse(room).unwrap(), UserId::parse(user).unwrap());
        let keys = keys().room(&room);
        [keys.user_sockets(&user), keys.head(), keys.users(), keys.events(), keys.signals()]
    }

    proptest! {
        #[test]
        fn no_two_rooms_or_members_share_a_key(a in (id(), id()), b in (id(), id())) {
            let (ours, theirs) = (names(&a.0, &a.1), names(&b.0, &b.1));
            if a != b {
                prop_assert_ne!(&ours[0], &theirs[0]);
            }
            if a.0 != b.0 {
                prop_assert!(!ours.iter().any(|name| theirs.contains(name)), "{:?} {:?}", ours, theirs);
            }
        }

        #[test]
        fn a_channel_names_its_room(room in id()) {
            let (room, keys) = (RoomId::parse(&room).unwrap(), keys());
            for channel in [keys.room(&room).events(), keys.room(&room).signals()] {
                prop_assert_eq!(keys.room_of_channel(channel.as_bytes()), Some(room.clone()));
            }
        }
    }

    #[test]
    fn an_ordinary_room_is_spelled_as_it_is() {
        let room = keys().room(&RoomId::parse("kitchen 2").unwrap());
        assert_eq!(room.users(), "app:room:kitchen 2:users:set");
        assert_eq!(keys().room(&RoomId::parse("a:b%").unwrap()).head(), "app:room:a%3Ab%25:head");
    }
}
