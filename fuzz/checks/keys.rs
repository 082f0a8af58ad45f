//! Keys and their values: whatever somebody writes into Redis is understood or left out, and no two ids share a key.

use rollcall::domain::{RoomId, UserId};
use rollcall::fuzzing::keys;

/// The first byte says how long the first text is.
///
/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let Some((length, rest)) = input.split_first() else { return };
    let (one, other) = rest.split_at(usize::from(*length).min(rest.len()));
    check_values(one, other);
    let as_user = |text| keys::member(text).0;
    let as_room = |text| keys::member(text).1;
    if let (Some(one), Some(other)) = (as_user(one), as_user(other)) {
        check_users(&one, &other);
    }
    if let (Some(one), Some(other)) = (as_room(one), as_room(other)) {
        check_rooms(&one, &other);
    }
}

fn check_values(one: &[u8], other: &[u8]) {
    for value in [one, other] {
        let _ = (keys::presence(value), keys::last_seen(value));
        if let Some((room, socket)) = keys::room_entry(value) {
            assert_eq!(format!("{room}\t{socket}").as_bytes(), value, "an entry has one spelling");
        }
        if let Some((room, user)) = keys::room_member(value) {
            assert_eq!(format!("{room}\t{user}").as_bytes(), value, "a member has one spelling");
        }
        let _ = keys::room_of_channel(value);
    }
    if let Some(held) = keys::held_socket(one, other) {
        assert_eq!(held.socket.to_string().as_bytes(), one, "a socket has one spelling");
    }
    let _ = keys::room_position(one, other);
}

fn check_users(one: &UserId, other: &UserId) {
    let (ours, theirs) = (keys::names_of_user(one), keys::names_of_user(other));
    let fixed = keys::fixed_names();
    for name in &ours {
        assert!(!name.contains(char::is_control), "{name:?}");
        assert!(!fixed.contains(name), "{one} has the key {name}");
        assert!(one == other || !theirs.contains(name), "{one} and {other} share {name}");
    }
}

fn check_rooms(one: &RoomId, other: &RoomId) {
    let user = UserId::parse("u").expect("an id");
    let (ours, theirs) = (keys::names_of_room(one, &user), keys::names_of_room(other, &user));
    let fixed = keys::fixed_names();
    for name in &ours {
        assert!(!name.contains(char::is_control), "{name:?}");
        assert!(!fixed.contains(name), "the room {one} has the key {name}");
        assert!(one == other || !theirs.contains(name), "the rooms {one} and {other} share {name}");
    }
    for channel in ours.iter().filter(|name| name.ends_with(":events") || name.ends_with(":signals")) {
        if channel.starts_with("online:room:") {
            assert_eq!(keys::room_of_channel(channel.as_bytes()).as_ref(), Some(one), "{channel}");
        }
    }
}
