//! Whether this node knows who is online.

use std::sync::Arc;

use super::{ApiError, AskAnother};
use crate::replica::Replica;

/// What lets clients in, and lets them ask. A node that has never reached its store would tell them that nobody is online. Its
/// own clients would be online nowhere else.
pub(crate) struct Readiness {
    replica: Arc<Replica>,
    /// Whether no other node knows more, because the store is embedded.
    is_alone: bool,
}

impl Readiness {
    /// Of a node with this replica.
    pub(crate) fn new(replica: Arc<Replica>, is_alone: bool) -> Arc<Self> {
        Arc::new(Self { replica, is_alone })
    }

    /// Passes once the store was read for the first time. It passes from then on, also while the store is away.
    ///
    /// # Errors
    /// This node does not know yet who is online. Another node may.
    pub(super) fn require(&self) -> Result<(), ApiError> {
        if self.is_alone || self.replica.has_snapshot() {
            Ok(())
        } else {
            Err(ApiError::AskAnother(AskAnother::NotReady))
        }
    }
}
