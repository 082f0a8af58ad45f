//! What a node wants in rooms, driven to the store by its own writer: the table and the writer of a node, without clients.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rollcall::domain::{NodeId, RoomChange, RoomId, Timestamp, UserId};
use rollcall::metrics::{Registry, TableMetrics, WriterMetrics};
use rollcall::node::{Arrival, DrainHandle, Link, Refresher, Registration, Table, Writer};
use rollcall::settings::Settings;
use rollcall::store::memory::MemoryStore;
use rollcall::store::redis::RedisStore;
use rollcall::store::{Beat, BeatReply, PresenceStore, RoomNews, RoomSubscription, StoreWriter};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::*;

const MOST: usize = 50;

/// A node that nobody is connected to. Its tasks end with it.
struct Driven {
    table: Arc<Table>,
    store: Arc<dyn PresenceStore>,
    link: watch::Receiver<Link>,
    tasks: Vec<JoinHandle<()>>,
    _drain: DrainHandle,
}

impl Driven {
    async fn embedded() -> Driven {
        let settings = test_settings();
        let store = Arc::new(MemoryStore::new(&settings.presence));
        Driven::start(NodeId::from_bits(1), store, &settings).await
    }

    async fn on(url: &str, number: u64, change: impl Fn(&mut Settings)) -> Driven {
        let mut settings = test_settings_with_redis(url);
        change(&mut settings);
        let node = NodeId::from_bits(number);
        let store = RedisStore::new(node, url, &settings.redis, &settings.presence, Arc::new(|| ()));
        Driven::start(node, Arc::new(store.expect("a URL of Redis")), &settings).await
    }

    async fn start(node: NodeId, store: Arc<dyn PresenceStore>, settings: &Settings) -> Driven {
        let mut registry = Registry::default();
        let table = Table::new(node, &settings.presence, TableMetrics::new(&mut registry));
        let metrics = WriterMetrics::new(&mut registry);
        let (writer, link) = Writer::new(store.clone(), table.clone(), metrics, &settings.presence, &settings.redis);
        let (drain, writer) = writer.into_task(Duration::from_secs(1));
        let refresher = Refresher::new(store.clone(), table.clone(), &settings.presence);
        let tasks = vec![tokio::spawn(writer), tokio::spawn(refresher.run(CancellationToken::new()))];
        let driven = Driven { table, store, link, tasks, _drain: drain };
        eventually(async || driven.is_up(), "the store answers").await;
        driven
    }

    fn is_up(&self) -> bool {
        matches!(*self.link.borrow(), Link::Up { .. })
    }

    /// A socket of the user joins the service and these rooms. Returns when the store has said so.
    async fn join(&self, id: &str, rooms: &[&str]) -> Registration {
        let (socket, joined) = self.table.insert(&user(id), Arrival::default(), None);
        timeout(DEADLINE, joined).await.expect("a reply in time").expect("a reply");
        for id in rooms {
            enter(&socket, id).await;
        }
        socket
    }

    async fn members(&self, id: &str) -> Vec<String> {
        let roster = self.store.room_snapshot(&room(id)).await.expect("a snapshot");
        roster.members.iter().map(|user| user.as_str().to_owned()).collect()
    }

