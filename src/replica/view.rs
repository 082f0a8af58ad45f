//! Decides what this node says about presence. The view is a pure state machine. Its input is the store's transitions,
//! and what the node knows while the store is out of reach.

mod account;
mod departed;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use self::account::ViewAccount;
use self::departed::Departed;
use super::sequence::Sequence;
use crate::domain::{
    Change, Departure, OfflineReason, Position, Presence, Roster, Timestamp, Told, Transition, UserId,
};

/// One change of the view. Every listener on this node is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Counts the changes of this node's views, from 1, those of rooms too. A list carries the sequence of its view. Changes
    /// with a higher sequence come after the list.
    pub sequence: u64,
    /// The user that the change is about.
    pub user: UserId,
    /// What the sockets of other users are told.
    pub others: Option<Told>,
    /// What the user's own sockets are told: the user's status.
    pub own: Option<Presence>,
    /// How many users are online after this change.
    pub n_online: usize,
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
/// `told` has hidden users, too. Listeners do not hear of them. A user who hides is told as somebody who goes, and at
/// once: also during a hold, while the store is away, and with sockets here. It is no departure.
///
/// Invariant: the view announces a user as online only if the user is not visible in `told`, and as offline only if the
/// user is. So no listener hears the same user come twice in a row, or go twice in a row (test:
/// `a_listener_never_hears_the_same_twice`).
pub struct View {
    told: Roster,
    /// What the store says of users of whom this node knows a later statement. While the store may be behind, the later
    /// statement holds. After that the store is right.
    behind: HashMap<UserId, Presence>,
    departed: Departed,
    sequence: Sequence,
    provisional: HashSet<UserId>,
    /// The provisional users that had no wanted socket here at the last beat. The view drops such a user if the next
    /// beat finds no wanted socket either.
    parting: HashSet<UserId>,
    holding: Hold,
    held: HashMap<UserId, Departure>,
    degraded: Option<Timestamp>,
    /// The users whose chosen status ends, by the time of that end.
    expiring: BTreeSet<(Timestamp, UserId)>,
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

/// Where a change comes from.
#[derive(Debug, Clone, Copy)]
struct Cause {
    /// The revision of the change. It is none if the change is provisional.
    revision: Option<u64>,
    /// Whether it fills a gap.
    catch_up: bool,
    /// The time of the change.
    at: Timestamp,
    /// How others are told if the change hides the user.
    hiding: Hiding,
}

/// How others are told that a user hides. They are told the same as if the user had gone.
#[derive(Debug, Clone, Copy)]
enum Hiding {
    /// As a goodbye at that time.
    Goodbye(Timestamp),
    /// As this departure.
    As(Departure),
}

impl View {
    /// A view without users, in no epoch. `remember` is how long it knows the chosen status of a user who has gone.
    pub(crate) fn new(remember: Duration) -> Self {
        Self {
            told: Roster::default(),
            behind: HashMap::new(),
            departed: Departed::new(remember),
            sequence: Sequence::default(),
            provisional: HashSet::new(),
            parting: HashSet::new(),
            holding: Hold::LostData,
            held: HashMap::new(),
            degraded: None,
            expiring: BTreeSet::new(),
            waiters: BTreeMap::new(),
        }
    }

    /// The users, as listeners were told.
    pub fn roster(&self) -> &Roster {
        &self.told
    }

    /// The number of the last announcement of this view, or of a room.
    pub fn sequence(&self) -> u64 {
        self.sequence.last()
    }

    /// What numbers the announcements of this view and of all rooms.
    pub(super) fn numbering(&self) -> Sequence {
        self.sequence.clone()
    }

    /// The position of the store that the view reflects.
    pub(crate) fn position(&self) -> Position {
        self.told.position()
    }

