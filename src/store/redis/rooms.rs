//! What is asked about rooms, over the pool: members, the list of rooms, refreshes, signals and the register.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{FromRedisValue, Pipeline, RedisResult, Value, from_redis_value_ref};

use super::scripts::Script;
use super::{RedisStore, extend, format, room_bus, store_error};
use crate::domain::{RoomId, RoomRoster, Signal, SocketId, UserId};
use crate::store::{
    RoomAccess, RoomHead, RoomList, RoomNews, RoomPage, RoomStore, RoomSubscription, StoreError, StoreResult,
};

/// Members in one step of a page. Redis serves nobody else meanwhile: about 1 ms.
const MEMBERS_A_CALL: usize = 1000;

/// The most rooms in one page of the list.
const ROOMS_MAX: usize = 1000;

/// Calls of [`RedisStore::push_refresh_of_room`] and of [`RedisStore::push_refresh_of_entry`].
const CALLS_A_ROOM: usize = 3;
const CALLS_AN_ENTRY: usize = 3;

impl RoomStore for RedisStore {
    fn subscribe_rooms(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<RoomNews>>> {
        room_bus::subscribe(&self.shared).boxed()
    }

    fn room_snapshot<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<RoomRoster>> {
        self.read_room_snapshot(room).boxed()
    }

    fn room_heads<'a>(&'a self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<Vec<Option<RoomHead>>>> {
        self.read_room_heads(rooms).boxed()
    }

    fn room_page<'a>(&'a self, room: &'a RoomId, limit: usize) -> BoxFuture<'a, StoreResult<RoomPage>> {
        self.read_room_page(room, limit).boxed()
    }

    fn rooms(&self, cursor: u64, limit: usize) -> BoxFuture<'_, StoreResult<RoomList>> {
        self.read_rooms(cursor, limit).boxed()
    }

    fn refresh_rooms<'a>(
        &'a self,
        entries: &'a [(RoomId, SocketId, UserId)],
    ) -> BoxFuture<'a, StoreResult<Vec<(RoomId, SocketId)>>> {
        self.refresh_room_keys(entries).boxed()
    }

    fn subscribe_room_signals(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<(RoomId, Signal)>>> {
        room_bus::subscribe_signals(&self.shared).boxed()
    }

    fn signal_room<'a>(&'a self, room: &'a RoomId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.publish(self.shared.keys.room(room).signals(), signal).boxed()
    }

    fn signal_user<'a>(&'a self, user: &'a UserId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.send_user_signal(user, signal).boxed()
    }

    fn put_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>> {
        self.call_register(&self.shared.scripts.register, room, None).boxed()
    }

    fn delete_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>> {
        self.call_register(&self.shared.scripts.unregister, room, None).boxed()
    }

    fn put_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>> {
        self.call_register(&self.shared.scripts.register, room, Some(user)).boxed()
    }

    fn delete_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>> {
        self.call_register(&self.shared.scripts.unregister, room, Some(user)).boxed()
    }

    fn room_access<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<RoomAccess>> {
        async move {
            match self.call_register::<u8>(&self.shared.scripts.room_access, room, Some(user)).await? {
                0 => Ok(RoomAccess::NoSuchRoom),
                1 => Ok(RoomAccess::NotMember),
                2 => Ok(RoomAccess::Member),
                other => Err(StoreError::Malformed(format!("access {other}"))),
            }
        }
        .boxed()
    }
}

impl RedisStore {
    async fn read_room_heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<RoomHead>>> {
        const CALLS_A_HEAD: usize = 2;
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(rooms.len() * CALLS_A_HEAD);
        for keys in rooms.iter().map(|room| self.shared.keys.room(room)) {
            pipeline.cmd("HMGET").arg(keys.head()).arg(&["birth", "revision"]);
            pipeline.cmd("SCARD").arg(keys.users());
        }
        let replies = self.call_each(&mut pipeline).await?;
        Ok(replies.chunks(CALLS_A_HEAD).map(room_head).collect())
    }

