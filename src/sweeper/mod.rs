//! Takes the users of dead nodes offline. The sweep finds nodes whose lease has ended. The audit finds what no sweep
//! would find.

mod audit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::Reminder;
use crate::domain::NodeId;
use crate::metrics::SweeperMetrics;
use crate::settings::PresenceSettings;
use crate::store::{PresenceStore, Swept, SweptBatch};

pub(crate) use audit::Auditor;

/// Sweeps the peers that died. Every node runs a sweeper, and there is no leader. Each step is atomic in the store, so
/// a sweeper that comes second finds less to do. If a sweeper dies half way, the swept node stays fenced, and any peer
/// goes on.
pub(crate) struct Sweeper {
    store: Arc<dyn PresenceStore>,
    metrics: SweeperMetrics,
    every: Duration,
    lease: Duration,
    /// The nodes whose first batch was swept here, and when each of them died. A node died at its last beat.
    deaths: HashMap<NodeId, Instant>,
    reminder: Reminder,
}

impl Sweeper {
    /// A sweeper for nodes with leases of these settings.
    pub(crate) fn new(store: Arc<dyn PresenceStore>, metrics: SweeperMetrics, presence: &PresenceSettings) -> Self {
        Self {
            store,
            metrics,
            every: presence.sweep,
            lease: presence.lease,
            deaths: HashMap::new(),
            reminder: Reminder::default(),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut unfinished = false;
        loop {
            // Nodes that started together should not all look at the same moment. Between batches Redis serves others.
            let factor = if unfinished { 0.0 } else { rand::rng().random_range(0.75..1.25) };
            tokio::select! {
                () = tokio::time::sleep(self.every.mul_f64(factor)) => {}
                () = stop.cancelled() => return,
            }
            unfinished = match self.store.sweep().await {
                Ok(swept) => {
                    self.reminder.reset();
                    self.metrics.leases(swept.n_leases);
                    self.account_for(&swept);
                    swept.is_unfinished()
                }
                Err(error) => {
                    debug!(error = %error, "Could not sweep");
                    if let Some(seconds) = self.reminder.failed() {
                        warn!(error = %error, "For {seconds} s this node could not sweep");
                    }
                    false
                }
            };
        }
    }

    fn account_for(&mut self, swept: &Swept) {
        for SweptBatch { node, n_sockets, n_users, overdue, finished, .. } in &swept.batches {
            self.metrics.swept(*n_sockets, *n_users);
            if let Some(died_at) = overdue.and_then(|overdue| Instant::now().checked_sub(overdue + self.lease)) {
                self.deaths.insert(*node, died_at);
            }
            if let Some(died_at) = self.deaths.get(node) {
                (0..*n_users).for_each(|_| self.metrics.went_offline(died_at.elapsed()));
            }
            if *finished {
                self.deaths.remove(node);
                info!(node = %node, "Swept node {node}, whose lease had ended");
            }
        }
    }
}
