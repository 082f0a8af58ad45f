//! Who types, as this node's clients were told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::domain::{TypingTarget, UserId};

/// The users who type, each until it ends by itself.
pub(super) struct Typists {
    ends_after: Duration,
    typing: HashMap<Typist, Told>,
    ends: DelayQueue<Typist>,
}

/// What clients were told of a typist.
struct Told {
    /// Its place in `ends`.
    end: Key,
    at: Instant,
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

/// While somebody goes on typing, clients are told again after this time. A client may have forgotten it, because its picture
/// of a typist ends after 6 s (docs/protocol.md, typing), or may have come later.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(2);

impl Typists {
    /// Nobody types. Typing ends after `ends_after`, unless the client says again that its user types.
    pub(super) fn new(ends_after: Duration) -> Self {
        Self { ends_after, typing: HashMap::new(), ends: DelayQueue::new() }
    }

    /// Somebody types. Returns whether clients are told.
    pub(super) fn begin(&mut self, typist: &Typist, now: Instant) -> bool {
        if let Some(told) = self.typing.get_mut(typist) {
            self.ends.reset(&told.end, self.ends_after);
            let is_told = now.saturating_duration_since(told.at) >= TOLD_AGAIN_AFTER;
            if is_told {
                told.at = now;
            }
            return is_told;
        }
        let is_told = self.typing.len() < TYPISTS_MAX;
        if is_told {
            let end = self.ends.insert(typist.clone(), self.ends_after);
            self.typing.insert(typist.clone(), Told { end, at: now });
        }
        is_told
    }

    /// Somebody has stopped. Returns whether clients are told.
    pub(super) fn end(&mut self, typist: &Typist) -> bool {
        let Some(told) = self.typing.remove(typist) else { return false };
        self.ends.remove(&told.end);
        true
    }

    /// Waits for the next end. Without typists it waits for ever.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next_end(&mut self) -> Typist {
        match self.ends.next().await {
            Some(ended) => {
                let typist = ended.into_inner();
                self.typing.remove(&typist);
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
        let (mut typists, now) = (Typists::new(Duration::from_millis(50)), Instant::now());
        assert!(typists.begin(&typist("ada"), now));
        assert!(typists.begin(&typist("eve"), now));
        // Ends are due in order of the last time that the client said it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!typists.begin(&typist("ada"), now), "they were told");
        assert_eq!(typists.next_end().await, typist("eve"));
        assert_eq!(typists.next_end().await, typist("ada"));
        assert!(!typists.end(&typist("ada")), "it has ended");
        assert!(typists.typing.is_empty() && typists.ends.is_empty());
    }

    #[tokio::test]
    async fn whoever_goes_on_is_told_again_and_whoever_stops_is_told_once() {
        let (mut typists, now) = (Typists::new(LONG), Instant::now());
        assert!(!typists.end(&typist("ada")));
        assert!(typists.begin(&typist("ada"), now));
        assert!(!typists.begin(&typist("ada"), now + TOLD_AGAIN_AFTER / 2));
        assert!(typists.begin(&typist("ada"), now + TOLD_AGAIN_AFTER));
        assert!(!typists.begin(&typist("ada"), now + TOLD_AGAIN_AFTER));
        assert!(typists.end(&typist("ada")));
        assert!(!typists.end(&typist("ada")));
        assert!(typists.typing.is_empty() && typists.ends.is_empty());
    }

    #[tokio::test]
    async fn the_number_of_typists_is_bounded() {
        let (mut typists, now) = (Typists::new(LONG), Instant::now());
        for n in 0..TYPISTS_MAX {
            assert!(typists.begin(&typist(&n.to_string()), now));
        }
        assert!(!typists.begin(&typist("one more"), now));
        assert!(typists.end(&typist("0")));
        assert!(typists.begin(&typist("one more"), now));
    }
}
