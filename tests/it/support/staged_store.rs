//! A store that does what no real one does, for a test that needs no luck.
//!
//! ```ignore
//! let (node, store) = Node::start_staged(|_| ()).await;
//! store.panic_in("sweep");                    // the next call of this method panics
//! let lookups = store.hold("room_access");    // calls of this method wait
//! lookups.until_held(1).await;
//! lookups.pass_one();
//! lookups.release();                          // nothing waits any more
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rollcall::domain::{
    HeldSocket, LastSeen, NodeId, Position, RoomId, RoomRoster, Roster, Signal, SocketId, Statement, Timestamp,
    Transition, UserId,
};
use rollcall::settings::PresenceSettings;
use rollcall::store::memory::MemoryStore;
use rollcall::store::{
    Audited, Beat, BeatReply, Claim, Examination, HeldNodes, Order, Outcome, PresenceStore, RoomAccess, RoomHead,
    RoomList, RoomNews, RoomPage, RoomStore, RoomSubscription, StatementOutcome, StoreResult, StoreWriter, Swept,
};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::DEADLINE;

/// The embedded store, on the stage of a test. Its clones are the same store.
#[derive(Clone)]
pub(crate) struct StagedStore {
    inner: Arc<MemoryStore>,
    panics_in: Arc<Mutex<Option<&'static str>>>,
    holds: Arc<Mutex<HashMap<&'static str, Arc<Hold>>>>,
    cut: Arc<Notify>,
}

/// Calls of one method that wait for the test.
pub(crate) struct Hold {
    n_held: watch::Sender<usize>,
    passes: Semaphore,
}

impl StagedStore {
    /// An empty store.
    pub(crate) fn new(presence: &PresenceSettings) -> Self {
        Self {
            inner: Arc::new(MemoryStore::new(presence)),
            panics_in: Arc::default(),
            holds: Arc::default(),
            cut: Arc::default(),
        }
    }

    /// The next call of a method panics. The subscription ends, so that the replica subscribes again.
    pub(crate) fn panic_in(&self, method: &'static str) {
        *lock(&self.panics_in) = Some(method);
        self.cut.notify_waiters();
    }

    /// From now on calls of a method wait: `room_page` and `nodes` before the store is read, `room_access` after that. So the answer of
    /// the first is as new as can be, and that of the second may be out of date.
    pub(crate) fn hold(&self, method: &'static str) -> Arc<Hold> {
        let hold = Arc::new(Hold { n_held: watch::Sender::new(0), passes: Semaphore::new(0) });
        lock(&self.holds).insert(method, hold.clone());
        hold
    }

    async fn hold_up(&self, method: &str) {
        let hold = lock(&self.holds).get(method).cloned();
        if let Some(hold) = hold {
            hold.n_held.send_modify(|n_held| *n_held += 1);
            // An error says that nothing waits any more.
            if let Ok(pass) = hold.passes.acquire().await {
                pass.forget();
            }
        }
    }

    fn called(&self, method: &str) {
        assert!(!self.is_chosen(method), "as the test wants it");
    }

    fn is_chosen(&self, method: &str) -> bool {
        *lock(&self.panics_in) == Some(method)
    }
}

impl Hold {
    /// Waits until so many calls have come.
    ///
    /// # Panics
    /// When they do not come within [`DEADLINE`].
    pub(crate) async fn until_held(&self, n_calls: usize) {
        let mut n_held = self.n_held.subscribe();
        let held = timeout(DEADLINE, n_held.wait_for(|n_held| *n_held >= n_calls)).await;
        held.expect("the calls come in time").expect("the hold is there");
    }

    /// How many calls have come.
    pub(crate) fn n_held(&self) -> usize {
        *self.n_held.borrow()
    }

    /// Lets one call go on.
    pub(crate) fn pass_one(&self) {
        self.passes.add_permits(1);
    }

    /// Lets all calls go on, also those that come later.
    pub(crate) fn release(&self) {
        self.passes.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PresenceStore for StagedStore {
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>> {
        async {
            let inner = self.inner.open_writer().await?;
            Ok(Box::new(StagedWriter { inner, store: self.clone() }) as Box<dyn StoreWriter>)
        }
        .boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Transition>>> {
        async {
            self.called("subscribe");
            let mut transitions = self.inner.subscribe().await?;
            let (sender, receiver) = mpsc::channel(64);
            let cut = self.cut.clone();
            // It ends when the test names a method, so that the replica subscribes again.
            tokio::spawn(async move {
                let is_cut = cut.notified();
                tokio::pin!(is_cut);
                loop {
                    tokio::select! {
                        () = &mut is_cut => return,
                        Some(transition) = transitions.recv() => {
                            let _ = sender.try_send(transition);
                        }
                    }
                }
            });
            Ok(receiver)
        }
        .boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, StoreResult<Roster>> {
        self.called("snapshot");
        self.inner.snapshot()
    }

    fn log_after(&self, position: Position) -> BoxFuture<'_, StoreResult<Option<Vec<Transition>>>> {
        // Without a log, the replica reads a snapshot.
        if self.is_chosen("snapshot") { async { Ok(None) }.boxed() } else { self.inner.log_after(position) }
    }

    fn refresh<'a>(&'a self, sockets: &'a [(SocketId, UserId)]) -> BoxFuture<'a, StoreResult<Vec<SocketId>>> {
        self.called("refresh");
        self.inner.refresh(sockets)
    }

    fn sweep(&self) -> BoxFuture<'_, StoreResult<Swept>> {
        self.called("sweep");
        self.inner.sweep()
    }

    fn state<'a>(
        &'a self,
        user: &'a UserId,
        statement: &'a Statement,
        base: Option<Timestamp>,
    ) -> BoxFuture<'a, StoreResult<StatementOutcome>> {
        self.inner.state(user, statement, base)
    }

