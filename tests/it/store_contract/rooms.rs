//! What a store promises about rooms (`src/store/rooms.rs`).

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall::domain::{RoomChange, RoomId, RoomPosition, RoomRoster, RoomTransition, Signal, TypingTarget};
use rollcall::store::{OpenRooms, RoomAccess, RoomNews, RoomPage, RoomSubscription};

use super::*;

rules! {
    only_the_first_entry_of_a_user_and_the_last_make_a_transition
    revisions_of_a_room_count_up_by_one_and_each_is_heard_once_in_order
    stating_an_intention_in_a_room_again_changes_nothing
    a_room_that_was_emptied_is_born_anew
    every_outcome_says_where_the_room_is
    a_farewell_in_a_room_takes_the_entries_in_grace_along_and_no_others
    a_removal_in_a_room_removes_one_entry_alone
    a_mark_in_a_room_creates_nothing
    a_room_is_apart_from_the_service
    rooms_and_members_with_confusing_ids_are_apart
    a_beat_counts_the_nodes_entries_in_rooms
    a_snapshot_of_a_room_and_what_is_heard_agree
    who_opens_a_room_reads_it_and_applies_what_comes_is_right_whatever_happens_meanwhile
    a_page_of_a_room_is_bounded_and_names_a_socket_of_each
    rooms_are_listed_while_somebody_is_there
    a_room_is_heard_while_it_is_open
    who_reads_too_slowly_hears_that_something_was_lost
    a_signal_to_a_room_reaches_those_who_have_opened_it
    a_signal_to_a_user_comes_once_to_a_node
    a_signal_to_a_room_that_nobody_reads_is_dropped
    registered_rooms_have_registered_members
    a_refresh_of_whole_rooms_reports_nothing
    heads_say_where_rooms_are_and_how_many_members_they_have
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).expect("a room id")
}

impl TestNode {
    fn room_order(&self, number: u64, id: &str, place: &str, intent: Intent) -> Order {
        Order { scope: Scope::Room(room(place)), ..self.order(number, id, intent) }
    }

