//! The truth about presence, behind one seam.
//!
//! A store holds which sockets exist, decides from that who is present, numbers every transition and delivers each, in
//! order, to every node that is subscribed. The rules, which `tests/it/store_contract.rs` holds every implementation to:
//!
//! - A user is present while the store holds at least one of their sockets. Only [`StoreWriter::drive`] and
//!   [`PresenceStore::sweep`] change that, and only they make transitions, one per first arrival, last departure and
//!   change of profile.
//! - Revisions count up by one within an epoch and never fall. A transition, the state behind it and its place in the log
//!   come into effect together or not at all.
//! - Every intention is idempotent: stating it again, after an outcome that was never heard, changes nothing.
//! - Every reply carries the position at which it is true.
//! - Absence is a value, not an error; an error means that the outcome is unknown ([`StoreError`]), never "no".
//! - Every call has a deadline of its own; none waits for ever.
//!
//! Deliberately absent: sessions, frames, and any clock but the store's.

pub mod memory;
pub mod redis;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::domain::{
    NodeId, OfflineReason, Position, Presence, Roster, Scope, SocketId, Timestamp, Transition, UserId,
};

/// The store as one node sees it. Object-safe: the parts above are not generic over it (docs/adr/0002).
pub trait PresenceStore: Send + Sync {
    /// Opens the ordered connection that this node's writer drives the store with. Each call opens a new one; commands of
    /// the one before may still be under way, and are refused once the new one has beaten with a higher generation.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached in time or refuses this node.
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>>;

    /// Subscribes to transitions: every one decided after this returns is delivered, in order, while the subscription lasts.
    /// The receiver ends when it is lost. A slow receiver may lose transitions, which shows as a gap in the revisions.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached in time.
    fn subscribe(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Transition>>>;

    /// Reads everybody who is present, at one position.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached, or changed its epoch meanwhile: try again.
    fn snapshot(&self) -> BoxFuture<'_, StoreResult<Roster>>;

    /// Reads the transitions after `position`, in order, none missing; `None` if the log does not reach back that far or
    /// belongs to another epoch.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn log_after(&self, position: Position) -> BoxFuture<'_, StoreResult<Option<Vec<Transition>>>>;

    /// Extends the life of what the store holds about these sockets; never re-creates anything. Returns the sockets of which
    /// something is missing, for their owner to assert again.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn refresh<'a>(&'a self, sockets: &'a [(SocketId, UserId)]) -> BoxFuture<'a, StoreResult<Vec<SocketId>>>;

    /// Takes one bounded step of sweeping every node whose lease has run out: their sockets go, and their users with them.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn sweep(&self) -> BoxFuture<'_, StoreResult<Swept>>;

    /// Goes once over all users who count as online, slowly, unless a node has just done so: mends those who looked like ghosts
    /// to an earlier audit, of whatever node, and still do; and notes who looks like one now. A backstop: every ghost found is
    /// a bug, or somebody's hand in the data.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn audit(&self) -> BoxFuture<'_, StoreResult<Audited>>;
}

/// The ordered connection of one node's writer. Calls are made one at a time.
pub trait StoreWriter: Send {
    /// Renews the node's lease, or takes one; learns where the store is.
    ///
    /// # Errors
    /// [`StoreError`]: whether the lease was renewed is unknown.
    fn beat(&mut self, beat: Beat) -> BoxFuture<'_, StoreResult<BeatReply>>;

    /// States what the node wants of some sockets, in order. Replies in the same order.
    ///
    /// # Errors
    /// [`StoreError`]: the outcome of every order is unknown.
    fn drive<'a>(&'a mut self, claim: Claim, orders: &'a [Order]) -> BoxFuture<'a, StoreResult<Vec<Outcome>>>;

    /// Sweeps this node itself, after it was fenced: until this returns true, nothing of its former life may be asserted.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn sweep_self(&mut self) -> BoxFuture<'_, StoreResult<bool>>;

    /// Lets the lease end after `lease`, and everything still held then go with reason `node_drained`. Later orders of this
    /// node are refused.
    ///
    /// # Errors
    /// [`StoreError`]: the lease then ends by itself, with reason `node_lost`.
    fn drain(&mut self, lease: Duration) -> BoxFuture<'_, StoreResult<()>>;

