//! Tests of the orders about rooms.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::domain::{Change, Departure, NodeId, OfflineReason, Scope, Timestamp, Transition};
use crate::metrics::{Registry, TableMetrics};
use crate::node::table::Arrival;
use crate::node::table::queue::QUEUE_SLACK;
use crate::node::table::tests::{come, next_order, user};
use crate::node::{Registration, Table};
use crate::settings::{PresenceSettings, Settings};
use crate::store::{Dates, Intent, Order, Outcome};

const MOST: usize = 50;
const GRACE: Duration = Duration::from_secs(3600);

fn table() -> Arc<Table> {
    table_with_grace(GRACE)
}

fn table_with_grace(grace: Duration) -> Arc<Table> {
    let presence = PresenceSettings { grace, ..Settings::default().presence };
    Table::new(NodeId::from_bits(1), &presence, TableMetrics::new(&mut Registry::default()))
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn at(birth: u64, revision: u64) -> RoomPosition {
    RoomPosition { birth, revision }
}

/// An order is carried out at `revision` of the service, and `user_remains` is what it says of the user.
fn done(revision: u64, user_remains: bool) -> Outcome {
    let (position, room) = (Position { epoch: 1, revision }, Some(at(1, revision)));
    Outcome::Done { position, dates: Dates::default(), user_remains, room }
}

/// Takes all orders, in words: the socket, the room if there is one, and what is wanted.
fn take(table: &Table) -> (Vec<Order>, Vec<String>) {
    let orders = table.take_orders(100);
    let said = orders.iter().map(|order| {
        let what = match &order.intent {
            Intent::Join(_) => "join",
            Intent::Idle(_) => "idle",
            Intent::Grace => "grace",
            Intent::Leave => "leave",
            Intent::Remove(reason) => reason.as_str(),
        };
        match &order.scope {
            Scope::Service => format!("{} {what}", order.socket.number),
            Scope::Room(room) => format!("{} {room} {what}", order.socket.number),
        }
    });
    let said = said.collect();
    (orders, said)
}

/// The next orders, which are carried out at that revision.
fn drive(table: &Table, revision: u64) -> Vec<String> {
    let (orders, said) = take(table);
    orders.iter().for_each(|order| table.settle(order, Some(done(revision, false))));
    said
}

fn enter(socket: &Registration, id: &str) -> oneshot::Receiver<EnteredAt> {
    socket.join_room(MOST, &room(id)).expect("there is room")
}

/// A socket in these rooms, of which the store knows.
fn come_into(table: &Arc<Table>, rooms: &[&str]) -> Registration {
    let rooms = rooms.iter().map(|id| room(id)).collect();
    let (socket, _) = table.insert(&user(), Arrival { rooms, ..Arrival::default() }, None);
    drive(table, 5);
    socket
}

/// The user said goodbye on another node.
fn departed(revision: u64) -> Transition {
    let (position, change) = (Position { epoch: 1, revision }, Change::Offline(Departure::from(OfflineReason::Left)));
    Transition { position, user: user(), change, at: Timestamp(1) }
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_room_is_joined_once_and_its_session_learns_where_the_store_and_the_room_are() {
    let table = table();
    let socket = come_into(&table, &[]);
    let mut entered = enter(&socket, "x");
    assert!(table.is_local_room(&room("x")) && table.wants_in(&room("x"), &user()));
    assert_eq!(drive(&table, 7), ["1 x join"]);
    assert_eq!(entered.try_recv(), Ok((Position { epoch: 1, revision: 7 }, Some(at(1, 7)))));
    assert_eq!(drive(&table, 8), nothing());
    // Whoever asks again is told where the room is by now.
    let mut again = enter(&socket, "x");
    assert_eq!(drive(&table, 9), ["1 x join"]);
    assert_eq!(again.try_recv().map(|(_, room)| room), Ok(Some(at(1, 9))));
    assert_eq!((table.n_room_entries(), table.confirmed_room_range()), (1, Some(1..=1)));
}

#[test]
fn the_store_hears_of_sockets_before_it_hears_of_their_rooms() {
    let table = table();
    let rooms = vec![room("x"), room("y")];
    let (_first, _) = table.insert(&user(), Arrival { rooms, ..Arrival::default() }, None);
    let (_second, _) = come(&table, &user());
    assert_eq!(drive(&table, 5), ["1 join", "2 join", "1 x join", "1 y join"]);
}

#[test]
fn whoever_leaves_a_room_takes_nobody_along_and_may_enter_it_again() {
    let table = table();
    let socket = come_into(&table, &["x", "y"]);
    socket.leave_room(&room("x"));
    assert_eq!(socket.rooms(), [room("y")]);
    let (orders, said) = take(&table);
    assert_eq!(said, ["1 x left"]);
    let mut entered = enter(&socket, "x");
    assert_eq!(take(&table).1, nothing(), "an order is under way");
    table.settle(&orders[0], Some(done(6, false)));
    assert!(entered.try_recv().is_err(), "this reply was to the departure");
    assert_eq!(drive(&table, 7), ["1 x join"]);
    assert_eq!(entered.try_recv().map(|(_, room)| room), Ok(Some(at(1, 7))));
    assert_eq!(socket.rooms(), [room("x"), room("y")]);
}

#[test]
fn a_room_that_was_left_and_entered_before_the_store_heard_of_it_is_asserted_once_more() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    socket.leave_room(&room("x"));
    let mut entered = enter(&socket, "x");
    assert_eq!(drive(&table, 7), ["1 x join"]);
    assert!(entered.try_recv().is_ok());
    assert_eq!(drive(&table, 8), nothing());
}

#[test]
fn a_goodbye_leaves_every_room_and_ends_the_users_graces_in_rooms() {
    let table = table();
    let leaves = come_into(&table, &["x", "y"]);
    let breaks = come_into(&table, &["y", "z"]);
    drop(breaks);
    assert_eq!(drive(&table, 6), ["2 grace", "2 y grace", "2 z grace"]);
    leaves.leave();
    let mut said = drive(&table, 7);
    said.sort();
    assert_eq!(
        said,
        ["1 leave", "1 x leave", "1 y leave", "2 connection_lost", "2 y connection_lost", "2 z connection_lost"]
    );
    assert_eq!(drive(&table, 8), nothing());
    assert_eq!((table.n_room_entries(), table.rooms()), (0, Vec::new()));
}

#[test]
fn a_goodbye_takes_along_what_is_left_in_rooms_of_sockets_that_have_gone() {
    for goodbye in ["here", "elsewhere", "of the server"] {
        let table = table();
        let (stays, breaks) = (come_into(&table, &[]), come_into(&table, &["x"]));
        drop(breaks);
        drive(&table, 6);
        table.end_due_graces(Instant::now() + GRACE);
        table.settle(&next_order(&table), Some(done(7, true)));
        assert_eq!((take(&table).1, table.n_sockets(), table.n_room_entries()), (nothing(), 1, 1));
        match goodbye {
            "here" => stays.leave(),
            "elsewhere" => table.observe(&departed(8)),
            _ => _ = table.disconnect(&user()),
        }
        assert!(take(&table).1.contains(&"2 x connection_lost".to_owned()), "{goodbye}");
    }
}

#[test]
fn a_goodbye_that_is_driven_late_takes_nobody_in_a_room_along() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    table.defer_departures();
    socket.leave();
    assert_eq!(take(&table).1, nothing());
    table.release_departures();
    assert_eq!(drive(&table, 7), ["1 left"]);
    assert_eq!(drive(&table, 7), nothing(), "departures from rooms still wait");
    table.release_room_departures();
    assert_eq!(drive(&table, 8), ["1 x left"]);
    // The goodbye was said before the node was cut off, and the writer had not sent it.
    let socket = come_into(&table, &["x"]);
    socket.leave();
    table.defer_departures();
    table.release_departures();
    table.release_room_departures();
    assert_eq!(drive(&table, 9), ["2 left", "2 x left"]);
}

