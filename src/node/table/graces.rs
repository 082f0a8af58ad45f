//! The graces that run, in the service or in rooms.

use std::collections::VecDeque;
use std::time::Instant;

/// The sockets in grace, in the order in which their graces end. All graces in one list have the same length.
#[derive(Default)]
pub(super) struct Graces(VecDeque<(Instant, u64)>);

impl Graces {
    /// The grace of a socket has begun, and ends then.
    pub(super) fn push(&mut self, until: Instant, number: u64) {
        self.0.push_back((until, number));
    }

    /// Takes out a socket whose grace is over.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u64> {
        self.0.pop_front_if(|(until, _)| *until <= now).map(|(_, number)| number)
    }

    /// When the next grace ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.front().map(|(until, _)| *until)
    }
}
