//! The node's subscriptions to rooms, each on a connection of its own: their transitions, and their signals. Rooms are opened
//! and closed while a subscription lasts.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::keys::RoomKeys;
use super::{Shared, bus, format};
use crate::domain::{RoomId, Signal};
use crate::store::news::{NEWS_MAX, NewsSender};
use crate::store::{OpenRooms, RoomNews, RoomSubscription, StoreError, StoreResult};

/// Channels in one SUBSCRIBE or UNSUBSCRIBE. Redis serves nobody else meanwhile: less than 1 ms.
const CHANNELS_A_CALL: usize = 1000;

/// Subscribes to transitions; see [`crate::store::RoomStore::subscribe_rooms`].
pub(super) async fn subscribe(shared: &Arc<Shared>) -> StoreResult<RoomSubscription<RoomNews>> {
    let (sender, deliveries) = mpsc::channel(NEWS_MAX);
    let (news, keys) = (NewsSender::new(sender.clone()), shared.keys.clone());
    let take = move |channel: &[u8], message: &[u8]| {
        let room = keys.room_of_channel(channel).ok_or_else(not_of_a_room)?;
        news.deliver(format::room_transition(room, message)?);
        Ok(())
    };
    let (connection, ended) = bus::listen(shared, take).await?;
    let rooms = keep(shared, connection, ended, sender, RoomKeys::events);
    Ok(RoomSubscription { rooms, deliveries })
}

/// Subscribes to signals; see [`crate::store::RoomStore::subscribe_room_signals`].
pub(super) async fn subscribe_signals(shared: &Arc<Shared>) -> StoreResult<RoomSubscription<(RoomId, Signal)>> {
    let (sender, deliveries) = mpsc::channel(bus::SIGNALS);
    let (forward, keys) = (sender.clone(), shared.keys.clone());
    let take = move |channel: &[u8], message: &[u8]| {
        let room = keys.room_of_channel(channel).ok_or_else(not_of_a_room)?;
        // A signal comes once at most: a full or closed channel loses it.
        drop(forward.try_send((room, format::signal(message)?)));
        Ok(())
    };
    let (connection, ended) = bus::listen(shared, take).await?;
    let rooms = keep(shared, connection, ended, sender, RoomKeys::signals);
    Ok(RoomSubscription { rooms, deliveries })
}

fn not_of_a_room() -> StoreError {
    StoreError::Malformed("a channel that is none of a room".to_owned())
}

/// Rooms to open or to close.
struct Change {
    channels: Vec<String>,
    opens: bool,
    done: oneshot::Sender<StoreResult<()>>,
}

/// Asks the task that keeps the connection. So the changes keep their order, even if a caller gives up half way.
struct Rooms {
    shared: Arc<Shared>,
    channel: fn(&RoomKeys) -> String,
    changes: mpsc::Sender<Change>,
}

/// Starts the task that keeps the connection while it is usable and somebody uses it.
fn keep<T: Send + 'static>(
    shared: &Arc<Shared>,
    connection: Connection,
    ended: CancellationToken,
    sender: mpsc::Sender<T>,
    channel: fn(&RoomKeys) -> String,
) -> Box<dyn OpenRooms> {
    let (changes, wanted) = mpsc::channel(1);
    let kept_for = shared.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = sender.closed() => {}
            () = carry_out(&kept_for, connection, wanted) => {}
        }
    });
    Box::new(Rooms { shared: shared.clone(), channel, changes })
}

/// Carries out changes, one after the other. Ends with the first failure: the subscription is then of unknown extent.
async fn carry_out(shared: &Shared, mut connection: Connection, mut wanted: mpsc::Receiver<Change>) {
    loop {
        let change = tokio::select! {
            change = wanted.recv() => change,
            () = connection.dismissed() => None,
        };
        let Some(Change { channels, opens, done }) = change else { return };
        let result = make_change(shared, &mut connection, &channels, opens).await;
        let has_failed = result.is_err();
        // The caller may have given up.
        let _ = done.send(result);
        if has_failed {
            return;
        }
    }
}

async fn make_change(
    shared: &Shared,
    connection: &mut Connection,
    channels: &[String],
    opens: bool,
) -> StoreResult<()> {
    for chunk in channels.chunks(CHANNELS_A_CALL) {
        if opens {
            shared.within(connection.subscribe(chunk)).await?;
        } else {
            shared.within(connection.unsubscribe(chunk)).await?;
        }
    }
    Ok(())
}

impl Rooms {
    async fn change(&self, rooms: &[RoomId], opens: bool) -> StoreResult<()> {
        let lost = || StoreError::Unreachable("the subscription to rooms is lost".to_owned());
        let channels = rooms.iter().map(|room| (self.channel)(&self.shared.keys.room(room))).collect();
        let (done, on_done) = oneshot::channel();
        self.changes.send(Change { channels, opens, done }).await.map_err(|_| lost())?;
        on_done.await.map_err(|_| lost())?
    }
}

impl OpenRooms for Rooms {
    fn open<'a>(&'a mut self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<()>> {
        self.change(rooms, true).boxed()
    }

    fn close<'a>(&'a mut self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<()>> {
        self.change(rooms, false).boxed()
    }
}
