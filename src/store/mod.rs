//! The truth about presence, behind one seam.
//!
//! A store knows which sockets exist. From that it decides who is present. It numbers every transition, and delivers
//! the transitions in order to every subscribed node. `tests/it/store_contract.rs` checks these rules for every
//! implementation:
//!
//! - A user is present while the store holds at least one socket of the user. Only [`StoreWriter::drive`] and
//!   [`PresenceStore::sweep`] change that. They make one transition for each first arrival and each last departure.
//! - Each change of a user's statement, of what others see of the user, or of the user's devices is one transition.
//! - Of two statements about the same part the one with the higher date holds, in whichever order they come. A date that
//!   is more than a second ahead of the store's clock is cut.
//! - What others see (the *effective* status) is decided here. It is the chosen status. If that is `online`, it is
//!   `away` exactly while every socket of the user is idle, sockets in grace included.
//! - Revisions count up by one within an epoch and never fall. A transition, the state behind it and its place in the log
//!   come into effect together or not at all.
//! - Every intention is idempotent. A node may state it again after an outcome that it did not hear: that changes
//!   nothing.
//! - Every reply carries the position at which the reply is true.
//! - Absence is a value, not an error. An error means that the outcome is unknown ([`StoreError`]), never "no".
//! - Every call has a deadline of its own. No call waits for ever.
//!
//! What is about rooms alone is in [`rooms`].
//!
//! Deliberately absent: sessions, frames, and any clock but the store's.

pub mod memory;
mod news;
mod nodes;
pub mod redis;
pub mod rooms;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

pub use self::nodes::{HeldNode, HeldNodes};
pub use self::rooms::{OpenRooms, RoomAccess, RoomHead, RoomList, RoomNews, RoomPage, RoomStore, RoomSubscription};
use crate::domain::{
    Device, HeldSocket, LastSeen, NodeId, OfflineReason, Position, Presence, RoomId, RoomPosition, Roster, Scope,
    Signal, SocketId, Statement, Timestamp, Transition, UserId,
};

/// The store as one node sees it. The trait is object-safe: the parts above are not generic over it (docs/adr/0002).
pub trait PresenceStore: RoomStore {
    /// Opens the ordered connection for this node's writer. Each call opens a new connection. Commands of the former
    /// connection may still be under way. The store refuses them after the new connection has beaten with a higher
    /// generation.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached in time or refuses this node.
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>>;

    /// Subscribes to transitions. While the subscription lasts, it delivers in order every transition that is decided
    /// after this call returns. The receiver ends when the subscription is lost. A slow receiver may lose transitions,
    /// and sees a gap in the revisions.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached in time.
    fn subscribe(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Transition>>>;

    /// Reads everybody who is present, at one position.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached, or changed its epoch meanwhile. The caller may try again.
    fn snapshot(&self) -> BoxFuture<'_, StoreResult<Roster>>;

    /// Reads the transitions after `position`, in order and without a gap. Returns `None` if the log does not reach
    /// back that far, or if it belongs to another epoch.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn log_after(&self, position: Position) -> BoxFuture<'_, StoreResult<Option<Vec<Transition>>>>;

    /// Extends the life of the store's keys about these sockets. It never creates a key again. Returns the sockets with
    /// missing keys, so that their owner asserts them again.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn refresh<'a>(&'a self, sockets: &'a [(SocketId, UserId)]) -> BoxFuture<'a, StoreResult<Vec<SocketId>>>;

    /// Takes one bounded step of sweeping every node whose lease has ended. The node's sockets go, then its entries in
    /// rooms. A user without another socket goes too.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn sweep(&self) -> BoxFuture<'_, StoreResult<Swept>>;

    /// States something about a user who may have no socket on this node. It is idempotent: the caller may state the same
    /// again. If `base` is given, the stated profile was made from the profile of that date. If another profile holds by
    /// now, nothing is stated.
    ///
    /// # Errors
    /// [`StoreError`]: it is unknown whether the statement is in effect.
    fn state<'a>(
        &'a self,
        user: &'a UserId,
        statement: &'a Statement,
        base: Option<Timestamp>,
    ) -> BoxFuture<'a, StoreResult<StatementOutcome>>;

    /// Ends chosen statuses whose time has come by the store's clock. Each user comes with the date of the choice. If the
    /// store holds another choice, or its time has not come, nothing happens.
    ///
    /// # Errors
    /// [`StoreError`]: it is unknown which have ended. The caller asks again.
    fn expire<'a>(&'a self, choices: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>>;

    /// Notes when users who are present were last active, and tells all nodes (`Signal::Active`). An earlier time than
    /// the known one changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]: the notes may be lost.
    fn note_activity<'a>(&'a self, users: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>>;

    /// What is remembered of users who are offline or hidden, in the order of `users`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, StoreResult<Vec<Option<LastSeen>>>>;

    /// The sockets that the store holds of one user, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn sockets_of<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Vec<HeldSocket>>>;

    /// What the store holds of one user: for a person who asks why the user is online or not.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn examine<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Examination>>;

    /// The nodes that the store knows: for a person who asks how the service is.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn nodes(&self) -> BoxFuture<'_, StoreResult<HeldNodes>>;

