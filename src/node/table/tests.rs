//! Tests of the orders that the writer gets. Sockets come and go, and the store answers or does not answer.

mod convergence;

use super::queue::QUEUE_SLACK;
use super::*;
use crate::domain::{Departure, Profile, ProfileFields, SaidStatus, Status, Timestamp};
use crate::metrics::Registry;
use crate::settings::Settings;
use crate::store::{Dates, Intent, Join, Order, Outcome};

fn table() -> Arc<Table> {
    table_with_grace(Duration::from_secs(3600))
}

fn table_with_grace(grace: Duration) -> Arc<Table> {
    let presence = PresenceSettings { grace, ..Settings::default().presence };
    Table::new(NodeId::from_bits(1), &presence, TableMetrics::new(&mut Registry::default()))
}

pub(super) fn user() -> UserId {
    UserId::parse("a").unwrap()
}

fn profile(name: &str) -> Option<Profile> {
    Profile::from_fields(&ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() })
}

/// What a client says who has a name.
fn named(name: &str) -> Said {
    Said { profile: Some(profile(name)), status: None }
}

pub(super) fn come(table: &Arc<Table>, user: &UserId) -> (Registration, oneshot::Receiver<Position>) {
    table.insert(user, Arrival::default(), None)
}

/// An order is carried out, and the profile that holds then is of `profile_at`.
pub(super) fn done(revision: u64, profile_at: u64) -> Option<Outcome> {
    let dates = Dates { profile_at: Timestamp(profile_at), ..Dates::default() };
    Some(Outcome::Done { position: Position { epoch: 1, revision }, dates, user_remains: false, room: None })
}

fn joined(order: &Order) -> &Join {
    let Intent::Join(join) = &order.intent else { panic!("{order:?}") };
    join
}

pub(super) fn next_order(table: &Table) -> Order {
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
    let (_socket, mut confirmed) = come(&table, &user());
    let join = next_order(&table);
    let Join { presence, idle, device, .. } = joined(&join);
    assert!(presence.is_same_but_for_activity(&Presence::default()), "{presence:?}");
    assert_eq!((*idle, device), (false, &None));
    assert_quiet(&table);
    table.settle(&join, done(7, 1));
    assert_eq!(confirmed.try_recv().unwrap().revision, 7);
    assert_quiet(&table);
    assert_eq!(table.confirmed_range(), Some(1..=1));
}

#[test]
fn an_unknown_outcome_is_ordered_again_as_it_is_wanted_by_then() {
    let table = table();
    let (socket, _) = come(&table, &user());
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
    let (socket, _) = come(&table, &user());
    socket.leave();
    assert_quiet(&table);
    assert_eq!((table.n_sockets(), table.n_users()), (0, 0));
}

