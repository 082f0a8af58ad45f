//! Follows the rooms that this node has opened. A room is opened when somebody here uses it: the node subscribes to it, reads
//! a snapshot, and applies what came meanwhile. One task does this for all rooms, so that the changes of the subscription keep
//! their order.

use std::collections::HashMap;
use std::future::ready;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep_until, timeout};
use tracing::{debug, warn};

use super::room_view::{Received, Replaced};
use super::room_views::{RoomRead, RoomViews, Scene};
use super::{CATCH_UP_AFTER, Replica, View, WELCOME_AFTER, wake};
use crate::backoff::{Backoff, Reminder};
use crate::clock;
use crate::domain::{RoomId, RoomPosition, RoomRoster, RoomTold, RoomTransition, Timestamp, UserId};
use crate::node::{EnteredAt, Link};
use crate::store::{OpenRooms, RoomHead, RoomNews, RoomSubscription, StoreError, StoreResult};

/// One change of what a room shows. Every listener of the room on this node is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomAnnouncement {
    /// Counts together with those of the service ([`super::Announcement::sequence`]). So every change of a node's views has a
    /// number of its own.
    pub sequence: u64,
    /// The room.
    pub room: RoomId,
    /// The user that the change is about.
    pub user: UserId,
    /// What those in the room are told, also the user's own sockets.
    pub told: RoomTold,
    /// How many users the room shows after this change.
    pub n_online: usize,
    /// The time of the change.
    pub at: Timestamp,
}

/// Every so many beats, the node subscribes once more to a room that is open. So it notices a subscription that is silent for
/// good. Source: the echo of signals comes as often (docs/redis.md).
const ECHO_BEATS: u64 = 5;

/// How often the node looks for rooms that nobody uses: this part of `rooms.linger`, within these bounds.
const LINGER_PART: u32 = 4;
const LOOK_FOR_UNUSED_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// A reading that is under way.
type Reading = BoxFuture<'static, (RoomRead, StoreResult<RoomRoster>)>;

/// A question about rooms that is under way: where they are.
type Comparison = BoxFuture<'static, (Vec<RoomId>, StoreResult<Vec<Option<RoomHead>>>)>;

/// How many rooms are compared with the store at once: two calls each, less than 1 ms of the server's time.
const COMPARED_AT_ONCE: usize = 200;

/// Why a subscription to rooms was given up.
enum GivenUp {
    /// No room is open.
    Unused,
    /// The subscription is lost.
    Lost(StoreError),
}

impl From<StoreError> for GivenUp {
    fn from(error: StoreError) -> Self {
        Self::Lost(error)
    }
}

/// What sessions ask for.
impl Replica {
    /// A socket of `user` enters a room; `entered` is the table's answer. Opens the room here. Returns whether the view shows
    /// that the user is there: then the views have reached the positions in the store's reply.
    ///
    /// This waits for a second at most. After that, or if the store is out of reach, the user becomes a provisional member. A
    /// provisional member stays as long as a socket of the user is wanted there.
    pub async fn enter_room(&self, room: &RoomId, user: &UserId, entered: oneshot::Receiver<EnteredAt>) -> bool {
        self.use_room(room);
        let is_reachable = self.view().degraded().is_none();
        if is_reachable && timeout(WELCOME_AFTER, self.reflects_entry(room, entered)).await.unwrap_or(false) {
            return true;
        }
        self.update_rooms(|rooms, scene| {
            // The table is read while the views are locked. So a socket that leaves after this finds the member.
            if self.table.wants_in(room, user) {
                rooms.arrive(room, [user.clone()], scene);
            }
        });
        false
    }

    /// Opens a room for somebody who asks about it. Returns whether it was read within a second. It stays open for
    /// `rooms.linger`.
    pub async fn open_room(&self, room: &RoomId) -> bool {
        self.use_room(room);
        timeout(WELCOME_AFTER, self.room_reflects(room, None)).await.unwrap_or(false)
    }

    /// Somebody uses a room: it is opened, if it is not open.
    fn use_room(&self, room: &RoomId) {
        let is_new = self.update_rooms(|rooms, scene| {
            let is_new = rooms.use_room(room, Instant::now());
            if is_new && rooms.is_degraded() {
                rooms.arrive(room, self.table.wanted_members(room), scene);
            }
            is_new
        });
        if is_new {
            self.rooms_changed.notify_one();
        }
    }

    async fn reflects_entry(&self, room: &RoomId, entered: oneshot::Receiver<EnteredAt>) -> bool {
        let Ok((position, room_position)) = entered.await else { return false };
        self.reflects(ready(Some(position))).await && self.room_reflects(room, room_position).await
    }

