//! What waits for one worker: events, whispers and errands.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::listener::ListenerAccount;
use super::watch::Mark;
use crate::domain::{Inquiry, RoomId, UserId};
use crate::wire::Format;

/// Events, whispers and errands on their way to one worker. Other threads write them, and the worker's thread takes them out.
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    filled: Notify,
    max_bytes: usize,
}

/// What a worker takes out at once.
#[derive(Default)]
pub(super) struct Mail {
    /// Present if some events are not told one by one. Every listener of the worker misses the events up to there.
    pub(super) skipped: Option<Skipped>,
    /// The events after that, in order.
    pub(super) events: Vec<Encoded>,
    n_bytes: usize,
    /// The frames that are of no use later, in order.
    pub(super) whispers: Vec<Whisper>,
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

/// A frame that is of no use later. A socket gets it at once, or not at all.
#[derive(Debug, Clone)]
pub(super) struct Whisper {
    pub(super) to: WhisperTo,
    pub(super) frames: Frames,
}

/// Whose sockets get a whisper.
#[derive(Debug, Clone)]
pub(super) enum WhisperTo {
    /// Those that hear of everyone in the room, except those of one user.
    Room { room: RoomId, except: UserId },
    /// Those of this user.
    User(UserId),
}

/// How many whispers may wait for one worker. Above that they are dropped.
pub(super) const WHISPERS_MAX: usize = 256;

/// Up to where events are not told one by one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Skipped {
    /// The number of the last of them.
    pub(super) sequence: u64,
    /// How many users are online in the service after it. It is none if none of them was an event of the service.
    pub(super) n_online: Option<usize>,
}

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

/// One encoded event of any scope.
#[derive(Clone)]
pub(super) enum Encoded {
    Service(EncodedEvent),
    Room(EncodedRoomEvent),
}

/// One encoded event of a room.
#[derive(Clone)]
pub(super) struct EncodedRoomEvent {
    /// The number of the change.
    pub(super) sequence: u64,
    pub(super) room: RoomId,
    /// How many users the room shows after it.
    pub(super) n_online: usize,
    /// For all sockets in the room that hear of everyone there.
    pub(super) frames: Frames,
}

/// One encoded event of the service.
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

impl Encoded {
    /// The bytes that the event takes, with its frames. An event without frames counts too: without speakers there are
    /// no frames.
    pub(super) fn n_bytes(&self) -> usize {
        let n_bytes = |frames: &Frames| frames.iter().flatten().map(Bytes::len).sum::<usize>();
        size_of::<Self>()
            + match self {
                Self::Service(event) => n_bytes(&event.frames) + n_bytes(&event.own),
                Self::Room(event) => n_bytes(&event.frames),
            }
    }

    /// What is known of the views after the event.
    pub(super) fn as_skipped(&self) -> Skipped {
        match self {
            Self::Service(event) => Skipped { sequence: event.seen.sequence, n_online: Some(event.seen.n_online) },
            Self::Room(event) => Skipped { sequence: event.sequence, n_online: None },
        }
    }
}

impl Skipped {
    /// What is known after `self` and the later `next`.
    pub(super) fn then(self, next: Self) -> Self {
        Self { sequence: next.sequence, n_online: next.n_online.or(self.n_online) }
    }
}

impl Mail {
    /// Drops the waiting events. None of the events up to `last` is told.
    fn skip_to(&mut self, last: Skipped) {
        let waiting = std::mem::take(&mut self.events);
        let skipped = waiting.iter().map(Encoded::as_skipped).fold(self.skipped.unwrap_or_default(), Skipped::then);
        (self.skipped, self.n_bytes) = (Some(skipped.then(last)), 0);
    }
}

impl Mailbox {
    /// A mailbox for at most `max_bytes` of waiting frames. A worker that is further behind has been held up for long.
    /// It could not keep more in its logs, so its listeners start over.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { mail: Mutex::default(), filled: Notify::new(), max_bytes }
    }

    /// Adds events, in order. If the events are too many, all waiting events are skipped.
    pub(super) fn put(&self, events: impl IntoIterator<Item = Encoded>) {
        let mut mail = self.lock();
        for event in events {
            let n_bytes = event.n_bytes();
            if mail.n_bytes + n_bytes > self.max_bytes
                && let Some(last) = mail.events.last().map(Encoded::as_skipped)
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
    pub(super) fn skip_to(&self, last: Skipped) {
        self.lock().skip_to(last);
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

    /// Adds a whisper, unless too many wait already.
    pub(super) fn put_whisper(&self, whisper: Whisper) {
        let mut mail = self.lock();
        if mail.whispers.len() < WHISPERS_MAX {
            mail.whispers.push(whisper);
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
