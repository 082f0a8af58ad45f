//! What a node says of the rooms of its sockets: the table, the writer and the replica of nodes, without clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rollcall::domain::{NodeId, Presence, RoomId, RoomTold, Said, SaidStatus, Status, UserId};
use rollcall::metrics::{Registry, ReplicaMetrics, TableMetrics, WriterMetrics};
use rollcall::node::{Arrival, DrainHandle, Registration, Table, Writer};
use rollcall::replica::{Announce, Announcement, Replica, RoomAnnouncement, Times};
use rollcall::settings::Settings;
use rollcall::store::PresenceStore;
use rollcall::store::memory::MemoryStore;
use rollcall::store::redis::RedisStore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::*;

const MOST: usize = 50;

/// A node that nobody is connected to. Its tasks end with it.
struct Follower {
    table: Arc<Table>,
    replica: Arc<Replica>,
    store: Arc<dyn PresenceStore>,
    heard: Arc<Heard>,
    tasks: Vec<JoinHandle<()>>,
    _drain: DrainHandle,
}

/// A listener that believes everything that the node tells.
#[derive(Default)]
struct Heard(Mutex<Beliefs>);

#[derive(Default)]
struct Beliefs {
    /// Whether rooms are soon closed. What was believed of a closed room is not right any more, and nobody says so.
    forgets: bool,
    last_sequence: u64,
    rooms: BTreeMap<RoomId, BTreeSet<UserId>>,
    /// What was told, in short: `x +ada`, `x -ada left`, `x ~ada`.
    tales: Vec<String>,
}

impl Beliefs {
    fn count(&mut self, sequence: u64) {
        assert_eq!(sequence, self.last_sequence + 1, "one sequence counts everything");
        self.last_sequence = sequence;
    }
}

impl Heard {
    fn beliefs(&self) -> MutexGuard<'_, Beliefs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Announce for Heard {
    fn announce(&self, announcement: &Announcement) {
        self.beliefs().count(announcement.sequence);
    }

    fn announce_room(&self, announcement: &RoomAnnouncement) {
        let mut beliefs = self.beliefs();
        beliefs.count(announcement.sequence);
        let RoomAnnouncement { room, user, told, n_online, .. } = announcement;
        let forgets = beliefs.forgets;
        let shown = beliefs.rooms.entry(room.clone()).or_default();
        let tale = match told {
            RoomTold::Joined(_) => {
                if forgets && *n_online == 1 {
                    shown.clear();
                }
                assert!(shown.insert(user.clone()), "{user} comes twice");
                format!("{room} +{user}")
            }
            RoomTold::Changed(_) => {
                assert!(shown.contains(user), "{user} changes and is not there");
                format!("{room} ~{user}")
            }
            RoomTold::Left(reason) => {
                assert!(shown.remove(user), "{user} goes twice");
                format!("{room} -{user} {}", reason.as_str())
            }
        };
        assert_eq!(shown.len(), *n_online);
        beliefs.tales.push(tale);
    }

    fn begin_catch_up(&self) {}

    fn end_catch_up(&self) {}
}

impl Follower {
    async fn embedded(change: impl Fn(&mut Settings)) -> Follower {
        let mut settings = test_settings();
        change(&mut settings);
        let store = Arc::new(MemoryStore::new(&settings.presence));
        Follower::start(NodeId::from_bits(1), store, &settings).await
    }

    async fn on(url: &str, number: u64, change: impl Fn(&mut Settings)) -> Follower {
        let mut settings = test_settings_with_redis(url);
        change(&mut settings);
        let node = NodeId::from_bits(number);
        let store = RedisStore::new(node, url, &settings.redis, &settings.presence, Arc::new(|| ()));
        Follower::start(node, Arc::new(store.expect("a URL of Redis")), &settings).await
    }

    async fn start(node: NodeId, store: Arc<dyn PresenceStore>, settings: &Settings) -> Follower {
        let (mut registry, heard) = (Registry::default(), Arc::new(Heard::default()));
        heard.beliefs().forgets = settings.rooms.linger < DEADLINE;
        let table = Table::new(node, &settings.presence, TableMetrics::new(&mut registry));
        let metrics = WriterMetrics::new(&mut registry);
        let (writer, link) = Writer::new(store.clone(), table.clone(), metrics, &settings.presence, &settings.redis);
        let times = Times {
            lease: settings.presence.lease,
            backoff_max: settings.redis.backoff_max,
            active_every: settings.presence.active_every,
            rooms_linger: settings.rooms.linger,
            compare_rooms_every: settings.presence.compare_rooms(),
        };
        let metrics = ReplicaMetrics::new(&mut registry);
        let replica = Replica::new(store.clone(), table.clone(), heard.clone(), metrics, link, times);
        let (drain, writer) = writer.into_task(Duration::from_secs(1));
        let tasks = vec![tokio::spawn(writer), tokio::spawn(replica.clone().run(CancellationToken::new()))];
        let follower = Follower { table, replica, store, heard, tasks, _drain: drain };
        eventually(async || follower.replica.is_ready(), "the node is ready").await;
        follower
    }

