//! What is stated, noted and asked about single users, over the pool.

use redis::Cmd;

use super::scripts::Script;
use super::{RedisStore, format};
use crate::domain::{HeldSocket, LastSeen, NodeId, Signal, Statement, Timestamp, UserId};
use crate::store::{Examination, StatementOutcome, StoreResult};

/// Users in one call of a script, and in one signal. Redis serves nobody else meanwhile: about 1 ms.
const USERS_A_CALL: usize = 200;

/// How many entries of the log are searched for the last transitions of one user, and how many of them are returned.
const SEARCHED_ENTRIES: usize = 1000;
const TRANSITIONS_MAX: usize = 10;

type Bytes = Vec<u8>;

/// The fields of a hash with their values.
type Entries = Vec<(Bytes, Bytes)>;

/// What [`RedisStore::read_examination`] reads, in its order.
type Stored = (
    [Option<Bytes>; 2],
    Option<Bytes>,
    String,
    (u64, u64),
    Option<Bytes>,
    bool,
    bool,
    Entries,
    Vec<(Bytes, f64)>,
    Option<Bytes>,
    Vec<(String, Vec<Bytes>)>,
);

/// Reads what is held of a user's sockets. What no node has written is left out.
fn held_sockets(entries: &Entries) -> Vec<HeldSocket> {
    let readable = entries.iter().filter_map(|(socket, entry)| format::held_socket(socket, entry));
    let mut sockets: Vec<_> = readable.collect();
    sockets.sort_unstable_by_key(|held| held.socket);
    sockets
}

impl RedisStore {
    pub(super) async fn send_statement(
        &self,
        user: &UserId,
        statement: &Statement,
        base: Option<Timestamp>,
    ) -> StoreResult<StatementOutcome> {
        let (profile, profile_at) = statement.profile.clone().unwrap_or_default();
        let mut call = self.shared.preamble.call(&self.shared.scripts.state);
        call.arg(user.as_str()).arg(profile.as_ref().map_or("", |profile| profile.members())).arg(profile_at.0);
        call.arg(format::choice(statement.chosen.as_ref())).arg(base.map_or(String::new(), |base| base.0.to_string()));
        let mut connection = self.connection().await?;
        let reply: Vec<String> = self.shared.load_and_call(&mut *connection, &self.shared.scripts.state, call).await?;
        format::statement_outcome(&reply)
    }

    /// Calls a script for users, each with a time. It takes some users at a time.
    pub(super) async fn call_for_each(&self, script: &Script, users: &[(UserId, Timestamp)]) -> StoreResult<()> {
        for chunk in users.chunks(USERS_A_CALL) {
            let call = self.call_for(script, chunk);
            let mut connection = self.connection().await?;
            self.shared.load_and_call::<u64>(&mut *connection, script, call).await?;
        }
        Ok(())
    }

    pub(super) async fn send_activity(&self, users: &[(UserId, Timestamp)]) -> StoreResult<()> {
        let script = &self.shared.scripts.active;
        for chunk in users.chunks(USERS_A_CALL) {
            let signal = format::signal_json(&Signal::Active { users: chunk.to_vec() });
            let mut pipeline = redis::pipe();
            pipeline.add_command(script.load()).ignore().add_command(self.call_for(script, chunk)).ignore();
            pipeline.cmd("PUBLISH").arg(&self.shared.keys.signals).arg(signal).ignore();
            let mut connection = self.connection().await?;
            self.shared.within(pipeline.query_async::<()>(&mut *connection)).await?;
        }
        Ok(())
    }

    fn call_for(&self, script: &Script, users: &[(UserId, Timestamp)]) -> Cmd {
        let mut call = self.shared.preamble.call(script);
        for (user, at) in users {
            call.arg(user.as_str()).arg(at.0);
        }
        call
    }

    pub(super) async fn read_last_seen(&self, users: &[UserId]) -> StoreResult<Vec<Option<LastSeen>>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let keys = &self.shared.keys;
        let mut get = redis::cmd("MGET");
        users.iter().for_each(|user| _ = get.arg(keys.last_seen(user)));
        let mut connection = self.connection().await?;
        let stored: Vec<Option<Vec<u8>>> = self.shared.within(get.query_async(&mut *connection)).await?;
        let read = |(user, stored): (&UserId, &Option<Vec<u8>>)| {
            let stored = stored.as_deref()?;
            let seen = format::last_seen(stored).ok();
            if seen.is_none() {
                self.shared.bad_records.found(&keys.last_seen(user).to_string(), stored);
            }
            seen
        };
        Ok(users.iter().zip(&stored).map(read).collect())
    }

    pub(super) async fn read_sockets_of(&self, user: &UserId) -> StoreResult<Vec<HeldSocket>> {
        let mut get = redis::cmd("HGETALL");
        get.arg(self.shared.keys.service.user_sockets(user));
        let mut connection = self.connection().await?;
        let stored: Entries = self.shared.within(get.query_async(&mut *connection)).await?;
        Ok(held_sockets(&stored))
    }

    pub(super) async fn read_examination(&self, user: &UserId) -> StoreResult<Examination> {
        let keys = &self.shared.keys;
        let service = &keys.service;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(&keys.epoch).arg(&["run_id", "epoch"]).get(&service.revision);
        pipeline.cmd("INFO").arg("server").cmd("TIME").cmd("GET").arg(keys.presence(user));
        pipeline.cmd("SISMEMBER").arg(&service.users).arg(user.as_str());
        pipeline.cmd("SISMEMBER").arg(&service.hidden).arg(user.as_str());
        pipeline.cmd("HGETALL").arg(service.user_sockets(user));
        pipeline.cmd("ZRANGE").arg(&keys.nodes).arg(0).arg(-1).arg("WITHSCORES");
        pipeline.cmd("GET").arg(keys.last_seen(user));
        pipeline.cmd("XREVRANGE").arg(&service.log).arg("+").arg("-").arg("COUNT").arg(SEARCHED_ENTRIES);
        let stored: Stored = self.read_at_once(&pipeline).await?;
        self.examination(user, stored)
    }

    fn examination(&self, user: &UserId, stored: Stored) -> StoreResult<Examination> {
        let (epoch, revision, server, time, presence, is_visible, is_hidden, sockets, nodes, last_seen, log) = stored;
        let lease = |(node, end): &(Bytes, f64)| Some((format::parsed::<NodeId>(node)?, Timestamp(*end as u64)));
        let events = log.iter().filter_map(|(_, fields)| format::transition(fields.get(1)?).ok());
        Ok(Examination {
            position: format::head(&epoch, revision.as_deref(), &server)?,
            now: format::timestamp(time),
            presence: presence.and_then(|stored| self.shared.known_presence(user, &stored)),
            is_present: is_visible || is_hidden,
            sockets: held_sockets(&sockets),
            leases: nodes.iter().filter_map(lease).collect(),
            transitions: events.filter(|event| event.user == *user).take(TRANSITIONS_MAX).collect(),
            last_seen: last_seen.and_then(|stored| format::last_seen(&stored).ok()),
        })
    }
}
