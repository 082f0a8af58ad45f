//! Engine.IO 4: the handshakes, polling over HTTP, and the way from polling to a WebSocket.
//!
//! A client that polls is a session like any other (`transport/pipe.rs`). Its requests only carry packets in and out.

mod error;
mod payload;
mod probe;
mod query;
mod upgrade;

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use bytes::Bytes;
use tracing::info;

pub(crate) use self::error::EngineError;
pub(super) use self::error::Refusal;
pub(crate) use self::payload::read as read_payload;
use self::query::{Asked, Transport};
pub(super) use self::upgrade::upgrade;
use super::body::Body;
use super::connection::Waits;
use super::error::Methods;
use super::upgrade::{let_in, verify_origin};
use super::{ApiError, Entrance, Reads, client_address, head};
use crate::metrics::{RefusedBecause, SocketioMetrics};
use crate::session::{self, Worker, new_sid};
use crate::settings::{SocketioSettings, WebsocketSettings};
use crate::transport::{Peer, Pipe, Sids, Stream};
use crate::wire::{Format, frame, socketio};

/// What clients of Socket.IO meet, besides what every socket does.
pub(crate) struct Engine {
    settings: SocketioSettings,
    /// The sockets that poll.
    sids: Arc<Sids>,
    /// How long a GET waits for something to say, and a POST for a session that does not read.
    patience: Duration,
    /// When it was said last that a client speaks another version.
    noted_at: Mutex<Option<Instant>>,
    metrics: Arc<SocketioMetrics>,
}

/// What the sessions of one worker thread work with. It starts when it is asked for.
pub(crate) struct OnWorker {
    worker: OnceCell<Rc<Worker>>,
    start: Box<dyn Fn() -> Rc<Worker>>,
}

/// How often at most it is said that clients speak another version.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);

impl Engine {
    /// Nobody has come yet. A load balancer waits about as long for an answer as this node gives a request (`request_timeout`).
    /// So a request that waits has an answer within two thirds of that time.
    pub(crate) fn new(
        settings: SocketioSettings,
        sids: Arc<Sids>,
        request_timeout: Duration,
        metrics: Arc<SocketioMetrics>,
    ) -> Self {
        Self { settings, sids, patience: request_timeout * 2 / 3, noted_at: Mutex::new(None), metrics }
    }

    /// How many clients poll, and how many may.
    pub(super) fn fill(&self) -> (usize, usize) {
        self.sids.fill()
    }

    /// Where clients of Socket.IO connect, without a slash at the end.
    pub(super) fn paths(&self) -> &[String] {
        &self.settings.paths
    }

    /// Whether clients of Socket.IO connect at this path.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.settings.has_path(path)
    }

    /// Counts a refusal.
    fn refused(&self, refusal: &Refusal) {
        let Refusal::Engine(error) = refusal else { return };
        self.metrics.refused(error.code());
        if *error == EngineError::VersionUnknown {
            self.note_version();
        }
    }

    /// Says that a client speaks another version. Its developer sees only that it does not connect.
    fn note_version(&self) {
        let mut noted_at = self.noted_at.lock().unwrap_or_else(PoisonError::into_inner);
        if noted_at.is_none_or(|at| at.elapsed() >= NOTE_INTERVAL) {
            *noted_at = Some(Instant::now());
            info!(
                "A client speaks another version than Engine.IO 4, and was refused. socket.io-client 3 and 4 speak it."
            );
        }
    }

    /// The first packet of a session, as text: its id, and the numbers that the client keeps to.
    fn open_packet(&self, transport: Transport, sid: &str, websocket: &WebsocketSettings) -> String {
        let (upgrades, max_payload): (&[&str], _) = match transport {
            Transport::Polling => (&["websocket"], self.settings.max_payload_with(websocket.max_frame_bytes)),
            Transport::Websocket => (&[], websocket.max_frame_bytes),
        };
        // The client gives up when the node does.
        let ping_timeout = websocket.silence_timeout.saturating_sub(websocket.ping_interval);
        let (interval_ms, timeout_ms) = (websocket.ping_interval.as_millis() as u64, ping_timeout.as_millis() as u64);
        socketio::open(sid, upgrades, interval_ms, timeout_ms, max_payload)
    }

    /// The same as the first frame of a WebSocket. Its id is in no table, because no request comes for it.
    fn greeting(&self, websocket: &WebsocketSettings) -> Bytes {
        let sid = self.sids.sid(&new_sid());
        frame::text(self.open_packet(Transport::Websocket, sid.as_str(), websocket).as_bytes())
    }
}

impl OnWorker {
    /// `start` starts it on the current thread.
    pub(crate) fn new(start: impl Fn() -> Rc<Worker> + 'static) -> Rc<Self> {
        Rc::new(Self { worker: OnceCell::new(), start: Box::new(start) })
    }

    /// What the sessions of this thread work with.
    pub(super) fn worker(&self) -> Rc<Worker> {
        self.worker.get_or_init(|| (self.start)()).clone()
    }
}

/// The resource at a path. The official client puts a slash at its end.
pub(super) fn resource(path: &str) -> Resource {
    web::resource([path.to_owned(), format!("{path}/")]).default_service(web::to(serve))
}

/// Any request but a handshake of a WebSocket.
async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    entrance: web::Data<Entrance>,
    reads: web::Data<Reads>,
) -> Result<HttpResponse, Refusal> {
    let answered = answer(&request, payload, &entrance, &reads).await;
    answered.inspect_err(|refusal| entrance.engine.refused(refusal))
}