    /// Gives one order in a room, which must be carried out; returns where the room is, and whether the user remains.
    async fn drive_in(&mut self, place: &str, number: u64, id: &str, intent: Intent) -> (Option<RoomPosition>, bool) {
        match self.try_drive_in(place, number, id, intent).await {
            Outcome::Done { room, user_remains, .. } => (room, user_remains),
            Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    async fn try_drive_in(&mut self, place: &str, number: u64, id: &str, intent: Intent) -> Outcome {
        let orders = [self.room_order(number, id, place, intent)];
        let outcomes = self.writer.drive(self.claim, &orders).await.expect("outcomes");
        assert_eq!(outcomes.len(), 1);
        outcomes[0]
    }

    /// A join, and where the room is after it.
    async fn enter(&mut self, place: &str, number: u64, id: &str) -> RoomPosition {
        self.drive_in(place, number, id, join()).await.0.expect("somebody is there")
    }

    async fn members(&self, place: &str) -> Vec<String> {
        let roster = self.room_roster(place).await;
        roster.members.iter().map(|user| user.as_str().to_owned()).collect()
    }

    async fn room_roster(&self, place: &str) -> RoomRoster {
        self.store.room_snapshot(&room(place)).await.expect("a snapshot")
    }

    async fn page(&self, place: &str, limit: usize) -> RoomPage {
        self.store.room_page(&room(place), limit).await.expect("a page")
    }

    /// All rooms, read in pages of about `limit`.
    async fn list(&self, limit: usize) -> Vec<(String, u64)> {
        let (mut listed, mut cursor) = (BTreeSet::new(), Some(0));
        while let Some(next) = cursor {
            let page = self.store.rooms(next, limit).await.expect("a page");
            listed.extend(page.rooms.iter().map(|(room, n_members)| (room.as_str().to_owned(), *n_members)));
            cursor = page.next;
        }
        listed.into_iter().collect()
    }

    async fn held_room_entries(&mut self) -> Vec<(RoomId, SocketId, UserId)> {
        let mut held = self.writer.held_room_entries().await.expect("entries");
        held.sort();
        held
    }

    fn entry(&self, place: &str, number: u64, id: &str) -> (RoomId, SocketId, UserId) {
        (room(place), self.socket(number), user(id))
    }

    /// Where rooms are, and how many are there.
    async fn heads(&self, places: &[&str]) -> Vec<Option<(RoomPosition, u64)>> {
        let heads = self.store.room_heads(&rooms_of(places)).await.expect("an answer");
        heads.into_iter().map(|head| head.map(|head| (head.position, head.n_members))).collect()
    }

    async fn signal_room(&self, place: &str, signal: &Signal) {
        self.store.signal_room(&room(place), signal).await.expect("it is sent");
    }
}

/// A subscription to rooms that is read up to now.
struct RoomListener {
    rooms: Box<dyn OpenRooms>,
    news: mpsc::Receiver<RoomNews>,
}

impl RoomListener {
    async fn to(node: &TestNode, places: &[&str]) -> RoomListener {
        let RoomSubscription { rooms, deliveries } = node.store.subscribe_rooms().await.expect("a subscription");
        let mut listener = RoomListener { rooms, news: deliveries };
        listener.open(places).await;
        listener
    }

    async fn open(&mut self, places: &[&str]) {
        self.rooms.open(&rooms_of(places)).await.expect("the subscription lasts");
    }

    async fn close(&mut self, places: &[&str]) {
        self.rooms.close(&rooms_of(places)).await.expect("the subscription lasts");
    }

    async fn next(&mut self) -> RoomNews {
        timeout(DEADLINE, self.news.recv()).await.expect("news in time").expect("the subscription lasts")
    }

    /// The transitions up to this position.
    async fn up_to(&mut self, position: RoomPosition) -> Vec<RoomTransition> {
        let mut heard: Vec<RoomTransition> = Vec::new();
        while heard.last().is_none_or(|transition| transition.position != position) {
            match self.next().await {
                RoomNews::Transition(transition) => heard.push(transition),
                RoomNews::Lost => panic!("nothing is lost: {heard:?}"),
            }
        }
        heard
    }

    /// Nothing more has come; whatever could have was decided before what was heard last.
    fn is_empty(&mut self) -> bool {
        self.news.recv().now_or_never().is_none()
    }
}

fn rooms_of(places: &[&str]) -> Vec<RoomId> {
    places.iter().map(|place| room(place)).collect()
}

/// What happened, in short: `+ada`, `-ada left`.
fn tales(transitions: &[RoomTransition]) -> Vec<String> {
    let tale = |transition: &RoomTransition| match transition.change {
        RoomChange::Entered => format!("+{}", transition.user),
        RoomChange::Left(reason) => format!("-{} {}", transition.user, reason.as_str()),
    };
    transitions.iter().map(tale).collect()
}

fn typing_in(place: &str) -> Signal {
    Signal::Typing { target: TypingTarget::Room(room(place)), user: user("a\"b"), is_typing: true }
}

fn typing_to(id: &str) -> Signal {
    Signal::Typing { target: TypingTarget::User(user(id)), user: user("a\"b"), is_typing: true }
}

async fn only_the_first_entry_of_a_user_and_the_last_make_a_transition(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut other = TestNode::join(truth, 2).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    node.enter("r", 1, "ada").await;
    other.enter("r", 1, "ada").await;
    for (number, intent, remains) in [(2, join(), true), (1, Intent::Leave, true), (3, join(), true), (2, LOST, true)] {
        assert_eq!(node.drive_in("r", number, "ada", intent).await.1, remains);
        assert_eq!(node.members("r").await, ["ada"]);
    }
    assert!(other.drive_in("r", 1, "ada", LOST).await.1);
    let (end, remains) = node.drive_in("r", 3, "ada", Intent::Remove(OfflineReason::TimedOut)).await;
    assert!(!remains);
    assert_eq!(tales(&listener.up_to(end.expect("a position")).await), ["+ada", "-ada timed_out"]);
    assert_eq!(node.members("r").await, NOBODY);
}

async fn revisions_of_a_room_count_up_by_one_and_each_is_heard_once_in_order(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listeners = [RoomListener::to(&node, &["r"]).await, RoomListener::to(&node, &["r", "other"]).await];
    let first = node.enter("r", 1, "a").await;
    assert!(first.birth > 0);
    node.enter("r", 2, "b").await;
    node.enter("r", 3, "c").await;
    node.drive_in("r", 2, "b", Intent::Leave).await;
    let (last, _) = node.drive_in("r", 1, "a", LOST).await;
    let last = RoomPosition { birth: first.birth, revision: last.expect("c is there").revision };
    assert_eq!((first.revision, last.revision), (1, 5));
    for listener in &mut listeners {
        let heard = listener.up_to(last).await;
        assert_eq!(heard.iter().map(|transition| transition.position.revision).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(heard.iter().all(|told| told.position.birth == first.birth && told.room == room("r")), "{heard:?}");
        assert_eq!(tales(&heard), ["+a", "+b", "+c", "-b left", "-a connection_lost"]);
        assert!(heard.is_sorted_by_key(|transition| transition.at));
        assert!(listener.is_empty());
    }
}

async fn stating_an_intention_in_a_room_again_changes_nothing(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    for intent in [Intent::Leave, LOST, Intent::Grace] {
        assert_eq!(node.drive_in("r", 1, "ada", intent).await.0, None);
    }
    let entered = node.enter("r", 1, "ada").await;
    for intent in [join(), Intent::Idle(true), Intent::Grace, Intent::Grace, join()] {
        assert_eq!(node.drive_in("r", 1, "ada", intent).await.0, Some(entered));
    }
    node.enter("r", 2, "bob").await;
    let (left, _) = node.drive_in("r", 1, "ada", Intent::Leave).await;
    for intent in [Intent::Leave, LOST] {
        assert_eq!(node.drive_in("r", 1, "ada", intent).await, (left, false));
    }
    assert_eq!(node.drive_in("r", 1, "ada", Intent::Grace).await.0, left);
    assert_eq!(tales(&listener.up_to(left.expect("bob is there")).await), ["+ada", "+bob", "-ada left"]);
    assert!(listener.is_empty());
}

async fn a_room_that_was_emptied_is_born_anew(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    let mut births = Vec::new();
    for number in 1..=100 {
        let entered = node.enter("r", number, "ada").await;
        assert_eq!(entered.revision, 1);
        let (left, _) = node.drive_in("r", number, "ada", Intent::Leave).await;
        assert_eq!(left, Some(RoomPosition { revision: 2, ..entered }));
        assert_eq!(node.room_roster("r").await, RoomRoster::default());
        assert_eq!(tales(&listener.up_to(left.expect("a position")).await), ["+ada", "-ada left"]);
        births.push(entered.birth);
    }
    assert_eq!(births.iter().collect::<BTreeSet<_>>().len(), 100, "{births:?}");
}

async fn every_outcome_says_where_the_room_is(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let (service, _) = node.drive(1, "ada", join()).await;
    let ada = node.enter("r", 1, "ada").await;
    let bob = node.enter("r", 2, "bob").await;
    assert_eq!(bob, RoomPosition { revision: 2, ..ada });
    assert_eq!(node.room_roster("r").await.position, bob);
    for intent in [join(), Intent::Grace, Intent::Idle(true)] {
        let outcome = node.try_drive_in("r", 1, "ada", intent).await;
        let Outcome::Done { position, room, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!((position, room), (service, Some(bob)), "no order in a room moves the service");
    }
    let Outcome::Done { room, .. } = node.try_drive(1, "ada", Intent::Leave).await else { panic!("it is refused") };
    assert_eq!(room, None);
}

async fn a_farewell_in_a_room_takes_the_entries_in_grace_along_and_no_others(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut other = TestNode::join(truth, 2).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    for place in ["r", "s"] {
        node.enter(place, 1, "ada").await;
        other.enter(place, 1, "ada").await;
        other.drive_in(place, 1, "ada", Intent::Grace).await;
        node.enter(place, 2, "ada").await;
        node.drive_in(place, 1, "ada", Intent::Grace).await;
    }
    let (end, remains) = node.drive_in("r", 2, "ada", Intent::Leave).await;
    assert!(!remains);
    assert_eq!(tales(&listener.up_to(end.expect("a position")).await), ["+ada", "-ada left"]);
    assert_eq!(other.members("r").await, NOBODY);
    assert_eq!(other.members("s").await, ["ada"], "another room is not concerned");

    // Entries that are not in grace stay.
    node.enter("r", 3, "bob").await;
    other.enter("r", 3, "bob").await;
    assert!(node.drive_in("r", 3, "bob", Intent::Leave).await.1);
    assert_eq!(other.members("r").await, ["bob"]);
    // A goodbye to the service takes no room along: that is for the nodes to order.
    node.drive(2, "ada", Intent::Leave).await;
    assert_eq!(other.members("s").await, ["ada"]);
}

async fn a_removal_in_a_room_removes_one_entry_alone(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    for number in [1, 2] {
        node.enter("r", number, "ada").await;
        node.drive_in("r", number, "ada", Intent::Grace).await;
    }
    node.drive_in("r", 1, "ada", Intent::Remove(OfflineReason::Left)).await;
    assert_eq!(node.members("r").await, ["ada"]);
    node.drive_in("r", 2, "ada", LOST).await;
    assert_eq!(node.members("r").await, NOBODY);
}

async fn a_mark_in_a_room_creates_nothing(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    for intent in [Intent::Grace, Intent::Idle(true)] {
        assert_eq!(node.drive_in("r", 1, "ada", intent).await.0, None);
    }
    assert_eq!((node.members("r").await, node.list(10).await), (vec![], vec![]));
    assert_eq!(node.beat().await.n_room_entries, 0);
}

async fn a_room_is_apart_from_the_service(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.enter("r", 1, "ada").await;
    assert_eq!(node.ids().await, NOBODY);
    node.drive(1, "ada", join()).await;
    node.drive_in("r", 1, "ada", Intent::Leave).await;
    assert_eq!((node.ids().await, node.members("r").await), (vec!["ada".to_owned()], vec![]));
    node.enter("r", 1, "ada").await;
    node.drive(1, "ada", Intent::Leave).await;
    assert_eq!((node.ids().await, node.members("r").await), (vec![], vec!["ada".to_owned()]));
}

async fn rooms_and_members_with_confusing_ids_are_apart(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let longest = "x".repeat(RoomId::MAX_BYTES);
    let places = [
        "a",
        "a:user:socket:x",
        "a:users:set",
        "a%3Ausers%3Aset",
        "a:head",
        "a:events",
        "%",
        ":",
        "rooms:set",
        "Zoë \"1\"",
        "日本 語",
        "\\ {1}*",
        &longest,
    ];
    let users = ["x", "x:head", "x:user:socket:y", "users:set", "%3A"];
    let mut listener = RoomListener::to(&node, &places).await;
    let mut number = 0;
    for place in places {
        for id in users {
            number += 1;
            let entered = node.enter(place, number, id).await;
            let heard = listener.up_to(entered).await;
            assert_eq!((&heard[0].room, &heard[0].user, heard.len()), (&room(place), &user(id), 1));
        }
    }
    assert_eq!(node.list(10).await.len(), places.len());
    for (nth, place) in places.iter().enumerate() {
        let expected: BTreeSet<UserId> = users.iter().map(|id| user(id)).collect();
        let roster = node.room_roster(place).await;
        assert_eq!((roster.members, roster.position.revision), (expected, 5), "{place}");
        for (id, number) in users.iter().zip(nth as u64 * 5 + 1..) {
            node.drive_in(place, number, id, Intent::Leave).await;
        }
        assert_eq!(node.members(place).await, NOBODY);
    }
    assert_eq!((node.list(10).await, node.held_room_entries().await), (vec![], vec![]));
}

async fn a_beat_counts_the_nodes_entries_in_rooms(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.drive(1, "ada", join()).await;
    node.enter("r", 1, "ada").await;
    node.enter("s", 1, "ada").await;
    node.enter("s", 2, "bob").await;
    let reply = node.beat().await;
    assert_eq!((reply.n_sockets, reply.n_room_entries), (1, 3));
    let expected = [node.entry("r", 1, "ada"), node.entry("s", 1, "ada"), node.entry("s", 2, "bob")];
    assert_eq!(node.held_room_entries().await, expected);
    assert_eq!(node.writer.held_sockets().await.expect("sockets").len(), 1);
    node.drive_in("s", 1, "ada", Intent::Leave).await;
    let reply = node.beat().await;
    assert_eq!((reply.n_sockets, reply.n_room_entries), (1, 2));
}

async fn a_snapshot_of_a_room_and_what_is_heard_agree(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    assert_eq!(node.room_roster("r").await, RoomRoster::default());
    node.enter("r", 1, "ada").await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    let mut roster = node.room_roster("r").await;
    node.enter("r", 2, "bob").await;
    node.enter("r", 3, "carol").await;
    let (end, _) = node.drive_in("r", 1, "ada", Intent::Leave).await;
    for transition in listener.up_to(end.expect("bob is there")).await {
        assert_eq!(transition.position.birth, roster.position.birth);
        match transition.change {
            RoomChange::Entered => roster.members.insert(transition.user),
            RoomChange::Left(_) => roster.members.remove(&transition.user),
        };
        roster.position = transition.position;
    }
    assert_eq!(node.room_roster("r").await, roster);
}

/// Gives orders without a plan about few users in one room, so that it is emptied and filled again and again.
async fn come_and_go(node: &mut TestNode, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..400 {
        let number = random.random_range(1..=3);
        let intent = match random.random_range(0..8) {
            0..3 => join(),
            3 => Intent::Grace,
            4 => LOST,
            _ => Intent::Leave,
        };
        node.drive_in("r", number, &format!("user-{}", number % 2), intent).await;
    }
}

/// What a node knows of a room, as docs/design.md says: it reads a snapshot after a gap and after a birth that it did not hear
/// from its first transition on.
struct Follower {
    listener: RoomListener,
    roster: RoomRoster,
    n_snapshots: u32,
}

impl Follower {
    async fn open(node: &TestNode) -> Follower {
        let listener = RoomListener::to(node, &["r"]).await;
        Follower { listener, roster: node.room_roster("r").await, n_snapshots: 1 }
    }

    async fn take(&mut self, node: &TestNode, transition: RoomTransition) {
        let (known, next) = (self.roster.position, transition.position);
        let is_known = next.birth == known.birth;
        if is_known && next.revision <= known.revision {
            return;
        }
        let is_first = !is_known && next.revision == 1 && self.roster.members.is_empty();
        if !is_first && (!is_known || next.revision > known.revision + 1) {
            self.roster = node.room_roster("r").await;
            self.n_snapshots += 1;
            return;
        }
        match transition.change {
            RoomChange::Entered => self.roster.members.insert(transition.user),
            RoomChange::Left(_) => self.roster.members.remove(&transition.user),
        };
        self.roster.position = next;
    }

    /// Follows until this position was heard.
    async fn follow(&mut self, node: &TestNode, end: RoomPosition) {
        loop {
            let RoomNews::Transition(transition) = self.listener.next().await else { panic!("nothing is lost") };
            let is_end = transition.position == end;
            self.take(node, transition).await;
            if is_end {
                return;
            }
        }
    }
}

async fn who_opens_a_room_reads_it_and_applies_what_comes_is_right_whatever_happens_meanwhile(truth: &impl Truth) {
    let reader = TestNode::join(truth, 9).await;
    let mut nodes = [TestNode::join(truth, 1).await, TestNode::join(truth, 2).await];
    let mut followers = vec![Follower::open(&reader).await];
    for round in 0..5 {
        let [first, second] = &mut nodes;
        let opened = async {
            // It opens somewhere in the middle of it.
            for _ in 0..=round {
                reader.room_roster("r").await;
            }
            Follower::open(&reader).await
        };
        let driven = async { tokio::join!(come_and_go(first, round), come_and_go(second, round + 100)) };
        let (fresh, _) = tokio::join!(opened, driven);
        followers.push(fresh);
        let end = nodes[0].enter("r", 99 + round, &format!("end-{round}")).await;
        let truly = reader.room_roster("r").await;
        for follower in &mut followers {
            follower.follow(&reader, end).await;
            assert_eq!(follower.roster, truly);
        }
        nodes[0].drive_in("r", 99 + round, &format!("end-{round}"), LOST).await;
    }
    // Whoever has heard everything needs no other snapshot.
    assert_eq!(followers[0].n_snapshots, 1);
}

async fn a_page_of_a_room_is_bounded_and_names_a_socket_of_each(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let nobody = node.page("r", 10).await;
    assert_eq!((&nobody, nobody.has_more()), (&RoomPage::default(), false));
    for number in 1..=5 {
        node.enter("r", number, &format!("user-{number}")).await;
    }
    node.enter("r", 6, "user-5").await;
    let whole = node.page("r", 5).await;
    assert_eq!((whole.members.len(), whole.n_members, whole.has_more()), (5, 5, false));
    for (user, socket) in &whole.members {
        let socket = socket.expect("each has a socket");
        let is_theirs = *user == super::user(&format!("user-{}", socket.number.min(5)));
        assert!(socket.node == node.id && is_theirs, "{user} {socket}");
    }
    for limit in [0, 1, 4] {
        let page = node.page("r", limit).await;
        assert_eq!((page.members.len(), page.n_members, page.has_more()), (limit, 5, true));
    }
    assert_eq!(node.page("r", usize::MAX).await.members.len(), 5);
}

async fn rooms_are_listed_while_somebody_is_there(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    assert_eq!(node.list(10).await, []);
    let mut expected = Vec::new();
    for number in 0..300 {
        let place = format!("room-{number:03}");
        node.enter(&place, number, "ada").await;
        expected.push((place, 1));
    }
    node.enter("room-000", 1, "bob").await;
    expected[0].1 = 2;
    for limit in [1, 7, 1000] {
        assert_eq!(node.list(limit).await, expected);
    }
    let page = node.store.rooms(0, 7).await.expect("a page");
    assert!(page.rooms.len() < 100 && page.next.is_some(), "{page:?}");
    node.drive_in("room-299", 299, "ada", LOST).await;
    expected.pop();
    assert_eq!(node.list(50).await, expected);
}

async fn a_room_is_heard_while_it_is_open(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = RoomListener::to(&node, &[]).await;
    node.enter("r", 1, "before").await;
    listener.open(&["r", "s", "t"]).await;
    node.enter("r", 2, "ada").await;
    node.enter("u", 2, "ada").await;
    let last = node.enter("t", 2, "ada").await;
    let heard = listener.up_to(last).await;
    let places: Vec<_> = heard.iter().map(|transition| transition.room.as_str()).collect();
    assert_eq!(places, ["r", "t"]);

    // To open again changes nothing, to close what is not open neither.
    listener.open(&["r"]).await;
    listener.close(&["t", "v"]).await;
    listener.close(&["t"]).await;
    node.enter("t", 3, "bob").await;
    let last = node.enter("r", 3, "bob").await;
    assert_eq!(tales(&listener.up_to(last).await), ["+bob"]);
    listener.open(&["t"]).await;
    let last = node.enter("t", 4, "carol").await;
    assert_eq!(tales(&listener.up_to(last).await), ["+carol"]);
    assert!(listener.is_empty());

    // Without the handle nothing is heard any more.
    let RoomListener { rooms, mut news } = listener;
    drop(rooms);
    assert_eq!(timeout(DEADLINE, news.recv()).await.expect("an end in time"), None);
}

async fn who_reads_too_slowly_hears_that_something_was_lost(truth: &impl Truth) {
    const MORE_THAN_WAIT: u64 = 17_000;
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    node.enter("r", 0, "ada").await;
    let come_and_go = |node: &TestNode| {
        let intents = [join(), Intent::Leave].into_iter().cycle().take(500);
        intents.map(|intent| node.room_order(1, "bob", "r", intent)).collect::<Vec<_>>()
    };
    for _ in 0..MORE_THAN_WAIT / 500 {
        let orders = come_and_go(&node);
        node.writer.drive(node.claim, &orders).await.expect("outcomes");
    }
    // What is published last has come when another listener has heard it.
    let mut fast = RoomListener::to(&node, &["r"]).await;
    let end = node.enter("r", 2, "end").await;
    fast.up_to(end).await;
    let mut n_heard = 0;
    let last = loop {
        match listener.next().await {
            RoomNews::Transition(transition) => {
                n_heard += 1;
                assert_eq!(transition.position.revision, n_heard, "up to the loss, nothing is missing");
            }
            RoomNews::Lost => break n_heard,
        }
    };
    assert!((10_000..MORE_THAN_WAIT).contains(&last), "{last}");
    // After the loss it goes on.
    let end = node.enter("r", 3, "later").await;
    assert_eq!(listener.up_to(end).await.last().map(|transition| transition.position), Some(end));
}

async fn a_signal_to_a_room_reaches_those_who_have_opened_it(truth: &impl Truth) {
    let node = TestNode::join(truth, 1).await;
    let subscription = node.store.subscribe_room_signals().await.expect("a subscription");
    let RoomSubscription { mut rooms, mut deliveries } = subscription;
    let mut transitions = RoomListener::to(&node, &["r"]).await;
    node.signal_room("r", &typing_in("r")).await;
    rooms.open(&rooms_of(&["r", "a:b"])).await.expect("the subscription lasts");
    for place in ["s", "a:b", "r"] {
        node.signal_room(place, &typing_in(place)).await;
    }
    for place in ["a:b", "r"] {
        let heard = timeout(DEADLINE, deliveries.recv()).await.expect("a signal in time");
        assert_eq!(heard, Some((room(place), typing_in(place))));
    }
    rooms.close(&rooms_of(&["r"])).await.expect("the subscription lasts");
    node.signal_room("r", &typing_in("r")).await;
    node.signal_room("a:b", &typing_to("ada")).await;
    let heard = timeout(DEADLINE, deliveries.recv()).await.expect("a signal in time");
    assert_eq!(heard, Some((room("a:b"), typing_to("ada"))));
    assert!(transitions.is_empty(), "a signal is no transition");
}

async fn a_signal_to_a_user_comes_once_to_a_node(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut signals = node.store.subscribe_signals().await.expect("a subscription");
    node.drive(1, "ada", join()).await;
    node.drive(2, "ada", join()).await;
    node.enter("r", 3, "bob").await;
    for id in ["bob", "nobody", "ada"] {
        node.store.signal_user(&user(id), &typing_to(id)).await.expect("it is sent");
    }
    node.store.signal(node.id, &Signal::Echo { number: 1 }).await.expect("it is sent");
    for expected in [typing_to("ada"), Signal::Echo { number: 1 }] {
        let heard = timeout(DEADLINE, signals.recv()).await.expect("a signal in time");
        assert_eq!(heard, Some(expected));
    }
}

async fn a_signal_to_a_room_that_nobody_reads_is_dropped(truth: &impl Truth) {
    let node = TestNode::join(truth, 1).await;
    let subscription = node.store.subscribe_room_signals().await.expect("a subscription");
    let RoomSubscription { mut rooms, mut deliveries } = subscription;
    rooms.open(&rooms_of(&["r"])).await.expect("the subscription lasts");
    for _ in 0..1500 {
        node.signal_room("r", &typing_in("r")).await;
    }
    // The answer to this comes behind the signals.
    rooms.open(&rooms_of(&["r"])).await.expect("the subscription lasts");
    let mut n_heard = 0;
    while deliveries.recv().now_or_never().is_some() {
        n_heard += 1;
    }
    assert!((1..1500).contains(&n_heard), "{n_heard}");
    node.signal_room("r", &typing_in("r")).await;
    assert!(timeout(DEADLINE, deliveries.recv()).await.expect("a signal in time").is_some(), "it goes on");
}

async fn registered_rooms_have_registered_members(truth: &impl Truth) {
    let node = TestNode::join(truth, 1).await;
    let (store, place, other, ada) = (&node.store, room("r:x"), room("r"), user("ada"));
    let access = async || store.room_access(&place, &ada).await.expect("an answer");
    assert_eq!(access().await, RoomAccess::NoSuchRoom);
    assert!(!store.put_member(&place, &ada).await.expect("an answer"), "the room is not registered");
    assert_eq!(access().await, RoomAccess::NoSuchRoom);
    assert!(store.put_room(&place).await.expect("an answer"));
    assert!(!store.put_room(&place).await.expect("an answer"), "it was registered before");
    assert_eq!(access().await, RoomAccess::NotMember);
    for _ in 0..2 {
        assert!(store.put_member(&place, &ada).await.expect("an answer"));
        assert_eq!(access().await, RoomAccess::Member);
    }
    assert!(store.put_room(&other).await.expect("an answer"));
    assert_eq!(store.room_access(&other, &ada).await.expect("an answer"), RoomAccess::NotMember);
    assert_eq!(node.list(10).await, [], "nobody is there");
    assert!(store.delete_member(&place, &ada).await.expect("an answer"));
    assert!(!store.delete_member(&place, &ada).await.expect("an answer"));
    assert_eq!(access().await, RoomAccess::NotMember);
    // A room that is registered anew has no members of its former life.
    store.put_member(&place, &ada).await.expect("an answer");
    assert!(store.delete_room(&place).await.expect("an answer"));
    assert!(!store.delete_room(&place).await.expect("an answer"));
    assert_eq!(access().await, RoomAccess::NoSuchRoom);
    store.put_room(&place).await.expect("an answer");
    assert_eq!(access().await, RoomAccess::NotMember);
}

async fn a_refresh_of_whole_rooms_reports_nothing(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.enter("r", 1, "ada").await;
    node.enter("r", 2, "ada").await;
    node.enter("s", 2, "ada").await;
    let entries = [node.entry("r", 1, "ada"), node.entry("r", 2, "ada"), node.entry("s", 2, "ada")];
    assert_eq!(node.store.refresh_rooms(&entries).await.expect("an answer"), []);
    assert_eq!(node.store.refresh_rooms(&[]).await.expect("an answer"), []);
}

async fn heads_say_where_rooms_are_and_how_many_members_they_have(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    node.enter("r", 1, "ada").await;
    let in_r = node.enter("r", 2, "bob").await;
    let in_s = node.enter("s:t", 2, "bob").await;
    assert_eq!(
        node.heads(&["s:t", "nobody", "r"]).await,
        [Some((in_s, 1)), Some((RoomPosition::default(), 0)), Some((in_r, 2))]
    );
    assert_eq!(node.heads(&[]).await, []);
}

// What only a shared store can be asked.

/// The names of all keys about rooms, but for the register.
async fn room_keys(truth: &Shared) -> Vec<String> {
    let mut keys = truth.redis.keys("*room*").await;
    keys.retain(|key| !key.starts_with("online:registered:"));
    keys
}

/// Replaces a key by one of another type.
async fn retype(truth: &Shared, key: &str) {
    truth.redis.command(&["DEL", key]).await;
    truth.redis.command(&["LPUSH", key, "a hand"]).await;
}

#[tokio::test]
async fn a_room_has_keys_with_a_life_and_leaves_none_behind() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let mut other = TestNode::join(&truth, 2).await;
    assert_eq!(room_keys(&truth).await, NOBODY);
    node.enter("a:b", 1, "ada").await;
    other.enter("a:b", 1, "bob").await;
    let keys = [
        format!("online:node:rooms:{}", node.id),
        format!("online:node:rooms:{}", other.id),
        "online:room:a%3Ab:head".to_owned(),
        "online:room:a%3Ab:user:socket:ada".to_owned(),
        "online:room:a%3Ab:user:socket:bob".to_owned(),
        "online:room:a%3Ab:users:set".to_owned(),
        "online:rooms:set".to_owned(),
    ];
    assert_eq!(room_keys(&truth).await, keys);
    for key in &keys[2..6] {
        assert!(truth.redis.pttl(key).await > 3_500_000, "{key}");
    }
    assert_eq!(truth.redis.smembers("online:rooms:set").await, ["a:b"]);
    let held = truth.redis.hgetall("online:room:a%3Ab:user:socket:ada").await;
    let entry = &held[&node.socket(1).to_string()];
    assert!(entry.starts_with(r#"{"grace":0,"since":"#) && entry.ends_with(&format!(r#","node":"{}"}}"#, node.id)));
    node.drive_in("a:b", 1, "ada", Intent::Leave).await;
    other.drive_in("a:b", 1, "bob", LOST).await;
    assert_eq!(room_keys(&truth).await, NOBODY);
}

#[tokio::test]
async fn a_room_whose_keys_have_expired_is_listed_no_more_when_its_entries_go() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.enter("r", 1, "ada").await;
    // What an outage does that lasts longer than the keys live.
    for key in truth.redis.keys("online:room:r:*").await {
        truth.redis.command(&["DEL", &key]).await;
    }
    assert_eq!(truth.redis.smembers("online:rooms:set").await, ["r"]);
    node.drive_in("r", 1, "ada", LOST).await;
    assert_eq!(room_keys(&truth).await, NOBODY);
}

#[tokio::test]
async fn a_refresh_extends_what_is_there_of_rooms_and_reports_whose_is_not() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let places = ["whole", "no-entry", "no-socket", "no-head", "no-members", "no-member", "unlisted"];
    for (place, number) in places.iter().zip(1..) {
        node.enter(place, number, "ada").await;
        node.enter(place, number, "bob").await;
        // She is there by another socket, too.
        node.enter(place, 99, "ada").await;
    }
    let life = "online:room:whole:user:socket:ada";
    for command in [
        &["EXPIRE", life, "10"][..],
        &["EXPIRE", "online:room:whole:head", "10"],
        &["EXPIRE", "online:room:whole:users:set", "10"],
        &["DEL", "online:room:no-entry:user:socket:ada"],
        &["HDEL", "online:room:no-socket:user:socket:ada", &node.socket(3).to_string()],
        &["DEL", "online:room:no-head:head"],
        &["DEL", "online:room:no-members:users:set"],
        &["SREM", "online:room:no-member:users:set", "ada"],
        &["SREM", "online:rooms:set", "unlisted"],
    ] {
        truth.redis.command(command).await;
    }
    let entries: Vec<_> = places.iter().zip(1..).map(|(place, number)| node.entry(place, number, "ada")).collect();
    let missing = node.store.refresh_rooms(&entries).await.expect("an answer");
    assert_eq!(missing, entries[1..].iter().map(|(room, id, _)| (room.clone(), *id)).collect::<Vec<_>>());
    for key in [life, "online:room:whole:head", "online:room:whole:users:set"] {
        assert!(truth.redis.pttl(key).await > 1_000_000, "{key}");
    }
    assert_eq!(truth.redis.query::<u64>(&["EXISTS", "online:room:no-head:head"]).await, 0, "nothing is created");

    // Their owner asserts them again.
    for (place, number) in places.iter().zip(1..) {
        node.enter(place, number, "ada").await;
        node.enter(place, number, "bob").await;
        assert_eq!(node.members(place).await, ["ada", "bob"]);
    }
    assert_eq!(node.store.refresh_rooms(&entries).await.expect("an answer"), []);
    assert_eq!(node.list(10).await.len(), places.len());
}

#[tokio::test]
async fn what_no_node_has_written_of_a_room_says_nothing_of_its_head_and_hides_no_other() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let whole = node.enter("whole", 1, "ada").await;
    for (place, number) in ["no-head", "wrong", "head", "members"].iter().zip(2..) {
        node.enter(place, number, "ada").await;
    }
    truth.redis.command(&["DEL", "online:room:no-head:head"]).await;
    truth.redis.command(&["HSET", "online:room:wrong:head", "revision", "x"]).await;
    retype(&truth, "online:room:head:head").await;
    retype(&truth, "online:room:members:users:set").await;
    let heads = node.heads(&["wrong", "head", "members", "no-head", "whole"]).await;
    assert_eq!(heads, [None, None, None, Some((RoomPosition::default(), 1)), Some((whole, 1))]);
}

#[tokio::test]
async fn a_room_whose_head_was_lost_is_born_anew_and_nobody_takes_that_for_a_first_join() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let first = node.enter("r", 1, "ada").await;
    for spoil in [
        &["DEL", "online:room:r:head"][..],
        &["HSET", "online:room:r:head", "revision", "x"],
        &["HSET", "online:room:r:head", "revision", "0x10"],
        &["HSET", "online:room:r:head", "revision", "9007199254740993"],
        &["HSET", "online:room:r:head", "birth", "-1"],
        &["HDEL", "online:room:r:head", "birth"],
    ] {
        truth.redis.command(spoil).await;
        let mut listener = RoomListener::to(&node, &["r"]).await;
        let entered = node.enter("r", 2, "bob").await;
        assert!(entered.birth > first.birth && entered.revision == 2, "{spoil:?}: {entered:?}");
        assert_eq!(node.room_roster("r").await.position, entered);
        truth.redis.command(spoil).await;
        // A departure does not make a head: only joins say how long it lives.
        let (left, _) = node.drive_in("r", 2, "bob", Intent::Leave).await;
        let left = left.expect("ada is there");
        assert!(left.birth > entered.birth && left.revision == 2, "{spoil:?}: {left:?}");
        assert_eq!(tales(&listener.up_to(left).await), ["+bob", "-bob left"]);
        let again = node.enter("r", 1, "ada").await;
        assert_eq!((again.revision, node.room_roster("r").await.position), (1, again), "{spoil:?}");
    }
    let end = node.drive_in("r", 1, "ada", LOST).await;
    assert!(!end.1);
    assert_eq!(room_keys(&truth).await, NOBODY);
}

#[tokio::test]
async fn orders_in_rooms_are_refused_like_those_of_the_service() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.enter("r", 1, "ada").await;
    let before = (node.room_roster("r").await, room_keys(&truth).await);
    let current = node.claim;
    let intents = || [join(), Intent::Idle(true), Intent::Grace, Intent::Leave, LOST];
    for (claim, refusal) in refused_claims(current) {
        node.claim = claim;
        for intent in intents() {
            assert_eq!(node.try_drive_in("r", 1, "ada", intent).await, Outcome::Refused(refusal));
        }
    }
    node.claim = current;
    truth.expire(node.id).await;
    for intent in intents() {
        assert_eq!(node.try_drive_in("r", 1, "ada", intent).await, Outcome::Refused(Refusal::NoLease));
    }
    assert_eq!((node.room_roster("r").await, room_keys(&truth).await), before);
}

