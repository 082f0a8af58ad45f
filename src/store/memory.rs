//! The embedded store: the default, for one process and no Redis.
//!
//! The store is a table of sockets and a [`Roster`]. It has the same seam as Redis, and delivers through the same kind
//! of channel. So the parts above cannot tell the two apart. The store lives and ends with its process. So a lease
//! never ends, an epoch never changes, and there is nothing to sweep.

mod rooms;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use self::rooms::Rooms;
use super::{
    Audited, Beat, BeatReply, Claim, Dates, Examination, HeldNodes, Intent, Join, LeaseState, Order, Outcome,
    PresenceStore, StatementOutcome, StoreResult, StoreWriter, Swept,
};
use crate::clock;
use crate::domain::{
    Change, Departure, Device, Devices, HeldSocket, LastSeen, NodeId, OfflineReason, Position, Presence, RoomId,
    Roster, Scope, Signal, SocketId, Statement, Status, Timestamp, Transition, UserId,
};
use crate::settings::PresenceSettings;

/// The store of a single node. Cloning shares it.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    /// The decisions that are under way to the subscribers. So transitions reach them in the order of the decisions,
    /// whichever task they come from.
    telling: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    sockets: HashMap<UserId, HashMap<SocketId, Held>>,
    n_sockets: u64,
    /// Who is present, and the data of each.
    roster: Roster,
    last_seen: HashMap<UserId, LastSeen>,
    /// Since when others see a user who was hidden before.
    shown_at: HashMap<UserId, Timestamp>,
    last_seen_ttl: Duration,
    last_seen_min: Duration,
    /// The last transitions, for a person who asks.
    log: VecDeque<Transition>,
    subscribers: Vec<mpsc::Sender<Transition>>,
    listeners: Vec<mpsc::Sender<Signal>>,
    rooms: Rooms,
}

/// One socket.
struct Held {
    in_grace: bool,
    is_idle: bool,
    since: Timestamp,
    device: Option<Device>,
}

/// How many transitions may wait for a subscriber. Above that the writer waits, so nothing is ever lost here.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// How many signals may wait. Above that they are dropped.
const SIGNAL_CAPACITY: usize = 1024;

/// How many transitions are kept, and how many of one user are shown.
const LOG_LENGTH: usize = 1000;
const TRANSITIONS_SHOWN: usize = 10;

impl MemoryStore {
    /// An empty store, in an epoch of its own.
    pub fn new(presence: &PresenceSettings) -> Self {
        // The epoch is the time in microseconds, as in Redis, so that revisions rise from one life to the next.
        let start = clock::now().0 * 1000;
        let mut roster = Roster::default();
        roster.advance_to(Position { epoch: start, revision: start });
        let state = State {
            sockets: HashMap::new(),
            n_sockets: 0,
            roster,
            last_seen: HashMap::new(),
            shown_at: HashMap::new(),
            last_seen_ttl: presence.last_seen_ttl,
            last_seen_min: presence.last_seen_min,
            log: VecDeque::new(),
            subscribers: Vec::new(),
            listeners: Vec::new(),
            rooms: Rooms::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), telling: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from a failed allocation. The state is still good after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a decision, and tells the subscribers if it is a transition.
    async fn decide<T>(&self, decision: impl FnOnce(&mut State) -> (T, Option<Transition>)) -> T {
        let _in_order = self.telling.lock().await;
        let (outcome, told, subscribers) = {
            let mut state = self.lock();
            state.subscribers.retain(|subscriber| !subscriber.is_closed());
            let (outcome, transition) = decision(&mut state);
            let subscribers = if transition.is_some() { state.subscribers.clone() } else { Vec::new() };
            (outcome, transition, subscribers)
        };
        if let Some(transition) = told {
            for subscriber in subscribers {
                // A closed subscription has nobody to tell.
                let _ = subscriber.send(transition.clone()).await;
            }
        }
        outcome
    }

    async fn carry_out(&self, orders: &[Order]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(orders.len());
        for order in orders {
            outcomes.push(self.decide(|state| state.carry_out(order)).await);
        }
        outcomes
    }

    fn send(&self, signal: &Signal) {
        // A signal comes once at most: a full or closed channel loses it.
        self.lock().listeners.retain(|listener| {
            let _ = listener.try_send(signal.clone());
            !listener.is_closed()
        });
    }
}

impl State {
    fn carry_out(&mut self, order: &Order) -> (Outcome, Option<Transition>) {
        match &order.scope {
            Scope::Service => self.carry_out_in_service(order),
            Scope::Room(room) => {
                let (room, user_remains) = self.rooms.carry_out(room, order);
                let (position, dates) = (self.roster.position(), Dates::default());
                (Outcome::Done { position, dates, user_remains, room }, None)
            }
        }
    }

