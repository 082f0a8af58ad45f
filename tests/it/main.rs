//! The integration tests: one binary, for linking is most of a test build's time. `support` says how to write one.

mod support;

// One file a topic, in alphabetical order.
mod acl;
mod admission;
mod architecture;
mod asyncapi;
mod audit;
mod chatroom;
mod cluster_behaviour;
mod conformance;
mod devices;
mod disconnect;
mod drain;
mod explain;
mod farewell;
mod faults;
mod fuzz_checks;
mod head;
mod hidden;
mod http;
mod interest;
mod limits;
mod load_balancer;
mod metrics;
mod node_rooms;
mod openapi;
mod origins;
mod panics;
mod plain;
mod prefixes;
mod protocol;
mod random_history;
mod replica_rooms;
mod room_access;
mod rooms;
mod server_api;
mod slow_consumer;
mod startup;
mod status;
mod store_contract;
mod typing;
mod user_status;
