//! The rooms of the embedded store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{MemoryStore, SIGNAL_CAPACITY, State};
use crate::clock;
use crate::domain::{
    OfflineReason, RoomChange, RoomId, RoomPosition, RoomRoster, RoomTransition, Signal, SocketId, UserId,
};
use crate::store::news::{NEWS_MAX, NewsSender};
use crate::store::{
    Intent, OpenRooms, Order, RoomAccess, RoomHead, RoomList, RoomNews, RoomPage, RoomStore, RoomSubscription,
    StoreResult,
};

/// Who is in which room, what is registered, and who listens.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: HashMap<RoomId, Room>,
    /// The rooms in the order of their births, so that a list can be read in pages.
    by_birth: BTreeMap<u64, RoomId>,
    last_birth: u64,
    n_entries: u64,
    /// The registered rooms, with their registered members.
    register: HashMap<RoomId, HashSet<UserId>>,
    subscribers: Vec<Subscriber<NewsSender>>,
    listeners: Vec<Subscriber<mpsc::Sender<(RoomId, Signal)>>>,
}

/// A room in which somebody is.
struct Room {
    position: RoomPosition,
    /// Each member's sockets, and whether each is in grace.
    members: HashMap<UserId, HashMap<SocketId, bool>>,
}

/// A subscription: the rooms that are open, and where to deliver.
struct Subscriber<S> {
    open: Opened,
    sender: S,
}

/// The rooms that one subscription has opened.
type Opened = Arc<Mutex<HashSet<RoomId>>>;

impl<S> Subscriber<S> {
    fn has_opened(&self, room: &RoomId) -> bool {
        lock(&self.open).contains(room)
    }
}