    fn carry_out_in_service(&mut self, order: &Order) -> (Outcome, Option<Transition>) {
        let transition = match &order.intent {
            Intent::Join(join) => self.join(order, join),
            Intent::Idle(is_idle) => self.mark_idle(order, *is_idle),
            Intent::Grace => {
                if let Some(held) = self.held(order) {
                    held.in_grace = true;
                }
                None
            }
            Intent::Leave => self.remove(order, OfflineReason::Left, |held| held.in_grace),
            Intent::Remove(reason) => self.remove(order, *reason, |_| false),
        };
        let known = self.roster.get_even_hidden(&order.user);
        let dates = known.map(|known| Dates { profile_at: known.profile_at, chosen_at: known.chosen_at() });
        let user_remains = self.sockets.contains_key(&order.user);
        let position = self.roster.position();
        (Outcome::Done { position, dates: dates.unwrap_or_default(), user_remains, room: None }, transition)
    }

    fn held(&mut self, order: &Order) -> Option<&mut Held> {
        self.sockets.get_mut(&order.user)?.get_mut(&order.socket)
    }

    fn join(&mut self, order: &Order, join: &Join) -> Option<Transition> {
        let now = clock::now();
        let sockets = self.sockets.entry(order.user.clone()).or_default();
        match sockets.get_mut(&order.socket) {
            Some(held) => held.is_idle = join.idle,
            None => {
                let (is_idle, device, since) = (join.idle, join.device.clone(), join.since.min(now));
                sockets.insert(order.socket, Held { in_grace: false, is_idle, since, device });
                self.n_sockets += 1;
            }
        }
        let mut presence = self.roster.get_even_hidden(&order.user).cloned().unwrap_or_default();
        presence.take(&Statement::of(&join.presence), now);
        presence.active_at = presence.active_at.max(order.active_at.min(now));
        self.reconsider(&order.user, presence, now)
    }

    fn mark_idle(&mut self, order: &Order, is_idle: bool) -> Option<Transition> {
        self.held(order)?.is_idle = is_idle;
        let mut presence = self.roster.get_even_hidden(&order.user)?.clone();
        presence.active_at = presence.active_at.max(order.active_at);
        self.reconsider(&order.user, presence, clock::now())
    }

    /// Removes the order's socket, and the user's other sockets that `also` picks.
    fn remove(&mut self, order: &Order, reason: OfflineReason, also: impl Fn(&Held) -> bool) -> Option<Transition> {
        let now = clock::now();
        let sockets = self.sockets.get_mut(&order.user)?;
        let n_before = sockets.len();
        let mut since: Option<Timestamp> = None;
        sockets.retain(|socket, held| {
            let goes = *socket == order.socket || also(held);
            if goes {
                since = Some(since.map_or(held.since, |since| since.min(held.since)));
            }
            !goes
        });
        let is_gone = sockets.is_empty();
        self.n_sockets -= (n_before - sockets.len()) as u64;
        let stayed = self.has_stayed(&order.user, since, now);
        let mut presence = self.roster.get_even_hidden(&order.user)?.clone();
        let active_at = presence.active_at.max(order.active_at.min(now));
        presence.active_at = active_at;
        if !is_gone {
            if stayed && !presence.is_hidden() {
                self.remember(&order.user, true, active_at, now);
            }
            return self.reconsider(&order.user, presence, now);
        }
        self.sockets.remove(&order.user);
        self.shown_at.remove(&order.user);
        if !presence.is_hidden() {
            self.remember(&order.user, stayed, active_at, now);
        }
        let active_at = Some(active_at).filter(|at| *at > Timestamp(0));
        let departure = Departure { reason, seen_at: Some(now), active_at };
        Some(self.record(&order.user, Change::Offline(departure), now))
    }

    fn state(
        &mut self,
        user: &UserId,
        statement: &Statement,
        base: Option<Timestamp>,
    ) -> (StatementOutcome, Option<Transition>) {
        let Some(known) = self.roster.get_even_hidden(user) else { return (StatementOutcome::NotPresent, None) };
        let is_repeated = statement.profile.as_ref().is_some_and(|(profile, _)| *profile == known.profile);
        if base.is_some_and(|base| base != known.profile_at) && !(is_repeated && known.profile_at > Timestamp(0)) {
            return (StatementOutcome::Stale(self.roster.position()), None);
        }
        let (mut presence, now) = (known.clone(), clock::now());
        presence.take(statement, now);
        let transition = self.reconsider(user, presence, now);
        (StatementOutcome::Done(self.roster.position()), transition)
    }

    fn expire(&mut self, user: &UserId, chosen_at: Timestamp) -> Option<Transition> {
        let (mut presence, now) = (self.roster.get_even_hidden(user)?.clone(), clock::now());
        if presence.chosen_at() != chosen_at || self.would_show_nobody(user, &presence) {
            return None;
        }
        presence.expire(now);
        self.reconsider(user, presence, now)
    }

