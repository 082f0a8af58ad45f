//! Clients of Socket.IO, beside a server of Socket.IO on Node that does what the seeds' servers do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::fanout::{ALONE_MS, Actor, N_EVENTS, N_LISTENERS, N_ROUNDS, Stage, Told};
use super::storm::Storm;
use super::{HARDLY, Lab, SOCKETIO_PREFIX, pause};
use crate::crowd::Plan;
use crate::floor::{self, Floor};
use crate::polling::Polling;
use crate::process::Node;
use crate::progress::Progress;
use crate::table::{Measure, Row, Target, us};
use crate::tally::Tally;

/// What the other server is called beside ours.
const NAME: &str = "Node";

/// Idle sockets.
const N_IDLE: usize = 2000;

/// Whose they are. With a user each, the other server would need a minute to tell all of all.
const N_USERS: usize = 100;

/// Users of our storm, and of that on the other server. There, so many as on ours would need five minutes.
const N_STORM: usize = 4000;
const N_OTHER_STORM: usize = 1000;

/// Clients that poll.
const N_POLLING: usize = 300;

/// How long to wait for an event or an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that held no socket before: memory that was needed once is not given back.
async fn new_node(lab: &Lab<'_>, name: &str, environment: &[(&str, &str)]) -> Result<Node> {
    let node = Node::start(&lab.programs, &lab.redis, SOCKETIO_PREFIX, name, 0, HARDLY, environment)?;
    node.ready().await?;
    Ok(node)
}

pub(super) async fn idle(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let (ours, other) = (new_node(lab, "sio-idle", &[]).await?, lab.programs.socketio_server("sio-idle-node")?);
    let (rss, other_rss) = (idle_kib(&ours, lab.progress).await?, idle_kib(&other, lab.progress).await?);
    Ok(vec![Row {
        workload: format!("idle socket of Socket.IO, joined, RSS each at {N_IDLE} of {N_USERS} users"),
        measured: Measure(rss, "KiB"),
        beside: Some((other_rss, NAME)),
        target: Target::AtMost(4.0),
        note: format!("all {N_IDLE} know all {N_USERS}"),
    }])
}

/// Memory of an idle socket, in KiB.
async fn idle_kib(node: &Node, progress: &Progress) -> Result<f64> {
    let rss_empty = node.process.rss()?;
    let mut plan = Plan::of_socketio(node.addr, "crowd", N_IDLE);
    plan.n_users = N_USERS;
    let crowd = plan.open(progress).await?;
    crowd.until_all_know_all(N_USERS, progress).await?;
    pause(2000).await;
    Ok((node.process.rss()? - rss_empty) as f64 / 1024.0 / N_IDLE as f64)
}