#[tokio::test]
async fn a_lost_node_leaves_all_its_rooms_each_once_and_is_finished_when_it_holds_nothing() {
    let truth = Shared::start().await;
    let mut dead = TestNode::join(&truth, 1).await;
    let mut peer = TestNode::join(&truth, 2).await;
    let mut listener = RoomListener::to(&peer, &["r", "s", "shared", "last"]).await;
    dead.drive(1, "ada", join()).await;
    for (place, number, id) in [("r", 1, "ada"), ("s", 1, "ada"), ("s", 2, "bob"), ("shared", 1, "ada")] {
        dead.enter(place, number, id).await;
    }
    peer.enter("shared", 1, "ada").await;
    truth.redis.command(&["HSET", &format!("online:node:rooms:{}", dead.id), "no entry", "x"]).await;

    truth.expire(dead.id).await;
    // A node's sockets go before its entries in rooms. The field that is no entry counts as one.
    for (n_sockets, n_room_entries, finished) in [(1, 1, false), (0, 2, false), (0, 2, true)] {
        let batch = only_batch(peer.store.sweep().await.expect("a sweep"));
        assert_eq!((batch.n_sockets, batch.n_room_entries, batch.finished), (n_sockets, n_room_entries, finished));
    }
    assert_eq!(peer.store.sweep().await.expect("a sweep").batches, []);
    let end = peer.enter("last", 9, "end").await;
    let mut left = tales(&listener.up_to(end).await.split_off(4));
    left.sort();
    assert_eq!(left, ["+end", "-ada node_lost", "-ada node_lost", "-bob node_lost"]);
    let keys = room_keys(&truth).await;
    assert!(
        keys.iter().all(|key| key.contains("shared") || key.contains("last") || !key.contains(":room:")),
        "{keys:?}"
    );
    assert_eq!(truth.redis.keys(&format!("*{}*", dead.id)).await, NOBODY);
}

