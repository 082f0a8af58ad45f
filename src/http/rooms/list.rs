//! `GET /api/rooms`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::http::query::Parameters;
use crate::http::{ApiError, Reads, large_json};
use crate::wire::json::{Object, list_capacity};

/// Most rooms in a page, and the usual number. For each of them, the store counts the members.
const PAGE_MAX: usize = 1000;

/// Says in which rooms somebody is. The parameters are `limit` and `cursor`. Hidden members count: the application's server
/// may know them.
///
/// # Errors
/// The caller is not the application's server, or a parameter is bad, or the store does not answer.
pub(super) async fn list(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::parse(request.query_string());
    let limit = parameters.count("limit", PAGE_MAX)?.unwrap_or(PAGE_MAX);
    let cursor = parameters.number("cursor")?.unwrap_or(0);
    let page = reads.rooms.page(cursor, limit).await?;
    let mut body = Object::new(list_capacity(page.rooms.len()));
    body.boolean("success", true);
    body.objects(
        "data",
        page.rooms.iter().map(|(room, n_members)| {
            let mut object = Object::new(64);
            object.string("roomId", room.as_str()).number("memberCount", *n_members);
            object
        }),
    );
    if let Some(next) = page.next {
        body.string("nextCursor", &next.to_string());
    }
    body.time("timestamp", clock::now());
    large_json(&reads, body)
}
