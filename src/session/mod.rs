//! One socket's life, from the upgrade to the close.

mod addresses;
mod admission;
mod answers;
mod close;
mod heartbeat;
mod identity;
mod inbound;
mod interest;
mod join;
mod limits;
mod outbound;
mod people;
mod requests;
mod room_questions;
mod rooms;
mod socketio;
mod totals;
mod typing;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub(crate) use self::addresses::{AddressPlace, Addresses};
pub(crate) use self::admission::{Admission, Seat};
pub(crate) use self::answers::Answers;
pub(crate) use self::close::End;
use self::heartbeat::{Alarm, Heartbeat};
use self::inbound::Inbound;
use self::join::Join;
pub(crate) use self::limits::{RequestRate, SocketRate};
use self::limits::{Used, Verdict};
use self::requests::Later;
use self::socketio::Phase;
pub(crate) use self::socketio::new_sid;
pub(crate) use self::totals::log_totals;
use self::typing::TypingRate;
use crate::auth::{Auth, Identity};
use crate::domain::{Interest, Said, SaidStatus, UserId};
use crate::hub::{Attachment, Attention, Hub};
use crate::metrics::SessionMetrics;
use crate::node::{Arrival, Registration, Table};
use crate::replica::Replica;
use crate::rooms::Rooms;
use crate::settings::{LimitSettings, SocketioSettings, WebsocketSettings};
use crate::transport::Stream;
use crate::typing::Typing;
use crate::wire::message::ErrorCode;
use crate::wire::reader::Incoming;
use crate::wire::{Format, frame};

/// What every session of the process works with.
pub(crate) struct Services {
    /// Who finds out who a client is.
    pub auth: Arc<Auth>,
    /// What one client may ask for.
    pub limits: LimitSettings,
    /// When a session pings its client or gives up, and how large a message may be.
    pub websocket: WebsocketSettings,
    /// How long a client of Socket.IO may wait before it joins.
    pub socketio: SocketioSettings,
    /// A drained client is told to come back within this time.
    pub reconnect_spread: Duration,
    /// The node's own sockets.
    pub table: Arc<Table>,
    /// Who is online.
    pub replica: Arc<Replica>,
    /// The rooms, for those who ask about them.
    pub rooms: Arc<Rooms>,
    /// The large answers that wait for their clients.
    pub answers: Arc<Answers>,
    /// How many messages and pings a socket may send.
    pub messages: SocketRate,
    /// How many costly requests a socket may make.
    pub requests: RequestRate,
    /// Where what clients say of typing goes.
    pub typing: Typing,
    /// What the sessions count.
    pub metrics: SessionMetrics,
    /// Cancelled once the store knows of the drain. Then every session says goodbye.
    pub closing: CancellationToken,
}

/// What every session of one worker thread works with.
pub(crate) struct Worker {
    services: Arc<Services>,
    hub: Rc<Hub>,
    /// All sessions of the worker share these settings, so that each session is small.
    websocket: Rc<WebsocketSettings>,
    /// The same for clients of Socket.IO. They may take longer to join.
    patient: Rc<WebsocketSettings>,
}

impl Worker {
    /// What the sessions of the current worker thread work with. Their sockets are in `hub`.
    pub(crate) fn start(services: Arc<Services>, hub: Rc<Hub>) -> Rc<Self> {
        let (closing, drained) = (services.closing.clone(), hub.clone());
        actix_rt::spawn(async move {
            closing.cancelled().await;
            drained.drain();
        });
        actix_rt::spawn(hub.clone().tell_bulletins(services.replica.clone(), services.socketio.clone()));
        let websocket = Rc::new(services.websocket.clone());
        let join_timeout = services.socketio.join_timeout;
        let patient = Rc::new(WebsocketSettings { join_timeout, ..services.websocket.clone() });
        Rc::new(Self { services, hub, websocket, patient })
    }
}

/// What a client's URL says.
pub(crate) struct Hello {
    /// The format that the client speaks.
    pub format: Format,
    /// What the client is sent before anything else.
    pub greeting: Option<Bytes>,
    /// Who the client is. It is none if the client has not shown that yet.
    pub identity: Option<Arc<Identity>>,
    /// The user who joins at once. Some formats have no request to join. In such a format, a socket without a user is
    /// closed at once, unless it can still `authenticate`.
    pub user: Option<UserId>,
    /// The status that the user has then.
    pub status: Option<SaidStatus>,
    /// What the client hears of others once it has joined.
    pub interest: Interest,
}

