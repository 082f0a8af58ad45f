//! Every fault at once, at random, from a seed. Meanwhile users come and go, choose statuses, hide, are idle, and change
//! their names. They enter and leave rooms, watch others, and pause. A third of the clients speak Socket.IO. What is left when the faults are over must be the
//! truth. Nobody may have heard the same twice. Nobody may be shown who hides, and nothing that nobody said. A model knows
//! what is promised (`model.rs`).
//!
//! The suite runs one short seed. Longer, and twenty in a row:
//!
//!     for seed in $(seq 20); do
//!         ROLLCALL_FAULT_SEED=$seed ROLLCALL_FAULT_SECONDS=60 cargo test --test it -- random_faults || break
//!     done
//!
//! A failure prints everything that was done, and when. A seed repeats the plan, not the timing of the machine.

mod faults;
mod frames;
mod interests;
mod model;
mod rooms;
mod truth;
mod users;

use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use self::faults::{NodeState, RedisState, SimulatedNode, Variant};
use self::frames::Looks;
use self::model::{Model, PARTS, Part};
use self::users::Socket;
use super::*;

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
    model: Model,
    variant: Variant,
    looks: Looks,
    story: Story,
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
        let variant = Variant::of(seed);
        let (mut nodes, mut model) = (Vec::new(), Model::default());
        let mut story = Story { begun: Instant::now(), text: String::new() };
        story.tell(format_args!("seed {seed}, {variant:?}"));
        for index in 0..N_NODES {
            let node = SimulatedNode::start(&redis, variant).await;
            story.tell(format_args!("node {index} is {}", node.process.node_id()));
            model.node_starts(node.process.node_id());
            nodes.push(node);
        }
        Simulation {
            random: StdRng::seed_from_u64(seed),
            nodes,
            redis,
            replica,
            redis_state: RedisState::Up,
            sockets: Vec::new(),
            model,
            variant,
            looks: Looks::default(),
            story,
        }
    }

    /// Ends the faults that are due, does one or two things, and waits a moment: the pace of the simulation.
    async fn step(&mut self) {
        self.recover(Instant::now()).await;
        self.listen();
        match self.random.random_range(0..1000) {
            0..380 => self.open().await,
            380..500 => self.set_status(),
            500..560 => self.be_active_or_idle(),
            560..580 => self.rename(),
            580..610 => self.look_at_a_list().await,
            610..680 => self.say_goodbye(),
            680..760 => self.reload().await,
            760..810 => self.abort().await,
            810..830 => self.end_node().await,
            830..850 => self.stop_node(),
            850..870 => self.break_network().await,
            870..880 => self.break_all_networks().await,
            880..980 if self.redis_state == RedisState::Up => self.break_redis().await,
            _ => {}
        }
        if self.random.random_bool(0.7) {
            self.change_interest();
        }
        let pause = self.random.random_range(5..120);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn soon(&mut self, max_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.random.random_range(100..max_ms))
    }

    fn some_node_that_is_up(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..N_NODES).filter(|index| self.nodes[*index].state == NodeState::Up).collect();
        up.choose(&mut self.random).copied()
    }

    fn is_any_node_up(&self) -> bool {
        self.nodes.iter().any(|node| node.state == NodeState::Up)
    }

    fn some_socket(&mut self) -> Option<usize> {
        (!self.sockets.is_empty()).then(|| self.random.random_range(0..self.sockets.len()))
    }
}
