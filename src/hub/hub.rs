//! All sockets of one worker thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;

use super::Fanout;
use super::credit::Credit;
use super::fanout::Speakers;
use super::listener::{Attention, Listener, Outbound};
use super::log::BroadcastLog;
use super::mailbox::{Errand, Mail, Mailbox};
use super::streams::Streams;
use crate::domain::{Inquiry, UserId};
use crate::metrics::{HubMetrics, Sent};
use crate::settings::FanoutSettings;
use crate::wire::Format;

/// All sockets of one worker thread, and the logs that the sockets read. A hub never leaves its thread. It never awaits
/// while its state is borrowed.
pub struct Hub {
    state: RefCell<State>,
    mailbox: Arc<Mailbox>,
    speakers: Arc<Speakers>,
    metrics: HubMetrics,
    max_tick: Duration,
    resync_interval: Duration,
    /// When the hub began. Its listeners keep times since then.
    began: Instant,
}

struct State {
    streams: Streams,
    listeners: Slab<Listener>,
    by_user: HashMap<UserId, Vec<usize>>,
    /// After the node skipped events, listeners start over in turn. This is the first listener that still has to start
    /// over. It is none if no listener has to.
    next_to_resync: Option<usize>,
    drains: bool,
}

/// A socket's place in its hub. Dropping it gives the place up.
pub struct Attachment {
    hub: Rc<Hub>,
    key: usize,
}

/// How many sockets are served before other tasks of the thread get their turn. This many take about 1 ms.
const FLUSH_CHUNK: usize = 256;

/// After the node skipped events, this many sockets start over together. The pause comes before the next group. The hub
/// encodes a page for each of these sockets. Without the pauses, the other tasks of the thread would wait long.
const RESYNC_CHUNK: usize = 16;
const RESYNC_PAUSE: Duration = Duration::from_millis(5);

/// A log below this size is kept. Emptying it would not be worth a look through all sockets.
const WORTH_FORGETTING_BYTES: usize = 64 * 1024;

impl Hub {
    /// Starts the hub of the current worker thread.
    pub fn start(fanout: &Fanout, metrics: HubMetrics, settings: &FanoutSettings) -> Rc<Self> {
        let hub = Rc::new(Self {
            state: RefCell::new(State {
                streams: Streams::new(settings.log_bytes),
                listeners: Slab::new(),
                by_user: HashMap::new(),
                next_to_resync: None,
                drains: false,
            }),
            mailbox: fanout.register(),
            speakers: fanout.speakers(),
            metrics,
            max_tick: settings.max_tick,
            resync_interval: settings.resync_interval,
            began: Instant::now(),
        });
        actix_rt::spawn(hub.clone().run());
        hub
    }

    /// Gives a socket that speaks `format` a place. It hears no events yet.
    pub fn attach(self: &Rc<Self>, outbound: Rc<dyn Outbound>, format: Format) -> Attachment {
        self.speakers.add(format);
        let state = &mut *self.state.borrow_mut();
        state.streams.add_speaker(format);
        let mut listener = Listener::new(outbound, format);
        listener.heard(self.began.elapsed());
        let key = state.listeners.insert(listener);
        self.metrics.socket_opened();
        Attachment { hub: self.clone(), key }
    }

    /// Tells every session that the node drains. Sessions that come later are told as well. Each session is woken once.
    /// A session does not wait for the drain besides its socket, because it would have to register anew for every
    /// message.
    pub(crate) fn drain(&self) {
        let state = &mut *self.state.borrow_mut();
        state.drains = true;
        state.listeners.iter_mut().for_each(|(_, listener)| listener.wake());
    }

    async fn run(self: Rc<Self>) {
        let mut credit = Credit::new(self.max_tick);
        loop {
            let idle_since = Instant::now();
            self.mailbox.filled().await;
            credit.earn(idle_since.elapsed());
            if let Some(until) = credit.rest_until() {
                tokio::time::sleep_until(until.into()).await;
            }
            self.take_in();
            let cost = self.flush_all().await;
            self.forget_what_all_have_read();
            credit.spend(cost, Instant::now());
        }
    }

