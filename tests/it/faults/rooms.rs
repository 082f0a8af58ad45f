//! Rooms when something dies, stops or loses its data: a room shows who is there, and tells nobody's coming or going
//! twice.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::listener::{Event, RoomInterest, Way};
use super::*;

const ROOM: &str = "team:7";

/// Long enough for a client to come back on a busy machine.
const LONG_GRACE: Duration = Duration::from_millis(2500);

/// Joins as this user, and enters the room.
async fn enter(node: &Endpoint, user: &str) -> Listener {
    let listener = Listener::join(node.addr(), user).await;
    listener.join_room(ROOM).await;
    listener
}

/// Comes back as this user, as a client does that was in the room.
async fn come_back(node: &Endpoint, user: &str) -> Listener {
    let back = Listener::connect_and_join(Way::Native, node.addr(), user, json!({"rooms": [ROOM]})).await;
    let back = back.unwrap_or_else(|error| panic!("{user} at {}: {error}", node.addr()));
    eventually(async || back.in_room(ROOM).is_some(), &format!("{user} is back in the room")).await;
    back
}

async fn until_in_room<'a>(listeners: impl IntoIterator<Item = &'a Listener>, users: &[&str]) {
    let mut users = users.to_vec();
    users.sort_unstable();
    for listener in listeners {
        let known = async || listener.in_room(ROOM).unwrap_or_default();
        eventually_eq_within(2 * DEADLINE, known, users.clone(), &format!("{} sees the room", listener.user())).await;
    }
}

/// The events of the room so far, by user, as the listener was told them.
async fn told(listener: &Listener, room: &str) -> BTreeMap<String, Vec<String>> {
    listener.fence_in_room(room).await;
    let kinds = ["room_user_joined", "room_user_changed", "room_user_left"];
    let mut events: Vec<Event> = kinds.into_iter().flat_map(|kind| listener.room_events(kind, room)).collect();
    events.sort_by_key(|event| event.at);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let kind = event.frame["type"].as_str().unwrap_or_default().trim_start_matches("room_user_");
        let reason = event.frame["reason"].as_str().map(|reason| format!(" ({reason})"));
        told.entry(Listener::whom(&event)).or_default().push(format!("{kind}{}", reason.unwrap_or_default()));
    }
    told
}

/// What the listener was told of one user in the room.
async fn told_of(listener: &Listener, user: &str) -> Vec<String> {
    told(listener, ROOM).await.remove(user).unwrap_or_default()
}

/// Who is in the room, as a node says to somebody who is not there.
async fn listed_in_room(node: &Endpoint) -> Vec<String> {
    let path = format!("/api/chatroom/{}/online-users?userId=asker", percent_encoded(ROOM));
    let (status, answer) = node.get(&path).await;
    assert_eq!(status, 200, "{answer}");
    let users = answer["data"]["onlineUsers"].as_array().unwrap_or_else(|| panic!("GET {path}: {answer}"));
    let mut ids: Vec<String> = users.iter().filter_map(|user| Some(user["userId"].as_str()?.to_owned())).collect();
    assert_eq!(answer["data"]["onlineCount"], ids.len(), "{answer}");
    ids.sort();
    ids
}

fn members_key(room: &str) -> String {
    format!("online:room:{}:users:set", room.replace('%', "%25").replace(':', "%3A"))
}

/// The key that holds the sockets of a user in the room.
fn sockets_key(user: &str) -> String {
    format!("online:room:team%3A7:user:socket:{user}")
}

async fn assert_no_room_is_left(redis: &RedisServer) {
    for keys in ["online:room:*", "online:rooms:set", "online:node:rooms:*"] {
        eventually_eq(async || redis.keys(keys).await, NOBODY, &format!("no {keys} is left")).await;
    }
}

