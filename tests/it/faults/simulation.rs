//! Every fault at once, at random, from a seed: what is left when they are over must be the truth, and nobody may have
//! heard the same twice.
//!
//! The suite runs one short seed. Longer, and ten in a row:
//!
//!     for seed in 1 2 3 4 5 6 7 8 9 10; do
//!         ROLLCALL_FAULT_SEED=$seed ROLLCALL_FAULT_SECONDS=60 cargo test --test it -- random_faults || break
//!     done
//!
//! A failure prints everything that was done, and when. A seed repeats the plan, not the timing of the machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use super::*;

/// What nodes are started with when keys are to live shorter than outages last, over [`test_environment`].
const SHORT_LIVED: [(&str, &str); 6] = [
    ("ROLLCALL__PRESENCE__USER_TTL_MS", "4000"),
    ("ROLLCALL__PRESENCE__LEASE_MS", "1000"),
    ("ROLLCALL__PRESENCE__BEAT_MS", "300"),
    ("ROLLCALL__PRESENCE__GRACE_MS", "500"),
    ("ROLLCALL__DRAIN__RECONNECT_SPREAD_MS", "300"),
    ("ROLLCALL__REDIS__CALL_TIMEOUT_MS", "500"),
];

/// Users who come and go; each may have several sockets.
const N_USERS: usize = 24;
const N_NODES: usize = 3;

#[tokio::test]
async fn after_random_faults_everybody_agrees_on_who_is_online_and_nobody_heard_the_same_twice() {
    let seed = number_from_env("ROLLCALL_FAULT_SEED", 1);
    let duration = Duration::from_secs(number_from_env("ROLLCALL_FAULT_SECONDS", 8));
    let mut simulation = Simulation::begin(seed).await;
    let end = Instant::now() + duration;
    while Instant::now() < end {
        simulation.step().await;
    }
    simulation.heal().await;
    simulation.check().await;
}

/// Three nodes, their Redis, the sockets of the users, and what is broken at the moment.
struct Simulation {
    random: StdRng,
    nodes: Vec<SimulatedNode>,
    /// The primary, and the replica that a failover promotes.
    redis: RedisServer,
    replica: RedisServer,
    redis_state: RedisState,
    sockets: Vec<Socket>,
    /// Whether keys live shorter than outages may last.
    short_lived: bool,
    story: Story,
}

/// A node and its way to Redis.
struct SimulatedNode {
    process: NodeProcess,
    proxy: ChaosProxy,
    state: NodeState,
    /// Until when the way is broken, and whether it is cut.
    broken: Option<(Instant, bool)>,
}

#[derive(Clone, Copy, PartialEq)]
enum NodeState {
    Up,
    Stopped { until: Instant },
    Ended { until: Instant },
}

#[derive(Clone, Copy, PartialEq)]
enum RedisState {
    Up,
    Stopped { until: Instant },
    Dead { until: Instant, with_data: bool },
}

/// An open socket, as its client sees it.
struct Socket {
    /// Which node, by its id: a place in the cluster is taken again by another.
    node: String,
    listener: Listener,
}

/// What was done so far, printed when the test fails.
struct Story {
    begun: Instant,
    text: String,
}

impl Story {
    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{:8.3} {what}", self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the story:\n{}---", self.text);
        }
    }
}

impl Simulation {
    async fn begin(seed: u64) -> Simulation {
        let redis = RedisServer::start().await;
        redis.begin_epoch().await;
        let replica = RedisServer::start().await;
        replica.replicate(&redis).await;
        // Every other seed.
        let short_lived = seed.is_multiple_of(2);
        let mut nodes = Vec::new();
        for _ in 0..N_NODES {
            let proxy = ChaosProxy::start(redis.port()).await;
            let process = start_process(&proxy, short_lived).await;
            process.wait_ready().await;
            nodes.push(SimulatedNode { process, proxy, state: NodeState::Up, broken: None });
        }
        let mut story = Story { begun: Instant::now(), text: String::new() };
        story.tell(format_args!("seed {seed}, keys live short: {short_lived}"));
        Simulation {
            random: StdRng::seed_from_u64(seed),
            nodes,
            redis,
            replica,
            redis_state: RedisState::Up,
            sockets: Vec::new(),
            short_lived,
            story,
        }
    }

