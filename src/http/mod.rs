//! HTTP, one file a resource. Everything is answered from the replica, without a round trip to the store.

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
use actix_web::{HttpRequest, HttpResponse, guard, web};

pub use self::connection::{Connection, Connections};
pub use self::error::ApiError;
pub use self::upgrade::upgrade_service;
use crate::session::Services;
use crate::settings::ServerSettings;
use crate::wire::json::Object;

/// Bodies above this are refused; no resource reads one yet.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// Registers all resources.
pub fn configure(config: &mut web::ServiceConfig, services: Arc<Services>) {
    config
        .app_data(web::Data::from(services))
        .service(get_only("/api/online-users").route(web::get().to(online_users::list)))
        .service(get_only("/healthz").route(web::get().to(health::alive)))
        .service(get_only("/readyz").route(web::get().to(health::ready)))
        .service(get_only("/metrics").route(web::get().to(metrics::scrape)))
        .service(get_only("/ws").route(web::get().to(upgrade::not_an_upgrade)))
        .default_service(web::to(not_found));
}

/// An answer of 200.
fn ok_json(body: Object) -> HttpResponse {
    HttpResponse::Ok().insert_header(json()).body(body.finish())
}

/// The type of every body but the metrics'.
fn json() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

/// Which web pages may read the answers (`server.cors_allowed_origins`).
pub fn cors(settings: &ServerSettings) -> Cors {
    let cors = Cors::default().allowed_methods(["GET"]).allow_any_header().max_age(3600);
    if settings.allows_any_origin() {
        // The answer is the same for every origin, so caches need not keep one for each.
        return cors.send_wildcard().allow_any_origin().disable_vary_header();
    }
    settings.cors_allowed_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

fn get_only(path: &str) -> actix_web::Resource {
    web::resource(path)
        .guard(guard::fn_guard(|context| !is_too_large(context.head().headers())))
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