#[tokio::test]
async fn a_killed_nodes_users_leave_all_their_rooms_everywhere_once_each() {
    const ROOMS: [&str; 3] = [ROOM, "%3A", "42"];
    let mut cluster = Cluster::processes(3).await;
    let mut watches = Vec::new();
    for number in 0..4 {
        let watch = Listener::join(cluster[1 + number % 2].addr(), &format!("watch-{number}")).await;
        for room in ROOMS {
            watch.join_room(room).await;
        }
        watches.push(watch);
    }
    let mut victims = Vec::new();
    for number in 0..20 {
        let victim = Listener::join(cluster[0].addr(), &format!("victim-{number:02}")).await;
        for room in ROOMS {
            victim.join_room(room).await;
        }
        victims.push(victim);
    }
    // This user stays online, and in one of the rooms, by another socket.
    let here = Listener::join(cluster[0].addr(), "both").await;
    for room in ROOMS {
        here.join_room(room).await;
    }
    let there = Listener::join(cluster[1].addr(), "both").await;
    there.join_room(ROOM).await;
    for watch in &watches {
        for room in ROOMS {
            let n_known = async || watch.in_room(room).unwrap_or_default().len();
            eventually_eq(n_known, 4 + 20 + 1, "every listener knows everybody").await;
        }
    }
    let dead = cluster[0].node_id().to_owned();
    cluster[0].kill9();
    for room in ROOMS {
        let mut rest = vec!["watch-0", "watch-1", "watch-2", "watch-3"];
        if room == ROOM {
            rest.insert(0, "both");
        }
        for watch in &watches {
            let known = async || watch.in_room(room).unwrap_or_default();
            eventually_eq_within(2 * DEADLINE, known, rest.clone(), "the dead node's users have left").await;
        }
        let members = async || cluster.redis.smembers(&members_key(room)).await;
        eventually_eq(members, rest, "Redis knows who is left").await;
    }
    eventually_eq(async || cluster.redis.keys(&format!("*{dead}*")).await, NOBODY, "nothing of the node is left").await;
    for watch in &watches {
        watch.fence().await;
        for room in ROOMS {
            let mut told = told(watch, room).await;
            let of_both = told.remove("both").expect("both came");
            assert_eq!(of_both.contains(&"left (node_lost)".to_owned()), room != ROOM, "{of_both:?}");
            told.retain(|user, _| user.starts_with("victim-"));
            assert_eq!(told.len(), victims.len());
            assert!(told.values().all(|events| events[..] == ["joined", "left (node_lost)"]), "{told:#?}");
        }
        assert_eq!(watch.events("user_offline").len(), victims.len());
        watch.assert_sound();
    }
    there.assert_sound();
}

/// Larger than the suite:
///
///     ROLLCALL_FAULT_ROUNDS=2000 cargo test --test it -- a_room_that_is_emptied
#[tokio::test]
async fn a_room_that_is_emptied_and_filled_again_at_once_is_right_everywhere() {
    let n_rounds = number_from_env("ROLLCALL_FAULT_ROUNDS", 100) as usize;
    // The nodes close the room soon after its last user here.
    let environment = [
        ("ROLLCALL__ROOMS__LINGER_MS", "100"),
        ("ROLLCALL__LIMITS__REQUESTS_PER_SECOND", "1000"),
        ("ROLLCALL__LIMITS__REQUEST_BURST", "1000"),
    ];
    let cluster = Cluster::processes_with(3, &environment).await;
    let mut users = Vec::new();
    for number in 0..6 {
        users.push(Listener::join(cluster[number % 3].addr(), &format!("user-{number}")).await);
    }
    let mut inside: Vec<usize> = Vec::new();
    for round in 0..n_rounds {
        // On two nodes, or twice on one. At times, a user leaves and enters at once.
        let next = vec![2 * round % 6, (2 * round + 1 + 2 * (round / 3 % 2)) % 6];
        inside.iter().for_each(|user| users[*user].leave_room(ROOM));
        next.iter().for_each(|user| users[*user].enter(ROOM, RoomInterest::Everyone));
        inside = next;
        let mut names: Vec<String> = inside.iter().map(|user| users[*user].user().to_owned()).collect();
        names.sort();
        for (number, user) in users.iter().enumerate() {
            let expected = inside.contains(&number).then(|| names.clone());
            let what = format!("{} sees the room in round {round}", user.user());
            eventually_eq(async || user.in_room(ROOM), expected, &what).await;
        }
        if round % 10 == 9 {
            assert_eq!(cluster.redis.smembers(&members_key(ROOM)).await, names);
            for node in &cluster.nodes {
                let what = format!("every node lists the room in round {round}");
                eventually_eq(async || listed_in_room(node).await, names.clone(), &what).await;
            }
        }
    }
    inside.iter().for_each(|user| users[*user].leave_room(ROOM));
    for node in &cluster.nodes {
        eventually_eq(async || listed_in_room(node).await, NOBODY, "the room is empty").await;
    }
    assert_no_room_is_left(&cluster.redis).await;
    let open = async || cluster.redis.query::<Vec<String>>(&["PUBSUB", "CHANNELS", "online:room:*"]).await;
    eventually_eq(open, NOBODY, "every node has closed the room").await;
    users.iter().for_each(Listener::assert_sound);
}

