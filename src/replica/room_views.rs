//! All rooms that this node has opened: the views of the rooms, what is to be done about them, and when they hold.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::warn;

use super::WELCOME_AFTER;
use super::room_agenda::RoomAgenda;
use super::room_checks::RoomChecks;
use super::room_view::{Around, Received, Replaced, RoomView, RoomsOfUsers, TellRoom};
use super::sequence::Sequence;
use crate::clock;
use crate::domain::{RoomId, RoomPosition, RoomRoster, RoomTransition, Roster, Timestamp, Told, UserId};
use crate::store::RoomHead;

/// The open rooms. They are locked together with the view of the service.
///
/// # Holds
/// While the view of the service holds or is degraded, all rooms hold: they note departures and do not tell them. For each
/// room the hold ends with a snapshot whose reading began after the hold of the service. So the holds are counted, and each
/// room knows which one it has left behind.
///
/// In a snapshot members may be missing, and no transition says that they left. Then this node has missed it, or the store has
/// lost its data and this node has not noticed that yet. The next two beats say which: the second one began after the snapshot
/// was read. Until then that room holds alone.
pub struct RoomViews {
    rooms: HashMap<RoomId, RoomView>,
    of_users: RoomsOfUsers,
    sequence: Sequence,
    agenda: RoomAgenda,
    checks: RoomChecks,
    service: ServiceState,
    /// Counts the holds of the service.
    n_holds: u64,
    /// Whether a room may still hold because of an earlier hold.
    has_unreleased: bool,
    /// The rooms in which it is in doubt whether some members left, and how many beats each waits for.
    doubted: HashMap<RoomId, u8>,
    /// The rooms with provisional members.
    unsure: HashSet<RoomId>,
    /// The sessions to wake when the views are not locked any more.
    woken: Vec<oneshot::Sender<()>>,
    /// The rooms that were opened or closed since somebody took this, and whether each is open.
    turned: HashMap<RoomId, bool>,
}

/// How long a room may not follow the store before that is said. It is as long as a `welcome` waits.
const BEHIND_AFTER: Duration = WELCOME_AFTER;

/// After so many beats a node has noticed a loss of data that happened before.
const DOUBT_BEATS: u8 = 2;

/// What rooms know of the view of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ServiceState {
    /// The epoch that it reflects.
    pub(super) epoch: u64,
    /// Whether it only notes departures.
    pub(super) is_holding: bool,
    /// Whether the store is out of reach.
    pub(super) is_degraded: bool,
}

/// What is known when a snapshot is about to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoomRead {
    /// The room.
    pub(super) room: RoomId,
    /// The hold that the snapshot ends for the room. It is none if it ends none.
    releases: Option<u64>,
}

/// What is known when a snapshot is about to be read of a room that is not subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadApart {
    room: RoomId,
    /// How often rooms were subscribed to before.
    n_subscribed: u64,
}

/// What rooms see of the rest of the node, and whom they tell.
pub(super) struct Scene<'a> {
    /// The users of the view of the service.
    pub(super) service: &'a Roster,
    /// The time.
    pub(super) at: Timestamp,
    /// Takes the announcements.
    pub(super) tell: TellRoom<'a>,
}

impl Scene<'_> {
    /// The same for one of several changes.
    pub(super) fn again(&mut self) -> Scene<'_> {
        Scene { service: self.service, at: self.at, tell: &mut *self.tell }
    }
}

impl ServiceState {
    /// Whether rooms must only note departures.
    fn holds(self) -> bool {
        self.is_holding || self.is_degraded
    }
}

impl RoomViews {
    /// No rooms. `sequence` is that of the view of the service.
    pub(super) fn new(sequence: Sequence) -> Self {
        Self {
            rooms: HashMap::new(),
            of_users: RoomsOfUsers::default(),
            sequence,
            agenda: RoomAgenda::default(),
            checks: RoomChecks::default(),
            service: ServiceState { is_holding: true, ..ServiceState::default() },
            n_holds: 1,
            has_unreleased: false,
            doubted: HashMap::new(),
            unsure: HashSet::new(),
            woken: Vec::new(),
            turned: HashMap::new(),
        }
    }

    /// A room, if it is open on this node.
    pub fn get(&self, room: &RoomId) -> Option<&RoomView> {
        self.rooms.get(room)
    }

    /// Since when what is known of an open room may be out of date, although the view of the service is not: the node could
    /// not subscribe to it, or could not read it. A short time counts for nothing, because every new subscription takes one.
    pub(crate) fn behind_since(&self, room: &RoomId) -> Option<Timestamp> {
        self.agenda.unsettled_since(room).filter(|since| since.until(clock::now()) > BEHIND_AFTER)
    }

