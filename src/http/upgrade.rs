//! `GET /ws` and `GET /`: from a WebSocket handshake to a session.
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
use super::{ApiError, Connection};
use crate::domain::{Interest, SaidStatus, Status};
use crate::session::{self, Admission, Hello, Seat, Worker};
use crate::settings::ServerSettings;
use crate::wire::Format;

/// The format that a WebSocket at this path speaks, unless its URL names another format. It is none if there is no
/// WebSocket at this path.
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
    /// How many sockets may come in, and how fast.
    pub admission: Arc<Admission>,
}

/// The service for upgrades. Each worker thread makes one. With it, the thread starts its own part of the sessions.
pub(crate) fn upgrade_service(
    entrance: Arc<Entrance>,
    start_worker: impl Fn() -> Rc<Worker>,
) -> impl ServiceFactory<
    (Request, Framed<Connection, h1::Codec>),
    Config = (),
    Response = (),
    Error = actix_http::Error,
    InitError = (),
> {
    fn_factory(move || {
        let (entrance, worker) = (entrance.clone(), start_worker());
        async move {
            Ok::<_, ()>(fn_service(move |(request, framed): (Request, Framed<Connection, h1::Codec>)| {
                upgrade(entrance.clone(), worker.clone(), request, framed)
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
    worker: Rc<Worker>,
    request: Request,
    framed: Framed<Connection, h1::Codec>,
) -> Result<(), actix_http::Error> {
    match admit(&entrance, &request).await {
        Ok((hello, seat)) => {
            let response = ws::handshake_response(request.head()).finish().set_body(actix_http::body::None::new());
            let parts = h1::SendResponse::new(framed, response).await?.into_parts();
            session::spawn(&worker, seat, parts.io.into_stream(), &parts.read_buf, hello);
        }
        Err(error) => {
            h1::SendResponse::new(framed, refusal(&error)).await?;
        }
    }
    Ok(())
}

/// Lets a client in if it may come in. Returns what its URL says, and its seat.
async fn admit(entrance: &Entrance, request: &Request) -> Result<(Hello, Seat), ApiError> {
    let usual_format = format_at(request.path()).ok_or(ApiError::NotFound)?;
    verify_handshake(request.head())?;
    // Browsers apply CORS to HTTP only. Any page can open a WebSocket. So the server has to check the origin.
    let origin = request.head().headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if origin.is_some_and(|origin| !entrance.server.allows_origin(origin)) {
        return Err(ApiError::OriginNotAllowed);
    }
    let parameters = Parameters::parse(request.uri().query().unwrap_or_default());
    let format = parameters.format("format")?.unwrap_or(usual_format);
    let hello = Hello {
        format,
        interest: interest(&parameters, format)?,
        user: parameters.user("userId")?,
        status: parameters.status("status", &Status::ALL)?.map(|status| SaidStatus {
            status,
            text: None,
            expiry: None,
            is_repeated: true,
        }),
    };
    Ok((hello, entrance.admission.admit().await?))
}

/// What the client wants to hear of others. A format without requests has no words for some of it.
fn interest(parameters: &Parameters<'_>, format: Format) -> Result<Interest, ApiError> {
    let interest = parameters.interest("presence")?.unwrap_or_default();
    if !format.can_join() && matches!(interest, Interest::Watched | Interest::Count) {
        let what = format!("must be everyone or none in the format {}", format.name());
        return Err(ApiError::InvalidParameter { name: "presence".to_owned(), what });
    }
    Ok(interest)
}

fn verify_handshake(head: &RequestHead) -> Result<(), ApiError> {
    ws::verify_handshake(head).map_err(|error| ApiError::NotAWebSocketHandshake(error.to_string()))?;
    // The check above leaves this out. Source: RFC 6455 §4.2.1
    if head.version < Version::HTTP_11 {
        return Err(ApiError::NotAWebSocketHandshake("HTTP/1.1 at least".to_owned()));
    }
    Ok(())
}

fn refusal(error: &ApiError) -> Response<Bytes> {
    let (response, body) = error.error_response().into_parts();
    let body = body.try_into_bytes().unwrap_or_default();
    let mut refusal = Response::with_body(response.status(), body);
    *refusal.headers_mut() = response.headers().clone();
    refusal.head_mut().set_connection_type(actix_http::ConnectionType::Close);
    refusal
}
