//! How large rooms may become: many in one, many rooms, many rooms of one socket, many sockets of one user, and questions about
//! many rooms that do not exist. These take long or much memory, so they are no part of the table.

mod large_room;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::fanout::ALONE_MS;
use super::rooms::{ROOMS_PER_SOCKET, enter_alone};
use super::{HARDLY, pause};
use crate::client::{Socket, Way};
use crate::crowd::{Crowd, PER_PROCESS, Plan};
use crate::http::{ask_all, get_request};
use crate::process::{Node, Programs, Redis};
use crate::progress::Progress;
use crate::table::{Measure, Row, Target, us};
use crate::tally::Tally;

/// What can be large.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// One room of `--members`, driven at the store, and a node that opens it
    Room,
    /// `--rooms` rooms of one, on one node
    Rooms,
    /// Sockets in 50 rooms each
    Socket,
    /// A user with 100 sockets in one room
    User,
    /// `--requests` questions over HTTP about as many rooms that do not exist
    Unknown,
}

/// How large.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct HowLarge {
    /// Members of the one room, for `room`
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = crate::at_least_one())]
    members: usize,
    /// Rooms of one, 50 to a socket, for `rooms`
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = crate::at_least_one())]
    rooms: usize,
    /// Questions, for `unknown`
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = crate::at_least_one())]
    requests: usize,
}

/// Sockets in as many rooms as one may be in.
const N_IN_MANY: usize = 200;

/// The sockets of one user: as many as the defaults allow. Source: `limits.sockets_per_user` in config/default.toml
const N_OF_USER: usize = 100;

/// Kept-alive connections that ask about rooms. A node reads few rooms at once, and refuses the others for the moment.
const N_CONNECTIONS: usize = 4;

/// Questions before the figures are taken: they make the node's buffers.
const N_FIRST: usize = 1000;

/// How long to wait for an event.
const PATIENCE: Duration = Duration::from_secs(20);

/// After this, a room that nobody is in is closed for sure: `rooms.linger_ms` is 30 s.
const CLOSED_WITHIN: Duration = Duration::from_secs(90);

/// A node that held no socket before, with its Redis.
struct Ground<'a> {
    progress: &'a Progress,
    redis: &'a Redis,
    node: Node,
    /// What its keys begin with.
    prefix: String,
}

impl HowLarge {
    /// Measures the `sizes`, all of them unless some are named.
    pub(crate) async fn run(self, programs: Programs, progress: &Progress, sizes: &[Size]) -> Result<Vec<Row>> {
        let sizes = if sizes.is_empty() { Size::value_variants() } else { sizes };
        let redis = Redis::start(&programs.redis_server, &programs.scratch).await?;
        let mut rows = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let value = size.to_possible_value().context("every size has a name")?;
            let name = value.get_name();
            progress
                .begin(&format!("{name} ({} of {}): starting a node takes one lease, 10 s", i + 1, sizes.len()), &[]);
            let prefix = format!("size-{name}");
            let node = Node::start(&programs, &redis, &prefix, &prefix, 0, HARDLY, &[])?;
            node.ready().await?;
            let ground = Ground { progress, redis: &redis, node, prefix };
            rows.extend(match size {
                Size::Room => large_room::run(&ground, self.members).await?,
                Size::Rooms => rooms_of_one(&ground, self.rooms).await?,
                Size::Socket => in_many_rooms(&ground).await?,
                Size::User => of_one_user(&ground).await?,
                Size::Unknown => unknown_rooms(&ground, self.requests).await?,
            });
        }
        Ok(rows)
    }
}

