//! Tests of who is idle, who is noted as active, and whose status ends. A test tells when a round ends and what the
//! store's time is, so nothing here waits.

use std::sync::Arc;

use super::super::idling::IDLING_SLACK;
use super::super::tests::{come, done, next_order, user};
use super::*;
use crate::domain::{Change, Expiry, NodeId, Position, Presence, Said, SaidStatus, Status, Transition};
use crate::metrics::{Registry, TableMetrics};
use crate::node::Registration;
use crate::settings::{PresenceSettings, Settings};
use crate::store::Intent;

/// A table whose rounds end when a test says so. A round is a second, and a socket is idle after five minutes.
struct Rounds {
    table: Arc<Table>,
    began: Instant,
    /// The time of the last round, in seconds since the beginning.
    at: u64,
}

/// The store's time at the beginning, in ms.
const BEGIN: u64 = 1_000_000;

impl Rounds {
    fn new() -> Self {
        Self::with(Settings::default().presence)
    }

    fn with(presence: PresenceSettings) -> Self {
        let metrics = TableMetrics::new(&mut Registry::default());
        let rounds = Self { table: Table::new(NodeId::from_bits(1), &presence, metrics), began: Instant::now(), at: 0 };
        rounds.set_store_time(BEGIN);
        rounds
    }

    /// The store's clock stands still at `ms`.
    fn set_store_time(&self, ms: u64) {
        let never = Instant::now() + Duration::from_hours(24 * 365);
        self.table.lock().store_time = Some((Timestamp(ms), never));
    }

    /// A round ends `seconds` after the one before.
    fn end_round_after(&mut self, seconds: u64) -> Round {
        self.at += seconds;
        self.set_store_time(BEGIN + 1000 * self.at);
        self.table.end_round(self.began + Duration::from_secs(self.at))
    }

    /// Rounds end every second, up to `at` seconds since the beginning.
    fn end_rounds_until(&mut self, at: u64) {
        while self.at < at {
            self.end_round_after(1);
        }
    }

    /// A socket of the user, which the store holds.
    fn join(&self) -> Registration {
        let (registration, _) = come(&self.table, &user());
        let join = next_order(&self.table);
        self.table.settle(&join, done(7, 0));
        self.assert_quiet();
        registration
    }

    /// The next order marks the socket. It is carried out.
    fn expect_mark(&self, registration: &Registration, is_idle: bool) {
        let order = next_order(&self.table);
        assert_eq!((order.socket, &order.intent), (registration.socket(), &Intent::Idle(is_idle)));
        self.table.settle(&order, done(8, 0));
        self.assert_quiet();
    }

    fn assert_quiet(&self) {
        assert_eq!(self.table.take_orders(10), []);
    }

    fn choose(&self, registration: &Registration, status: Status, expiry: Option<Expiry>) {
        let said = Said { profile: None, status: Some(SaidStatus { status, text: None, expiry, is_repeated: true }) };
        drop(registration.say(said));
    }
}

#[test]
fn a_socket_whose_client_never_says_that_it_is_active_is_never_idle() {
    let mut rounds = Rounds::new();
    let _socket = rounds.join();
    rounds.end_rounds_until(400);
    rounds.end_round_after(30 * 24 * 3600);
    rounds.assert_quiet();
}

#[test]
fn a_socket_is_idle_after_its_time_and_back_at_once_with_the_next_activity() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    socket.heard();
    rounds.end_rounds_until(301);
    rounds.assert_quiet();
    rounds.end_rounds_until(303);
    rounds.expect_mark(&socket, true);
    rounds.end_rounds_until(1000);
    rounds.assert_quiet();
    socket.heard();
    rounds.expect_mark(&socket, false);
    rounds.end_rounds_until(1301);
    rounds.assert_quiet();
    rounds.end_rounds_until(1303);
    rounds.expect_mark(&socket, true);
}

#[test]
fn a_socket_that_is_heard_from_again_and_again_is_not_idle() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    for at in 1..100 {
        socket.heard();
        rounds.end_rounds_until(30 * at);
    }
    rounds.assert_quiet();
}

#[test]
fn a_client_that_says_it_is_idle_stays_so_until_it_is_active_again() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    socket.heard();
    socket.idle();
    rounds.expect_mark(&socket, true);
    for at in 1..20 {
        socket.idle();
        rounds.end_rounds_until(30 * at);
        rounds.assert_quiet();
    }
    socket.heard();
    rounds.expect_mark(&socket, false);
    rounds.end_round_after(1);
    rounds.assert_quiet();
}

