//! `GET /metrics`.

use actix_web::{HttpResponse, web};

use super::{Reads, health};
use crate::metrics::NodeState;

/// The node's metrics, as Prometheus reads them.
pub(crate) async fn scrape(reads: web::Data<Reads>) -> HttpResponse {
    let state = {
        let view = reads.replica.view();
        reads.replica.count_degraded(&view);
        NodeState {
            n_users: view.roster().len(),
            is_ready: health::check_ready(&reads).is_ok(),
            is_degraded: reads.replica.degraded_since(&view).is_some(),
            is_holding: view.is_holding(),
            is_draining: reads.draining.is_cancelled(),
        }
    };
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(reads.registry.encode(state))
}