    /// Subscribes to the signals for this node, in the same way as [`PresenceStore::subscribe`] and apart from it. So
    /// signals never push out a transition. A signal comes once at most: a slow receiver loses some.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached in time.
    fn subscribe_signals(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Signal>>>;

    /// Sends a signal to one node. Nobody says whether it arrived.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn signal<'a>(&'a self, to: NodeId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>>;

    /// Goes slowly over all users who count as online, unless a node has just done so. It notes the users who look like
    /// ghosts now. It also mends the users that an earlier audit has noted, if they still look like ghosts. Any node
    /// may have done the earlier audit. The audit is a backstop: each ghost comes from a bug, or from somebody who
    /// changed the data by hand.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn audit(&self) -> BoxFuture<'_, StoreResult<Audited>>;
}

/// The ordered connection of one node's writer. Calls are made one at a time.
pub trait StoreWriter: Send {
    /// Renews the node's lease, or takes one. The reply also says where the store is.
    ///
    /// # Errors
    /// [`StoreError`]: it is unknown whether the lease was renewed.
    fn beat(&mut self, beat: Beat) -> BoxFuture<'_, StoreResult<BeatReply>>;

    /// States what the node wants of some sockets, in order. Replies in the same order.
    ///
    /// # Errors
    /// [`StoreError`]: the outcome of every order is unknown.
    fn drive<'a>(&'a mut self, claim: Claim, orders: &'a [Order]) -> BoxFuture<'a, StoreResult<Vec<Outcome>>>;

    /// Sweeps this node itself, after it was fenced. Until this returns true, nothing of the node's former life may be
    /// asserted.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn sweep_self(&mut self) -> BoxFuture<'_, StoreResult<bool>>;

    /// Lets the lease end after `lease`. Sockets that are still held at that time go with reason `node_drained`. Later
    /// orders of this node are refused.
    ///
    /// # Errors
    /// [`StoreError`]: the lease ends by itself, with reason `node_lost`.
    fn drain(&mut self, lease: Duration) -> BoxFuture<'_, StoreResult<()>>;

    /// The sockets that the store holds for this node, for a reconcile.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn held_sockets(&mut self) -> BoxFuture<'_, StoreResult<Vec<(SocketId, UserId)>>>;

    /// The entries in rooms that the store holds for this node, for a reconcile.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn held_room_entries(&mut self) -> BoxFuture<'_, StoreResult<Vec<(RoomId, SocketId, UserId)>>>;
}

/// What a node says when it beats.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// The generation of the writer's connection. A higher generation makes the store refuse the lower ones.
    pub generation: u64,
    /// The highest revision that this node has seen. A store that lost its data goes on above it.
    pub seen: u64,
    /// The epoch in which the store holds every socket that the node wanted when its connection began. It is 0 if the
    /// store does not hold them yet.
    pub asserted: u64,
    /// The epoch in which the store also holds the entries in rooms that the node wanted then. It is 0 if the store does
    /// not hold them yet. It is never another epoch than `asserted`.
    pub all_asserted: u64,
    /// The store's time of the last reply on this connection, 0 before the first reply. A frozen connection may deliver
    /// a beat late. The store recognizes such a beat by this time, because the beat heard nothing since.
    pub heard_at: Timestamp,
    /// Since when the node waits for its peers ([`BeatReply::peers_asserted`]), by the store's clock. It is none if the
    /// node does not wait.
    pub waits_since: Option<Timestamp>,
}

/// What the store says to a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatReply {
    /// What became of the lease.
    pub lease: LeaseState,
    /// The store's position.
    pub position: Position,
    /// Whether nodes must only note Offline transitions of this epoch, because the store lost its data (docs/design.md,
    /// decision 7). It ends when each node has asserted everything. Once it is false, it stays false for the epoch.
    pub holding: bool,
    /// Whether each node has asserted its sockets. A beat does not count if its `heard_at` is before this node's
    /// `waits_since`. Drained nodes do not count. It is false for a node that does not wait.
    pub peers_asserted: bool,
    /// Whether each node has asserted its entries in rooms as well.
    pub peers_all_asserted: bool,
    /// How many sockets the store holds for this node.
    pub n_sockets: u64,
    /// How many entries in rooms the store holds for this node.
    pub n_room_entries: u64,
    /// The store's clock.
    pub now: Timestamp,
}

/// What became of a lease at a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// The lease was there and goes on.
    Renewed,
    /// There was no lease. A new lease begins, and nothing has been asserted under it yet.
    Granted,
    /// The lease ended and a sweep has begun: see [`StoreWriter::sweep_self`].
    Fenced,
}

/// The epoch and the connection that a node gives orders for. The store refuses the orders if it has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The epoch that the node believes in.
    pub epoch: u64,
    /// The generation of the writer's connection.
    pub generation: u64,
}

/// One socket's entry in a scope, and what the node wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The scope of the entry.
    pub scope: Scope,
    /// The socket. It is always one of this node's own.
    pub socket: SocketId,
    /// The user of the socket.
    pub user: UserId,
    /// What is wanted.
    pub intent: Intent,
    /// When the user was last active, as far as this node knows. It is 0 if the node does not know it.
    pub active_at: Timestamp,
}

