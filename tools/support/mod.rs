//! What the integration tests (`tests/it/`), the load tool (`tools/load/`) and the fuzz targets (`fuzz/`) all need.
//!
//! Each takes the files as modules of its own, by `#[path]`. A crate would cost more: the build of the image, which has no
//! tests, would need its manifest all the same. The tests use everything here, so there the compiler finds what nobody uses.
//!
//! What is here must not use `rollcall`: a client that shares code with the server repeats its mistakes.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod redis_server;

use std::time::Duration;

/// How long is waited for what must happen, unless it is said otherwise. It decides only how long a failure takes, so
/// it is generous: a loaded machine must not look like a bug.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
