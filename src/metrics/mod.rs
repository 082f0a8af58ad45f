//! What is counted. Each part that counts has a struct, and registers it. Each method of the struct names one event. The
//! part does not know how the event is counted.
//!
//! Each node has a registry of its own. So several nodes in one process (the tests) do not add up. The table of names and
//! units is in `docs/operations.md`. `tests/it/metrics.rs` compares the names.

mod auth;
mod http;
mod hub;
mod node;
mod peers;
mod process;
mod replica;
mod room_reads;
mod session;
mod socketio;
mod state;
mod store;
mod sweeper;
mod transport;
mod typing;
mod workers;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry as Families, Unit};

pub(crate) use self::auth::{AuthMetrics, TokenOutcome};
pub(crate) use self::http::{BodyMetrics, ConnectionMetrics, RequestMetrics, ResourceMetrics};
pub use self::hub::HubMetrics;
pub(crate) use self::hub::{BulletinScope, Sent};
pub use self::node::{TableMetrics, WriterMetrics};
pub(crate) use self::peers::PeerMetrics;
use self::process::ProcessCollector;
pub(crate) use self::replica::CatchUpSource;
pub use self::replica::ReplicaMetrics;
pub(crate) use self::room_reads::RoomReadMetrics;
pub(crate) use self::session::{AdmissionMetrics, AnswerMetrics, RefusedBecause, SessionMetrics};
pub(crate) use self::socketio::{SocketioMetrics, UpgradeOutcome};
pub(crate) use self::state::NodeState;
use self::state::StateMetrics;
pub(crate) use self::store::StoreMetrics;
pub(crate) use self::sweeper::{AuditorMetrics, SweeperMetrics};
pub(crate) use self::transport::{AddressMetrics, CertificateMetrics, FileMetrics};
pub(crate) use self::typing::TypingMetrics;
pub(crate) use self::workers::{OneWorkerMetrics, WorkerMetrics};

/// All metrics of one node.
pub struct Registry {
    families: Families,
    /// Those of the process. Their names have no prefix of ours.
    process: Families,
    state: Option<StateMetrics>,
    limited: Counters,
    offline_delay: Histogram,
}

/// A counter for each value of one label.
#[derive(Clone)]
struct Counters {
    label: &'static str,
    family: Family<Label, Counter>,
}

/// A gauge for each value of one label.
#[derive(Clone)]
struct Gauges {
    label: &'static str,
    family: Family<Label, Gauge>,
}

/// A histogram for each value of one label. A value may be made while the node runs.
type Histograms = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

impl Default for Registry {
    /// A registry with the metrics that belong to no part, or to several parts. Each part adds its own.
    fn default() -> Self {
        let mut families = Families::with_prefix("rollcall");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        families.register("build", "The version that runs", build);
        let limited = Counters::new("limit");
        families.register(
            "limited",
            "Refused because a client asked for too much, or closed because it did not read or finish, by limit",
            limited.family.clone(),
        );
        // From 1 ms to about 65 s: a user of a dead node goes offline after a lease.
        let offline_delay = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        families.register_with_unit(
            "offline_delay",
            "Time from a socket's death to its removal from the store",
            Unit::Seconds,
            offline_delay.clone(),
        );
        let mut process = Families::default();
        process.register_collector(Box::new(ProcessCollector));
        let mut registry = Self { families, process, state: None, limited, offline_delay };
        registry.state = Some(StateMetrics::new(&mut registry));
        registry
    }
}

impl Registry {
    /// All metrics in the text format of OpenMetrics. `state` is how the node is now.
    pub(crate) fn encode(&self, state: NodeState) -> String {
        if let Some(metrics) = &self.state {
            metrics.set(state);
        }
        let mut encoded = String::new();
        let families = [&self.families, &self.process];
        let written = families.into_iter().try_for_each(|families| text::encode_registry(&mut encoded, families));
        written.and_then(|()| text::encode_eof(&mut encoded)).expect("writing to memory cannot fail");
        encoded
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn counter_of_bytes(&mut self, name: &str, help: &str) -> Counter {
        self.add_with_unit(name, help, Unit::Bytes, Counter::default())
    }

    fn counter_of_seconds(&mut self, name: &str, help: &str) -> Counter<f64, AtomicU64> {
        self.add_with_unit(name, help, Unit::Seconds, Counter::default())
    }

    /// Counters for these values of a label. All are there from the start. Otherwise an alert on an increase would miss
    /// the first one.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> Counters {
        let counters = Counters::new(label);
        values.into_iter().for_each(|value| drop(counters.of(value)));
        self.families.register(name, help, counters.family.clone());
        counters
    }

    /// A gauge for each value of a label.
    fn gauges(&mut self, name: &str, help: &str, label: &'static str) -> Gauges {
        Gauges { label, family: self.add(name, help, Family::default()) }
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// Times for each value of a label.
    fn latencies(&mut self, name: &str, help: &str, buckets: fn() -> Histogram) -> Histograms {
        self.add_with_unit(name, help, Unit::Seconds, Family::new_with_constructor(buckets))
    }

    /// A moment, in seconds since 1970.
    fn time(&mut self, name: &str, help: &str) -> Gauge {
        self.add_with_unit(name, help, Unit::Seconds, Gauge::default())
    }

    /// Times from 1 ms to about 16 s.
    fn latency(&mut self, name: &str, help: &str) -> Histogram {
        self.add_with_unit(name, help, Unit::Seconds, Histogram::new(exponential_buckets(0.001, 2.0, 15)))
    }

    /// The counter of one limit on what clients may ask for. Several parts have limits. They share the name.
    fn limited(&self, limit: &'static str) -> Counter {
        self.limited.of(limit)
    }

    /// How late the deaths of sockets are told. The table measures its own sockets. The sweeper measures the sockets of
    /// dead nodes.
    fn offline_delay(&self) -> Histogram {
        self.offline_delay.clone()
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.families.register(name, help, metric.clone());
        metric
    }

    fn add_with_unit<M: Metric + Clone>(&mut self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        self.families.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

impl Gauges {
    /// The gauge of one value.
    fn of(&self, value: &'static str) -> Gauge {
        self.family.get_or_create_owned(&[(self.label, value)])
    }
}

impl Counters {
    fn new(label: &'static str) -> Self {
        Self { label, family: Family::default() }
    }

    /// The counter of one value.
    fn of(&self, value: &'static str) -> Counter {
        self.family.get_or_create_owned(&[(self.label, value)])
    }

    /// What the counters of these values count together.
    fn sum(&self, values: impl IntoIterator<Item = &'static str>) -> u64 {
        values.into_iter().map(|value| self.of(value).get()).sum()
    }

    fn count(&self, value: &'static str) {
        self.family.get_or_create(&[(self.label, value)]).inc();
    }
}
