//! Several nodes on one Redis, which is that of a service that has run for long ([`RedisServer::begin_epoch`]).
//!
//! ```ignore
//! let mut cluster = Cluster::start(3).await;                  // in threads; `processes(3)` for processes
//! let mut ada = cluster[0].join("ada").await;
//! let bob = cluster[1].join("bob").await;
//! ada.wait_for(|frame| frame["userId"] == "bob").await;
//! cluster.redis.command(&["FLUSHALL"]).await;
//! eventually_eq(async || cluster[2].online_ids().await, ["ada", "bob"], "node 2 lists both").await;
//! let fresh = cluster.add().await;                            // one more; returns its index
//! cluster.remove(0).stop().await;                             // the others move up
//! ```

use std::future::Future;
use std::ops::{Deref, Index, IndexMut};
use std::time::Duration;

use rollcall::settings::Settings;

use super::{ChaosProxy, Endpoint, Node, NodeProcess, RedisServer, secrets};

/// One private Redis and ready nodes of one kind.
pub(crate) struct Cluster<N: ClusterNode = Node> {
    /// The nodes, in the order they were started. Declared, and so dropped, before their Redis.
    pub(crate) nodes: Vec<N>,
    /// The Redis of all nodes.
    pub(crate) redis: RedisServer,
    recipe: N::Recipe,
    /// Each node has a name of its own: `node1`, `node2` and so on.
    n_started: usize,
}

/// A kind of node that a cluster can start.
pub(crate) trait ClusterNode: Deref<Target = Endpoint> + Sized {
    /// What a node is started with.
    type Recipe;

    /// Starts one with this name.
    fn start(recipe: &Self::Recipe, name: String) -> impl Future<Output = Self>;
}

impl ClusterNode for Node {
    type Recipe = Settings;

    async fn start(settings: &Settings, name: String) -> Node {
        let mut settings = settings.clone();
        settings.server.name = name;
        Node::spawn(settings).await
    }
}

impl ClusterNode for NodeProcess {
    type Recipe = Vec<(String, String)>;

    async fn start(environment: &Self::Recipe, name: String) -> NodeProcess {
        let mut environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        environment.push(("ROLLCALL__SERVER__NAME", &name));
        NodeProcess::spawn(&environment).await
    }
}

impl Cluster<Node> {
    /// A Redis and `count` ready nodes in threads.
    pub(crate) async fn start(count: usize) -> Cluster<Node> {
        Cluster::start_with(count, |_| ()).await
    }

    /// The same with changed settings: `Cluster::start_with(3, |settings| settings.presence.grace = Duration::ZERO)`.
    pub(crate) async fn start_with(count: usize, change: impl FnOnce(&mut Settings)) -> Cluster<Node> {
        let redis = RedisServer::start().await;
        let mut settings = test_settings_with_redis(&redis.url());
        change(&mut settings);
        Cluster::of(count, redis, settings).await
    }
}

impl Cluster<NodeProcess> {
    /// A Redis and `count` ready nodes, each a process of its own.
    pub(crate) async fn processes(count: usize) -> Cluster<NodeProcess> {
        Cluster::processes_with(count, &[]).await
    }

    /// The same with more environment: `Cluster::processes_with(3, &[("ROLLCALL__PRESENCE__GRACE_MS", "1000")])`.
    pub(crate) async fn processes_with(count: usize, environment: &[(&str, &str)]) -> Cluster<NodeProcess> {
        let redis = RedisServer::start().await;
        let url = redis.url();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut recipe = test_environment();
        recipe.push(("REDIS_URL".to_owned(), url));
        recipe.extend(environment.iter().map(owned));
        Cluster::of(count, redis, recipe).await
    }
}

