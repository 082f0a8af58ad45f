//! `GET /api/user-status/online/count`.

use actix_web::{HttpResponse, web};

use crate::clock;
use crate::domain::Status;
use crate::http::{Reads, ok_json};
use crate::wire::json::Object;

/// Says how many users are online, and how many have each status.
pub(super) async fn online(reads: web::Data<Reads>) -> HttpResponse {
    let mut body = Object::new(256);
    {
        let view = reads.replica.view();
        let roster = view.roster();
        let mut by_status = Object::new(64);
        for status in Status::VISIBLE {
            by_status.number(status.as_str(), roster.count(status) as u64);
        }
        let mut data = Object::new(128);
        data.number("count", roster.len() as u64).object("byStatus", by_status);
        body.boolean("success", true).object("data", data).degraded(reads.replica.degraded_since(&view));
    }
    body.time("timestamp", clock::now());
    ok_json(body)
}
