//! What stands in the keys, and how the keys are called.

pub use crate::store::redis::doors::{
    fixed_names, held_socket, last_seen, member, names_of_room, names_of_user, presence, room_entry, room_member,
    room_of_channel, room_position,
};
