//! The entries that the writer must look at, and the entries whose departure waits.

use std::collections::VecDeque;

/// The names of entries, in the order in which the writer looks at them. There is one queue for the service, and one for the
/// rooms. The writer looks at the second when nothing is due in the first.
///
/// Invariant: each entry is here at most once, in one of the two lists. `queued` of the entry says whether it is here.
pub(super) struct Queue<Name> {
    /// Each entry comes with the turn in which it was queued.
    due: VecDeque<(u64, Name)>,
    /// Counts how often an entry was queued. The count is the number of the last turn.
    last_turn: u64,
    /// The assertion covers the entries that were queued up to this turn ([`super::Table::begin_assertion`]).
    assertion_turn: u64,
    /// While departures are deferred: the entries that wait to be removed from the store.
    deferred: Option<Vec<Name>>,
}

/// How many forgotten entries may stay in the queue. The number is large, so that the table seldom looks through the
/// queue.
pub(super) const QUEUE_SLACK: usize = 1024;

/// An empty queue. Departures are not deferred.
impl<Name> Default for Queue<Name> {
    fn default() -> Self {
        Self { due: VecDeque::new(), last_turn: 0, assertion_turn: 0, deferred: None }
    }
}

impl<Name> Queue<Name> {
    /// Adds an entry that is not here.
    pub(super) fn push(&mut self, name: Name) {
        self.last_turn += 1;
        self.due.push_back((self.last_turn, name));
    }

    /// Takes out the first entry that is due.
    pub(super) fn pop(&mut self) -> Option<Name> {
        self.due.pop_front().map(|(_, name)| name)
    }

    /// Whether an entry is due.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Begins an assertion: it covers the entries that are due at this moment.
    pub(super) fn begin_assertion(&mut self) {
        self.assertion_turn = self.last_turn;
    }

    /// Whether the entries that the assertion covers are all taken out. Deferred departures do not count.
    pub(super) fn has_asserted(&self) -> bool {
        self.due.front().is_none_or(|(turn, _)| *turn > self.assertion_turn)
    }

    /// From now on, departures are deferred.
    pub(super) fn defer_departures(&mut self) {
        self.deferred.get_or_insert_default();
    }

    /// Whether departures are deferred.
    pub(super) fn defers_departures(&self) -> bool {
        self.deferred.is_some()
    }

    /// Lets the departure of an entry wait. Returns false if departures are not deferred.
    pub(super) fn defer(&mut self, name: Name) -> bool {
        match &mut self.deferred {
            Some(deferred) => {
                deferred.push(name);
                true
            }
            None => false,
        }
    }

    /// Departures are not deferred any more. Takes out the entries that waited.
    pub(super) fn release_departures(&mut self) -> Vec<Name> {
        self.deferred.take().unwrap_or_default()
    }

    /// The queue may still hold names of forgotten entries. They must not add up. `n_known` is the number of the entries
    /// that are not forgotten.
    pub(super) fn drop_forgotten(&mut self, n_known: usize, is_known: impl Fn(&Name) -> bool) {
        if self.due.len() > 2 * n_known + QUEUE_SLACK {
            self.due.retain(|(_, name)| is_known(name));
        }
    }

    /// Number of entries that are due, with those that are forgotten.
    #[cfg(test)]
    pub(super) fn n_due(&self) -> usize {
        self.due.len()
    }
}
