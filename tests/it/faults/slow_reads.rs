//! Much to read over a slow line: a read is cut into pages that come in time, and the shorter way is taken.

use std::time::Duration;

use super::*;

/// Writes what happens when users with large profiles come: `count` transitions about as many users as given.
///
/// They have no sockets. Only an audit would find that, and its first is a minute away.
async fn write_transitions(redis: &RedisServer, count: usize, n_users: usize) {
    let lua = r#"
        local padding = string.rep('x', 2000)
        local epoch = redis.call('HGET', 'online:epoch', 'epoch')
        for i = 0, tonumber(ARGV[1]) - 1 do
          local id = 'user-' .. i % tonumber(ARGV[2])
          local presence = '{"id":"' .. id .. '","name":"' .. padding .. '","status":"online","activeAt":0,"updatedAt":' .. i + 1 .. '}'
          local kind = redis.call('SADD', 'online:users:set', id) == 1 and 'online' or 'changed'
          redis.call('SET', 'online:presence:' .. id, presence)
          redis.call('INCR', 'online:revision')
          local revision = redis.call('GET', 'online:revision')
          redis.call('XADD', 'online:log', revision .. '-0', 'event', '{"epoch":' .. epoch .. ',"revision":' .. revision
            .. ',"type":"' .. kind .. '","userId":"' .. id .. '","user":' .. presence .. ',"at":1}')
        end"#;
    redis.command(&["EVAL", lua, "0", &count.to_string(), &n_users.to_string()]).await;
}

async fn catch_ups(node: &Node, from: &str) -> u64 {
    let line = format!("rollcall_catch_ups_total{{from=\"{from}\"}} ");
    let text = node.get_raw("/metrics").await.body;
    text.lines().find_map(|scraped| scraped.strip_prefix(&line)).expect("the counter").parse().expect("a number")
}

async fn n_online(node: &Node) -> u64 {
    node.get("/api/online-users?countOnly=true").await.1["count"].as_u64().expect("a count")
}

#[tokio::test]
async fn a_log_of_large_events_is_read_over_a_slow_line() {
    let (redis, proxy, node) = node_behind_proxy().await;
    proxy.cut().await;
    write_transitions(&redis, 2000, 2000).await;
    // 4 MB in one answer would take more than the deadline of a call.
    proxy.set_rate(1_500_000);
    let logs_before = catch_ups(&node, "log").await;
    proxy.restore().await;
    eventually_eq_within(3 * DEADLINE, async || n_online(&node).await, 2000, "the node has caught up").await;
    wait_until_degraded(&node, false).await;
    assert!(catch_ups(&node, "log").await > logs_before, "by the log");
    assert_eq!(catch_ups(&node, "snapshot").await, 1, "the one of its start");
}

#[tokio::test]
async fn a_log_that_cannot_be_read_in_time_is_left_for_a_snapshot() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let mut settings = test_settings_with_redis(&proxy.url());
    settings.redis.call_timeout = Duration::from_millis(300);
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    proxy.cut().await;
    // 6 MB about one user.
    write_transitions(&redis, 3000, 1).await;
    proxy.set_rate(300_000);
    proxy.restore().await;
    eventually_eq_within(3 * DEADLINE, async || n_online(&node).await, 1, "the node has caught up").await;
    wait_until_degraded(&node, false).await;
    assert_eq!(catch_ups(&node, "snapshot").await, 2, "that of its start, and this");
}

#[tokio::test]
async fn a_snapshot_of_large_profiles_is_read_over_a_slow_line() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    write_transitions(&redis, 1000, 1000).await;
    let proxy = ChaosProxy::start(redis.port()).await;
    // Less than a page of the usual size before the deadline of a call.
    proxy.set_rate(200_000);
    let node = Node::spawn(test_settings_with_redis(&proxy.url())).await;
    let is_ready = async || node.get("/readyz").await.0 == 200;
    eventually_eq_within(6 * DEADLINE, is_ready, true, "the node has read its first snapshot").await;
    assert_eq!(n_online(&node).await, 1000);
}
