//! Sockets that do not read, among some that do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Lab, MAIN_PREFIX, pause};
use crate::crowd::Plan;
use crate::ghost::Ghost;
use crate::table::{Measure, Row, Target};

/// Those who read.
const N_READERS: usize = 200;

/// Those who do not, with as small a window as the system allows.
const N_DEAF: usize = 200;

/// Users of the ghost node, who come and go: twice as many events. At some 150 bytes each they are far more than the log and
/// the kernel hold for one socket.
const N_USERS: usize = 30_000;

pub(super) async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let node = &lab.main;
    let mut ghost = Ghost::start(&lab.redis, MAIN_PREFIX)?;
    let readers = Plan::of(node.addr, "reader", N_READERS).open(lab.progress).await?;
    let mut plan = Plan::of(node.addr, "deaf", N_DEAF);
    plan.way.receive_bytes = Some(4096);
    let deaf = plan.open(lab.progress).await?;
    deaf.sockets.iter().for_each(|socket| socket.set_deaf(true));
    node.until_online(N_READERS + N_DEAF).await?;
    pause(500).await;
    let heard_before = readers.tally.events.load(Ordering::Acquire);
    let rss_before = node.process.rss()?;

    let telling = async {
        ghost.join("ghost", N_USERS, false).await?;
        ghost.leave();
        let expected = heard_before + (2 * N_USERS * N_READERS) as u64;
        readers.tally.until("deliveries", &readers.tally.events, expected, Duration::from_secs(60)).await
    };
    let n_told = || readers.tally.events.load(Ordering::Acquire) - heard_before;
    lab.progress.counted("telling those who read", 2 * N_USERS * N_READERS, n_told, telling).await?;
    let rss_grown = node.process.rss()?.saturating_sub(rss_before) as f64 / 1024.0 / 1024.0;
    readers.tally.check_quiet()?;

    // Whoever reads again gets what was begun, then one `resync` and a list instead of what is gone.
    deaf.sockets.iter().for_each(|socket| socket.set_deaf(false));
    deaf.tally.until("resyncs", &deaf.tally.resyncs, N_DEAF as u64, Duration::from_secs(20)).await?;
    deaf.tally.until("lists", &deaf.tally.lists, 2 * N_DEAF as u64, Duration::from_secs(20)).await?;
    let (closed, unexpected) =
        (deaf.tally.closed.load(Ordering::Acquire), deaf.tally.unexpected.load(Ordering::Acquire));
    ensure!(
        (closed, unexpected) == (0, 0),
        "{closed} slow readers were closed, {unexpected} heard what they should not"
    );
    Ok(vec![Row {
        workload: format!("{N_DEAF} sockets that read nothing, {} events: memory grown", 2 * N_USERS),
        measured: Measure(rss_grown, "MiB"),
        beside: None,
        target: Target::None,
        note: format!(
            "{N_READERS} others heard each of {} events; {N_DEAF} resyncs and lists for the deaf, none closed",
            2 * N_USERS
        ),
    }])
}