    /// The sockets that the store holds for this node, for a reconcile.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be reached.
    fn held_sockets(&mut self) -> BoxFuture<'_, StoreResult<Vec<(SocketId, UserId)>>>;
}

/// What a node says when it beats.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// The generation of the writer's connection; a higher one outlaws the lower.
    pub generation: u64,
    /// The highest revision this node has seen, so that a store that lost its data goes on above it.
    pub seen: u64,
    /// The epoch in which the store holds everything that the node wanted when its connection began; 0 if it does not yet.
    pub asserted: u64,
    /// The store's time of the last reply on this connection; 0 if this is its first call. A beat that a frozen connection
    /// delivers late is known by it: it heard nothing since.
    pub heard_at: Timestamp,
    /// If the node waits for its peers ([`BeatReply::peers_asserted`]): since when, by the store's clock.
    pub waits_since: Option<Timestamp>,
}

/// What the store says to a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatReply {
    /// What became of the lease.
    pub lease: LeaseState,
    /// The store's position.
    pub position: Position,
    /// Whether Offline transitions of this epoch are to be noted only, because the store lost its data (docs/design.md,
    /// decision 7). Once false, it stays so for the epoch.
    pub holding: bool,
    /// Whether each node that has not drained has asserted what it holds, by a beat whose `heard_at` is not before this
    /// node's `waits_since`. False for a node that does not wait.
    pub peers_asserted: bool,
    /// How many sockets the store holds for this node.
    pub n_sockets: u64,
    /// The store's clock.
    pub now: Timestamp,
}

/// What became of a lease at a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// It was there and goes on.
    Renewed,
    /// There was none: a new one begins, under which nothing has been asserted yet.
    Granted,
    /// It ran out and a sweep has begun: see [`StoreWriter::sweep_self`].
    Fenced,
}

/// In whose name orders are given: refused if the store has moved on.
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
    /// Where.
    pub scope: Scope,
    /// The socket; always one of this node's own.
    pub socket: SocketId,
    /// Whose it is.
    pub user: UserId,
    /// What is wanted.
    pub intent: Intent,
}

/// What a node can want of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// To be there. The presence is the profile that the client stated: with `updated_at` 0 it is new and the store dates it,
    /// otherwise it is asserted again as of then. Without a profile the stored one stays, and nothing is dated.
    Join(Presence),
    /// To be marked as in grace, if it is there.
    Grace,
    /// To be gone, because the client said so: the user's sockets in grace, on any node, go along.
    Leave,
    /// To be gone, alone, for this reason.
    Remove(OfflineReason),
}

/// The store's answer to one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In effect.
    Done {
        /// Where the store was then: whoever has applied this has seen the order's transition.
        position: Position,
        /// After a join or a removal, if the user is present: the date of their profile, 0 if none was stated.
        profile_at: Option<Timestamp>,
    },
    /// Nothing changed.
    Refused(Refusal),
}

/// Why a store refuses an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The store has begun another epoch: beat, then assert everything.
    ForeignEpoch,
    /// A newer connection of this node has taken over.
    OldGeneration,
    /// The node has no live lease: beat.
    NoLease,
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audited {
    /// Ghosts that were mended.
    pub mended: Vec<UserId>,
}

/// What one step of a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Each expired node, and what was done about it.
    pub batches: Vec<SweptBatch>,
}

impl Swept {
    /// Whether expired nodes still hold sockets.
    pub fn is_unfinished(&self) -> bool {
        self.batches.iter().any(|batch| !batch.finished)
    }
}

/// One batch of one node's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptBatch {
    /// The node.
    pub node: NodeId,
    /// Sockets removed.
    pub n_sockets: u64,
    /// Users who went offline.
    pub n_users: u64,
    /// How long before this the lease of a node that died had run out; only its first batch knows.
    pub overdue: Option<Duration>,
    /// Whether the node holds nothing any more.
    pub finished: bool,
}

/// A call on the store whose outcome is unknown.
///
/// # Design
/// A caller can do one thing about any of these: mark itself degraded, try again with a delay, and state its intentions
/// anew. So the variants only tell where to look. Refusals are no errors: they are answers.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer within the deadline.
    #[error("no answer from the store within {0:?}")]
    Deadline(Duration),
    /// The connection could not be made, broke, or the server could not serve.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The server answered, and refuses this configuration: a wrong password, no permission, another server altogether.
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
