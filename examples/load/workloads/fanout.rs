//! One event at a time, to many listeners.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::crowd::n_events;
use super::{Lab, pause};
use crate::client::{Socket, Tally, Way};
use crate::crowd::{Crowd, Plan};
use crate::floor::{self, Control, Floor};
use crate::process::{Node, Process};
use crate::progress::Step;
use crate::table::{Measure, Row, Target, quantile, us};

/// Listeners.
const N_LISTENERS: usize = 1000;

/// Events in a round; service and floor take turns, so that both see the same machine.
const N_EVENTS: usize = 40;

/// Rounds.
const N_ROUNDS: usize = 4;

/// Between two events, in ms: no event meets the rest that the one before earned the node. It is the time "alone" means.
const APART_MS: u64 = 60;

/// Who makes the events.
pub enum Source<'a> {
    /// A user who joins and leaves, on a socket of the node under test.
    Socket(Actor),
    /// The floor's control connection.
    Floor(&'a mut Control),
}

/// A user who joins and leaves again and again, and listens to nobody for long.
pub struct Actor {
    socket: Socket,
    tally: Arc<Tally>,
}

/// What one event at a time came to.
pub struct Told {
    cpu: Duration,
    n_deliveries: usize,
    latencies: Vec<Duration>,
}

impl Source<'_> {
    /// A user on `node`.
    pub async fn socket(node: &Node) -> Result<Self> {
        Ok(Self::Socket(Actor::open(node).await?))
    }
}

impl Actor {
    pub async fn open(node: &Node) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let way = Way { addr: node.addr, handshake: true, receive_bytes: None };
        Ok(Self { socket: Socket::open(&way, 0, None, &tally).await?, tally })
    }

    /// Event number `i`: joins if it is even, leaves if it is odd.
    pub async fn act(&self, i: usize) -> Result<()> {
        let join = r#"{"type":"join_user","userId":"actor"}"#;
        self.socket.send(if i.is_multiple_of(2) { join } else { r#"{"type":"leave"}"# }).await
    }

    pub async fn until_answered(&self, i: usize) -> Result<()> {
        let n = i as u64 / 2 + 1;
        let answered = self.socket.until("answer", |heard| {
            if i.is_multiple_of(2) { &heard.lists } else { &heard.lefts }.load(Ordering::Acquire) == n
        });
        answered.await?;
        self.tally.check_quiet()
    }
}

impl Told {
    /// With another round of the same.
    fn and(mut self, other: Self) -> Self {
        self.cpu += other.cpu;
        self.n_deliveries += other.n_deliveries;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        self
    }

    fn cpu_each(&self) -> f64 {
        us(self.cpu) / self.n_deliveries as f64
    }

    /// The row for this, beside the floor's.
    pub fn row(&self, workload: &str, floor: &Self) -> Row {
        let at = |told: &Self, part| us(quantile(&told.latencies, part)) / 1000.0;
        Row {
            workload: workload.to_owned(),
            measured: Measure(self.cpu_each(), "us"),
            beside: Some((floor.cpu_each(), "floor")),
            target: Target::RatioAtMost(1.15),
            note: format!(
                "{} of {} delivered; after {:.2} ms half, {:.2} ms 99 % (floor {:.2}, {:.2})",
                self.latencies.len(),
                self.n_deliveries,
                at(self, 0.5),
                at(self, 0.99),
                at(floor, 0.5),
                at(floor, 0.99),
            ),
        }
    }
}

/// Makes `count` events one at a time, each when the one before has reached everybody, and takes the CPU time of `process`.
/// Each is a piece of `step`.
pub async fn one_at_a_time(
    process: &Process,
    crowd: &Crowd,
    mut source: Source<'_>,
    count: usize,
    step: &Step,
) -> Result<Told> {
    crowd.tally.take_latencies();
    let heard_before = n_events(crowd);
    let mut latencies = Vec::with_capacity(count * crowd.len());
    pause(200).await;
    let cpu_from = process.cpu()?;
    for i in 0..count {
        crowd.tally.mark();
        match &mut source {
            Source::Socket(actor) => actor.act(i).await?,
            Source::Floor(control) => control.send().await?,
        }
        let expected = heard_before + ((i + 1) * crowd.len()) as u64;
        crowd.tally.until("deliveries", &crowd.tally.events, expected, Duration::from_secs(20)).await?;
        if let Source::Socket(actor) = &source {
            actor.until_answered(i).await?;
        }
        latencies.append(&mut crowd.tally.take_latencies());
        step.advance(1);
        pause(APART_MS).await;
    }
    let cpu = process.cpu()? - cpu_from;
    let each = (n_events(crowd) - heard_before) / crowd.len() as u64;
    anyhow::ensure!(each == count as u64, "{each} events came to each of the sockets, not {count}");
    latencies.sort_unstable();
    Ok(Told { cpu, n_deliveries: count * crowd.len(), latencies })
}

pub async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let mut floor = Floor::start(&lab.programs, lab.n_threads, &floor::frame()).await?;
    let bare = Plan::bare(floor.addr, N_LISTENERS).open(lab.progress).await?;
    floor.control.until_serving(N_LISTENERS).await?;
    let crowd = Plan::of(lab.main.addr, "listener", N_LISTENERS).open(lab.progress).await?;
    crowd.until_all_know_all(N_LISTENERS, lab.progress).await?;
    pause(500).await;
    let mut sums: Option<(Told, Told)> = None;
    let step = lab.progress.step("telling events, service and floor by turns", 2 * N_ROUNDS * N_EVENTS);
    for _ in 0..N_ROUNDS {
        let source = Source::socket(&lab.main).await?;
        let told = one_at_a_time(&lab.main.process, &crowd, source, N_EVENTS, &step).await?;
        let least = one_at_a_time(&floor.process, &bare, Source::Floor(&mut floor.control), N_EVENTS, &step).await?;
        sums = Some(match sums {
            None => (told, least),
            Some((all_told, all_least)) => (all_told.and(told), all_least.and(least)),
        });
    }
    crowd.tally.check_quiet()?;
    let (told, least) = sums.context("there were rounds")?;
    Ok(vec![told.row(&format!("one event at a time to {N_LISTENERS} listeners, CPU a delivery"), &least)])
}