/// What a node can want of a socket. In a room, `Join` ignores what it says of the user, and `Idle` changes nothing: a room
/// knows only who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// The socket is to be there.
    Join(Join),
    /// The socket is to be marked as idle or as not idle, if it is there.
    Idle(bool),
    /// The socket is to be marked as in grace, if it is there.
    Grace,
    /// The socket is to be gone, because the client said so. The user's sockets in grace go too, on any node. In a room,
    /// only entries in this room go.
    Leave,
    /// Only this socket is to be gone, for this reason.
    Remove(OfflineReason),
}

/// How a socket is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The statement as this node knows it, each part with its date. A part without a date leaves the stored one.
    ///
    /// The effective status is the one that was told last. The store takes it only during a hold, and only to choose
    /// between `online` and `away`. So a store that lost its data does not show a user as away for a moment.
    pub presence: Presence,
    /// Whether the socket is idle.
    pub idle: bool,
    /// What the client runs on.
    pub device: Option<Device>,
    /// Since when the socket is there, by the store's clock as far as the node knows it.
    pub since: Timestamp,
}

/// What the store holds of one user.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Examination {
    /// The store's position.
    pub position: Position,
    /// The store's clock.
    pub now: Timestamp,
    /// The user's data, if the user is present.
    pub presence: Option<Presence>,
    /// Whether the user counts as present.
    pub is_present: bool,
    /// The user's sockets.
    pub sockets: Vec<HeldSocket>,
    /// Each node, with the end of its lease.
    pub leases: Vec<(NodeId, Timestamp)>,
    /// The user's last transitions, the newest first.
    pub transitions: Vec<Transition>,
    /// What is remembered of the user.
    pub last_seen: Option<LastSeen>,
}

/// The store's answer to one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The order is in effect.
    Done {
        /// The store's position after the order. A node that has applied this position has seen the order's transition,
        /// if that was one of the service.
        position: Position,
        /// After a join: the dates of the statement that holds.
        dates: Dates,
        /// After a removal: whether the user has another socket in the scope.
        user_remains: bool,
        /// After an order in a room: the room's position. Whoever has applied it has seen the order's transition. It is
        /// none if nobody was in the room.
        room: Option<RoomPosition>,
    },
    /// Nothing changed.
    Refused(Refusal),
}

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementOutcome {
    /// It is in effect, unless a later statement holds. The position is the store's after that.
    Done(Position),
    /// The profile is another one than the stated one was made from. Who has seen this position knows it.
    Stale(Position),
    /// The user is not present.
    NotPresent,
}

/// The dates of a statement. A date is 0 if its part was not stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dates {
    /// Of the profile.
    pub profile_at: Timestamp,
    /// Of the chosen status.
    pub chosen_at: Timestamp,
}

/// Why a store refuses an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The store has begun another epoch. The node must beat, and then assert everything.
    ForeignEpoch,
    /// A newer connection of this node has taken over.
    OldGeneration,
    /// The node has no live lease. The node must beat.
    NoLease,
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audited {
    /// Ghosts that were mended.
    pub mended: Vec<UserId>,
    /// Members of rooms who were ghosts there, and were mended.
    pub mended_members: Vec<(RoomId, UserId)>,
}

/// What one step of a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many nodes have a good lease.
    pub n_leases: usize,
    /// Each expired node, and what was done about it.
    pub batches: Vec<SweptBatch>,
}

impl Swept {
    /// Whether expired nodes still hold anything.
    pub fn is_unfinished(&self) -> bool {
        self.batches.iter().any(|batch| !batch.finished)
    }
}

/// One batch of one node's sockets and entries in rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptBatch {
    /// The node.
    pub node: NodeId,
    /// Sockets removed.
    pub n_sockets: u64,
    /// Entries in rooms removed.
    pub n_room_entries: u64,
    /// Users who went offline.
    pub n_users: u64,
    /// How long ago the lease of a dead node had ended. Only the first batch of the node knows this.
    pub overdue: Option<Duration>,
    /// Whether the node holds nothing any more.
    pub finished: bool,
}

/// A call on the store whose outcome is unknown.
///
/// # Design
/// After any of these errors, a caller can do only three things: mark itself degraded, try again with a delay, and
/// state its intentions anew. So the variants only tell where to look. A refusal is not an error: it is an answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer within the deadline.
    #[error("no answer from the store within {0:?}")]
    Deadline(Duration),
    /// The connection could not be made, or it broke, or the server could not serve.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The server answered, and refuses this configuration. Examples: a wrong password, no permission, another kind of
    /// server.
    #[error("the store refuses: {0}")]
    Misconfigured(String),
    /// The answer is not of the form that this version writes.
    #[error("the store's answer makes no sense: {0}")]
    Malformed(String),
    /// The store changed its epoch while something was read.
    #[error("the store began a new epoch meanwhile")]
    EpochChanged,
}

/// Result of a call on the store.
pub type StoreResult<T> = Result<T, StoreError>;
