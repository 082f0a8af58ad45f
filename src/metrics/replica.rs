//! What the replica counts.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{Counters, Registry};
use crate::domain::{OfflineReason, Told};

/// The metrics of the replica.
pub struct ReplicaMetrics {
    transitions: Counters,
    offline: Counters,
    catch_ups: Counters,
    lag: Histogram,
    degraded_seconds: Counter<f64, AtomicU64>,
    /// What is counted of the time that is not over, in seconds.
    degraded_so_far: Mutex<f64>,
    rooms_open: Gauge,
    room_snapshots: Counter,
}

/// Where a catch-up read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUpSource {
    /// The store's log.
    Log,
    /// A snapshot.
    Snapshot,
}

impl CatchUpSource {
    const ALL: [Self; 2] = [Self::Log, Self::Snapshot];

    fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }
}

impl ReplicaMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let (kinds, reasons) = (Told::KINDS, OfflineReason::ALL.map(OfflineReason::as_str));
        let sources = CatchUpSource::ALL.map(CatchUpSource::as_str);
        Self {
            transitions: registry.counters("transitions", "Changes told by this node, by kind", "kind", kinds),
            offline: registry.counters(
                "offline",
                "Users that this node told to be offline, by reason",
                "reason",
                reasons,
            ),
            catch_ups: registry.counters(
                "catch_ups",
                "Gaps that were filled, from the store's log or from a snapshot",
                "from",
                sources,
            ),
            lag: registry.latency(
                "replica_lag",
                "Time from a transition's decision in the store to its application here, by the two clocks",
            ),
            degraded_seconds: registry.counter_of_seconds(
                "degraded",
                "Time in which the view may have been out of date, counted as it passes",
            ),
            degraded_so_far: Mutex::default(),
            rooms_open: registry.gauge("rooms_open", "Rooms that this node follows"),
            room_snapshots: registry.counter("room_snapshots", "Snapshots of rooms that this node read"),
        }
    }

    /// A change was told.
    pub(crate) fn told(&self, told: &Told) {
        if let Told::Offline(departure) = told {
            self.offline.count(departure.reason.as_str());
        }
        self.transitions.count(told.kind());
    }

    /// How many changes were told.
    pub(crate) fn n_told(&self) -> u64 {
        self.transitions.sum(Told::KINDS)
    }

    /// A transition was applied. `lag` is the time since its decision.
    pub(crate) fn applied(&self, lag: Duration) {
        self.lag.observe(lag.as_secs_f64());
    }

    /// The replica filled a gap.
    pub(crate) fn caught_up(&self, source: CatchUpSource) {
        self.catch_ups.count(source.as_str());
    }

    /// The view was degraded for this long, and is not any more.
    pub(crate) fn was_degraded_for(&self, duration: Duration) {
        self.count_degraded(duration);
        *self.so_far() = 0.0;
    }

    /// The view has been degraded for this long, and still is.
    pub(crate) fn is_degraded_for(&self, duration: Duration) {
        *self.so_far() = self.count_degraded(duration);
    }

    /// Counts what was not counted yet. Returns what is counted of the whole.
    fn count_degraded(&self, duration: Duration) -> f64 {
        let (so_far, whole) = (*self.so_far(), duration.as_secs_f64());
        self.degraded_seconds.inc_by((whole - so_far).max(0.0));
        whole.max(so_far)
    }

    fn so_far(&self) -> MutexGuard<'_, f64> {
        self.degraded_so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many rooms are open.
    pub(crate) fn rooms_open(&self, n_rooms: usize) {
        self.rooms_open.set(n_rooms as i64);
    }

    /// The snapshot of a room was read.
    pub(crate) fn room_read(&self) {
        self.room_snapshots.inc();
    }
}