#[test]
fn a_dropped_session_leaves_its_socket_in_grace() {
    let table = table();
    let (socket, _) = come(&table, &user());
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
    let (socket, _) = come(&table, &user());
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    drop(socket);
    let grace = next_order(&table);
    table.settle(&grace, done(7, 1));
    let goodbye = |revision| Transition {
        position: Position { epoch: 1, revision },
        user: user(),
        change: Change::Offline(Departure::from(OfflineReason::Left)),
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
    let (socket, _) = table.insert(&user(), Arrival { said: named("old"), ..Arrival::default() }, None);
    let first = next_order(&table);
    let mut confirmed = socket.say(named("new"));
    let old_at = joined(&first).presence.profile_at;
    table.settle(&first, done(7, old_at.0));
    assert!(confirmed.try_recv().is_err(), "this reply was to the old one");
    let second = next_order(&table);
    let sent = &joined(&second).presence;
    assert_eq!(sent.profile, profile("new"));
    assert!(sent.profile_at > old_at);
    table.settle(&second, done(8, sent.profile_at.0));
    assert_eq!(confirmed.try_recv().unwrap().revision, 8);
    assert_eq!(table.presence(&user()).unwrap().profile_at, sent.profile_at);
    assert_quiet(&table);
}

#[test]
fn a_status_chosen_while_a_join_is_under_way_goes_with_the_next_join() {
    let table = table();
    let (socket, mut joined_at) = come(&table, &user());
    let first = next_order(&table);
    let status = SaidStatus { status: Status::Invisible, text: None, expiry: None, is_repeated: true };
    let mut chosen_at = socket.say(Said { profile: None, status: Some(status) });
    assert_quiet(&table);
    table.settle(&first, done(7, 0));
    assert!(joined_at.try_recv().is_err() && chosen_at.try_recv().is_err());
    let second = next_order(&table);
    let sent = &joined(&second).presence;
    assert_eq!(sent.chosen_status(), Status::Invisible);
    let dates = Dates { profile_at: Timestamp(0), chosen_at: sent.chosen_at() };
    let position = Position { epoch: 1, revision: 8 };
    table.settle(&second, Some(Outcome::Done { position, dates, user_remains: false, room: None }));
    assert_eq!(chosen_at.try_recv().unwrap().revision, 8);
    assert_quiet(&table);
}

#[test]
fn a_statement_goes_with_another_socket_if_the_one_that_made_it_ends_first() {
    let table = table();
    let [makes, stays] = std::array::from_fn(|_| {
        let (socket, _) = come(&table, &user());
        let join = next_order(&table);
        table.settle(&join, done(7, 0));
        socket
    });
    assert_quiet(&table);
    drop(makes.say(named("new")));
    drop(makes);
    let mut orders = table.take_orders(10);
    orders.retain(|order| order.intent != Intent::Grace);
    assert_eq!(orders.iter().map(|order| order.socket).collect::<Vec<_>>(), [stays.socket()]);
    assert_eq!(joined(&orders[0]).presence.profile, profile("new"));
}

#[test]
fn a_presence_that_begins_anew_without_the_last_statement_is_given_it() {
    let table = table();
    let (_socket, _) = come(&table, &user());
    let join = next_order(&table);
    // Another node states something, and its socket goes. Then the join is carried out.
    table.settle(&join, done(9, 0));
    let transition = |revision, change| {
        let position = Position { epoch: 1, revision };
        Transition { position, user: user(), change, at: Timestamp(1) }
    };
    let stated = Presence { profile: profile("new"), profile_at: Timestamp(5), ..Presence::default() };
    table.observe(&transition(7, Change::Changed(stated)));
    table.observe(&transition(8, Change::Offline(OfflineReason::Left.into())));
    assert_quiet(&table);
    table.observe(&transition(9, Change::Online(Presence::default())));
    assert_eq!(joined(&next_order(&table)).presence.profile, profile("new"));
}

#[test]
fn a_reconcile_asserts_what_is_missing_and_removes_what_is_foreign() {
    let table = table();
    let (socket, _) = come(&table, &user());
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
    let table = table_with_grace(Duration::ZERO);
    let (_stays, _) = come(&table, &user());
    for number in 0..100_000 {
        let (registration, _) = come(&table, &UserId::parse(&format!("u{}", number % 100)).unwrap());
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
    let (registration, _) = come(&table, &user());
    drop(registration);
    assert!(table.end_due_graces(Instant::now()).is_some());
    assert_eq!(table.n_sockets(), 1);
    assert!(table.end_due_graces(Instant::now() + Duration::from_secs(2 * 3600)).is_none());
    assert_eq!(table.n_sockets(), 0);
}

#[test]
fn whoever_is_heard_from_is_taken_once_a_round_and_named_once_the_store_holds_them() {
    let table = table();
    let (socket, _) = come(&table, &user());
    socket.heard();
    socket.heard();
    let end_round = || table.end_round(Instant::now()).heard;
    let heard = end_round();
    assert_eq!(heard, [socket.socket().number]);
    assert!(table.confirmed(&heard).is_empty(), "the store has not confirmed the join");

    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    assert!(end_round().is_empty(), "nobody was heard from in this round");
    socket.heard();
    assert_eq!(table.confirmed(&end_round()), [(socket.socket(), user())]);
}

#[test]
fn while_departures_are_deferred_joins_are_ordered_and_nothing_is_removed() {
    let table = table();
    let (stays, _) = come(&table, &user());
    let join = next_order(&table);
    table.settle(&join, done(7, 1));
    assert_quiet(&table);
    table.begin_assertion();
    assert!(table.has_asserted());
    table.defer_departures();
    let (comes, _) = come(&table, &user());
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
    let (_first, _) = come(&table, &user());
    table.begin_assertion();
    assert!(!table.has_asserted());
    let join = next_order(&table);
    let (_second, _) = come(&table, &user());
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
        change: Change::Offline(Departure::from(OfflineReason::NodeLost)),
        at: Timestamp(1),
    };
    let (_socket, _) = come(&table, &user());
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
    let (_socket, _) = come(&table, &user());
    let join = next_order(&table);
    table.settle(&join, done(7, 0));
    let presence = Presence { profile: profile("Ada"), profile_at: Timestamp(5), ..Presence::default() };
    let mut roster: Roster = [(user(), presence.clone())].into_iter().collect();
    roster.advance_to(Position { epoch: 1, revision: 8 });
    table.observe_snapshot(&roster);
    assert_quiet(&table);
    assert!(table.presence(&user()).unwrap().is_same_but_for_activity(&presence));
    let mut nobody = Roster::default();
    nobody.advance_to(Position { epoch: 1, revision: 9 });
    table.observe_snapshot(&nobody);
    assert!(joined(&next_order(&table)).presence.is_same_but_for_activity(&presence));
}

#[test]
fn the_server_closes_every_socket_and_no_grace_follows() {
    let table = table();
    let (present, _) = come(&table, &user());
    let (broken, _) = come(&table, &user());
    for order in table.take_orders(10) {
        table.settle(&order, done(7, 1));
    }
    drop(broken);
    let grace = next_order(&table);
    table.settle(&grace, done(7, 1));
    let accounts = table.account(&user());
    assert_eq!(accounts.iter().map(|account| account.number).collect::<Vec<_>>(), [1, 2]);
    let states: Vec<_> = accounts.iter().map(|account| account.state.as_str()).collect();
    assert_eq!(states, ["wanted, confirmed", "in grace, confirmed as in grace"]);
    assert!(accounts[0].grace_left_ms.is_none() && accounts[1].grace_left_ms.is_some_and(|left| left <= 3_600_000));

    assert_eq!(table.disconnect(&user()), accounts);
    assert!(!present.is_wanted() && !table.wants(&user()));
    let orders = table.take_orders(10);
    assert!(orders.len() == 2 && orders.iter().all(|order| order.intent == Intent::Leave), "{orders:?}");
    // The connection breaks before the session has heard of it.
    drop(present);
    assert_eq!(table.disconnect(&user()), [], "they are going already");
    for order in &orders {
        table.settle(order, done(8, 0));
    }
    assert_quiet(&table);
    assert_eq!((table.n_sockets(), table.account(&user())), (0, Vec::new()));
}

#[test]
fn a_socket_that_the_server_closes_before_the_store_has_heard_of_it_is_forgotten() {
    let table = table();
    let (socket, mut confirmed) = come(&table, &user());
    assert_eq!(table.account(&user())[0].state, "wanted, not in the store");
    assert_eq!(table.disconnect(&user()).len(), 1);
    assert!(!socket.is_wanted() && confirmed.try_recv().is_err());
    assert_quiet(&table);
    socket.leave();
    assert_eq!(table.n_sockets(), 0);
}

#[test]
fn a_socket_takes_little_memory() {
    assert_eq!(size_of::<Socket>(), 56);
}
