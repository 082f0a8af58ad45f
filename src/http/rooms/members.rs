//! `PUT` and `DELETE /api/rooms/{roomId}/members/{userId}`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::register::done;
use crate::http::{ApiError, Reads, path};
use crate::peers::{Disconnected, Disconnection};
use crate::wire::json::Object;

/// Registers a member of a room. The user may be registered there already.
///
/// # Errors
/// The caller is not the application's server, the path is bad, the room is not registered, or the store does not answer.
pub(super) async fn put(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let (room, user) = (path::room(&request, 2)?, path::user(&request, 4)?);
    if !reads.rooms.register_member(&room, &user).await? {
        return Err(ApiError::RoomNotFound);
    }
    let mut data = Object::new(192);
    data.string("roomId", room.as_str()).string("userId", user.as_str());
    Ok(done(data))
}

/// Takes a member out of the register, and makes the user leave the room at once, on all nodes. Says which nodes have
/// confirmed that, and how many sockets each had in the room.
///
/// # Errors
/// The caller is not the application's server, the path is bad, or the store does not answer.
pub(super) async fn delete(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let (room, user) = (path::room(&request, 2)?, path::user(&request, 4)?);
    // First of all the user may not enter any more.
    let was_member = reads.rooms.unregister_member(&room, &user).await?;
    let nodes = match reads.peers.remove_from_room(&user, &room).await {
        Disconnection::Everywhere(nodes) => nodes,
        Disconnection::OnlyHere => {
            return Err(ApiError::StoreUnavailable("only the sockets on this node have left the room; try again"));
        }
    };
    let n_left: usize = nodes.iter().map(|node| node.n_sockets).sum();
    let mut data = Object::new(256);
    data.string("roomId", room.as_str()).string("userId", user.as_str()).boolean("deleted", was_member);
    data.number("sockets", n_left as u64).objects("nodes", nodes.iter().map(node));
    Ok(done(data))
}

fn node(node: &Disconnected) -> Object {
    let mut object = Object::new(64);
    object.string("nodeId", node.node.as_str()).number("sockets", node.n_sockets as u64);
    object.boolean("confirmed", node.is_confirmed);
    object
}
