//! One socket's life, from the upgrade to the close.

mod admission;
mod answers;
mod close;
mod heartbeat;
mod inbound;
mod limits;
mod outbound;

use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::admission::{Admission, Seat};
pub use self::answers::Answers;
pub use self::close::End;
use self::close::{Awaits, Goodbye};
use self::heartbeat::{Alarm, Heartbeat};
use self::inbound::Inbound;
pub use self::limits::RequestLimit;
use self::limits::{Used, Verdict};
use self::outbound::TcpOutbound;
use crate::clock;
use crate::domain::{OfflineReason, Profile, Timestamp, UserId};
use crate::hub::{Attachment, Attention, Fanout, Hub};
use crate::metrics::{Limit, Metrics};
use crate::node::{Registration, Table};
use crate::replica::{Replica, View};
use crate::settings::{Settings, WebsocketSettings};
use crate::wire::native::{BadFrame, ClientFrame, ErrorCode, FrameLimits, Request, Standing};
use crate::wire::reader::Incoming;
use crate::wire::{frame, native};

/// What every session of the process works with.
pub struct Services {
    /// The process's settings.
    pub settings: Settings,
    /// The node's own sockets.
    pub table: Arc<Table>,
    /// Who is online.
    pub replica: Arc<Replica>,
    /// The way to every worker's hub.
    pub fanout: Arc<Fanout>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the node begins to drain: it takes nobody new.
    pub draining: CancellationToken,
    /// Cancelled once the store knows of the drain: every session says goodbye.
    pub closing: CancellationToken,
    /// The seats that are taken: sessions, and upgrades on the way to become one.
    pub sessions: TaskTracker,
    /// Which sockets are let in.
    pub admission: Arc<Admission>,
    /// The large answers that wait for their clients.
    pub answers: Arc<Answers>,
    /// How many costly requests a socket may make.
    pub requests: RequestLimit,
}

/// What every session of one worker thread works with.
pub struct Worker {
    /// The process's part.
    pub services: Arc<Services>,
    hub: Rc<Hub>,
    /// One for all sessions of the worker, each of which is kept small.
    websocket: Rc<WebsocketSettings>,
}

impl Worker {
    /// Starts the hub of the current worker thread.
    pub fn start(services: Arc<Services>) -> Rc<Self> {
        let hub = Hub::start(&services.fanout, services.metrics.clone(), &services.settings.fanout);
        let (closing, drained) = (services.closing.clone(), hub.clone());
        actix_rt::spawn(async move {
            closing.cancelled().await;
            drained.drain();
        });
        let websocket = Rc::new(services.settings.websocket.clone());
        Rc::new(Self { services, hub, websocket })
    }
}

/// Runs a session on the current worker thread. `user` joins at once; `early` is what the client sent right behind its
/// handshake.
pub fn spawn(worker: Rc<Worker>, seat: Seat, stream: TcpStream, early: BytesMut, user: Option<UserId>) {
    actix_rt::spawn(async move {
        let _seat = seat;
        let mut session = Session::open(&worker, stream, early);
        let end = session.converse(user).await;
        Box::pin(session.close(end)).await;
    });
}

struct Session {
    services: Arc<Services>,
    stream: Rc<TcpStream>,
    inbound: Inbound,
    attachment: Attachment,
    heartbeat: Heartbeat,
    /// Present while joined. Dropping the session loses it with a grace, whatever happened.
    registration: Option<Registration>,
    /// What the socket has used of its requests.
    used: Used,
}

/// About the first page of a socket while too many answers wait for their clients.
const SHORT_PAGE_BYTES: usize = 8 * 1024;

/// When to ask again for a page that was refused because too many answers wait.
const ANSWERS_RETRY: Duration = Duration::from_secs(1);

/// Why a session stops waiting: one arm each.
enum Cause {
    /// The peer spoke, or its side ended.
    Incoming(Result<Incoming, End>),
    /// The hub needs the session's help.
    Attention(Attention),
    /// A time has come.
    Alarm(Alarm),
}

/// A `join_user`, of whoever may join here.
struct Join {
    user: UserId,
    profile: Option<Profile>,
    reference: Option<String>,
}

