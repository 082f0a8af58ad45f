//! HTTP. Each resource has a file. Every answer comes from the replica, without a round trip to the store.

mod connection;
mod error;
mod health;
mod metrics;
mod online_users;
mod pieces;
mod query;
mod upgrade;

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, guard, web};
use tokio_util::sync::CancellationToken;

pub(crate) use self::connection::{Connection, Connections};
pub(crate) use self::error::ApiError;
pub(crate) use self::upgrade::{Entrance, upgrade_service};
use crate::metrics::Registry;
use crate::replica::Replica;
use crate::session::Answers;
use crate::settings::{LimitSettings, ServerSettings};
use crate::wire::json::Object;

/// A body above this size is refused. No resource reads a body yet.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// What the resources answer from.
pub(crate) struct Reads {
    /// Who is online.
    pub replica: Arc<Replica>,
    /// The large answers that wait for their clients.
    pub answers: Arc<Answers>,
    /// How much a list may hold.
    pub limits: LimitSettings,
    /// Cancelled when the node begins to drain. From then on, no client should be sent here.
    pub draining: CancellationToken,
    /// All that is counted.
    pub registry: Registry,
}

/// Registers all resources.
pub(crate) fn configure(config: &mut web::ServiceConfig, reads: Arc<Reads>) {
    config
        .app_data(web::Data::from(reads))
        .service(readable("/api/online-users", online_users::list))
        .service(readable("/healthz", health::alive))
        .service(readable("/readyz", health::ready))
        .service(readable("/metrics", metrics::scrape))
        .service(readable("/ws", upgrade::not_an_upgrade))
        .default_service(web::to(not_found));
}

/// An answer of 200.
fn ok_json(body: Object) -> HttpResponse {
    HttpResponse::Ok().insert_header(json()).body(body.finish())
}

/// The content type of every body, except that of the metrics.
fn json() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

/// Which web pages may read the answers (`server.cors_allowed_origins`).
pub(crate) fn cors(settings: &ServerSettings) -> Cors {
    let cors = Cors::default().allowed_methods(["GET", "HEAD"]).allow_any_header().max_age(3600);
    if settings.allows_any_origin() {
        // The answer is the same for every origin. So a cache needs to keep only one.
        return cors.send_wildcard().allow_any_origin().disable_vary_header();
    }
    settings.cors_allowed_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// A resource that can be read with GET or HEAD. The handler answers both in the same way. For HEAD, actix-http leaves
/// the body out, and keeps its length.
fn readable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
    web::resource(path)
        .guard(guard::fn_guard(|context| !is_too_large(context.head().headers())))
        .route(read)
        .default_service(web::to(method_not_allowed))
}

fn is_too_large(headers: &header::HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > MAX_BODY_BYTES)
}

async fn method_not_allowed() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed)
}

async fn not_found(request: HttpRequest) -> Result<&'static str, ApiError> {
    if is_too_large(request.headers()) {
        return Err(ApiError::PayloadTooLarge { max_bytes: MAX_BODY_BYTES });
    }
    Err(ApiError::NotFound)
}