#[test]
fn who_enters_a_room_again_while_departures_wait_does_not_wait() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    table.defer_departures();
    socket.leave_room(&room("x"));
    assert_eq!(take(&table).1, nothing());
    let mut entered = enter(&socket, "x");
    assert_eq!(drive(&table, 7), ["1 x join"]);
    assert!(entered.try_recv().is_ok());
    table.release_room_departures();
    assert_eq!(drive(&table, 8), nothing());
    assert_eq!(socket.rooms(), [room("x")]);
}

#[test]
fn the_rooms_of_a_broken_socket_stay_two_seconds_longer() {
    let table = table();
    let (stays, breaks) = (come_into(&table, &[]), come_into(&table, &["x"]));
    let broken_at = Instant::now();
    drop(breaks);
    assert_eq!(drive(&table, 6), ["2 grace", "2 x grace"]);
    assert!(table.is_local_room(&room("x")) && !table.wants_in(&room("x"), &user()));
    assert_eq!(table.confirmed_room_range(), Some(0..=1), "a goodbye elsewhere may have taken it");
    let over = broken_at + GRACE + Duration::from_secs(1);
    let next = table.end_due_graces(over).expect("another grace");
    assert!(next >= broken_at + GRACE + LONGER_GRACE);
    let (orders, said) = take(&table);
    assert_eq!(said, ["2 connection_lost"]);
    table.settle(&orders[0], Some(done(7, true)));
    assert_eq!(take(&table).1, nothing(), "the user is still here");
    assert!(table.end_due_graces(next).is_none());
    assert_eq!(drive(&table, 8), ["2 x connection_lost"]);
    assert_eq!(drive(&table, 9), nothing());
    assert!(stays.is_wanted() && table.n_room_entries() == 0);
}

