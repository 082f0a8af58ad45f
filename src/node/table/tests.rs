//! Tests of the orders that the writer gets. Sockets come and go, and the store answers or does not answer.

use super::queue::QUEUE_SLACK;
use super::*;
use crate::domain::Timestamp;
use crate::domain::user::ProfileFields;
use crate::metrics::Registry;
use crate::store::{Intent, Order, Outcome};

fn table() -> Arc<Table> {
    Table::new(NodeId::from_bits(1), Duration::from_secs(3600), TableMetrics::new(&mut Registry::default()))
}

fn user() -> UserId {
    UserId::parse("a").unwrap()
}

fn profile(name: &str) -> Option<Profile> {
    let fields = ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() };
    Profile::from_fields(&fields, 100).unwrap()
}

fn done(revision: u64, date: u64) -> Option<Outcome> {
    Some(Outcome::Done { position: Position { epoch: 1, revision }, profile_at: (date > 0).then_some(Timestamp(date)) })
}

fn next_order(table: &Table) -> Order {
    let mut orders = table.take_orders(10);
    assert_eq!(orders.len(), 1, "{orders:?}");
    orders.remove(0)
}

fn assert_quiet(table: &Table) {
    assert_eq!(table.take_orders(10), []);
}

#[test]
fn a_join_is_ordered_once_and_confirmed_to_its_session() {
    let table = table();
    let (_socket, mut confirmed) = table.insert(&user(), None, None);
    let join = next_order(&table);
    assert_eq!(join.intent, Intent::Join(Presence::default()));
    assert_quiet(&table);
    table.settle(&join, done(7, 1));
    assert_eq!(confirmed.try_recv().unwrap().revision, 7);
    assert_quiet(&table);
    assert_eq!(table.confirmed_range(), Some(1..=1));
}

#[test]
fn an_unknown_outcome_is_ordered_again_as_it_is_wanted_by_then() {
    let table = table();
    let (socket, _) = table.insert(&user(), None, None);
    let join = next_order(&table);
    socket.leave();
    assert_quiet(&table);
    table.settle(&join, None);
    let leave = next_order(&table);
    assert_eq!(leave.intent, Intent::Leave, "the join is undone, not repeated");
    table.settle(&leave, done(8, 0));
    assert_quiet(&table);
    assert_eq!((table.n_sockets(), table.n_users()), (0, 0));
}

#[test]
fn a_join_that_was_never_sent_is_forgotten() {
    let table = table();
    let (socket, _) = table.insert(&user(), None, None);
    socket.leave();
    assert_quiet(&table);
    assert_eq!((table.n_sockets(), table.n_users()), (0, 0));
}

#[test]
fn a_dropped_session_leaves_its_socket_in_grace() {
    let table = table();
    let (socket, _) = table.insert(&user(), None, None);
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    drop(socket);
    assert_eq!(next_order(&table).intent, Intent::Grace);
    assert!(!table.wants(&user()));
    assert_eq!(table.n_sockets(), 1);
}

#[test]
fn a_goodbye_elsewhere_ends_the_graces_that_began_before_it_and_no_later_one() {
    let table = table();
    let (socket, _) = table.insert(&user(), None, None);
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    drop(socket);
    let grace = next_order(&table);
    table.settle(&grace, done(7, 1));
    let goodbye = |revision| Transition {
        position: Position { epoch: 1, revision },
        user: user(),
        change: Change::Offline(OfflineReason::Left),
        at: Timestamp(1),
    };
    table.observe(&goodbye(6));
    assert_quiet(&table);
    table.observe(&goodbye(8));
    assert_eq!(next_order(&table).intent, Intent::Remove(OfflineReason::ConnectionLost));
}

#[test]
fn a_profile_stated_while_a_join_is_under_way_is_not_lost() {
    let table = table();
    let (socket, _) = table.insert(&user(), profile("old"), None);
    let first = next_order(&table);
    let mut confirmed = socket.state_profile(profile("new"));
    table.settle(&first, done(7, 70));
    assert!(confirmed.try_recv().is_err(), "this reply was to the old one");
    let second = next_order(&table);
    let Intent::Join(sent) = &second.intent else { panic!("{second:?}") };
    assert_eq!((&sent.profile, sent.updated_at), (&profile("new"), Timestamp(0)));
    table.settle(&second, done(8, 80));
    assert_eq!(confirmed.try_recv().unwrap().revision, 8);
    assert_eq!(table.presence(&user()).unwrap().updated_at, Timestamp(80));
    assert_quiet(&table);
}

#[test]
fn a_reconcile_asserts_what_is_missing_and_removes_what_is_foreign() {
    let table = table();
    let (socket, _) = table.insert(&user(), None, None);
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    let foreign = SocketId { node: table.node(), number: 99 };
    assert_eq!(table.reconcile(&[(foreign, user())]), 2);
    let orders = table.take_orders(10);
    assert_eq!(orders.iter().map(|order| order.socket).collect::<Vec<_>>(), [socket.socket(), foreign]);
    assert!(matches!(orders[0].intent, Intent::Join(_)) && matches!(orders[1].intent, Intent::Remove(_)));
}