    /// A socket of the user joins the service. Returns when this node shows the user.
    async fn join(&self, id: &str) -> Registration {
        let socket = self.insert(id, Said::default());
        eventually(async || self.replica.view().roster().get(id).is_some(), "the node shows the user").await;
        socket
    }

    fn insert(&self, id: &str, said: Said) -> Registration {
        let (socket, _) = self.table.insert(&user(id), Arrival { said, ..Arrival::default() }, None);
        self.replica.arrived(&user(id), &Presence::default());
        socket
    }

    /// The socket enters a room. Returns whether the view shows it in time.
    async fn enter(&self, socket: &Registration, id: &str, name: &str) -> bool {
        let entered = socket.join_room(MOST, &room(name)).expect("it may");
        self.replica.enter_room(&room(name), &user(id), entered).await
    }

    /// Who is in the room, as the view says. It is none if the room is not open.
    fn shown(&self, name: &str) -> Option<Vec<String>> {
        let view = self.replica.view();
        let page = view.rooms().get(&room(name))?.page(view.roster(), None, usize::MAX);
        Some(page.users.iter().map(|(user, _)| user.as_str().to_owned()).collect())
    }

    fn tales(&self) -> Vec<String> {
        self.heard.beliefs().tales.clone()
    }

    async fn shows(&self, name: &str, expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(|id| (*id).to_owned()).collect();
        eventually_eq(async || self.shown(name), Some(expected.clone()), "the room shows its members").await;
        let beliefs = self.heard.beliefs();
        let believed = beliefs.rooms.get(&room(name)).into_iter().flatten().map(|user| user.as_str().to_owned());
        assert_eq!(believed.collect::<Vec<_>>(), expected, "so does what was told");
    }

    fn is_degraded(&self) -> bool {
        self.replica.view().degraded().is_some()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).expect("a room id")
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a user id")
}

fn briefly(settings: &mut Settings) {
    settings.rooms.linger = Duration::from_millis(100);
}

fn chose(status: Status) -> Said {
    Said { status: Some(SaidStatus { status, text: None, expiry: None, is_repeated: false }), ..Said::default() }
}

/// A node that shows its own sockets in rooms.
async fn rooms_follow_sockets(node: &Follower) {
    let (ada, bob) = (node.join("ada").await, node.join("bob").await);
    assert_eq!(node.shown("x"), None);
    assert!(node.enter(&ada, "ada", "x").await);
    node.shows("x", &["ada"]).await;
    assert!(node.enter(&bob, "bob", "x").await);
    assert!(node.enter(&bob, "bob", "x").await, "to enter again is to ask again");
    node.shows("x", &["ada", "bob"]).await;
    bob.say(chose(Status::Busy)).await.expect("a reply");
    eventually(async || node.tales().contains(&"x ~bob".to_owned()), "the change is told in the room").await;
    bob.say(chose(Status::Invisible)).await.expect("a reply");
    node.shows("x", &["ada"]).await;
    bob.say(chose(Status::Online)).await.expect("a reply");
    node.shows("x", &["ada", "bob"]).await;
    ada.leave_room(&room("x"));
    node.shows("x", &["bob"]).await;
    bob.leave();
    eventually_eq(async || node.shown("x"), None, "nobody uses the room").await;
    let expected = ["x +ada", "x +bob", "x ~bob", "x -bob left", "x +bob", "x -ada left", "x -bob left"];
    assert_eq!(node.tales(), expected);
    assert!(node.enter(&ada, "ada", "x").await, "a room can be opened again");
    assert!(node.replica.open_room(&room("nobody is here")).await);
    assert_eq!(node.shown("nobody is here"), Some(Vec::new()));
}

#[tokio::test]
async fn rooms_follow_sockets_on_the_embedded_store() {
    rooms_follow_sockets(&Follower::embedded(briefly).await).await;
}

#[tokio::test]
async fn rooms_follow_sockets_on_redis() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    rooms_follow_sockets(&Follower::on(&redis.url(), 1, briefly).await).await;
}