    /// Waits until the view of a room reflects the position. Put a deadline on it.
    async fn room_reflects(&self, room: &RoomId, position: Option<RoomPosition>) -> bool {
        let Some(mut reflected) = self.update_rooms(|rooms, _| rooms.wait_for(room, position)) else { return true };
        if let Ok(reflected) = timeout(CATCH_UP_AFTER, &mut reflected).await {
            return reflected.is_ok();
        }
        self.update_rooms(|rooms, _| rooms.read(room));
        self.rooms_changed.notify_one();
        reflected.await.is_ok()
    }
}

/// What goes on beside the views: the signals of the open rooms.
impl Replica {
    /// Waits until rooms were opened or closed.
    ///
    /// # Cancel safety
    /// A notice that is not consumed stays for the next call. One task may wait.
    pub(crate) async fn rooms_turned(&self) {
        self.rooms_turned.notified().await;
    }

    /// The rooms that were opened or closed since the last call, and whether each is open.
    pub(crate) fn take_turned_rooms(&self) -> HashMap<RoomId, bool> {
        self.update_rooms(|rooms, _| rooms.take_turned())
    }

    /// The open rooms.
    pub(crate) fn open_rooms(&self) -> Vec<RoomId> {
        self.view().rooms().ids()
    }
}

/// What the replica does with its rooms besides.
impl Replica {
    /// The store is out of reach: in each open room, the members with wanted sockets here are shown.
    pub(super) fn show_wanted_members(&self) {
        self.update_rooms(|rooms, mut scene| {
            for room in rooms.ids() {
                let wanted = self.table.wanted_members(&room);
                rooms.arrive(&room, wanted, scene.again());
            }
        });
    }

    /// Drops provisional members who have no socket here any more. It is called at each beat.
    pub(super) fn settle_rooms(&self) {
        self.update_rooms(|rooms, scene| {
            rooms.settle_provisional(|room, user| self.table.wants_in(room, user), scene);
        });
    }

    /// Keeps the views of rooms in step. While no room is open, the store is not asked for anything.
    pub(super) async fn follow_rooms(&self) {
        let mut backoff = Backoff::new(self.backoff_max);
        let mut reminder = Reminder::default();
        loop {
            while self.view().rooms().is_empty() {
                self.rooms_changed.notified().await;
            }
            let given_up = match self.store.subscribe_rooms().await {
                Ok(subscription) => self.keep_in_step(subscription, &mut backoff, &mut reminder).await,
                Err(error) => GivenUp::Lost(error),
            };
            self.update_rooms(|rooms, _| rooms.start_over());
            match given_up {
                GivenUp::Unused => continue,
                GivenUp::Lost(error) => warn_of(&error, backoff.is_first(), &mut reminder),
            }
            // There is nothing to unsubscribe from.
            self.take_unused_rooms();
            backoff.wait().await;
        }
    }