    /// Appends the events in the mailbox to the logs, and runs the errands.
    fn take_in(self: &Rc<Self>) {
        let Mail { skipped_to, events, errands, .. } = self.mailbox.take();
        let state = &mut *self.state.borrow_mut();
        if let Some(sequence) = skipped_to {
            state.streams.skip_to(sequence);
            state.listeners.iter_mut().for_each(|(_, listener)| listener.fall_off_unawares());
            if state.next_to_resync.replace(0).is_none() {
                actix_rt::spawn(self.clone().resync_all());
            }
        }
        for event in events {
            let places = state.streams.append(&event);
            // A listener does not hear what others are told about its own user. It has frames of its own.
            for key in state.by_user.get(&event.user).into_iter().flatten() {
                let listener = &mut state.listeners[*key];
                let (index, log) = (listener.format().index(), state.streams.log(listener.format()));
                if let Some((begin, end)) = places[index] {
                    listener.skip(begin, end, log.start());
                }
                if let Some(frame) = &event.own[index] {
                    listener.tell(log.end(), event.sequence, frame.clone());
                }
            }
        }
        errands.into_iter().for_each(|errand| state.run(errand, self.began.elapsed()));
    }

    /// Starts over every socket that missed events because the node skipped them. It takes a few sockets at a time.
    async fn resync_all(self: Rc<Self>) {
        while self.resync_some() {
            tokio::time::sleep(RESYNC_PAUSE).await;
        }
    }

    /// Starts over some sockets. Returns whether there may be more.
    fn resync_some(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        let Some(from) = state.next_to_resync else { return false };
        let end = state.listeners.capacity();
        let mut n_woken = 0;
        for key in from..end {
            if n_woken == RESYNC_CHUNK {
                state.next_to_resync = Some(key);
                return true;
            }
            n_woken += usize::from(state.listeners.get_mut(key).is_some_and(Listener::begin_resync));
        }
        state.next_to_resync = None;
        false
    }

