//! All sockets of one worker thread.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use super::audience::{Audience, index};
use super::bulletins::Bulletins;
use super::changes::Changes;
use super::counting::Counting;
use super::credit::Credit;
use super::fanout::Speakers;
use super::listener::{Fault, Listener, Outbound};
use super::log::BroadcastLog;
use super::mailbox::{Encoded, EncodedEvent, Errand, Mail, Mailbox, Seen, Skipped, WHISPERS_MAX, Whisper};
use super::streams::{Places, StreamKey, Streams};
use super::watch::Watchers;
use super::{Attachment, Fanout};
use crate::domain::{Inquiry, UserId};
use crate::metrics::{HubMetrics, Sent};
use crate::settings::FanoutSettings;
use crate::wire::Format;

/// All sockets of one worker thread, and the logs that the sockets read. A hub never leaves its thread. It never awaits
/// while its state is borrowed.
pub struct Hub {
    pub(super) state: RefCell<State>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) speakers: Arc<Speakers>,
    pub(super) metrics: HubMetrics,
    max_tick: Duration,
    pub(super) resync_interval: Duration,
    /// When the hub began. Its listeners keep times since then.
    began: Instant,
    /// Some sockets may have to be told a number of users.
    pub(super) count_changed: Notify,
    /// A list is to be told.
    pub(super) bulletin_due: Notify,
}

/// The sockets, and what they want to hear of. An event touches only the sockets that want to hear of it.
pub(super) struct State {
    pub(super) streams: Streams,
    pub(super) listeners: Slab<Listener>,
    pub(super) by_user: HashMap<UserId, Vec<usize>>,
    pub(super) audience: Audience,
    pub(super) watchers: Watchers,
    pub(super) counting: Counting,
    /// The streams whose number of users some sockets may have to be told.
    pub(super) counts_due: HashSet<StreamKey>,
    /// The lists that have changed, and are to be told.
    pub(super) bulletins: Bulletins,
    /// The sockets that have paused.
    pub(super) paused: HashMap<usize, Paused>,
    pub(super) changes: Changes,
    /// The last change of the views that was taken in.
    pub(super) taken_in: u64,
    /// What the next flush writes, or drops.
    pub(super) whispers: Vec<Whisper>,
    /// Sockets with frames for them alone, which the next flush writes. A socket may be here more than once.
    pub(super) due: Vec<u32>,
    /// After the node skipped events, listeners start over in turn. This is the first listener that still has to start
    /// over. It is none if no listener has to.
    next_to_resync: Option<usize>,
    pub(super) drains: bool,
}

/// What is kept of a socket while it is paused.
pub(super) struct Paused {
    /// The last change of the views that it could hear.
    pub(super) at: u64,
    /// Whether it hears of everyone when it goes on.
    pub(super) hears_everyone: bool,
    /// Whether it has missed events, and who caused that.
    pub(super) hole: Option<Fault>,
}

