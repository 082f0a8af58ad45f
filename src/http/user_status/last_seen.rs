//! `PUT /api/user-status/last-seen`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::domain::UserId;
use crate::http::body::Body;
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
    reads: web::Data<Reads>,
) -> Result<HttpResponse, ApiError> {
    let named = Parameters::parse(request.query_string()).user("userId")?;
    let body = Body::read_if_any(&request, payload, &reads.bodies).await?;
    let user = caller(named, &body)?;
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

fn caller(named: Option<UserId>, body: &[u8]) -> Result<UserId, ApiError> {
    let in_body = if body.is_empty() { None } else { body::own_user(body)? };
    let bad = |code, message: &str| BadBody { code, message: message.to_owned() };
    match (named, in_body) {
        (Some(named), Some(other)) if named != other => {
            Err(bad(ErrorCode::InvalidField, "`userId` is another one in the URL").into())
        }
        (Some(user), _) | (None, Some(user)) => Ok(user),
        (None, None) => Err(bad(ErrorCode::MissingField, "`userId` is missing").into()),
    }
}
