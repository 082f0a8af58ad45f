//! Each row of the table, for each kind of caller.

use super::*;
use crate::domain::{Said, SaidStatus, TypingTarget};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Somebody in `auth.mode = "trusted"`.
    Anyone,
    /// Somebody who has not said who it is.
    Nobody,
    /// The user `me`, with these rights, in the rooms of their token.
    User(&'static [Right]),
    /// The same, whose token names the room `granted` and states the name.
    Narrow(&'static [Right]),
    /// The application's server, with these rights.
    Server(&'static [Right]),
}

impl Caller {
    fn identity(self) -> Option<Identity> {
        let with = |who, rights: &[Right], rooms, stated| Identity {
            who,
            rights: Rights::of(rights),
            rooms,
            stated,
            ends_at: None,
        };
        match self {
            Caller::Anyone => Some(Identity::anyone()),
            Caller::Nobody => None,
            Caller::User(rights) => Some(with(Who::User(user("me")), rights, None, ProfilePatch::default())),
            Caller::Narrow(rights) => {
                let stated = ProfilePatch { name: Some(Some("Me".to_owned())), ..ProfilePatch::default() };
                Some(with(Who::User(user("me")), rights, Some([room("granted")].into()), stated))
            }
            Caller::Server(rights) => Some(with(Who::Server("backend".into()), rights, None, ProfilePatch::default())),
        }
    }
}

/// One row of the table, for one kind of caller.
struct Row {
    name: &'static str,
    caller: Caller,
    place: Place,
    request: fn() -> Request,
    outcome: Result<(), Refusal>,
}

const AWAY: Place = Place { is_joined: false, is_in_room: false };
const HERE: Place = Place { is_joined: true, is_in_room: false };
const IN_ROOM: Place = Place { is_joined: true, is_in_room: true };

const R: Right = Right::Read;
const W: Right = Right::Write;
const I: Right = Right::Invisible;
const O: Right = Right::Observe;
const A: Right = Right::Admin;

const fn lacks(right: Right) -> Result<(), Refusal> {
    Err(Refusal::Forbidden(right))
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn said(status: Status) -> SaidStatus {
    SaidStatus { status, text: None, expiry: None, is_repeated: false }
}

fn join(named: Option<&str>, status: Option<Status>, interest: Option<Interest>) -> Request {
    let said = Said { profile: None, status: status.map(said) };
    Request::Join { user: named.map(user), said, device: None, interest, rooms: Vec::new() }
}

fn rename() -> Request {
    Request::Update(ProfilePatch { name: Some(None), ..ProfilePatch::default() })
}

fn remail() -> Request {
    Request::Update(ProfilePatch { email: Some(None), ..ProfilePatch::default() })
}

fn enter(id: &str, interest: Interest) -> Request {
    Request::JoinRoom { room: room(id), interest }
}

fn type_in(id: &str) -> Request {
    Request::Typing { target: TypingTarget::Room(room(id)), is_typing: true }
}

fn look(id: &str) -> Request {
    Request::RoomUsers { room: room(id), limit: None, cursor: None }
}

/// Every request, once. So a row for all of them needs no list of its own.
fn requests() -> Vec<Request> {
    vec![
        join(Some("me"), None, None),
        enter("a", Interest::Everyone),
        Request::LeaveRoom { room: room("a") },
        type_in("a"),
        look("a"),
        Request::RoomCount { room: room("a") },
        Request::Subscribe { interest: Interest::Everyone },
        Request::Watch { users: vec![user("other")] },
        Request::Unwatch { users: vec![user("other")] },
        Request::WatchCount,
        Request::UnwatchCount,
        Request::Pause,
        Request::Resume,
        Request::SetStatus(said(Status::Busy)),
        rename(),
        Request::Activity { idle: false },
        Request::List { limit: None, cursor: None },
        Request::Check { user: user("other") },
        Request::Devices,
        Request::Leave,
    ]
}

/// Makes a test of each row. The name of the row is the name of the test.
macro_rules! rows {
    ($($name:ident: $caller:expr, $place:expr, $request:expr => $outcome:expr;)*) => {
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            caller: $caller,
            place: $place,
            request: || $request,
            outcome: $outcome,
        }),*];
        $(#[test] fn $name() { try_row(stringify!($name)); })*
    };
}

fn try_row(name: &str) {
    let row = ROWS.iter().find(|row| row.name == name).unwrap();
    let identity = row.caller.identity();
    assert_eq!(check_request(identity.as_ref(), &(row.request)(), row.place), row.outcome, "{:?}", row.caller);
}

rows! {
    who_joins_needs_the_right_to_write: Caller::User(&[R, I, O]), AWAY, join(Some("me"), None, None) => lacks(W);
    who_joins_may_leave_out_the_user: Caller::User(&[W]), AWAY, join(None, None, None) => Ok(());
    who_joins_may_name_their_own_user: Caller::User(&[W]), AWAY, join(Some("me"), None, None) => Ok(());
    nobody_joins_as_another_user: Caller::User(&[W, R, I, O]), AWAY, join(Some("other"), None, None) => Err(Refusal::OtherUser);
    not_even_an_admin_joins_as_another_user: Caller::User(&[A]), AWAY, join(Some("other"), None, None) => Err(Refusal::OtherUser);
    who_joins_hidden_needs_a_right: Caller::User(&[W, R]), AWAY, join(None, Some(Status::Invisible), None) => lacks(I);
    who_joins_hidden_with_it_may: Caller::User(&[W, I]), AWAY, join(None, Some(Status::Invisible), None) => Ok(());
    who_joins_to_hear_needs_the_right_to_read: Caller::User(&[W]), AWAY, join(None, None, Some(Interest::Count)) => lacks(R);
    who_joins_to_hear_nothing_does_not: Caller::User(&[W]), AWAY, join(None, None, Some(Interest::Nobody)) => Ok(());
    a_room_needs_the_right_to_write: Caller::User(&[R]), HERE, enter("a", Interest::Everyone) => lacks(W);
    a_room_needs_the_right_to_read: Caller::User(&[W]), HERE, enter("a", Interest::Everyone) => lacks(R);
    a_room_of_which_nothing_is_heard_does_not: Caller::User(&[W]), HERE, enter("a", Interest::Nobody) => Ok(());
    a_room_must_be_granted: Caller::Narrow(&[W, R]), HERE, enter("a", Interest::Everyone) => Err(Refusal::NotGranted);
    a_granted_room_is_entered: Caller::Narrow(&[W, R]), HERE, enter("granted", Interest::Everyone) => Ok(());
    to_leave_a_room_needs_no_right: Caller::Narrow(&[]), IN_ROOM, Request::LeaveRoom { room: room("a") } => Ok(());
    to_leave_needs_no_right: Caller::User(&[]), HERE, Request::Leave => Ok(());
    a_status_needs_the_right_to_write: Caller::User(&[R]), HERE, Request::SetStatus(said(Status::Busy)) => lacks(W);
    a_status_may_be_chosen: Caller::User(&[W]), HERE, Request::SetStatus(said(Status::Busy)) => Ok(());
    to_hide_needs_a_right: Caller::User(&[W]), HERE, Request::SetStatus(said(Status::Invisible)) => lacks(I);
    to_hide_with_it_is_allowed: Caller::User(&[W, I]), HERE, Request::SetStatus(said(Status::Invisible)) => Ok(());
    a_profile_needs_the_right_to_write: Caller::User(&[R]), HERE, remail() => lacks(W);
    what_the_token_states_stays: Caller::Narrow(&[W]), HERE, rename() => Err(Refusal::Stated);
    what_the_token_does_not_state_may_change: Caller::Narrow(&[W]), HERE, remail() => Ok(());
    activity_needs_the_right_to_write: Caller::User(&[R]), HERE, Request::Activity { idle: false } => lacks(W);
    activity_is_allowed: Caller::User(&[W]), HERE, Request::Activity { idle: true } => Ok(());
    typing_needs_the_right_to_write: Caller::User(&[R]), IN_ROOM, type_in("a") => lacks(W);
    typing_is_allowed: Caller::User(&[W]), IN_ROOM, type_in("a") => Ok(());
    devices_need_the_right_to_write: Caller::User(&[R]), HERE, Request::Devices => lacks(W);
    devices_are_shown: Caller::User(&[W]), HERE, Request::Devices => Ok(());
    a_list_needs_the_right_to_read: Caller::User(&[W]), HERE, Request::List { limit: None, cursor: None } => lacks(R);
    a_list_is_shown: Caller::User(&[R]), HERE, Request::List { limit: None, cursor: None } => Ok(());
    a_check_needs_the_right_to_read: Caller::User(&[W]), HERE, Request::Check { user: user("other") } => lacks(R);
    a_check_is_answered: Caller::User(&[R]), AWAY, Request::Check { user: user("other") } => Ok(());
    to_watch_needs_the_right_to_read: Caller::User(&[W]), HERE, Request::Watch { users: Vec::new() } => lacks(R);
    to_watch_is_allowed: Caller::User(&[R]), HERE, Request::Watch { users: Vec::new() } => Ok(());
    the_count_needs_the_right_to_read: Caller::User(&[W]), HERE, Request::WatchCount => lacks(R);
    the_count_is_shown: Caller::User(&[R]), HERE, Request::WatchCount => Ok(());
    to_resume_needs_the_right_to_read: Caller::User(&[W]), HERE, Request::Resume => lacks(R);
    to_resume_is_allowed: Caller::User(&[R]), HERE, Request::Resume => Ok(());
    to_hear_less_needs_no_right: Caller::User(&[]), HERE, Request::Unwatch { users: Vec::new() } => Ok(());
    to_hear_no_count_needs_no_right: Caller::User(&[]), HERE, Request::UnwatchCount => Ok(());
    to_pause_needs_no_right: Caller::User(&[]), HERE, Request::Pause => Ok(());
    who_is_here_hears_others_with_the_right_to_read: Caller::User(&[R]), HERE, Request::Subscribe { interest: Interest::Everyone } => Ok(());
    who_is_here_does_not_hear_without: Caller::User(&[W]), HERE, Request::Subscribe { interest: Interest::Everyone } => lacks(R);
    who_is_here_may_hear_nothing: Caller::User(&[W]), HERE, Request::Subscribe { interest: Interest::Nobody } => Ok(());
    to_listen_unseen_needs_a_right: Caller::User(&[R, W]), AWAY, Request::Subscribe { interest: Interest::Everyone } => lacks(O);
    to_listen_unseen_needs_the_right_to_read: Caller::User(&[O, W]), AWAY, Request::Subscribe { interest: Interest::Nobody } => lacks(R);
    to_listen_unseen_with_both_is_allowed: Caller::User(&[R, O]), AWAY, Request::Subscribe { interest: Interest::Everyone } => Ok(());
    who_is_in_a_room_needs_the_right_to_read: Caller::User(&[W]), IN_ROOM, look("a") => lacks(R);
    who_is_in_a_room_is_shown_there: Caller::Narrow(&[R]), IN_ROOM, look("a") => Ok(());
    who_is_in_another_room_must_be_granted: Caller::Narrow(&[R]), HERE, look("a") => Err(Refusal::NotGranted);
    who_is_in_a_granted_room_is_shown: Caller::Narrow(&[R]), HERE, look("granted") => Ok(());
    who_is_in_a_room_is_not_shown_to_the_unseen: Caller::User(&[R]), AWAY, look("a") => lacks(O);
    who_is_in_a_room_is_shown_to_observers: Caller::User(&[R, O]), AWAY, look("a") => Ok(());
    the_count_of_a_room_needs_the_right_to_read: Caller::User(&[W]), HERE, Request::RoomCount { room: room("a") } => lacks(R);
    the_count_of_a_room_must_be_granted: Caller::Narrow(&[R]), HERE, Request::RoomCount { room: room("a") } => Err(Refusal::NotGranted);
    the_count_of_a_room_is_shown: Caller::User(&[R]), HERE, Request::RoomCount { room: room("a") } => Ok(());
    anybody_may_say_who_they_are: Caller::Nobody, AWAY, Request::Authenticate { user: None, token: None } => Ok(());
}

#[test]
fn who_has_not_said_who_it_is_may_do_nothing_else() {
    for request in requests() {
        assert_eq!(check_request(None, &request, HERE), Err(Refusal::Unauthenticated), "{request:?}");
    }
}

#[test]
fn whose_word_counts_may_do_everything() {
    let anyone = Caller::Anyone.identity();
    for request in requests() {
        for place in [AWAY, HERE, IN_ROOM] {
            assert_eq!(check_request(anyone.as_ref(), &request, place), Ok(()), "{request:?}");
        }
    }
}

#[test]
fn a_server_has_no_socket() {
    let server = Caller::Server(&[A]).identity();
    for request in requests() {
        assert_eq!(check_request(server.as_ref(), &request, HERE), lacks(W), "{request:?}");
    }
}

#[test]
fn an_admin_has_every_right() {
    let admin = Caller::User(&[A]).identity();
    for request in requests() {
        assert_eq!(check_request(admin.as_ref(), &request, AWAY), Ok(()), "{request:?}");
    }
}

#[test]
fn each_resource_has_its_right() {
    const M: Right = Right::Metrics;
    let unknown = Err(Refusal::Unauthenticated);
    for (resource, caller, outcome) in [
        (Resource::Open, Caller::Nobody, Ok(())),
        (Resource::Open, Caller::Server(&[]), Ok(())),
        (Resource::OnlineUsers, Caller::Nobody, unknown),
        (Resource::OnlineUsers, Caller::User(&[R]), Ok(())),
        (Resource::OnlineUsers, Caller::User(&[W, I, O]), lacks(R)),
        (Resource::OnlineUsers, Caller::Server(&[R]), Ok(())),
        (Resource::OnlineUsers, Caller::Server(&[M]), lacks(R)),
        (Resource::UserStatus, Caller::Nobody, unknown),
        (Resource::UserStatus, Caller::User(&[R]), Ok(())),
        (Resource::UserStatus, Caller::User(&[W]), lacks(R)),
        (Resource::UserStatus, Caller::Server(&[A]), Ok(())),
        (Resource::LastSeen, Caller::Nobody, unknown),
        (Resource::LastSeen, Caller::User(&[W]), Ok(())),
        (Resource::LastSeen, Caller::User(&[R]), lacks(W)),
        (Resource::LastSeen, Caller::Server(&[A]), Ok(())),
        (Resource::LastSeen, Caller::Server(&[R, W]), lacks(A)),
        (Resource::RoomUsers, Caller::Nobody, unknown),
        (Resource::RoomUsers, Caller::User(&[R]), Ok(())),
        (Resource::RoomUsers, Caller::User(&[W]), lacks(R)),
        (Resource::RoomUsers, Caller::Server(&[R]), Ok(())),
        (Resource::ServerApi, Caller::Nobody, unknown),
        (Resource::ServerApi, Caller::User(&[R, W, I, O]), lacks(A)),
        (Resource::ServerApi, Caller::User(&[A]), Ok(())),
        (Resource::ServerApi, Caller::Server(&[R, M]), lacks(A)),
        (Resource::ServerApi, Caller::Server(&[A]), Ok(())),
        (Resource::Metrics, Caller::Nobody, unknown),
        (Resource::Metrics, Caller::User(&[A]), lacks(M)),
        (Resource::Metrics, Caller::Server(&[M]), Ok(())),
        (Resource::Metrics, Caller::Server(&[A]), Ok(())),
        (Resource::Metrics, Caller::Server(&[R]), lacks(M)),
    ] {
        assert_eq!(check_resource(caller.identity().as_ref(), resource), outcome, "{resource:?} {caller:?}");
        assert_eq!(check_resource(Caller::Anyone.identity().as_ref(), resource), Ok(()), "{resource:?}");
    }
}

#[test]
fn who_acts_as_whom() {
    for (caller, named, outcome) in [
        (Caller::Anyone, None, Ok(None)),
        (Caller::Anyone, Some("other"), Ok(Some("other"))),
        (Caller::Nobody, None, Err(Refusal::Unauthenticated)),
        (Caller::Nobody, Some("me"), Err(Refusal::Unauthenticated)),
        (Caller::User(&[W]), None, Ok(Some("me"))),
        (Caller::User(&[W]), Some("me"), Ok(Some("me"))),
        (Caller::User(&[A]), Some("other"), Err(Refusal::OtherUser)),
        (Caller::Server(&[A]), Some("other"), Ok(Some("other"))),
        (Caller::Server(&[A]), None, Ok(None)),
        (Caller::Server(&[R]), Some("other"), Err(Refusal::Forbidden(A))),
        (Caller::Server(&[R]), None, Ok(None)),
    ] {
        let acts = user_for(caller.identity().as_ref(), named.map(user));
        assert_eq!(acts, outcome.map(|user_id: Option<&str>| user_id.map(user)), "{caller:?} {named:?}");
    }
}

#[test]
fn a_token_that_names_rooms_decides_alone() {
    for (caller, id, outcome) in [
        (Caller::Anyone, "a", Ok(Entry::ByRule)),
        (Caller::Nobody, "a", Err(Refusal::Unauthenticated)),
        (Caller::User(&[W]), "a", Ok(Entry::ByRule)),
        (Caller::Narrow(&[W]), "granted", Ok(Entry::Granted)),
        (Caller::Narrow(&[A]), "a", Err(Refusal::NotGranted)),
        (Caller::Server(&[A]), "a", Ok(Entry::ByRule)),
    ] {
        assert_eq!(may_enter(caller.identity().as_ref(), &room(id)), outcome, "{caller:?} {id}");
    }
}

#[test]
fn each_right_has_a_name() {
    for right in Right::ALL {
        assert_eq!(Right::from_name(right.as_str()), Some(right));
        assert_eq!(Rights::of(&[right]).has(Right::Write), matches!(right, Right::Write | Right::Admin));
    }
    assert_eq!(Right::from_name("presence"), None);
    assert_eq!(size_of::<Rights>(), 1);
}
