//! The node's subscriptions, each on a connection of its own: transitions, and signals. So signals never push out a
//! transition.

use std::sync::Arc;

use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::{Shared, StoreResult, format};
use crate::domain::{Signal, Transition};

/// How many transitions from Redis may wait for the replica. Above that they are dropped here instead of piled up. The
/// replica sees the gap and reads the log.
const TRANSITIONS: usize = 16_384;

/// How many signals may wait. Above that they are dropped: a signal comes once at most.
pub(super) const SIGNALS: usize = 1024;

/// Subscribes to transitions; see [`crate::store::PresenceStore::subscribe`].
pub(super) async fn subscribe(shared: &Arc<Shared>) -> StoreResult<mpsc::Receiver<Transition>> {
    let channel = shared.keys.service.events.clone();
    open(shared, vec![channel], TRANSITIONS, format::transition).await
}

/// Subscribes to signals; see [`crate::store::PresenceStore::subscribe_signals`].
pub(super) async fn subscribe_signals(shared: &Arc<Shared>) -> StoreResult<mpsc::Receiver<Signal>> {
    let channels = vec![shared.keys.signals.clone(), shared.keys.inbox(shared.node)];
    open(shared, channels, SIGNALS, format::signal).await
}

/// Opens a connection that hands on what is published on these channels, as `read` understands it.
async fn open<T: Send + 'static>(
    shared: &Arc<Shared>,
    channels: Vec<String>,
    capacity: usize,
    read: fn(&[u8]) -> StoreResult<T>,
) -> StoreResult<mpsc::Receiver<T>> {
    let (sender, receiver) = mpsc::channel(capacity);
    let forward = sender.clone();
    // If the channel is full, a replica will see the gap, and a signal is lost. If it is closed, the connection is about to
    // be given up.
    let take = move |_: &[u8], message: &[u8]| read(message).map(|message| drop(forward.try_send(message)));
    let (mut connection, ended) = listen(shared, take).await?;
    shared.within(connection.subscribe(&channels)).await?;
    // This task keeps the connection and the receiver while the connection is usable.
    tokio::spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = sender.closed() => {}
            () = connection.dismissed() => {}
        }
    });
    Ok(receiver)
}

/// Opens a connection that may subscribe. `take` gets each message with its channel, and never waits, because Redis cuts a
/// subscriber that does not read. The token is cancelled when the connection ends.
pub(super) async fn listen(
    shared: &Arc<Shared>,
    take: impl Fn(&[u8], &[u8]) -> StoreResult<()> + Send + Sync + 'static,
) -> StoreResult<(Connection, CancellationToken)> {
    let ended = CancellationToken::new();
    let on_end = ended.clone().drop_guard();
    let taken_for = shared.clone();
    // The task that reads the connection calls this. It drops this closure when the connection ends.
    let on_push = move |push: PushInfo| {
        let _ends_with_this = &on_end;
        if let (PushKind::Message, [Value::BulkString(channel), Value::BulkString(message)]) =
            (&push.kind, &push.data[..])
            && take(channel, message).is_err()
        {
            taken_for.bad_records.found(&String::from_utf8_lossy(channel), message);
        }
        Ok::<(), ()>(())
    };
    let config = AsyncConnectionConfig::new().set_push_sender(on_push);
    Ok((Connection::open(shared, &shared.push_client, config).await?, ended))
}
