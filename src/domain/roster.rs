//! Who is present in one scope.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Change, Departure, OfflineReason, Position, Presence, Status, Timestamp, UserId};

/// The users present in one scope, in the order of their ids' bytes, and the position in history that they reflect.
///
/// A user is *absent*, *hidden* or *visible*. Everybody may read the visible users. The hidden ones are for the users
/// themselves and for the application's server. So each method that reads hidden users says so in its name.
///
/// A roster has users and no sockets. It does not know why somebody is present. Changes are *set operations*. A change
/// that is already in effect changes nothing, and the result says so. So a snapshot and a log may overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    users: BTreeMap<UserId, Presence>,
    hidden: BTreeMap<UserId, Presence>,
    /// How many visible users have each status, in the order of [`Status::ALL`]. Otherwise each question would look at all
    /// users.
    counts: [usize; Status::ALL.len()],
    position: Position,
}

/// What a change of a roster means to those who listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// What everybody else is told.
    pub others: Option<Told>,
    /// What the user's own sockets are told: their status, if it is another one now. Somebody who comes was as one who has
    /// chosen nothing.
    pub own: Option<Presence>,
}

/// What others are told about a user. It is true of what they were told before: nobody comes twice in a row, or goes twice
/// in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The user came, or is no longer hidden.
    Online(Presence),
    /// The user has another profile.
    ProfileChanged(Presence),
    /// The user has another status or another text beside it. The profile may be another one as well.
    StatusChanged(Presence),
    /// The user went, or is hidden.
    Offline(Departure),
}

impl Told {
    /// The names of all kinds, in metrics and in HTTP answers.
    pub(crate) const KINDS: [&'static str; 4] = ["online", "changed", "status_changed", "offline"];

    /// The name of this kind.
    pub(crate) fn kind(&self) -> &'static str {
        let [online, changed, status_changed, offline] = Self::KINDS;
        match self {
            Self::Online(_) => online,
            Self::ProfileChanged(_) => changed,
            Self::StatusChanged(_) => status_changed,
            Self::Offline(_) => offline,
        }
    }
}

/// A part of a roster. See [`Roster::page`].
#[derive(Debug)]
pub struct RosterPage<'a> {
    /// The users, in order.
    pub users: Vec<(&'a UserId, &'a Presence)>,
    /// The id after which the next page begins. It is valid on any node. It is none if there are no more users.
    pub next_cursor: Option<&'a UserId>,
}

impl RosterPage<'_> {
    /// The beginning of the page. Encoded, it has about `max_bytes`, but it has one user at least. Users differ in
    /// size, so a number of users alone does not bound the cost of a page.
    pub(crate) fn within(mut self, max_bytes: usize) -> Self {
        let mut n_bytes = 0;
        let is_over = |&(user, presence): &(&UserId, &Presence)| {
            let profile = presence.profile.as_ref().map_or(0, |profile| profile.members().len());
            let text = presence.status_text().map_or(0, |text| text.as_str().len());
            n_bytes += OBJECT_BYTES + user.as_str().len() + profile + text;
            n_bytes > max_bytes
        };
        if let Some(first_over) = self.users.iter().position(is_over) {
            let n_users = first_over.max(1);
            if n_users < self.users.len() {
                self.users.truncate(n_users);
                self.next_cursor = self.users.last().map(|(user, _)| *user);
            }
        }
        self
    }
}

/// What an encoded user has besides id, profile and text.
const OBJECT_BYTES: usize = 32;

impl Roster {
    /// Number of visible users.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Number of visible users whom others see with this status.
    pub(crate) fn count(&self, status: Status) -> usize {
        self.counts[status as usize]
    }

    /// The last transition reflected.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Says that the roster reflects everything up to `position`.
    pub fn advance_to(&mut self, position: Position) {
        self.position = position;
    }

    /// Whether the user is visible.
    pub(crate) fn contains(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// The user's data, if the user is visible. The user may be given as a text. A text that is no id is not found.
    pub fn get<Q: Ord + ?Sized>(&self, user: &Q) -> Option<&Presence>
    where
        UserId: Borrow<Q>,
    {
        self.users.get(user)
    }

    /// The user's data, if the user is visible or hidden.
    pub fn get_even_hidden<Q: Ord + ?Sized>(&self, user: &Q) -> Option<&Presence>
    where
        UserId: Borrow<Q>,
    {
        self.users.get(user).or_else(|| self.hidden.get(user))
    }

    /// Everybody who is visible, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&UserId, &Presence)> {
        self.users.iter()
    }

