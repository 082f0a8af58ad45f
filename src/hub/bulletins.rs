//! Bulletins: lists that the hub tells to all readers of a stream, because something has changed there. Some clients know no
//! events about single users. They are told the whole list again.
//!
//! A bulletin is one frame for each worker, in the broadcast log of the stream. Its place is that of the view which it shows. So
//! it stands between the events before and after it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Hub;
use super::hub::State;
use super::streams::StreamKey;
use crate::domain::{RoomId, RosterPage};
use crate::metrics::BulletinScope;
use crate::replica::{Replica, ViewGuard};
use crate::settings::SocketioSettings;
use crate::wire::Format;
use crate::wire::message::{Message, Standing};

/// A list is told at once when it changes, and then once in this time at most. Source: the contract's S0 and S2 have no number;
/// one a second is what `online_count` has, too.
const BULLETIN_INTERVAL: Duration = Duration::from_secs(1);

/// So many bulletins are told before other tasks of the thread get their turn. Each takes up to 1 ms.
const BULLETINS_AT_ONCE: usize = 4;

/// A list that would take more than this part of all logs is left out, for it would push out what others have not read.
const LARGEST_PART_OF_LOGS: usize = 8;

/// The format whose clients are told who is online.
const OF_SERVICE: Format = Format::Socketio;

/// The format whose clients are told who is in a room.
const OF_ROOMS: Format = Format::SocketioRoom;

impl Hub {
    /// Tells the lists that have changed.
    pub(crate) async fn tell_bulletins(self: Rc<Self>, replica: Arc<Replica>, settings: SocketioSettings) {
        loop {
            self.bulletin_due.notified().await;
            while self.tell_due_bulletins(&replica, &settings).await {
                tokio::time::sleep(BULLETIN_INTERVAL).await;
            }
        }
    }

    /// Tells each list that has changed. Returns whether there was one.
    async fn tell_due_bulletins(self: &Rc<Self>, replica: &Replica, settings: &SocketioSettings) -> bool {
        let due: Vec<_> = self.state.borrow_mut().bulletins_due.drain().collect();
        let mut is_some_told = false;
        for (index, stream) in due.iter().enumerate() {
            is_some_told |= self.tell_bulletin(*stream, replica, settings);
            if index % BULLETINS_AT_ONCE == BULLETINS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        // What was taken in besides is written by the hub's own task.
        if is_some_told {
            self.flush_all().await;
        }
        !due.is_empty()
    }

    /// Appends the list to its log. While the view is held, nothing is announced. So after the mailbox was emptied, the log has
    /// exactly what the view shows. Returns whether there was a list to tell.
    fn tell_bulletin(self: &Rc<Self>, stream: StreamKey, replica: &Replica, settings: &SocketioSettings) -> bool {
        let view = replica.view();
        self.take_in();
        let state = &mut *self.state.borrow_mut();
        state.bulletins_due.remove(&stream);
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
        let Some(frame) = frame.filter(|frame| frame.len() <= max_bytes) else { return false };
        let (format, scope) = match stream {
            StreamKey::SERVICE => (OF_SERVICE, BulletinScope::Service),
            _ => (OF_ROOMS, BulletinScope::Room),
        };
        state.streams.append_bulletin(stream, format, view.sequence(), &frame);
        self.metrics.bulletin(scope);
        true
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
    /// The list of the stream has changed. If somebody here is told it, it is due.
    pub(super) fn note_bulletin(&mut self, stream: StreamKey) {
        let format = if stream == StreamKey::SERVICE { OF_SERVICE } else { OF_ROOMS };
        if self.streams.is_read(stream, format) {
            self.bulletins_due.insert(stream);
        }
    }
}
