//! The node's copy of who is present. All reads and all announcements come from it.
//!
//! `View` decides, without I/O. This file feeds the view. It subscribes and applies transitions in order. It notices
//! that the subscription is silent or that transitions are missing. It fills the gap from the store's log or from a
//! snapshot. `RoomView` decides the same for a room, and `rooms.rs` feeds it.

mod newest;
mod people;
mod room_agenda;
mod room_checks;
mod room_view;
mod room_views;
mod rooms;
mod rooms_apart;
mod sequence;
mod view;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(crate) use self::people::{Noted, Stated};
pub use self::room_view::RoomView;
pub use self::room_views::RoomViews;
use self::room_views::ServiceState;
pub use self::rooms::RoomAnnouncement;
pub use self::view::Announcement;
pub use self::view::View;
pub(crate) use self::view::ViewAccount;
use self::view::{Applied, Tell};
pub use self::views::ViewGuard;
use self::views::Views;
use crate::backoff::{Backoff, Reminder};
use crate::clock;
use crate::domain::{Position, Presence, Timestamp, Transition, UserId};
use crate::metrics::{CatchUpSource, ReplicaMetrics};
use crate::node::{Link, Table};
use crate::store::{PresenceStore, StoreResult};

/// Receives every change of the view, in order. It is called while the view is locked. So announcements have the order
/// of the changes. A list that is read afterwards contains all changes that were announced before. An implementation
/// must not block.
pub trait Announce: Send + Sync {
    /// Takes the announcement up for delivery.
    fn announce(&self, announcement: &Announcement);

    /// Takes the announcement about a room up for delivery.
    fn announce_room(&self, announcement: &RoomAnnouncement);

    /// The announcements from here to [`Announce::end_catch_up`] fill one gap. If there are many, listeners may be told
    /// to start over instead.
    fn begin_catch_up(&self);

    /// See [`Announce::begin_catch_up`].
    fn end_catch_up(&self);
}

/// The view, and the tasks that keep it in step with the store.
pub struct Replica {
    store: Arc<dyn PresenceStore>,
    table: Arc<Table>,
    announce: Arc<dyn Announce>,
    metrics: ReplicaMetrics,
    views: Views,
    /// Whether a first snapshot was read.
    has_snapshot: AtomicBool,
    ready: AtomicBool,
    started_at: Timestamp,
    link: watch::Receiver<Link>,
    backoff_max: Duration,
    /// How often the store is told that a user is active (`presence.active_every`).
    active_every: Duration,
    /// How long a room stays open that nobody uses (`rooms.linger`).
    rooms_linger: Duration,
    /// How often each open room is compared with the store.
    compare_rooms_every: Duration,
    catch_up_wanted: Notify,
    deaf: Notify,
    /// There is something to do about rooms.
    rooms_changed: Notify,
    /// Rooms were opened or closed.
    rooms_turned: Notify,
}

/// The settings of a replica.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For this long, the replica knows the chosen status of a user who has gone (`presence.lease`).
    pub lease: Duration,
    /// The longest delay between two tries (`redis.backoff_max`).
    pub backoff_max: Duration,
    /// How often the store is told that a user is active (`presence.active_every`).
    pub active_every: Duration,
    /// How long a room stays open that nobody uses (`rooms.linger`).
    pub rooms_linger: Duration,
    /// How often each open room is compared with the store. Meanwhile each node writes again what was deleted by hand.
    pub compare_rooms_every: Duration,
}

/// How long a joiner waits for its own transition: first until a catch-up starts, then until the joiner is welcomed
/// without it. Source: docs/design.md, decision 6.
const CATCH_UP_AFTER: Duration = Duration::from_millis(250);
const WELCOME_AFTER: Duration = Duration::from_secs(1);

/// A node ends the chosen status of a user without a socket here, if nobody else has ended it for this long.
const OVERDUE_AFTER: Duration = Duration::from_secs(2);
const LOOK_FOR_OVERDUE_EVERY: Duration = Duration::from_secs(1);

/// Why a subscription was given up.
enum GivenUp {
    Stopped,
    /// The subscription ended, or it delivers nothing although the store goes on.
    Lost,
}

