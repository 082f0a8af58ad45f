//! Redis cannot be reached, is slow, or accepts and never answers: sockets stay, arrivals are told, departures wait,
//! reads go on. Then everything converges, and nobody hears the same twice.

use std::time::Duration;

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_redis_that_was_away_for_longer_than_a_lease_and_is_back_with_its_data_sweeps_nobody() {
    // Eager sweepers and lazy writers: a sweep comes long before the first beat.
    let eager = |settings: &mut rollcall::settings::Settings| {
        settings.presence.sweep = Duration::from_millis(20);
        settings.redis.backoff_max = Duration::from_secs(5);
    };
    let behind = Behind::start(2, eager).await;
    let watches = [
        Listener::join(behind.nodes[0].addr(), "watch-0").await,
        Listener::join(behind.nodes[1].addr(), "watch-1").await,
    ];
    let _ada = behind.nodes[0].join("ada").await;
    let _bob = behind.nodes[1].join("bob").await;
    for watch in &watches {
        watch.wait_for("user_online", "bob").await;
    }
    for proxy in &behind.proxies {
        proxy.cut().await;
    }
    wait_until_all_leases_have_ended(&behind.redis).await;
    for proxy in &behind.proxies {
        proxy.restore().await;
    }
    for node in &behind.nodes {
        wait_until_degraded(node, false).await;
    }
    let everybody = ["ada", "bob", "watch-0", "watch-1"];
    assert_eq!(logged_offline(&behind.redis, "node_lost").await, NOBODY);
    assert_eq!(behind.redis.smembers("online:users:set").await, everybody);
    for watch in &watches {
        watch.fence().await;
        assert_eq!(watch.online(), everybody);
        assert_eq!(watch.events("user_offline").len(), 0);
        watch.assert_sound();
    }
}

#[tokio::test]
async fn a_redis_that_stood_still_for_longer_than_a_lease_sweeps_nobody() {
    let mut cluster = Cluster::start(3).await;
    let mut watches = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        watches.push(Listener::join(node.addr(), &format!("watch-{number}")).await);
    }
    let newest: Vec<(String, f64)> = cluster.redis.query(&["ZRANGE", "online:nodes", "-1", "-1", "WITHSCORES"]).await;
    cluster.redis.pause();
    // Redis cannot be asked; its clock is the machine's. The leases may have been renewed once more since.
    let ended_at = newest[0].1 as u64 + 2 * 500 + 500;
    eventually(async || rollcall::clock::now().0 > ended_at, "every lease has ended").await;
    cluster.redis.resume();
    for node in &cluster.nodes {
        wait_until_degraded(node, false).await;
    }
    let suspended = async || cluster.redis.get("online:sweep:after").await;
    eventually_eq(suspended, None, "sweeps are no longer suspended").await;
    assert_eq!(logged_offline(&cluster.redis, "node_lost").await, NOBODY);
    let marker = cluster[0].join("marker").await;
    marker.close(1000).await;
    for watch in &watches {
        watch.wait_for("user_offline", "marker").await;
        assert_eq!(watch.events("user_offline").len(), 1);
        assert_eq!(watch.online(), ["watch-0", "watch-1", "watch-2"]);
        watch.assert_sound();
    }
}

#[tokio::test]
async fn while_redis_is_half_dead_arrivals_are_told_departures_wait_and_reads_go_on() {
    let behind = Behind::start(2, |_| ()).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = Listener::join(near.addr(), "watch").await;
    let elsewhere = Listener::join(far.addr(), "elsewhere").await;
    let mut ada = near.join("ada").await;
    elsewhere.wait_for("user_online", "ada").await;

    behind.proxies[0].freeze();
    wait_until_degraded(near, true).await;
    ada.send_json(json!({"type": "leave"})).await;
    ada.expect_type("left").await;
    let mut bob = near.ws("/ws?userId=bob").await;
    let welcome = bob.expect_type("welcome").await;
    assert_eq!(welcome["degraded"], true, "{welcome}");
    assert!(welcome["asOf"].is_string(), "{welcome}");
    let arrival = watch.wait_for("user_online", "bob").await.frame;
    assert_eq!((&arrival["provisional"], &arrival["revision"]), (&json!(true), &json!(null)), "{arrival}");
    watch.fence().await;
    assert_eq!(watch.events("user_offline").len(), 0, "a departure waits");

    // None of these can have asked Redis.
    let (status, list) = near.get("/api/online-users").await;
    assert_eq!((status, &list["degraded"], &list["count"]), (200, &json!(true), &json!(4)), "{list}");
    assert!(list["asOf"].is_string(), "{list}");
    assert_eq!(near.online_ids().await, ["ada", "bob", "elsewhere", "watch"]);
    assert_eq!(near.get("/api/online-users?countOnly=true").await.1["count"], 4);
    assert_eq!(near.get("/healthz").await.0, 200);
    assert_eq!(near.get("/readyz").await.0, 200);
    // The other node is not concerned, as long as the lease lasts.
    assert_eq!(far.get("/readyz").await.1["degraded"], false);

    behind.proxies[0].thaw();
    wait_until_degraded(near, false).await;
    for watch in [&watch, &elsewhere] {
        let everybody = ["bob", "elsewhere", "watch"];
        eventually_eq(async || watch.online(), everybody, "the views converge").await;
        assert_eq!(watch.events("user_offline").iter().filter(|e| e.is("user_offline", "ada")).count(), 1);
        assert_eq!(watch.events("user_online").iter().filter(|e| e.is("user_online", "bob")).count(), 1);
        watch.assert_sound();
    }
    assert_eq!(behind.redis.smembers("online:users:set").await, ["bob", "elsewhere", "watch"]);
    let list = near.get("/api/online-users").await.1;
    assert_eq!((&list["degraded"], &list["asOf"]), (&json!(null), &json!(null)), "{list}");
}

