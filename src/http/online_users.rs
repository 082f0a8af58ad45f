//! `GET /api/online-users`.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};

use super::ApiError;
use super::query::Parameters;
use crate::clock;
use crate::session::Services;
use crate::wire::json::{list_capacity, push_number, push_string, push_users};

/// Who is online: `excludeUserId`, `countOnly`, `limit`, `cursor`. The shape is the contract's (S2); `count` is the total of
/// all pages, less the excluded user.
pub async fn list(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::parse(request.query_string())?;
    let excluded = parameters.user("excludeUserId")?;
    let limits = &services.settings.limits;
    let limit = parameters.count("limit", limits.page_max)?.unwrap_or(limits.page_default);
    let cursor = parameters.user("cursor")?;
    let count_only = parameters.flag("countOnly")?;

    let mut body = Vec::with_capacity(if count_only { 256 } else { list_capacity(limit.min(limits.page_default)) });
    body.extend_from_slice(br#"{"success":true,"#);
    {
        let view = services.replica.view();
        let roster = view.roster();
        let is_excluded = excluded.as_ref().is_some_and(|user| roster.contains(user));
        if !count_only {
            let page = roster.page(cursor.as_ref(), limit, excluded.as_ref());
            body.extend_from_slice(br#""data":"#);
            push_users(&mut body, page.users);
            body.push(b',');
            if let Some(next) = page.next_cursor {
                body.extend_from_slice(br#""nextCursor":"#);
                push_string(&mut body, next.as_str());
                body.push(b',');
            }
        }
        body.extend_from_slice(br#""count":"#);
        push_number(&mut body, (roster.len() - usize::from(is_excluded)) as u64);
        if let Some(as_of) = services.replica.degraded_since(&view) {
            body.extend_from_slice(br#","degraded":true,"asOf":"#);
            push_string(&mut body, &clock::rfc3339(as_of));
        }
    }
    body.extend_from_slice(br#","timestamp":"#);
    push_string(&mut body, &clock::rfc3339(clock::now()));
    body.push(b'}');
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
}
