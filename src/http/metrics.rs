//! `GET /metrics`.

use actix_web::{HttpResponse, web};

use super::Reads;

/// The node's metrics, as Prometheus reads them.
pub(crate) async fn scrape(reads: web::Data<Reads>) -> HttpResponse {
    let n_users = reads.replica.view().roster().len();
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(reads.registry.encode(n_users))
}
