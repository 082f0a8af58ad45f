//! Several nodes on one Redis: one truth, told everywhere, and readable with redis-cli.

use serde_json::{Value, json};

use crate::support::*;

/// The socket id of a user who has just connected.
async fn socket_of(node: &Node, user: &str) -> (WsClient, String) {
    let mut client = node.ws(&format!("/ws?userId={user}")).await;
    let socket = client.expect_type("welcome").await["socketId"].as_str().expect("a text").to_owned();
    client.expect_type("online_users_list").await;
    (client, socket)
}

#[tokio::test]
async fn a_join_is_heard_on_every_node_once_with_one_revision_and_not_by_the_user() {
    let cluster = Cluster::start(3).await;
    let mut listeners = Vec::new();
    for (n, node) in cluster.nodes.iter().enumerate() {
        listeners.push(node.join(&format!("listener-{n}")).await);
    }
    let mut bobs_tab = cluster[2].join("bob").await;
    let mut bob = cluster[0].join("bob").await;
    let _last = cluster[1].join("last").await;

    let mut heard = Vec::new();
    for listener in &mut listeners {
        let told = listener.collect_until(|frame| frame["userId"] == "last").await;
        heard.push(told.into_iter().filter(|frame| frame["userId"] == "bob").collect::<Vec<_>>());
    }
    assert_eq!(heard[0].len(), 1, "{heard:?}");
    assert_eq!(heard[0][0]["type"], "user_online");
    assert_eq!((&heard[1], &heard[2]), (&heard[0], &heard[0]), "the same frame, revision and time on every node");
    for tab in [&mut bob, &mut bobs_tab] {
        let told = tab.collect_until(|frame| frame["userId"] == "last").await;
        assert_eq!(told.len(), 1, "not of oneself: {told:?}");
    }
}

#[tokio::test]
async fn closing_one_of_two_tabs_on_two_nodes_is_silent() {
    let cluster = Cluster::start(2).await;
    let mut ada = cluster[0].join("ada").await;
    let bob = cluster[0].join("bob").await;
    let bobs_tab = cluster[1].join("bob").await;
    assert_eq!(ada.next_json().await["userId"], "bob");
    bobs_tab.close(1000).await;
    let _carol = cluster[1].join("carol").await;
    assert_eq!(ada.next_json().await["userId"], "carol");

    bob.close(1000).await;
    let went = ada.next_json().await;
    assert_eq!(
        (&went["userId"], &went["type"], &went["reason"]),
        (&json!("bob"), &json!("user_offline"), &json!("left"))
    );
}