#[tokio::test]
async fn after_a_flushall_nobody_who_stays_is_told_to_leave_a_room() {
    let cluster = Cluster::start(3).await;
    let mut users = Vec::new();
    for number in 0..9 {
        users.push(enter(&cluster[number % 3], &format!("user-{number}")).await);
    }
    // One will leave the room, and one the service, while departures are held. When that is told, the hold is over.
    let leaver = enter(&cluster[0], "leaver").await;
    let goer = enter(&cluster[1], "goer").await;
    let stay = ["user-0", "user-1", "user-2", "user-3", "user-4", "user-5", "user-6", "user-7", "user-8"];
    let everybody = [&["goer", "leaver"], &stay[..]].concat();
    until_in_room(users.iter().chain([&leaver, &goer]), &everybody).await;
    let mut before = Vec::new();
    for user in &users {
        before.push(told(user, ROOM).await);
    }
    cluster.redis.command(&["FLUSHALL"]).await;
    let members = async || cluster.redis.smembers(&members_key(ROOM)).await;
    eventually_eq(members, everybody, "the room is back").await;
    eventually_eq(async || cluster.redis.smembers("online:rooms:set").await, [ROOM], "it is listed again").await;

    leaver.leave_room(ROOM);
    goer.send(&json!({"type": "leave"}));
    until_in_room(&users, &stay).await;
    for (user, before) in users.iter().zip(before) {
        let mut now = told(user, ROOM).await;
        for gone in ["leaver", "goer"] {
            let events = now.get_mut(gone).unwrap_or_else(|| panic!("{} was told of {gone}", user.user()));
            // A node that only read anew who is left does not know why the others went.
            let last = events.pop();
            assert!(last.as_deref().is_some_and(|last| last.starts_with("left ")), "{gone}: {events:?}, {last:?}");
        }
        assert_eq!(now, before, "{} hears of nobody else", user.user());
        user.assert_sound();
    }
    leaver.assert_sound();
    for node in &cluster.nodes {
        eventually_eq(async || listed_in_room(node).await, stay, "every node lists who stays").await;
    }
    assert_eq!(cluster.redis.smembers(&members_key(ROOM)).await, stay);
}