    /// Writes to every socket what the socket has not seen. Returns the time that this took. The turns of other tasks
    /// do not count.
    async fn flush_all(&self) -> Duration {
        let (mut cost, mut from, mut sent) = (Duration::ZERO, 0, Sent::default());
        loop {
            let started = Instant::now();
            let end = {
                let state = &mut *self.state.borrow_mut();
                let end = state.listeners.capacity();
                for key in from..(from + FLUSH_CHUNK).min(end) {
                    if let Some(listener) = state.listeners.get_mut(key) {
                        listener.flush(state.streams.log(listener.format()), &mut sent);
                    }
                }
                end
            };
            cost += started.elapsed();
            from += FLUSH_CHUNK;
            if from >= end {
                self.metrics.sent(sent);
                return cost;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Empties each log that no socket lags behind. A log is only for sockets that lag. So a storm that is over leaves
    /// no memory behind.
    fn forget_what_all_have_read(&self) {
        let State { streams, listeners, .. } = &mut *self.state.borrow_mut();
        streams.forget_read(WORTH_FORGETTING_BYTES, |format, log| {
            !listeners.iter().any(|(_, listener)| listener.format() == format && listener.is_behind(log))
        });
    }

    /// Writes to one socket what waits for it.
    fn flush(&self, key: usize, prepare: impl FnOnce(&mut Listener, &BroadcastLog)) {
        let mut sent = Sent::default();
        self.with(key, |listener, log| {
            prepare(listener, log);
            listener.flush(log, &mut sent);
        });
        self.metrics.sent(sent);
    }

    fn with<T>(&self, key: usize, act: impl FnOnce(&mut Listener, &BroadcastLog) -> T) -> T {
        let state = &mut *self.state.borrow_mut();
        let listener = &mut state.listeners[key];
        let log = state.streams.log(listener.format());
        act(listener, log)
    }
}

impl State {
    fn register(&mut self, key: usize, user: &UserId) {
        // Most users have one socket here.
        self.by_user.entry(user.clone()).or_insert_with(|| Vec::with_capacity(1)).push(key);
    }

    /// Runs an errand at this time of the hub.
    fn run(&mut self, errand: Errand, hub_time: Duration) {
        let Errand { user, inquiry, reply } = errand;
        let mut accounts = Vec::new();
        for key in self.by_user.get(&user).into_iter().flatten() {
            let listener = &mut self.listeners[*key];
            accounts.push(listener.account(hub_time));
            match inquiry {
                Inquiry::Explain => {}
                Inquiry::Disconnect => listener.dismiss(),
            }
        }
        // Whoever asked may have given up.
        let _ = reply.send(accounts);
    }

    fn unregister(&mut self, key: usize, user: Option<UserId>) {
        let Some(user) = user else { return };
        if let Some(keys) = self.by_user.get_mut(&user) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }
}

impl Attachment {
    /// Sends a frame to this socket alone. The frame comes after all events that the socket can have heard until now.
    pub(crate) fn send(&self, frame: Bytes) {
        self.hub.flush(self.key, |listener, log| listener.send(log.end(), frame));
    }

    /// Sends frames that show the view at `sequence`. The frames come after all events up to `sequence`, and before all
    /// events above it. No event comes between the frames. The caller has read the view without an await since.
    pub fn send_at(&self, sequence: u64, frames: impl IntoIterator<Item = Bytes>) {
        self.hub.take_in();
        self.hub.flush(self.key, |listener, log| {
            // All frames are queued before anything is written. Otherwise events would come in between.
            let position = log.position_after(sequence).unwrap_or(log.start());
            for frame in frames {
                listener.show(position, sequence, frame);
            }
        });
    }

    /// From now on this is a socket of `user`. It hears the events above `sequence`, except those about `user`.
    ///
    /// The view must have been at `sequence` when the caller read it. Events up to `sequence` are then in the mailbox
    /// or in the log. If later events were skipped meanwhile, the socket starts over.
    pub fn listen(&self, user: &UserId, sequence: u64) {
        self.mute();
        // This comes before the hub takes in events, below. The socket must not hear events about its own user.
        self.hub.state.borrow_mut().register(self.key, user);
        self.begin_after(user, sequence);
    }

    fn begin_after(&self, user: &UserId, sequence: u64) {
        self.hub.state.borrow_mut().listeners[self.key].begin_after(sequence);
        self.hub.take_in();
        let state = &mut *self.hub.state.borrow_mut();
        let listener = &mut state.listeners[self.key];
        let log = state.streams.log(listener.format());
        match log.position_after(sequence) {
            Some(position) => listener.listen(user.clone(), position),
            None => {
                listener.listen(user.clone(), log.end());
                listener.fall_off_unawares();
                listener.begin_resync();
            }
        }
    }

    /// The number that this socket has on its node.
    pub(crate) fn set_number(&self, number: u64) {
        self.hub.with(self.key, |listener, _| listener.set_number(number));
    }

    /// The client sent a frame at `now`.
    pub(crate) fn heard(&self, now: Instant) {
        let hub_time = now.saturating_duration_since(self.hub.began);
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

    /// From now on this socket hears no events.
    pub(crate) fn mute(&self) {
        let state = &mut *self.hub.state.borrow_mut();
        let user = state.listeners[self.key].mute();
        state.unregister(self.key, user);
    }

    /// Tells the socket that it missed events, and starts it over. The socket gets `frames` instead of the events.
    /// `frames` show the view at `sequence`.
    pub(crate) fn restart(&self, user: &UserId, sequence: u64, frames: impl IntoIterator<Item = Bytes>) {
        self.hub.metrics.resync();
        // This does not call `mute`. `Listener::listen` remembers that the socket fell off, so that the socket may not
        // do so again soon.
        self.begin_after(user, sequence);
        self.send_at(sequence, frames);
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

impl Drop for Attachment {
    fn drop(&mut self) {
        let state = &mut *self.hub.state.borrow_mut();
        let listener = state.listeners.remove(self.key);
        state.unregister(self.key, listener.user().cloned());
        state.streams.remove_speaker(listener.format());
        self.hub.speakers.remove(listener.format());
        self.hub.metrics.socket_closed();
    }
}

#[cfg(test)]
mod tests;
