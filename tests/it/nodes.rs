//! How are the nodes? `GET /api/nodes`, and the signals behind it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

/// What a node says of all nodes.
async fn nodes(node: &Endpoint) -> Value {
    let (status, body) = node.get("/api/nodes").await;
    assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    body["data"].clone()
}

/// What is said of one node.
fn of_node<'a>(data: &'a Value, node: &Endpoint) -> &'a Value {
    let mut nodes = data["nodes"].as_array().expect("an array").iter();
    nodes.find(|one| one["nodeId"] == node.node_id()).unwrap_or_else(|| panic!("{} is in {data}", node.node_id()))
}

/// The member of this name of each newest transition.
fn each<'a>(data: &'a Value, name: &str) -> Vec<&'a Value> {
    data["transitions"].as_array().expect("an array").iter().map(|one| &one[name]).collect()
}

#[tokio::test]
async fn every_node_is_named_with_its_lease_and_what_it_says_of_itself() {
    let cluster = Cluster::start(2).await;
    let _tabs = (cluster[0].join("ada").await, cluster[0].ws("/?userId=ada").await, cluster[1].join("bob").await);
    let known = async || {
        let data = nodes(&cluster[1]).await;
        let one = |node| (of_node(&data, node)["sockets"].clone(), of_node(&data, node)["answered"].clone());
        (one(&cluster[0]), one(&cluster[1]), data["here"]["users"].clone())
    };
    let expected = ((json!(2), json!(true)), (json!(1), json!(true)), json!(2));
    eventually_eq(known, expected, "the store has all sockets").await;
    let data = nodes(&cluster[1]).await;
    for (node, name) in cluster.nodes.iter().zip(["node1", "node2"]) {
        let one = of_node(&data, node);
        assert_eq!((&one["name"], &one["version"]), (&json!(name), &json!(env!("CARGO_PKG_VERSION"))), "{one}");
        assert_eq!((&one["degraded"], &one["drained"]), (&json!(false), &json!(false)), "{one}");
        assert_eq!((&one["leaseExpired"], one.get("beingSwept")), (&json!(false), None), "{one}");
        assert!(one["leaseEndsInMs"].is_u64() && one["uptimeMs"].is_u64(), "{one}");
    }
    let here = &data["here"];
    assert_eq!((&here["nodeId"], &here["name"]), (&json!(cluster[1].node_id()), &json!("node2")));
    let flags = ["ready", "holding", "draining"].map(|flag| here[flag].clone());
    assert_eq!(flags, [json!(true), json!(false), json!(false)], "{here}");
    assert_eq!(
        (&here["sockets"], &here["formats"]["native"], &here["formats"]["plain"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(here["limits"]["sockets"], json!({"used": 1, "max": 15_000}));
    assert_eq!((&here["epoch"], here.get("degraded")), (&data["store"]["epoch"], None));
    assert_eq!((&data["store"]["kind"], &data["store"]["answered"]), (&json!("redis"), &json!(true)));
}

#[tokio::test]
async fn counters_rise_with_what_happens() {
    let node = Node::start_with(|_| ()).await;
    let counters = async || nodes(&node).await["here"]["counters"].clone();
    let before = counters().await;
    let mut ada = node.join("ada").await;
    node.join("bob").await.close(1000).await;
    ada.wait_for(|frame| frame["type"] == "user_offline").await;
    let rise = async |name: &str| {
        counters().await[name].as_u64().expect("a number") - before[name].as_u64().expect("a number")
    };
    for (name, least) in [("joins", 2), ("leaves", 1), ("transitions", 3), ("frames", 6), ("requests", 1)] {
        eventually(async || rise(name).await >= least, name).await;
    }
}

#[tokio::test]
async fn the_newest_transitions_are_those_that_others_were_told() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let mut ada = node.ws("/ws").await;
        ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
        ada.expect_type("welcome").await;
        ada.send_json(json!({"type": "set_status", "status": "busy", "text": "in a call"})).await;
        ada.send_json(json!({"type": "update_presence", "email": "a@b"})).await;
        // Others do not hear of somebody who comes hidden, changes there, and goes.
        let mut eve = node.ws("/ws").await;
        eve.send_json(json!({"type": "join_user", "userId": "eve", "status": "invisible"})).await;
        eve.expect_type("welcome").await;
        eve.send_json(json!({"type": "update_presence", "email": "e@b"})).await;
        eve.close(1000).await;
        ada.send_json(json!({"type": "set_status", "status": "invisible"})).await;
        let types = async || each(&nodes(node).await, "type").into_iter().cloned().collect::<Vec<_>>();
        eventually_eq(types, ["offline", "changed", "status_changed", "online"].map(Value::from), "ada has hidden")
            .await;
        let data = nodes(node).await;
        assert!(!data.to_string().contains("eve") && !data.to_string().contains("invisible"), "{data}");
        let newest = &data["transitions"];
        assert_eq!((&newest[0]["userId"], &newest[0]["reason"]), (&json!("ada"), &json!("left")));
        assert_eq!((&newest[2]["status"], &newest[2]["statusText"]), (&json!("busy"), &json!("in a call")));
        assert_eq!((&newest[3]["name"], &newest[3]["status"]), (&json!("Ada"), &json!("online")));
        let revisions = each(&data, "revision").into_iter().map(|revision| revision.as_u64().expect("a number"));
        assert!(revisions.is_sorted_by(|newer, older| newer > older), "{data}");
    }
}

#[tokio::test]
async fn at_most_fifty_transitions_are_kept() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = node.join("ada").await;
    for n in 0..60 {
        ada.send_json(json!({"type": "update_presence", "username": n.to_string()})).await;
    }
    let revision = async || nodes(&node).await["transitions"][0]["revision"].as_u64();
    let first = nodes(&node).await["here"]["epoch"].as_u64().expect("a number");
    eventually(async || revision().await.is_some_and(|revision| revision >= first + 61), "all are told").await;
    assert_eq!(each(&nodes(&node).await, "type").len(), 50);
}

