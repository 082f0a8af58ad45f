//! A random history of clients, of other nodes and of a network that loses things. In the end the store must hold what
//! the clients said last, and must have them in the rooms that they entered and did not leave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::domain::{ChosenStatus, RoomChange, RoomPosition, RoomRoster, RoomTransition, Scope};
use crate::store::Refusal;

const USERS: [&str; 2] = ["a", "b"];
const ROOMS: [&str; 3] = ["x", "y", "z"];

/// In how many rooms a socket may be.
const MOST_ROOMS: usize = 2;

/// What somebody says: the number of a name, and a status.
#[derive(Debug, Clone, Copy)]
struct Words {
    name: Option<u8>,
    status: Option<Status>,
}

/// What can happen. A socket is one of those that are connected, counted round.
#[derive(Debug, Clone, Copy)]
enum Event {
    Come {
        user: usize,
        words: Words,
        room: Option<usize>,
    },
    Active(usize),
    Idle(usize),
    Say(usize, Words),
    Lose(usize),
    Leave(usize),
    JoinRoom(usize, usize),
    LeaveRoom(usize, usize),
    /// The server closes the sockets of a user.
    Disconnect {
        user: usize,
    },
    /// The server makes a user leave a room.
    RemoveFromRoom {
        user: usize,
        room: usize,
    },
    EndGraces,
    EndRound {
        seconds: u64,
    },
    OtherNodeJoins {
        user: usize,
        words: Words,
    },
    OtherNodeLeaves {
        user: usize,
    },
    ServerStates {
        user: usize,
        words: Words,
    },
    OtherNodeEnters {
        user: usize,
        room: usize,
    },
    /// It takes what is in grace along.
    OtherNodeSaysGoodbyeIn {
        user: usize,
        room: usize,
    },
    TakeOrders,
    /// The store carries out the first orders in flight. The node hears of it only if all were carried out.
    Settle {
        n_carried_out: usize,
        heard: bool,
    },
    Refuse,
    Deliver,
    /// Transitions were lost, and the replica reads a snapshot.
    Snapshot,
    DeliverInRoom,
    /// The same for a room.
    SnapshotOfRoom(usize),
    /// The store loses all it has, and the node notices.
    LoseData,
    /// The keys of a socket are gone, and the refresher notices.
    LoseKeys(usize),
    LoseKeysInRoom(usize, usize),
    DeferDepartures,
    ReleaseDepartures,
    ReleaseRoomDepartures,
}

fn words() -> impl Strategy<Value = Words> {
    let status = prop::option::of(prop::sample::select(&Status::ALL[..]));
    (prop::option::of(0..3_u8), status).prop_map(|(name, status)| Words { name, status })
}

