//! The way from the replica to the workers.

use std::array;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::listener::ListenerAccount;
use super::mailbox::{
    Encoded, EncodedEvent, EncodedRoomEvent, Errand, Frames, Mailbox, Seen, Sight, Skipped, Whisper, WhisperTo,
};
use super::watch::Mark;
use crate::domain::{Inquiry, RoomId, Told, UserId};
use crate::replica::{Announce, Announcement, RoomAnnouncement};
use crate::wire::Format;
use crate::wire::message::{Event, Message};

/// Encodes each announcement once for each format in use, and puts it into the mailbox of every worker.
pub struct Fanout {
    mailboxes: RwLock<Vec<Arc<Mailbox>>>,
    speakers: Arc<Speakers>,
    /// The events that the present catch-up has told so far. It is none while there is no catch-up.
    burst: Mutex<Option<Burst>>,
    burst_max_bytes: usize,
    mailbox_bytes: usize,
}

/// How many sockets of the process speak each format ([`Format::index`]).
///
/// A socket counts from the moment before it reads the view, until it is gone. So every later announcement is encoded
/// for the socket, because reading and announcing both happen under the view's lock.
#[derive(Default)]
pub(super) struct Speakers([AtomicUsize; Format::ALL.len()]);

/// The events that one catch-up tells.
#[derive(Default)]
struct Burst {
    events: Vec<Encoded>,
    n_bytes: usize,
    /// The views after the last event.
    last: Option<Skipped>,
    /// The events are too many to tell listeners one by one.
    is_too_large: bool,
}

/// One catch-up may fill the broadcast log divided by this number. If it is larger, every listener starts over with a
/// list instead. A catch-up that filled the whole log would throw off every listener that has not read the log to its
/// end.
const BURST_PART: usize = 2;

impl Fanout {
    /// The way to workers whose broadcast logs hold `log_bytes` (`fanout.log_bytes`) each.
    pub fn new(log_bytes: usize) -> Self {
        Self {
            mailboxes: RwLock::default(),
            speakers: Arc::default(),
            burst: Mutex::default(),
            burst_max_bytes: log_bytes / BURST_PART,
            mailbox_bytes: log_bytes,
        }
    }

    /// A mailbox for one more worker.
    pub(super) fn register(&self) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::new(self.mailbox_bytes));
        self.mailboxes.write().unwrap_or_else(PoisonError::into_inner).push(mailbox.clone());
        mailbox
    }

    /// How many sockets speak each format.
    pub(super) fn speakers(&self) -> Arc<Speakers> {
        self.speakers.clone()
    }

    /// Asks all workers about their sockets of one user. Returns the sockets that are concerned. It is none if a worker
    /// refuses, because too much waits for it. A worker that is held up makes the caller wait: put a deadline on it.
    pub(crate) async fn ask(&self, user: &UserId, inquiry: Inquiry) -> Option<Vec<ListenerAccount>> {
        let mut replies = Vec::new();
        for mailbox in self.mailboxes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let (reply, replied) = oneshot::channel();
            mailbox.put_errand(Errand { user: user.clone(), inquiry: inquiry.clone(), reply });
            replies.push(replied);
        }
        let accounts = try_join_all(replies).await.ok()?;
        Some(accounts.into_iter().flatten().collect())
    }

    /// Tells the sockets that hear of everyone in a room something that is of no use later, except the sockets of one user. A
    /// socket for which something else waits does not get it, nor does a paused one. If a worker is behind, its sockets do not
    /// get it.
    pub(crate) fn whisper_room(&self, room: &RoomId, except: &UserId, message: &Message<'_>) {
        self.whisper(WhisperTo::Room { room: room.clone(), except: except.clone() }, message);
    }

    /// Does the same with all sockets of a user.
    pub(crate) fn whisper_user(&self, to: &UserId, message: &Message<'_>) {
        self.whisper(WhisperTo::User(to.clone()), message);
    }

    fn whisper(&self, to: WhisperTo, message: &Message<'_>) {
        let whisper = Whisper { to, frames: self.speakers.frames(Some(message)) };
        self.deliver(|mailbox| mailbox.put_whisper(whisper.clone()));
    }

    fn burst(&self) -> MutexGuard<'_, Option<Burst>> {
        self.burst.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event into the mailboxes, or into the burst of the present catch-up.
    fn put(&self, event: impl FnOnce() -> Encoded, last: Skipped) {
        match &mut *self.burst() {
            None => {
                let event = event();
                self.deliver(|mailbox| mailbox.put([event.clone()]));
            }
            Some(burst) => burst.add(event, last, self.burst_max_bytes),
        }
    }

    fn deliver(&self, put: impl Fn(&Mailbox)) {
        self.mailboxes.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|mailbox| put(mailbox));
    }
}

