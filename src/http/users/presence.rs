//! `PUT /api/users/{userId}/presence`.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::auth::profile_limits;
use crate::clock;
use crate::domain::{Presence, Profile, Said};
use crate::http::body::Body;
use crate::http::{ApiError, Reads, ok_json, path};
use crate::replica::Stated;
use crate::wire::body::{BadBody, presence_change};
use crate::wire::json::Object;
use crate::wire::message::ErrorCode;
use crate::wire::status::{Seen, StatusWriter};

/// How long the store is asked again if it does not answer. A request has an answer before a caller gives up.
const WITHIN: Duration = Duration::from_secs(5);

/// What is said if the store did not answer in time.
const MAYBE: &str = "the statement may be in effect, and may be made again";

/// States something about a user who is online or hidden: the application knows better than the client. Answers with
/// what holds then.
///
/// # Errors
/// The caller is not the application's server. Or the id or the body is bad, the user is not present, or the store does
/// not answer. After the last of these, the statement may be in effect. The caller may make it again.
pub(super) async fn state(
    request: HttpRequest,
    payload: web::Payload,
    reads: web::Data<Reads>,
) -> Result<HttpResponse, ApiError> {
    let user = path::user(&request, 2)?;
    let body = Body::read(&request, payload, &reads.bodies).await?;
    let change = presence_change(&body)?;
    drop(body);
    let limits = profile_limits(&reads.limits);
    let asked_at = clock::now();
    let say = |known: &Presence| -> Result<Said, BadBody> {
        let mut said = Said { profile: None, status: change.status.clone() };
        if !change.profile.is_empty() {
            let fields = change.profile.clone().applied_to(known.profile.as_ref());
            let too_large = |error: crate::domain::ProfileError| BadBody {
                code: ErrorCode::InvalidField,
                message: error.to_string(),
            };
            said.profile = Some(Profile::within(&fields, limits).map_err(too_large)?);
        }
        Ok(said)
    };
    let (presence, is_reflected) = match reads.replica.state(&user, say, WITHIN).await {
        Stated::Done { presence, is_reflected } => (presence, is_reflected),
        Stated::NotPresent => return Err(ApiError::UserNotOnline),
        Stated::Refused(refusal) => return Err(refusal.into()),
        Stated::Unknown => return Err(ApiError::StoreUnavailable(MAYBE)),
    };
    let now = clock::now();
    let mut answer = Object::new(512);
    answer.boolean("success", true);
    StatusWriter::new(now).push_even_hidden(answer.member("data"), user.as_str(), Seen::Online(&presence));
    let degraded = reads.replica.degraded_since(&reads.replica.view());
    answer.degraded(degraded.or((!is_reflected).then_some(asked_at))).time("timestamp", now);
    Ok(ok_json(answer))
}