fn event() -> impl Strategy<Value = Event> {
    let (user, socket, room) = (0..USERS.len(), 0..4_usize, 0..ROOMS.len());
    let user_and_room = (user.clone(), room.clone());
    let socket_and_room = (socket.clone(), room.clone());
    prop_oneof![
        4 => (user.clone(), words(), prop::option::of(room.clone()))
            .prop_map(|(user, words, room)| Event::Come { user, words, room }),
        3 => socket.clone().prop_map(Event::Active),
        3 => socket.clone().prop_map(Event::Idle),
        3 => (socket.clone(), words()).prop_map(|(socket, words)| Event::Say(socket, words)),
        1 => socket.clone().prop_map(Event::Lose),
        1 => socket.clone().prop_map(Event::Leave),
        5 => socket_and_room.clone().prop_map(|(socket, room)| Event::JoinRoom(socket, room)),
        3 => socket_and_room.clone().prop_map(|(socket, room)| Event::LeaveRoom(socket, room)),
        1 => user.clone().prop_map(|user| Event::Disconnect { user }),
        1 => user_and_room.clone().prop_map(|(user, room)| Event::RemoveFromRoom { user, room }),
        1 => Just(Event::EndGraces),
        3 => (1..200_u64).prop_map(|seconds| Event::EndRound { seconds }),
        1 => (user.clone(), words()).prop_map(|(user, words)| Event::OtherNodeJoins { user, words }),
        1 => user.clone().prop_map(|user| Event::OtherNodeLeaves { user }),
        2 => (user, words()).prop_map(|(user, words)| Event::ServerStates { user, words }),
        1 => user_and_room.clone().prop_map(|(user, room)| Event::OtherNodeEnters { user, room }),
        1 => user_and_room.prop_map(|(user, room)| Event::OtherNodeSaysGoodbyeIn { user, room }),
        8 => Just(Event::TakeOrders),
        6 => (0..4_usize, any::<bool>()).prop_map(|(n_carried_out, heard)| Event::Settle { n_carried_out, heard }),
        1 => Just(Event::Refuse),
        4 => Just(Event::Deliver),
        1 => Just(Event::Snapshot),
        3 => Just(Event::DeliverInRoom),
        1 => room.prop_map(Event::SnapshotOfRoom),
        1 => Just(Event::LoseData),
        1 => socket.prop_map(Event::LoseKeys),
        1 => socket_and_room.prop_map(|(socket, room)| Event::LoseKeysInRoom(socket, room)),
        1 => Just(Event::DeferDepartures),
        1 => Just(Event::ReleaseDepartures),
        1 => Just(Event::ReleaseRoomDepartures),
    ]
}

/// What one part of a statement says, with its date.
type Dated<T> = Option<(Timestamp, T)>;

/// The statement about one user: each part as it was said last.
#[derive(Debug, Clone, PartialEq, Default)]
struct Stated {
    profile: Dated<Option<Profile>>,
    status: Dated<Status>,
}

impl Stated {
    fn of(presence: &Presence) -> Self {
        let profile_at = presence.profile_at;
        Self {
            profile: (profile_at > Timestamp(0)).then(|| (profile_at, presence.profile.clone())),
            status: presence.chosen.as_ref().map(|chosen| (chosen.at, chosen.status)),
        }
    }

    fn words(&self) -> (Option<&Option<Profile>>, Option<Status>) {
        (self.profile.as_ref().map(|(_, profile)| profile), self.status.map(|(_, status)| status))
    }

    fn take(&mut self, other: Self) {
        take_later(&mut self.profile, other.profile);
        take_later(&mut self.status, other.status);
    }
}

fn take_later<T: PartialEq>(known: &mut Dated<T>, other: Dated<T>) {
    let date = |part: &Dated<T>| part.as_ref().map(|(date, _)| *date);
    // Whoever says the same again does not change its date.
    let is_same = known.as_ref().zip(other.as_ref()).is_some_and(|((_, known), (_, other))| known == other);
    if date(&other) > date(known) && !is_same {
        *known = other;
    }
}

/// A store without leases and claims, which decides nothing about what others see.
#[derive(Default)]
struct Store {
    position: Position,
    users: BTreeMap<UserId, Stored>,
    rooms: StoredRooms,
    /// The transitions that the node has not heard of.
    told: VecDeque<Transition>,
}

#[derive(Default)]
struct Stored {
    stated: Stated,
    entries: BTreeMap<SocketId, Held>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    is_idle: bool,
    in_grace: bool,
}

impl Stored {
    fn presence(&self) -> Presence {
        let (profile_at, profile) = self.stated.profile.clone().unwrap_or_default();
        let chosen = self.stated.status.map(|(at, status)| ChosenStatus { status, text: None, expires_at: None, at });
        Presence { profile, profile_at, chosen: chosen.map(Arc::new), ..Presence::default() }
    }
}

impl Store {
    fn tell(&mut self, user: &UserId, change: Change) {
        self.position.revision += 1;
        self.told.push_back(Transition { position: self.position, user: user.clone(), change, at: Timestamp(0) });
    }