    /// Decides what others see of a present user whose statement or sockets may have changed. It is a transition if that,
    /// the statement or the devices are others than before.
    fn reconsider(&mut self, user: &UserId, mut presence: Presence, now: Timestamp) -> Option<Transition> {
        let sockets = self.sockets.get(user)?;
        presence.effective = match presence.chosen_status() {
            Status::Online if sockets.values().all(|held| held.is_idle) => Status::Away,
            chosen => chosen,
        };
        let kinds = sockets.values().filter_map(|held| held.device.as_ref());
        presence.devices = kinds.map(|device| (device.kind(), 1)).collect::<Devices>();
        let since = sockets.values().map(|held| held.since).min();
        let Some(known) = self.roster.get_even_hidden(user) else {
            return Some(self.record(user, Change::Online(presence), now));
        };
        let is_same = known.is_same_but_for_activity(&presence);
        let hides = presence.is_hidden() && !known.is_hidden();
        if is_same {
            self.roster.note_activity(user, presence.active_at);
            return None;
        }
        let shows = known.is_hidden() && !presence.is_hidden();
        if hides {
            let stayed = self.has_stayed(user, since, now);
            self.remember(user, stayed, presence.active_at, now);
            self.shown_at.remove(user);
        }
        if shows {
            self.shown_at.insert(user.clone(), now);
        }
        Some(self.record(user, Change::Changed(presence), now))
    }

    /// Whether others have seen the user for longer than a moment. The user's first socket came at `since`.
    fn has_stayed(&self, user: &UserId, since: Option<Timestamp>, now: Timestamp) -> bool {
        let shown_at = self.shown_at.get(user).copied().unwrap_or(Timestamp(0));
        since.is_some_and(|since| since.max(shown_at).until(now) >= self.last_seen_min)
    }

    /// Whether a hidden user would be shown although nobody is there: the connections of all sockets broke.
    fn would_show_nobody(&self, user: &UserId, presence: &Presence) -> bool {
        presence.chosen_status() == Status::Invisible
            && self.sockets.get(user).is_some_and(|sockets| sockets.values().all(|held| held.in_grace))
    }

    /// Notes when others last saw the user. Somebody who was there only for a moment leaves no new note behind.
    fn remember(&mut self, user: &UserId, stayed: bool, active_at: Timestamp, now: Timestamp) {
        if stayed || self.last_seen.contains_key(user) {
            let active_at = Some(active_at).filter(|at| *at > Timestamp(0));
            self.last_seen.insert(user.clone(), LastSeen { seen_at: now, active_at });
        }
        let ttl = self.last_seen_ttl;
        // Looking through all notes costs as much as the notes that were added since the last look.
        if self.last_seen.len() == self.last_seen.capacity() {
            self.last_seen.retain(|_, seen| seen.seen_at.until(now) < ttl);
        }
    }

    /// Takes the next revision.
    fn record(&mut self, user: &UserId, change: Change, at: Timestamp) -> Transition {
        self.roster.apply(user, &change);
        let Position { epoch, revision } = self.roster.position();
        let position = Position { epoch, revision: revision + 1 };
        self.roster.advance_to(position);
        let transition = Transition { position, user: user.clone(), change, at };
        self.log.push_back(transition.clone());
        if self.log.len() > LOG_LENGTH {
            self.log.pop_front();
        }
        transition
    }

    fn examine(&self, user: &UserId) -> Examination {
        let now = clock::now();
        let transitions = self.log.iter().rev().filter(|transition| transition.user == *user);
        Examination {
            position: self.roster.position(),
            now,
            presence: self.roster.get_even_hidden(user).cloned(),
            is_present: self.roster.get_even_hidden(user).is_some(),
            sockets: self.sockets_of(user),
            leases: Vec::new(),
            transitions: transitions.take(TRANSITIONS_SHOWN).cloned().collect(),
            last_seen: self.last_seen(user, now),
        }
    }

    fn sockets_of(&self, user: &UserId) -> Vec<HeldSocket> {
        let held = self.sockets.get(user).into_iter().flatten();
        let held = held.map(|(socket, held)| HeldSocket {
            socket: *socket,
            since: held.since,
            in_grace: held.in_grace,
            is_idle: held.is_idle,
            device: held.device.as_ref().map(|device| device.json().to_owned()),
        });
        held.collect()
    }