fn lock(open: &Opened) -> std::sync::MutexGuard<'_, HashSet<RoomId>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rooms {
    /// Carries out an order. Returns where the room is, and whether the user has an entry there.
    pub(super) fn carry_out(&mut self, room: &RoomId, order: &Order) -> (Option<RoomPosition>, bool) {
        let position = match &order.intent {
            Intent::Join(_) => self.join(room, order),
            Intent::Grace => {
                if let Some(in_grace) = self.sockets_of(room, &order.user).and_then(|held| held.get_mut(&order.socket))
                {
                    *in_grace = true;
                }
                None
            }
            Intent::Leave => self.remove(room, order, OfflineReason::Left, |in_grace| in_grace),
            Intent::Remove(reason) => self.remove(room, order, *reason, |_| false),
            // A room does not know whether its sockets are idle.
            Intent::Idle(_) => None,
        };
        let user_remains = self.sockets_of(room, &order.user).is_some();
        (position.or_else(|| self.rooms.get(room).map(|room| room.position)), user_remains)
    }

    /// How many entries there are.
    pub(super) fn n_entries(&self) -> u64 {
        self.n_entries
    }

    /// Every entry.
    pub(super) fn entries(&self) -> Vec<(RoomId, SocketId, UserId)> {
        let members = self.rooms.iter().flat_map(|(id, room)| room.members.iter().map(move |member| (id, member)));
        let entries = members.flat_map(|(id, (user, sockets))| sockets.keys().map(move |socket| (id, socket, user)));
        entries.map(|(id, socket, user)| (id.clone(), *socket, user.clone())).collect()
    }

    fn sockets_of(&mut self, room: &RoomId, user: &UserId) -> Option<&mut HashMap<SocketId, bool>> {
        self.rooms.get_mut(room)?.members.get_mut(user)
    }

    fn join(&mut self, room: &RoomId, order: &Order) -> Option<RoomPosition> {
        if !self.rooms.contains_key(room) {
            self.last_birth = (self.last_birth + 1).max(clock::now().0 * 1000);
            let position = RoomPosition { birth: self.last_birth, revision: 0 };
            self.by_birth.insert(position.birth, room.clone());
            self.rooms.insert(room.clone(), Room { position, members: HashMap::new() });
        }
        let members = &mut self.rooms.get_mut(room)?.members;
        let is_new = !members.contains_key(&order.user);
        let sockets = members.entry(order.user.clone()).or_default();
        if let std::collections::hash_map::Entry::Vacant(vacant) = sockets.entry(order.socket) {
            vacant.insert(false);
            self.n_entries += 1;
        }
        is_new.then(|| self.record(room, &order.user, RoomChange::Entered)).flatten()
    }

    /// Removes the order's entry, and the user's other entries that `also` picks.
    fn remove(
        &mut self,
        room: &RoomId,
        order: &Order,
        reason: OfflineReason,
        also: impl Fn(bool) -> bool,
    ) -> Option<RoomPosition> {
        let sockets = self.sockets_of(room, &order.user)?;
        let n_before = sockets.len();
        sockets.retain(|socket, in_grace| *socket != order.socket && !also(*in_grace));
        let (n_gone, is_gone) = (n_before - sockets.len(), sockets.is_empty());
        self.n_entries -= n_gone as u64;
        if !is_gone {
            return None;
        }
        self.rooms.get_mut(room)?.members.remove(&order.user);
        let position = self.record(room, &order.user, RoomChange::Left(reason));
        if self.rooms.get(room).is_some_and(|room| room.members.is_empty()) {
            let gone = self.rooms.remove(room)?;
            self.by_birth.remove(&gone.position.birth);
        }
        position
    }

    /// Takes the room's next revision, and tells the subscribers.
    fn record(&mut self, room: &RoomId, user: &UserId, change: RoomChange) -> Option<RoomPosition> {
        let position = &mut self.rooms.get_mut(room)?.position;
        position.revision += 1;
        let (position, at) = (*position, clock::now());
        self.subscribers.retain(|subscriber| !subscriber.sender.is_closed());
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.has_opened(room)) {
            let (room, user) = (room.clone(), user.clone());
            subscriber.sender.deliver(RoomTransition { room, position, user, change, at });
        }
        Some(position)
    }

    fn roster(&self, room: &RoomId) -> RoomRoster {
        let Some(Room { position, members }) = self.rooms.get(room) else { return RoomRoster::default() };
        RoomRoster { position: *position, members: members.keys().cloned().collect() }
    }

    fn head(&self, room: &RoomId) -> RoomHead {
        let head =
            |Room { position, members }: &Room| RoomHead { position: *position, n_members: members.len() as u64 };
        self.rooms.get(room).map(head).unwrap_or_default()
    }

    fn page(&self, room: &RoomId, limit: usize) -> RoomPage {
        let Some(Room { members, .. }) = self.rooms.get(room) else { return RoomPage::default() };
        let one_each = members.iter().map(|(user, sockets)| (user.clone(), sockets.keys().next().copied()));
        RoomPage { members: one_each.take(limit.min(RoomPage::MOST)).collect(), n_members: members.len() as u64 }
    }

    /// A cursor is the birth from which a page begins.
    fn list(&self, cursor: u64, limit: usize) -> RoomList {
        let mut rest = self.by_birth.range(cursor..);
        let page = rest.by_ref().take(limit.max(1));
        let count = |room: &RoomId| self.rooms.get(room).map_or(0, |room| room.members.len() as u64);
        let rooms = page.map(|(_, room)| (room.clone(), count(room))).collect();
        RoomList { rooms, next: rest.next().map(|(birth, _)| *birth) }
    }

    fn signal(&mut self, room: &RoomId, signal: &Signal) {
        self.listeners.retain(|listener| !listener.sender.is_closed());
        for listener in self.listeners.iter().filter(|listener| listener.has_opened(room)) {
            // A signal comes once at most: a full or closed channel loses it.
            let _ = listener.sender.try_send((room.clone(), signal.clone()));
        }
    }

    fn access(&self, room: &RoomId, user: &UserId) -> RoomAccess {
        match self.register.get(room) {
            None => RoomAccess::NoSuchRoom,
            Some(members) if members.contains(user) => RoomAccess::Member,
            Some(_) => RoomAccess::NotMember,
        }
    }
}

/// Opens and closes the rooms of one subscription. Dropping it ends the subscription.
struct Handle {
    store: MemoryStore,
    open: Opened,
}