    fn join(&mut self, user: &UserId, socket: SocketId, is_idle: bool, stated: Stated) {
        let is_new = !self.users.contains_key(user);
        let stored = self.users.entry(user.clone()).or_default();
        stored.entries.entry(socket).or_insert(Held { is_idle, in_grace: false }).is_idle = is_idle;
        let before = stored.stated.clone();
        stored.stated.take(stated);
        let (is_changed, presence) = (stored.stated != before, stored.presence());
        if is_new {
            self.tell(user, Change::Online(presence));
        } else if is_changed {
            self.tell(user, Change::Changed(presence));
        }
    }

    fn state(&mut self, user: &UserId, stated: Stated) {
        let Some(stored) = self.users.get_mut(user) else { return };
        let before = stored.stated.clone();
        stored.stated.take(stated);
        if stored.stated != before {
            let presence = stored.presence();
            self.tell(user, Change::Changed(presence));
        }
    }

    fn remove(&mut self, user: &UserId, goes: impl Fn(SocketId, Held) -> bool) {
        let Some(stored) = self.users.get_mut(user) else { return };
        stored.entries.retain(|socket, held| !goes(*socket, *held));
        if stored.entries.is_empty() {
            self.users.remove(user);
            self.tell(user, Change::Offline(Departure::from(OfflineReason::Left)));
        }
    }

    fn carry_out(&mut self, order: &Order) -> Outcome {
        let Order { user, socket, .. } = order;
        if let Scope::Room(room) = &order.scope {
            let user_remains = self.rooms.carry_out(room, order);
            let (dates, room) = (Dates::default(), self.rooms.positions.get(room).copied());
            return Outcome::Done { position: self.position, dates, user_remains, room };
        }
        let held = self.users.get_mut(user).and_then(|stored| stored.entries.get_mut(socket));
        match &order.intent {
            Intent::Join(join) => self.join(user, *socket, join.idle, Stated::of(&join.presence)),
            Intent::Idle(is_idle) => held.into_iter().for_each(|held| held.is_idle = *is_idle),
            Intent::Grace => held.into_iter().for_each(|held| held.in_grace = true),
            Intent::Leave => self.remove(user, |other, held| other == *socket || held.in_grace),
            Intent::Remove(_) => self.remove(user, |other, _| other == *socket),
        }
        let presence = self.users.get(user).map(Stored::presence).unwrap_or_default();
        let dates = Dates { profile_at: presence.profile_at, chosen_at: presence.chosen_at() };
        Outcome::Done { position: self.position, dates, user_remains: self.users.contains_key(user), room: None }
    }

    fn roster(&self) -> Roster {
        let mut roster: Roster = self.users.iter().map(|(user, stored)| (user.clone(), stored.presence())).collect();
        roster.advance_to(self.position);
        roster
    }
}

/// Who is in which room: each entry, and whether it is in grace.
#[derive(Default)]
struct StoredRooms {
    entries: BTreeMap<(RoomId, UserId, SocketId), bool>,
    /// The position of each room that was ever born.
    positions: BTreeMap<RoomId, RoomPosition>,
    n_births: u64,
    /// The transitions that the node has not heard of.
    told: VecDeque<RoomTransition>,
}

impl StoredRooms {
    fn carry_out(&mut self, room: &RoomId, order: &Order) -> bool {
        let Order { user, socket, .. } = order;
        match &order.intent {
            Intent::Join(_) => self.enter(room, user, *socket),
            Intent::Idle(_) => panic!("a room knows nobody who is idle"),
            Intent::Grace => {
                let entry = self.entries.get_mut(&(room.clone(), user.clone(), *socket));
                entry.into_iter().for_each(|in_grace| *in_grace = true);
            }
            Intent::Leave => self.remove(room, user, |other, in_grace| other == *socket || in_grace),
            Intent::Remove(_) => self.remove(room, user, |other, _| other == *socket),
        }
        self.members(room).contains(user)
    }

