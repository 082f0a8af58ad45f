//! `GET /api/chatroom/{roomId}/online-users`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::caller::Caller;
use super::query::Parameters;
use super::{ApiError, Reads, large_json, path};
use crate::auth::Right;
use crate::auth::permissions::Entry;
use crate::clock;
use crate::domain::{Presence, RoomId, SocketId, Timestamp, UserId};
use crate::wire::json::{Object, list_capacity};

/// Says who is in a room. The shape of the answer comes from the contract (S0). The parameters are `userId` (who asks),
/// `limit` and `cursor`. A room in which nobody is has 0 users. `onlineCount` is the total of all pages.
///
/// # Errors
/// A parameter is bad, or the asker may not know. Or the store does not answer, and the room is not open here. Or too much
/// waits to be read or to be sent.
pub(super) async fn list(
    request: HttpRequest,
    caller: Caller,
    reads: web::Data<Reads>,
) -> Result<HttpResponse, ApiError> {
    let room = path::room(&request, 2)?;
    let parameters = Parameters::parse(request.query_string());
    let asker = caller.user_for(parameters.user("userId")?)?;
    let entry = caller.may_enter(&room)?;
    let limits = &reads.limits;
    let limit = parameters.count("limit", limits.page_max)?.unwrap_or(limits.page_default);
    let cursor = parameters.user("cursor")?;
    if !reads.rooms.are_open() && caller.is_server_without_users() {
        return Err(ApiError::Forbidden(Right::Admin.as_str()));
    }
    if entry == Entry::ByRule {
        admit(&reads, &room, asker).await?;
    }
    let look = reads.rooms.look_at_sockets(&room).await?;

    let now = clock::now();
    let mut body = Object::new(2 * list_capacity(limit.min(limits.page_default)));
    body.boolean("success", true);
    {
        let view = reads.replica.view();
        let sight = look.at(&view)?;
        let page = sight.page(cursor.as_ref(), limit).within(limits.page_bytes);
        let mut data = Object::new(2 * list_capacity(page.users.len()));
        data.string("roomId", room.as_str()).number("onlineCount", sight.count() as u64);
        let users = page.users.iter().map(|(id, presence)| user(id, presence, look.socket_of(id), now));
        data.objects("onlineUsers", users);
        body.object("data", data);
        if let Some(next) = page.next_cursor {
            body.string("nextCursor", next.as_str());
        }
        body.degraded(reads.replica.degraded_since(&view).or(look.unanswered_since));
    }
    body.time("timestamp", now);
    large_json(&reads, body)
}

/// Lets the asker know who is in the room. Where everybody may, the asker need not say who it is.
async fn admit(reads: &Reads, room: &RoomId, asker: Option<UserId>) -> Result<(), ApiError> {
    if reads.rooms.are_open() {
        return Ok(());
    }
    let missing = || ApiError::InvalidParameter { name: "userId".to_owned(), what: "is missing".to_owned() };
    Ok(reads.rooms.admit(room, &asker.ok_or_else(missing)?).await?)
}

fn user(id: &UserId, presence: &Presence, socket: Option<SocketId>, now: Timestamp) -> Object {
    let username = presence.profile.as_ref().and_then(|profile| profile.username());
    let mut object = Object::new(192);
    object.string("userId", id.as_str());
    push_or_null(&mut object, "socketId", socket.map(|socket| socket.to_string()));
    push_or_null(&mut object, "username", username);
    object.time("lastSeen", if presence.active_at > Timestamp(0) { presence.active_at } else { now });
    object
}

fn push_or_null(object: &mut Object, name: &str, text: Option<String>) {
    match text {
        Some(text) => object.string(name, &text),
        None => object.encoded(name, "null"),
    };
}
