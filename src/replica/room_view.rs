//! Decides what this node says of one room. The view of a room is a pure state machine. Its input is the transitions and
//! snapshots of the room, and what the node knows while the store is out of reach.

mod reading;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::Instant;

use tokio::sync::oneshot;

use self::reading::{Reading, Target, is_after};
use super::rooms::RoomAnnouncement;
use super::sequence::Sequence;
use crate::domain::{
    OfflineReason, RoomChange, RoomId, RoomPosition, RoomRoster, RoomTold, RoomTransition, Roster, RosterPage,
    Timestamp, Told, UserId,
};
use crate::store::RoomHead;

/// The members of one room that this node shows, and how sure it is of each member.
///
/// The *members* are the store's, and some more users. As far as this node knows, the store does not have these users there.
/// There are two kinds, as in the view of the service:
/// - *provisional*: a socket of the user is wanted here in this room, and the store has not confirmed it;
/// - *held*: the store lost its data or was out of reach, and perhaps no node has asserted the user there again yet.
///
/// The room *shows* the members whom the view of the service shows. A listener that heard every announcement believes exactly
/// that.
///
/// Invariant: `told` has the members who are visible in the view of the service (test:
/// `a_listener_of_a_room_believes_exactly_what_it_shows`).
pub struct RoomView {
    room: RoomId,
    members: BTreeMap<UserId, Standing>,
    /// How many members the store has, as far as this node knows.
    n_confirmed: usize,
    n_provisional: usize,
    position: RoomPosition,
    /// Where the store was at the last snapshot.
    read_at: RoomPosition,
    is_known: bool,
    told: BTreeSet<UserId>,
    last_told: u64,
    /// The provisional members that had no wanted socket here at the last beat.
    parting: HashSet<UserId>,
    /// Who left with transitions behind a gap, and why. The next snapshot does not say why.
    left_behind_gap: HashMap<UserId, OfflineReason>,
    /// The snapshot that is being read.
    reading: Option<Reading>,
    waiters: Vec<Waiter>,
    /// The last hold that a snapshot has ended for this room. See [`super::room_views::RoomViews`].
    pub(super) released: u64,
    /// When somebody last used the room.
    pub(super) used_at: Instant,
}

/// How sure this node is of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The store has the member.
    Confirmed,
    /// A socket here is wanted in the room, and the store has not confirmed it.
    Provisional,
    /// The store does not have the member, and the room must not tell that yet.
    Held(OfflineReason),
}

/// A session that waits for a position. If it waits for none, it waits until the room is known.
type Waiter = (Option<RoomPosition>, oneshot::Sender<()>);

/// What a room made of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// It is in effect.
    Applied,
    /// A snapshot is being read. The transition waits for it.
    Kept,
    /// It was in effect already, or the next snapshot has it.
    Before,
    /// Transitions are missing before this one, or it has the number of another one: the room must be read anew.
    Gap,
}

/// What a snapshot did.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// The transitions that came while it was read, and that are in effect now.
    pub(super) applied: Vec<RoomTransition>,
    /// What the room is like after them, as the store has it.
    pub(super) roster: RoomRoster,
    /// Whether transitions are missing: the room must be read anew.
    pub(super) has_gap: bool,
    /// Members are missing, and no transition says that they left. Either this node has missed it, or the store has lost its
    /// data. So the members are held.
    pub(super) is_doubtful: bool,
}

/// Takes each announcement about a room.
pub(super) type TellRoom<'a> = &'a mut dyn FnMut(RoomAnnouncement);

/// What a change of a room sees, and whom it tells.
pub(super) struct Around<'a> {
    /// The users of the view of the service.
    pub(super) service: &'a Roster,
    /// The open rooms of each user.
    pub(super) of_users: &'a mut RoomsOfUsers,
    /// Numbers the announcements.
    pub(super) sequence: &'a Sequence,
    /// The time of the change.
    pub(super) at: Timestamp,
    /// Takes the announcements.
    pub(super) tell: TellRoom<'a>,
}

/// The open rooms of which each user is a member.
#[derive(Debug, Default)]
pub(super) struct RoomsOfUsers(HashMap<UserId, Vec<RoomId>>);

