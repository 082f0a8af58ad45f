//! Reads the rooms that this node cannot subscribe to. Such a room is read *apart* from transitions, again and again.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep_until;
use tracing::debug;

use super::Replica;
use super::room_agenda::READINGS;
use crate::domain::RoomId;
use crate::node::Link;
use crate::store::StoreResult;

/// How often each room is read, if all of them can be read in that time.
const READ_EVERY: Duration = Duration::from_secs(5);

/// How often the node looks for rooms that it could not subscribe to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Replica {
    /// A store may answer although the node cannot subscribe to rooms. Then whoever has come is told. Whoever has gone is held
    /// until the node follows the room again: until then no transition says so.
    pub(super) async fn read_rooms_apart(&self) {
        loop {
            let rooms = self.rooms_apart();
            let next_at = Instant::now() + if rooms.is_empty() { LOOK_EVERY } else { READ_EVERY };
            let read = stream::iter(rooms).map(Ok).try_for_each_concurrent(READINGS, |room| self.read_apart(room));
            if let Err(error) = read.await {
                debug!(error = %error, "Could not read rooms without a subscription");
            }
            sleep_until(next_at.into()).await;
        }
    }

    fn rooms_apart(&self) -> Vec<RoomId> {
        let is_up = matches!(*self.link.borrow(), Link::Up { .. });
        if is_up && self.is_ready() { self.view().rooms().unsubscribed() } else { Vec::new() }
    }

    async fn read_apart(&self, room: RoomId) -> StoreResult<()> {
        let Some(read) = self.view().rooms().begin_read_apart(&room) else { return Ok(()) };
        let snapshot = self.store.room_snapshot(&room).await?;
        let is_wanted = |user: &_| self.table.wants_in(&room, user);
        self.take_over(&room, |rooms, scene| rooms.end_read_apart(&read, snapshot, is_wanted, scene));
        Ok(())
    }
}