    fn members(&self, room: &RoomId) -> BTreeSet<UserId> {
        let entries = self.entries.keys().filter(|(other, ..)| other == room);
        entries.map(|(_, user, _)| user.clone()).collect()
    }

    fn enter(&mut self, room: &RoomId, user: &UserId, socket: SocketId) {
        let members = self.members(room);
        if members.is_empty() {
            self.n_births += 1;
            self.positions.insert(room.clone(), RoomPosition { birth: self.n_births, revision: 0 });
        }
        self.entries.entry((room.clone(), user.clone(), socket)).or_insert(false);
        if !members.contains(user) {
            self.tell(room, user, RoomChange::Entered);
        }
    }

    fn remove(&mut self, room: &RoomId, user: &UserId, goes: impl Fn(SocketId, bool) -> bool) {
        let was_there = self.members(room).contains(user);
        let is_theirs = |(place, owner, _): &(RoomId, UserId, SocketId)| place == room && owner == user;
        self.entries.retain(|entry, in_grace| !is_theirs(entry) || !goes(entry.2, *in_grace));
        if was_there && !self.members(room).contains(user) {
            self.tell(room, user, RoomChange::Left(OfflineReason::Left));
        }
    }

    fn tell(&mut self, room: &RoomId, user: &UserId, change: RoomChange) {
        let position = self.positions.get_mut(room).expect("the room was born");
        position.revision += 1;
        let (room, user, position) = (room.clone(), user.clone(), *position);
        self.told.push_back(RoomTransition { room, position, user, change, at: Timestamp(1) });
    }

    fn roster(&self, room: &RoomId) -> RoomRoster {
        let members = self.members(room);
        let position = self.positions.get(room).copied().filter(|_| !members.is_empty());
        RoomRoster { position: position.unwrap_or_default(), members }
    }
}

/// One connected client, the rooms that it wants to be in, and when it was active.
struct Client {
    registration: Registration,
    /// Each room, with the last receiver of its position.
    rooms: BTreeMap<RoomId, Option<oneshot::Receiver<EnteredAt>>>,
    /// Whether the client has ever said that it is active, or idle.
    says_activity: bool,
    said_idle: bool,
    was_heard: bool,
    /// The end of the last round in which it was heard from.
    heard_at: u64,
}

struct World {
    table: Arc<Table>,
    began: Instant,
    /// Seconds since the beginning, in which rounds end.
    seconds: u64,
    /// The store's time.
    now: u64,
    store: Store,
    in_flight: Vec<Order>,
    clients: Vec<Client>,
    /// What was said last of each user whom the table knows, as far as its node can know.
    stated: BTreeMap<UserId, Stated>,
    /// What the replica has.
    replica: BTreeMap<UserId, Presence>,
}

const IDLE_SECONDS: u64 = 300;

impl World {
    fn new() -> Self {
        let store = Store { position: Position { epoch: 1, revision: 1 }, ..Store::default() };
        Self {
            table: table(),
            began: Instant::now(),
            seconds: 0,
            now: 1_000_000,
            store,
            in_flight: Vec::new(),
            clients: Vec::new(),
            stated: BTreeMap::new(),
            replica: BTreeMap::new(),
        }
    }