#[tokio::test]
async fn a_node_that_was_killed_does_not_answer_and_one_that_was_shut_down_is_drained() {
    let mut cluster = Cluster::processes_with(3, &[("ROLLCALL__PRESENCE__LEASE_MS", "60000")]).await;
    cluster[0].kill9();
    let stopped = cluster[1].node_id().to_owned();
    let _staying = cluster[1].join("ada").await;
    let mut shutting_down = cluster.remove(1);
    shutting_down.sigterm();
    shutting_down.wait().await;
    let data = nodes(&cluster[1]).await;
    let killed = of_node(&data, &cluster[0]);
    assert_eq!((&killed["answered"], &killed["drained"]), (&json!(false), &json!(false)), "{killed}");
    assert_eq!((killed.get("name"), killed.get("version")), (None, None));
    assert!(killed["leaseEndsInMs"].is_u64(), "{killed}");
    let shut_down = data["nodes"].as_array().expect("an array").iter().find(|one| one["nodeId"] == stopped);
    // A sweep may have taken it out since, as a whole.
    if let Some(one) = shut_down {
        assert_eq!((&one["answered"], &one["drained"]), (&json!(false), &json!(true)), "{one}");
    }
    assert_eq!(of_node(&data, &cluster[1])["answered"], true);
}

