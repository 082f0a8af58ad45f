//! The view of the service and the views of rooms, under one lock. So a room never contradicts the service, and one sequence
//! counts what is told of both.

use std::ops::Deref;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::newest::Newest;
use super::room_views::RoomViews;
use super::view::{Announcement, View};

/// All views of a node.
pub(super) struct Views(RwLock<AllViews>);

/// What is under the lock.
pub(super) struct AllViews {
    /// The view of the service.
    pub(super) service: View,
    /// The views of rooms.
    pub(super) rooms: RoomViews,
    /// What was told last of the service.
    newest: Newest,
}

/// The views, locked for reading. It is the view of the service, and has the views of rooms, too.
pub struct ViewGuard<'a>(RwLockReadGuard<'a, AllViews>);

impl Views {
    /// The view of the service, and no rooms.
    pub(super) fn new(service: View) -> Self {
        let rooms = RoomViews::new(service.numbering());
        Self(RwLock::new(AllViews { service, rooms, newest: Newest::default() }))
    }

    /// Locks the views for reading.
    pub(super) fn read(&self) -> ViewGuard<'_> {
        ViewGuard(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks the views for writing.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, AllViews> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AllViews {
    /// Each part, so that one can change while another is read.
    pub(super) fn parts(&mut self) -> (&mut View, &mut RoomViews, &mut Newest) {
        (&mut self.service, &mut self.rooms, &mut self.newest)
    }
}

impl ViewGuard<'_> {
    /// The views of the rooms that this node has opened.
    pub fn rooms(&self) -> &RoomViews {
        &self.0.rooms
    }

    /// The changes that others were told last, the newest first. They are bounded in number.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Announcement> {
        self.0.newest.iter()
    }
}

impl Deref for ViewGuard<'_> {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0.service
    }
}
