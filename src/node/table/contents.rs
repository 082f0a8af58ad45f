//! What the table holds: the sockets of this node, their users and their rooms. The table keeps it behind its one lock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::graces::Graces;
use super::idling::Idling;
use super::local_user::LocalUser;
use super::queue::Queue;
use super::room_entries::RoomEntries;
use super::rooms::LONGER_GRACE;
use crate::clock;
use crate::domain::{Device, OfflineReason, Position, Presence, Said, Timestamp, UserId};
use crate::node::entry::{Entry, Next, Wanted};
use crate::settings::PresenceSettings;
use crate::store::{Intent, Join, Order, Outcome};

/// The sockets and the users, and what is to be done about them.
pub(super) struct Contents {
    /// The number of the newest socket.
    pub(super) last_number: u64,
    /// The sockets, by their numbers.
    pub(super) sockets: HashMap<u64, Socket>,
    /// The users of the sockets.
    pub(super) users: HashMap<UserId, LocalUser>,
    /// The sockets to look at, and the sockets whose departure waits.
    pub(super) queue: Queue<u64>,
    /// The entries of the sockets in rooms.
    pub(super) rooms: RoomEntries,
    /// The sessions that wait for the reply to a join, by the numbers of their sockets.
    pub(super) waiting: HashMap<u64, oneshot::Sender<Position>>,
    /// The sockets in grace.
    pub(super) graces: Graces,
    /// The time at which the connection of a socket broke, by the number of the socket. It stays until the store has
    /// removed the socket.
    pub(super) lost_at: HashMap<u64, Instant>,
    /// The sockets that were heard from in this round, each once (`Registration::heard_in`).
    pub(super) heard: Vec<u64>,
    /// The sockets that may become idle.
    pub(super) idling: Idling,
    /// The users of whom the store may not have heard the last statement, while no socket here is about to carry it: the
    /// socket that made it has gone.
    pub(super) unheard: HashSet<UserId>,
    /// The users whose chosen status ends, by the time of that end.
    pub(super) expiring: BTreeSet<(Timestamp, UserId)>,
    /// The store's clock at its last answer, and when that answer came.
    pub(super) store_time: Option<(Timestamp, Instant)>,
    /// The highest revision seen. It comes from the reply to an order or from the replica.
    pub(super) seen: u64,
}

/// One socket of this node. There are many, so what most of them do not have is kept elsewhere.
pub(super) struct Socket {
    /// The user of the socket.
    pub(super) user: UserId,
    /// What is wanted of the socket, and what the store holds of it.
    pub(super) entry: Entry,
    /// What the client runs on.
    pub(super) device: Option<Device>,
    /// When the socket came, by the store's clock as far as this node knew it.
    pub(super) since: Timestamp,
    /// When the client last said `user_activity`, in ticks ([`Idling`]). It is 0 if the client never did, or if the socket
    /// has become idle since.
    pub(super) active_at: u32,
    /// Whether the client said that nobody is there, and has not been active since.
    pub(super) said_idle: bool,
    /// Whether the socket is in the queue, due or deferred.
    pub(super) queued: bool,
}

impl Socket {
    /// A socket that nobody waits for.
    pub(super) fn new(user: UserId, entry: Entry) -> Self {
        Self { user, entry, device: None, since: Timestamp(0), active_at: 0, said_idle: false, queued: false }
    }
}

impl Contents {
    /// No sockets.
    pub(super) fn new(presence: &PresenceSettings) -> Self {
        Self {
            last_number: 0,
            sockets: HashMap::new(),
            users: HashMap::new(),
            queue: Queue::default(),
            rooms: RoomEntries::default(),
            waiting: HashMap::new(),
            graces: Graces::default(),
            lost_at: HashMap::new(),
            heard: Vec::new(),
            idling: Idling::new(presence),
            unheard: HashSet::new(),
            expiring: BTreeSet::new(),
            store_time: None,
            seen: 0,
        }
    }

    /// Whether a socket of the user is wanted. A socket in grace does not count.
    pub(super) fn wants(&self, user: &UserId) -> bool {
        self.users.get(user).is_some_and(|local| local.sockets.iter().any(|number| self.is_wanted(*number)))
    }

    /// Whether a socket is wanted. A socket in grace does not count.
    pub(super) fn is_wanted(&self, number: u64) -> bool {
        self.sockets.get(&number).is_some_and(|socket| socket.entry.is_wanted())
    }

    /// How many sockets of the user are wanted or in grace. A socket does not count if it only waits for the store to
    /// hear of its end. Otherwise users who come and go while the store is away would be refused.
    pub(super) fn n_open(&self, user: &UserId) -> usize {
        let is_open = |number: &&u64| self.is_open(**number);
        self.users.get(user).map_or(0, |local| local.sockets.iter().filter(is_open).count())
    }

    /// Whether a socket is wanted or in grace.
    pub(super) fn is_open(&self, number: u64) -> bool {
        let entry = self.sockets.get(&number).map(|socket| &socket.entry);
        entry.is_some_and(Entry::is_open)
    }

