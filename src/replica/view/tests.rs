//! A view under random events, against a store and a listener that believes every announcement.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::{ChosenStatus, Status};

const AT: Timestamp = Timestamp(1);
const REMEMBER: Duration = Duration::from_secs(10);

fn user(n: u8) -> UserId {
    UserId::parse(&format!("u{n}")).unwrap()
}

/// The data of somebody who chose `status` at `at`.
fn chose(status: Status, at: u64) -> Presence {
    let chosen = ChosenStatus { status, text: None, expires_at: None, at: Timestamp(at) };
    Presence { chosen: Some(Arc::new(chosen)), effective: status, ..Presence::default() }
}

/// The view of a node that holds nothing back.
fn up_to_date() -> View {
    View { holding: Hold::No, ..View::new(REMEMBER) }
}

fn transition(revision: u64, user: UserId, change: Change) -> Transition {
    Transition { position: Position { epoch: 0, revision }, user, change, at: AT }
}

/// What can happen to a node, seen from its view.
#[derive(Debug, Clone)]
enum Event {
    /// A user comes to or leaves the store.
    Toggle(u8),
    /// A user chooses a status, and the store hears it. A user with a socket here says it to this node.
    Choose(u8, Status),
    /// A transition is not delivered.
    Lose,
    /// The gap is filled: from the log, or by a snapshot.
    CatchUp { by_log: bool },
    /// A local socket comes or goes.
    ToggleLocal(u8),
    /// A local socket comes, and is welcomed before the store confirms it.
    ArriveUnconfirmed(u8),
    /// The store goes away.
    Down,
    /// The store comes back, with its data or without.
    Up { lost_data: bool },
    /// The hold ends.
    EndHold,
    /// The node beats.
    Beat,
    /// The store loses a local user's sockets: peers took this node for dead.
    Swept(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let status = || prop::sample::select(vec![Status::Online, Status::Busy, Status::Invisible]);
    prop_oneof![
        8 => (0..6u8).prop_map(Event::Toggle),
        4 => (0..6u8, status()).prop_map(|(n, status)| Event::Choose(n, status)),
        1 => Just(Event::Lose),
        2 => any::<bool>().prop_map(|by_log| Event::CatchUp { by_log }),
        3 => (0..6u8).prop_map(Event::ToggleLocal),
        1 => (0..6u8).prop_map(Event::ArriveUnconfirmed),
        1 => Just(Event::Down),
        2 => any::<bool>().prop_map(|lost_data| Event::Up { lost_data }),
        1 => Just(Event::EndHold),
        2 => Just(Event::Beat),
        1 => (0..6u8).prop_map(Event::Swept),
    ]
}

/// A store with a complete log, one node's wishes, and a listener who believes every announcement.
struct World {
    view: View,
    /// What the store holds.
    present: BTreeMap<UserId, Presence>,
    position: Position,
    log: Vec<Transition>,
    /// The users with a socket here, as this node asserts them.
    local: BTreeMap<UserId, Presence>,
    /// What a listener believes: who is there, and with which status.
    believed: BTreeMap<UserId, Status>,
    deaf: bool,
    down: bool,
    last_sequence: u64,
    /// The date of the last statement.
    last_date: u64,
}

impl World {
    fn new() -> Self {
        Self {
            view: View::new(REMEMBER),
            present: BTreeMap::new(),
            position: Position { epoch: 1, revision: 1 },
            log: Vec::new(),
            local: BTreeMap::new(),
            believed: BTreeMap::new(),
            deaf: true,
            down: false,
            last_sequence: 0,
            last_date: 0,
        }
    }

    fn with_view(&mut self, act: impl FnOnce(&mut View, &BTreeMap<UserId, Presence>, Tell<'_>)) {
        let mut announced = Vec::new();
        act(&mut self.view, &self.local, &mut |a| announced.push(a));
        for announcement in announced {
            self.last_sequence += 1;
            assert_eq!(announcement.sequence, self.last_sequence);
            let user = announcement.user;
            match announcement.others {
                Some(Told::Online(presence)) => {
                    assert!(!presence.is_hidden(), "nobody hears of a hidden user");
                    assert!(self.believed.insert(user, presence.effective).is_none(), "heard to come twice");
                }
                Some(Told::Offline(_)) => assert!(self.believed.remove(&user).is_some(), "heard to go twice"),
                Some(Told::StatusChanged(presence)) => {
                    assert!(!presence.is_hidden(), "nobody hears of a hidden user");
                    let before = self.believed.insert(user, presence.effective);
                    assert!(before.is_some_and(|before| before != presence.effective), "a change is one");
                }
                Some(Told::ProfileChanged(_)) => assert!(self.believed.contains_key(&user)),
                None => assert!(announcement.own.is_some(), "it is told to somebody"),
            }
        }
        let told = self.view.roster().iter().map(|(user, presence)| (user.clone(), presence.effective));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), self.believed, "the view is what was told");
        let hiding: Vec<_> =
            self.local.iter().filter(|(_, presence)| presence.is_hidden()).map(|(user, _)| user).collect();
        for user in hiding {
            // While the store can be reached, it decides.
            assert!(
                !self.down || !self.believed.contains_key(user),
                "who hides here is told at once, and stays hidden"
            );
        }
    }

