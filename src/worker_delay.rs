//! How late the tasks of a worker thread have their turn. A worker that does too much at once delays all its sockets.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::metrics::OneWorkerMetrics;

/// How often a worker is asked. Four times a second cost next to nothing, and see each delay that a person would notice.
const EVERY: Duration = Duration::from_millis(250);

/// Measures the worker thread on which it runs, until that ends.
pub(crate) async fn measure(metrics: OneWorkerMetrics) {
    loop {
        let due = Instant::now() + EVERY;
        sleep_until(due).await;
        metrics.delayed(due.elapsed());
    }
}
