//! A blip is not a departure, and a goodbye is one.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_page_reload_on_another_node_is_no_event() {
    // Long enough for a busy machine to come back in.
    let cluster = Cluster::start_with(3, |settings| settings.presence.grace = Duration::from_millis(2500)).await;
    let watches = [
        Listener::join(cluster[0].addr(), "watch-0").await,
        Listener::join(cluster[1].addr(), "watch-1").await,
        Listener::join(cluster[2].addr(), "watch-2").await,
    ];
    let ada = cluster[0].join("ada").await;
    for watch in &watches {
        watch.wait_for("user_online", "ada").await;
    }
    ada.close(1001).await;
    let ada = cluster[1].join("ada").await;
    let user_sockets = async || cluster.redis.hgetall("online:user:socket:ada").await.len();
    eventually_eq(user_sockets, 1, "the grace of the first socket is over").await;

    // The other way out of a page: the connection just breaks.
    ada.abort();
    let mut ada = cluster[2].join("ada").await;
    eventually_eq(user_sockets, 1, "the broken socket is gone, too").await;

    // A goodbye is told at once, and shows that nothing else was.
    ada.send_json(serde_json::json!({"type": "leave"})).await;
    for watch in &watches {
        let left = watch.wait_for("user_offline", "ada").await;
        assert_eq!(left.frame["reason"], "left");
        let of_ada = watch.heard().events.iter().filter(|event| event.frame["userId"] == "ada").count();
        assert_eq!(of_ada, 2, "ada came once and went once");
        watch.assert_sound();
    }
}

#[tokio::test]
async fn a_goodbye_takes_the_users_sockets_in_grace_on_other_nodes_along() {
    // With a grace this long only the goodbye can be what is heard.
    let cluster = Cluster::start_with(2, |settings| settings.presence.grace = Duration::from_millis(2700)).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let reloaded = cluster[0].join("ada").await;
    let mut ada = cluster[1].join("ada").await;
    reloaded.close(1001).await;
    let marked = async || {
        let sockets = cluster.redis.hgetall("online:user:socket:ada").await;
        sockets.values().filter(|entry| entry.starts_with(r#"{"grace":1,"#)).count()
    };
    eventually_eq(marked, 1, "the reloaded page's socket is marked").await;
    ada.send_json(serde_json::json!({"type": "leave"})).await;
    assert_eq!(watch.wait_for("user_offline", "ada").await.frame["reason"], "left");
    assert_eq!(cluster.redis.keys("online:user:socket:ada").await, NOBODY);
    watch.assert_sound();
}

#[tokio::test]
async fn a_goodbye_takes_the_users_sockets_on_a_drained_node_along() {
    // The drained node's lease outlives the test's patience, so only the goodbye can be what is heard.
    let cluster_of = |settings: &mut rollcall::settings::Settings| {
        settings.presence.lease = Duration::from_secs(60);
        settings.presence.grace = Duration::from_secs(50);
    };
    let mut cluster = Cluster::start_with(2, cluster_of).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let before = Listener::join(cluster[0].addr(), "ada").await;
    watch.wait_for("user_online", "ada").await;
    cluster.remove(0).stop().await;
    eventually(async || !before.is_open(), "the drain closes the socket").await;
    let mut ada = cluster[0].join("ada").await;
    ada.send_json(serde_json::json!({"type": "leave"})).await;
    assert_eq!(watch.wait_for("user_offline", "ada").await.frame["reason"], "left");
    watch.assert_sound();
}

#[tokio::test]
async fn who_does_not_come_back_within_the_grace_is_gone_with_the_reason() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    cluster[0].join("ada").await.close(1001).await;
    assert_eq!(watch.wait_for("user_offline", "ada").await.frame["reason"], "connection_lost");
    assert_eq!(cluster.redis.keys("online:*:ada").await, ["online:last-seen:ada"]);
}
