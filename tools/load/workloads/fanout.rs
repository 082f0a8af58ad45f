//! Events told to many listeners: one at a time, and back to back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::crowd::n_events;
use super::{Lab, pause};
use crate::client::{Socket, Way};
use crate::crowd::{Crowd, Plan};
use crate::floor::{self, Control, Floor};
use crate::process::{Node, Process};
use crate::progress::Step;
use crate::table::{Measure, Row, Target, quantile, us};
use crate::tally::Tally;

/// Listeners.
pub(super) const N_LISTENERS: usize = 1000;

/// Events in a round; whoever is compared takes turns, so that all see the same machine.
pub(super) const N_EVENTS: usize = 40;

/// Rounds.
pub(super) const N_ROUNDS: usize = 4;

/// Events in a round of those back to back, which take less time.
const N_BACK_TO_BACK: usize = 200;

/// Between two events that are alone, in ms: no event meets the rest that the one before earned the node. It is the time
/// "alone" means.
pub(super) const ALONE_MS: u64 = 60;

/// How long to wait for an event.
const PATIENCE: Duration = Duration::from_secs(20);

const JOIN: &str = r#"{"type":"join_user","userId":"actor"}"#;

const LEAVE: &str = r#"{"type":"leave"}"#;

/// The same in Socket.IO.
const SOCKETIO_ACTS: [&str; 2] = [r#"42["join_user","actor"]"#, r#"42["leave"]"#];

/// The room in which events are told.
pub(super) const ROOM: &str = "hall";

/// Between two events that are back to back, in ms: the next act begins when the one before was heard by all and answered.
const AT_ONCE_MS: u64 = 0;

/// Events, from who makes them to who hears them.
pub(super) struct Stage<'a> {
    /// Whose CPU time it is.
    process: &'a Process,
    crowd: &'a Crowd,
    source: Source<'a>,
}

