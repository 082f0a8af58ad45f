//! The workloads, by what they stress.

mod crowd;
mod fanout;
mod flood;
mod http;
mod interest;
mod joins;
mod latency;
mod memory;
mod ordinary;
mod pings;
mod rooms;
mod sizes;
mod slow;
mod socketio;
mod storm;
mod tls;

use std::time::Duration;

use anyhow::Result;

use crate::process::{Node, Pings, Programs, Redis};
use crate::progress::Progress;
use crate::table::Row;

pub(crate) use self::crowd::beyond_one_process;
pub(crate) use self::memory::roster;
pub(crate) use self::sizes::{HowLarge, Size};

/// A private Redis and the nodes that the workloads use.
pub(crate) struct Lab<'a> {
    /// Where workloads show how far they are.
    pub progress: &'a Progress,
    /// What processes are made of.
    pub programs: Programs,
    /// The Redis of all nodes.
    pub redis: Redis,
    /// The node under test: as many workers as cores.
    pub main: Node,
    /// Two nodes that know of each other.
    pub pair: [Node; 2],
    /// A node with one worker, with whom the ghost node's users are.
    pub http: Node,
    /// A node like the main one that pings each socket [`OFTEN`].
    pub pinging: Node,
    /// Threads of the floor: as many as the node has workers.
    pub n_threads: usize,
}

/// The prefix in Redis of [`Lab::http`].
const HTTP_PREFIX: &str = "bench-http";

/// The prefix in Redis of [`Lab::main`].
const MAIN_PREFIX: &str = "bench-main";

/// The prefix in Redis of the node that [`flood`] starts.
const FLOOD_PREFIX: &str = "bench-flood";

/// The prefix in Redis of the node that [`ordinary`] starts.
const ORDINARY_PREFIX: &str = "bench-ordinary";

/// The prefix in Redis of [`Lab::pair`].
const PAIR_PREFIX: &str = "bench-pair";

/// The prefix in Redis of [`Lab::pinging`].
const PINGING_PREFIX: &str = "bench-pinging";

/// The prefix in Redis of the nodes that [`rooms`] starts.
const ROOMS_PREFIX: &str = "bench-rooms";

/// The prefix in Redis of the nodes that [`socketio`] starts.
const SOCKETIO_PREFIX: &str = "bench-socketio";

/// Pings of the other nodes: as rarely as may be, for pings to ten thousand in the middle of something else would be counted
/// as that.
const HARDLY: Pings = Pings { interval: Duration::from_secs(300), silence: Duration::from_secs(900) };

/// The pings of [`Lab::pinging`]. Whoever answers none of them is closed before they have all been counted, and whoever is slow
/// to answer in the storm of the beginning is not.
const OFTEN: Pings = Pings { interval: Duration::from_secs(1), silence: Duration::from_secs(5) };

/// What can be run.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// 10 000 joined sockets: memory, heartbeats, one event at a time
    Crowd,
    /// 10 000 joined sockets that are pinged each second, beside the floor
    Pings,
    /// One event at a time to 1 000 listeners, beside the floor
    Fanout,
    /// A join and a leave back to back to 1 000 listeners, beside the floor
    Back,
    /// One status change at a time to 1 000 listeners, beside joins and leaves
    Status,
    /// 4 000 users join as fast as they can, and all are told of all; half of the listeners plain, beside all native
    Storm,
    /// 10 000 sockets that watch 10 users each, while a tenth of all come and go
    Watch,
    /// 10 000 sockets that hear only the number of users, beside 1 000 joins and leaves a second
    Count,
    /// A user enters and leaves a room of 1 000, beside joins and leaves of the service
    Room,
    /// 1 000 rooms of 10 on three nodes, and everybody changes rooms
    Rooms,
    /// 4 000 users enter one room as fast as they can, and all are told of all
    RoomStorm,
    /// 10 000 sockets that hear only how many are in a room, beside 1 000 joins and leaves a second
    RoomCount,
    /// Memory of sockets in 10 rooms, and of rooms of one
    RoomMemory,
    /// Joins and leaves on open sockets, with next to nobody listening
    Joins,
    /// Connect, join, close, again and again
    Churn,
    /// Sockets that do not read, among some that do
    Slow,
    /// 500 honest sockets beside 50 hostile ones and 50 hostile HTTP clients
    Flood,
    /// `countOnly` beside a plain-text handler
    Http,
    /// The first page of 100 000 users
    Page,
    /// A batch of 1 000 online users
    Batch,
    /// From one node to another, beside Redis alone
    Cross,
    /// A million users in a roster
    Roster,
    /// Memory of 2 000 idle sockets over TLS, beside sockets without
    Tls,
    /// Memory, storm and fan-out beside a server that uses actix-ws in the ordinary way
    Ordinary,
    /// Memory of 2 000 idle sockets of Socket.IO, beside a server of Socket.IO on Node
    SioIdle,
    /// One event at a time to 1 000 listeners of Socket.IO, beside the floor and the same server
    SioFanout,
    /// 4 000 users join in Socket.IO as fast as they can, and all are told of all, beside the same server
    SioStorm,
    /// 300 clients of Socket.IO that poll: memory and one event at a time, beside the same server
    SioPolling,
}

