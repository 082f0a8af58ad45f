//! `GET /ws` and `GET /`: from a WebSocket handshake to a session. Handshakes at the paths of Socket.IO are in `socketio/`.
//!
//! This is an upgrade service of actix-http, and not a handler of the `App`. It gets the TCP stream itself. The HTTP/1
//! dispatcher with its two buffers of 8 KiB is gone before the session begins (docs/adr/0001). The service gets every
//! request with `Upgrade: websocket`, on any path.

use std::rc::Rc;
use std::sync::Arc;

use actix_codec::Framed;
use actix_http::body::MessageBody;
use actix_http::{Request, RequestHead, Response, Version, h1, ws};
use actix_service::{ServiceFactory, fn_factory, fn_service};
use actix_web::http::header;
use actix_web::{HttpRequest, ResponseError};
use bytes::Bytes;

use super::query::Parameters;
use super::socketio::{self, Engine, OnWorker};
use super::{ApiError, Connection, Readiness, client_address, credential};
use crate::auth::permissions::{self, Place};
use crate::auth::{Auth, Identity, Who};
use crate::domain::{Interest, Said, SaidStatus, Status, UserId};
use crate::metrics::RefusedBecause;
use crate::session::{self, AddressPlace, Addresses, Admission, Hello, Seat};
use crate::settings::{ServerSettings, WebsocketSettings};
use crate::transport::Peer;
use crate::wire::message::Request as Asked;
use crate::wire::{Format, Joins};

/// The format that a WebSocket at this path speaks, unless its URL names another format. It is none if there is no such
/// WebSocket.
fn format_at(path: &str) -> Option<Format> {
    match path {
        "/ws" => Some(Format::Native),
        // The clients of the contract's S4 connect here.
        "/" => Some(Format::Plain),
        _ => None,
    }
}

/// What decides whether a request becomes a socket.
pub(crate) struct Entrance {
    /// Which web pages may connect.
    pub server: ServerSettings,
    /// How often clients are pinged.
    pub websocket: WebsocketSettings,
    /// Who finds out who a client is.
    pub auth: Arc<Auth>,
    /// What the addresses of clients have used.
    pub addresses: Arc<Addresses>,
    /// Whether the node knows who is online.
    pub readiness: Arc<Readiness>,
    /// How many sockets may come in, and how fast.
    pub admission: Arc<Admission>,
    /// What clients of Socket.IO meet.
    pub engine: Engine,
}

/// The service for upgrades. Each worker thread makes one. With it, the thread starts its own part of the sessions.
pub(crate) fn upgrade_service(
    entrance: Arc<Entrance>,
    on_worker: Rc<OnWorker>,
) -> impl ServiceFactory<
    (Request, Framed<Connection, h1::Codec>),
    Config = (),
    Response = (),
    Error = actix_http::Error,
    InitError = (),
> {
    fn_factory(move || {
        let (entrance, on_worker) = (entrance.clone(), on_worker.clone());
        on_worker.worker();
        async move {
            Ok::<_, ()>(fn_service(move |(request, framed): (Request, Framed<Connection, h1::Codec>)| {
                upgrade(entrance.clone(), on_worker.clone(), request, framed)
            }))
        }
    })
}

/// `GET /ws` without an upgrade.
pub(crate) async fn not_an_upgrade(_request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::NotAWebSocketHandshake("no `Upgrade: websocket`".to_owned()))
}

async fn upgrade(
    entrance: Arc<Entrance>,
    on_worker: Rc<OnWorker>,
    request: Request,
    framed: Framed<Connection, h1::Codec>,
) -> Result<(), actix_http::Error> {
    if entrance.engine.is_at(request.path()) {
        return socketio::upgrade(&entrance, &on_worker, &request, framed).await;
    }
    match admit(&entrance, &request).await {
        Ok((hello, seat)) => {
            let parts = accept(request.head(), framed).await?.into_parts();
            session::spawn(&on_worker.worker(), seat, parts.io.into_stream(), &parts.read_buf, hello);
        }
        Err(error) => refuse(&error, framed).await?,
    }
    Ok(())
}

/// Says that the connection is a WebSocket from now on.
pub(super) async fn accept(
    head: &RequestHead,
    framed: Framed<Connection, h1::Codec>,
) -> Result<Framed<Connection, h1::Codec>, actix_http::Error> {
    let mut response = ws::handshake_response(head);
    if credential::offers_ours(head.headers()) {
        // Without this, a browser breaks the connection off.
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, credential::SUBPROTOCOL));
    }
    let response = response.finish().set_body(actix_http::body::None::new());
    h1::SendResponse::new(framed, response).await
}

/// Says why the connection does not become a WebSocket.
pub(super) async fn refuse(
    error: &dyn ResponseError,
    framed: Framed<Connection, h1::Codec>,
) -> Result<(), actix_http::Error> {
    h1::SendResponse::new(framed, refusal(error)).await?;
    Ok(())
}

/// Lets a client in if it may come in. Returns what its URL says, and its seat.
async fn admit(entrance: &Entrance, request: &Request) -> Result<(Hello, Seat), ApiError> {
    // First of all, so that no refusal is free.
    let peer = request.conn_data::<Peer>();
    let place = client_address::enter(request.head(), peer, &entrance.addresses, &entrance.admission)?;
    let usual_format = format_at(request.path()).ok_or(ApiError::NotFound)?;
    verify_handshake(request.head())?;
    verify_origin(entrance, request.head())?;
    let_in(entrance, request.head(), usual_format, place).await
}

/// Whether a message can make a client join.
fn can_join(format: Format) -> bool {
    format.joins() != Joins::AfterAuthenticating
}

