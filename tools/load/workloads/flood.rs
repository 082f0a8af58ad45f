//! Honest clients beside hostile ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::fanout::{ALONE_MS, N_EVENTS, Stage, Told};
use super::{FLOOD_PREFIX, HARDLY, Lab, pause};
use crate::crowd::{Crowd, Plan};
use crate::hostile;
use crate::http::{get, get_request, pace};
use crate::process::Node;
use crate::progress::Step;
use crate::table::{Measure, Row, Target, quantile, us};

/// Honest sockets. All of them hear each event.
const N_HONEST: usize = 500;

/// Rounds, quiet and flooded by turns.
const N_ROUNDS: usize = 5;

/// Between two honest reads over HTTP.
const READ_EVERY: Duration = Duration::from_millis(10);

/// What the compose file sets, and the defaults of what [`Node::start`] sets higher. The hostile clients come as if
/// through a load balancer: loopback is exempt from limits by address.
const LIMITS: [(&str, &str); 9] = [
    ("ROLLCALL__SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ("ROLLCALL__LIMITS__SOCKETS_PER_ADDRESS", "200"),
    ("ROLLCALL__LIMITS__UPGRADES_PER_ADDRESS", "20"),
    ("ROLLCALL__LIMITS__HTTP_REQUESTS_PER_ADDRESS", "50"),
    ("ROLLCALL__LIMITS__MESSAGES_PER_SECOND", "50"),
    ("ROLLCALL__LIMITS__MESSAGE_BURST", "200"),
    ("ROLLCALL__LIMITS__REQUEST_BURST", "60"),
    ("ROLLCALL__LIMITS__JOINS_PER_SECOND", "2000"),
    ("ROLLCALL__LIMITS__JOIN_QUEUE", "200"),
];

/// What honest clients had to wait.
#[derive(Default)]
struct Waits {
    events: Told,
    reads: Vec<Duration>,
}

pub(super) async fn run(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let node = Node::start(&lab.programs, &lab.redis, FLOOD_PREFIX, "flood", 0, HARDLY, &LIMITS)?;
    node.ready().await?;
    let crowd = Plan::of(node.addr, "listener", N_HONEST).open(lab.progress).await?;
    crowd.until_all_know_all(N_HONEST, lab.progress).await?;
    let (mut quiet, mut flooded) = (Waits::default(), Waits::default());
    let step = lab.progress.step("telling events, quiet and flooded by turns", 2 * N_ROUNDS * N_EVENTS);
    for _ in 0..N_ROUNDS {
        quiet.round(&node, &crowd, &step).await?;
        let hostile = hostile::start(&lab.programs, node.addr)?;
        // They have their first burst behind them then.
        pause(2000).await;
        flooded.round(&node, &crowd, &step).await?;
        drop(hostile);
        pause(1000).await;
    }
    drop(step);
    crowd.tally.check_quiet()?;
    let refused = refusals(&node).await?;
    let hostile = format!("{} sockets and {} HTTP clients that flood", hostile::N_EACH, hostile::N_EACH);
    let events = format!("one event at a time to {N_HONEST} listeners beside {hostile}");
    let target = Target::RatioAtMost(2.0);
    let mut events = flooded.events.time_row(&format!("{events}, 99 %"), 0.99, &quiet.events, "quiet", target);
    events.note = format!("{}; {refused}", events.note);
    let reads = flooded.reads.len();
    Ok(vec![
        events,
        Row {
            workload: format!("a read over HTTP beside {hostile}, 99 %"),
            measured: Measure(p99_ms(&flooded.reads), "ms"),
            beside: Some((p99_ms(&quiet.reads), "quiet")),
            target,
            note: format!("{reads} right answers, and {} quiet ones", quiet.reads.len()),
        },
    ])
}

impl Waits {
    async fn round(&mut self, node: &Node, crowd: &Crowd, step: &Step) -> Result<()> {
        let is_over = AtomicBool::new(false);
        let tell = async {
            let told = Stage::of(node, crowd).await?.tell(N_EVENTS, ALONE_MS, step).await;
            is_over.store(true, Ordering::Release);
            told
        };
        let request = get_request("/api/online-users?countOnly=true");
        let (told, reads) = tokio::join!(tell, pace(node.addr, &request, READ_EVERY, &is_over));
        self.events.add(told?);
        self.reads.append(&mut reads?);
        self.reads.sort_unstable();
        Ok(())
    }
}

fn p99_ms(times: &[Duration]) -> f64 {
    us(quantile(times, 0.99)) / 1000.0
}

/// What the node has refused.
async fn refusals(node: &Node) -> Result<String> {
    let metrics = get(node.addr, "/metrics").await?.body;
    let count = |sample: &str| -> Result<u64> {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(sample)).with_context(|| format!("no {sample}"))?;
        Ok(line.trim().parse()?)
    };
    Ok(format!(
        "refused: {} messages, {} requests, {} handshakes, {} over HTTP",
        count("rollcall_limited_total{limit=\"messages\"}")?,
        count("rollcall_limited_total{limit=\"requests\"}")?,
        count("rollcall_refused_total{reason=\"address_busy\"}")?,
        count("rollcall_limited_total{limit=\"requests_per_address\"}")?,
    ))
}
