//! The node's subscription to the channel of transitions, on a connection of its own.

use std::sync::Arc;

use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::{Shared, StoreResult, format};
use crate::domain::{Scope, Transition};

/// How many transitions from Redis may wait for the replica. Above that they are dropped here instead of piled up. The
/// replica sees the gap and reads the log.
const CAPACITY: usize = 16_384;

/// Subscribes. See [`crate::store::PresenceStore::subscribe`].
pub(super) async fn subscribe(shared: &Arc<Shared>) -> StoreResult<mpsc::Receiver<Transition>> {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let ended = CancellationToken::new();
    let (forward, on_end) = (sender.clone(), ended.clone().drop_guard());
    let taken_for = shared.clone();
    // The task that reads the connection calls this. It drops this closure when the connection ends. The closure never
    // waits, because Redis cuts a subscriber that does not read.
    let take = move |push: PushInfo| {
        let _ends_with_this = &on_end;
        forward_message(&taken_for, &push, &forward);
        Ok::<(), ()>(())
    };
    let config = AsyncConnectionConfig::new().set_push_sender(take);
    let mut connection = Connection::open(shared, &shared.push_client, config).await?;
    shared.within(connection.subscribe(&shared.keys.scope(Scope::Service).events)).await?;
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

fn forward_message(shared: &Shared, push: &PushInfo, sender: &mpsc::Sender<Transition>) {
    let (PushKind::Message, [_, Value::BulkString(message)]) = (&push.kind, &push.data[..]) else { return };
    match format::transition(message) {
        // If the channel is full, the replica will see the gap. If it is closed, the connection is about to be given
        // up.
        Ok(transition) => drop(sender.try_send(transition)),
        Err(_) => shared.bad_records.found(&shared.keys.scope(Scope::Service).events, message),
    }
}
