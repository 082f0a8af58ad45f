//! How the nodes of the service are: what the store says of each, and what each says of itself.
//!
//! People ask for this again and again, and several at once. So those who ask within a second share one survey.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::AbortHandle;
use tracing::debug;

use super::explanation::Lease;
use super::{ASKED_MAX, Peers};
use crate::domain::{NodeAnswer, NodeId, Position, SelfAccount, Signal, Timestamp};
use crate::store::HeldNodes;

/// What one node could find out about all of them.
pub(crate) struct Survey {
    /// Where the store is, and its clock. It is none if the store does not answer.
    pub(crate) stored: Option<(Position, Timestamp)>,
    /// The nodes, in the order of their ids. This node is always among them. If the store does not answer, there is no other.
    pub(crate) nodes: Vec<SurveyedNode>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SurveyedNode {
    /// Its id.
    pub(crate) node: NodeId,
    /// How many sockets the store holds for it. It is none if that cannot be read. Of this node without a store: how many
    /// it has.
    pub(crate) n_sockets: Option<u64>,
    /// Its lease. It is none if it has none, or if the store does not answer.
    pub(crate) lease: Option<Lease>,
    /// Whether it was shut down.
    pub(crate) is_drained: bool,
    /// Whether it answered.
    pub(crate) has_answered: bool,
    /// The version that it runs, if it has said so.
    pub(crate) version: Option<String>,
    /// What it says of itself, if it has answered.
    pub(crate) itself: Option<SelfAccount>,
}

/// The survey that is under way, or was the last one.
#[derive(Default)]
pub(super) struct Surveys(Mutex<Option<Taken>>);

struct Taken {
    began_at: Instant,
    task: AbortHandle,
    outcome: Shared<BoxFuture<'static, Option<Arc<Survey>>>>,
}

/// How long a survey is shown to those who ask. Each costs every node a signal.
const KEPT_FOR: Duration = Duration::from_secs(1);

impl Peers {
    /// How the nodes are. It is from the last second, or has just been found out.
    ///
    /// # Cancel safety
    /// The survey goes on for others.
    pub(crate) async fn survey(self: &Arc<Self>) -> Arc<Survey> {
        let outcome = {
            let mut last = self.surveys.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_fresh = |taken: &Taken| taken.began_at.elapsed() < KEPT_FOR || !taken.task.is_finished();
            let taken = match last.take().filter(is_fresh) {
                Some(taken) => taken,
                None => self.begin_survey(),
            };
            last.insert(taken).outcome.clone()
        };
        match outcome.await {
            Some(survey) => survey,
            // The thread of the task has ended.
            None => Arc::new(self.ask_all_nodes().await),
        }
    }

    /// Begins a survey, as a task of its own. It ends by the deadlines of the store and of [`Peers::ask_others`].
    fn begin_survey(self: &Arc<Self>) -> Taken {
        let (began_at, peers) = (Instant::now(), self.clone());
        let surveyed = tokio::spawn(async move { Arc::new(peers.ask_all_nodes().await) });
        let task = surveyed.abort_handle();
        Taken { began_at, task, outcome: surveyed.map(Result::ok).boxed().shared() }
    }

    async fn ask_all_nodes(&self) -> Survey {
        let held = self.store.nodes().await;
        let held = held.inspect_err(|error| debug!(error = %error, "Could not read the nodes")).ok();
        let here = self.table.node();
        let is_other = |node: &NodeId| *node != here;
        let others: Vec<NodeId> = held.iter().flat_map(|held| &held.nodes).map(|held| held.node).collect();
        let others: Vec<NodeId> = others.into_iter().filter(is_other).take(ASKED_MAX).collect();
        let mut answers = self.ask_others(&others, |number| Signal::NodeQuestion { from: here, number }).await;
        answers.insert(here, self.about_itself());
        Survey::new(held, answers, here, self.table.n_sockets() as u64)
    }

    /// Answers a question of a node about this one.
    pub(super) async fn introduce(&self, to: NodeId, number: u64) {
        let answer = self.about_itself();
        self.send(to, &Signal::Answer { from: self.table.node(), number, answer }).await;
    }

    /// Which node this is, and what it says of itself.
    pub(crate) fn itself(&self) -> (NodeId, SelfAccount) {
        let is_degraded = self.replica.degraded_since(&self.replica.view()).is_some();
        let uptime_ms = self.started_at.elapsed().as_millis() as u64;
        (self.table.node(), SelfAccount { name: self.name.clone(), uptime_ms, is_degraded })
    }

    fn about_itself(&self) -> NodeAnswer {
        NodeAnswer { itself: Some(self.itself().1), ..NodeAnswer::of_this_version() }
    }
}

impl Survey {
    /// Puts together what was found out. `n_sockets_here` counts if the store does not know this node.
    fn new(
        held: Option<HeldNodes>,
        mut answers: HashMap<NodeId, NodeAnswer>,
        here: NodeId,
        n_sockets_here: u64,
    ) -> Self {
        let stored = held.as_ref().map(|held| (held.position, held.now));
        let own = SurveyedNode {
            node: here,
            n_sockets: Some(n_sockets_here),
            lease: None,
            is_drained: false,
            has_answered: false,
            version: None,
            itself: None,
        };
        let mut nodes = BTreeMap::from([(here, own)]);
        if let Some(HeldNodes { now, nodes: held, .. }) = held {
            nodes.extend(held.into_iter().map(|held| {
                let surveyed = SurveyedNode {
                    node: held.node,
                    n_sockets: held.n_sockets,
                    lease: Some(Lease::of(held.lease_end, now)),
                    is_drained: held.is_drained,
                    has_answered: false,
                    version: None,
                    itself: None,
                };
                (held.node, surveyed)
            }));
        }
        for node in nodes.values_mut() {
            let Some(answer) = answers.remove(&node.node) else { continue };
            node.has_answered = true;
            node.version = Some(answer.version).filter(|version| !version.is_empty());
            node.itself = answer.itself;
        }
        Self { stored, nodes: nodes.into_values().collect() }
    }
}
