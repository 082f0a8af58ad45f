//! What is counted. Each method names one event; who measures does not know how it is kept.
//!
//! One registry a node, so that several nodes in one process (the tests) do not add up. The table of names and units is in
//! `docs/operations.md`; `tests/it/metrics.rs` compares the two.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::{Change, OfflineReason};

/// The metrics of one node.
pub struct Metrics {
    registry: Registry,
    sockets: Gauge,
    users: Gauge,
    joins: Counter,
    leaves: Family<Label, Counter>,
    transitions: Family<Label, Counter>,
    offline: Family<Label, Counter>,
    catch_ups: Family<Label, Counter>,
    resyncs: Counter,
    slow_consumers: Counter,
    beat_latency: Histogram,
    replica_lag: Histogram,
    offline_delay: Histogram,
    ghosts_mended: Counter,
    bad_records: Counter,
    flaps_suppressed: Counter,
    degraded_seconds: Counter<f64, AtomicU64>,
    store_errors: Counter,
    fenced: Counter,
    reconciled: Counter,
    swept_sockets: Counter,
    swept_users: Counter,
    refused: Family<Label, Counter>,
    limited: Family<Label, Counter>,
    writes: Counter,
    frames: Counter,
    bytes: Counter,
}

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

/// Where a catch-up read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUpSource {
    /// The store's log.
    Log,
    /// A snapshot.
    Snapshot,
}

/// Why a socket was refused at the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBecause {
    /// `server.max_sockets`.
    Full,
    /// `limits.joins_per_second` and `limits.join_queue`.
    Busy,
    /// The node drains.
    Draining,
}

/// What a client asked too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.requests_per_second` and `limits.request_burst`: a request was refused.
    Requests,
    /// `limits.sockets_per_user`: a join was refused.
    SocketsPerUser,
    /// `limits.answers_bytes`: a list was refused, or the first one of a socket shortened.
    Answers,
    /// `server.max_http_connections`: a connection was closed.
    Connections,
    /// `server.write_timeout_ms`: a connection was closed.
    WriteTimeout,
    /// `server.request_timeout_ms`: a connection was closed.
    RequestTimeout,
}

impl Limit {
    const ALL: [Self; 6] = [
        Self::Requests,
        Self::SocketsPerUser,
        Self::Answers,
        Self::Connections,
        Self::WriteTimeout,
        Self::RequestTimeout,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::SocketsPerUser => "sockets_per_user",
            Self::Answers => "answers",
            Self::Connections => "connections",
            Self::WriteTimeout => "write_timeout",
            Self::RequestTimeout => "request_timeout",
        }
    }
}

impl CatchUpSource {
    fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }
}

impl RefusedBecause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Draining => "draining",
        }
    }
}