/// Who makes the events.
enum Source<'a> {
    /// A user of the node under test.
    Socket(Actor),
    /// A user of the service who goes into a room and out of it, and how often before this round.
    Member(&'a Actor, usize),
    /// The floor's control connection.
    Floor(&'a mut Control),
}

/// A user who does something again and again.
pub(super) struct Actor {
    socket: Socket,
    tally: Arc<Tally>,
    acts: Acts,
}

/// What an actor does, by turns.
#[derive(Clone, Copy)]
enum Acts {
    /// Joins and leaves: listens to nobody for long.
    Presence,
    /// The same in Socket.IO.
    SocketioPresence,
    /// Is busy and is online, as a user who is present.
    Status,
    /// Goes into a room and out of it, as a user who is present: hears nothing of the room.
    Room,
}

/// What some events came to.
#[derive(Default)]
pub(super) struct Told {
    cpu: Duration,
    n_deliveries: usize,
    /// From the start of an act to a listener, in order.
    latencies: Vec<Duration>,
}

impl<'a> Stage<'a> {
    /// A new user on `node`, and its listeners.
    pub(super) async fn of(node: &'a Node, crowd: &'a Crowd) -> Result<Self> {
        let source = Source::Socket(Actor::open(node.addr).await?);
        Ok(Self { process: &node.process, crowd, source })
    }

    /// The same in Socket.IO.
    pub(super) async fn of_socketio(node: &'a Node, crowd: &'a Crowd) -> Result<Self> {
        let source = Source::Socket(Actor::open_in_socketio(node.addr).await?);
        Ok(Self { process: &node.process, crowd, source })
    }

    /// A new user on `node` who is present and changes status, and its listeners.
    async fn of_statuses(node: &'a Node, crowd: &'a Crowd) -> Result<Self> {
        let actor = Actor::open_for(node.addr, Acts::Status).await?;
        let expected = n_events(crowd) + crowd.len() as u64;
        actor.socket.send(JOIN).await?;
        crowd.tally.until_told(expected, PATIENCE).await?;
        Ok(Self { process: &node.process, crowd, source: Source::Socket(actor) })
    }

    /// A user of [`Actor::open_for_room`] who has acted `n_before` times, and those who hear of the room.
    pub(super) fn in_room(node: &'a Node, crowd: &'a Crowd, actor: &'a Actor, n_before: usize) -> Self {
        Self { process: &node.process, crowd, source: Source::Member(actor, n_before) }
    }

    /// The floor and its listeners.
    pub(super) fn floor(floor: &'a mut Floor, crowd: &'a Crowd) -> Self {
        Self { process: &floor.process, crowd, source: Source::Floor(&mut floor.control) }
    }

    /// Makes `count` events, each `apart_ms` after the one before has reached everybody, and takes the CPU time of the process.
    /// Each is a piece of `step`.
    pub(super) async fn tell(mut self, count: usize, apart_ms: u64, step: &Step) -> Result<Told> {
        let crowd = self.crowd;
        crowd.tally.take_latencies();
        let heard_before = n_events(crowd);
        let mut latencies = Vec::with_capacity(count * crowd.len());
        pause(200).await;
        let cpu_from = self.process.cpu()?;
        for i in 0..count {
            crowd.tally.mark();
            match &mut self.source {
                Source::Socket(actor) => actor.act(i).await?,
                Source::Member(actor, n_before) => actor.act(*n_before + i).await?,
                Source::Floor(control) => control.send().await?,
            }
            let expected = heard_before + ((i + 1) * crowd.len()) as u64;
            crowd.tally.until_told(expected, PATIENCE).await?;
            match &self.source {
                Source::Socket(actor) => actor.until_answered(i).await?,
                Source::Member(actor, n_before) => actor.until_answered(n_before + i).await?,
                Source::Floor(_) => {}
            }
            latencies.append(&mut crowd.tally.take_latencies());
            step.advance(1);
            if apart_ms > 0 {
                pause(apart_ms).await;
            }
        }
        let cpu = self.process.cpu()? - cpu_from;
        let each = (n_events(crowd) - heard_before) / crowd.len() as u64;
        anyhow::ensure!(each == count as u64, "{each} events came to each of the sockets, not {count}");
        if let Source::Socket(actor) = &self.source {
            actor.end(crowd).await?;
        }
        latencies.sort_unstable();
        Ok(Told { cpu, n_deliveries: count * crowd.len(), latencies })
    }
}

impl Actor {
    /// A user who joins and leaves.
    pub(super) async fn open(addr: SocketAddr) -> Result<Self> {
        Self::open_for(addr, Acts::Presence).await
    }

    /// A user of the service who goes into [`ROOM`] and out of it.
    pub(super) async fn open_for_room(addr: SocketAddr) -> Result<Self> {
        let (way, tally) = (Way::to_rooms(addr), Arc::new(Tally::default()));
        let socket = Socket::open(&way, 0, Some("actor-in-room"), &tally).await?;
        socket.until("`welcome`", |heard| heard.welcomes.load(Ordering::Acquire) == 1).await?;
        Ok(Self { socket, tally, acts: Acts::Room })
    }

    /// A user who joins and leaves in Socket.IO.
    pub(super) async fn open_in_socketio(addr: SocketAddr) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let socket = Socket::open(&Way::to_socketio(addr), 0, None, &tally).await?;
        socket.until("connection", |heard| heard.connected.load(Ordering::Acquire) == 1).await?;
        Ok(Self { socket, tally, acts: Acts::SocketioPresence })
    }

    async fn open_for(addr: SocketAddr, acts: Acts) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        Ok(Self { socket: Socket::open(&Way::to(addr), 0, None, &tally).await?, tally, acts })
    }

    /// Event number `i`: joins or is busy if it is even, leaves or is online if it is odd.
    pub(super) async fn act(&self, i: usize) -> Result<()> {
        let texts = match self.acts {
            Acts::Presence => [JOIN, LEAVE],
            Acts::SocketioPresence => SOCKETIO_ACTS,
            Acts::Status => [r#"{"type":"set_status","status":"busy"}"#, r#"{"type":"set_status","status":"online"}"#],
            Acts::Room if i.is_multiple_of(2) => return self.socket.join_room(ROOM, "none").await,
            Acts::Room => return self.socket.leave_room(ROOM).await,
        };
        self.socket.send(texts[i % 2]).await
    }

    pub(super) async fn until_answered(&self, i: usize) -> Result<()> {
        let is_even = i.is_multiple_of(2);
        let answered = self.socket.until("answer", |heard| {
            let (answers, n_due) = match self.acts {
                Acts::Presence | Acts::SocketioPresence => {
                    (if is_even { &heard.lists } else { &heard.lefts }, i / 2 + 1)
                }
                Acts::Room => (if is_even { &heard.rooms_joined } else { &heard.rooms_left }, i / 2 + 1),
                // An event, and the answer.
                Acts::Status => (&heard.own_statuses, 2 * (i + 1)),
            };
            answers.load(Ordering::Acquire) == n_due as u64
        });
        answered.await?;
        self.tally.check_quiet()
    }

    /// Who is present leaves, and the crowd hears of it.
    async fn end(&self, crowd: &Crowd) -> Result<()> {
        if let Acts::Status = self.acts {
            let expected = n_events(crowd) + crowd.len() as u64;
            self.socket.send(LEAVE).await?;
            crowd.tally.until_told(expected, PATIENCE).await?;
        }
        Ok(())
    }
}