/// Each of many rooms has one user in it.
async fn rooms_of_one(ground: &Ground<'_>, n_rooms: usize) -> Result<Vec<Row>> {
    let Ground { progress, redis, node, prefix } = ground;
    let n_sockets = n_rooms.div_ceil(ROOMS_PER_SOCKET);
    ensure!(n_sockets <= PER_PROCESS, "{n_rooms} rooms need {n_sockets} sockets, more than {PER_PROCESS}");
    let crowd = Plan::of_rooms(node.addr, "alone", n_sockets).open(progress).await?;
    pause(2000).await;
    let (node_from, redis_from) = (node.process.cpu()?, redis.cpu().await?);
    let (rss_before, memory_before) = (node.process.rss()?, redis.memory().await?);
    let started = Instant::now();
    enter_alone(&crowd, n_rooms, progress).await?;
    let took = started.elapsed();
    let (on_node, on_redis) = (node.process.cpu()? - node_from, redis.cpu().await? - redis_from);
    pause(2000).await;
    let rss = node.process.rss()?.saturating_sub(rss_before);
    let memory = redis.memory().await?.saturating_sub(memory_before);
    let (n_there, n_open) = (redis.n_rooms(prefix).await?, redis.n_open_rooms(prefix).await?);
    ensure!((n_there as usize, n_open) == (n_rooms, n_rooms), "{n_there} rooms are there and {n_open} are open");
    crowd.tally.check_quiet()?;

    drop(crowd);
    node.until_online(0).await?;
    progress.timed("waiting until all rooms are closed", CLOSED_WITHIN, until_closed(ground)).await?;
    let n_keys = redis.n_room_keys(prefix).await?;
    ensure!(n_keys == 0, "{n_keys} keys of rooms are left");
    let workload = format!("{n_rooms} rooms of one on one node, {ROOMS_PER_SOCKET} to a socket");
    let counted =
        format!("{n_rooms} rooms entered and open, each shows one; afterwards none is open and no key is left");
    Ok(vec![
        row(&workload, "rooms entered", Measure(n_rooms as f64 / took.as_secs_f64(), "/s"), counted.clone()),
        row(&workload, "CPU each on the node", Measure(us(on_node) / n_rooms as f64, "us"), counted.clone()),
        row(&workload, "CPU each on Redis", Measure(us(on_redis) / n_rooms as f64, "us"), counted.clone()),
        row(&workload, "RSS each", Measure(rss as f64 / n_rooms as f64, "bytes"), counted.clone()),
        row(&workload, "memory each in Redis", Measure(memory as f64 / n_rooms as f64, "bytes"), counted),
    ])
}

/// Waits until nobody is in a room, and no node is subscribed to one.
async fn until_closed(ground: &Ground<'_>) -> Result<()> {
    let started = Instant::now();
    loop {
        let n_there = ground.redis.n_rooms(&ground.prefix).await?;
        let n_open = ground.redis.n_open_rooms(&ground.prefix).await?;
        if (n_there, n_open) == (0, 0) {
            return Ok(());
        }
        let took = started.elapsed();
        ensure!(took < CLOSED_WITHIN, "{n_there} rooms are there and {n_open} are open after {took:?}");
        pause(1000).await;
    }
}

/// Sockets that are in many rooms, beside as many that are in one.
async fn in_many_rooms(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let Ground { progress, node, .. } = ground;
    let tally = Arc::new(Tally::default());
    let actor = Socket::open(&Way::to_rooms(node.addr), 0, Some("actor"), &tally).await?;
    let mut plan = Plan::of_rooms(node.addr, "one", N_IN_MANY);
    plan.room = Some(("single", "everyone"));
    let crowd = plan.open(progress).await?;
    crowd.until_all_know_all(N_IN_MANY, progress).await?;
    let beside = visit(ground, &crowd, &actor, &vec!["single".to_owned(); ROOMS_PER_SOCKET]).await?;
    drop(crowd);
    node.until_online(1).await?;

    let crowd = Plan::of_rooms(node.addr, "many", N_IN_MANY).open(progress).await?;
    pause(2000).await;
    let rss_before = node.process.rss()?;
    let rooms: Vec<String> = (0..ROOMS_PER_SOCKET).map(|i| format!("of-many{i}")).collect();
    for socket in &crowd.sockets {
        for room in &rooms {
            socket.join_room(room, "everyone").await?;
        }
        socket.until_in_rooms(ROOMS_PER_SOCKET as u64).await?;
    }
    crowd.until_all_know_all(ROOMS_PER_SOCKET * N_IN_MANY, progress).await?;
    pause(2000).await;
    let rss_each = node.process.rss()?.saturating_sub(rss_before) as f64 / 1024.0 / N_IN_MANY as f64;
    let each = visit(ground, &crowd, &actor, &rooms).await?;

    // One room more is refused, and changes nothing.
    let refused = &crowd.sockets[0];
    refused.join_room("one-too-many", "everyone").await?;
    refused.until("`error`", |heard| load(&heard.errors) == 1).await?;
    ensure!(load(&refused.heard.rooms_joined) == ROOMS_PER_SOCKET as u64, "a room too many is refused");
    tally.check_quiet()?;
    drop((crowd, actor));
    node.until_online(0).await?;
    let n_told = 2 * ROOMS_PER_SOCKET * N_IN_MANY;
    Ok(vec![
        Row {
            beside: Some((beside, "in one room")),
            ..row(
                &format!("{N_IN_MANY} sockets in {ROOMS_PER_SOCKET} rooms each, an event in each room"),
                "CPU a delivery",
                Measure(each, "us"),
                format!("{n_told} of {n_told} delivered; room {} is refused", ROOMS_PER_SOCKET + 1),
            )
        },
        row(
            &format!("{ROOMS_PER_SOCKET} rooms of a socket"),
            "RSS each",
            Measure(rss_each, "KiB"),
            format!("each of {N_IN_MANY} sockets knows all {N_IN_MANY} in all {ROOMS_PER_SOCKET} rooms"),
        ),
    ])
}

