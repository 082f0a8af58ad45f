//! What is read of the channels and the keys, for the doors of `src/fuzzing/`. Anybody who may write to Redis can put anything
//! there.

use super::format;
use super::keys::{Keys, Partition, ServiceKeys};
use crate::domain::{
    HeldSocket, LastSeen, NodeId, Presence, RoomId, RoomPosition, RoomTransition, Signal, SocketId, Transition, UserId,
};

/// A message on the channel of transitions.
pub fn transition(message: &[u8]) -> Option<Transition> {
    format::transition(message).ok()
}

/// A message on a channel of a room.
pub fn room_transition(channel: &[u8], message: &[u8]) -> Option<RoomTransition> {
    format::room_transition(room_of_channel(channel)?, message).ok()
}

/// A message on a channel of signals.
pub fn signal(message: &[u8]) -> Option<Signal> {
    format::signal(message).ok()
}

/// The message that tells a signal.
pub fn signal_json(signal: &Signal) -> String {
    format::signal_json(signal)
}

/// Why a message on the channel of transitions is none, as the log says it.
pub fn complaint(message: &[u8]) -> Option<String> {
    format::transition(message).err().map(|error| error.to_string())
}

/// The room of a channel under the prefix `online`.
pub fn room_of_channel(channel: &[u8]) -> Option<RoomId> {
    keys().room_of_channel(channel)
}

/// A user's stored data.
pub fn presence(stored: &[u8]) -> Option<Presence> {
    format::presence(stored).ok()
}

/// When a user was last seen.
pub fn last_seen(stored: &[u8]) -> Option<LastSeen> {
    format::last_seen(stored).ok()
}

/// A field of a user's hash, and its value.
pub fn held_socket(field: &[u8], entry: &[u8]) -> Option<HeldSocket> {
    format::held_socket(field, entry)
}

/// A field of a node's entries in rooms.
pub fn room_entry(field: &[u8]) -> Option<(RoomId, SocketId)> {
    format::room_entry(field)
}

/// A suspect of an audit of rooms.
pub fn room_member(member: &[u8]) -> Option<(RoomId, UserId)> {
    format::room_member(member)
}

/// The head of a room.
pub fn room_position(birth: &[u8], revision: &[u8]) -> Option<RoomPosition> {
    format::room_position(&[Some(birth.to_vec()), Some(revision.to_vec())]).ok()
}

/// A member of a set of users, of rooms, or of nodes.
pub fn member(member: &[u8]) -> (Option<UserId>, Option<RoomId>, Option<NodeId>) {
    (format::known_user(member), format::known_room(member), format::parsed(member))
}

/// Every key and channel that is only of this user.
pub fn names_of_user(user: &UserId) -> Vec<String> {
    let keys = keys();
    vec![keys.service.user_sockets(user).to_string(), keys.presence(user).to_string(), keys.last_seen(user).to_string()]
}

/// Every key and channel that is only of this room, or of this user there.
pub fn names_of_room(room: &RoomId, user: &UserId) -> Vec<String> {
    let keys = keys();
    let names = keys.room(room);
    let registered = keys.registered_members(room).to_string();
    vec![names.head(), names.users(), names.events(), names.signals(), names.user_sockets(user), registered]
}

/// Every key and channel that is of no user and of no room.
pub fn fixed_names() -> Vec<String> {
    let Keys {
        epoch, nodes, asserted, sweep_after, audit, audit_suspects, signals, rooms, registered, service, ..
    } = keys();
    let ServiceKeys { revision, log, users, hidden, events, .. } = service;
    let own = [epoch, nodes, asserted, sweep_after, audit, audit_suspects, signals, rooms, registered];
    own.into_iter().chain([revision, log, users, hidden, events]).collect()
}

fn keys() -> Keys {
    Keys::new("online", Partition)
}