    /// The visible users after `cursor`, in order.
    pub fn after(&self, cursor: Option<&UserId>) -> impl Iterator<Item = (&UserId, &Presence)> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<UserId, _>((start, Bound::Unbounded))
    }

    /// Everybody: first the visible users, then the hidden ones.
    pub fn iter_even_hidden(&self) -> impl Iterator<Item = (&UserId, &Presence)> {
        self.users.iter().chain(&self.hidden)
    }

    /// Number of users, visible or hidden.
    pub(crate) fn len_with_hidden(&self) -> usize {
        self.users.len() + self.hidden.len()
    }

    /// Notes when a user was last active, if that is later than what is known. Nobody is told.
    pub(crate) fn note_activity(&mut self, user: &UserId, active_at: Timestamp) {
        if let Some(presence) = self.users.get_mut(user).or_else(|| self.hidden.get_mut(user)) {
            presence.active_at = presence.active_at.max(active_at);
        }
    }

    /// Up to `limit` users after `cursor`, without `excluded`.
    pub fn page(&self, cursor: Option<&UserId>, limit: usize, excluded: Option<&UserId>) -> RosterPage<'_> {
        let mut rest = self.after(cursor).filter(|(user, _)| Some(*user) != excluded);
        let users: Vec<_> = rest.by_ref().take(limit).collect();
        let next_cursor = rest.next().and_then(|_| users.last().map(|(user, _)| *user));
        RosterPage { users, next_cursor }
    }

    /// Puts one change into effect: afterwards the user is as the change says. Returns what that means to those who
    /// listened before. A change of somebody absent that is no arrival has no effect.
    pub fn apply(&mut self, user: &UserId, change: &Change) -> Effect {
        match change {
            Change::Online(presence) => self.put(user, presence),
            Change::Changed(_) if self.get_even_hidden(user).is_none() => Effect::default(),
            Change::Changed(presence) => self.put(user, presence),
            Change::Offline(departure) => {
                self.hidden.remove(user);
                let others = self.users.remove(user).map(|known| {
                    self.counts[known.effective as usize] -= 1;
                    Told::Offline(*departure)
                });
                Effect { others, own: None }
            }
        }
    }

    fn put(&mut self, user: &UserId, presence: &Presence) -> Effect {
        let (visible, hidden) = (self.users.get_mut(user), self.hidden.get_mut(user));
        // A socket may have come before the user was known here. It took the user for one who has chosen nothing.
        let nothing = Presence::default();
        let known = visible.as_deref().or(hidden.as_deref()).unwrap_or(&nothing);
        let own = !presence.has_the_own_status_of(known);
        let others = match (visible, hidden, presence.is_hidden()) {
            (Some(known), _, false) => {
                let told = told_of(known, presence);
                self.counts[known.effective as usize] -= 1;
                self.counts[presence.effective as usize] += 1;
                replace(known, presence);
                told
            }
            (Some(known), _, true) => {
                self.counts[known.effective as usize] -= 1;
                self.users.remove(user);
                self.hidden.insert(user.clone(), presence.clone());
                Some(Told::Offline(hiding(presence)))
            }
            (None, Some(known), true) => {
                replace(known, presence);
                None
            }
            (None, None, true) => {
                self.hidden.insert(user.clone(), presence.clone());
                None
            }
            (None, _, false) => {
                self.hidden.remove(user);
                self.counts[presence.effective as usize] += 1;
                self.users.insert(user.clone(), presence.clone());
                Some(Told::Online(presence.clone()))
            }
        };
        Effect { others, own: own.then(|| presence.clone()) }
    }

    /// The changes that turn this roster into `target`. A departure's reason is `unknown`, because rosters hold none.
    pub fn diff(&self, target: &Roster) -> Vec<(UserId, Change)> {
        let mut changes = self.diff_of_visible(target);
        for (user, _) in self.hidden.iter().filter(|(user, _)| target.get_even_hidden(*user).is_none()) {
            changes.push((user.clone(), Change::Offline(OfflineReason::Unknown.into())));
        }
        for (user, presence) in target.hidden.iter().filter(|(user, _)| !self.users.contains_key(*user)) {
            match self.hidden.get(user) {
                None => changes.push((user.clone(), Change::Online(presence.clone()))),
                Some(known) if !known.is_same_but_for_activity(presence) => {
                    changes.push((user.clone(), Change::Changed(presence.clone())))
                }
                Some(_) => {}
            }
        }
        changes
    }

    /// The changes of the users who are visible in one of the two rosters. Both are read once, in order: there may be
    /// millions of users, and a lookup for each would take seconds.
    fn diff_of_visible(&self, target: &Roster) -> Vec<(UserId, Change)> {
        let mut changes = Vec::new();
        let (mut ours, mut theirs) = (self.users.iter().peekable(), target.users.iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
            };
            let left = if order.is_le() { ours.next() } else { None };
            let right = if order.is_ge() { theirs.next() } else { None };
            let (user, change) = match (left, right) {
                (Some((user, _)), None) => match target.hidden.get(user) {
                    Some(presence) => (user, Change::Changed(presence.clone())),
                    None => (user, Change::Offline(OfflineReason::Unknown.into())),
                },
                (None, Some((user, presence))) if self.hidden.contains_key(user) => {
                    (user, Change::Changed(presence.clone()))
                }
                (None, Some((user, presence))) => (user, Change::Online(presence.clone())),
                (Some((user, known)), Some((_, presence))) if !known.is_same_but_for_activity(presence) => {
                    (user, Change::Changed(presence.clone()))
                }
                (Some(_), Some(_)) | (None, None) => continue,
            };
            changes.push((user.clone(), change));
        }
    }
}

