//! `GET /api/users/{userId}/explain`.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::domain::{
    Change, ChosenStatus, LastSeen, Presence, SocketAccount, StatusText, Timestamp, Transition, UserId,
};
use crate::http::nodes::push_lease;
use crate::http::{ApiError, Reads, ok_json, path};
use crate::peers::{Explanation, NodeAccount, SocketStory, StoreAccount};
use crate::wire::json::{Object, push_user};

/// Says why a user is, or is not, online. If the store does not answer, this says what the node knows, and `degraded`.
///
/// # Errors
/// The caller is not on this machine, or the path has no user id.
pub(crate) async fn explain(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let user = path::user(&request, 2)?;
    let explanation = reads.peers.explain(&user).await;
    let now = clock::now();
    let degraded = explanation.view.degraded.or_else(|| explanation.stored.is_none().then_some(now));
    let mut body = Object::new(2048);
    body.boolean("success", true).object("data", data(&explanation));
    body.degraded(degraded).time("timestamp", now);
    Ok(ok_json(body))
}

fn data(explanation: &Explanation) -> Object {
    let Explanation { user, stored, sockets, nodes, .. } = explanation;
    let mut data = Object::new(2048);
    data.string("userId", user.as_str()).string("presence", explanation.finding().as_str());
    data.string("summary", &explanation.summary());
    if let Some(stored) = stored {
        push_stored(&mut data, user, stored);
    }
    data.objects("sockets", sockets.iter().map(socket));
    data.objects("nodes", nodes.iter().map(node));
    data.object("store", store(stored.as_ref())).object("here", here(explanation));
    data
}

/// What the store says of the user.
fn push_stored(data: &mut Object, user: &UserId, stored: &StoreAccount) {
    if let Some(presence) = &stored.presence {
        push_user(data.member("user"), user, presence);
        data.string("status", presence.effective.as_str()).boolean("hidden", presence.is_hidden());
        if let Some(chosen) = &presence.chosen {
            data.object("chosen", choice(chosen));
        }
        data.object("devices", devices(presence));
    }
    let remembered = stored.last_seen.unwrap_or(LastSeen { seen_at: Timestamp(0), active_at: None });
    let active_at = stored.presence.as_ref().map_or(remembered.active_at, |presence| Some(presence.active_at));
    push_time(data, "lastSeen", remembered.seen_at);
    push_time(data, "lastActive", active_at.unwrap_or_default());
    data.objects("transitions", stored.transitions.iter().map(transition));
}

/// What the user chose.
fn choice(chosen: &ChosenStatus) -> Object {
    let mut object = Object::new(128);
    object.string("status", chosen.status.as_str());
    if let Some(text) = chosen.text.as_ref().map(StatusText::as_str) {
        object.string("statusText", text);
    }
    push_time(&mut object, "at", chosen.at);
    push_time(&mut object, "expiresAt", chosen.expires_at.unwrap_or_default());
    object
}

fn devices(presence: &Presence) -> Object {
    let mut object = Object::new(32);
    presence.devices.iter().for_each(|(kind, n_sockets)| _ = object.number(kind, n_sockets.into()));
    object
}

fn transition(transition: &Transition) -> Object {
    let mut object = Object::new(128);
    object.number("revision", transition.position.revision).time("at", transition.at);
    match &transition.change {
        Change::Online(presence) => object.string("type", "online").string("status", presence.effective.as_str()),
        Change::Changed(presence) => object.string("type", "changed").string("status", presence.effective.as_str()),
        Change::Offline(departure) => object.string("type", "offline").string("reason", departure.reason.as_str()),
    };
    object
}

fn socket(story: &SocketStory) -> Object {
    let mut object = Object::new(256);
    object.string("socketId", &story.socket.to_string()).string("nodeId", story.socket.node.as_str());
    object.string("state", story.state.as_str());
    if let Some(held) = &story.held {
        object.time("since", held.since).number("ageMs", in_ms(held.age));
    }
    let stored_device = story.held.as_ref().and_then(|held| held.device.as_deref());
    let told_device = story.account.as_ref().and_then(|account| account.device.as_ref());
    if let Some(device) = stored_device.or(told_device.map(|device| device.json())) {
        object.encoded("device", device);
    }
    if let Some(account) = &story.account {
        push_account(&mut object, account);
    }
    object
}

/// What the node of a socket says.
fn push_account(object: &mut Object, account: &SocketAccount) {
    object.string("account", &account.state);
    if !account.format.is_empty() {
        object.string("format", &account.format);
    }
    let times = [
        ("heardMsAgo", account.heard_ms_ago),
        ("activeMsAgo", account.active_ms_ago),
        ("graceLeftMs", account.grace_left_ms),
    ];
    for (name, ms) in times {
        ms.map(|ms| object.number(name, ms));
    }
}

fn node(node: &NodeAccount) -> Object {
    let mut object = Object::new(128);
    object.string("nodeId", node.node.as_str()).number("sockets", node.n_sockets as u64);
    object.boolean("answered", node.has_answered);
    if let Some(version) = &node.version {
        object.string("version", version);
    }
    push_lease(&mut object, node.lease);
    object
}

/// Where the store is.
fn store(stored: Option<&StoreAccount>) -> Object {
    let mut object = Object::new(128);
    object.boolean("answered", stored.is_some());
    if let Some(stored) = stored {
        object.number("epoch", stored.position.epoch).number("revision", stored.position.revision);
        object.time("time", stored.now);
    }
    object
}

/// What this node tells.
fn here(explanation: &Explanation) -> Object {
    let view = &explanation.view;
    let shows = match &view.presence {
        None => "absent",
        Some(presence) if presence.is_hidden() => "hidden",
        Some(_) => "visible",
    };
    let mut object = Object::new(256);
    object.string("nodeId", explanation.node.as_str()).string("shows", shows);
    object.boolean("provisional", view.is_provisional);
    if let Some(reason) = view.held {
        object.string("held", reason.as_str());
    }
    object.boolean("holding", view.is_holding);
    object.number("epoch", view.position.epoch).number("revision", view.position.revision);
    object.degraded(view.degraded);
    object
}

/// A time that is 0 is not known, and left out.
fn push_time(object: &mut Object, name: &str, time: Timestamp) {
    if time > Timestamp(0) {
        object.time(name, time);
    }
}

fn in_ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
