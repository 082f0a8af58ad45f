//! The long reads: all users who are online, all members of a room, and the log. They go by pages that a slow line can
//! carry (`page.rs`).

use std::collections::BTreeSet;
use std::time::Instant;

use deadpool::managed::Object;
use redis::{Cmd, FromRedisValue, Pipeline};
use tracing::info;

use super::format;
use super::page::PageSize;
use super::{RedisStore, Shared};
use crate::domain::{Position, Presence, RoomId, RoomRoster, Roster, Status, Transition, UserId};
use crate::store::{StoreError, StoreResult};

/// The most users in one page of a snapshot. They take 0.7 ms of the server's time (docs/performance.md). Nothing else
/// runs on the server in that time.
const USERS_MAX: usize = 1000;

/// The most entries in one read of the log.
const ENTRIES_MAX: usize = 5000;

/// A read of the log may take the time of this many calls. After that, a snapshot is read instead. A snapshot is
/// shorter than the log if the same users came and went many times.
const LOG_CALLS: u32 = 10;

/// Makes the calls of one long read. It gives its connection back after each call, because that may be the only one of
/// the pool.
struct Reader<'a> {
    store: &'a RedisStore,
}

/// What a log says.
enum Log {
    /// The log has every transition that was asked for.
    Whole(Vec<Transition>),
    /// Some transitions are missing, or cannot be read.
    Broken,
    /// The log did not come in time.
    Slow,
}

impl RedisStore {
    pub(super) async fn read_snapshot(&self) -> StoreResult<Roster> {
        let reader = Reader { store: self };
        let start = reader.head().await?;
        let mut roster = reader.users().await?;
        let end = reader.head().await?;
        if end.epoch != start.epoch {
            return Err(StoreError::EpochChanged);
        }
        // The scan saw some users before the transitions that came meanwhile, and some users after them. Transitions
        // are set operations, so both are right.
        let Log::Whole(meanwhile) = reader.log(start, end, None).await? else {
            return Err(StoreError::Malformed("the log has a gap, or an entry that is not ours".to_owned()));
        };
        for transition in meanwhile {
            roster.apply(&transition.user, &transition.change.as_set_operation());
        }
        roster.advance_to(end);
        Ok(roster)
    }

    /// The position is read before the members. Whoever reads this has opened the room, and applies what comes above that
    /// position. So it does no harm that the scan sees some members after later transitions.
    pub(super) async fn read_room_snapshot(&self, room: &RoomId) -> StoreResult<RoomRoster> {
        let (reader, keys) = (Reader { store: self }, self.shared.keys.room(room));
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(keys.head()).arg(&["birth", "revision"]);
        let (head,): ([Option<Vec<u8>>; 2],) = reader.call(&pipeline).await?;
        let position = format::room_position(&head)?;
        let (key, mut size, mut cursor) = (keys.users(), PageSize::up_to(USERS_MAX), 0);
        let mut members = BTreeSet::new();
        loop {
            let (next, page) = reader.scan(&key, cursor, &mut size).await?;
            members.extend(page);
            cursor = next;
            if cursor == 0 {
                return Ok(RoomRoster { position, members });
            }
        }
    }

    pub(super) async fn read_log_after(&self, position: Position) -> StoreResult<Option<Vec<Transition>>> {
        let reader = Reader { store: self };
        let head = reader.head().await?;
        if head.epoch != position.epoch || head.revision < position.revision {
            return Ok(None);
        }
        let give_up_at = Instant::now() + self.shared.call_timeout * LOG_CALLS;
        match reader.log(position, head, Some(give_up_at)).await? {
            Log::Whole(transitions) => Ok(Some(transitions)),
            Log::Broken => Ok(None),
            Log::Slow => {
                info!("The log could not be read in time: reading all users instead");
                Ok(None)
            }
        }
    }
}

