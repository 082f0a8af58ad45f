//! What the sessions, their admission and their answers count.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::{Counters, Registry};
use crate::domain::OfflineReason;

/// The metrics of the sessions. A clone counts together with the original.
#[derive(Clone)]
pub(crate) struct SessionMetrics {
    joins: Counter,
    leaves: Counters,
    slow_consumers: Counter,
    too_many_messages: Counter,
    too_many_requests: Counter,
    too_many_sockets: Counter,
    too_large: Counter,
    not_joined: Counter,
}

/// The metrics of the admission.
pub(crate) struct AdmissionMetrics {
    refused: Counters,
}

/// The metrics of the large answers that wait for their clients.
pub(crate) struct AnswerMetrics {
    too_many: Counter,
}

/// Why a socket was refused at the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedBecause {
    /// `server.max_sockets`.
    Full,
    /// `limits.joins_per_second` and `limits.join_queue`.
    Busy,
    /// The node drains.
    Draining,
    /// The node does not know yet who is online.
    NotReady,
    /// `limits.sockets_per_address`.
    AddressFull,
    /// `limits.upgrades_per_address`. After this time, one more is let in.
    AddressBusy(Duration),
}

impl RefusedBecause {
    const ALL: [Self; 6] =
        [Self::Full, Self::Busy, Self::Draining, Self::NotReady, Self::AddressFull, Self::AddressBusy(Duration::ZERO)];

    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::NotReady => "not_ready",
            Self::AddressFull => "address_full",
            Self::AddressBusy(_) => "address_busy",
        }
    }
}

/// Why a joined socket ends.
const LEAVE_REASONS: [OfflineReason; 3] = [OfflineReason::Left, OfflineReason::ConnectionLost, OfflineReason::TimedOut];

impl SessionMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let reasons = LEAVE_REASONS.map(OfflineReason::as_str);
        Self {
            joins: registry.counter("joins", "Sockets that joined on this node"),
            leaves: registry.counters("leaves", "Joined sockets that ended on this node, by reason", "reason", reasons),
            slow_consumers: registry.counter("slow_consumers", "Sockets closed with 4008 because they did not read"),
            too_many_messages: registry.limited("messages"),
            too_many_requests: registry.limited("requests"),
            too_many_sockets: registry.limited("sockets_per_user"),
            too_large: registry.limited("frame"),
            not_joined: registry.limited("join_timeout"),
        }
    }

    /// A socket joined.
    pub(crate) fn joined(&self) {
        self.joins.inc();
    }

    /// A joined socket ended.
    pub(crate) fn left(&self, reason: OfflineReason) {
        self.leaves.count(reason.as_str());
    }

    /// How many sockets have joined, and how many joined sockets have ended.
    pub(crate) fn n_joins_and_leaves(&self) -> (u64, u64) {
        (self.joins.get(), self.leaves.sum(LEAVE_REASONS.map(OfflineReason::as_str)))
    }

    /// A socket was closed because it did not read.
    pub(crate) fn slow_consumer(&self) {
        self.slow_consumers.inc();
    }

    /// A message was refused (`limits.messages_per_second` and `limits.message_burst`).
    pub(crate) fn too_many_messages(&self) {
        self.too_many_messages.inc();
    }

    /// A socket was closed because a message was too large (`websocket.max_frame_bytes`).
    pub(crate) fn too_large(&self) {
        self.too_large.inc();
    }

    /// A socket was closed because its client did not say in time who it is (`websocket.join_timeout_ms`).
    pub(crate) fn not_joined(&self) {
        self.not_joined.inc();
    }

    /// A request was refused (`limits.requests_per_second` and `limits.request_burst`).
    pub(crate) fn too_many_requests(&self) {
        self.too_many_requests.inc();
    }

    /// A join was refused (`limits.sockets_per_user`).
    pub(crate) fn too_many_sockets(&self) {
        self.too_many_sockets.inc();
    }
}

impl AdmissionMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let reasons = RefusedBecause::ALL.map(RefusedBecause::as_str);
        Self { refused: registry.counters("refused", "Sockets refused at the upgrade, by reason", "reason", reasons) }
    }

    /// A socket was refused.
    pub(crate) fn refused(&self, because: RefusedBecause) {
        self.refused.count(because.as_str());
    }
}

impl AnswerMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self { too_many: registry.limited("answers") }
    }

    /// A list was refused, or the first list of a socket was made short (`limits.answers_bytes`).
    pub(crate) fn too_many(&self) {
        self.too_many.inc();
    }
}
