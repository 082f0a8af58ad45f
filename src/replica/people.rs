//! What the replica does about single users: it asks when they were seen, and hands on what is said of them.

use std::future::ready;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Replica;
use crate::backoff::Backoff;
use crate::domain::{HeldSocket, LastSeen, Position, Presence, Said, Statement, Timestamp, UserId};

/// What became of a statement about a user.
#[derive(Debug)]
pub(crate) enum Stated<Refusal> {
    /// It is in effect.
    Done {
        /// The user's data after it.
        presence: Box<Presence>,
        /// Whether this node's view has the statement.
        is_reflected: bool,
    },
    /// The user is not present.
    NotPresent,
    /// It makes no sense together with what is known of the user.
    Refused(Refusal),
    /// The store did not answer in time. The statement may be in effect.
    Unknown,
}

/// What became of a note that a user is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The user is known to have been active at that time, by the store's clock.
    At(Timestamp),
    /// The user is not online, or is hidden.
    NotOnline,
    /// The store did not answer in time. The note may be lost.
    Unknown,
}

impl Replica {
    /// What the store remembers of users who are not visible, in the order of `users`. It is none if the store does not
    /// answer.
    pub(crate) async fn last_seen(&self, users: &[UserId]) -> Option<Vec<Option<LastSeen>>> {
        if self.view().degraded().is_some() {
            // Nobody waits for a store that is known to be away.
            return None;
        }
        match self.store.last_seen(users).await {
            Ok(last_seen) => Some(last_seen),
            Err(error) => {
                debug!(error = %error, "Could not read when {} users were last seen: {error}", users.len());
                None
            }
        }
    }

    /// The sockets of one user, as the store holds them. It is none if the store does not answer.
    pub(crate) async fn sockets_of(&self, user: &UserId) -> Option<Vec<HeldSocket>> {
        if self.view().degraded().is_some() {
            // Nobody waits for a store that is known to be away.
            return None;
        }
        match self.store.sockets_of(user).await {
            Ok(sockets) => Some(sockets),
            Err(error) => {
                debug!(error = %error, "Could not read the sockets of a user: {error}");
                None
            }
        }
    }

    /// Nodes heard that these users were active.
    pub(crate) fn observe_activity(&self, users: &[(UserId, Timestamp)]) {
        self.view.write().unwrap_or_else(PoisonError::into_inner).note_activity(users);
    }

    /// Notes that a user who is online is active. The store is told once in [`super::Times::active_every`].
    pub(crate) async fn note_activity(&self, user: &UserId) -> Noted {
        let Some(known_at) = self.view().roster().get(user).map(|presence| presence.active_at) else {
            return Noted::NotOnline;
        };
        let users = [(user.clone(), self.table.store_now())];
        let at = users[0].1;
        if known_at.until(at) >= self.active_every {
            if let Err(error) = self.store.note_activity(&users).await {
                debug!(error = %error, "Could not note that a user is active: {error}");
                return Noted::Unknown;
            }
            // All nodes show the same time: that which the store was told last.
            self.observe_activity(&users);
        }
        self.table.observe_activity(&users);
        Noted::At(at.max(known_at))
    }

    /// States something about a user who may have no socket here. `say` gets what is known of the user. If the outcome is
    /// unknown, the same statement is made again, until `within` is over.
    pub(crate) async fn state<Refusal>(
        &self,
        user: &UserId,
        say: impl FnOnce(&Presence) -> Result<Said, Refusal>,
        within: Duration,
    ) -> Stated<Refusal> {
        let deadline = Instant::now() + within;
        let known = match timeout_at(deadline, self.known_for_statement(user)).await {
            Ok(Some(known)) => known,
            Ok(None) => return Stated::NotPresent,
            Err(_) => return Stated::Unknown,
        };
        let said = match say(&known) {
            Ok(said) => said,
            Err(refusal) => return Stated::Refused(refusal),
        };
        let now = self.table.store_now();
        // The date is part of the statement. So a repetition says the same.
        let statement = said.dated(&known, now);
        let position = match timeout_at(deadline, self.state_until_heard(user, &statement)).await {
            Ok(Some(position)) => position,
            Ok(None) => return Stated::NotPresent,
            Err(_) => return Stated::Unknown,
        };
        if self.reflects(ready(Some(position))).await {
            let presence = self.view().roster().get_even_hidden(user).cloned();
            return presence.map_or(Stated::NotPresent, |presence| Stated::Done {
                presence: Box::new(presence),
                is_reflected: true,
            });
        }
        let mut presence = known;
        presence.take(&statement, now);
        Stated::Done { presence: Box::new(presence.as_asserted()), is_reflected: false }
    }

    /// What this node knows of a user who is present. If the view does not have the user yet, the store is asked.
    async fn known_for_statement(&self, user: &UserId) -> Option<Presence> {
        if let Some(known) = self.known(user) {
            return Some(known);
        }
        let position = self.state_until_heard(user, &Statement::default()).await?;
        self.reflects(ready(Some(position))).await;
        self.known(user)
    }

    /// The user's data. If a socket here has stated something that the view does not have yet, that holds.
    fn known(&self, user: &UserId) -> Option<Presence> {
        let told = self.view().roster().get_even_hidden(user).cloned()?;
        Some(self.table.presence(user).map_or_else(|| told.clone(), |asserted| asserted.merged_with(&told)))
    }

    /// Makes a statement, again and again until the store answers. Returns none if the user is not present.
    ///
    /// # Cancel safety
    /// The statement may be in effect.
    async fn state_until_heard(&self, user: &UserId, statement: &Statement) -> Option<Position> {
        let mut backoff = Backoff::new(self.backoff_max);
        loop {
            match self.store.state(user, statement).await {
                Ok(position) => return position,
                Err(error) => debug!(error = %error, "It is unknown whether a statement is in effect: {error}"),
            }
            backoff.wait().await;
        }
    }
}