    /// Makes calls that do not depend on one another. If the key of a call has another type, its reply is none.
    pub(super) async fn call_each(&self, pipeline: &mut Pipeline) -> StoreResult<Vec<Option<Value>>> {
        let mut connection = self.connection().await?;
        let replies: Vec<RedisResult<Value>> =
            self.shared.within(pipeline.ignore_errors().query_async(&mut *connection)).await?;
        let replies = replies.into_iter().map(|reply| match reply {
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(None),
            reply => reply.map(Some).map_err(store_error),
        });
        replies.collect()
    }

    async fn read_room_page(&self, room: &RoomId, limit: usize) -> StoreResult<RoomPage> {
        let limit = limit.min(RoomPage::MOST);
        let key = self.shared.keys.room(room).users();
        let (mut page, mut cursor) = (BTreeMap::new(), 0u64);
        loop {
            let mut pipeline = redis::pipe();
            pipeline.cmd("SCARD").arg(&key);
            pipeline.cmd("SSCAN").arg(&key).arg(cursor).arg("COUNT").arg(limit.clamp(1, MEMBERS_A_CALL));
            let mut connection = self.connection().await?;
            let (n_members, (next, members)): (u64, (u64, Vec<Vec<u8>>)) =
                self.shared.within(pipeline.query_async(&mut *connection)).await?;
            drop(connection);
            let users = members.iter().filter_map(|member| self.shared.known_user(&key, member));
            // A set that grows meanwhile may name a member twice.
            let users: BTreeSet<UserId> = users.filter(|user| !page.contains_key(user)).collect();
            let is_last = next == 0 && users.len() <= limit - page.len();
            let users: Vec<UserId> = users.into_iter().take(limit - page.len()).collect();
            let sockets = self.read_sockets_in(room, &users).await?;
            page.extend(users.into_iter().zip(sockets));
            cursor = next;
            if is_last || page.len() == limit {
                let n_read = page.len() as u64;
                // Members may have come or gone between the steps.
                let n_members = if is_last { n_read } else { n_members.max(n_read) };
                return Ok(RoomPage { members: page.into_iter().collect(), n_members });
            }
        }
    }

