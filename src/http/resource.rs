//! What all resources have in common: who may use them, their methods, and how other methods and large bodies are refused.

use std::cell::OnceCell;
use std::future::ready;
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{HttpServiceFactory, ServiceRequest};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, FromRequest, Handler, HttpRequest, Resource as Routes, Responder, Route, guard, web};

use super::connection::Waits;
use super::error::Methods;
use super::{ApiError, Reads, body, caller};
use crate::auth::Resource;
use crate::metrics::ResourceMetrics;

/// If a resource reads no body, a body above this size is refused.
const MAX_UNREAD_BYTES: u64 = 64 * 1024;

/// A resource that can be read with GET or HEAD. The handler answers both in the same way. For HEAD, actix-http leaves
/// the body out, and keeps its length.
pub(super) fn readable<F, Args>(path: &str, resource: Resource, handler: F) -> impl HttpServiceFactory + use<F, Args>
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
    let routes = web::resource(path)
        .guard(guard::fn_guard(|context| !body::is_longer_than(context.head().headers(), MAX_UNREAD_BYTES)))
        .route(read)
        .default_service(other_methods(Methods::Read, MAX_UNREAD_BYTES));
    for_callers(resource, routes)
}

/// A resource that takes a body with POST.
pub(super) fn postable<F, Args>(path: &str, resource: Resource, handler: F) -> impl HttpServiceFactory + use<F, Args>
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let routes = web::resource(path)
        .route(web::post().to(handler))
        .default_service(other_methods(Methods::Post, body::MAX_BYTES));
    for_callers(resource, routes)
}

/// A resource that takes a body with PUT.
pub(super) fn puttable<F, Args>(path: &str, resource: Resource, handler: F) -> impl HttpServiceFactory + use<F, Args>
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let routes =
        web::resource(path).route(web::put().to(handler)).default_service(other_methods(Methods::Put, body::MAX_BYTES));
    for_callers(resource, routes)
}

/// A resource that can only be deleted.
pub(super) fn deletable<F, Args>(path: &str, resource: Resource, handler: F) -> impl HttpServiceFactory + use<F, Args>
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let routes = web::resource(path)
        .guard(guard::fn_guard(|context| !body::is_longer_than(context.head().headers(), MAX_UNREAD_BYTES)))
        .route(web::delete().to(handler))
        .default_service(other_methods(Methods::Delete, MAX_UNREAD_BYTES));
    for_callers(resource, routes)
}

/// A resource that can be put and deleted, without a body.
pub(super) fn registrable<Put, PutArgs, Delete, DeleteArgs>(
    path: &str,
    resource: Resource,
    put: Put,
    delete: Delete,
) -> impl HttpServiceFactory + use<Put, PutArgs, Delete, DeleteArgs>
where
    Put: Handler<PutArgs>,
    Put::Output: Responder + 'static,
    PutArgs: FromRequest + 'static,
    Delete: Handler<DeleteArgs>,
    Delete::Output: Responder + 'static,
    DeleteArgs: FromRequest + 'static,
{
    let routes = web::resource(path)
        .guard(guard::fn_guard(|context| !body::is_longer_than(context.head().headers(), MAX_UNREAD_BYTES)))
        .route(web::put().to(put))
        .route(web::delete().to(delete))
        .default_service(other_methods(Methods::PutOrDelete, MAX_UNREAD_BYTES));
    for_callers(resource, routes)
}

/// Above this size, an answer counts as large.
const LARGE_BYTES: u64 = 4096;

/// Lets only those use the routes who may use the resource.
fn for_callers(resource: Resource, routes: Routes) -> impl HttpServiceFactory {
    // The whole path of the resource is known when its first request comes.
    let metrics = Rc::new(OnceCell::new());
    routes.wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
        let metrics = metrics.clone();
        async move {
            let began = Instant::now();
            let _answering = request.conn_data::<Waits>().map(Waits::answer);
            metrics_of(&metrics, &request);
            let response = caller::identify(resource, request, next).await?;
            if let Some(metrics) = metrics.get() {
                metrics.answered(began.elapsed());
            }
            if is_large(response.response().body()) {
                tokio::task::yield_now().await;
            }
            Ok::<_, Error>(response)
        }
    }))
}

fn metrics_of(metrics: &OnceCell<ResourceMetrics>, request: &ServiceRequest) {
    if metrics.get().is_none()
        && let (Some(reads), Some(path)) = (request.app_data::<web::Data<Reads>>(), request.match_pattern())
    {
        let _ = metrics.set(reads.requests.of(&path));
    }
}

/// Whether an answer has taken so long that others should have their turn before the next one. A client may send many requests
/// at once, and actix-http answers them in one go.
fn is_large(body: &BoxBody) -> bool {
    matches!(body.size(), BodySize::Sized(n_bytes) if n_bytes > LARGE_BYTES)
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
