//! What the questions among nodes count.

use prometheus_client::metrics::counter::Counter;

use super::Registry;

/// The metrics of the questions among nodes.
pub(crate) struct PeerMetrics {
    questions: Counter,
    unanswered: Counter,
    refused: Counter,
}

impl PeerMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            questions: registry.counter(
                "questions",
                "Questions about a user or a room, or about a node itself, that this node asked other nodes",
            ),
            unanswered: registry.counter(
                "questions_unanswered",
                "Questions that this node asked another node, and that were not answered in time",
            ),
            refused: registry.counter(
                "questions_refused",
                "Questions of other nodes that this node did not answer, because it had too many at once",
            ),
        }
    }

    /// This node asked `n_asked` nodes. `n_silent` of them did not answer in time.
    pub(crate) fn asked(&self, n_asked: usize, n_silent: usize) {
        self.questions.inc_by(n_asked as u64);
        self.unanswered.inc_by(n_silent as u64);
    }

    /// This node refused a question.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }
}
