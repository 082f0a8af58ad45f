//! `GET /healthz` and `GET /readyz`.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::ApiError;
use crate::clock;
use crate::session::Services;

/// The process is alive. Says nothing about the store: restarting a node does not bring Redis back.
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "success": true, "status": "alive" }))
}

/// Whether the node is to be sent clients: not before it knows who is online, and not while it drains. A node whose store
/// is out of reach still serves, and says so.
pub async fn ready(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    if services.draining.is_cancelled() {
        return Err(ApiError::Draining);
    }
    if !services.replica.is_ready() {
        return Err(ApiError::NotReady);
    }
    let degraded = services.replica.view().degraded();
    let mut body = json!({ "success": true, "status": "ready", "degraded": degraded.is_some() });
    if let Some(as_of) = degraded {
        body["asOf"] = clock::rfc3339(as_of).into();
    }
    Ok(HttpResponse::Ok().json(body))
}
