//! `/api/rooms/…`: the rooms, for the application's server alone (`caller.rs`).

mod list;
mod members;
mod register;

use actix_web::web::ServiceConfig;

use super::resource::{readable, registrable};
use crate::auth::Resource;

/// Registers the resources in the scope `/api/rooms`.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(readable("", Resource::ServerApi, list::list))
        .service(registrable("/{roomId}", Resource::ServerApi, register::put, register::delete))
        .service(registrable("/{roomId}/members/{userId}", Resource::ServerApi, members::put, members::delete));
}
