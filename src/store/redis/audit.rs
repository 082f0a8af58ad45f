//! The search for ghosts. One node at a time searches for the whole fleet. It goes over all users who count as online.
//!
//! Each step takes a connection of the pool and gives it back. That connection may be the only one.

use std::time::Duration;

use redis::aio::ConnectionLike;

use super::{RedisStore, extend, format};
use crate::domain::{NodeId, RoomId, UserId};
use crate::store::{Audited, StoreResult};

/// Users in one step of an audit, and the pause after the step. A million users cost Redis no more than 2 % of its
/// time.
pub(super) const PAGE: usize = 100;
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The least time between two audits, in intervals. It is longer than the interval in which every node refreshes its
/// own sockets. So a user is a ghost if one audit finds the user and no node asserts the user again before the next
/// audit.
const REST: f64 = 1.05;

/// For how many audits a suspect is remembered if no audit runs.
const SUSPECTED_AUDITS: u64 = 4;

/// Somebody who looked like a ghost, as noted in Redis.
enum Suspect {
    /// In the service.
    User(UserId),
    /// In a room.
    Member(RoomId, UserId),
}

impl Suspect {
    fn read(noted: &[u8]) -> Option<Self> {
        let member = format::room_member(noted).map(|(room, user)| Self::Member(room, user));
        member.or_else(|| format::known_user(noted).map(Self::User))
    }
}

impl RedisStore {
    /// One audit of the fleet. The node that claims the audit does it for all nodes. The results are kept in Redis,
    /// because another node may do the next audit.
    pub(super) async fn audit_users(&self) -> StoreResult<Audited> {
        let mut audited = Audited::default();
        if !self.claim_audit().await? {
            return Ok(audited);
        }
        self.clear_other_type(&self.shared.keys.audit_suspects, "zset").await?;
        while let Some(suspect) = self.next_suspect().await? {
            match suspect {
                Suspect::User(user) if self.mend(&user).await? => audited.mended.push(user),
                Suspect::Member(room, user) if self.mend_member(&room, &user).await? => {
                    audited.mended_members.push((room, user));
                }
                Suspect::User(_) | Suspect::Member(..) => {}
            }
            if !self.keep_audit().await? {
                return Ok(audited);
            }
        }
        self.audit_nodes().await?;
        let keys = &self.shared.keys.service;
        for key in [&keys.users, &keys.hidden] {
            if !self.audit_set(key).await? {
                return Ok(audited);
            }
        }
        self.audit_rooms().await?;
        Ok(audited)
    }

