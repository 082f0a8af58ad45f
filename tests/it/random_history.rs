//! Ten thousand random joins and leaves: at the end everybody agrees, and nobody was told the same thing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::*;

const NODES: usize = 3;
const USERS: u64 = 200;
const STEPS_EACH: usize = 50;
const SOCKETS_EACH: usize = 3;

/// The user whose coming ends the listeners' work.
const LAST: &str = "zz-last";

/// What one listener was told, in order, and what they made of it.
struct Heard {
    /// Who is online: the list, then the events.
    view: BTreeSet<String>,
    /// The events that have a revision of their own: what was told at it.
    by_revision: BTreeMap<u64, (String, String)>,
}

/// Listens until [`LAST`] comes, and checks every event against the view so far.
async fn listen(addr: SocketAddr, id: String) -> Heard {
    let mut client = WsClient::connect(addr, &format!("/ws?userId={id}")).await;
    client.expect_type("welcome").await;
    let list = client.expect_type("online_users_list").await;
    let listed = list["users"].as_array().expect("users").iter().map(|user| text(&user["id"]));
    let mut heard = Heard { view: listed.collect(), by_revision: BTreeMap::new() };
    let mut last_revision = list["revision"].as_u64().expect("a revision");
    while !heard.view.contains(LAST) {
        let event = client.next_json().await;
        let user = text(&event["userId"]);
        match event["type"].as_str() {
            Some("user_online") => assert!(heard.view.insert(user.clone()), "{id} heard {user} come twice: {event}"),
            Some("user_offline") => assert!(heard.view.remove(&user), "{id} heard {user} go twice: {event}"),
            _ => panic!("{id} was told {event}"),
        }
        match event["revision"].as_u64() {
            // A node that lost touch with Redis for a moment says so.
            None => assert_eq!(event["provisional"], true, "{event}"),
            Some(_) if event["catchUp"] == true => {}
            Some(revision) => {
                assert!(revision > last_revision, "{id}: revision {last_revision} before {event}");
                last_revision = revision;
                heard.by_revision.insert(revision, (text(&event["type"]), user));
            }
        }
    }
    heard
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// One user's random life; returns the sockets that are open at the end, and how many of them have joined.
async fn live(addrs: Vec<SocketAddr>, id: String, seed: u64) -> (Vec<WsClient>, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut joined: Vec<WsClient> = Vec::new();
    let mut left: Vec<WsClient> = Vec::new();
    for _ in 0..STEPS_EACH {
        let is_arrival = match joined.len() {
            0 => true,
            SOCKETS_EACH => false,
            _ => random.random_bool(0.5),
        };
        if is_arrival && !left.is_empty() && random.random_bool(0.5) {
            let mut socket = left.swap_remove(random.random_range(0..left.len()));
            socket.send_json(json!({"type": "join_user", "userId": id})).await;
            socket.wait_for(|frame| frame["type"] == "online_users_list").await;
            joined.push(socket);
        } else if is_arrival {
            let addr = addrs.choose(&mut random).expect("a node");
            let mut socket = WsClient::connect(addr, &format!("/ws?userId={id}")).await;
            socket.expect_type("welcome").await;
            socket.expect_type("online_users_list").await;
            joined.push(socket);
        } else {
            let mut socket = joined.swap_remove(random.random_range(0..joined.len()));
            match random.random_range(0..4) {
                0 if left.len() < SOCKETS_EACH => {
                    socket.send_json(json!({"type": "leave"})).await;
                    socket.wait_for(|frame| frame["type"] == "left").await;
                    left.push(socket);
                }
                1 => socket.abort(),
                2 => socket.close(1001).await,
                _ => socket.close(1000).await,
            }
        }
    }
    let n_joined = joined.len();
    joined.append(&mut left);
    (joined, n_joined)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_thousand_random_joins_and_leaves_all_agree_and_nobody_heard_anything_twice() {
    let seed: Option<u64> = std::env::var("ROLLCALL_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(rand::random);
    println!("ROLLCALL_TEST_SEED={seed}");
    let cluster = Cluster::start_with(NODES, |settings| {
        settings.presence.grace = Duration::ZERO;
        // Most sockets here are not read, so that they answer no ping.
        settings.websocket.ping_interval = Duration::from_secs(300);
        settings.websocket.silence_timeout = Duration::from_secs(900);
        settings.websocket.join_timeout = Duration::from_secs(300);
    })
    .await;
    let addrs: Vec<_> = cluster.nodes.iter().map(|node| node.addr()).collect();
    let listener_ids: Vec<_> = (0..NODES).map(|n| format!("listener-{n}")).collect();
    let mut listeners = Vec::new();
    for (addr, id) in addrs.iter().zip(&listener_ids) {
        listeners.push(tokio::spawn(listen(*addr, id.clone())));
    }
    let all_listen = async || cluster.redis.smembers("online:users:set").await;
    eventually_eq(all_listen, listener_ids.clone(), "the listeners are online").await;

    let users: Vec<_> = (0..USERS).map(|n| format!("user-{n:03}")).collect();
    let lives = users.iter().enumerate();
    let lives = lives.map(|(n, id)| tokio::spawn(live(addrs.clone(), id.clone(), seed.wrapping_add(n as u64))));
    let mut expected: BTreeSet<String> = listener_ids.iter().cloned().collect();
    let mut open = Vec::new();
    for (id, life) in users.iter().zip(join_all(lives).await) {
        let (sockets, n_joined) = life.unwrap_or_else(|error| panic!("{id}: {error}"));
        if n_joined > 0 {
            expected.insert(id.clone());
        }
        open.push(sockets);
    }

    let expected_ids: Vec<_> = expected.iter().cloned().collect();
    eventually_eq(async || cluster.redis.smembers("online:users:set").await, expected_ids.clone(), "Redis agrees")
        .await;
    for node in &cluster.nodes {
        eventually_eq(async || node.online_ids().await, expected_ids.clone(), "the node's list agrees").await;
    }
    let _last = cluster[0].join(LAST).await;
    expected.insert(LAST.to_owned());
    let mut told: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for (id, listener) in listener_ids.iter().zip(listeners) {
        let heard = listener.await.unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(heard.view, expected, "{id}'s view");
        for (revision, event) in heard.by_revision {
            let first = told.entry(revision).or_insert_with(|| event.clone());
            assert_eq!(*first, event, "{id} heard something else at revision {revision}");
        }
    }
    assert!(told.len() > USERS as usize * STEPS_EACH / 4, "only {} transitions: a poor history", told.len());
}
