//! The changes that this node told last, for a person who asks what happens.

use std::collections::VecDeque;

use super::view::Announcement;

/// The last changes that others were told. Nothing in it says more than others have heard.
#[derive(Debug, Default)]
pub(super) struct Newest(VecDeque<Announcement>);

/// How many changes are kept. A person sees no more at once.
const KEPT: usize = 50;

impl Newest {
    /// Keeps a change, if others were told of it.
    pub(super) fn push(&mut self, announcement: Announcement) {
        if announcement.others.is_none() {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(announcement);
    }

    /// The changes, the newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Announcement> {
        self.0.iter().rev()
    }
}
