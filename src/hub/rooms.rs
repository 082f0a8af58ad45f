//! What a session, and the hub itself, do for the rooms of a socket.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::audience::index;
use super::hub::{FLUSH_CHUNK, State};
use super::listener::Place;
use super::mailbox::EncodedRoomEvent;
use super::streams::StreamKey;
use super::{Attachment, Hub};
use crate::domain::{Interest, RoomId};
use crate::metrics::Sent;
use crate::wire::Format;

/// A room as a socket is shown it.
pub struct ShownRoom {
    /// The room.
    pub room: RoomId,
    /// What the socket wants to hear of the room. [`Interest::Watched`] is not for rooms: it counts as nothing.
    pub interest: Interest,
    /// How many users the room shows.
    pub n_online: usize,
    /// Shows the room. It is none if the socket knows the room as it is, or if its format has no words for it.
    pub frame: Option<Bytes>,
    /// Whether the frame says all that a client is told who is told the room as a whole.
    pub is_whole: bool,
}

impl Attachment {
    /// From now on the socket is in a room, and hears of it what interests it. It is shown the room at `sequence`, at which the
    /// caller has just read the views, without an await since. Events up to `sequence` are not told, and the later ones come
    /// after the frame. If the socket is in the room already, this takes over. If later events were skipped meanwhile, the
    /// socket starts over.
    ///
    /// A paused socket hears nothing of the room before it goes on and this is called again.
    ///
    /// A socket that hears the number is told another one by the hub. It knows `n_online` if there is a frame, or if it did not
    /// hear the number before. Otherwise it knows what it was told last.
    pub fn hear_room(&self, shown: ShownRoom, sequence: u64) {
        self.queue_rooms(sequence, vec![shown]);
        self.hub.flush(self.key, |_, _| ());
    }

    /// The same for several rooms. All their frames come before any later event. Nothing is written yet.
    pub(super) fn queue_rooms(&self, sequence: u64, rooms: Vec<ShownRoom>) {
        for shown in &rooms {
            // This comes before the hub takes in events, below.
            self.hub.state.borrow_mut().enter_room(self.key, &shown.room, shown.interest);
        }
        self.hub.take_in();
        let state = &mut *self.hub.state.borrow_mut();
        for shown in rooms {
            state.show_room(self.key, shown, sequence, self.hub.time());
        }
        if !state.counts_due.is_empty() {
            self.hub.count_changed.notify_one();
        }
    }

    /// The socket is not in the room any more, and does not hear of it.
    pub(crate) fn leave_room(&self, room: &RoomId) {
        self.hub.state.borrow_mut().leave_room(self.key, room);
    }

    /// Sends a frame that shows a room at `sequence`. It comes after the events of the room up to there, and before the later
    /// ones. The caller has read the views without an await since. If the socket does not hear of everyone in the room, the
    /// frame waits for nothing.
    pub(crate) fn send_in_room(&self, room: &RoomId, sequence: u64, frame: Bytes) {
        self.hub.take_in();
        {
            let state = &mut *self.hub.state.borrow_mut();
            let listener = &mut state.listeners[self.key];
            let stream = state.streams.rooms.find(room);
            let read = stream.filter(|stream| listener.place_in(*stream).is_some_and(|place| place.reads));
            let place = read.map(|stream| {
                let log = state.streams.log(stream, listener.format());
                (stream, log.position_after(sequence).unwrap_or(log.start()))
            });
            listener.show(place, sequence, frame);
        }
        self.hub.flush(self.key, |_, _| ());
    }

    /// The socket is shown that a room has `n_online` users. If it hears the number, it knows that one then.
    pub(crate) fn show_room_count(&self, room: &RoomId, n_online: usize) {
        let state = &mut *self.hub.state.borrow_mut();
        let Some(stream) = state.streams.rooms.find(room) else { return };
        let time = self.hub.time();
        if state.counting_of(stream).is_some_and(|counting| counting.show(self.key, n_online, time)) {
            state.counts_due.insert(stream);
            self.hub.count_changed.notify_one();
        }
    }

    /// The rooms in which the socket is, each with what the socket wants to hear of it. A paused socket has them, too.
    pub(crate) fn rooms(&self) -> Vec<(RoomId, Interest)> {
        let state = self.hub.state.borrow();
        let rooms = &state.streams.rooms;
        let places = state.listeners[self.key].places().iter();
        places.filter_map(|place| Some((rooms.get(place.stream)?.room().clone(), place.interest))).collect()
    }

    /// While the socket is paused: the last change of the views that it could hear.
    pub(crate) fn paused_at(&self) -> Option<u64> {
        self.hub.state.borrow().paused.get(&self.key).map(|paused| paused.at)
    }

    /// The rooms that the server made the user leave since the last call ([`super::Attention::Removed`]). The socket is not in
    /// them any more.
    pub(crate) fn take_removed(&self) -> Vec<RoomId> {
        self.hub.with(self.key, |listener, _| listener.take_removed())
    }
}

