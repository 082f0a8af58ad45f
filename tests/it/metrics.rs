//! What operators scrape.

use std::collections::BTreeSet;

use crate::auth::list_key;
use crate::support::*;

#[tokio::test]
async fn the_documented_metrics_are_those_that_are_scraped() {
    let mut settings = test_settings();
    list_key(&mut settings, "prometheus", &["metrics"]);
    let node = Node::spawn(settings).await;
    let scraped = node.get_raw("/metrics").await;
    assert_eq!(scraped.status, 200);
    assert!(scraped.body.ends_with("# EOF\n"));
    let family = |line: &str| line.strip_prefix("# TYPE ").map(str::to_owned);
    let scraped: BTreeSet<_> = scraped.body.lines().filter_map(family).map(|line| full_name(&line)).collect();
    let documents = include_str!("../../docs/operations.md");
    let row = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
    let is_metric = |name: &String| name.starts_with("rollcall_") || name.starts_with("process_");
    let documented: BTreeSet<_> = documents.lines().filter_map(row).filter(|name| is_metric(name)).collect();
    assert_eq!(scraped, documented);
}

#[tokio::test]
async fn joins_transitions_and_leaves_are_counted() {
    let cluster = Cluster::start(2).await;
    let ada = cluster[0].join("ada").await;
    let mut bob = cluster[1].join("bob").await;
    let tab = cluster[1].join("bob").await;
    tab.close(1000).await;
    ada.close(1000).await;
    bob.wait_for(|frame| frame["type"] == "user_offline").await;
    let text = cluster[1].get_raw("/metrics").await.body;
    for line in [
        "rollcall_users 1",
        "rollcall_joins_total 2",
        "rollcall_leaves_total{reason=\"left\"} 1",
        "rollcall_transitions_total{kind=\"online\"} 2",
        "rollcall_transitions_total{kind=\"offline\"} 1",
        "rollcall_offline_total{reason=\"left\"} 1",
        "rollcall_ghosts_mended_total 0",
    ] {
        assert!(text.lines().any(|scraped| scraped == line), "no `{line}` in {text}");
    }
}

#[tokio::test]
async fn a_node_that_was_swept_while_it_was_cut_off_counts_one_fence() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let cut_off = Node::spawn(test_settings_with_redis(&proxy.url())).await;
    let peer = Node::spawn(test_settings_with_redis(&redis.url())).await;
    cut_off.wait_ready().await;
    peer.wait_ready().await;
    let _ada = cut_off.join("ada").await;
    let online = async || peer.online_ids().await;
    eventually_eq(online, ["ada"], "the peer knows").await;
    proxy.cut().await;
    eventually_eq(online, NOBODY, "the peer has swept").await;
    proxy.restore().await;
    eventually_eq(online, ["ada"], "the node has a new lease").await;
    assert_eq!((cut_off.counter("rollcall_fenced_total").await, peer.counter("rollcall_fenced_total").await), (1, 0));
}

#[tokio::test]
async fn a_node_that_finds_its_sweep_begun_counts_one_fence() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let node = Node::spawn(test_settings_with_redis(&redis.url())).await;
    node.wait_ready().await;
    let _ada = node.join("ada").await;
    // What the first step of a sweep writes.
    redis.command(&["ZADD", "online:nodes", "XX", "0", node.node_id()]).await;
    eventually_eq(async || node.counter("rollcall_fenced_total").await, 1, "the fence is counted").await;
    let lease_ends = async || redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", node.node_id()]).await;
    eventually(async || lease_ends().await.is_some_and(|at| at > 0.0), "the node has a new lease").await;
    eventually_eq(async || node.online_ids().await, ["ada"], "who is there is online again").await;
    assert_eq!(node.counter("rollcall_fenced_total").await, 1);
}

#[tokio::test]
async fn degraded_seconds_rise_while_they_pass_and_then_stand() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let node = Node::spawn(test_settings_with_redis(&proxy.url())).await;
    node.wait_ready().await;
    let seconds = async || node.sample::<f64>("rollcall_degraded_seconds_total").await;
    assert_eq!(seconds().await, 0.0);
    proxy.cut().await;
    eventually_eq(async || node.is_degraded().await, Some(true), "the node is degraded").await;
    let first = seconds().await;
    eventually(async || seconds().await >= first + 0.5, "the seconds rise").await;
    proxy.restore().await;
    eventually_eq(async || node.is_degraded().await, Some(false), "Redis is back").await;
    let all = seconds().await;
    assert!(all >= first + 0.5, "{all} after {first}");
    // What the node tells of itself is not older than this answer.
    node.join("ada").await.close(1000).await;
    assert_eq!(seconds().await, all);
}

/// A family's name as its main sample has it.
fn full_name(family: &str) -> String {
    match family.split_once(' ') {
        Some((name, "counter")) => format!("{name}_total"),
        Some((name, "info")) => format!("{name}_info"),
        Some((name, _)) => name.to_owned(),
        None => family.to_owned(),
    }
}