#[tokio::test]
async fn a_fenced_node_is_not_renewed_until_its_rooms_are_swept_too() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let peer = TestNode::join(&truth, 2).await;
    for number in 1..=5 {
        node.enter("r", number, &format!("user-{number}")).await;
    }
    truth.expire(node.id).await;
    assert!(peer.store.sweep().await.expect("a sweep").is_unfinished());
    assert_eq!(node.beat().await.lease, LeaseState::Fenced);
    assert_eq!(node.try_drive_in("r", 6, "late", join()).await, Outcome::Refused(Refusal::NoLease));
    let mut n_steps = 1;
    while !node.writer.sweep_self().await.expect("a sweep") {
        n_steps += 1;
    }
    assert_eq!((n_steps, node.members("r").await), (2, vec![]), "three entries, two at a time");
    let reply = node.beat().await;
    assert_eq!((reply.lease, reply.n_room_entries), (LeaseState::Granted, 0));
    node.enter("r", 1, "user-1").await;
    assert_eq!(node.members("r").await, ["user-1"]);
}

#[tokio::test]
async fn the_rooms_of_a_drained_node_are_left_when_its_time_is_over_or_with_a_goodbye() {
    let truth = Shared::start().await;
    let mut drained = TestNode::join(&truth, 1).await;
    let mut peer = TestNode::join(&truth, 2).await;
    let mut listener = RoomListener::to(&peer, &["r"]).await;
    for (number, id) in [(1, "ada"), (2, "bob"), (3, "carol")] {
        drained.enter("r", number, id).await;
    }
    drained.writer.drain(Duration::from_secs(50)).await.expect("a drain");
    assert_eq!(drained.try_drive_in("r", 1, "ada", LOST).await, Outcome::Refused(Refusal::OldGeneration));
    // Who comes back elsewhere was never away, and a goodbye does not wait for the drained node.
    peer.enter("r", 1, "bob").await;
    peer.enter("r", 2, "carol").await;
    assert!(!peer.drive_in("r", 2, "carol", Intent::Leave).await.1);

    truth.expire(drained.id).await;
    let batch = only_batch(peer.store.sweep().await.expect("a sweep"));
    assert_eq!((batch.n_sockets, batch.n_room_entries, batch.finished), (0, 2, true));
    let end = peer.enter("r", 3, "end").await;
    let heard = tales(&listener.up_to(end).await);
    assert_eq!(heard, ["+ada", "+bob", "+carol", "-carol left", "-ada node_drained", "+end"]);
}