    /// Ends the faults that are due, does one thing, and waits a moment: the pace of the simulation.
    async fn step(&mut self) {
        self.recover(Instant::now()).await;
        self.check_sockets();
        match self.random.random_range(0..100) {
            0..60 => self.open().await,
            60..68 => self.say_goodbye(),
            68..76 => self.reload().await,
            76..81 => self.abort(),
            81..83 => self.end_node(),
            83..85 => self.stop_node(),
            85..87 => self.break_network().await,
            87 => self.break_all_networks().await,
            88 if self.redis_state == RedisState::Up && self.random.random_bool(0.5) => self.fail_over().await,
            88..89 if self.redis_state == RedisState::Up => {
                self.story.tell(format_args!("FLUSHALL"));
                self.redis.command(&["FLUSHALL"]).await;
            }
            89..93 if self.redis_state == RedisState::Up => {
                self.story.tell(format_args!("CLIENT KILL TYPE pubsub"));
                self.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            }
            93..95 if self.redis_state == RedisState::Up => {
                let (until, with_data) = (self.soon(3000), self.random.random_bool(0.5));
                self.story.tell(format_args!("kill Redis, to come back with data: {with_data}"));
                if with_data {
                    self.redis.save_rdb().await;
                }
                self.redis.kill();
                self.redis_state = RedisState::Dead { until, with_data };
            }
            95..98 if self.redis_state == RedisState::Up => {
                self.story.tell(format_args!("stop Redis"));
                self.redis.pause();
                self.redis_state = RedisState::Stopped { until: self.soon(5000) };
            }
            _ => {}
        }
        let pause = self.random.random_range(5..120);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn soon(&mut self, max_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.random.random_range(100..max_ms))
    }

