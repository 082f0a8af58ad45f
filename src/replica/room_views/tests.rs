//! One room under random events, against a store whose messages take their time, and a listener that believes every
//! announcement.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Change, ChosenStatus, OfflineReason, Presence, Profile, ProfileFields, RoomChange, RoomTold, Status,
};
use crate::replica::rooms::RoomAnnouncement;

const AT: Timestamp = Timestamp(1);

fn user(n: u8) -> UserId {
    UserId::parse(&format!("u{n}")).unwrap()
}

fn room() -> RoomId {
    RoomId::parse("room").unwrap()
}

fn called(name: &str) -> Presence {
    let fields = ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() };
    Presence { profile: Profile::from_fields(&fields), ..Presence::default() }
}

fn hidden() -> Presence {
    let chosen = ChosenStatus { status: Status::Invisible, text: None, expires_at: None, at: AT };
    Presence { chosen: Some(chosen.into()), effective: Status::Invisible, ..Presence::default() }
}

/// What can happen to a room, seen from one node.
#[derive(Debug, Clone)]
enum Event {
    /// A user enters or leaves the room elsewhere.
    Toggle(u8),
    /// A user comes to the service, goes, hides, or changes.
    Serve(u8, u8),
    /// The next messages arrive.
    Deliver(u8),
    /// The next message is dropped, and the node is told that something was.
    Lose,
    /// A reading begins: the position is read.
    BeginRead,
    /// The members are read. This may be later than the position.
    Scan,
    /// The reading ends.
    EndRead,
    /// The reading fails.
    FailRead,
    /// A user enters here, and the store does not hear it yet.
    ArriveHere(u8),
    /// A user leaves here.
    LeaveHere(u8),
    /// Peers took this node for dead: the store loses a user who is here.
    Swept(u8),
    /// Somebody publishes by hand that a user enters or leaves.
    Forge(u8, bool),
    /// The subscription is lost, with all that it has not delivered.
    Unsubscribe,
    /// The room is subscribed to again.
    Subscribe,
    /// While it is not, the room is about to be read apart: the position is read.
    BeginApart,
    /// The members are read as well.
    EndApart,
    /// The store is about to be asked where the room is.
    Ask,
    /// It answers.
    Answer,
    /// The store loses its data.
    LoseData,
    /// The nodes assert all their users.
    Assert,
    /// A beat: the writer notices a loss of data.
    Beat,
    /// The view of the service notices what the writer knows.
    CatchUp,
    /// The store is out of reach for a moment.
    Outage,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..4u8).prop_map(Event::Toggle),
        5 => (0..8u8, 0..4u8).prop_map(|(n, how)| Event::Serve(n, how)),
        8 => (1..6u8).prop_map(Event::Deliver),
        1 => Just(Event::Lose),
        3 => Just(Event::BeginRead),
        3 => Just(Event::Scan),
        4 => Just(Event::EndRead),
        1 => Just(Event::FailRead),
        2 => (4..8u8).prop_map(Event::ArriveHere),
        2 => (4..8u8).prop_map(Event::LeaveHere),
        1 => (4..8u8).prop_map(Event::Swept),
        1 => (0..8u8, any::<bool>()).prop_map(|(n, enters)| Event::Forge(n, enters)),
        1 => Just(Event::Unsubscribe),
        2 => Just(Event::Subscribe),
        2 => Just(Event::BeginApart),
        2 => Just(Event::EndApart),
        2 => Just(Event::Ask),
        2 => Just(Event::Answer),
        1 => Just(Event::LoseData),
        2 => Just(Event::Assert),
        4 => Just(Event::Beat),
        2 => Just(Event::CatchUp),
        1 => Just(Event::Outage),
    ]
}

/// What is known of a reading that is under way.
struct UnderWay {
    read: RoomRead,
    position: RoomPosition,
    members: Option<BTreeSet<UserId>>,
}

struct World {
    views: RoomViews,
    service: Roster,
    /// What the store holds.
    members: BTreeSet<UserId>,
    position: RoomPosition,
    last_birth: u64,
    /// What the store published, and the node has not heard yet.
    published: VecDeque<RoomTransition>,
    reading: Option<UnderWay>,
    is_subscribed: bool,
    apart: Option<(ReadApart, RoomPosition)>,
    /// The rooms that the store was asked about.
    asked: Vec<RoomId>,
    /// Who has a socket in the room, here or elsewhere.
    really: BTreeSet<UserId>,
    /// Those who have one here.
    here: BTreeSet<UserId>,
    /// Whether nodes must still assert users because the store lost its data.
    has_lost: bool,
    epoch: u64,
    /// The epoch at the last beat, and whether that beat said that departures must wait.
    beaten: (u64, bool),
    state: ServiceState,
    believed: BTreeMap<UserId, Option<Profile>>,
    last_sequence: u64,
    /// How often each user has really left, less the departures that were told.
    leaves: BTreeMap<UserId, u32>,
}

