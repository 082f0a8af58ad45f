//! `PUT /api/user-status/last-seen`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::domain::UserId;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::query::Parameters;
use crate::http::{ApiError, Reads, ok_json};
use crate::replica::Noted;
use crate::wire::body::{self, BadBody};
use crate::wire::json::Object;
use crate::wire::message::ErrorCode;

/// Notes that the caller is active. The caller says who it is: in the body, or as `userId` in the URL.
///
/// # Errors
/// The caller does not say who it is, or is not online, or the store does not answer. A hidden user counts as not
/// online: as long as anybody can say to be anybody, the answer must not tell the two apart.
pub(super) async fn note(
    request: HttpRequest,
    payload: web::Payload,
    caller: Caller,
    reads: web::Data<Reads>,
) -> Result<HttpResponse, ApiError> {
    let named = Parameters::parse(request.query_string()).user("userId")?;
    let body = Body::read_if_any(&request, payload, &reads.bodies).await?;
    let user = caller.user_for(named_user(named, &body)?)?.ok_or_else(|| {
        let message = "`userId` is missing".to_owned();
        BadBody { code: ErrorCode::MissingField, message }
    })?;
    let active_at = match reads.replica.note_activity(&user).await {
        Noted::At(active_at) => active_at,
        Noted::NotOnline => return Err(ApiError::UserNotOnline),
        Noted::Unknown => return Err(ApiError::StoreUnavailable("the activity may not be noted; try again")),
    };
    let now = clock::now();
    let mut data = Object::new(192);
    data.string("userId", user.as_str()).time("lastSeen", now).time("lastActive", active_at);
    let mut answer = Object::new(256);
    answer.boolean("success", true).object("data", data);
    answer.degraded(reads.replica.degraded_since(&reads.replica.view())).time("timestamp", now);
    Ok(ok_json(answer))
}

/// The user that the caller names.
fn named_user(named: Option<UserId>, body: &[u8]) -> Result<Option<UserId>, ApiError> {
    let in_body = if body.is_empty() { None } else { body::own_user(body)? };
    match (named, in_body) {
        (Some(named), Some(other)) if named != other => {
            let message = "`userId` is another one in the URL".to_owned();
            Err(BadBody { code: ErrorCode::InvalidField, message }.into())
        }
        (named, in_body) => Ok(named.or(in_body)),
    }
}
