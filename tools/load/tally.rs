//! What clients have heard, in numbers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::Notify;

/// What a crowd of sockets has heard together.
#[derive(Default)]
pub(crate) struct Tally {
    /// Frames `user_online`, `user_changed`, `user_status_changed` and `user_offline`. In the plain format `USER_ONLINE` and
    /// `USER_OFFLINE`. Of rooms `room_user_joined`, `room_user_changed` and `room_user_left`.
    pub events: AtomicU64,
    /// Frames `welcome`.
    pub welcomes: AtomicU64,
    /// Frames `online_users_list`: a join is answered with `welcome` and one of these, if the client hears of everyone.
    pub lists: AtomicU64,
    /// Frames `online_count`. Of rooms `room_count`.
    pub counts: AtomicU64,
    /// Frames `CONNECTION_ESTABLISHED`: in the plain format a join is answered with one of these. Of Socket.IO the packets that
    /// say that a client has connected.
    pub established: AtomicU64,
    /// Frames `room_joined` that answer a request.
    pub rooms_joined: AtomicU64,
    /// Frames `room_left`.
    pub rooms_left: AtomicU64,
    /// The sum of `onlineCount` in all `welcome`s: who was there already, the joiner included. Of rooms the sum of `total` in the
    /// answers `room_joined`.
    pub online: AtomicU64,
    /// Pings, each of which was answered with a pong.
    pub pings: AtomicU64,
    /// Frames `user_activity_ack`.
    pub acks: AtomicU64,
    /// Frames `resync` and `RESYNC`, and frames `room_joined` that nobody asked for.
    pub resyncs: AtomicU64,
    /// Frames `error`, events of the other format, and whatever else nobody asked for.
    pub unexpected: AtomicU64,
    /// Connections that the server ended.
    pub closed: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
    mark: Mutex<Option<Instant>>,
    marked: AtomicBool,
    /// With how many events [`Tally::until_told`] is woken.
    awaited: AtomicU64,
    told: Notify,
    latencies: Mutex<Vec<Duration>>,
}

impl Tally {
    /// From now on every event's delay since this moment is recorded.
    pub(crate) fn mark(&self) {
        *self.mark.lock().expect("not poisoned") = Some(Instant::now());
        self.marked.store(true, Ordering::Release);
    }

    /// The delays recorded, in order; recording ends.
    pub(crate) fn take_latencies(&self) -> Vec<Duration> {
        self.marked.store(false, Ordering::Release);
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("not poisoned"));
        latencies.sort_unstable();
        latencies
    }

    /// Waits until `counter` has reached exactly `expected`.
    pub(crate) async fn until(&self, what: &str, counter: &AtomicU64, expected: u64, patience: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let count = counter.load(Ordering::Acquire);
            if count == expected {
                return Ok(());
            }
            let late = started.elapsed() > patience;
            ensure!(count < expected && !late, "{what}: {count} of exactly {expected} after {:?}", started.elapsed());
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Waits until exactly `expected` events have come, and goes on at once.
    pub(crate) async fn until_told(&self, expected: u64, patience: Duration) -> Result<()> {
        self.awaited.store(expected, Ordering::SeqCst);
        loop {
            let count = self.events.load(Ordering::SeqCst);
            ensure!(count <= expected, "deliveries: {count}, more than {expected}");
            if count == expected {
                return Ok(());
            }
            let told = tokio::time::timeout(patience, self.told.notified()).await;
            told.with_context(|| format!("deliveries: {count} of exactly {expected} after {patience:?}"))?;
        }
    }

    /// So many events have come just now.
    pub(crate) fn note_events(&self, n_events: u64) {
        if self.marked.load(Ordering::Acquire) {
            let now = Instant::now();
            if let Some(mark) = *self.mark.lock().expect("not poisoned") {
                let late = now.saturating_duration_since(mark);
                self.latencies.lock().expect("not poisoned").extend((0..n_events).map(|_| late));
            }
        }
        self.add_events(n_events);
    }

    /// So many events more have come.
    fn add_events(&self, n_events: u64) {
        let before = self.events.fetch_add(n_events, Ordering::SeqCst);
        let awaited = self.awaited.load(Ordering::SeqCst);
        if before < awaited && awaited <= before + n_events {
            self.told.notify_one();
        }
    }

    /// Fails if something came that nobody asked for, or a connection ended.
    pub(crate) fn check_quiet(&self) -> Result<()> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (unexpected, resyncs, closed) = (load(&self.unexpected), load(&self.resyncs), load(&self.closed));
        ensure!(
            (unexpected, resyncs, closed) == (0, 0, 0),
            "{unexpected} unexpected frames, {resyncs} resyncs, {closed} connections ended by the server"
        );
        Ok(())
    }
}

/// What one socket has heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub events: AtomicU64,
    pub online: AtomicU64,
    pub welcomes: AtomicU64,
    pub lists: AtomicU64,
    pub counts: AtomicU64,
    /// The number that was told last: by `online_count`, of rooms by `room_count`, or by the answer `room_joined`.
    pub number: AtomicU64,
    pub rooms_joined: AtomicU64,
    pub rooms_left: AtomicU64,
    /// Frames `room_users`, and the users in them.
    pub pages: AtomicU64,
    pub listed: AtomicU64,
    /// Frames `error`, which are unexpected as well.
    pub errors: AtomicU64,
    /// Frames `watching`.
    pub answers: AtomicU64,
    pub lefts: AtomicU64,
    /// Frames `own_status`: the events and the answers.
    pub own_statuses: AtomicU64,
    pub pings: AtomicU64,
    /// Packets of Socket.IO that say that the client has connected.
    pub connected: AtomicU64,
    pub resyncs: AtomicU64,
    pub closed: AtomicBool,
    /// Reads nothing while set.
    pub deaf: AtomicBool,
    /// `deaf` has been unset.
    pub hearing: Notify,
    /// Something other than an event has come.
    pub changed: Notify,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_events_is_woken_by_the_last_and_fails_on_one_too_many() {
        let tally = Arc::new(Tally::default());
        let telling = {
            let tally = tally.clone();
            async move {
                for n_events in [3, 2, 5] {
                    tokio::task::yield_now().await;
                    tally.add_events(n_events);
                }
            }
        };
        let patience = Duration::from_secs(10);
        let (told, ()) = tokio::join!(tally.until_told(10, patience), telling);
        told.expect("exactly ten have come");
        tally.add_events(2);
        tally.until_told(11, patience).await.expect_err("one too many has come");
    }
}
