//! Users who are invisible: to others they are offline, in everything that a node says.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

async fn ask(client: &mut WsClient, mut request: Value) -> Value {
    request["ref"] = "asked".into();
    client.send_json(request).await;
    client.wait_for(|frame| frame["ref"] == "asked").await
}

async fn set_status(client: &mut WsClient, status: &str) -> Value {
    ask(client, json!({"type": "set_status", "status": status})).await
}

/// What everybody may ask about a user, over HTTP and on a socket. Times, revisions and the id differ between users.
async fn all_answers(node: &Endpoint, asking: &mut WsClient, user: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for path in
        ["/api/online-users", "/api/online-users?countOnly=true", &format!("/api/online-users?excludeUserId={user}")]
    {
        let (status, body) = node.get(path).await;
        answers.push(format!("{status} {}", masked(&body, user)));
    }
    for request in [
        json!({"type": "check_user_online", "userId": user}),
        json!({"type": "get_online_users"}),
        json!({"type": "get_online_users", "cursor": user}),
    ] {
        answers.push(masked(&ask(asking, request).await, user));
    }
    answers
}

/// The text of an answer, without what differs between two users in any case: the id, times and numbers.
fn masked(answer: &Value, user: &str) -> String {
    let mut answer = answer.clone();
    for member in ["timestamp", "lastSeen", "lastActive", "revision", "epoch"] {
        if let Some(value) = answer.get_mut(member) {
            *value = "…".into();
        }
    }
    answer.to_string().replace(&format!("\"{user}\""), "\"user\"")
}

/// Waits until a node does not show the user to anybody.
async fn is_gone_from(node: &Endpoint, user: &str) {
    let shown = async || node.online_ids().await.contains(&user.to_owned());
    eventually_eq(shown, false, &format!("{user} is not shown")).await;
}

#[tokio::test]
async fn hiding_is_byte_for_byte_a_goodbye_and_showing_is_a_coming() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let profile = |user: &str| json!({"type": "join_user", "userId": user, "name": "N", "metadata": {"a": 1}});
        let mut frames = Vec::new();
        for user in ["hides", "leaves"] {
            let mut client = place.node(1).ws("/ws").await;
            client.send_json(profile(user)).await;
            client.expect_type("welcome").await;
            frames.push(masked(&watch.expect_type("user_online").await, user));
            if user == "hides" {
                let own = set_status(&mut client, "invisible").await;
                assert_eq!((&own["chosen"], &own["effective"]), (&json!("invisible"), &json!("invisible")));
            } else {
                client.send_json(json!({"type": "leave"})).await;
            }
            let went = watch.expect_type("user_offline").await;
            assert!(went["lastSeen"].is_string() && went["lastActive"].is_string(), "{went}");
            frames.push(masked(&went, user));
            for number in 0..3 {
                is_gone_from(place.node(number), user).await;
            }
            frames.extend(all_answers(place.node(2), &mut watch, user).await);
            if user == "hides" {
                // What is done while hidden is heard by nobody.
                ask(&mut client, json!({"type": "update_presence", "name": "Other"})).await;
                ask(&mut client, json!({"type": "user_activity"})).await;
                let _tab = place.node(2).join(user).await;
                assert_eq!(watch.fence().await, NOTHING);
                set_status(&mut client, "busy").await;
                let came = watch.expect_type("user_online").await;
                assert_eq!((&came["user"]["name"], &came["user"]["status"]), (&json!("Other"), &json!("busy")));
                client.send_json(json!({"type": "leave"})).await;
                drop(_tab);
                watch.expect_type("user_offline").await;
            }
        }
        let (hides, leaves) = frames.split_at(frames.len() / 2);
        assert_eq!(hides, leaves);
    }
}

#[tokio::test]
async fn whoever_joins_invisible_is_seen_by_nobody_but_the_own_sockets() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).ws("/ws?userId=ada&status=invisible").await;
        let welcome = ada.expect_type("welcome").await;
        assert_eq!((&welcome["effective"], &welcome["onlineCount"]), (&json!("invisible"), &json!(1)));
        let list = ada.expect_type("online_users_list").await;
        assert_eq!(list["users"][0]["id"], "watch", "not even the own list");
        let mut tab = place.node(2).ws("/ws?userId=ada").await;
        assert_eq!(tab.expect_type("welcome").await["effective"], "invisible");
        // The user is offline, and was never seen: as an id that nobody has.
        let masked_check = async |watch: &mut WsClient, user: &str| {
            masked(&ask(watch, json!({"type": "check_user_online", "userId": user})).await, user)
        };
        assert_eq!(masked_check(&mut watch, "ada").await, masked_check(&mut watch, "nobody").await);
        assert_eq!(watch.fence().await, NOTHING);
        // The own sockets hear of what others do not.
        set_status(&mut ada, "online").await;
        assert_eq!(tab.wait_for(|frame| frame["type"] == "own_status").await["effective"], "online");
        watch.expect_type("user_online").await;
        set_status(&mut ada, "invisible").await;
        watch.expect_type("user_offline").await;
        let own = tab.wait_for(|frame| frame["type"] == "own_status").await;
        assert_eq!((&own["chosen"], &own["effective"]), (&json!("invisible"), &json!("invisible")));
        // Going while hidden is heard by nobody.
        drop(tab);
        ada.close(1000).await;
        let _last = place.node(1).join("last").await;
        assert_eq!(watch.expect_type("user_online").await["userId"], "last");
    }
}

