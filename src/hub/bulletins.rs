//! Bulletins: lists that the hub tells to all readers of a stream, because something has changed there. Some clients know no
//! events about single users. They are told the whole list again.
//!
//! A bulletin is one frame for each worker, in the broadcast log of the stream. Its place is that of the view which it shows. So
//! it stands between the events before and after it. A socket that has just been shown the same list does not get it.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout_at;

use super::audience::index;
use super::hub::State;
use super::streams::StreamKey;
use super::{Attachment, Hub};
use crate::domain::{RoomId, RosterPage};
use crate::metrics::{BulletinScope, Sent};
use crate::replica::{Replica, ViewGuard};
use crate::settings::SocketioSettings;
use crate::wire::Format;
use crate::wire::message::{Message, Standing};

/// A list is told at once when it changes, and then once in this time at most. Each list has its own pace. Source: the
/// contract's S0 and S2 have no number; one a second is what `online_count` has, too.
const BULLETIN_INTERVAL: Duration = Duration::from_secs(1);

/// So many bulletins are told before other tasks of the thread get their turn. Each takes up to 1 ms.
const BULLETINS_AT_ONCE: usize = 4;

/// A list that would take more than this part of all logs is left out, for it would push out what others have not read.
const LARGEST_PART_OF_LOGS: usize = 8;

/// The format whose clients are told who is online.
const OF_SERVICE: Format = Format::Socketio;

/// The format whose clients are told who is in a room.
const OF_ROOMS: Format = Format::SocketioRoom;

/// The lists that are to be told. There is nothing here of a list that does not change.
#[derive(Default)]
pub(super) struct Bulletins {
    /// The streams whose list may be told now.
    due: HashMap<StreamKey, Due>,
    /// The streams whose list was told a moment ago.
    resting: HashMap<StreamKey, Rest>,
    /// When each rest ends, in this order. The stream may be gone.
    ends: VecDeque<(Instant, StreamKey)>,
}

/// A list that has changed.
struct Due {
    /// The last change of the list.
    changed_at: u64,
    /// The sockets that were shown the list meanwhile, each with the change up to which the list was whole.
    shown: HashMap<u32, u64>,
}

/// A list that was told a moment ago, or was found too long.
struct Rest {
    until: Instant,
    /// What has changed since.
    due: Option<Due>,
}

impl Hub {
    /// Tells the lists that have changed.
    pub(crate) async fn tell_bulletins(self: Rc<Self>, replica: Arc<Replica>, settings: SocketioSettings) {
        loop {
            let wake_at = self.state.borrow().bulletins.next_end();
            match wake_at {
                Some(wake_at) => _ = timeout_at(wake_at.into(), self.bulletin_due.notified()).await,
                None => self.bulletin_due.notified().await,
            }
            self.tell_due_bulletins(&replica, &settings).await;
        }
    }

