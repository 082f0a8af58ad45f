//! What the hubs count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::{Counters, Gauges, Registry};

/// The metrics of the hubs. Each worker has a clone, and all clones count together.
#[derive(Clone)]
pub struct HubMetrics {
    sockets: Gauge,
    sockets_by_format: Gauges,
    bulletins: Counters,
    watches: Gauge,
    resyncs: Counter,
    writes: Counter,
    frames: Counter,
    bytes: Counter,
}

/// Whom a bulletin lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BulletinScope {
    /// Everyone.
    Service,
    /// Those in a room.
    Room,
}

impl BulletinScope {
    const ALL: [Self; 2] = [Self::Service, Self::Room];

    fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Room => "room",
        }
    }
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
            sockets_by_format: registry.gauges(
                "sockets_by_format",
                "Sockets open on this node, by the format that the client speaks",
                "format",
            ),
            bulletins: registry.counters(
                "bulletins",
                "Lists told to all clients of a format because they had changed, by scope; each worker thread counts its own",
                "scope",
                BulletinScope::ALL.map(BulletinScope::as_str),
            ),
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

    /// Clients may speak these formats. So each has a number, also if nobody speaks it.
    pub(crate) fn know_formats(&self, formats: impl IntoIterator<Item = &'static str>) {
        formats.into_iter().for_each(|format| drop(self.sockets_by_format.of(format)));
    }

    /// A socket was accepted. It speaks this format.
    pub(crate) fn socket_opened(&self, format: &'static str) {
        self.sockets.inc();
        self.sockets_by_format.of(format).inc();
    }

    /// A socket speaks another format than before.
    pub(crate) fn format_chosen(&self, before: &'static str, after: &'static str) {
        self.sockets_by_format.of(before).dec();
        self.sockets_by_format.of(after).inc();
    }

    /// A socket is gone.
    pub(crate) fn socket_closed(&self, format: &'static str) {
        self.sockets.dec();
        self.sockets_by_format.of(format).dec();
    }

    /// The sockets that are open.
    pub(crate) fn n_sockets(&self) -> u64 {
        u64::try_from(self.sockets.get()).unwrap_or_default()
    }

    /// Those of them that speak this format.
    pub(crate) fn n_sockets_of(&self, format: &'static str) -> u64 {
        u64::try_from(self.sockets_by_format.of(format).get()).unwrap_or_default()
    }

    /// The frames that were written.
    pub(crate) fn n_frames(&self) -> u64 {
        self.frames.get()
    }

    /// A list was told.
    pub(crate) fn bulletin(&self, scope: BulletinScope) {
        self.bulletins.count(scope.as_str());
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