#[tokio::test]
async fn while_redis_is_away_nobody_leaves_a_room_and_who_enters_is_shown_on_the_own_node() {
    let behind = Behind::start(2, |_| ()).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = enter(near, "watch").await;
    let elsewhere = enter(far, "elsewhere").await;
    let ada = enter(near, "ada").await;
    let bob = enter(far, "bob").await;
    let carol = Listener::join(near.addr(), "carol").await;
    until_in_room([&watch, &elsewhere, &ada, &bob], &["ada", "bob", "elsewhere", "watch"]).await;

    behind.cut().await;
    for node in &behind.nodes {
        wait_until_degraded(node, true).await;
    }
    // One who is online, one who comes, and one who leaves.
    carol.join_room(ROOM).await;
    let dora = Listener::join(near.addr(), "dora").await;
    dora.join_room(ROOM).await;
    ada.leave_room(ROOM);
    eventually(async || ada.rooms().is_empty(), "whoever leaves hears nothing more").await;
    let shown = ["ada", "bob", "carol", "dora", "elsewhere", "watch"];
    until_in_room([&watch, &carol, &dora], &shown).await;
    assert_eq!(told_of(&watch, "ada").await, ["joined"], "a departure waits");
    assert_eq!(told_of(&watch, "carol").await, ["joined"]);
    until_in_room([&elsewhere, &bob], &["ada", "bob", "elsewhere", "watch"]).await;
    wait_until_all_leases_have_ended(&behind.redis).await;

    behind.restore().await;
    for node in &behind.nodes {
        wait_until_degraded(node, false).await;
    }
    let rest = ["bob", "carol", "dora", "elsewhere", "watch"];
    until_in_room([&watch, &elsewhere, &bob, &carol, &dora], &rest).await;
    for listener in [&watch, &elsewhere] {
        let told = told(listener, ROOM).await;
        // A node that has only read who is left does not know why.
        let of_ada = &told["ada"];
        assert!(of_ada.len() == 2 && of_ada[0] == "joined" && of_ada[1].starts_with("left"), "{of_ada:?}");
        assert_eq!((&told["carol"][..], &told["dora"][..]), (&["joined".to_owned()][..], &["joined".to_owned()][..]));
        let left = told.values().flatten().filter(|kind| kind.starts_with("left")).count();
        assert_eq!(left, 1, "only ada has left: {told:#?}");
    }
    for listener in [&watch, &elsewhere, &ada, &bob, &carol, &dora] {
        listener.assert_sound();
    }
    let members = async || behind.redis.smembers(&members_key(ROOM)).await;
    eventually_eq(members, rest, "Redis knows who is there").await;
}

#[tokio::test]
async fn a_room_is_said_to_be_empty_only_when_nobody_is_left() {
    let behind = Behind::start(2, |_| ()).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let ada = enter(near, "ada").await;
    let bob = enter(far, "bob").await;
    until_in_room([&ada, &bob], &["ada", "bob"]).await;
    // The other node does not come back. Nobody sweeps it at once, because Redis was away for a lease.
    behind.cut().await;
    wait_until_degraded(near, true).await;
    wait_until_all_leases_have_ended(&behind.redis).await;
    behind.proxies[0].restore().await;
    wait_until_degraded(near, false).await;

    let mut n_removed = 0;
    let is_empty = async || {
        let (status, answer) = near.register(Method::DELETE, &percent_encoded(ROOM)).await;
        let members = behind.redis.smembers(&members_key(ROOM)).await;
        assert_eq!(status, 200, "{answer}");
        let data = &answer["data"];
        assert!(data["confirmed"] == false || members.is_empty(), "{members:?} are there: {answer}");
        n_removed += data["users"].as_u64().expect("a number");
        data["confirmed"] == true
    };
    eventually_within(3 * DEADLINE, is_empty, "the other node is swept, and the room is empty").await;
    assert_eq!(n_removed, 1, "only ada was made to leave, and only once");
    eventually(async || ada.rooms().is_empty(), "ada was told so").await;
}

