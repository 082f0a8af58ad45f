//! Fan-out: one encoded event to many sockets (docs/design.md, decision 9).
//!
//! [`Fanout`] is told every change of the view, encodes it once for each format in use and puts it into the mailbox of every
//! worker. On each worker thread a [`Hub`] appends it to the broadcast log of each format, and writes to each socket what that
//! has not seen, in one system call.
//! No queue per socket, no lock between workers; memory is bounded whatever the load.

mod credit;
mod fanout;
#[expect(clippy::module_inception, reason = "a file is named after what it holds, and this one holds `Hub`")]
mod hub;
mod listener;
mod log;
mod mailbox;
mod streams;

pub use self::fanout::Fanout;
pub use self::hub::{Attachment, Hub};
pub(crate) use self::listener::Attention;
pub use self::listener::Outbound;