    /// What the store decides and publishes.
    fn publish(&mut self, user: &UserId, change: Change) {
        self.position.revision += 1;
        let transition = Transition { position: self.position, user: user.clone(), change, at: AT };
        self.log.push(transition.clone());
        if !self.deaf && !self.down {
            self.with_view(|view, local, tell| {
                view.apply(&transition, |user, _| local.contains_key(user), tell);
            });
            self.learn_from(&[transition]);
        }
    }

    /// The store hears an assertion: of two statements the later one holds.
    fn assert(&mut self, user: &UserId, stated: &Presence) {
        match self.present.get(user) {
            None => {
                self.present.insert(user.clone(), stated.clone());
                self.publish(user, Change::Online(stated.clone()));
            }
            Some(known) if stated.chosen_at() > known.chosen_at() => {
                self.present.insert(user.clone(), stated.clone());
                self.publish(user, Change::Changed(stated.clone()));
            }
            Some(_) => {}
        }
    }

    fn remove(&mut self, user: &UserId) {
        if self.present.remove(user).is_some() {
            self.publish(user, Change::Offline(OfflineReason::Left.into()));
        }
    }

    /// What a socket that comes here asserts: what this node knows of the user.
    fn arrival(&self, user: &UserId) -> Presence {
        self.view.last_known(user, AT).map(|known| known.as_asserted()).unwrap_or_default()
    }

    fn catch_up(&mut self, by_log: bool) {
        if self.down {
            return;
        }
        self.deaf = false;
        let known = self.view.position();
        if by_log && known.epoch == self.position.epoch {
            let missed: Vec<_> = self.log.iter().filter(|t| t.position.revision > known.revision).cloned().collect();
            self.learn_from(&missed);
            self.with_view(|view, local, tell| {
                view.catch_up(&missed, |user| local.contains_key(user), AT, tell);
            });
        } else {
            let held = self.present.clone().into_iter();
            let held: Vec<_> = held
                .map(|(user, held)| Transition { user, change: Change::Online(held), position: known, at: AT })
                .collect();
            self.learn_from(&held);
            let mut roster: Roster = self.present.clone().into_iter().collect();
            roster.advance_to(self.position);
            self.with_view(|view, local, tell| {
                view.replace(&roster, |user| local.contains_key(user), AT, tell);
            });
        }
        self.with_view(|view, _, tell| _ = view.recover(|_| false, AT, tell));
    }

    /// The node asserts the last statement that it heard.
    fn learn_from(&mut self, missed: &[Transition]) {
        for transition in missed {
            if let (Change::Online(stored) | Change::Changed(stored), Some(local)) =
                (&transition.change, self.local.get_mut(&transition.user))
                && stored.chosen_at() >= local.chosen_at()
            {
                *local = stored.clone();
            }
        }
    }

