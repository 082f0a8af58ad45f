//! Reads of rooms that are not open here, from the store.
//!
//! Anybody may ask about any room, also about rooms that do not exist. So all of this is bounded: the reads at once, the
//! size of each, and what is kept of them. Those who ask about one room at the same time share one read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::domain::{RoomId, SocketId, UserId};
use crate::metrics::RoomReadMetrics;
use crate::store::{PresenceStore, RoomPage};

/// The reads of one process.
pub(super) struct RoomReads(Arc<Shared>);

/// Who is in a room, as the store had it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RoomRead {
    /// The members in the order of the bytes of their ids, each with one of the sockets there.
    members: Vec<(UserId, Option<SocketId>)>,
    /// Whether the room has more members than these.
    pub(super) has_more: bool,
}

/// Why a room was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Too many reads are under way.
    TooMany,
    /// The store does not answer.
    Unavailable,
}

/// How long a read is kept. Nobody notices that an answer is a second old. And nobody can make the node read one room more
/// often.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// How many rooms are read at once. Each holds a connection of the pool in turns with everybody else (`redis.pool_size`).
const READS_AT_ONCE: usize = 8;

/// How many reads may be under way, with those that wait for their turn. A page that shows a hundred rooms asks about all of
/// them at once.
const READS_MAX: usize = 256;

/// How many reads are kept. With its task, a small room takes less than 1 KiB, so these take less than 4 MiB.
const KEPT_MAX: usize = 4096;

/// How many bytes all reads that are kept take: those of 20 of the largest rooms, or of thousands of ordinary ones.
const KEPT_BYTES: usize = 32 * 1024 * 1024;

/// Longest time for a read, with the wait for its turn. One of the largest takes about twenty calls, and each has its own
/// deadline (`redis.call_timeout_ms`).
const READ_WITHIN: Duration = Duration::from_secs(5);

/// What a member takes besides the bytes of the id.
const MEMBER_BYTES: usize = 64;

struct Shared {
    store: Arc<dyn PresenceStore>,
    metrics: RoomReadMetrics,
    under_way: Arc<Semaphore>,
    turns: Semaphore,
    known: Mutex<Known>,
}

/// The reads that are under way or kept.
#[derive(Default)]
struct Known {
    reads: HashMap<RoomId, watch::Receiver<Outcome>>,
    n_kept: usize,
    kept_bytes: usize,
}

/// What became of a read. It is none while the read is under way.
type Outcome = Option<Result<Arc<RoomRead>, Unread>>;

/// A read in [`Known`]. Dropping it takes the read out, also if its task is cancelled.
struct Place {
    shared: Arc<Shared>,
    room: RoomId,
    /// The size, if the read is kept.
    kept_bytes: Option<usize>,
}

impl RoomReads {
    /// No reads yet.
    pub(super) fn new(store: Arc<dyn PresenceStore>, metrics: RoomReadMetrics) -> Self {
        let (under_way, turns) = (Arc::new(Semaphore::new(READS_MAX)), Semaphore::new(READS_AT_ONCE));
        Self(Arc::new(Shared { store, metrics, under_way, turns, known: Mutex::default() }))
    }

    /// Who is in a room. The answer is at most a second old ([`KEPT_FOR`]).
    ///
    /// # Errors
    /// [`Unread`].
    ///
    /// # Cancel safety
    /// The read goes on for others.
    pub(super) async fn read(&self, room: &RoomId) -> Result<Arc<RoomRead>, Unread> {
        let mut outcome = self.join_or_begin(room)?;
        // The task of the read has a deadline. If the task is cancelled, the wait ends.
        let outcome = outcome.wait_for(Option::is_some).await.map_err(|_| Unread::Unavailable)?;
        outcome.clone().unwrap_or(Err(Unread::Unavailable))
    }

    /// Joins the read that is under way or kept, or begins one.
    fn join_or_begin(&self, room: &RoomId) -> Result<watch::Receiver<Outcome>, Unread> {
        let shared = &self.0;
        let mut known = shared.lock();
        if let Some(outcome) = known.reads.get(room) {
            return Ok(outcome.clone());
        }
        let Ok(permit) = shared.under_way.clone().try_acquire_owned() else {
            shared.metrics.too_many_reads();
            return Err(Unread::TooMany);
        };
        let (told, outcome) = watch::channel(None);
        known.reads.insert(room.clone(), outcome.clone());
        let place = Place { shared: shared.clone(), room: room.clone(), kept_bytes: None };
        tokio::spawn(place.fill(permit, told));
        Ok(outcome)
    }
}