/// One event at a time, by turns on the node, the floor and the other server.
pub(super) async fn fanout(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let mut floor = Floor::start(&lab.programs, lab.n_threads, &floor::socketio_frame()).await?;
    let bare = Plan::bare(floor.addr, N_LISTENERS).open(lab.progress).await?;
    floor.control.until_serving(N_LISTENERS).await?;
    let other = lab.programs.socketio_server("sio-fanout-node")?;
    let listeners = |node: &Node| Plan::of_socketio(node.addr, "listener", N_LISTENERS);
    let (crowd, other_crowd) =
        (listeners(&lab.main).open(lab.progress).await?, listeners(&other).open(lab.progress).await?);
    for crowd in [&crowd, &other_crowd] {
        crowd.until_all_know_all(N_LISTENERS, lab.progress).await?;
    }
    pause(500).await;
    let (mut told, mut least, mut other_told) = (Told::default(), Told::default(), Told::default());
    let step = lab.progress.step("telling events, service, floor and Node by turns", 3 * N_ROUNDS * N_EVENTS);
    for _ in 0..N_ROUNDS {
        told.add(Stage::of_socketio(&lab.main, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
        least.add(Stage::floor(&mut floor, &bare).tell(N_EVENTS, ALONE_MS, &step).await?);
        other_told.add(Stage::of_socketio(&other, &other_crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
    }
    crowd.tally.check_quiet()?;
    other_crowd.tally.check_quiet()?;
    let workload = format!("one event at a time to {N_LISTENERS} listeners of Socket.IO");
    Ok(vec![
        told.cpu_row(&workload, &least, "floor", Target::RatioAtMost(1.15)),
        told.cpu_row(&workload, &other_told, NAME, Target::None),
        told.time_row(&format!("{workload}, half"), 0.5, &other_told, NAME, Target::None),
    ])
}

pub(super) async fn storm(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let of = async |node: &Node, n_users| {
        let plan = Plan::of_socketio(node.addr, "storm", n_users);
        let (crowd, storm) = Storm::of(plan, None, node, lab.progress).await?;
        drop(crowd);
        anyhow::Ok(storm)
    };
    let storm = of(&lab.main, N_STORM).await?;
    lab.main.until_online(0).await?;
    let other = lab.programs.socketio_server("sio-storm-node")?;
    let other_storm = of(&other, N_OTHER_STORM).await?;
    let row = storm.row(Some((&other_storm, NAME)), Target::AtMost(0.3));
    Ok(vec![Row {
        workload: format!(
            "storm of Socket.IO: {N_STORM} connect and join, all told of all, CPU a delivery; on Node {N_OTHER_STORM}"
        ),
        ..row
    }])
}

pub(super) async fn polling(lab: &Lab<'_>) -> Result<Vec<Row>> {
    // The other server tells no lists by itself.
    let ours = new_node(lab, "sio-polling", &[("ROLLCALL__SOCKETIO__LIST_BELOW", "0")]).await?;
    let other = lab.programs.socketio_server("sio-polling-node")?;
    let (ours, other) = (polled(&ours, lab.progress).await?, polled(&other, lab.progress).await?);
    let row = |workload: &str, measured: fn(&Polled) -> f64, unit| Row {
        workload: format!("{N_POLLING} clients of Socket.IO that poll, {workload}"),
        measured: Measure(measured(&ours), unit),
        beside: Some((measured(&other), NAME)),
        target: Target::None,
        note: format!("{N_EVENTS} events delivered to each of {N_POLLING}"),
    };
    Ok(vec![row("RSS each", |polled| polled.rss_kib, "KiB"), row("CPU a delivery", |polled| polled.cpu_us, "us")])
}

/// What clients that poll cost.
struct Polled {
    /// Memory of each.
    rss_kib: f64,
    /// CPU time of a delivery: an answered request, and the next one.
    cpu_us: f64,
}

async fn polled(node: &Node, progress: &Progress) -> Result<Polled> {
    let rss_empty = node.process.rss()?;
    let tally = Arc::new(Tally::default());
    let step = progress.step("opening sessions that poll", N_POLLING);
    let mut opening = JoinSet::new();
    for i in 0..N_POLLING {
        let (addr, tally) = (node.addr, tally.clone());
        opening.spawn(async move { Polling::open(addr, &format!("poller{i:06}"), &tally).await });
    }
    let mut sessions = Vec::with_capacity(N_POLLING);
    while let Some(session) = opening.join_next().await {
        sessions.push(session??);
        step.advance(1);
    }
    tally.until("joiners with their answer", &tally.welcomes, N_POLLING as u64, PATIENCE).await?;
    // Each knows each: from its welcome, or by one event after it.
    let n_due = (N_POLLING * N_POLLING) as u64 - tally.online.load(Ordering::Acquire);
    tally.until("events of those who joined", &tally.events, n_due, PATIENCE).await?;
    pause(2000).await;
    let rss_kib = (node.process.rss()? - rss_empty) as f64 / 1024.0 / N_POLLING as f64;

    let actor = Actor::open_in_socketio(node.addr).await?;
    let step = progress.step("telling events to sessions that poll", N_EVENTS);
    let cpu_from = node.process.cpu()?;
    for i in 0..N_EVENTS {
        actor.act(i).await?;
        tally.until_told(n_due + ((i + 1) * N_POLLING) as u64, PATIENCE).await?;
        actor.until_answered(i).await?;
        step.advance(1);
        pause(ALONE_MS).await;
    }
    let cpu = node.process.cpu()? - cpu_from;
    sessions.iter().try_for_each(Polling::check_open)?;
    let n_unexpected = tally.unexpected.load(Ordering::Acquire);
    ensure!(n_unexpected == 0, "{n_unexpected} unexpected packets");
    Ok(Polled { rss_kib, cpu_us: us(cpu) / (N_EVENTS * N_POLLING) as f64 })
}
