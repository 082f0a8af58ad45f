//! The truth in Redis. Only this module knows of Redis.
//!
//! - `keys.rs`: every name. `docs/redis.md` says what each holds.
//! - `lua/*.lua`: every decision, each in one atomic script. `scripts.rs` joins and calls the scripts. `format.rs`
//!   reads their replies.
//! - `client.rs`: the address, the login and the certificates. `connection.rs`: how a connection is opened, checked and given
//!   up.
//! - `writer.rs`: the node's one ordered connection. `bus.rs`: the node's subscription. Both end when their connection
//!   ends. The code that opened them opens new ones, with a delay, because no connection of the client library heals a
//!   half-open link (docs/adr/0005).
//! - `rooms.rs`: what is asked about rooms. `room_bus.rs`: the subscriptions to rooms, which can be opened and closed.
//! - `nodes.rs`: what is asked about all nodes.
//! - `people.rs`: what is stated, noted and asked about single users.
//! - `snapshot.rs`: the long reads, in pages (`page.rs`). `audit.rs`: the search for ghosts, and `room_audit.rs` for those in
//!   rooms. `bad_records.rs`: records that somebody wrote by hand among our data.
//! - `doors.rs`: what the fuzz targets reach of it.
//! - This file: the occasional calls (refresh, sweep), over a small pool. The long reads and the audit use the pool
//!   too.

mod audit;
mod bad_records;
mod bus;
mod client;
mod connection;
pub(crate) mod doors;
mod format;
mod keys;
mod nodes;
mod page;
mod people;
mod room_audit;
mod room_bus;
mod rooms;
mod scripts;
mod server;
mod snapshot;
mod writer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Object, Pool, PoolError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::ConnectionLike;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, Pipeline, ProtocolVersion, RedisError, ServerErrorKind, ToRedisArgs,
};
use tokio::sync::{mpsc, watch};

use self::bad_records::BadRecords;
use self::client::Access;
use self::connection::{Connections, RunId};
use self::keys::{Keys, Partition};
use self::scripts::{Preamble, Script, Scripts};
pub use self::server::ServerFacts;
use super::{
    Audited, Examination, HeldNodes, PresenceStore, StatementOutcome, StoreError, StoreResult, StoreWriter, Swept,
    SweptBatch,
};
use crate::domain::{
    HeldSocket, LastSeen, NodeId, Position, Presence, RoomId, Roster, Signal, SocketId, Statement, Timestamp,
    Transition, UserId,
};
use crate::settings::{PresenceSettings, RedisSettings};

/// The store of many nodes.
pub struct RedisStore {
    pool: Pool<Connections>,
    shared: Arc<Shared>,
}

/// What every connection of this node needs.
struct Shared {
    node: NodeId,
    client: Client,
    /// The same client in RESP3. In RESP3 a subscribed connection still answers commands.
    push_client: Client,
    /// The server that the address leads to, as the last opened connection found it. It is none before the first
    /// connection, and while the server refuses this node.
    reached: watch::Sender<Option<RunId>>,
    keys: Keys,
    scripts: Scripts,
    preamble: Preamble,
    presence: PresenceSettings,
    bad_records: BadRecords,
    connect_timeout: Duration,
    call_timeout: Duration,
}

impl RedisStore {
    /// Prepares a store at `url`, with the login and the certificates of the settings. It connects nothing yet.
    /// `count_bad_record` is called for each record in Redis that no node can have written.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if the URL is not one of Redis, or if a file that the settings name cannot be used.
    pub fn new(
        node: NodeId,
        url: &str,
        redis: &RedisSettings,
        presence: &PresenceSettings,
        count_bad_record: Arc<dyn Fn() + Send + Sync>,
    ) -> StoreResult<Self> {
        let access = Access::read(url, redis)?;
        let client = access.client(ProtocolVersion::RESP2)?;
        let push_client = access.client(ProtocolVersion::RESP3)?;
        let keys = Keys::new(&redis.prefix, Partition);
        let last_seen = (presence.last_seen_ttl, presence.last_seen_min);
        let shared = Arc::new(Shared {
            node,
            client,
            push_client,
            reached: watch::Sender::new(None),
            preamble: Preamble::new(keys.clone(), presence.log_length, last_seen),
            keys,
            scripts: Scripts::new(),
            presence: presence.clone(),
            bad_records: BadRecords::new(count_bad_record),
            connect_timeout: redis.connect_timeout,
            call_timeout: redis.call_timeout,
        });
        // A switched address must show before peers take this node for dead.
        let connections = Connections { shared: shared.clone(), life: presence.lease / 2 };
        let pool = Pool::builder(connections)
            .max_size(redis.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(redis.call_timeout))
            .create_timeout(Some(redis.connect_timeout))
            .recycle_timeout(Some(redis.call_timeout + redis.connect_timeout))
            .build()
            .map_err(|error| StoreError::Misconfigured(error.to_string()))?;
        Ok(Self { pool, shared })
    }