/// An audit that is paused for about this long between two steps leaves the rest to the next one.
const AUDIT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn an_audit_notes_and_mends_ghosts_in_rooms() {
    let mut truth = Shared::start().await;
    truth.audit = AUDIT;
    let mut node = TestNode::join(&truth, 1).await;
    let mut listener = RoomListener::to(&node, &["r", "b:c"]).await;
    let real = node.enter("r", 1, "ada").await;
    listener.up_to(real).await;
    let stray = r#"{"grace":0,"since":1,"node":"000000000000"}"#;
    for command in [
        &["SADD", "online:room:r:users:set", "ghost", "", "no\nuser"][..],
        &["SADD", "online:room:b%3Ac:users:set", "stray"],
        &["HSET", "online:room:b%3Ac:user:socket:stray", "000000000000.1", stray],
        &["HSET", "online:node:rooms:000000000000", "b:c\t000000000000.1", "stray"],
        &["SADD", "online:rooms:set", "b:c", "empty", "no\nroom", ""],
    ] {
        truth.redis.command(command).await;
    }
    let mut mended = BTreeSet::new();
    let audit = async || {
        mended.extend(node.store.audit().await.expect("an audit").mended_members);
        mended.len()
    };
    eventually_eq(audit, 2, "both ghosts are mended").await;
    let ghosts = [(room("b:c"), user("stray")), (room("r"), user("ghost"))];
    assert_eq!(mended.into_iter().collect::<Vec<_>>(), ghosts);
    assert_eq!(truth.redis.smembers("online:room:r:users:set").await, ["ada"]);
    assert_eq!(truth.redis.smembers("online:rooms:set").await, ["r"]);
    let keys = room_keys(&truth).await;
    assert!(!keys.iter().any(|key| key.contains("000000000000") || key.contains("b%3Ac")), "{keys:?}");
    let end = node.enter("r", 2, "end").await;
    let mut heard = tales(&listener.up_to(end).await);
    heard.sort();
    assert_eq!(heard, ["+end", "-ghost node_lost", "-stray node_lost"]);
}

