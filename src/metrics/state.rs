//! How the node is at the moment of a scrape.

use prometheus_client::metrics::gauge::Gauge;

use super::Registry;

/// How the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeState {
    /// Users online now.
    pub n_users: usize,
    /// Whether clients may be sent to the node.
    pub is_ready: bool,
    /// Whether answers may be out of date.
    pub is_degraded: bool,
    /// Whether the node tells no departures yet.
    pub is_holding: bool,
    /// Whether the node shuts down.
    pub is_draining: bool,
}

/// The gauges of it.
pub(super) struct StateMetrics {
    users: Gauge,
    ready: Gauge,
    degraded: Gauge,
    holding: Gauge,
    draining: Gauge,
}

impl StateMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            users: registry.gauge("users", "Users online, as this node tells it"),
            ready: registry.gauge("ready", "1 while clients may be sent to this node, as /readyz says"),
            degraded: registry.gauge("degraded", "1 while the answers of this node may be out of date"),
            holding: registry.gauge("holding", "1 while this node tells no departures, because others may come back"),
            draining: registry.gauge("draining", "1 while this node shuts down"),
        }
    }

    pub(super) fn set(&self, state: NodeState) {
        self.users.set(state.n_users as i64);
        for (gauge, is_so) in [
            (&self.ready, state.is_ready),
            (&self.degraded, state.is_degraded),
            (&self.holding, state.is_holding),
            (&self.draining, state.is_draining),
        ] {
            gauge.set(i64::from(is_so));
        }
    }
}