    fn last_seen(&self, user: &UserId, now: Timestamp) -> Option<LastSeen> {
        self.last_seen.get(user).filter(|seen| seen.seen_at.until(now) < self.last_seen_ttl).copied()
    }
}

impl PresenceStore for MemoryStore {
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>> {
        async { Ok(Box::new(self.clone()) as Box<dyn StoreWriter>) }.boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Transition>>> {
        async {
            let (sender, receiver) = mpsc::channel(SUBSCRIPTION_CAPACITY);
            self.lock().subscribers.push(sender);
            Ok(receiver)
        }
        .boxed()
    }

    fn state<'a>(
        &'a self,
        user: &'a UserId,
        statement: &'a Statement,
        base: Option<Timestamp>,
    ) -> BoxFuture<'a, StoreResult<StatementOutcome>> {
        async move { Ok(self.decide(|state| state.state(user, statement, base)).await) }.boxed()
    }

    fn expire<'a>(&'a self, choices: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>> {
        async move {
            for (user, chosen_at) in choices {
                self.decide(|state| ((), state.expire(user, *chosen_at))).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn note_activity<'a>(&'a self, users: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>> {
        async {
            let mut state = self.lock();
            users.iter().for_each(|(user, at)| state.roster.note_activity(user, *at));
            drop(state);
            self.send(&Signal::Active { users: users.to_vec() });
            Ok(())
        }
        .boxed()
    }

    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, StoreResult<Vec<Option<LastSeen>>>> {
        async {
            let (state, now) = (self.lock(), clock::now());
            Ok(users.iter().map(|user| state.last_seen(user, now)).collect())
        }
        .boxed()
    }

    fn sockets_of<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Vec<HeldSocket>>> {
        async { Ok(self.lock().sockets_of(user)) }.boxed()
    }

    fn examine<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Examination>> {
        async { Ok(self.lock().examine(user)) }.boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, StoreResult<HeldNodes>> {
        async { Ok(HeldNodes { position: self.lock().roster.position(), now: clock::now(), nodes: Vec::new() }) }
            .boxed()
    }

    fn subscribe_signals(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Signal>>> {
        async {
            let (sender, receiver) = mpsc::channel(SIGNAL_CAPACITY);
            self.lock().listeners.push(sender);
            Ok(receiver)
        }
        .boxed()
    }

    /// There is only one node.
    fn signal<'a>(&'a self, _to: NodeId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        async {
            self.send(signal);
            Ok(())
        }
        .boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, StoreResult<Roster>> {
        async { Ok(self.lock().roster.clone()) }.boxed()
    }

    /// No log is kept: the snapshot is always at hand.
    fn log_after(&self, position: Position) -> BoxFuture<'_, StoreResult<Option<Vec<Transition>>>> {
        async move { Ok((self.lock().roster.position() == position).then(Vec::new)) }.boxed()
    }

    /// Nothing here expires.
    fn refresh<'a>(&'a self, _sockets: &'a [(SocketId, UserId)]) -> BoxFuture<'a, StoreResult<Vec<SocketId>>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn sweep(&self) -> BoxFuture<'_, StoreResult<Swept>> {
        async { Ok(Swept { n_leases: 1, ..Swept::default() }) }.boxed()
    }

    /// Here a user is present exactly while the user has a socket. `State` has no other way.
    fn audit(&self) -> BoxFuture<'_, StoreResult<Audited>> {
        async { Ok(Audited::default()) }.boxed()
    }
}

impl StoreWriter for MemoryStore {
    fn beat(&mut self, _beat: Beat) -> BoxFuture<'_, StoreResult<BeatReply>> {
        async {
            let state = self.lock();
            Ok(BeatReply {
                lease: LeaseState::Renewed,
                position: state.roster.position(),
                holding: false,
                peers_asserted: true,
                peers_all_asserted: true,
                n_sockets: state.n_sockets,
                n_room_entries: state.rooms.n_entries(),
                now: clock::now(),
            })
        }
        .boxed()
    }

    fn drive<'a>(&'a mut self, _claim: Claim, orders: &'a [Order]) -> BoxFuture<'a, StoreResult<Vec<Outcome>>> {
        async { Ok(self.carry_out(orders).await) }.boxed()
    }

    fn sweep_self(&mut self) -> BoxFuture<'_, StoreResult<bool>> {
        async { Ok(true) }.boxed()
    }

    fn drain(&mut self, _lease: Duration) -> BoxFuture<'_, StoreResult<()>> {
        async { Ok(()) }.boxed()
    }

    fn held_sockets(&mut self) -> BoxFuture<'_, StoreResult<Vec<(SocketId, UserId)>>> {
        async {
            let state = self.lock();
            let held =
                state.sockets.iter().flat_map(|(user, sockets)| sockets.keys().map(|socket| (*socket, user.clone())));
            Ok(held.collect())
        }
        .boxed()
    }

    fn held_room_entries(&mut self) -> BoxFuture<'_, StoreResult<Vec<(RoomId, SocketId, UserId)>>> {
        async { Ok(self.lock().rooms.entries()) }.boxed()
    }
}
