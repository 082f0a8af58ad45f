//! What somebody states about a user, and which of two statements holds.

use std::sync::Arc;
use std::time::Duration;

use super::{ChosenStatus, Presence, Profile, Status, StatusText, Timestamp};

/// What the user, or the application's server, states: each part with its date. A part that is `None` is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statement {
    /// The profile and its date. The profile itself is none if all its fields are to go.
    pub profile: Option<(Option<Profile>, Timestamp)>,
    /// The chosen status, which has its date in it.
    pub chosen: Option<ChosenStatus>,
}

/// A statement as it comes in, without dates. A part that is `None` is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// The whole profile. The profile itself is none if all its fields are to go.
    pub profile: Option<Option<Profile>>,
    /// The status.
    pub status: Option<SaidStatus>,
}

/// A status as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidStatus {
    /// What is chosen.
    pub status: Status,
    /// The words beside it.
    pub text: Option<StatusText>,
    /// When the choice ends.
    pub expiry: Option<Expiry>,
    /// Whether a client says again what it may have chosen before: it joins. A choice that holds already keeps its date
    /// then. Otherwise somebody chooses just now, and the choice gets a date, also if it is the same as before.
    pub is_repeated: bool,
}

/// When something ends, as somebody said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// At this time.
    At(Timestamp),
    /// This long after it was said.
    After(Duration),
}

/// A date may be this much ahead of the store's clock and of the date before. A node whose time is wrong must not make a
/// statement that nobody can change. `cut` in `src/store/redis/lua/presence.lua` has the same number.
const AHEAD: Duration = Duration::from_secs(1);

impl Said {
    /// Whether the user hides with this.
    pub(crate) fn hides(&self) -> bool {
        self.status.as_ref().is_some_and(|said| said.status == Status::Invisible)
    }

    /// The statement that is made at `now`, by the store's clock, about a user of whom `known` is known. A profile, or a
    /// repeated choice, that says what holds already is left out: it keeps its date.
    pub fn dated(self, known: &Presence, now: Timestamp) -> Statement {
        // A statement holds over all that this node knows, even if the clock was set back.
        let after = |known_at: Timestamp| now.max(Timestamp(known_at.0.saturating_add(1)));
        let is_news = |profile: &Option<Profile>| *profile != known.profile || known.profile_at == Timestamp(0);
        let profile = self.profile.filter(is_news).map(|profile| (profile, after(known.profile_at)));
        let says_again = self.status.as_ref().is_some_and(|said| said.is_repeated);
        let chosen = self.status.map(|said| {
            let expires_at = said.expiry.map(|expiry| match expiry {
                Expiry::At(at) => at,
                Expiry::After(duration) => now.after(duration),
            });
            ChosenStatus { status: said.status, text: said.text, expires_at, at: after(known.chosen_at()) }
        });
        let holds = |chosen: &ChosenStatus| known.chosen.as_ref().is_some_and(|known| known.says_the_same(chosen));
        Statement { profile, chosen: chosen.filter(|chosen| !(says_again && holds(chosen))) }
    }
}

impl Statement {
    /// What `presence` states.
    pub(crate) fn of(presence: &Presence) -> Self {
        let is_stated = presence.profile_at > Timestamp(0);
        Self {
            profile: is_stated.then(|| (presence.profile.clone(), presence.profile_at)),
            chosen: presence.chosen.as_deref().cloned(),
        }
    }
}

/// The rules of `src/store/redis/lua/presence.lua`, for what does not go through Redis.
impl Presence {
    /// Takes over what is stated at `now`. Of each part the one with the higher date holds. A profile that says what holds
    /// already keeps its date.
    pub fn take(&mut self, statement: &Statement, now: Timestamp) {
        self.expire(now);
        if let Some((profile, at)) = &statement.profile {
            let at = cut(*at, self.profile_at, now);
            let is_same = *profile == self.profile && self.profile_at > Timestamp(0);
            if at > self.profile_at && !is_same {
                (self.profile, self.profile_at) = (profile.clone(), at);
            }
        }
        if let Some(stated) = &statement.chosen {
            let at = cut(stated.at, self.chosen_at(), now);
            if at > self.chosen_at() {
                self.chosen = Some(Arc::new(ChosenStatus { at, ..stated.clone() }));
                self.expire(now);
            }
        }
    }

    /// Ends the chosen status if its time has come.
    pub fn expire(&mut self, now: Timestamp) {
        if let Some(chosen) = self.chosen.as_ref().filter(|chosen| chosen.has_expired(now)) {
            self.chosen = Some(Arc::new(chosen.expired()));
        }
    }
}

fn cut(date: Timestamp, stored: Timestamp, now: Timestamp) -> Timestamp {
    date.min(now.max(stored).after(AHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ProfileFields;

    fn profile(name: &str) -> Option<Profile> {
        Profile::from_fields(&ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() })
    }

    fn say(status: Status, expiry: Option<Expiry>) -> Said {
        Said { profile: None, status: Some(SaidStatus { status, text: None, expiry, is_repeated: true }) }
    }

    #[test]
    fn what_is_said_is_dated_above_all_that_is_known() {
        let known = Presence { profile: profile("a"), profile_at: Timestamp(50), ..Presence::default() };
        let said =
            Said { profile: Some(profile("b")), ..say(Status::Busy, Some(Expiry::After(Duration::from_millis(5)))) };
        let statement = said.dated(&known, Timestamp(10));
        assert_eq!(statement.profile, Some((profile("b"), Timestamp(51))), "the clock was set back");
        let chosen = statement.chosen.unwrap();
        assert_eq!((chosen.at, chosen.expires_at), (Timestamp(10), Some(Timestamp(15))));
    }

    #[test]
    fn who_says_the_same_again_states_nothing() {
        let mut known = Presence { profile: profile("a"), profile_at: Timestamp(5), ..Presence::default() };
        known.take(&say(Status::Dnd, None).dated(&known, Timestamp(6)), Timestamp(6));
        let again = Said { profile: Some(profile("a")), ..say(Status::Dnd, None) };
        assert_eq!(again.dated(&known, Timestamp(9)), Statement::default());
    }

    #[test]
    fn the_later_statement_holds_in_whichever_order_they_come() {
        let early = say(Status::Busy, None).dated(&Presence::default(), Timestamp(5));
        let late = say(Status::Away, None).dated(&Presence::default(), Timestamp(6));
        for order in [[&early, &late], [&late, &early]] {
            let mut presence = Presence::default();
            order.into_iter().for_each(|statement| presence.take(statement, Timestamp(7)));
            assert_eq!((presence.chosen_status(), presence.chosen_at()), (Status::Away, Timestamp(6)));
        }
    }

    #[test]
    fn a_date_far_ahead_is_cut_and_an_expired_choice_is_online() {
        let mut presence = Presence::default();
        presence.take(&say(Status::Dnd, None).dated(&Presence::default(), Timestamp(99_000)), Timestamp(10));
        assert_eq!(presence.chosen_at(), Timestamp(1010));
        let late = say(Status::Busy, Some(Expiry::At(Timestamp(2000)))).dated(&presence, Timestamp(1500));
        presence.take(&late, Timestamp(1500));
        assert_eq!(presence.chosen_status(), Status::Busy);
        presence.expire(Timestamp(2000));
        assert_eq!((presence.chosen_status(), presence.chosen_at()), (Status::Online, Timestamp(1500)));
    }
}
