//! Rooms: what those in them hear of each other, and what a room costs.

mod walk;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::walk::{Chain, N_CHAINS, N_MEMBERS, N_NODES, N_ROOMS, N_STEPS, N_WALKERS, Walker};
use super::fanout::{ALONE_MS, Actor, N_EVENTS, N_LISTENERS, N_ROUNDS, ROOM, Stage, Told};
use super::{HARDLY, Lab, ROOMS_PREFIX, pause};
use crate::client::Socket;
use crate::crowd::{Crowd, Plan};
use crate::process::Node;
use crate::progress::Progress;
use crate::table::{Measure, Row, Target, us};

/// How long to wait for what a burst tells.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sockets whose memory is measured in some rooms, and how many rooms each of them is in.
const N_IN_ROOMS: usize = 2000;
const N_ROOMS_EACH: usize = 10;

/// The rooms of these sockets together. Each has so many in it that the room itself costs little beside them.
const N_SHARED: usize = 200;

/// Sockets of users who are alone in each of their rooms.
const N_LONELY: usize = 400;

/// Rooms of each of them: as many as a socket may be in. Source: `limits.rooms_per_socket` in config/default.toml
pub(super) const ROOMS_PER_SOCKET: usize = 50;

/// A user enters a room and leaves it, by turns with a user who joins the service and leaves it.
pub(super) async fn one_at_a_time(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let node = &lab.main;
    let actor = Actor::open_for_room(node.addr).await?;
    let mut plan = Plan::of_rooms(node.addr, "member", N_LISTENERS);
    plan.room = Some((ROOM, "everyone"));
    let members = plan.open(lab.progress).await?;
    members.until_all_know_all(N_LISTENERS, lab.progress).await?;
    // Nobody else joins the service after these, but for the user who acts there.
    let crowd = Plan::of(node.addr, "listener", N_LISTENERS).open(lab.progress).await?;
    crowd.until_all_know_all(2 * N_LISTENERS + 1, lab.progress).await?;

    let (mut in_room, mut in_service) = (Told::default(), Told::default());
    let step = lab.progress.step("telling events, room and service by turns", 2 * N_ROUNDS * N_EVENTS);
    for round in 0..N_ROUNDS {
        let stage = Stage::in_room(node, &members, &actor, round * N_EVENTS);
        in_room.add(stage.tell(N_EVENTS, ALONE_MS, &step).await?);
        in_service.add(Stage::of(node, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
    }
    members.tally.check_quiet()?;
    crowd.tally.check_quiet()?;
    let workload = format!("one room of {N_LISTENERS}: join and leave, one at a time");
    Ok(vec![in_room.cpu_row(&workload, &in_service, "service scope", Target::RatioAtMost(1.2))])
}

/// Many small rooms on three nodes. Everybody changes rooms once.
pub(super) async fn changing(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let hall = Hall::open(lab).await?;
    let (mut chains, filling) = hall.fill().await?;
    let mut redis = OnRedis::default();
    let step = lab.progress.step("everybody changes rooms", N_STEPS * N_CHAINS);
    let (cpu_from, started) = (hall.cpu()?, Instant::now());
    for n_step in 0..N_STEPS {
        hall.move_all(&mut chains, n_step, &mut redis).await?;
        step.advance(N_CHAINS);
    }
    let (took, cpu) = (started.elapsed(), hall.cpu()? - cpu_from);
    drop(step);
    // What nobody should hear comes after what is waited for, if it comes.
    pause(500).await;
    let n_due = hall.check_all_heard(&chains)?;
    let n_subscriptions = hall.check_who_hears(&chains).await?;
    hall.close().await?;

    let n_moves = N_STEPS * N_CHAINS;
    let n_events = 2 * n_moves;
    ensure!(
        n_due == (n_events * N_MEMBERS) as u64,
        "{n_due} deliveries are not {N_MEMBERS} for each of {n_events} events"
    );
    let workload = format!("{N_ROOMS} rooms of {N_MEMBERS} on {N_NODES} nodes, everybody changes rooms");
    let row = |what: &str, cpu: Duration, count: usize, target, note| Row {
        workload: format!("{workload}: {what}"),
        measured: Measure(us(cpu) / count as f64, "us"),
        beside: None,
        target,
        note,
    };
    let told = format!(
        "{n_events} events, each heard by {N_MEMBERS} sockets: {n_due} of {n_due} delivered, to each socket its own"
    );
    Ok(vec![
        row(
            "room join, CPU each on Redis",
            redis.joining,
            n_moves,
            Target::AtMost(45.0),
            format!(
                "{told}; in bursts of {N_CHAINS}; {:.1} us each while the rooms were filled and opened",
                us(filling) / N_WALKERS as f64
            ),
        ),
        row("room leave, CPU each on Redis", redis.leaving, n_moves, Target::None, told.clone()),
        row(
            "CPU a delivery on all nodes",
            cpu,
            n_due as usize,
            Target::None,
            format!(
                "in {took:.1?}; {n_subscriptions} subscriptions to {N_ROOMS} rooms: each node hears of the rooms of its own sockets, and of no other; once a minute, this is {:.1} % of a core on all nodes together",
                100.0 * cpu.as_secs_f64() / 60.0
            ),
        ),
    ])
}

/// Nodes with their sockets, who hear nothing but their rooms.
struct Hall<'a> {
    lab: &'a Lab<'a>,
    nodes: Vec<Node>,
    /// The sockets of each node.
    crowds: Vec<Crowd>,
}

/// CPU time of Redis.
#[derive(Default)]
struct OnRedis {
    leaving: Duration,
    joining: Duration,
}

impl<'a> Hall<'a> {
    async fn open(lab: &'a Lab<'a>) -> Result<Self> {
        let chains = walk::chains();
        let mut hall = Self { lab, nodes: start_nodes(lab, N_NODES).await?, crowds: Vec::new() };
        for (i, node) in hall.nodes.iter().enumerate() {
            let n_sockets = chains.iter().map(|chain| chain.n_walkers_on(i)).sum();
            let plan = Plan::of_rooms(node.addr, &format!("n{i}-"), n_sockets);
            hall.crowds.push(plan.open(lab.progress).await?);
        }
        Ok(hall)
    }

    /// Everybody enters their first room, and all in it know each other. Returns the CPU time of Redis, too.
    async fn fill(&self) -> Result<(Vec<Chain>, Duration)> {
        let mut chains = walk::chains();
        let step = self.lab.progress.step("filling rooms", N_WALKERS);
        let redis_from = self.lab.redis.cpu().await?;
        for (room, walkers) in chains.iter().flat_map(Chain::rooms) {
            for walker in &walkers {
                self.socket(*walker).join_room(&room, "everyone").await?;
            }
            for walker in &walkers {
                self.until_knows(*walker, walkers.len() as u64).await?;
            }
            step.advance(walkers.len());
        }
        let redis = self.lab.redis.cpu().await? - redis_from;
        for chain in &mut chains {
            // What is due from now on comes on top of this.
            chain.begin(|walker| self.socket(walker).heard.events.load(Ordering::Acquire));
        }
        Ok((chains, redis))
    }

    /// Waits until a socket knows so many in its room, from the answer to its request or by one event each after it.
    async fn until_knows(&self, walker: Walker, n_members: u64) -> Result<()> {
        let heard = &self.socket(walker).heard;
        let started = Instant::now();
        loop {
            let n_known = heard.online.load(Ordering::Acquire) + heard.events.load(Ordering::Acquire);
            if n_known == n_members {
                return Ok(());
            }
            let late = started.elapsed() > PATIENCE;
            ensure!(n_known < n_members && !late, "somebody knows {n_known} of {n_members} in a room");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// In each chain somebody leaves a room. When all have heard of that, all of these enter their next rooms.
    async fn move_all(&self, chains: &mut [Chain], n_step: usize, redis: &mut OnRedis) -> Result<()> {
        let from = self.lab.redis.cpu().await?;
        let mut movers = Vec::with_capacity(chains.len());
        for chain in chains.iter_mut() {
            let (walker, room) = chain.leave(n_step);
            self.socket(walker).leave_room(&room).await?;
            movers.push(walker);
        }
        for walker in &movers {
            self.socket(*walker).until_left_rooms(1).await?;
        }
        self.until_told(chains).await?;
        let left = self.lab.redis.cpu().await?;
        for (chain, walker) in chains.iter_mut().zip(&movers) {
            let room = chain.enter(n_step, *walker);
            self.socket(*walker).join_room(&room, "everyone").await?;
        }
        for walker in &movers {
            // The first was when the rooms were filled.
            self.socket(*walker).until_in_rooms(2).await?;
        }
        self.until_told(chains).await?;
        redis.leaving += left - from;
        redis.joining += self.lab.redis.cpu().await? - left;
        Ok(())
    }

    /// Waits until the sockets of each node have heard as much as is due to them, and no more.
    async fn until_told(&self, chains: &[Chain]) -> Result<()> {
        for (i, crowd) in self.crowds.iter().enumerate() {
            let due = chains.iter().map(|chain| chain.due_on(i)).sum();
            crowd.tally.until("deliveries in rooms", &crowd.tally.events, due, PATIENCE).await?;
        }
        Ok(())
    }

    /// Each socket has heard what happened in its rooms while it was there, and nothing else. Returns how many events that were.
    fn check_all_heard(&self, chains: &[Chain]) -> Result<u64> {
        for (walker, due) in chains.iter().flat_map(Chain::due) {
            let n_events = self.socket(walker).heard.events.load(Ordering::Acquire);
            ensure!(n_events == due, "a socket heard {n_events} of {due} events");
        }
        self.crowds.iter().try_for_each(|crowd| crowd.tally.check_quiet())?;
        Ok(chains.iter().map(Chain::n_told).sum())
    }

    /// A node is subscribed to the rooms of its sockets, and to no other. Returns how many subscriptions there are.
    async fn check_who_hears(&self, chains: &[Chain]) -> Result<u64> {
        let rooms: Vec<_> = chains.iter().flat_map(Chain::rooms).collect();
        let names: Vec<String> = rooms.iter().map(|(room, _)| room.clone()).collect();
        let n_hearing = self.lab.redis.n_hearing(ROOMS_PREFIX, &names).await?;
        for ((room, walkers), n_hearing) in rooms.iter().zip(&n_hearing) {
            let n_nodes = walk::n_nodes_of(walkers);
            ensure!(*n_hearing == n_nodes, "{n_hearing} nodes hear of {room}, whose sockets are on {n_nodes}");
        }
        let n_open = self.lab.redis.n_open_rooms(ROOMS_PREFIX).await?;
        ensure!(n_open == N_ROOMS, "{n_open} rooms are open, not {N_ROOMS}");
        Ok(n_hearing.iter().sum())
    }

    /// Everybody goes, before the nodes do.
    async fn close(mut self) -> Result<()> {
        self.crowds.clear();
        self.nodes[0].until_online(0).await
    }

    fn socket(&self, walker: Walker) -> &Socket {
        &self.crowds[walker.node].sockets[walker.socket]
    }

    fn cpu(&self) -> Result<Duration> {
        self.nodes.iter().map(|node| node.process.cpu()).sum()
    }
}

/// Nodes that held no socket before.
async fn start_nodes(lab: &Lab<'_>, n_nodes: usize) -> Result<Vec<Node>> {
    let mut nodes = Vec::with_capacity(n_nodes);
    for i in 0..n_nodes {
        nodes.push(Node::start(&lab.programs, &lab.redis, ROOMS_PREFIX, &format!("rooms-{i}"), 0, HARDLY, &[])?);
    }
    for node in &nodes {
        node.ready().await?;
    }
    Ok(nodes)
}

/// What it costs a node that sockets are in rooms, and that a room is open.
pub(super) async fn memory(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let in_rooms = memory_in_rooms(lab).await?;
    Ok(vec![in_rooms, memory_of_rooms(lab).await?])
}

async fn memory_in_rooms(lab: &Lab<'_>) -> Result<Row> {
    let nodes = start_nodes(lab, 1).await?;
    let node = &nodes[0];
    let rss_empty = node.process.rss()?;
    let crowd = Plan::of_rooms(node.addr, "member", N_IN_ROOMS).open(lab.progress).await?;
    pause(2000).await;
    let rss_without = node.process.rss()?;
    let step = lab.progress.step("entering rooms", N_IN_ROOMS * N_ROOMS_EACH);
    for (i, socket) in crowd.sockets.iter().enumerate() {
        for k in 0..N_ROOMS_EACH {
            let room = (i * N_ROOMS_EACH + k) % N_SHARED;
            socket.join_room(&format!("shared{room}"), "everyone").await?;
        }
        socket.until_in_rooms(N_ROOMS_EACH as u64).await?;
        step.advance(N_ROOMS_EACH);
    }
    drop(step);
    let n_known = N_IN_ROOMS * N_ROOMS_EACH / N_SHARED * N_ROOMS_EACH;
    crowd.until_all_know_all(n_known, lab.progress).await?;
    pause(2000).await;
    let each = |rss: u64| rss as f64 / 1024.0 / N_IN_ROOMS as f64;
    let (with, without) = (each(node.process.rss()? - rss_empty), each(rss_without - rss_empty));
    drop(crowd);
    node.until_online(0).await?;
    Ok(Row {
        workload: format!("idle socket in {N_ROOMS_EACH} rooms, RSS each at {N_IN_ROOMS}"),
        measured: Measure(with, "KiB"),
        beside: Some((without, "in no room")),
        target: Target::None,
        note: format!(
            "{N_SHARED} rooms; each socket knows all {n_known} in its rooms; {:.0} bytes a room",
            (with - without) * 1024.0 / N_ROOMS_EACH as f64
        ),
    })
}

async fn memory_of_rooms(lab: &Lab<'_>) -> Result<Row> {
    let nodes = start_nodes(lab, 1).await?;
    let node = &nodes[0];
    let crowd = Plan::of_rooms(node.addr, "lonely", N_LONELY).open(lab.progress).await?;
    pause(2000).await;
    let (rss_before, redis_before) = (node.process.rss()?, lab.redis.memory().await?);
    let n_open_before = lab.redis.n_open_rooms(ROOMS_PREFIX).await?;
    let n_rooms = N_LONELY * ROOMS_PER_SOCKET;
    enter_alone(&crowd, n_rooms, lab.progress).await?;
    pause(2000).await;
    let each = |grown: u64| grown as f64 / n_rooms as f64;
    let rss = each(node.process.rss()?.saturating_sub(rss_before));
    let redis = each(lab.redis.memory().await?.saturating_sub(redis_before));
    let n_open = lab.redis.n_open_rooms(ROOMS_PREFIX).await? - n_open_before;
    ensure!(n_open == n_rooms, "{n_open} rooms are open, not {n_rooms}");
    ensure!(crowd.tally.events.load(Ordering::Acquire) == 0, "who is alone hears of nobody");
    crowd.tally.check_quiet()?;
    drop(crowd);
    node.until_online(0).await?;
    Ok(Row {
        workload: format!("open room of one member, RSS each at {n_rooms}"),
        measured: Measure(rss, "bytes"),
        beside: None,
        target: Target::None,
        note: format!("with the member's entry; {n_rooms} rooms of {N_LONELY} sockets; {redis:.0} bytes each in Redis"),
    })
}

/// The sockets enter `n_rooms` rooms, [`ROOMS_PER_SOCKET`] each or as many as are left. Nobody else is in them.
pub(super) async fn enter_alone(crowd: &Crowd, n_rooms: usize, progress: &Progress) -> Result<()> {
    let step = progress.step("entering rooms of one", n_rooms);
    let rooms: Vec<String> = (0..n_rooms).map(|i| format!("alone{i}")).collect();
    // Some at once, so that Redis gets them in pipelines.
    for (sockets, rooms) in crowd.sockets.chunks(10).zip(rooms.chunks(10 * ROOMS_PER_SOCKET)) {
        let shares = || sockets.iter().zip(rooms.chunks(ROOMS_PER_SOCKET));
        for (socket, rooms) in shares() {
            for room in rooms {
                socket.join_room(room, "everyone").await?;
            }
        }
        for (socket, rooms) in shares() {
            socket.until_in_rooms(rooms.len() as u64).await?;
        }
        step.advance(rooms.len());
    }
    let n_known = crowd.tally.online.load(Ordering::Acquire);
    ensure!(n_known == n_rooms as u64, "{n_known} are known in {n_rooms} rooms of one");
    Ok(())
}
