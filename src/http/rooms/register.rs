//! `PUT` and `DELETE /api/rooms/{roomId}`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::http::{ApiError, Reads, ok_json, path};
use crate::wire::json::Object;

/// Registers a room. It may be registered already.
///
/// # Errors
/// The caller is not the application's server, the path has no room id, or the store does not answer.
pub(super) async fn put(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let room = path::room(&request, 2)?;
    let is_new = reads.rooms.register(&room).await?;
    let mut data = Object::new(192);
    data.string("roomId", room.as_str()).boolean("created", is_new);
    Ok(done(data))
}

/// Takes a room out of the register, and makes everybody leave it. Says how many users that were, and whether it is
/// complete: every node has confirmed it, and nobody is left.
///
/// # Errors
/// As [`put`].
pub(super) async fn delete(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let room = path::room(&request, 2)?;
    // First of all nobody may enter any more.
    let was_registered = reads.rooms.unregister(&room).await?;
    let emptied = reads.peers.empty_room(&room).await;
    let mut data = Object::new(192);
    data.string("roomId", room.as_str()).boolean("deleted", was_registered);
    data.number("users", emptied.n_users as u64).boolean("confirmed", emptied.is_complete);
    Ok(done(data))
}

/// An answer with this data.
pub(super) fn done(data: Object) -> HttpResponse {
    let mut body = Object::new(512);
    body.boolean("success", true).object("data", data).time("timestamp", clock::now());
    ok_json(body)
}
