//! Fan-out: one encoded event to many sockets (docs/design.md, decision 9).
//!
//! [`Fanout`] gets every change of the view. It encodes the change once for each format in use, and puts it into the
//! mailbox of every worker. On each worker thread a [`Hub`] has streams: one of the service, and one of each room in which a
//! socket of the worker is. It appends the change to the broadcast log of each format in that stream. It writes to each
//! socket, in one system call for each stream, all that the socket has not seen. There is no queue of events for each socket
//! and no lock between workers. Memory is bounded whatever the load.

mod attachment;
mod audience;
mod bulletins;
mod changes;
mod count_telling;
mod counting;
mod credit;
mod fanout;
#[expect(clippy::module_inception, reason = "a file is named after what it holds, and this one holds `Hub`")]
mod hub;
mod listener;
mod log;
mod mailbox;
mod recent;
mod room_logs;
mod room_streams;
mod rooms;
mod streams;
#[cfg(test)]
mod test_sockets;
mod watch;
mod whispers;

pub use self::attachment::Attachment;
pub(crate) use self::attachment::Missed;
pub use self::fanout::Fanout;
pub use self::hub::Hub;
pub use self::listener::Outbound;
pub(crate) use self::listener::{Attention, ListenerAccount};
pub use self::rooms::ShownRoom;
pub(crate) use self::watch::Mark;
