//! What the store counts.

use prometheus_client::metrics::counter::Counter;

use super::Registry;

/// The metrics of the store in Redis.
pub(crate) struct StoreMetrics {
    bad_records: Counter,
}

impl StoreMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            bad_records: registry.counter(
                "bad_records",
                "Records that this node found in Redis, and that no node writes; each is left out",
            ),
        }
    }

    /// The store has a record that no node writes.
    pub(crate) fn bad_record(&self) {
        self.bad_records.inc();
    }
}