#[test]
fn whoever_is_gone_from_the_service_is_gone_from_the_rooms_at_once() {
    let table = table();
    drop(come_into(&table, &["x"]));
    drive(&table, 6);
    table.end_due_graces(Instant::now() + GRACE);
    // This reply says that the user has no other socket.
    assert_eq!(drive(&table, 7), ["1 connection_lost"]);
    assert_eq!(drive(&table, 7), ["1 x connection_lost"]);
    assert_eq!((drive(&table, 8), table.n_room_entries()), (nothing(), 0));
}

#[test]
fn a_socket_that_came_with_the_last_departure_keeps_its_rooms_for_the_grace() {
    let table = table();
    drop(come_into(&table, &["x"]));
    drive(&table, 6);
    table.end_due_graces(Instant::now() + GRACE);
    let rooms = vec![room("x")];
    let (comes, _) = table.insert(&user(), Arrival { rooms, ..Arrival::default() }, None);
    let (orders, said) = take(&table);
    assert_eq!(said, ["1 connection_lost", "2 join", "2 x join"]);
    drop(comes);
    orders.iter().for_each(|order| table.settle(order, Some(done(7, false))));
    assert_eq!(drive(&table, 8), ["2 grace", "1 x connection_lost", "2 x grace"]);
}

#[test]
fn without_graces_a_broken_socket_leaves_its_rooms_at_once() {
    let table = table_with_grace(Duration::ZERO);
    drop(come_into(&table, &["x"]));
    assert_eq!(drive(&table, 6), ["1 connection_lost", "1 x connection_lost"]);
}

#[test]
fn a_goodbye_elsewhere_ends_the_graces_in_rooms_that_began_before_it() {
    let table = table();
    drop(come_into(&table, &["x"]));
    drive(&table, 6);
    table.observe(&departed(4));
    assert_eq!(take(&table).1, nothing());
    table.observe(&departed(7));
    assert_eq!(drive(&table, 8), ["1 connection_lost", "1 x connection_lost"]);
}

#[test]
fn a_departure_from_before_a_socket_entered_a_room_again_does_not_end_its_grace() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    socket.leave_room(&room("x"));
    let (orders, _) = take(&table);
    let mut entered = enter(&socket, "x");
    table.settle(&orders[0], Some(done(6, false)));
    assert_eq!(drive(&table, 9), ["1 x join"]);
    assert!(entered.try_recv().is_ok());
    drop(socket);
    drive(&table, 9);
    table.observe(&departed(8));
    assert_eq!(take(&table).1, ["1 connection_lost"]);
}

#[test]
fn a_socket_that_the_server_closes_leaves_its_rooms() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    drop(come_into(&table, &["y"]));
    drive(&table, 6);
    assert_eq!(table.disconnect(&user()).len(), 2);
    let mut said = drive(&table, 7);
    said.sort();
    assert_eq!(said, ["1 leave", "1 x leave", "2 leave", "2 y leave"]);
    // Its session has not heard of it yet.
    assert!(enter(&socket, "z").try_recv().is_err());
    assert_eq!(drive(&table, 8), nothing());
    assert_eq!((table.n_room_entries(), socket.rooms()), (0, Vec::new()));
}

