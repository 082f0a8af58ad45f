//! `GET /api/online-users`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::query::Parameters;
use super::{ApiError, Reads, large_json};
use crate::clock;
use crate::wire::json::{Object, list_capacity, push_users};

/// Says who is online. The parameters are `excludeUserId`, `countOnly`, `limit` and `cursor`. The shape of the answer
/// comes from the contract (S2). `count` is the total of all pages, without the excluded user.
///
/// # Errors
/// A parameter is bad, or too many answers wait for clients that do not read them.
pub(crate) async fn list(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::parse(request.query_string());
    let excluded = parameters.user("excludeUserId")?;
    let limits = &reads.limits;
    let limit = parameters.count("limit", limits.page_max)?.unwrap_or(limits.page_default);
    let cursor = parameters.user("cursor")?;
    let count_only = parameters.flag("countOnly")?;

    let mut body = Object::new(if count_only { 256 } else { list_capacity(limit.min(limits.page_default)) });
    body.boolean("success", true);
    {
        let view = reads.replica.view();
        let roster = view.roster();
        let is_excluded = excluded.as_ref().is_some_and(|user| roster.contains(user));
        if !count_only {
            let page = roster.page(cursor.as_ref(), limit, excluded.as_ref()).within(limits.page_bytes);
            push_users(body.member("data"), page.users);
            if let Some(next) = page.next_cursor {
                body.string("nextCursor", next.as_str());
            }
        }
        body.number("count", (roster.len() - usize::from(is_excluded)) as u64);
        body.degraded(reads.replica.degraded_since(&view));
    }
    body.time("timestamp", clock::now());
    large_json(&reads, body)
}