impl Reader<'_> {
    /// Reads where the store is, in one step.
    async fn head(&self) -> StoreResult<Position> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("HMGET").arg(&self.shared().keys.epoch).arg(&["run_id", "epoch"]);
        pipeline.get(&self.shared().keys.service.revision).cmd("INFO").arg("server");
        type Reply = ([Option<Vec<u8>>; 2], Option<Vec<u8>>, String);
        let (epoch, revision, server): Reply = self.call(&pipeline).await?;
        format::head(&epoch, revision.as_deref(), &server)
    }

    async fn users(&self) -> StoreResult<Roster> {
        let keys = &self.shared().keys.service;
        // If a user hides or shows while this reads, the user may be in both. The stored data says what the user is.
        let mut users = self.members(&keys.users, &Presence::default()).await?;
        let hidden = Presence { effective: Status::Invisible, ..Presence::default() };
        users.extend(self.members(&keys.hidden, &hidden).await?);
        Ok(users.into_iter().collect())
    }

    /// The users in one set, with their data. A user without data gets `missing`.
    async fn members(&self, key: &str, missing: &Presence) -> StoreResult<Vec<(UserId, Presence)>> {
        let (mut scan_size, mut get_size) = (PageSize::up_to(USERS_MAX), PageSize::up_to(USERS_MAX));
        let mut users = Vec::new();
        let mut cursor = 0u64;
        loop {
            let (next, page) = self.scan(key, cursor, &mut scan_size).await?;
            let mut rest = &page[..];
            while !rest.is_empty() {
                let presences = self.presences(rest, missing, &mut get_size).await?;
                let (read, unread) = rest.split_at(presences.len());
                users.extend(read.iter().cloned().zip(presences));
                rest = unread;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(users);
            }
        }
    }

    /// One page of a set of users, and the next cursor.
    async fn scan(&self, key: &str, cursor: u64, size: &mut PageSize) -> StoreResult<(u64, Vec<UserId>)> {
        let scan = |count: usize| {
            let mut scan = redis::cmd("SSCAN");
            scan.arg(key).arg(cursor).arg("COUNT").arg(count);
            scan
        };
        let (next, members): (u64, Vec<Vec<u8>>) = self.page(size, scan).await?;
        size.adapt(members.len(), members.iter().map(Vec::len).sum());
        Ok((next, members.iter().filter_map(|member| self.shared().known_user(key, member)).collect()))
    }

    /// The presences of the first of these users.
    async fn presences(&self, users: &[UserId], missing: &Presence, size: &mut PageSize) -> StoreResult<Vec<Presence>> {
        let keys = self.shared().keys.clone();
        let get = |count: usize| keys.get_presences(&users[..count.min(users.len())]);
        let stored: Vec<Option<Vec<u8>>> = self.page(size, get).await?;
        size.adapt(stored.len(), stored.iter().flatten().map(Vec::len).sum());
        let read = |(user, stored): (&UserId, &Option<Vec<u8>>)| {
            // A user whose data is missing or cannot be read is still present, without a profile.
            let known = stored.as_deref().and_then(|stored| self.shared().known_presence(user, stored));
            known.unwrap_or_else(|| missing.clone())
        };
        Ok(users.iter().zip(&stored).map(read).collect())
    }

    /// The transitions after `from` up to `to`. If `give_up_at` is set, late pages give [`Log::Slow`] instead of an
    /// error.
    async fn log(&self, from: Position, to: Position, give_up_at: Option<Instant>) -> StoreResult<Log> {
        let key = self.shared().keys.service.log.clone();
        let mut size = PageSize::up_to(ENTRIES_MAX);
        let mut transitions: Vec<Transition> = Vec::new();
        let mut last = from.revision;
        while last < to.revision {
            let range = |count: usize| {
                let mut range = redis::cmd("XRANGE");
                range.arg(&key).arg(format!("({last}-0")).arg(format!("{}-0", to.revision)).arg("COUNT").arg(count);
                range
            };
            let page: Vec<(String, Vec<Vec<u8>>)> = match self.page(&mut size, range).await {
                Err(StoreError::Deadline(_)) if give_up_at.is_some() => return Ok(Log::Slow),
                page => page?,
            };
            size.adapt(page.len(), page.iter().flat_map(|(_, fields)| fields).map(Vec::len).sum());
            if page.is_empty() {
                return Ok(Log::Broken);
            }
            for (_, fields) in &page {
                let event = fields.get(1).map_or(&[][..], Vec::as_slice);
                let Ok(transition) = format::transition(event) else {
                    self.shared().bad_records.found(&key, event);
                    return Ok(Log::Broken);
                };
                if transition.position != (Position { epoch: to.epoch, revision: last + 1 }) {
                    return Ok(Log::Broken);
                }
                last += 1;
                transitions.push(transition);
            }
            if last < to.revision && give_up_at.is_some_and(|at| Instant::now() >= at) {
                return Ok(Log::Slow);
            }
        }
        Ok(Log::Whole(transitions))
    }

    /// One page. If it does not come in time, smaller pages are tried: Redis may be well, and the line slow.
    async fn page<T: FromRedisValue>(&self, size: &mut PageSize, command: impl Fn(usize) -> Cmd) -> StoreResult<T> {
        loop {
            let mut pipeline = redis::pipe();
            pipeline.add_command(command(size.count()));
            match self.call(&pipeline).await {
                Err(StoreError::Deadline(_)) if size.shrink() => {}
                reply => return reply.map(|(reply,)| reply),
            }
        }
    }

    async fn call<T: FromRedisValue>(&self, pipeline: &Pipeline) -> StoreResult<T> {
        let mut connection = self.store.connection().await?;
        let reply = self.shared().within(pipeline.query_async(&mut *connection)).await;
        if reply.is_err() {
            // The connection is closed at once, with the calls that are still under way on it.
            drop(Object::take(connection));
        }
        reply
    }

    fn shared(&self) -> &Shared {
        &self.store.shared
    }
}