#[tokio::test]
async fn a_node_subscribes_to_rooms_only_while_it_has_some_open() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let node = Follower::on(&redis.url(), 1, briefly).await;
    let n_subscribers = async || {
        let clients: String = redis.query(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        clients.lines().count()
    };
    let channels = async || {
        let channels: Vec<String> = redis.query(&["PUBSUB", "CHANNELS", "online:room:*"]).await;
        channels
    };
    let ada = node.join("ada").await;
    assert_eq!(n_subscribers().await, 1, "transitions of the service");
    assert!(node.enter(&ada, "ada", "x").await && node.enter(&ada, "ada", "y").await);
    assert_eq!(n_subscribers().await, 2);
    assert_eq!(channels().await.len(), 2);
    ada.leave_room(&room("x"));
    eventually_eq(&channels, ["online:room:y:events"], "the other room is closed").await;
    ada.leave_room(&room("y"));
    eventually_eq(&n_subscribers, 1, "the connection is given up").await;
    assert_eq!(node.shown("y"), None);
}

#[tokio::test]
async fn a_room_is_the_same_on_all_nodes_and_a_killed_node_leaves_it_once() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let (dead, peer) = (Follower::on(&redis.url(), 1, |_| ()).await, Follower::on(&redis.url(), 2, |_| ()).await);
    let (ada, bob, bob_too) = (dead.join("ada").await, dead.join("bob").await, peer.join("bob").await);
    assert!(dead.enter(&ada, "ada", "x").await && dead.enter(&bob, "bob", "x").await);
    assert!(peer.enter(&bob_too, "bob", "x").await);
    dead.shows("x", &["ada", "bob"]).await;
    peer.shows("x", &["ada", "bob"]).await;
    drop(dead);
    let swept = async || {
        peer.store.sweep().await.expect("a sweep");
        peer.shown("x") == Some(vec!["bob".to_owned()])
    };
    eventually(swept, "the dead node is swept").await;
    let tales = peer.tales();
    assert_eq!(tales[tales.len() - 1], "x -ada node_lost", "{tales:?}");
    assert_eq!(tales.iter().filter(|tale| tale.starts_with("x -")).count(), 1, "{tales:?}");
}

#[tokio::test]
async fn an_outage_loses_nobody_and_whoever_enters_meanwhile_is_shown_at_once() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let (node, peer) = (Follower::on(&proxy.url(), 1, |_| ()).await, Follower::on(&redis.url(), 2, |_| ()).await);
    let (ada, bob, cid) = (node.join("ada").await, peer.join("bob").await, peer.join("cid").await);
    assert!(node.enter(&ada, "ada", "x").await);
    assert!(peer.enter(&bob, "bob", "x").await && peer.enter(&cid, "cid", "x").await);
    node.shows("x", &["ada", "bob", "cid"]).await;
    proxy.cut().await;
    eventually(async || node.is_degraded(), "the node notices").await;
    cid.leave_room(&room("x"));
    let eve = node.insert("eve", Said::default());
    assert!(!node.enter(&eve, "eve", "x").await);
    assert!(!node.enter(&eve, "eve", "y").await, "a room can be opened without a store");
    node.shows("x", &["ada", "bob", "cid", "eve"]).await;
    node.shows("y", &["eve"]).await;
    peer.shows("x", &["ada", "bob"]).await;
    proxy.restore().await;
    node.shows("x", &["ada", "bob", "eve"]).await;
    peer.shows("x", &["ada", "bob", "eve"]).await;
    let known = async || node.replica.view().rooms().get(&room("y")).is_some_and(|room| room.is_known());
    eventually(known, "the other room is read").await;
    node.shows("y", &["eve"]).await;
    assert_eq!(node.tales().iter().filter(|tale| tale.starts_with("x -")).count(), 1, "{:?}", node.tales());
}

#[tokio::test]
async fn a_loss_of_data_tells_nobody_to_have_left_a_room() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let (node, peer) = (Follower::on(&redis.url(), 1, |_| ()).await, Follower::on(&redis.url(), 2, |_| ()).await);
    let (ada, bob) = (node.join("ada").await, peer.join("bob").await);
    assert!(node.enter(&ada, "ada", "x").await && peer.enter(&bob, "bob", "x").await);
    node.shows("x", &["ada", "bob"]).await;
    redis.command(&["FLUSHALL"]).await;
    let members = async || redis.smembers("online:room:x:users:set").await;
    eventually_eq(&members, ["ada", "bob"], "the nodes assert them").await;
    // What comes after the hold is told as ever.
    bob.leave_room(&room("x"));
    node.shows("x", &["ada"]).await;
    peer.shows("x", &["ada"]).await;
    for follower in [&node, &peer] {
        assert_eq!(follower.tales().last().map(String::as_str), Some("x -bob left"));
        assert_eq!(follower.tales().iter().filter(|tale| tale.starts_with("x -")).count(), 1);
    }
}

