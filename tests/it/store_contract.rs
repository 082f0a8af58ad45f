//! What a store promises (`src/store/mod.rs`), asked of every implementation; and what only a shared one can be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use rollcall::clock;
use rollcall::domain::{
    Change, NodeId, OfflineReason, Position, Presence, Profile, ProfileFields, Roster, Scope, SocketId, Timestamp,
    Transition, UserId,
};
use rollcall::store::memory::MemoryStore;
use rollcall::store::redis::RedisStore;
use rollcall::store::{
    Beat, BeatReply, Claim, Intent, Join, LeaseState, Order, Outcome, PresenceStore, Refusal, StoreWriter, Swept,
    SweptBatch,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::*;

/// A kind of store, of which each test has its own.
trait Truth {
    /// The store as a node sees it.
    fn seen_by(&self, node: NodeId) -> Arc<dyn PresenceStore>;

    /// Ends the hold at the beginning of an epoch, if there is one.
    async fn end_hold(&self) {}
}

/// The embedded store: every node of a test would be the one that there is.
struct Embedded(MemoryStore);

impl Truth for Embedded {
    fn seen_by(&self, _node: NodeId) -> Arc<dyn PresenceStore> {
        Arc::new(self.0.clone())
    }
}

/// A Redis, and the lease that its nodes ask for.
struct Shared {
    redis: RedisServer,
    lease: Duration,
    sweep_batch: usize,
    audit: Duration,
}

impl Shared {
    /// A Redis whose leases last as long as a test may.
    async fn start() -> Shared {
        let (lease, audit) = (Duration::from_secs(100), Duration::from_secs(60));
        Shared { redis: RedisServer::start().await, lease, sweep_batch: 2, audit }
    }

    /// The next nodes ask for this lease.
    fn with_lease(mut self, lease: Duration) -> Shared {
        self.lease = lease;
        self
    }

    /// Ends the lease of a node in the past, by hand.
    async fn expire(&self, node: NodeId) {
        self.redis.command(&["ZADD", "online:nodes", "XX", "1", node.as_str()]).await;
    }
}

impl Truth for Shared {
    fn seen_by(&self, node: NodeId) -> Arc<dyn PresenceStore> {
        let mut settings = test_settings_with_redis(&self.redis.url());
        settings.presence.lease = self.lease;
        settings.presence.sweep_batch = self.sweep_batch;
        settings.presence.audit = self.audit;
        let store = RedisStore::new(node, &self.redis.url(), &settings.redis, &settings.presence, Arc::new(|| ()));
        Arc::new(store.expect("a URL of Redis"))
    }

    async fn end_hold(&self) {
        self.redis.command(&["HSET", "online:epoch", "holdUntil", "0"]).await;
    }
}

/// A node: its writer, and the name in which that gives orders.
struct TestNode {
    id: NodeId,
    store: Arc<dyn PresenceStore>,
    writer: Box<dyn StoreWriter>,
    claim: Claim,
}

impl TestNode {
    /// Connects and beats for the first time.
    async fn join(truth: &impl Truth, number: u64) -> TestNode {
        let id = NodeId::from_bits(number);
        let store = truth.seen_by(id);
        let writer = store.open_writer().await.expect("a writer");
        let mut node = TestNode { id, store, writer, claim: Claim { epoch: 0, generation: 1 } };
        node.beat().await;
        node
    }

    /// Beats, and believes in the epoch of the reply.
    async fn beat(&mut self) -> BeatReply {
        self.beat_having_seen(0).await
    }

    async fn beat_having_seen(&mut self, seen: u64) -> BeatReply {
        self.beat_with(Beat { seen, ..self.plain_beat() }).await
    }

    async fn beat_with(&mut self, beat: Beat) -> BeatReply {
        let reply = self.writer.beat(beat).await.expect("a reply");
        self.claim.epoch = reply.position.epoch;
        reply
    }

    /// What a node says that has asserted nothing and waits for nobody.
    fn plain_beat(&self) -> Beat {
        let (generation, heard_at) = (self.claim.generation, Timestamp(0));
        Beat { generation, seen: 0, asserted: 0, all_asserted: 0, heard_at, waits_since: None }
    }

    /// Says that everything of this epoch is asserted, having heard `heard`.
    async fn assert_all(&mut self, heard: BeatReply, waits_since: Option<Timestamp>) -> BeatReply {
        let epoch = heard.position.epoch;
        let beat = Beat { asserted: epoch, all_asserted: epoch, ..self.plain_beat() };
        self.beat_with(Beat { heard_at: heard.now, waits_since, ..beat }).await
    }

    /// Says that the sockets of this epoch are asserted, and their entries in rooms are not.
    async fn assert_sockets(&mut self, heard: BeatReply, waits_since: Option<Timestamp>) -> BeatReply {
        let beat = Beat { asserted: heard.position.epoch, heard_at: heard.now, ..self.plain_beat() };
        self.beat_with(Beat { waits_since, ..beat }).await
    }

    fn socket(&self, number: u64) -> SocketId {
        SocketId { node: self.id, number }
    }

    fn order(&self, number: u64, id: &str, intent: Intent) -> Order {
        let active_at = Timestamp(0);
        Order { scope: Scope::Service, socket: self.socket(number), user: user(id), intent, active_at }
    }

    /// Gives one order, which must be carried out; returns the position, and the date of the profile (0 for none).
    async fn drive(&mut self, number: u64, id: &str, intent: Intent) -> (Position, Timestamp) {
        match self.try_drive(number, id, intent).await {
            Outcome::Done { position, dates, .. } => (position, dates.profile_at),
            Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    async fn try_drive(&mut self, number: u64, id: &str, intent: Intent) -> Outcome {
        let orders = [self.order(number, id, intent)];
        let outcomes = self.writer.drive(self.claim, &orders).await.expect("outcomes");
        assert_eq!(outcomes.len(), 1);
        outcomes[0]
    }

    /// Users and their data, and the position.
    async fn roster(&self) -> Roster {
        self.store.snapshot().await.expect("a snapshot")
    }

    async fn ids(&self) -> Vec<String> {
        self.roster().await.iter().map(|(user, _)| user.as_str().to_owned()).collect()
    }
}

/// A subscription that is read up to now.
struct Listener(mpsc::Receiver<Transition>);

impl Listener {
    async fn to(node: &TestNode) -> Listener {
        Listener(node.store.subscribe().await.expect("a subscription"))
    }

    /// The transitions up to this position.
    async fn up_to(&mut self, position: Position) -> Vec<Transition> {
        let mut heard: Vec<Transition> = Vec::new();
        while heard.last().is_none_or(|transition| transition.position.revision < position.revision) {
            let next = timeout(DEADLINE, self.0.recv()).await.expect("a transition in time");
            heard.push(next.expect("the subscription lasts"));
        }
        heard
    }

    /// Nothing more has come; whatever could have was decided before what was heard last.
    fn is_empty(&mut self) -> bool {
        self.0.recv().now_or_never().is_none()
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a user id")
}

/// A profile that is stated now: later than all that were stated before.
fn stated(name: &str) -> Presence {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = clock::now().0;
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    dated(name, now.max(last.expect("it always has a next") + 1))
}

/// A profile that is asserted again as of then.
fn dated(name: &str, profile_at: u64) -> Presence {
    let fields = ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() };
    Presence { profile: Profile::from_fields(&fields), profile_at: Timestamp(profile_at), ..Presence::default() }
}

fn join() -> Intent {
    join_as(Presence::default())
}

fn join_as(presence: Presence) -> Intent {
    Intent::Join(Join { presence, idle: false, device: None, since: Timestamp(u64::MAX) })
}

const LOST: Intent = Intent::Remove(OfflineReason::ConnectionLost);

/// What happened, in short: `+ada`, `~ada`, `-ada left`.
fn stories(transitions: &[Transition]) -> Vec<String> {
    let story = |transition: &Transition| match &transition.change {
        Change::Online(_) => format!("+{}", transition.user),
        Change::Changed(_) => format!("~{}", transition.user),
        Change::Offline(departure) => format!("-{} {}", transition.user, departure.reason.as_str()),
    };
    transitions.iter().map(story).collect()
}

/// The rules for every store: each a test of each.
macro_rules! rules {
    ($($rule:ident)*) => {
        mod embedded {
            $(#[tokio::test] async fn $rule() { super::$rule(&super::Embedded(super::MemoryStore::new(&crate::support::test_settings().presence))).await; })*
        }
        mod redis {
            $(#[tokio::test] async fn $rule() { super::$rule(&super::Shared::start().await).await; })*
        }
    };
}

mod people;
mod rooms;

rules! {
    only_the_first_socket_and_the_last_make_a_transition
    revisions_count_up_by_one_and_subscribers_hear_each_once_in_order
    stating_an_intention_again_changes_nothing
    a_farewell_takes_the_users_sockets_in_grace_along
    a_removal_removes_one_socket_alone
    grace_marks_only_what_is_there
    a_change_of_profile_is_numbered_and_dated
    an_older_profile_never_wins
    a_presence_without_a_profile_is_not_dated
    a_snapshot_and_the_log_agree
    a_batch_is_carried_out_in_order_and_answered_in_order
    a_refresh_of_what_is_whole_reports_nothing
    a_beat_counts_the_nodes_sockets
    every_printable_id_and_name_survives
}

async fn only_the_first_socket_and_the_last_make_a_transition(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    for (number, intent) in [(1, join()), (2, join()), (1, Intent::Leave), (3, join()), (2, LOST)] {
        node.drive(number, "ada", intent).await;
        assert_eq!(node.ids().await, ["ada"]);
    }
    let (end, _) = node.drive(3, "ada", Intent::Remove(OfflineReason::TimedOut)).await;
    assert_eq!(stories(&listener.up_to(end).await), ["+ada", "-ada timed_out"]);
    assert_eq!(node.ids().await, NOBODY);
}

async fn revisions_count_up_by_one_and_subscribers_hear_each_once_in_order(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listeners = [Listener::to(&node).await, Listener::to(&node).await];
    let start = node.roster().await.position();
    let mut last = start;
    for (number, id) in [(1, "a"), (2, "b"), (3, "c")] {
        (last, _) = node.drive(number, id, join()).await;
    }
    for (number, id) in [(2, "b"), (1, "a")] {
        (last, _) = node.drive(number, id, Intent::Leave).await;
    }
    assert_eq!(last, Position { epoch: start.epoch, revision: start.revision + 5 });
    for listener in &mut listeners {
        let heard = listener.up_to(last).await;
        let revisions: Vec<_> = heard.iter().map(|transition| transition.position.revision).collect();
        assert_eq!(revisions, (start.revision + 1..=last.revision).collect::<Vec<_>>());
        assert_eq!(stories(&heard), ["+a", "+b", "+c", "-b left", "-a left"]);
        assert!(heard.iter().all(|transition| transition.position.epoch == start.epoch));
        assert!(heard.is_sorted_by_key(|transition| transition.at));
        assert!(listener.is_empty());
    }
}

async fn stating_an_intention_again_changes_nothing(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    for intent in [Intent::Leave, LOST, Intent::Grace] {
        node.drive(1, "ada", intent).await;
    }
    let profile = stated("Ada");
    let (_, updated_at) = node.drive(1, "ada", join_as(profile.clone())).await;
    for presence in [profile, dated("Ada", updated_at.0), stated("Ada")] {
        assert_eq!(node.drive(1, "ada", join_as(presence)).await.1, updated_at);
    }
    node.drive(1, "ada", Intent::Grace).await;
    node.drive(1, "ada", Intent::Grace).await;
    assert_eq!(node.roster().await.get(&user("ada")).map(|presence| presence.profile_at), Some(updated_at));
    node.drive(1, "ada", Intent::Leave).await;
    node.drive(1, "ada", Intent::Leave).await;
    let (end, _) = node.drive(1, "ada", LOST).await;
    assert_eq!(stories(&listener.up_to(end).await), ["+ada", "-ada left"]);
}

async fn a_farewell_takes_the_users_sockets_in_grace_along(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut other = TestNode::join(truth, 2).await;
    let mut listener = Listener::to(&node).await;
    node.drive(1, "ada", join()).await;
    other.drive(1, "ada", join()).await;
    node.drive(2, "ada", join()).await;
    node.drive(1, "ada", Intent::Grace).await;
    other.drive(1, "ada", Intent::Grace).await;
    let (end, _) = node.drive(2, "ada", Intent::Leave).await;
    assert_eq!(stories(&listener.up_to(end).await), ["+ada", "-ada left"]);
    assert_eq!(other.ids().await, NOBODY);

    // Sockets that are not in grace stay.
    node.drive(3, "bob", join()).await;
    other.drive(3, "bob", join()).await;
    node.drive(3, "bob", Intent::Leave).await;
    assert_eq!(other.ids().await, ["bob"]);
}

async fn a_removal_removes_one_socket_alone(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    for number in [1, 2] {
        node.drive(number, "ada", join()).await;
        node.drive(number, "ada", Intent::Grace).await;
    }
    node.drive(1, "ada", LOST).await;
    assert_eq!(node.ids().await, ["ada"]);
    node.drive(2, "ada", LOST).await;
    assert_eq!(node.ids().await, NOBODY);
}

async fn grace_marks_only_what_is_there(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.drive(1, "ada", Intent::Grace).await;
    assert_eq!(node.ids().await, NOBODY);
    assert_eq!(node.beat().await.n_sockets, 0);
    node.drive(1, "ada", join()).await;
    node.drive(1, "ada", Intent::Leave).await;
    node.drive(1, "ada", Intent::Grace).await;
    assert_eq!(node.ids().await, NOBODY);
    assert_eq!(node.beat().await.n_sockets, 0);
}

async fn a_change_of_profile_is_numbered_and_dated(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let (first, first_at) = node.drive(1, "ada", join_as(stated("Ada"))).await;
    let (second, second_at) = node.drive(1, "ada", join_as(stated("Ada L."))).await;
    assert_eq!((second.epoch, second.revision), (first.epoch, first.revision + 1));
    assert!(first_at.0 > 0 && second_at > first_at, "{first_at:?}, {second_at:?}");
    // A socket without a profile says nothing about it.
    assert_eq!(node.drive(2, "ada", join()).await, (second, second_at));

    let heard = listener.up_to(second).await;
    assert_eq!(stories(&heard), ["+ada", "~ada"]);
    let expected = dated("Ada L.", second_at.0);
    assert_eq!(heard[1].change, Change::Changed(expected.clone()));
    assert_eq!(node.roster().await.get(&user("ada")), Some(&expected));
}

async fn an_older_profile_never_wins(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let (first, first_at) = node.drive(1, "ada", join_as(stated("new"))).await;
    assert_eq!(node.drive(2, "ada", join_as(dated("old", first_at.0 - 1))).await, (first, first_at));
    let (second, second_at) = node.drive(2, "ada", join_as(dated("newer", first_at.0 + 5))).await;
    assert_eq!((second.revision, second_at.0), (first.revision + 1, first_at.0 + 5));
    assert_eq!(node.roster().await.get(&user("ada")), Some(&dated("newer", second_at.0)));
}

async fn a_presence_without_a_profile_is_not_dated(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let (first, nothing) = node.drive(1, "ada", join()).await;
    assert_eq!(nothing, Timestamp(0));
    // However old a profile is that is asserted again, it beats none.
    let (second, stated_at) = node.drive(2, "ada", join_as(dated("Ada", 5))).await;
    assert_eq!((second.revision, stated_at), (first.revision + 1, Timestamp(5)));
    assert_eq!(stories(&listener.up_to(second).await), ["+ada", "~ada"]);
    assert_eq!(node.roster().await.get(&user("ada")), Some(&dated("Ada", 5)));
}

async fn a_snapshot_and_the_log_agree(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.drive(1, "ada", join_as(stated("Ada"))).await;
    let before = node.roster().await;
    let mut listener = Listener::to(&node).await;
    node.drive(2, "bob", join()).await;
    node.drive(3, "carol", join()).await;
    node.drive(1, "ada", join_as(stated("Ada L."))).await;
    let (end, _) = node.drive(2, "bob", Intent::Leave).await;
    let snapshot = node.roster().await;
    assert_eq!(snapshot.position(), end);

    let heard = listener.up_to(end).await;
    let rebuilt = |transitions: &[Transition]| {
        let mut roster = before.clone();
        for transition in transitions {
            roster.apply(&transition.user, &transition.change);
            roster.advance_to(transition.position);
        }
        roster
    };
    assert_eq!(rebuilt(&heard), snapshot);
    // A store may say that its log does not reach back; what it does say is what was told.
    if let Some(missed) = node.store.log_after(before.position()).await.expect("a log") {
        assert_eq!(missed, heard);
    }
    let nothing = node.store.log_after(end).await.expect("a log").expect("the end is known");
    assert_eq!(nothing, []);
    let foreign = Position { epoch: end.epoch + 1, revision: end.revision };
    assert!(node.store.log_after(foreign).await.expect("a log").is_none());
}

async fn a_batch_is_carried_out_in_order_and_answered_in_order(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let mut orders = Vec::new();
    for number in 0..100 {
        orders.push(node.order(number, &format!("user-{number}"), join()));
        orders.push(node.order(number, &format!("user-{number}"), Intent::Leave));
    }
    let start = node.roster().await.position().revision;
    let outcomes = node.writer.drive(node.claim, &orders).await.expect("outcomes");
    let revisions = outcomes.iter().map(|outcome| match outcome {
        Outcome::Done { position, .. } => position.revision,
        Outcome::Refused(refusal) => panic!("{refusal:?}"),
    });
    assert!(revisions.eq(start + 1..=start + 200), "{outcomes:?}");
    let end = Position { epoch: node.claim.epoch, revision: start + 200 };
    let heard = stories(&listener.up_to(end).await);
    assert_eq!((&*heard[198], &*heard[199]), ("+user-99", "-user-99 left"));
    assert_eq!(node.writer.drive(node.claim, &[]).await.expect("outcomes"), []);
}

async fn a_refresh_of_what_is_whole_reports_nothing(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.drive(1, "ada", join()).await;
    node.drive(2, "ada", join()).await;
    let sockets = [(node.socket(1), user("ada")), (node.socket(2), user("ada"))];
    assert_eq!(node.store.refresh(&sockets).await.expect("an answer"), []);
    assert_eq!(node.store.refresh(&[]).await.expect("an answer"), []);
}

async fn a_beat_counts_the_nodes_sockets(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.drive(1, "ada", join()).await;
    node.drive(2, "ada", join()).await;
    let (last, _) = node.drive(3, "bob", join()).await;
    let reply = node.beat().await;
    assert_eq!((reply.lease, reply.n_sockets, reply.position), (LeaseState::Renewed, 3, last));
    let mut held = node.writer.held_sockets().await.expect("sockets");
    held.sort();
    assert_eq!(held, [(node.socket(1), user("ada")), (node.socket(2), user("ada")), (node.socket(3), user("bob"))]);
    node.drive(1, "ada", Intent::Leave).await;
    assert_eq!(node.beat().await.n_sockets, 2);
}

async fn every_printable_id_and_name_survives(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let longest = "x".repeat(UserId::MAX_BYTES);
    for (number, id) in [r#"a"b\c/d"#, "Zoë", "日本 語", "%s {1}:*", "\u{2028}", &longest].into_iter().enumerate() {
        let (position, stated_at) = node.drive(number as u64, id, join_as(stated(id))).await;
        let expected = dated(id, stated_at.0);
        let heard = listener.up_to(position).await;
        assert_eq!((&heard[0].user, &heard[0].change), (&user(id), &Change::Online(expected.clone())));
        assert_eq!(node.roster().await.get(&user(id)), Some(&expected));
    }
}

// What only a shared store can be asked.

#[tokio::test]
async fn a_refresh_extends_what_is_there_and_reports_whose_is_not() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    for (number, id) in [(1, "ada"), (2, "bob"), (3, "carol"), (4, "dora")] {
        node.drive(number, id, join()).await;
    }
    let key = |number: u64| format!("online:socket:user:{}", node.socket(number));
    truth.redis.command(&["EXPIRE", &key(1), "10"]).await;
    truth.redis.command(&["DEL", &key(2)]).await;
    truth.redis.command(&["DEL", "online:presence:carol"]).await;
    truth.redis.command(&["DEL", "online:user:socket:dora"]).await;
    let sockets: Vec<_> =
        [(1, "ada"), (2, "bob"), (3, "carol"), (4, "dora")].map(|(n, id)| (node.socket(n), user(id))).into();
    let missing = node.store.refresh(&sockets).await.expect("an answer");
    assert_eq!(missing, [node.socket(2), node.socket(3), node.socket(4)]);
    assert!(truth.redis.pttl(&key(1)).await > 1_000_000);
    assert_eq!(truth.redis.get(&key(2)).await, None, "nothing is created");

    // Their owner asserts them again. Nodes may know other data of a user whose data is gone, so they are told what holds.
    let before = node.roster().await.position();
    for (number, id, n_changes) in [(2, "bob", 0), (4, "dora", 0), (3, "carol", 1)] {
        assert_eq!(node.drive(number, id, join()).await.0.revision, before.revision + n_changes, "{id}");
    }
    assert_eq!(node.store.refresh(&sockets).await.expect("an answer"), []);
}

/// Claims that are refused beside this one, which has the generation 1, each with the refusal.
fn refused_claims(current: Claim) -> [(Claim, Refusal); 3] {
    [
        (Claim { epoch: current.epoch - 1, ..current }, Refusal::ForeignEpoch),
        (Claim { generation: 0, ..current }, Refusal::OldGeneration),
        (Claim { generation: 2, ..current }, Refusal::OldGeneration),
    ]
}

#[tokio::test]
async fn orders_in_a_foreign_epoch_of_an_old_generation_or_without_a_lease_are_refused() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.drive(1, "ada", join()).await;
    let before = node.roster().await;
    let intents = || [join(), Intent::Grace, Intent::Leave, LOST];
    let current = node.claim;

    for (claim, refusal) in refused_claims(current) {
        node.claim = claim;
        for intent in intents() {
            assert_eq!(node.try_drive(1, "ada", intent).await, Outcome::Refused(refusal));
        }
    }
    node.claim = current;
    truth.expire(node.id).await;
    for intent in intents() {
        assert_eq!(node.try_drive(1, "ada", intent).await, Outcome::Refused(Refusal::NoLease));
    }
    assert_eq!(node.roster().await, before);

    let mut unknown = TestNode::join(&truth, 2).await;
    truth.redis.command(&["ZREM", "online:nodes", unknown.id.as_str()]).await;
    assert_eq!(unknown.try_drive(1, "bob", join()).await, Outcome::Refused(Refusal::NoLease));
}

#[tokio::test]
async fn a_newer_connection_of_a_node_outlaws_the_older() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.drive(1, "ada", join()).await;
    let mut newer = TestNode::join(&truth, 1).await;
    newer.claim.generation = 2;
    newer.beat().await;
    assert_eq!(node.try_drive(1, "ada", Intent::Leave).await, Outcome::Refused(Refusal::OldGeneration));
    // A beat of the old one, late, does not bring it back.
    node.beat().await;
    assert_eq!(node.try_drive(1, "ada", Intent::Leave).await, Outcome::Refused(Refusal::OldGeneration));
    newer.drive(1, "ada", Intent::Leave).await;
    assert_eq!(newer.ids().await, NOBODY);
}

#[tokio::test]
async fn lost_data_begins_an_epoch_with_higher_revisions() {
    const EXACT_IN_JAVASCRIPT: u64 = 1 << 53;
    let mut truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let (mut last, _) = node.drive(1, "ada", join()).await;
    for loss in ["FLUSHALL", "a restart", "an old backup", "the revision"] {
        match loss {
            "FLUSHALL" => drop(truth.redis.command(&["FLUSHALL"]).await),
            "a restart" => truth.redis.restart().await,
            "an old backup" => truth.redis.restart_with_data().await,
            _ => drop(truth.redis.command(&["DECR", "online:revision"]).await),
        }
        node.writer = node.store.open_writer().await.expect("a writer");
        if loss == "FLUSHALL" {
            assert_eq!(node.try_drive(2, "bob", join()).await, Outcome::Refused(Refusal::ForeignEpoch));
        }
        let reply = node.beat_having_seen(last.revision).await;
        assert!(reply.position.epoch > last.epoch && reply.position.revision > last.revision, "{loss}: {reply:?}");
        assert!(reply.position.revision < EXACT_IN_JAVASCRIPT, "{loss}: {reply:?}");
        assert!(reply.holding, "{loss}: {reply:?}");
        assert!(node.store.log_after(last).await.expect("a log").is_none(), "{loss}");
        let (position, _) = node.drive(1, "ada", join()).await;
        assert_eq!(position.epoch, reply.position.epoch, "{loss}");
        node.drive(2, "bob", join()).await;
        (last, _) = node.drive(2, "bob", Intent::Leave).await;
        assert_eq!(node.ids().await, ["ada"], "{loss}");
        assert_eq!(node.store.snapshot().await.expect("a snapshot").position(), last, "{loss}");
    }
}

#[tokio::test]
async fn a_profile_that_was_missing_is_told_when_it_is_asserted_again() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let (_, stated_at) = node.drive(1, "ada", join_as(stated("Ada"))).await;
    truth.redis.command(&["DEL", "online:presence:ada"]).await;
    let mut listener = Listener::to(&node).await;
    let (end, _) = node.drive(1, "ada", join_as(dated("Ada", stated_at.0))).await;
    assert_eq!(stories(&listener.up_to(end).await), ["~ada"]);
    assert_eq!(node.roster().await.get(&user("ada")), Some(&dated("Ada", stated_at.0)));
}

#[tokio::test]
async fn a_hold_ends_when_its_lease_is_over_and_every_node_has_asserted() {
    let truth = Shared::start().await.with_lease(Duration::from_millis(300));
    let mut first = TestNode::join(&truth, 1).await;
    let mut second = TestNode::join(&truth, 2).await;
    let mut heard = (first.beat().await, second.beat().await);
    assert!(heard.0.holding && heard.1.holding, "an empty Redis may have lost its data");
    let held_until = async || truth.redis.hgetall("online:epoch").await["holdUntil"].parse::<u64>().unwrap();
    let ends_at = held_until().await;
    // The second node says nothing of its sockets, however long that takes.
    while heard.0.now.0 <= ends_at + 300 {
        heard.0 = first.assert_all(heard.0, None).await;
        heard.1 = second.beat().await;
        assert!(heard.0.holding && heard.1.holding);
    }
    heard.1 = second.assert_sockets(heard.1, None).await;
    assert!(heard.1.holding, "its entries in rooms are still to come");
    heard.1 = second.assert_all(heard.1, None).await;
    assert!(!heard.1.holding && !first.assert_all(heard.0, None).await.holding);
    assert_eq!(held_until().await, 0);
    // A node that comes later begins no hold.
    assert!(!TestNode::join(&truth, 3).await.beat().await.holding);
}

#[tokio::test]
async fn a_node_that_was_cut_off_hears_when_every_peer_has_asserted_since() {
    let truth = Shared::start().await;
    let mut first = TestNode::join(&truth, 1).await;
    let mut second = TestNode::join(&truth, 2).await;
    let early = second.beat().await;
    let back = first.beat().await;
    let since = Some(back.now);
    let mut heard = first.assert_all(back, since).await;
    assert!(!heard.peers_asserted, "the second has said nothing yet");
    // A beat that a frozen connection delivers late: it heard nothing since the first was back.
    let late = BeatReply { now: Timestamp(back.now.0 - 1), ..early };
    second.assert_all(late, None).await;
    heard = first.assert_all(heard, since).await;
    assert!(!heard.peers_asserted, "{heard:?}");
    let fresh = second.beat().await;
    second.assert_all(fresh, None).await;
    heard = first.assert_all(heard, since).await;
    assert!(heard.peers_asserted && heard.peers_all_asserted);
    // Of a drained node nothing is awaited.
    let third = TestNode::join(&truth, 3).await;
    let mut writer = third.writer;
    assert!(!first.assert_all(heard, since).await.peers_asserted);
    writer.drain(Duration::from_secs(50)).await.expect("a drain");
    assert!(first.assert_all(heard, since).await.peers_asserted);
}

#[tokio::test]
async fn a_node_that_was_cut_off_hears_of_sockets_and_of_rooms_apart() {
    let truth = Shared::start().await;
    let mut first = TestNode::join(&truth, 1).await;
    let mut second = TestNode::join(&truth, 2).await;
    let back = first.beat().await;
    let since = Some(back.now);
    let asserted = |reply: BeatReply| (reply.peers_asserted, reply.peers_all_asserted);
    let mut heard = first.assert_all(back, since).await;
    let mut other = second.beat().await;
    other = second.assert_sockets(other, None).await;
    heard = first.assert_all(heard, since).await;
    assert_eq!(asserted(heard), (true, false));
    other = second.assert_all(other, None).await;
    heard = first.assert_all(heard, since).await;
    assert_eq!(asserted(heard), (true, true));
    // A refused order, or a new connection: the second node has to assert its rooms anew.
    second.assert_sockets(other, None).await;
    heard = first.assert_all(heard, since).await;
    assert_eq!(asserted(heard), (true, false));
    // It waits for its own rooms as well.
    second.assert_all(other, None).await;
    heard = first.assert_sockets(heard, since).await;
    assert_eq!(asserted(heard), (true, false));
    assert_eq!(asserted(first.assert_all(heard, since).await), (true, true));
    let asserted: Vec<String> = truth.redis.query(&["ZRANGE", "online:nodes:asserted", "0", "-1"]).await;
    assert_eq!(asserted.len(), 4, "{asserted:?}");
    truth.expire(second.id).await;
    while first.store.sweep().await.expect("a sweep").is_unfinished() {}
    let asserted: Vec<String> = truth.redis.query(&["ZRANGE", "online:nodes:asserted", "0", "-1"]).await;
    assert_eq!(asserted, [first.id.to_string(), format!("{}:rooms", first.id)], "of a swept node nothing is left");
}

#[tokio::test]
async fn a_clock_that_was_set_back_prolongs_nothing_beyond_a_lease() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let dead = TestNode::join(&truth, 2).await;
    let far = node.beat().await.now.0 + 3_600_000;
    truth.redis.command(&["ZADD", "online:nodes", "XX", &far.to_string(), dead.id.as_str()]).await;
    truth.redis.command(&["ZADD", "online:nodes:asserted", &far.to_string(), dead.id.as_str()]).await;
    truth.redis.command(&["SET", "online:sweep:after", &far.to_string()]).await;
    truth.redis.command(&["HSET", "online:epoch", "holdUntil", &far.to_string(), "holdLimit", &far.to_string()]).await;
    let bound = node.beat().await.now.0 + truth.lease.as_millis() as u64;
    let score: f64 = truth.redis.query(&["ZSCORE", "online:nodes", dead.id.as_str()]).await;
    let suspended = truth.redis.get("online:sweep:after").await.expect("sweeps are suspended").parse::<u64>();
    let epoch = truth.redis.hgetall("online:epoch").await;
    assert!(score as u64 <= bound && suspended.expect("a number") <= bound, "{score} {bound}");
    assert!(epoch["holdUntil"].parse::<u64>().expect("a number") <= bound, "{epoch:?}");
    let asserted: Option<f64> = truth.redis.query(&["ZSCORE", "online:nodes:asserted", dead.id.as_str()]).await;
    assert_eq!(asserted, None, "of a time that has not come nothing can have been heard");
}

