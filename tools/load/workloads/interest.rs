//! Listeners that want to hear less than everything: some users, or only their number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fanout::{ALONE_MS, N_EVENTS, N_LISTENERS, N_ROUNDS, ROOM, Stage};
use super::{Lab, pause};
use crate::client::Socket;
use crate::crowd::{Crowd, Plan};
use crate::frames::Hears;
use crate::progress::Step;
use crate::table::{Measure, Row, Target, us};

/// Sockets that watch, each of them another user's.
const N_WATCHERS: usize = 9000;

/// Users who come and go: a tenth of all.
const N_ACTORS: usize = 1000;

/// Users that each socket watches, of those who watch and those who come and go.
const N_WATCHED: usize = 10;

/// How often each actor goes and comes back.
const N_VISITS: usize = 2;

/// Sockets that hear only the number, and joins a second beside them.
const N_COUNTING: usize = 10_000;
const JOINS_A_SECOND: u64 = 1000;

/// Sockets that come and go in turn.
const N_JOINERS: usize = 500;

/// How long these joins go on.
const COUNTED: Duration = Duration::from_secs(5);

/// Sockets that watch a few users each, while a tenth of all users come and go.
pub(super) async fn watching(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let node = &lab.main;
    let rss_empty = node.process.rss()?;
    let mut plan = Plan::of(node.addr, "watcher", N_WATCHERS);
    plan.way.query = "&presence=watch";
    let watchers = plan.open(lab.progress).await?;
    let mut plan = Plan::of(node.addr, "", N_ACTORS);
    plan.join = false;
    let actors = plan.open(lab.progress).await?;
    for (actor, socket) in actors.sockets.iter().enumerate() {
        come(socket, actor, 1).await?;
    }
    let due = watch_all(&watchers).await?;
    pause(2000).await;
    let rss_each = (node.process.rss()? - rss_empty) as f64 / 1024.0 / (N_WATCHERS + N_ACTORS) as f64;

    let n_events = 2 * N_VISITS * N_ACTORS;
    let step = lab.progress.step("users come and go, and few hear of each", n_events);
    let (cpu_from, started) = (node.process.cpu()?, Instant::now());
    visit(&actors, 0, &step).await?;
    let n_heard: u64 = due.iter().map(|n_actors| n_actors * 2 * N_VISITS as u64).sum();
    watchers.tally.until("deliveries", &watchers.tally.events, n_heard, Duration::from_secs(30)).await?;
    let took = started.elapsed();
    pause(500).await;
    let cpu = node.process.cpu()? - cpu_from;
    for (socket, n_actors) in watchers.sockets.iter().zip(&due) {
        let n_events = socket.heard.events.load(Ordering::Acquire);
        ensure!(n_events == n_actors * 2 * N_VISITS as u64, "a socket that watches {n_actors} heard {n_events} events");
    }
    watchers.tally.check_quiet()?;
    drop((step, watchers));
    node.until_online(N_ACTORS).await?;
    // The same, and nobody hears of it.
    let step = lab.progress.step("users come and go, and nobody hears of them", 2 * N_VISITS * N_ACTORS);
    let cpu_from = node.process.cpu()?;
    visit(&actors, N_VISITS, &step).await?;
    pause(500).await;
    let unheard = node.process.cpu()? - cpu_from;
    drop(step);
    actors.tally.check_quiet()?;
    ensure!(actors.tally.events.load(Ordering::Acquire) == 0, "who wants to hear nothing hears nothing");
    drop(actors);
    node.until_online(0).await?;

    let alone = one_at_a_time(lab).await?;
    let n_users = N_WATCHERS + N_ACTORS;
    let each = |cpu: Duration| us(cpu) / n_heard as f64;
    Ok(vec![
        Row {
            workload: format!("{n_users} sockets, each watching {N_WATCHED} of {n_users} users, CPU a heard event"),
            // What it costs that users come and go is the same if nobody hears of it.
            measured: Measure(each(cpu.saturating_sub(unheard)), "us"),
            beside: Some((alone, "everyone, one at a time")),
            target: Target::RatioAtMost(1.5),
            note: format!(
                "{n_events} events in {took:.1?}, {n_heard} of {n_heard} delivered, to each socket its own; {:.1} us with the coming and going",
                each(cpu)
            ),
        },
        Row {
            workload: format!("idle socket, watching {N_WATCHED}, RSS each at {n_users}"),
            measured: Measure(rss_each, "KiB"),
            beside: None,
            target: Target::AtMost(3.5),
            note: format!("{N_ACTORS} of them watch nobody"),
        },
    ])
}