#[test]
fn of_what_a_client_says_in_one_round_the_last_holds() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    socket.idle();
    socket.heard();
    assert_eq!(rounds.end_round_after(1).heard, [socket.socket().number]);
    rounds.assert_quiet();
    socket.heard();
    socket.idle();
    assert_eq!(rounds.end_round_after(1).heard, [socket.socket().number]);
    rounds.expect_mark(&socket, true);
    assert!(rounds.end_round_after(1).heard.is_empty(), "nobody was heard from in this round");
}

#[test]
fn rounds_that_take_long_lose_no_activity() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    socket.heard();
    rounds.end_round_after(200);
    rounds.end_round_after(302);
    rounds.expect_mark(&socket, true);
    // Two rounds are too few to look the socket up. The end of the round finds it.
    socket.heard();
    rounds.assert_quiet();
    rounds.end_round_after(250);
    rounds.expect_mark(&socket, false);
    for _ in 0..10 {
        socket.heard();
        rounds.end_round_after(250);
        rounds.assert_quiet();
    }
}

#[test]
fn a_socket_that_is_not_marked_yet_when_it_breaks_is_not_asserted_for_it() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    socket.heard();
    rounds.end_rounds_until(1);
    drop(socket);
    let grace = next_order(&rounds.table);
    assert_eq!(grace.intent, Intent::Grace);
    rounds.table.settle(&grace, done(8, 0));
    rounds.end_rounds_until(400);
    rounds.assert_quiet();
}

#[test]
fn whoever_states_something_on_an_idle_socket_is_active_and_becomes_idle_again() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    socket.heard();
    rounds.end_rounds_until(303);
    rounds.expect_mark(&socket, true);
    rounds.choose(&socket, Status::Busy, None);
    let join = next_order(&rounds.table);
    assert!(matches!(&join.intent, Intent::Join(join) if !join.idle), "{join:?}");
    rounds.table.settle(&join, done(9, 0));
    rounds.end_rounds_until(603);
    rounds.assert_quiet();
    rounds.end_rounds_until(606);
    rounds.expect_mark(&socket, true);
}

#[test]
fn whoever_states_something_and_never_says_that_they_are_active_is_never_idle() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    rounds.choose(&socket, Status::Busy, None);
    let join = next_order(&rounds.table);
    rounds.table.settle(&join, done(9, 0));
    rounds.end_rounds_until(1000);
    rounds.assert_quiet();
}

#[test]
fn where_no_socket_becomes_idle_by_itself_a_client_can_still_say_that_it_is() {
    let mut rounds = Rounds::with(PresenceSettings { idle: Duration::ZERO, ..Settings::default().presence });
    let socket = rounds.join();
    socket.heard();
    rounds.end_rounds_until(1000);
    rounds.assert_quiet();
    socket.idle();
    rounds.expect_mark(&socket, true);
    rounds.end_rounds_until(2000);
    rounds.assert_quiet();
    socket.heard();
    rounds.expect_mark(&socket, false);
    assert_eq!(rounds.table.lock().idling.n_sockets(), 0);
}

#[test]
fn sockets_that_come_are_active_and_go_leave_little_behind() {
    let mut rounds = Rounds::with(PresenceSettings { grace: Duration::ZERO, ..Settings::default().presence });
    let stays = rounds.join();
    stays.heard();
    for _ in 0..10_000 {
        let (socket, _) = come(&rounds.table, &user());
        socket.heard();
        rounds.end_round_after(0);
    }
    let n_left = rounds.table.lock().idling.n_sockets();
    assert!(n_left <= 2 + IDLING_SLACK, "{n_left}");
    rounds.end_rounds_until(303);
    assert_eq!(rounds.table.lock().idling.n_sockets(), 0);
    assert!(next_order(&rounds.table).intent == Intent::Idle(true), "the one that stays was not dropped with them");
}

#[test]
fn an_active_user_is_noted_once_in_a_while_and_a_join_counts() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    let mut noted = Vec::new();
    for _ in 1..=200 {
        socket.heard();
        noted.extend(rounds.end_round_after(1).active);
    }
    let at = |seconds: u64| (user(), Timestamp(BEGIN + 1000 * seconds));
    assert_eq!(noted, [at(60), at(120), at(180)]);
}

