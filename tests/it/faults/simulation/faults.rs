//! What breaks, and how it is mended.

use rand::RngExt;

use super::*;

/// A node and its way to Redis.
pub(super) struct SimulatedNode {
    pub(super) process: NodeProcess,
    pub(super) proxy: ChaosProxy,
    pub(super) state: NodeState,
    /// Until when the way is broken, and whether it is cut.
    broken: Option<(Instant, bool)>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum NodeState {
    Up,
    Stopped { until: Instant },
    Ended { until: Instant },
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum RedisState {
    Up,
    Stopped { until: Instant },
    Dead { until: Instant, with_data: bool },
}

/// What is different from one seed to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    /// Whether keys live shorter than outages may last.
    pub(super) short_lived: bool,
    /// Whether a socket is idle after a short time without `user_activity`.
    pub(super) falls_idle: bool,
}

const SHORT_LIVED: [(&str, &str); 6] = [
    ("ROLLCALL__PRESENCE__USER_TTL_MS", "4000"),
    ("ROLLCALL__PRESENCE__LEASE_MS", "1000"),
    ("ROLLCALL__PRESENCE__BEAT_MS", "300"),
    ("ROLLCALL__PRESENCE__GRACE_MS", "500"),
    ("ROLLCALL__DRAIN__RECONNECT_SPREAD_MS", "300"),
    ("ROLLCALL__REDIS__CALL_TIMEOUT_MS", "500"),
];
/// So that nodes open and close rooms.
const ROOMS: [(&str, &str); 1] = [("ROLLCALL__ROOMS__LINGER_MS", "300")];
/// A client that polls and breaks off between two requests is noticed only by its silence.
const HEARTBEAT: [(&str, &str); 2] =
    [("ROLLCALL__WEBSOCKET__PING_INTERVAL_MS", "2000"), ("ROLLCALL__WEBSOCKET__SILENCE_TIMEOUT_MS", "7000")];
const FALLS_IDLE: [(&str, &str); 1] = [("ROLLCALL__PRESENCE__IDLE_MS", "2000")];

impl Variant {
    pub(super) fn of(seed: u64) -> Variant {
        Variant { short_lived: seed.is_multiple_of(2), falls_idle: seed.is_multiple_of(3) }
    }

    /// What nodes are started with, over [`test_environment`].
    fn environment<'a>(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let short_lived = SHORT_LIVED.into_iter().filter(move |_| self.short_lived);
        let falls_idle = FALLS_IDLE.into_iter().filter(move |_| self.falls_idle);
        ROOMS.into_iter().chain(HEARTBEAT).chain(short_lived).chain(falls_idle)
    }
}

impl SimulatedNode {
    /// Starts a node, and waits until it is ready.
    pub(super) async fn start(redis: &RedisServer, variant: Variant) -> SimulatedNode {
        let proxy = ChaosProxy::start(redis.port()).await;
        let process = start_process(&proxy, variant).await;
        process.wait_ready().await;
        SimulatedNode { process, proxy, state: NodeState::Up, broken: None }
    }
}

/// A process like those of a [`Cluster`], behind a proxy.
async fn start_process(proxy: &ChaosProxy, variant: Variant) -> NodeProcess {
    let url = proxy.url();
    let own = test_environment();
    let mut environment: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    environment.push(("REDIS_URL", &url));
    environment.extend(variant.environment());
    NodeProcess::spawn(&environment).await
}

impl Simulation {
    /// Ends the faults that are due at `now`.
    pub(super) async fn recover(&mut self, now: Instant) {
        match self.redis_state {
            RedisState::Stopped { until } if until <= now => {
                self.story.tell(format_args!("Redis goes on"));
                self.redis.resume();
                self.redis_state = RedisState::Up;
            }
            RedisState::Dead { until, with_data } if until <= now => {
                self.story.tell(format_args!("Redis starts, with data: {with_data}"));
                if with_data {
                    self.redis.restart_from_rdb().await;
                } else {
                    self.redis.restart().await;
                }
                self.redis_state = RedisState::Up;
            }
            _ => {}
        }
        for index in 0..N_NODES {
            self.recover_node(index, now).await;
        }
    }

    async fn recover_node(&mut self, index: usize, now: Instant) {
        let node = &mut self.nodes[index];
        if let Some((until, is_cut)) = node.broken
            && until <= now
        {
            self.story.tell(format_args!("the network of node {index} is mended"));
            node.proxy.thaw();
            node.proxy.set_delay(Duration::ZERO);
            if is_cut {
                node.proxy.restore().await;
            }
            node.broken = None;
            self.model.network(node.process.node_id(), false);
        }
        match node.state {
            NodeState::Stopped { until } if until <= now => {
                self.story.tell(format_args!("node {index} goes on"));
                node.process.sigcont();
                node.state = NodeState::Up;
                self.model.node_goes_on(node.process.node_id());
            }
            NodeState::Ended { until } if until <= now => {
                node.process = start_process(&node.proxy, self.variant).await;
                self.story.tell(format_args!("node {index} starts, as {}", node.process.node_id()));
                node.state = NodeState::Up;
                self.model.node_starts(node.process.node_id());
                self.model.network(node.process.node_id(), node.broken.is_some());
            }
            _ => {}
        }
    }

