//! What other nodes publish.

pub use crate::store::redis::doors::{complaint, room_transition, signal, signal_json, transition};