    async fn connection(&self) -> StoreResult<Object<Connections>> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) => StoreError::Deadline(self.shared.call_timeout),
            error => StoreError::Unreachable(error.to_string()),
        })
    }

    /// Reads all this in one step. A full Redis refuses transactions, and answers what only reads. Then other clients may come
    /// between: that is better than no answer for a person who looks at what is wrong.
    async fn read_at_once<T: FromRedisValue>(&self, pipeline: &Pipeline) -> StoreResult<T> {
        let mut connection = self.connection().await?;
        let read = async {
            match pipeline.clone().atomic().query_async(&mut *connection).await {
                Err(error) if is_full(&error) => pipeline.query_async(&mut *connection).await,
                read => read,
            }
        };
        self.shared.within(read).await
    }

    async fn sweep_expired(&self) -> StoreResult<Swept> {
        let mut connection = self.connection().await?;
        let time: (u64, u64) = self.shared.within(redis::cmd("TIME").query_async(&mut *connection)).await?;
        let (nodes, now) = (&self.shared.keys.nodes, format::timestamp(time).0);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ZRANGEBYSCORE").arg(nodes).arg("-inf").arg(now);
        pipeline.cmd("ZRANGEBYSCORE").arg(nodes).arg(format!("({now}")).arg("+inf");
        let (nodes, alive): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
            self.shared.within(pipeline.query_async(&mut *connection)).await?;
        // No node sweeps a member that is not a node. Nodes that were cut off would wait for it.
        let key = &self.shared.keys.nodes;
        let nodes = self.shared.keep_ours(&mut *connection, "ZREM", key, nodes, format::parsed).await?;
        let mut swept = Swept { n_leases: alive.len(), ..Swept::default() };
        for node in nodes {
            swept.batches.extend(self.shared.sweep_node(&mut *connection, node).await?);
        }
        Ok(swept)
    }

    async fn refresh_keys(&self, sockets: &[(SocketId, UserId)]) -> StoreResult<Vec<SocketId>> {
        const KEYS_OF_A_SOCKET: usize = 3;
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        let ttl_ms = self.shared.user_ttl_ms();
        let mut pipeline = Pipeline::with_capacity(sockets.len() * KEYS_OF_A_SOCKET);
        for (socket, user) in sockets {
            pipeline.add_command(extend(self.shared.keys.service.user_sockets(user), &ttl_ms));
            pipeline.add_command(extend(self.shared.keys.presence(user), &ttl_ms));
            pipeline.add_command(extend(self.shared.keys.socket_user(*socket), &ttl_ms));
        }
        let mut connection = self.connection().await?;
        let extended: Vec<bool> = self.shared.within(pipeline.query_async(&mut *connection)).await?;
        let whole = extended.chunks(KEYS_OF_A_SOCKET).map(|keys| keys.iter().all(|extended| *extended));
        Ok(sockets.iter().zip(whole).filter(|(_, whole)| !whole).map(|((socket, _), _)| *socket).collect())
    }

    async fn publish(&self, channel: String, signal: &Signal) -> StoreResult<()> {
        let mut connection = self.connection().await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(format::signal_json(signal));
        self.shared.within(publish.query_async(&mut *connection)).await
    }
}