impl<N: ClusterNode> Cluster<N> {
    async fn of(count: usize, redis: RedisServer, recipe: N::Recipe) -> Cluster<N> {
        redis.begin_epoch().await;
        let mut cluster = Cluster { nodes: Vec::new(), redis, recipe, n_started: 0 };
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    /// Starts one more node like the others, waits until it is ready, and returns its index.
    pub(crate) async fn add(&mut self) -> usize {
        self.n_started += 1;
        let node = N::start(&self.recipe, format!("node{}", self.n_started)).await;
        node.wait_ready().await;
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Takes a node out, to stop it or to drop it; those after it move up.
    pub(crate) fn remove(&mut self, index: usize) -> N {
        self.nodes.remove(index)
    }
}

impl<N: ClusterNode> Index<usize> for Cluster<N> {
    type Output = N;

    fn index(&self, index: usize) -> &N {
        &self.nodes[index]
    }
}

impl<N: ClusterNode> IndexMut<usize> for Cluster<N> {
    fn index_mut(&mut self, index: usize) -> &mut N {
        &mut self.nodes[index]
    }
}

/// One ready node that reaches its Redis through a proxy.
pub(crate) async fn node_behind_proxy() -> (RedisServer, ChaosProxy, Node) {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let node = Node::spawn(test_settings_with_redis(&proxy.url())).await;
    node.wait_ready().await;
    (redis, proxy, node)
}

/// The defaults of the service, on a port of the kernel's choice and with one worker: a test runs many nodes, and two
/// workers show nothing that two nodes do not. (What needs workers side by side says so in its settings.)
pub(crate) fn test_settings() -> Settings {
    let mut settings = Settings::default();
    settings.server.port = 0;
    settings.server.workers = 1;
    // A killed node is swept after one lease: tests should not wait 10 s for it.
    settings.presence.lease = Duration::from_millis(LEASE_MS);
    settings.presence.beat = Duration::from_millis(BEAT_MS);
    settings.presence.sweep = Duration::from_millis(SWEEP_MS);
    settings.presence.grace = Duration::from_millis(GRACE_MS);
    settings.drain.reconnect_spread = Duration::from_millis(SPREAD_MS);
    // The users of a test stay for a moment only.
    settings.presence.last_seen_min = Duration::ZERO;
    // Tests send many messages in a row, and choose their own limit of costly requests.
    settings.limits.messages_per_second = 1_000_000;
    settings.limits.message_burst = 1_000_000;
    settings
}

const LEASE_MS: u64 = 3000;
const BEAT_MS: u64 = 500;
const SWEEP_MS: u64 = 200;
const GRACE_MS: u64 = 700;
const SPREAD_MS: u64 = 300;

/// [`test_settings`] with a Redis, or a [`super::ChaosProxy`] before one.
pub(crate) fn test_settings_with_redis(url: &str) -> Settings {
    let mut settings = test_settings();
    settings.redis.url = Some(url.parse().expect("a Redis URL"));
    secrets::put_into(&mut settings, url);
    settings
}

/// What does for a process what [`test_settings`] does for a thread.
pub(crate) fn test_environment() -> Vec<(String, String)> {
    let variables = [
        ("SERVER__WORKERS", 1),
        ("PRESENCE__LEASE_MS", LEASE_MS),
        ("PRESENCE__BEAT_MS", BEAT_MS),
        ("PRESENCE__SWEEP_MS", SWEEP_MS),
        ("PRESENCE__GRACE_MS", GRACE_MS),
        ("DRAIN__RECONNECT_SPREAD_MS", SPREAD_MS),
        ("PRESENCE__LAST_SEEN_MIN_MS", 0),
        ("LIMITS__MESSAGES_PER_SECOND", 1_000_000),
        ("LIMITS__MESSAGE_BURST", 1_000_000),
    ];
    variables.iter().map(|(name, value)| (format!("ROLLCALL__{name}"), value.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use crate::support::*;

    #[tokio::test]
    async fn a_cluster_grows_and_shrinks() {
        let mut cluster = Cluster::start(2).await;
        let ada = cluster[0].join("ada").await;
        let fresh = cluster.add().await;
        eventually_eq(async || cluster[fresh].online_ids().await, ["ada"], "the third node lists ada").await;
        ada.close(1000).await;
        cluster.remove(0).stop().await;
        eventually_eq(async || cluster[1].online_ids().await, NOBODY, "ada is gone everywhere").await;
        assert_eq!(cluster.nodes.len(), 2);
    }

    #[tokio::test]
    async fn the_nodes_of_a_cluster_have_the_settings_a_test_asks_for() {
        let own = RedisServer::start().await;
        own.begin_epoch().await;
        let cluster = Cluster::start_with(1, |settings| *settings = test_settings_with_redis(&own.url())).await;
        let _ada = cluster[0].join("ada").await;
        assert_eq!(own.smembers("online:users:set").await, ["ada"]);
        assert_eq!(cluster.redis.smembers("online:users:set").await, NOBODY);
    }

    #[tokio::test]
    async fn a_node_reaches_its_redis_through_a_proxy() {
        let (redis, _proxy, node) = node_behind_proxy().await;
        let _ada = node.join("ada").await;
        assert_eq!(node.online_ids().await, ["ada"]);
        assert_eq!(redis.smembers("online:users:set").await, ["ada"]);
    }

    #[tokio::test]
    async fn a_cluster_of_processes_shares_its_redis() {
        let mut cluster = Cluster::processes(2).await;
        let _ada = cluster[0].join("ada").await;
        eventually_eq(async || cluster[1].online_ids().await, ["ada"], "the other node lists ada").await;
        cluster[0].kill9();
        assert_ne!(cluster[0].pid(), cluster[1].pid());
    }
}