#[tokio::test]
async fn a_status_that_ends_shows_the_user_again() {
    for place in Place::each(|settings| settings.presence.active_every = Duration::from_millis(100)).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        watch.expect_type("user_online").await;
        ask(&mut ada, json!({"type": "set_status", "status": "invisible", "expiresInMs": 500})).await;
        watch.expect_type("user_offline").await;
        assert_eq!(watch.expect_type("user_online").await["userId"], "ada");
    }
}

#[tokio::test]
async fn a_node_that_starts_later_and_one_that_resyncs_do_not_show_the_hidden() {
    let mut cluster = Cluster::start_with(2, |settings| settings.fanout.log_bytes = 65_536).await;
    let mut ada = cluster[0].join("ada").await;
    set_status(&mut ada, "invisible").await;
    let third = cluster.add().await;
    let mut late = cluster[third].ws("/ws?userId=late").await;
    let list = late.wait_for(|frame| frame["type"] == "online_users_list").await;
    assert_eq!((list["users"].as_array().map(Vec::len), &list["total"]), (Some(1), &json!(1)));
    // A gap that only a snapshot fills.
    cluster.redis.command(&["DEL", "online:log"]).await;
    cluster.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let _bob = cluster[0].join("bob").await;
    late.wait_for(|frame| frame["userId"] == "bob").await;
    for number in 0..3 {
        is_gone_from(&cluster[number], "ada").await;
        assert_eq!(cluster[number].online_ids().await, ["bob", "late"]);
    }
    assert_eq!(late.fence().await, NOTHING);
}

#[tokio::test]
async fn a_flush_and_a_restart_of_redis_show_nobody() {
    let mut cluster = Cluster::start(3).await;
    let mut watch = cluster[0].join("watch").await;
    let mut ada = cluster[1].join("ada").await;
    let _tab = cluster[2].join("ada").await;
    watch.expect_type("user_online").await;
    set_status(&mut ada, "invisible").await;
    watch.expect_type("user_offline").await;
    for round in 0..2 {
        if round == 0 {
            cluster.redis.command(&["FLUSHALL"]).await;
        } else {
            cluster.redis.restart().await;
        }
        let hidden = async || cluster.redis.smembers("online:users:hidden").await;
        eventually_eq(hidden, ["ada"], "ada is asserted as hidden").await;
        let held = async || cluster.redis.hgetall("online:epoch").await.get("holdUntil").cloned();
        eventually_eq(held, Some("0".to_owned()), "the hold ends").await;
        assert_eq!(cluster.redis.smembers("online:users:set").await, ["watch"]);
        let _mark = cluster[2].join(&format!("mark-{round}")).await;
        let heard = watch.collect_until(|frame| frame["userId"] == format!("mark-{round}")).await;
        assert_eq!(heard.len(), 1, "{heard:?}");
        drop(_mark);
        watch.expect_type("user_offline").await;
    }
    assert_eq!(ask(&mut ada, json!({"type": "set_status", "status": "invisible"})).await["effective"], "invisible");
}

#[tokio::test]
async fn whoever_hides_while_redis_is_away_goes_at_once_and_stays_hidden() {
    let (redis, proxy, node) = node_behind_proxy().await;
    let mut watch = node.join("watch").await;
    let mut ada = node.join("ada").await;
    watch.expect_type("user_online").await;
    proxy.cut().await;
    let degraded = async || node.is_degraded().await;
    eventually_eq(degraded, Some(true), "the node is degraded").await;
    let own = set_status(&mut ada, "invisible").await;
    assert_eq!((&own["effective"], &own["degraded"]), (&json!("invisible"), &json!(true)));
    let went = watch.expect_type("user_offline").await;
    assert_eq!((&went["reason"], &went["provisional"]), (&json!("left"), &json!(true)));
    // One who comes hidden while Redis is away is not told either, and a tab of one who is known to be hidden neither.
    let _eve = node.ws("/ws?userId=eve&status=invisible").await;
    let _tab = node.join("ada").await;
    assert_eq!(watch.fence().await, NOTHING);
    assert_eq!(node.online_ids().await, ["watch"]);
    proxy.restore().await;
    eventually_eq(degraded, Some(false), "the node is back").await;
    eventually_eq(async || redis.smembers("online:users:hidden").await, ["ada", "eve"], "Redis knows").await;
    let _last = node.join("last").await;
    let heard = watch.collect_until(|frame| frame["userId"] == "last").await;
    assert_eq!(heard.len(), 1, "{heard:?}");
}