    fn choose(&mut self, user: &UserId, status: Status) {
        self.last_date += 1;
        let stated = chose(status, self.last_date);
        if let Some(local) = self.local.get_mut(user) {
            *local = stated.clone();
            if self.down {
                self.with_view(|view, _, tell| view.state_unconfirmed(user, &stated, AT, tell));
            }
        }
        if !self.down && self.present.contains_key(user) {
            self.assert(user, &stated);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Toggle(n) => {
                let user = user(n);
                // While the store can be reached, it holds every user with a socket here.
                if self.down || self.local.contains_key(&user) {
                    return;
                }
                if self.present.contains_key(&user) {
                    self.remove(&user)
                } else {
                    self.assert(&user, &Presence::default())
                }
            }
            Event::Choose(n, status) => self.choose(&user(n), status),
            Event::Lose => self.deaf = true,
            Event::CatchUp { by_log } => self.catch_up(by_log),
            Event::ToggleLocal(n) => {
                let user = user(n);
                if self.local.remove(&user).is_some() {
                    if !self.down {
                        self.remove(&user);
                    }
                    return;
                }
                let stated = self.arrival(&user);
                self.local.insert(user.clone(), stated.clone());
                self.with_view(|view, _, tell| view.arrive(&user, &stated, AT, tell));
                if !self.down {
                    self.assert(&user, &stated);
                }
            }
            Event::ArriveUnconfirmed(n) => {
                let user = user(n);
                if self.local.contains_key(&user) {
                    return;
                }
                let stated = self.arrival(&user);
                self.local.insert(user.clone(), stated.clone());
                self.with_view(|view, _, tell| view.arrive_unconfirmed(&user, &stated, AT, tell));
                if !self.down {
                    self.assert(&user, &stated);
                }
            }
            Event::Down => {
                self.down = true;
                let wanted = self.local.clone().into_iter().collect();
                self.with_view(|view, _, tell| view.degrade(AT, wanted, AT, tell));
            }
            Event::Up { lost_data } if self.down => {
                if lost_data {
                    self.present.clear();
                    self.log.clear();
                    self.position.revision += 1000;
                    self.position.epoch = self.position.revision;
                }
                // Own sockets are asserted first; what left meanwhile is taken back.
                self.deaf = true;
                self.down = false;
                self.assert_local();
                self.catch_up(true);
            }
            Event::Up { .. } => {}
            Event::EndHold => {
                if self.view.is_holding() && !self.down && !self.deaf {
                    self.with_view(|view, local, tell| {
                        view.end_hold(|user| local.contains_key(user), |user| local.contains_key(user), AT, tell)
                    });
                }
            }
            Event::Beat => {
                if !self.down && !self.deaf {
                    self.assert_local();
                    self.with_view(|view, local, tell| {
                        view.settle_provisional(
                            |user| local.contains_key(user),
                            |user| local.contains_key(user),
                            AT,
                            tell,
                        );
                    });
                }
            }
            Event::Swept(n) => {
                let user = user(n);
                if !self.down && self.local.contains_key(&user) {
                    let was_told = self.believed.contains_key(&user);
                    self.remove(&user);
                    assert_eq!(self.believed.contains_key(&user), was_told, "a socket is here all the same");
                }
            }
        }
    }

