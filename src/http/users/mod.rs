//! `/api/users/…`: what only the application's server may do (`caller.rs`). No web page may, so these resources have no
//! CORS headers.

mod explain;
mod presence;
mod query;
mod sockets;

use actix_web::web::ServiceConfig;

use super::resource::{deletable, postable, puttable, readable};
use crate::auth::Resource;

/// Registers the resources in the scope `/api/users`.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(postable("/query", Resource::ServerApi, query::ask))
        .service(readable("/{userId}/explain", Resource::ServerApi, explain::explain))
        .service(puttable("/{userId}/presence", Resource::ServerApi, presence::state))
        .service(deletable("/{userId}/sockets", Resource::ServerApi, sockets::disconnect));
}
