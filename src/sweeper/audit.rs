//! The backstop: users who count as online without a living socket.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::backoff::Reminder;
use crate::metrics::AuditorMetrics;
use crate::store::PresenceStore;

/// Looks for ghosts. A ghost is a user who counts as online without keys, or with a socket of a node that does not
/// exist. No ghost should ever be there. If two audits in a row find a ghost, it is mended, counted and logged.
///
/// One audit is not enough. If the keys of a socket were deleted, its owner asserts it again within one audit interval
/// (`node::Refresher`). Every node runs an auditor, and the store lets one of them audit for all.
pub(crate) struct Auditor {
    store: Arc<dyn PresenceStore>,
    metrics: AuditorMetrics,
    every: Duration,
}

impl Auditor {
    /// An auditor that looks once in each interval `every` (`presence.audit_ms`).
    pub(crate) fn new(store: Arc<dyn PresenceStore>, metrics: AuditorMetrics, every: Duration) -> Self {
        Self { store, metrics, every }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut reminder = Reminder::default();
        loop {
            // This is longer than the store's own pause between two audits. So for a node that is alone, that pause is
            // over.
            let pause = self.every.mul_f64(rand::rng().random_range(1.1..1.35));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            match self.store.audit().await {
                Ok(audited) => {
                    reminder.reset();
                    for user in audited.mended {
                        // The text of an id may turn around what stands beside it.
                        let user = user.as_str();
                        warn!(user.id = ?user, "User {user:?} was online without a living socket: mended");
                        self.metrics.ghost_mended();
                    }
                }
                Err(error) => {
                    debug!(error = %error, "Could not audit");
                    if let Some(seconds) = reminder.failed() {
                        warn!(error = %error, "For {seconds} s this node could not audit");
                    }
                }
            }
        }
    }
}
