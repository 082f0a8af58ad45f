//! HTTP. Each resource has a file. Who is online is answered from the replica, without a round trip to the store. Who is in a
//! room, and what the application's server asks for, may need the store and the other nodes.

mod body;
mod caller;
mod chatroom;
mod client_address;
mod connection;
mod credential;
mod docs;
mod embedded;
mod error;
mod head;
mod health;
mod lookup;
mod loopback;
mod metrics;
mod nodes;
mod online_users;
mod page;
mod path;
mod pieces;
pub(crate) mod query;
mod readiness;
mod resource;
mod rooms;
pub(crate) mod socketio;
mod turns;
mod upgrade;
mod user_status;
mod users;

use std::rc::Rc;
use std::sync::Arc;

use actix_cors::Cors;
use actix_http::RequestHead;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError, web};
use tokio_util::sync::CancellationToken;

pub(crate) use self::body::Bodies;
use self::body::Body;
pub(crate) use self::connection::{Connection, Connections};
pub(crate) use self::error::ApiError;
use self::lookup::{Sight, push_users};
pub(crate) use self::nodes::Counted;
use self::pieces::Pieces;
pub(crate) use self::readiness::Readiness;
use self::resource::{not_found, readable};
pub(crate) use self::socketio::{Engine, EngineError, OnWorker};
pub(crate) use self::turns::in_turns;
pub(crate) use self::upgrade::{Entrance, upgrade_service};
use crate::auth::{Auth, Resource};
use crate::clock;
use crate::metrics::{Registry, RequestMetrics};
use crate::peers::Peers;
use crate::replica::Replica;
use crate::rooms::Rooms;
use crate::session::{Addresses, Answers};
use crate::settings::{LimitSettings, ServerSettings};
use crate::transport::Peer;
use crate::wire::body::user_ids;
use crate::wire::json::{Object, list_capacity};

/// What the resources answer from.
pub(crate) struct Reads {
    /// Who finds out who asks.
    pub auth: Arc<Auth>,
    /// What the addresses of clients have used.
    pub addresses: Arc<Addresses>,
    /// Who is online.
    pub replica: Arc<Replica>,
    /// Whether the node knows that.
    pub readiness: Arc<Readiness>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// The large answers that wait for their clients.
    pub answers: Arc<Answers>,
    /// The bodies that are being read.
    pub bodies: Arc<Bodies>,
    /// How much a list may hold.
    pub limits: LimitSettings,
    /// Cancelled when the node begins to drain. From then on, no client should be sent here.
    pub draining: CancellationToken,
    /// How long requests take.
    pub requests: RequestMetrics,
    /// What the node counts besides.
    pub counted: Counted,
    /// All that is counted.
    pub registry: Registry,
}

/// Most users that one request asks about.
const USERS_A_REQUEST: usize = 1000;

/// Registers all resources. The router tries them in this order. A path with a variable costs a regular expression at each try,
/// and a fixed path or scope costs next to nothing. So the list that is asked for most comes before such paths, and scopes hide
/// those of the server API.
pub(crate) fn configure(
    config: &mut web::ServiceConfig,
    reads: Arc<Reads>,
    entrance: Arc<Entrance>,
    on_worker: Rc<OnWorker>,
) {
    let public = web::scope("")
        .wrap(cors(&entrance.server))
        .wrap(from_fn(bound_preflight))
        .service(readable("/api/online-users", Resource::OnlineUsers, online_users::list))
        .configure(user_status::configure)
        .service(readable("/api/chatroom/{roomId}/online-users", Resource::RoomUsers, chatroom::list))
        .service(readable("/healthz", Resource::Open, health::alive))
        .service(readable("/readyz", Resource::Open, health::ready))
        .service(readable("/metrics", Resource::Metrics, metrics::scrape))
        .service(readable("/ws", Resource::Open, upgrade::not_an_upgrade))
        .service(readable("/openapi.json", Resource::Open, docs::openapi))
        .service(readable("/docs", Resource::Open, docs::page))
        .service(readable("/docs/docs.css", Resource::Open, docs::style))
        .service(readable("/docs/docs.js", Resource::Open, docs::script));
    let paths = entrance.engine.paths().iter();
    let public = paths.fold(public, |public, path| public.service(socketio::resource(path)));
    let public = if entrance.server.page { public.configure(page::configure) } else { public };
    let public = public.default_service(web::to(unknown));
    let users = web::scope("/api/users").configure(users::configure).default_service(web::to(unknown));
    let rooms = web::scope("/api/rooms").configure(rooms::configure).default_service(web::to(unknown));
    let nodes = readable("/api/nodes", Resource::Nodes, nodes::show);
    let config = config.app_data(web::Data::from(reads)).app_data(web::Data::from(entrance)).app_data(on_worker);
    config.service(users).service(rooms).service(nodes).service(public);
}

/// The answer where there is no resource. It counts among the requests of its address, too.
async fn unknown(request: HttpRequest, reads: web::Data<Reads>) -> Result<&'static str, ApiError> {
    client_address::pass(request.head(), request.conn_data::<Peer>(), &reads.addresses).await?;
    not_found(request).await
}

/// Counts a preflight among the requests of its address. CORS answers it before any resource does. Other requests are counted
/// by their resource.
async fn bound_preflight(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if is_preflight(request.head())
        && let Some(reads) = request.app_data::<web::Data<Reads>>().cloned()
        && let Err(error) =
            client_address::pass(request.request().head(), request.request().conn_data::<Peer>(), &reads.addresses)
                .await
    {
        return Ok(request.into_response(error.error_response()));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::OPTIONS && head.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// An answer of 200.
fn ok_json(body: Object) -> HttpResponse {
    HttpResponse::Ok().insert_header(json()).body(body.finish())
}

/// An answer of 200 that may be large.
///
/// # Errors
/// Too many answers wait for clients that do not read them.
fn large_json(reads: &Reads, body: Object) -> Result<HttpResponse, ApiError> {
    let body = reads.answers.hold(body.finish().into()).ok_or(ApiError::TooManyAnswers)?;
    Ok(HttpResponse::Ok().insert_header(json()).body(Pieces(body)))
}

/// Answers a request that asks about many users.
async fn answer_many(
    request: &HttpRequest,
    payload: web::Payload,
    sight: Sight,
    reads: &Reads,
) -> Result<HttpResponse, ApiError> {
    let asked = Body::read(request, payload, &reads.bodies).await?;
    let users = user_ids(&asked, USERS_A_REQUEST)?;
    let mut body = Object::new(3 * list_capacity(users.len()));
    let out = body.boolean("success", true).member("data");
    out.push(b'[');
    let looked_up = push_users(out, &users, sight, reads).await?;
    out.push(b']');
    body.degraded(looked_up.degraded).time("timestamp", clock::now());
    large_json(reads, body)
}

/// The content type of every body that is JSON.
fn json() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

/// Which web pages may use the public resources (`server.cors_allowed_origins`).
fn cors(settings: &ServerSettings) -> Cors {
    let cors = Cors::default().allowed_methods(["GET", "HEAD", "POST", "PUT"]).allow_any_header().max_age(3600);
    if settings.allows_any_origin() {
        // The answer is the same for every origin. So a cache needs to keep only one.
        return cors.send_wildcard().allow_any_origin().disable_vary_header();
    }
    // A page may send a token, and read when to come back and why it was refused. "Any page" never gets these: it would be
    // every page that the user happens to look at.
    let cors = cors.supports_credentials().expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE]);
    settings.cors_allowed_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