impl Replica {
    /// A replica of what `store` holds. `link` is the writer's.
    pub fn new(
        store: Arc<dyn PresenceStore>,
        table: Arc<Table>,
        announce: Arc<dyn Announce>,
        metrics: ReplicaMetrics,
        link: watch::Receiver<Link>,
        Times { lease, backoff_max, active_every, rooms_linger, compare_rooms_every }: Times,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            table,
            announce,
            metrics,
            views: Views::new(View::new(lease)),
            has_snapshot: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            started_at: clock::now(),
            link,
            backoff_max,
            active_every,
            rooms_linger,
            compare_rooms_every,
            catch_up_wanted: Notify::new(),
            deaf: Notify::new(),
            rooms_changed: Notify::new(),
            rooms_turned: Notify::new(),
        })
    }

    /// The view, and the views of rooms, for reading. Hold the lock only for a short time, because transitions wait for it.
    pub fn view(&self) -> ViewGuard<'_> {
        self.views.read()
    }

    /// Whether the store was read once. Before that, the view says nothing.
    pub fn has_snapshot(&self) -> bool {
        self.has_snapshot.load(Ordering::Acquire)
    }

    /// Whether the node can answer. Before that, the node must have read a first snapshot. All nodes must also have had
    /// time to assert their users.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The last time at which the contents of `view` were surely right. It is none while they are surely right. They
    /// may be wrong while the store is out of reach, or before the store has been read for the first time.
    pub(crate) fn degraded_since(&self, view: &View) -> Option<Timestamp> {
        view.degraded().or_else(|| (!self.is_ready()).then_some(self.started_at))
    }

    /// Counts the time for which `view` has been degraded until now. While the caller holds the view, that does not end.
    pub(crate) fn count_degraded(&self, view: &View) {
        if let Some(as_of) = view.degraded() {
            self.metrics.is_degraded_for(as_of.until(clock::now()));
        }
    }

    /// How many changes this node has told since its start.
    pub(crate) fn n_told(&self) -> u64 {
        self.metrics.n_told()
    }

    /// A socket of `user` was inserted into the table here.
    pub fn arrived(&self, user: &UserId, presence: &Presence) {
        if self.view().awaits_arrival(user) {
            self.update(|view, tell| view.arrive(user, presence, clock::now(), tell));
        }
    }

    /// What this node knows of a user who comes and states nothing.
    pub(crate) fn last_known(&self, user: &UserId) -> Option<Presence> {
        self.view().last_known(user, clock::now())
    }

    /// A socket here stated something about its user: `presence` is what this node asserts. While the store is out of
    /// reach, it holds here at once.
    pub(crate) fn stated(&self, user: &UserId, presence: &Presence) {
        if self.view().degraded().is_some() {
            self.update(|view, tell| view.state_unconfirmed(user, presence, clock::now(), tell));
        }
    }

    /// What this node tells of one user, and how sure it is.
    pub(crate) fn account(&self, user: &UserId) -> ViewAccount {
        let view = self.view();
        view.account(user, self.degraded_since(&view))
    }

    /// The store has not confirmed in time that the user arrived. A socket of the user is still wanted here, so the
    /// view announces the user provisionally.
    pub(crate) fn arrived_unconfirmed(&self, user: &UserId, presence: &Presence) {
        self.update(|view, tell| view.arrive_unconfirmed(user, presence, clock::now(), tell));
        self.stated_unconfirmed(user, presence);
    }

    /// The store has not confirmed in time what a socket here stated. `presence` is what this node asserts. The store may
    /// be out of reach, and this node has not noticed that yet. What was stated holds here all the same.
    pub(crate) fn stated_unconfirmed(&self, user: &UserId, presence: &Presence) {
        self.update(|view, tell| view.state_in_doubt(user, presence, clock::now(), tell));
    }

    /// Waits until the view reflects `confirmed`, the reply to an order. Returns false if the reply or the view takes
    /// too long.
    pub(crate) async fn reflects(&self, confirmed: impl Future<Output = Option<Position>>) -> bool {
        if self.view().degraded().is_some() {
            return false;
        }
        let deadline = Instant::now() + WELCOME_AFTER;
        let Ok(Some(position)) = timeout(WELCOME_AFTER, confirmed).await else { return false };
        let reflected = {
            let view = &mut self.views.write().service;
            if view.position().revision >= position.revision {
                return true;
            }
            view.wait_for(position.revision)
        };
        tokio::pin!(reflected);
        if timeout(CATCH_UP_AFTER, &mut reflected).await.is_ok() {
            return true;
        }
        self.catch_up_wanted.notify_one();
        timeout(deadline.saturating_duration_since(Instant::now()), &mut reflected).await.is_ok()
    }

    /// Keeps the view in step until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = self.follow_link() => {}
            () = self.follow_store(&stop) => {}
            () = self.end_overdue_choices() => {}
            () = self.follow_rooms() => {}
            () = self.read_rooms_apart() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Ends chosen statuses that no other node has ended. A node with a socket of the user ends them at once. That node may
    /// be lost.
    async fn end_overdue_choices(&self) {
        loop {
            sleep(LOOK_FOR_OVERDUE_EVERY).await;
            let overdue = {
                let view = self.view();
                let since = self.table.store_now().before(OVERDUE_AFTER);
                if view.degraded().is_some() { Vec::new() } else { view.expired_before(since) }
            };
            if !overdue.is_empty()
                && let Err(error) = self.store.expire(&overdue).await
            {
                debug!(error = %error, "Could not end chosen statuses");
            }
        }
    }

    /// Whether the store may still hear something of a user from this node: a socket of the user is here, or has gone and
    /// the store has not confirmed it.
    fn is_local(&self, user: &UserId) -> bool {
        self.table.presence(user).is_some()
    }

    /// Marks the view degraded when the store is out of reach. Compares the view's position with the position of every
    /// beat.
    async fn follow_link(&self) {
        let mut link = self.link.clone();
        let mut beaten: Option<Position> = None;
        while link.changed().await.is_ok() {
            let state = *link.borrow_and_update();
            match state {
                Link::Starting => {}
                Link::Down { as_of } => {
                    beaten = None;
                    self.degrade(as_of);
                }
                Link::Up { position, holding, .. } => {
                    self.check_position(position, beaten);
                    if !holding && !self.end_hold_if_reflected(position) {
                        // The transitions before the beat are under way, or missing. The hold ends when the view has
                        // read them.
                        self.catch_up_wanted.notify_one();
                    }
                    beaten = Some(position);
                }
            }
        }
        // The writer has ended. The view stays as it is until the process ends.
        std::future::pending().await
    }

    fn degrade(&self, as_of: Timestamp) {
        // The table is read while the view is locked. So a socket that is inserted after this finds the view degraded.
        self.update_many(|view, tell| view.degrade(as_of, self.table.wanted_users(), clock::now(), tell));
        self.show_wanted_members();
    }

    /// Compares positions. The store was at `position` at this beat, and at `before` at the beat before.
    fn check_position(&self, position: Position, before: Option<Position>) {
        let (known, degraded) = {
            let view = self.view();
            (view.position(), view.degraded())
        };
        if degraded.is_some() || known.epoch != position.epoch {
            self.catch_up_wanted.notify_one();
        } else if before.is_some_and(|before| before.epoch == known.epoch && before.revision > known.revision) {
            warn!(
                revision = known.revision,
                store_revision = position.revision,
                "The subscription has been silent for a whole beat although the store went on: subscribing anew"
            );
            self.degrade(clock::now());
            self.deaf.notify_one();
        } else {
            self.update_many(|view, tell| {
                view.settle_provisional(|user| self.table.wants(user), |user| self.is_local(user), clock::now(), tell);
            });
            self.settle_rooms();
        }
    }

    /// Subscribes, catches up and applies, again and again.
    async fn follow_store(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new(self.backoff_max);
        let mut reminder = Reminder::default();
        loop {
            match self.store.subscribe().await {
                Ok(transitions) => match self.follow_subscription(transitions, &mut backoff, stop).await {
                    GivenUp::Stopped => return,
                    GivenUp::Lost => reminder.reset(),
                },
                Err(error) => {
                    if let Some(seconds) = reminder.failed() {
                        warn!(error = %error, "For {seconds} s this node could not subscribe");
                    }
                    if backoff.is_first() || (self.is_ready() && self.view().degraded().is_none()) {
                        warn!(error = %error, "Could not subscribe");
                    }
                    self.catch_up_unsubscribed().await;
                }
            }
            backoff.wait().await;
        }
    }

    /// A store may answer although the node cannot subscribe. Then the view catches up at every try, and stays
    /// degraded.
    async fn catch_up_unsubscribed(&self) {
        if matches!(*self.link.borrow(), Link::Up { .. }) && self.is_ready() {
            self.degrade(clock::now());
            if let Err(error) = self.read_missed().await {
                debug!(error = %error, "Could not catch up without a subscription");
            }
        }
    }

    async fn follow_subscription(
        &self,
        mut transitions: mpsc::Receiver<Transition>,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> GivenUp {
        self.catch_up(backoff).await;
        loop {
            tokio::select! {
                transition = transitions.recv() => {
                    let Some(transition) = transition else { return GivenUp::Lost };
                    if self.apply(&transition) == Applied::Gap {
                        self.catch_up(backoff).await;
                    }
                }
                () = self.catch_up_wanted.notified() => self.catch_up(backoff).await,
                () = self.deaf.notified() => return GivenUp::Lost,
                () = stop.cancelled() => return GivenUp::Stopped,
            }
        }
    }

    fn apply(&self, transition: &Transition) -> Applied {
        let contradicts = |user: &UserId, revision| self.table.contradicts_departure(user, revision);
        let applied = self.update(|view, tell| view.apply(transition, contradicts, tell));
        if applied == Applied::Yes {
            self.metrics.applied(transition.at.until(clock::now()));
            self.table.observe(transition);
        }
        applied
    }

    /// Fills the gap between the view and the store. It tries until it succeeds.
    async fn catch_up(&self, backoff: &mut Backoff) {
        let mut reminder = Reminder::default();
        loop {
            match self.try_catch_up().await {
                Ok(()) => {
                    backoff.reset();
                    return;
                }
                Err(error) => {
                    if !backoff.is_first() && self.is_ready() && self.view().degraded().is_none() {
                        warn!(error = %error, "Could not catch up");
                        self.degrade(clock::now());
                    }
                    if let Some(seconds) = reminder.failed() {
                        warn!(error = %error, "For {seconds} s this node could not catch up");
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    async fn try_catch_up(&self) -> StoreResult<()> {
        let link = *self.link.borrow();
        self.read_missed().await?;
        if let Link::Up { position, holding, .. } = link {
            // The node asserted its own sockets before the link was up. So a catch-up that began after that has passed
            // them.
            self.recover();
            if !holding {
                self.end_hold_if_reflected(position);
            }
        }
        Ok(())
    }

    /// Brings the view to the store's position.
    async fn read_missed(&self) -> StoreResult<()> {
        let known = self.view().position();
        let missed = if known.epoch > 0 { self.store.log_after(known).await? } else { None };
        let is_wanted = |user: &UserId| self.table.wants(user);
        let source = match missed {
            Some(missed) => {
                missed.iter().for_each(|transition| self.table.observe(transition));
                self.update_many(|view, tell| view.catch_up(&missed, is_wanted, clock::now(), tell));
                CatchUpSource::Log
            }
            None => {
                let roster = self.store.snapshot().await?;
                let (position, n_users) = (roster.position(), roster.len_with_hidden());
                info!(epoch = position.epoch, revision = position.revision, "Read a snapshot of {n_users} users");
                self.table.observe_snapshot(&roster);
                self.update_many(|view, tell| view.replace(&roster, is_wanted, clock::now(), tell));
                self.has_snapshot.store(true, Ordering::Release);
                CatchUpSource::Snapshot
            }
        };
        self.metrics.caught_up(source);
        Ok(())
    }

    fn recover(&self) {
        // The link is read while the view is locked, as in `degrade`. If the store went away meanwhile, the view stays
        // degraded.
        let was_degraded = self.update_many(|view, tell| match *self.link.borrow() {
            Link::Up { .. } => view.recover(|user| self.is_local(user), clock::now(), tell),
            Link::Starting | Link::Down { .. } => None,
        });
        if let Some(as_of) = was_degraded {
            self.metrics.was_degraded_for(as_of.until(clock::now()));
            info!("The view is up to date again");
        }
    }

    /// A beat at `position` said that the store does not hold departures of its epoch any more. That ends the hold of a
    /// view that is up to date and reflects the beat. Returns whether departures are told from here on.
    fn end_hold_if_reflected(&self, position: Position) -> bool {
        if !self.view().is_holding() {
            return true;
        }
        let has_ended = self.update_many(|view, tell| {
            let known = view.position();
            let is_reflected = known.epoch == position.epoch && known.revision >= position.revision;
            if !is_reflected || view.degraded().is_some() {
                return false;
            }
            view.end_hold(|user| self.table.wants(user), |user| self.is_local(user), clock::now(), tell);
            true
        });
        if has_ended && !self.ready.swap(true, Ordering::AcqRel) {
            info!("Ready");
        }
        has_ended
    }

    /// Does the same as [`Replica::update`], for a change that may concern many users at once.
    fn update_many<T>(&self, change: impl FnOnce(&mut View, Tell<'_>) -> T) -> T {
        self.update(|view, tell| {
            // This is inside the lock, so that nothing else is announced meanwhile.
            self.announce.begin_catch_up();
            let result = change(view, tell);
            self.announce.end_catch_up();
            result
        })
    }

    /// Changes the view, and tells every change while the view is locked. What follows for rooms is told behind each change.
    fn update<T>(&self, change: impl FnOnce(&mut View, Tell<'_>) -> T) -> T {
        let mut views = self.views.write();
        let (service, rooms, newest) = views.parts();
        let result = change(service, &mut |announcement| {
            if let Some(told) = &announcement.others {
                self.metrics.told(told);
            }
            self.announce.announce(&announcement);
            if let Some(told) = &announcement.others {
                rooms.follow(&announcement.user, told, announcement.at, &mut |told| self.announce.announce_room(&told));
            }
            newest.push(announcement);
        });
        let state = ServiceState {
            epoch: service.position().epoch,
            is_holding: service.is_holding(),
            is_degraded: service.degraded().is_some(),
        };
        if rooms.follow_service(state) {
            self.rooms_changed.notify_one();
        }
        let due = service.take_due_waiters();
        drop(views);
        wake(due);
        result
    }
}

/// Wakes sessions. A session that has ended does not wait any more.
fn wake(waiters: Vec<oneshot::Sender<()>>) {
    waiters.into_iter().for_each(|waiter| _ = waiter.send(()));
}