/// How many sockets are served before other tasks of the thread get their turn. This many take about 1 ms.
pub(super) const FLUSH_CHUNK: usize = 256;

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
                audience: Audience::default(),
                watchers: Watchers::new(metrics.clone()),
                counting: Counting::default(),
                counts_due: HashSet::new(),
                bulletins: Bulletins::default(),
                paused: HashMap::new(),
                changes: Changes::default(),
                taken_in: 0,
                whispers: Vec::new(),
                due: Vec::new(),
                next_to_resync: None,
                drains: false,
            }),
            mailbox: fanout.register(),
            speakers: fanout.speakers(),
            metrics,
            max_tick: settings.max_tick,
            resync_interval: settings.resync_interval,
            began: Instant::now(),
            count_changed: Notify::new(),
            bulletin_due: Notify::new(),
        });
        actix_rt::spawn(hub.clone().run());
        actix_rt::spawn(hub.clone().tell_counts());
        hub
    }

    /// Gives a socket that speaks `format` a place. It hears no events yet.
    pub fn attach(self: &Rc<Self>, outbound: Rc<dyn Outbound>, format: Format) -> Attachment {
        self.speakers.add(format);
        let mut listener = Listener::new(outbound, format);
        listener.heard(self.began.elapsed());
        let key = self.state.borrow_mut().listeners.insert(listener);
        self.metrics.socket_opened(format.name());
        Attachment { hub: self.clone(), key }
    }

    /// How long ago the hub began.
    pub(super) fn time(&self) -> Duration {
        self.began.elapsed()
    }

    /// The time of the hub at `now`.
    pub(super) fn time_at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
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
            self.take_in_between_turns();
            let cost = self.flush_all().await + self.whisper_all().await;
            self.forget_what_all_have_read();
            credit.spend(cost, Instant::now());
        }
    }

    /// Appends the events in the mailbox to the logs, and runs the errands. Sessions do this in the midst of a turn.
    pub(super) fn take_in(self: &Rc<Self>) {
        self.take_mail(true);
    }

    /// Does the same between the turns of the sessions. No session needs what was recent.
    fn take_in_between_turns(self: &Rc<Self>) {
        self.take_mail(false);
        let state = &mut *self.state.borrow_mut();
        state.streams.rooms.recent.forget_up_to(state.taken_in);
    }

    fn take_mail(self: &Rc<Self>, is_in_a_turn: bool) {
        let Mail { skipped, events, whispers, errands, .. } = self.mailbox.take();
        let state = &mut *self.state.borrow_mut();
        if let Some(skipped) = skipped {
            state.skip(skipped);
            if state.next_to_resync.replace(0).is_none() {
                actix_rt::spawn(self.clone().resync_all());
            }
        }
        for event in &events {
            match event {
                Encoded::Service(event) => state.take(event),
                Encoded::Room(event) => {
                    state.take_in_room(event);
                    if is_in_a_turn {
                        state.streams.rooms.recent.push(event);
                    }
                }
            }
        }
        state.whispers.extend(whispers);
        state.whispers.truncate(WHISPERS_MAX);
        if !state.counts_due.is_empty() {
            self.count_changed.notify_one();
        }
        if state.bulletins.are_due() {
            self.bulletin_due.notify_one();
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
    pub(super) async fn flush_all(&self) -> Duration {
        let mut sent = Sent::default();
        let cost = self.flush_audience(&mut sent).await + self.flush_rooms(&mut sent).await;
        self.metrics.sent(sent);
        cost
    }

    /// Writes to those who hear everyone, and to those with frames for them alone.
    pub(super) async fn flush_audience(&self, sent: &mut Sent) -> Duration {
        let mut cost = Duration::ZERO;
        let mut due = std::mem::take(&mut self.state.borrow_mut().due);
        let mut left = usize::MAX;
        while left > 0 || !due.is_empty() {
            let started = Instant::now();
            {
                let State { audience, listeners, streams, .. } = &mut *self.state.borrow_mut();
                let (keys, first) = audience.before(left, FLUSH_CHUNK);
                left = first;
                // Some sockets may be gone.
                let alone = due.split_off(due.len() - due.len().min(FLUSH_CHUNK - keys.len()));
                for key in keys.iter().chain(&alone) {
                    if let Some(listener) = listeners.get_mut(*key as usize) {
                        listener.flush(streams, Some(StreamKey::SERVICE), sent);
                    }
                }
            }
            cost += started.elapsed();
            if left > 0 || !due.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        cost
    }

    /// Empties each log of the service that no socket lags behind. A log is only for sockets that lag. So a storm that is
    /// over leaves no memory behind.
    fn forget_what_all_have_read(&self) {
        let State { streams, listeners, audience, .. } = &mut *self.state.borrow_mut();
        streams.forget_read(WORTH_FORGETTING_BYTES, |format, log| {
            let lags = |listener: &Listener| listener.format() == format && listener.is_behind(StreamKey::SERVICE, log);
            !audience.keys().iter().any(|key| lags(&listeners[*key as usize]))
        });
    }

    /// Writes to one socket what waits for it.
    pub(super) fn flush(&self, key: usize, prepare: impl FnOnce(&mut Listener, &BroadcastLog)) {
        let mut sent = Sent::default();
        {
            let State { streams, listeners, .. } = &mut *self.state.borrow_mut();
            let listener = &mut listeners[key];
            prepare(listener, streams.service(listener.format()));
            listener.flush(streams, None, &mut sent);
        }
        self.metrics.sent(sent);
    }

    pub(super) fn with<T>(&self, key: usize, act: impl FnOnce(&mut Listener, &BroadcastLog) -> T) -> T {
        let state = &mut *self.state.borrow_mut();
        let listener = &mut state.listeners[key];
        let log = state.streams.service(listener.format());
        act(listener, log)
    }
}

impl State {
    /// Takes in an event of the service: appends it to the logs, and tells it to the sockets that do not read the logs.
    fn take(&mut self, event: &EncodedEvent) {
        let places = self.streams.append(event);
        self.tell_own(event, &places);
        self.tell_watchers(event);
        let Seen { sequence, n_online } = event.seen;
        self.taken_in = sequence;
        self.take_number(n_online, sequence);
        let Some(sight) = event.sight else { return };
        if !self.paused.is_empty() {
            self.changes.push(sequence, event.user.clone(), sight.was_online);
        }
        self.note_bulletin(StreamKey::SERVICE, sequence);
    }

    /// A socket does not hear what others are told about its own user. It has frames of its own.
    fn tell_own(&mut self, event: &EncodedEvent, places: &Places) {
        for key in self.by_user.get(&event.user).into_iter().flatten() {
            let listener = &mut self.listeners[*key];
            let (format, log) = (listener.format().index(), self.streams.service(listener.format()));
            if let Some((begin, end)) = places[format].filter(|_| listener.hears_everyone()) {
                listener.skip(begin, end, log.start());
            }
            if let Some(frame) = &event.own[format] {
                listener.tell(log.end(), event.seen.sequence, frame.clone());
                // A flush goes through those who hear everyone in any case.
                if !listener.hears_everyone() {
                    self.due.push(index(*key));
                }
            }
        }
    }

    /// Whoever watches the user is told. The user's own sockets hear their own status instead.
    fn tell_watchers(&mut self, event: &EncodedEvent) {
        let Some(sight) = event.sight else { return };
        for key in self.watchers.of(&event.user) {
            let listener = &mut self.listeners[*key as usize];
            let frame = event.frames[listener.format().index()].as_ref();
            if listener.user() != Some(&event.user) && listener.see(&event.user, event.seen.sequence, sight.mark, frame)
            {
                self.due.push(*key);
            }
        }
    }

    /// The service has so many users after the change number `sequence`.
    fn take_number(&mut self, n_online: usize, sequence: u64) {
        if self.counting.take(n_online, sequence) {
            self.counts_due.insert(StreamKey::SERVICE);
        }
    }

    /// The node skipped the events up to there.
    fn skip(&mut self, Skipped { sequence, n_online }: Skipped) {
        self.streams.skip_to(sequence);
        self.taken_in = sequence;
        if let Some(n_online) = n_online {
            self.take_number(n_online, sequence);
        }
        self.changes.forget_up_to(sequence);
        self.listeners.iter_mut().for_each(|(_, listener)| listener.fall_off_unawares());
    }

    /// The socket is one of `user` from now on, or of nobody.
    pub(super) fn set_user(&mut self, key: usize, user: Option<&UserId>) {
        if self.listeners[key].user() == user {
            return;
        }
        self.leave_all_rooms(key);
        let former = self.listeners[key].set_user(user.cloned());
        self.unregister(key, former);
        if let Some(user) = user {
            // Most users have one socket here.
            self.by_user.entry(user.clone()).or_insert_with(|| Vec::with_capacity(1)).push(key);
        }
    }

    /// Runs an errand at this time of the hub.
    fn run(&mut self, errand: Errand, hub_time: Duration) {
        let Errand { user, inquiry, reply } = errand;
        let keys = self.by_user.get(&user).cloned().unwrap_or_default();
        let concerned = keys.into_iter().filter(|key| match &inquiry {
            Inquiry::Explain => true,
            Inquiry::Disconnect => {
                self.listeners[*key].dismiss();
                true
            }
            Inquiry::RemoveFromRoom { room } => self.remove_from_room(*key, room),
        });
        let concerned: Vec<usize> = concerned.collect();
        let accounts = concerned.into_iter().map(|key| self.listeners[key].account(hub_time));
        // Whoever asked may have given up.
        let _ = reply.send(accounts.collect());
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

#[cfg(test)]
mod room_model;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod tests;