    /// Tells each list that has changed and has rested.
    async fn tell_due_bulletins(self: &Rc<Self>, replica: &Replica, settings: &SocketioSettings) {
        let due = self.state.borrow_mut().bulletins.due_at(Instant::now());
        let (mut is_service_told, mut is_room_told) = (false, false);
        for (index, stream) in due.into_iter().enumerate() {
            let is_told = self.tell_bulletin(stream, replica, settings);
            *(if stream == StreamKey::SERVICE { &mut is_service_told } else { &mut is_room_told }) |= is_told;
            if index % BULLETINS_AT_ONCE == BULLETINS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        // What was taken in besides is written by the hub's own task.
        let mut sent = Sent::default();
        if is_service_told {
            self.flush_audience(&mut sent).await;
        }
        if is_room_told {
            self.flush_rooms(&mut sent).await;
        }
        self.metrics.sent(sent);
    }

    /// Appends the list to its log. While the view is held, nothing is announced. So after the mailbox was emptied, the log has
    /// exactly what the view shows. Returns whether there was a list to tell.
    fn tell_bulletin(self: &Rc<Self>, stream: StreamKey, replica: &Replica, settings: &SocketioSettings) -> bool {
        let view = replica.view();
        self.take_in();
        let state = &mut *self.state.borrow_mut();
        let Some(knowing) = state.bulletins.take(stream) else { return false };
        let (format, scope) = match stream {
            StreamKey::SERVICE => (OF_SERVICE, BulletinScope::Service),
            _ => (OF_ROOMS, BulletinScope::Room),
        };
        if state.streams.n_readers(stream, format) == knowing.len() {
            return false;
        }
        let standing = Standing { position: view.position(), degraded: replica.degraded_since(&view) };
        let max_bytes = state.streams.capacity_bytes() / LARGEST_PART_OF_LOGS;
        let frame = match state.streams.rooms.get(stream) {
            _ if stream == StreamKey::SERVICE => list(&view, standing, settings.list_below),
            Some(room) => {
                let whole = room_list(&view, room.room(), standing, settings.room_list_below);
                whole.filter(|frame| frame.len() <= max_bytes).or_else(|| room_list(&view, room.room(), standing, 0))
            }
            None => None,
        };
        let Some(frame) = frame else { return false };
        // A list that is left out has taken its time, too.
        state.bulletins.rest(stream, Instant::now());
        if frame.len() > max_bytes {
            return false;
        }
        let Some((begin, end)) = state.streams.append_bulletin(stream, format, view.sequence(), &frame) else {
            return false;
        };
        for key in knowing {
            if let Some(listener) = state.listeners.get_mut(key as usize) {
                listener.pass_over(stream, begin, end);
            }
        }
        self.metrics.bulletin(scope);
        true
    }
}

impl Attachment {
    /// The socket hears of everyone, and was shown the whole list at `sequence`. The caller has read the view without an await
    /// since.
    pub(crate) fn shown_list(&self, sequence: u64) {
        let state = &mut *self.hub.state.borrow_mut();
        if state.listeners[self.key].hears_everyone() {
            state.shown_list(StreamKey::SERVICE, self.key, sequence);
        }
    }
}

/// Everyone who is online, if they are fewer than `below`.
fn list(view: &ViewGuard<'_>, standing: Standing, below: usize) -> Option<Bytes> {
    let total = view.roster().len();
    if total >= below {
        return None;
    }
    let page = view.roster().page(None, total, None);
    OF_SERVICE.encode(&Message::List { page: &page, total, standing }, None)
}

/// How many are in a room, and who, if they are no more than `up_to`. If the node does not know who is there yet, there is
/// nothing to tell.
fn room_list(view: &ViewGuard<'_>, room: &RoomId, standing: Standing, up_to: usize) -> Option<Bytes> {
    let known = view.rooms().get(room).filter(|known| known.is_known())?;
    let total = known.len();
    let page: Option<RosterPage<'_>> = (total <= up_to).then(|| known.page(view.roster(), None, total));
    OF_ROOMS.encode(&Message::RoomJoined { room, page: page.as_ref(), total: Some(total), standing }, None)
}

impl State {
    /// The list of the stream has changed, by the change number `sequence`. If somebody here is told it, it is due.
    pub(super) fn note_bulletin(&mut self, stream: StreamKey, sequence: u64) {
        if self.streams.n_readers(stream, format_of(stream)) > 0 {
            self.bulletins.note(stream, sequence);
        }
    }