impl<'a> Lab<'a> {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn open(programs: Programs, progress: &'a Progress, to_come: &[&str]) -> Result<Self> {
        progress.begin("starting Redis and five nodes: takes one lease, 10 s", to_come);
        let redis = Redis::start(&programs.redis_server, &programs.scratch).await?;
        let start = |prefix, name, n_workers| Node::start(&programs, &redis, prefix, name, n_workers, HARDLY, &[]);
        let main = start(MAIN_PREFIX, "main", 0)?;
        let pair = [start(PAIR_PREFIX, "pair-a", 1)?, start(PAIR_PREFIX, "pair-b", 1)?];
        let http = start(HTTP_PREFIX, "http", 1)?;
        let pinging = Node::start(&programs, &redis, PINGING_PREFIX, "pinging", 0, OFTEN, &[])?;
        for node in [&main, &pair[0], &pair[1], &http, &pinging] {
            node.ready().await?;
        }
        let n_threads = std::thread::available_parallelism()?.get();
        Ok(Self { progress, programs, redis, main, pair, http, pinging, n_threads })
    }

    /// Runs one workload.
    pub(crate) async fn run(&self, workload: Workload) -> Result<Vec<Row>> {
        let rows = match workload {
            Workload::Crowd => crowd::run(self).await,
            Workload::Pings => pings::run(self).await,
            Workload::Fanout => fanout::one_at_a_time(self).await,
            Workload::Back => fanout::back_to_back(self).await,
            Workload::Status => fanout::statuses(self).await,
            Workload::Storm => storm::run(self).await,
            Workload::Watch => interest::watching(self).await,
            Workload::Count => interest::counting(self).await,
            Workload::Room => rooms::one_at_a_time(self).await,
            Workload::Rooms => rooms::changing(self).await,
            Workload::RoomStorm => storm::into_room(self).await,
            Workload::RoomCount => interest::counting_room(self).await,
            Workload::RoomMemory => rooms::memory(self).await,
            Workload::Joins => joins::joins(self).await,
            Workload::Churn => joins::churn(self).await,
            Workload::Slow => slow::run(self).await,
            Workload::Flood => flood::run(self).await,
            Workload::Http => http::count_only(self).await,
            Workload::Page => http::first_page(self).await,
            Workload::Batch => http::batch(self).await,
            Workload::Cross => latency::cross(self).await,
            Workload::Roster => memory::measure(&self.programs),
            Workload::Tls => tls::measure(&self.programs).await,
            Workload::Ordinary => ordinary::run(self).await,
            Workload::SioIdle => socketio::idle(self).await,
            Workload::SioFanout => socketio::fanout(self).await,
            Workload::SioStorm => socketio::storm(self).await,
            Workload::SioPolling => socketio::polling(self).await,
        }?;
        // Whatever a workload left behind must not be counted with the next.
        self.main.until_online(0).await?;
        Ok(rows)
    }
}

async fn pause(time_ms: u64) {
    tokio::time::sleep(Duration::from_millis(time_ms)).await;
}
