//! The chosen statuses of users who have just gone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{ChosenStatus, Presence, Timestamp, UserId};

/// What users who have gone had chosen, for a short time. A client that comes back and states no status gets it back. So a
/// user who is invisible does not show for a moment after a bad connection.
pub(super) struct Departed {
    remember: Duration,
    chosen: HashMap<UserId, (Timestamp, Arc<ChosenStatus>)>,
    /// In the order of their departures.
    order: VecDeque<(Timestamp, UserId)>,
}

impl Departed {
    /// Remembers each user for `remember`.
    pub(super) fn new(remember: Duration) -> Self {
        Self { remember, chosen: HashMap::new(), order: VecDeque::new() }
    }

    /// The user went at `at`. `known` is what was known of the user.
    pub(super) fn remember(&mut self, user: &UserId, known: Option<&Presence>, at: Timestamp) {
        while let Some((gone_at, user)) = self.order.front()
            && gone_at.until(at) > self.remember
        {
            if self.chosen.get(user).is_some_and(|(last_gone_at, _)| last_gone_at == gone_at) {
                self.chosen.remove(user);
            }
            self.order.pop_front();
        }
        if let Some(chosen) = known.and_then(|known| known.chosen.clone()) {
            self.chosen.insert(user.clone(), (at, chosen));
            self.order.push_back((at, user.clone()));
        }
    }

    /// What is remembered of the user at `now`: the chosen status, and nothing else.
    pub(super) fn statement_of(&self, user: &UserId, now: Timestamp) -> Option<Presence> {
        let (gone_at, chosen) = self.chosen.get(user)?;
        if gone_at.until(now) > self.remember || chosen.has_expired(now) {
            return None;
        }
        Some(Presence { effective: chosen.status, chosen: Some(chosen.clone()), ..Presence::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Status;

    #[test]
    fn a_choice_is_remembered_for_its_time_and_takes_no_memory_after_it() {
        let mut departed = Departed::new(Duration::from_millis(100));
        let chosen = ChosenStatus { status: Status::Invisible, text: None, expires_at: None, at: Timestamp(1) };
        let known = Presence { chosen: Some(Arc::new(chosen)), ..Presence::default() };
        let user = |n: u64| UserId::parse(&format!("u{n}")).unwrap();
        for n in 0..10 {
            departed.remember(&user(n), Some(&known), Timestamp(1000 + n));
        }
        let status_at =
            |departed: &Departed, now| departed.statement_of(&user(0), Timestamp(now)).map(|known| known.effective);
        assert_eq!(status_at(&departed, 1100), Some(Status::Invisible));
        assert_eq!(status_at(&departed, 1101), None);
        departed.remember(&user(99), None, Timestamp(2000));
        assert!(departed.chosen.is_empty() && departed.order.is_empty());
    }
}