impl PresenceStore for RedisStore {
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>> {
        async {
            let writer = writer::RedisWriter::open(self.shared.clone()).await?;
            Ok(Box::new(writer) as Box<dyn StoreWriter>)
        }
        .boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Transition>>> {
        bus::subscribe(&self.shared).boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, StoreResult<Roster>> {
        self.read_snapshot().boxed()
    }

    fn log_after(&self, position: Position) -> BoxFuture<'_, StoreResult<Option<Vec<Transition>>>> {
        self.read_log_after(position).boxed()
    }

    fn refresh<'a>(&'a self, sockets: &'a [(SocketId, UserId)]) -> BoxFuture<'a, StoreResult<Vec<SocketId>>> {
        self.refresh_keys(sockets).boxed()
    }

    fn sweep(&self) -> BoxFuture<'_, StoreResult<Swept>> {
        self.sweep_expired().boxed()
    }

    fn audit(&self) -> BoxFuture<'_, StoreResult<Audited>> {
        self.audit_users().boxed()
    }

    fn state<'a>(
        &'a self,
        user: &'a UserId,
        statement: &'a Statement,
        base: Option<Timestamp>,
    ) -> BoxFuture<'a, StoreResult<StatementOutcome>> {
        self.send_statement(user, statement, base).boxed()
    }

    fn expire<'a>(&'a self, choices: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>> {
        self.call_for_each(&self.shared.scripts.expire, choices).boxed()
    }

    fn note_activity<'a>(&'a self, users: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>> {
        self.send_activity(users).boxed()
    }

    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, StoreResult<Vec<Option<LastSeen>>>> {
        self.read_last_seen(users).boxed()
    }

    fn sockets_of<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Vec<HeldSocket>>> {
        self.read_sockets_of(user).boxed()
    }

    fn examine<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Examination>> {
        self.read_examination(user).boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, StoreResult<HeldNodes>> {
        self.read_nodes().boxed()
    }

    fn subscribe_signals(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Signal>>> {
        bus::subscribe_signals(&self.shared).boxed()
    }

    fn signal<'a>(&'a self, to: NodeId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.publish(self.shared.keys.inbox(to), signal).boxed()
    }
}

