//! A random history of clients, of other nodes and of a network that loses things. In the end the store must hold what
//! the clients said last.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::domain::ChosenStatus;
use crate::store::Refusal;

const USERS: [&str; 2] = ["a", "b"];

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
    },
    Active(usize),
    Idle(usize),
    Say(usize, Words),
    Lose(usize),
    Leave(usize),
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
    /// The store loses all it has, and the node notices.
    LoseData,
    /// The keys of a socket are gone, and the refresher notices.
    LoseKeys(usize),
    DeferDepartures,
    ReleaseDepartures,
}

fn words() -> impl Strategy<Value = Words> {
    let status = prop::option::of(prop::sample::select(&Status::ALL[..]));
    (prop::option::of(0..3_u8), status).prop_map(|(name, status)| Words { name, status })
}

fn event() -> impl Strategy<Value = Event> {
    let (user, socket) = (0..USERS.len(), 0..4_usize);
    prop_oneof![
        4 => (user.clone(), words()).prop_map(|(user, words)| Event::Come { user, words }),
        3 => socket.clone().prop_map(Event::Active),
        3 => socket.clone().prop_map(Event::Idle),
        3 => (socket.clone(), words()).prop_map(|(socket, words)| Event::Say(socket, words)),
        1 => socket.clone().prop_map(Event::Lose),
        1 => socket.clone().prop_map(Event::Leave),
        1 => Just(Event::EndGraces),
        3 => (1..200_u64).prop_map(|seconds| Event::EndRound { seconds }),
        1 => (user.clone(), words()).prop_map(|(user, words)| Event::OtherNodeJoins { user, words }),
        1 => user.clone().prop_map(|user| Event::OtherNodeLeaves { user }),
        2 => (user, words()).prop_map(|(user, words)| Event::ServerStates { user, words }),
        6 => Just(Event::TakeOrders),
        6 => (0..4_usize, any::<bool>()).prop_map(|(n_carried_out, heard)| Event::Settle { n_carried_out, heard }),
        1 => Just(Event::Refuse),
        4 => Just(Event::Deliver),
        1 => Just(Event::Snapshot),
        1 => Just(Event::LoseData),
        1 => socket.prop_map(Event::LoseKeys),
        1 => Just(Event::DeferDepartures),
        1 => Just(Event::ReleaseDepartures),
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
        Outcome::Done { position: self.position, dates, user_remains: self.users.contains_key(user) }
    }

    fn roster(&self) -> Roster {
        let mut roster: Roster = self.users.iter().map(|(user, stored)| (user.clone(), stored.presence())).collect();
        roster.advance_to(self.position);
        roster
    }
}

/// One connected client, and when it was active.
struct Client {
    registration: Registration,
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
            Event::Come { user, words } => self.come(&user_id(user), words),
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
            Event::TakeOrders => self.take_orders(2),
            Event::Settle { n_carried_out, heard } => self.settle(n_carried_out, heard),
            Event::Refuse => {
                for order in std::mem::take(&mut self.in_flight) {
                    self.table.settle(&order, Some(Outcome::Refused(Refusal::NoLease)));
                }
            }
            Event::Deliver => self.deliver(),
            Event::Snapshot => self.read_snapshot(),
            Event::LoseData => self.lose_data(),
            Event::LoseKeys(socket) => self.lose_keys(socket),
            Event::DeferDepartures => self.table.defer_departures(),
            Event::ReleaseDepartures => self.table.release_departures(),
        }
        self.stated.retain(|user, _| self.table.presence(user).is_some());
        check_contents(&self.table.lock());
    }

    fn come(&mut self, user: &UserId, words: Words) {
        let known = self.replica.get(user).cloned();
        self.stated.entry(user.clone()).or_default().take(known.as_ref().map(Stated::of).unwrap_or_default());
        let (registration, _) = self.table.insert(user, Arrival { said: said(words), device: None }, known);
        let heard_at = self.seconds;
        self.clients.push(Client { registration, says_activity: false, said_idle: false, was_heard: false, heard_at });
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

    fn lose_data(&mut self) {
        // The writer learns of it from a beat, and beats only while no order is in flight.
        self.settle(1, false);
        self.store.users.clear();
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

    /// Nothing is lost any more, until there is nothing left to do.
    fn come_to_rest(&mut self) {
        self.happen(Event::ReleaseDepartures);
        self.end_round(1);
        for _ in 0..20 {
            self.settle(0, true);
            while !self.store.told.is_empty() {
                self.deliver();
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

impl Client {
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
}

fn user_id(index: usize) -> UserId {
    UserId::parse(USERS[index]).unwrap()
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
    fn a_store_ends_up_as_clients_said_whatever_is_lost(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.come_to_rest();
        world.check();
    }
}