#[tokio::test]
async fn who_enters_a_room_that_cannot_be_subscribed_to_is_told_and_who_leaves_is_told_later() {
    let hurried = |settings: &mut rollcall::settings::Settings| settings.presence.beat = Duration::from_millis(100);
    let behind = Behind::start(2, hurried).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = enter(near, "watch").await;
    let gone = enter(far, "gone").await;
    until_in_room([&watch, &gone], &["gone", "watch"]).await;

    behind.proxies[0].deafen_rooms();
    let ada = enter(far, "ada").await;
    gone.leave_room(ROOM);
    eventually(async || behind.proxies[0].swallowed_bytes() > 0, "a transition is lost").await;
    until_in_room([&watch], &["ada", "gone", "watch"]).await;
    assert!(!near.is_degraded().await.expect("an answer"), "everything but the room is followed");
    // The next time that the room is read shows him.
    let bob = enter(far, "bob").await;
    until_in_room([&watch], &["ada", "bob", "gone", "watch"]).await;
    // Whoever opens a room meanwhile is shown it as well.
    let late = enter(near, "late").await;
    until_in_room([&late], &["ada", "bob", "gone", "late", "watch"]).await;
    assert_eq!(told_of(&watch, "gone").await, ["joined"], "nothing says that he has left");

    behind.proxies[0].thaw();
    until_in_room([&watch, &late, &ada, &bob], &["ada", "bob", "late", "watch"]).await;
    assert_eq!(told_of(&watch, "gone").await, ["joined", "left (unknown)"]);
    for user in ["ada", "bob", "late"] {
        assert_eq!(told_of(&watch, user).await, ["joined"]);
    }
    for listener in [&watch, &ada, &bob, &late, &gone] {
        listener.assert_sound();
    }
}

#[tokio::test]
async fn who_reloads_on_another_node_never_leaves_a_room() {
    let cluster = Cluster::start_with(3, |settings| settings.presence.grace = LONG_GRACE).await;
    let mut watches = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        watches.push(enter(node, &format!("watch-{number}")).await);
    }
    let ada = enter(&cluster[0], "ada").await;
    until_in_room(&watches, &["ada", "watch-0", "watch-1", "watch-2"]).await;
    ada.close(1001);
    let ada = come_back(&cluster[1], "ada").await;
    until_only(&cluster.redis, &ada).await;

    // The other way out of a page: the connection just breaks.
    ada.abort();
    let ada = come_back(&cluster[2], "ada").await;
    until_only(&cluster.redis, &ada).await;

    // A goodbye is told at once, and shows that nothing else was.
    ada.send(&json!({"type": "leave"}));
    until_in_room(&watches, &["watch-0", "watch-1", "watch-2"]).await;
    for watch in &watches {
        assert_eq!(told_of(watch, "ada").await, ["joined", "left (left)"]);
        watch.assert_sound();
    }
    let entries = async || cluster.redis.keys(&sockets_key("ada")).await;
    eventually_eq(entries, NOBODY, "no entry is left").await;
}

/// Waits until the graces of the earlier sockets of the user are over.
async fn until_only(redis: &RedisServer, listener: &Listener) {
    let entries = async || {
        let entries = redis.hgetall(&sockets_key(listener.user())).await;
        entries.into_keys().collect::<Vec<_>>()
    };
    let socket = listener.socket_id().expect("it is welcomed");
    eventually_eq(entries, [socket], "the earlier sockets are gone from the room").await;
}

#[tokio::test]
async fn who_comes_back_from_a_drained_node_never_leaves_a_room() {
    let mut cluster = Cluster::start_with(3, |settings| settings.presence.grace = LONG_GRACE).await;
    let mut ends = cluster.remove(0);
    let watches = [enter(&cluster[0], "watch-0").await, enter(&cluster[1], "watch-1").await];
    let ada = enter(&ends, "ada").await;
    let bob = enter(&ends, "bob").await;
    until_in_room(&watches, &["ada", "bob", "watch-0", "watch-1"]).await;
    let drained = ends.node_id().to_owned();
    ends.drain();
    eventually(async || !ada.is_open() && !bob.is_open(), "the drain closes the sockets").await;
    let ada = come_back(&cluster[0], "ada").await;
    ends.stop().await;

    until_in_room(watches.iter().chain([&ada]), &["ada", "watch-0", "watch-1"]).await;
    let score = async || cluster.redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", &drained]).await;
    eventually_eq(score, None, "the drained node is swept").await;
    until_only(&cluster.redis, &ada).await;
    for watch in &watches {
        assert_eq!(told_of(watch, "ada").await, ["joined"], "ada was never away");
        assert_eq!(told_of(watch, "bob").await, ["joined", "left (node_drained)"]);
        watch.assert_sound();
    }
    assert_eq!(listed_in_room(&cluster[1]).await, ["ada", "watch-0", "watch-1"]);
}
