//! Every Redis key and channel is spelled here, and only here. `docs/redis.md` describes what each holds.

use std::fmt::{self, Display};

use redis::{Cmd, RedisWrite, ToRedisArgs};

use crate::domain::{NodeId, Scope, SocketId, UserId};

/// The names of one partition, and of the scopes in it.
///
/// A script's keys must all share one partition. Standalone Redis has exactly one partition, with the plain names.
/// Redis Cluster would put the partition's hash tag into `prefix`. So it needs new names but no new design.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// HASH `run_id`, `epoch`, `holdUntil`, `holdLimit`.
    pub(super) epoch: String,
    /// ZSET node id to lease end in ms. The lease end is 0 while the node is being swept.
    pub(super) nodes: String,
    /// ZSET node id to a time in ms. At that time the node had asserted what it holds.
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
    service: ScopeKeys,
}

/// The names of one scope.
#[derive(Debug, Clone)]
pub(super) struct ScopeKeys {
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
            service: ScopeKeys {
                revision: name("revision"),
                log: name("log"),
                users: name("users:set"),
                hidden: name("users:hidden"),
                events: name("events"),
                user_sockets: name("user:socket:"),
            },
        }
    }

    /// The names of a scope.
    pub(super) fn scope(&self, scope: Scope) -> &ScopeKeys {
        match scope {
            Scope::Service => &self.service,
        }
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

    /// `KEYS` of every script for a scope, in the order of `lua/prelude.lua`.
    pub(super) fn fixed(&self, scope: Scope) -> [&str; 8] {
        let ScopeKeys { revision, log, users, hidden, .. } = self.scope(scope);
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
    pub(super) fn channel_samples(&self, node: NodeId) -> [String; 6] {
        let events = &self.service.events;
        let plain = |channel: &str| [format!("&{channel}"), channel.to_owned()];
        let ([event_rule, event], [signal_rule, signal]) = (plain(events), plain(&self.signals));
        [event_rule, event, signal_rule, signal, format!("&{}*", self.inbox), self.inbox(node)]
    }

    /// A pattern for each key or family of keys, as a rule of `ACL SETUSER`. After each pattern comes a key that the
    /// pattern must cover.
    pub(super) fn samples(&self) -> Vec<String> {
        let fixed = self.fixed(Scope::Service).into_iter().chain([&*self.audit, &self.audit_suspects]);
        let fixed = fixed.flat_map(|key| [format!("~{key}"), key.to_owned()]);
        let families = self.families.iter().chain([&self.service.user_sockets]);
        fixed.chain(families.flat_map(|family| [format!("~{family}*"), format!("{family}id")])).collect()
    }

    /// The first members of `ARGV` of every script for a scope, in the order of `lua/prelude.lua`.
    pub(super) fn families(&self, scope: Scope) -> [&str; 7] {
        let ScopeKeys { user_sockets, events, .. } = self.scope(scope);
        let [socket_user, presence, node_sockets, node_generation, last_seen] = &self.families;
        [user_sockets, socket_user, presence, node_sockets, node_generation, last_seen, events]
    }
}

impl ScopeKeys {
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
    use super::*;
    use crate::settings::KEY_WORDS;

    #[test]
    fn every_key_begins_with_a_word_that_no_prefix_has() {
        let keys = Keys::new("app", Partition);
        let service = Scope::Service;
        for key in keys.fixed(service).iter().chain(&keys.families(service)).chain(&[
            &*keys.audit,
            &keys.audit_suspects,
            &keys.signals,
            &keys.inbox,
        ]) {
            let word = key.split(':').nth(1).expect("a name after the prefix");
            assert!(KEY_WORDS.contains(&word), "{key}: add {word} to KEY_WORDS");
        }
    }
}
