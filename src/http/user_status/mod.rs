//! `/api/user-status/…`: how users are, for everybody who may ask. The names and shapes come from the contract (S1).

mod batch;
mod count;
mod last_seen;
mod list;
mod one;

use actix_web::web::ServiceConfig;

use super::resource::{postable, puttable, readable};
use crate::auth::Resource;

/// Registers the resources. A user whose id is the name of one of them can be asked about with the batch.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(readable("/api/user-status/online", Resource::UserStatus, list::online))
        .service(readable("/api/user-status/online/count", Resource::UserStatus, count::online))
        .service(postable("/api/user-status/batch", Resource::UserStatus, batch::ask))
        .service(puttable("/api/user-status/last-seen", Resource::LastSeen, last_seen::note))
        .service(readable("/api/user-status/{userId}", Resource::UserStatus, one::ask));
}
