//! A session's hold on its socket's place in the hub.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;

use super::Hub;
use super::audience::index;
use super::hub::{Paused, State};
use super::listener::{Attention, Fault};
use super::rooms::ShownRoom;
use super::streams::StreamKey;
use super::watch::Mark;
use crate::domain::{Interest, UserId};
use crate::wire::Format;

/// A socket's place in its hub. Dropping it gives the place up.
pub struct Attachment {
    pub(super) hub: Rc<Hub>,
    pub(super) key: usize,
}

/// What a socket missed while it was paused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// These users changed. Each comes with whether the client knows the user as online.
    Changes(Vec<(UserId, bool)>),
    /// Too much, or it is not known: the client must start over.
    Unknown,
}

impl Attachment {
    /// Sends a frame to this socket alone. The frame comes after all events that the socket can have heard until now.
    pub(crate) fn send(&self, frame: Bytes) {
        self.hub.flush(self.key, |listener, log| listener.send(log.end(), frame));
    }

    /// Sends frames that show the view at `sequence`. The frames come after all events up to `sequence`, and before all
    /// events above it. No event comes between the frames. The caller has read the view without an await since.
    pub fn send_at(&self, sequence: u64, frames: impl IntoIterator<Item = Bytes>) {
        // All frames are queued before anything is written. Otherwise events would come in between.
        self.queue_at(sequence, frames);
        self.hub.flush(self.key, |_, _| ());
    }

    fn queue_at(&self, sequence: u64, frames: impl IntoIterator<Item = Bytes>) {
        self.hub.take_in();
        self.hub.with(self.key, |listener, log| {
            let position = log.position_after(sequence).unwrap_or(log.start());
            for frame in frames {
                listener.show(Some((StreamKey::SERVICE, position)), sequence, frame);
            }
        });
    }

    /// From now on this is a socket of `user`, or of nobody. It hears the events above `sequence` that interest it, except
    /// those about `user`. If it was paused, it goes on, but hears of no room before [`Attachment::hear_room`] says so. The
    /// users that it watches stay if its interest is [`Interest::Watched`]. Its rooms stay if it was a socket of `user` before.
    ///
    /// The view must have been at `sequence` when the caller read it. Events up to `sequence` are then in the mailbox
    /// or in the log. If later events were skipped meanwhile, the socket starts over.
    pub fn listen(&self, user: Option<&UserId>, interest: Interest, sequence: u64) {
        self.resume();
        {
            let state = &mut *self.hub.state.borrow_mut();
            // This comes before the hub takes in events, below. The socket must not hear events about its own user.
            state.set_user(self.key, user);
            if interest != Interest::Watched {
                state.unwatch_all(self.key);
            }
        }
        match interest {
            Interest::Everyone => self.hear_everyone(sequence),
            Interest::Watched | Interest::Count | Interest::Nobody => self.hear_nobody_after(sequence),
        }
    }

    /// The socket is about to be one of `user`. Until it listens as such, it hears nothing about that user. If it was one of
    /// another user, it leaves all rooms.
    pub(crate) fn begin_as(&self, user: &UserId) {
        let state = &mut *self.hub.state.borrow_mut();
        state.set_user(self.key, Some(user));
        state.listeners[self.key].begin_after(u64::MAX);
    }

    /// Hears of everyone after `sequence`.
    fn hear_everyone(&self, sequence: u64) {
        {
            let state = &mut *self.hub.state.borrow_mut();
            state.join_audience(self.key);
            state.listeners[self.key].begin_after(sequence);
        }
        self.hub.take_in();
        let state = &mut *self.hub.state.borrow_mut();
        let listener = &mut state.listeners[self.key];
        let log = state.streams.service(listener.format());
        match log.position_after(sequence) {
            Some(position) => listener.listen(position),
            None => {
                listener.listen(log.end());
                listener.fall_off_unawares();
                listener.begin_resync();
            }
        }
    }

    /// Hears of nobody in particular. What concerns the own user is told after `sequence`.
    fn hear_nobody_after(&self, sequence: u64) {
        {
            let state = &mut *self.hub.state.borrow_mut();
            state.leave_audience(self.key);
            state.listeners[self.key].begin_after(sequence);
        }
        self.hub.take_in();
    }

