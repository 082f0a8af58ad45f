//! The hub of one worker thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;

use super::listener::{Attention, Listener, Outbound};
use super::log::BroadcastLog;
use super::{Fanout, Mailbox};
use crate::domain::UserId;
use crate::metrics::{Metrics, Sent};
use crate::settings::FanoutSettings;

/// All sockets of one worker thread, and the log that they read. Never leaves its thread; never awaits while borrowed.
pub struct Hub {
    state: RefCell<State>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
    max_tick: Duration,
    resync_interval: Duration,
}

struct State {
    log: BroadcastLog,
    listeners: Slab<Listener>,
    by_user: HashMap<UserId, Vec<usize>>,
    drains: bool,
}

/// A socket's place in its hub; dropping it gives the place up.
pub struct Attachment {
    hub: Rc<Hub>,
    key: usize,
}

/// Sockets served in one go before other tasks of the thread get their turn: about 1 ms.
const FLUSH_CHUNK: usize = 256;

/// Of a worker's time, fan-out takes one part in this many plus one, as long as the tick is below its maximum.
/// A flush that took 1 ms is followed by 4 ms in which events gather; one that took nothing delays nothing.
const REST_FACTOR: u32 = 4;

/// A smaller log is kept: looking through all sockets would cost more than it gives back.
const WORTH_FORGETTING_BYTES: usize = 64 * 1024;

impl Hub {
    /// Starts the hub of the current worker thread.
    pub fn start(fanout: &Fanout, metrics: Arc<Metrics>, settings: &FanoutSettings) -> Rc<Self> {
        let hub = Rc::new(Self {
            state: RefCell::new(State {
                log: BroadcastLog::new(settings.log_bytes),
                listeners: Slab::new(),
                by_user: HashMap::new(),
                drains: false,
            }),
            mailbox: fanout.register(),
            metrics,
            max_tick: settings.max_tick,
            resync_interval: settings.resync_interval,
        });
        actix_rt::spawn(hub.clone().run());
        hub
    }

    /// Gives a socket a place. It hears no events yet.
    pub fn attach(self: &Rc<Self>, outbound: Rc<dyn Outbound>) -> Attachment {
        let key = self.state.borrow_mut().listeners.insert(Listener::new(outbound));
        self.metrics.socket_opened();
        Attachment { hub: self.clone(), key }
    }

    /// Tells every session, now and from now on, that the node drains. One wake-up each, once: a session that waited for it
    /// besides its socket would do so anew for every message.
    pub fn drain(&self) {
        let state = &mut *self.state.borrow_mut();
        state.drains = true;
        state.listeners.iter_mut().for_each(|(_, listener)| listener.wake());
    }

    async fn run(self: Rc<Self>) {
        let mut rest_until = Instant::now();
        loop {
            self.mailbox.filled().await;
            // Alone, an event goes at once; under load, what comes while the worker rests shares one write per socket.
            let rest = rest_until.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
            self.take_in();
            let cost = self.flush_all().await;
            self.forget_what_all_have_read();
            rest_until = Instant::now() + (cost * REST_FACTOR).min(self.max_tick);
        }
    }

    /// Appends what waits in the mailbox to the log.
    fn take_in(&self) {
        let (entries, overflowed) = self.mailbox.take();
        let state = &mut *self.state.borrow_mut();
        if overflowed {
            state.listeners.iter_mut().for_each(|(_, listener)| listener.fall_off());
        }
        for entry in entries {
            let (begin, end) = state.log.append(entry.sequence, &entry.frame);
            // Nobody hears of themselves.
            for key in state.by_user.get(&entry.user).into_iter().flatten() {
                state.listeners[*key].skip(begin, end, state.log.start());
            }
        }
    }