#[tokio::test]
async fn while_sweeps_are_suspended_nobody_in_a_room_is_mended() {
    let mut truth = Shared::start().await;
    truth.audit = AUDIT;
    let mut node = TestNode::join(&truth, 1).await;
    node.enter("r", 1, "ada").await;
    truth.redis.command(&["SADD", "online:room:r:users:set", "ghost"]).await;
    let later = node.beat().await.now.0 + 50_000;
    truth.redis.command(&["SET", "online:sweep:after", &later.to_string()]).await;
    for _ in 0..5 {
        tokio::time::sleep(2 * truth.audit).await;
        assert_eq!(node.store.audit().await.expect("an audit").mended_members, []);
    }
    assert_eq!(node.members("r").await, ["ada", "ghost"]);
    truth.redis.command(&["DEL", "online:sweep:after"]).await;
    let audit = async || node.store.audit().await.expect("an audit").mended_members.len();
    eventually_eq(audit, 1, "the ghost is mended").await;
}

#[tokio::test]
async fn an_audit_leaves_alone_whoever_comes_back_before_it_mends() {
    let mut truth = Shared::start().await;
    truth.audit = AUDIT;
    let mut node = TestNode::join(&truth, 1).await;
    node.enter("r", 1, "ada").await;
    truth.redis.command(&["DEL", "online:room:r:user:socket:ada"]).await;
    let noted = async || {
        assert_eq!(node.store.audit().await.expect("an audit").mended_members, []);
        truth.redis.query::<Vec<String>>(&["ZRANGE", "online:audit:suspects", "0", "-1"]).await
    };
    eventually_eq(noted, vec!["r\tada".to_owned()], "the suspect is noted").await;
    let entry = node.entry("r", 1, "ada");
    let missing = node.store.refresh_rooms(std::slice::from_ref(&entry)).await.expect("an answer");
    assert_eq!(missing, [(entry.0, entry.1)]);
    node.enter("r", 1, "ada").await;
    let is_over = async || {
        assert_eq!(node.store.audit().await.expect("an audit").mended_members, []);
        truth.redis.query::<u64>(&["EXISTS", "online:audit:suspects"]).await
    };
    eventually_eq(is_over, 0, "the suspect has been looked at again").await;
    assert_eq!(node.members("r").await, ["ada"]);
}

