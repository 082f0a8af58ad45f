//! Decides what this node says about presence. The view is a pure state machine. Its input is the store's transitions,
//! and what the node knows while the store is out of reach.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio::sync::oneshot;

use crate::domain::{Change, OfflineReason, Position, Presence, Roster, Timestamp, Transition, UserId};

/// One change of the view. Every listener on this node is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Counts the changes of this node's view, from 1. A list carries the sequence of its view. Changes with a higher
    /// sequence come after the list.
    pub sequence: u64,
    /// The user that the change is about.
    pub user: UserId,
    /// What happened.
    pub change: Change,
    /// The epoch of the view at this change.
    pub epoch: u64,
    /// The store's revision at this change. It is none if the change is provisional: the store has not confirmed it
    /// yet.
    pub revision: Option<u64>,
    /// Whether the change fills a gap. The change then happened at or before `revision`. Other changes may have
    /// happened besides.
    pub catch_up: bool,
    /// The time of the change.
    pub at: Timestamp,
}

/// What [`View::apply`] made of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The transition is in effect.
    Yes,
    /// The transition was in effect already.
    Before,
    /// Transitions are missing before this one: the view must catch up.
    Gap,
}

/// The users that this node shows, and how sure it is of each.
///
/// A listener that heard every announcement believes exactly `told`. `told` is the store's roster and some more users.
/// As far as this node knows, the store does not have these users. There are two kinds:
/// - *provisional*: a socket of the user is wanted here, and the store has not confirmed it;
/// - *held*: the store lost its data or was out of reach, and perhaps no node has asserted the user again yet.
///
/// The view believes a departure only if no socket here contradicts it. If a socket contradicts it, the user becomes
/// provisional until this node has asserted the user again.
///
/// Invariant: the view announces a user as online only if the user is not in `told`, and as offline only if the user is
/// in `told`. So no listener hears the same user come twice in a row, or go twice in a row (test:
/// `a_listener_never_hears_the_same_twice`).
pub(crate) struct View {
    told: Roster,
    sequence: u64,
    provisional: HashSet<UserId>,
    /// The provisional users that had no wanted socket here at the last beat. The view drops such a user if the next
    /// beat finds no wanted socket either.
    parting: HashSet<UserId>,
    holding: Hold,
    held: HashMap<UserId, OfflineReason>,
    degraded: Option<Timestamp>,
    waiters: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

/// Whether the view tells departures or only notes them. It notes them until a beat says that it may tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// The view tells departures.
    No,
    /// The store was out of reach. It may hear of users who left before it hears of users who are here.
    Outage,
    /// The epoch is new to this node: the store lost its data. Some users may not have been asserted again yet.
    LostData,
}

/// Takes each announcement.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Announcement);

impl Default for View {
    /// A view without users, in no epoch.
    fn default() -> Self {
        Self {
            told: Roster::default(),
            sequence: 0,
            provisional: HashSet::new(),
            parting: HashSet::new(),
            holding: Hold::LostData,
            held: HashMap::new(),
            degraded: None,
            waiters: BTreeMap::new(),
        }
    }
}

impl View {
    /// The users, as listeners were told.
    pub(crate) fn roster(&self) -> &Roster {
        &self.told
    }

    /// The number of the last announcement.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The position of the store that the view reflects.
    pub(crate) fn position(&self) -> Position {
        self.told.position()
    }

    /// The last time at which the view was surely up to date. It is none while the view is not degraded.
    pub(crate) fn degraded(&self) -> Option<Timestamp> {
        self.degraded
    }

