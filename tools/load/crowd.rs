//! Many sockets at once: in this process as far as its open files go, beyond that in processes of this same program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall::wire::Format;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::client::{Socket, Way};
use crate::process::{Process, Programs};
use crate::progress::Progress;
use crate::tally::Tally;

/// Sockets of one process: below the 20 000 open files that systems commonly allow one.
pub(crate) const PER_PROCESS: usize = 18_000;

/// Who is to come.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Where to.
    pub way: Way,
    /// What the users' ids begin with.
    pub prefix: String,
    /// The number of the first.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Users that the sockets fall to in turn.
    pub n_users: usize,
    /// Connections in the making at a time.
    pub at_once: usize,
    /// Whether they join with the handshake. The floor knows no joining.
    pub join: bool,
    /// The room that they join, and what they want to hear of it.
    pub room: Option<(&'static str, &'static str)>,
}

/// The sockets of a plan.
pub(crate) struct Crowd {
    /// Those in this process.
    pub sockets: Vec<Socket>,
    /// What they have heard together.
    pub tally: Arc<Tally>,
}

impl Plan {
    /// `count` users on `addr` who join in the native format, 128 connections in the making at a time.
    pub(crate) fn of(addr: SocketAddr, prefix: &str, count: usize) -> Self {
        Self {
            way: Way::to(addr),
            prefix: prefix.to_owned(),
            first: 0,
            count,
            n_users: count,
            at_once: 128,
            join: true,
            room: None,
        }
    }

    /// `count` users on `addr` who hear nothing of the service, but of rooms. They are in no room yet.
    pub(crate) fn of_rooms(addr: SocketAddr, prefix: &str, count: usize) -> Self {
        Self { way: Way::to_rooms(addr), ..Self::of(addr, prefix, count) }
    }

    /// `count` users on `addr` who join in Socket.IO.
    pub(crate) fn of_socketio(addr: SocketAddr, prefix: &str, count: usize) -> Self {
        Self { way: Way::to_socketio(addr), ..Self::of(addr, prefix, count) }
    }

    /// The same without HTTP, for the floor.
    pub(crate) fn bare(addr: SocketAddr, count: usize) -> Self {
        let mut plan = Self::of(addr, "", count);
        (plan.way.format, plan.join) = (None, false);
        plan
    }

    /// Opens all, as fast as they can. If they join, waits until each has its answer.
    pub(crate) async fn open(&self, progress: &Progress) -> Result<Crowd> {
        self.open_with(Arc::default(), progress).await
    }

    /// The same with a tally that others may look at meanwhile.
    async fn open_with(&self, tally: Arc<Tally>, progress: &Progress) -> Result<Crowd> {
        let step = progress.step("opening sockets", self.count);
        let mut opening = JoinSet::new();
        let mut sockets = Vec::with_capacity(self.count);
        let mut next = self.first;
        let end = self.first + self.count;
        while next < end || !opening.is_empty() {
            if next < end && opening.len() < self.at_once {
                let (plan, tally, i) = (self.clone(), tally.clone(), next);
                opening.spawn(async move {
                    let user = plan.join.then(|| plan.user(i));
                    let socket = Socket::open(&plan.way, i, user.as_deref(), &tally).await?;
                    if let Some((room, presence)) = plan.room {
                        socket.join_room(room, presence).await?;
                    }
                    anyhow::Ok(socket)
                });
                next += 1;
                continue;
            }
            sockets.push(opening.join_next().await.context("there is one")???);
            step.advance(1);
        }
        if self.join {
            let patience = Duration::from_secs(60);
            let answers = match self.way.format {
                _ if self.room.is_some() => &tally.rooms_joined,
                Some(Format::Plain) => &tally.established,
                // Who does not hear of everyone gets no list.
                Some(Format::Native) if !self.way.query.is_empty() => &tally.welcomes,
                Some(Format::Native) | None => &tally.lists,
                // As long as few are online, lists come by themselves, too.
                Some(Format::Socketio | Format::SocketioStatus | Format::SocketioRoom) => &tally.welcomes,
            };
            tally.until("joiners with their answer", answers, self.count as u64, patience).await?;
        }
        Ok(Crowd { sockets, tally })
    }

    /// Who joins with socket `i`.
    fn user(&self, i: usize) -> String {
        format!("{}{:06}", self.prefix, self.first + (i - self.first) % self.n_users)
    }
}