#[test]
fn a_second_socket_does_not_put_off_the_next_note() {
    let mut rounds = Rounds::new();
    let first = rounds.join();
    rounds.end_rounds_until(59);
    let _second = rounds.join();
    first.heard();
    assert_eq!(rounds.end_round_after(1).active, [(user(), Timestamp(BEGIN + 60_000))]);
}

#[test]
fn what_all_nodes_were_told_is_not_noted_again() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    rounds.end_rounds_until(59);
    rounds.table.observe_activity(&[(user(), Timestamp(BEGIN + 50_000))]);
    socket.heard();
    assert_eq!(rounds.end_round_after(1).active, []);
    rounds.end_rounds_until(109);
    let presence = Presence { active_at: Timestamp(BEGIN + 100_000), ..Presence::default() };
    rounds.table.observe(&changed(8, presence));
    socket.heard();
    assert_eq!(rounds.end_round_after(1).active, []);
    rounds.end_rounds_until(159);
    socket.heard();
    assert_eq!(rounds.end_round_after(1).active, [(user(), Timestamp(BEGIN + 160_000))]);
}

#[test]
fn an_idle_client_is_not_noted_as_active() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    for _ in 0..4 {
        socket.idle();
        assert_eq!(rounds.end_round_after(30).active, []);
    }
    assert_eq!(rounds.table.presence(&user()).unwrap().active_at, Timestamp(BEGIN), "the join was the last");
}

fn changed(revision: u64, presence: Presence) -> Transition {
    let position = Position { epoch: 1, revision };
    Transition { position, user: user(), change: Change::Changed(presence), at: Timestamp(0) }
}

#[test]
fn a_choice_that_has_ended_is_told_in_each_round_until_the_store_has_ended_it() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    rounds.choose(&socket, Status::Dnd, Some(Expiry::After(Duration::from_secs(5))));
    let join = next_order(&rounds.table);
    rounds.table.settle(&join, done(8, 0));
    rounds.end_rounds_until(4);
    assert_eq!(rounds.end_round_after(0).expired, []);
    let chosen = rounds.table.presence(&user()).unwrap().chosen.unwrap();
    for _ in 0..3 {
        assert_eq!(rounds.end_round_after(1).expired, [(user(), chosen.at)]);
    }
    let ended = Presence { chosen: Some(Arc::new(chosen.expired())), ..Presence::default() };
    rounds.table.observe(&changed(9, ended));
    assert_eq!(rounds.end_round_after(1).expired, []);
    assert!(rounds.table.lock().expiring.is_empty());
}

#[test]
fn another_choice_takes_the_place_of_an_end_and_a_user_who_is_forgotten_has_none() {
    let mut rounds = Rounds::new();
    let socket = rounds.join();
    for n in 0..100_000 {
        rounds.choose(&socket, Status::Dnd, Some(Expiry::At(Timestamp(2 * BEGIN + n))));
    }
    assert_eq!(rounds.table.lock().expiring.len(), 1);
    rounds.choose(&socket, Status::Online, None);
    assert_eq!(rounds.table.lock().expiring.len(), 0);
    rounds.choose(&socket, Status::Away, Some(Expiry::At(Timestamp(BEGIN + 1))));
    assert_eq!(rounds.table.lock().expiring.len(), 1);
    socket.leave();
    let leave = next_order(&rounds.table);
    rounds.table.settle(&leave, done(9, 0));
    rounds.assert_quiet();
    assert_eq!(rounds.table.n_users(), 0);
    assert!(rounds.table.lock().expiring.is_empty());
    assert_eq!(rounds.end_round_after(1).expired, []);
}

#[test]
fn when_a_hold_ends_exactly_the_idle_sockets_are_marked_again() {
    let rounds = Rounds::new();
    let [idle, active, back] = std::array::from_fn(|_| rounds.join());
    idle.idle();
    rounds.expect_mark(&idle, true);
    active.heard();
    back.idle();
    rounds.expect_mark(&back, true);
    back.heard();
    rounds.expect_mark(&back, false);
    rounds.table.restate_idle_marks();
    rounds.expect_mark(&idle, true);
    rounds.table.restate_idle_marks();
    rounds.expect_mark(&idle, true);
}