#[tokio::test]
async fn a_hidden_user_who_roams_while_redis_is_away_is_never_shown() {
    let cluster = Cluster::start(2).await;
    let mut watch = cluster[0].join("watch").await;
    let mut ada = cluster[0].join("ada").await;
    watch.expect_type("user_online").await;
    set_status(&mut ada, "invisible").await;
    watch.expect_type("user_offline").await;
    // The client states nothing when it comes back: the node knows.
    ada.abort();
    let mut back = cluster[1].ws("/ws?userId=ada").await;
    assert_eq!(back.expect_type("welcome").await["effective"], "invisible");
    // Also after the grace, and on the other node.
    back.abort();
    let gone = async || cluster.redis.smembers("online:users:hidden").await;
    eventually_eq(gone, NOBODY, "the grace is over").await;
    let mut again = cluster[0].ws("/ws?userId=ada").await;
    assert_eq!(again.expect_type("welcome").await["effective"], "invisible");
    assert_eq!(watch.fence().await, NOTHING);
}

#[tokio::test]
async fn whoever_hides_is_gone_here_when_the_answer_comes_though_redis_has_just_stopped() {
    let (redis, proxy, node) = node_behind_proxy().await;
    let mut watch = node.join("watch").await;
    let mut ada = node.join("ada").await;
    let _tab = node.join("bob").await;
    watch.collect_until(|frame| frame["userId"] == "bob").await;
    // The node needs longer to notice that Redis is away than a client waits for its answer.
    proxy.freeze();
    let mut bob = node.ws("/ws?userId=bob&status=invisible").await;
    assert_eq!(set_status(&mut ada, "invisible").await["effective"], "invisible");
    assert_eq!(bob.expect_type("welcome").await["effective"], "invisible");
    assert_eq!(node.online_ids().await, ["watch"]);
    let mut went = watch.fence().await;
    went.sort_by_key(|frame| frame["userId"].to_string());
    for (frame, user) in went.iter().zip(["ada", "bob"]) {
        let told = json!([frame["type"], frame["userId"], frame["reason"], frame["provisional"]]);
        assert_eq!(told, json!(["user_offline", user, "left", true]));
    }
    assert_eq!(went.len(), 2, "{went:?}");
    proxy.thaw();
    let hidden = async || redis.smembers("online:users:hidden").await;
    eventually_eq(hidden, ["ada", "bob"], "Redis knows").await;
    assert_eq!(watch.fence().await, NOTHING, "nobody is shown again");
}

#[tokio::test]
async fn plain_clients_hear_a_hide_as_a_departure() {
    let node = Node::start_with(|_| ()).await;
    let mut plain = node.ws("/?userId=7").await;
    plain.expect_type("CONNECTION_ESTABLISHED").await;
    let mut ada = node.join("ada").await;
    assert_eq!(plain.next_json().await["type"], "USER_ONLINE");
    set_status(&mut ada, "busy").await;
    set_status(&mut ada, "invisible").await;
    assert_eq!(plain.next_json().await["type"], "USER_OFFLINE", "a status is nothing to it, and hiding is going");
    set_status(&mut ada, "online").await;
    assert_eq!(plain.next_json().await["type"], "USER_ONLINE");
}

#[tokio::test]
async fn hiding_is_no_activity_as_a_goodbye_is_none() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(1).join("watch").await;
        let mut hides = place.node(0).join("hides").await;
        watch.expect_type("user_online").await;
        ask(&mut hides, json!({"type": "user_activity"})).await;
        let active_at = rollcall::clock::now();
        eventually(async || rollcall::clock::now().0 > active_at.0 + 300, "some time has passed").await;
        set_status(&mut hides, "invisible").await;
        let went = watch.expect_type("user_offline").await;
        let time =
            |member: &str| rollcall::clock::parse_rfc3339(went[member].as_str().expect("a time")).expect("a time");
        assert!(time("lastActive").0 < active_at.0 + 200, "{went}");
        assert!(time("lastSeen").0 > active_at.0 + 200, "{went}");
    }
}

#[tokio::test]
async fn whoever_was_shown_for_a_moment_only_leaves_nothing_behind() {
    const MOMENT: Duration = Duration::from_secs(2);
    for place in Place::each(|settings| settings.presence.last_seen_min = MOMENT).await {
        let mut watch = place.node(1).join("watch").await;
        let mut hides = place.node(0).ws("/ws?userId=hides&status=invisible").await;
        hides.expect_type("welcome").await;
        let came_at = rollcall::clock::now();
        let passed = async || came_at.0 + MOMENT.as_millis() as u64 + 500 < rollcall::clock::now().0;
        eventually(passed, "more than a moment has passed").await;
        set_status(&mut hides, "online").await;
        watch.expect_type("user_online").await;
        set_status(&mut hides, "invisible").await;
        watch.expect_type("user_offline").await;
        let (status, answer) = place.node(1).get("/api/user-status/hides").await;
        assert_eq!(status, 404, "others saw her for a moment: {answer}");
    }
}
