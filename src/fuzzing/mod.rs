//! Doors for the fuzz targets (`fuzz/`) to what is read from others and is not public. Each file has one door. Nothing else
//! uses them.

pub mod bus;
pub mod keys;
pub mod payloads;
pub mod query;
pub mod token;
