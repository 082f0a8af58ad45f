//! Opens, checks and gives up every connection of this node.
//!
//! An address may be given to another server (DNS, a virtual address, a proxy) while connections to the old server stay
//! open. So the connection that was opened last says which server the address leads to. Connections to any other server
//! are given up.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use futures_util::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::watch;
use tracing::debug;

use super::{Shared, StoreError, StoreResult, store_error};

/// One life of a Redis process.
pub(super) type RunId = String;

/// A connection to a primary that grants what this node needs.
pub(super) struct Connection {
    inner: MultiplexedConnection,
    server: RunId,
    reached: watch::Receiver<Option<RunId>>,
    /// Whether every call was answered, and no answer was an error.
    is_sound: bool,
    /// When it was opened, or when no other connection could be opened in its place.
    kept_since: Instant,
}

impl Connection {
    /// Connects, and checks that the server is a primary and grants what a node needs.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] names the right that is missing. In that case all other connections are given up
    /// too. So the whole node is degraded, and no part of it works alone.
    pub(super) async fn open(shared: &Shared, client: &Client, config: AsyncConnectionConfig) -> StoreResult<Self> {
        // The response timeout is our own (`Shared::within`), one for each call.
        let config = config.set_connection_timeout(Some(shared.connect_timeout)).set_response_timeout(None);
        let connect = client.get_multiplexed_async_connection_with_config(&config);
        let mut inner = tokio::time::timeout(shared.connect_timeout, connect)
            .await
            .map_err(|_| StoreError::Deadline(shared.connect_timeout))?
            .map_err(|error| explained(store_error(error)))?;
        match check(shared, &mut inner).await {
            Ok(server) => {
                shared.lead_to(Some(&server));
                let (reached, kept_since) = (shared.reached.subscribe(), Instant::now());
                Ok(Self { inner, server, reached, is_sound: true, kept_since })
            }
            Err(error) => {
                if matches!(error, StoreError::Misconfigured(_)) {
                    shared.lead_to(None);
                }
                Err(explained(error))
            }
        }
    }

    /// Subscribes to channels. The client must speak RESP3.
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        self.inner.subscribe(channels).await
    }

    /// Ends the subscription to channels.
    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        self.inner.unsubscribe(channels).await
    }

    /// Waits until the connection must be given up, because the address leads to another server.
    ///
    /// # Cancel safety
    /// This call may be dropped and made again.
    pub(super) async fn dismissed(&mut self) {
        // An error says that the store was dropped.
        let _ = self.reached.wait_for(|reached| reached.as_ref() != Some(&self.server)).await;
    }

    /// Makes one call, unless the connection must be given up.
    async fn call<T>(
        &mut self,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
        has_failed: impl Fn(&T) -> bool,
    ) -> RedisResult<T> {
        if self.reached.borrow().as_ref() != Some(&self.server) {
            self.is_sound = false;
            return Err(RedisError::from((
                ErrorKind::Io,
                "the address leads to another server, or to one that refuses",
            )));
        }
        // A call that is dropped before its end counts as failed.
        let was_sound = std::mem::replace(&mut self.is_sound, false);
        let reply = call(&mut self.inner).await?;
        self.is_sound = was_sound && !has_failed(&reply);
        Ok(reply)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.call(async move |inner| inner.req_packed_command(command).await, has_error).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let has_failed = |replies: &Vec<Value>| replies.iter().any(has_error);
        self.call(async move |inner| inner.req_packed_commands(pipeline, offset, count).await, has_failed).boxed()
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}

/// Whether a reply, or a part of it, is an error.
fn has_error(reply: &Value) -> bool {
    match reply {
        Value::ServerError(_) => true,
        Value::Array(parts) => parts.iter().any(has_error),
        _ => false,
    }
}

/// Says what a new connection that is reset at once may mean. Redis writes why it refuses a connection, and closes it. If it has
/// not read what came meanwhile, the kernel resets the connection, and the reason is lost. Source: `acceptCommonHandler` in
/// `networking.c` of Redis 7.
fn explained(error: StoreError) -> StoreError {
    match error {
        // The library calls it a broken pipe if it was to send next.
        StoreError::Unreachable(what) if what.contains("reset by peer") || what.contains("broken pipe") => {
            StoreError::Unreachable(format!(
                "{what}: is it in protected mode, or does it have too many clients? A Redis without a password accepts this machine \
             alone (see docs/deployment.md)"
            ))
        }
        other => other,
    }
}

/// The server, if it is a primary and grants what a node needs.
async fn check(shared: &Shared, connection: &mut impl ConnectionLike) -> StoreResult<RunId> {
    let server = identify(shared, connection).await?;
    let script = &shared.scripts.rights;
    let mut call = script.call_without_keys();
    let channels = shared.keys.channel_samples(shared.node);
    call.arg(channels.len() / 2).arg(&channels).arg(shared.keys.samples());
    let missing: Vec<String> = shared.load_and_call(connection, script, call).await?;
    if missing.is_empty() {
        return Ok(server);
    }
    Err(StoreError::Misconfigured(format!("the Redis user lacks {} (see docs/redis.md)", missing.join(" "))))
}

/// The run id of the server, if the server is a primary.
async fn identify(shared: &Shared, connection: &mut impl ConnectionLike) -> StoreResult<RunId> {
    let mut command = redis::cmd("INFO");
    command.arg("server").arg("replication");
    let info: String = shared.within(command.query_async(connection)).await?;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("role:"), field("run_id:")) {
        (Some("master"), Some(run_id)) => Ok(run_id.to_owned()),
        (Some(role), Some(_)) => Err(StoreError::Unreachable(format!("the server is no primary: its role is {role}"))),
        _ => Err(StoreError::Malformed("INFO without a role or a run_id".to_owned())),
    }
}

impl Shared {
    /// Notes the server that the address leads to. It is none if the server refuses this node.
    fn lead_to(&self, server: Option<&RunId>) {
        self.reached.send_if_modified(|reached| {
            let is_other = reached.as_ref() != server;
            if is_other {
                *reached = server.cloned();
            }
            is_other
        });
    }
}

/// Makes the connections of the pool.
pub(super) struct Connections {
    pub(super) shared: Arc<Shared>,
    /// How long each connection is used, if another one can be opened then. That one shows where the address leads. The address
    /// may lead to another server while the old server goes on as a primary and works.
    pub(super) life: Duration,
}

impl Connections {
    /// Opens another connection in the place of an old one. If that cannot be done now, the old one is better than none: the
    /// server may serve as many clients as it can.
    async fn replace(&self, connection: &mut Connection) -> StoreResult<()> {
        match self.create().await {
            Ok(fresh) => *connection = fresh,
            Err(error @ StoreError::Misconfigured(_)) => return Err(error),
            Err(error) => {
                debug!(error = %error, "An old connection is kept, because no other can be opened");
                connection.kept_since = Instant::now();
            }
        }
        Ok(())
    }
}

impl Manager for Connections {
    type Type = Connection;
    type Error = StoreError;

    fn create(&self) -> impl Future<Output = StoreResult<Connection>> + Send {
        Connection::open(&self.shared, &self.shared.client, AsyncConnectionConfig::new())
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<StoreError> {
        if !connection.is_sound {
            return Err(RecycleError::message("it failed"));
        }
        // This is asked each time. A primary that became a replica does not end its connections.
        if identify(&self.shared, connection).await? != connection.server {
            return Err(RecycleError::message("it leads elsewhere"));
        }
        if connection.kept_since.elapsed() > self.life {
            self.replace(connection).await?;
        }
        Ok(())
    }
}
