//! A private Redis for one test.
//!
//! ```ignore
//! let mut redis = RedisServer::start().await;
//! let node = Node::spawn(test_settings_with_redis(&redis.url())).await;
//! redis.kill();                       // SIGKILL: connections break, nothing was saved
//! redis.restart().await;              // the same port, empty, a new run_id
//! assert_eq!(redis.keys("online:*").await, ["online:epoch"]);
//! ```
//!
//! The environment variable `ROLLCALL_TEST_REDIS_SERVER` names another binary than `redis-server`; it must be the
//! server itself and not a script that starts one, for it is killed by its pid.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

use super::ports::Port;
use super::process::OwnedProcess;
use super::shared::redis_server::{self, RDB, Tls, command_of};
use super::{DEADLINE, Issued, Pki, eventually};

/// A `redis-server` on a port and in a directory of its own, without persistence; killed and cleaned up on Drop.
pub(crate) struct RedisServer {
    // Declared, and so dropped, before the port and the directory that it uses.
    process: Option<OwnedProcess>,
    port: Port,
    /// How the server encrypts, if it does.
    tls: Option<Tls>,
    directory: PathBuf,
}

impl RedisServer {
    /// Starts an empty server and returns once it answers PING.
    ///
    /// # Panics
    /// When it does not come up; the message holds the server's log.
    pub(crate) async fn start() -> RedisServer {
        RedisServer::start_with(None).await
    }

    /// Does the same with a server that encrypts, with a certificate of this authority. If it asks for certificates of its
    /// clients, they must be of the same authority.
    pub(crate) async fn start_tls(pki: &Pki, asks_clients: bool) -> RedisServer {
        let Issued { certificate, key } = pki.issue(&format!("redis-{}", rand::random::<u32>()));
        RedisServer::start_with(Some(Tls { ca: pki.ca(), certificate, key, asks_clients })).await
    }

    async fn start_with(tls: Option<Tls>) -> RedisServer {
        let port = Port::reserve();
        // Under `target/`: a killed test binary removes nothing.
        let name = format!("redis-{}-{}", std::process::id(), port.number());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a temporary directory can be created");
        let mut server = RedisServer { process: None, port, tls, directory };
        server.launch().await;
        server
    }

    /// Makes this the Redis of a service that has run for long: an epoch of this server life, with its hold over.
    ///
    /// On a Redis without it, the first node begins an epoch and holds back for a lease (10 s by default), because it
    /// cannot know whose users are about to be asserted again. That is right, and has its tests; all others need not
    /// wait for it. Source: docs/redis.md, `online:epoch` and `online:revision`.
    pub(crate) async fn begin_epoch(&self) {
        let (seconds, micros): (u64, u64) = self.query(&["TIME"]).await;
        let epoch = (seconds * 1_000_000 + micros).to_string();
        let run_id = self.run_id().await;
        self.command(&["SET", "online:revision", &epoch]).await;
        self.command(&["HSET", "online:epoch", "run_id", &run_id, "epoch", &epoch, "holdUntil", "0"]).await;
    }

    /// The id of the server's present life; a restart changes it.
    pub(crate) async fn run_id(&self) -> String {
        let info = self.info("server").await;
        info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("INFO has a run_id").trim().to_owned()
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://…` if the server encrypts.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The port; it stays the same over restarts.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills the server with SIGKILL. All data is gone unless [`RedisServer::save_rdb`] kept it.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the server again, empty, on the same port; kills it first if it runs.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let _ = fs::remove_file(self.directory.join(RDB));
        self.launch().await;
    }

    /// Writes the data as it is now to the RDB file.
    pub(crate) async fn save_rdb(&self) {
        // A replica that is just beginning has the server save in the background, and only one save goes at a time.
        let saved = async || {
            let mut connection = self.connection().await;
            command_of(&["SAVE"]).query_async::<()>(&mut connection).await.is_ok()
        };
        eventually(saved, "the data is saved").await;
    }

    /// Starts the server again with the data of the last [`RedisServer::save_rdb`]; kills it first if it runs.
    pub(crate) async fn restart_from_rdb(&mut self) {
        assert!(self.directory.join(RDB).exists(), "nothing was saved: call save_rdb() first");
        self.kill();
        self.launch().await;
    }

    /// Kills the server and starts it again with the data it had: a restart of a Redis with perfect persistence.
    pub(crate) async fn restart_with_data(&mut self) {
        self.save_rdb().await;
        self.restart_from_rdb().await;
    }

    /// Lets a save fail, as on a full disk. Returns once Redis knows of it.
    pub(crate) async fn break_saving(&self) {
        fs::create_dir(self.directory.join(RDB)).expect("a folder can stand where the file would be");
        let has_failed = async || {
            // While the append-only file is written anew, no other save goes.
            let _ = self.try_query::<redis::Value>(&["BGSAVE"]).await;
            self.info("persistence").await.contains("rdb_last_bgsave_status:err")
        };
        eventually(has_failed, "a save has failed").await;
    }

    /// Makes this a replica of `primary`, as an operator or a Sentinel does; returns once it has the primary's data.
    pub(crate) async fn replicate(&self, primary: &RedisServer) {
        self.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
        let linked = async || self.info("replication").await.contains("master_link_status:up");
        eventually(linked, "the replica has the primary's data").await;
    }

    /// Ends the replication, and makes this a primary with the data that it has.
    pub(crate) async fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// A section of `INFO`.
    pub(crate) async fn info(&self, section: &str) -> String {
        self.query(&["INFO", section]).await
    }

