//! Fan-out: one encoded event to many sockets (docs/design.md, decision 9).
//!
//! [`Fanout`] is told every change of the view, encodes it once and puts it into the mailbox of every worker. On each worker
//! thread a [`Hub`] appends it to its broadcast log and writes to each socket what that has not seen, in one system call.
//! No queue per socket, no lock between workers; memory is bounded whatever the load.

mod listener;
mod log;
mod worker;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::Notify;

pub use self::listener::{Attention, Outbound};
pub use self::worker::{Attachment, Hub};
use crate::domain::UserId;
use crate::replica::{Announce, Announcement};
use crate::wire;

/// The way from the replica to the workers.
#[derive(Default)]
pub struct Fanout {
    mailboxes: RwLock<Vec<Arc<Mailbox>>>,
}

/// What waits for one worker. Written by the replica, emptied by the worker.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<MailboxState>,
    filled: Notify,
}

#[derive(Default)]
struct MailboxState {
    entries: Vec<Entry>,
    /// Entries were dropped: every listener of the worker has a hole.
    overflowed: bool,
}

/// One encoded event.
#[derive(Clone)]
struct Entry {
    sequence: u64,
    user: UserId,
    frame: Bytes,
}

/// Events that may wait for a worker. A worker that far behind has been held up for seconds; its listeners start over.
const MAILBOX_CAPACITY: usize = 65_536;

impl Fanout {
    /// A mailbox for one more worker.
    fn register(&self) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.mailboxes.write().unwrap_or_else(PoisonError::into_inner).push(mailbox.clone());
        mailbox
    }
}

impl Announce for Fanout {
    fn announce(&self, announcement: &Announcement) {
        let entry = Entry {
            sequence: announcement.sequence,
            user: announcement.user.clone(),
            frame: wire::native::event(&wire::native::Event {
                user: &announcement.user,
                change: &announcement.change,
                epoch: announcement.epoch,
                revision: announcement.revision,
                catch_up: announcement.catch_up,
                at: announcement.at,
            }),
        };
        for mailbox in self.mailboxes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            mailbox.put(entry.clone());
        }
    }
}

impl Mailbox {
    fn put(&self, entry: Entry) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.entries.len() >= MAILBOX_CAPACITY {
            state.entries.clear();
            state.overflowed = true;
        }
        state.entries.push(entry);
        drop(state);
        self.filled.notify_one();
    }

    /// Takes everything. True: entries before these were dropped.
    fn take(&self) -> (Vec<Entry>, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.entries), std::mem::take(&mut state.overflowed))
    }

    /// Waits until there may be something.
    async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;

    use super::*;
    use crate::domain::{Change, OfflineReason, Timestamp};
    use crate::settings::Settings;

    /// A socket that takes everything.
    #[derive(Default)]
    struct Written(RefCell<Vec<u8>>);

    impl Outbound for Written {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    #[test]
    fn frames_that_show_the_view_come_before_what_happened_after_it() {
        actix_rt::System::new().block_on(async {
            let fanout = Fanout::default();
            let hub = Hub::start(&fanout, Arc::default(), &Settings::default().fanout);
            let socket = Rc::new(Written::default());
            let attachment = hub.attach(socket.clone());
            // The view was read at 0; before its reader listens, it goes on.
            let (user, change) = (UserId::parse("bob").unwrap(), Change::Offline(OfflineReason::Left));
            let at = Timestamp(0);
            fanout.announce(&Announcement {
                sequence: 1,
                user,
                change,
                epoch: 1,
                revision: Some(1),
                catch_up: false,
                at,
            });
            attachment.listen(&UserId::parse("ada").unwrap(), 0);
            attachment.send_at(0, ["welcome".into(), "list".into()]);
            let written = socket.0.borrow();
            assert!(written.starts_with(b"welcomelist") && written.len() > 100, "{}", written.escape_ascii());
        });
    }
}