impl Place {
    /// Reads the room, tells those who wait, and keeps the read for a while.
    async fn fill(mut self, permit: OwnedSemaphorePermit, told: watch::Sender<Outcome>) {
        let read = self.read().await;
        drop(permit);
        match &read {
            Ok(read) if self.keep(read) => {
                told.send_replace(Some(Ok(read.clone())));
                sleep(KEPT_FOR).await;
            }
            _ => {
                // Whoever asks from here on begins a new read.
                drop(self);
                told.send_replace(Some(read));
            }
        }
    }

    async fn read(&self) -> Result<Arc<RoomRead>, Unread> {
        let read = async {
            let _turn = self.shared.turns.acquire().await;
            self.shared.store.room_page(&self.room, RoomPage::MOST).await
        };
        match timeout(READ_WITHIN, read).await {
            Ok(Ok(page)) => {
                let has_more = page.has_more();
                Ok(Arc::new(RoomRead::new(page.members, has_more)))
            }
            Ok(Err(error)) => {
                debug!(error = %error, "Could not read who is in a room");
                Err(Unread::Unavailable)
            }
            Err(_) => Err(Unread::Unavailable),
        }
    }

    /// Counts the read among those that are kept, if there is room for it.
    fn keep(&mut self, read: &RoomRead) -> bool {
        let n_bytes = read.n_bytes();
        let mut known = self.shared.lock();
        if known.n_kept >= KEPT_MAX || known.kept_bytes + n_bytes > KEPT_BYTES {
            return false;
        }
        known.n_kept += 1;
        known.kept_bytes += n_bytes;
        drop(known);
        self.kept_bytes = Some(n_bytes);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.shared.lock();
        known.reads.remove(&self.room);
        if let Some(n_bytes) = self.kept_bytes {
            known.n_kept -= 1;
            known.kept_bytes -= n_bytes;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomRead {
    /// These members, in any order.
    pub(super) fn new(mut members: Vec<(UserId, Option<SocketId>)>, has_more: bool) -> Self {
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self { members, has_more }
    }

    /// The members, in order.
    pub(super) fn members(&self) -> &[(UserId, Option<SocketId>)] {
        &self.members
    }

    /// The members after `cursor`, in order.
    pub(super) fn after(&self, cursor: Option<&UserId>) -> &[(UserId, Option<SocketId>)] {
        let Some(cursor) = cursor else { return &self.members };
        &self.members[self.members.partition_point(|(user, _)| user <= cursor)..]
    }

    /// One of the user's sockets in the room.
    pub(super) fn socket_of(&self, user: &UserId) -> Option<SocketId> {
        let place = self.members.binary_search_by(|(member, _)| member.cmp(user)).ok()?;
        self.members[place].1
    }

    fn n_bytes(&self) -> usize {
        self.members.iter().map(|(user, _)| MEMBER_BYTES + user.as_str().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;
    use crate::settings::Settings;
    use crate::store::memory::MemoryStore;

    fn reads() -> RoomReads {
        let store = Arc::new(MemoryStore::new(&Settings::default().presence));
        RoomReads::new(store, RoomReadMetrics::new(&mut Registry::default()))
    }

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }

    fn n_known(reads: &RoomReads) -> usize {
        reads.0.lock().reads.len()
    }

    /// Waits until nothing is left behind.
    async fn until_forgotten(reads: &RoomReads) {
        while n_known(reads) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_or_within_a_second_shares_one_read() {
        let (reads, room) = (reads(), room("a"));
        let (first, second) = tokio::join!(reads.read(&room), reads.read(&room));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &reads.read(&room).await.unwrap()));
        until_forgotten(&reads).await;
        assert!(!Arc::ptr_eq(&first, &reads.read(&room).await.unwrap()));
    }

    #[tokio::test]
    async fn above_the_bounds_reads_are_refused_or_not_kept() {
        let reads = reads();
        let all = reads.0.under_way.clone().acquire_many_owned(READS_MAX as u32).await.unwrap();
        assert_eq!(reads.read(&room("a")).await, Err(Unread::TooMany));
        assert_eq!(n_known(&reads), 0);
        drop(all);
        reads.0.lock().n_kept = KEPT_MAX;
        assert!(reads.read(&room("a")).await.is_ok());
        assert_eq!((n_known(&reads), reads.0.lock().n_kept), (0, KEPT_MAX), "it is not kept");
        reads.0.lock().n_kept = 0;
        for n in 0..100 {
            assert!(reads.read(&room(&n.to_string())).await.is_ok());
        }
        assert_eq!((n_known(&reads), reads.0.lock().n_kept), (100, 100));
        until_forgotten(&reads).await;
        let known = reads.0.lock();
        assert_eq!((known.n_kept, known.kept_bytes), (0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_takes_no_read_from_the_others() {
        let (reads, room) = (reads(), room("a"));
        let outcome = reads.join_or_begin(&room).unwrap();
        drop(outcome);
        assert!(reads.read(&room).await.is_ok());
    }
}