impl World {
    fn new() -> Self {
        let mut views = RoomViews::new(Sequence::default());
        let state = ServiceState { epoch: 1, ..ServiceState::default() };
        views.follow_service(state);
        views.use_room(&room(), Instant::now());
        views.subscribed(&[room()]);
        Self {
            views,
            service: Roster::default(),
            members: BTreeSet::new(),
            position: RoomPosition::default(),
            last_birth: 0,
            published: VecDeque::new(),
            reading: None,
            is_subscribed: true,
            apart: None,
            asked: Vec::new(),
            really: BTreeSet::new(),
            here: BTreeSet::new(),
            has_lost: false,
            epoch: 1,
            beaten: (1, false),
            state,
            believed: BTreeMap::new(),
            last_sequence: 0,
            leaves: BTreeMap::new(),
        }
    }

    fn view(&self) -> &RoomView {
        self.views.get(&room()).unwrap()
    }

    /// Does something to the views. `by_service` says that it happened in the service.
    fn with<T>(&mut self, by_service: bool, act: impl FnOnce(&mut RoomViews, Scene<'_>, &BTreeSet<UserId>) -> T) -> T {
        let mut announced = Vec::new();
        let mut tell = |announcement| announced.push(announcement);
        let scene = Scene { service: &self.service, at: AT, tell: &mut tell };
        let result = act(&mut self.views, scene, &self.here);
        announced.into_iter().for_each(|announcement| self.hear(announcement, by_service));
        self.check();
        result
    }

    fn hear(&mut self, announcement: RoomAnnouncement, by_service: bool) {
        let RoomAnnouncement { sequence, user, told, n_online, .. } = announcement;
        assert_eq!(sequence, self.last_sequence + 1);
        self.last_sequence = sequence;
        match told {
            RoomTold::Joined(presence) => {
                assert!(self.believed.insert(user, presence.profile).is_none(), "heard to come twice");
            }
            RoomTold::Changed(presence) => {
                let before = self.believed.insert(user, presence.profile);
                assert!(before.is_some(), "a change is one of somebody who is there");
            }
            RoomTold::Left(_) => {
                assert!(self.believed.remove(&user).is_some(), "heard to go twice");
                // A provisional member may go before the store's news of the entry is here. It tells both once more.
                let will_be_told_again =
                    self.published.iter().any(|it| it.user == user && it.change == RoomChange::Entered);
                if !by_service && !will_be_told_again {
                    let leaves = self.leaves.get_mut(&user).filter(|leaves| **leaves > 0);
                    *leaves.unwrap_or_else(|| panic!("{user} did not leave the room")) -= 1;
                }
            }
        }
        assert_eq!(n_online, self.believed.len());
    }

    fn check(&self) {
        let view = self.view();
        let page = view.page(&self.service, None, 100);
        let shown = page.users.iter().map(|(user, presence)| ((*user).clone(), presence.profile.clone()));
        assert_eq!(shown.collect::<BTreeMap<_, _>>(), self.believed, "the room shows what was told");
        assert!(page.next_cursor.is_none() && view.len() == self.believed.len());
        let visible = view.members().filter(|user| self.service.contains(user));
        assert!(visible.eq(self.believed.keys()), "a room shows its visible members");
        assert_eq!(view.last_told(), self.last_sequence);
        let indexed = (0..8).map(user).filter(|user| !self.views.of_users.of(user).is_empty());
        assert!(indexed.eq(view.members().cloned()), "the index has the members");
    }

    fn publish(&mut self, user: &UserId, change: RoomChange) {
        self.position.revision += 1;
        self.publish_at(self.position, user, change);
    }

    fn publish_at(&mut self, position: RoomPosition, user: &UserId, change: RoomChange) {
        if self.is_subscribed {
            self.published.push_back(RoomTransition { room: room(), position, user: user.clone(), change, at: AT });
        }
    }

    fn enter(&mut self, user: &UserId) {
        if self.members.is_empty() {
            self.last_birth += 1;
            self.position = RoomPosition { birth: self.last_birth, revision: 0 };
        }
        if self.members.insert(user.clone()) {
            self.publish(user, RoomChange::Entered);
        }
    }

    fn leave(&mut self, user: &UserId) {
        if self.members.remove(user) {
            self.publish(user, RoomChange::Left(OfflineReason::Left));
            if self.members.is_empty() {
                self.position = RoomPosition::default();
            }
        }
    }

    /// The user has no socket in the room any more.
    fn go(&mut self, user: &UserId) {
        self.here.remove(user);
        if self.really.remove(user) {
            *self.leaves.entry(user.clone()).or_default() += 1;
        }
        self.leave(user);
    }

    fn assert_all(&mut self) {
        for user in self.really.clone() {
            self.enter(&user);
        }
        self.has_lost = false;
    }

    fn serve(&mut self, n: u8, how: u8) {
        let change = match how {
            0 => Change::Offline(OfflineReason::Left.into()),
            1 => Change::Online(hidden()),
            how => Change::Online(called(&how.to_string())),
        };
        let Some(told) = self.service.apply(&user(n), &change).others else { return };
        self.with(true, |views, scene, _| views.follow(&user(n), &told, AT, scene.tell));
    }

    fn deliver(&mut self) {
        if let Some(transition) = self.published.pop_front() {
            self.with(false, |views, scene, here| {
                views.apply(&transition, |user, _| here.contains(user), scene);
            });
        }
    }

    fn begin_read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        while !self.published.is_empty() {
            self.deliver();
        }
        let may_release = self.beaten == (self.state.epoch, false);
        if may_release {
            self.views.read_unreleased();
        }
        self.reading =
            self.views.begin_read(may_release).map(|read| UnderWay { read, position: self.position, members: None });
    }