#[tokio::test]
async fn a_revision_that_some_node_has_seen_is_never_given_again() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let far_ahead = node.roster().await.position().revision + 1_000_000_000;
    let reply = node.beat_having_seen(far_ahead).await;
    assert!(reply.position.revision > far_ahead, "{reply:?}");
    assert_eq!(node.drive(1, "ada", join()).await.0.revision, reply.position.revision + 1);
}

#[tokio::test]
async fn a_new_epoch_is_the_same_for_all_nodes() {
    let truth = Shared::start().await;
    let mut nodes = [TestNode::join(&truth, 1).await, TestNode::join(&truth, 2).await];
    truth.redis.command(&["FLUSHALL"]).await;
    let positions = [nodes[0].beat().await.position, nodes[1].beat().await.position];
    assert_eq!(positions[0], positions[1]);
    assert_eq!(nodes[0].beat().await.lease, LeaseState::Renewed);
}

fn only_batch(swept: Swept) -> SweptBatch {
    let [batch] = <[SweptBatch; 1]>::try_from(swept.batches).expect("one expired node");
    batch
}

#[tokio::test]
async fn an_expired_node_is_swept_in_batches_and_its_users_are_lost() {
    let truth = Shared::start().await;
    let mut dead = TestNode::join(&truth, 1).await;
    let mut peer = TestNode::join(&truth, 2).await;
    for (number, id) in [(1, "ada"), (2, "bob"), (3, "carol"), (4, "both"), (5, "both")] {
        dead.drive(number, id, join()).await;
    }
    peer.drive(1, "both", join()).await;
    let mut listener = Listener::to(&peer).await;
    assert_eq!(peer.store.sweep().await.expect("a sweep").batches, []);

    truth.expire(dead.id).await;
    let mut n_users = 0;
    for (n_sockets, n_left) in [(2, 3), (2, 1), (1, 0)] {
        let batch = only_batch(peer.store.sweep().await.expect("a sweep"));
        assert_eq!((batch.node, batch.n_sockets, batch.finished), (dead.id, n_sockets, n_left == 0));
        assert_eq!(batch.overdue.is_some(), n_left == 3, "the first batch knows when the lease had ended");
        assert_eq!(dead.writer.held_sockets().await.expect("sockets").len(), n_left);
        n_users += batch.n_users;
    }
    assert_eq!(n_users, 3);
    assert_eq!(peer.store.sweep().await.expect("a sweep").batches, []);

    let snapshot = peer.roster().await;
    let mut told = stories(&listener.up_to(snapshot.position()).await);
    told.sort();
    assert_eq!(told, ["-ada node_lost", "-bob node_lost", "-carol node_lost"]);
    assert_eq!(peer.ids().await, ["both"]);
    let left = truth.redis.keys(&format!("*{}*", dead.id)).await;
    assert_eq!(left, NOBODY);
}

