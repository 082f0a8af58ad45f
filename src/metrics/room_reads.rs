//! What the reads of rooms count.

use prometheus_client::metrics::counter::Counter;

use super::Registry;

/// The metrics of the reads of rooms that are not open here.
pub(crate) struct RoomReadMetrics {
    too_many: Counter,
}

impl RoomReadMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self { too_many: registry.limited("room_reads") }
    }

    /// A question about a room was refused, because too many rooms are being read.
    pub(crate) fn too_many_reads(&self) {
        self.too_many.inc();
    }
}