    /// Hears what happens in a room.
    async fn listen(&self, id: &str) -> Tales {
        let mut subscription = self.store.subscribe_rooms().await.expect("a subscription");
        subscription.rooms.open(&[room(id)]).await.expect("it lasts");
        Tales { subscription, told: Vec::new() }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What was told in a room, in short: `+ada`, `-ada left`.
struct Tales {
    subscription: RoomSubscription<RoomNews>,
    told: Vec<String>,
}

impl Tales {
    fn so_far(&mut self) -> &[String] {
        while let Some(Some(news)) = self.subscription.deliveries.recv().now_or_never() {
            let RoomNews::Transition(transition) = news else { panic!("nothing is lost") };
            self.told.push(match transition.change {
                RoomChange::Entered => format!("+{}", transition.user),
                RoomChange::Left(reason) => format!("-{} {}", transition.user, reason.as_str()),
            });
        }
        &self.told
    }

    async fn wait_for(&mut self, tale: &str) {
        eventually(async || self.so_far().iter().any(|told| told == tale), tale).await;
    }
}

async fn enter(socket: &Registration, id: &str) {
    let entered = socket.join_room(MOST, &room(id)).expect("it may");
    let (_, position) = timeout(DEADLINE, entered).await.expect("a reply in time").expect("a reply");
    assert!(position.is_some());
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).expect("a room id")
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a user id")
}

/// Sockets come and go, and the store follows.
async fn the_store_follows(node: &Driven) {
    let mut tales = node.listen("x").await;
    let (ada, bob) = (node.join("ada", &["x", "y"]).await, node.join("bob", &["x"]).await);
    let ada_again = node.join("ada", &["x"]).await;
    assert_eq!((node.members("x").await, node.members("y").await), (ids(&["ada", "bob"]), ids(&["ada"])));
    ada_again.leave_room(&room("x"));
    bob.leave();
    tales.wait_for("-bob left").await;
    ada.leave_room(&room("x"));
    tales.wait_for("-ada left").await;
    enter(&ada, "x").await;
    drop(ada_again);
    drop(ada);
    // The service takes the user offline when the grace is over. The rooms do not wait for their own.
    tales.wait_for("-ada connection_lost").await;
    assert_eq!(tales.so_far(), ["+ada", "+bob", "-bob left", "-ada left", "+ada", "-ada connection_lost"]);
    eventually_eq(async || node.members("y").await, NOBODY, "nobody is in the other room").await;
    eventually_eq(async || node.table.n_room_entries(), 0, "the table forgets it all").await;
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn the_embedded_store_follows_what_sockets_want_in_rooms() {
    the_store_follows(&Driven::embedded().await).await;
}

#[tokio::test]
async fn redis_follows_what_sockets_want_in_rooms() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    the_store_follows(&Driven::on(&redis.url(), 1, |_| ()).await).await;
    assert_eq!(redis.keys("online:room*").await, NOBODY);
}

#[tokio::test]
async fn the_rooms_of_a_node_that_was_killed_are_left_once() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let (dead, peer) = (Driven::on(&redis.url(), 1, |_| ()).await, Driven::on(&redis.url(), 2, |_| ()).await);
    let mut tales = peer.listen("x").await;
    let _bob = peer.join("bob", &["x"]).await;
    let _sockets = [dead.join("ada", &["x"]).await, dead.join("ada", &["x"]).await, dead.join("bob", &["x"]).await];
    drop(dead);
    let swept = async || {
        peer.store.sweep().await.expect("a sweep");
        tales.so_far().iter().any(|tale| tale == "-ada node_lost")
    };
    eventually(swept, "the dead node is swept").await;
    eventually_eq(async || redis.keys("online:node:rooms:*").await.len(), 1, "the peer has entries").await;
    assert_eq!(tales.so_far(), ["+bob", "+ada", "-ada node_lost"]);
    assert_eq!(peer.members("x").await, ["bob"]);
}

#[tokio::test]
async fn an_outage_keeps_members_and_tells_afterwards_who_came_and_went() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let (node, witness) = (Driven::on(&proxy.url(), 1, |_| ()).await, Driven::on(&redis.url(), 2, |_| ()).await);
    let mut tales = witness.listen("x").await;
    let (_ada, bob) = (node.join("ada", &["x"]).await, node.join("bob", &["x"]).await);
    proxy.cut().await;
    eventually(async || !node.is_up(), "the node notices").await;
    let (eve, _) = node.table.insert(&user("eve"), Arrival::default(), None);
    let entered = eve.join_room(MOST, &room("x")).expect("it may");
    bob.leave_room(&room("x"));
    proxy.restore().await;
    timeout(DEADLINE, entered).await.expect("a reply in time").expect("a reply");
    tales.wait_for("-bob left").await;
    assert_eq!(tales.so_far(), ["+ada", "+bob", "+eve", "-bob left"]);
    assert_eq!(node.members("x").await, ["ada", "eve"]);
}