#[test]
fn a_user_whom_the_server_removes_leaves_the_room_with_every_socket() {
    let table = table();
    let socket = come_into(&table, &["x", "y"]);
    drop(come_into(&table, &["x"]));
    let other = come_into(&table, &["y"]);
    drive(&table, 6);
    let numbers = |accounts: Vec<crate::domain::SocketAccount>| -> Vec<u64> {
        accounts.iter().map(|account| account.number).collect()
    };
    let mut removed = numbers(table.remove_from_room(&user(), &room("x")));
    removed.sort_unstable();
    assert_eq!(removed, [1, 2], "the one in grace, too");
    let mut said = drive(&table, 7);
    said.sort();
    assert_eq!(said, ["1 x left", "2 x left"]);
    assert_eq!((socket.rooms(), other.rooms()), (vec![room("y")], vec![room("y")]));
    assert!(!socket.is_in_room(&room("x")) && socket.is_in_room(&room("y")));
    assert_eq!(numbers(table.remove_from_room(&user(), &room("x"))), [0; 0], "they have gone already");
    assert_eq!(drive(&table, 8), nothing());
    // The session whose entry was under way learns that it has come to nothing.
    let mut entered = enter(&socket, "z");
    assert_eq!(numbers(table.remove_from_room(&user(), &room("z"))), [1]);
    assert!(entered.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
}

#[test]
fn a_socket_is_in_so_many_rooms_and_no_more() {
    let table = table();
    let socket = come_into(&table, &["x", "y"]);
    assert_eq!(socket.join_room(2, &room("z")).err(), Some(TooManyRooms));
    assert!(socket.join_room(2, &room("x")).is_ok(), "it is there already");
    socket.leave_room(&room("x"));
    assert!(socket.join_room(2, &room("z")).is_ok(), "a room that is being left does not count");
    assert_eq!(socket.rooms(), [room("y"), room("z")]);
}

#[test]
fn sockets_are_asserted_before_everything_is() {
    let table = table();
    let rooms = vec![room("x")];
    let (_socket, _) = table.insert(&user(), Arrival { rooms, ..Arrival::default() }, None);
    table.begin_assertion();
    let of_service = table.take_orders(1);
    assert!(table.has_asserted() && !table.has_asserted_all());
    table.settle(&of_service[0], Some(done(5, true)));
    assert_eq!(drive(&table, 6), ["1 x join"]);
    assert!(table.has_asserted_all());
    // Whatever forgets what the store holds of sockets forgets what it holds of rooms.
    table.begin_epoch(Position { epoch: 2, revision: 1 });
    assert!(!table.has_asserted() && !table.has_asserted_all());
    assert_eq!(table.confirmed_room_range(), None);
    assert_eq!(drive(&table, 7), ["1 join", "1 x join"]);
    assert!(table.has_asserted_all());
}

#[test]
fn who_leaves_a_room_before_the_store_answers_waits_for_it_no_more() {
    let table = table();
    let socket = come_into(&table, &[]);
    let mut entered = enter(&socket, "x");
    let join = next_order(&table);
    socket.leave_room(&room("x"));
    assert_eq!(entered.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    table.settle(&join, None);
    assert_eq!(drive(&table, 6), ["1 x left"]);
    assert_eq!((drive(&table, 7), table.n_room_entries()), (nothing(), 0));
}

#[test]
fn a_refused_join_of_a_room_is_ordered_again() {
    let table = table();
    let socket = come_into(&table, &[]);
    let mut entered = enter(&socket, "x");
    for outcome in [None, Some(Outcome::Refused(crate::store::Refusal::NoLease))] {
        table.settle(&next_order(&table), outcome);
    }
    assert_eq!(drive(&table, 7), ["1 x join"]);
    assert!(entered.try_recv().is_ok());
}

#[test]
fn a_reconcile_asserts_entries_that_are_missing_and_removes_foreign_ones() {
    let table = table();
    let socket = come_into(&table, &["x", "y"]);
    let foreign = SocketId { node: table.node(), number: 99 };
    // Also an entry that gives the socket to somebody else.
    let held =
        [("x", socket.socket(), user()), ("x", foreign, user()), ("z", socket.socket(), UserId::parse("b").unwrap())];
    assert_eq!(table.reconcile_rooms(&held.map(|(id, socket, user)| (room(id), socket, user))), 3);
    assert!(!table.is_local_room(&room("z")));
    assert_eq!(drive(&table, 7), ["1 y join", "99 x connection_lost", "1 z connection_lost"]);
    assert_eq!(drive(&table, 8), nothing());
    assert_eq!((table.n_room_entries(), table.confirmed_room_range()), (2, Some(2..=2)));
}

#[test]
fn confirmed_entries_are_refreshed_and_those_that_are_missing_are_asserted_again() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    drop(enter(&socket, "y"));
    assert_eq!(table.sockets_in_rooms(), [1]);
    assert_eq!(table.confirmed_in_rooms(&[1, 2]), [(room("x"), socket.socket(), user())]);
    drive(&table, 6);
    table.mark_missing_in_rooms(&[(room("x"), socket.socket())]);
    assert_eq!(drive(&table, 7), ["1 x join"]);
}

#[test]
fn a_departure_from_a_room_is_contradicted_by_an_entry_that_the_store_held_before_it() {
    let table = table();
    let socket = come_into(&table, &[]);
    drop(enter(&socket, "x"));
    let contradicts = |position| table.contradicts_room_departure(&room("x"), &user(), position);
    let observe = |position| {
        let change = RoomChange::Left(OfflineReason::NodeLost);
        let (room, user, at) = (room("x"), user(), Timestamp(1));
        table.observe_room(&RoomTransition { room, position, user, change, at });
    };
    assert!(!contradicts(at(1, 9)), "its join may come after the departure");
    drive(&table, 7);
    assert!(!contradicts(at(1, 6)) && contradicts(at(1, 8)) && contradicts(at(2, 1)));
    observe(at(1, 6));
    assert_eq!(take(&table).1, nothing());
    observe(at(1, 8));
    assert_eq!(drive(&table, 9), ["1 x join"]);
    assert!(contradicts(at(1, 8)), "a later join only repeats the first one");
    let empty = RoomRoster::default();
    table.observe_room_snapshot(&room("x"), &empty);
    assert_eq!(drive(&table, 10), ["1 x join"]);
    let members = [user()].into_iter().collect();
    table.observe_room_snapshot(&room("x"), &RoomRoster { position: at(1, 12), members });
    assert_eq!(take(&table).1, nothing());
    drop(socket);
    drive(&table, 11);
    observe(at(1, 6));
    assert_eq!(take(&table).1, nothing());
    observe(at(1, 12));
    assert_eq!(drive(&table, 13), ["1 x connection_lost"], "it went with the user");
}

#[test]
fn members_with_a_wanted_socket_are_named_once() {
    let table = table();
    let (_first, second) = (come_into(&table, &["x"]), come_into(&table, &["x", "y"]));
    assert_eq!(table.wanted_members(&room("x")), [user()].into_iter().collect());
    let mut rooms = table.rooms();
    rooms.sort();
    assert_eq!(rooms, [room("x"), room("y")]);
    drop(second);
    assert!(table.wants_in(&room("x"), &user()) && !table.wants_in(&room("y"), &user()));
    assert!(table.wanted_members(&room("y")).is_empty() && table.is_local_room(&room("y")));
}

#[test]
fn who_enters_and_leaves_rooms_while_the_store_is_away_leaves_nothing_behind() {
    let table = table();
    let socket = come_into(&table, &["x"]);
    for number in 0..20_000 {
        let id = if number % 2 == 0 { "x".to_owned() } else { format!("r{}", number % 100) };
        drop(enter(&socket, &id));
        socket.leave_room(&room(&id));
    }
    for _ in 0..10_000 {
        drop(enter(&socket, "x"));
        socket.leave_room(&room("x"));
    }
    let n_due = table.lock().rooms.n_due();
    assert!(n_due <= 2 * QUEUE_SLACK, "{n_due}");
    assert_eq!(drive(&table, 7), ["1 x left"]);
    assert_eq!((drive(&table, 8), table.n_room_entries()), (nothing(), 0));
}