#[tokio::test]
async fn a_redis_that_takes_seconds_is_as_good_as_none_and_no_worse() {
    let behind = Behind::start(1, |_| ()).await;
    let node = &behind.nodes[0];
    let watch = Listener::join(node.addr(), "watch").await;
    let ada = node.join("ada").await;
    watch.wait_for("user_online", "ada").await;

    behind.proxies[0].set_delay(Duration::from_secs(2));
    wait_until_degraded(node, true).await;
    ada.close(1000).await;
    let bob = node.join("bob").await;
    assert_eq!(watch.wait_for("user_online", "bob").await.frame["provisional"], true);
    for _ in 0..20 {
        assert_eq!(node.online_ids().await, ["ada", "bob", "watch"]);
    }

    behind.proxies[0].set_delay(Duration::ZERO);
    wait_until_degraded(node, false).await;
    eventually_eq(async || watch.online(), ["bob", "watch"], "the view converges").await;
    eventually_eq(async || behind.redis.smembers("online:users:set").await, ["bob", "watch"], "so does Redis").await;
    watch.assert_sound();
    assert_eq!(watch.events("user_offline").len(), 1);
    assert_eq!(watch.events("user_online").len(), 2);
    drop(bob);
}

#[tokio::test]
async fn who_comes_and_goes_while_redis_is_away_leaves_no_trace() {
    let behind = Behind::start(2, |_| ()).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    let elsewhere = Listener::join(behind.nodes[1].addr(), "elsewhere").await;
    watch.wait_for("user_online", "elsewhere").await;
    behind.proxies[0].cut().await;
    wait_until_degraded(&behind.nodes[0], true).await;
    for number in 0..20 {
        let client = behind.nodes[0].join(&format!("brief-{number}")).await;
        match number % 3 {
            0 => client.close(1000).await,
            1 => client.close(1001).await,
            _ => client.abort(),
        }
    }
    watch.wait_for("user_online", "brief-19").await;
    behind.proxies[0].restore().await;
    wait_until_degraded(&behind.nodes[0], false).await;
    eventually_eq(async || watch.online(), ["elsewhere", "watch"], "the view converges").await;
    eventually_eq(async || behind.nodes[1].online_ids().await, ["elsewhere", "watch"], "elsewhere, too").await;
    let sockets = async || behind.redis.keys("online:socket:user:*").await.len();
    eventually_eq(sockets, 2, "no socket is left").await;
    watch.assert_sound();
    elsewhere.assert_sound();
}