impl Shared {
    /// Puts the deadline of every call on `call`.
    async fn within<T>(&self, call: impl Future<Output = redis::RedisResult<T>>) -> StoreResult<T> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(reply) => reply.map_err(store_error),
            Err(_) => Err(StoreError::Deadline(self.call_timeout)),
        }
    }

    /// Calls a script that is seldom needed. So the script is loaded along with each call.
    async fn load_and_call<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        script: &Script,
        call: Cmd,
    ) -> StoreResult<T> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(script.load()).ignore().add_command(call);
        let (reply,): (T,) = self.within(pipeline.query_async(connection)).await?;
        Ok(reply)
    }

    /// Calls a script that is often needed. So it is loaded only if the server does not know it.
    async fn call_or_load<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        script: &Script,
        call: Cmd,
    ) -> StoreResult<T> {
        let reply = self.within(async { Ok(call.query_async(connection).await) }).await?;
        match reply {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.load_and_call(connection, script, call).await
            }
            reply => reply.map_err(store_error),
        }
    }

    /// The user that a member of `key` names. If no node can have written the member, it is counted and this is none.
    fn known_user(&self, key: &str, member: &[u8]) -> Option<UserId> {
        let user = format::known_user(member);
        if user.is_none() {
            self.bad_records.found(key, member);
        }
        user
    }

    /// The room that a member of the set of rooms names. If no node can have written the member, it is counted and this is
    /// none.
    fn known_room(&self, member: &[u8]) -> Option<RoomId> {
        let room = format::known_room(member);
        if room.is_none() {
            self.bad_records.found(&self.keys.rooms, member);
        }
        room
    }

    /// The life of the keys of a user and of a room, as an argument.
    fn user_ttl_ms(&self) -> String {
        self.presence.user_ttl.as_millis().to_string()
    }

    /// A user's stored data. If no node can have written the data, it is counted and this is none.
    fn known_presence(&self, user: &UserId, stored: &[u8]) -> Option<Presence> {
        let presence = format::presence(stored).ok();
        if presence.is_none() {
            self.bad_records.found(&self.keys.presence(user).to_string(), stored);
        }
        presence
    }

    /// What the members of `key` say, as `read` understands them. Removes those that no node can have written with `command`
    /// (`SREM` or `ZREM`).
    async fn keep_ours<T>(
        &self,
        connection: &mut impl ConnectionLike,
        command: &str,
        key: &str,
        members: Vec<Vec<u8>>,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> StoreResult<Vec<T>> {
        let (mut ours, mut foreign) = (Vec::with_capacity(members.len()), Vec::new());
        for member in members {
            match read(&member) {
                Some(known) => ours.push(known),
                None => foreign.push(member),
            }
        }
        self.remove_foreign(connection, command, key, &foreign).await?;
        Ok(ours)
    }

    /// Removes members or fields that no node can have written. One of them must not stop the work for all others.
    async fn remove_foreign(
        &self,
        connection: &mut impl ConnectionLike,
        command: &str,
        key: &str,
        members: &[Vec<u8>],
    ) -> StoreResult<()> {
        if members.is_empty() {
            return Ok(());
        }
        members.iter().for_each(|member| self.bad_records.found(key, member));
        self.within(redis::cmd(command).arg(key).arg(members).query_async::<()>(connection)).await
    }

    /// Deletes data of these users that no node can have written. It also asks about data that seems to be missing,
    /// because the key may have another type.
    async fn forget_unreadable(&self, connection: &mut impl ConnectionLike, users: &[UserId]) -> StoreResult<()> {
        if users.is_empty() {
            return Ok(());
        }
        let get = self.keys.get_presences(users);
        let presences: Vec<Option<Vec<u8>>> = self.within(get.query_async(connection)).await?;
        for (user, stored) in users.iter().zip(presences) {
            if stored.as_deref().is_none_or(|stored| self.known_presence(user, stored).is_none()) {
                let mut forget = self.preamble.call(&self.scripts.forget);
                forget.arg(user.as_str()).arg(stored.unwrap_or_default());
                self.load_and_call::<bool>(connection, &self.scripts.forget, forget).await?;
            }
        }
        Ok(())
    }

    /// Sweeps one batch of an expired node. It is none if the node must not be swept.
    async fn sweep_node(&self, connection: &mut impl ConnectionLike, node: NodeId) -> StoreResult<Option<SweptBatch>> {
        let mut sweep = self.preamble.call_about_rooms(&self.scripts.sweep);
        sweep.arg(node.as_str()).arg(self.presence.sweep_batch).arg(self.presence.lease.as_millis() as u64);
        let (state, n_sockets, n_users, overdue_ms, n_room_entries): (String, u64, u64, i64, u64) =
            self.load_and_call(connection, &self.scripts.sweep, sweep).await?;
        let finished = match state.as_str() {
            "DONE" => true,
            "MORE" => false,
            "LIVE" | "GONE" => return Ok(None),
            _ => return Err(StoreError::Malformed(format!("sweep {state}"))),
        };
        let overdue = u64::try_from(overdue_ms).ok().map(Duration::from_millis);
        Ok(Some(SweptBatch { node, n_sockets, n_room_entries, n_users, overdue, finished }))
    }
}

/// Sets a key's life. The command has room for usual ids and prefixes, so that it need not grow.
fn extend(key: impl ToRedisArgs, ttl_ms: &str) -> Cmd {
    const ROOM_BYTES: usize = 96;
    let mut command = Cmd::with_capacity(3, ROOM_BYTES);
    command.arg("PEXPIRE").arg(key).arg(ttl_ms);
    command
}

/// Whether Redis has no memory left. Each command of a transaction says so.
fn is_full(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    error.code() == Some("OOM") || errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "OOM"))
}

fn store_error(error: RedisError) -> StoreError {
    // A pipeline reports the failures of all its commands. The first failure says what is wrong.
    let first = error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, first)| first.clone()));
    let error = first.map_or(error, RedisError::from);
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
            StoreError::Misconfigured(error.to_string())
        }
        // A server that loads its data, or has no memory left, may serve later. NOAUTH and NOPERM need a person.
        ErrorKind::Server(ServerErrorKind::NoPerm) => StoreError::Misconfigured(error.to_string()),
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            StoreError::Misconfigured(error.to_string())
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreError::Malformed(error.to_string()),
        _ => StoreError::Unreachable(error.to_string()),
    }
}
