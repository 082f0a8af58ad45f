//! Whether this node knows who is online.

use std::sync::Arc;

use super::ApiError;
use crate::replica::Replica;

/// Why a node should get no clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    /// It has not read the store yet, or has no keys of the issuer.
    #[error("this node does not know yet who is online")]
    NotReady,
    /// It waits for the other nodes to assert their users. It serves meanwhile.
    #[error("this node waits for other nodes to say who is online")]
    Held,
    /// It is draining. Another node serves.
    #[error("this node is shutting down")]
    Draining,
}

impl Unready {
    /// Its name for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Held => "held",
            Self::Draining => "draining",
        }
    }
}

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
        if self.is_alone || self.replica.has_snapshot() { Ok(()) } else { Err(ApiError::AskAnother(Unready::NotReady)) }
    }
}