impl Hub {
    /// Writes to the readers of each room that has news. Returns the time that this took.
    pub(super) async fn flush_rooms(&self, sent: &mut Sent) -> Duration {
        let mut cost = Duration::ZERO;
        let mut dirty = self.state.borrow_mut().streams.rooms.take_dirty();
        let mut left = usize::MAX;
        while !dirty.is_empty() {
            let started = Instant::now();
            left = self.state.borrow_mut().flush_some_rooms(&mut dirty, left, sent);
            cost += started.elapsed();
            if !dirty.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        cost
    }
}

impl State {
    /// Takes in an event of a room: appends it to the logs of the room, if somebody here reads them.
    pub(super) fn take_in_room(&mut self, event: &EncodedRoomEvent) {
        self.taken_in = event.sequence;
        self.counts_due.extend(self.streams.append_to_room(event));
        if let Some(stream) = self.streams.rooms.find(&event.room) {
            self.note_bulletin(stream, event.sequence);
        }
    }

    /// Writes to some sockets what they have not seen of the last rooms in `dirty`. Of the very last one, the readers before the
    /// place `left` are left. Returns the new place, and takes out each room that is done.
    fn flush_some_rooms(&mut self, dirty: &mut Vec<StreamKey>, mut left: usize, sent: &mut Sent) -> usize {
        let mut n_left = FLUSH_CHUNK;
        while let Some(stream) = dirty.last().copied().filter(|_| n_left > 0) {
            let Self { streams, listeners, .. } = self;
            // The room may be gone.
            let (keys, first) =
                streams.rooms.get(stream).map_or((&[][..], 0), |room| room.readers_before(left, n_left));
            for key in keys {
                listeners[*key as usize].flush(streams, Some(stream), sent);
            }
            n_left = n_left.saturating_sub(keys.len().max(1));
            left = first;
            if left == 0 {
                self.forget_if_read(stream);
                dirty.pop();
                left = usize::MAX;
            }
        }
        left
    }

    /// Empties the logs of a room that no socket lags behind.
    fn forget_if_read(&mut self, stream: StreamKey) {
        for format in Format::ALL {
            let Some(room) = self.streams.rooms.get(stream) else { return };
            let log = self.streams.rooms.log(stream, format);
            let lags = |key: &u32| {
                let listener = &self.listeners[*key as usize];
                listener.format() == format && listener.is_behind(stream, log)
            };
            if log.len_bytes() > 0 && !room.readers().iter().any(lags) {
                self.streams.rooms.forget(stream, format);
            }
        }
    }

    /// Empties the logs that only this socket may have lagged behind.
    pub(super) fn forget_what_was_read_by(&mut self, key: usize) {
        for n in 0..self.listeners[key].places().len() {
            self.forget_if_only_read(self.listeners[key].places()[n].stream);
        }
    }

    /// Empties the logs of a room that no socket lags behind, unless a flush will look.
    fn forget_if_only_read(&mut self, stream: StreamKey) {
        if self.streams.rooms.get(stream).is_some_and(|room| room.has_frames() && !room.is_dirty()) {
            self.forget_if_read(stream);
        }
    }

    /// The socket is in the room from now on. It hears of the room what interests it, except that it reads nothing before its
    /// position is known.
    fn enter_room(&mut self, key: usize, room: &RoomId, interest: Interest) {
        let known = self.streams.rooms.find(room).filter(|stream| self.listeners[key].place_in(*stream).is_some());
        let stream = known.unwrap_or_else(|| {
            let stream = self.streams.rooms.enter(room);
            self.listeners[key].add_place(Place::new(stream));
            stream
        });
        if interest == Interest::Everyone && !self.listeners[key].is_paused() {
            self.read_room(key, stream);
        } else {
            self.stop_reading_room(key, stream);
        }
        if interest != Interest::Count
            && let Some(room) = self.streams.rooms.get_mut(stream)
        {
            room.uncount(key);
        }
        if let Some(place) = self.listeners[key].place_in_mut(stream) {
            place.interest = if interest == Interest::Watched { Interest::Nobody } else { interest };
        }
    }

    fn read_room(&mut self, key: usize, stream: StreamKey) {
        let listener = &mut self.listeners[key];
        let format = listener.format();
        let Some(place) = listener.place_in_mut(stream).filter(|place| !place.reads) else { return };
        place.index = self.streams.add_room_reader(stream, index(key), format);
        (place.reads, place.position) = (true, self.streams.log(stream, format).end());
    }

    fn stop_reading_room(&mut self, key: usize, stream: StreamKey) {
        let listener = &mut self.listeners[key];
        let format = listener.format();
        let Some(place) = listener.place_in_mut(stream).filter(|place| place.reads) else { return };
        let freed = place.index;
        place.reads = false;
        listener.release_frames_of(stream);
        self.bulletins.forget_reader(stream, index(key));
        if let Some(moved) = self.streams.rooms.remove_reader(stream, freed, format)
            && let Some(place) = self.listeners[moved as usize].place_in_mut(stream)
        {
            place.index = freed;
        }
        self.forget_if_only_read(stream);
    }

