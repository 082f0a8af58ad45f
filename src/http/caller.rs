//! Who asks. Each request for a resource comes by here.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, ResponseError, web};

use tracing::info;

use super::{ApiError, Reads, client_address, credential, loopback};
use crate::auth::permissions::{self, Entry, Resource};
use crate::auth::{Identity, Right, Who};
use crate::domain::{RoomId, UserId};
use crate::transport::Peer;

/// Who asks. It is none if nobody has said that, and the resource is open to everybody.
#[derive(Clone)]
pub(super) struct Caller(Option<Arc<Identity>>);

impl Caller {
    /// The user that the caller acts as, if it names this user or nobody.
    ///
    /// # Errors
    /// The caller may not act as the user that it names.
    pub(super) fn user_for(&self, named: Option<UserId>) -> Result<Option<UserId>, ApiError> {
        Ok(permissions::user_for(self.0.as_deref(), named)?)
    }

    /// Whether the caller may know who is in a room.
    ///
    /// # Errors
    /// Its token names rooms, and not this one.
    pub(super) fn may_enter(&self, room: &RoomId) -> Result<Entry, ApiError> {
        Ok(permissions::may_enter(self.0.as_deref(), room)?)
    }

    /// Whether the caller is an application's server that may not name users.
    pub(super) fn is_server_without_users(&self) -> bool {
        let is_server = |identity: &Arc<Identity>| matches!(identity.who(), Who::Server(_));
        self.0.as_ref().is_some_and(|identity| is_server(identity) && !identity.has(Right::Admin))
    }

    /// The name of the caller's API key.
    fn server(&self) -> Option<Arc<str>> {
        match self.0.as_ref()?.who() {
            Who::Server(name) => Some(name.clone()),
            Who::Anyone | Who::User(_) => None,
        }
    }
}

/// Finds out who asks for a resource, and lets the request pass if it may. The resource gets a [`Caller`].
pub(super) async fn identify(
    resource: Resource,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match caller_of(resource, request.request()).await {
        Ok(caller) => {
            let server = caller.server().filter(|_| resource.is_for_servers());
            request.extensions_mut().insert(caller);
            let Some(server) = server else { return next.call(request).await };
            let (method, path) = (request.method().clone(), request.path().to_owned());
            let answer = next.call(request).await?;
            let status = answer.status().as_u16();
            // Ids are what users chose, so they are escaped.
            info!(caller = &*server, %method, path = ?path, status, "{server}: {method} {path:?} {status}");
            Ok(answer)
        }
        // An answer, and no error: an error would pass by the middleware that makes a page able to read it.
        Err(error) => Ok(request.into_response(error.error_response())),
    }
}

async fn caller_of(resource: Resource, request: &HttpRequest) -> Result<Caller, ApiError> {
    let reads = request.app_data::<web::Data<Reads>>().ok_or(ApiError::NotFound)?;
    client_address::pass(request.head(), request.conn_data::<Peer>(), &reads.addresses).await?;
    let newcomer = reads.auth.newcomer();
    let shown = credential::of_request(request.headers());
    let shown = match resource {
        // A health check with an old token is answered all the same.
        Resource::Open => None,
        // Where the word of clients counts, tokens are not read.
        _ if newcomer.is_some() => shown.key()?,
        _ => shown.one()?,
    };
    let caller = match shown {
        Some(shown) => Some(reads.auth.identify(&shown).await?),
        None => newcomer,
    };
    reads.auth.check_resource(caller.as_deref(), resource)?;
    if resource.tells_presence() {
        reads.readiness.require()?;
    }
    let is_unknown = caller.as_ref().is_some_and(|identity| *identity.who() == Who::Anyone);
    if resource.is_local() && is_unknown {
        loopback::require(request)?;
    }
    Ok(Caller(caller))
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Each resource of `resource.rs` has a caller.
        ready(request.extensions().get::<Self>().cloned().ok_or(ApiError::NotFound))
    }
}
