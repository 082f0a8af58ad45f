//! `DELETE /api/users/{userId}/sockets`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::http::{ApiError, Reads, ok_json, path};
use crate::peers::{Disconnected, Disconnection};
use crate::wire::json::Object;

/// Disconnects a user everywhere: closes all sockets of the user, and takes those in grace along. Says which nodes have
/// confirmed that, and how many sockets each had.
///
/// # Errors
/// The caller is not on this machine, the path has no user id, or the store does not answer.
pub(crate) async fn disconnect(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let user = path::user(&request, 2)?;
    let nodes = match reads.peers.disconnect(&user).await {
        Disconnection::Everywhere(nodes) => nodes,
        Disconnection::OnlyHere => {
            return Err(ApiError::StoreUnavailable("only the sockets on this node were closed; try again"));
        }
    };
    let n_closed: usize = nodes.iter().filter(|node| node.is_confirmed).map(|node| node.n_sockets).sum();
    let mut data = Object::new(256);
    data.string("userId", user.as_str()).number("sockets", n_closed as u64);
    data.objects("nodes", nodes.iter().map(node));
    let mut body = Object::new(512);
    body.boolean("success", true).object("data", data).time("timestamp", clock::now());
    Ok(ok_json(body))
}

fn node(node: &Disconnected) -> Object {
    let mut object = Object::new(64);
    object.string("nodeId", node.node.as_str()).number("sockets", node.n_sockets as u64);
    object.boolean("confirmed", node.is_confirmed);
    object
}