/// What a worker sent since it last said so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// System calls.
    pub n_writes: u64,
    /// WebSocket frames begun.
    pub n_frames: u64,
    /// Bytes, headers included.
    pub n_bytes: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rollcall");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        // From 1 ms to about 16 s; from 1 ms to about 65 s for deaths, which wait out a lease.
        let latency = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            sockets: Gauge::default(),
            users: Gauge::default(),
            joins: Counter::default(),
            leaves: Family::default(),
            transitions: Family::default(),
            offline: Family::default(),
            catch_ups: Family::default(),
            resyncs: Counter::default(),
            slow_consumers: Counter::default(),
            beat_latency: latency(),
            replica_lag: latency(),
            offline_delay: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            ghosts_mended: Counter::default(),
            bad_records: Counter::default(),
            flaps_suppressed: Counter::default(),
            degraded_seconds: Counter::default(),
            store_errors: Counter::default(),
            fenced: Counter::default(),
            reconciled: Counter::default(),
            swept_sockets: Counter::default(),
            swept_users: Counter::default(),
            refused: Family::default(),
            limited: Family::default(),
            writes: Counter::default(),
            frames: Counter::default(),
            bytes: Counter::default(),
            registry,
        };
        metrics.registered().with_all_labels()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let sub =
            |registry: &mut Registry, name: &str, help: &str, metric: Counter| registry.register(name, help, metric);
        registry.register("sockets", "Sockets open on this node", self.sockets.clone());
        registry.register("users", "Users online, as this node tells it", self.users.clone());
        sub(registry, "joins", "Sockets that joined on this node", self.joins.clone());
        registry.register("leaves", "Sockets that ended on this node, by reason", self.leaves.clone());
        registry.register("transitions", "Changes told by this node, by kind", self.transitions.clone());
        registry.register("offline", "Users told to be offline by this node, by reason", self.offline.clone());
        registry.register("catch_ups", "Gaps filled, by what was read", self.catch_ups.clone());
        sub(registry, "resyncs", "Sockets that fell off the broadcast log and started over", self.resyncs.clone());
        sub(registry, "slow_consumers", "Sockets closed because they did not read", self.slow_consumers.clone());
        let histograms = [
            ("beat", "Time from a beat to its reply", &self.beat_latency),
            ("replica_lag", "Time from a transition's decision to its application here", &self.replica_lag),
            ("offline_delay", "Time from a socket's death to its removal from the store", &self.offline_delay),
        ];
        for (name, help, histogram) in histograms {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        sub(registry, "ghosts_mended", "Users found without a living socket, and mended", self.ghosts_mended.clone());
        sub(registry, "bad_records", "Records found in Redis that no node writes", self.bad_records.clone());
        sub(
            registry,
            "flaps_suppressed",
            "Broken sockets whose user was back within the grace",
            self.flaps_suppressed.clone(),
        );
        registry.register_with_unit(
            "degraded",
            "Time in which the view may have been out of date",
            Unit::Seconds,
            self.degraded_seconds.clone(),
        );
        sub(registry, "store_errors", "Calls on the store whose outcome is unknown", self.store_errors.clone());
        sub(registry, "fenced", "Times this node found itself swept", self.fenced.clone());
        sub(
            registry,
            "reconciled",
            "Times the store held other sockets for this node than it should",
            self.reconciled.clone(),
        );
        sub(registry, "swept_sockets", "Sockets of dead nodes removed by this node", self.swept_sockets.clone());
        sub(registry, "swept_users", "Users of dead nodes taken offline by this node", self.swept_users.clone());
        registry.register("refused", "Sockets refused at the upgrade, by reason", self.refused.clone());
        registry.register(
            "limited",
            "What was refused because a client asked for too much, by limit",
            self.limited.clone(),
        );
        sub(registry, "writes", "Writes to sockets", self.writes.clone());
        sub(registry, "frames", "Frames written to sockets", self.frames.clone());
        registry.register_with_unit("sent", "Bytes written to sockets", Unit::Bytes, self.bytes.clone());
        self
    }

    /// Makes every series exist from the start: an alert on an increase misses the first one otherwise.
    fn with_all_labels(self) -> Self {
        for reason in OfflineReason::ALL {
            drop(self.offline.get_or_create(&[("reason", reason.as_str())]));
        }
        for reason in [OfflineReason::Left, OfflineReason::ConnectionLost, OfflineReason::TimedOut] {
            drop(self.leaves.get_or_create(&[("reason", reason.as_str())]));
        }
        for kind in ["online", "changed", "offline"] {
            drop(self.transitions.get_or_create(&[("kind", kind)]));
        }
        for source in [CatchUpSource::Log, CatchUpSource::Snapshot] {
            drop(self.catch_ups.get_or_create(&[("from", source.as_str())]));
        }
        for because in [RefusedBecause::Full, RefusedBecause::Busy, RefusedBecause::Draining] {
            drop(self.refused.get_or_create(&[("reason", because.as_str())]));
        }
        for limit in Limit::ALL {
            drop(self.limited.get_or_create(&[("limit", limit.as_str())]));
        }
        self
    }

    /// All metrics in the text format of OpenMetrics. `n_users` is the number of users online now.
    pub fn encode(&self, n_users: usize) -> String {
        self.users.set(n_users as i64);
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry).expect("writing to memory cannot fail");
        encoded
    }

    /// A socket joined.
    pub fn joined(&self) {
        self.joins.inc();
    }

    /// A joined socket ended.
    pub fn left(&self, reason: OfflineReason) {
        self.leaves.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// A change was told.
    pub fn told(&self, change: &Change) {
        let kind = match change {
            Change::Online(_) => "online",
            Change::Changed(_) => "changed",
            Change::Offline(reason) => {
                self.offline.get_or_create(&[("reason", reason.as_str())]).inc();
                "offline"
            }
        };
        self.transitions.get_or_create(&[("kind", kind)]).inc();
    }

    /// A transition was applied so long after its decision.
    pub fn applied(&self, lag: Duration) {
        self.replica_lag.observe(lag.as_secs_f64());
    }

    /// The replica filled a gap.
    pub fn caught_up(&self, source: CatchUpSource) {
        self.catch_ups.get_or_create(&[("from", source.as_str())]).inc();
    }

    /// The view was degraded so long.
    pub fn degraded_for(&self, duration: Duration) {
        self.degraded_seconds.inc_by(duration.as_secs_f64());
    }

    /// A beat was answered.
    pub fn beat_latency(&self, latency: Duration) {
        self.beat_latency.observe(latency.as_secs_f64());
    }

    /// A call on the store failed and the connection is replaced.
    pub fn store_error(&self) {
        self.store_errors.inc();
    }

    /// The node found itself fenced.
    pub fn fenced(&self) {
        self.fenced.inc();
    }

    /// The store held other sockets than it should.
    pub fn reconciled(&self) {
        self.reconciled.inc();
    }

    /// A step of a sweep.
    pub fn swept(&self, n_sockets: u64, n_users: u64) {
        self.swept_sockets.inc_by(n_sockets);
        self.swept_users.inc_by(n_users);
    }

    /// A user whose socket died was taken offline so long after.
    pub fn went_offline(&self, delay: Duration) {
        self.offline_delay.observe(delay.as_secs_f64());
    }

    /// A socket's grace ended with its user still online.
    pub fn flap_suppressed(&self) {
        self.flaps_suppressed.inc();
    }

    /// The audit mended a ghost.
    pub fn ghost_mended(&self) {
        self.ghosts_mended.inc();
    }

    /// A record was found in the store that no node writes.
    pub fn bad_record(&self) {
        self.bad_records.inc();
    }

    /// A socket fell off the broadcast log and was told to start over.
    pub fn resync(&self) {
        self.resyncs.inc();
    }

    /// A socket was closed because it did not read.
    pub fn slow_consumer(&self) {
        self.slow_consumers.inc();
    }

    /// A socket was refused.
    pub fn refused(&self, because: RefusedBecause) {
        self.refused.get_or_create(&[("reason", because.as_str())]).inc();
    }

    /// A client asked for too much.
    pub fn limited(&self, limit: Limit) {
        self.limited.get_or_create(&[("limit", limit.as_str())]).inc();
    }

    /// A socket was accepted.
    pub fn socket_opened(&self) {
        self.sockets.inc();
    }

    /// A socket is gone.
    pub fn socket_closed(&self) {
        self.sockets.dec();
    }

    /// A worker wrote to its sockets.
    pub fn sent(&self, sent: Sent) {
        self.writes.inc_by(sent.n_writes);
        self.frames.inc_by(sent.n_frames);
        self.bytes.inc_by(sent.n_bytes);
    }
}
