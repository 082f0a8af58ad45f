//! Another Redis becomes the primary, and the old one goes on running: connections to it stay open, and say nothing.

use std::time::Duration;

use super::*;

/// Two nodes whose address of Redis is a proxy, and the two servers that it may lead to.
struct Pair {
    // Declared, and so dropped, before what they use.
    nodes: Vec<Node>,
    proxy: ChaosProxy,
    old: RedisServer,
    new: RedisServer,
}

impl Pair {
    async fn start() -> Pair {
        let (old, new) = (RedisServer::start().await, RedisServer::start().await);
        old.begin_epoch().await;
        new.replicate(&old).await;
        let proxy = ChaosProxy::start(old.port()).await;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(Node::spawn(test_settings_with_redis(&proxy.url())).await);
        }
        for node in &nodes {
            node.wait_ready().await;
        }
        Pair { nodes, proxy, old, new }
    }

    async fn listeners(&self) -> Vec<Listener> {
        let mut watches = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            watches.push(Listener::join(node.addr(), &format!("watch-{number}")).await);
        }
        for watch in &watches {
            eventually_eq(async || watch.online(), ["watch-0", "watch-1"], "both hear both").await;
        }
        watches
    }

    /// The new server becomes the primary, and the address leads to it. The old server goes on as a primary.
    async fn fail_over(&self) {
        self.new.promote().await;
        self.proxy.switch(self.new.port());
    }

    /// Everything that a node does with Redis is done with the new one, and nobody was told anything that is not so.
    async fn assert_all_is_well(&self, watches: &[Listener]) {
        for node in &self.nodes {
            wait_until_degraded(node, false).await;
        }
        // Orders and the subscription: a join here is heard there.
        let mut ada = self.nodes[0].join("ada").await;
        for watch in watches {
            watch.wait_for("user_online", "ada").await;
        }
        // Reads over the pool: who has to subscribe anew catches up.
        self.new.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        let bob = self.nodes[1].join("bob").await;
        for watch in watches {
            watch.wait_for("user_online", "bob").await;
        }
        // Sweeps: a node that does not beat is found.
        self.new.command(&["ZADD", "online:nodes", "1", "000000000000"]).await;
        let stray = async || self.new.query::<Option<f64>>(&["ZSCORE", "online:nodes", "000000000000"]).await;
        eventually_eq(stray, None, "the new server is swept").await;
        // Refreshes.
        self.new.command(&["PEXPIRE", "online:presence:ada", "600000"]).await;
        ada.send_json(serde_json::json!({"type": "user_activity"})).await;
        let refreshed = async || self.new.pttl("online:presence:ada").await > 600_000;
        eventually(refreshed, "the keys on the new server are refreshed").await;
        let strangers = async || subscriptions(&self.old).await;
        eventually_eq(strangers, 0, "no subscription is left with the old server").await;
        for watch in watches {
            watch.fence().await;
            assert_eq!(watch.events("user_offline").len(), 0, "nobody left");
            assert_eq!(watch.online(), ["ada", "bob", "watch-0", "watch-1"]);
            watch.assert_sound();
        }
        let stored = async || self.new.smembers("online:users:set").await;
        eventually_eq(stored, ["ada", "bob", "watch-0", "watch-1"], "the new server knows everybody").await;
        drop((ada, bob));
    }
}

/// How many nodes listen to a server.
async fn subscriptions(server: &RedisServer) -> usize {
    server.query::<(String, usize)>(&["PUBSUB", "NUMSUB", "online:events"]).await.1
}

#[tokio::test]
async fn a_failover_that_leaves_the_old_primary_running_as_a_replica_is_followed() {
    let pair = Pair::start().await;
    let watches = pair.listeners().await;
    pair.fail_over().await;
    pair.old.replicate(&pair.new).await;
    pair.assert_all_is_well(&watches).await;
}

#[tokio::test]
async fn a_demoted_primary_that_accepts_writes_all_the_same_is_left() {
    let pair = Pair::start().await;
    let watches = pair.listeners().await;
    pair.old.command(&["CONFIG", "SET", "replica-read-only", "no"]).await;
    pair.fail_over().await;
    pair.old.replicate(&pair.new).await;
    pair.assert_all_is_well(&watches).await;
}

#[tokio::test]
async fn an_old_primary_that_nobody_demotes_is_left_within_a_lease() {
    let pair = Pair::start().await;
    let watches = pair.listeners().await;
    pair.fail_over().await;
    // The old one goes on as a primary, and every connection to it works.
    pair.assert_all_is_well(&watches).await;
}

#[tokio::test]
async fn a_failover_by_sentinels_is_followed_and_the_old_primary_comes_back_as_a_replica() {
    let mut pair = Pair::start().await;
    let watches = pair.listeners().await;
    let sentinels = Sentinels::start(&pair.old, &pair.new).await;
    assert_eq!(sentinels.primary().await, pair.old.port());

    pair.old.pause();
    let primary = async || sentinels.primary().await;
    eventually_eq_within(3 * DEADLINE, primary, pair.new.port(), "the replica is promoted").await;
    pair.proxy.switch(pair.new.port());
    pair.old.resume();
    // A server ends all connections when it becomes a replica.
    let demoted = async || {
        let role = pair.old.try_query::<String>(&["INFO", "replication"]).await;
        role.is_ok_and(|role| role.contains("role:slave"))
    };
    eventually_within(3 * DEADLINE, demoted, "the old primary is a replica").await;
    pair.assert_all_is_well(&watches).await;
}

#[tokio::test]
async fn a_connection_that_saw_an_error_is_not_used_again() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let mut settings = test_settings_with_redis(&redis.url());
    settings.redis.pool_size = 1;
    settings.presence.sweep = Duration::from_millis(50);
    // Its age must not be the reason.
    settings.presence.lease = Duration::from_secs(120);
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let sweeper = async || {
        let list: String = redis.query(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        let sweeping = list.lines().find(|line| line.contains(" cmd=zrangebyscore "));
        sweeping.and_then(|line| line.split(' ').next().map(str::to_owned))
    };
    let mut first = None;
    let swept = async || {
        first = sweeper().await;
        first.is_some()
    };
    eventually(swept, "a connection sweeps").await;
    // Its next sweep fails, and only that: the key is of another type.
    redis.command(&["RENAME", "online:nodes", "online:elsewhere"]).await;
    redis.command(&["SET", "online:nodes", "x"]).await;
    let failed = async || {
        let statistics = redis.info("commandstats").await;
        let sweeps = statistics.lines().find(|line| line.starts_with("cmdstat_zrangebyscore:"));
        sweeps.is_some_and(|line| !line.trim_end().ends_with(",failed_calls=0"))
    };
    eventually(failed, "a sweep has failed").await;
    redis.command(&["RENAME", "online:elsewhere", "online:nodes"]).await;
    let replaced = async || sweeper().await.is_some_and(|now| first.as_ref() != Some(&now));
    eventually(replaced, "another connection sweeps").await;
}