    fn happen(&mut self, event: Event) {
        self.now += 10;
        let never = Instant::now() + Duration::from_hours(24 * 365);
        self.table.lock().store_time = Some((Timestamp(self.now), never));
        match event {
            Event::Come { user, words, room } => self.come(&user_id(user), words, room.map(room_id)),
            Event::Active(socket) => self.on_client(socket, |client| {
                client.registration.heard();
                (client.says_activity, client.said_idle, client.was_heard) = (true, false, true);
            }),
            Event::Idle(socket) => self.on_client(socket, |client| {
                client.registration.idle();
                (client.says_activity, client.said_idle, client.was_heard) = (true, true, true);
            }),
            Event::Say(socket, words) => self.say(socket, words),
            Event::Lose(socket) => drop(self.take_client(socket)),
            Event::Leave(socket) => self.take_client(socket).into_iter().for_each(|client| client.registration.leave()),
            Event::JoinRoom(socket, room) => self.on_client(socket, |client| client.enter(&room_id(room))),
            Event::LeaveRoom(socket, room) => self.on_client(socket, |client| {
                client.registration.leave_room(&room_id(room));
                client.rooms.remove(&room_id(room));
            }),
            Event::Disconnect { user } => {
                self.table.disconnect(&user_id(user));
                self.clients.retain(|client| client.registration.is_wanted());
            }
            Event::RemoveFromRoom { user, room } => {
                self.table.remove_from_room(&user_id(user), &room_id(room));
                for client in self.clients.iter_mut().filter(|client| *client.registration.user() == user_id(user)) {
                    client.rooms.remove(&room_id(room));
                }
            }
            Event::EndGraces => _ = self.table.end_due_graces(Instant::now() + Duration::from_hours(2)),
            Event::EndRound { seconds } => self.end_round(seconds),
            Event::OtherNodeJoins { user, words } => {
                let stated = self.stated_now(words);
                self.store.join(&user_id(user), other_socket(), false, stated);
            }
            Event::OtherNodeLeaves { user } => self.store.remove(&user_id(user), |socket, _| socket == other_socket()),
            Event::ServerStates { user, words } => {
                let stated = self.stated_now(words);
                self.store.state(&user_id(user), stated);
            }
            Event::OtherNodeEnters { user, room } => {
                self.store.rooms.enter(&room_id(room), &user_id(user), other_socket());
            }
            Event::OtherNodeSaysGoodbyeIn { user, room } => {
                let goes = |socket, in_grace| socket == other_socket() || in_grace;
                self.store.rooms.remove(&room_id(room), &user_id(user), goes);
            }
            Event::TakeOrders => self.take_orders(3),
            Event::Settle { n_carried_out, heard } => self.settle(n_carried_out, heard),
            Event::Refuse => {
                for order in std::mem::take(&mut self.in_flight) {
                    self.table.settle(&order, Some(Outcome::Refused(Refusal::NoLease)));
                }
            }
            Event::Deliver => self.deliver(),
            Event::Snapshot => self.read_snapshot(),
            Event::DeliverInRoom => self.deliver_in_room(),
            Event::SnapshotOfRoom(room) => self.read_room(&room_id(room)),
            Event::LoseData => self.lose_data(),
            Event::LoseKeys(socket) => self.lose_keys(socket),
            Event::LoseKeysInRoom(socket, room) => self.lose_keys_in_room(socket, &room_id(room)),
            Event::DeferDepartures => self.table.defer_departures(),
            Event::ReleaseDepartures => self.table.release_departures(),
            Event::ReleaseRoomDepartures => self.table.release_room_departures(),
        }
        self.stated.retain(|user, _| self.table.presence(user).is_some());
        check_contents(&self.table.lock());
    }

    fn come(&mut self, user: &UserId, words: Words, room: Option<RoomId>) {
        let known = self.replica.get(user).cloned();
        self.stated.entry(user.clone()).or_default().take(known.as_ref().map(Stated::of).unwrap_or_default());
        let rooms = room.iter().cloned().collect();
        let arrival = Arrival { said: said(words), rooms, ..Arrival::default() };
        let (registration, _) = self.table.insert(user, arrival, known);
        let (heard_at, rooms) = (self.seconds, room.into_iter().map(|room| (room, None)).collect());
        self.clients.push(Client {
            registration,
            rooms,
            says_activity: false,
            said_idle: false,
            was_heard: false,
            heard_at,
        });
        self.note_statement(user, words);
    }

