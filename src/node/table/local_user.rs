//! A user with sockets on this node.

use crate::domain::{Presence, Said, Timestamp};
use crate::store::Dates;

/// The data that this node asserts of a user, and the user's sockets here.
pub(super) struct LocalUser {
    /// The data.
    pub(super) presence: Presence,
    /// When all nodes were last told that the user was active: by this node or by another, with a note or with a
    /// transition.
    pub(super) noted_at: Timestamp,
    /// The numbers of the user's sockets here.
    pub(super) sockets: Vec<u64>,
}

impl LocalUser {
    /// A user without sockets. The store is told at `now`, by its clock, that the user is active.
    pub(super) fn new(now: Timestamp) -> Self {
        // Most users have one socket here.
        Self { presence: Presence::default(), noted_at: now, sockets: Vec::with_capacity(1) }
    }

    /// Takes over what a client said at `now`, by the store's clock.
    pub(super) fn say(&mut self, said: Said, now: Timestamp) {
        let statement = said.dated(&self.presence, now);
        self.presence.take(&statement, now);
    }

    /// The user was active at `now`, by the store's clock.
    pub(super) fn was_active(&mut self, now: Timestamp) {
        self.presence.active_at = self.presence.active_at.max(now);
    }

    /// All nodes were told that the user was active at `at`.
    pub(super) fn was_noted(&mut self, at: Timestamp) {
        self.was_active(at);
        self.noted_at = self.noted_at.max(at);
    }

    /// Takes over what the store says. If two statements have the same date, the store has decided between them.
    pub(super) fn learn(&mut self, stored: &Presence) {
        self.was_noted(stored.active_at);
        let presence = &mut self.presence;
        if stored.profile_at >= presence.profile_at {
            (presence.profile, presence.profile_at) = (stored.profile.clone(), stored.profile_at);
        }
        if stored.chosen_at() >= presence.chosen_at() {
            presence.chosen.clone_from(&stored.chosen);
        }
        presence.effective = stored.effective;
    }

    /// The store answers a join that carried `sent`. If it gave a part an earlier date, that date holds: the store has
    /// cut a date that was too far ahead, or knew the same statement already. A later date belongs to another statement,
    /// which a transition brings.
    pub(super) fn take_dates(&mut self, sent: &Presence, dates: Dates) {
        let presence = &mut self.presence;
        if dates.profile_at < sent.profile_at && presence.profile_at == sent.profile_at {
            presence.profile_at = dates.profile_at;
        }
        if dates.chosen_at < sent.chosen_at()
            && let Some(chosen) = presence.chosen.as_mut().filter(|chosen| chosen.at == sent.chosen_at())
        {
            let mut dated = (**chosen).clone();
            dated.at = dates.chosen_at;
            *chosen = dated.into();
        }
    }

    /// Whether something was stated after what `known` has.
    pub(super) fn has_stated_since(&self, known: &Presence) -> bool {
        self.presence.profile_at > known.profile_at || self.presence.chosen_at() > known.chosen_at()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{ChosenStatus, Profile, ProfileFields, SaidStatus, Status};

    fn profile(name: &str) -> Option<Profile> {
        Profile::from_fields(&ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() })
    }

    /// Somebody of that name and that status, both stated at `at`.
    fn stated(name: &str, status: Status, at: u64) -> Presence {
        let chosen = ChosenStatus { status, text: None, expires_at: None, at: Timestamp(at) };
        Presence {
            profile: profile(name),
            profile_at: Timestamp(at),
            chosen: Some(Arc::new(chosen)),
            effective: status,
            ..Presence::default()
        }
    }

    fn said(name: &str, status: Status) -> Said {
        Said {
            profile: Some(profile(name)),
            status: Some(SaidStatus { status, text: None, expiry: None, is_repeated: true }),
        }
    }

    fn knowing(stored: &Presence) -> LocalUser {
        let mut local = LocalUser::new(Timestamp(0));
        local.learn(stored);
        local
    }

    fn dates(profile_at: u64, chosen_at: u64) -> Dates {
        Dates { profile_at: Timestamp(profile_at), chosen_at: Timestamp(chosen_at) }
    }

    fn dates_of(local: &LocalUser) -> Dates {
        Dates { profile_at: local.presence.profile_at, chosen_at: local.presence.chosen_at() }
    }

    #[test]
    fn what_is_said_is_dated_above_all_that_is_known() {
        let mut local = knowing(&stated("a", Status::Dnd, 50));
        local.say(said("b", Status::Busy), Timestamp(10));
        assert_eq!(dates_of(&local), dates(51, 51), "the clock was set back");
        local.say(said("c", Status::Away), Timestamp(70));
        assert_eq!(dates_of(&local), dates(70, 70));
        local.say(said("c", Status::Away), Timestamp(90));
        assert_eq!(dates_of(&local), dates(70, 70), "the same again keeps its date");
    }

    #[test]
    fn of_two_statements_the_later_holds_in_whichever_order_they_are_learned() {
        let (early, late) = (stated("a", Status::Away, 5), stated("b", Status::Busy, 6));
        for order in [[&early, &late], [&late, &early]] {
            let mut local = LocalUser::new(Timestamp(0));
            order.into_iter().for_each(|stored| local.learn(stored));
            assert_eq!((&local.presence.profile, &local.presence.chosen), (&late.profile, &late.chosen));
        }
    }

    #[test]
    fn each_part_is_learned_by_its_own_date() {
        let mut local = knowing(&stated("a", Status::Busy, 5));
        let stored = Presence { profile_at: Timestamp(4), ..stated("b", Status::Away, 6) };
        local.learn(&stored);
        assert_eq!((&local.presence.profile, local.presence.chosen_status()), (&profile("a"), Status::Away));
    }

    #[test]
    fn of_two_statements_of_the_same_date_the_one_of_the_store_holds() {
        let mut local = knowing(&Presence::default());
        local.say(said("ours", Status::Busy), Timestamp(5));
        local.learn(&stated("theirs", Status::Away, 5));
        assert_eq!((&local.presence.profile, local.presence.chosen_status()), (&profile("theirs"), Status::Away));
    }

    #[test]
    fn an_earlier_date_of_the_store_is_taken_over() {
        let mut local = knowing(&Presence::default());
        local.say(said("a", Status::Busy), Timestamp(5000));
        let sent = local.presence.clone();
        local.take_dates(&sent, dates(1010, 1020));
        assert_eq!(dates_of(&local), dates(1010, 1020));
        assert_eq!((&local.presence.profile, local.presence.chosen_status()), (&profile("a"), Status::Busy));
        assert!(!local.has_stated_since(&sent));
    }

    #[test]
    fn a_later_date_of_the_store_belongs_to_a_statement_that_is_still_to_come() {
        let mut local = knowing(&Presence::default());
        local.say(said("a", Status::Busy), Timestamp(5));
        let sent = local.presence.clone();
        local.take_dates(&sent, dates(9, 9));
        assert_eq!(dates_of(&local), dates(5, 5));
        local.learn(&stated("b", Status::Away, 9));
        assert_eq!((&local.presence.profile, local.presence.chosen_status()), (&profile("b"), Status::Away));
    }

    #[test]
    fn the_date_of_one_statement_is_not_given_to_another_that_was_made_since() {
        let mut local = knowing(&Presence::default());
        local.say(said("a", Status::Busy), Timestamp(5000));
        let sent = local.presence.clone();
        local.say(said("b", Status::Away), Timestamp(5000));
        local.take_dates(&sent, dates(1010, 1010));
        assert_eq!(dates_of(&local), dates(5001, 5001));
        assert!(local.has_stated_since(&sent));
    }
}