/// Runs a session on the current worker thread. `early` is what the client sent directly after its handshake.
pub(crate) fn spawn(worker: &Worker, seat: Seat, stream: Stream, early: &[u8], hello: Hello) {
    let session = Session::open(worker, seat, stream, early, hello.format);
    // tokio aligns a task to 128 bytes and rounds its size up to as many. Between such blocks, malloc leaves holes that few
    // other things fit into. A future in a box of its own fits into them.
    actix_rt::spawn(Box::pin(session.live(Box::new(hello))));
}

/// The clocks of a new session. A client of Socket.IO has as long to enter the main namespace as others have to join.
fn heartbeat(worker: &Worker, format: Format) -> Heartbeat {
    if !format.is_socketio() {
        return Heartbeat::new(worker.websocket.clone());
    }
    let mut heartbeat = Heartbeat::new(worker.patient.clone());
    heartbeat.join_within(worker.websocket.join_timeout);
    heartbeat
}

struct Session {
    services: Arc<Services>,
    format: Format,
    /// Who the client is. All whose word counts share one identity. It is none if the client has not shown it yet.
    identity: Option<Arc<Identity>>,
    stream: Rc<Stream>,
    inbound: Inbound,
    attachment: Attachment,
    heartbeat: Heartbeat,
    /// Present while the socket has joined. If the session is dropped for any reason, the socket is put in grace.
    registration: Option<Registration>,
    /// What the client wants to hear of others, as it said last.
    interest: Interest,
    /// Whether the client hears of others, although it may not have joined.
    is_subscribed: bool,
    /// How far a client of Socket.IO has come.
    phase: Phase,
    /// How many binary messages are still to come that belong to an event of Socket.IO.
    n_attachments: u8,
    /// What the socket has used of its messages.
    used_messages: Used,
    /// What the socket has used of its requests.
    used_requests: Used,
    /// How often the client has said lately that its user types. Most clients never do.
    typing: Option<Box<TypingRate>>,
    /// The session's place on the node.
    seat: Seat,
}

/// Why a session stops waiting. Each cause has its own arm.
enum Cause {
    /// The peer sent something, or its stream ended.
    Incoming(Result<Incoming, End>),
    /// The hub needs the session's help.
    Attention(Attention),
    /// A time has come.
    Alarm(Alarm),
}

/// What takes a session its time.
enum Chore {
    /// The client asks for something that takes time.
    Answer(Box<Later>),
    /// The client sends too much. It is not read for a moment.
    Rest,
    /// The socket takes no more bytes: it is waited for.
    Unblock,
    /// The client's token has ended. What the client has sent before is read.
    HearOut,
}

/// How long a client is not read after one of its messages was refused. A client that floods then meets the flow control of
/// TCP, and its last messages come one after the other. Otherwise the worker would do nothing else meanwhile (`flood` in
/// docs/performance.md). Half the time in which a message becomes free at the default rate: so who goes on is still closed.
const REST: Duration = Duration::from_millis(10);

/// After so many things, a session lets the others of its worker have their turn. A client may send hundreds of requests at
/// once, and each may ask for a page of the list.
const TURNS_AT_ONCE: u8 = 8;

impl Session {
    fn open(worker: &Worker, seat: Seat, stream: Stream, early: &[u8], format: Format) -> Self {
        let stream = Rc::new(stream);
        Self {
            format,
            identity: None,
            inbound: Inbound::new(stream.clone(), early, worker.websocket.max_frame_bytes),
            attachment: worker.hub.attach(stream.clone(), format),
            heartbeat: heartbeat(worker, format),
            services: worker.services.clone(),
            stream,
            registration: None,
            interest: Interest::default(),
            is_subscribed: false,
            phase: Phase::default(),
            n_attachments: 0,
            used_messages: Used::default(),
            used_requests: Used::default(),
            typing: None,
            seat,
        }
    }