/// A user enters and leaves each of the rooms. All sockets there hear of it. Returns the CPU time of a delivery, in microseconds.
async fn visit(ground: &Ground<'_>, crowd: &Crowd, actor: &Socket, rooms: &[String]) -> Result<f64> {
    let Ground { progress, node, .. } = ground;
    let step = progress.step("telling events", 2 * rooms.len());
    let (n_joined, n_left) = (load(&actor.heard.rooms_joined), load(&actor.heard.rooms_left));
    let before: Vec<u64> = crowd.sockets.iter().map(|socket| load(&socket.heard.events)).collect();
    let mut due = load(&crowd.tally.events);
    pause(200).await;
    let cpu_from = node.process.cpu()?;
    for (i, room) in rooms.iter().enumerate() {
        actor.join_room(room, "none").await?;
        due += crowd.len() as u64;
        crowd.tally.until_told(due, PATIENCE).await?;
        actor.until_in_rooms(n_joined + i as u64 + 1).await?;
        pause(ALONE_MS).await;
        actor.leave_room(room).await?;
        due += crowd.len() as u64;
        crowd.tally.until_told(due, PATIENCE).await?;
        actor.until_left_rooms(n_left + i as u64 + 1).await?;
        pause(ALONE_MS).await;
        step.advance(2);
    }
    let cpu = node.process.cpu()? - cpu_from;
    for (socket, before) in crowd.sockets.iter().zip(before) {
        let n_heard = load(&socket.heard.events) - before;
        ensure!(n_heard == 2 * rooms.len() as u64, "a socket heard {n_heard} of {} events", 2 * rooms.len());
    }
    crowd.tally.check_quiet()?;
    Ok(us(cpu) / (2 * rooms.len() * crowd.len()) as f64)
}