    /// A room, if the view says who is in it. While the store is out of reach, it says so for every open room. A room that
    /// was opened meanwhile shows those with sockets here.
    pub(crate) fn known(&self, room: &RoomId) -> Option<&RoomView> {
        self.get(room).filter(|view| view.is_known() || self.is_degraded())
    }

    /// The open rooms that the node could not subscribe to for so long that it is said ([`RoomViews::behind_since`]).
    pub(super) fn unsubscribed(&self) -> Vec<RoomId> {
        self.agenda.unsubscribed_for(BEHIND_AFTER)
    }

    /// A room is about to be read apart, unless it is subscribed to.
    pub(super) fn begin_read_apart(&self, id: &RoomId) -> Option<ReadApart> {
        let read = ReadApart { room: id.clone(), n_subscribed: self.agenda.n_subscribed() };
        self.agenda.is_unsubscribed(id).then_some(read)
    }

    /// Number of open rooms.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether no room is open.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The open rooms.
    pub(super) fn ids(&self) -> Vec<RoomId> {
        self.rooms.keys().cloned().collect()
    }

    /// One of the open rooms.
    pub(crate) fn any(&self) -> Option<RoomId> {
        self.rooms.keys().next().cloned()
    }

    /// Whether the store is out of reach.
    pub(super) fn is_degraded(&self) -> bool {
        self.service.is_degraded
    }

    /// Whether there may be a room to subscribe to or to read.
    pub(super) fn has_work(&self) -> bool {
        self.has_unreleased || self.agenda.has_work()
    }

    /// The rooms that nobody has used for that long.
    pub(super) fn unused_for(&self, linger: Duration, now: Instant) -> Vec<RoomId> {
        self.rooms.keys().filter(|id| self.is_unused_for(id, linger, now)).cloned().collect()
    }

    /// Whether nobody has used an open room for that long.
    pub(super) fn is_unused_for(&self, id: &RoomId, linger: Duration, now: Instant) -> bool {
        self.rooms.get(id).is_some_and(|room| now.saturating_duration_since(room.used_at) >= linger)
    }

    /// What is to be done.
    pub(super) fn agenda(&self) -> &RoomAgenda {
        &self.agenda
    }

    /// Takes the sessions whose position is reflected.
    pub(super) fn take_woken(&mut self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.woken)
    }
}

/// Rooms open and close.
impl RoomViews {
    /// Somebody uses the room. Returns whether it was opened by that.
    pub(super) fn use_room(&mut self, id: &RoomId, now: Instant) -> bool {
        if let Some(room) = self.rooms.get_mut(id) {
            room.used_at = now;
            return false;
        }
        self.rooms.insert(id.clone(), RoomView::new(id.clone(), now));
        self.agenda.open(id);
        self.turned.insert(id.clone(), true);
        true
    }

    /// Closes a room, unless it is being read.
    pub(super) fn close(&mut self, id: &RoomId) -> bool {
        if self.rooms.get(id).is_none_or(RoomView::is_being_read) {
            return false;
        }
        if let Some(room) = self.rooms.remove(id) {
            room.close(&mut self.of_users);
        }
        self.agenda.close(id);
        self.checks.forget(id);
        self.turned.insert(id.clone(), false);
        self.doubted.remove(id);
        self.unsure.remove(id);
        true
    }

    /// Whether rooms were opened or closed since [`RoomViews::take_turned`].
    pub(super) fn have_turned(&self) -> bool {
        !self.turned.is_empty()
    }

    /// The rooms that were opened or closed since the last call, and whether each is open.
    pub(super) fn take_turned(&mut self) -> HashMap<RoomId, bool> {
        std::mem::take(&mut self.turned)
    }

    /// There is a new subscription: every room is to be subscribed to, and read anew. What was being read does not count.
    pub(super) fn start_over(&mut self) {
        for room in self.rooms.values_mut() {
            // The new snapshots have what came so far, and what was missed since.
            room.miss();
            drop(room.give_up_reading());
        }
        self.agenda.start_over(self.rooms.keys());
        self.checks.start_over();
    }

    /// These rooms are subscribed to now.
    pub(super) fn subscribed(&mut self, ids: &[RoomId]) {
        self.agenda.subscribed(ids);
    }

    /// A room is to be read anew, if it is open.
    pub(super) fn read(&mut self, id: &RoomId) {
        if self.rooms.contains_key(id) {
            self.agenda.read(id);
        }
    }