    async fn keep_in_step(
        &self,
        subscription: RoomSubscription<RoomNews>,
        backoff: &mut Backoff,
        reminder: &mut Reminder,
    ) -> GivenUp {
        let RoomSubscription { rooms, mut deliveries } = subscription;
        let mut follower = Follower::new(self, rooms, backoff, reminder);
        let mut link = self.link.clone();
        let (least, most) = LOOK_FOR_UNUSED_EVERY;
        let mut look_for_unused = interval((self.rooms_linger / LINGER_PART).clamp(least, most));
        // A new subscription begins with reading every room.
        let mut compare = interval_at(tokio::time::Instant::now() + self.compare_rooms_every, self.compare_rooms_every);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(given_up) = follower.catch_up(&mut deliveries).await {
                return given_up;
            }
            let done = tokio::select! {
                news = deliveries.recv() => self.take_delivery(news),
                Some(ended) = follower.readings.next() => {
                    follower.end_reading(ended);
                    Ok(())
                }
                Some(compared) = follower.comparing.next() => {
                    follower.end_comparison(compared);
                    Ok(())
                }
                _ = compare.tick() => {
                    follower.begin_comparisons();
                    Ok(())
                }
                () = self.rooms_changed.notified() => Ok(()),
                () = sleep_until(follower.pause_until.into()), if follower.is_pausing() => Ok(()),
                Ok(()) = link.changed() => {
                    let state = *link.borrow_and_update();
                    follower.beat(state).await
                }
                _ = look_for_unused.tick() => follower.close_unused().await,
            };
            if let Err(given_up) = done {
                return given_up;
            }
        }
    }

    /// Takes what the subscription delivered. It is none if the subscription has ended.
    fn take_delivery(&self, news: Option<RoomNews>) -> Result<(), GivenUp> {
        match news {
            None => return Err(StoreError::Unreachable("the subscription to rooms has ended".to_owned()).into()),
            Some(RoomNews::Transition(transition)) => _ = self.apply_in_room(&transition),
            Some(RoomNews::Lost) => {
                warn!("This node was too slow for what happens in its rooms: reading them anew");
                self.update_rooms(|rooms, _| rooms.miss());
            }
        }
        Ok(())
    }

    fn apply_in_room(&self, transition: &RoomTransition) -> Received {
        let RoomTransition { room, .. } = transition;
        let contradicts = |user: &UserId, position| self.table.contradicts_room_departure(room, user, position);
        let received = self.update_rooms(|rooms, scene| rooms.apply(transition, contradicts, scene));
        if received == Received::Applied {
            self.metrics.applied(transition.at.until(clock::now()));
            self.table.observe_room(transition);
        }
        received
    }

    /// Closes the rooms that nobody has used for long enough, and returns them.
    fn take_unused_rooms(&self) -> Vec<RoomId> {
        let now = Instant::now();
        let unused = self.view().rooms().unused_for(self.rooms_linger, now);
        if unused.is_empty() {
            return unused;
        }
        self.update_rooms(|rooms, _| {
            let is_closed = |room: &RoomId| {
                if self.table.is_local_room(room) {
                    rooms.use_room(room, now);
                    return false;
                }
                // Somebody may have come meanwhile.
                rooms.is_unused_for(room, self.rooms_linger, now) && rooms.close(room)
            };
            unused.into_iter().filter(is_closed).collect()
        })
    }

    /// Whether a snapshot that is read from now on shows who left: the store says, in the epoch of the view, that departures
    /// may be told.
    fn may_release(&self, service: &View) -> bool {
        match *self.link.borrow() {
            Link::Up { position, holding, .. } => !holding && position.epoch == service.position().epoch,
            Link::Starting | Link::Down { .. } => false,
        }
    }

    /// Changes the views of rooms, and tells every change while all views are locked.
    fn update_rooms<T>(&self, change: impl FnOnce(&mut RoomViews, Scene<'_>) -> T) -> T {
        let mut views = self.views.write();
        let (service, rooms, _) = views.parts();
        let mut tell = |announcement| self.announce.announce_room(&announcement);
        let scene = Scene { service: service.roster(), at: clock::now(), tell: &mut tell };
        let n_before = rooms.len();
        let result = change(rooms, scene);
        if rooms.len() != n_before {
            self.metrics.rooms_open(rooms.len());
        }
        let (woken, have_turned) = (rooms.take_woken(), rooms.have_turned());
        drop(views);
        if have_turned {
            self.rooms_turned.notify_one();
        }
        wake(woken);
        result
    }
}

/// One subscription, and the readings that belong to it.
struct Follower<'a> {
    replica: &'a Replica,
    rooms: Box<dyn OpenRooms>,
    readings: FuturesUnordered<Reading>,
    /// The rooms that are still to be compared in this round.
    to_compare: Vec<RoomId>,
    /// The question that is under way. There is one at most.
    comparing: FuturesUnordered<Comparison>,
    /// No reading begins before that: one has failed.
    pause_until: Instant,
    backoff: &'a mut Backoff,
    reminder: &'a mut Reminder,
    n_beats: u64,
}

impl<'a> Follower<'a> {
    fn new(
        replica: &'a Replica,
        rooms: Box<dyn OpenRooms>,
        backoff: &'a mut Backoff,
        reminder: &'a mut Reminder,
    ) -> Self {
        let (readings, pause_until) = (FuturesUnordered::new(), Instant::now());
        let (to_compare, comparing) = (Vec::new(), FuturesUnordered::new());
        Self { replica, rooms, readings, to_compare, comparing, pause_until, backoff, reminder, n_beats: 0 }
    }

    fn is_pausing(&self) -> bool {
        self.pause_until > Instant::now()
    }

    /// Does what is to be done: subscribes to rooms, then begins to read them.
    async fn catch_up(&mut self, deliveries: &mut mpsc::Receiver<RoomNews>) -> Result<(), GivenUp> {
        loop {
            let next = {
                let views = self.replica.view();
                if !views.rooms().has_work() {
                    return Ok(());
                }
                views.rooms().agenda().to_subscribe()
            };
            if next.is_empty() {
                break;
            }
            self.rooms.open(&next).await?;
            self.backoff.reset();
            self.replica.update_rooms(|rooms, _| rooms.subscribed(&next));
        }
        // What was delivered before a reading begins is in its snapshot, or is older. A room that was closed and opened again
        // may have left something behind, too.
        for _ in 0..deliveries.len() {
            self.replica.take_delivery(deliveries.recv().await)?;
        }
        self.begin_readings();
        Ok(())
    }

