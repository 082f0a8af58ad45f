//! The node's subscription to the channel of transitions, on a connection of its own.

use std::sync::Arc;

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::mpsc;

use super::{Shared, StoreError, StoreResult, format, store_error};
use crate::domain::Transition;

/// Transitions read from Redis and not yet taken by the replica. Beyond this they are dropped here rather than piled up: the
/// replica sees the gap and reads the log.
const CAPACITY: usize = 16_384;

/// Subscribes; see [`crate::store::PresenceStore::subscribe`].
pub async fn subscribe(client: &Client, shared: &Arc<Shared>) -> StoreResult<mpsc::Receiver<Transition>> {
    let deadline = shared.connect_timeout;
    let connect = async {
        let mut pubsub = client.get_async_pubsub().await?;
        pubsub.subscribe(&shared.keys.events).await?;
        Ok(pubsub)
    };
    let pubsub = tokio::time::timeout(deadline, connect)
        .await
        .map_err(|_| StoreError::Deadline(deadline))?
        .map_err(store_error)?;
    let (sender, receiver) = mpsc::channel(CAPACITY);
    // A task of its own drains the connection, always: Redis cuts a subscriber that does not read.
    tokio::spawn(forward(pubsub.into_on_message(), sender, shared.clone()));
    Ok(receiver)
}

/// Ends when the connection does, or when nobody listens any more.
async fn forward(mut messages: redis::aio::PubSubStream, sender: mpsc::Sender<Transition>, shared: Arc<Shared>) {
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = sender.closed() => return,
        };
        let Some(message) = message else { return };
        match format::transition(message.get_payload_bytes()) {
            Ok(transition) => match sender.try_send(transition) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            },
            Err(_) => shared.bad_records.found(&shared.keys.events, message.get_payload_bytes()),
        }
    }
}
