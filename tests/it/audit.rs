//! The backstop: what no sweep would find, put into Redis by hand.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;

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

#[tokio::test]
async fn an_audit_of_many_users_keeps_no_connection_from_the_sweeper() {
    let cluster = Cluster::start_with(1, |settings| {
        settings.redis.pool_size = 1;
        settings.presence.audit = Duration::from_millis(300);
    })
    .await;
    let redis = &cluster.redis;
    // So many that one audit takes longer than this test waits.
    let fill = "for n = 1, 200000 do redis.call('SADD', KEYS[1], 'ghost-' .. n) end";
    redis.command(&["EVAL", fill, "1", "online:users:set"]).await;
    let scans = async || {
        let statistics = redis.info("commandstats").await;
        let scans = statistics.lines().find_map(|line| line.strip_prefix("cmdstat_sscan:calls="));
        scans.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = scans().await;
    eventually(async || scans().await >= before + 5, "an audit is under way").await;
    redis.command(&["ZADD", "online:nodes", "1", "000000000000"]).await;
    let dead = async || redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", "000000000000"]).await;
    eventually_eq(dead, None, "the dead node is swept meanwhile").await;
    // The audit was not over: it would have mended some.
    assert_eq!(redis.query::<u64>(&["SCARD", "online:users:set"]).await, 200_000);
}

#[tokio::test]
async fn one_node_audits_at_a_time_and_the_others_do_not_repeat_it() {
    const AUDIT_MS: u64 = 700;
    let cluster = audited_cluster(3, AUDIT_MS).await;
    let commands = redis::Client::open(cluster.redis.url()).unwrap().get_async_monitor().await.unwrap();
    let mut commands = commands.into_on_message::<String>();
    // Few users are one page, so each scan of the visible users is an audit. The time is that of Redis, in front of each line.
    let mut begun: Vec<f64> = Vec::new();
    while begun.len() < 5 {
        let line = timeout(3 * DEADLINE, commands.next()).await.expect("an audit in time").expect("a command");
        if line.to_lowercase().contains("\"sscan\" \"online:users:set\"") {
            begun.push(line.split(' ').next().unwrap().parse().unwrap());
        }
    }
    for pair in begun.windows(2) {
        assert!(pair[1] - pair[0] >= AUDIT_MS as f64 / 1000.0, "two audits within {AUDIT_MS} ms: {begun:?}");
    }
}

#[tokio::test]
async fn whom_a_node_suspected_another_mends() {
    let mut cluster = Cluster::processes_with(1, &[("ROLLCALL__PRESENCE__AUDIT_MS", "2000")]).await;
    cluster.redis.command(&["SADD", "online:users:set", "ghost"]).await;
    let suspects =
        async |redis: &RedisServer| redis.query::<Vec<String>>(&["ZRANGE", "online:audit:suspects", "0", "-1"]).await;
    eventually_eq(async || suspects(&cluster.redis).await, ["ghost"], "the first node suspects the ghost").await;
    cluster[0].kill9();
    let second = cluster.add().await;
    let mended = async || cluster[second].counter("rollcall_ghosts_mended_total").await;
    eventually_eq(mended, 1, "the second node mends it").await;
    assert_eq!(cluster.redis.smembers("online:users:set").await, NOBODY);
    assert_eq!(suspects(&cluster.redis).await, NOBODY);
}
