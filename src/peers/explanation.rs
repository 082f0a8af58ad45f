//! Why a user is, or is not, online: everything that this node could find out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{
    LastSeen, NodeAnswer, NodeId, Position, Presence, SocketAccount, SocketId, Timestamp, Transition, UserId,
};
use crate::replica::ViewAccount;
use crate::store::Examination;

/// What the store, the nodes and this node's view say of one user.
pub(crate) struct Explanation {
    /// The user.
    pub(crate) user: UserId,
    /// The node that tells this.
    pub(crate) node: NodeId,
    /// What the store says. It is none if the store does not answer.
    pub(crate) stored: Option<StoreAccount>,
    /// The user's sockets, in the order of their ids.
    pub(crate) sockets: Vec<SocketStory>,
    /// The nodes that were asked, and those with a lease, in the order of their ids.
    pub(crate) nodes: Vec<NodeAccount>,
    /// What this node tells.
    pub(crate) view: ViewAccount,
}

/// What the store says of a user.
pub(crate) struct StoreAccount {
    /// The store's position.
    pub(crate) position: Position,
    /// The store's clock.
    pub(crate) now: Timestamp,
    /// Whether the user counts as present.
    pub(crate) is_present: bool,
    /// The user's data, if the user is present.
    pub(crate) presence: Option<Presence>,
    /// The user's last transitions, the newest first.
    pub(crate) transitions: Vec<Transition>,
    /// What is remembered of the user.
    pub(crate) last_seen: Option<LastSeen>,
}

/// One socket, as the store and its node know it.
pub(crate) struct SocketStory {
    /// Its id.
    pub(crate) socket: SocketId,
    /// How it is.
    pub(crate) state: SocketState,
    /// What the store holds of it. It is none if the store does not have it, or does not answer.
    pub(crate) held: Option<HeldAccount>,
    /// What its node says. It is none if the node does not have it, or does not answer.
    pub(crate) account: Option<SocketAccount>,
}

/// What the store holds of a socket.
pub(crate) struct HeldAccount {
    /// When the socket joined.
    pub(crate) since: Timestamp,
    /// How long ago that is.
    pub(crate) age: Duration,
    /// What its client runs on, as JSON.
    pub(crate) device: Option<String>,
}

/// How a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketState {
    /// It is there, and somebody may be at it.
    Active,
    /// It is there, and nobody is at it.
    Idle,
    /// Its connection broke. It counts until the grace ends.
    Grace,
    /// Its node has it, and the store does not.
    Unconfirmed,
}

impl SocketState {
    /// The name of the state, for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Grace => "grace",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    fn of(in_grace: bool, is_idle: bool) -> Self {
        match (in_grace, is_idle) {
            (true, _) => Self::Grace,
            (false, true) => Self::Idle,
            (false, false) => Self::Active,
        }
    }
}

/// One node, as far as it concerns the user.
pub(crate) struct NodeAccount {
    /// The node.
    pub(crate) node: NodeId,
    /// How many sockets of the user it has, by the store or by its own word.
    pub(crate) n_sockets: usize,
    /// Whether it answered.
    pub(crate) has_answered: bool,
    /// The version that it runs, if it has said so.
    pub(crate) version: Option<String>,
    /// Its lease. It is none if it has none, or if the store does not answer.
    pub(crate) lease: Option<Lease>,
}

/// A node's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// It ends after this time, unless the node beats.
    Lives(Duration),
    /// It has ended, this long ago. A sweep takes the node's sockets out of the store.
    Ended(Duration),
    /// A sweep is taking the node's sockets out of the store.
    BeingSwept,
}

impl Explanation {
    /// Puts together what was found out.
    pub(super) fn new(
        user: &UserId,
        node: NodeId,
        examined: Option<Examination>,
        answers: Vec<(NodeId, Option<NodeAnswer>)>,
        view: ViewAccount,
    ) -> Self {
        let sockets = stories(examined.as_ref(), &answers);
        let nodes = accounts(examined.as_ref(), &answers, &sockets);
        let stored = examined.map(|examined| StoreAccount {
            position: examined.position,
            now: examined.now,
            is_present: examined.is_present,
            presence: examined.presence,
            transitions: examined.transitions,
            last_seen: examined.last_seen,
        });
        Self { user: user.clone(), node, stored, sockets, nodes, view }
    }
}

/// The sockets that the store or a node has.
fn stories(examined: Option<&Examination>, answers: &[(NodeId, Option<NodeAnswer>)]) -> Vec<SocketStory> {
    let mut stories = BTreeMap::new();
    if let Some(Examination { now, sockets, .. }) = examined {
        for held in sockets {
            let state = SocketState::of(held.in_grace, held.is_idle);
            let age = held.since.until(*now);
            let held_account = HeldAccount { since: held.since, age, device: held.device.clone() };
            let story = SocketStory { socket: held.socket, state, held: Some(held_account), account: None };
            stories.insert(held.socket, story);
        }
    }
    for (node, answer) in answers {
        for account in answer.iter().flat_map(|answer| &answer.sockets) {
            let socket = SocketId { node: *node, number: account.number };
            let state = match examined {
                Some(_) => SocketState::Unconfirmed,
                None => SocketState::of(account.grace_left_ms.is_some(), account.is_idle),
            };
            let story = stories.entry(socket).or_insert(SocketStory { socket, state, held: None, account: None });
            story.account = Some(account.clone());
        }
    }
    stories.into_values().collect()
}

/// The nodes that were asked, and those that have a lease.
fn accounts(
    examined: Option<&Examination>,
    answers: &[(NodeId, Option<NodeAnswer>)],
    sockets: &[SocketStory],
) -> Vec<NodeAccount> {
    let mut nodes: BTreeMap<NodeId, NodeAccount> = BTreeMap::new();
    let account_of = |node| {
        let n_sockets = sockets.iter().filter(|story| story.socket.node == node).count();
        NodeAccount { node, n_sockets, has_answered: false, version: None, lease: None }
    };
    for (node, answer) in answers {
        let account = nodes.entry(*node).or_insert_with(|| account_of(*node));
        account.has_answered = answer.is_some();
        account.version = answer.as_ref().map(|answer| answer.version.clone()).filter(|version| !version.is_empty());
    }
    if let Some(Examination { now, leases, .. }) = examined {
        for (node, end) in leases {
            nodes.entry(*node).or_insert_with(|| account_of(*node)).lease = Some(Lease::of(*end, *now));
        }
    }
    nodes.into_values().collect()
}

impl Lease {
    pub(super) fn of(end: Timestamp, now: Timestamp) -> Self {
        if end == Timestamp(0) {
            Self::BeingSwept
        } else if end > now {
            Self::Lives(now.until(end))
        } else {
            Self::Ended(end.until(now))
        }
    }
}