    fn say(&mut self, socket: usize, words: Words) {
        self.on_client(socket, |client| {
            drop(client.registration.say(said(words)));
            if words.status != Some(Status::Invisible) {
                client.said_idle = false;
                client.was_heard |= client.says_activity;
            }
        });
        let user = self.client(socket).map(|client| client.registration.user().clone());
        user.iter().for_each(|user| self.note_statement(user, words));
    }

    /// What the client said is dated now, so it is the last word.
    fn note_statement(&mut self, user: &UserId, words: Words) {
        let asserted = self.table.presence(user).as_ref().map(Stated::of).unwrap_or_default();
        let Stated { profile, status } = self.stated_now(words);
        assert!(profile.is_none_or(|(_, said)| asserted.profile.as_ref().is_some_and(|(_, held)| *held == said)));
        assert!(status.is_none_or(|(_, said)| asserted.status.is_some_and(|(_, held)| held == said)));
        self.stated.entry(user.clone()).or_default().take(asserted);
    }

    /// The node learns what the store holds of a user.
    fn learn(&mut self, user: &UserId, presence: &Presence) {
        if let Some(known) = self.stated.get_mut(user) {
            known.take(Stated::of(presence));
        }
        self.replica.insert(user.clone(), presence.clone());
    }

    fn client(&mut self, socket: usize) -> Option<&mut Client> {
        let n_clients = self.clients.len();
        (n_clients > 0).then(|| &mut self.clients[socket % n_clients])
    }

    fn on_client(&mut self, socket: usize, act: impl FnMut(&mut Client)) {
        self.client(socket).into_iter().for_each(act);
    }

    fn take_client(&mut self, socket: usize) -> Option<Client> {
        let n_clients = self.clients.len();
        (n_clients > 0).then(|| self.clients.swap_remove(socket % n_clients))
    }

    fn stated_now(&self, words: Words) -> Stated {
        let now = Timestamp(self.now);
        Stated {
            profile: words.name.map(|name| (now, profile(&name.to_string()))),
            status: words.status.map(|status| (now, status)),
        }
    }

    fn end_round(&mut self, seconds: u64) {
        self.seconds += seconds;
        self.table.end_round(self.began + Duration::from_secs(self.seconds));
        for client in self.clients.iter_mut().filter(|client| client.was_heard) {
            (client.was_heard, client.heard_at) = (false, self.seconds);
        }
    }

    fn take_orders(&mut self, limit: usize) {
        if self.in_flight.is_empty() {
            self.in_flight = self.table.take_orders(limit);
        }
    }

    fn settle(&mut self, n_carried_out: usize, heard: bool) {
        let orders = std::mem::take(&mut self.in_flight);
        let n_carried_out = if heard { orders.len() } else { n_carried_out };
        let outcomes: Vec<Outcome> =
            orders.iter().take(n_carried_out).map(|order| self.store.carry_out(order)).collect();
        for (index, order) in orders.iter().enumerate() {
            self.table.settle(order, outcomes.get(index).copied().filter(|_| heard));
        }
    }

    fn deliver(&mut self) {
        let Some(transition) = self.store.told.pop_front() else { return };
        match &transition.change {
            Change::Online(presence) | Change::Changed(presence) => self.learn(&transition.user, presence),
            Change::Offline(_) => _ = self.replica.remove(&transition.user),
        }
        self.table.observe(&transition);
    }

    fn read_snapshot(&mut self) {
        self.store.told.clear();
        self.replica.clear();
        let roster = self.store.roster();
        for user in (0..USERS.len()).map(user_id) {
            if let Some(presence) = roster.get_even_hidden(&user) {
                self.learn(&user, presence);
            }
        }
        self.table.observe_snapshot(&roster);
    }

    fn deliver_in_room(&mut self) {
        let Some(transition) = self.store.rooms.told.pop_front() else { return };
        self.table.observe_room(&transition);
    }

