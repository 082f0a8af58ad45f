//! `/api/users/…`: what only the application's server may do (`loopback.rs`). No web page may, so these resources have no
//! CORS headers.

mod explain;
mod presence;
mod query;
mod sockets;

use actix_web::web::ServiceConfig;

use super::resource::{deletable, postable, puttable, readable};

/// Registers the resources.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(readable("/api/users/{userId}/explain", explain::explain))
        .service(puttable("/api/users/{userId}/presence", presence::state))
        .service(deletable("/api/users/{userId}/sockets", sockets::disconnect))
        .service(postable("/api/users/query", query::ask));
}