    /// Ends all faults.
    pub(super) async fn heal(&mut self) {
        let now = Instant::now() + Duration::from_secs(3600);
        self.recover(now).await;
        self.story.tell(format_args!("healed"));
        for node in &self.nodes {
            node.process.wait_ready().await;
            wait_until_degraded(&node.process, false).await;
        }
        self.story.tell(format_args!("every node is ready"));
    }

    /// Kills a node, or drains it. Some of its clients come back, on other nodes.
    pub(super) async fn end_node(&mut self) {
        let Some(index) = self.some_node_that_is_up() else { return };
        let (until, drains) = (self.soon(4000), self.random.random_bool(0.3));
        self.story.tell(format_args!("node {index} ends, drains: {drains}"));
        let node = &mut self.nodes[index];
        if drains {
            node.process.sigterm();
        } else {
            node.process.kill9();
        }
        node.state = NodeState::Ended { until };
        let id = node.process.node_id().to_owned();
        self.model.node_ends(&id, !drains);
        let sockets = std::mem::take(&mut self.sockets);
        let (ended, rest): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|socket| socket.node == id);
        self.sockets = rest;
        for socket in ended {
            socket.assert_heard_nothing_wrong();
            if self.random.random_bool(0.5) {
                self.come_back(socket).await;
            }
        }
    }

    pub(super) fn stop_node(&mut self) {
        let Some(index) = self.some_node_that_is_up() else { return };
        self.story.tell(format_args!("SIGSTOP of node {index}"));
        let until = self.soon(6000);
        let node = &mut self.nodes[index];
        self.model.node_stops(node.process.node_id());
        node.process.sigstop();
        node.state = NodeState::Stopped { until };
    }

    /// Breaks the way of a node to Redis, perhaps for longer than its lease.
    pub(super) async fn break_network(&mut self) {
        let index = self.random.random_range(0..N_NODES);
        let (until, kind) = (self.soon(6000), self.random.random_range(0..6));
        if self.nodes[index].broken.is_some() {
            return;
        }
        let proxy = &self.nodes[index].proxy;
        let what = match kind {
            0 => {
                proxy.cut().await;
                "cut"
            }
            1 => {
                proxy.freeze();
                "frozen"
            }
            2 => {
                proxy.freeze_downstream();
                "without answers"
            }
            3 => {
                proxy.strand();
                "frozen for the connections of now"
            }
            4 => {
                proxy.deafen_subscriptions();
                "deaf"
            }
            _ => {
                let delay_ms = self.random.random_range(50..1500);
                proxy.set_delay(Duration::from_millis(delay_ms));
                "slow"
            }
        };
        self.story.tell(format_args!("the network of node {index} is {what}"));
        self.set_broken(index, until, kind == 0);
    }

    /// Cuts every node off from Redis: users who change nodes meanwhile are known to none but their new one.
    pub(super) async fn break_all_networks(&mut self) {
        if self.nodes.iter().any(|node| node.broken.is_some()) {
            return;
        }
        self.story.tell(format_args!("every network is cut"));
        for index in 0..N_NODES {
            self.nodes[index].proxy.cut().await;
            let until = self.soon(7000);
            self.set_broken(index, until, true);
        }
        for _ in 0..8 {
            self.reload().await;
        }
    }

    fn set_broken(&mut self, index: usize, until: Instant, is_cut: bool) {
        let node = &mut self.nodes[index];
        node.broken = Some((until, is_cut));
        self.model.network(node.process.node_id(), true);
    }

    /// Something happens to a Redis that answers.
    pub(super) async fn break_redis(&mut self) {
        match self.random.random_range(0..100) {
            0..5 => self.fail_over().await,
            5..15 => {
                self.story.tell(format_args!("FLUSHALL"));
                self.redis.command(&["FLUSHALL"]).await;
            }
            15..50 => {
                self.story.tell(format_args!("CLIENT KILL TYPE pubsub"));
                self.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            }
            50..70 => {
                let (until, with_data) = (self.soon(3000), self.random.random_bool(0.5));
                self.story.tell(format_args!("kill Redis, to come back with data: {with_data}"));
                if with_data {
                    self.redis.save_rdb().await;
                }
                self.redis.kill();
                self.redis_state = RedisState::Dead { until, with_data };
            }
            _ => {
                self.story.tell(format_args!("stop Redis"));
                self.redis.pause();
                self.redis_state = RedisState::Stopped { until: self.soon(5000) };
            }
        }
    }

    /// Makes the replica the primary. The old one goes on, as a replica or, to whoever still speaks to it, as a primary;
    /// connections to it stay open.
    async fn fail_over(&mut self) {
        let is_demoted = self.random.random_bool(0.7);
        self.story.tell(format_args!("failover, the old primary is demoted: {is_demoted}"));
        self.replica.promote().await;
        self.nodes.iter().for_each(|node| node.proxy.switch(self.replica.port()));
        std::mem::swap(&mut self.redis, &mut self.replica);
        if is_demoted {
            self.replica.replicate(&self.redis).await;
        }
    }
}
