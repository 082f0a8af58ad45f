//! What this node wants to be true, and the one task that makes it true.
//!
//! Sessions only change the [`Table`]. The [`Writer`] takes the entries whose state differs from what the store
//! confirmed. It brings the store to the wanted state (docs/design.md, decision 2). So a store that is away needs no
//! queue. And a join that was cancelled half way is simply undone.

mod entry;
mod link;
mod refresh;
mod registration;
mod table;
mod writer;

pub use link::Link;
pub use refresh::Refresher;
pub use registration::Registration;
pub use table::{Arrival, EnteredAt, Table, TooManyRooms};
pub use writer::{DrainHandle, Writer};