#[test]
fn who_comes_and_goes_while_the_store_is_away_leaves_nothing_behind() {
    let table = Table::new(NodeId::from_bits(1), Duration::ZERO, TableMetrics::new(&mut Registry::default()));
    let (_stays, _) = table.insert(&user(), None, None);
    for number in 0..100_000 {
        let (registration, _) = table.insert(&UserId::parse(&format!("u{}", number % 100)).unwrap(), None, None);
        match number % 2 {
            0 => registration.leave(),
            _ => registration.lose(OfflineReason::ConnectionLost),
        }
    }
    let contents = table.lock();
    assert_eq!((contents.sockets.len(), contents.users.len()), (1, 1));
    let n_due = contents.queue.n_due();
    assert!(n_due <= 2 * QUEUE_SLACK, "{n_due}");
}

#[test]
fn a_socket_that_the_store_never_heard_of_is_forgotten_when_its_grace_ends() {
    let table = table();
    let (registration, _) = table.insert(&user(), None, None);
    drop(registration);
    assert!(table.end_due_graces(Instant::now()).is_some());
    assert_eq!(table.n_sockets(), 1);
    assert!(table.end_due_graces(Instant::now() + Duration::from_secs(2 * 3600)).is_none());
    assert_eq!(table.n_sockets(), 0);
}

#[test]
fn whoever_is_heard_from_is_taken_once_a_round_and_named_once_the_store_holds_them() {
    let table = table();
    let (socket, _) = table.insert(&user(), None, None);
    socket.heard();
    socket.heard();
    let heard = table.take_heard();
    assert_eq!(heard, [socket.socket().number]);
    assert!(table.confirmed(&heard).is_empty(), "the store has not confirmed the join");

    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    assert!(table.take_heard().is_empty(), "nobody was heard from in this round");
    socket.heard();
    assert_eq!(table.confirmed(&table.take_heard()), [(socket.socket(), user())]);
}

#[test]
fn while_departures_are_deferred_joins_are_ordered_and_nothing_is_removed() {
    let table = table();
    let (stays, _) = table.insert(&user(), None, None);
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    assert_quiet(&table);
    table.begin_assertion();
    assert!(table.has_asserted());
    table.defer_departures();
    let (comes, _) = table.insert(&user(), None, None);
    stays.leave();
    let orders = table.take_orders(10);
    assert_eq!(orders.iter().map(|order| order.socket).collect::<Vec<_>>(), [comes.socket()]);
    table.settle(&orders[0], done(8, 1));
    assert_quiet(&table);
    // Other events may happen meanwhile. The socket still waits only once.
    table.forget_confirmations();
    let again = next_order(&table);
    assert!(matches!(again.intent, Intent::Join(_)), "{again:?}");
    table.settle(&again, done(8, 1));
    table.release_departures();
    let removal = next_order(&table);
    assert_eq!(removal.intent, Intent::Remove(OfflineReason::Left), "late, so it takes nobody along");
    table.settle(&removal, done(8, 1));
    assert_quiet(&table);
    assert_eq!(table.n_sockets(), 1);
}

#[test]
fn an_assertion_is_over_when_what_was_wanted_at_its_beginning_was_ordered() {
    let table = table();
    let (_first, _) = table.insert(&user(), None, None);
    table.begin_assertion();
    assert!(!table.has_asserted());
    let join = next_order(&table);
    let (_second, _) = table.insert(&user(), None, None);
    table.settle(&join, done(7, 1));
    assert!(table.has_asserted(), "the second came later");
    table.begin_assertion();
    assert!(!table.has_asserted());
}

#[test]
fn a_departure_is_contradicted_by_a_socket_that_the_store_held_before_it() {
    let table = table();
    let departed = |revision| Transition {
        position: Position { epoch: 1, revision },
        user: user(),
        change: Change::Offline(OfflineReason::NodeLost),
        at: Timestamp(1),
    };
    let (_socket, _) = table.insert(&user(), None, None);
    assert!(!table.contradicts_departure(&user(), 9), "its join may come after the departure");
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    assert!(!table.contradicts_departure(&user(), 6), "its join came after the departure");
    assert!(table.contradicts_departure(&user(), 8));
    table.observe(&departed(6));
    assert_quiet(&table);
    table.observe(&departed(8));
    assert_eq!(next_order(&table).intent, join.intent, "it is asserted again");
}

#[test]
fn a_snapshot_teaches_profiles_and_shows_what_is_missing() {
    let table = table();
    let (_socket, _) = table.insert(&user(), None, None);
    let join = next_order(&table);
    table.settle(&join, done(7, 0));
    let presence = Presence { profile: profile("Ada"), updated_at: Timestamp(5) };
    let mut roster: Roster = [(user(), presence.clone())].into_iter().collect();
    roster.advance_to(Position { epoch: 1, revision: 8 });
    table.observe_snapshot(&roster);
    assert_quiet(&table);
    assert_eq!(table.presence(&user()), Some(presence.clone()));
    let mut nobody = Roster::default();
    nobody.advance_to(Position { epoch: 1, revision: 9 });
    table.observe_snapshot(&nobody);
    assert_eq!(next_order(&table).intent, Intent::Join(presence));
}
