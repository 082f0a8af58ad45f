//! What must hold whatever a client sends, and whatever somebody writes into Redis. The fuzz targets call these with what the engine makes up, and
//! `tests/it/fuzz_checks.rs` with the corpus and random input, so that they are compiled and run wherever the tests are.

use crate::support::shared::frame;

pub(crate) mod bus;
pub(crate) mod frames;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod packets;
pub(crate) mod payloads;
pub(crate) mod query;
pub(crate) mod token;
