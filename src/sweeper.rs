//! Finds nodes whose lease has run out and takes their users offline.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::metrics::Metrics;
use crate::store::PresenceStore;

/// Sweeps for peers that died. Every node runs one; there is no leader, for a step is atomic in the store and whoever comes
/// second finds less to do. A sweeper that dies half way leaves the node fenced, and any peer goes on.
pub struct Sweeper {
    store: Arc<dyn PresenceStore>,
    metrics: Arc<Metrics>,
    every: Duration,
}

impl Sweeper {
    /// A sweeper that looks `every` so often (`presence.sweep_ms`).
    pub fn new(store: Arc<dyn PresenceStore>, metrics: Arc<Metrics>, every: Duration) -> Self {
        Self { store, metrics, every }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut more = false;
        loop {
            // Nodes that started together should not all look at the same moment. Between batches Redis serves others.
            let factor = if more { 0.0 } else { rand::rng().random_range(0.75..1.25) };
            tokio::select! {
                () = tokio::time::sleep(self.every.mul_f64(factor)) => {}
                () = stop.cancelled() => return,
            }
            more = match self.store.sweep().await {
                Ok(swept) => {
                    for node in &swept.nodes {
                        info!(node = %node, "Swept node {node}, whose lease had run out");
                    }
                    self.metrics.swept(swept.n_sockets, swept.n_users);
                    swept.more
                }
                Err(error) => {
                    debug!(error = %error, "Could not sweep: {error}");
                    false
                }
            };
        }
    }
}