    /// The last time at which the view was surely up to date. It is none while the view is not degraded.
    pub fn degraded(&self) -> Option<Timestamp> {
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
        let (user, at) = (&transition.user, transition.at);
        match &transition.change {
            Change::Offline(_) if contradicts(user, new.revision) => self.doubt(user),
            Change::Offline(departure) if self.is_holding() => self.hold(user, *departure),
            change => {
                let cause = Cause { revision: Some(new.revision), catch_up: false, at, hiding: Hiding::Goodbye(at) };
                self.put(user, change, cause, tell);
            }
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
        let is_present = |user: &UserId| target.get_even_hidden(user).is_some();
        self.provisional.retain(|user| !is_present(user));
        self.held.retain(|user, _| !is_present(user));
        // The change of a user who has hidden here, and whom the target shows, is compared with what was said here.
        let told = &self.told;
        let hid = |user: &UserId| told.get_even_hidden(user).is_some_and(Presence::is_hidden) && target.contains(user);
        self.behind.retain(|user, _| hid(user));
        let unknown = Hiding::As(OfflineReason::Unknown.into());
        let changes = changes.into_iter().map(|(user, change)| (user, change, unknown));
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
        let mut outcome: BTreeMap<UserId, (Change, Hiding)> = BTreeMap::new();
        for transition in missed {
            let user = transition.user.clone();
            // A user with another profile or status is present, whatever was missed before.
            let mut change = transition.change.as_set_operation();
            // For others, a user who is hidden has gone when the user hid, or when the user went before that.
            let gone = match outcome.remove(&user) {
                Some((Change::Online(before), hiding)) if before.is_hidden() => Some(hiding.departure(&before)),
                Some((Change::Offline(departure), _)) => Some(departure),
                _ => None,
            };
            if let (Change::Offline(departure), Some(gone)) = (&mut change, gone) {
                *departure = gone;
            }
            outcome.insert(user, (change, gone.map_or(Hiding::Goodbye(transition.at), Hiding::As)));
        }
        let changes = outcome.into_iter().map(|(user, (change, hiding))| (user, change, hiding));
        self.converge(changes, last.position, is_wanted, at, tell);
    }

    /// Ends the time in which the view only notes departures. A user who is still absent is gone. Call this when the
    /// view reflects the beat that ended that time.
    pub(crate) fn end_hold(
        &mut self,
        is_wanted: impl Fn(&UserId) -> bool,
        is_local: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        self.holding = Hold::No;
        let cause = self.filling_a_gap(at);
        for (user, departure) in std::mem::take(&mut self.held) {
            if is_wanted(&user) {
                self.provisional.insert(user);
            } else {
                self.put(&user, &Change::Offline(departure), cause, tell);
            }
        }
        self.believe_the_store(is_local, at, tell);
    }

    /// The store is out of reach since `as_of`. Each user in `wanted` who is not known yet arrives provisionally. `wanted`
    /// has what this node asserts of each.
    pub(crate) fn degrade(&mut self, as_of: Timestamp, wanted: Vec<(UserId, Presence)>, at: Timestamp, tell: Tell<'_>) {
        self.degraded.get_or_insert(as_of);
        self.holding = self.holding.max(Hold::Outage);
        self.parting.clear();
        for (user, presence) in wanted {
            self.arrive(&user, &presence, at, tell);
            // The store may have heard that the user hides, and this node did not hear of that any more.
            if presence.as_asserted().is_hidden() {
                self.state_unconfirmed(&user, &presence, at, tell);
            }
        }
    }

    /// Marks the view as up to date again. Returns since when it was out of date. `is_local` says whether the store may still
    /// hear something of a user from this node.
    pub(crate) fn recover(
        &mut self,
        is_local: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) -> Option<Timestamp> {
        let was_degraded = self.degraded.take();
        self.believe_the_store(is_local, at, tell);
        was_degraded
    }

    /// What this node knows of a user who comes and states nothing: the user's data, or the statement of a user who has
    /// just gone.
    pub(crate) fn last_known(&self, user: &UserId, now: Timestamp) -> Option<Presence> {
        self.told.get_even_hidden(user).cloned().or_else(|| self.departed.statement_of(user, now))
    }

    /// The users whose chosen status has ended before `now`, each with the date of the choice.
    pub(crate) fn expired_before(&self, now: Timestamp) -> Vec<(UserId, Timestamp)> {
        let due = self.expiring.iter().take_while(|(end, _)| *end < now);
        due.filter_map(|(_, user)| Some((user.clone(), self.told.get_even_hidden(user)?.chosen_at()))).collect()
    }

    /// Notes when users were last active.
    pub(crate) fn note_activity(&mut self, users: &[(UserId, Timestamp)]) {
        users.iter().for_each(|(user, at)| self.told.note_activity(user, *at));
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

    /// A socket of the user is wanted here. The store does not say that it has the socket. `presence` is what this node
    /// asserts. Others are not told of a user who is hidden, or who may be: before the first snapshot, only a stated
    /// status says that the user is not.
    pub(crate) fn arrive_unconfirmed(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        let may_be_hidden = self.position().epoch == 0 && presence.chosen.is_none();
        if self.told.get_even_hidden(user).is_none() && !may_be_hidden {
            self.put_unconfirmed(user, &Change::Online(presence.as_asserted()), at, tell);
            self.provisional.insert(user.clone());
        }
    }

    /// A socket here states something about its user, which the store cannot confirm now.
    pub(crate) fn state_unconfirmed(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        let Some(known) = self.told.get_even_hidden(user).cloned() else {
            // Before the first snapshot, a user who has stated no status has not arrived here.
            self.arrive_unconfirmed(user, presence, at, tell);
            return;
        };
        // The store does not have the user, or may not have the user.
        let is_unsure = self.provisional.contains(user) || self.held.contains_key(user);
        // The socket may go before the store hears of this. Then what the store said before holds again.
        let stored = self.behind.remove(user).unwrap_or(known);
        self.put_unconfirmed(user, &Change::Changed(presence.as_asserted()), at, tell);
        if is_unsure {
            self.provisional.insert(user.clone());
        } else {
            self.behind.insert(user.clone(), stored);
        }
    }

    /// A socket here stated something about its user, and the store has not confirmed it in time. The client is told that it
    /// holds. So it holds here from now on, unless the view has it already, or has something later.
    pub(crate) fn state_in_doubt(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        let is_later =
            |known: &Presence| presence.chosen_at() > known.chosen_at() || presence.profile_at > known.profile_at;
        if self.told.get_even_hidden(user).is_none_or(is_later) {
            self.state_unconfirmed(user, presence, at, tell);
        }
    }

    fn put_unconfirmed(&mut self, user: &UserId, change: &Change, at: Timestamp, tell: Tell<'_>) {
        self.put(user, change, Cause { revision: None, catch_up: false, at, hiding: Hiding::Goodbye(at) }, tell);
    }

    /// Drops each provisional user who had no wanted socket here at this beat and at the beat before. The store does
    /// not have such a user.
    ///
    /// Call this at each beat, when the view reflects the store's position at the beat before. A user who was unwanted
    /// at the last beat has no orders that are still undecided. The view has told what the store decided.
    pub(crate) fn settle_provisional(
        &mut self,
        is_wanted: impl Fn(&UserId) -> bool,
        is_local: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        let unwanted: HashSet<UserId> = self.provisional.iter().filter(|user| !is_wanted(user)).cloned().collect();
        let parted: Vec<UserId> = self.parting.intersection(&unwanted).cloned().collect();
        self.parting = unwanted;
        let cause = self.filling_a_gap(at);
        for user in parted {
            if self.is_holding() {
                // Another node may have a socket of this user, and may not have asserted it yet.
                self.hold(&user, OfflineReason::Unknown.into());
            } else {
                self.put(&user, &Change::Offline(OfflineReason::Unknown.into()), cause, tell);
            }
        }
        self.believe_the_store(is_local, at, tell);
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
        changes: impl IntoIterator<Item = (UserId, Change, Hiding)>,
        position: Position,
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        if position.epoch != self.position().epoch {
            self.holding = Hold::LostData;
        }
        self.told.advance_to(position);
        for (user, change, hiding) in changes {
            match change {
                Change::Offline(_) if is_wanted(&user) => self.doubt(&user),
                // A user who is held already keeps the reason that is known.
                Change::Offline(_) if self.held.contains_key(&user) => {}
                Change::Offline(departure) if self.holding == Hold::LostData => {
                    self.hold(&user, lost_with_the_data(departure));
                }
                Change::Offline(departure) if self.is_holding() => self.hold(&user, departure),
                change => self.put(&user, &change, Cause { hiding, ..self.filling_a_gap(at) }, tell),
            }
        }
    }

    fn filling_a_gap(&self, at: Timestamp) -> Cause {
        let hiding = Hiding::As(OfflineReason::Unknown.into());
        Cause { revision: Some(self.position().revision), catch_up: true, at, hiding }
    }

    /// The store says that the user is gone, and a socket here contradicts it.
    fn doubt(&mut self, user: &UserId) {
        if self.told.get_even_hidden(user).is_some() {
            self.held.remove(user);
            self.behind.remove(user);
            self.provisional.insert(user.clone());
        }
    }

    fn hold(&mut self, user: &UserId, departure: Departure) {
        if self.told.get_even_hidden(user).is_some() {
            self.provisional.remove(user);
            self.behind.remove(user);
            self.held.insert(user.clone(), departure);
        }
    }

    /// Whether the store may not have heard all statements yet: it is out of reach, or has lost its data.
    fn is_store_behind(&self) -> bool {
        self.degraded.is_some() || self.holding == Hold::LostData
    }

    /// The store has heard all statements that its nodes know. So what it says holds. There is one exception: a user who has
    /// hidden here, and whose sockets here have gone before the store heard of it. The store hears of both soon. Until then
    /// the user must not be shown.
    fn believe_the_store(&mut self, is_local: impl Fn(&UserId) -> bool, at: Timestamp, tell: Tell<'_>) {
        if self.is_store_behind() {
            return;
        }
        let cause = self.filling_a_gap(at);
        for (user, stored) in std::mem::take(&mut self.behind) {
            let is_shown = !stored.is_hidden() && self.told.get_even_hidden(&user).is_some_and(Presence::is_hidden);
            if is_shown && is_local(&user) {
                self.behind.insert(user, stored);
            } else {
                self.put(&user, &Change::Changed(stored), cause, tell);
            }
        }
    }

    /// Puts a change into effect, and tells it if it changes anything for somebody. The store has confirmed the change,
    /// or the change is provisional.
    fn put(&mut self, user: &UserId, change: &Change, cause: Cause, tell: Tell<'_>) {
        self.provisional.remove(user);
        self.held.remove(user);
        let was_behind = self.behind.remove(user).is_some();
        let expiry_before = self.expiry(user);
        let mut effect = match change {
            Change::Offline(_) => {
                self.departed.remember(user, self.told.get_even_hidden(user), cause.at);
                self.told.apply(user, change)
            }
            Change::Online(stored) | Change::Changed(stored) => {
                let merged = self.with_later_statements(user, stored, was_behind);
                let change = match change {
                    Change::Changed(_) => Change::Changed(merged),
                    Change::Online(_) | Change::Offline(_) => Change::Online(merged),
                };
                self.told.apply(user, &change)
            }
        };
        let expiry = self.expiry(user);
        if expiry != expiry_before {
            expiry_before.map(|end| self.expiring.remove(&(end, user.clone())));
            expiry.map(|end| self.expiring.insert((end, user.clone())));
        }
        if let (Some(Told::Offline(departure)), Change::Online(hidden) | Change::Changed(hidden)) =
            (&mut effect.others, change)
        {
            *departure = cause.hiding.departure(hidden);
        }
        if effect.others.is_some() || effect.own.is_some() {
            let Cause { revision, catch_up, at, .. } = cause;
            let (sequence, epoch) = (self.sequence.next(), self.position().epoch);
            let (user, others, own) = (user.clone(), effect.others, effect.own);
            let n_online = self.told.len();
            tell(Announcement { sequence, user, others, own, n_online, epoch, revision, catch_up, at });
        }
    }

    fn expiry(&self, user: &UserId) -> Option<Timestamp> {
        self.told.get_even_hidden(user)?.chosen.as_ref()?.expires_at
    }

    /// What holds of a user of whom the store says `stored`. `was_behind` says that this node knew a later statement.
    fn with_later_statements(&mut self, user: &UserId, stored: &Presence, was_behind: bool) -> Presence {
        // The store may answer again, and still not have heard that the user has hidden here.
        let is_guarded = |known: &Presence| was_behind && known.is_hidden() && !stored.is_hidden();
        let known = self.told.get_even_hidden(user).filter(|known| self.is_store_behind() || is_guarded(known));
        let merged = known.map_or_else(|| stored.clone(), |known| known.merged_with(stored));
        if !merged.is_same_but_for_activity(stored) {
            self.behind.insert(user.clone(), stored.clone());
        }
        merged
    }
}

impl Hiding {
    /// The departure of somebody who hides, and then is as `hidden` says.
    fn departure(self, hidden: &Presence) -> Departure {
        match self {
            Self::Goodbye(at) => {
                let active_at = Some(hidden.active_at).filter(|active_at| *active_at > Timestamp(0));
                Departure { reason: OfflineReason::Left, seen_at: Some(at), active_at }
            }
            Self::As(departure) => departure,
        }
    }
}

/// The departure of a user who is missing in a store that lost its data. If no better reason is known, the user was lost
/// with the user's node.
fn lost_with_the_data(departure: Departure) -> Departure {
    match departure.reason {
        OfflineReason::Unknown => Departure { reason: OfflineReason::NodeLost, ..departure },
        _ => departure,
    }
}

#[cfg(test)]
mod tests;