    fn scan(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.members.get_or_insert_with(|| self.members.clone());
        }
    }

    fn end_read(&mut self) {
        self.scan();
        let Some(UnderWay { read, position, members: Some(members) }) = self.reading.take() else { return };
        self.with(false, |views, scene, here| {
            views.end_read(&read, RoomRoster { position, members }, |user| here.contains(user), scene)
        });
    }

    fn fail_read(&mut self) {
        let Some(UnderWay { read, .. }) = self.reading.take() else { return };
        for transition in self.views.give_up_reading(&read) {
            self.with(false, |views, scene, here| {
                views.apply(&transition, |user, _| here.contains(user), scene);
            });
        }
    }

    /// Publishes what looks like the next transition. Nodes may tell it.
    fn forge(&mut self, user: &UserId, change: RoomChange) {
        *self.leaves.entry(user.clone()).or_default() += 1;
        let RoomPosition { birth, revision } = self.position;
        let birth = if birth == 0 { self.last_birth + 1 } else { birth };
        self.publish_at(RoomPosition { birth, revision: revision + 1 }, user, change);
    }

    fn unsubscribe(&mut self) {
        self.is_subscribed = false;
        self.reading = None;
        self.published.clear();
        self.views.start_over();
    }

    fn subscribe(&mut self) {
        if !self.is_subscribed {
            self.is_subscribed = true;
            self.views.subscribed(&[room()]);
        }
    }

    fn begin_apart(&mut self) {
        self.apart = self.views.begin_read_apart(&room()).map(|read| (read, self.position));
    }

    fn end_apart(&mut self) {
        let Some((read, position)) = self.apart.take() else { return };
        let roster = RoomRoster { position, members: self.members.clone() };
        self.with(false, |views, scene, here| {
            views.end_read_apart(&read, roster, |user| here.contains(user), scene);
        });
    }

    fn ask(&mut self) {
        self.asked = self.views.ask(&[room()]);
    }

    fn answer(&mut self) {
        let head = RoomHead { position: self.position, n_members: self.members.len() as u64 };
        let asked = std::mem::take(&mut self.asked);
        self.views.compare(&asked, &vec![Some(head); asked.len()]);
    }

    fn beat(&mut self) {
        let is_new_epoch = self.beaten.0 != self.epoch;
        self.beaten = (self.epoch, is_new_epoch || self.has_lost);
        self.views.count_beat();
        if self.state.epoch == self.epoch && !self.state.is_degraded {
            self.with(false, |views, scene, here| {
                views.settle_provisional(|_, user| here.contains(user), scene);
            });
        }
    }

    /// The view of the service is as the last beat says. It holds in a new epoch.
    fn catch_up(&mut self) {
        let (epoch, is_holding) = self.beaten;
        let is_holding = epoch != self.state.epoch || self.state.is_degraded || is_holding;
        self.state = ServiceState { epoch, is_holding, is_degraded: false };
        self.views.follow_service(self.state);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Toggle(n) if self.really.contains(&user(n)) => self.go(&user(n)),
            Event::Toggle(n) => {
                self.really.insert(user(n));
                self.enter(&user(n));
            }
            Event::Serve(n, how) => self.serve(n, how),
            Event::Deliver(n) => (0..n).for_each(|_| self.deliver()),
            Event::Lose => {
                self.published.pop_front();
                self.views.miss();
            }
            Event::BeginRead => self.begin_read(),
            Event::Scan => self.scan(),
            Event::EndRead => self.end_read(),
            Event::FailRead => self.fail_read(),
            Event::ArriveHere(n) => {
                self.really.insert(user(n));
                self.here.insert(user(n));
                self.with(false, |views, scene, _| views.arrive(&room(), [user(n)], scene));
            }
            Event::LeaveHere(n) => self.go(&user(n)),
            Event::Swept(n) if self.here.contains(&user(n)) => self.leave(&user(n)),
            Event::Swept(_) => {}
            Event::Forge(n, true) => self.forge(&user(n), RoomChange::Entered),
            Event::Forge(n, false) => self.forge(&user(n), RoomChange::Left(OfflineReason::Left)),
            Event::Unsubscribe => self.unsubscribe(),
            Event::Subscribe => self.subscribe(),
            Event::BeginApart => self.begin_apart(),
            Event::EndApart => self.end_apart(),
            Event::Ask => self.ask(),
            Event::Answer => self.answer(),
            Event::LoseData => {
                self.members.clear();
                self.position = RoomPosition::default();
                (self.has_lost, self.epoch) = (true, self.epoch + 1);
            }
            Event::Assert => self.assert_all(),
            Event::Beat => self.beat(),
            Event::CatchUp => self.catch_up(),
            Event::Outage => {
                self.state.is_degraded = true;
                self.views.follow_service(self.state);
            }
        }
    }

    /// Everybody is asserted, everything is heard, and no hold is left.
    fn settle(&mut self) {
        self.assert_all();
        self.subscribe();
        for _ in 0..8 {
            self.catch_up();
            self.beat();
            for _ in 0..4 {
                self.begin_read();
                self.end_read();
            }
            self.ask();
            self.answer();
        }
        assert!(!self.views.has_work() && self.views.agenda().is_settled(&room()), "there is nothing left to do");
    }
}