    /// Ends the faults that are due at `now`.
    async fn recover(&mut self, now: Instant) {
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
        for (index, node) in self.nodes.iter_mut().enumerate() {
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
            }
            match node.state {
                NodeState::Stopped { until } if until <= now => {
                    self.story.tell(format_args!("node {index} goes on"));
                    node.process.sigcont();
                    node.state = NodeState::Up;
                }
                NodeState::Ended { until } if until <= now => {
                    node.process = start_process(&node.proxy, self.short_lived).await;
                    self.story.tell(format_args!("node {index} starts, as {}", node.process.node_id()));
                    node.state = NodeState::Up;
                }
                _ => {}
            }
        }
    }

    fn some_node_that_is_up(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..N_NODES).filter(|index| self.nodes[*index].state == NodeState::Up).collect();
        up.choose(&mut self.random).copied()
    }

    fn some_socket(&mut self) -> Option<usize> {
        (!self.sockets.is_empty()).then(|| self.random.random_range(0..self.sockets.len()))
    }

    async fn open(&mut self) {
        let user = format!("user-{:02}", self.random.random_range(0..N_USERS));
        if let Some(index) = self.some_node_that_is_up() {
            self.open_on(index, &user).await;
        }
    }

    async fn open_on(&mut self, index: usize, user: &str) {
        let process = &self.nodes[index].process;
        let node = process.node_id().to_owned();
        let listener = Listener::connect(process.addr(), user).await;
        self.story.tell(format_args!("{user} opens a socket on node {index}: {:?}", listener.as_ref().err()));
        if let Ok(listener) = listener {
            self.sockets.push(Socket { node, listener });
        }
    }

    /// Three ways to leave by one's own word.
    fn say_goodbye(&mut self) {
        let Some(socket) = self.some_socket() else { return };
        let Socket { listener, node } = self.end(socket);
        let way = self.random.random_range(0..3);
        self.story.tell(format_args!("{} says goodbye to {node}, way {way}", listener.user()));
        match way {
            0 => listener.close(1000),
            1 => {
                listener.send(&json!({"type": "leave"}));
                listener.close(1000);
            }
            _ => {
                listener.send(&json!({"type": "leave"}));
                listener.abort();
            }
        }
    }

    /// Closes with 1001 and comes back at once, perhaps elsewhere.
    async fn reload(&mut self) {
        let (Some(socket), Some(index)) = (self.some_socket(), self.some_node_that_is_up()) else { return };
        let Socket { listener, node } = self.end(socket);
        self.story.tell(format_args!("{} reloads, from {node}", listener.user()));
        listener.close(1001);
        self.open_on(index, listener.user()).await;
    }

    fn abort(&mut self) {
        let Some(socket) = self.some_socket() else { return };
        let Socket { listener, node } = self.end(socket);
        self.story.tell(format_args!("{} breaks off, from {node}", listener.user()));
        listener.abort();
    }

    /// Takes a socket that its client ends; what it heard must be right.
    fn end(&mut self, index: usize) -> Socket {
        let socket = self.sockets.swap_remove(index);
        assert_eq!(socket.listener.heard().wrong, NOBODY, "{} heard what must not be", socket.listener.user());
        socket
    }

    /// Kills a node, or drains it. Its clients do not come back.
    fn end_node(&mut self) {
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
        let id = node.process.node_id();
        let sockets = std::mem::take(&mut self.sockets);
        let (ended, rest): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|socket| socket.node == id);
        self.sockets = rest;
        for socket in ended {
            assert_eq!(socket.listener.heard().wrong, NOBODY, "{} heard what must not be", socket.listener.user());
        }
    }

    fn stop_node(&mut self) {
        let Some(index) = self.some_node_that_is_up() else { return };
        self.story.tell(format_args!("SIGSTOP of node {index}"));
        let until = self.soon(6000);
        self.nodes[index].process.sigstop();
        self.nodes[index].state = NodeState::Stopped { until };
    }

    /// Breaks the way of a node to Redis, perhaps for longer than its lease.
    async fn break_network(&mut self) {
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
        self.nodes[index].broken = Some((until, kind == 0));
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

    /// Cuts every node off from Redis: users who change nodes meanwhile are known to none but their new one.
    async fn break_all_networks(&mut self) {
        if self.nodes.iter().any(|node| node.broken.is_some()) {
            return;
        }
        self.story.tell(format_args!("every network is cut"));
        for index in 0..N_NODES {
            self.nodes[index].proxy.cut().await;
            self.nodes[index].broken = Some((self.soon(7000), true));
        }
        for _ in 0..8 {
            self.reload().await;
        }
    }

    /// No socket may end that neither its client nor the death of its node has ended.
    fn check_sockets(&self) {
        for socket in &self.sockets {
            socket.listener.assert_sound();
        }
    }

    /// Ends all faults.
    async fn heal(&mut self) {
        let now = Instant::now() + Duration::from_secs(3600);
        self.recover(now).await;
        self.story.tell(format_args!("healed"));
        for node in &self.nodes {
            node.process.wait_ready().await;
            wait_until_degraded(&node.process, false).await;
        }
        self.story.tell(format_args!("every node is ready"));
    }

    /// Everybody knows the truth: whose sockets are really open.
    async fn check(&mut self) {
        let since = Instant::now();
        let truth: BTreeSet<&str> = self.sockets.iter().map(|socket| socket.listener.user()).collect();
        let truth: Vec<&str> = truth.into_iter().collect();
        self.story.tell(format_args!("{} sockets are open, of {truth:?}", self.sockets.len()));
        let redis = &self.redis;
        let online = async || redis.smembers("online:users:set").await;
        eventually_eq_within(2 * DEADLINE, online, truth.clone(), "online:users:set is the truth").await;
        for SimulatedNode { process, .. } in &self.nodes {
            let what = format!("the list of {} is the truth", process.node_id());
            eventually_eq_within(2 * DEADLINE, async || process.online_ids().await, truth.clone(), &what).await;
        }
        for socket in &self.sockets {
            let what = format!("the view of {} on {} is the truth", socket.listener.user(), socket.node);
            eventually_eq_within(2 * DEADLINE, async || socket.listener.online(), truth.clone(), &what).await;
            socket.listener.assert_sound();
        }
        let n_sockets = async || redis.keys("online:socket:user:*").await.len();
        eventually_eq_within(2 * DEADLINE, n_sockets, self.sockets.len(), "Redis holds the open sockets").await;
        eprintln!("agreement {:?} after all nodes were well; {} sockets", since.elapsed(), self.sockets.len());
    }
}

/// A process like those of a [`Cluster`], behind a proxy.
async fn start_process(proxy: &ChaosProxy, short_lived: bool) -> NodeProcess {
    let url = proxy.url();
    let own = test_environment();
    let mut environment: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    environment.push(("REDIS_URL", &url));
    if short_lived {
        environment.extend(SHORT_LIVED);
    }
    NodeProcess::spawn(&environment).await
}
