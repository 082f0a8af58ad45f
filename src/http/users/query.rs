//! `POST /api/users/query`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::lookup::Sight;
use crate::http::{ApiError, Reads, answer_many};

/// Says how many users are, hidden or not, in the order in which the body names them.
///
/// # Errors
/// The caller is not the application's server. The node does not know yet who is online. Or the body is bad, or too much waits
/// to be read or to be sent.
pub(super) async fn ask(
    request: HttpRequest,
    payload: web::Payload,
    reads: web::Data<Reads>,
) -> Result<HttpResponse, ApiError> {
    reads.readiness.require()?;
    answer_many(&request, payload, Sight::EvenHidden, &reads).await
}
