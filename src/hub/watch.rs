//! Who watches whom on one worker.
//!
//! A watcher is owed states, not events. For each watched user it has the mark of the state that it was told last. If the
//! watcher cannot take a frame at once, the user is due. Later the session compares the mark with the view, and tells
//! the difference. So at most one frame for each watched user waits, however many events there were.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::{Presence, Told, UserId};
use crate::metrics::HubMetrics;

/// Stands for what others see of a user. Two states with the same mark are the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// It is 0 for a user who is not online.
    profile: u64,
    status: u64,
}

impl Mark {
    /// Of a user who is not online.
    const ABSENT: Self = Self { profile: 0, status: 0 };

    /// Of a user whom others see in this way, or do not see.
    pub(crate) fn of(visible: Option<&Presence>) -> Self {
        let Some(presence) = visible else { return Self::ABSENT };
        Self {
            profile: hash(&presence.profile.as_ref().map(|profile| profile.members())) | 1,
            status: hash(&(presence.effective as u8, presence.status_text().map(|text| text.as_str()))),
        }
    }

    /// Of a user about whom others were just told this.
    pub(super) fn of_told(told: &Told) -> Self {
        match told {
            Told::Online(presence) | Told::ProfileChanged(presence) | Told::StatusChanged(presence) => {
                Self::of(Some(presence))
            }
            Told::Offline(_) => Self::ABSENT,
        }
    }

    /// Whether the user is online.
    pub(crate) fn is_online(self) -> bool {
        self.profile != 0
    }

    /// Whether the status is another one than that of `other`. Both users are online.
    pub(crate) fn has_other_status(self, other: Self) -> bool {
        self.status != other.status
    }
}

/// The same input has the same hash, on every thread of this process.
fn hash(input: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    hasher.finish()
}

/// The users that one socket watches, in the order of their ids.
#[derive(Default)]
pub(super) struct Watches {
    users: Vec<Watch>,
    n_due: usize,
}

struct Watch {
    user: UserId,
    /// What the client was told last.
    told: Mark,
    /// The change of the view that the client was shown last. Changes up to there are not told.
    shown_up_to: u64,
    /// Whether the client may have to be told another state.
    is_due: bool,
}

/// What becomes of an event about a watched user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The client is told now.
    Told,
    /// The client is told later, if the state is another one then.
    Due,
    /// The client knows it.
    Known,
}

impl Watches {
    /// Number of users.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether the socket may have to be told something.
    pub(super) fn are_due(&self) -> bool {
        self.n_due > 0
    }

    /// Whether the socket watches the user.
    pub(super) fn contains(&self, user: &UserId) -> bool {
        self.place(user).is_ok()
    }

    /// From now on the socket watches the user. It was shown the state `told`, at the change `sequence` of the view.
    pub(super) fn put(&mut self, user: UserId, told: Mark, sequence: u64) {
        let watch = Watch { user, told, shown_up_to: sequence, is_due: false };
        match self.place(&watch.user) {
            Ok(place) => {
                self.n_due -= usize::from(self.users[place].is_due);
                self.users[place] = watch;
            }
            Err(place) => {
                self.users.reserve_exact(1);
                self.users.insert(place, watch);
            }
        }
    }

    /// The socket does not watch the user any more. Returns whether it did.
    pub(super) fn remove(&mut self, user: &UserId) -> bool {
        let Ok(place) = self.place(user) else { return false };
        self.n_due -= usize::from(self.users.remove(place).is_due);
        true
    }

    /// The users, in order.
    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.users.iter().map(|watch| &watch.user)
    }

    /// Takes in the change number `sequence`: the user is as `mark` says. `can_tell` says whether the client can be told
    /// at once.
    pub(super) fn take(&mut self, user: &UserId, sequence: u64, mark: Mark, can_tell: bool) -> Taken {
        let Ok(place) = self.place(user) else { return Taken::Known };
        let watch = &mut self.users[place];
        if sequence <= watch.shown_up_to {
            return Taken::Known;
        }
        if can_tell && !watch.is_due {
            if watch.told == mark {
                return Taken::Known;
            }
            watch.told = mark;
            return Taken::Told;
        }
        self.n_due += usize::from(!std::mem::replace(&mut watch.is_due, true));
        Taken::Due
    }

    /// The client may have to be told another state of each user.
    pub(super) fn make_all_due(&mut self) {
        self.users.iter_mut().for_each(|watch| watch.is_due = true);
        self.n_due = self.users.len();
    }

    /// The users that are not as the client was told last, and whether the client knows them as online. `seen` says how each
    /// is now.
    pub(super) fn changed(&self, seen: impl Fn(&UserId) -> Mark) -> Vec<(UserId, bool)> {
        let changed = self.users.iter().filter(|watch| watch.is_due && seen(&watch.user) != watch.told);
        changed.map(|watch| (watch.user.clone(), watch.told.is_online())).collect()
    }

    /// Shows up to `max` of the users that are due, at the change `sequence` of the view. `show` gets the user with the
    /// state that the client was told last. It returns the state of the user now.
    pub(super) fn settle(&mut self, sequence: u64, max: usize, mut show: impl FnMut(&UserId, Mark) -> Mark) {
        for watch in self.users.iter_mut().filter(|watch| watch.is_due).take(max) {
            watch.told = show(&watch.user, watch.told);
            (watch.shown_up_to, watch.is_due) = (sequence, false);
            self.n_due -= 1;
        }
    }

    fn place(&self, user: &UserId) -> Result<usize, usize> {
        self.users.binary_search_by(|watch| watch.user.cmp(user))
    }
}

