//! What nodes tell and ask one another, besides transitions (docs/design.md, decision 17).
//!
//! Transitions are facts, and come through the replica. Signals are not: a signal is never stored, comes once at most, and
//! may come from anybody who can write to the store. So this file believes little of what it hears, and bounds all of it.
//! It knows five kinds: who was active, who types, questions about a user or about a node, and answers.

mod explanation;
mod questions;
mod removal;
mod summary;
mod survey;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::explanation::{Explanation, Lease, NodeAccount, SocketStory, StoreAccount};
use self::questions::Questions;
use self::survey::Surveys;
pub(crate) use self::survey::{Survey, SurveyedNode};
use crate::backoff::{Backoff, Reminder};
use crate::domain::{Inquiry, NodeAnswer, NodeId, Signal, SocketAccount, Timestamp, TypingTarget, UserId};
use crate::hub::{Fanout, ListenerAccount};
use crate::metrics::PeerMetrics;
use crate::node::Table;
use crate::replica::Replica;
use crate::store::{Examination, PresenceStore};
use crate::typing::Typing;

/// This node among its peers: it asks them, and answers them.
pub(crate) struct Peers {
    store: Arc<dyn PresenceStore>,
    table: Arc<Table>,
    replica: Arc<Replica>,
    fanout: Arc<Fanout>,
    metrics: PeerMetrics,
    typing: Typing,
    questions: Questions,
    surveys: Surveys,
    /// The name of this node, and when it started.
    name: String,
    started_at: Instant,
    /// How often a node signals itself. If it does not hear that before the next time, its subscription is deaf.
    echo_every: Duration,
    backoff_max: Duration,
}

/// What became of a call to disconnect a user, or to make the user leave a room.
pub(crate) enum Disconnection {
    /// All nodes were asked.
    Everywhere(Vec<Disconnected>),
    /// The store does not answer. Only this node has done it, and nobody knows the other nodes.
    OnlyHere,
}

/// What became of a user's sockets on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnected {
    /// The node.
    pub(crate) node: NodeId,
    /// How many sockets of the user the node had, or how many in the room.
    pub(crate) n_sockets: usize,
    /// Whether the node has said that it closes them, or that they leave.
    pub(crate) is_confirmed: bool,
}

/// How long a node waits for the answers of its peers. A person waits as long.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long a node waits for its own workers, so that its answer is in time. A worker answers within milliseconds, unless
/// it is held up.
const WORKERS_ANSWER_WITHIN: Duration = Duration::from_millis(750);

/// How many nodes one question goes to.
const ASKED_MAX: usize = 256;

/// How many questions of peers are answered at once. Further ones are refused: the asker hears nothing.
const ANSWERED_AT_ONCE: usize = 32;

/// How many sockets an answer names. The setting `limits.sockets_per_user` is below this unless somebody raised it.
const SOCKETS_MAX: usize = 256;

/// Longest text in an answer, in bytes.
const TEXT_MAX: usize = 128;

/// How far ahead of this node's knowledge of the store's clock an activity may be. `lua/presence.lua` allows statements as
/// much.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// What goes on beside the reading of signals. Each ends within the deadlines of the workers and of a call on the store.
type Chores<'a> = FuturesUnordered<BoxFuture<'a, ()>>;

