//! What the replica does about single users: it asks when they were seen, and hands on what is said of them.

use std::future::ready;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Replica;
use crate::backoff::Backoff;
use crate::domain::{HeldSocket, LastSeen, Position, Presence, Said, Statement, Timestamp, UserId};
use crate::store::StatementOutcome;

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
                debug!(error = %error, "Could not read when {} users were last seen", users.len());
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
                debug!(error = %error, "Could not read the sockets of a user");
                None
            }
        }
    }

    /// Nodes heard that these users were active.
    pub(crate) fn observe_activity(&self, users: &[(UserId, Timestamp)]) {
        self.views.write().service.note_activity(users);
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
                debug!(error = %error, "Could not note that a user is active");
                return Noted::Unknown;
            }
            // All nodes show the same time: that which the store was told last.
            self.observe_activity(&users);
        }
        self.table.observe_activity(&users);
        Noted::At(at.max(known_at))
    }

    /// States something about a user who may have no socket here. `say` gets what is known of the user. If the outcome is
    /// unknown, the same statement is made again, until `within` is over. If somebody else has stated another profile
    /// meanwhile, `say` is asked again. So two changes of different fields do not undo each other.
    pub(crate) async fn state<Refusal>(
        &self,
        user: &UserId,
        say: impl Fn(&Presence) -> Result<Said, Refusal>,
        within: Duration,
    ) -> Stated<Refusal> {
        let stating = async {
            let mut backoff = Backoff::new(self.backoff_max);
            loop {
                let Some(known) = self.known_for_statement(user).await else { return Stated::NotPresent };
                let said = match say(&known) {
                    Ok(said) => said,
                    Err(refusal) => return Stated::Refused(refusal),
                };
                let now = self.table.store_now();
                // The date is part of the statement. So a repetition says the same.
                let statement = said.dated(&known, now);
                match self.state_until_heard(user, &statement, known.profile_at).await {
                    StatementOutcome::Done(position) => {
                        return self.after(position, user, known, &statement, now).await;
                    }
                    StatementOutcome::Stale(position) => _ = self.reflects(ready(Some(position))).await,
                    StatementOutcome::NotPresent => return Stated::NotPresent,
                }
                backoff.wait().await;
            }
        };
        timeout_at(Instant::now() + within, stating).await.unwrap_or(Stated::Unknown)
    }

    /// What holds of a user after a statement that is in effect at `position`. `known` was known before.
    async fn after<Refusal>(
        &self,
        position: Position,
        user: &UserId,
        known: Presence,
        statement: &Statement,
        now: Timestamp,
    ) -> Stated<Refusal> {
        if self.reflects(ready(Some(position))).await {
            let presence = self.view().roster().get_even_hidden(user).cloned();
            return presence.map_or(Stated::NotPresent, |presence| Stated::Done {
                presence: Box::new(presence),
                is_reflected: true,
            });
        }
        let mut presence = known;
        presence.take(statement, now);
        Stated::Done { presence: Box::new(presence.as_asserted()), is_reflected: false }
    }

    /// What this node knows of a user who is present. If the view does not have the user yet, the store is asked.
    async fn known_for_statement(&self, user: &UserId) -> Option<Presence> {
        if let Some(known) = self.known(user) {
            return Some(known);
        }
        match self.state_until_heard(user, &Statement::default(), Timestamp(0)).await {
            StatementOutcome::Done(position) | StatementOutcome::Stale(position) => {
                self.reflects(ready(Some(position))).await;
                self.known(user)
            }
            StatementOutcome::NotPresent => None,
        }
    }

    /// The user's data. If a socket here has stated something that the view does not have yet, that holds.
    fn known(&self, user: &UserId) -> Option<Presence> {
        let told = self.view().roster().get_even_hidden(user).cloned()?;
        Some(self.table.presence(user).map_or_else(|| told.clone(), |asserted| asserted.merged_with(&told)))
    }

    /// Makes a statement, again and again until the store answers. If it has a profile, that was made from the profile of
    /// the date `base`.
    ///
    /// # Cancel safety
    /// The statement may be in effect.
    async fn state_until_heard(&self, user: &UserId, statement: &Statement, base: Timestamp) -> StatementOutcome {
        let base = statement.profile.is_some().then_some(base);
        let mut backoff = Backoff::new(self.backoff_max);
        loop {
            match self.store.state(user, statement, base).await {
                Ok(outcome) => return outcome,
                Err(error) => debug!(error = %error, "It is unknown whether a statement is in effect"),
            }
            backoff.wait().await;
        }
    }
}