    /// The store gets what this node holds.
    fn assert_local(&mut self) {
        for (user, stated) in self.local.clone() {
            self.assert(&user, &stated);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_listener_never_hears_the_same_twice(events in prop::collection::vec(event(), 0..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        // When every fault is over, the listener believes the truth.
        world.happen(Event::Up { lost_data: false });
        world.catch_up(true);
        world.happen(Event::EndHold);
        for _ in 0..3 {
            world.happen(Event::Beat);
        }
        let visible = world.present.iter().filter(|(_, presence)| !presence.is_hidden());
        let visible: BTreeMap<_, _> = visible.map(|(user, presence)| (user.clone(), presence.effective)).collect();
        prop_assert_eq!(&world.believed, &visible);
    }
}

/// What others are told, by its name.
fn name(announcement: &Announcement) -> &'static str {
    match &announcement.others {
        Some(Told::Online(_)) => "online",
        Some(Told::ProfileChanged(_)) => "changed",
        Some(Told::StatusChanged(_)) => "status changed",
        Some(Told::Offline(departure)) => departure.reason.as_str(),
        None => "nothing",
    }
}

fn nobody(_: &UserId) -> bool {
    false
}

#[test]
fn whoever_left_before_the_store_is_heard_to_confirm_them_is_not_told_twice() {
    let mut view = up_to_date();
    let mut told = Vec::new();
    view.arrive_unconfirmed(&user(1), &chose(Status::Online, 1), AT, &mut |a| told.push(name(&a)));
    // The user leaves. The beat's reply overtakes the transitions that the store published about the user.
    view.settle_provisional(nobody, nobody, AT, &mut |a| told.push(name(&a)));
    let left = Change::Offline(OfflineReason::Left.into());
    for (revision, change) in [(1, Change::Online(chose(Status::Online, 1))), (2, left)] {
        view.apply(&transition(revision, user(1), change), |_, _| false, &mut |a| told.push(name(&a)));
    }
    view.settle_provisional(nobody, nobody, AT, &mut |a| told.push(name(&a)));
    assert_eq!(told, ["online", "left"]);
}

#[test]
fn whoever_comes_back_between_two_beats_is_not_dropped_for_having_been_away_at_both() {
    let mut view = up_to_date();
    let mut told = Vec::new();
    let stated = chose(Status::Online, 1);
    view.arrive_unconfirmed(&user(1), &stated, AT, &mut |a| told.push(name(&a)));
    view.settle_provisional(nobody, nobody, AT, &mut |a| told.push(name(&a)));
    assert!(view.awaits_arrival(&user(1)));
    view.arrive(&user(1), &stated, AT, &mut |a| told.push(name(&a)));
    view.settle_provisional(nobody, nobody, AT, &mut |a| told.push(name(&a)));
    assert_eq!(told.len(), 1, "what was ordered of the second visit may be under way");
    view.settle_provisional(nobody, nobody, AT, &mut |a| told.push(name(&a)));
    assert_eq!(told, ["online", "unknown"]);
}

#[test]
fn a_waiter_wakes_when_its_revision_is_reflected() {
    let mut view = View::new(REMEMBER);
    let (mut early, mut late) = (view.wait_for(1), view.wait_for(2));
    view.apply(&transition(1, user(1), Change::Online(Presence::default())), |_, _| false, &mut |_| {});
    for waiter in view.take_due_waiters() {
        waiter.send(()).unwrap();
    }
    assert!(early.try_recv().is_ok());
    assert!(late.try_recv().is_err());
}

/// How a view learns of a change.
type Way<'a> = &'a dyn Fn(&mut View, Change, Tell<'_>);

/// Every way in which a visible user may become hidden, or go, and what others hear then.
fn heard_when(goes: Way<'_>, change: Change) -> Vec<Option<Told>> {
    let mut view = up_to_date();
    let mut told = Vec::new();
    view.apply(&transition(1, user(1), Change::Online(chose(Status::Online, 1))), |_, _| false, &mut |_| {});
    goes(&mut view, change, &mut |a| told.push(a.others));
    told
}

#[test]
fn others_hear_the_same_of_a_user_who_hides_as_of_one_who_says_goodbye() {
    let hidden = Presence { active_at: Timestamp(5), ..chose(Status::Invisible, 2) };
    let goodbye = Departure { reason: OfflineReason::Left, seen_at: Some(AT), active_at: Some(Timestamp(5)) };
    let live = |view: &mut View, change: Change, tell: Tell<'_>| {
        view.apply(&transition(2, user(1), change), |_, _| false, tell);
    };
    let by_log = |view: &mut View, change: Change, tell: Tell<'_>| {
        view.catch_up(&[transition(2, user(1), change)], nobody, AT, tell);
    };
    let by_snapshot = |view: &mut View, change: Change, tell: Tell<'_>| {
        let mut roster = Roster::default();
        if let Change::Changed(hidden) = &change {
            roster.apply(&user(1), &Change::Online(hidden.clone()));
        }
        roster.advance_to(Position { epoch: 0, revision: 2 });
        view.replace(&roster, nobody, AT, tell);
    };
    for way in [&live as Way<'_>, &by_log, &by_snapshot] {
        let hides = heard_when(way, Change::Changed(hidden.clone()));
        assert_eq!(hides, heard_when(way, Change::Offline(goodbye)));
        assert_eq!(hides.len(), 1);
    }
}

#[test]
fn a_user_who_hid_and_then_went_while_a_gap_was_open_has_gone_when_they_hid() {
    let mut view = up_to_date();
    view.apply(&transition(1, user(1), Change::Online(chose(Status::Online, 1))), |_, _| false, &mut |_| {});
    let mut told = Vec::new();
    let at = |at, transition: Transition| Transition { at: Timestamp(at), ..transition };
    let gone = Departure { seen_at: Some(Timestamp(9)), ..OfflineReason::TimedOut.into() };
    let missed = [
        at(5, transition(2, user(1), Change::Changed(chose(Status::Invisible, 2)))),
        at(9, transition(3, user(1), Change::Offline(gone))),
    ];
    view.catch_up(&missed, nobody, Timestamp(10), &mut |a| told.push(a.others));
    let hid = Departure { reason: OfflineReason::Left, seen_at: Some(Timestamp(5)), active_at: None };
    assert_eq!(told, [Some(Told::Offline(hid))]);
}

