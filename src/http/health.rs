//! `GET /healthz` and `GET /readyz`.

use actix_web::{HttpResponse, web};

use super::readiness::Unready;
use super::{ApiError, Reads, ok_json};
use crate::wire::json::Object;

/// Says that the process is alive. It says nothing about the store, because a restart of a node does not bring Redis
/// back.
pub(crate) async fn alive() -> HttpResponse {
    let mut body = Object::new(64);
    body.boolean("success", true).string("status", "alive");
    ok_json(body)
}

/// Says whether clients may be sent to this node. The node is not ready before it knows who is online, and not while it
/// drains. Nor is it before it has the keys of the issuer: it could let nobody in. While the store is out of reach, the node
/// still serves, and says that it is degraded.
pub(crate) async fn ready(reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    check_ready(&reads).map_err(ApiError::Unready)?;
    let degraded = reads.replica.view().degraded();
    let mut body = Object::new(128);
    body.boolean("success", true).string("status", "ready");
    match degraded {
        Some(_) => body.degraded(degraded),
        None => body.boolean("degraded", false),
    };
    Ok(ok_json(body))
}

/// Whether clients may be sent to this node.
///
/// # Errors
/// Why they may not.
pub(super) fn check_ready(reads: &Reads) -> Result<(), Unready> {
    if reads.draining.is_cancelled() {
        return Err(Unready::Draining);
    }
    if !reads.replica.has_snapshot() || !reads.auth.is_ready() {
        return Err(Unready::NotReady);
    }
    if !reads.replica.is_ready() {
        return Err(Unready::Held);
    }
    Ok(())
}
