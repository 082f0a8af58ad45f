//! What waits for one worker: events and errands.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::listener::ListenerAccount;
use super::watch::Mark;
use crate::domain::{Inquiry, UserId};
use crate::wire::Format;

/// Events and errands on their way to one worker. Other threads write them, and the worker's thread takes them out.
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    filled: Notify,
    max_bytes: usize,
}

/// What a worker takes out at once.
#[derive(Default)]
pub(super) struct Mail {
    /// Present if some events are not told one by one: the view after the last of them. Every listener of the worker
    /// misses the events up to there.
    pub(super) skipped: Option<Seen>,
    /// The events after that, in order.
    pub(super) events: Vec<EncodedEvent>,
    n_bytes: usize,
    /// What other parts of the node want to know of the worker's sockets, or want done.
    pub(super) errands: Vec<Errand>,
}

/// What a worker is asked about its sockets of one user.
pub(super) struct Errand {
    /// The user.
    pub(super) user: UserId,
    /// What is asked. Each socket that it concerns is in the reply.
    pub(super) inquiry: Inquiry,
    /// Takes the reply. If this is dropped, there is no reply.
    pub(super) reply: oneshot::Sender<Vec<ListenerAccount>>,
}

/// How many errands may wait for one worker. Above that they are refused.
const ERRANDS_MAX: usize = 64;

/// The view after a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The number of the change.
    pub(super) sequence: u64,
    /// How many users are online.
    pub(super) n_online: usize,
}

/// What others see of a user after a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Whether the user was online before.
    pub(super) was_online: bool,
    /// How the user is now.
    pub(super) mark: Mark,
}

/// One encoded event.
#[derive(Clone)]
pub(super) struct EncodedEvent {
    pub(super) seen: Seen,
    pub(super) user: UserId,
    /// It is none if others see no change.
    pub(super) sight: Option<Sight>,
    /// For the sockets of all other users.
    pub(super) frames: Frames,
    /// For the sockets of the user.
    pub(super) own: Frames,
}

/// An event in each format ([`Format::index`]). A format has no frame if no socket speaks it, or if it has no words for
/// the event.
pub(super) type Frames = [Option<Bytes>; Format::ALL.len()];

impl EncodedEvent {
    /// The bytes that the event takes, with its frames. An event without frames counts too: without speakers there are
    /// no frames.
    pub(super) fn n_bytes(&self) -> usize {
        size_of::<Self>() + self.frames.iter().chain(&self.own).flatten().map(Bytes::len).sum::<usize>()
    }
}

impl Mail {
    fn skip_to(&mut self, seen: Seen) {
        let errands = std::mem::take(&mut self.errands);
        *self = Self { skipped: Some(seen), errands, ..Self::default() };
    }
}

impl Mailbox {
    /// A mailbox for at most `max_bytes` of waiting frames. A worker that is further behind has been held up for long.
    /// It could not keep more in its logs, so its listeners start over.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { mail: Mutex::default(), filled: Notify::new(), max_bytes }
    }

    /// Adds events, in order. If the events are too many, all waiting events are skipped.
    pub(super) fn put(&self, events: impl IntoIterator<Item = EncodedEvent>) {
        let mut mail = self.lock();
        for event in events {
            let n_bytes = event.n_bytes();
            if mail.n_bytes + n_bytes > self.max_bytes
                && let Some(last) = mail.events.last().map(|last| last.seen)
            {
                mail.skip_to(last);
            }
            mail.n_bytes += n_bytes;
            mail.events.push(event);
        }
        drop(mail);
        self.filled.notify_one();
    }

    /// Skips everything up to there, and also the waiting events.
    pub(super) fn skip_to(&self, seen: Seen) {
        self.lock().skip_to(seen);
        self.filled.notify_one();
    }

    /// Adds an errand, unless too many wait already.
    pub(super) fn put_errand(&self, errand: Errand) {
        let mut mail = self.lock();
        if mail.errands.len() < ERRANDS_MAX {
            mail.errands.push(errand);
        }
        drop(mail);
        self.filled.notify_one();
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Mail {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until there may be something.
    ///
    /// # Cancel safety
    /// A notice that is not consumed stays for the next call.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