    /// Transitions of any room may be missing here: every room is to be read anew.
    pub(super) fn miss(&mut self) {
        self.rooms.values_mut().for_each(RoomView::miss);
        self.read_all();
    }

    fn read_all(&mut self) {
        self.rooms.keys().for_each(|id| self.agenda.read(id));
    }
}

/// The store says something.
impl RoomViews {
    /// A transition was delivered. If the room is not open, it means nothing.
    pub(super) fn apply(
        &mut self,
        transition: &RoomTransition,
        contradicts: impl Fn(&UserId, RoomPosition) -> bool,
        scene: Scene<'_>,
    ) -> Received {
        let is_holding = self.holds(&transition.room);
        let at = transition.at;
        let received = self.change(&transition.room, Scene { at, ..scene }, |room, around| {
            room.apply(transition, is_holding, contradicts, around)
        });
        if received == Some(Received::Gap) {
            self.agenda.read(&transition.room);
        }
        received.unwrap_or(Received::Before)
    }

    /// The next room to read. `may_release` says whether the snapshot may end a hold: the store has said in the present epoch
    /// that departures may be told.
    pub(super) fn begin_read(&mut self, may_release: bool) -> Option<RoomRead> {
        let id = self.agenda.begin_read()?;
        self.checks.forget(&id);
        self.rooms.get_mut(&id)?.begin_read();
        let is_sure = may_release && !self.service.holds() && !self.doubted.contains_key(&id);
        Some(RoomRead { room: id, releases: is_sure.then_some(self.n_holds) })
    }

    /// The snapshot of a room was read.
    pub(super) fn end_read(
        &mut self,
        read: &RoomRead,
        roster: RoomRoster,
        is_wanted: impl Fn(&UserId) -> bool,
        scene: Scene<'_>,
    ) -> Option<Replaced> {
        let releases = read.releases.filter(|hold| *hold == self.n_holds && !self.service.holds());
        let replaced = self.change(&read.room, scene, |room, around| {
            let replaced = room.replace(roster, releases.is_none(), is_wanted, around);
            room.released = releases.filter(|_| !replaced.is_doubtful).unwrap_or(0);
            replaced
        })?;
        self.agenda.end_read(&read.room, replaced.has_gap);
        if replaced.is_doubtful {
            self.doubted.insert(read.room.clone(), DOUBT_BEATS);
        }
        self.has_unreleased |= releases.is_none() || replaced.is_doubtful;
        Some(replaced)
    }

    /// The snapshot of a room was read apart. It counts only if no room was subscribed to meanwhile: a room that is subscribed to
    /// is read anew. Departures are held until then.
    pub(super) fn end_read_apart(
        &mut self,
        read: &ReadApart,
        roster: RoomRoster,
        is_wanted: impl Fn(&UserId) -> bool,
        scene: Scene<'_>,
    ) -> Option<Replaced> {
        if !self.agenda.is_unsubscribed(&read.room) || self.agenda.n_subscribed() != read.n_subscribed {
            return None;
        }
        let replaced = self.change(&read.room, scene, |room, around| {
            room.released = 0;
            room.replace(roster, true, is_wanted, around)
        })?;
        if replaced.is_doubtful {
            self.doubted.insert(read.room.clone(), DOUBT_BEATS);
        }
        self.has_unreleased = true;
        Some(replaced)
    }

    /// The snapshot of a room could not be read. Returns what waited for it.
    pub(super) fn give_up_reading(&mut self, read: &RoomRead) -> Vec<RoomTransition> {
        self.agenda.end_read(&read.room, true);
        self.rooms.get_mut(&read.room).map(RoomView::give_up_reading).unwrap_or_default()
    }

    /// Reads the rooms whose hold a snapshot would end now. Call it only while a snapshot may end a hold.
    pub(super) fn read_unreleased(&mut self) {
        if self.service.holds() || !std::mem::take(&mut self.has_unreleased) {
            return;
        }
        for (id, room) in self.rooms.iter().filter(|(_, room)| room.released < self.n_holds) {
            if self.doubted.contains_key(id) {
                self.has_unreleased = true;
            } else if !room.is_being_read() {
                self.agenda.read(id);
            }
        }
    }

    /// The node has beaten, and its view is as the beat says.
    pub(super) fn count_beat(&mut self) {
        self.doubted.retain(|_, n_beats| {
            *n_beats = n_beats.saturating_sub(1);
            *n_beats > 0
        });
        let rooms = &self.rooms;
        let wrong = self.checks.count_beat(|id| rooms.get(id).map(|room| room.head().position).unwrap_or_default());
        self.correct(&wrong);
    }

