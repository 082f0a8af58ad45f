//! A subscription that delivers nothing: noticed by the revision of the beats, and made good.

use super::*;

#[tokio::test]
async fn a_killed_subscription_is_opened_again_and_what_was_missed_is_told_once() {
    let cluster = Cluster::start(3).await;
    let mut watches = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        watches.push(Listener::join(node.addr(), &format!("watch-{number}")).await);
    }
    let mut crowd = Vec::new();
    for round in 0..10 {
        let killed: u64 = cluster.redis.query(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert!(killed <= 6, "at most two subscriptions a node: to transitions, and to signals");
        crowd.push(cluster[round % 3].join(&format!("user-{round}")).await);
    }
    // Who comes and goes while a node catches up is not told there.
    for watch in &watches {
        eventually_eq(async || watch.online().len(), 13, "everybody is known").await;
    }
    let last = crowd.pop().expect("there are ten");
    last.close(1000).await;
    for watch in &watches {
        watch.wait_for("user_offline", "user-9").await;
        eventually_eq(async || watch.online().len(), 12, "everybody but the last is known").await;
        assert_eq!(watch.events("user_online").iter().filter(|e| e.is("user_online", "user-0")).count(), 1);
        watch.assert_sound();
    }
}

/// Node 0 behind a proxy, node 1 with Redis.
async fn one_behind_a_proxy() -> (Vec<Node>, ChaosProxy, RedisServer) {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let nodes = vec![
        Node::spawn(test_settings_with_redis(&proxy.url())).await,
        Node::spawn(test_settings_with_redis(&redis.url())).await,
    ];
    for node in &nodes {
        node.wait_ready().await;
    }
    (nodes, proxy, redis)
}

#[tokio::test]
async fn a_deaf_subscription_is_noticed_by_the_beats_and_the_difference_is_told_as_catch_up() {
    let (nodes, proxy, _redis) = one_behind_a_proxy().await;
    let watch = Listener::join(nodes[0].addr(), "watch").await;
    let gone = nodes[1].join("gone").await;
    watch.wait_for("user_online", "gone").await;

    proxy.deafen_subscriptions();
    let _ada = nodes[1].join("ada").await;
    gone.close(1000).await;
    let brief = nodes[1].join("brief").await;
    brief.close(1000).await;
    eventually(async || proxy.swallowed_bytes() > 0, "a transition is lost").await;
    wait_until_degraded(&nodes[0], true).await;
    // No subscription can be made yet, but Redis can be asked.
    let ada = watch.wait_for("user_online", "ada").await;
    assert_eq!(ada.frame["catchUp"], true);
    let bob = nodes[0].join("bob").await;
    watch.wait_for("user_online", "bob").await;

    proxy.thaw();
    wait_until_degraded(&nodes[0], false).await;
    // A departure may wait until the view is up to date: a degraded node only notes departures (ADR 0007).
    let left = watch.wait_for("user_offline", "gone").await;
    assert_eq!(left.frame["catchUp"], true);
    drop(bob);
    // A last catch-up may still be under way; after it, who comes is heard.
    let mut online = vec!["ada".to_owned(), "watch".to_owned()];
    let mut later = Vec::new();
    loop {
        let user = format!("later-{}", later.len());
        later.push(nodes[1].join(&user).await);
        online.insert(later.len(), user.clone());
        if watch.wait_for("user_online", &user).await.frame["catchUp"].is_null() {
            break;
        }
        assert!(later.len() < 9, "nobody is heard, all are caught up with");
    }
    eventually_eq(async || watch.online(), online, "the view has converged").await;
    watch.assert_sound();
}

#[tokio::test]
async fn a_gap_longer_than_the_log_is_filled_from_a_snapshot() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let node = Node::spawn(test_settings_with_redis(&proxy.url())).await;
    let mut settings = test_settings_with_redis(&redis.url());
    settings.presence.log_length = 1;
    let other = Node::spawn(settings).await;
    node.wait_ready().await;
    other.wait_ready().await;
    let watch = Listener::join(node.addr(), "watch").await;
    let gone = crowd(&[other.addr()], "gone", 50).await;
    eventually_eq(async || watch.online().len(), 51, "everybody is known").await;

    proxy.cut().await;
    wait_until_degraded(&node, true).await;
    let _fresh = crowd(&[other.addr()], "fresh", 150).await;
    for client in gone {
        client.close(1000).await;
    }
    eventually_eq(async || other.online_ids().await.len(), 151, "the others have come and gone").await;
    let length: u64 = redis.query(&["XLEN", "online:log"]).await;
    assert!(length < 200, "the log was trimmed, to {length}");
    proxy.restore().await;
    wait_until_degraded(&node, false).await;
    eventually_eq(async || watch.online().len(), 151, "the difference is told").await;
    assert!(watch.online().iter().all(|user| !user.starts_with("gone")));
    watch.assert_sound();
}