    /// Goes over the users of one set. Returns whether the audit is still this node's.
    async fn audit_set(&self, key: &str) -> StoreResult<bool> {
        let mut cursor = 0u64;
        loop {
            cursor = self.audit_page(key, cursor).await?;
            if !self.keep_audit().await? {
                return Ok(false);
            }
            if cursor == 0 {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How long an audit keeps other nodes away after its last step. It lasts until every node has asserted the users
    /// that its own refresh missed.
    fn audit_life_ms(&self) -> u64 {
        self.shared.presence.audit.mul_f64(REST).as_millis() as u64
    }

    /// Whether this node does the next audit.
    async fn claim_audit(&self) -> StoreResult<bool> {
        let mut connection = self.connection().await?;
        let (key, life_ms) = (&self.shared.keys.audit, self.audit_life_ms());
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(key).arg(self.shared.node.as_str()).arg("NX").arg("PX").arg(life_ms);
        // Somebody may have written anything there by hand. It keeps nobody away for longer than a claim does.
        pipeline.cmd("PEXPIRE").arg(key).arg(life_ms).arg("LT").ignore();
        let (claimed,): (Option<String>,) = self.shared.within(pipeline.query_async(&mut *connection)).await?;
        Ok(claimed.is_some())
    }

    /// Whether the audit is still this node's, because the node may have been paused. If the audit is this node's, the
    /// claim lives on.
    pub(super) async fn keep_audit(&self) -> StoreResult<bool> {
        let mut connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        pipeline.get(&self.shared.keys.audit);
        // If the claim is another node's, this only lengthens its life.
        pipeline.add_command(extend(&self.shared.keys.audit, &self.audit_life_ms().to_string())).ignore();
        let (holder,): (Option<Vec<u8>>,) = self.shared.within(pipeline.query_async(&mut *connection)).await?;
        Ok(holder.as_deref() == Some(self.shared.node.as_str().as_bytes()))
    }

    /// Deletes a key if it has another type than ours. Without it, the audit goes on.
    pub(super) async fn clear_other_type(&self, key: &str, ours: &str) -> StoreResult<()> {
        let mut connection = self.connection().await?;
        let found: String = self.shared.within(redis::cmd("TYPE").arg(key).query_async(&mut *connection)).await?;
        if found == ours || found == "none" {
            return Ok(());
        }
        self.shared.bad_records.found(key, found.as_bytes());
        self.shared.within(redis::cmd("DEL").arg(key).query_async(&mut *connection)).await
    }

    /// Takes one suspect that an audit found at least one interval ago. The suspect's owner has had time to assert the
    /// user again. A suspect that was found long ago is forgotten: Redis was away since, or its data is old.
    async fn next_suspect(&self) -> StoreResult<Option<Suspect>> {
        let mut connection = self.connection().await?;
        let key = &self.shared.keys.audit_suspects;
        loop {
            let time: (u64, u64) = self.shared.within(redis::cmd("TIME").query_async(&mut *connection)).await?;
            let now_ms = format::timestamp(time).0;
            let due = now_ms.saturating_sub(self.shared.presence.audit.as_millis() as u64);
            let old = now_ms.saturating_sub(self.audit_life_ms() * SUSPECTED_AUDITS);
            let mut range = redis::cmd("ZRANGEBYSCORE");
            range.arg(key).arg("-inf").arg(due).arg("WITHSCORES").arg("LIMIT").arg(0).arg(1);
            let found: Vec<(Vec<u8>, f64)> = self.shared.within(range.query_async(&mut *connection)).await?;
            let Some((member, found_at_ms)) = found.into_iter().next() else { return Ok(None) };
            self.shared.within(redis::cmd("ZREM").arg(key).arg(&member).query_async::<()>(&mut *connection)).await?;
            match Suspect::read(&member) {
                Some(suspect) if found_at_ms >= old as f64 => return Ok(Some(suspect)),
                Some(_) => {}
                None => self.shared.bad_records.found(key, &member),
            }
        }
    }

    /// Mends a suspect who still looks like a ghost. Returns whether there was anything to mend.
    async fn mend(&self, user: &UserId) -> StoreResult<bool> {
        let mut connection = self.connection().await?;
        let mut mend = self.shared.preamble.call(&self.shared.scripts.mend);
        mend.arg(user.as_str());
        self.shared.load_and_call(&mut *connection, &self.shared.scripts.mend, mend).await
    }

    /// Removes members of the node list that are not nodes.
    async fn audit_nodes(&self) -> StoreResult<()> {
        let mut connection = self.connection().await?;
        let key = &self.shared.keys.nodes;
        let mut range = redis::cmd("ZRANGE");
        range.arg(key).arg(0).arg(-1);
        let nodes: Vec<Vec<u8>> = self.shared.within(range.query_async(&mut *connection)).await?;
        self.shared.keep_ours(&mut *connection, "ZREM", key, nodes, format::parsed::<NodeId>).await?;
        Ok(())
    }

    /// Goes over some users of one set, and over their data. Removes records that are not ours, and notes the users who look like
    /// ghosts. Returns the next cursor.
    async fn audit_page(&self, key: &str, cursor: u64) -> StoreResult<u64> {
        let mut connection = self.connection().await?;
        let mut scan = redis::cmd("SSCAN");
        scan.arg(key).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, page): (u64, Vec<Vec<u8>>) = self.shared.within(scan.query_async(&mut *connection)).await?;
        let users = self.shared.keep_ours(&mut *connection, "SREM", key, page, format::known_user).await?;
        self.shared.forget_unreadable(&mut *connection, &users).await?;
        let mut ghosts = self.shared.preamble.call(&self.shared.scripts.ghosts);
        users.iter().for_each(|user| _ = ghosts.arg(user.as_str()));
        let found: Vec<String> =
            self.shared.load_and_call(&mut *connection, &self.shared.scripts.ghosts, ghosts).await?;
        if !found.is_empty() {
            self.suspect(&mut *connection, &found).await?;
        }
        Ok(next)
    }

    /// Notes suspects, each with the time at which it was first found. The notes live for some audits at most.
    pub(super) async fn suspect(&self, connection: &mut impl ConnectionLike, users: &[String]) -> StoreResult<()> {
        let time: (u64, u64) = self.shared.within(redis::cmd("TIME").query_async(connection)).await?;
        let key = &self.shared.keys.audit_suspects;
        let mut add = redis::cmd("ZADD");
        // LT keeps the earlier time. That is the first time, unless the clock was set back or somebody wrote a time by
        // hand.
        add.arg(key).arg("LT");
        for user in users {
            add.arg(format::timestamp(time).0).arg(user);
        }
        let mut pipeline = redis::pipe();
        pipeline.add_command(add).ignore();
        pipeline.add_command(extend(key, &(self.audit_life_ms() * SUSPECTED_AUDITS).to_string())).ignore();
        self.shared.within(pipeline.query_async(connection)).await
    }
}
