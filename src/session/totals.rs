//! A line of totals in the log, for a reader who has only the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::node::Table;
use crate::replica::Replica;

/// Logs a line such as `5 users, 8 connections` after each interval `every` (`telemetry.totals_ms`), until `stop`. The
/// line counts the users who have a socket on this node, and their sockets. Source: the contract's S4.
pub(crate) async fn log_totals(table: Arc<Table>, replica: Arc<Replica>, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let (n_users, n_sockets) = (table.n_users(), table.n_sockets());
        let n_online = replica.view().roster().len();
        info!(online = n_online, "{n_users} users, {n_sockets} connections");
    }
}
