//! What the certificate, the file limit and the addresses of clients count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::{Counters, Registry};
use crate::domain::Timestamp;

/// The metrics of the certificate of the listener.
pub(crate) struct CertificateMetrics {
    reloads: Counters,
    ends: Gauge,
}

/// The metrics of the file limit.
pub(crate) struct FileMetrics {
    limit: Gauge,
}

/// The metrics of what single addresses may do.
pub(crate) struct AddressMetrics {
    too_many_requests: Counter,
    heads_too_large: Counter,
}

impl CertificateMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            reloads: registry.counters(
                "certificate_reloads",
                "Times the files of the listener's certificate had changed, by result",
                "result",
                ["loaded", "failed"],
            ),
            ends: registry.time(
                "certificate_ends_timestamp",
                "Unix time at which the listener's certificate ends, or 0 without TLS",
            ),
        }
    }

    /// A certificate is used that ends then.
    pub(crate) fn uses(&self, ends_at: Timestamp) {
        self.ends.set(i64::try_from(ends_at.0 / 1000).unwrap_or(i64::MAX));
    }

    /// The files have changed, and the new certificate is used from now on.
    pub(crate) fn reloaded(&self, ends_at: Timestamp) {
        self.reloads.count("loaded");
        self.uses(ends_at);
    }

    /// The files have changed, and cannot be used.
    pub(crate) fn reload_failed(&self) {
        self.reloads.count("failed");
    }
}

impl FileMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self { limit: registry.gauge("open_files_limit", "Files that this process may have open") }
    }

    /// The process may have so many files open.
    pub(crate) fn limit(&self, n_files: u64) {
        self.limit.set(i64::try_from(n_files).unwrap_or(i64::MAX));
    }
}

impl AddressMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self { too_many_requests: registry.limited("requests_per_address"), heads_too_large: registry.limited("head") }
    }

    /// A request was refused because its head is too large (`limits.head_bytes`).
    pub(crate) fn head_too_large(&self) {
        self.heads_too_large.inc();
    }

    /// A request was refused (`limits.http_requests_per_address`).
    pub(crate) fn too_many_requests(&self) {
        self.too_many_requests.inc();
    }
}