#[tokio::test]
async fn a_farewell_on_one_node_takes_a_broken_socket_on_another_along() {
    let cluster = Cluster::start_with(2, |settings| settings.presence.grace = settings.presence.lease * 4 / 5).await;
    let mut ada = cluster[0].join("ada").await;
    let (broken, socket) = socket_of(&cluster[0], "bob").await;
    let bob = cluster[1].join("bob").await;
    broken.abort();
    let entry = async || cluster.redis.hgetall("online:user:socket:bob").await.remove(&socket).unwrap_or_default();
    eventually(async || entry().await.starts_with(r#"{"grace":1,"#), "the broken socket is marked").await;
    bob.close(1000).await;
    ada.expect_type("user_online").await;
    assert_eq!(ada.next_json().await["reason"], "left");
    assert_eq!(cluster.redis.keys("online:*:bob").await, ["online:last-seen:bob"]);
}

#[tokio::test]
async fn redis_holds_the_documented_keys_while_a_user_is_there_and_only_last_seen_after() {
    const TTL_MS: i64 = 3_600_000;
    // An hour, less whatever a slow machine takes.
    let is_an_hour = |ttl_ms: i64| (TTL_MS / 2..=TTL_MS).contains(&ttl_ms);
    let cluster = Cluster::start(2).await;
    let redis = &cluster.redis;
    let mut ada = cluster[0].ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada", "email": "ada@example.com"})).await;
    let socket = ada.expect_type("welcome").await["socketId"].as_str().expect("a text").to_owned();
    let (tab, tabs_socket) = socket_of(&cluster[1], "ada").await;

    assert_eq!(redis.smembers("online:users:set").await, ["ada"]);
    assert_eq!(redis.pttl("online:users:set").await, -1);
    let sockets = redis.hgetall("online:user:socket:ada").await;
    assert_eq!(sockets.len(), 2);
    let entry: Value = serde_json::from_str(&sockets[&socket]).expect("JSON");
    assert_eq!(entry["node"], cluster[0].node_id());
    assert!(entry["since"].is_u64(), "{entry}");
    assert_eq!((&entry["grace"], &entry["idle"]), (&json!(0), &json!(0)));
    assert_eq!(redis.get(&format!("online:socket:user:{socket}")).await.as_deref(), Some("ada"));
    assert_eq!(redis.get(&format!("online:socket:user:{tabs_socket}")).await.as_deref(), Some("ada"));
    let presence = redis.get("online:presence:ada").await.expect("a presence");
    let presence: Value = serde_json::from_str(&presence).expect("JSON");
    let expected = json!({
        "id": "ada", "name": "Ada", "email": "ada@example.com", "status": "online",
        "activeAt": presence["activeAt"], "updatedAt": presence["updatedAt"]
    });
    assert_eq!(presence, expected);
    for key in ["online:user:socket:ada", "online:presence:ada", &format!("online:socket:user:{socket}")] {
        let ttl_ms = redis.pttl(key).await;
        assert!(is_an_hour(ttl_ms), "{key} lives {ttl_ms} ms");
    }
    assert_eq!(redis.hgetall(&format!("online:node:sockets:{}", cluster[0].node_id())).await[&socket], "ada");
    let nodes: Vec<String> = redis.query(&["ZRANGE", "online:nodes", "0", "-1"]).await;
    assert_eq!(nodes.len(), 2);

    ada.close(1000).await;
    tab.close(1000).await;
    let gone = async || redis.smembers("online:users:set").await;
    eventually_eq(gone, NOBODY, "ada is gone").await;
    // What else there is speaks of nodes, and of the past.
    let housekeeping = ["online:node:generation:", "online:sweep:after"];
    let left = redis.keys("*").await;
    let left: Vec<_> = left.iter().filter(|key| !housekeeping.iter().any(|prefix| key.starts_with(prefix))).collect();
    let (facts, nodes) =
        (["online:epoch", "online:last-seen:ada", "online:log"], ["online:nodes", "online:nodes:asserted"]);
    assert_eq!(left, facts.iter().chain(&nodes).chain(&["online:revision"]).collect::<Vec<_>>());
    assert!(redis.pttl("online:last-seen:ada").await > 29 * 24 * TTL_MS);
}

#[tokio::test]
async fn user_activity_brings_lowered_ttls_back() {
    let cluster = Cluster::start(1).await;
    let redis = &cluster.redis;
    let (mut ada, socket) = socket_of(&cluster[0], "ada").await;
    let keys =
        ["online:user:socket:ada".to_owned(), "online:presence:ada".to_owned(), format!("online:socket:user:{socket}")];
    for key in &keys {
        assert_eq!(redis.query::<i64>(&["EXPIRE", key, "100"]).await, 1);
    }
    ada.send_json(json!({"type": "user_activity"})).await;
    for key in &keys {
        eventually(async || redis.pttl(key).await > 1_000_000, &format!("{key} lives longer again")).await;
    }
}

#[tokio::test]
async fn user_activity_brings_keys_back_that_are_gone() {
    let cluster = Cluster::start(2).await;
    let redis = &cluster.redis;
    let mut listener = cluster[1].join("listener").await;
    let mut ada = cluster[0].ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    let socket = ada.expect_type("welcome").await["socketId"].as_str().expect("a text").to_owned();
    // The time of the last activity moves with each `user_activity`.
    let stated = async || {
        let presence = redis.get("online:presence:ada").await.expect("a presence");
        let mut presence: Value = serde_json::from_str(&presence).expect("JSON");
        presence.as_object_mut().expect("an object").remove("activeAt").expect("a time");
        presence
    };
    let presence = stated().await;
    for key in ["online:user:socket:ada", "online:presence:ada", &format!("online:socket:user:{socket}")] {
        assert_eq!(redis.query::<i64>(&["DEL", key]).await, 1);
        ada.send_json(json!({"type": "user_activity"})).await;
        eventually(async || redis.pttl(key).await > 1_000_000, &format!("{key} is back")).await;
    }
    assert_eq!(stated().await, presence);
    assert_eq!(redis.hgetall("online:user:socket:ada").await.into_keys().collect::<Vec<_>>(), [socket]);

    // Nobody heard of it.
    let _last = cluster[0].join("last").await;
    let told = listener.collect_until(|frame| frame["userId"] == "last").await;
    assert_eq!(told.iter().map(|frame| &frame["userId"]).collect::<Vec<_>>(), ["ada", "last"]);
}

#[tokio::test]
async fn a_profile_belongs_to_the_user_on_every_node_and_the_last_word_wins() {
    let cluster = Cluster::start(2).await;
    let mut listener = cluster[0].join("listener").await;
    let mut first = cluster[0].ws("/ws").await;
    first.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    first.expect_type("welcome").await;
    assert_eq!(listener.expect_type("user_online").await["user"]["name"], "Ada");
    // A socket without a profile changes nothing, and is shown the one that is known.
    let mut second = cluster[1].ws("/ws?userId=ada").await;
    second.expect_type("welcome").await;
    assert_eq!(second.expect_type("online_users_list").await["users"][0]["name"], "Ada");
    assert_eq!(listener.fence().await, NOTHING);

    second.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada L.", "username": "ada"})).await;
    let shown = json!({"id": "ada", "name": "Ada L.", "username": "ada", "status": "online"});
    assert_eq!(listener.expect_type("user_changed").await["user"], shown);
    // The first socket goes; what the second said stays.
    first.close(1000).await;
    let _last = cluster[1].join("last").await;
    assert_eq!(listener.next_json().await["userId"], "last");
    for node in &cluster.nodes {
        assert_eq!(node.get("/api/online-users?limit=1").await.1["data"][0], shown);
    }
}

#[tokio::test]
async fn a_node_that_comes_later_knows_everybody_and_their_data() {
    let mut cluster = Cluster::start(1).await;
    let mut ada = cluster[0].ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    ada.expect_type("welcome").await;
    let fresh = cluster.add().await;
    let (_, list) = cluster[fresh].get("/api/online-users").await;
    assert_eq!(list["data"], json!([{"id": "ada", "name": "Ada", "status": "online"}]));
    let _bob = cluster[fresh].join("bob").await;
    assert_eq!(ada.wait_for(|frame| frame["type"] == "user_online").await["userId"], "bob");
}

#[tokio::test]
async fn the_users_of_a_killed_node_go_offline_everywhere() {
    let mut cluster = Cluster::processes(2).await;
    let mut ada = cluster[0].join("ada").await;
    let _bob = cluster[1].join("bob").await;
    let _twin = cluster[1].join("ada").await;
    ada.expect_type("user_online").await;
    cluster[1].kill9();
    let went = ada.expect_type("user_offline").await;
    assert_eq!((&went["userId"], &went["reason"]), (&json!("bob"), &json!("node_lost")));
    assert_eq!(cluster[0].online_ids().await, ["ada"]);
    let dead = cluster[1].node_id().to_owned();
    let left = async || cluster.redis.keys(&format!("*{dead}*")).await;
    eventually_eq(left, NOBODY, "nothing is left of the dead node").await;
}