/// One user has many sockets in a room. Others hear of the first that comes, and of the last that goes.
async fn of_one_user(ground: &Ground<'_>) -> Result<Vec<Row>> {
    const ROOM: &str = "home";
    let Ground { progress, redis, node, .. } = ground;
    let mut plan = Plan::of_rooms(node.addr, "witness", 1);
    plan.room = Some((ROOM, "everyone"));
    let witness = plan.open(progress).await?;
    let mut plan = Plan::of_rooms(node.addr, "owner", N_OF_USER);
    plan.n_users = 1;
    let own = plan.open(progress).await?;
    own.sockets[0].join_room(ROOM, "everyone").await?;
    own.sockets[0].until_in_rooms(1).await?;
    witness.until_all_heard(1).await?;

    let (node_from, redis_from) = (node.process.cpu()?, redis.cpu().await?);
    for socket in &own.sockets[1..] {
        socket.join_room(ROOM, "everyone").await?;
    }
    for socket in &own.sockets {
        socket.until_in_rooms(1).await?;
    }
    let (on_node, on_redis) = (node.process.cpu()? - node_from, redis.cpu().await? - redis_from);
    for socket in &own.sockets {
        let n_known = load(&socket.heard.number);
        ensure!(n_known == 2, "the room shows {n_known}, not the two users who are there");
    }

    // Another comes and goes, of whom all of them hear.
    let tally = Arc::new(Tally::default());
    let actor = Socket::open(&Way::to_rooms(node.addr), 0, Some("actor"), &tally).await?;
    let each = visit(ground, &own, &actor, &vec![ROOM.to_owned(); 10]).await?;
    witness.until_all_heard(1 + 20).await?;

    let (last, others) = own.sockets.split_last().expect("the user has sockets");
    for socket in others {
        socket.leave_room(ROOM).await?;
        socket.until_left_rooms(1).await?;
    }
    // What these departures would tell, if they told something, would have come by now: the other's coming goes the same way.
    actor.join_room(ROOM, "none").await?;
    witness.until_all_heard(1 + 20 + 1).await?;
    last.leave_room(ROOM).await?;
    witness.until_all_heard(1 + 20 + 2).await?;
    last.until_left_rooms(1).await?;
    own.tally.check_quiet()?;
    tally.check_quiet()?;
    drop((own, witness, actor));
    node.until_online(0).await?;

    let workload = format!("a user with {N_OF_USER} sockets in one room");
    let counted = "others heard of the first that came and of the last that went, and of no other".to_owned();
    let n_more = (N_OF_USER - 1) as f64;
    Ok(vec![
        row(&workload, "each further socket, CPU on Redis", Measure(us(on_redis) / n_more, "us"), counted.clone()),
        row(&workload, "each further socket, CPU on the node", Measure(us(on_node) / n_more, "us"), counted.clone()),
        row(
            &workload,
            "an event to all of them, CPU a delivery",
            Measure(each, "us"),
            format!("{n} of {n} delivered", n = 20 * N_OF_USER),
        ),
    ])
}

/// Questions about rooms that do not exist. The node opens none, and keeps nothing of them.
async fn unknown_rooms(ground: &Ground<'_>, n_requests: usize) -> Result<Vec<Row>> {
    let Ground { progress, redis, node, prefix } = ground;
    let request = |i| get_request(&format!("/api/chatroom/nowhere{i}/online-users?userId=asker"));
    let is_right = |body: &[u8]| {
        let has = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
        has(br#""onlineCount":0"#) && has(br#""onlineUsers":[]"#)
    };
    ask_all(node.addr, N_FIRST, N_CONNECTIONS, request, 200, is_right).await?;
    pause(2000).await;
    let gauges = node.room_gauges().await?;
    let (rss_before, memory_before) = (node.process.rss()?, redis.memory().await?);
    let (node_from, redis_from) = (node.process.cpu()?, redis.cpu().await?);
    let started = Instant::now();
    let asking = ask_all(node.addr, n_requests, N_CONNECTIONS, request, 200, is_right);
    progress
        .timed("asking about rooms that do not exist", Duration::from_secs(n_requests as u64 / 5000), asking)
        .await?;
    let took = started.elapsed();
    let (on_node, on_redis) = (node.process.cpu()? - node_from, redis.cpu().await? - redis_from);
    let n_open = redis.n_open_rooms(prefix).await?;
    ensure!(n_open == 0, "{n_open} rooms are open because somebody asked about them");
    // An answer may be kept for a second.
    pause(2000).await;
    let now = node.room_gauges().await?;
    ensure!(now == gauges, "the gauges of rooms were {gauges:?}, and are {now:?}");
    let n_keys = redis.n_room_keys(prefix).await?;
    ensure!(n_keys == 0, "{n_keys} keys of rooms are there because somebody asked about them");
    let grown = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0;
    let counted = format!(
        "{n_requests} answers with 0, {:.0}/s; no room is open, no key is there, gauges are as before; the node grew by {:.0} KiB, Redis by {:.0}",
        n_requests as f64 / took.as_secs_f64(),
        grown(node.process.rss()?, rss_before),
        grown(redis.memory().await?, memory_before),
    );
    let workload = format!("{n_requests} questions over HTTP about rooms that do not exist");
    Ok(vec![
        row(&workload, "CPU each on the node", Measure(us(on_node) / n_requests as f64, "us"), counted.clone()),
        row(&workload, "CPU each on Redis", Measure(us(on_redis) / n_requests as f64, "us"), counted),
    ])
}

/// A figure that is there to be looked at.
fn row(workload: &str, what: &str, measured: Measure, note: String) -> Row {
    Row { workload: format!("{workload}: {what}"), measured, beside: None, target: Target::None, note }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Acquire)
}