    /// Lowers what is wanted of a socket and of its entries in rooms. It never rises again. A socket that the store has never
    /// heard of is forgotten at once. So users who come and go while the store is away leave nothing behind.
    pub(super) fn want(&mut self, number: u64, wanted: Wanted) {
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        // In rooms, the graces end later by themselves.
        if socket.entry.is_wanted() || wanted == Wanted::Left {
            self.rooms.lower_all(number, wanted);
        }
        // The socket may have been about to carry a statement. Then another socket of the user carries it.
        let unheard = socket.entry.is_about_to_join().then(|| socket.user.clone());
        socket.entry.want(wanted);
        if self.queue.defers_departures() {
            socket.entry.postpone_goodbye();
        }
        if socket.entry.next() == Next::Forget {
            self.forget(number);
        } else {
            self.enqueue(number);
        }
        unheard.into_iter().for_each(|user| self.state_again(&user));
    }

    /// The store may not hold what is stated of a user: a socket of the user states it again. If there is none, the
    /// refresher states it.
    fn state_again(&mut self, user: &UserId) {
        let Some(local) = self.users.get(user).filter(|local| local.has_stated_since(&Presence::default())) else {
            return;
        };
        let is_wanted = |number: &&u64| self.sockets.get(number).is_some_and(|socket| socket.entry.is_wanted());
        match local.sockets.iter().find(is_wanted).copied() {
            Some(number) => self.forget_confirmation(number),
            None => _ = self.unheard.insert(user.clone()),
        }
    }

    /// The connection of a socket broke at `now`. The socket stays registered for the grace.
    pub(super) fn lose(&mut self, number: u64, reason: OfflineReason, now: Instant, grace: Duration) {
        if !self.sockets.contains_key(&number) {
            return;
        }
        self.waiting.remove(&number);
        self.lost_at.insert(number, now);
        self.graces.push(now + grace, number);
        self.rooms.begin_grace(number, now + grace + LONGER_GRACE);
        self.want(number, Wanted::Grace(reason));
    }

