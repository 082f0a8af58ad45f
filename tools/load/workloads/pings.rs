//! The pings of the service and the pongs that answer them, which every socket costs however little it says.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Lab, OFTEN, pause};
use crate::crowd::{Crowd, Plan};
use crate::floor::{self, Floor};
use crate::progress::Progress;
use crate::table::{Measure, Row, Target, us};

/// Sockets of this workload: with a ping a second as many pings as `crowd` has heartbeats.
const N_SOCKETS: usize = 10_000;

/// Pings that each socket hears while the time is taken.
const N_ROUNDS: usize = 6;

/// A ping without a payload, as the service sends it.
const PING: [u8; 2] = [0x89, 0];

/// Pings, and the CPU time that they and their pongs took.
struct Pinged {
    cpu: Duration,
    n_pings: u64,
}

pub(super) async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let service = of_service(lab).await?;
    let floor = of_floor(lab).await?;
    Ok(vec![Row {
        workload: format!("ping and pong, {N_SOCKETS}/s, CPU each on the node"),
        measured: Measure(service.each(), "us"),
        beside: Some((floor.each(), "floor")),
        target: Target::None,
        note: format!(
            "{} pings, {N_ROUNDS} or more to each of {N_SOCKETS} sockets and none early; none closed for silence",
            service.n_pings
        ),
    }])
}

/// The node pings by itself. Whoever did not answer, or was not heard, is closed for silence meanwhile.
async fn of_service(lab: &Lab<'_>) -> Result<Pinged> {
    let node = &lab.pinging;
    let opened = Instant::now();
    let crowd = Plan::of(node.addr, "pinged", N_SOCKETS).open(lab.progress).await?;
    crowd.until_all_know_all(N_SOCKETS, lab.progress).await?;
    pause(1000).await;
    let (cpu_from, n_from) = (node.process.cpu()?, n_pings(&crowd));
    until_all_pinged(&crowd, lab.progress).await?;
    let pinged = Pinged { cpu: node.process.cpu()? - cpu_from, n_pings: n_pings(&crowd) - n_from };
    let (most, due) = (pings_of_each(&crowd).max(), opened.elapsed().as_millis() / OFTEN.interval.as_millis());
    ensure!(most.is_none_or(|most| u128::from(most) <= due), "somebody heard {most:?} pings where {due} were due");
    crowd.tally.check_quiet()?;
    drop(crowd);
    node.until_online(0).await?;
    Ok(pinged)
}

/// The floor writes as many pings, a hundredth of the sockets at a time as the service's own are spread, and reads the pongs.
async fn of_floor(lab: &Lab<'_>) -> Result<Pinged> {
    let mut floor = Floor::start(&lab.programs, lab.n_threads, &PING).await?;
    let crowd = Plan::bare(floor.addr, N_SOCKETS).open(lab.progress).await?;
    floor.control.until_serving(N_SOCKETS).await?;
    let step = lab.progress.step("pinging from the floor", N_ROUNDS);
    let cpu_from = floor.process.cpu()?;
    let started = Instant::now();
    for i in 0..N_ROUNDS * usize::from(floor::N_PARTS) {
        let due = started + OFTEN.interval / u32::from(floor::N_PARTS) * i as u32;
        tokio::time::sleep_until(due.into()).await;
        floor.control.send_to_part((i % usize::from(floor::N_PARTS)) as u8).await?;
        step.reach((i / usize::from(floor::N_PARTS)) as u64);
    }
    let n = (N_ROUNDS * N_SOCKETS) as u64;
    crowd.tally.until("pings of the floor", &crowd.tally.pings, n, Duration::from_secs(20)).await?;
    // The last pongs are on their way.
    pause(100).await;
    Ok(Pinged { cpu: floor.process.cpu()? - cpu_from, n_pings: n })
}

/// Waits until every socket has heard [`N_ROUNDS`] pings more.
async fn until_all_pinged(crowd: &Crowd, progress: &Progress) -> Result<()> {
    let from: Vec<u64> = pings_of_each(crowd).collect();
    let step = progress.step("pinging everybody", N_ROUNDS);
    let started = Instant::now();
    loop {
        let least = pings_of_each(crowd).zip(&from).map(|(now, from)| now - from).min().unwrap_or_default();
        step.reach(least);
        if least >= N_ROUNDS as u64 {
            return Ok(());
        }
        let took = started.elapsed();
        ensure!(took < Duration::from_secs(60), "somebody heard {least} of {N_ROUNDS} pings in {took:?}");
        pause(50).await;
    }
}

fn pings_of_each(crowd: &Crowd) -> impl Iterator<Item = u64> {
    crowd.sockets.iter().map(|socket| socket.heard.pings.load(Ordering::Acquire))
}

fn n_pings(crowd: &Crowd) -> u64 {
    crowd.tally.pings.load(Ordering::Acquire)
}

impl Pinged {
    fn each(&self) -> f64 {
        us(self.cpu) / self.n_pings as f64
    }
}
