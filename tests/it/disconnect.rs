//! `DELETE /api/users/{userId}/sockets`: the application's server disconnects a user everywhere.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::raw_ws::{FIN, TEXT, frame};
use crate::support::*;

const CLOSED: (u16, &str) = (4003, "Disconnected by the server");

/// Disconnects a user through a node: the status, and the body without its time.
async fn disconnect(node: &Endpoint, user: &str) -> (u16, Value) {
    let answer = node.request(Method::DELETE, &format!("/api/users/{user}/sockets"), &[], "").await;
    let mut body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error} in {answer:?}"));
    let time = body.as_object_mut().expect("an object").remove("timestamp");
    assert_eq!(time.is_some(), answer.status == 200, "{answer:?}");
    (answer.status, body)
}

async fn assert_closed(mut client: WsClient) {
    let (code, reason) = client.expect_close().await;
    assert_eq!((code, &*reason), CLOSED);
}

/// What one node has of a user, as the answer says it.
fn outcome(node: &Endpoint, n_sockets: usize, is_confirmed: bool) -> Value {
    json!({"nodeId": node.node_id(), "sockets": n_sockets, "confirmed": is_confirmed})
}

fn sorted(nodes: impl IntoIterator<Item = Value>) -> Value {
    let mut nodes: Vec<Value> = nodes.into_iter().collect();
    nodes.sort_by_key(|node| node["nodeId"].to_string());
    nodes.into()
}