#[tokio::test]
async fn a_fenced_node_is_not_renewed_until_it_has_swept_itself() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let peer = TestNode::join(&truth, 2).await;
    for number in 1..=5 {
        node.drive(number, &format!("user-{number}"), join()).await;
    }
    truth.expire(node.id).await;
    assert!(peer.store.sweep().await.expect("a sweep").is_unfinished());
    for _ in 0..2 {
        assert_eq!(node.beat().await.lease, LeaseState::Fenced);
        assert_eq!(node.try_drive(6, "late", join()).await, Outcome::Refused(Refusal::NoLease));
    }
    let mut n_steps = 1;
    while !node.writer.sweep_self().await.expect("a sweep") {
        n_steps += 1;
    }
    assert_eq!(n_steps, 2, "three sockets, two at a time");
    assert_eq!(node.ids().await, NOBODY);
    let reply = node.beat().await;
    assert_eq!((reply.lease, reply.n_sockets), (LeaseState::Granted, 0));
    node.drive(1, "user-1", join()).await;
    assert_eq!(node.ids().await, ["user-1"]);
}

#[tokio::test]
async fn a_late_beat_before_any_sweep_renews_the_lease() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let peer = TestNode::join(&truth, 2).await;
    node.drive(1, "ada", join()).await;
    truth.expire(node.id).await;
    assert_eq!(node.beat().await.lease, LeaseState::Renewed);
    assert_eq!(peer.store.sweep().await.expect("a sweep").batches, []);
    assert_eq!(node.ids().await, ["ada"]);
}