impl Peers {
    /// This node among its peers. It hears them while [`Peers::run`] runs.
    pub(crate) fn new(
        (store, table, replica): (Arc<dyn PresenceStore>, Arc<Table>, Arc<Replica>),
        (fanout, typing): (Arc<Fanout>, Typing),
        metrics: PeerMetrics,
        (echo_every, backoff_max): (Duration, Duration),
        name: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            table,
            replica,
            fanout,
            metrics,
            typing,
            questions: Questions::default(),
            surveys: Surveys::default(),
            name,
            started_at: Instant::now(),
            echo_every,
            backoff_max,
        })
    }

    /// Why a user is, or is not, online: what the store says, what the nodes say, and what this node tells.
    pub(crate) async fn explain(&self, user: &UserId) -> Explanation {
        let examined = self.examine(user).await;
        let nodes = self.concerned(examined.as_ref());
        let answers = self.ask(user, &Inquiry::Explain, &nodes).await;
        let view = self.replica.account(user);
        Explanation::new(user, self.table.node(), examined, answers, view)
    }

    /// Closes all sockets of a user, on all nodes.
    pub(crate) async fn disconnect(&self, user: &UserId) -> Disconnection {
        // The store is asked first: the first node that closes a socket takes the sockets in grace out of the store.
        let examined = self.examine(user).await;
        let nodes = self.concerned(examined.as_ref());
        let answers = self.ask(user, &Inquiry::Disconnect, &nodes).await;
        let Some(examined) = examined else { return Disconnection::OnlyHere };
        let outcome = answers.into_iter().map(|(node, answer)| {
            let held = examined.sockets.iter().filter(|held| held.socket.node == node).map(|held| held.socket.number);
            let closed = answer.iter().flat_map(|answer| &answer.sockets).map(|account| account.number);
            // A socket in grace may have gone between the two looks.
            let numbers: BTreeSet<u64> = held.chain(closed).collect();
            Disconnected { node, n_sockets: numbers.len(), is_confirmed: answer.is_some() }
        });
        Disconnection::Everywhere(outcome.filter(|node| node.n_sockets > 0 || !node.is_confirmed).collect())
    }

    /// Asks nodes about a user, each at the same time. A node that did not answer in time has none.
    pub(crate) async fn ask(
        &self,
        user: &UserId,
        inquiry: &Inquiry,
        nodes: &[NodeId],
    ) -> Vec<(NodeId, Option<NodeAnswer>)> {
        let here = self.table.node();
        let others: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != here).take(ASKED_MAX).collect();
        let answer_here = async { if nodes.contains(&here) { self.answer(user, inquiry).await } else { None } };
        let from = here;
        let signal = |number| Signal::Question { from, number, user: user.clone(), inquiry: inquiry.clone() };
        let (mut own, mut answers) = tokio::join!(answer_here, self.ask_others(&others, signal));
        let answer_of = |node: &NodeId| if *node == here { own.take() } else { answers.remove(node) };
        nodes.iter().copied().zip(nodes.iter().map(answer_of)).collect()
    }

    /// Asks nodes, each at the same time. `signal` makes the question from its number. Returns what has come in time.
    async fn ask_others(&self, nodes: &[NodeId], signal: impl FnOnce(u64) -> Signal) -> HashMap<NodeId, NodeAnswer> {
        let mut answers = HashMap::new();
        if nodes.is_empty() {
            return answers;
        }
        let asked = async {
            let Some(mut question) = self.questions.open(nodes) else { return };
            let signal = signal(question.number);
            let sent = join_all(nodes.iter().map(|node| self.send(*node, &signal)));
            let gathered = async {
                while let Some((node, answer)) = question.next_answer().await {
                    answers.insert(node, answer);
                }
            };
            tokio::join!(sent, gathered);
        };
        // What has come by then counts.
        let _ = timeout(ANSWER_WITHIN, asked).await;
        self.metrics.asked(nodes.len(), nodes.len() - answers.len());
        answers
    }

    /// Answers a question, from this node's table and its workers. It is none if the answer is not known.
    async fn answer(&self, user: &UserId, inquiry: &Inquiry) -> Option<NodeAnswer> {
        let mut sockets = match inquiry {
            Inquiry::Explain => self.table.account(user),
            Inquiry::Disconnect => self.table.disconnect(user),
            Inquiry::RemoveFromRoom { room } => self.table.remove_from_room(user, room),
        };
        let listeners = timeout(WORKERS_ANSWER_WITHIN, self.fanout.ask(user, inquiry.clone())).await.ok().flatten();
        if listeners.is_none() && *inquiry != Inquiry::Explain {
            return None;
        }
        let listeners = listeners.unwrap_or_default();
        for account in &mut sockets {
            if let Some(listener) = listeners.iter().find(|listener| listener.is_of(account.number)) {
                complete(account, listener);
            }
        }
        sockets.truncate(SOCKETS_MAX);
        Some(NodeAnswer { sockets, ..NodeAnswer::of_this_version() })
    }

    /// What the store holds of a user. It is none if the store does not answer.
    async fn examine(&self, user: &UserId) -> Option<Examination> {
        let examined = self.store.examine(user).await;
        examined.inspect_err(|error| debug!(error = %error, "Could not examine a user")).ok()
    }

    /// The nodes that may have a socket of the user: those that have one by the store, all that live, and this one. A join
    /// may be under way to the store from any node.
    fn concerned(&self, examined: Option<&Examination>) -> Vec<NodeId> {
        let mut nodes = BTreeSet::from([self.table.node()]);
        if let Some(examined) = examined {
            nodes.extend(examined.sockets.iter().map(|held| held.socket.node));
            let living = examined.leases.iter().filter(|(_, lease_end)| *lease_end > examined.now);
            nodes.extend(living.map(|(node, _)| *node));
        }
        nodes.into_iter().collect()
    }

    async fn send(&self, to: NodeId, signal: &Signal) -> bool {
        let sent = self.store.signal(to, signal).await;
        sent.inspect_err(|error| debug!(error = %error, "Could not signal node {to}")).is_ok()
    }
}

