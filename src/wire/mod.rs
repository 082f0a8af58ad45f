//! Bytes to domain messages and back, one file a format. Frames and bodies are made here; besides, only the profile's own
//! encoding (`domain::user`) and what the Redis scripts write (`store::redis::format`) are JSON.

pub mod frame;
pub mod json;
pub mod native;
pub mod reader;
