//! What clients of Socket.IO count, besides what every socket counts.

use prometheus_client::metrics::gauge::Gauge;

use super::{Counters, Registry};

/// The metrics of Engine.IO: how clients come, and how they go on.
pub(crate) struct SocketioMetrics {
    polling: Gauge,
    handshakes: Counters,
    upgrades: Counters,
    refused: Counters,
}

/// What became of a WebSocket that came to take over from polling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeOutcome {
    /// It has taken over.
    Done,
    /// The client, or the session, has ended it before.
    GivenUp,
    /// It took too long (`socketio.upgrade_timeout_ms`).
    TimedOut,
}

impl UpgradeOutcome {
    const ALL: [Self; 3] = [Self::Done, Self::GivenUp, Self::TimedOut];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::GivenUp => "given_up",
            Self::TimedOut => "timed_out",
        }
    }
}

impl SocketioMetrics {
    /// Registers them. `codes` are the errors of Engine.IO.
    pub(crate) fn new(registry: &mut Registry, codes: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            polling: registry.gauge("socketio_polling_sockets", "Sockets that poll on this node"),
            handshakes: registry.counters(
                "socketio_handshakes",
                "Sockets of Socket.IO that were opened, by their first transport",
                "transport",
                ["polling", "websocket"],
            ),
            upgrades: registry.counters(
                "socketio_upgrades",
                "WebSockets that came to take over from polling, by outcome",
                "outcome",
                UpgradeOutcome::ALL.map(UpgradeOutcome::as_str),
            ),
            refused: registry.counters(
                "socketio_refused",
                "Requests refused with an error of Engine.IO, by its code",
                "code",
                codes,
            ),
        }
    }

    /// So many sockets poll.
    pub(crate) fn polling(&self, n_sockets: usize) {
        self.polling.set(n_sockets as i64);
    }

    /// A socket was opened. It begins with a WebSocket, or it polls.
    pub(crate) fn opened(&self, is_polling: bool) {
        self.handshakes.count(if is_polling { "polling" } else { "websocket" });
    }

    /// A WebSocket that came to take over has ended so.
    pub(crate) fn upgraded(&self, outcome: UpgradeOutcome) {
        self.upgrades.count(outcome.as_str());
    }

    /// A request was refused with this code.
    pub(crate) fn refused(&self, code: &'static str) {
        self.refused.count(code);
    }
}