#[tokio::test]
async fn a_drained_nodes_users_go_when_its_time_is_over() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let mut peer = TestNode::join(&truth, 2).await;
    let mut listener = Listener::to(&peer).await;
    node.drive(1, "ada", join()).await;
    node.drive(2, "bob", join()).await;
    node.writer.drain(Duration::from_secs(50)).await.expect("a drain");
    for intent in [join(), Intent::Leave, LOST] {
        assert_eq!(node.try_drive(1, "ada", intent).await, Outcome::Refused(Refusal::OldGeneration));
    }
    assert_eq!(peer.store.sweep().await.expect("a sweep").batches, []);
    // Who comes back meanwhile was never away.
    peer.drive(1, "bob", join()).await;

    truth.expire(node.id).await;
    let swept = only_batch(peer.store.sweep().await.expect("a sweep"));
    let (n_sockets, n_room_entries, n_users) = (2, 0, 1);
    assert_eq!(swept, SweptBatch { node: node.id, n_sockets, n_room_entries, n_users, overdue: None, finished: true });
    let end = peer.roster().await.position();
    assert_eq!(stories(&listener.up_to(end).await), ["+ada", "+bob", "-ada node_drained"]);
    assert_eq!(peer.ids().await, ["bob"]);
}

#[tokio::test]
async fn a_fenced_node_cannot_drain_itself_back_to_life() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let peer = TestNode::join(&truth, 2).await;
    for number in 1..=3 {
        node.drive(number, &format!("user-{number}"), join()).await;
    }
    truth.expire(node.id).await;
    assert!(peer.store.sweep().await.expect("a sweep").is_unfinished());
    node.writer.drain(Duration::from_secs(50)).await.expect("a drain");
    assert!(!peer.store.sweep().await.expect("a sweep").is_unfinished());
    assert_eq!(node.ids().await, NOBODY);
}