impl RoomsOfUsers {
    /// The open rooms of which the user is a member.
    pub(super) fn of(&self, user: &UserId) -> &[RoomId] {
        self.0.get(user).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, user: &UserId, room: &RoomId) {
        self.0.entry(user.clone()).or_default().push(room.clone());
    }

    fn remove(&mut self, user: &UserId, room: &RoomId) {
        if let Some(rooms) = self.0.get_mut(user) {
            rooms.retain(|other| other != room);
            if rooms.is_empty() {
                self.0.remove(user);
            }
        }
    }
}

/// What others read.
impl RoomView {
    /// Whether the room was read since it was opened. Before that, only users with sockets here may be shown.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Number of users that the room shows.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether the room shows nobody.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Whether the room shows the user.
    pub fn contains(&self, user: &UserId) -> bool {
        self.told.contains(user)
    }

    /// Up to `limit` of the users that the room shows, after `cursor`. `service` is the roster of the view that is locked
    /// together with this one.
    pub fn page<'a>(&'a self, service: &'a Roster, cursor: Option<&UserId>, limit: usize) -> RosterPage<'a> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.told.range::<UserId, _>((start, Bound::Unbounded));
        let shown = rest.by_ref().filter_map(|user| Some((user, service.get(user)?)));
        let users: Vec<_> = shown.take(limit).collect();
        let next_cursor = rest.next().and_then(|_| users.last().map(|(user, _)| *user));
        RosterPage { users, next_cursor }
    }

    /// The number of the last announcement about this room, or 0.
    pub fn last_told(&self) -> u64 {
        self.last_told
    }
}

/// What the views of rooms do with it.
impl RoomView {
    /// A room of which nothing is known.
    pub(super) fn new(room: RoomId, now: Instant) -> Self {
        Self {
            room,
            members: BTreeMap::new(),
            n_confirmed: 0,
            n_provisional: 0,
            position: RoomPosition::default(),
            read_at: RoomPosition::default(),
            is_known: false,
            told: BTreeSet::new(),
            last_told: 0,
            parting: HashSet::new(),
            left_behind_gap: HashMap::new(),
            reading: None,
            waiters: Vec::new(),
            released: 0,
            used_at: now,
        }
    }

    /// The store published a transition. While the room holds, a departure is noted and not told. `contradicts` says whether
    /// the user's sockets here contradict a departure.
    pub(super) fn apply(
        &mut self,
        transition: &RoomTransition,
        is_holding: bool,
        contradicts: impl Fn(&UserId, RoomPosition) -> bool,
        around: &mut Around<'_>,
    ) -> Received {
        if let Some(reading) = &mut self.reading {
            reading.keep(transition);
            return Received::Kept;
        }
        let (known, new) = (self.position, transition.position);
        // Nothing was read yet: what came before the snapshot is in it.
        let is_old = new.birth == known.birth && new.revision <= known.revision;
        if !self.is_known || is_old && !is_after(new, self.read_at) {
            return Received::Before;
        }
        let is_next = new.birth == known.birth && new.revision == known.revision + 1;
        let is_new_birth = new.birth != known.birth && new.revision == 1 && self.n_confirmed == 0;
        if !is_next && !is_new_birth {
            self.note_behind_gap(transition);
            return Received::Gap;
        }
        self.position = new;
        let user = &transition.user;
        match transition.change {
            RoomChange::Entered => self.put(user, Standing::Confirmed, around),
            RoomChange::Left(_) if !self.members.contains_key(user) => {}
            RoomChange::Left(_) if contradicts(user, new) => self.put(user, Standing::Provisional, around),
            RoomChange::Left(reason) if is_holding => self.put(user, Standing::Held(reason), around),
            RoomChange::Left(reason) => self.remove(user, reason, around),
        }
        Received::Applied
    }

    /// A snapshot is read from now on. Transitions wait for it.
    pub(super) fn begin_read(&mut self) {
        self.reading = Some(Reading::default());
    }

    /// Whether a snapshot is being read.
    pub(super) fn is_being_read(&self) -> bool {
        self.reading.is_some()
    }

