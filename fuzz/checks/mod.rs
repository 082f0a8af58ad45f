//! What must hold whatever a client sends. The fuzz targets call these with what the engine makes up, and
//! `tests/it/fuzz_checks.rs` with the corpus and random input, so that they are compiled and run wherever the tests are.

use crate::support::shared::frame;

pub(crate) mod frames;
pub(crate) mod messages;
