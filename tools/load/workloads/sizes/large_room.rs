//! One room with very many in it, driven at the store. A node opens it for sockets of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{ALONE_MS, Ground, PATIENCE, load, pause, row};
use crate::client::Socket;
use crate::crowd::{Crowd, Plan};
use crate::ghost::Ghost;
use crate::table::{Measure, Row, us};

/// The room.
const ROOM: &str = "large";

/// Sockets on the node that hear of the room.
const N_LISTENERS: usize = 1000;

/// What the ids of the members begin with. By the bytes of their ids, the listeners come after them.
const MEMBER: &str = "member";
const LISTENER: &str = "visitor";

/// Events, one at a time.
const N_EVENTS: usize = 40;

/// Users of a page.
const PAGE: usize = 1000;

pub(super) async fn run(ground: &Ground<'_>, n_members: usize) -> Result<Vec<Row>> {
    let Ground { progress, redis, node, prefix } = ground;
    let mut ghost = Ghost::start(redis, prefix)?;
    let step = progress.step("joining a node without sockets", n_members);
    ghost.join(MEMBER, n_members, false).await?;
    node.until_online(n_members).await?;
    drop(step);
    let (redis_from, started) = (redis.cpu().await?, Instant::now());
    let step = progress.step("entering the room", n_members);
    ghost.enter(ROOM).await?;
    drop(step);
    let (entering, on_redis) = (started.elapsed(), redis.cpu().await? - redis_from);

    let opening = Opening::measure(ground).await?;
    let mut plan = Plan::of_rooms(node.addr, LISTENER, N_LISTENERS);
    plan.room = Some((ROOM, "everyone"));
    let crowd = plan.open(progress).await?;
    let n_shown = n_members + N_LISTENERS;
    // The one who opened the room is there, too.
    crowd.until_all_know_all(n_shown + 1, progress).await?;
    let on_pages = read_pages(ground, &crowd.sockets[0], n_members).await?;
    let on_events = tell(ground, &ghost, &crowd, n_members).await?;
    drop((crowd, opening.first));
    ghost.leave();
    node.until_online(0).await?;

    let workload = format!("one room of {n_members}");
    let n_told = N_EVENTS * N_LISTENERS;
    let each = us(on_events) / n_told as f64;
    Ok(vec![
        row(
            &workload,
            "entering it, CPU each on Redis",
            Measure(us(on_redis) / n_members as f64, "us"),
            format!("{n_members} entered in {entering:.1?}, all of one node without sockets"),
        ),
        row(
            &workload,
            "a node opens it for its first socket",
            Measure(us(opening.took) / 1000.0, "ms"),
            format!("it shows {}; {:.1?} CPU on the node", n_members + 1, opening.cpu),
        ),
        row(
            &workload,
            "RSS of an open room, each member",
            Measure(opening.grown as f64 / n_members as f64, "bytes"),
            "without what the service knows of a user".to_owned(),
        ),
        row(
            &workload,
            "a page of 1 000, CPU each",
            Measure(us(on_pages) / (n_shown as f64 / PAGE as f64), "us"),
            format!("all pages have {} users together, as the room shows", n_shown + 1),
        ),
        row(
            &workload,
            &format!("leave and enter, one at a time, to {N_LISTENERS} listeners, CPU a delivery"),
            Measure(each, "us"),
            format!(
                "{n_told} of {n_told} delivered; extrapolated, an event to {n_members} listeners is {:.2} s of a core",
                each * n_members as f64 / 1e6
            ),
        ),
    ])
}

/// What it took that a node opened the room.
struct Opening {
    first: Crowd,
    took: Duration,
    cpu: Duration,
    /// By how many bytes the node has grown.
    grown: u64,
}

impl Opening {
    async fn measure(ground: &Ground<'_>) -> Result<Self> {
        let node = &ground.node;
        let first = Plan::of_rooms(node.addr, "first", 1).open(ground.progress).await?;
        let socket = &first.sockets[0];
        let (rss_before, cpu_from, started) = (node.process.rss()?, node.process.cpu()?, Instant::now());
        socket.join_room(ROOM, "count").await?;
        socket.until_in_rooms(1).await?;
        let (took, cpu) = (started.elapsed(), node.process.cpu()? - cpu_from);
        // What the reading of the snapshot needed is given back.
        pause(2000).await;
        let grown = node.process.rss()?.saturating_sub(rss_before);
        Ok(Self { first, took, cpu, grown })
    }
}

/// A listener reads all pages. Returns the CPU time of the node.
async fn read_pages(ground: &Ground<'_>, socket: &Socket, n_members: usize) -> Result<Duration> {
    // The one who opened the room comes first, by the bytes of the ids.
    let n_users = n_members + N_LISTENERS + 1;
    let step = ground.progress.step("reading pages", n_users);
    let cpu_from = ground.node.process.cpu()?;
    for n_read in (0..n_users).step_by(PAGE) {
        let cursor = match n_read.checked_sub(2) {
            None => String::new(),
            Some(last) if last < n_members => format!(r#","cursor":"{MEMBER}{last:06}""#),
            Some(last) => format!(r#","cursor":"{LISTENER}{:06}""#, last - n_members),
        };
        let text = format!(r#"{{"type":"get_room_users","roomId":"{ROOM}","limit":{PAGE}{cursor}}}"#);
        socket.send(&text).await?;
        let n_pages = (n_read / PAGE + 1) as u64;
        socket.until("`room_users`", |heard| load(&heard.pages) == n_pages).await?;
        let due = n_users.min(n_read + PAGE);
        let n_listed = load(&socket.heard.listed);
        ensure!(n_listed == due as u64, "{n_pages} pages have {n_listed} users together, not {due}");
        step.reach(n_listed);
    }
    Ok(ground.node.process.cpu()? - cpu_from)
}

/// Members leave the room and come back, and all listeners hear of each. Returns the CPU time of the node.
async fn tell(ground: &Ground<'_>, ghost: &Ghost, crowd: &Crowd, n_members: usize) -> Result<Duration> {
    let step = ground.progress.step("telling events", N_EVENTS);
    let mut due = load(&crowd.tally.events);
    pause(200).await;
    let cpu_from = ground.node.process.cpu()?;
    for i in 0..N_EVENTS {
        // Each who leaves comes back with the next event.
        ghost.move_in_or_out(i / 2 % n_members, ROOM, i.is_multiple_of(2))?;
        due += N_LISTENERS as u64;
        crowd.tally.until_told(due, PATIENCE).await?;
        step.advance(1);
        pause(ALONE_MS).await;
    }
    crowd.tally.check_quiet()?;
    Ok(ground.node.process.cpu()? - cpu_from)
}