    /// Whether the view only notes departures.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding != Hold::No
    }

    /// Applies the next transition of the store. `contradicts` gets the user and the revision of a departure. It says
    /// whether the user's sockets here contradict that departure.
    pub(crate) fn apply(
        &mut self,
        transition: &Transition,
        contradicts: impl Fn(&UserId, u64) -> bool,
        tell: Tell<'_>,
    ) -> Applied {
        let (known, new) = (self.position(), transition.position);
        if new.revision <= known.revision {
            return Applied::Before;
        }
        if new.epoch != known.epoch || new.revision != known.revision + 1 {
            return Applied::Gap;
        }
        self.told.advance_to(new);
        let user = &transition.user;
        match transition.change {
            Change::Offline(_) if contradicts(user, new.revision) => self.doubt(user),
            Change::Offline(reason) if self.is_holding() => self.hold(user, reason),
            _ => self.put(user, &transition.change, Some(new.revision), false, transition.at, tell),
        }
        Applied::Yes
    }

    /// Takes over the store's roster at another position, and tells the difference. A user with a wanted socket here
    /// stays, because this node asserts that user.
    pub(crate) fn replace(
        &mut self,
        target: &Roster,
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        let changes = self.told.diff(target);
        self.provisional.retain(|user| !target.contains(user));
        self.held.retain(|user, _| !target.contains(user));
        self.converge(changes, target.position(), is_wanted, at, tell);
    }

    /// Takes over transitions that were missed. For each user it tells only the result of them.
    pub(crate) fn catch_up(
        &mut self,
        missed: &[Transition],
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        let Some(last) = missed.last() else { return };
        let mut outcome = BTreeMap::new();
        for transition in missed {
            let change = match &transition.change {
                // This is a set operation: a user with a profile change is present.
                Change::Online(presence) | Change::Changed(presence) => Change::Online(presence.clone()),
                Change::Offline(reason) => Change::Offline(*reason),
            };
            outcome.insert(transition.user.clone(), change);
        }
        self.converge(outcome, last.position, is_wanted, at, tell);
    }

    /// Ends the time in which the view only notes departures. A user who is still absent is gone. Call this when the
    /// view reflects the beat that ended that time.
    pub(crate) fn end_hold(&mut self, is_wanted: impl Fn(&UserId) -> bool, at: Timestamp, tell: Tell<'_>) {
        self.holding = Hold::No;
        let revision = Some(self.position().revision);
        for (user, reason) in std::mem::take(&mut self.held) {
            if is_wanted(&user) {
                self.provisional.insert(user);
            } else {
                self.put(&user, &Change::Offline(reason), revision, true, at, tell);
            }
        }
    }

    /// The store is out of reach since `as_of`. Each user in `wanted` who is not known yet arrives provisionally.
    pub(crate) fn degrade(&mut self, as_of: Timestamp, wanted: Vec<(UserId, Presence)>, at: Timestamp, tell: Tell<'_>) {
        self.degraded.get_or_insert(as_of);
        self.holding = self.holding.max(Hold::Outage);
        self.parting.clear();
        for (user, presence) in wanted {
            self.arrive(&user, &presence, at, tell);
        }
    }

    /// Marks the view as up to date again. Returns since when it was out of date.
    pub(crate) fn recover(&mut self) -> Option<Timestamp> {
        self.degraded.take()
    }

    /// Whether the caller must call [`View::arrive`] when the user arrives.
    pub(crate) fn awaits_arrival(&self, user: &UserId) -> bool {
        self.degraded.is_some() || self.parting.contains(user)
    }

    /// A socket of the user is wanted here. While the store is out of reach, the node knows nothing else, so the user
    /// arrives provisionally.
    pub(crate) fn arrive(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        self.parting.remove(user);
        if self.degraded.is_some() {
            self.arrive_unconfirmed(user, presence, at, tell);
        }
    }

    /// A socket of the user is wanted here. The store does not say that it has the socket.
    pub(crate) fn arrive_unconfirmed(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        if !self.told.contains(user) {
            self.put(user, &Change::Online(presence.clone()), None, false, at, tell);
            self.provisional.insert(user.clone());
        }
    }

    /// Drops each provisional user who had no wanted socket here at this beat and at the beat before. The store does
    /// not have such a user.
    ///
    /// Call this at each beat, when the view reflects the store's position at the beat before. A user who was unwanted
    /// at the last beat has no orders that are still undecided. The view has told what the store decided.
    pub(crate) fn settle_provisional(&mut self, is_wanted: impl Fn(&UserId) -> bool, at: Timestamp, tell: Tell<'_>) {
        let unwanted: HashSet<UserId> = self.provisional.iter().filter(|user| !is_wanted(user)).cloned().collect();
        let parted: Vec<UserId> = self.parting.intersection(&unwanted).cloned().collect();
        self.parting = unwanted;
        let revision = Some(self.position().revision);
        for user in parted {
            if self.is_holding() {
                // Another node may have a socket of this user, and may not have asserted it yet.
                self.hold(&user, OfflineReason::Unknown);
            } else {
                self.put(&user, &Change::Offline(OfflineReason::Unknown), revision, true, at, tell);
            }
        }
    }

    /// Wakes the receiver when the view reflects `revision`.
    pub(crate) fn wait_for(&mut self, revision: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.entry(revision).or_default().push(sender);
        receiver
    }

    /// Takes the waiters whose revision the view reflects.
    pub(crate) fn take_due_waiters(&mut self) -> Vec<oneshot::Sender<()>> {
        if self.waiters.first_key_value().is_none_or(|(revision, _)| *revision > self.position().revision) {
            return Vec::new();
        }
        let later = self.waiters.split_off(&(self.position().revision + 1));
        std::mem::replace(&mut self.waiters, later).into_values().flatten().collect()
    }

    fn converge(
        &mut self,
        changes: impl IntoIterator<Item = (UserId, Change)>,
        position: Position,
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        if position.epoch != self.position().epoch {
            self.holding = Hold::LostData;
        }
        self.told.advance_to(position);
        for (user, change) in changes {
            match change {
                Change::Offline(_) if is_wanted(&user) => self.doubt(&user),
                // A user who is held already keeps the reason that is known.
                Change::Offline(_) if self.held.contains_key(&user) => {}
                Change::Offline(reason) if self.holding == Hold::LostData => {
                    self.hold(&user, lost_with_the_data(reason));
                }
                Change::Offline(reason) if self.is_holding() => self.hold(&user, reason),
                change => self.put(&user, &change, Some(position.revision), true, at, tell),
            }
        }
    }

    /// The store says that the user is gone, and a socket here contradicts it.
    fn doubt(&mut self, user: &UserId) {
        if self.told.contains(user) {
            self.held.remove(user);
            self.provisional.insert(user.clone());
        }
    }

    fn hold(&mut self, user: &UserId, reason: OfflineReason) {
        if self.told.contains(user) {
            self.provisional.remove(user);
            self.held.insert(user.clone(), reason);
        }
    }

    /// Puts a change into effect, and tells it if it changes anything. The store has confirmed the change, or the
    /// change is provisional.
    fn put(
        &mut self,
        user: &UserId,
        change: &Change,
        revision: Option<u64>,
        catch_up: bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        self.provisional.remove(user);
        self.held.remove(user);
        if let Some(change) = self.told.apply(user, change) {
            self.sequence += 1;
            let (sequence, epoch) = (self.sequence, self.position().epoch);
            tell(Announcement { sequence, user: user.clone(), change, epoch, revision, catch_up, at });
        }
    }
}

/// The reason for a user who is missing in a store that lost its data. If no better reason is known, the user was lost
/// with the user's node.
fn lost_with_the_data(reason: OfflineReason) -> OfflineReason {
    match reason {
        OfflineReason::Unknown => OfflineReason::NodeLost,
        known => known,
    }
}

#[cfg(test)]
mod tests;
