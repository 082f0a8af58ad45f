//! What typing counts.

use prometheus_client::metrics::counter::Counter;

use super::Registry;

/// The metrics of typing.
#[derive(Clone)]
pub(crate) struct TypingMetrics {
    sent: Counter,
    told: Counter,
    dropped: Counter,
}

impl TypingMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            sent: registry.counter("typing_sent", "Signals that a user types, or has stopped, which this node sent"),
            told: registry.counter("typing_told", "Beginnings and ends of typing of which this node told its clients"),
            dropped: registry.counter("typing_dropped", "Signals about typing that this node could not send or tell"),
        }
    }

    /// A signal was sent.
    pub(crate) fn sent(&self) {
        self.sent.inc();
    }

    /// Clients are told.
    pub(crate) fn told(&self) {
        self.told.inc();
    }

    /// Nobody is told, because too much waits or the store does not answer.
    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }
}
