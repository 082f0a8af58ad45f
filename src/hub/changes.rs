//! Which users have changed, for the sockets of one worker that are paused.

use std::collections::{HashSet, VecDeque};

use crate::domain::UserId;

/// The last changes of the view, without what they say. They are kept only while a socket is paused. So a socket that is
/// paused costs nothing when something happens.
#[derive(Default)]
pub(super) struct Changes {
    entries: VecDeque<Change>,
    /// Changes up to this sequence are not here.
    forgotten_up_to: u64,
}

struct Change {
    sequence: u64,
    user: UserId,
    /// Whether the user was online before.
    was_online: bool,
}

/// How many changes are kept. A client that missed more gets the list anyway.
const CHANGES_MAX: usize = 10_000;

impl Changes {
    /// Takes in the next change.
    pub(super) fn push(&mut self, sequence: u64, user: UserId, was_online: bool) {
        if self.entries.len() == CHANGES_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.forgotten_up_to = oldest.sequence;
        }
        self.entries.push_back(Change { sequence, user, was_online });
    }

    /// Forgets everything up to `sequence`. Nobody needs it, or some of it is missing.
    pub(super) fn forget_up_to(&mut self, sequence: u64) {
        *self = Self { entries: VecDeque::new(), forgotten_up_to: sequence };
    }

    /// The users that changed after `after` and not after `up_to`, each once, in the order of their first change. Each
    /// comes with whether they were online before that. It is none if some changes are forgotten, or if more than `max`
    /// users changed.
    pub(super) fn between(&self, after: u64, up_to: u64, max: usize) -> Option<Vec<(UserId, bool)>> {
        if after < self.forgotten_up_to {
            return None;
        }
        let first = self.entries.partition_point(|change| change.sequence <= after);
        let changes = self.entries.range(first..).take_while(|change| change.sequence <= up_to);
        let (mut users, mut seen) = (Vec::new(), HashSet::new());
        for change in changes {
            if seen.insert(&change.user) {
                users.push((change.user.clone(), change.was_online));
            }
            if users.len() > max {
                return None;
            }
        }
        Some(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn each_user_comes_once_with_what_was_before() {
        let mut changes = Changes::default();
        changes.forget_up_to(4);
        for (sequence, id, was_online) in [(5, "a", true), (7, "b", false), (8, "a", false), (9, "c", false)] {
            changes.push(sequence, user(id), was_online);
        }
        assert_eq!(changes.between(4, 8, 10), Some(vec![(user("a"), true), (user("b"), false)]));
        assert_eq!(changes.between(5, 9, 10).unwrap().len(), 3);
        assert_eq!(changes.between(9, 9, 10), Some(Vec::new()));
        assert_eq!(changes.between(3, 9, 10), None, "what came first is forgotten");
        assert_eq!(changes.between(4, 9, 2), None, "too many");
    }

    #[test]
    fn a_bounded_number_of_changes_is_kept() {
        let mut changes = Changes::default();
        let n_changes = CHANGES_MAX as u64 + 2;
        (1..=n_changes).for_each(|sequence| changes.push(sequence, user("a"), true));
        assert_eq!(changes.between(1, n_changes, 10), None);
        assert!(changes.between(2, n_changes, 10).is_some());
    }
}
