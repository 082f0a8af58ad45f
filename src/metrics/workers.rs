//! What the worker threads count of themselves.

use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{Histograms, Registry};

/// The metrics of the worker threads.
#[derive(Clone)]
pub(crate) struct WorkerMetrics {
    delays: Histograms,
}

/// The metrics of one worker thread.
pub(crate) struct OneWorkerMetrics {
    delay: Histogram,
}

/// From 1 ms to about 4 s. A worker that is never later than a few ms is not busy.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 13))
}

impl WorkerMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let help = "How much later than it asked for a task of a worker thread had its turn, by worker";
        Self { delays: registry.latencies("worker_delay", help, buckets) }
    }

    /// Those of the worker with this number.
    pub(crate) fn of(&self, worker: usize) -> OneWorkerMetrics {
        OneWorkerMetrics { delay: self.delays.get_or_create(&[("worker", worker.to_string())]).clone() }
    }
}

impl OneWorkerMetrics {
    /// A turn came so much too late.
    pub(crate) fn delayed(&self, delay: Duration) {
        self.delay.observe(delay.as_secs_f64());
    }
}
