//! What a goodbye looks at in Redis, and what it leaves there.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn last_seen_is_written_for_those_who_stayed() {
    let cluster = Cluster::start_with(1, |settings| settings.presence.last_seen_min = Duration::from_hours(1)).await;
    let (redis, node) = (&cluster.redis, &cluster[0]);
    let visit = async |user: &str, is_long: bool| {
        let mut client = node.ws(&format!("/ws?userId={user}")).await;
        let socket = client.expect_type("welcome").await["socketId"].as_str().expect("an id").to_owned();
        if is_long {
            let entry = format!(r#"{{"grace":0,"since":1,"node":"{}"}}"#, node.node_id());
            redis.command(&["HSET", &format!("online:user:socket:{user}"), &socket, &entry]).await;
        }
        client.close(1000).await;
        eventually_eq(async || redis.smembers("online:users:set").await, NOBODY, "they are gone").await;
    };
    visit("brief", false).await;
    assert_eq!(redis.keys("online:last-seen:*").await, NOBODY);
    visit("long", true).await;
    assert_eq!(redis.keys("online:last-seen:*").await, ["online:last-seen:long"]);
    // Who is known is kept up to date, however short the visit.
    redis.command(&["SET", "online:last-seen:long", "1"]).await;
    visit("long", false).await;
    assert_ne!(redis.get("online:last-seen:long").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_mark_of_grace_is_at_its_place_and_nowhere_else() {
    let cluster = Cluster::start(2).await;
    let mut watch = cluster[0].join("watch").await;
    let mut tab = cluster[0].ws("/ws?userId=bob").await;
    let socket = tab.expect_type("welcome").await["socketId"].as_str().expect("an id").to_owned();
    let leaving = cluster[1].join("bob").await;
    let node = cluster[0].node_id();
    let entry = format!(r#"{{"grace":0,"since":1,"node":"{node}","device":{{"grace":true,"grace":1}}}}"#);
    cluster.redis.command(&["HSET", "online:user:socket:bob", &socket, &entry]).await;
    leaving.close(1000).await;
    let sockets = async || cluster.redis.hgetall("online:user:socket:bob").await;
    eventually_eq(async || sockets().await.len(), 1, "one socket has left").await;
    assert_eq!(sockets().await[&socket], entry, "the other one stays");
    watch.expect_type("user_online").await;
    assert_eq!(watch.fence().await, NOTHING);

    tab.abort();
    let marked = entry.replacen(r#""grace":0"#, r#""grace":1"#, 1);
    eventually(
        async || sockets().await.get(&socket).is_none_or(|entry| *entry == marked),
        "a broken socket is marked, then gone",
    )
    .await;
    assert_eq!(watch.next_json().await["reason"], "connection_lost");
}

#[tokio::test]
async fn a_goodbye_looks_up_each_node_once_however_many_sockets_the_user_has() {
    let cluster = Cluster::start(1).await;
    let (redis, node) = (&cluster.redis, &cluster[0]);
    let mut sockets = Vec::new();
    for _ in 0..95 {
        sockets.push(node.join("ada").await);
    }
    let n_gets = async || {
        let stats: String = redis.query(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=").map(str::to_owned));
        line.and_then(|line| line.split(',').next().and_then(|calls| calls.parse::<u64>().ok())).unwrap_or(0)
    };
    let before = n_gets().await;
    sockets.pop().expect("a socket").close(1000).await;
    eventually_eq(async || redis.hgetall("online:user:socket:ada").await.len(), 94, "one has left").await;
    // Beats read keys meanwhile, some few each.
    let n_gets = n_gets().await - before;
    assert!(n_gets < 70, "{n_gets} reads for one goodbye");
}