#[tokio::test]
async fn every_socket_on_every_node_is_closed_and_others_hear_it_once() {
    let cluster = Cluster::start_with(3, |settings| {
        settings.presence.lease = Duration::from_secs(60);
        settings.presence.grace = Duration::from_secs(30);
    })
    .await;
    let mut watches = Vec::new();
    for (n, node) in cluster.nodes.iter().enumerate() {
        watches.push(node.join(&format!("watch-{n}")).await);
    }
    let tabs = [cluster[0].join("ada").await, cluster[1].join("ada").await, cluster[2].ws("/?userId=ada").await];
    cluster[1].join("ada").await.abort();
    let bob = cluster[0].join("bob").await;
    let in_grace = async || {
        let sockets = cluster.redis.hgetall("online:user:socket:ada").await;
        sockets.len() == 4 && sockets.values().any(|entry| entry.starts_with(r#"{"grace":1"#))
    };
    eventually(in_grace, "four sockets, one of them in grace").await;

    let (status, body) = disconnect(&cluster[2], "ada").await;
    let nodes = sorted([outcome(&cluster[0], 1, true), outcome(&cluster[1], 2, true), outcome(&cluster[2], 1, true)]);
    assert_eq!(
        (status, &body),
        (200, &json!({"success": true, "data": {"userId": "ada", "sockets": 4, "nodes": nodes}}))
    );
    for tab in tabs {
        assert_closed(tab).await;
    }
    for watch in &mut watches {
        let told = watch.wait_for(|frame| frame["type"] == "user_offline").await;
        assert_eq!((&told["userId"], &told["reason"]), (&json!("ada"), &json!("left")));
    }
    // Others stay, and nothing else is told of ada.
    drop(bob);
    let _carol = cluster[0].join("carol").await;
    for watch in &mut watches {
        let told = watch.collect_until(|frame| frame["userId"] == "carol").await;
        assert!(told.iter().all(|frame| frame["userId"] != "ada"), "{told:?}");
    }
    assert_eq!(cluster.redis.keys("online:user:socket:ada").await, NOBODY);

    // The user may come back.
    let _back = cluster[1].join("ada").await;
    watches[0].wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "ada").await;
}

#[tokio::test]
async fn a_user_without_sockets_is_disconnected_already() {
    let cluster = Cluster::start(2).await;
    let nothing = json!({"success": true, "data": {"userId": "ada", "sockets": 0, "nodes": []}});
    assert_eq!(disconnect(&cluster[0], "ada").await, (200, nothing.clone()));
    let node = Node::start_with(|_| ()).await;
    assert_eq!(disconnect(&node, "ada").await, (200, nothing));
}

#[tokio::test]
async fn the_embedded_store_disconnects_as_well() {
    let node = Node::start_with(|settings| {
        settings.server.workers = 2;
        settings.presence.lease = Duration::from_secs(60);
        settings.presence.grace = Duration::from_secs(30);
    })
    .await;
    let mut watch = node.join("watch").await;
    let tabs = [node.join("ada").await, node.join("ada").await];
    node.join("ada").await.abort();
    let in_grace = async || node.get("/api/users/ada/explain").await.1["data"]["sockets"][2]["state"] == "grace";
    eventually(in_grace, "the third one is in grace").await;
    let (status, body) = disconnect(&node, "ada").await;
    assert_eq!((status, &body["data"]["nodes"]), (200, &json!([outcome(&node, 3, true)])));
    for tab in tabs {
        assert_closed(tab).await;
    }
    watch.wait_for(|frame| frame["type"] == "user_offline" && frame["reason"] == "left").await;
    assert_eq!(watch.fence().await, NOTHING);
}

#[tokio::test]
async fn a_hidden_user_goes_without_a_word_to_others() {
    let cluster = Cluster::start(2).await;
    let mut watch = cluster[1].join("watch").await;
    let mut ada = cluster[0].join("ada").await;
    ada.send_json(json!({"type": "set_status", "status": "invisible"})).await;
    watch.wait_for(|frame| frame["type"] == "user_offline").await;
    assert_eq!(disconnect(&cluster[1], "ada").await.1["data"]["sockets"], 1);
    assert_closed(ada).await;
    let gone = async || cluster.redis.smembers("online:users:hidden").await;
    eventually_eq(gone, NOBODY, "ada is gone").await;
    let _bob = cluster[1].join("bob").await;
    let told = watch.collect_until(|frame| frame["userId"] == "bob").await;
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn a_frozen_node_does_not_confirm_and_is_named() {
    let mut cluster = Cluster::processes_with(3, &[("ROLLCALL__PRESENCE__LEASE_MS", "60000")]).await;
    let mut tabs = Vec::new();
    for node in &cluster.nodes {
        tabs.push(node.join("ada").await);
    }
    cluster[1].sigstop();
    let (status, body) = disconnect(&cluster[0], "ada").await;
    let data = &body["data"];
    let nodes = sorted([outcome(&cluster[0], 1, true), outcome(&cluster[1], 1, false), outcome(&cluster[2], 1, true)]);
    assert_eq!((status, &data["sockets"], &data["nodes"]), (200, &json!(2), &nodes));
    assert_closed(tabs.remove(2)).await;
    assert_closed(tabs.remove(0)).await;
    assert_eq!(cluster[0].online_ids().await, ["ada"], "nobody else may say that ada has gone");
    // It has heard the question late.
    cluster[1].sigcont();
    assert_closed(tabs.remove(0)).await;
    eventually_eq(async || cluster[0].online_ids().await, NOBODY, "ada is gone").await;
}

#[tokio::test]
async fn without_redis_the_sockets_of_the_node_are_closed_and_the_answer_says_so() {
    let (_redis, proxy, node) = node_behind_proxy().await;
    let ada = node.join("ada").await;
    proxy.cut().await;
    let (status, body) = disconnect(&node, "ada").await;
    assert_eq!((status, &body["code"]), (503, &json!("store_unavailable")), "{body}");
    let message = "the store cannot be reached: only the sockets on this node were closed; try again";
    assert_eq!(body["message"], message);
    assert_closed(ada).await;
    proxy.restore().await;
    eventually(async || node.online_ids().await.is_empty(), "the store hears of it").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_as_well() {
    let node = Node::start_with(|settings| settings.limits.request_burst = 1_000_000).await;
    let mut others = Vec::new();
    for n in 0..100 {
        others.push(node.join(&format!("user-{n}-{}", "x".repeat(110))).await);
    }
    let mut deaf = RawWs::connect_with_receive_buffer(node.addr(), "/ws?userId=deaf", 4096).await;
    // 7 MB of answers: the kernel holds at most 4 MB of them.
    let request = frame(FIN | TEXT, br#"{"type":"get_online_users"}"#);
    deaf.send(&request.repeat(500)).await;
    let blocked = async || {
        let account = node.get("/api/users/deaf/explain").await.1["data"]["sockets"][0]["account"].clone();
        account == "wanted, confirmed; its client does not read"
    };
    eventually(blocked, "the client takes no more bytes").await;
    let n_sockets = async || node.counter("rollcall_sockets").await;
    let n_before = n_sockets().await;
    assert_eq!(disconnect(&node, "deaf").await.1["data"]["sockets"], 1);
    eventually_eq(n_sockets, n_before - 1, "its session has ended").await;
    assert!(!node.online_ids().await.contains(&"deaf".to_owned()));
}

#[tokio::test]
async fn a_socket_that_is_still_joining_is_disconnected_as_well() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let mut settings = test_settings_with_redis(&proxy.url());
    // A join waits for a second. The answer to the call comes before that.
    settings.redis.call_timeout = Duration::from_millis(200);
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let _watch = node.join("watch").await;
    proxy.freeze();
    let ada = node.ws("/ws?userId=ada").await;
    assert_eq!(disconnect(&node, "ada").await.0, 503);
    assert_closed(ada).await;
    proxy.thaw();
    eventually_eq(async || node.online_ids().await, ["watch"], "ada is not there").await;
    eventually_eq(async || redis.smembers("online:users:set").await, ["watch"], "and not in the store").await;
}
