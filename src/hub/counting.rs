//! The sockets of one worker that hear how many users are online, in the service or in a room.

use std::collections::HashMap;
use std::time::Duration;

/// Who is told the number of users online, and what they were told last.
#[derive(Default)]
pub(super) struct Counting {
    /// By the keys of the sockets in the hub.
    sockets: HashMap<usize, Counted>,
    n_online: usize,
    /// The change of the view that brought the number.
    sequence: u64,
}

/// What one socket was told last.
struct Counted {
    n_online: usize,
    /// When, since the hub began.
    at: Duration,
}

/// When a socket is told the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Now,
    Later,
    /// It has been told.
    Known,
}

/// A socket is told the number once in this time at most: a number that changes all the time is of no use to a person.
pub(super) const COUNT_INTERVAL: Duration = Duration::from_secs(1);

impl Counting {
    /// The socket is told the number from now on. It was shown `n_online` just now, at the change `sequence` of the view.
    /// Returns whether some socket is to be told another number.
    pub(super) fn put(&mut self, key: usize, n_online: usize, sequence: u64, hub_time: Duration) -> bool {
        self.sockets.insert(key, Counted { n_online, at: hub_time });
        self.take(n_online, sequence) || n_online != self.n_online
    }

    /// Whether the socket is told the number.
    pub(super) fn contains(&self, key: usize) -> bool {
        self.sockets.contains_key(&key)
    }

    /// The socket is not told the number any more.
    pub(super) fn remove(&mut self, key: usize) {
        self.sockets.remove(&key);
    }

    /// The socket was shown `n_online` just now, in an answer. If it is told the number, it knows that one then. The answer may
    /// come from the store, so the number of the view stays. Returns whether the socket is to be told that.
    pub(super) fn show(&mut self, key: usize, n_online: usize, hub_time: Duration) -> bool {
        let Some(told) = self.sockets.get_mut(&key) else { return false };
        *told = Counted { n_online, at: hub_time };
        n_online != self.n_online
    }

    /// Takes in the number after the change `sequence` of the view. Returns whether some socket is to be told another number.
    pub(super) fn take(&mut self, n_online: usize, sequence: u64) -> bool {
        if sequence < self.sequence {
            return false;
        }
        self.sequence = sequence;
        std::mem::replace(&mut self.n_online, n_online) != n_online && !self.sockets.is_empty()
    }

    /// The number of users online.
    pub(super) fn n_online(&self) -> usize {
        self.n_online
    }

    /// The sockets that were told another number.
    pub(super) fn outdated(&self) -> Vec<usize> {
        self.sockets.iter().filter(|(_, told)| told.n_online != self.n_online).map(|(key, _)| *key).collect()
    }

    /// Whether some socket may be told another number.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Notes that the socket is told the number, unless it may not be told yet, or knows it.
    pub(super) fn tell(&mut self, key: usize, hub_time: Duration) -> Told {
        match self.sockets.get_mut(&key) {
            Some(told) if told.n_online == self.n_online => Told::Known,
            Some(told) if told.at + COUNT_INTERVAL <= hub_time => {
                *told = Counted { n_online: self.n_online, at: hub_time };
                Told::Now
            }
            Some(_) => Told::Later,
            None => Told::Known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_told_a_new_number_once_a_second() {
        let at = Duration::from_millis;
        let mut counting = Counting::default();
        counting.put(7, 3, 10, at(0));
        counting.take(2, 9);
        assert!(counting.outdated().is_empty(), "that was before");
        counting.take(4, 11);
        assert_eq!(counting.outdated(), [7]);
        assert_eq!(counting.tell(7, at(999)), Told::Later);
        assert_eq!(counting.tell(7, at(1000)), Told::Now);
        assert_eq!(counting.tell(7, at(2000)), Told::Known);
        assert!(counting.outdated().is_empty());
        counting.take(5, 12);
        counting.take(4, 13);
        assert!(counting.outdated().is_empty(), "the number stands");
    }
}