    /// The socket is shown a room in which it is, at the change number `sequence`, and hears what comes after that.
    fn show_room(&mut self, key: usize, shown: ShownRoom, sequence: u64, hub_time: Duration) {
        let ShownRoom { room, n_online, frame, is_whole, .. } = shown;
        let Some(stream) = self.streams.rooms.find(&room) else { return };
        let Some(place) = self.listeners[key].place_in(stream).copied() else { return };
        let position = if place.reads { self.read_room_after(key, stream, sequence) } else { None };
        if place.interest == Interest::Count {
            self.count_room(key, stream, (n_online, sequence), frame.is_some(), hub_time);
        }
        if let Some(frame) = frame {
            if is_whole && position.is_some() {
                self.shown_list(stream, key, sequence);
            }
            self.listeners[key].show(position.map(|position| (stream, position)), sequence, frame);
        }
    }

    /// The socket reads what comes after the change number `sequence`. Returns the position of that.
    fn read_room_after(&mut self, key: usize, stream: StreamKey, sequence: u64) -> Option<u64> {
        let listener = &mut self.listeners[key];
        let log = self.streams.log(stream, listener.format());
        let position = log.position_after(sequence);
        if let Some(place) = listener.place_in_mut(stream) {
            place.position = position.unwrap_or(log.end());
        }
        if position.is_none() {
            self.start_over(key);
        }
        position
    }

    /// The socket hears the number of users in the room. `seen` is the number, and the change at which it was read.
    fn count_room(
        &mut self,
        key: usize,
        stream: StreamKey,
        (n_online, sequence): (usize, u64),
        is_shown: bool,
        hub_time: Duration,
    ) {
        let rooms = &mut self.streams.rooms;
        let later: Vec<_> = match rooms.get(stream) {
            Some(room) => rooms.recent.of(room.room()).map(|event| (event.n_online, event.sequence)).collect(),
            None => return,
        };
        let is_known = sequence >= rooms.recent.since();
        let Some(room) = rooms.get_mut(stream) else { return };
        let counting = room.counting_or_new();
        let mut is_due = if is_shown || !counting.contains(key) {
            counting.put(key, n_online, sequence, hub_time)
        } else {
            counting.take(n_online, sequence);
            true
        };
        for (n_online, sequence) in later {
            is_due |= counting.take(n_online, sequence);
        }
        if is_due {
            self.counts_due.insert(stream);
        }
        if !is_known {
            self.start_over(key);
        }
    }

    /// The node skipped what the socket should hear.
    fn start_over(&mut self, key: usize) {
        self.listeners[key].fall_off_unawares();
        self.listeners[key].begin_resync();
    }

    /// The socket hears nothing of its rooms, and stays in them.
    pub(super) fn stop_reading_rooms(&mut self, key: usize) {
        for n in 0..self.listeners[key].places().len() {
            self.stop_reading_room(key, self.listeners[key].places()[n].stream);
        }
    }

    /// The socket is not in the room any more. Returns whether it was.
    fn leave_room(&mut self, key: usize, room: &RoomId) -> bool {
        let Some(stream) = self.streams.rooms.find(room) else { return false };
        if self.listeners[key].place_in(stream).is_none() {
            return false;
        }
        self.leave_stream(key, stream);
        true
    }

    fn leave_stream(&mut self, key: usize, stream: StreamKey) {
        self.stop_reading_room(key, stream);
        if let Some(room) = self.streams.rooms.get_mut(stream) {
            room.uncount(key);
        }
        self.listeners[key].remove_place(stream);
        if self.streams.rooms.leave(stream) {
            self.bulletins.forget(stream);
        }
    }

    /// The socket is in no room any more.
    pub(super) fn leave_all_rooms(&mut self, key: usize) {
        while let Some(place) = self.listeners[key].places().last() {
            self.leave_stream(key, place.stream);
        }
        self.listeners[key].take_removed();
    }

    /// The socket is in no other rooms than these any more.
    pub(super) fn leave_rooms_except(&mut self, key: usize, kept: &[ShownRoom]) {
        let streams: Vec<StreamKey> = self.listeners[key].places().iter().map(|place| place.stream).collect();
        for stream in streams {
            let is_kept = |room: &RoomId| kept.iter().any(|shown| shown.room == *room);
            if !self.streams.rooms.get(stream).is_some_and(|room| is_kept(room.room())) {
                self.leave_stream(key, stream);
            }
        }
    }

    /// The server makes the user of the socket leave the room. Returns whether the socket was in it.
    pub(super) fn remove_from_room(&mut self, key: usize, room: &RoomId) -> bool {
        let was_in = self.leave_room(key, room);
        if was_in {
            self.listeners[key].was_removed_from(room.clone());
        }
        was_in
    }
}