    /// Some of the transitions that come now are missing.
    pub(super) fn miss(&mut self) {
        self.left_behind_gap.clear();
        if let Some(reading) = &mut self.reading {
            reading.cut();
        }
    }

    /// The snapshot could not be read. Returns the transitions that waited for it: apply them now.
    pub(super) fn give_up_reading(&mut self) -> Vec<RoomTransition> {
        self.reading.take().map(Reading::into_kept).unwrap_or_default()
    }

    /// Takes over the snapshot that was read, and what came meanwhile, and tells the difference. A member with a wanted
    /// socket here stays, because this node asserts that member. If the room holds, all other members stay, too. A missing
    /// member is held in any case, unless a transition says that the member left.
    pub(super) fn replace(
        &mut self,
        snapshot: RoomRoster,
        is_holding: bool,
        is_wanted: impl Fn(&UserId) -> bool,
        around: &mut Around<'_>,
    ) -> Replaced {
        let (reading, read_at) = (self.reading.take().unwrap_or_default(), snapshot.position);
        let Target { roster, left, applied, has_gap, .. } = reading.arrive_at(snapshot);
        let left_before = std::mem::take(&mut self.left_behind_gap);
        let missing = self.members.iter().filter(|(user, _)| !roster.members.contains(*user));
        let missing: Vec<(UserId, Standing)> = missing.map(|(user, standing)| (user.clone(), *standing)).collect();
        let mut is_doubtful = false;
        for (user, standing) in missing {
            let known = left.get(&user).or(left_before.get(&user)).copied();
            match (standing, known) {
                _ if is_wanted(&user) => self.put(&user, Standing::Provisional, around),
                // The beats decide.
                (Standing::Provisional, None) => {}
                (Standing::Confirmed, None) => {
                    is_doubtful = true;
                    self.put(&user, Standing::Held(OfflineReason::Unknown), around);
                }
                (_, Some(reason)) if is_holding => self.put(&user, Standing::Held(reason), around),
                (Standing::Held(_), None) if is_holding => {}
                (_, Some(reason)) | (Standing::Held(reason), None) => self.remove(&user, reason, around),
            }
        }
        roster.members.iter().for_each(|user| self.put(user, Standing::Confirmed, around));
        (self.position, self.read_at, self.is_known) = (roster.position, read_at, true);
        Replaced { applied, roster, has_gap, is_doubtful }
    }

    /// A socket of the user is wanted here in this room. The store does not say that it has the user there.
    pub(super) fn arrive(&mut self, user: &UserId, around: &mut Around<'_>) {
        if !self.members.contains_key(user) {
            self.put(user, Standing::Provisional, around);
        }
    }

    /// Whether a member is provisional.
    pub(super) fn is_unsure(&self) -> bool {
        self.n_provisional > 0
    }

    /// Drops each provisional member who had no wanted socket here at this beat and at the beat before. Call it at each beat
    /// while the store can be reached.
    pub(super) fn settle_provisional(
        &mut self,
        is_holding: bool,
        is_wanted: impl Fn(&UserId) -> bool,
        around: &mut Around<'_>,
    ) {
        let provisional = self.members.iter().filter(|(_, standing)| **standing == Standing::Provisional);
        let unwanted: HashSet<UserId> =
            provisional.map(|(user, _)| user).filter(|user| !is_wanted(user)).cloned().collect();
        let parted: Vec<UserId> = self.parting.intersection(&unwanted).cloned().collect();
        self.parting = unwanted;
        for user in parted {
            if is_holding {
                // Another node may have a socket of this user there, and may not have asserted it yet.
                self.put(&user, Standing::Held(OfflineReason::Unknown), around);
            } else {
                self.remove(&user, OfflineReason::Unknown, around);
            }
        }
    }