impl OpenRooms for Handle {
    fn open<'a>(&'a mut self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<()>> {
        async {
            lock(&self.open).extend(rooms.iter().cloned());
            Ok(())
        }
        .boxed()
    }

    fn close<'a>(&'a mut self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<()>> {
        async {
            let mut open = lock(&self.open);
            rooms.iter().for_each(|room| _ = open.remove(room));
            Ok(())
        }
        .boxed()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let rooms = &mut self.store.lock().rooms;
        rooms.subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.open, &self.open));
        rooms.listeners.retain(|listener| !Arc::ptr_eq(&listener.open, &self.open));
    }
}

impl MemoryStore {
    /// Does something to the state at once. Nothing here has to wait.
    fn at_once<'a, T: Send + 'a>(
        &'a self,
        change: impl FnOnce(&mut State) -> T + Send + 'a,
    ) -> BoxFuture<'a, StoreResult<T>> {
        async { Ok(change(&mut self.lock())) }.boxed()
    }

    fn handle(&self, open: Opened) -> Box<dyn OpenRooms> {
        Box::new(Handle { store: self.clone(), open })
    }
}

impl RoomStore for MemoryStore {
    fn subscribe_rooms(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<RoomNews>>> {
        self.at_once(|state| {
            let ((sender, deliveries), open) = (mpsc::channel(NEWS_MAX), Opened::default());
            state.rooms.subscribers.push(Subscriber { open: open.clone(), sender: NewsSender::new(sender) });
            RoomSubscription { rooms: self.handle(open), deliveries }
        })
    }

    fn room_snapshot<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<RoomRoster>> {
        self.at_once(|state| state.rooms.roster(room))
    }

    fn room_heads<'a>(&'a self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<Vec<Option<RoomHead>>>> {
        self.at_once(|state| rooms.iter().map(|room| Some(state.rooms.head(room))).collect())
    }

    fn room_page<'a>(&'a self, room: &'a RoomId, limit: usize) -> BoxFuture<'a, StoreResult<RoomPage>> {
        self.at_once(move |state| state.rooms.page(room, limit))
    }

    fn rooms(&self, cursor: u64, limit: usize) -> BoxFuture<'_, StoreResult<RoomList>> {
        self.at_once(move |state| state.rooms.list(cursor, limit))
    }

    /// Nothing here expires.
    fn refresh_rooms<'a>(
        &'a self,
        _entries: &'a [(RoomId, SocketId, UserId)],
    ) -> BoxFuture<'a, StoreResult<Vec<(RoomId, SocketId)>>> {
        self.at_once(|_| Vec::new())
    }

    fn subscribe_room_signals(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<(RoomId, Signal)>>> {
        self.at_once(|state| {
            let ((sender, deliveries), open) = (mpsc::channel(SIGNAL_CAPACITY), Opened::default());
            state.rooms.listeners.push(Subscriber { open: open.clone(), sender });
            RoomSubscription { rooms: self.handle(open), deliveries }
        })
    }

    fn signal_room<'a>(&'a self, room: &'a RoomId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.at_once(|state| state.rooms.signal(room, signal))
    }

    /// There is only one node.
    fn signal_user<'a>(&'a self, user: &'a UserId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        async {
            let has_socket = self.lock().sockets.contains_key(user);
            if has_socket {
                self.send(signal);
            }
            Ok(())
        }
        .boxed()
    }

    fn put_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>> {
        self.at_once(|state| {
            let is_new = !state.rooms.register.contains_key(room);
            state.rooms.register.entry(room.clone()).or_default();
            is_new
        })
    }

    fn delete_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>> {
        self.at_once(|state| state.rooms.register.remove(room).is_some())
    }

    fn put_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>> {
        self.at_once(|state| {
            let Some(members) = state.rooms.register.get_mut(room) else { return false };
            members.insert(user.clone());
            true
        })
    }

    fn delete_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>> {
        self.at_once(|state| state.rooms.register.get_mut(room).is_some_and(|members| members.remove(user)))
    }

    fn room_access<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<RoomAccess>> {
        self.at_once(|state| state.rooms.access(room, user))
    }
}
