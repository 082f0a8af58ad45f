//! What the hubs count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Registry;

/// The metrics of the hubs. Each worker has a clone, and all clones count together.
#[derive(Clone)]
pub struct HubMetrics {
    sockets: Gauge,
    watches: Gauge,
    resyncs: Counter,
    writes: Counter,
    frames: Counter,
    bytes: Counter,
}

/// What a worker sent since its last report.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    /// System calls.
    pub n_writes: u64,
    /// WebSocket frames begun.
    pub n_frames: u64,
    /// Bytes, headers included.
    pub n_bytes: u64,
}

impl HubMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            sockets: registry.gauge("sockets", "Sockets open on this node"),
            watches: registry.gauge("watches", "Users watched on this node; a user counts once for each socket"),
            resyncs: registry.counter(
                "resyncs",
                "Sockets that missed events (fell off the broadcast log, or the node skipped some) and started over",
            ),
            writes: registry.counter("writes", "System calls that wrote to sockets"),
            frames: registry.counter("frames", "Frames written to sockets"),
            bytes: registry.counter_of_bytes("sent", "Bytes written to sockets"),
        }
    }

    /// A socket was accepted.
    pub(crate) fn socket_opened(&self) {
        self.sockets.inc();
    }

    /// A socket is gone.
    pub(crate) fn socket_closed(&self) {
        self.sockets.dec();
    }

    /// A socket watches so many users more.
    pub(crate) fn watched(&self, n_users: usize) {
        self.watches.inc_by(n_users as i64);
    }

    /// A socket watches so many users less.
    pub(crate) fn unwatched(&self, n_users: usize) {
        self.watches.dec_by(n_users as i64);
    }

    /// The number of users watched by all sockets together.
    pub(crate) fn n_watches(&self) -> usize {
        usize::try_from(self.watches.get()).unwrap_or_default()
    }

    /// A socket missed events and was told to start over.
    pub(crate) fn resync(&self) {
        self.resyncs.inc();
    }

    /// A worker wrote to its sockets.
    pub(crate) fn sent(&self, sent: Sent) {
        self.writes.inc_by(sent.n_writes);
        self.frames.inc_by(sent.n_frames);
        self.bytes.inc_by(sent.n_bytes);
    }
}
