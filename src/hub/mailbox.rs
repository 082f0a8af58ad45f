//! The events that wait for one worker.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::domain::UserId;
use crate::wire::Format;

/// Events on their way to one worker. The replica's thread writes them, and the worker's thread takes them out.
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    filled: Notify,
    max_bytes: usize,
}

/// What a worker takes out at once.
#[derive(Default)]
pub(super) struct Mail {
    /// Present if some events are not told one by one. It is the sequence of the last of them. Every listener of the
    /// worker misses the events up to there.
    pub(super) skipped_to: Option<u64>,
    /// The events after that, in order.
    pub(super) events: Vec<EncodedEvent>,
    n_bytes: usize,
}

/// One encoded event.
#[derive(Clone)]
pub(super) struct EncodedEvent {
    pub(super) sequence: u64,
    pub(super) user: UserId,
    pub(super) frames: Frames,
}

/// An event in each format ([`Format::index`]). A format has no frame if no socket speaks it, or if it has no words for
/// the event.
pub(super) type Frames = [Option<Bytes>; Format::ALL.len()];

impl EncodedEvent {
    /// The bytes that the event takes, with its frames. An event without frames counts too: without speakers there are
    /// no frames.
    pub(super) fn n_bytes(&self) -> usize {
        size_of::<Self>() + self.frames.iter().flatten().map(Bytes::len).sum::<usize>()
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
                && let Some(last) = mail.events.last().map(|last| last.sequence)
            {
                *mail = Mail { skipped_to: Some(last), ..Mail::default() };
            }
            mail.n_bytes += n_bytes;
            mail.events.push(event);
        }
        drop(mail);
        self.filled.notify_one();
    }

    /// Skips everything up to `sequence`, and also the waiting events.
    pub(super) fn skip_to(&self, sequence: u64) {
        *self.lock() = Mail { skipped_to: Some(sequence), ..Mail::default() };
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
