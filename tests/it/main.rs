//! The integration tests: one binary, for linking is most of a test build's time. `support` says how to write one.

mod support;

// One file a topic, in alphabetical order.
mod acl;
mod admission;
mod architecture;
mod audit;
mod cluster_behaviour;
mod conformance;
mod drain;
mod farewell;
mod faults;
mod fuzz_checks;
mod head;
mod http;
mod limits;
mod load_balancer;
mod metrics;
mod origins;
mod panics;
mod plain;
mod prefixes;
mod protocol;
mod random_history;
mod slow_consumer;
mod startup;
mod store_contract;