proptest! {
    #[test]
    fn a_listener_of_a_room_believes_exactly_what_it_shows(events in prop::collection::vec(event(), 0..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.settle();
        prop_assert!(world.view().is_known());
        prop_assert!(world.view().members().eq(world.members.iter()), "the room is as in the store");
        prop_assert!(world.views.wait_for(&room(), Some(world.position).filter(|at| at.birth > 0)).is_none());
    }
}

#[test]
fn a_transition_that_a_hand_published_is_found_by_the_one_whose_number_it_has() {
    let mut world = World::new();
    (0..3).for_each(|n| world.serve(n, 2));
    world.happen(Event::Toggle(0));
    world.happen(Event::BeginRead);
    world.happen(Event::EndRead);
    world.happen(Event::Forge(1, true));
    world.happen(Event::Deliver(1));
    assert!(world.view().contains(&user(1)) && !world.views.has_work());
    world.happen(Event::Toggle(2));
    world.happen(Event::Deliver(1));
    assert!(world.views.has_work(), "one of the two is not the store's");
    world.happen(Event::BeginRead);
    world.happen(Event::EndRead);
    assert!(world.view().contains(&user(2)));
    world.settle();
    assert!(!world.view().contains(&user(1)));
}

#[test]
fn what_a_hand_published_while_a_snapshot_was_read_is_found_too() {
    for is_first in [true, false] {
        let mut world = World::new();
        (0..3).for_each(|n| world.serve(n, 2));
        world.happen(Event::Toggle(0));
        world.happen(Event::BeginRead);
        world.happen(Event::Scan);
        if is_first {
            world.happen(Event::Forge(1, true));
            world.happen(Event::Toggle(2));
        } else {
            let forged = world.position;
            world.happen(Event::Toggle(2));
            let position = RoomPosition { revision: forged.revision + 1, ..forged };
            world.publish_at(position, &user(1), RoomChange::Entered);
        }
        world.happen(Event::Deliver(2));
        world.happen(Event::EndRead);
        assert!(world.views.has_work(), "both have the same number");
        *world.leaves.entry(user(1)).or_default() = 1;
        world.settle();
        assert_eq!([1, 2].map(|n| world.view().contains(&user(n))), [false, true]);
    }
}

#[test]
fn a_room_that_is_read_apart_tells_who_has_come_and_holds_who_has_gone() {
    let mut world = World::new();
    (0..3).for_each(|n| world.serve(n, 2));
    world.happen(Event::Toggle(0));
    world.happen(Event::Toggle(1));
    world.happen(Event::BeginRead);
    world.happen(Event::EndRead);
    world.happen(Event::BeginApart);
    assert!(world.apart.is_none(), "it is subscribed to");
    world.happen(Event::Unsubscribe);
    world.happen(Event::Toggle(1));
    world.happen(Event::Toggle(2));
    for _ in 0..3 {
        world.happen(Event::BeginApart);
        world.happen(Event::EndApart);
        world.happen(Event::Beat);
        world.happen(Event::CatchUp);
        assert!(world.view().members().eq(&[0, 1, 2].map(user)));
    }
    world.happen(Event::BeginApart);
    world.happen(Event::Subscribe);
    world.happen(Event::EndApart);
    assert!(world.views.has_work(), "a snapshot that began before that does not count");
    world.settle();
    assert!(world.view().members().eq(&[0, 2].map(user)));
}

#[test]
fn a_view_that_is_ahead_of_the_store_is_read_anew() {
    let mut world = World::new();
    (0..2).for_each(|n| world.serve(n, 2));
    world.happen(Event::Toggle(0));
    world.happen(Event::BeginRead);
    world.happen(Event::EndRead);
    world.happen(Event::Forge(1, true));
    world.happen(Event::Deliver(1));
    world.happen(Event::Ask);
    world.happen(Event::Answer);
    assert!(world.views.has_work());
    world.settle();
    assert!(!world.view().contains(&user(1)));
}

#[test]
fn a_new_birth_of_an_empty_room_needs_no_reading() {
    let mut world = World::new();
    world.happen(Event::BeginRead);
    world.happen(Event::EndRead);
    (0..4).for_each(|n| world.serve(n, 2));
    for _ in 0..10 {
        for event in [Event::Toggle(1), Event::Toggle(1), Event::Toggle(2), Event::Toggle(2), Event::Deliver(4)] {
            world.happen(event);
        }
    }
    assert!(!world.views.has_work());
    assert_eq!((world.last_sequence, world.view().len()), (40, 0));
}

#[test]
fn more_than_a_reading_can_keep_leads_to_another_reading() {
    let mut world = World::new();
    world.serve(1, 2);
    world.happen(Event::BeginRead);
    world.happen(Event::Scan);
    for _ in 0..3000 {
        world.happen(Event::Toggle(1));
        world.happen(Event::Toggle(1));
        world.happen(Event::Deliver(2));
    }
    world.happen(Event::Toggle(1));
    world.happen(Event::EndRead);
    assert!(world.views.has_work());
    world.settle();
    assert!(world.view().contains(&user(1)));
}

#[test]
fn a_closed_room_leaves_nothing_behind() {
    let mut world = World::new();
    world.serve(1, 2);
    world.happen(Event::Toggle(1));
    world.happen(Event::BeginRead);
    assert!(!world.views.close(&room()), "it is being read");
    world.happen(Event::EndRead);
    world.happen(Event::ArriveHere(4));
    assert_eq!(world.view().len(), 1);
    assert!(world.views.close(&room()));
    assert!(world.views.is_empty() && world.views.unsure.is_empty() && !world.views.has_work());
    assert!((0..8).all(|n| world.views.of_users.of(&user(n)).is_empty()));
}

#[test]
fn pages_of_a_room_are_in_order_and_end() {
    let mut world = World::new();
    for n in 0..4 {
        world.serve(n, 2);
        world.happen(Event::Toggle(n));
    }
    world.happen(Event::BeginRead);
    world.happen(Event::EndRead);
    let first = world.view().page(&world.service, None, 3);
    assert_eq!(first.users.iter().map(|(user, _)| (*user).clone()).collect::<Vec<_>>(), [user(0), user(1), user(2)]);
    let rest = world.view().page(&world.service, first.next_cursor, 3);
    assert_eq!(rest.users.len(), 1);
    assert_eq!(rest.next_cursor, None);
}
