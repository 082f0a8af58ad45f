//! A task of the main thread that panics: the node ends, and tells its clients to go elsewhere first.
//!
//! The store is what all these tasks call, so a store that panics in one of its methods lets one of them panic.

use std::sync::{Arc, Mutex, PoisonError};
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
    Audited, Beat, BeatReply, Claim, Examination, Order, Outcome, PresenceStore, RoomAccess, RoomList, RoomNews,
    RoomPage, RoomStore, RoomSubscription, StatementOutcome, StoreResult, StoreWriter, Swept,
};
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use crate::support::*;

/// The embedded store, which panics in the method that a test names.
#[derive(Clone)]
struct Panicking {
    inner: Arc<MemoryStore>,
    method: Arc<Mutex<Option<&'static str>>>,
    cut: Arc<Notify>,
}

impl Panicking {
    fn new(presence: &PresenceSettings) -> Self {
        Self { inner: Arc::new(MemoryStore::new(presence)), method: Arc::default(), cut: Arc::default() }
    }

    fn panic_in(&self, method: &'static str) {
        *self.method.lock().unwrap_or_else(PoisonError::into_inner) = Some(method);
        self.cut.notify_waiters();
    }

    fn called(&self, method: &str) {
        assert!(!self.is_chosen(method), "as the test wants it");
    }

    fn is_chosen(&self, method: &str) -> bool {
        *self.method.lock().unwrap_or_else(PoisonError::into_inner) == Some(method)
    }
}

impl PresenceStore for Panicking {
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>> {
        async {
            let inner = self.inner.open_writer().await?;
            Ok(Box::new(PanickingWriter { inner, store: self.clone() }) as Box<dyn StoreWriter>)
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

impl RoomStore for Panicking {
    fn subscribe_rooms(&self) -> BoxFuture<'_, StoreResult<RoomSubscription<RoomNews>>> {
        self.inner.subscribe_rooms()
    }

    fn room_snapshot<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, StoreResult<RoomRoster>> {
        self.inner.room_snapshot(room)
    }

    fn room_page<'a>(&'a self, room: &'a RoomId, limit: usize) -> BoxFuture<'a, StoreResult<RoomPage>> {
        self.inner.room_page(room, limit)
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
        self.inner.room_access(room, user)
    }
}

struct PanickingWriter {
    inner: Box<dyn StoreWriter>,
    store: Panicking,
}

impl StoreWriter for PanickingWriter {
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

#[tokio::test]
async fn a_task_that_panics_ends_the_node_and_sends_its_clients_elsewhere() {
    let tasks = [
        ("beat", "writer"),
        ("subscribe", "replica"),
        ("snapshot", "replica"),
        ("sweep", "sweeper"),
        ("audit", "auditor"),
        ("refresh", "refresher"),
    ];
    for (method, task) in tasks {
        let mut settings = test_settings();
        settings.presence.audit = Duration::from_millis(200);
        let store = Panicking::new(&settings.presence);
        let node = Node::spawn_on(settings, Arc::new(store.clone())).await;
        node.wait_ready().await;
        let mut ada = node.join("ada").await;
        store.panic_in(method);
        ada.send_json(json!({"type": "user_activity"})).await;
        let (code, reason) = ada.expect_close().await;
        assert_eq!(code, 1001, "{task}: {reason}");
        assert!(reason.contains("reconnectAfterMs"), "{task}: {reason}");
        let error = node.failure().await;
        assert!(error.starts_with(&format!("the {task} panicked: ")), "{error}");
        assert!(error.contains("as the test wants it"), "{error}");
    }
}