#[tokio::test]
async fn a_key_of_a_room_of_another_type_is_there_again_after_an_audit_and_an_assertion() {
    let mut truth = Shared::start().await;
    truth.audit = AUDIT;
    let mut node = TestNode::join(&truth, 1).await;
    let registry = format!("online:node:rooms:{}", node.id);
    node.enter("r", 1, "ada").await;
    node.enter("r", 2, "bob").await;
    let mut keys = room_keys(&truth).await;
    assert_eq!(keys.len(), 6, "{keys:?}");
    keys.push("online:audit:suspects".to_owned());
    for key in keys {
        for is_audited in [true, false] {
            retype(&truth, &key).await;
            if is_audited {
                // Another audit may have just run.
                tokio::time::sleep(2 * truth.audit).await;
                node.store.audit().await.expect("an audit");
            }
            let entries = [node.entry("r", 1, "ada"), node.entry("r", 2, "bob")];
            node.store.refresh_rooms(&entries).await.expect("an answer");
            node.beat().await;
            for (_, id, user) in &entries {
                node.enter("r", id.number, user.as_str()).await;
            }
            assert_eq!(node.members("r").await, ["ada", "bob"], "{key}");
            assert_eq!(node.list(10).await, [("r".to_owned(), 2)], "{key}");
            assert_eq!(node.held_room_entries().await, entries, "{key}");
            assert_eq!(node.store.refresh_rooms(&entries).await.expect("an answer"), [], "{key}");
            assert!(node.page("r", 2).await.members.iter().all(|(_, socket)| socket.is_some()), "{key}");
        }
    }
    // A departure meets the wrong type as well.
    for key in [registry.as_str(), "online:room:r:users:set", "online:room:r:head", "online:rooms:set"] {
        retype(&truth, key).await;
    }
    for (number, id) in [(1, "ada"), (2, "bob")] {
        assert!(!node.drive_in("r", number, id, Intent::Leave).await.1);
    }
    assert_eq!(room_keys(&truth).await, NOBODY);
}