    /// From now on the socket hears of these users, and of nobody else. It was shown each of them at `sequence`.
    pub(crate) fn watch(&self, users: impl IntoIterator<Item = (UserId, Mark)>, sequence: u64) {
        {
            let state = &mut *self.hub.state.borrow_mut();
            state.stop_hearing_everyone(self.key);
            for (user, mark) in users {
                state.watch(self.key, user, mark, sequence);
            }
        }
        self.hub.take_in();
    }

    /// The socket does not hear of these users any more.
    pub(crate) fn unwatch(&self, users: &[UserId]) {
        let state = &mut *self.hub.state.borrow_mut();
        users.iter().for_each(|user| state.unwatch(self.key, user));
    }

    /// Number of users that all sockets of the process watch together. A user counts once for each socket.
    pub(crate) fn n_watches_of_all(&self) -> usize {
        self.hub.metrics.n_watches()
    }

    /// Number of users that the socket watches, and of those in `users` that it does not watch.
    pub(crate) fn n_watched_and_new(&self, users: &[UserId]) -> (usize, usize) {
        let state = self.hub.state.borrow();
        let watches = state.listeners[self.key].watches();
        let is_new = |user: &&UserId| watches.is_none_or(|watches| !watches.contains(user));
        (watches.map_or(0, |watches| watches.len()), users.iter().filter(is_new).count())
    }

    /// Shows up to `max` of the users whose state the client is owed, as the view has them at `sequence`. `show` gets a
    /// user with the mark of what the client was told last, and returns the present mark. The caller sends what has to be
    /// told, with [`Attachment::send_at`].
    pub(crate) fn settle_watches(&self, sequence: u64, max: usize, show: impl FnMut(&UserId, Mark) -> Mark) {
        self.hub.with(self.key, |listener, _| listener.settle_watches(sequence, max, show));
    }

    /// From now on the socket hears how many users are online. It is shown `n_online` at `sequence`.
    pub(crate) fn count(&self, n_online: usize, sequence: u64) {
        {
            let state = &mut *self.hub.state.borrow_mut();
            if state.counting.put(self.key, n_online, sequence, self.hub.time()) {
                state.counts_due.insert(StreamKey::SERVICE);
            }
        }
        self.hub.take_in();
    }

    /// The socket is shown `n_online`. If it hears how many users are online, it knows that number then.
    pub(crate) fn show_count(&self, n_online: usize) {
        let state = &mut *self.hub.state.borrow_mut();
        if state.counting.show(self.key, n_online, self.hub.time()) {
            state.counts_due.insert(StreamKey::SERVICE);
            self.hub.count_changed.notify_one();
        }
    }

    /// The socket does not hear any more how many users are online.
    pub(crate) fn uncount(&self) {
        self.hub.state.borrow_mut().counting.remove(self.key);
    }

    /// From now on the socket hears nothing, until [`Attachment::resume`]. It stays in its rooms.
    pub(crate) fn pause(&self) {
        self.hub.take_in();
        // What it can have heard until now, it hears.
        self.hub.flush(self.key, |_, _| ());
        self.hub.state.borrow_mut().pause(self.key);
    }

    /// The socket may hear again. The caller makes it listen, or shows it what it missed. The same holds for each room.
    pub(crate) fn resume(&self) {
        let state = &mut *self.hub.state.borrow_mut();
        if state.paused.remove(&self.key).is_some() {
            state.listeners[self.key].set_paused(false);
            if state.paused.is_empty() {
                state.changes.forget_up_to(state.taken_in);
            }
            if state.counting.contains(self.key) {
                state.counts_due.insert(StreamKey::SERVICE);
                self.hub.count_changed.notify_one();
            }
        }
    }