    /// One socket of each of these users in a room.
    async fn read_sockets_in(&self, room: &RoomId, users: &[UserId]) -> StoreResult<Vec<Option<SocketId>>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.shared.keys.room(room);
        let mut pipeline = Pipeline::with_capacity(users.len());
        for user in users {
            pipeline.cmd("HRANDFIELD").arg(keys.user_sockets(user));
        }
        let mut connection = self.connection().await?;
        let sockets: Vec<Option<Vec<u8>>> = self.shared.within(pipeline.query_async(&mut *connection)).await?;
        Ok(sockets.iter().map(|socket| format::parsed(socket.as_deref()?)).collect())
    }

    async fn read_rooms(&self, cursor: u64, limit: usize) -> StoreResult<RoomList> {
        let keys = &self.shared.keys;
        let mut scan = redis::cmd("SSCAN");
        scan.arg(&keys.rooms).arg(cursor).arg("COUNT").arg(limit.clamp(1, ROOMS_MAX));
        let mut connection = self.connection().await?;
        let (next, members): (u64, Vec<Vec<u8>>) = self.shared.within(scan.query_async(&mut *connection)).await?;
        let rooms: Vec<RoomId> = members.iter().filter_map(|member| self.shared.known_room(member)).collect();
        let mut list = RoomList { rooms: Vec::new(), next: Some(next).filter(|next| *next > 0) };
        if rooms.is_empty() {
            return Ok(list);
        }
        let mut pipeline = Pipeline::with_capacity(rooms.len());
        rooms.iter().for_each(|room| _ = pipeline.cmd("SCARD").arg(keys.room(room).users()));
        let counts: Vec<u64> = self.shared.within(pipeline.query_async(&mut *connection)).await?;
        // The last member of a room may have gone meanwhile.
        list.rooms = rooms.into_iter().zip(counts).filter(|(_, n_members)| *n_members > 0).collect();
        Ok(list)
    }

    async fn refresh_room_keys(&self, entries: &[(RoomId, SocketId, UserId)]) -> StoreResult<Vec<(RoomId, SocketId)>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let rooms: BTreeSet<&RoomId> = entries.iter().map(|(room, _, _)| room).collect();
        let mut pipeline = redis::pipe();
        rooms.iter().for_each(|room| self.push_refresh_of_room(&mut pipeline, room));
        entries.iter().for_each(|entry| self.push_refresh_of_entry(&mut pipeline, entry));
        let replies = self.call_each(&mut pipeline).await?;
        // A key of another type counts as missing. The join that follows deletes it.
        let is_there = |replies: &[Option<Value>]| {
            replies.iter().all(|reply| !matches!(reply, None | Some(Value::Nil | Value::Int(0))))
        };
        let (of_rooms, of_entries) = replies.split_at(rooms.len() * CALLS_A_ROOM);
        let whole = rooms.into_iter().zip(of_rooms.chunks(CALLS_A_ROOM)).filter(|(_, replies)| is_there(replies));
        let whole: BTreeSet<&RoomId> = whole.map(|(room, _)| room).collect();
        let entries = entries.iter().zip(of_entries.chunks(CALLS_AN_ENTRY));
        let missing = entries.filter(|((room, _, _), replies)| !whole.contains(room) || !is_there(replies));
        Ok(missing.map(|((room, socket, _), _)| (room.clone(), *socket)).collect())
    }

    fn push_refresh_of_room(&self, pipeline: &mut Pipeline, room: &RoomId) {
        let (keys, ttl_ms) = (self.shared.keys.room(room), self.shared.user_ttl_ms());
        pipeline.add_command(extend(keys.users(), &ttl_ms)).add_command(extend(keys.head(), &ttl_ms));
        pipeline.cmd("SISMEMBER").arg(&self.shared.keys.rooms).arg(room.as_str());
    }

    fn push_refresh_of_entry(&self, pipeline: &mut Pipeline, (room, socket, user): &(RoomId, SocketId, UserId)) {
        let keys = self.shared.keys.room(room);
        pipeline.add_command(extend(keys.user_sockets(user), &self.shared.user_ttl_ms()));
        // The user may be there by other sockets, too. HEXISTS would be one more right to ask for.
        pipeline.cmd("HGET").arg(keys.user_sockets(user)).arg(socket.to_string());
        // The set may have expired or been deleted, and be there again with others.
        pipeline.cmd("SISMEMBER").arg(keys.users()).arg(user.as_str());
    }

    async fn send_user_signal(&self, user: &UserId, signal: &Signal) -> StoreResult<()> {
        let script = &self.shared.scripts.signal_user;
        let mut call = self.shared.preamble.call(script);
        call.arg(user.as_str()).arg(self.shared.keys.inbox_begin()).arg(format::signal_json(signal));
        let mut connection = self.connection().await?;
        self.shared.call_or_load::<u64>(&mut *connection, script, call).await?;
        Ok(())
    }

    /// Calls a script about the register of rooms: of a room, or of a user there.
    async fn call_register<T: FromRedisValue>(
        &self,
        script: &Script,
        room: &RoomId,
        user: Option<&UserId>,
    ) -> StoreResult<T> {
        let keys = &self.shared.keys;
        let mut call = self.shared.preamble.call(script);
        call.arg(&keys.registered).arg(keys.registered_members(room)).arg(room.as_str());
        if let Some(user) = user {
            call.arg(user.as_str());
        }
        let mut connection = self.connection().await?;
        self.shared.call_or_load(&mut *connection, script, call).await
    }
}

/// What the replies about a room say of its head and of its number of members.
fn room_head(replies: &[Option<Value>]) -> Option<RoomHead> {
    let [Some(head), Some(n_members)] = replies else { return None };
    let position = format::room_position(&from_redis_value_ref(head).ok()?).ok()?;
    Some(RoomHead { position, n_members: from_redis_value_ref(n_members).ok()? })
}
