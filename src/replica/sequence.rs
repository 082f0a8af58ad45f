//! The numbers of announcements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers the announcements of all views of a node, in the order in which they are made. All clones count together. It is
/// changed only while the views are locked for writing.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence(Arc<AtomicU64>);

impl Sequence {
    /// The number of the next announcement. The first one has 1.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of the last announcement.
    pub(super) fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
