//! `GET /metrics`.

use actix_web::{HttpResponse, web};

use crate::session::Services;

/// The node's metrics, as Prometheus reads them.
pub async fn scrape(services: web::Data<Services>) -> HttpResponse {
    let n_users = services.replica.view().roster().len();
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(services.registry.encode(n_users))
}
