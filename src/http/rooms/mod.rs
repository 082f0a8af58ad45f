//! `/api/rooms/…`: the rooms, for the application's server alone (`loopback.rs`).

mod list;
mod members;
mod register;

use actix_web::web::ServiceConfig;

use super::resource::{readable, registrable};

/// Registers the resources.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(readable("/api/rooms", list::list))
        .service(registrable("/api/rooms/{roomId}", register::put, register::delete))
        .service(registrable("/api/rooms/{roomId}/members/{userId}", members::put, members::delete));
}