    /// The whole life of the session.
    ///
    /// A session's future always has the size of its largest state, even while the session is idle. So what happens
    /// seldom is boxed.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps a second copy of its arguments")]
    fn live(mut self, hello: Box<Hello>) -> impl Future<Output = ()> {
        async move {
            let end = match Box::pin(self.enter(*hello)).await {
                Ok(()) => self.converse().await,
                Err(end) => end,
            };
            Box::pin(self.close(end)).await;
        }
    }

    /// Joins as the user whom the client's URL names, if it names one.
    async fn enter(&mut self, hello: Hello) -> Result<(), End> {
        if let Some(greeting) = hello.greeting {
            self.attachment.send(greeting);
        }
        self.take_identity(hello.identity);
        self.interest = hello.interest;
        match hello.user {
            Some(user) => {
                let arrival = Arrival { said: Said { status: hello.status, ..Said::default() }, ..Arrival::default() };
                self.join(Join { user, arrival, interest: None, reference: None, is_welcomed: true }).await;
            }
            None if !self.can_still_join() => return Err(End::NotJoined),
            None => {}
        }
        Ok(())
    }

    /// Answers until there is a reason to end.
    async fn converse(&mut self) -> End {
        let mut n_turns = 0_u8;
        loop {
            n_turns = n_turns.wrapping_add(1);
            if n_turns.is_multiple_of(TURNS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            let cause = tokio::select! {
                incoming = self.inbound.next(), if !self.attachment.is_congested() => Cause::Incoming(incoming),
                attention = self.attachment.attention() => Cause::Attention(attention),
                alarm = self.heartbeat.alarm() => Cause::Alarm(alarm),
            };
            let carried_out = match self.on(cause) {
                Ok(None) => continue,
                Ok(Some(chore)) => Box::pin(self.carry_out(chore)).await,
                Err(end) => Err(end),
            };
            if let Err(end) = carried_out {
                return end;
            }
        }
    }

    /// Deals with a cause at once. What takes time is returned instead.
    fn on(&mut self, cause: Cause) -> Result<Option<Chore>, End> {
        match cause {
            Cause::Incoming(incoming) => self.on_incoming(incoming),
            Cause::Attention(attention) => self.on_attention(attention),
            Cause::Alarm(Alarm::Expired) => Ok(Some(Chore::HearOut)),
            Cause::Alarm(alarm) => self.on_alarm(alarm).map(|()| None),
        }
    }

    async fn carry_out(&mut self, chore: Chore) -> Result<(), End> {
        match chore {
            Chore::Answer(later) => self.answer_later(*later).await?,
            Chore::Rest => sleep(REST).await,
            Chore::Unblock => {
                Box::pin(self.wait_until_writable()).await?;
                self.attachment.unblock();
            }
            Chore::HearOut => Box::pin(self.hear_out()).await?,
        }
        Ok(())
    }

    /// Answers a message of the client. What takes time is returned instead.
    fn on_incoming(&mut self, incoming: Result<Incoming, End>) -> Result<Option<Chore>, End> {
        self.attachment.heard(self.heartbeat.heard());
        let incoming = incoming?;
        if !self.takes(&incoming)? {
            if self.format.is_socketio() {
                self.pass_over(&incoming)?;
            }
            return Ok(Some(Chore::Rest));
        }
        match incoming {
            Incoming::Text(text) => return Ok(self.on_text(&text)?.map(|later| Chore::Answer(Box::new(later)))),
            Incoming::Binary if self.format.is_socketio() => self.on_attachment()?,
            Incoming::Binary => {
                self.refuse(ErrorCode::BinaryNotSupported, "binary frames are not spoken here; send text", None);
            }
            Incoming::Ping(payload) => self.attachment.send(frame::pong(&payload)),
            Incoming::Pong => {}
            Incoming::Close(code) => return Err(End::ClosedByClient(code)),
        }
        Ok(None)
    }

    /// Whether a message is read. If there are too many, the client has been told so. A pong was asked for, and a close ends
    /// everything anyway.
    fn takes(&self, incoming: &Incoming) -> Result<bool, End> {
        if matches!(incoming, Incoming::Pong | Incoming::Close(_)) {
            return Ok(true);
        }
        let Verdict::Refused(delay) = self.services.messages.check(&self.used_messages)? else { return Ok(true) };
        self.services.metrics.too_many_messages();
        self.refuse_for_now("too many messages; wait", delay, None);
        Ok(false)
    }

    fn on_attention(&mut self, attention: Attention) -> Result<Option<Chore>, End> {
        match attention {
            Attention::Blocked => return Ok(Some(Chore::Unblock)),
            Attention::Removed => self.tell_removed(),
            Attention::Resync => self.resync(),
            Attention::Owed => self.tell_owed_states(),
            Attention::TooSlow => return Err(End::TooSlow),
            Attention::Broken => return Err(End::Broken),
            Attention::Drain => return Err(End::Drained),
            Attention::Disconnect => return Err(End::Disconnected),
        }
        Ok(None)
    }

    /// Waits until the socket takes bytes again. Meanwhile the client may speak or fall silent, the node may drain, and the
    /// server may close the socket. A client that speaks and never reads is closed after `websocket.silence_timeout_ms`.
    async fn wait_until_writable(&mut self) -> Result<(), End> {
        let give_up_at = Instant::now() + self.services.websocket.silence_timeout;
        let closing = self.services.closing.clone();
        loop {
            tokio::select! {
                writable = self.stream.writable() => return writable.map_err(|_| End::Broken),
                () = sleep_until(give_up_at) => return Err(End::TooSlow),
                // A close or a pong matters. But a request adds to what the client does not read. So the session does
                // not read from a congested client.
                incoming = self.inbound.next(), if !self.attachment.is_congested() => {
                    self.deal_with(incoming).await?;
                }
                alarm = self.heartbeat.alarm() => self.on_alarm(alarm)?,
                () = closing.cancelled() => return Err(End::Drained),
                () = self.attachment.dismissed() => return Err(End::Disconnected),
            }
        }
    }

    fn on_alarm(&mut self, alarm: Alarm) -> Result<(), End> {
        match alarm {
            Alarm::Ping => self.attachment.send(self.format.ping()),
            Alarm::Silent => return Err(End::Silent),
            Alarm::NotJoined => return Err(self.end_without_join()),
            Alarm::Expired => return Err(End::TokenExpired),
        }
        Ok(())
    }

    /// The client's token has ended. The session may have been busy until now. So what the client has sent already comes first:
    /// it may be a new token.
    async fn hear_out(&mut self) -> Result<(), End> {
        // What arrived while the process stood still is known after the next turn of the worker.
        tokio::task::yield_now().await;
        let incoming = if self.attachment.is_congested() { None } else { self.inbound.next().now_or_never() };
        match incoming {
            Some(incoming) => self.deal_with(incoming).await,
            None => Err(End::TokenExpired),
        }
    }

    /// Answers a message of the client, also if that takes time.
    async fn deal_with(&mut self, incoming: Result<Incoming, End>) -> Result<(), End> {
        match self.on_incoming(incoming)? {
            Some(Chore::Answer(later)) => self.answer_later(*later).await?,
            Some(Chore::Rest) => sleep(REST).await,
            Some(Chore::Unblock | Chore::HearOut) | None => {}
        }
        Ok(())
    }

    /// Waits for what may take seconds. Meanwhile the client is not read. But its times come, the node may drain, and the server
    /// may close the socket.
    async fn alive_until<T>(&mut self, done: impl Future<Output = T>) -> Result<T, End> {
        let closing = self.services.closing.clone();
        let mut done = pin!(done);
        loop {
            tokio::select! {
                // What is done at once is done in time.
                biased;
                output = &mut done => return Ok(output),
                alarm = self.heartbeat.alarm() => self.on_alarm(alarm)?,
                () = closing.cancelled() => return Err(End::Drained),
                () = self.attachment.dismissed() => return Err(End::Disconnected),
            }
        }
    }

    /// The client has said who it is, or what it wants to hear. So it need not hurry any more, unless it still has to enter the
    /// main namespace of Socket.IO.
    fn named(&mut self) {
        if !self.has_to_connect() {
            self.heartbeat.joined();
        }
        self.seat.named();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large the future of an idle session may be. There is one for each socket.
    const MAX_BYTES: usize = 384;

    fn output_bytes<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_session_is_small() {
        let n_bytes = output_bytes(|(session, hello): (Session, Box<Hello>)| session.live(hello));
        assert!(n_bytes <= MAX_BYTES, "{n_bytes}");
    }
}