#[test]
fn a_hide_is_told_during_a_hold_and_with_a_socket_here_and_a_departure_is_not() {
    let mut view = View { holding: Hold::LostData, ..View::new(REMEMBER) };
    let mut told = Vec::new();
    let everybody = |_: &UserId, _| true;
    for n in [1, 2] {
        let online = Change::Online(chose(Status::Online, 1));
        view.apply(&transition(n, user(n as u8), online), everybody, &mut |_| {});
    }
    view.apply(&transition(3, user(1), Change::Changed(chose(Status::Invisible, 2))), everybody, &mut |a| {
        told.push(name(&a));
    });
    let left = Change::Offline(OfflineReason::Left.into());
    view.apply(&transition(4, user(2), left), |_, _| false, &mut |a| told.push(name(&a)));
    assert_eq!(told, ["left"]);
}

#[test]
fn a_later_statement_survives_a_store_that_lost_it_until_the_store_has_heard_everybody() {
    let mut view = up_to_date();
    let mut told = Vec::new();
    view.apply(&transition(1, user(1), Change::Online(chose(Status::Busy, 9))), |_, _| false, &mut |_| {});
    // A node that knows less asserts the user first.
    let mut roster: Roster = [(user(1), chose(Status::Online, 3))].into_iter().collect();
    roster.advance_to(Position { epoch: 5, revision: 6 });
    view.replace(&roster, nobody, AT, &mut |a| told.push(name(&a)));
    assert_eq!(view.roster().get(&user(1)).map(|known| known.effective), Some(Status::Busy));
    assert!(told.is_empty());
    // Nobody asserts the later statement. When the hold ends, the store is right.
    view.end_hold(nobody, nobody, AT, &mut |a| told.push(name(&a)));
    assert_eq!(view.roster().get(&user(1)).map(|known| known.effective), Some(Status::Online));
    assert_eq!(told, ["status changed"]);
}

#[test]
fn own_sockets_hear_of_their_status_also_while_hidden() {
    let mut view = up_to_date();
    let mut own = Vec::new();
    let changes = [chose(Status::Invisible, 1), chose(Status::Invisible, 1), chose(Status::Dnd, 2)];
    for (revision, presence) in (1..).zip(changes) {
        let change = if revision == 1 { Change::Online(presence) } else { Change::Changed(presence) };
        view.apply(&transition(revision, user(1), change), |_, _| false, &mut |a| {
            own.push((name(&a), a.own.map(|own| own.effective)));
        });
    }
    let told = [("nothing", Some(Status::Invisible)), ("online", Some(Status::Dnd))];
    assert_eq!(own, told, "what stays the same is no news");
}

#[test]
fn whoever_comes_back_soon_and_states_nothing_is_as_before() {
    let mut view = up_to_date();
    view.apply(&transition(1, user(1), Change::Online(chose(Status::Invisible, 1))), |_, _| false, &mut |_| {});
    let gone = Change::Offline(OfflineReason::ConnectionLost.into());
    view.apply(&transition(2, user(1), gone), |_, _| false, &mut |_| {});
    let known_at = |now| view.last_known(&user(1), Timestamp(now)).map(|known| known.effective);
    assert_eq!((known_at(1), known_at(20_000)), (Some(Status::Invisible), None));
}

#[test]
fn before_the_first_snapshot_nobody_is_told_who_may_be_hidden() {
    let mut view = View::new(REMEMBER);
    let mut told = Vec::new();
    let wanted =
        vec![(user(1), Presence::default()), (user(2), chose(Status::Busy, 1)), (user(3), chose(Status::Invisible, 1))];
    view.degrade(AT, wanted, AT, &mut |a| told.push((a.user, a.others.is_some(), a.revision)));
    assert_eq!(told, [(user(2), true, None), (user(3), false, None)]);
}

#[test]
fn who_hid_and_left_here_while_the_store_was_away_is_not_shown_before_the_store_hears_of_it() {
    let mut view = up_to_date();
    let mut told = Vec::new();
    view.apply(&transition(1, user(1), Change::Online(Presence::default())), |_, _| false, &mut |_| {});
    view.degrade(AT, Vec::new(), AT, &mut |a| told.push(name(&a)));
    view.state_unconfirmed(&user(1), &chose(Status::Invisible, 5), AT, &mut |a| told.push(name(&a)));
    assert_eq!(std::mem::take(&mut told), ["left"]);
    // The store answers. It has not heard yet that the user hid, nor that the socket here has gone.
    let is_local = |_: &UserId| true;
    view.recover(is_local, AT, &mut |a| told.push(name(&a)));
    view.end_hold(nobody, is_local, AT, &mut |a| told.push(name(&a)));
    view.settle_provisional(nobody, is_local, AT, &mut |a| told.push(name(&a)));
    let gone = Change::Offline(OfflineReason::Left.into());
    view.apply(&transition(2, user(1), gone), |_, _| false, &mut |a| told.push(name(&a)));
    assert_eq!(told, [""; 0]);
}