impl Told {
    /// Another round of the same.
    pub(super) fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.n_deliveries += other.n_deliveries;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
    }

    /// CPU time of a delivery, in microseconds.
    pub(super) fn cpu_each(&self) -> f64 {
        us(self.cpu) / self.n_deliveries as f64
    }

    /// In how many milliseconds `part` of the deliveries were made.
    fn within_ms(&self, part: f64) -> f64 {
        us(quantile(&self.latencies, part)) / 1000.0
    }

    /// What was counted, and the times beside those of the `other`.
    fn note(&self, other: &Self, name: &str) -> String {
        format!(
            "{} of {} delivered; after {:.2} ms half, {:.2} ms 99 % ({name} {:.2}, {:.2})",
            self.latencies.len(),
            self.n_deliveries,
            self.within_ms(0.5),
            self.within_ms(0.99),
            other.within_ms(0.5),
            other.within_ms(0.99),
        )
    }

    /// The row for the CPU time of a delivery, beside that of the `other`.
    pub(super) fn cpu_row(&self, workload: &str, other: &Self, name: &'static str, target: Target) -> Row {
        Row {
            workload: format!("{workload}, CPU a delivery"),
            measured: Measure(self.cpu_each(), "us"),
            beside: Some((other.cpu_each(), name)),
            target,
            note: self.note(other, name),
        }
    }

    /// The row for the time in which `part` of the deliveries were made, beside that of the `other`.
    pub(super) fn time_row(&self, workload: &str, part: f64, other: &Self, name: &'static str, target: Target) -> Row {
        Row {
            workload: workload.to_owned(),
            measured: Measure(self.within_ms(part), "ms"),
            beside: Some((other.within_ms(part), name)),
            target,
            note: format!("{} of {} delivered", self.latencies.len(), self.n_deliveries),
        }
    }
}

/// The service and the floor, with listeners on both.
struct Beside {
    floor: Floor,
    bare: Crowd,
    crowd: Crowd,
}

impl Beside {
    async fn open(lab: &Lab<'_>) -> Result<Self> {
        let mut floor = Floor::start(&lab.programs, lab.n_threads, &floor::frame()).await?;
        let bare = Plan::bare(floor.addr, N_LISTENERS).open(lab.progress).await?;
        floor.control.until_serving(N_LISTENERS).await?;
        let crowd = Plan::of(lab.main.addr, "listener", N_LISTENERS).open(lab.progress).await?;
        crowd.until_all_know_all(N_LISTENERS, lab.progress).await?;
        pause(500).await;
        Ok(Self { floor, bare, crowd })
    }
}

/// One event at a time, each alone.
pub(super) async fn one_at_a_time(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let Beside { mut floor, bare, crowd } = Beside::open(lab).await?;
    let (mut told, mut least) = (Told::default(), Told::default());
    let step = lab.progress.step("telling events, service and floor by turns", 2 * N_ROUNDS * N_EVENTS);
    for _ in 0..N_ROUNDS {
        told.add(Stage::of(&lab.main, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
        least.add(Stage::floor(&mut floor, &bare).tell(N_EVENTS, ALONE_MS, &step).await?);
    }
    crowd.tally.check_quiet()?;
    let workload = format!("one event at a time to {N_LISTENERS} listeners");
    Ok(vec![told.cpu_row(&workload, &least, "floor", Target::RatioAtMost(1.15))])
}

/// Status changes, each alone, by turns with joins and leaves that are alone, too.
pub(super) async fn statuses(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let crowd = Plan::of(lab.main.addr, "listener", N_LISTENERS).open(lab.progress).await?;
    crowd.until_all_know_all(N_LISTENERS, lab.progress).await?;
    let (mut changed, mut came) = (Told::default(), Told::default());
    let step = lab.progress.step("telling statuses and joins by turns", 2 * N_ROUNDS * N_EVENTS);
    for _ in 0..N_ROUNDS {
        changed.add(Stage::of_statuses(&lab.main, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
        came.add(Stage::of(&lab.main, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
    }
    crowd.tally.check_quiet()?;
    let workload = format!("one status change at a time to {N_LISTENERS} listeners");
    Ok(vec![changed.cpu_row(&workload, &came, "join or leave", Target::RatioAtMost(1.1))])
}

/// A user joins and leaves without a pause. Rounds of events that are alone, by turns with those, tell what a delivery costs then.
pub(super) async fn back_to_back(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let Beside { mut floor, bare, crowd } = Beside::open(lab).await?;
    let (mut told, mut least, mut alone) = (Told::default(), Told::default(), Told::default());
    let n_events = N_ROUNDS * (2 * N_BACK_TO_BACK + N_EVENTS);
    let step = lab.progress.step("telling events, service and floor by turns", n_events);
    for _ in 0..N_ROUNDS {
        told.add(Stage::of(&lab.main, &crowd).await?.tell(N_BACK_TO_BACK, AT_ONCE_MS, &step).await?);
        least.add(Stage::floor(&mut floor, &bare).tell(N_BACK_TO_BACK, AT_ONCE_MS, &step).await?);
        alone.add(Stage::of(&lab.main, &crowd).await?.tell(N_EVENTS, ALONE_MS, &step).await?);
    }
    crowd.tally.check_quiet()?;
    let workload = format!("events back to back to {N_LISTENERS} listeners");
    Ok(vec![
        told.time_row(&format!("{workload}, half"), 0.5, &least, "floor", Target::RatioAtMost(1.5)),
        told.time_row(&format!("{workload}, 99 %"), 0.99, &least, "floor", Target::None),
        told.cpu_row(&workload, &alone, "alone", Target::RatioAtMost(1.0)),
    ])
}
