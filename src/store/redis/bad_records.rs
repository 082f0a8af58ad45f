//! Records in Redis that no node can have written.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

/// How many bad records are remembered as logged. Above that, bad records are only counted.
const LOGGED_MAX: usize = 1000;

/// Counts a bad record each time that it is found, and logs each record once. So a record that stays does not fill the
/// log. Somebody who keeps writing the same record does not fill it either.
pub(super) struct BadRecords {
    count: Arc<dyn Fn() + Send + Sync>,
    logged: Mutex<HashSet<u64>>,
}

impl BadRecords {
    /// `count` is called for each bad record that is found.
    pub(super) fn new(count: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { count, logged: Mutex::default() }
    }

    /// `record` was found in `key` and is left out.
    pub(super) fn found(&self, key: &str, record: &[u8]) {
        /// How many bytes of a record are shown.
        const SHOWN_BYTES: usize = 200;
        (self.count)();
        if self.is_new(key, record) {
            let shown = String::from_utf8_lossy(&record[..record.len().min(SHOWN_BYTES)]);
            // The key may have the id of a user.
            warn!(key = ?key, "Left out what is not ours in {}: {shown:?}", key.escape_debug());
        }
    }

    fn is_new(&self, key: &str, record: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        (key, record).hash(&mut hasher);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < LOGGED_MAX && logged.insert(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_bad_record_is_counted_each_time_and_new_once() {
        let n_found = Arc::new(AtomicUsize::new(0));
        let counted = n_found.clone();
        let bad = BadRecords::new(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        bad.found("k", b"\xff");
        bad.found("k", b"\xff");
        assert_eq!(n_found.load(Ordering::Relaxed), 2);
        assert!(!bad.is_new("k", b"\xff"));
        assert!(bad.is_new("k", b"a") && bad.is_new("l", b"a"));
        for number in 0..2 * LOGGED_MAX {
            bad.is_new("m", &number.to_le_bytes());
        }
        assert_eq!(bad.logged.lock().unwrap().len(), LOGGED_MAX);
    }
}