#[tokio::test]
async fn after_a_time_in_which_nobody_could_beat_nobody_is_swept_at_once() {
    let truth = Shared::start().await.with_lease(Duration::from_secs(4));
    let mut node = TestNode::join(&truth, 1).await;
    let mut silent = TestNode::join(&truth, 2).await;
    node.drive(1, "ada", join()).await;
    silent.drive(1, "bob", join()).await;
    // As if Redis had been away for longer than a lease.
    truth.expire(node.id).await;
    truth.expire(silent.id).await;
    assert_eq!(node.beat().await.lease, LeaseState::Renewed);
    assert_eq!(node.store.sweep().await.expect("a sweep").batches, []);
    assert_eq!(node.ids().await, ["ada", "bob"]);
    assert_eq!(silent.beat().await.lease, LeaseState::Renewed);

    // Whoever has not come back one lease later is swept.
    truth.expire(silent.id).await;
    let sweep = async || {
        node.beat().await;
        let swept = node.store.sweep().await.expect("a sweep");
        swept.batches.iter().map(|batch| batch.node).collect::<Vec<_>>()
    };
    eventually_eq(sweep, [silent.id], "the silent node is swept").await;
    assert_eq!(node.ids().await, ["ada"]);
}

#[tokio::test]
async fn a_drained_node_does_not_count_as_one_that_beats() {
    let truth = Shared::start().await;
    let mut drained = TestNode::join(&truth, 1).await;
    let mut node = TestNode::join(&truth, 2).await;
    node.drive(1, "ada", join()).await;
    drained.writer.drain(Duration::from_secs(90)).await.expect("a drain");
    truth.expire(node.id).await;
    // Nobody beat: the drained node's lease, which is long, says nothing about that.
    let mut late = TestNode::join(&truth, 3).await;
    assert_eq!(late.store.sweep().await.expect("a sweep").batches, []);
    assert_eq!(late.beat().await.lease, LeaseState::Renewed);
    assert_eq!(late.ids().await, ["ada"]);
}

