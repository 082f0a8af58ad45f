//! What all resources have in common: their methods, and how other methods and large bodies are refused.

use std::future::ready;

use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, Route, guard, web};

use super::error::Methods;
use super::{ApiError, body};

/// If a resource reads no body, a body above this size is refused.
const MAX_UNREAD_BYTES: u64 = 64 * 1024;

/// A resource that can be read with GET or HEAD. The handler answers both in the same way. For HEAD, actix-http leaves
/// the body out, and keeps its length.
pub(super) fn readable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
    web::resource(path)
        .guard(guard::fn_guard(|context| !body::is_longer_than(context.head().headers(), MAX_UNREAD_BYTES)))
        .route(read)
        .default_service(other_methods(Methods::Read, MAX_UNREAD_BYTES))
}

/// A resource that takes a body with POST.
pub(super) fn postable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    web::resource(path).route(web::post().to(handler)).default_service(other_methods(Methods::Post, body::MAX_BYTES))
}

/// A resource that takes a body with PUT.
pub(super) fn puttable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    web::resource(path).route(web::put().to(handler)).default_service(other_methods(Methods::Put, body::MAX_BYTES))
}

/// A resource that can only be deleted.
pub(super) fn deletable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    web::resource(path)
        .guard(guard::fn_guard(|context| !body::is_longer_than(context.head().headers(), MAX_UNREAD_BYTES)))
        .route(web::delete().to(handler))
        .default_service(other_methods(Methods::Delete, MAX_UNREAD_BYTES))
}

/// A resource that can be put and deleted, without a body.
pub(super) fn registrable<Put, PutArgs, Delete, DeleteArgs>(path: &str, put: Put, delete: Delete) -> Resource
where
    Put: Handler<PutArgs>,
    Put::Output: Responder + 'static,
    PutArgs: FromRequest + 'static,
    Delete: Handler<DeleteArgs>,
    Delete::Output: Responder + 'static,
    DeleteArgs: FromRequest + 'static,
{
    web::resource(path)
        .guard(guard::fn_guard(|context| !body::is_longer_than(context.head().headers(), MAX_UNREAD_BYTES)))
        .route(web::put().to(put))
        .route(web::delete().to(delete))
        .default_service(other_methods(Methods::PutOrDelete, MAX_UNREAD_BYTES))
}

/// The answer where there is no resource. Requests with a large body for a resource that reads none come here, too.
pub(super) async fn not_found(request: HttpRequest) -> Result<&'static str, ApiError> {
    if body::is_longer_than(request.headers(), MAX_UNREAD_BYTES) {
        return Err(ApiError::PayloadTooLarge { max_bytes: MAX_UNREAD_BYTES });
    }
    Err(ApiError::NotFound)
}

fn other_methods(allowed: Methods, max_bytes: u64) -> Route {
    web::to(move |request: HttpRequest| {
        let is_too_large = body::is_longer_than(request.headers(), max_bytes);
        let error =
            if is_too_large { ApiError::PayloadTooLarge { max_bytes } } else { ApiError::MethodNotAllowed { allowed } };
        ready(Err::<&'static str, _>(error))
    })
}