    /// The view of the service told something of a member.
    pub(super) fn follow(
        &mut self,
        user: &UserId,
        told: &Told,
        sequence: &Sequence,
        at: Timestamp,
        tell: TellRoom<'_>,
    ) {
        let told = match told {
            Told::Online(presence) if self.told.insert(user.clone()) => RoomTold::Joined(presence.clone()),
            Told::Offline(departure) if self.told.remove(user) => RoomTold::Left(departure.reason),
            Told::ProfileChanged(presence) | Told::StatusChanged(presence) if self.told.contains(user) => {
                RoomTold::Changed(presence.clone())
            }
            Told::Online(_) | Told::ProfileChanged(_) | Told::StatusChanged(_) | Told::Offline(_) => return,
        };
        self.announce(user, told, sequence, at, tell);
    }

    /// Where the room is and how many members it has, as the store has said so far.
    pub(super) fn head(&self) -> RoomHead {
        RoomHead { position: self.position, n_members: self.n_confirmed as u64 }
    }

    /// Whether the room reflects the position. If it is to reflect none, it must be known.
    pub(super) fn reflects(&self, position: Option<RoomPosition>) -> bool {
        let has_reached = |at: RoomPosition| at.birth == self.position.birth && at.revision <= self.position.revision;
        self.is_known && position.is_none_or(has_reached)
    }

    /// Wakes the receiver when the room reflects the position.
    pub(super) fn wait_for(&mut self, position: Option<RoomPosition>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        // Whoever does not wait any more makes room for those who do.
        self.waiters.retain(|(_, waiter)| !waiter.is_closed());
        self.waiters.push((position, sender));
        receiver
    }

    /// Takes the waiters whose position the room reflects.
    pub(super) fn take_due_waiters(&mut self) -> Vec<oneshot::Sender<()>> {
        let waiters = std::mem::take(&mut self.waiters);
        let (due, waiting): (Vec<Waiter>, Vec<Waiter>) =
            waiters.into_iter().partition(|(position, _)| self.reflects(*position));
        self.waiters = waiting;
        due.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// The room is not open any more.
    pub(super) fn close(self, of_users: &mut RoomsOfUsers) {
        self.members.keys().for_each(|user| of_users.remove(user, &self.room));
    }

    /// The user is a member from now on.
    fn put(&mut self, user: &UserId, standing: Standing, around: &mut Around<'_>) {
        let before = self.members.insert(user.clone(), standing);
        self.count(before, Some(standing));
        if before.is_some() {
            return;
        }
        around.of_users.add(user, &self.room);
        if let Some(presence) = around.service.get(user) {
            self.told.insert(user.clone());
            self.announce(user, RoomTold::Joined(presence.clone()), around.sequence, around.at, around.tell);
        }
    }

    /// The user is no member any more.
    fn remove(&mut self, user: &UserId, reason: OfflineReason, around: &mut Around<'_>) {
        let Some(before) = self.members.remove(user) else { return };
        self.count(Some(before), None);
        around.of_users.remove(user, &self.room);
        if self.told.remove(user) {
            self.announce(user, RoomTold::Left(reason), around.sequence, around.at, around.tell);
        }
    }

    fn note_behind_gap(&mut self, transition: &RoomTransition) {
        match transition.change {
            RoomChange::Left(reason) if self.members.contains_key(&transition.user) => {
                self.left_behind_gap.insert(transition.user.clone(), reason);
            }
            RoomChange::Entered | RoomChange::Left(_) => _ = self.left_behind_gap.remove(&transition.user),
        }
    }

    fn count(&mut self, before: Option<Standing>, after: Option<Standing>) {
        let is = |standing: Option<Standing>, kind| usize::from(standing == Some(kind));
        for (counted, kind) in
            [(&mut self.n_confirmed, Standing::Confirmed), (&mut self.n_provisional, Standing::Provisional)]
        {
            *counted = *counted + is(after, kind) - is(before, kind);
        }
    }

    fn announce(&mut self, user: &UserId, told: RoomTold, sequence: &Sequence, at: Timestamp, tell: TellRoom<'_>) {
        self.last_told = sequence.next();
        tell(RoomAnnouncement {
            sequence: self.last_told,
            room: self.room.clone(),
            user: user.clone(),
            told,
            n_online: self.told.len(),
            at,
        });
    }
}

#[cfg(test)]
impl RoomView {
    /// Everybody who is a member, visible or not.
    pub(super) fn members(&self) -> impl Iterator<Item = &UserId> {
        self.members.keys()
    }
}