/// The watchers of each user, by the keys of their sockets in the hub.
pub(super) struct Watchers {
    by_user: HashMap<UserId, Vec<u32>>,
    metrics: HubMetrics,
}

impl Watchers {
    /// Nobody watches anybody.
    pub(super) fn new(metrics: HubMetrics) -> Self {
        Self { by_user: HashMap::new(), metrics }
    }

    /// The sockets that watch the user.
    pub(super) fn of(&self, user: &UserId) -> &[u32] {
        self.by_user.get(user).map_or(&[], Vec::as_slice)
    }

    /// The socket watches the user. Returns the id that all watchers of the user share.
    pub(super) fn add(&mut self, user: UserId, key: u32) -> UserId {
        let entry = match self.by_user.entry(user) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(Vec::with_capacity(1)),
        };
        let shared = entry.key().clone();
        entry.into_mut().push(key);
        self.metrics.watched(1);
        shared
    }

    /// The socket does not watch the user any more.
    pub(super) fn remove(&mut self, user: &UserId, key: u32) {
        let Some(keys) = self.by_user.get_mut(user) else { return };
        if let Some(place) = keys.iter().position(|other| *other == key) {
            keys.swap_remove(place);
            self.metrics.unwatched(1);
        }
        if keys.is_empty() {
            self.by_user.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{OfflineReason, Profile, ProfileFields, Status};
    use crate::metrics::Registry;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn named(name: &str, effective: Status) -> Presence {
        let profile = Profile::from_fields(&ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() });
        Presence { profile, effective, ..Presence::default() }
    }

    #[test]
    fn a_mark_changes_with_what_others_see() {
        let marks = [
            Mark::of(None),
            Mark::of(Some(&Presence::default())),
            Mark::of(Some(&named("a", Status::Online))),
            Mark::of(Some(&named("b", Status::Online))),
            Mark::of(Some(&named("b", Status::Busy))),
        ];
        for (place, mark) in marks.iter().enumerate() {
            assert!(marks[place + 1..].iter().all(|other| other != mark));
        }
        assert!(marks[4].has_other_status(marks[3]) && !marks[3].has_other_status(marks[2]));
        assert_eq!(marks.map(Mark::is_online), [false, true, true, true, true]);
        assert_eq!(Mark::of_told(&Told::StatusChanged(named("b", Status::Busy))), marks[4]);
        assert_eq!(Mark::of_told(&Told::Offline(OfflineReason::Left.into())), marks[0]);
    }

    #[test]
    fn a_watcher_that_cannot_be_told_is_owed_the_last_state_only() {
        let (online, busy) = (named("a", Status::Online), named("a", Status::Busy));
        let [absent, online, busy] = [None, Some(&online), Some(&busy)].map(Mark::of);
        let mut watches = Watches::default();
        watches.put(user("a"), absent, 5);
        assert_eq!(watches.take(&user("a"), 5, online, true), Taken::Known, "it was shown at 5");
        assert_eq!(watches.take(&user("b"), 6, online, true), Taken::Known, "nobody watches b");
        assert_eq!(watches.take(&user("a"), 6, online, true), Taken::Told);
        assert_eq!(watches.take(&user("a"), 7, absent, false), Taken::Due);
        assert_eq!(watches.take(&user("a"), 8, busy, true), Taken::Due, "what is due comes first");
        assert!(watches.are_due());
        let mut shown = Vec::new();
        watches.settle(8, 10, |user, told| {
            shown.push((user.clone(), told));
            busy
        });
        assert_eq!(shown, [(user("a"), online)]);
        assert!(!watches.are_due());
        assert_eq!(watches.take(&user("a"), 9, busy, true), Taken::Known, "the client has this state");
    }

    #[test]
    fn all_watchers_of_a_user_are_found_until_they_go() {
        let metrics = HubMetrics::new(&mut Registry::default());
        let mut watchers = Watchers::new(metrics.clone());
        let first = watchers.add(user("a"), 1);
        assert_eq!(watchers.add(user("a"), 2).as_str().as_ptr(), first.as_str().as_ptr(), "they share one id");
        assert_eq!(watchers.of(&user("a")), [1, 2]);
        watchers.remove(&user("a"), 1);
        assert_eq!(watchers.of(&user("a")), [2]);
        assert_eq!(metrics.n_watches(), 1);
        watchers.remove(&user("a"), 2);
        assert!(watchers.of(&user("a")).is_empty() && watchers.by_user.is_empty());
        assert_eq!(metrics.n_watches(), 0);
    }
}
