//! Who types. What a client says of its user's typing goes to other clients now, or never: it is not stored, and nothing waits
//! for it (docs/design.md, decision 17).
//!
//! A node signals it to the nodes that have opened the room, or on which the user has sockets. Each of these tells its clients,
//! and tells them by itself when it ends.

mod room_signals;
mod typists;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::typists::{Typist, Typists};
use crate::domain::{Signal, TypingTarget, UserId};
use crate::hub::Fanout;
use crate::metrics::TypingMetrics;
use crate::node::Table;
use crate::replica::Replica;
use crate::store::PresenceStore;
use crate::wire::message::Message;

/// Typing ends by itself after this time, unless the client says again that its user types. So nobody seems to type for ever
/// after a crash or a lost signal.
pub(crate) const TYPING_ENDS_AFTER: Duration = Duration::from_secs(5);

/// What sessions and peers say of typing. It never waits.
#[derive(Clone)]
pub(crate) struct Typing {
    said: Queue,
    heard: Queue,
}

/// The task that sends what sessions say, and tells clients what nodes say.
pub(crate) struct TypingTask {
    store: Arc<dyn PresenceStore>,
    table: Arc<Table>,
    replica: Arc<Replica>,
    fanout: Arc<Fanout>,
    metrics: TypingMetrics,
    said: mpsc::Receiver<Typed>,
    heard: mpsc::Receiver<Typed>,
    from_rooms: Queue,
    /// How often a silent subscription is looked for.
    echo_every: Duration,
    backoff_max: Duration,
}

/// Somebody types, or has stopped.
struct Typed {
    typist: Typist,
    is_typing: bool,
}

/// Where something waits for the task. If too much waits, it is dropped, and that is counted.
#[derive(Clone)]
struct Queue {
    sender: mpsc::Sender<Typed>,
    metrics: TypingMetrics,
}

/// How much may wait to be sent, and how much to be told. Above that it is dropped.
const WAITING_MAX: usize = 256;

/// How many signals are sent at once. Each takes a connection of the pool for a moment.
const SENT_AT_ONCE: usize = 4;

impl Typing {
    /// The way to the task, and the task.
    pub(crate) fn new(
        (store, table, replica): (Arc<dyn PresenceStore>, Arc<Table>, Arc<Replica>),
        fanout: Arc<Fanout>,
        metrics: TypingMetrics,
        (echo_every, backoff_max): (Duration, Duration),
    ) -> (Self, TypingTask) {
        let (said, to_send) = Queue::new(&metrics);
        let (heard, to_tell) = Queue::new(&metrics);
        let typing = Self { said, heard: heard.clone() };
        let task = TypingTask {
            store,
            table,
            replica,
            fanout,
            metrics,
            said: to_send,
            heard: to_tell,
            from_rooms: heard,
            echo_every,
            backoff_max,
        };
        (typing, task)
    }

    /// A client here says that its user types, or has stopped. Nobody is told that a user types who is hidden.
    pub(crate) fn say(&self, user: &UserId, target: TypingTarget, is_typing: bool) {
        self.said.take(Typed { typist: Typist { user: user.clone(), target }, is_typing });
    }

    /// A peer says it to the sockets of one user here.
    pub(crate) fn hear(&self, user: UserId, target: TypingTarget, is_typing: bool) {
        self.heard.take(Typed { typist: Typist { user, target }, is_typing });
    }
}

impl Queue {
    fn new(metrics: &TypingMetrics) -> (Self, mpsc::Receiver<Typed>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self { sender, metrics: metrics.clone() }, receiver)
    }

    fn take(&self, typed: Typed) {
        if self.sender.try_send(typed).is_err() {
            self.metrics.dropped();
        }
    }
}

impl TypingTask {
    /// Sends and tells until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { store, table, replica, fanout, metrics, mut said, mut heard, from_rooms, .. } = self;
        let sending = send_all(&store, &table, &metrics, &mut said);
        let telling = tell_all(&replica, &fanout, &metrics, &mut heard);
        let following = room_signals::follow(&store, &replica, from_rooms, (self.echo_every, self.backoff_max));
        tokio::select! {
            () = sending => {}
            () = telling => {}
            () = following => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Sends what sessions say.
async fn send_all(
    store: &Arc<dyn PresenceStore>,
    table: &Table,
    metrics: &TypingMetrics,
    said: &mut mpsc::Receiver<Typed>,
) {
    let mut sending: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            typed = said.recv(), if sending.len() < SENT_AT_ONCE => {
                let Some(typed) = typed else { return };
                // Who hides has stopped typing.
                let is_hidden = table.presence(&typed.typist.user).is_none_or(|presence| presence.as_asserted().is_hidden());
                if !typed.is_typing || !is_hidden {
                    sending.push(send(store, metrics, typed).boxed());
                }
            }
            Some(()) = sending.next() => {}
        }
    }
}

async fn send(store: &Arc<dyn PresenceStore>, metrics: &TypingMetrics, typed: Typed) {
    let Typed { typist: Typist { user, target }, is_typing } = typed;
    let signal = Signal::Typing { target: target.clone(), user, is_typing };
    let sent = match &target {
        TypingTarget::Room(room) => store.signal_room(room, &signal).await,
        TypingTarget::User(to) => store.signal_user(to, &signal).await,
    };
    match sent {
        Ok(()) => metrics.sent(),
        Err(error) => {
            metrics.dropped();
            debug!(error = %error, "Could not signal that a user types");
        }
    }
}

/// Tells clients what nodes say, and when it ends.
async fn tell_all(replica: &Replica, fanout: &Fanout, metrics: &TypingMetrics, heard: &mut mpsc::Receiver<Typed>) {
    let mut typists = Typists::new(TYPING_ENDS_AFTER);
    loop {
        tokio::select! {
            typed = heard.recv() => {
                let Some(Typed { typist, is_typing }) = typed else { return };
                let is_told = if is_typing {
                    is_shown(replica, &typist) && typists.begin(&typist, Instant::now())
                } else {
                    typists.end(&typist)
                };
                if is_told {
                    metrics.told();
                    tell(fanout, &typist, is_typing);
                }
            }
            typist = typists.next_end() => tell(fanout, &typist, false),
        }
    }
}

/// Whether those who are told know that the user is there. A node may hear of the typing before it hears of the user, or after
/// the user has hidden.
fn is_shown(replica: &Replica, typist: &Typist) -> bool {
    let view = replica.view();
    match &typist.target {
        TypingTarget::Room(room) => view.rooms().get(room).is_some_and(|room| room.contains(&typist.user)),
        TypingTarget::User(_) => view.roster().contains(&typist.user),
    }
}

fn tell(fanout: &Fanout, Typist { user, target }: &Typist, is_typing: bool) {
    match target {
        TypingTarget::Room(room) => {
            fanout.whisper_room(room, user, &Message::Typing { room: Some(room), user, is_typing });
        }
        TypingTarget::User(to) => fanout.whisper_user(to, &Message::Typing { room: None, user, is_typing }),
    }
}
