//! What a Redis server says of itself, for who checks an installation.

use std::collections::HashMap;

use super::{RedisStore, format};
use crate::domain::Timestamp;
use crate::store::StoreResult;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `redis_version`.
    pub version: String,
    /// Whether it is a part of a Redis Cluster.
    pub is_cluster: bool,
    /// What it does when its memory is full (`maxmemory-policy`).
    pub eviction: String,
    /// Bytes in use, and the most that may be. 0 means no bound.
    pub memory: (u64, u64),
    /// Whether it could save its data when it last tried. If not, it may refuse to write.
    pub could_save: bool,
    /// Whether it writes a log of its commands (`appendonly`).
    pub has_append_only_file: bool,
    /// Why it refuses to write, if it does.
    pub write_refusal: Option<String>,
    /// Its clients, and the most that there may be.
    pub clients: (u64, u64),
    /// Its clock.
    pub now: Timestamp,
}

impl RedisStore {
    /// Asks the server. Opening the connection checks that it is a primary and grants what a node needs.
    ///
    /// # Errors
    /// The server cannot be reached, refuses the login, is no primary, or lacks a right.
    pub async fn examine_server(&self) -> StoreResult<ServerFacts> {
        let mut connection = self.connection().await?;
        let mut info = redis::cmd("INFO");
        info.arg("server").arg("cluster").arg("memory").arg("persistence").arg("clients");
        let info: String = self.shared.within(info.query_async(&mut *connection)).await?;
        let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default();
        let number = |name: &str| text(name).parse().unwrap_or(0);
        // No node has the id of this store, so there is nothing to delete.
        let mut delete = redis::cmd("DEL");
        delete.arg(self.shared.keys.node_sockets(self.shared.node));
        let deleted: StoreResult<u64> = self.shared.within(delete.query_async(&mut *connection)).await;
        let time: (u64, u64) = self.shared.within(redis::cmd("TIME").query_async(&mut *connection)).await?;
        Ok(ServerFacts {
            version: text("redis_version").to_owned(),
            is_cluster: text("cluster_enabled") == "1",
            eviction: text("maxmemory_policy").to_owned(),
            memory: (number("used_memory"), number("maxmemory")),
            could_save: !["rdb_last_bgsave_status", "aof_last_write_status"].iter().any(|name| text(name) == "err"),
            has_append_only_file: text("aof_enabled") == "1",
            write_refusal: deleted.err().map(|error| error.to_string()),
            clients: (number("connected_clients"), number("maxclients")),
            now: format::timestamp(time),
        })
    }
}
