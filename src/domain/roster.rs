//! Who is present in one scope.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Change, OfflineReason, Position, Presence, UserId};

/// The users present in one scope, in the order of their ids' bytes, and the position in history that they reflect.
///
/// A roster has users and no sockets. It does not know why somebody is present. Changes are *set operations*. A change
/// that is already in effect changes nothing, and the result says so. So a snapshot and a log may overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    users: BTreeMap<UserId, Presence>,
    position: Position,
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
            n_bytes += OBJECT_BYTES + user.as_str().len() + profile;
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

/// What an encoded user has besides id and profile.
const OBJECT_BYTES: usize = 32;

impl Roster {
    /// Number of users.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// The last transition reflected.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Says that the roster reflects everything up to `position`.
    pub fn advance_to(&mut self, position: Position) {
        self.position = position;
    }

    /// Whether the user is present.
    pub(crate) fn contains(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// The user's data, if present.
    pub fn get(&self, user: &UserId) -> Option<&Presence> {
        self.users.get(user)
    }

    /// Everybody, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&UserId, &Presence)> {
        self.users.iter()
    }

    /// Up to `limit` users after `cursor`, without `excluded`.
    pub fn page(&self, cursor: Option<&UserId>, limit: usize, excluded: Option<&UserId>) -> RosterPage<'_> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest =
            self.users.range::<UserId, _>((start, Bound::Unbounded)).filter(|(user, _)| Some(*user) != excluded);
        let users: Vec<_> = rest.by_ref().take(limit).collect();
        let next_cursor = rest.next().and_then(|_| users.last().map(|(user, _)| *user));
        RosterPage { users, next_cursor }
    }

    /// Puts one change into effect. Returns the change that a listener must hear, if the listener knew the roster
    /// before. It is none if nothing changed. An `Online` becomes `Changed` if the user is present and the profile is
    /// newer.
    pub fn apply(&mut self, user: &UserId, change: &Change) -> Option<Change> {
        match change {
            Change::Online(presence) => match self.users.get_mut(user) {
                None => {
                    self.users.insert(user.clone(), presence.clone());
                    Some(Change::Online(presence.clone()))
                }
                Some(known) => renew(known, presence),
            },
            Change::Changed(presence) => self.users.get_mut(user).and_then(|known| renew(known, presence)),
            Change::Offline(reason) => self.users.remove(user).map(|_| Change::Offline(*reason)),
        }
    }

    /// The changes that turn this roster into `target`, in the order of ids. The reason of a departure is `unknown`,
    /// because rosters have no reasons.
    pub fn diff(&self, target: &Roster) -> Vec<(UserId, Change)> {
        let mut changes = Vec::new();
        let (mut ours, mut theirs) = (self.users.iter().peekable(), target.users.iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return changes,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
            };
            let left = if order.is_le() { ours.next() } else { None };
            let right = if order.is_ge() { theirs.next() } else { None };
            match (left, right) {
                (Some((user, _)), None) => changes.push((user.clone(), Change::Offline(OfflineReason::Unknown))),
                (None, Some((user, presence))) => changes.push((user.clone(), Change::Online(presence.clone()))),
                (Some((user, known)), Some((_, presence))) if is_newer(presence, known) => {
                    changes.push((user.clone(), Change::Changed(presence.clone())));
                }
                _ => {}
            }
        }
    }
}

impl FromIterator<(UserId, Presence)> for Roster {
    fn from_iter<I: IntoIterator<Item = (UserId, Presence)>>(users: I) -> Self {
        Self { users: users.into_iter().collect(), position: Position::default() }
    }
}

fn renew(known: &mut Presence, presence: &Presence) -> Option<Change> {
    if !is_newer(presence, known) {
        return None;
    }
    *known = presence.clone();
    Some(Change::Changed(presence.clone()))
}

/// Whether `presence` is newer than `known`, and says something else.
fn is_newer(presence: &Presence, known: &Presence) -> bool {
    presence.updated_at > known.updated_at && presence.profile != known.profile
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Profile, Timestamp, user::ProfileFields};

    fn user(n: u8) -> UserId {
        UserId::parse(&format!("u{n}")).unwrap()
    }

    fn presence(version: u8) -> Presence {
        let fields = ProfileFields { name: Some(format!("v{version}")), ..ProfileFields::default() };
        Presence { profile: Profile::from_fields(&fields, 100).unwrap(), updated_at: Timestamp(u64::from(version)) }
    }

    fn change() -> impl Strategy<Value = (u8, Change)> {
        let kind = prop_oneof![
            any::<u8>().prop_map(|v| Change::Online(presence(v))),
            any::<u8>().prop_map(|v| Change::Changed(presence(v))),
            Just(Change::Offline(OfflineReason::Left)),
        ];
        (0..20u8, kind)
    }

    /// The independent model: a map from user to version, and what a listener believes.
    #[derive(Default)]
    struct Model(HashMap<u8, u8>);

    impl Model {
        fn apply(&mut self, n: u8, change: &Change) -> Option<&'static str> {
            let version = |presence: &Presence| u8::try_from(presence.updated_at.0).unwrap();
            match (change, self.0.get(&n).copied()) {
                (Change::Online(p), None) => {
                    self.0.insert(n, version(p));
                    Some("online")
                }
                (Change::Online(p) | Change::Changed(p), Some(old)) if version(p) > old => {
                    self.0.insert(n, version(p));
                    Some("changed")
                }
                (Change::Offline(_), Some(_)) => {
                    self.0.remove(&n);
                    Some("offline")
                }
                _ => None,
            }
        }
    }

    fn name(change: &Change) -> &'static str {
        match change {
            Change::Online(_) => "online",
            Change::Changed(_) => "changed",
            Change::Offline(_) => "offline",
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
                let told = roster.apply(&user(*n), change);
                prop_assert_eq!(told.as_ref().map(name), model.apply(*n, change));
                prop_assert_eq!(roster.len(), model.0.len());
            }
            for n in 0..20 {
                let version = roster.get(&user(n)).map(|p| p.updated_at.0);
                prop_assert_eq!(version, model.0.get(&n).map(|v| u64::from(*v)));
            }
        }

        #[test]
        fn what_is_told_rebuilds_the_roster(history in prop::collection::vec(change(), 0..200)) {
            let (mut roster, mut listener) = (Roster::default(), Roster::default());
            for (n, change) in &history {
                if let Some(told) = roster.apply(&user(*n), change) {
                    prop_assert!(listener.apply(&user(*n), &told).is_some(), "nothing is told twice");
                }
            }
            prop_assert_eq!(roster, listener);
        }

        #[test]
        fn a_diff_leads_from_one_roster_to_another(
            a in prop::collection::vec(change(), 0..100), b in prop::collection::vec(change(), 0..100)
        ) {
            let (mut from, to) = (roster_of(&a), roster_of(&b));
            for (user, change) in from.diff(&to) {
                prop_assert!(from.apply(&user, &change).is_some());
            }
            prop_assert!(from.iter().map(|(user, _)| user).eq(to.iter().map(|(user, _)| user)));
            prop_assert_eq!(from.diff(&to), vec![]);
        }

        #[test]
        fn pages_are_the_roster(history in prop::collection::vec(change(), 0..100), limit in 1..7usize, excluded in 0..20u8) {
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
}