    /// Stops the process (SIGSTOP): connections stay open, and nothing is answered. Returns once it has stopped.
    pub(crate) fn pause(&mut self) {
        self.process_mut().freeze();
    }

    /// Lets a paused process go on (SIGCONT); it answers what has queued up meanwhile.
    pub(crate) fn resume(&mut self) {
        self.process_mut().thaw();
    }

    /// A new connection, for commands that have no helper here.
    ///
    /// # Panics
    /// When Redis does not answer within [`DEADLINE`].
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        let connected = redis_server::connect(self.port(), self.tls.as_ref(), DEADLINE).await;
        connected.unwrap_or_else(|error| panic!("no connection to the test's Redis: {error}"))
    }

    /// Sends one command and converts its reply: `let n: i64 = redis.query(&["SCARD", "online:users:set"]).await`.
    ///
    /// # Panics
    /// On an error reply, an unfit type, or no reply within [`DEADLINE`].
    pub(crate) async fn query<T: FromRedisValue>(&self, arguments: &[&str]) -> T {
        let replied = self.try_query(arguments).await;
        replied.unwrap_or_else(|error| panic!("Redis command {arguments:?}: {error}"))
    }

    /// Does the same where the server may end the connection.
    pub(crate) async fn try_query<T: FromRedisValue>(&self, arguments: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis_server::connect(self.port(), self.tls.as_ref(), DEADLINE).await?;
        command_of(arguments).query_async(&mut connection).await
    }

    /// Sends one command and returns its raw reply; panics like [`RedisServer::query`].
    pub(crate) async fn command(&self, arguments: &[&str]) -> redis::Value {
        self.query(arguments).await
    }

    /// The members of a set, sorted; empty when there is no such key.
    pub(crate) async fn smembers(&self, key: &str) -> Vec<String> {
        sorted(self.query(&["SMEMBERS", key]).await)
    }

    /// The fields and values of a hash; empty when there is no such key.
    pub(crate) async fn hgetall(&self, key: &str) -> BTreeMap<String, String> {
        self.query(&["HGETALL", key]).await
    }

    /// The value of a string; `None` when there is no such key.
    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        self.query(&["GET", key]).await
    }

    /// The milliseconds a key still lives, as Redis says it: -1 without an expiry, -2 without a key.
    pub(crate) async fn pttl(&self, key: &str) -> i64 {
        self.query(&["PTTL", key]).await
    }

    /// All keys that match a glob pattern, sorted.
    pub(crate) async fn keys(&self, pattern: &str) -> Vec<String> {
        sorted(self.query(&["KEYS", pattern]).await)
    }

    /// Starts the process and waits until it, and no other server, answers.
    async fn launch(&mut self) {
        let binary = std::env::var_os("ROLLCALL_TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let launched = redis_server::launch(binary, self.port(), self.tls.as_ref(), &self.directory).await;
        self.process = Some(launched.unwrap_or_else(|error| panic!("{error}")));
    }

    fn process_mut(&mut self) -> &mut OwnedProcess {
        self.process.as_mut().expect("this Redis was killed and not restarted")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn sorted(mut items: Vec<String>) -> Vec<String> {
    items.sort();
    items
}

#[tokio::test]
async fn a_restarted_redis_is_empty_and_another_life_of_the_server() {
    let mut redis = RedisServer::start().await;
    redis.command(&["HSET", "hash", "field", "value"]).await;
    redis.command(&["SADD", "set", "b", "a"]).await;
    redis.command(&["SET", "string", "value", "PX", "60000"]).await;
    assert_eq!(redis.hgetall("hash").await, BTreeMap::from([("field".into(), "value".into())]));
    assert_eq!(redis.smembers("set").await, ["a", "b"]);
    assert_eq!(redis.get("string").await.as_deref(), Some("value"));
    assert_eq!(redis.pttl("set").await, -1);
    assert!((1..=60_000).contains(&redis.pttl("string").await));
    let port = redis.port();
    let first_run_id = redis.run_id().await;

    redis.kill();
    redis.restart().await;

    assert_eq!(redis.keys("*").await, super::NOBODY);
    assert_eq!(redis.port(), port);
    assert_ne!(redis.run_id().await, first_run_id);
}

#[tokio::test]
async fn a_redis_restarted_from_its_rdb_has_the_data_of_the_time_it_was_saved() {
    let mut redis = RedisServer::start().await;
    redis.command(&["SET", "early", "1"]).await;
    redis.save_rdb().await;
    redis.command(&["SET", "late", "1"]).await;
    redis.restart_from_rdb().await;
    assert_eq!(redis.keys("*").await, ["early"]);

    redis.command(&["SET", "later", "1"]).await;
    redis.restart_with_data().await;
    assert_eq!(redis.keys("*").await, ["early", "later"]);
}

#[tokio::test]
async fn a_paused_redis_answers_once_it_is_resumed() {
    let mut redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    redis.pause();
    let reply = tokio::spawn(async move { command_of(&["PING"]).query_async::<String>(&mut connection).await });
    // A connection is still accepted, by the kernel: that is what makes a paused Redis different from a dead one.
    tokio::net::TcpStream::connect(("127.0.0.1", redis.port())).await.expect("the kernel accepts");
    assert!(!reply.is_finished());
    redis.resume();
    assert_eq!(reply.await.expect("the task ends").expect("a reply"), "PONG");
}

#[tokio::test]
async fn a_dropped_redis_leaves_neither_a_process_nor_a_directory() {
    let redis = RedisServer::start().await;
    let (port, directory) = (redis.port(), redis.directory.clone());
    drop(redis);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert!(!directory.exists());
}