#[test]
fn an_older_change_does_not_show_a_user_of_whose_hide_the_store_has_not_heard() {
    let roster_at = |revision, presence: Presence| {
        let mut roster = Roster::default();
        roster.apply(&user(1), &Change::Online(presence));
        roster.advance_to(Position { epoch: 0, revision });
        roster
    };
    let live = |view: &mut View, tell: Tell<'_>| {
        view.apply(&transition(2, user(1), Change::Changed(chose(Status::Busy, 4))), |_, _| false, tell);
    };
    let by_log = |view: &mut View, tell: Tell<'_>| {
        view.catch_up(&[transition(2, user(1), Change::Changed(chose(Status::Busy, 4)))], nobody, AT, tell);
    };
    let by_snapshot =
        |view: &mut View, tell: Tell<'_>| view.replace(&roster_at(2, chose(Status::Busy, 4)), nobody, AT, tell);
    for way in [&live as &dyn Fn(&mut View, Tell<'_>), &by_log, &by_snapshot] {
        let mut view = up_to_date();
        let mut told = Vec::new();
        let mut tell = |a: Announcement| told.extend(a.others.is_some().then(|| name(&a)));
        view.apply(&transition(1, user(1), Change::Online(Presence::default())), |_, _| false, &mut tell);
        view.state_in_doubt(&user(1), &chose(Status::Invisible, 5), AT, &mut tell);
        way(&mut view, &mut tell);
        view.settle_provisional(nobody, |_| true, AT, &mut tell);
        let hides = Change::Changed(chose(Status::Invisible, 5));
        view.apply(&transition(3, user(1), hides), |_, _| false, &mut tell);
        let shows = Change::Changed(chose(Status::Online, 6));
        view.apply(&transition(4, user(1), shows), |_, _| false, &mut tell);
        assert_eq!(told, ["online", "left", "online"]);
    }
}

#[test]
fn a_choice_that_nobody_has_ended_is_found() {
    let mut view = up_to_date();
    let ending = |status, end| {
        let mut presence = chose(status, 1);
        Arc::make_mut(presence.chosen.as_mut().unwrap()).expires_at = end;
        presence
    };
    let change = Change::Online(ending(Status::Busy, Some(Timestamp(50))));
    view.apply(&transition(1, user(1), change), |_, _| false, &mut |_| {});
    assert_eq!(view.expired_before(Timestamp(50)), []);
    assert_eq!(view.expired_before(Timestamp(51)), [(user(1), Timestamp(1))]);
    let change = Change::Changed(ending(Status::Online, None));
    view.apply(&transition(2, user(1), change), |_, _| false, &mut |_| {});
    assert_eq!(view.expired_before(Timestamp(99)), []);
}

#[test]
fn who_hides_before_the_first_snapshot_is_not_shown_by_it() {
    for is_degraded in [true, false] {
        let mut view = View::new(REMEMBER);
        let mut told = Vec::new();
        let mut tell = |a: Announcement| told.extend(a.others.is_some().then(|| name(&a)));
        if is_degraded {
            view.degrade(AT, vec![(user(1), Presence::default())], AT, &mut tell);
            view.state_unconfirmed(&user(1), &chose(Status::Invisible, 5), AT, &mut tell);
        } else {
            view.arrive_unconfirmed(&user(1), &Presence::default(), AT, &mut tell);
            view.state_in_doubt(&user(1), &chose(Status::Invisible, 5), AT, &mut tell);
        }
        // Another node has asserted another socket of the user, and has not heard that the user hides.
        let mut roster: Roster = [(user(1), Presence::default())].into_iter().collect();
        roster.advance_to(Position { epoch: 5, revision: 6 });
        let is_local = |_: &UserId| true;
        view.replace(&roster, is_local, AT, &mut tell);
        view.recover(is_local, AT, &mut tell);
        view.end_hold(is_local, is_local, AT, &mut tell);
        assert_eq!(told, [""; 0]);
    }
}