    /// The writer must look at the socket. If an order is in flight, [`Contents::settle`] does this later.
    pub(super) fn enqueue(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number)
            && !socket.queued
            && !socket.entry.is_in_flight()
        {
            socket.queued = true;
            self.queue.push(number);
        }
    }

    /// The node no longer knows what the store holds of a socket: it asserts the socket again.
    pub(super) fn forget_confirmation(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.entry.forget_confirmation();
            self.enqueue(number);
        }
    }

    /// The time by the store's clock: what the store told last, and what has passed since.
    pub(super) fn store_now(&self) -> Timestamp {
        self.store_time.map_or_else(clock::now, |(told, at)| told.after(at.elapsed()))
    }

    /// Changes what this node asserts of a user.
    fn change<T>(&mut self, user: &UserId, change: impl FnOnce(&mut LocalUser) -> T) -> Option<T> {
        let local = self.users.get_mut(user)?;
        let before = expiry(local);
        let result = change(local);
        let after = expiry(local);
        if before != after {
            before.map(|end| self.expiring.remove(&(end, user.clone())));
            after.map(|end| self.expiring.insert((end, user.clone())));
        }
        Some(result)
    }

    /// Takes over what a client said.
    pub(super) fn say(&mut self, user: &UserId, said: Said) {
        let now = self.store_now();
        self.change(user, |local| local.say(said, now));
    }

    /// Takes over what the store says of a user, part by part.
    pub(super) fn learn(&mut self, user: &UserId, stored: &Presence) {
        self.change(user, |local| local.learn(stored));
    }

    /// Takes over what the store says of a user whose presence may have begun anew. If the store does not have all that
    /// this node knows, the node states it again. Returns whether there is an order.
    pub(super) fn learn_all(&mut self, user: &UserId, stored: &Presence) -> bool {
        self.learn(user, stored);
        let is_behind = self.users.get(user).is_some_and(|local| local.has_stated_since(stored));
        if is_behind {
            self.state_again(user);
        }
        is_behind
    }

    /// The user was active on a socket here. A socket that was idle is no more. Returns whether there is an order.
    pub(super) fn activate(&mut self, number: u64) -> bool {
        let now = self.store_now();
        let Some(socket) = self.sockets.get_mut(&number) else { return false };
        if let Some(local) = self.users.get_mut(&socket.user) {
            local.was_active(now);
        }
        socket.said_idle = false;
        let was_idle = socket.entry.is_idle();
        socket.entry.set_idle(false);
        if was_idle {
            self.enqueue(number);
        }
        was_idle
    }

    /// Whether the socket becomes idle if its client says no more `user_activity`, or is idle. A client that never said
    /// `user_activity` does not have to.
    pub(super) fn becomes_idle(&self, number: u64) -> bool {
        self.sockets.get(&number).is_some_and(|socket| socket.active_at > 0 || socket.entry.is_idle())
    }

    /// A socket is idle from now on.
    pub(super) fn idle(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.entry.set_idle(true);
            self.enqueue(number);
        }
    }

    /// The store says that the user went offline with transition `revision`. The user's sockets in grace went too. The
    /// node asserts the other sockets again. Returns whether there are orders.
    pub(super) fn observe_departure(&mut self, user: &UserId, revision: u64) -> bool {
        let mut has_orders = self.rooms.observe_service_departure(user, revision);
        let Some(local) = self.users.get(user) else { return has_orders };
        let numbers = local.sockets.clone();
        has_orders |= self.end_graces(&numbers, |entry| entry.joined_before(revision));
        for number in numbers {
            if self.sockets.get(&number).is_some_and(|socket| socket.entry.was_held_before(revision)) {
                self.forget_confirmation(number);
                has_orders = true;
            }
        }
        has_orders
    }

    /// What the writer asks of the store, so that the store holds what is wanted. Forgets a socket that neither the
    /// node nor the store holds.
    pub(super) fn next_intent(&mut self, number: u64) -> Option<Intent> {
        let socket = self.sockets.get_mut(&number)?;
        let next = socket.entry.next();
        if matches!(next, Next::Leave | Next::Remove(_)) && self.queue.defer(number) {
            // The socket stays `queued`, so that it waits there only once.
            return None;
        }
        socket.queued = false;
        match next {
            Next::Nothing => None,
            Next::Forget => {
                self.forget(number);
                None
            }
            Next::Join => {
                let (idle, device, since) = (socket.entry.is_idle(), socket.device.clone(), socket.since);
                let presence = self.users.get(&socket.user).map(|local| local.presence.clone())?;
                Some(Intent::Join(Join { presence, idle, device, since }))
            }
            Next::MarkIdle(is_idle) => Some(Intent::Idle(is_idle)),
            Next::MarkGrace => Some(Intent::Grace),
            Next::Leave => Some(Intent::Leave),
            Next::Remove(reason) => Some(Intent::Remove(reason)),
        }
    }

    /// Takes in the outcome of an order. A session that waits for the join gets the position.
    pub(super) fn settle(&mut self, order: &Order, outcome: Option<Outcome>) {
        let number = order.socket.number;
        if let (Intent::Join(sent), Some(Outcome::Done { dates, .. })) = (&order.intent, outcome) {
            self.change(&order.user, |local| local.take_dates(&sent.presence, dates));
            self.hear_statement(&order.user, &sent.presence);
        }
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        let is_joined = socket.entry.settle(&order.intent, outcome);
        if is_joined
            && let Some(Outcome::Done { position, .. }) = outcome
            && let Some(waiter) = self.waiting.remove(&number)
        {
            // The session may have ended meanwhile.
            let _ = waiter.send(position);
        }
        // There may be nothing left to do. The next look at the socket finds that out.
        self.enqueue(number);
        if matches!(order.intent, Intent::Leave | Intent::Remove(_))
            && matches!(outcome, Some(Outcome::Done { user_remains: false, .. }))
        {
            self.follow_departure_into_rooms(&order.user);
        }
    }

    /// The store has heard what `sent` states of a user.
    pub(super) fn hear_statement(&mut self, user: &UserId, sent: &Presence) {
        if self.users.get(user).is_none_or(|local| !local.has_stated_since(sent)) {
            self.unheard.remove(user);
        }
    }

    /// Removes the sockets in `numbers` that are in grace and that `ends` picks. Returns whether there were any.
    pub(super) fn end_graces(&mut self, numbers: &[u64], ends: impl Fn(&Entry) -> bool) -> bool {
        let mut any = false;
        for number in numbers {
            if let Some(socket) = self.sockets.get(number)
                && let Some(reason) = socket.entry.grace()
                && ends(&socket.entry)
            {
                self.want(*number, Wanted::Removed(reason));
                any = true;
            }
        }
        any
    }

    fn forget(&mut self, number: u64) {
        let Some(socket) = self.sockets.remove(&number) else { return };
        self.waiting.remove(&number);
        self.lost_at.remove(&number);
        if let Some(local) = self.users.get_mut(&socket.user) {
            local.sockets.retain(|other| *other != number);
            if local.sockets.is_empty() {
                expiry(local).map(|end| self.expiring.remove(&(end, socket.user.clone())));
                self.unheard.remove(&socket.user);
                self.users.remove(&socket.user);
            }
        }
        let is_known = |number| self.sockets.contains_key(&number);
        self.queue.drop_forgotten(self.sockets.len(), |number| is_known(*number));
        self.idling.drop_forgotten(self.sockets.len(), is_known);
    }

    /// Takes in a socket that only the store knows, to remove it from the store.
    pub(super) fn adopt_for_removal(&mut self, number: u64, user: &UserId) {
        self.sockets.insert(number, Socket::new(user.clone(), Entry::foreign()));
        self.enqueue(number);
    }
}

fn expiry(local: &LocalUser) -> Option<Timestamp> {
    local.presence.chosen.as_ref().and_then(|chosen| chosen.expires_at)
}
