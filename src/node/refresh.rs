//! Keeps the keys of living sockets alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Table;
use super::table::Round;
use crate::backoff::Reminder;
use crate::domain::Statement;
use crate::settings::PresenceSettings;
use crate::store::{PresenceStore, StoreResult};

/// Extends the keys of living sockets, in few pipelines. There are two rounds:
///
/// - Once a second it extends the keys of all users that were heard from in that second. It also tells the store who was
///   active, and whose chosen status has ended.
/// - In every quarter of the keys' life, and at least once in each audit interval, it extends the keys of all sockets
///   of this node.
///
/// In both rounds it also extends the keys of the rooms in which these sockets are. In the first round it does so for a
/// bounded number of them.
///
/// The second round has two uses. A client that never says `user_activity` keeps its keys as well. If somebody deletes
/// keys by hand, this node asserts them again before an audit takes their user for a ghost.
///
/// The life of the keys only matters after the whole fleet has died. Presence does not depend on it. So an error here
/// is not retried: the next heartbeat or the next quarter comes.
pub struct Refresher {
    store: Arc<dyn PresenceStore>,
    table: Arc<Table>,
    every: Duration,
    all_every: Duration,
}

/// Sockets in one pipeline: 3 keys each, about 1 ms of the server's time (docs/performance.md).
const PIPELINE: usize = 200;

/// The most entries in rooms that a round of heartbeats extends: about 6 ms of the server's time. The others wait for the
/// next round of all.
const ROOM_ENTRIES_A_ROUND: usize = 1000;

impl Refresher {
    /// A refresher for the sockets of `table`.
    pub fn new(store: Arc<dyn PresenceStore>, table: Arc<Table>, presence: &PresenceSettings) -> Self {
        Self { store, table, every: presence.round(), all_every: presence.refresh_all() }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_all = Instant::now();
        let mut reminder = Reminder::default();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let round = self.table.end_round(Instant::now());
            if let Err(error) = self.tell(&round).await {
                debug!(error = %error, "Could not tell who was active, or whose status has ended");
            }
            // The refresh runs at the last tick within the interval. An audit gives an owner no more than one interval
            // to find what is missing.
            let all = (last_all.elapsed() + self.every >= self.all_every).then(|| {
                last_all = Instant::now();
                (self.table.socket_numbers(), self.table.sockets_in_rooms())
            });
            let (numbers, in_rooms, at_most) = match &all {
                Some((numbers, in_rooms)) => (numbers, in_rooms, usize::MAX),
                None => (&round.heard, &round.heard, ROOM_ENTRIES_A_ROUND),
            };
            let refreshed = async {
                self.refresh(numbers).await?;
                self.refresh_rooms(in_rooms, at_most).await
            };
            match refreshed.await {
                Ok(()) => reminder.reset(),
                Err(error) => {
                    debug!(error = %error, "Could not refresh the keys of {} sockets", numbers.len());
                    if let Some(seconds) = reminder.failed() {
                        warn!(error = %error, "For {seconds} s this node could not refresh its users' keys");
                    }
                }
            }
        }
    }

    async fn refresh(&self, numbers: &[u64]) -> StoreResult<()> {
        for numbers in numbers.chunks(PIPELINE) {
            let missing = self.store.refresh(&self.table.confirmed(numbers)).await?;
            self.table.mark_missing(&missing);
        }
        Ok(())
    }

    /// Extends the keys of up to `at_most` entries in rooms.
    async fn refresh_rooms(&self, numbers: &[u64], at_most: usize) -> StoreResult<()> {
        let mut entries = Vec::new();
        for numbers in numbers.chunks(PIPELINE) {
            if entries.len() < at_most {
                entries.extend(self.table.confirmed_in_rooms(numbers));
            }
        }
        entries.truncate(at_most);
        // What is asked about a room is asked once in a pipeline. So entries in the same room go together.
        entries.sort_unstable();
        for entries in entries.chunks(PIPELINE) {
            let missing = self.store.refresh_rooms(entries).await?;
            self.table.mark_missing_in_rooms(&missing);
        }
        Ok(())
    }

    /// Tells the store what is due. What it does not hear of a statement or an end is told again in the next round. What it
    /// does not hear of an activity is told with the next one.
    async fn tell(&self, round: &Round) -> StoreResult<()> {
        for (user, stated) in &round.unheard {
            self.store.state(user, &Statement::of(stated), None).await?;
            self.table.settle_statement(user, stated);
        }
        if !round.expired.is_empty() {
            self.store.expire(&round.expired).await?;
        }
        if !round.active.is_empty() {
            self.store.note_activity(&round.active).await?;
        }
        Ok(())
    }
}
