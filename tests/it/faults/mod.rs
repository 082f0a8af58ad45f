//! What becomes of presence when something dies, stops or lies: real faults on real processes.
//!
//! One file a fault. `simulation.rs` mixes them all, seeded; it and the files on many users say how to run them larger
//! than the suite does.

mod balanced_restart;
mod data_loss;
mod deaf;
mod failover;
mod grace;
mod listener;
mod node_loss;
mod old_connection;
mod outage;
mod races;
mod roaming;
mod rolling_restart;
mod rooms;
mod simulation;
mod slow_reads;
mod standstill;
mod storm;
mod stuck_client;
mod wrong_values;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use self::listener::Listener;
use crate::support::*;

/// Nodes that reach one Redis through a proxy each.
struct Behind {
    // Declared, and so dropped, before what they use.
    nodes: Vec<Node>,
    proxies: Vec<ChaosProxy>,
    redis: RedisServer,
}

impl Behind {
    async fn start(count: usize, change: impl Fn(&mut rollcall::settings::Settings)) -> Behind {
        let redis = RedisServer::start().await;
        redis.begin_epoch().await;
        let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let proxy = ChaosProxy::start(redis.port()).await;
            let mut settings = test_settings_with_redis(&proxy.url());
            change(&mut settings);
            let node = Node::spawn(settings).await;
            node.wait_ready().await;
            nodes.push(node);
            proxies.push(proxy);
        }
        Behind { nodes, proxies, redis }
    }

    /// Cuts every node off from Redis.
    async fn cut(&self) {
        for proxy in &self.proxies {
            proxy.cut().await;
        }
    }

    /// Mends the ways to Redis, one after the other in the order of the nodes.
    async fn restore(&self) {
        for proxy in &self.proxies {
            proxy.restore().await;
        }
    }
}

/// Waits until a time has passed. Use it only if no answer shows the end of that time. An example is a grace on a node
/// that is cut off.
async fn pass(time: Duration) {
    let end = tokio::time::Instant::now() + time;
    eventually_within(time + DEADLINE, async || tokio::time::Instant::now() >= end, "the time has passed").await;
}

/// Joins `count` users, `prefix-0` and so on, spread over `addrs`, some at a time. Their sockets are not read, unless the
/// test does: what they are told waits in the kernel.
async fn crowd(addrs: &[SocketAddr], prefix: &str, count: usize) -> Vec<WsClient> {
    const AT_ONCE: usize = 32;
    let mut joining = FuturesOrdered::new();
    let mut crowd = Vec::with_capacity(count);
    for number in 0..count {
        let (addr, user) = (addrs[number % addrs.len()], format!("{prefix}-{number}"));
        joining.push_back(async move {
            let mut client = WsClient::connect(addr, &format!("/ws?userId={user}")).await;
            client.expect_type("welcome").await;
            client.expect_type("online_users_list").await;
            client
        });
        if joining.len() == AT_ONCE {
            crowd.extend(joining.next().await);
        }
    }
    crowd.extend(joining.collect::<Vec<_>>().await);
    crowd
}

/// The addresses of the nodes of a cluster.
fn addrs<N>(cluster: &Cluster<N>) -> Vec<SocketAddr>
where
    N: std::ops::Deref<Target = Endpoint> + ClusterNode,
{
    cluster.nodes.iter().map(|node| node.addr()).collect()
}

/// A number from the environment, for a run that is larger than the suite's.
fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

/// The users in the log who went offline for this reason, in order.
async fn logged_offline(redis: &RedisServer, reason: &str) -> Vec<String> {
    let log: Vec<(String, Vec<String>)> = redis.query(&["XRANGE", "online:log", "-", "+"]).await;
    let events = log.iter().map(|(_, fields)| serde_json::from_str(&fields[1]).expect("the log holds JSON"));
    events
        .filter(|event: &serde_json::Value| event["type"] == "offline" && event["reason"] == reason)
        .map(|event| event["userId"].as_str().expect("a user").to_owned())
        .collect()
}

/// Waits until every lease that Redis holds has ended by the clock of Redis, which can be asked.
async fn wait_until_all_leases_have_ended(redis: &RedisServer) {
    let live = async || {
        let (seconds, micros): (u64, u64) = redis.query(&["TIME"]).await;
        let now_ms = seconds * 1000 + micros / 1000;
        redis.query::<u64>(&["ZCOUNT", "online:nodes", &format!("({now_ms}"), "+inf"]).await
    };
    eventually_eq(live, 0, "every lease has ended").await;
}

/// Waits until this node's view knows that it may be out of date, or is up to date again.
async fn wait_until_degraded(node: &Endpoint, degraded: bool) {
    let said = async || node.is_degraded().await;
    let what = format!("{} says degraded: {degraded}", node.addr());
    eventually_eq_within(3 * DEADLINE, said, Some(degraded), &what).await;
}