    fn begin_readings(&mut self) {
        if self.is_pausing() {
            return;
        }
        let replica = self.replica;
        let begun: Vec<RoomRead> = {
            let mut views = replica.views.write();
            let (service, rooms, _) = views.parts();
            let may_release = replica.may_release(service);
            if may_release {
                rooms.read_unreleased();
            }
            std::iter::from_fn(|| rooms.begin_read(may_release)).collect()
        };
        for read in begun {
            let store = replica.store.clone();
            self.readings.push(Box::pin(async move {
                let snapshot = store.room_snapshot(&read.room).await;
                (read, snapshot)
            }));
        }
    }

    fn end_reading(&mut self, (read, snapshot): (RoomRead, StoreResult<RoomRoster>)) {
        match snapshot {
            Ok(roster) => {
                self.backoff.reset();
                self.reminder.reset();
                let is_wanted = |user: &UserId| self.replica.table.wants_in(&read.room, user);
                self.replica.take_over(&read.room, |rooms, scene| rooms.end_read(&read, roster, is_wanted, scene));
            }
            Err(error) => {
                warn_of(&error, self.backoff.is_first(), self.reminder);
                self.pause_until = Instant::now() + self.backoff.next();
                let kept = self.replica.update_rooms(|rooms, _| rooms.give_up_reading(&read));
                for transition in kept {
                    self.replica.apply_in_room(&transition);
                }
            }
        }
    }

    /// A round of comparisons begins, unless the last one has not ended.
    fn begin_comparisons(&mut self) {
        if self.comparing.is_empty() {
            self.to_compare = self.replica.open_rooms();
            self.compare_next();
        }
    }

    fn compare_next(&mut self) {
        while !self.to_compare.is_empty() {
            let next = self.to_compare.split_off(self.to_compare.len().saturating_sub(COMPARED_AT_ONCE));
            let asked = self.replica.update_rooms(|rooms, _| rooms.ask(&next));
            if !asked.is_empty() {
                let store = self.replica.store.clone();
                self.comparing.push(Box::pin(async move {
                    let heads = store.room_heads(&asked).await;
                    (asked, heads)
                }));
                return;
            }
        }
    }

    /// The store has said where some rooms are. If it has not, all rooms wait for the next round.
    fn end_comparison(&mut self, (asked, heads): (Vec<RoomId>, StoreResult<Vec<Option<RoomHead>>>)) {
        match heads {
            Ok(heads) => {
                self.replica.update_rooms(|rooms, _| rooms.compare(&asked, &heads));
                self.compare_next();
            }
            Err(error) => debug!(error = %error, "Could not compare rooms with the store"),
        }
    }

    /// The writer has news of the store.
    async fn beat(&mut self, link: Link) -> Result<(), GivenUp> {
        if !matches!(link, Link::Up { .. }) {
            return Ok(());
        }
        self.n_beats += 1;
        let open = self.replica.update_rooms(|rooms, _| {
            rooms.count_beat();
            rooms.any()
        });
        if self.n_beats.is_multiple_of(ECHO_BEATS)
            && let Some(room) = open
        {
            self.rooms.open(&[room]).await?;
        }
        Ok(())
    }

    /// Closes the rooms that nobody uses any more.
    async fn close_unused(&mut self) -> Result<(), GivenUp> {
        let unused = self.replica.take_unused_rooms();
        if self.replica.view().rooms().is_empty() {
            // The subscription ends with its connection.
            return Err(GivenUp::Unused);
        }
        if !unused.is_empty() {
            self.rooms.close(&unused).await?;
        }
        Ok(())
    }
}

impl Replica {
    /// The snapshot of a room was read. `replace` puts it into effect.
    pub(super) fn take_over(&self, room: &RoomId, replace: impl FnOnce(&mut RoomViews, Scene<'_>) -> Option<Replaced>) {
        let replaced = self.update_rooms(|rooms, scene| {
            // This is inside the lock, so that nothing else is announced meanwhile.
            self.announce.begin_catch_up();
            let replaced = replace(rooms, scene);
            self.announce.end_catch_up();
            replaced
        });
        self.metrics.room_read();
        if let Some(replaced) = replaced {
            debug!("Read a room of {} members", replaced.roster.members.len());
            replaced.applied.iter().for_each(|transition| self.table.observe_room(transition));
            self.table.observe_room_snapshot(room, &replaced.roster);
        }
    }
}

/// Logs the first failure, and one a minute after that.
fn warn_of(error: &StoreError, is_first: bool, reminder: &mut Reminder) {
    let reminded = reminder.failed();
    if let Some(seconds) = reminded {
        warn!(error = %error, "For {seconds} s this node could not follow its rooms");
    } else if is_first {
        warn!(error = %error, "Could not follow rooms");
    }
}
