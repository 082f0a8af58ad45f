//! How many files this process may have open. Each connection is one.
//!
//! At the limit, nobody is told anything: the kernel keeps a new connection, and the server cannot take it. So a node never
//! comes that far. It refuses a client before, with an answer.

use anyhow::{Context, bail};

use crate::settings::{ServerSettings, Settings};

/// Files of a worker thread: its own, and connections that it has taken only to refuse them (`app.rs`).
const FILES_PER_WORKER: u64 = 64 + 16;

/// Files of the rest: the log, the listener, connections to Redis and to the issuer, and some to spare.
const OTHER_FILES: u64 = 64;

/// With fewer files than this for clients, a node is of no use.
const LEAST_FILES: u64 = 64;

/// Raises the soft limit as far as the settings need it and the hard limit allows it. If that is not enough, it lowers
/// `server.max_sockets` and `server.max_http_connections`, both by the same part. Returns the limit.
///
/// # Errors
/// Next to nothing is left for clients, or the system does not tell its limit.
pub(crate) fn fit(settings: &mut Settings, n_workers: usize) -> anyhow::Result<u64> {
    let (own, needed) = (own(settings, n_workers), needed(settings, n_workers));
    let ServerSettings { max_sockets, max_http_connections, .. } = &mut settings.server;
    let asked = (*max_sockets, *max_http_connections);
    let limit = rlimit::increase_nofile_limit(needed).context("cannot read the limit of open files")?;
    let left = limit.saturating_sub(own);
    if left < LEAST_FILES {
        bail!(
            "this process may open {limit} files, and needs {own} besides its clients: raise the limit (`ulimit -n`)"
        );
    }
    (*max_sockets, *max_http_connections) = share(left, asked);
    if (*max_sockets, *max_http_connections) != asked {
        tracing::warn!(
            limit,
            needed,
            max_sockets,
            max_http_connections,
            "This process may open {limit} files, and needs {needed}. So server.max_sockets is {max_sockets} instead of {}, \
             and server.max_http_connections is {max_http_connections} instead of {}.",
            asked.0,
            asked.1,
        );
    }
    Ok(limit)
}

/// How many files a node with these settings needs.
pub(crate) fn needed(settings: &Settings, n_workers: usize) -> u64 {
    let ServerSettings { max_sockets, max_http_connections, .. } = settings.server;
    own(settings, n_workers) + (max_sockets + max_http_connections) as u64
}

/// How many of them it needs besides its clients.
fn own(settings: &Settings, n_workers: usize) -> u64 {
    FILES_PER_WORKER * n_workers as u64 + settings.redis.pool_size as u64 + OTHER_FILES
}

/// How many files this process may be allowed to open.
///
/// # Errors
/// The system does not tell.
pub(crate) fn hard_limit() -> std::io::Result<u64> {
    Ok(rlimit::Resource::NOFILE.get()?.1)
}

/// What is asked for, or as much of each part as `left` files allow.
fn share(left: u64, asked: (usize, usize)) -> (usize, usize) {
    let all = (asked.0 + asked.1) as u64;
    if left >= all {
        return asked;
    }
    let part = |n: usize| usize::try_from((n as u64 * left / all).max(1)).unwrap_or(n);
    (part(asked.0), part(asked.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_shrink_alike_and_neither_is_gone() {
        assert_eq!(share(19_096, (15_000, 4096)), (15_000, 4096));
        assert_eq!(share(1000, (15_000, 5000)), (750, 250));
        assert_eq!(share(64, (1_000_000, 1)), (63, 1));
        assert_eq!(share(64, (1_000_000, 1_000_000)), (32, 32));
    }
}