#[tokio::test]
async fn a_member_who_changes_nodes_during_an_outage_was_never_away() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxies = [ChaosProxy::start(redis.port()).await, ChaosProxy::start(redis.port()).await];
    let patient = |settings: &mut Settings| settings.presence.lease = Duration::from_secs(60);
    let [old, new] = [Driven::on(&proxies[0].url(), 1, patient).await, Driven::on(&proxies[1].url(), 2, patient).await];
    let witness = Driven::on(&redis.url(), 3, patient).await;
    let mut tales = witness.listen("x").await;
    let (ada, bob) = (old.join("ada", &["x"]).await, old.join("bob", &["x"]).await);
    for proxy in &proxies {
        proxy.cut().await;
    }
    eventually(async || !old.is_up() && !new.is_up(), "both notice").await;
    ada.leave();
    bob.leave();
    let rooms = vec![room("x")];
    let (_ada, _) = new.table.insert(&user("ada"), Arrival { rooms, ..Arrival::default() }, None);
    proxies[0].restore().await;
    eventually(async || old.is_up(), "the first is back").await;
    assert_eq!(tales.so_far(), ["+ada", "+bob"]);
    proxies[1].restore().await;
    tales.wait_for("-bob left").await;
    eventually_eq(async || old.table.n_room_entries(), 0, "the first has told all").await;
    assert_eq!(tales.so_far(), ["+ada", "+bob", "-bob left"]);
    assert_eq!(witness.members("x").await, ["ada"]);
}

/// A peer that says how far it is, and has no table.
struct Peer {
    writer: Box<dyn StoreWriter>,
    heard: Option<BeatReply>,
}

impl Peer {
    async fn on(url: &str, number: u64) -> Peer {
        let (node, settings) = (NodeId::from_bits(number), test_settings());
        let store = RedisStore::new(node, url, &settings.redis, &settings.presence, Arc::new(|| ()));
        let writer = store.expect("a URL of Redis").open_writer().await.expect("a writer");
        let mut peer = Peer { writer, heard: None };
        peer.beat(false).await;
        peer
    }

    /// Its sockets are asserted. Whether its entries in rooms are, it says here.
    async fn beat(&mut self, and_rooms: bool) {
        let asserted = self.heard.map_or(0, |heard| heard.position.epoch);
        let (all_asserted, heard_at) =
            (if and_rooms { asserted } else { 0 }, self.heard.map_or(Timestamp(0), |heard| heard.now));
        let beat = Beat { generation: 1, seen: 0, asserted, all_asserted, heard_at, waits_since: None };
        self.heard = Some(self.writer.beat(beat).await.expect("a reply"));
    }
}

#[tokio::test]
async fn departures_from_the_service_wait_for_sockets_and_those_from_rooms_wait_for_rooms() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let patient = |settings: &mut Settings| settings.presence.lease = Duration::from_secs(60);
    let (node, witness) = (Driven::on(&proxy.url(), 1, patient).await, Driven::on(&redis.url(), 2, patient).await);
    let mut tales = witness.listen("x").await;
    let ada = node.join("ada", &["x"]).await;
    let mut peer = Peer::on(&redis.url(), 3).await;
    proxy.cut().await;
    eventually(async || !node.is_up(), "the node notices").await;
    ada.leave();
    proxy.restore().await;
    let online = async || redis.smembers("online:users:set").await;
    let told = async || {
        peer.beat(false).await;
        online().await.is_empty()
    };
    eventually(told, "the service tells that she left").await;
    let Link::Up { n_beats, holding: true, .. } = *node.link.borrow() else { panic!("the view does not wait") };
    let has_beaten_twice = async || {
        peer.beat(false).await;
        matches!(*node.link.borrow(), Link::Up { n_beats: now, holding: true, .. } if now >= n_beats + 2)
    };
    eventually(has_beaten_twice, "the node goes on").await;
    assert_eq!(tales.so_far(), ["+ada"]);
    let told = async || {
        peer.beat(true).await;
        tales.so_far().len() == 2
    };
    eventually(told, "the room tells it too").await;
    assert_eq!(tales.so_far(), ["+ada", "-ada left"]);
    let is_over = async || matches!(*node.link.borrow(), Link::Up { holding: false, .. });
    eventually(is_over, "the view goes on").await;
}

