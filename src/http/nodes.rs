//! `GET /api/nodes`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::connection::Connections;
use super::health::check_ready;
use super::upgrade::Entrance;
use super::{ApiError, Reads, large_json};
use crate::clock;
use crate::domain::{Profile, Told};
use crate::metrics::{HubMetrics, SessionMetrics};
use crate::peers::{Lease, Survey, SurveyedNode};
use crate::replica::{Announcement, ViewGuard};
use crate::wire::Format;
use crate::wire::json::Object;

/// What a node counts, for those who ask how it is.
pub(crate) struct Counted {
    /// The sockets, and what is written to them.
    pub(crate) hubs: HubMetrics,
    /// Who comes and goes.
    pub(crate) sessions: SessionMetrics,
    /// The HTTP connections.
    pub(crate) connections: Arc<Connections>,
    /// Which store is in use: `redis` or `embedded`.
    pub(crate) store: &'static str,
}

/// Says how this node is, how all nodes of the service are, and what happened last. If the store does not answer, this says what
/// the node knows, and `degraded`.
///
/// # Errors
/// Too many answers wait for clients that do not read them.
pub(super) async fn show(reads: web::Data<Reads>, entrance: web::Data<Entrance>) -> Result<HttpResponse, ApiError> {
    let survey = reads.peers.survey().await;
    let mut here = identity(&reads);
    push_limits(&mut here, &reads, &entrance);
    push_counters(&mut here, &reads);
    let mut data = Object::new(4096);
    let degraded = {
        let view = reads.replica.view();
        let degraded = reads.replica.degraded_since(&view);
        push_view(&mut here, &view);
        here.degraded(degraded);
        data.object("here", here).object("store", store(reads.counted.store, &survey));
        data.objects("nodes", survey.nodes.iter().map(node))
            .objects("transitions", view.newest().filter_map(transition));
        degraded
    };
    let now = clock::now();
    let mut body = Object::new(4096);
    body.boolean("success", true).object("data", data);
    body.degraded(degraded.or_else(|| survey.stored.is_none().then_some(now))).time("timestamp", now);
    large_json(&reads, body)
}

/// Which node this is, and whether clients may be sent to it.
fn identity(reads: &Reads) -> Object {
    let mut here = Object::new(1024);
    let (node, itself) = reads.peers.itself();
    here.string("nodeId", node.as_str()).string("name", &itself.name).string("version", env!("CARGO_PKG_VERSION"));
    here.number("uptimeMs", itself.uptime_ms);
    match check_ready(reads) {
        Ok(()) => here.boolean("ready", true),
        Err(why) => here.boolean("ready", false).string("reason", why.code()),
    };
    here.boolean("draining", reads.draining.is_cancelled());
    here
}

/// The sockets, and what is bounded.
fn push_limits(here: &mut Object, reads: &Reads, entrance: &Entrance) {
    let hubs = &reads.counted.hubs;
    let mut formats = Object::new(128);
    Format::ALL.map(Format::name).into_iter().for_each(|name| _ = formats.number(name, hubs.n_sockets_of(name)));
    here.number("sockets", hubs.n_sockets()).object("formats", formats);
    let of = |(used, max): (usize, usize)| {
        let mut limit = Object::new(32);
        limit.number("used", used as u64).number("max", max as u64);
        limit
    };
    let mut limits = Object::new(128);
    limits.object("sockets", of((hubs.n_sockets() as usize, entrance.server.max_sockets)));
    limits.object("httpConnections", of(reads.counted.connections.fill()));
    limits.object("pollingSockets", of(entrance.engine.fill()));
    here.object("limits", limits);
}

/// What only rises. A client makes rates of two answers.
fn push_counters(here: &mut Object, reads: &Reads) {
    let (n_joins, n_leaves) = reads.counted.sessions.n_joins_and_leaves();
    let mut counters = Object::new(128);
    counters.number("joins", n_joins).number("leaves", n_leaves).number("transitions", reads.replica.n_told());
    counters.number("frames", reads.counted.hubs.n_frames()).number("requests", reads.requests.n_answered());
    here.object("counters", counters);
}

/// What this node tells.
fn push_view(here: &mut Object, view: &ViewGuard<'_>) {
    let position = view.position();
    here.number("users", view.roster().len() as u64).number("openRooms", view.rooms().len() as u64);
    here.boolean("holding", view.is_holding());
    here.number("epoch", position.epoch).number("revision", position.revision);
}

/// Where the store is.
fn store(kind: &str, survey: &Survey) -> Object {
    let mut object = Object::new(128);
    object.string("kind", kind).boolean("answered", survey.stored.is_some());
    if let Some((position, time)) = survey.stored {
        object.number("epoch", position.epoch).number("revision", position.revision).time("time", time);
    }
    object
}

fn node(node: &SurveyedNode) -> Object {
    let mut object = Object::new(256);
    object.string("nodeId", node.node.as_str());
    if let Some(itself) = &node.itself {
        object.string("name", &itself.name).number("uptimeMs", itself.uptime_ms);
        object.boolean("degraded", itself.is_degraded);
    }
    if let Some(version) = &node.version {
        object.string("version", version);
    }
    if let Some(n_sockets) = node.n_sockets {
        object.number("sockets", n_sockets);
    }
    object.boolean("answered", node.has_answered).boolean("drained", node.is_drained);
    push_lease(&mut object, node.lease);
    object
}

/// How long a node's lease lasts. Nothing is said of a node without a lease.
pub(super) fn push_lease(object: &mut Object, lease: Option<Lease>) {
    let in_ms = |duration: Duration| duration.as_millis() as u64;
    match lease {
        Some(Lease::Lives(rest)) => object.boolean("leaseExpired", false).number("leaseEndsInMs", in_ms(rest)),
        Some(Lease::Ended(ago)) => object.boolean("leaseExpired", true).number("leaseExpiredMsAgo", in_ms(ago)),
        Some(Lease::BeingSwept) => object.boolean("leaseExpired", true).boolean("beingSwept", true),
        None => object,
    };
}

/// What others were told.
fn transition(announcement: &Announcement) -> Option<Object> {
    let told = announcement.others.as_ref()?;
    let mut object = Object::new(128);
    object.time("at", announcement.at).string("type", told.kind()).string("userId", announcement.user.as_str());
    match told {
        Told::Online(presence) | Told::ProfileChanged(presence) | Told::StatusChanged(presence) => {
            if let Some(name) = presence.profile.as_ref().and_then(Profile::name) {
                object.string("name", &name);
            }
            object.string("status", presence.effective.as_str());
            if let Some(text) = presence.status_text() {
                object.string("statusText", text.as_str());
            }
        }
        Told::Offline(departure) => _ = object.string("reason", departure.reason.as_str()),
    }
    if let Some(revision) = announcement.revision {
        object.number("revision", revision);
    }
    object.boolean("catchUp", announcement.catch_up);
    Some(object)
}