    fn read_room(&mut self, room: &RoomId) {
        self.store.rooms.told.retain(|transition| transition.room != *room);
        self.table.observe_room_snapshot(room, &self.store.rooms.roster(room));
    }

    fn lose_data(&mut self) {
        // The writer learns of it from a beat, and beats only while no order is in flight.
        self.settle(1, false);
        self.store.users.clear();
        self.store.rooms.entries.clear();
        self.store.rooms.told.clear();
        self.store.position.epoch += 1;
        self.store.position.revision += 1;
        self.table.begin_epoch(self.store.position);
        self.read_snapshot();
    }

    fn lose_keys(&mut self, socket: usize) {
        let Some(client) = self.client(socket) else { return };
        let (socket, user) = (client.registration.socket(), client.registration.user().clone());
        if let Some(stored) = self.store.users.get_mut(&user) {
            stored.entries.remove(&socket);
            if stored.entries.is_empty() {
                self.store.users.remove(&user);
            }
        }
        self.table.mark_missing(&[socket]);
    }

    fn lose_keys_in_room(&mut self, socket: usize, room: &RoomId) {
        let Some(client) = self.client(socket) else { return };
        let (socket, user) = (client.registration.socket(), client.registration.user().clone());
        let is_known = client.rooms.contains_key(room);
        self.store.rooms.entries.remove(&(room.clone(), user, socket));
        if is_known {
            self.table.mark_missing_in_rooms(&[(room.clone(), socket)]);
        }
    }

    /// Nothing is lost any more, until there is nothing left to do.
    fn come_to_rest(&mut self) {
        self.happen(Event::ReleaseDepartures);
        self.happen(Event::ReleaseRoomDepartures);
        self.end_round(1);
        for _ in 0..20 {
            self.settle(0, true);
            while !self.store.told.is_empty() {
                self.deliver();
            }
            while !self.store.rooms.told.is_empty() {
                self.deliver_in_room();
            }
            self.take_orders(100);
        }
        assert_eq!(self.in_flight, [], "there is always something left to do");
    }

    fn check(&self) {
        for client in &self.clients {
            let (socket, user) = (client.registration.socket(), client.registration.user());
            let stored = self.store.users.get(user).expect("the store holds the user");
            let held = stored.entries.get(&socket).copied();
            let is_idle = self.table.lock().sockets[&socket.number].entry.is_idle();
            assert_eq!(held, Some(Held { is_idle, in_grace: false }), "{socket}");
            client.check(is_idle, self.seconds);
            let asserted = self.table.presence(user).as_ref().map(Stated::of).unwrap_or_default();
            assert_eq!(stored.stated, asserted, "the store holds what the node would assert");
            // The store keeps the earlier date of the same words.
            assert_eq!(stored.stated.words(), self.stated[user].words(), "it is what was said last");
        }
        let known = self.table.socket_numbers();
        let ours = self.store.users.values().flat_map(|stored| stored.entries.keys());
        for socket in ours.filter(|socket| **socket != other_socket()) {
            assert!(known.contains(&socket.number), "{socket} is left behind");
        }
    }
}