#[tokio::test]
async fn a_node_that_starts_without_its_redis_lets_nobody_in_and_is_ready_when_redis_comes() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let node = Node::spawn(test_settings_with_redis(&redis.url())).await;
    let (status, body) = node.get("/readyz").await;
    assert_eq!((status, &body["success"]), (503, &json!(false)), "{body}");
    assert_eq!(node.get("/healthz").await.0, 200);
    // Other nodes know more. Here, ada would be online to nobody, and everybody offline to her.
    let refusal = WsClient::try_connect(node.addr(), "/ws?userId=ada").await.err().expect("a refusal");
    assert_eq!((refusal.status, &refusal.json()["code"]), (504, &json!("not_ready")));
    assert_eq!(refusal.header("retry-after"), Some("1"));
    for path in ["/?userId=ada", "/socket.io/?EIO=4&transport=websocket&userId=ada"] {
        assert_eq!(WsClient::try_connect(node.addr(), path).await.err().expect("a refusal").status, 504, "{path}");
    }
    let reads = [
        "/api/online-users",
        "/api/user-status/online",
        "/api/user-status/ada",
        "/api/chatroom/lobby/online-users",
        "/socket.io/?EIO=4&transport=polling&userId=ada",
    ];
    for path in reads {
        let (status, body) = node.get(path).await;
        assert_eq!((status, &body["code"]), (504, &json!("not_ready")), "{path}: {body}");
    }
    assert_eq!(node.counter(r#"rollcall_refused_total{reason="not_ready"}"#).await, 4);

    redis.restart().await;
    node.wait_ready().await;
    let _ada = node.join("ada").await;
    assert_eq!(node.online_ids().await, ["ada"]);
    assert_eq!(redis.smembers("online:users:set").await, ["ada"]);
    assert_eq!(node.get("/readyz").await.1["degraded"], false);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_the_transition_is_told_once() {
    let behind = Behind::start(2, |_| ()).await;
    let watch = Listener::join(behind.nodes[1].addr(), "watch").await;
    behind.proxies[0].freeze_downstream();
    let swallowed = behind.proxies[0].swallowed_bytes();
    // The join is carried out, and its outcome is unknown.
    let _ada = behind.nodes[0].ws("/ws?userId=ada").await;
    watch.wait_for("user_online", "ada").await;
    eventually(async || behind.proxies[0].swallowed_bytes() > swallowed, "an answer is lost").await;
    wait_until_degraded(&behind.nodes[0], true).await;
    behind.proxies[0].thaw();
    wait_until_degraded(&behind.nodes[0], false).await;
    let bob = behind.nodes[0].join("bob").await;
    watch.wait_for("user_online", "bob").await;
    assert_eq!(watch.events("user_online").len(), 2);
    assert_eq!(behind.redis.hgetall("online:user:socket:ada").await.len(), 1);
    watch.assert_sound();
    drop(bob);
}

#[tokio::test]
async fn a_node_cut_off_for_longer_than_its_lease_is_swept_elsewhere_and_comes_back() {
    let behind = Behind::start(2, |_| ()).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = Listener::join(near.addr(), "watch").await;
    let elsewhere = Listener::join(far.addr(), "elsewhere").await;
    let ada = near.join("ada").await;
    let _bob = near.join("bob").await;
    elsewhere.wait_for("user_online", "bob").await;

    behind.proxies[0].cut().await;
    eventually_eq(async || elsewhere.online(), ["elsewhere"], "elsewhere its users are gone").await;
    assert!(elsewhere.events("user_offline").iter().all(|event| event.frame["reason"] == "node_lost"));
    wait_until_degraded(near, true).await;
    let _carol = near.join("carol").await;
    ada.close(1000).await;
    let _dora = far.join("dora").await;
    watch.fence().await;
    assert_eq!(watch.online(), ["ada", "bob", "carol", "elsewhere", "watch"], "what the node knows by itself");

    behind.proxies[0].restore().await;
    let everybody = ["bob", "carol", "dora", "elsewhere", "watch"];
    for listener in [&watch, &elsewhere] {
        eventually_eq(async || listener.online(), everybody, "the views converge").await;
        listener.assert_sound();
    }
    assert_eq!(watch.events("user_offline").len(), 1, "near, only ada has gone");
    assert_eq!(watch.events("user_online").iter().filter(|e| e.is("user_online", "carol")).count(), 1);
    eventually_eq(async || behind.redis.smembers("online:users:set").await, everybody, "so does Redis").await;
}

#[tokio::test]
async fn after_an_outage_longer_than_the_keys_live_one_of_two_tabs_is_no_departure() {
    let short_lived = |settings: &mut rollcall::settings::Settings| {
        settings.presence.user_ttl = Duration::from_millis(4000);
        settings.presence.lease = Duration::from_millis(1000);
        settings.presence.beat = Duration::from_millis(300);
        settings.redis.call_timeout = Duration::from_millis(500);
    };
    let behind = Behind::start(2, short_lived).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watches = [Listener::join(near.addr(), "watch-0").await, Listener::join(far.addr(), "watch-1").await];
    // The tabs of ada are on one node, those of bob on two.
    let (ada, _adas_other) = (near.join("ada").await, near.join("ada").await);
    let (bob, _bobs_other) = (near.join("bob").await, far.join("bob").await);
    for watch in &watches {
        watch.wait_for("user_online", "bob").await;
    }
    behind.cut().await;
    let keys = async || behind.redis.keys("online:user:socket:*").await;
    eventually_eq(keys, NOBODY, "the keys have expired").await;
    behind.proxies[0].restore().await;
    wait_until_degraded(near, false).await;
    // The node of bob's other tab has not asserted that yet.
    ada.close(1000).await;
    bob.close(1000).await;
    behind.proxies[1].restore().await;
    wait_until_degraded(far, false).await;
    let left = async || behind.redis.keys("online:socket:user:*").await.len();
    eventually_eq(left, 4, "two tabs and the two who watch are left").await;
    let marker = near.join("marker").await;
    marker.close(1000).await;
    for watch in &watches {
        watch.wait_for("user_offline", "marker").await;
        assert_eq!(watch.events("user_offline").len(), 1, "{:?}", watch.events("user_offline"));
        assert_eq!(watch.online(), ["ada", "bob", "watch-0", "watch-1"]);
        watch.assert_sound();
    }
}

#[tokio::test]
async fn a_catch_up_larger_than_the_broadcast_log_is_a_resync_and_nobodys_fault() {
    let small = |settings: &mut rollcall::settings::Settings| settings.fanout.log_bytes = 65_536;
    let behind = Behind::start(2, small).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    // Twice within `fanout.resync_interval`.
    for round in 1..=2 {
        behind.proxies[0].cut().await;
        wait_until_degraded(&behind.nodes[0], true).await;
        let crowd = crowd(&[behind.nodes[1].addr()], &format!("round-{round}"), 600).await;
        behind.proxies[0].restore().await;
        wait_until_degraded(&behind.nodes[0], false).await;
        eventually_eq(async || watch.online().len(), 600 + 1, "the listener has a list of all").await;
        behind.proxies[0].cut().await;
        wait_until_degraded(&behind.nodes[0], true).await;
        for client in crowd {
            client.close(1000).await;
        }
        behind.proxies[0].restore().await;
        wait_until_degraded(&behind.nodes[0], false).await;
        eventually_eq(async || watch.online(), ["watch"], "the listener has a list of nobody else").await;
        assert_eq!(behind.nodes[0].counter("rollcall_resyncs_total").await, 2 * round);
    }
    assert_eq!(watch.events("user_online").len() + watch.events("user_offline").len(), 0, "nothing is told one by one");
    watch.assert_sound();
}

#[tokio::test]
async fn who_hides_and_goes_while_redis_is_away_is_never_shown_again() {
    let behind = Behind::start(2, |_| ()).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = Listener::join(near.addr(), "watch").await;
    let elsewhere = Listener::join(far.addr(), "elsewhere").await;
    let mut leaves = near.join("leaves").await;
    let mut breaks = near.join("breaks").await;
    let mut stays = near.join("stays").await;
    let _other_tab = far.join("stays").await;
    elsewhere.wait_for("user_online", "stays").await;
    watch.wait_for("user_online", "stays").await;

    behind.proxies[0].freeze();
    wait_until_degraded(near, true).await;
    for client in [&mut leaves, &mut breaks, &mut stays] {
        client.send_json(json!({"type": "set_status", "status": "invisible", "ref": 1})).await;
        client.wait_for(|frame| frame["ref"] == 1).await;
    }
    leaves.close(1000).await;
    breaks.abort();
    stays.close(1000).await;
    for user in ["leaves", "breaks", "stays"] {
        watch.wait_for("user_offline", user).await;
    }
    behind.proxies[0].thaw();
    wait_until_degraded(near, false).await;
    // The node states what the sockets have said, although they are gone.
    for user in ["leaves", "breaks", "stays"] {
        elsewhere.wait_for("user_offline", user).await;
    }
    let visible = async || behind.redis.smembers("online:users:set").await;
    eventually_eq(visible, ["elsewhere", "watch"], "the others are not shown").await;
    eventually_eq(async || behind.redis.smembers("online:users:hidden").await, ["stays"], "two are gone").await;
    watch.fence().await;
    for user in ["leaves", "breaks", "stays"] {
        let n_shown = watch.events("user_online").iter().filter(|event| event.is("user_online", user)).count();
        assert_eq!(n_shown, 1, "{user} came once");
    }
    watch.assert_sound();
    elsewhere.assert_sound();
}

#[tokio::test]
async fn a_choice_ends_although_the_node_of_the_user_is_cut_off() {
    // The node of the user is not swept before that.
    let behind = Behind::start(2, |settings| settings.presence.lease = Duration::from_secs(8)).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let mut ada = near.join("ada").await;
    ada.send_json(json!({"type": "set_status", "status": "busy", "expiresInMs": 1500, "ref": 1})).await;
    ada.wait_for(|frame| frame["ref"] == 1).await;
    let status = async || far.get("/api/user-status/ada").await.1["data"]["status"].clone();
    eventually_eq(status, json!("busy"), "the other node knows it").await;
    behind.proxies[0].freeze();
    eventually_eq(status, json!("online"), "the other node ends it").await;
}
