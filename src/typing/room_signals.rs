//! Hears the signals of the rooms that this node has opened.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::typists::Typist;
use super::{Queue, Typed};
use crate::backoff::{Backoff, Reminder};
use crate::domain::{RoomId, Signal, TypingTarget};
use crate::replica::Replica;
use crate::store::{PresenceStore, RoomSubscription, StoreResult};

/// Why a subscription was given up.
enum GivenUp {
    /// No room is open.
    Unused,
    Lost,
}

/// Hands on what is signalled in open rooms. While no room is open, the store is not asked for anything.
pub(super) async fn follow(
    store: &Arc<dyn PresenceStore>,
    replica: &Replica,
    heard: Queue,
    (echo_every, backoff_max): (Duration, Duration),
) {
    let mut backoff = Backoff::new(backoff_max);
    let mut reminder = Reminder::default();
    loop {
        while replica.open_rooms().is_empty() {
            replica.rooms_turned().await;
        }
        // All open rooms are opened below.
        drop(replica.take_turned_rooms());
        match store.subscribe_room_signals().await {
            Ok(mut subscription) => {
                reminder.reset();
                let mut follower = Follower { replica, heard: &heard, backoff: &mut backoff, echo_every };
                match follower.keep_in_step(&mut subscription).await {
                    Ok(GivenUp::Unused) => continue,
                    Ok(GivenUp::Lost) => debug!("The subscription to the signals of rooms has ended"),
                    Err(error) => debug!(error = %error, "Could not follow the signals of rooms"),
                }
            }
            Err(error) => {
                debug!(error = %error, "Could not subscribe to the signals of rooms");
                if let Some(seconds) = reminder.failed() {
                    warn!(error = %error, "For {seconds} s this node could not hear who types");
                }
            }
        }
        backoff.wait().await;
    }
}

struct Follower<'a> {
    replica: &'a Replica,
    heard: &'a Queue,
    backoff: &'a mut Backoff,
    /// How often a silent subscription is looked for.
    echo_every: Duration,
}

impl Follower<'_> {
    async fn keep_in_step(&mut self, subscription: &mut RoomSubscription<(RoomId, Signal)>) -> StoreResult<GivenUp> {
        subscription.rooms.open(&self.replica.open_rooms()).await?;
        self.backoff.reset();
        let mut echoes = interval(self.echo_every);
        echoes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = subscription.deliveries.recv() => {
                    let Some((room, signal)) = delivery else { return Ok(GivenUp::Lost) };
                    self.hear(room, signal);
                }
                () = self.replica.rooms_turned() => {
                    let turned = self.replica.take_turned_rooms();
                    let of = |is_open| {
                        let rooms = turned.iter().filter(move |(_, now)| **now == is_open);
                        rooms.map(|(room, _)| room.clone()).collect::<Vec<_>>()
                    };
                    let (opened, closed) = (of(true), of(false));
                    if !closed.is_empty() {
                        if self.replica.open_rooms().is_empty() {
                            return Ok(GivenUp::Unused);
                        }
                        subscription.rooms.close(&closed).await?;
                    }
                    if !opened.is_empty() {
                        subscription.rooms.open(&opened).await?;
                    }
                }
                // To open an open room again shows that the subscription still lives.
                _ = echoes.tick() => {
                    let any = self.replica.view().rooms().any();
                    if let Some(room) = any {
                        subscription.rooms.open(&[room]).await?;
                    }
                }
            }
        }
    }

    /// A room says nothing about other rooms. Whatever else is signalled there is not for this node.
    fn hear(&self, room: RoomId, signal: Signal) {
        if let Signal::Typing { target, user, is_typing } = signal
            && target == TypingTarget::Room(room)
        {
            self.heard.take(Typed { typist: Typist { user, target }, is_typing });
        }
    }
}
