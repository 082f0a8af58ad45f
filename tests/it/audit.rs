//! The backstop: what no sweep would find, put into Redis by hand.

use std::time::Duration;

use crate::support::*;

async fn audited_cluster(count: usize, audit_ms: u64) -> Cluster {
    Cluster::start_with(count, |settings| settings.presence.audit = Duration::from_millis(audit_ms)).await
}

#[tokio::test]
async fn a_user_without_a_socket_is_mended_and_told_once() {
    // Two audits last long enough for a second node to start.
    let mut cluster = audited_cluster(1, 1500).await;
    cluster.redis.command(&["SADD", "online:users:set", "ghost"]).await;
    // This node reads the ghost in its first snapshot, and tells of it.
    let fresh = cluster.add().await;
    let mut ada = cluster[fresh].ws("/ws?userId=ada").await;
    let told = ada.wait_for(|frame| frame["userId"] == "ghost" && frame["type"] == "user_offline").await;
    assert_eq!(told["reason"], "node_lost", "{told}");
    assert_eq!(cluster.redis.smembers("online:users:set").await, ["ada"]);
    eventually(
        async || {
            let mut mended = 0;
            for node in &cluster.nodes {
                mended += node.counter("rollcall_ghosts_mended_total").await;
            }
            mended == 1
        },
        "one of the nodes counts the ghost",
    )
    .await;
}

#[tokio::test]
async fn a_socket_of_a_node_that_does_not_exist_is_mended() {
    let cluster = audited_cluster(1, 300).await;
    let redis = &cluster.redis;
    let socket = "000000000000.1";
    redis.command(&["SADD", "online:users:set", "ghost"]).await;
    redis
        .command(&["HSET", "online:user:socket:ghost", socket, r#"{"grace":0,"since":1,"node":"000000000000"}"#])
        .await;
    redis.command(&["SET", &format!("online:socket:user:{socket}"), "ghost"]).await;
    redis.command(&["HSET", "online:node:sockets:000000000000", socket, "ghost"]).await;
    eventually_eq(async || redis.keys("*ghost*").await, ["online:last-seen:ghost"], "only last-seen is left").await;
    assert_eq!(redis.keys("*000000000000*").await, NOBODY);
    assert_eq!(redis.smembers("online:users:set").await, NOBODY);
}

#[tokio::test]
async fn a_living_user_whose_keys_were_deleted_is_asserted_again_without_an_event() {
    let cluster = audited_cluster(2, 300).await;
    let mut ada = cluster[0].join("ada").await;
    let bob = cluster[1].join("bob").await;
    ada.wait_for(|frame| frame["userId"] == "bob").await;
    let redis = &cluster.redis;
    redis.command(&["DEL", "online:user:socket:bob", "online:presence:bob"]).await;
    eventually(
        async || !redis.hgetall("online:user:socket:bob").await.is_empty(),
        "the owner asserts the socket again",
    )
    .await;
    eventually(async || redis.get("online:presence:bob").await.is_some(), "and the presence").await;
    assert_eq!(ada.fence().await, NOTHING);
    drop(bob);
}

#[tokio::test]
async fn what_no_node_wrote_stops_nobody_and_is_removed() {
    let mut cluster = audited_cluster(1, 300).await;
    let _ada = cluster[0].join("ada").await;
    for member in ["", "line\nbreak", &"x".repeat(200)] {
        cluster.redis.command(&["SADD", "online:users:set", member]).await;
    }
    cluster.redis.command(&["ZADD", "online:nodes", "1", "stray"]).await;
    let fresh = cluster.add().await;
    assert_eq!(cluster[fresh].online_ids().await, ["ada"]);
    let redis = &cluster.redis;
    eventually_eq(async || redis.smembers("online:users:set").await, ["ada"], "the set holds users only").await;
    let has_stray = async || redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", "stray"]).await.is_some();
    eventually_eq(has_stray, false, "the nodes are nodes only").await;
}
