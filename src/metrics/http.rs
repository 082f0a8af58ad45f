//! What the HTTP connections and the bodies of requests count.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{Histograms, Registry};

/// The metrics of the plain HTTP connections.
pub(crate) struct ConnectionMetrics {
    too_many: Counter,
    write_timeouts: Counter,
    request_timeouts: Counter,
    proxy_headers: Counter,
    tls_handshakes: Counter,
}

/// The metrics of the requests.
#[derive(Clone)]
pub(crate) struct RequestMetrics {
    durations: Histograms,
    /// All requests together. The histograms count them as well, and do not say how many there are.
    answered: Counter,
}

/// The metrics of the requests for one resource.
#[derive(Clone)]
pub(crate) struct ResourceMetrics {
    durations: Histogram,
    answered: Counter,
}

/// The metrics of the bodies that are being read.
pub(crate) struct BodyMetrics {
    too_many: Counter,
}

impl ConnectionMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            too_many: registry.limited("connections"),
            write_timeouts: registry.limited("write_timeout"),
            request_timeouts: registry.limited("request_timeout"),
            proxy_headers: registry.limited("proxy_header"),
            tls_handshakes: registry.limited("tls_handshake"),
        }
    }

    /// A connection was closed because there are too many (`server.max_http_connections`).
    pub(crate) fn too_many(&self) {
        self.too_many.inc();
    }

    /// A connection was closed because its client did not read (`server.write_timeout_ms`).
    pub(crate) fn write_timed_out(&self) {
        self.write_timeouts.inc();
    }

    /// A connection was closed because it got no further answer (`server.request_timeout_ms`).
    pub(crate) fn request_timed_out(&self) {
        self.request_timeouts.inc();
    }

    /// A connection was closed because its PROXY header was none, or did not come in time.
    pub(crate) fn proxy_header_failed(&self) {
        self.proxy_headers.inc();
    }

    /// A connection was closed because its TLS handshake failed, or took too long.
    pub(crate) fn tls_handshake_failed(&self) {
        self.tls_handshakes.inc();
    }
}

/// From 0.1 ms to about 6.6 s. An answer from memory takes less than the first of these.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 9))
}

impl RequestMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let help = "Time from a request to its answer, by resource; sockets and what waits for news are not among them";
        Self { durations: registry.latencies("http_request_duration", help, buckets), answered: Counter::default() }
    }

    /// Those of one resource.
    pub(crate) fn of(&self, resource: &str) -> ResourceMetrics {
        let durations = self.durations.get_or_create(&[("resource", resource.to_owned())]).clone();
        ResourceMetrics { durations, answered: self.answered.clone() }
    }

    /// How many requests were answered.
    pub(crate) fn n_answered(&self) -> u64 {
        self.answered.get()
    }
}

impl ResourceMetrics {
    /// A request was answered.
    pub(crate) fn answered(&self, duration: Duration) {
        self.answered.inc();
        self.durations.observe(duration.as_secs_f64());
    }
}

impl BodyMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self { too_many: registry.limited("bodies") }
    }

    /// A request was refused because too many bodies are being read (`limits.bodies_bytes`).
    pub(crate) fn too_many(&self) {
        self.too_many.inc();
    }
}