#[tokio::test]
async fn a_subscription_that_is_silent_is_noticed() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let hurried = |settings: &mut Settings| settings.presence.beat = Duration::from_millis(100);
    let node = Follower::on(&proxy.url(), 1, hurried).await;
    let peer = Follower::on(&redis.url(), 2, |_| ()).await;
    let (ada, bob) = (node.join("ada").await, peer.join("bob").await);
    assert!(node.enter(&ada, "ada", "x").await && peer.enter(&bob, "bob", "x").await);
    node.shows("x", &["ada", "bob"]).await;
    proxy.strand();
    bob.leave_room(&room("x"));
    // A snapshot may show this: the node reads anew when it notices that its other connections are silent.
    node.shows("x", &["ada"]).await;
    peer.shows("x", &["ada"]).await;
    // Only the subscription shows this.
    assert!(peer.enter(&bob, "bob", "x").await);
    node.shows("x", &["ada", "bob"]).await;
    proxy.thaw();
}

/// The ids of the connections that have subscribed to something.
async fn subscriptions(redis: &RedisServer) -> BTreeSet<String> {
    let clients: String = redis.query(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    let ids = clients.lines().filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")));
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_node_that_gets_no_new_connection_goes_on_with_those_that_it_has() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let brief = |settings: &mut Settings| settings.presence.lease = Duration::from_millis(1500);
    let node = Follower::on(&proxy.url(), 1, brief).await;
    let ada = node.join("ada").await;
    let before = subscriptions(&redis).await;
    assert!(node.enter(&ada, "ada", "x").await);
    let of_rooms: Vec<String> = subscriptions(&redis).await.difference(&before).cloned().collect();
    assert_eq!(of_rooms.len(), 1);
    let peer = Follower::on(&redis.url(), 2, |_| ()).await;
    let mut shown = vec!["ada".to_owned()];
    proxy.refuse().await;
    redis.command(&["CLIENT", "KILL", "ID", &of_rooms[0]]).await;
    let mut sockets = Vec::new();
    // The room is read every 5 s. In this time, the connections of the pool grow old.
    for id in ["bob", "cid", "dan"] {
        let socket = peer.join(id).await;
        assert!(peer.enter(&socket, id, "x").await);
        sockets.push(socket);
        shown.push(id.to_owned());
        node.shows("x", &shown.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    assert!(!node.is_degraded());
    sockets[0].leave_room(&room("x"));
    peer.shows("x", &["ada", "cid", "dan"]).await;
    proxy.restore().await;
    node.shows("x", &["ada", "cid", "dan"]).await;
    assert_eq!(node.tales(), ["x +ada", "x +bob", "x +cid", "x +dan", "x -bob unknown"]);
}

/// Publishes by hand what looks like the next transition of a room.
async fn forge(redis: &RedisServer, name: &str, kind: &str, id: &str) {
    let head = redis.hgetall(&format!("online:room:{name}:head")).await;
    let [birth, revision] = ["birth", "revision"].map(|field| head[field].parse::<u64>().expect("a number"));
    let revision = revision + 1;
    let event = format!(r#"{{"birth":{birth},"revision":{revision},"type":"{kind}","userId":"{id}","at":1}}"#);
    redis.command(&["PUBLISH", &format!("online:room:{name}:events"), &event]).await;
}

/// Each node compares its rooms with the store often.
fn watchful(settings: &mut Settings) {
    settings.presence.beat = Duration::from_millis(100);
    settings.presence.audit = Duration::from_millis(500);
}

#[tokio::test]
async fn what_a_hand_publishes_in_a_room_is_put_right() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let node = Follower::on(&redis.url(), 1, watchful).await;
    let (ada, _eve) = (node.join("ada").await, node.join("eve").await);
    assert!(node.enter(&ada, "ada", "x").await);
    for n_forged in 1..3 {
        forge(&redis, "x", "entered", "eve").await;
        let tale = "x +eve".to_owned();
        let n_told = async || node.tales().iter().filter(|told| **told == tale).count();
        eventually_eq(n_told, n_forged, "nobody can know that this is not true").await;
        node.shows("x", &["ada"]).await;
    }
    assert_eq!(node.tales(), ["x +ada", "x +eve", "x -eve unknown", "x +eve", "x -eve unknown"]);
}

#[tokio::test]
async fn what_the_store_publishes_with_the_number_of_a_forged_transition_is_not_lost() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let (node, peer) = (Follower::on(&redis.url(), 1, |_| ()).await, Follower::on(&redis.url(), 2, |_| ()).await);
    let (ada, bob, _eve) = (node.join("ada").await, peer.join("bob").await, node.join("eve").await);
    assert!(node.enter(&ada, "ada", "x").await);
    forge(&redis, "x", "entered", "eve").await;
    node.shows("x", &["ada", "eve"]).await;
    assert!(peer.enter(&bob, "bob", "x").await);
    peer.shows("x", &["ada", "bob"]).await;
    node.shows("x", &["ada", "bob"]).await;
    forge(&redis, "x", "left", "ada").await;
    bob.leave_room(&room("x"));
    node.shows("x", &["ada"]).await;
    // Ada has a socket there.
    assert!(!node.tales().iter().any(|tale| tale.starts_with("x -ada")), "{:?}", node.tales());
}

#[tokio::test]
async fn a_member_of_whom_a_hand_deleted_everything_is_not_shown_for_ever() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let (node, peer) = (Follower::on(&redis.url(), 1, watchful).await, Follower::on(&redis.url(), 2, watchful).await);
    let (ada, bob) = (node.join("ada").await, peer.join("bob").await);
    assert!(node.enter(&ada, "ada", "x").await && peer.enter(&bob, "bob", "x").await);
    node.shows("x", &["ada", "bob"]).await;
    let lua = "redis.call('SREM', KEYS[1], 'bob') return redis.call('DEL', KEYS[2], KEYS[3])";
    let registry = format!("online:node:rooms:{}", NodeId::from_bits(2));
    let keys = ["online:room:x:users:set", "online:room:x:user:socket:bob", &registry];
    let deleted: u64 = redis.query(&[&["EVAL", lua, "3"], &keys[..]].concat()).await;
    assert_eq!(deleted, 2);
    bob.leave_room(&room("x"));
    node.shows("x", &["ada"]).await;
    peer.shows("x", &["ada"]).await;
}

#[tokio::test]
async fn a_room_that_is_emptied_and_filled_again_is_right_on_every_node() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let hasty = |settings: &mut Settings| settings.rooms.linger = Duration::from_millis(1);
    let [first, second] = [Follower::on(&redis.url(), 1, hasty).await, Follower::on(&redis.url(), 2, hasty).await];
    let witness = Follower::on(&redis.url(), 3, |_| ()).await;
    let (ada, bob) = (first.join("ada").await, second.join("bob").await);
    eventually(async || witness.replica.view().roster().get("bob").is_some(), "the witness sees them").await;
    assert!(witness.replica.open_room(&room("x")).await);
    for _ in 0..100 {
        assert!(first.enter(&ada, "ada", "x").await);
        ada.leave_room(&room("x"));
        assert!(second.enter(&bob, "bob", "x").await);
        bob.leave_room(&room("x"));
    }
    assert!(first.enter(&ada, "ada", "x").await);
    first.shows("x", &["ada"]).await;
    // The witness heard every one of them come and go.
    witness.shows("x", &["ada"]).await;
    assert_eq!(witness.tales().len(), 401);
    ada.leave_room(&room("x"));
    witness.shows("x", &[]).await;
    eventually_eq(async || redis.keys("online:room:*").await, NOBODY, "no key is left").await;
}

#[tokio::test]
async fn whoever_asks_about_a_large_room_gets_all_of_it() {
    const N_USERS: usize = 3000;
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let (node, peer) = (Follower::on(&redis.url(), 1, |_| ()).await, Follower::on(&redis.url(), 2, |_| ()).await);
    let mut sockets = Vec::new();
    for number in 0..N_USERS {
        let socket = peer.insert(&format!("u{number}"), Said::default());
        drop(socket.join_room(MOST, &room("hall")).expect("it may"));
        sockets.push(socket);
    }
    let n_members = async || redis.query::<usize>(&["SCARD", "online:room:hall:users:set"]).await;
    eventually_eq(&n_members, N_USERS, "all are there").await;
    eventually_eq(async || node.replica.view().roster().iter().count(), N_USERS, "the node knows all").await;
    timeout(DEADLINE, async { while !node.replica.open_room(&room("hall")).await {} }).await.expect("it is read");
    let view = node.replica.view();
    let hall = view.rooms().get(&room("hall")).expect("it is open");
    assert!(hall.is_known() && hall.contains(&user("u7")));
    assert_eq!((hall.len(), hall.page(view.roster(), None, 10).users.len()), (N_USERS, 10));
    assert_eq!(hall.last_told(), view.sequence());
}
