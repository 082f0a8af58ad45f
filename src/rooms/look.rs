//! Who is in a room, for somebody who may not be in it.

use std::sync::Arc;

use super::Rooms;
use super::reads::{RoomRead, Unread};
use crate::clock;
use crate::domain::{Presence, RoomId, Roster, RosterPage, SocketId, Timestamp, UserId};
use crate::replica::{RoomView, ViewGuard};

/// What is known of a room besides the view.
pub(crate) struct Look {
    room: RoomId,
    read: Option<Arc<RoomRead>>,
    /// If the store did not answer, when it was asked. If the view of the room is out of date, since when.
    pub(crate) unanswered_since: Option<Timestamp>,
}

/// Whom a room shows at one time, together with those who are visible in the service.
pub(crate) struct Sight<'a>(Source<'a>, &'a Roster);

/// Who says who is in a room.
enum Source<'a> {
    View(&'a RoomView),
    Store(&'a RoomRead),
}

/// Why nobody can say who is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// Too many rooms are being read from the store.
    TooMany,
    /// The store does not answer, and the room is not open here.
    Unavailable,
}

impl Rooms {
    /// Looks who is in a room. The room may be open here, and then the view knows.
    ///
    /// # Errors
    /// [`Unseen`].
    pub(crate) async fn look(&self, room: &RoomId) -> Result<Look, Unseen> {
        if self.is_known_here(room) && self.behind_since(room).is_none() {
            return Ok(Look::at_the_view(room, None));
        }
        self.look_at_sockets(room).await
    }

    /// Does the same. The answer also says one socket of each user there, as far as the store can be asked.
    ///
    /// # Errors
    /// [`Unseen`].
    pub(crate) async fn look_at_sockets(&self, room: &RoomId) -> Result<Look, Unseen> {
        let asked_at = clock::now();
        match self.look_into_the_store(room).await {
            Err(unseen) if self.is_known_here(room) => {
                let unanswered_since = (unseen == Unseen::Unavailable).then_some(asked_at);
                Ok(Look::at_the_view(room, self.behind_since(room).or(unanswered_since)))
            }
            looked => looked,
        }
    }

    async fn look_into_the_store(&self, room: &RoomId) -> Result<Look, Unseen> {
        if self.replica.view().degraded().is_some() {
            // Nobody waits for a store that is known to be away.
            return Err(Unseen::Unavailable);
        }
        let read = self.reads.read(room).await.map_err(|unread| match unread {
            Unread::TooMany => Unseen::TooMany,
            Unread::Unavailable => Unseen::Unavailable,
        })?;
        // A room that is too large for one read is opened, as if somebody here were in it.
        if read.has_more && !self.is_known_here(room) && !self.replica.open_room(room).await {
            return Err(Unseen::Unavailable);
        }
        let unanswered_since = self.behind_since(room).filter(|_| read.has_more);
        Ok(Look { room: room.clone(), read: Some(read), unanswered_since })
    }

    fn is_known_here(&self, room: &RoomId) -> bool {
        self.replica.view().rooms().known(room).is_some()
    }

    fn behind_since(&self, room: &RoomId) -> Option<Timestamp> {
        self.replica.view().rooms().behind_since(room)
    }
}

impl Look {
    fn at_the_view(room: &RoomId, unanswered_since: Option<Timestamp>) -> Self {
        Self { room: room.clone(), read: None, unanswered_since }
    }

    /// What is seen of the room in a view.
    ///
    /// # Errors
    /// [`Unseen::Unavailable`] if the room has been closed here since the look.
    pub(crate) fn at<'a>(&'a self, view: &'a ViewGuard<'_>) -> Result<Sight<'a>, Unseen> {
        let open = view.rooms().known(&self.room);
        let whole = self.read.as_deref().filter(|read| !read.has_more);
        let is_behind = view.rooms().behind_since(&self.room).is_some();
        match (open, whole) {
            (Some(room), read) if read.is_none() || !is_behind => Ok(Sight(Source::View(room), view.roster())),
            (_, Some(read)) => Ok(Sight(Source::Store(read), view.roster())),
            (_, None) => Err(Unseen::Unavailable),
        }
    }

    /// One socket of a user in the room, if the store said so.
    pub(crate) fn socket_of(&self, user: &UserId) -> Option<SocketId> {
        self.read.as_ref()?.socket_of(user)
    }
}

impl<'a> Sight<'a> {
    /// How many users the room shows.
    pub(crate) fn count(&self) -> usize {
        match &self.0 {
            Source::View(room) => room.len(),
            Source::Store(read) => visible(read.members(), self.1).count(),
        }
    }

    /// Up to `limit` of the users whom the room shows, after `cursor`.
    pub(crate) fn page(&self, cursor: Option<&UserId>, limit: usize) -> RosterPage<'a> {
        match &self.0 {
            Source::View(room) => room.page(self.1, cursor, limit),
            Source::Store(read) => page(read.after(cursor), self.1, limit),
        }
    }
}

/// A member of a room, with one of the sockets there.
type Member = (UserId, Option<SocketId>);

/// The members who are visible in the service: those whom the room shows.
fn visible<'a>(members: &'a [Member], roster: &'a Roster) -> impl Iterator<Item = (&'a UserId, &'a Presence)> {
    members.iter().filter_map(|(user, _)| Some((user, roster.get(user)?)))
}

fn page<'a>(members: &'a [Member], roster: &'a Roster, limit: usize) -> RosterPage<'a> {
    let mut rest = visible(members, roster);
    let users: Vec<_> = rest.by_ref().take(limit).collect();
    let next_cursor = rest.next().and_then(|_| users.last().map(|(user, _)| *user));
    RosterPage { users, next_cursor }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{ChosenStatus, Status};

    fn user(n: u8) -> UserId {
        UserId::parse(&format!("u{n:02}")).unwrap()
    }

    fn roster(visible: &[u8], hidden: &[u8]) -> Roster {
        let chosen = ChosenStatus { status: Status::Invisible, text: None, expires_at: None, at: Timestamp(1) };
        let hides = Presence { chosen: Some(Arc::new(chosen)), effective: Status::Invisible, ..Presence::default() };
        let hidden = hidden.iter().map(|n| (user(*n), hides.clone()));
        visible.iter().map(|n| (user(*n), Presence::default())).chain(hidden).collect()
    }

    proptest! {
        #[test]
        fn the_pages_are_the_visible_members_each_once_and_in_order(
            members in prop::collection::btree_set(0..40u8, 0..40),
            visible_users in prop::collection::btree_set(0..20u8, 0..20),
            hidden in prop::collection::btree_set(20..30u8, 0..10),
            limit in 1..7usize,
        ) {
            let (shown, hidden): (Vec<u8>, Vec<u8>) =
                (visible_users.iter().copied().collect(), hidden.iter().copied().collect());
            let roster = roster(&shown, &hidden);
            let read = RoomRead::new(members.iter().rev().map(|n| (user(*n), None)).collect(), false);
            let expected: Vec<UserId> = members.intersection(&visible_users).map(|n| user(*n)).collect();
            prop_assert_eq!(visible(read.members(), &roster).count(), expected.len());
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = page(read.after(cursor.as_ref()), &roster, limit);
                prop_assert!(page.users.len() <= limit);
                seen.extend(page.users.iter().map(|(user, _)| (*user).clone()));
                match page.next_cursor {
                    Some(next) => cursor = Some(next.clone()),
                    None => break,
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