/// Browsers apply CORS to HTTP only. Any page can open a WebSocket. So the server has to check the origin.
///
/// # Errors
/// Pages of this origin may not connect.
pub(super) fn verify_origin(entrance: &Entrance, head: &RequestHead) -> Result<(), ApiError> {
    let origin = head.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let is_allowed = origin.is_none_or(|origin| entrance.server.allows_origin(origin));
    if is_allowed { Ok(()) } else { Err(ApiError::OriginNotAllowed) }
}

/// Lets a client in whose handshake is one, and which has a place among the sockets of its address.
///
/// # Errors
/// The node does not know yet who is online, or it drains. The URL is wrong. The client is not who it says. There is no seat.
pub(super) async fn let_in(
    entrance: &Entrance,
    head: &RequestHead,
    usual_format: Format,
    place: AddressPlace,
) -> Result<(Hello, Seat), ApiError> {
    entrance.readiness.require().map_err(|_| entrance.admission.refuse(RefusedBecause::NotReady))?;
    let parameters = Parameters::parse(head.uri.query().unwrap_or_default());
    let format = match usual_format {
        Format::Socketio => Format::Socketio,
        usual => parameters.format("format")?.unwrap_or(usual),
    };
    let (named, interest) = (parameters.user("userId")?, interest(&parameters, format)?);
    let status = parameters.status("status", &Status::ALL)?;
    let status = status.map(|status| SaidStatus { status, text: None, expiry: None, is_repeated: true });
    if status.is_some() && named.is_none() && can_join(format) {
        // A later `join_user` would not have it. So somebody who meant to hide would be shown.
        return Err(ApiError::InvalidParameter { name: "status".to_owned(), what: "needs `userId`".to_owned() });
    }
    // The keys of the issuer may have to come first.
    let identified = entrance.admission.unless_draining(identify(&entrance.auth, head, &parameters)).await;
    let identity = identified.map_err(|because| entrance.admission.refuse(because))??;
    let user = match &identity {
        Some(identity) => user_to_join(identity, format, (named, interest, status.clone()))?,
        // Somebody who meant to hide would be shown, because a later message cannot hide in every format.
        None if status.is_some() => return Err(ApiError::TokenMissing),
        None => None,
    };
    let is_user = |identity: &Arc<Identity>| matches!(identity.who(), Who::User(_));
    let is_named = user.is_some() || identity.as_ref().is_some_and(is_user);
    let hello = Hello { format, greeting: None, identity, interest: interest.unwrap_or_default(), user, status };
    Ok((hello, entrance.admission.admit(place, is_named).await?))
}

/// Who the client is. Where its word counts, a token is not read. But an API key is: a server has no socket.
async fn identify(
    auth: &Auth,
    head: &RequestHead,
    parameters: &Parameters<'_>,
) -> Result<Option<Arc<Identity>>, ApiError> {
    let newcomer = auth.newcomer();
    let shown = credential::of_upgrade(head, parameters);
    let Some(shown) = (if newcomer.is_some() { shown.key()? } else { shown.one()? }) else { return Ok(newcomer) };
    let identity = auth.identify(&shown).await?;
    match identity.who() {
        Who::Server(_) => Err(ApiError::Forbidden("a server has no socket")),
        Who::Anyone | Who::User(_) => Ok(Some(identity)),
    }
}

/// The user that the client joins as at once. If its format has a request to join, the URL must name the user.
fn user_to_join(
    identity: &Identity,
    format: Format,
    (named, interest, status): (Option<UserId>, Option<Interest>, Option<SaidStatus>),
) -> Result<Option<UserId>, ApiError> {
    if named.is_none() && can_join(format) {
        if let Some(interest) = interest {
            let place = Place { is_joined: true, is_in_room: false };
            permissions::check_request(Some(identity), &Asked::Subscribe { interest }, place)?;
        }
        return Ok(None);
    }
    let said = Said { status, ..Said::default() };
    let join = Asked::Join { user: named.clone(), said, device: None, interest, rooms: Vec::new() };
    permissions::check_request(Some(identity), &join, Place { is_joined: false, is_in_room: false })?;
    Ok(permissions::user_for(Some(identity), named)?)
}

/// What the client wants to hear of others, if it says so. A format without requests has no words for some of it.
fn interest(parameters: &Parameters<'_>, format: Format) -> Result<Option<Interest>, ApiError> {
    let interest = parameters.interest("presence")?;
    if !can_join(format) && matches!(interest, Some(Interest::Watched | Interest::Count)) {
        let what = format!("must be everyone or none in the format {}", format.name());
        return Err(ApiError::InvalidParameter { name: "presence".to_owned(), what });
    }
    Ok(interest)
}

/// Checks the headers of a WebSocket's handshake.
///
/// # Errors
/// Something of it is missing.
pub(super) fn verify_handshake(head: &RequestHead) -> Result<(), ApiError> {
    ws::verify_handshake(head).map_err(|error| ApiError::NotAWebSocketHandshake(error.to_string()))?;
    // The check above leaves this out. Source: RFC 6455 §4.2.1
    if head.version < Version::HTTP_11 {
        return Err(ApiError::NotAWebSocketHandshake("HTTP/1.1 at least".to_owned()));
    }
    Ok(())
}

fn refusal(error: &dyn ResponseError) -> Response<Bytes> {
    let (response, body) = error.error_response().into_parts();
    let body = body.try_into_bytes().unwrap_or_default();
    let mut refusal = Response::with_body(response.status(), body);
    *refusal.headers_mut() = response.headers().clone();
    refusal.head_mut().set_connection_type(actix_http::ConnectionType::Close);
    refusal
}
