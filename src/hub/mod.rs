//! Fan-out: one encoded event to many sockets (docs/design.md, decision 9).
//!
//! [`Fanout`] gets every change of the view. It encodes the change once for each format in use, and puts it into the
//! mailbox of every worker. On each worker thread a [`Hub`] appends the change to the broadcast log of each format. The
//! hub writes to each socket, in one system call, all that the socket has not seen. There is no queue for each socket
//! and no lock between workers. Memory is bounded whatever the load.

mod attachment;
mod audience;
mod changes;
mod counting;
mod credit;
mod fanout;
#[expect(clippy::module_inception, reason = "a file is named after what it holds, and this one holds `Hub`")]
mod hub;
mod listener;
mod log;
mod mailbox;
mod streams;
mod watch;

pub use self::attachment::Attachment;
pub(crate) use self::attachment::Missed;
pub use self::fanout::Fanout;
pub use self::hub::Hub;
pub use self::listener::Outbound;
pub(crate) use self::listener::{Attention, ListenerAccount};
pub(crate) use self::watch::Mark;