#[tokio::test]
async fn without_redis_the_node_tells_what_it_knows_of_itself() {
    let (_redis, proxy, node) = node_behind_proxy().await;
    let _ada = node.join("ada").await;
    proxy.cut().await;
    eventually(async || node.get("/readyz").await.1["degraded"] == true, "the node notices").await;
    let body = async || node.get("/api/nodes").await.1;
    let unknown = async || body().await["data"]["store"].clone();
    eventually_eq(unknown, json!({"kind": "redis", "answered": false}), "the store does not answer").await;
    let body = body().await;
    assert_eq!((&body["success"], &body["degraded"]), (&json!(true), &json!(true)));
    assert!(body["asOf"].is_string(), "{body}");
    let data = &body["data"];
    assert_eq!((&data["here"]["degraded"], &data["here"]["users"]), (&json!(true), &json!(1)));
    let expected = json!({"nodeId": node.node_id(), "name": data["here"]["name"], "version": env!("CARGO_PKG_VERSION"),
        "uptimeMs": data["nodes"][0]["uptimeMs"], "degraded": true, "sockets": 1, "answered": true, "drained": false});
    assert_eq!(data["nodes"], json!([expected]), "nothing is said of others");
    proxy.restore().await;
    eventually(async || nodes(&node).await["store"]["answered"] == true, "the store answers again").await;
}

#[tokio::test]
async fn a_full_redis_still_says_what_it_has() {
    let cluster = Cluster::start(2).await;
    let _ada = cluster[0].join("ada").await;
    let shown = async || cluster[1].get("/api/users/ada/explain").await.1["data"]["presence"].clone();
    eventually_eq(shown, json!("online"), "the store has the user").await;
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let data = nodes(&cluster[1]).await;
    assert_eq!(data["store"]["answered"], true, "{data}");
    assert_eq!(of_node(&data, &cluster[0])["sockets"], 1, "{data}");
    assert_eq!(shown().await, "online");
}

#[tokio::test]
async fn a_node_that_knows_nothing_yet_says_so() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let node = Node::spawn(test_settings_with_redis(&redis.url())).await;
    let (status, body) = node.get("/api/nodes").await;
    assert_eq!((status, &body["degraded"]), (200, &json!(true)), "{body}");
    let here = &body["data"]["here"];
    assert_eq!((&here["ready"], &here["reason"]), (&json!(false), &json!("not_ready")), "{here}");
}

#[tokio::test]
async fn those_who_ask_within_a_second_share_one_survey() {
    let (node, store) = Node::start_staged(|_| ()).await;
    let surveys = store.hold("nodes");
    surveys.release();
    let began_at = Instant::now();
    let answers = join_all((0..50).map(|_| nodes(&node))).await;
    assert!(answers.iter().all(|data| data["store"]["kind"] == "embedded" && data["store"]["answered"] == true));
    // A survey begins a second after the one before, at the earliest.
    let most = 1 + began_at.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&surveys.n_held()), "{} surveys", surveys.n_held());
}

#[tokio::test]
async fn what_was_found_out_for_somebody_who_went_away_is_not_shown_later() {
    let (node, store) = Node::start_staged(|_| ()).await;
    let surveys = store.hold("nodes");
    let mut asker = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    asker.write_all(b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("the kernel takes it");
    surveys.until_held(1).await;
    let begun_by = Instant::now();
    drop(asker);
    // Meanwhile the node notices that the asker has gone.
    let _ada = node.join("ada").await;
    let _bob = node.join("bob").await;
    surveys.release();
    let _cy = node.join("cy").await;
    // What is a second old is not shown any more, also to those who ask in time.
    tokio::time::sleep_until((begun_by + Duration::from_secs(1)).into()).await;
    assert_eq!(of_node(&nodes(&node).await, &node)["sockets"], 3);
}

#[tokio::test]
async fn only_who_speaks_for_the_application_may_know() {
    let node = Node::start_with(|_| ()).await;
    for line in [("origin", "http://127.0.0.1:3000"), ("x-forwarded-for", "127.0.0.1"), ("host", "evil.example")] {
        let answer = node.request(Method::GET, "/api/nodes", &[line], "").await;
        assert!(answer.status == 403 && answer.body.contains(r#""code":"loopback_only""#), "{answer:?}");
    }
    assert_eq!(node.request(Method::HEAD, "/api/nodes", &[], "").await.status, 200);
}