    fn expire<'a>(&'a self, choices: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.expire(choices)
    }

    fn note_activity<'a>(&'a self, users: &'a [(UserId, Timestamp)]) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.note_activity(users)
    }

    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, StoreResult<Vec<Option<LastSeen>>>> {
        self.inner.last_seen(users)
    }

    fn sockets_of<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Vec<HeldSocket>>> {
        self.inner.sockets_of(user)
    }

    fn examine<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, StoreResult<Examination>> {
        self.inner.examine(user)
    }

    fn nodes(&self) -> BoxFuture<'_, StoreResult<HeldNodes>> {
        async {
            self.hold_up("nodes").await;
            self.inner.nodes().await
        }
        .boxed()
    }

    fn subscribe_signals(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Signal>>> {
        self.inner.subscribe_signals()
    }

    fn signal<'a>(&'a self, to: NodeId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.signal(to, signal)
    }

    fn audit(&self) -> BoxFuture<'_, StoreResult<Audited>> {
        self.called("audit");
        self.inner.audit()
    }
}

impl RoomStore for StagedStore {
    fn subscribe_rooms(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<RoomNews>>> {
        self.inner.subscribe_rooms()
    }

    fn room_snapshot<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<RoomRoster>> {
        self.inner.room_snapshot(room)
    }

    fn room_heads<'a>(&'a self, rooms: &'a [RoomId]) -> BoxFuture<'a, StoreResult<Vec<Option<RoomHead>>>> {
        self.inner.room_heads(rooms)
    }

    fn room_page<'a>(&'a self, room: &'a RoomId, limit: usize) -> BoxFuture<'a, StoreResult<RoomPage>> {
        async move {
            self.hold_up("room_page").await;
            self.inner.room_page(room, limit).await
        }
        .boxed()
    }

    fn rooms(&self, cursor: u64, limit: usize) -> BoxFuture<'_, StoreResult<RoomList>> {
        self.inner.rooms(cursor, limit)
    }

    fn refresh_rooms<'a>(
        &'a self,
        entries: &'a [(RoomId, SocketId, UserId)],
    ) -> BoxFuture<'a, StoreResult<Vec<(RoomId, SocketId)>>> {
        self.inner.refresh_rooms(entries)
    }

    fn subscribe_room_signals(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<(RoomId, Signal)>>> {
        self.inner.subscribe_room_signals()
    }

    fn signal_room<'a>(&'a self, room: &'a RoomId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.signal_room(room, signal)
    }

    fn signal_user<'a>(&'a self, user: &'a UserId, signal: &'a Signal) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.signal_user(user, signal)
    }

    fn put_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>> {
        self.inner.put_room(room)
    }

    fn delete_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<bool>> {
        self.inner.delete_room(room)
    }

    fn put_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>> {
        self.inner.put_member(room, user)
    }

    fn delete_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<bool>> {
        self.inner.delete_member(room, user)
    }

    fn room_access<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, StoreResult<RoomAccess>> {
        async move {
            let access = self.inner.room_access(room, user).await;
            self.hold_up("room_access").await;
            access
        }
        .boxed()
    }
}

struct StagedWriter {
    inner: Box<dyn StoreWriter>,
    store: StagedStore,
}

impl StoreWriter for StagedWriter {
    fn beat(&mut self, beat: Beat) -> BoxFuture<'_, StoreResult<BeatReply>> {
        self.store.called("beat");
        self.inner.beat(beat)
    }

    fn drive<'a>(&'a mut self, claim: Claim, orders: &'a [Order]) -> BoxFuture<'a, StoreResult<Vec<Outcome>>> {
        self.inner.drive(claim, orders)
    }

    fn sweep_self(&mut self) -> BoxFuture<'_, StoreResult<bool>> {
        self.inner.sweep_self()
    }

    fn drain(&mut self, lease: Duration) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.drain(lease)
    }

    fn held_sockets(&mut self) -> BoxFuture<'_, StoreResult<Vec<(SocketId, UserId)>>> {
        self.inner.held_sockets()
    }

    fn held_room_entries(&mut self) -> BoxFuture<'_, StoreResult<Vec<(RoomId, SocketId, UserId)>>> {
        self.inner.held_room_entries()
    }
}