async fn answer(
    request: &HttpRequest,
    payload: web::Payload,
    entrance: &Entrance,
    reads: &Reads,
) -> Result<HttpResponse, Refusal> {
    let asked = Asked::read(request.query_string());
    let (transport, method) = (asked.transport(), request.method());
    let pipe = asked.sid.as_deref().and_then(|sid| entrance.engine.sids.get(sid));
    let refusal = match (transport, &asked.sid, pipe) {
        (Ok(Transport::Polling), _, Some((_, pipe))) if method == Method::GET || method == Method::POST => {
            head::admit(request.head(), &entrance.addresses)?;
            let answered = match *method {
                Method::POST => take(request, payload, &pipe, (entrance, reads)).await,
                _ => fetch(request, &pipe, &entrance.engine).await,
            };
            match answered {
                // The socket counts already. Its requests are its messages.
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            }
        }
        (Err(error), ..) => error.into(),
        (Ok(Transport::Polling), ..) if !entrance.engine.sids.may_poll() => EngineError::TransportUnknown.into(),
        (Ok(_), Some(_), None) => EngineError::SessionUnknown.into(),
        (Ok(Transport::Polling), Some(_), Some(_)) => ApiError::MethodNotAllowed { allowed: Methods::GetOrPost }.into(),
        (Ok(_), None, _) if method != Method::GET => EngineError::BadMethod.into(),
        // A WebSocket comes with an `Upgrade`, and then not here.
        (Ok(Transport::Websocket), ..) => EngineError::BadRequest.into(),
        (Ok(Transport::Polling), None, _) => return begin(request, entrance).await,
    };
    client_address::pass(request.head(), request.conn_data::<Peer>(), &entrance.addresses).await?;
    Err(refusal)
}

/// Begins a session that polls. It is on this thread, and its requests may come on others.
async fn begin(request: &HttpRequest, entrance: &Entrance) -> Result<HttpResponse, Refusal> {
    let (head, engine) = (request.head(), &entrance.engine);
    let place = client_address::enter(head, request.conn_data::<Peer>(), &entrance.addresses, &entrance.admission)?;
    verify_origin(entrance, head).map_err(|_| EngineError::Forbidden)?;
    if !engine.sids.has_room() {
        return Err(no_room(entrance));
    }
    let (hello, seat) = let_in(entrance, head, Format::Socketio, place).await?;
    let sid = engine.sids.sid(&new_sid());
    let stream = engine.sids.open(&sid).ok_or_else(|| no_room(entrance))?;
    let worker = request.app_data::<Rc<OnWorker>>().ok_or(ApiError::NotFound)?.worker();
    session::spawn(&worker, seat, Stream::Polling(Box::new(stream)), &[], hello);
    engine.metrics.opened(true);
    Ok(packets(engine.open_packet(Transport::Polling, sid.as_str(), &entrance.websocket).into_bytes()))
}

/// `socketio.max_polling` is reached.
fn no_room(entrance: &Entrance) -> Refusal {
    ApiError::from(entrance.admission.refuse(RefusedBecause::Busy)).into()
}

/// A GET: what the session says, or nothing after some time.
async fn fetch(request: &HttpRequest, pipe: &Pipe, engine: &Engine) -> Result<HttpResponse, Refusal> {
    let _waiting = request.conn_data::<Waits>().map(Waits::begin);
    Ok(packets(pipe.poll(engine.patience).await?))
}

/// A POST: what the client says. It is answered once the session has taken what came before.
async fn take(
    request: &HttpRequest,
    payload: web::Payload,
    pipe: &Arc<Pipe>,
    (entrance, reads): (&Entrance, &Reads),
) -> Result<HttpResponse, Refusal> {
    let engine = &entrance.engine;
    let giving = pipe.begin_give()?;
    if is_binary(request) {
        giving.refuse();
        return Err(EngineError::BadRequest.into());
    }
    let max_bytes = engine.settings.max_payload_with(entrance.websocket.max_frame_bytes) as u64;
    // What was not read is lost for the session. So it ends, as it does for the official client.
    let read = Body::read_up_to(max_bytes, request.headers(), payload, &reads.bodies).await;
    let body = read.map_err(|error| match error {
        ApiError::PayloadTooLarge { .. } | ApiError::TooManyBodies => error.into(),
        // It did not come whole.
        _ => Refusal::from(EngineError::BadRequest),
    })?;
    let Ok(given) = read_payload(&body) else {
        giving.refuse();
        return Err(EngineError::BadRequest.into());
    };
    drop(body);
    let _waiting = request.conn_data::<Waits>().map(Waits::begin);
    giving.give(given.frames, given.says_close, engine.patience).await?;
    // As text/plain, some browsers would offer it as a download. Source: `onDataRequest` of engine.io 6.6
    let answer =
        HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "text/html")).insert_header(no_store()).body("ok");
    Ok(answer)
}

/// Engine.IO 3 had binary payloads.
fn is_binary(request: &HttpRequest) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"application/octet-stream"))
}

fn packets(payload: Vec<u8>) -> HttpResponse {
    let text = (header::CONTENT_TYPE, "text/plain; charset=UTF-8");
    HttpResponse::Ok().insert_header(text).insert_header(no_store()).body(payload)
}

/// What one client is told is nobody else's, and nothing for later.
fn no_store() -> (header::HeaderName, &'static str) {
    (header::CACHE_CONTROL, "no-store")
}