    /// The store is about to be asked about these rooms. Returns those whose views can be compared with what it says: they
    /// follow the store, and hold nothing.
    pub(super) fn ask(&mut self, ids: &[RoomId]) -> Vec<RoomId> {
        let mut asked = Vec::new();
        for (id, room) in ids.iter().filter_map(|id| Some((id, self.rooms.get(id)?))) {
            if room.is_known() && self.agenda.is_settled(id) && !self.holds(id) {
                self.checks.ask(id, room.head());
                asked.push(id.clone());
            }
        }
        asked
    }

    /// The store has answered about these rooms. Each view that proves to be wrong is read anew.
    pub(super) fn compare(&mut self, ids: &[RoomId], stored: &[Option<RoomHead>]) {
        let answers = ids.iter().zip(stored).filter_map(|(id, stored)| Some((id, (*stored)?)));
        let wrong: Vec<RoomId> =
            answers.filter(|(id, stored)| self.checks.answer(id, *stored)).map(|(id, _)| id.clone()).collect();
        self.correct(&wrong);
    }

    fn correct(&mut self, wrong: &[RoomId]) {
        if !wrong.is_empty() {
            warn!(n_rooms = wrong.len(), "{} rooms were not as the store has them: reading them anew", wrong.len());
        }
        wrong.iter().for_each(|id| self.read(id));
    }
}

/// The rest of the node says something.
impl RoomViews {
    /// The view of the service told something of a user.
    pub(super) fn follow(&mut self, user: &UserId, told: &Told, at: Timestamp, tell: TellRoom<'_>) {
        for id in self.of_users.of(user) {
            if let Some(room) = self.rooms.get_mut(id) {
                room.follow(user, told, &self.sequence, at, &mut *tell);
            }
        }
    }

    /// Says how the view of the service is now. Returns whether rooms are to be read for that.
    pub(super) fn follow_service(&mut self, service: ServiceState) -> bool {
        let before = std::mem::replace(&mut self.service, service);
        if service.holds() && !before.holds() {
            self.n_holds += 1;
        }
        let has_ended = before.holds() && !service.holds();
        self.has_unreleased |= has_ended && !self.is_empty();
        let is_new_epoch = service.epoch != before.epoch;
        if is_new_epoch {
            self.read_all();
        }
        (has_ended || is_new_epoch) && !self.is_empty()
    }

    /// Users with sockets here are members of an open room, whether the store says so or not.
    pub(super) fn arrive(&mut self, id: &RoomId, users: impl IntoIterator<Item = UserId>, scene: Scene<'_>) {
        self.change(id, scene, |room, around| users.into_iter().for_each(|user| room.arrive(&user, around)));
    }

    /// Drops provisional members who have no socket here any more ([`RoomView::settle_provisional`]). Rooms that do not
    /// follow the store now have to wait.
    pub(super) fn settle_provisional(&mut self, is_wanted: impl Fn(&RoomId, &UserId) -> bool, mut scene: Scene<'_>) {
        let settled: Vec<RoomId> = self.unsure.iter().filter(|id| self.agenda.is_settled(id)).cloned().collect();
        for id in settled {
            let is_holding = self.holds(&id);
            self.change(&id, scene.again(), |room, around| {
                room.settle_provisional(is_holding, |user| is_wanted(&id, user), around);
            });
        }
    }

    /// Wakes the receiver when the room reflects the position ([`RoomView::reflects`]). It is none if the room does so now.
    /// If the room is not open, the receiver ends.
    pub(super) fn wait_for(&mut self, id: &RoomId, position: Option<RoomPosition>) -> Option<oneshot::Receiver<()>> {
        match self.rooms.get_mut(id) {
            Some(room) if room.reflects(position) => None,
            Some(room) => Some(room.wait_for(position)),
            None => Some(oneshot::channel().1),
        }
    }

    fn holds(&self, id: &RoomId) -> bool {
        self.service.holds() || self.rooms.get(id).is_some_and(|room| room.released < self.n_holds)
    }

    fn change<T>(
        &mut self,
        id: &RoomId,
        scene: Scene<'_>,
        change: impl FnOnce(&mut RoomView, &mut Around<'_>) -> T,
    ) -> Option<T> {
        let room = self.rooms.get_mut(id)?;
        let Scene { service, at, tell } = scene;
        let (of_users, sequence) = (&mut self.of_users, &self.sequence);
        let result = change(room, &mut Around { service, of_users, sequence, at, tell });
        self.woken.append(&mut room.take_due_waiters());
        if room.is_unsure() {
            self.unsure.insert(id.clone());
        } else {
            self.unsure.remove(id);
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests;