/// Each actor goes and comes back, some times. They have done so `n_before` times.
async fn visit(actors: &Crowd, n_before: usize, step: &Step) -> Result<()> {
    for visit in n_before..n_before + N_VISITS {
        for (actor, socket) in actors.sockets.iter().enumerate() {
            socket.send(r#"{"type":"leave"}"#).await?;
            socket.until("`left`", |heard| heard.lefts.load(Ordering::Acquire) == visit as u64 + 1).await?;
            come(socket, actor, visit as u64 + 2).await?;
            step.advance(2);
        }
    }
    Ok(())
}

/// An actor comes, and is welcomed for the time number `n_welcomes`.
async fn come(socket: &Socket, actor: usize, n_welcomes: u64) -> Result<()> {
    socket.send(&format!(r#"{{"type":"join_user","userId":"actor{actor:06}","presence":"none"}}"#)).await?;
    socket.until("`welcome`", |heard| heard.welcomes.load(Ordering::Acquire) == n_welcomes).await
}

/// Each socket watches some users. Returns how many actors each of them watches.
async fn watch_all(watchers: &Crowd) -> Result<Vec<u64>> {
    let mut due = Vec::with_capacity(N_WATCHERS);
    for (i, socket) in watchers.sockets.iter().enumerate() {
        // In such steps, everybody is watched by about as many.
        let watched: HashMap<usize, String> = (0..N_WATCHED)
            .map(|k| (i * N_WATCHED + k * 997) % (N_WATCHERS + N_ACTORS))
            .map(|user| (user, id(user)))
            .collect();
        due.push(watched.keys().filter(|user| **user >= N_WATCHERS).count() as u64);
        let ids: Vec<_> = watched.values().collect();
        socket.send(&serde_json::json!({"type": "watch", "userIds": ids}).to_string()).await?;
        socket.until("`watching`", |heard| heard.answers.load(Ordering::Acquire) == 1).await?;
    }
    Ok(due)
}

fn id(user: usize) -> String {
    if user < N_WATCHERS { format!("watcher{user:06}") } else { format!("actor{:06}", user - N_WATCHERS) }
}

/// The CPU time of a delivery, in microseconds, if each event is told to everyone.
async fn one_at_a_time(lab: &Lab<'_>) -> Result<f64> {
    let crowd = Plan::of(lab.main.addr, "listener", N_LISTENERS).open(lab.progress).await?;
    crowd.until_all_know_all(N_LISTENERS, lab.progress).await?;
    let step = lab.progress.step("telling events to everyone", N_ROUNDS * N_EVENTS);
    let told = Stage::of(&lab.main, &crowd).await?.tell(N_ROUNDS * N_EVENTS, ALONE_MS, &step).await?;
    crowd.tally.check_quiet()?;
    Ok(told.cpu_each())
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// The users online.
    Service,
    /// Those in [`ROOM`]. Nobody hears anything of the service.
    Room,
}

/// Sockets that hear only the number of users, while users come and go without a pause.
pub(super) async fn counting(lab: &Lab<'_>) -> Result<Vec<Row>> {
    counting_in(lab, Counted::Service).await
}

/// Sockets in a room that hear only the number of those in it, while users enter and leave without a pause.
pub(super) async fn counting_room(lab: &Lab<'_>) -> Result<Vec<Row>> {
    counting_in(lab, Counted::Room).await
}

async fn counting_in(lab: &Lab<'_>, counted: Counted) -> Result<Vec<Row>> {
    let node = &lab.main;
    let crowd = counted.listeners(node.addr).open(lab.progress).await?;
    let joiners = counted.joiners(node.addr).open(lab.progress).await?;
    let n_frames = || crowd.tally.counts.load(Ordering::Acquire);
    // The last of those who came are counted.
    let settled = async {
        loop {
            let before = n_frames();
            pause(2500).await;
            if n_frames() == before {
                return before;
            }
        }
    };
    let before = lab.progress.timed("waiting until the number stands", Duration::from_secs(5), settled).await;
    let n_frames_each = || crowd.sockets.iter().map(|socket| socket.heard.counts.load(Ordering::Acquire));
    let before_each: Vec<u64> = n_frames_each().collect();
    let (cpu_from, started) = (node.process.cpu()?, Instant::now());
    let n_joins = counted.come_and_go(&joiners, started).await?;
    let took = started.elapsed();
    pause(2500).await;
    let cpu = node.process.cpu()? - cpu_from;
    let last = counted.number(&joiners, n_joins);
    for socket in &crowd.sockets {
        let number = socket.heard.number.load(Ordering::Acquire);
        ensure!(number == last, "somebody was told {number} where {last} are there");
    }
    let most = n_frames_each().zip(before_each).map(|(now, before)| now - before).max().unwrap_or_default();
    // One as soon as the number moves, and the last within a second after that.
    let most_due = took.as_secs() + 2;
    ensure!(most <= most_due, "somebody was told {most} numbers in {took:?}");
    let n_heard = n_frames() - before;
    pause(1500).await;
    ensure!(n_frames() == before + n_heard, "somebody was told a number that stands");
    let each_second = n_heard as f64 / N_COUNTING as f64 / (took.as_secs_f64() + 1.0);
    crowd.tally.check_quiet()?;
    joiners.tally.check_quiet()?;
    drop((crowd, joiners));
    node.until_online(0).await?;
    let whose = if counted == Counted::Room { "the number of a room" } else { "the number" };
    Ok(vec![Row {
        workload: format!("{N_COUNTING} sockets hear {whose}, beside {JOINS_A_SECOND} joins and leaves a second"),
        measured: Measure(each_second, "/s"),
        beside: None,
        target: Target::AtMost(1.0),
        note: format!(
            "{n_joins} joins and leaves, {n_heard} frames, {most} to one socket at most, the last {last} to each; node {:.0} % of a core",
            100.0 * cpu.as_secs_f64() / took.as_secs_f64()
        ),
    }])
}

impl Counted {
    fn listeners(self, addr: SocketAddr) -> Plan {
        let mut plan = Plan::of_rooms(addr, "counting", N_COUNTING);
        match self {
            Self::Service => (plan.way.hears, plan.way.query) = (Hears::Service, "&presence=count"),
            Self::Room => plan.room = Some((ROOM, "count")),
        }
        plan
    }

    /// Sockets that come and go. Those of a room are in the service all the time.
    fn joiners(self, addr: SocketAddr) -> Plan {
        let mut plan = Plan::of_rooms(addr, "joiner", N_JOINERS);
        plan.join = self == Self::Room;
        plan
    }

    /// The joiners come in turn, then go in turn, and so on. Returns how often that was.
    async fn come_and_go(self, joiners: &Crowd, started: Instant) -> Result<u64> {
        let mut n_joins = 0_u64;
        while started.elapsed() < COUNTED {
            let socket = &joiners.sockets[n_joins as usize % joiners.len()];
            let comes = (n_joins / joiners.len() as u64).is_multiple_of(2);
            match self {
                Self::Service if comes => {
                    let text = format!(r#"{{"type":"join_user","userId":"j{n_joins}","presence":"none"}}"#);
                    socket.send(&text).await?;
                }
                Self::Service => socket.send(r#"{"type":"leave"}"#).await?,
                Self::Room if comes => socket.join_room(ROOM, "none").await?,
                Self::Room => socket.leave_room(ROOM).await?,
            }
            n_joins += 1;
            let due = started + Duration::from_micros(n_joins * 1_000_000 / JOINS_A_SECOND);
            tokio::time::sleep_until(due.into()).await;
        }
        Ok(n_joins)
    }

    /// How many are there after `n_joins`, the listeners included.
    fn number(self, joiners: &Crowd, n_joins: u64) -> u64 {
        let (n_joiners, rest) = (joiners.len() as u64, n_joins % joiners.len() as u64);
        let all_went = (n_joins / n_joiners).is_multiple_of(2);
        N_COUNTING as u64 + if all_went { rest } else { n_joiners - rest }
    }
}
