//! A connection that a node has given up may still have commands under way: they must change nothing.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_join_that_a_frozen_connection_delivers_late_raises_no_ghost() {
    let (redis, proxy, node) = node_behind_proxy().await;
    let watch = Listener::join(node.addr(), "watch").await;
    let writer = writer_of(&redis, node.node_id()).await;

    // Only the connections of now freeze; those that replace them pass.
    proxy.strand();
    let mut ada = node.ws("/ws?userId=ada").await;
    watch.wait_for("user_online", "ada").await;
    eventually_eq(async || redis.smembers("online:users:set").await, ["ada", "watch"], "a new connection joins her")
        .await;
    ada.send_json(json!({"type": "leave"})).await;
    watch.wait_for("user_offline", "ada").await;
    assert_eq!(redis.get(&generation_key(&node)).await.as_deref(), Some("2"), "the second connection rules");
    assert!(clients(&redis).await.contains(&writer), "the first is still open");

    proxy.thaw();
    // It carries out what had waited in the first, then sees its end.
    eventually(async || !clients(&redis).await.contains(&writer), "the first connection has ended").await;
    assert_eq!(redis.smembers("online:users:set").await, ["watch"]);
    assert_eq!(redis.keys("online:user:socket:*").await, ["online:user:socket:watch"]);
    assert_eq!(redis.hgetall(&format!("online:node:sockets:{}", node.node_id())).await.len(), 1);
    watch.fence().await;
    assert_eq!(watch.events("user_online").len(), 1);
    watch.assert_sound();
}

fn generation_key(node: &Endpoint) -> String {
    format!("online:node:generation:{}", node.node_id())
}

/// The ids of the connections to Redis.
async fn clients(redis: &RedisServer) -> Vec<String> {
    list_clients(redis).await.into_iter().map(|(id, _)| id).collect()
}

async fn list_clients(redis: &RedisServer) -> Vec<(String, String)> {
    let list: String = redis.query(&["CLIENT", "LIST"]).await;
    let id_of = |line: &str| line.split(' ').find_map(|part| part.strip_prefix("id=")).unwrap_or_default().to_owned();
    list.lines().map(|line| (id_of(line), line.to_owned())).collect()
}

/// The connection that the one node's beats come from.
async fn writer_of(redis: &RedisServer, node: &str) -> String {
    let mut writer = None;
    let found = async || {
        let beating = list_clients(redis).await.into_iter().filter(|(_, line)| line.contains(" cmd=evalsha "));
        let beating: Vec<String> = beating.map(|(id, _)| id).collect();
        if let [id] = &beating[..] {
            writer = Some(id.clone());
        }
        writer.is_some()
    };
    eventually(found, &format!("the writer of {node} is known")).await;
    writer.expect("it was found")
}

#[tokio::test]
async fn a_beat_that_a_frozen_connection_delivers_late_does_not_revive_a_drained_node() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let mut settings = test_settings_with_redis(&proxy.url());
    // Long enough to look at what a drained node leaves.
    settings.presence.lease = std::time::Duration::from_secs(60);
    settings.presence.grace = std::time::Duration::from_secs(50);
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let _ada = node.join("ada").await;
    let (node_id, generation) = (node.node_id().to_owned(), generation_key(&node));
    let writer = writer_of(&redis, &node_id).await;
    proxy.strand();
    // Its next beat waits in the first connection, until the second takes over.
    eventually_eq(async || redis.get(&generation).await, Some("2".to_owned()), "a new connection rules").await;
    node.stop().await;
    assert_eq!(redis.get(&generation).await.as_deref(), Some("drained"));
    let lease_end = async || redis.query::<f64>(&["ZSCORE", "online:nodes", &node_id]).await;
    let drained_until = lease_end().await;

    proxy.thaw();
    eventually(async || !clients(&redis).await.contains(&writer), "the first connection has ended").await;
    assert_eq!(redis.get(&generation).await.as_deref(), Some("drained"));
    assert_eq!(lease_end().await, drained_until);
}

#[tokio::test]
async fn a_drain_in_the_middle_of_a_reconnect_is_announced() {
    let (redis, proxy, node) = node_behind_proxy().await;
    let _ada = node.join("ada").await;
    let generation = generation_key(&node);
    let writer = writer_of(&redis, node.node_id()).await;
    // The first beat of the new connection is there long before its answers are.
    proxy.set_delay(std::time::Duration::from_millis(150));
    redis.command(&["CLIENT", "KILL", "ID", &writer]).await;
    eventually_eq(async || redis.get(&generation).await, Some("2".to_owned()), "a new connection beats").await;
    node.stop().await;
    assert_eq!(redis.get(&generation).await.as_deref(), Some("drained"));
}