#[tokio::test]
async fn whose_entries_were_of_another_type_has_time_to_assert_them_before_anybody_suspects() {
    let mut truth = Shared::start().await;
    truth.audit = AUDIT;
    let mut node = TestNode::join(&truth, 1).await;
    let position = node.enter("r", 1, "ada").await;
    for (key, is_retyped) in
        [("online:room:r:user:socket:ada", true), ("online:room:r:head", true), ("online:room:r:head", false)]
    {
        if is_retyped {
            retype(&truth, key).await;
        } else {
            truth.redis.command(&["HSET", key, "birth", "x"]).await;
        }
        // An audit that is slow leaves the rest to the next one.
        let is_there = async || {
            node.store.audit().await.expect("an audit");
            truth.redis.query::<u64>(&["EXISTS", key]).await
        };
        eventually_eq(is_there, 0, key).await;
        assert_eq!(truth.redis.query::<u64>(&["EXISTS", "online:audit:suspects"]).await, 0, "{key}");
        let again = node.enter("r", 1, "ada").await;
        assert_eq!(again.birth == position.birth, !key.ends_with("head"), "{key}");
    }
}

#[tokio::test]
async fn a_member_that_was_deleted_by_hand_is_still_told_to_have_left_and_only_once() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.enter("r", 1, "ada").await;
    for deleted in [
        &["SREM online:room:r:users:set bob"][..],
        &["DEL online:room:r:user:socket:bob"],
        &["SREM online:room:r:users:set bob", "DEL online:room:r:user:socket:bob"],
        &["SREM online:room:r:users:set bob", "DEL online:room:r:user:socket:bob online:room:r:head"],
    ] {
        let mut listener = RoomListener::to(&node, &["r"]).await;
        node.enter("r", 2, "bob").await;
        for command in deleted {
            truth.redis.command(&command.split(' ').collect::<Vec<_>>()).await;
        }
        for intent in [LOST, LOST, Intent::Leave] {
            let (_, remains) = node.drive_in("r", 2, "bob", intent).await;
            assert!(!remains, "{deleted:?}");
        }
        let end = node.enter("r", 3, "eve").await;
        assert_eq!(tales(&listener.up_to(end).await), ["+bob", "-bob connection_lost", "+eve"], "{deleted:?}");
        node.drive_in("r", 3, "eve", Intent::Leave).await;
    }
}

#[tokio::test]
async fn what_is_registered_survives_an_epoch_and_keys_of_another_type() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let (place, ada) = (room("r:x"), user("ada"));
    let register = async |node: &TestNode| {
        node.store.put_room(&place).await.expect("an answer");
        assert!(node.store.put_member(&place, &ada).await.expect("an answer"));
    };
    register(&node).await;
    assert_eq!(truth.redis.smembers("online:registered:rooms").await, ["r:x"]);
    assert_eq!(truth.redis.smembers("online:registered:members:r:x").await, ["ada"]);
    assert_eq!(truth.redis.pttl("online:registered:members:r:x").await, -1, "it has no end");
    let before = node.claim.epoch;
    truth.redis.command(&["DEL", "online:epoch"]).await;
    assert!(node.beat().await.position.epoch > before);
    let access = async || node.store.room_access(&place, &ada).await.expect("an answer");
    assert_eq!(access().await, RoomAccess::Member);
    for (key, left) in
        [("online:registered:rooms", RoomAccess::NoSuchRoom), ("online:registered:members:r:x", RoomAccess::NotMember)]
    {
        retype(&truth, key).await;
        assert_eq!(access().await, left);
        register(&node).await;
        assert_eq!(access().await, RoomAccess::Member);
    }
}

#[tokio::test]
async fn a_signal_to_a_user_goes_to_every_node_with_a_socket_and_to_no_other() {
    let truth = Shared::start().await;
    let (mut first, mut second) = (TestNode::join(&truth, 1).await, TestNode::join(&truth, 2).await);
    let third = TestNode::join(&truth, 3).await;
    let mut inboxes = Vec::new();
    for node in [&first, &second, &third] {
        inboxes.push(node.store.subscribe_signals().await.expect("a subscription"));
    }
    first.drive(1, "ada", join()).await;
    second.drive(1, "ada", join()).await;
    second.drive(1, "ada", Intent::Grace).await;
    third.store.signal_user(&user("ada"), &typing_to("ada")).await.expect("it is sent");
    third.store.signal(third.id, &Signal::Echo { number: 7 }).await.expect("it is sent");
    for (inbox, expected) in inboxes.iter_mut().zip([true, true, false]) {
        let heard = timeout(DEADLINE, inbox.recv()).await.expect("a signal in time").expect("the subscription lasts");
        assert_eq!(heard == typing_to("ada"), expected, "{heard:?}");
    }
}

#[tokio::test]
async fn a_subscription_to_rooms_ends_when_its_connection_does() {
    let mut truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    let mut signals = node.store.subscribe_room_signals().await.expect("a subscription");
    let entered = node.enter("r", 1, "ada").await;
    assert_eq!(tales(&listener.up_to(entered).await), ["+ada"]);
    truth.redis.kill();
    assert_eq!(timeout(DEADLINE, listener.news.recv()).await.expect("an end in time"), None);
    assert_eq!(timeout(DEADLINE, signals.deliveries.recv()).await.expect("an end in time"), None);
    assert!(listener.rooms.open(&rooms_of(&["s"])).await.is_err());
    assert!(listener.rooms.close(&rooms_of(&["r"])).await.is_err());
    assert!(node.store.subscribe_rooms().await.is_err());
    assert!(node.store.room_snapshot(&room("r")).await.is_err());
}

#[tokio::test]
async fn what_no_node_publishes_in_a_room_is_left_out() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let mut listener = RoomListener::to(&node, &["r"]).await;
    for message in ["no json", "{}", r#"{"birth":1,"revision":1,"type":"left","userId":"","reason":"left","at":1}"#] {
        truth.redis.command(&["PUBLISH", "online:room:r:events", message]).await;
    }
    let entered = node.enter("r", 1, "ada").await;
    assert_eq!(tales(&listener.up_to(entered).await), ["+ada"]);
}

#[tokio::test]
async fn a_large_room_is_read_in_pages() {
    const MEMBERS: usize = 25_000;
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.enter("r", 1, "ada").await;
    let fill = format!("for n = 2, {MEMBERS} do redis.call('SADD', KEYS[1], 'user-' .. n) end");
    truth.redis.command(&["EVAL", &fill, "1", "online:room:r:users:set"]).await;
    assert_eq!(node.room_roster("r").await.members.len(), MEMBERS);
    let page = node.page("r", usize::MAX).await;
    assert_eq!((page.members.len(), page.n_members, page.has_more()), (RoomPage::MOST, MEMBERS as u64, true));
    assert_eq!(page.members.iter().map(|(user, _)| user).collect::<BTreeSet<_>>().len(), RoomPage::MOST);
}

#[tokio::test]
async fn many_rooms_are_opened_and_closed_at_once() {
    const ROOMS: usize = 5000;
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let mut listener = RoomListener::to(&node, &[]).await;
    let places: Vec<String> = (0..ROOMS).map(|number| format!("room-{number}")).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    listener.open(&places).await;
    let subscribed = async || {
        let channels: Vec<String> = truth.redis.query(&["PUBSUB", "CHANNELS", "online:room:*"]).await;
        channels.len()
    };
    assert_eq!(subscribed().await, ROOMS);
    let entered = node.enter("room-4999", 1, "ada").await;
    assert_eq!(listener.up_to(entered).await.len(), 1);
    listener.close(&places[1..]).await;
    assert_eq!(subscribed().await, 1);
}
