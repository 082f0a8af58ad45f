//! The search for ghosts in rooms: a part of each audit. It goes over all rooms in which somebody is.

use super::audit::{PAGE, PAUSE};
use super::{RedisStore, format};
use crate::domain::{RoomId, UserId};
use crate::store::StoreResult;

/// Rooms in one step, between two rests.
const ROOMS: usize = 50;

/// Rooms in one call of the script. A small room may come as a whole, so a call may look at more than a thousand members.
/// They take about 3 ms.
const ROOMS_A_CALL: usize = 10;

/// How many members cost Redis as much as an empty page of a room does: about 25 us.
const ROOM_IN_MEMBERS: usize = 5;

/// A page of one room: the next cursor, how many members it had, and those who look like ghosts.
type Page = (u64, usize, Vec<Vec<u8>>);

impl RedisStore {
    /// Goes over all rooms. It notes the members who look like ghosts, and takes out what no node can have written.
    pub(super) async fn audit_rooms(&self) -> StoreResult<()> {
        let key = &self.shared.keys.rooms;
        self.clear_other_type(key, "set").await?;
        let mut cursor = 0u64;
        loop {
            let mut connection = self.connection().await?;
            let mut scan = redis::cmd("SSCAN");
            scan.arg(key).arg(cursor).arg("COUNT").arg(PAGE);
            let (next, page): (u64, Vec<Vec<u8>>) = self.shared.within(scan.query_async(&mut *connection)).await?;
            let rooms = self.shared.keep_ours(&mut *connection, "SREM", key, page, format::known_room).await?;
            drop(connection);
            for rooms in rooms.chunks(ROOMS) {
                if !self.audit_some_rooms(rooms).await? {
                    return Ok(());
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Goes over the members of some rooms, one page of each at a time. Returns whether the audit is still this node's.
    async fn audit_some_rooms(&self, rooms: &[RoomId]) -> StoreResult<bool> {
        let mut unread: Vec<(&RoomId, u64)> = rooms.iter().map(|room| (room, 0)).collect();
        while !unread.is_empty() {
            let pages = self.read_pages(&unread).await?;
            let n_read: usize = pages.iter().map(|(_, n_members, _)| n_members + ROOM_IN_MEMBERS).sum();
            let mut rest = Vec::new();
            for ((room, _), (next, _, suspects)) in unread.into_iter().zip(pages) {
                self.note_suspects(room, suspects).await?;
                if next > 0 {
                    rest.push((room, next));
                }
            }
            unread = rest;
            if !self.keep_audit().await? {
                return Ok(false);
            }
            // As much rest for each member as for a user.
            tokio::time::sleep(PAUSE.mul_f64(n_read as f64 / PAGE as f64)).await;
        }
        Ok(true)
    }

    /// Looks at a page of each of these rooms, from a cursor on.
    async fn read_pages(&self, rooms: &[(&RoomId, u64)]) -> StoreResult<Vec<Page>> {
        let script = &self.shared.scripts.room_ghosts;
        let mut pages = Vec::with_capacity(rooms.len());
        let mut connection = self.connection().await?;
        for rooms in rooms.chunks(ROOMS_A_CALL) {
            let mut call = self.shared.preamble.call_about_rooms(script);
            call.arg(PAGE);
            for (room, cursor) in rooms {
                call.arg(room.as_str()).arg(cursor);
            }
            let found: Vec<Page> = self.shared.call_or_load(&mut *connection, script, call).await?;
            pages.extend(found);
        }
        Ok(pages)
    }

    async fn note_suspects(&self, room: &RoomId, found: Vec<Vec<u8>>) -> StoreResult<()> {
        if found.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection().await?;
        let key = self.shared.keys.room(room).users();
        let users = self.shared.keep_ours(&mut *connection, "SREM", &key, found, format::known_user).await?;
        let suspects: Vec<String> = users.iter().map(|user| format::member_text(room, user)).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        self.suspect(&mut *connection, &suspects).await
    }

    /// Mends a member who still looks like a ghost. Returns whether there was anything to mend.
    pub(super) async fn mend_member(&self, room: &RoomId, user: &UserId) -> StoreResult<bool> {
        let mut connection = self.connection().await?;
        let script = &self.shared.scripts.room_mend;
        let mut mend = self.shared.preamble.call_about_rooms(script);
        mend.arg(room.as_str()).arg(user.as_str());
        self.shared.load_and_call(&mut *connection, script, mend).await
    }
}
