//! `GET /api/user-status/{userId}`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::http::lookup::{Sight, push_users};
use crate::http::{ApiError, Reads, ok_json, path};
use crate::wire::body::AskedUser;
use crate::wire::json::Object;

/// Says how a user is.
///
/// # Errors
/// The id is bad. Or the user is not online, and nothing else is known of the user. While the node cannot know that, the
/// answer says so instead.
pub(super) async fn ask(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let user = path::user(&request, 2)?;
    let mut body = Object::new(512);
    body.boolean("success", true);
    let looked_up = push_users(body.member("data"), &[AskedUser::from(&user)], Sight::Visible, &reads).await?;
    if looked_up.n_unknown > 0 && looked_up.degraded.is_none() {
        return Err(ApiError::UserNotFound);
    }
    body.degraded(looked_up.degraded).time("timestamp", clock::now());
    Ok(ok_json(body))
}
