//! What is asked about rooms: who may enter one, who is in one, and which there are.
//!
//! Who is in a room that is open here, the view knows. A question about another room opens nothing and subscribes to
//! nothing: it costs a bounded read of the store (docs/design.md, decision 15).

mod access;
mod look;
mod reads;

use std::sync::Arc;

use tracing::debug;

pub(crate) use self::access::Denied;
pub(crate) use self::look::Unseen;
use self::reads::RoomReads;
use crate::domain::{RoomId, UserId};
use crate::metrics::RoomReadMetrics;
use crate::replica::Replica;
use crate::settings::RoomRule;
use crate::store::{PresenceStore, StoreResult};

/// The rooms of the service, for those who ask about them.
pub(crate) struct Rooms {
    store: Arc<dyn PresenceStore>,
    replica: Arc<Replica>,
    rule: RoomRule,
    reads: RoomReads,
}

/// The store does not answer. What was asked for may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// A page of the rooms in which somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomsPage {
    /// The rooms, in no order, each with its number of members. Hidden members count.
    pub(crate) rooms: Vec<(RoomId, u64)>,
    /// The cursor of the next page, if there may be more rooms.
    pub(crate) next: Option<u64>,
}

impl Rooms {
    /// The rooms that `store` holds, and those that `replica` has open. `rule` is `rooms.access`.
    pub(crate) fn new(
        store: Arc<dyn PresenceStore>,
        replica: Arc<Replica>,
        rule: RoomRule,
        metrics: RoomReadMetrics,
    ) -> Arc<Self> {
        let reads = RoomReads::new(store.clone(), metrics);
        Arc::new(Self { store, replica, rule, reads })
    }

    /// About `limit` rooms in which somebody is. The first page has the cursor 0.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn page(&self, cursor: u64, limit: usize) -> Result<RoomsPage, Unavailable> {
        let list = answered(self.store.rooms(cursor, limit).await)?;
        Ok(RoomsPage { rooms: list.rooms, next: list.next })
    }
}

/// The register: what `rooms.access = "registered"` goes by. It may be written in any case.
impl Rooms {
    /// Registers a room. Returns whether it was not registered before.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn register(&self, room: &RoomId) -> Result<bool, Unavailable> {
        answered(self.store.put_room(room).await)
    }

    /// Takes a room out of the register, with its members. Returns whether it was registered. Whoever is in it stays.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn unregister(&self, room: &RoomId) -> Result<bool, Unavailable> {
        answered(self.store.delete_room(room).await)
    }

    /// Registers a member of a room. Returns whether the room is registered.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn register_member(&self, room: &RoomId, user: &UserId) -> Result<bool, Unavailable> {
        answered(self.store.put_member(room, user).await)
    }

    /// Takes a member out of the register. Returns whether the user was registered there. A user who is in the room stays.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn unregister_member(&self, room: &RoomId, user: &UserId) -> Result<bool, Unavailable> {
        answered(self.store.delete_member(room, user).await)
    }
}

fn answered<T>(result: StoreResult<T>) -> Result<T, Unavailable> {
    result.map_err(|error| {
        debug!(error = %error, "The store does not answer about rooms");
        Unavailable
    })
}