    /// A socket is shown the whole list of the stream, as it is after the change number `sequence`, and reads the stream.
    pub(super) fn shown_list(&mut self, stream: StreamKey, key: usize, sequence: u64) {
        if self.listeners[key].format() == format_of(stream) {
            self.bulletins.shown(stream, index(key), sequence);
        }
    }
}

/// The format whose clients are told the list of the stream.
fn format_of(stream: StreamKey) -> Format {
    if stream == StreamKey::SERVICE { OF_SERVICE } else { OF_ROOMS }
}

impl Bulletins {
    /// Whether a list may be told now.
    pub(super) fn are_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When the next list has rested.
    fn next_end(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// The streams whose list may be told at `now`.
    fn due_at(&mut self, now: Instant) -> Vec<StreamKey> {
        while let Some((end, stream)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            // A stream that is gone may have left its key to another one, which rests for longer.
            if self.resting.get(&stream).is_some_and(|rest| rest.until == end)
                && let Some(Rest { due: Some(due), .. }) = self.resting.remove(&stream)
            {
                self.due.insert(stream, due);
            }
        }
        self.due.keys().copied().collect()
    }

    /// The list is about to be told. Returns the sockets that know it as it is. It is none if the list has been told.
    fn take(&mut self, stream: StreamKey) -> Option<Vec<u32>> {
        let Due { changed_at, shown } = self.due.remove(&stream)?;
        Some(shown.into_iter().filter(|(_, at)| *at >= changed_at).map(|(key, _)| key).collect())
    }

    /// The list was told at `now`, or was found too long.
    fn rest(&mut self, stream: StreamKey, now: Instant) {
        let until = now + BULLETIN_INTERVAL;
        self.resting.insert(stream, Rest { until, due: None });
        self.ends.push_back((until, stream));
    }

    fn note(&mut self, stream: StreamKey, changed_at: u64) {
        let fresh = || Due { changed_at, shown: HashMap::new() };
        let due = match self.resting.get_mut(&stream) {
            Some(rest) => rest.due.get_or_insert_with(fresh),
            None => self.due.entry(stream).or_insert_with(fresh),
        };
        due.changed_at = changed_at;
    }

    fn due_mut(&mut self, stream: StreamKey) -> Option<&mut Due> {
        match self.resting.get_mut(&stream) {
            Some(rest) => rest.due.as_mut(),
            None => self.due.get_mut(&stream),
        }
    }

    fn shown(&mut self, stream: StreamKey, key: u32, sequence: u64) {
        if let Some(due) = self.due_mut(stream) {
            due.shown.insert(key, sequence);
        }
    }

    /// The socket does not read the stream any more.
    pub(super) fn forget_reader(&mut self, stream: StreamKey, key: u32) {
        if let Some(due) = self.due_mut(stream) {
            due.shown.remove(&key);
        }
    }

    /// Nobody is in the stream any more. Another one may get its key.
    pub(super) fn forget(&mut self, stream: StreamKey) {
        self.resting.remove(&stream);
        self.due.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(slot: usize) -> StreamKey {
        StreamKey::of_slot(slot)
    }

    fn knowing(bulletins: &mut Bulletins, stream: StreamKey) -> Option<Vec<u32>> {
        bulletins.take(stream).map(|mut keys| {
            keys.sort_unstable();
            keys
        })
    }

    #[test]
    fn each_list_rests_for_itself() {
        let (mut bulletins, now) = (Bulletins::default(), Instant::now());
        for (stream, later_ms) in [(StreamKey::SERVICE, 0), (room(1), 300)] {
            let at = now + Duration::from_millis(later_ms);
            bulletins.note(stream, 1);
            assert!(bulletins.are_due());
            assert_eq!(bulletins.due_at(at), [stream], "the first change is told at once");
            assert!(bulletins.take(stream).is_some());
            bulletins.rest(stream, at);
            bulletins.note(stream, 2);
            assert!(!bulletins.are_due());
        }
        assert_eq!(bulletins.next_end(), Some(now + BULLETIN_INTERVAL));
        assert_eq!(bulletins.due_at(now + BULLETIN_INTERVAL), [StreamKey::SERVICE]);
        assert!(bulletins.take(StreamKey::SERVICE).is_some());
        assert_eq!(bulletins.due_at(now + 2 * BULLETIN_INTERVAL), [room(1)]);
        assert!(bulletins.take(room(1)).is_some() && bulletins.take(room(1)).is_none());
        assert!(
            bulletins.resting.is_empty() && bulletins.ends.is_empty(),
            "nothing is left of lists that rest no more"
        );
    }

    #[test]
    fn who_was_shown_the_list_after_its_last_change_knows_it() {
        let mut bulletins = Bulletins::default();
        bulletins.shown(room(1), 7, 1);
        bulletins.note(room(1), 3);
        for (key, sequence) in [(7, 2), (8, 3), (9, 4), (10, 4)] {
            bulletins.shown(room(1), key, sequence);
        }
        bulletins.forget_reader(room(1), 10);
        assert_eq!(knowing(&mut bulletins, room(1)), Some(vec![8, 9]));
        assert_eq!(knowing(&mut bulletins, room(1)), None);
        // Another change makes what they know old, also while the list rests.
        bulletins.rest(room(1), Instant::now());
        bulletins.note(room(1), 5);
        bulletins.shown(room(1), 8, 5);
        bulletins.note(room(1), 6);
        bulletins.shown(room(1), 9, 6);
        bulletins.due_at(Instant::now() + BULLETIN_INTERVAL);
        assert_eq!(knowing(&mut bulletins, room(1)), Some(vec![9]));
    }

    #[test]
    fn a_stream_that_is_gone_takes_its_pace_along() {
        let (mut bulletins, now) = (Bulletins::default(), Instant::now());
        bulletins.rest(room(1), now);
        bulletins.note(room(1), 1);
        bulletins.forget(room(1));
        assert!(bulletins.due_at(now).is_empty());
        // Another room has the key now. The end of the former rest is not that of its own.
        let later = now + Duration::from_millis(500);
        bulletins.note(room(1), 2);
        assert_eq!(bulletins.due_at(later), [room(1)]);
        bulletins.take(room(1));
        bulletins.rest(room(1), later);
        bulletins.note(room(1), 3);
        assert!(bulletins.due_at(now + BULLETIN_INTERVAL).is_empty());
        assert_eq!(bulletins.due_at(later + BULLETIN_INTERVAL), [room(1)]);
    }
}
