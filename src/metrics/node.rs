//! What the table and the writer count.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Registry;

/// The metrics of the table of this node's sockets.
pub struct TableMetrics {
    flaps_suppressed: Counter,
    offline_delay: Histogram,
}

/// The metrics of the writer.
pub struct WriterMetrics {
    beat_latency: Histogram,
    store_errors: Counter,
    fenced: Counter,
    reconciled: Counter,
}

impl TableMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            flaps_suppressed: registry
                .counter("flaps_suppressed", "Broken sockets whose user was back within the grace"),
            offline_delay: registry.offline_delay(),
        }
    }

    /// A socket's grace ended with its user still online.
    pub(crate) fn flap_suppressed(&self) {
        self.flaps_suppressed.inc();
    }

    /// A user whose socket died was taken offline so long after.
    pub(crate) fn went_offline(&self, delay: Duration) {
        self.offline_delay.observe(delay.as_secs_f64());
    }
}

impl WriterMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            beat_latency: registry.latency("beat", "Time from a beat to its reply"),
            store_errors: registry.counter("store_errors", "Calls on the store whose outcome is unknown"),
            fenced: registry.counter("fenced", "Times this node found itself swept"),
            reconciled: registry
                .counter("reconciled", "Times the store held other sockets for this node than it should"),
        }
    }

    /// A beat was answered.
    pub(crate) fn beat_latency(&self, latency: Duration) {
        self.beat_latency.observe(latency.as_secs_f64());
    }

    /// A call on the store failed and the connection is replaced.
    pub(crate) fn store_error(&self) {
        self.store_errors.inc();
    }

    /// The node found itself fenced.
    pub(crate) fn fenced(&self) {
        self.fenced.inc();
    }

    /// The store held other sockets than it should.
    pub(crate) fn reconciled(&self) {
        self.reconciled.inc();
    }
}
