//! From a join on one node to a listener on another.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::fanout::Actor;
use super::{Lab, PAIR_PREFIX, pause};
use crate::crowd::Plan;
use crate::resp::Connection;
use crate::table::{Measure, Row, Target, quantile, us};

/// Events, each of which crosses once; as many messages through Redis alone, by turns.
const N_EVENTS: usize = 800;

pub(super) async fn cross(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let [near, far] = &lab.pair;
    let listener = Plan::of(far.addr, "listener", 1).open(lab.progress).await?;
    let actor = Actor::open(near.addr).await?;
    let mut publisher = Connection::open(lab.redis.addr).await?;
    let mut subscriber = Connection::open(lab.redis.addr).await?;
    let channel = format!("{PAIR_PREFIX}-round-trip");
    subscriber.subscribe(&channel).await?;
    // As long as a transition.
    let payload = "x".repeat(200);

    let (mut ours, mut least) = (Vec::new(), Vec::new());
    let step = lab.progress.step("crossing from node to node", N_EVENTS);
    for i in 0..N_EVENTS {
        let tally = &listener.tally;
        tally.mark();
        actor.act(i).await?;
        let heard = &listener.sockets[0].heard;
        let expected = i as u64 + 1;
        tally.until("deliveries", &tally.events, expected, Duration::from_secs(5)).await?;
        anyhow::ensure!(heard.events.load(Ordering::Acquire) == expected, "the listener hears each event once");
        ours.append(&mut tally.take_latencies());
        actor.until_answered(i).await?;
        pause(7).await;

        let sent = Instant::now();
        publisher.send(&["PUBLISH", &channel, &payload]).await?;
        subscriber.message().await?;
        least.push(sent.elapsed());
        publisher.line().await?;
        pause(7).await;
        step.advance(1);
    }
    ours.sort_unstable();
    least.sort_unstable();
    let row = |name: &str, part: f64, target| Row {
        workload: format!("join or leave on one node, heard on another, idle, {name}"),
        measured: Measure(us(quantile(&ours, part)), "us"),
        beside: Some((us(quantile(&least, part)), "Redis pub/sub")),
        target,
        note: format!("{} of {N_EVENTS} heard once", ours.len()),
    };
    Ok(vec![row("half", 0.5, Target::None), row("99 %", 0.99, Target::RatioAtMost(3.0))])
}
