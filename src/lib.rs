//! Rollcall: who is online, right now.
//!
//! # Layout, in reading order
//! - [`domain`]: what presence is; pure.
//! - [`store`]: the truth, behind one seam; embedded or in Redis.
//! - [`node`]: what this node wants to be true, and the writer that makes it so. `sweeper`: peers that died.
//! - [`replica`]: this node's copy of the truth, and what it tells of it.
//! - [`hub`]: one event to many sockets. [`wire`]: bytes to messages and back.
//! - `auth`: who a client is, and what it may do. `transport`: the bytes of one connection.
//! - `typing`: who types. `peers`: what nodes ask one another. `rooms`: what is asked about rooms.
//! - `session`: one socket's life. `http`: one file a resource.
//! - [`app`]: builds the parts. [`shutdown`]: ends them in order. [`settings`], [`telemetry`], [`metrics`], [`clock`],
//!   `backoff`, `tasks`, `worker_delay`. [`doctor`]: what a node needs of its surroundings.
//!
//! Which module may use which is in `docs/architecture.md`, and `tests/it/architecture.rs` fails on anything else.

pub mod app;
pub mod auth;
mod backoff;
pub mod clock;
pub mod doctor;
pub mod domain;
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod hub;
pub mod metrics;
pub mod node;
mod peers;
pub mod replica;
mod rooms;
mod session;
pub mod settings;
pub mod shutdown;
pub mod store;
mod sweeper;
mod tasks;
pub mod telemetry;
mod transport;
mod typing;
pub mod wire;
mod worker_delay;
