//! Everybody comes at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use rollcall::wire::Format;

use super::Lab;
use super::fanout::ROOM;
use crate::crowd::{Crowd, Plan};
use crate::process::Node;
use crate::progress::Progress;
use crate::table::{Measure, Row, Target, us};

/// Users of the storm.
const N_STORM: usize = 4000;

/// Users of a storm before listeners.
const N_COMING: usize = 2000;

/// The listeners of one half. Both halves together are the audience.
const N_HALF: usize = 2000;

/// Storms before listeners of both formats. There are as many before listeners of the native format alone.
const N_ROUNDS: usize = 2;

pub(super) async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let (crowd, storm) = Storm::on(&lab.main, N_STORM, lab.progress).await?;
    drop(crowd);
    lab.main.until_online(0).await?;
    Ok(vec![storm.row(None, Target::AtMost(0.2)), half_plain(lab).await?])
}

/// Everybody comes into one room at once, and hears nothing of the service.
pub(super) async fn into_room(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let mut plan = Plan::of_rooms(lab.main.addr, "storm", N_STORM);
    plan.room = Some((ROOM, "everyone"));
    let (crowd, storm) = Storm::of(plan, None, &lab.main, lab.progress).await?;
    drop(crowd);
    lab.main.until_online(0).await?;
    let workload = format!("storm into one room: {N_STORM} connect, join and enter, all told of all, CPU a delivery");
    Ok(vec![Row { workload, ..storm.row(None, Target::AtMost(0.3)) }])
}

/// Storms before an audience, half of which speaks the plain format, by turns with storms before one that is all native.
async fn half_plain(lab: &Lab<'_>) -> Result<Row> {
    let (mut half_plain, mut native) = (Storm::default(), Storm::default());
    for round in 0..N_ROUNDS {
        // Who comes first takes turns as well: what is left of one storm may slow down the next.
        let mut turns = [(&mut half_plain, Format::Plain), (&mut native, Format::Native)];
        turns.rotate_left(round % 2);
        for (storms, second_half) in turns {
            let audience = Audience::open(&lab.main, [Format::Native, second_half], lab.progress).await?;
            let (crowd, storm) = Storm::before(Some(&audience), &lab.main, N_COMING, lab.progress).await?;
            storms.add(&storm);
            drop((crowd, audience));
            lab.main.until_online(0).await?;
        }
    }
    let n = 2 * N_HALF;
    Ok(Row {
        workload: format!("storm of {N_COMING} before {n} listeners, half in the plain format, CPU a delivery"),
        measured: Measure(half_plain.cpu_each(), "us"),
        beside: Some((native.cpu_each(), "all native")),
        target: Target::RatioAtMost(1.0),
        note: format!(
            "{N_ROUNDS} storms each, {} events delivered, each of {n} heard {N_COMING} in each storm",
            half_plain.n_deliveries
        ),
    })
}

/// Sockets that were there before a storm. All of them belong to one user. So none of them causes an event, and each hears of
/// every user of the storm. What is due to each is known without a `welcome`, which the plain format does not have.
pub(super) struct Audience([Crowd; 2]);

impl Audience {
    /// A half in each of the formats.
    async fn open(node: &Node, formats: [Format; 2], progress: &Progress) -> Result<Self> {
        let half = async |format| {
            let mut plan = Plan::of(node.addr, "listener", N_HALF);
            (plan.n_users, plan.way.format) = (1, Some(format));
            plan.open(progress).await
        };
        let [first, second] = formats;
        Ok(Self([half(first).await?, half(second).await?]))
    }

    /// Waits until each has heard `n_events` and nothing else. Returns how many that were in all.
    async fn until_all_heard(&self, n_events: usize) -> Result<u64> {
        let mut n_deliveries = 0;
        for half in &self.0 {
            n_deliveries += half.until_all_heard(n_events as u64).await?;
        }
        Ok(n_deliveries)
    }
}

/// What it came to that many joined at once.
#[derive(Default)]
pub(super) struct Storm {
    n_users: usize,
    n_deliveries: u64,
    took: Duration,
    cpu: Duration,
}

impl Storm {
    /// `n_users` connect to `node` and join as fast as they can, and hear of each other.
    pub(super) async fn on(node: &Node, n_users: usize, progress: &Progress) -> Result<(Crowd, Self)> {
        Self::before(None, node, n_users, progress).await
    }

    /// The same before an audience, which hears of them all.
    async fn before(
        audience: Option<&Audience>,
        node: &Node,
        n_users: usize,
        progress: &Progress,
    ) -> Result<(Crowd, Self)> {
        Self::of(Plan::of(node.addr, "storm", n_users), audience, node, progress).await
    }

    /// The users of `plan` come to `node` as fast as they can, and hear of each other.
    pub(super) async fn of(
        mut plan: Plan,
        audience: Option<&Audience>,
        node: &Node,
        progress: &Progress,
    ) -> Result<(Crowd, Self)> {
        plan.at_once = 1000;
        let n_users = plan.count;
        let (started, cpu_from) = (Instant::now(), node.process.cpu()?);
        let crowd = plan.open(progress).await?;
        // The audience is one user more.
        let n_known = n_users + usize::from(audience.is_some());
        let mut n_deliveries = crowd.until_all_know_all(n_known, progress).await?;
        if let Some(audience) = audience {
            n_deliveries += audience.until_all_heard(n_users).await?;
        }
        let (took, cpu) = (started.elapsed(), node.process.cpu()? - cpu_from);
        Ok((crowd, Self { n_users, n_deliveries, took, cpu }))
    }

    /// Another storm of the same.
    fn add(&mut self, other: &Self) {
        self.n_deliveries += other.n_deliveries;
        self.took += other.took;
        self.cpu += other.cpu;
    }

    fn cpu_each(&self) -> f64 {
        us(self.cpu) / self.n_deliveries as f64
    }

    /// The row for this, beside another.
    pub(super) fn row(&self, beside: Option<(&Self, &'static str)>, target: Target) -> Row {
        let n = self.n_users;
        let took = |storm: &Self| format!("{:.2} s, {:.2} s CPU", storm.took.as_secs_f64(), storm.cpu.as_secs_f64());
        let other = beside.map_or(String::new(), |(other, name)| format!(" ({name} {})", took(other)));
        Row {
            workload: format!("storm: {n} connect and join, all told of all, CPU a delivery"),
            measured: Measure(self.cpu_each(), "us"),
            beside: beside.map(|(other, name)| (other.cpu_each(), name)),
            target,
            note: format!("{} events delivered, all {n} know all {n}, {}{other}", self.n_deliveries, took(self)),
        }
    }
}