    /// Writes to every socket what it has not seen. Returns the time that it took, without the turns of others.
    async fn flush_all(&self) -> Duration {
        let (mut cost, mut from, mut sent) = (Duration::ZERO, 0, Sent::default());
        loop {
            let started = Instant::now();
            let end = {
                let state = &mut *self.state.borrow_mut();
                let end = state.listeners.capacity();
                for key in from..(from + FLUSH_CHUNK).min(end) {
                    if let Some(listener) = state.listeners.get_mut(key) {
                        listener.flush(&state.log, &mut sent);
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

    /// The log is for sockets that lag; where none does, a storm that is over leaves no memory behind.
    fn forget_what_all_have_read(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.log.len_bytes() > WORTH_FORGETTING_BYTES
            && !state.listeners.iter().any(|(_, listener)| listener.is_behind(&state.log))
        {
            state.log.forget_all();
        }
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
        act(&mut state.listeners[key], &state.log)
    }
}

impl State {
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
    /// Sends a frame to this socket alone, after all events that it can have heard of until now.
    pub fn send(&self, frame: Bytes) {
        self.hub.flush(self.key, |listener, log| listener.send(log.end(), frame));
    }

    /// Sends frames that show the view at `sequence`: after all events up to there and before those above, and with none
    /// in between.
    pub fn send_at(&self, sequence: u64, frames: impl IntoIterator<Item = Bytes>) {
        self.hub.take_in();
        self.hub.flush(self.key, |listener, log| {
            // All of them before anything is written: events would come in between.
            let position = log.position_after(sequence);
            for frame in frames {
                listener.send(position, frame);
            }
        });
    }

    /// From now on this is a socket of `user` and hears the events above `sequence`, less those about the user.
    ///
    /// The view must have been at `sequence` when it was read: what is at or below it is then in the mailbox or the log.
    pub fn listen(&self, user: &UserId, sequence: u64) {
        self.mute();
        // First of all, so that what is taken in now is left out if it is about the user.
        self.hub.state.borrow_mut().by_user.entry(user.clone()).or_default().push(self.key);
        self.hub.take_in();
        let state = &mut *self.hub.state.borrow_mut();
        let position = state.log.position_after(sequence);
        state.listeners[self.key].listen(user.clone(), position);
    }

    /// From now on this socket hears no events.
    pub fn mute(&self) {
        let state = &mut *self.hub.state.borrow_mut();
        let user = state.listeners[self.key].mute();
        state.unregister(self.key, user);
    }

    /// Tells the socket that it missed events and starts over: `frames` are what it gets instead, showing the view at
    /// `sequence`.
    pub fn restart(&self, user: &UserId, sequence: u64, frames: impl IntoIterator<Item = Bytes>) {
        self.hub.metrics.resync();
        // What the view shows must lie in the log, before the socket's new position.
        self.hub.take_in();
        {
            let state = &mut *self.hub.state.borrow_mut();
            // Not `mute`: that the socket fell off is remembered by `listen`, so that it may not do so again soon.
            let position = state.log.position_after(sequence);
            state.listeners[self.key].listen(user.clone(), position);
        }
        self.send_at(sequence, frames);
    }

    /// Whether the client does not read its answers, so that its requests should wait.
    pub fn is_congested(&self) -> bool {
        self.hub.with(self.key, |listener, _| listener.is_congested())
    }

    /// Whether everything sent to this socket alone has been written, or never can be.
    pub fn is_drained(&self) -> bool {
        self.hub.with(self.key, |listener, _| listener.is_drained())
    }

    /// The socket can be written to again: goes on writing.
    pub fn unblock(&self) {
        self.hub.flush(self.key, |listener, _| listener.unblock());
    }

    /// Waits until the session has something to do for its socket.
    ///
    /// # Cancel safety
    /// Nothing is consumed: the state that asks for attention lasts until it is dealt with.
    pub async fn attention(&self) -> Attention {
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
        .await
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let state = &mut *self.hub.state.borrow_mut();
        let listener = state.listeners.remove(self.key);
        state.unregister(self.key, listener.user().cloned());
        self.hub.metrics.socket_closed();
    }
}