impl FromIterator<(UserId, Presence)> for Roster {
    fn from_iter<I: IntoIterator<Item = (UserId, Presence)>>(users: I) -> Self {
        let (hidden, users): (BTreeMap<_, _>, BTreeMap<_, _>) =
            users.into_iter().partition(|(_, presence): &(UserId, Presence)| presence.is_hidden());
        let mut counts = [0; Status::ALL.len()];
        users.values().for_each(|presence: &Presence| counts[presence.effective as usize] += 1);
        Self { users, hidden, counts, position: Position::default() }
    }
}

/// Takes over what is new of a user. When the user was last active, this node may know better.
fn replace(known: &mut Presence, presence: &Presence) {
    let active_at = known.active_at.max(presence.active_at);
    *known = Presence { active_at, ..presence.clone() };
}

/// What others are told of a visible user who stays visible.
fn told_of(known: &Presence, presence: &Presence) -> Option<Told> {
    if !presence.shows_the_status_of(known) {
        Some(Told::StatusChanged(presence.clone()))
    } else if presence.profile != known.profile {
        Some(Told::ProfileChanged(presence.clone()))
    } else {
        None
    }
}

/// How a user goes for others who hides: as somebody who says goodbye (docs/design.md, decision 13).
fn hiding(presence: &Presence) -> Departure {
    let active_at = Some(presence.active_at).filter(|active_at| active_at.0 > 0);
    Departure { reason: OfflineReason::Left, seen_at: None, active_at }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{ChosenStatus, Profile, ProfileFields, Status};

    fn user(n: u8) -> UserId {
        UserId::parse(&format!("u{n}")).unwrap()
    }

    /// A version of a user's data, and the status that others see.
    fn presence(version: u8, effective: Status) -> Presence {
        let fields = ProfileFields { name: Some(format!("v{version}")), ..ProfileFields::default() };
        let profile = Profile::from_fields(&fields);
        let chosen = ChosenStatus { status: effective, text: None, expires_at: None, at: Timestamp(1) };
        let profile_at = Timestamp(u64::from(version));
        Presence { profile, profile_at, chosen: Some(Arc::new(chosen)), effective, ..Presence::default() }
    }

    fn change() -> impl Strategy<Value = (u8, Change)> {
        let state =
            || (0..4u8, prop::sample::select(vec![Status::Online, Status::Busy, Status::Dnd, Status::Invisible]));
        let kind = prop_oneof![
            state().prop_map(|(version, status)| Change::Online(presence(version, status))),
            state().prop_map(|(version, status)| Change::Changed(presence(version, status))),
            Just(Change::Offline(OfflineReason::Left.into())),
        ];
        (0..20u8, kind)
    }

    /// The independent model: each user's version and status, as the store has them.
    #[derive(Default)]
    struct Model(HashMap<u8, (u64, Status)>);

    impl Model {
        /// The name of what others hear, and whether the user's own sockets hear something.
        fn apply(&mut self, n: u8, change: &Change) -> (Option<&'static str>, bool) {
            let state = |presence: &Presence| (presence.profile_at.0, presence.effective);
            let before = self.0.get(&n).copied();
            let after = match change {
                Change::Online(presence) => Some(state(presence)),
                Change::Changed(presence) => before.map(|_| state(presence)),
                Change::Offline(_) => None,
            };
            match after {
                Some(after) => self.0.insert(n, after),
                None => self.0.remove(&n),
            };
            let seen = |state: Option<(u64, Status)>| state.filter(|(_, status)| *status != Status::Invisible);
            let others = match (seen(before), seen(after)) {
                (None, Some(_)) => Some("online"),
                (Some(_), None) => Some("offline"),
                (Some((_, old)), Some((_, new))) if old != new => Some("status"),
                (Some((old, _)), Some((new, _))) if old != new => Some("profile"),
                _ => None,
            };
            let own = after.is_some_and(|(_, new)| before.map_or(Status::Online, |(_, old)| old) != new);
            (others, own)
        }
    }

    fn name(told: &Told) -> &'static str {
        match told {
            Told::Online(_) => "online",
            Told::ProfileChanged(_) => "profile",
            Told::StatusChanged(_) => "status",
            Told::Offline(_) => "offline",
        }
    }

    fn roster_of(history: &[(u8, Change)]) -> Roster {
        let mut roster = Roster::default();
        for (n, change) in history {
            roster.apply(&user(*n), change);
        }
        roster
    }

    proptest! {
        #[test]
        fn a_roster_agrees_with_the_model(history in prop::collection::vec(change(), 0..200)) {
            let (mut roster, mut model) = (Roster::default(), Model::default());
            for (n, change) in &history {
                let effect = roster.apply(&user(*n), change);
                prop_assert_eq!((effect.others.as_ref().map(name), effect.own.is_some()), model.apply(*n, change));
                prop_assert_eq!(roster.len_with_hidden(), model.0.len());
            }
            for n in 0..20 {
                let known = roster.get_even_hidden(&user(n)).map(|p| (p.profile_at.0, p.effective));
                prop_assert_eq!(known, model.0.get(&n).copied());
                let is_visible = known.is_some_and(|(_, status)| status != Status::Invisible);
                prop_assert_eq!(roster.contains(&user(n)), is_visible);
                prop_assert_eq!(roster.get(user(n).as_str()).is_some(), is_visible);
            }
            for status in [Status::Online, Status::Away, Status::Busy, Status::Dnd] {
                let n_users = model.0.values().filter(|(_, known)| *known == status).count();
                prop_assert_eq!(roster.count(status), n_users);
            }
            let again: Roster = roster.iter_even_hidden().map(|(user, known)| (user.clone(), known.clone())).collect();
            prop_assert_eq!(again.counts, roster.counts);
        }

        #[test]
        fn what_is_told_rebuilds_what_others_may_see(history in prop::collection::vec(change(), 0..200)) {
            let (mut roster, mut heard) = (Roster::default(), Roster::default());
            for (n, change) in &history {
                let user = user(*n);
                let told = match roster.apply(&user, change).others {
                    None => continue,
                    Some(Told::Online(presence)) => {
                        prop_assert!(!heard.contains(&user), "nobody comes twice");
                        Change::Online(presence)
                    }
                    Some(Told::ProfileChanged(presence) | Told::StatusChanged(presence)) => Change::Changed(presence),
                    Some(Told::Offline(departure)) => Change::Offline(departure),
                };
                prop_assert!(heard.apply(&user, &told).others.is_some(), "nothing is told twice");
            }
            prop_assert!(roster.iter().eq(heard.iter()));
        }

        #[test]
        fn a_diff_leads_from_one_roster_to_another(
            a in prop::collection::vec(change(), 0..100), b in prop::collection::vec(change(), 0..100)
        ) {
            let (mut from, to) = (roster_of(&a), roster_of(&b));
            for (user, change) in from.diff(&to) {
                from.apply(&user, &change);
            }
            prop_assert!(from.iter_even_hidden().eq(to.iter_even_hidden()));
            prop_assert_eq!(from.diff(&to), vec![]);
        }

        #[test]
        fn pages_are_the_visible_users(
            history in prop::collection::vec(change(), 0..100), limit in 1..7usize, excluded in 0..20u8
        ) {
            let roster = roster_of(&history);
            let excluded = user(excluded);
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = roster.page(cursor.as_ref(), limit, Some(&excluded));
                seen.extend(page.users.iter().map(|(user, _)| (*user).clone()));
                match page.next_cursor {
                    Some(next) => cursor = Some(next.clone()),
                    None => break,
                }
            }
            let all: Vec<_> = roster.iter().map(|(user, _)| user.clone()).filter(|user| *user != excluded).collect();
            prop_assert_eq!(seen, all);
        }
    }

    #[test]
    fn the_last_activity_never_goes_back_while_a_user_is_there() {
        let mut roster = roster_of(&[(1, Change::Online(presence(1, Status::Online)))]);
        roster.note_activity(&user(1), Timestamp(7));
        for (at, known) in [(5, 7), (9, 9)] {
            roster
                .apply(&user(1), &Change::Changed(Presence { active_at: Timestamp(at), ..presence(2, Status::Busy) }));
            assert_eq!(roster.get(&user(1)).unwrap().active_at, Timestamp(known));
        }
    }

    #[test]
    fn a_user_who_hides_goes_as_somebody_who_says_goodbye() {
        let mut roster = roster_of(&[(1, Change::Online(presence(1, Status::Online)))]);
        let hide = Change::Changed(Presence { active_at: Timestamp(7), ..presence(1, Status::Invisible) });
        let departure = Departure { reason: OfflineReason::Left, seen_at: None, active_at: Some(Timestamp(7)) };
        assert_eq!(roster.apply(&user(1), &hide).others, Some(Told::Offline(departure)));
        let gone = roster.apply(&user(1), &Change::Offline(OfflineReason::ConnectionLost.into()));
        assert_eq!(gone, Effect::default(), "nobody hears a hidden user go");
    }
}
