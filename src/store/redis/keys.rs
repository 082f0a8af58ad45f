//! Every Redis key and channel, spelled here and nowhere else. `docs/redis.md` describes what each holds.

use crate::domain::{NodeId, SocketId, UserId};

/// The names of one partition of a scope: here, of the whole service.
///
/// A script's keys must all share one partition. Standalone Redis has exactly one, whose names are the plain ones; Redis
/// Cluster would put the partition's hash tag into `prefix`, so it needs new names but no new design.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    /// HASH `run_id`, `epoch`, `holdUntil`.
    pub epoch: String,
    /// STRING, the last revision.
    pub revision: String,
    /// STREAM of transitions.
    pub log: String,
    /// ZSET node id to lease end in ms; 0 while the node is being swept.
    pub nodes: String,
    /// STRING, ms: no sweep begins before.
    pub sweep_after: String,
    /// SET of the users who are online.
    pub users: String,
    /// Pub/sub channel of transitions.
    pub events: String,
    /// The beginnings of the keys that a script completes with an id, in the order of `lua/prelude.lua`.
    families: [String; 6],
}

/// The one partition of standalone Redis.
pub struct Partition;

impl Keys {
    /// The names under `prefix` (setting `redis.prefix`).
    pub fn new(prefix: &str, _partition: Partition) -> Self {
        let name = |rest: &str| format!("{prefix}:{rest}");
        Self {
            prefix: prefix.to_owned(),
            epoch: name("epoch"),
            revision: name("revision"),
            log: name("log"),
            nodes: name("nodes"),
            sweep_after: name("sweep:after"),
            users: name("users:set"),
            events: name("events"),
            families: ["user:socket:", "socket:user:", "presence:", "node:sockets:", "node:generation:", "last-seen:"]
                .map(name),
        }
    }

    /// HASH socket id to JSON: the live sockets of a user.
    pub fn user_sockets(&self, user: &UserId) -> String {
        format!("{}:user:socket:{user}", self.prefix)
    }

    /// STRING: the user of a socket.
    pub fn socket_user(&self, socket: SocketId) -> String {
        format!("{}:socket:user:{socket}", self.prefix)
    }

    /// STRING: a user's data as JSON.
    pub fn presence(&self, user: &UserId) -> String {
        format!("{}:presence:{user}", self.prefix)
    }

    /// HASH socket id to user id: the sockets of a node.
    pub fn node_sockets(&self, node: NodeId) -> String {
        format!("{}:node:sockets:{node}", self.prefix)
    }

    /// `KEYS` of every script, in the order of `lua/prelude.lua`.
    pub fn fixed(&self) -> [&str; 6] {
        [&self.epoch, &self.revision, &self.log, &self.nodes, &self.sweep_after, &self.users]
    }

    /// The first of `ARGV` of every script, in the order of `lua/prelude.lua`.
    pub fn families(&self) -> [&str; 7] {
        let [a, b, c, d, e, f] = &self.families;
        [a, b, c, d, e, f, &self.events]
    }
}