#[tokio::test]
async fn a_log_that_does_not_reach_back_says_so() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let start = node.roster().await.position();
    for number in 1..=3 {
        node.drive(number, &format!("user-{number}"), join()).await;
    }
    let all = node.store.log_after(start).await.expect("a log").expect("it reaches back");
    assert_eq!(all.len(), 3);
    truth.redis.command(&["XTRIM", "online:log", "MAXLEN", "2"]).await;
    assert!(node.store.log_after(start).await.expect("a log").is_none());
    let next = Position { revision: start.revision + 1, ..start };
    let rest = node.store.log_after(next).await.expect("a log").expect("it reaches back that far");
    assert_eq!(rest, all[1..]);
    // A position ahead of the store's is of a past that was lost.
    let ahead = Position { revision: start.revision + 100, ..start };
    assert!(node.store.log_after(ahead).await.expect("a log").is_none());
}

#[tokio::test]
async fn a_subscription_ends_when_its_connection_does() {
    let mut truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let (position, _) = node.drive(1, "ada", join()).await;
    assert_eq!(stories(&listener.up_to(position).await), ["+ada"]);
    truth.redis.kill();
    assert_eq!(timeout(DEADLINE, listener.0.recv()).await.expect("an end in time"), None);
    assert!(node.store.subscribe().await.is_err());
    assert!(node.store.snapshot().await.is_err());
    assert!(node.store.sweep().await.is_err());
    assert!(node.writer.beat(node.plain_beat()).await.is_err());
}
