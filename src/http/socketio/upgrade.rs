//! The handshakes of WebSockets at the paths of Engine.IO: a new session, or one that has polled so far.

use std::sync::Arc;

use actix_codec::Framed;
use actix_http::{Request, h1};

use super::error::{EngineError, Refusal};
use super::probe;
use super::query::{Asked, Transport};
use crate::http::upgrade::{accept, let_in, refuse, verify_handshake, verify_origin};
use crate::http::{Connection, Entrance, OnWorker, client_address};
use crate::metrics::UpgradeOutcome;
use crate::session::{self, Hello, Seat};
use crate::transport::{Peer, Probe, Sid};
use crate::wire::Format;

/// What a handshake begins.
enum Entry {
    /// A session.
    Session(Hello, Seat),
    /// The way of a session from polling to this WebSocket.
    Probe(Probe, Sid),
}

/// Answers a handshake, and runs what it begins.
pub(in crate::http) async fn upgrade(
    entrance: &Arc<Entrance>,
    on_worker: &OnWorker,
    request: &Request,
    framed: Framed<Connection, h1::Codec>,
) -> Result<(), actix_http::Error> {
    let engine = &entrance.engine;
    match admit(entrance, request).await {
        Ok(Entry::Session(hello, seat)) => {
            let parts = accept(request.head(), framed).await?.into_parts();
            engine.metrics.opened(false);
            session::spawn(&on_worker.worker(), seat, parts.io.into_stream(), &parts.read_buf, hello);
        }
        Ok(Entry::Probe(probe, sid)) => {
            let parts = accept(request.head(), framed).await?.into_parts();
            let outcome = probe::run(probe, parts.io, &parts.read_buf, engine.settings.upgrade_timeout).await;
            if outcome == UpgradeOutcome::Done {
                engine.sids.remove(&sid);
            }
            engine.metrics.upgraded(outcome);
        }
        Err(refusal) => {
            engine.refused(&refusal);
            refuse(&refusal, framed).await?;
        }
    }
    Ok(())
}

async fn admit(entrance: &Arc<Entrance>, request: &Request) -> Result<Entry, Refusal> {
    let asked = Asked::read(request.uri().query().unwrap_or_default());
    match asked.sid {
        Some(ref sid) => admit_probe(entrance, request, &asked, sid).await,
        None => admit_session(entrance, request, &asked).await,
    }
}

async fn admit_session(entrance: &Arc<Entrance>, request: &Request, asked: &Asked) -> Result<Entry, Refusal> {
    let head = request.head();
    // First of all, so that no refusal is free.
    let place = client_address::enter(head, request.conn_data::<Peer>(), &entrance.addresses, &entrance.admission)?;
    check(entrance, request, asked)?;
    let (mut hello, seat) = let_in(entrance, head, Format::Socketio, place).await?;
    hello.greeting = Some(entrance.engine.greeting(&entrance.websocket));
    Ok(Entry::Session(hello, seat))
}

/// The session has its place among those of its address. So this counts as a request.
async fn admit_probe(entrance: &Arc<Entrance>, request: &Request, asked: &Asked, sid: &str) -> Result<Entry, Refusal> {
    client_address::pass(request.head(), request.conn_data::<Peer>(), &entrance.addresses).await?;
    check(entrance, request, asked)?;
    let (sid, pipe) = entrance.engine.sids.get(sid).ok_or(EngineError::SessionUnknown)?;
    Ok(Entry::Probe(pipe.begin_upgrade()?, sid))
}

fn check(entrance: &Entrance, request: &Request, asked: &Asked) -> Result<(), Refusal> {
    if asked.transport()? != Transport::Websocket {
        return Err(EngineError::BadRequest.into());
    }
    verify_handshake(request.head())?;
    verify_origin(entrance, request.head()).map_err(|_| EngineError::Forbidden)?;
    Ok(())
}
