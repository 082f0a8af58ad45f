//! HTTP. Each resource has a file. Who is online is answered from the replica, without a round trip to the store. Who is in a
//! room, and what the application's server asks for, may need the store and the other nodes.

mod body;
mod chatroom;
mod connection;
mod docs;
mod error;
mod health;
mod lookup;
mod loopback;
mod metrics;
mod online_users;
mod path;
mod pieces;
mod query;
mod resource;
mod rooms;
mod upgrade;
mod user_status;
mod users;

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio_util::sync::CancellationToken;

pub(crate) use self::body::Bodies;
use self::body::Body;
pub(crate) use self::connection::{Connection, Connections};
pub(crate) use self::error::ApiError;
use self::lookup::{Sight, push_users};
use self::pieces::Pieces;
use self::resource::{not_found, readable};
pub(crate) use self::upgrade::{Entrance, upgrade_service};
use crate::clock;
use crate::metrics::Registry;
use crate::peers::Peers;
use crate::replica::Replica;
use crate::rooms::Rooms;
use crate::session::Answers;
use crate::settings::{LimitSettings, ServerSettings};
use crate::wire::body::user_ids;
use crate::wire::json::{Object, list_capacity};

/// What the resources answer from.
pub(crate) struct Reads {
    /// Who is online.
    pub replica: Arc<Replica>,
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
    /// All that is counted.
    pub registry: Registry,
}

/// Most users that one request asks about.
const USERS_A_REQUEST: usize = 1000;

/// Registers all resources.
pub(crate) fn configure(config: &mut web::ServiceConfig, reads: Arc<Reads>, settings: &ServerSettings) {
    let public = web::scope("")
        .wrap(cors(settings))
        .configure(user_status::configure)
        .service(readable("/api/online-users", online_users::list))
        .service(readable("/api/chatroom/{roomId}/online-users", chatroom::list))
        .service(readable("/healthz", health::alive))
        .service(readable("/readyz", health::ready))
        .service(readable("/metrics", metrics::scrape))
        .service(readable("/ws", upgrade::not_an_upgrade))
        .service(readable("/openapi.json", docs::openapi))
        .service(readable("/docs", docs::page))
        .service(readable("/docs/docs.css", docs::style))
        .service(readable("/docs/docs.js", docs::script))
        .default_service(web::to(not_found));
    config.app_data(web::Data::from(reads)).configure(users::configure).configure(rooms::configure).service(public);
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
    settings.cors_allowed_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