/// The part about rooms.
impl World {
    /// Whoever entered a room is there, and knows where it is. What else is there is in grace.
    fn check_rooms(&mut self) {
        let mut expected = BTreeSet::new();
        for client in &mut self.clients {
            let (socket, user) = (client.registration.socket(), client.registration.user().clone());
            let wanted: BTreeSet<RoomId> = client.registration.rooms().into_iter().collect();
            assert_eq!(wanted, client.rooms.keys().cloned().collect(), "{socket}");
            for (room, receiver) in &mut client.rooms {
                let entered_at = receiver.as_mut().map(|receiver| receiver.try_recv().expect("a reply"));
                assert!(entered_at.is_none_or(|(_, position)| position.is_some()));
                *receiver = None;
                expected.insert((room.clone(), user.clone(), socket));
            }
        }
        let ours = self.store.rooms.entries.iter().filter(|((.., socket), _)| *socket != other_socket());
        let ours: Vec<_> = ours.collect();
        let present: BTreeSet<_> =
            ours.iter().filter(|(_, in_grace)| !**in_grace).map(|(entry, _)| (*entry).clone()).collect();
        assert_eq!(present, expected);
        let contents = self.table.lock();
        for ((room, user, socket), _) in &ours {
            assert!(contents.rooms.is_known(room, socket.number), "{user} is left behind in {room}");
        }
        let range = contents.rooms.confirmed_range().expect("every outcome is known");
        assert!(range.contains(&(ours.len() as u64)), "{range:?} {ours:?}");
    }

    /// When all graces have ended, nobody else is there.
    fn check_that_graces_end(&mut self) {
        self.happen(Event::EndGraces);
        self.come_to_rest();
        self.check_rooms();
        assert!(self.store.rooms.entries.values().all(|in_grace| !in_grace));
        let n_wanted: usize = self.clients.iter().map(|client| client.rooms.len()).sum();
        assert_eq!(self.table.n_room_entries(), n_wanted);
    }
}

impl Client {
    fn enter(&mut self, room: &RoomId) {
        let has_place = self.rooms.keys().filter(|other| *other != room).count() < MOST_ROOMS;
        match self.registration.join_room(MOST_ROOMS, room) {
            Ok(receiver) => _ = self.rooms.insert(room.clone(), Some(receiver)),
            Err(TooManyRooms) => assert!(!has_place),
        }
        assert!(self.rooms.len() <= MOST_ROOMS);
    }

    fn check(&self, is_idle: bool, seconds: u64) {
        let silent = seconds - self.heard_at;
        match () {
            () if self.said_idle => assert!(is_idle, "the client said so"),
            () if !self.says_activity => assert!(!is_idle, "the client never says that it is active"),
            () if silent < IDLE_SECONDS => assert!(!is_idle, "active {silent} s ago"),
            () if silent >= IDLE_SECONDS + 2 => assert!(is_idle, "active {silent} s ago"),
            () => {}
        }
    }
}

/// What is kept of a socket in several places must agree.
fn check_contents(contents: &Contents) {
    for (number, socket) in &contents.sockets {
        let is_named = contents.users.get(&socket.user).is_some_and(|local| local.sockets.contains(number));
        assert!(is_named, "the user of {number} does not know it");
        assert_eq!(contents.idling.count(*number), usize::from(socket.active_at > 0), "{number}");
    }
    let n_named: usize = contents.users.values().map(|local| local.sockets.len()).sum();
    assert_eq!(n_named, contents.sockets.len(), "a user knows a socket that is forgotten");
    let mut beside = contents.waiting.keys().chain(contents.lost_at.keys());
    assert!(beside.all(|number| contents.sockets.contains_key(number)), "something is kept of a forgotten socket");
    contents.rooms.check(|number| contents.is_wanted(number));
}

fn user_id(index: usize) -> UserId {
    UserId::parse(USERS[index]).unwrap()
}

fn room_id(index: usize) -> RoomId {
    RoomId::parse(ROOMS[index]).unwrap()
}

/// The socket that a user has on another node.
fn other_socket() -> SocketId {
    SocketId { node: NodeId::from_bits(2), number: 1 }
}

fn said(words: Words) -> Said {
    Said {
        profile: words.name.map(|name| profile(&name.to_string())),
        status: words.status.map(|status| SaidStatus { status, text: None, expiry: None, is_repeated: true }),
    }
}

proptest! {
    #[test]
    fn a_store_ends_up_as_clients_said_whatever_is_lost(events in prop::collection::vec(event(), 0..80)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.come_to_rest();
        world.check();
        world.check_rooms();
        world.check_that_graces_end();
    }
}
