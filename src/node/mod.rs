//! What this node wants to be true, and the one task that makes it so.
//!
//! Sessions only change the [`Table`]; the [`Writer`] takes the sockets whose state differs from what the store confirmed and
//! drives the store there (docs/design.md, decision 2). So a store that is away needs no queue, and a join that was cancelled half
//! way is simply undone.

mod entry;
mod link;
mod refresh;
mod registration;
mod table;
mod writer;

pub use link::Link;
pub(crate) use refresh::Refresher;
pub use registration::Registration;
pub use table::Table;
pub use writer::{DrainHandle, Writer};
