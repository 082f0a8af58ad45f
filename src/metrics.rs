//! What is counted. Each method names one event; who measures does not know how it is kept.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The counters of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    sockets: AtomicI64,
    resyncs: AtomicU64,
    catch_ups: AtomicU64,
    store_errors: AtomicU64,
    fenced: AtomicU64,
    reconciled: AtomicU64,
    swept_sockets: AtomicU64,
    swept_users: AtomicU64,
    slow_consumers: AtomicU64,
}

impl Metrics {
    /// A beat was answered.
    pub fn beat_latency(&self, _latency: Duration) {}

    /// A call on the store failed and the connection is replaced.
    pub fn store_error(&self) {
        self.store_errors.fetch_add(1, Relaxed);
    }

    /// The node found itself fenced.
    pub fn fenced(&self) {
        self.fenced.fetch_add(1, Relaxed);
    }

    /// The store held other sockets than it should.
    pub fn reconciled(&self) {
        self.reconciled.fetch_add(1, Relaxed);
    }

    /// A step of a sweep.
    pub fn swept(&self, n_sockets: u64, n_users: u64) {
        self.swept_sockets.fetch_add(n_sockets, Relaxed);
        self.swept_users.fetch_add(n_users, Relaxed);
    }

    /// The replica filled a gap.
    pub fn caught_up(&self) {
        self.catch_ups.fetch_add(1, Relaxed);
    }

    /// A socket fell off the broadcast log and was told to start over.
    pub fn resync(&self) {
        self.resyncs.fetch_add(1, Relaxed);
    }

    /// A socket was closed because it did not read.
    pub fn slow_consumer(&self) {
        self.slow_consumers.fetch_add(1, Relaxed);
    }

    /// A socket was accepted.
    pub fn socket_opened(&self) {
        self.sockets.fetch_add(1, Relaxed);
    }

    /// A socket is gone.
    pub fn socket_closed(&self) {
        self.sockets.fetch_sub(1, Relaxed);
    }

    /// Sockets open now.
    pub fn n_sockets(&self) -> i64 {
        self.sockets.load(Relaxed)
    }
}
