//! The sockets that the writer must look at, and the sockets whose departure waits.

use std::collections::VecDeque;

/// The numbers of sockets, in the order in which the writer looks at them.
///
/// Invariant: each socket is here at most once, in one of the two queues. `Socket::queued` says whether it is here.
#[derive(Default)]
pub(super) struct Queue {
    /// Each socket comes with the turn in which it was queued.
    due: VecDeque<(u64, u64)>,
    /// Counts how often a socket was queued. The count is the number of the last turn.
    last_turn: u64,
    /// The assertion covers the sockets that were queued up to this turn ([`super::Table::begin_assertion`]).
    assertion_turn: u64,
    /// While departures are deferred: the sockets that wait to be removed from the store.
    deferred: Option<Vec<u64>>,
}

/// How many forgotten sockets may stay in the queue. The number is large, so that the table seldom looks through the
/// queue.
pub(super) const QUEUE_SLACK: usize = 1024;

impl Queue {
    /// Adds a socket that is not here.
    pub(super) fn push(&mut self, number: u64) {
        self.last_turn += 1;
        self.due.push_back((self.last_turn, number));
    }

    /// Takes out the first socket that is due.
    pub(super) fn pop(&mut self) -> Option<u64> {
        self.due.pop_front().map(|(_, number)| number)
    }

    /// Whether a socket is due.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Begins an assertion: it covers the sockets that are due at this moment.
    pub(super) fn begin_assertion(&mut self) {
        self.assertion_turn = self.last_turn;
    }

    /// Whether the sockets that the assertion covers are all taken out. Deferred departures do not count.
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

    /// Lets the departure of a socket wait. Returns false if departures are not deferred.
    pub(super) fn defer(&mut self, number: u64) -> bool {
        match &mut self.deferred {
            Some(deferred) => {
                deferred.push(number);
                true
            }
            None => false,
        }
    }

    /// Departures are not deferred any more. Takes out the sockets that waited.
    pub(super) fn release_departures(&mut self) -> Vec<u64> {
        self.deferred.take().unwrap_or_default()
    }

    /// The queue may still hold numbers of forgotten sockets. They must not add up. `n_known` is the number of the
    /// sockets that are not forgotten.
    pub(super) fn drop_forgotten(&mut self, n_known: usize, is_known: impl Fn(u64) -> bool) {
        if self.due.len() > 2 * n_known + QUEUE_SLACK {
            self.due.retain(|(_, number)| is_known(*number));
        }
    }

    /// Number of sockets that are due, with those that are forgotten.
    #[cfg(test)]
    pub(super) fn n_due(&self) -> usize {
        self.due.len()
    }
}