impl Session {
    fn open(worker: &Worker, stream: TcpStream, early: BytesMut) -> Self {
        let stream = Rc::new(stream);
        Self {
            inbound: Inbound::new(stream.clone(), early, worker.websocket.max_frame_bytes),
            attachment: worker.hub.attach(Rc::new(TcpOutbound(stream.clone()))),
            heartbeat: Heartbeat::new(worker.websocket.clone()),
            services: worker.services.clone(),
            stream,
            registration: None,
            used: Used::default(),
        }
    }

    /// Joins, and answers until there is a reason to end.
    ///
    /// What happens seldom is boxed: a session's future is as large as its largest state, for all of its idle life.
    async fn converse(&mut self, user: Option<UserId>) -> End {
        if let Some(user) = user {
            Box::pin(self.join(Join { user, profile: None, reference: None })).await;
        }
        loop {
            let cause = tokio::select! {
                incoming = self.inbound.next(), if !self.attachment.is_congested() => Cause::Incoming(incoming),
                attention = self.attachment.attention() => Cause::Attention(attention),
                alarm = self.heartbeat.alarm() => Cause::Alarm(alarm),
            };
            let outcome = match cause {
                Cause::Incoming(incoming) => self.on_incoming(incoming),
                Cause::Attention(attention) => Box::pin(self.on_attention(attention)).await.map(|()| None),
                Cause::Alarm(alarm) => self.on_alarm(alarm).map(|()| None),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(join)) => Box::pin(self.join(join)).await,
                Err(end) => return end,
            }
        }
    }

    /// Answers what the client said, unless it is a join, which takes its time.
    fn on_incoming(&mut self, incoming: Result<Incoming, End>) -> Result<Option<Join>, End> {
        self.heartbeat.heard();
        match incoming? {
            Incoming::Text(text) => return self.on_text(&text),
            Incoming::Binary => {
                let message = "binary frames are not spoken here; send text";
                self.attachment.send(native::error(ErrorCode::BinaryNotSupported, message, None));
            }
            Incoming::Ping(payload) => self.attachment.send(frame::pong(&payload)),
            Incoming::Pong => {}
            Incoming::Close(code) => return Err(End::ClosedByClient(code)),
        }
        Ok(None)
    }

    async fn on_attention(&mut self, attention: Attention) -> Result<(), End> {
        match attention {
            Attention::Blocked => {
                self.wait_until_writable().await?;
                self.attachment.unblock();
            }
            Attention::Resync => self.resync(),
            Attention::TooSlow => return Err(End::TooSlow),
            Attention::Broken => return Err(End::Broken),
            Attention::Drain => return Err(End::Drained),
        }
        Ok(())
    }

    /// Waits for the socket to take bytes again. The client may speak or fall silent meanwhile, and the node may drain. A
    /// client that speaks and never reads is closed after the time that it could be silent.
    async fn wait_until_writable(&mut self) -> Result<(), End> {
        let give_up_at = Instant::now() + self.services.settings.websocket.silence_timeout;
        let closing = self.services.closing.clone();
        loop {
            tokio::select! {
                writable = self.stream.writable() => return writable.map_err(|_| End::Broken),
                () = sleep_until(give_up_at) => return Err(End::TooSlow),
                // A request would only add to what the client does not read; a close or a pong matters.
                incoming = self.inbound.next(), if !self.attachment.is_congested() => {
                    if let Some(join) = self.on_incoming(incoming)? {
                        self.join(join).await;
                    }
                }
                alarm = self.heartbeat.alarm() => self.on_alarm(alarm)?,
                () = closing.cancelled() => return Err(End::Drained),
            }
        }
    }

    fn on_alarm(&mut self, alarm: Alarm) -> Result<(), End> {
        match alarm {
            Alarm::Ping => self.attachment.send(frame::ping()),
            Alarm::Silent => return Err(End::Silent),
            Alarm::NotJoined => return Err(End::NotJoined),
        }
        Ok(())
    }

    fn on_text(&mut self, text: &str) -> Result<Option<Join>, End> {
        let limits = &self.services.settings.limits;
        let limits = FrameLimits { profile_bytes: limits.profile_bytes, page_max: limits.page_max };
        match native::parse(text, limits) {
            Ok(frame) => self.answer(frame),
            Err(BadFrame { code, message, reference }) => {
                self.attachment.send(native::error(code, &message, reference.as_deref()));
                Ok(None)
            }
        }
    }

    fn answer(&mut self, frame: ClientFrame) -> Result<Option<Join>, End> {
        let reference = frame.reference.as_deref();
        if let Verdict::Refused(delay) = self.services.requests.check(&self.used, &frame.request)? {
            self.services.metrics.limited(Limit::Requests);
            self.attachment.send(native::rate_limited("too many requests; wait", delay, reference));
            return Ok(None);
        }
        match (frame.request, &self.registration) {
            (Request::Join { user, .. }, Some(joined)) if *joined.user() != user => {
                let message = format!("this socket has joined as {:?}; `leave` first", joined.user().as_str());
                self.attachment.send(native::error(ErrorCode::AlreadyJoined, &message, reference));
            }
            (Request::Join { user, profile }, _) => {
                return Ok(Some(Join { user, profile, reference: frame.reference }));
            }
            (Request::Check { user }, _) => self.tell_status(&user, reference),
            (Request::List { limit, cursor }, Some(_)) => {
                let limit = limit.unwrap_or(self.services.settings.limits.page_default);
                self.show_page(cursor.as_ref(), limit, reference);
            }
            (Request::Activity, Some(joined)) => {
                joined.heard();
                if let Some(reference) = reference {
                    self.attachment.send(native::user_activity_ack(reference));
                }
            }
            (Request::Leave, Some(_)) => self.leave(reference),
            (Request::List { .. } | Request::Activity | Request::Leave, None) => {
                self.attachment.send(native::error(ErrorCode::NotJoined, "`join_user` first", reference));
            }
        }
        Ok(None)
    }

    async fn join(&mut self, join: Join) {
        match &self.registration {
            None => self.come(join).await,
            Some(_) => self.state_profile(join).await,
        }
    }

    /// Makes the user present, then shows them who else is.
    async fn come(&mut self, Join { user, profile, reference }: Join) {
        let Services { table, replica, .. } = &*self.services;
        let known = replica.view().roster().get(&user).cloned();
        let max_sockets = self.services.settings.limits.sockets_per_user;
        let Some((registration, confirmed)) = table.insert_within(max_sockets, &user, profile, known) else {
            self.services.metrics.limited(Limit::SocketsPerUser);
            let message = format!("{:?} has {max_sockets} sockets on this node", user.as_str());
            self.attachment.send(native::error(ErrorCode::TooManySockets, &message, reference.as_deref()));
            return;
        };
        // From here on a cancelled or panicking session leaves through the registration's drop.
        self.registration = Some(registration);
        self.services.metrics.joined();
        self.heartbeat.joined();
        replica.arrived(&user, &table.presence(&user).unwrap_or_default());
        let asked_at = clock::now();
        let reflected = replica.reflects(async { confirmed.await.ok() }).await;
        if !reflected {
            // One reads one's own writes, also those that nobody has confirmed.
            replica.arrived_unconfirmed(&user, &table.presence(&user).unwrap_or_default());
        }
        self.show(&user, (!reflected).then_some(asked_at), reference.as_deref());
    }

    /// A further `join_user` of the same user states the profile anew.
    async fn state_profile(&mut self, Join { user, profile, reference }: Join) {
        let Some(registration) = &self.registration else { return };
        let confirmed = registration.state_profile(profile);
        let asked_at = clock::now();
        let reflected = self.services.replica.reflects(async { confirmed.await.ok() }).await;
        self.show(&user, (!reflected).then_some(asked_at), reference.as_deref());
    }

    /// Sends `welcome` and the first page, and listens from there on. `unconfirmed_since`: the store has not confirmed the
    /// join, so what is shown may be out of date.
    fn show(&mut self, user: &UserId, unconfirmed_since: Option<Timestamp>, reference: Option<&str>) {
        let Some(socket) = self.registration.as_ref().map(Registration::socket) else { return };
        let (sequence, frames) = {
            let view = self.services.replica.view();
            let mut standing = self.standing(&view);
            standing.degraded = standing.degraded.or(unconfirmed_since);
            let welcome = native::welcome(user, socket, view.roster().len(), standing, reference);
            (view.sequence(), [welcome, self.first_page(&view, standing)])
        };
        self.attachment.listen(user, sequence);
        self.attachment.send_at(sequence, frames);
    }

    /// The socket missed events: it forgets everything and gets a fresh first page.
    fn resync(&mut self) {
        let Some(user) = self.registration.as_ref().map(|joined| joined.user().clone()) else { return };
        let (sequence, list) = {
            let view = self.services.replica.view();
            (view.sequence(), self.first_page(&view, self.standing(&view)))
        };
        self.attachment.restart(&user, sequence, [native::resync(), list]);
    }

    /// The answer to `get_online_users`.
    fn show_page(&mut self, cursor: Option<&UserId>, limit: usize, reference: Option<&str>) {
        let (sequence, list) = {
            let view = self.services.replica.view();
            let page = view.roster().page(cursor, limit, None).within(self.services.settings.limits.page_bytes);
            let list = native::online_users_list(&page, view.roster().len(), self.standing(&view), reference);
            (view.sequence(), list)
        };
        match self.services.answers.hold(list) {
            Some(list) => self.attachment.send_at(sequence, [list]),
            None => {
                self.services.metrics.limited(Limit::Answers);
                let message = "too many clients have not read their answers; wait";
                self.attachment.send(native::rate_limited(message, ANSWERS_RETRY, reference));
            }
        }
    }

    /// The list that comes without being asked for. It cannot be refused, so it is short if too many answers wait.
    fn first_page(&self, view: &View, standing: Standing) -> Bytes {
        let limits = &self.services.settings.limits;
        let list = |max_bytes| {
            let page = view.roster().page(None, limits.page_default, None).within(max_bytes);
            native::online_users_list(&page, view.roster().len(), standing, None)
        };
        self.services.answers.hold(list(limits.page_bytes)).unwrap_or_else(|| {
            self.services.metrics.limited(Limit::Answers);
            list(SHORT_PAGE_BYTES)
        })
    }

    fn tell_status(&self, user: &UserId, reference: Option<&str>) {
        let (sequence, frame) = {
            let view = self.services.replica.view();
            let presence = view.roster().get(user);
            (view.sequence(), native::user_online_status(user, presence, self.standing(&view), reference))
        };
        self.attachment.send_at(sequence, [frame]);
    }

    fn leave(&mut self, reference: Option<&str>) {
        let Some(registration) = self.registration.take() else { return };
        self.attachment.mute();
        self.attachment.send(native::left(registration.user(), reference));
        registration.leave();
        self.services.metrics.left(OfflineReason::Left);
        self.heartbeat.left();
    }

    fn standing(&self, view: &View) -> Standing {
        Standing { position: view.position(), degraded: self.services.replica.degraded_since(view) }
    }

    /// Says goodbye on the wire and to the store.
    async fn close(mut self, end: End) {
        let goodbye = Goodbye::of(&end, self.services.settings.drain.reconnect_spread);
        if end == End::TooSlow {
            self.services.metrics.slow_consumer();
        }
        if let Some(registration) = self.registration.take() {
            self.services.metrics.left(goodbye.loss.unwrap_or(OfflineReason::Left));
            match goodbye.loss {
                None => registration.leave(),
                Some(reason) => registration.lose(reason),
            }
        }
        self.attachment.mute();
        let Some((code, reason)) = goodbye.frame else { return };
        self.attachment.send(frame::close(code, &reason));
        // The peer's own close, or the end of its stream, says that it has read ours: closing earlier could reset the
        // connection under it.
        let handshake = async {
            while !self.attachment.is_drained() {
                if self.stream.writable().await.is_err() {
                    return;
                }
                self.attachment.unblock();
            }
            let is_answered = match goodbye.awaits {
                Awaits::Nothing => true,
                Awaits::Reply => self.close_is_answered().await,
                Awaits::End => false,
            };
            if !is_answered {
                // So that the peer sees the end, too, and need not wait for us.
                let _ = SockRef::from(&*self.stream).shutdown(Shutdown::Write);
                self.inbound.discard().await;
            }
        };
        // A peer that does not answer is gone.
        let _ = tokio::time::timeout(close::HANDSHAKE_TIMEOUT, handshake).await;
    }

    /// Waits for the peer's close frame or the end of its stream; false if it breaks the protocol before.
    async fn close_is_answered(&mut self) -> bool {
        loop {
            match self.inbound.next().await {
                Ok(Incoming::Close(_)) | Err(End::Broken) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}
