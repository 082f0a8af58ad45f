//! What the sweeper and the auditor count.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Registry;

/// The metrics of the sweeper.
pub(crate) struct SweeperMetrics {
    leases: Gauge,
    sockets: Counter,
    users: Counter,
    offline_delay: Histogram,
}

/// The metrics of the auditor.
pub(crate) struct AuditorMetrics {
    ghosts_mended: Counter,
}

impl SweeperMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            leases: registry.gauge("leases", "Nodes that this node sees alive, itself among them"),
            sockets: registry.counter("swept_sockets", "Sockets of dead and drained nodes that this node removed"),
            users: registry.counter("swept_users", "Users of dead and drained nodes that this node took offline"),
            offline_delay: registry.offline_delay(),
        }
    }

    /// So many nodes have a good lease.
    pub(crate) fn leases(&self, count: usize) {
        self.leases.set(count as i64);
    }

    /// A step of a sweep.
    pub(crate) fn swept(&self, n_sockets: u64, n_users: u64) {
        self.sockets.inc_by(n_sockets);
        self.users.inc_by(n_users);
    }

    /// A user of a dead node was taken offline. `delay` is the time since the node's death.
    pub(crate) fn went_offline(&self, delay: Duration) {
        self.offline_delay.observe(delay.as_secs_f64());
    }
}

impl AuditorMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            ghosts_mended: registry.counter("ghosts_mended", "Users found online without a living socket, and mended"),
        }
    }

    /// The audit mended a ghost.
    pub(crate) fn ghost_mended(&self) {
        self.ghosts_mended.inc();
    }
}