    /// Whether the socket is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.hub.with(self.key, |listener, _| listener.is_paused())
    }

    /// What a paused socket has missed up to `sequence`, at which the caller has just read the view. More than `max` users
    /// are too many for a socket that hears everyone. `seen` gets each watched user, and returns the present mark.
    pub(crate) fn missed(&self, sequence: u64, max: usize, seen: impl Fn(&UserId) -> Mark) -> Missed {
        self.hub.take_in();
        let state = self.hub.state.borrow();
        match state.paused.get(&self.key) {
            Some(Paused { hole: Some(_), .. }) => Missed::Unknown,
            Some(paused) if paused.hears_everyone => {
                let changes = state.changes.between(paused.at, sequence, max);
                changes.map_or(Missed::Unknown, Missed::Changes)
            }
            Some(_) | None => {
                let watches = state.listeners[self.key].watches();
                Missed::Changes(watches.map_or(Vec::new(), |watches| watches.changed(seen)))
            }
        }
    }

    /// A paused socket goes on, and starts over. If its client had read too slowly before it paused, this counts as if it
    /// had not paused.
    pub(crate) fn resume_with_hole(&self) {
        let (fault, hears_everyone) = {
            let state = self.hub.state.borrow();
            let paused = state.paused.get(&self.key);
            let fault = paused.and_then(|paused| paused.hole).unwrap_or(Fault::Node);
            (fault, paused.is_some_and(|paused| paused.hears_everyone))
        };
        self.resume();
        let state = &mut *self.hub.state.borrow_mut();
        if hears_everyone {
            state.join_audience(self.key);
        }
        state.listeners[self.key].fall_off_by(fault);
    }

    /// From now on the socket speaks another format. It hears of nobody until it listens again, and it must be in no room.
    pub(crate) fn speak(&self, format: Format) {
        let state = &mut *self.hub.state.borrow_mut();
        state.leave_audience(self.key);
        let listener = &mut state.listeners[self.key];
        debug_assert!(listener.places().is_empty(), "the places of its frames would be those of other logs");
        listener.release_frames_of(StreamKey::SERVICE);
        // Until the socket listens, no event has to be there in its format.
        self.hub.speakers.add(format);
        self.hub.speakers.remove(listener.format());
        self.hub.metrics.format_chosen(listener.format().name(), format.name());
        listener.set_format(format);
    }

    /// The number that this socket has on its node.
    pub(crate) fn set_number(&self, number: u64) {
        self.hub.with(self.key, |listener, _| listener.set_number(number));
    }

    /// The client sent a frame at `now`.
    pub(crate) fn heard(&self, now: Instant) {
        let hub_time = self.hub.time_at(now);
        self.hub.with(self.key, |listener, _| listener.heard(hub_time));
    }

    /// The server closes this socket: the session gets [`Attention::Disconnect`].
    pub(crate) fn dismiss(&self) {
        self.hub.with(self.key, |listener, _| listener.dismiss());
    }

    /// Waits until the server closes this socket, whatever else asks for attention.
    ///
    /// # Cancel safety
    /// Nothing is consumed.
    pub(crate) async fn dismissed(&self) {
        poll_fn(|context| {
            let is_dismissed = self.hub.with(self.key, |listener, _| listener.is_dismissed(context.waker()));
            if is_dismissed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// From now on this socket hears nothing, is in no room, and is nobody's.
    pub(crate) fn mute(&self) {
        self.resume();
        self.hub.state.borrow_mut().mute(self.key);
    }

    /// Tells the socket that it missed events, and starts it over as a whole. The socket gets `frames` instead of the events,
    /// and then the frames of `rooms`, all before any later event. They show the views at `sequence`, at which the caller has
    /// just read them. From there on the socket hears of everyone if its `interest` says so, and of `rooms`. It is in no other
    /// room.
    pub(crate) fn restart(
        &self,
        interest: Interest,
        sequence: u64,
        frames: impl IntoIterator<Item = Bytes>,
        rooms: Vec<ShownRoom>,
    ) {
        self.hub.metrics.resync();
        self.resume();
        {
            let state = &mut *self.hub.state.borrow_mut();
            state.leave_rooms_except(self.key, &rooms);
            state.listeners[self.key].heal();
        }
        match interest {
            Interest::Everyone => self.hear_everyone(sequence),
            Interest::Watched | Interest::Count | Interest::Nobody => self.hear_nobody_after(sequence),
        }
        // All frames are queued before anything is written. Otherwise events would come in between.
        self.queue_at(sequence, frames);
        self.queue_rooms(sequence, rooms);
        self.hub.flush(self.key, |_, _| ());
    }

    /// Whether the client does not read its answers. Then its requests should wait.
    pub(crate) fn is_congested(&self) -> bool {
        self.hub.with(self.key, |listener, _| listener.is_congested())
    }

    /// Whether everything that was sent to this socket alone has been written, or can never be written.
    pub(crate) fn is_drained(&self) -> bool {
        self.hub.with(self.key, |listener, _| listener.is_drained())
    }

    /// The socket can be written to again: the hub goes on writing.
    pub(crate) fn unblock(&self) {
        self.hub.flush(self.key, |listener, _| listener.unblock());
        self.hub.state.borrow_mut().forget_what_was_read_by(self.key);
    }

    /// Waits until the session has something to do for its socket.
    ///
    /// # Cancel safety
    /// Nothing is consumed. The state that asks for attention lasts until the session has dealt with it.
    pub(crate) fn attention(&self) -> impl Future<Output = Attention> {
        poll_fn(|context| {
            let state = &mut *self.hub.state.borrow_mut();
            if state.drains {
                return Poll::Ready(Attention::Drain);
            }
            match state.listeners[self.key].attention(self.hub.resync_interval, context.waker()) {
                Some(attention) => Poll::Ready(attention),
                None => Poll::Pending,
            }
        })
    }
}

/// What a socket wants to hear.
impl State {
    /// The socket hears of everyone. Until its position is known, it reads nothing.
    fn join_audience(&mut self, key: usize) {
        let Self { streams, listeners, audience, .. } = self;
        if !listeners[key].hears_everyone() {
            streams.add_reader(listeners[key].format());
            audience.add(key, listeners);
            let end = streams.service(listeners[key].format()).end();
            listeners[key].listen(end);
        }
    }

    fn leave_audience(&mut self, key: usize) {
        if self.listeners[key].hears_everyone() {
            self.audience.remove(key, &mut self.listeners);
            self.streams.remove_reader(self.listeners[key].format());
            self.bulletins.forget_reader(StreamKey::SERVICE, index(key));
        }
        self.listeners[key].mute();
    }

    /// The socket does not hear of everyone any more, also not when it goes on after a pause.
    fn stop_hearing_everyone(&mut self, key: usize) {
        self.leave_audience(key);
        let is_in_rooms = !self.listeners[key].places().is_empty();
        if let Some(paused) = self.paused.get_mut(&key) {
            paused.hears_everyone = false;
            paused.hole = paused.hole.filter(|_| is_in_rooms);
        }
    }

    fn watch(&mut self, key: usize, user: UserId, mark: Mark, sequence: u64) {
        let watches = self.listeners[key].watches_mut();
        let is_new = !watches.contains(&user);
        let user = if is_new { self.watchers.add(user, index(key)) } else { user };
        watches.put(user, mark, sequence);
    }

    fn unwatch(&mut self, key: usize, user: &UserId) {
        if self.listeners[key].unwatch(user) {
            self.watchers.remove(user, index(key));
        }
    }

    fn unwatch_all(&mut self, key: usize) {
        for user in self.listeners[key].take_watches().iter().flat_map(|watches| watches.users()) {
            self.watchers.remove(user, index(key));
        }
    }

    fn pause(&mut self, key: usize) {
        let listener = &mut self.listeners[key];
        if listener.is_paused() {
            return;
        }
        let (at, hears_everyone) = (self.taken_in, listener.hears_everyone());
        let hole = listener.hole(&self.streams).filter(|_| hears_everyone || listener.hears_rooms());
        let paused = Paused { at, hears_everyone, hole };
        if self.paused.is_empty() {
            self.changes.forget_up_to(self.taken_in);
        }
        listener.set_paused(true);
        self.stop_reading_rooms(key);
        self.leave_audience(key);
        self.paused.insert(key, paused);
    }

    /// The socket hears nothing, is in no room, and is nobody's.
    fn mute(&mut self, key: usize) {
        self.leave_all_rooms(key);
        self.leave_audience(key);
        self.unwatch_all(key);
        self.counting.remove(key);
        self.set_user(key, None);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.mute();
        let format = self.hub.state.borrow_mut().listeners.remove(self.key).format();
        self.hub.speakers.remove(format);
        self.hub.metrics.socket_closed(format.name());
    }
}
