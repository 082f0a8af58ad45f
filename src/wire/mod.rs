//! Bytes to domain messages and back. `message.rs` has what can be said. Each format has a file. Frames and bodies are
//! made here. Two other places know JSON: the profile's own encoding (`domain::user`), and what the Redis scripts write
//! (`store::redis::format`).

pub mod body;
mod fields;
pub mod format;
pub mod frame;
pub mod json;
pub mod message;
mod native;
mod plain;
pub mod reader;
pub(crate) mod socketio;
pub mod status;

pub use self::format::Format;
pub(crate) use self::format::Joins;
