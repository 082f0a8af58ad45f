//! The service beside a server that holds its sockets in the ordinary way, in the same run (ADR 0001).

use anyhow::Result;

use super::fanout::{ALONE_MS, N_EVENTS, N_LISTENERS, N_ROUNDS, Stage, Told};
use super::storm::Storm;
use super::{HARDLY, Lab, ORDINARY_PREFIX, pause};
use crate::crowd::Plan;
use crate::ordinary;
use crate::process::Node;
use crate::progress::Progress;
use crate::table::{Measure, Row, Target};

/// What the other server is called beside ours.
const NAME: &str = "actix-ws";

/// Idle sockets.
const N_IDLE: usize = 10_000;

/// Whose they are: as many as the defaults allow one user each. With a user each, the other server would need minutes to tell
/// all of all.
const N_USERS: usize = 100;

pub(super) async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    // A node that held no socket before: memory that was needed once is not given back.
    let ours = Node::start(&lab.programs, &lab.redis, ORDINARY_PREFIX, "beside-ordinary", 0, HARDLY, &[])?;
    ours.ready().await?;
    let other = ordinary::start(&lab.programs)?;
    let (rss, other_rss) = (idle_kib(&ours, lab.progress).await?, idle_kib(&other, lab.progress).await?);
    let (crowd, storm) = Storm::on(&ours, N_LISTENERS, lab.progress).await?;
    let (other_crowd, other_storm) = Storm::on(&other, N_LISTENERS, lab.progress).await?;
    pause(500).await;
    let (mut told, mut other_told) = (Told::default(), Told::default());
    let step = lab.progress.step("telling events, service and actix-ws by turns", 2 * N_ROUNDS * N_EVENTS);
    for _ in 0..N_ROUNDS {
        told.add(Stage::of(&ours, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
        other_told.add(Stage::of(&other, &other_crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
    }
    crowd.tally.check_quiet()?;
    other_crowd.tally.check_quiet()?;
    let workload = format!("one event at a time to {N_LISTENERS} listeners");
    Ok(vec![
        Row {
            workload: format!("idle socket, joined, RSS each at {N_IDLE} of {N_USERS} users"),
            measured: Measure(rss, "KiB"),
            beside: Some((other_rss, NAME)),
            target: Target::None,
            note: format!("all {N_IDLE} know all {N_USERS}"),
        },
        told.cpu_row(&workload, &other_told, NAME, Target::None),
        told.time_row(&format!("{workload}, half"), 0.5, &other_told, NAME, Target::None),
        storm.row(Some((&other_storm, NAME)), Target::None),
    ])
}

/// Memory of an idle socket, in KiB.
async fn idle_kib(node: &Node, progress: &Progress) -> Result<f64> {
    let rss_empty = node.process.rss()?;
    let mut plan = Plan::of(node.addr, "crowd", N_IDLE);
    plan.n_users = N_USERS;
    let crowd = plan.open(progress).await?;
    crowd.until_all_know_all(N_USERS, progress).await?;
    pause(2000).await;
    let rss = (node.process.rss()? - rss_empty) as f64 / 1024.0 / N_IDLE as f64;
    drop(crowd);
    node.until_online(0).await?;
    Ok(rss)
}
