//! Ten thousand joined sockets on one node.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fanout::{ALONE_MS, Actor, Stage};
use super::{HARDLY, Lab, MAIN_PREFIX, pause};
use crate::crowd::{Agents, Crowd, PER_PROCESS, Plan};
use crate::floor::{self, Floor};
use crate::process::{Node, Process, Programs, Redis};
use crate::progress::{Progress, Step};
use crate::table::{Measure, Row, Target, us};

/// Sockets of this workload.
const N_SOCKETS: usize = 10_000;

/// Events told to all of them, one at a time.
const N_EVENTS: usize = 30;

/// Rounds of heartbeats: one from each socket, a second.
const N_ROUNDS: usize = 6;

/// All of them.
const N_BEATS: usize = N_ROUNDS * N_SOCKETS;

pub(super) async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let node = &lab.main;
    let rss_empty = node.process.rss()?;
    let crowd = Plan::of(node.addr, "crowd", N_SOCKETS).open(lab.progress).await?;
    crowd.until_all_know_all(N_SOCKETS, lab.progress).await?;
    pause(2000).await;
    let rss_each = (node.process.rss()? - rss_empty) as f64 / 1024.0 / N_SOCKETS as f64;

    let idle_from = node.process.cpu()?;
    pause(3000).await;
    let idle = (node.process.cpu()? - idle_from).as_secs_f64() / 3.0 * 100.0;

    let redis_from = lab.redis.cpu().await?;
    let (heartbeats, per_second) =
        self::heartbeats(&node.process, &crowd, lab.progress.step("saying heartbeats", N_BEATS)).await?;
    let redis = lab.redis.cpu().await? - redis_from;
    // One more of each asks for an answer, which proves that those before were taken in.
    for socket in &crowd.sockets {
        socket.send(r#"{"type":"user_activity","ref":1}"#).await?;
    }
    let n = crowd.len() as u64;
    crowd.tally.until("acknowledged heartbeats", &crowd.tally.acks, n, Duration::from_secs(10)).await?;

    let step = lab.progress.step("telling events", N_EVENTS);
    let told = Stage::of(node, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?;
    drop(step);
    crowd.tally.check_quiet()?;
    drop(crowd);
    node.until_online(0).await?;

    let mut floor = Floor::start(&lab.programs, lab.n_threads, &floor::frame()).await?;
    let rss_empty = floor.process.rss()?;
    let crowd = Plan::bare(floor.addr, N_SOCKETS).open(lab.progress).await?;
    floor.control.until_serving(N_SOCKETS).await?;
    pause(500).await;
    let floor_rss = (floor.process.rss()? - rss_empty) as f64 / 1024.0 / N_SOCKETS as f64;
    let (floor_heartbeats, _) =
        self::heartbeats(&floor.process, &crowd, lab.progress.step("saying heartbeats to the floor", N_BEATS)).await?;
    let step = lab.progress.step("telling events on the floor", N_EVENTS);
    let least = Stage::floor(&mut floor, &crowd).tell(N_EVENTS, ALONE_MS, &step).await?;

    let each = |cpu: Duration| us(cpu) / N_BEATS as f64;
    let heartbeat = |what: &str, cpu, beside| Row {
        workload: format!("user_activity, {N_SOCKETS}/s, CPU each on {what}"),
        measured: Measure(each(cpu), "us"),
        beside,
        target: Target::AtMost(6.0),
        note: format!("{N_BEATS} sent, {per_second:.0}/s, {n} more acknowledged"),
    };
    Ok(vec![
        Row {
            workload: format!("idle socket, joined, RSS each at {N_SOCKETS}"),
            measured: Measure(rss_each, "KiB"),
            beside: Some((floor_rss, "floor")),
            target: Target::AtMost(2.6),
            note: format!("all {N_SOCKETS} know all {N_SOCKETS}"),
        },
        Row {
            workload: format!("{N_SOCKETS} idle sockets, CPU"),
            measured: Measure(idle, "% of a core"),
            beside: None,
            target: Target::None,
            note: "without pings".to_owned(),
        },
        heartbeat("the node", heartbeats, Some((each(floor_heartbeats), "floor"))),
        heartbeat("Redis", redis, None),
        told.cpu_row(
            &format!("one event at a time to {N_SOCKETS} listeners"),
            &least,
            "floor",
            Target::RatioAtMost(1.15),
        ),
    ])
}

/// Every socket says `user_activity` once a second, spread evenly, ten a millisecond. Returns the CPU time of `process`, and how
/// many were said a second: fewer if this tool could not keep up, which then comes in bursts.
async fn heartbeats(process: &Process, crowd: &Crowd, step: Step) -> Result<(Duration, f64)> {
    let cpu_from = process.cpu()?;
    let started = Instant::now();
    for i in 0..N_BEATS {
        if i % 10 == 0 {
            let due = started + Duration::from_secs_f64(i as f64 / crowd.len() as f64);
            tokio::time::sleep_until(due.into()).await;
        }
        crowd.sockets[i % crowd.len()].send(r#"{"type":"user_activity"}"#).await?;
        step.advance(1);
    }
    let per_second = N_BEATS as f64 / started.elapsed().as_secs_f64();
    // The node refreshes in Redis once a second.
    pause(1500).await;
    Ok((process.cpu()? - cpu_from, per_second))
}

/// More sockets than one process can hold, on several nodes: memory, and an event told to all.
pub(crate) async fn beyond_one_process(
    programs: Programs,
    progress: &Progress,
    n_sockets: usize,
    n_nodes: usize,
) -> Result<Vec<Row>> {
    let most = n_nodes * PER_PROCESS;
    ensure!(n_sockets <= most, "{n_nodes} nodes hold {most} sockets, not {n_sockets}: name more --nodes");
    progress.begin(&format!("{n_sockets} sockets on {n_nodes} nodes"), &[]);
    let redis = Redis::start(&programs.redis_server, &programs.scratch).await?;
    let mut nodes = Vec::new();
    for i in 0..n_nodes {
        let name = format!("node-{i}");
        nodes.push(Node::start(&programs, &redis, MAIN_PREFIX, &name, 0, HARDLY, &[])?);
    }
    for node in &nodes {
        node.ready().await?;
    }
    let rss = |nodes: &[Node]| nodes.iter().map(|node| node.process.rss()).sum::<Result<u64>>();
    let cpu = |nodes: &[Node]| nodes.iter().map(|node| node.process.cpu()).sum::<Result<Duration>>();
    let rss_empty = rss(&nodes)?;
    let addrs: Vec<SocketAddr> = nodes.iter().map(|node| node.addr).collect();
    let mut agents = Agents::open(&programs, &addrs, "crowd", n_sockets, progress).await?;
    let n_known = (n_sockets * n_sockets) as u64;
    let step = progress.step("telling all of all", n_known as usize);
    until(&mut agents, n_known, Duration::from_secs(600), |known| step.reach(known)).await?;
    drop(step);
    let rss_each = (rss(&nodes)? - rss_empty) as f64 / 1024.0 / n_sockets as f64;

    let actor = Actor::open(nodes[0].addr).await?;
    let step = progress.step("telling events", N_EVENTS);
    let cpu_from = cpu(&nodes)?;
    for i in 0..N_EVENTS {
        actor.act(i).await?;
        until(&mut agents, n_known + ((i + 1) * n_sockets) as u64, Duration::from_secs(60), |_| ()).await?;
        actor.until_answered(i).await?;
        step.advance(1);
    }
    let cpu_each = us(cpu(&nodes)? - cpu_from) / (N_EVENTS * n_sockets) as f64;
    let row =
        |workload: String, measured, note: String| Row { workload, measured, beside: None, target: Target::None, note };
    Ok(vec![
        row(
            format!("idle socket, joined, RSS each at {n_sockets} on {n_nodes} nodes"),
            Measure(rss_each, "KiB"),
            format!("all {n_sockets} know all {n_sockets}"),
        ),
        row(
            format!("one event at a time to {n_sockets} listeners on {n_nodes} nodes, CPU a delivery"),
            Measure(cpu_each, "us"),
            format!("{} deliveries", N_EVENTS * n_sockets),
        ),
    ])
}

/// Waits until the agents' users know of `n_known` in all; `tell` hears how many there are so far.
async fn until(agents: &mut Agents, n_known: u64, patience: Duration, tell: impl Fn(u64)) -> Result<()> {
    let started = Instant::now();
    loop {
        let report = agents.report()?;
        let known = report.online + report.events;
        ensure!(report.wrong == 0, "{} resyncs, ended connections or unexpected frames", report.wrong);
        ensure!(known <= n_known, "{known} were told, more than {n_known}");
        if known == n_known {
            return Ok(());
        }
        tell(known);
        ensure!(started.elapsed() < patience, "{known} of {n_known} were told in {patience:?}");
        pause(20).await;
    }
}

/// The sum of what a crowd heard.
pub(super) fn n_events(crowd: &Crowd) -> u64 {
    crowd.tally.events.load(Ordering::Acquire)
}
