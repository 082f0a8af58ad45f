//! The seam for rooms: the part of a store that is about rooms alone. Entries in rooms are driven by
//! [`StoreWriter::drive`](super::StoreWriter::drive), like those of the service. `tests/it/store_contract/rooms.rs` checks
//! these rules for every implementation:
//!
//! - A user is a member of a room while the store holds at least one entry of the user there. The first entry makes a
//!   numbered transition, and the last one too.
//! - Revisions of a room count up by one within a birth. The first join after the room was empty makes a new birth. When
//!   the last entry goes, nothing is left of the room.
//! - Refusals, leases, fencing, drains and sweeps are those of the service. An entry in a room goes when its node is swept.
//! - A room has no log. Whoever misses a transition reads a snapshot.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::StoreResult;
use crate::domain::{RoomId, RoomPosition, RoomRoster, RoomTransition, Signal, SocketId, UserId};

/// What one node asks of the store about rooms.
pub trait RoomStore: Send + Sync {
    /// Opens a subscription to the transitions of rooms. No room is open at first.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached in time.
    fn subscribe_rooms(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<RoomNews>>>;

    /// Reads who is in a room. The roster has every transition up to its position. It may have some later ones: whoever
    /// reads it opens the room before, and applies the transitions above that position as set operations. A room in which
    /// nobody is has the default position.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn room_snapshot<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<RoomRoster>>;

    /// Says where each of these rooms is and how many members it has, in their order. It is none if no node can have written
    /// what is stored of the room. The two parts of an answer may be true at two moments, one just after the other.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn room_heads<'a>(&'a self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<Vec<Option<RoomHead>>>>;

    /// Reads up to `limit` members of a room, at most [`RoomPage::MOST`], each with one of their sockets.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn room_page<'a>(&'a self, room: &'a RoomId, limit: usize) -> BoxFuture<'a, StoreResult<RoomPage>>;

    /// Lists about `limit` rooms in which somebody is. The first page has the cursor 0. A room that is there from the first
    /// page to the last is in one of them.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn rooms(&self, cursor: u64, limit: usize) -> BoxFuture<'_, StoreResult<RoomList>>;

    /// Extends the life of the store's keys about these entries. It never creates a key again. Returns the entries with
    /// missing keys, so that their owner asserts them again.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn refresh_rooms<'a>(
        &'a self,
        entries: &'a [(RoomId, SocketId, UserId)],
    ) -> BoxFuture<'a, StoreResult<Vec<(RoomId, SocketId)>>>;

    /// Opens a subscription to the signals of rooms, apart from the transitions. A signal comes once at most: a slow
    /// receiver loses some, and is not told.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached in time.
    fn subscribe_room_signals(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<(RoomId, Signal)>>>;

    /// Sends a signal to the nodes that have opened the room. Nobody says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn signal_room<'a>(&'a self, room: &'a RoomId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>>;

    /// Sends a signal to each node on which the user has a socket. Nobody says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn signal_user<'a>(&'a self, user: &'a UserId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>>;

    /// Registers a room. Returns whether it was not registered before. What is registered stays, whoever is online, and
    /// from one epoch to the next.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError): it is unknown whether the room is registered.
    fn put_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>>;

    /// Takes a room out of the register, with its registered members. Returns whether it was registered. Whoever is in
    /// the room stays there: the caller makes them leave.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError): it is unknown whether the room is registered.
    fn delete_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>>;

    /// Registers a user as a member of a registered room. Returns whether the room is registered. If it is not, nothing
    /// changes.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError): it is unknown whether the member is registered.
    fn put_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>>;

    /// Takes a member out of the register. Returns whether the user was registered there.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError): it is unknown whether the member is registered.
    fn delete_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>>;

    /// What the register says of a user and a room.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the store cannot be reached.
    fn room_access<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<RoomAccess>>;
}

/// A subscription to rooms. It lasts until either part is dropped, or until it is lost: then `deliveries` ends.
pub struct RoomSubscription<T> {
    /// Opens and closes rooms.
    pub rooms: Box<dyn OpenRooms>,
    /// What is published in open rooms.
    pub deliveries: mpsc::Receiver<T>,
}

/// Opens and closes the rooms of one subscription. The changes take effect in the order of the calls.
pub trait OpenRooms: Send {
    /// Opens rooms. What is published in them after this call returns is delivered. To open an open room again changes
    /// nothing, and shows that the subscription still lives.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError): the subscription is lost.
    fn open<'a>(&'a mut self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<()>>;

    /// Closes rooms. Nothing that is published in them after this call returns is delivered. What was published before may
    /// still come.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError): the subscription is lost.
    fn close<'a>(&'a mut self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<()>>;
}

/// What a subscription to the transitions of rooms delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomNews {
    /// A transition. Those of one room come in order.
    Transition(RoomTransition),
    /// The receiver was too slow, so transitions of any open room may be missing here. Rooms have no common revision that
    /// would show the gap. So each open room must be read anew.
    Lost,
}

/// Where a room is, without its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomHead {
    /// Its last transition. A room in which nobody is has the default position.
    pub position: RoomPosition,
    /// How many members it has.
    pub n_members: u64,
}

/// Some members of a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomPage {
    /// The members, in no order, each with one of their sockets there. The socket is none if the store has just lost it.
    pub members: Vec<(UserId, Option<SocketId>)>,
    /// How many members the room has.
    pub n_members: u64,
}

impl RoomPage {
    /// The most members that one read returns.
    pub const MOST: usize = 10_000;

    /// Whether the room has more members than these.
    pub fn has_more(&self) -> bool {
        self.n_members > self.members.len() as u64
    }
}

/// Some rooms in which somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomList {
    /// The rooms, in no order, each with its number of members.
    pub rooms: Vec<(RoomId, u64)>,
    /// The cursor of the next page. It is none after the last page.
    pub next: Option<u64>,
}

/// What the register of rooms says of a user and a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomAccess {
    /// The room is not registered.
    NoSuchRoom,
    /// The room is registered, and the user is no registered member.
    NotMember,
    /// The user is a registered member.
    Member,
}