#[tokio::test]
async fn after_a_loss_of_data_everybody_is_in_the_rooms_again() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let node = Driven::on(&redis.url(), 1, |_| ()).await;
    let _sockets = [node.join("ada", &["x", "y"]).await, node.join("bob", &["x"]).await];
    redis.command(&["FLUSHALL"]).await;
    eventually_eq(async || node.members("x").await, ["ada", "bob"], "they are asserted").await;
    eventually_eq(async || node.members("y").await, ["ada"], "she is asserted").await;
}

#[tokio::test]
async fn a_node_says_that_its_rooms_are_asserted_once_the_store_holds_them() {
    const N_SOCKETS: usize = 100;
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    // The rooms take several beats.
    let hurried = |settings: &mut Settings| settings.presence.beat = Duration::from_millis(100);
    let node = Driven::on(&redis.url(), 1, hurried).await;
    let (mut sockets, mut entered) = (Vec::new(), Vec::new());
    for number in 0..N_SOCKETS {
        let (socket, _) = node.table.insert(&user(&format!("u{number}")), Arrival::default(), None);
        let rooms = (0..MOST).map(|id| room(&id.to_string()));
        entered.extend(rooms.map(|room| socket.join_room(MOST, &room).expect("it may")));
        sockets.push(socket);
    }
    for entered in entered {
        timeout(DEADLINE, entered).await.expect("a reply in time").expect("a reply");
    }
    redis.command(&["FLUSHALL"]).await;
    let id = NodeId::from_bits(1);
    let (member, registry) = (format!("{id}:rooms"), format!("online:node:rooms:{id}"));
    let has_asserted = async || {
        let asserted: Option<f64> = redis.query(&["ZSCORE", "online:nodes:asserted", &member]).await;
        let n_entries: usize = redis.query(&["HLEN", &registry]).await;
        assert!(asserted.is_none() || n_entries == N_SOCKETS * MOST, "{n_entries}");
        asserted.is_some()
    };
    eventually(has_asserted, "the node has asserted all").await;
}

#[tokio::test]
async fn entries_that_a_hand_changed_are_put_right() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let node = Driven::on(&redis.url(), 1, |settings| settings.presence.audit = Duration::from_secs(1)).await;
    let _ada = node.join("ada", &["x"]).await;
    let id = NodeId::from_bits(1);
    let registry = format!("online:node:rooms:{id}");
    let entries = async || redis.hgetall(&registry).await.into_keys().collect::<BTreeSet<_>>();
    let right = entries().await;
    // The count of a beat shows it.
    redis.command(&["HSET", &registry, &format!("y\t{id}.99"), "bob"]).await;
    eventually_eq(&entries, right.clone(), "the foreign entry is removed").await;
    redis.command(&["DEL", &registry]).await;
    eventually_eq(&entries, right, "the missing entry is asserted").await;
    // The refresh of all keys shows it.
    redis.command(&["DEL", "online:room:x:users:set", "online:room:x:user:socket:ada"]).await;
    eventually_eq(async || node.members("x").await, ["ada"], "she is asserted").await;
    // It shows a single entry, too.
    let _ada_too = node.join("ada", &["x"]).await;
    let sockets = async || redis.hgetall("online:room:x:user:socket:ada").await.into_keys().collect::<BTreeSet<_>>();
    let right = sockets().await;
    for socket in &right {
        redis.command(&["HDEL", "online:room:x:user:socket:ada", socket]).await;
        eventually_eq(&sockets, right.clone(), "the missing entry is asserted").await;
    }
}
