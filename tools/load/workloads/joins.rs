//! Users who come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Lab, pause};
use crate::client::{Socket, Way};
use crate::crowd::Plan;
use crate::table::{Measure, Row, Target, us};
use crate::tally::Tally;

/// Sockets that join at once, then leave at once: few, so that telling them of each other costs little beside the joins.
const N_BURST: usize = 256;

/// Bursts.
const N_BURSTS: usize = 60;

/// Connections in the making at a time in the churn.
const N_CHURNING: usize = 64;

/// How long the churn lasts.
const CHURN: Duration = Duration::from_secs(5);

/// Bursts of `join_user` on open sockets, then bursts of `leave`.
pub(super) async fn joins(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let mut plan = Plan::of(lab.main.addr, "", N_BURST);
    plan.join = false;
    let crowd = plan.open(lab.progress).await?;
    let (mut join, mut leave) = (Phase::default(), Phase::default());
    let step = lab.progress.step("joining and leaving in bursts", N_BURSTS);
    for burst in 0..N_BURSTS {
        let begun = join.begin(lab).await?;
        for (i, socket) in crowd.sockets.iter().enumerate() {
            socket.send(&format!(r#"{{"type":"join_user","userId":"burst{burst:03}-{i:03}"}}"#)).await?;
        }
        for socket in &crowd.sockets {
            socket.until("list", |heard| heard.lists.load(Ordering::Acquire) == burst as u64 + 1).await?;
        }
        join.end(lab, begun).await?;
        let begun = leave.begin(lab).await?;
        for socket in &crowd.sockets {
            socket.send(r#"{"type":"leave"}"#).await?;
        }
        for socket in &crowd.sockets {
            socket.until("`left`", |heard| heard.lefts.load(Ordering::Acquire) == burst as u64 + 1).await?;
        }
        leave.end(lab, begun).await?;
        // A leave is answered before Redis has it.
        let begun = leave.begin(lab).await?;
        lab.main.until_online(0).await?;
        leave.end(lab, begun).await?;
        step.advance(1);
    }
    crowd.tally.check_quiet()?;
    let n = N_BURST * N_BURSTS;
    let row = |workload: &str, measured, target| Row {
        workload: workload.to_owned(),
        measured,
        beside: None,
        target,
        note: format!(
            "{n} welcomed with their list, in bursts of {N_BURST}; {:.0} joins a read of Redis",
            n as f64 / join.n_reads as f64
        ),
    };
    let each = |time: Duration| Measure(us(time) / n as f64, "us");
    Ok(vec![
        row("joins a second, one node", Measure(n as f64 / join.took.as_secs_f64(), "/s"), Target::AtLeast(8000.0)),
        row("join, CPU each on Redis", each(join.redis), Target::AtMost(40.0)),
        row("join, CPU each on the node", each(join.node), Target::None),
        row("leave, CPU each on Redis", each(leave.redis), Target::None),
        row("leave, CPU each on the node", each(leave.node), Target::None),
    ])
}

/// Time that one kind of burst took.
#[derive(Default)]
struct Phase {
    took: Duration,
    node: Duration,
    redis: Duration,
    n_reads: u64,
}

struct Begun {
    at: Instant,
    node: Duration,
    redis: Duration,
    n_reads: u64,
}

impl Phase {
    async fn begin(&self, lab: &Lab<'_>) -> Result<Begun> {
        let n_reads = lab.redis.n_reads().await?;
        let (node, redis) = (lab.main.process.cpu()?, lab.redis.cpu().await?);
        Ok(Begun { at: Instant::now(), node, redis, n_reads })
    }

    async fn end(&mut self, lab: &Lab<'_>, begun: Begun) -> Result<()> {
        self.took += begun.at.elapsed();
        self.node += lab.main.process.cpu()? - begun.node;
        self.redis += lab.redis.cpu().await? - begun.redis;
        self.n_reads += lab.redis.n_reads().await? - begun.n_reads;
        Ok(())
    }
}

/// Whole lives: connect, join, get the list, close with 1000, and again.
pub(super) async fn churn(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let tally = Arc::new(Tally::default());
    let way = Way::to(lab.main.addr);
    let (node_from, redis_from) = (lab.main.process.cpu()?, lab.redis.cpu().await?);
    let started = Instant::now();
    let mut churning = JoinSet::new();
    for lane in 0..N_CHURNING {
        let (way, tally) = (way.clone(), tally.clone());
        churning.spawn(async move {
            let mut n_lives = 0_u64;
            while started.elapsed() < CHURN {
                let user = format!("churn{lane}-{n_lives}");
                let socket = Socket::open(&way, lane, Some(&user), &tally).await?;
                socket.until("list", |heard| heard.lists.load(Ordering::Acquire) == 1).await?;
                socket.close().await?;
                socket.until("end", |heard| heard.closed.load(Ordering::Acquire)).await?;
                n_lives += 1;
            }
            anyhow::Ok(n_lives)
        });
    }
    let mut n_lives = 0;
    for lives in lab.progress.timed("connecting, joining, closing", CHURN, churning.join_all()).await {
        n_lives += lives?;
    }
    let took = started.elapsed();
    lab.main.until_online(0).await?;
    pause(100).await;
    let (node, redis) = (lab.main.process.cpu()? - node_from, lab.redis.cpu().await? - redis_from);
    let closed = tally.closed.load(Ordering::Acquire);
    let lists = tally.lists.load(Ordering::Acquire);
    anyhow::ensure!((lists, closed) == (n_lives, n_lives), "{n_lives} lives, {lists} lists and {closed} closes");
    let row = |what: &str, measured| Row {
        workload: format!("connect, join, close: {what}"),
        measured,
        beside: None,
        target: Target::None,
        note: format!("{n_lives} welcomed, listed and closed, {N_CHURNING} at a time"),
    };
    Ok(vec![
        row("lives a second", Measure(n_lives as f64 / took.as_secs_f64(), "/s")),
        row("CPU each on the node", Measure(us(node) / n_lives as f64, "us")),
        row("CPU each on Redis", Measure(us(redis) / n_lives as f64, "us")),
    ])
}
