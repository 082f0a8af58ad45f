//! What the table and the writer count.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Registry;
use crate::domain::Timestamp;

/// The metrics of the table of this node's sockets.
pub struct TableMetrics {
    room_entries: Gauge,
    flaps_suppressed: Counter,
    offline_delay: Histogram,
}

/// The metrics of the writer.
pub struct WriterMetrics {
    beat_latency: Histogram,
    last_beat: Gauge,
    store_errors: Counter,
    fenced: Counter,
    reconciled: Counter,
    reconciled_rooms: Counter,
}

impl TableMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            room_entries: registry.gauge("room_entries", "Rooms of this node's sockets, counted for each socket"),
            flaps_suppressed: registry.counter(
                "flaps_suppressed",
                "Broken sockets whose user was back within the grace, so that nobody heard of them",
            ),
            offline_delay: registry.offline_delay(),
        }
    }

    /// The node has so many entries in rooms.
    pub(crate) fn room_entries(&self, count: usize) {
        self.room_entries.set(count as i64);
    }

    /// A socket's grace ended, and its user is still online.
    pub(crate) fn flap_suppressed(&self) {
        self.flaps_suppressed.inc();
    }

    /// A user was taken offline because a socket died. `delay` is the time from the death to the removal.
    pub(crate) fn went_offline(&self, delay: Duration) {
        self.offline_delay.observe(delay.as_secs_f64());
    }
}

impl WriterMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            beat_latency: registry.latency("beat", "Time from a beat to the store's reply"),
            last_beat: registry.time(
                "last_beat_timestamp",
                "Unix time of the last beat that the store answered, by the clock of this node",
            ),
            store_errors: registry.counter(
                "store_errors",
                "Failures of the connection that carries orders and beats; each replaced the connection",
            ),
            fenced: registry.counter(
                "fenced",
                "Times this node found that its lease had ended, because it was paused or cut off for longer than that",
            ),
            reconciled: registry.counter("reconciled", "Times the store held wrong sockets for this node"),
            reconciled_rooms: registry
                .counter("reconciled_rooms", "Times the store held wrong entries in rooms for this node"),
        }
    }

    /// A beat was answered at `now`.
    pub(crate) fn beat_answered(&self, latency: Duration, now: Timestamp) {
        self.beat_latency.observe(latency.as_secs_f64());
        self.last_beat.set((now.0 / 1000) as i64);
    }

    /// The connection that carries orders and beats failed. It is replaced.
    pub(crate) fn store_error(&self) {
        self.store_errors.inc();
    }

    /// The node found that its lease had ended: nobody knows it any more, or its peers sweep it.
    pub(crate) fn fenced(&self) {
        self.fenced.inc();
    }

    /// The store held wrong sockets for this node.
    pub(crate) fn reconciled(&self) {
        self.reconciled.inc();
    }

    /// The store held wrong entries in rooms for this node.
    pub(crate) fn reconciled_rooms(&self) {
        self.reconciled_rooms.inc();
    }
}