impl Crowd {
    /// How many sockets.
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Waits until each of `n_users` joiners, and nobody else, is known to each of them: from the count in the welcome, or
    /// by one event each after it. If they hear of a room, its answer has the count.
    pub(crate) async fn until_all_know_all(&self, n_users: usize, progress: &Progress) -> Result<u64> {
        let (tally, n) = (&self.tally, (self.len() * n_users) as u64);
        let step = progress.step("telling all of all", n as usize);
        let started = Instant::now();
        loop {
            let (online, events) = (tally.online.load(Ordering::Acquire), tally.events.load(Ordering::Acquire));
            ensure!(online + events <= n, "{online} told in welcomes and {events} in events are more than {n}");
            if online + events == n {
                break;
            }
            step.reach(online + events);
            let took = started.elapsed();
            ensure!(
                took < Duration::from_secs(60),
                "{online} told in welcomes and {events} in events of {n} in {took:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for socket in &self.sockets {
            let known = socket.heard.online.load(Ordering::Acquire) + socket.heard.events.load(Ordering::Acquire);
            ensure!(known == n_users as u64, "somebody knows {known} of {n_users} users");
        }
        tally.check_quiet()?;
        Ok(tally.events.load(Ordering::Acquire))
    }

    /// Waits until each of them has heard `n_events`, and nothing else. Returns how many that were in all.
    pub(crate) async fn until_all_heard(&self, n_events: u64) -> Result<u64> {
        let due = self.len() as u64 * n_events;
        self.tally.until("deliveries", &self.tally.events, due, Duration::from_secs(60)).await?;
        for socket in &self.sockets {
            let heard = socket.heard.events.load(Ordering::Acquire);
            ensure!(heard == n_events, "somebody has heard {heard} of {n_events} events");
        }
        self.tally.check_quiet()?;
        Ok(due)
    }
}

/// How long a crowd in other processes may take to join.
const PATIENCE: Duration = Duration::from_secs(600);

/// A crowd in other processes.
pub(crate) struct Agents(Vec<Process>);

/// What an agent says of its crowd.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct AgentReport {
    /// Sockets that have joined.
    pub joined: u64,
    /// What their welcomes said, added up.
    pub online: u64,
    /// Events that they have heard.
    pub events: u64,
    /// Everything that should not be: resyncs, ended connections, frames that nobody asked for.
    pub wrong: u64,
}

impl Agents {
    /// Opens `count` sockets, an equal share on each of `addrs` and from a process of its own.
    pub(crate) async fn open(
        programs: &Programs,
        addrs: &[SocketAddr],
        prefix: &str,
        count: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let mut agents = Self(Vec::new());
        for (i, addr) in addrs.iter().enumerate() {
            let part = share(count, addrs.len(), i);
            let (first, part) = (part.start.to_string(), part.len().to_string());
            let arguments = ["agent", &addr.to_string(), prefix, &first, &part];
            agents.0.push(programs.own_listening(&format!("agent-{i}"), &arguments)?);
        }
        let step = progress.step("opening sockets", count);
        let started = Instant::now();
        loop {
            let AgentReport { joined, wrong, .. } = agents.report()?;
            ensure!(wrong == 0, "{wrong} resyncs, ended connections or unexpected frames while sockets were opened");
            step.reach(joined);
            if joined == count as u64 {
                return Ok(agents);
            }
            ensure!(started.elapsed() < PATIENCE, "{joined} of {count} have joined in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What all have heard until now.
    pub(crate) fn report(&mut self) -> Result<AgentReport> {
        let mut sum = AgentReport { joined: 0, online: 0, events: 0, wrong: 0 };
        for agent in &mut self.0 {
            agent.tell("report")?;
            let report: AgentReport = serde_json::from_str(&agent.line()?)?;
            sum.joined += report.joined;
            sum.online += report.online;
            sum.events += report.events;
            sum.wrong += report.wrong;
        }
        Ok(sum)
    }
}

/// The numbers of the users of node `i` of `n_nodes`.
fn share(count: usize, n_nodes: usize, i: usize) -> std::ops::Range<usize> {
    count * i / n_nodes..count * (i + 1) / n_nodes
}

/// What an agent's process does: opens its crowd, reports whenever it is asked to, and ends with its parent.
pub(crate) async fn agent(addr: SocketAddr, prefix: &str, first: usize, count: usize) -> Result<()> {
    let mut plan = Plan::of(addr, prefix, count);
    plan.first = first;
    let tally = Arc::new(Tally::default());
    let (parent, parent_is_gone) = oneshot::channel();
    // A thread that this process does not wait for: it may sit in a read when the crowd has failed.
    std::thread::spawn({
        let tally = tally.clone();
        // If nobody waits, the process ends anyway.
        move || parent.send(report(&tally))
    });
    let _crowd = plan.open_with(tally, &Progress::Silent).await?;
    parent_is_gone.await?
}

/// Reports for each line of stdin, until it ends.
fn report(tally: &Tally) -> Result<()> {
    let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
    for line in std::io::stdin().lines() {
        line?;
        let report = AgentReport {
            joined: load(&tally.lists),
            online: load(&tally.online),
            events: load(&tally.events),
            wrong: load(&tally.unexpected) + load(&tally.resyncs) + load(&tally.closed),
        };
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_fall_to_their_users_in_turn() {
        let mut plan = Plan::bare(SocketAddr::from(([127, 0, 0, 1], 0)), 4);
        (plan.prefix, plan.first) = ("u".to_owned(), 10);
        let users = |plan: &Plan| (10..14).map(|i| plan.user(i)).collect::<Vec<_>>();
        assert_eq!(users(&plan), ["u000010", "u000011", "u000012", "u000013"]);
        plan.n_users = 2;
        assert_eq!(users(&plan), ["u000010", "u000011", "u000010", "u000011"]);
    }

    #[test]
    fn every_user_is_on_one_node_and_no_node_has_more_than_its_share() {
        for (count, n_nodes) in [(50_000, 3), (7, 2), (3, 5)] {
            let shares: Vec<_> = (0..n_nodes).map(|i| share(count, n_nodes, i)).collect();
            assert!(shares.iter().cloned().flatten().eq(0..count));
            assert!(shares.iter().all(|share| share.len() <= count.div_ceil(n_nodes)));
        }
    }
}