impl Announce for Fanout {
    fn announce(&self, announcement: &Announcement) {
        let Seen { sequence, n_online } = seen_after(announcement);
        let encode = || Encoded::Service(self.speakers.encode(announcement));
        self.put(encode, Skipped { sequence, n_online: Some(n_online) });
    }

    fn announce_room(&self, announcement: &RoomAnnouncement) {
        let encode = || Encoded::Room(self.speakers.encode_in_room(announcement));
        self.put(encode, Skipped { sequence: announcement.sequence, n_online: None });
    }

    fn begin_catch_up(&self) {
        *self.burst() = Some(Burst::default());
    }

    fn end_catch_up(&self) {
        let Some(burst) = self.burst().take() else { return };
        if let Some(last) = burst.last.filter(|_| burst.is_too_large) {
            self.deliver(|mailbox| mailbox.skip_to(last));
        } else if !burst.events.is_empty() {
            self.deliver(|mailbox| mailbox.put(burst.events.iter().cloned()));
        }
    }
}

impl Burst {
    fn add(&mut self, event: impl FnOnce() -> Encoded, last: Skipped, max_bytes: usize) {
        self.last = Some(self.last.unwrap_or_default().then(last));
        if self.is_too_large {
            return;
        }
        let event = event();
        self.n_bytes += event.n_bytes();
        self.events.push(event);
        if self.n_bytes > max_bytes {
            self.is_too_large = true;
            self.events = Vec::new();
        }
    }
}

impl Speakers {
    /// One more socket speaks the format.
    pub(super) fn add(&self, format: Format) {
        self.0[format.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// One socket less speaks the format.
    pub(super) fn remove(&self, format: Format) {
        self.0[format.index()].fetch_sub(1, Ordering::Relaxed);
    }

    fn encode(&self, announcement: &Announcement) -> EncodedEvent {
        let others = announcement.others.as_ref().map(|told| Message::Event(event(announcement, told)));
        let own = announcement.own.as_ref().map(|own| Message::OwnEvent(event(announcement, own)));
        EncodedEvent {
            seen: seen_after(announcement),
            user: announcement.user.clone(),
            sight: announcement.others.as_ref().map(sight),
            frames: self.frames(others.as_ref()),
            own: self.frames(own.as_ref()),
        }
    }

    fn encode_in_room(&self, announcement: &RoomAnnouncement) -> EncodedRoomEvent {
        let RoomAnnouncement { sequence, room, user, told, n_online, at } = announcement;
        let message = Message::RoomEvent { room, user, what: told, at: *at };
        let frames = self.frames(Some(&message));
        EncodedRoomEvent { sequence: *sequence, room: room.clone(), n_online: *n_online, frames }
    }

    fn frames(&self, message: Option<&Message<'_>>) -> Frames {
        array::from_fn(|index| {
            let is_in_use = self.0[index].load(Ordering::Relaxed) > 0;
            message.filter(|_| is_in_use).and_then(|message| Format::ALL[index].encode(message, None))
        })
    }
}

fn seen_after(announcement: &Announcement) -> Seen {
    Seen { sequence: announcement.sequence, n_online: announcement.n_online }
}

fn sight(told: &Told) -> Sight {
    Sight { was_online: !matches!(told, Told::Online(_)), mark: Mark::of_told(told) }
}

fn event<'a, What>(announcement: &'a Announcement, what: &'a What) -> Event<'a, What> {
    let Announcement { user, epoch, revision, catch_up, at, .. } = announcement;
    Event { user, what, epoch: *epoch, revision: *revision, catch_up: *catch_up, at: *at }
}