/// The side that hears.
impl Peers {
    /// Hears and answers until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = self.follow_signals() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Subscribes, and does what signals say, again and again.
    async fn follow_signals(&self) {
        let mut backoff = Backoff::new(self.backoff_max);
        let mut reminder = Reminder::default();
        loop {
            match self.store.subscribe_signals().await {
                Ok(signals) => {
                    reminder.reset();
                    self.follow_subscription(signals, &mut backoff).await;
                    debug!("The subscription to signals has ended");
                }
                Err(error) => {
                    debug!(error = %error, "Could not subscribe to signals");
                    if let Some(seconds) = reminder.failed() {
                        warn!(error = %error, "For {seconds} s this node could not hear its peers");
                    }
                }
            }
            backoff.wait().await;
        }
    }

    async fn follow_subscription(&self, mut signals: mpsc::Receiver<Signal>, backoff: &mut Backoff) {
        // The numbers of the last echo that the store has taken, and of the last one that was heard.
        let (taken, mut heard) = (AtomicU64::new(0), 0);
        let mut number = 0;
        let mut chores = Chores::new();
        let mut ticks = interval(self.echo_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.recv() => {
                    let Some(signal) = signal else { return };
                    backoff.reset();
                    match signal {
                        Signal::Echo { number } => heard = number,
                        signal => self.take(signal, &chores),
                    }
                }
                Some(()) = chores.next() => {}
                _ = ticks.tick() => {
                    if taken.load(Ordering::Relaxed) > heard {
                        warn!("This node does not hear its own signals: subscribing to signals anew");
                        return;
                    }
                    number += 1;
                    chores.push(self.echo(number, &taken).boxed());
                }
            }
        }
    }

    /// Does what a signal says, or begins to.
    fn take<'a>(&'a self, signal: Signal, chores: &Chores<'a>) {
        match signal {
            Signal::Active { users } => self.observe_activity(users),
            Signal::Question { .. } | Signal::NodeQuestion { .. } if chores.len() >= ANSWERED_AT_ONCE => {
                self.metrics.refused();
            }
            Signal::NodeQuestion { from, number } => chores.push(self.introduce(from, number).boxed()),
            Signal::Question { from, number, user, inquiry } => {
                chores.push(self.reply(from, number, user, inquiry).boxed());
            }
            Signal::Answer { from, number, mut answer } => {
                answer.sockets.retain(is_sound);
                answer.sockets.truncate(SOCKETS_MAX);
                if !is_version(&answer.version) {
                    answer.version.clear();
                }
                answer.itself.take_if(|itself| !is_name(&itself.name));
                self.questions.take(from, number, answer);
            }
            // The subscription has dealt with it.
            Signal::Echo { .. } => {}
            Signal::Typing { target: target @ TypingTarget::User(_), user, is_typing } => {
                self.typing.hear(user, target, is_typing);
            }
            // What is signalled in a room comes on the room's own channel.
            Signal::Typing { target: TypingTarget::Room(_), .. } => {}
        }
    }

    fn observe_activity(&self, mut users: Vec<(UserId, Timestamp)>) {
        let latest = self.table.store_now().after(AHEAD_MAX);
        users.iter_mut().for_each(|(_, at)| *at = (*at).min(latest));
        self.table.observe_activity(&users);
        self.replica.observe_activity(&users);
    }

    async fn reply(&self, to: NodeId, number: u64, user: UserId, inquiry: Inquiry) {
        if let Some(answer) = self.answer(&user, &inquiry).await {
            let from = self.table.node();
            self.send(to, &Signal::Answer { from, number, answer }).await;
        }
    }

    /// Signals this node itself. Notes the number when the store has taken the signal.
    async fn echo(&self, number: u64, taken: &AtomicU64) {
        if self.send(self.table.node(), &Signal::Echo { number }).await {
            taken.store(number, Ordering::Relaxed);
        }
    }
}

/// Adds what a worker says of a socket.
fn complete(account: &mut SocketAccount, listener: &ListenerAccount) {
    account.format = listener.format.to_owned();
    account.heard_ms_ago = Some(listener.heard_ago.as_millis() as u64);
    if listener.is_blocked {
        account.state.push_str("; its client does not read");
    }
}

/// Whether this can be a version of ours.
fn is_version(text: &str) -> bool {
    text.len() <= TEXT_MAX && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c))
}

/// Whether a node of ours can have this name.
fn is_name(text: &str) -> bool {
    text.len() <= TEXT_MAX && !text.chars().any(char::is_control)
}

/// Whether a node of ours can have said this.
fn is_sound(account: &SocketAccount) -> bool {
    [&account.state, &account.format].iter().all(|text| text.len() <= TEXT_MAX && !text.chars().any(char::is_control))
}
