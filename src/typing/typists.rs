//! Who types, as this node's clients were told.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::domain::{TypingTarget, UserId};

/// The users who type, each until it ends by itself. Nobody is told the same twice in a row.
pub(super) struct Typists {
    ends_after: Duration,
    keys: HashMap<Typist, Key>,
    ends: DelayQueue<Typist>,
}

/// Somebody who types, and who is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Typist {
    /// Who types.
    pub(super) user: UserId,
    /// Who is told.
    pub(super) target: TypingTarget,
}

/// How many typists a node knows: about 2 MiB. Further ones are dropped.
const TYPISTS_MAX: usize = 10_000;

impl Typists {
    /// Nobody types. Typing ends after `ends_after`, unless the client says again that its user types.
    pub(super) fn new(ends_after: Duration) -> Self {
        Self { ends_after, keys: HashMap::new(), ends: DelayQueue::new() }
    }

    /// Somebody types, or has stopped. Returns whether clients are told: they are if they were told otherwise before.
    pub(super) fn take(&mut self, typist: &Typist, is_typing: bool) -> bool {
        match (self.keys.get(typist), is_typing) {
            (Some(key), true) => self.ends.reset(key, self.ends_after),
            (Some(_), false) => {
                if let Some(key) = self.keys.remove(typist) {
                    self.ends.remove(&key);
                }
                return true;
            }
            (None, true) if self.keys.len() < TYPISTS_MAX => {
                let key = self.ends.insert(typist.clone(), self.ends_after);
                self.keys.insert(typist.clone(), key);
                return true;
            }
            (None, _) => {}
        }
        false
    }

    /// Waits for the next end. Without typists it waits for ever.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next_end(&mut self) -> Typist {
        match self.ends.next().await {
            Some(ended) => {
                let typist = ended.into_inner();
                self.keys.remove(&typist);
                typist
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typist(user: &str) -> Typist {
        let id = |id| UserId::parse(id).unwrap();
        Typist { user: id(user), target: TypingTarget::User(id("bob")) }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn typing_ends_by_itself_unless_it_goes_on() {
        let mut typists = Typists::new(Duration::from_millis(50));
        assert!(typists.take(&typist("ada"), true));
        assert!(typists.take(&typist("eve"), true));
        // Ends are due in order of the last time that the client said it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!typists.take(&typist("ada"), true), "they were told");
        assert_eq!(typists.next_end().await, typist("eve"));
        assert_eq!(typists.next_end().await, typist("ada"));
        assert!(!typists.take(&typist("ada"), false), "it has ended");
        assert!(typists.keys.is_empty() && typists.ends.is_empty());
    }

    #[tokio::test]
    async fn whoever_stops_is_told_once() {
        let mut typists = Typists::new(LONG);
        assert!(!typists.take(&typist("ada"), false));
        assert!(typists.take(&typist("ada"), true));
        assert!(typists.take(&typist("ada"), false));
        assert!(!typists.take(&typist("ada"), false));
        assert!(typists.keys.is_empty() && typists.ends.is_empty());
    }

    #[tokio::test]
    async fn the_number_of_typists_is_bounded() {
        let mut typists = Typists::new(LONG);
        for n in 0..TYPISTS_MAX {
            assert!(typists.take(&typist(&n.to_string()), true));
        }
        assert!(!typists.take(&typist("one more"), true));
        assert!(typists.take(&typist("0"), false));
        assert!(typists.take(&typist("one more"), true));
    }
}
