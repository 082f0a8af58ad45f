//! What people choose to be, and what others see of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

fn quick(settings: &mut rollcall::settings::Settings) {
    settings.presence.idle = Duration::from_millis(400);
    settings.presence.active_every = Duration::from_millis(200);
}

/// A socket of the user, joined with these fields besides the id.
async fn join_with(node: &Endpoint, user: &str, fields: Value) -> WsClient {
    let mut client = node.ws("/ws").await;
    let mut request = fields;
    request["type"] = "join_user".into();
    request["userId"] = user.into();
    client.send_json(request).await;
    client.expect_type("welcome").await;
    client.expect_type("online_users_list").await;
    client
}

async fn ask(client: &mut WsClient, mut request: Value) -> Value {
    request["ref"] = "asked".into();
    client.send_json(request).await;
    client.wait_for(|frame| frame["ref"] == "asked").await
}

/// The next event about a user; own events and those about others are skipped.
async fn event(client: &mut WsClient, user: &str) -> Value {
    client.wait_for(|frame| frame["userId"] == user && frame.get("ref").is_none()).await
}

/// The user as a node lists it; null if it does not.
async fn listed(node: &Endpoint, user: &str) -> Value {
    let (_, list) = node.get("/api/online-users").await;
    let users = list["data"].as_array().expect("users");
    users.iter().find(|listed| listed["id"] == user).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_status_is_told_to_others_as_a_change_and_to_every_own_socket() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        let mut tab = place.node(2).join("ada").await;
        assert_eq!(event(&mut watch, "ada").await["type"], "user_online");

        let own = ask(&mut ada, json!({"type": "set_status", "status": "busy", "text": "in a \"call\" 🎧"})).await;
        assert_eq!(
            (&own["type"], &own["chosen"], &own["effective"]),
            (&json!("own_status"), &json!("busy"), &json!("busy"))
        );
        assert_eq!(own["statusText"], "in a \"call\" 🎧");
        let told = event(&mut watch, "ada").await;
        assert_eq!(told["type"], "user_status_changed");
        assert_eq!((&told["status"], &told["statusText"]), (&json!("busy"), &json!("in a \"call\" 🎧")));
        let user = json!({"id": "ada", "status": "busy", "statusText": "in a \"call\" 🎧"});
        assert_eq!(told["user"], user);
        assert!(told["revision"].is_u64() && told["epoch"].is_u64(), "{told}");
        let own = tab.expect_type("own_status").await;
        assert_eq!((&own["chosen"], &own["revision"]), (&json!("busy"), &told["revision"]));
        eventually_eq(async || listed(place.node(2), "ada").await, user, "every node lists it").await;

        // The same again is no news, and a text alone is.
        ask(&mut ada, json!({"type": "set_status", "status": "busy", "text": "in a \"call\" 🎧"})).await;
        ask(&mut ada, json!({"type": "set_status", "status": "busy", "text": "lunch"})).await;
        let told = event(&mut watch, "ada").await;
        assert_eq!((&told["type"], &told["statusText"]), (&json!("user_status_changed"), &json!("lunch")));
        ask(&mut ada, json!({"type": "set_status", "status": "online"})).await;
        let told = event(&mut watch, "ada").await;
        assert_eq!((&told["status"], told.get("statusText")), (&json!("online"), None));
        drop(tab);
    }
}

#[tokio::test]
async fn a_status_may_come_with_the_join() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let _ada =
            join_with(place.node(1), "ada", json!({"status": "dnd", "statusText": "focus", "name": "Ada"})).await;
        let told = event(&mut watch, "ada").await;
        let user = json!({"id": "ada", "name": "Ada", "status": "dnd", "statusText": "focus"});
        assert_eq!((&told["type"], &told["user"]), (&json!("user_online"), &user));
        let mut bob = place.node(2).ws("/ws?userId=bob&status=away").await;
        assert_eq!(bob.expect_type("welcome").await["chosen"], "away");
        assert_eq!(event(&mut watch, "bob").await["user"]["status"], "away");
        // A second tab that states nothing is shown what holds.
        let mut tab = place.node(0).ws("/ws?userId=ada").await;
        let welcome = tab.expect_type("welcome").await;
        assert_eq!((&welcome["chosen"], &welcome["statusText"]), (&json!("dnd"), &json!("focus")));
    }
}

#[tokio::test]
async fn a_bad_status_is_an_error_that_names_the_field_and_changes_nothing() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = node.join("ada").await;
    for (request, field) in [
        (json!({"type": "set_status"}), "status"),
        (json!({"type": "set_status", "status": "asleep"}), "status"),
        (json!({"type": "set_status", "status": 5}), "status"),
        (json!({"type": "set_status", "status": "busy", "text": "x".repeat(129)}), "text"),
        (json!({"type": "set_status", "status": "busy", "text": "a\nb"}), "text"),
        (json!({"type": "set_status", "status": "busy", "expiresInMs": 0}), "expiresInMs"),
        (
            json!({"type": "set_status", "status": "busy", "expiresInMs": 1, "expiresAt": "2030-01-01T00:00:00Z"}),
            "expiresAt",
        ),
        (json!({"type": "join_user", "userId": "ada", "device": {"name": "x"}}), "device"),
        (json!({"type": "join_user", "userId": "ada", "metadata": 5}), "metadata"),
        (json!({"type": "update_presence", "metadata": {"x": "y".repeat(3000)}}), "metadata"),
        (json!({"type": "update_presence", "name": "y".repeat(3000)}), "profile"),
    ] {
        let refused = ask(&mut ada, request.clone()).await;
        assert_eq!(refused["type"], "error", "{request}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|message| message.contains(field)), "{request}: {refused}");
    }
    assert_eq!(listed(&node, "ada").await, json!({"id": "ada", "status": "online"}));
    let refused = node.get("/ws?userId=ada&status=asleep").await;
    assert_eq!(refused.0, 426, "it is no handshake");
    let refused = WsClient::try_connect(node.addr(), "/ws?userId=ada&status=asleep").await.err().expect("a refusal");
    assert_eq!(refused.json()["code"], "invalid_parameter");
    let mut stranger = node.ws("/ws").await;
    for request in [json!({"type": "set_status", "status": "busy"}), json!({"type": "update_presence", "name": "x"})] {
        assert_eq!(ask(&mut stranger, request).await["code"], "not_joined");
    }
}

#[tokio::test]
async fn a_profile_is_changed_field_by_field_and_has_metadata() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let metadata = json!({"team": "blue", "tags": [1, {}, []], "\"grace\":1": true});
        let mut ada =
            join_with(place.node(1), "ada", json!({"name": "Ada", "email": "a@b", "metadata": metadata})).await;
        assert_eq!(event(&mut watch, "ada").await["user"]["metadata"], metadata);
        let updated = ask(&mut ada, json!({"type": "update_presence", "name": "Ada L.", "email": null})).await;
        let user = json!({"id": "ada", "name": "Ada L.", "metadata": metadata, "status": "online"});
        assert_eq!((&updated["type"], &updated["user"]), (&json!("presence_updated"), &user));
        let told = event(&mut watch, "ada").await;
        assert_eq!((&told["type"], &told["user"]), (&json!("user_changed"), &user));
        ask(&mut ada, json!({"type": "update_presence", "name": null, "metadata": null})).await;
        assert_eq!(event(&mut watch, "ada").await["user"], json!({"id": "ada", "status": "online"}));
        // A tab on another node that states nothing takes nothing back.
        let _tab = place.node(2).join("ada").await;
        assert_eq!(listed(place.node(0), "ada").await, json!({"id": "ada", "status": "online"}));
    }
}

#[tokio::test]
async fn whoever_is_silent_on_every_socket_is_away_and_back_at_once() {
    for place in Place::each(quick).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        let mut tab = place.node(2).join("ada").await;
        event(&mut watch, "ada").await;
        // Only a client that says `user_activity` can fall silent.
        ada.send_json(json!({"type": "user_activity"})).await;
        ask(&mut tab, json!({"type": "user_activity"})).await;
        let told = event(&mut watch, "ada").await;
        assert_eq!((&told["type"], &told["status"]), (&json!("user_status_changed"), &json!("away")));
        let own = ada.expect_type("own_status").await;
        assert_eq!((&own["chosen"], &own["effective"]), (&json!("online"), &json!("away")));
        tab.send_json(json!({"type": "user_activity"})).await;
        assert_eq!(event(&mut watch, "ada").await["status"], "online");
    }
}

#[tokio::test]
async fn whoever_never_says_user_activity_is_never_idle_whatever_else_is_said() {
    for place in Place::each(quick).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        let mut bob = place.node(1).join("bob").await;
        watch.collect_until(|frame| frame["userId"] == "bob").await;
        ask(&mut ada, json!({"type": "update_presence", "name": "Ada"})).await;
        ask(&mut ada, json!({"type": "set_status", "status": "online"})).await;
        // Both would be away after the same time.
        ask(&mut bob, json!({"type": "user_activity"})).await;
        for _ in 0..2 {
            let heard = watch.collect_until(|frame| frame["userId"] == "bob" && frame["status"] == "away").await;
            let is_away = heard.iter().any(|frame| frame["userId"] == "ada" && frame["status"] == "away");
            assert!(!is_away, "{heard:?}");
            ask(&mut bob, json!({"type": "user_activity"})).await;
        }
    }
}

#[tokio::test]
async fn a_client_may_say_itself_that_nobody_is_there() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        let mut tab = place.node(2).join("ada").await;
        event(&mut watch, "ada").await;
        let idle = json!({"type": "user_activity", "idle": true});
        assert_eq!(ask(&mut ada, idle.clone()).await["type"], "user_activity_ack");
        assert_eq!(watch.fence().await, NOTHING, "one socket is not idle");
        ask(&mut tab, idle.clone()).await;
        assert_eq!(event(&mut watch, "ada").await["status"], "away");
        // A chosen status stands.
        ask(&mut ada, json!({"type": "set_status", "status": "dnd"})).await;
        assert_eq!(event(&mut watch, "ada").await["status"], "dnd");
        ask(&mut ada, idle).await;
        assert_eq!(watch.fence().await, NOTHING);
        // The other tab is idle, this one is active again.
        ask(&mut ada, json!({"type": "set_status", "status": "online"})).await;
        assert_eq!(event(&mut watch, "ada").await["status"], "online");
    }
}

#[tokio::test]
async fn the_idle_tabs_node_may_die_and_nobody_hears_of_it() {
    let mut cluster = Cluster::processes(3).await;
    let mut watch = cluster[0].join("watch").await;
    let mut ada = cluster[1].join("ada").await;
    let mut idle_tab = cluster[2].join("ada").await;
    event(&mut watch, "ada").await;
    ask(&mut idle_tab, json!({"type": "user_activity", "idle": true})).await;
    let dead = cluster[2].node_id().to_owned();
    cluster[2].kill9();
    let swept = async || cluster.redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", &dead]).await;
    eventually_eq(swept, None, "the dead node is swept").await;
    assert_eq!(watch.fence().await, NOTHING);
    ask(&mut ada, json!({"type": "user_activity", "idle": true})).await;
    assert_eq!(event(&mut watch, "ada").await["status"], "away", "the other one decides alone now");
}

#[tokio::test]
async fn a_status_ends_at_its_time() {
    for place in Place::each(|settings| settings.presence.active_every = Duration::from_millis(100)).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        event(&mut watch, "ada").await;
        let own = ask(&mut ada, json!({"type": "set_status", "status": "busy", "text": "x", "expiresInMs": 700})).await;
        assert!(own["expiresAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{own}");
        assert_eq!(event(&mut watch, "ada").await["status"], "busy");
        let told = event(&mut watch, "ada").await;
        assert_eq!((&told["status"], told.get("statusText")), (&json!("online"), None));
        let own = ada.wait_for(|frame| frame["type"] == "own_status" && frame["chosen"] == "online").await;
        assert_eq!(own.get("expiresAt"), None);
        // A later choice does not end with the earlier one.
        ask(&mut ada, json!({"type": "set_status", "status": "busy", "expiresInMs": 300})).await;
        ask(&mut ada, json!({"type": "set_status", "status": "dnd"})).await;
        assert_eq!(event(&mut watch, "ada").await["status"], "busy");
        assert_eq!(event(&mut watch, "ada").await["status"], "dnd");
        ask(&mut ada, json!({"type": "set_status", "status": "busy", "expiresInMs": 1})).await;
        let last = watch.wait_for(|frame| frame["userId"] == "ada" && frame["status"] == "online").await;
        assert_eq!(last["type"], "user_status_changed");
    }
}

#[tokio::test]
async fn a_status_survives_a_reload_and_not_a_goodbye() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = join_with(place.node(1), "ada", json!({"status": "busy"})).await;
        event(&mut watch, "ada").await;
        ask(&mut ada, json!({"type": "set_status", "status": "dnd"})).await;
        event(&mut watch, "ada").await;
        ada.abort();
        let mut ada = place.node(2).ws("/ws?userId=ada").await;
        assert_eq!(ada.expect_type("welcome").await["chosen"], "dnd");
        assert_eq!(watch.fence().await, NOTHING);
    }
}

#[tokio::test]
async fn a_flush_of_redis_flashes_nobody_as_away_and_loses_no_status() {
    let cluster = Cluster::start(3).await;
    let mut watch = cluster[0].join("watch").await;
    let mut ada = join_with(&cluster[1], "ada", json!({"name": "Ada"})).await;
    let mut idle_tab = cluster[2].join("ada").await;
    let mut bob = join_with(&cluster[1], "bob", json!({"status": "busy", "statusText": "x"})).await;
    event(&mut watch, "bob").await;
    ask(&mut idle_tab, json!({"type": "user_activity", "idle": true})).await;
    ask(&mut ada, json!({"type": "user_activity"})).await;
    let before = watch.fence().await;
    assert_eq!(before, NOTHING);
    cluster.redis.command(&["FLUSHALL"]).await;
    let back = async || cluster.redis.smembers("online:users:set").await;
    eventually_eq(back, ["ada", "bob", "watch"], "all are asserted").await;
    let held = async || cluster.redis.hgetall("online:epoch").await.get("holdUntil").cloned();
    eventually_eq(held, Some("0".to_owned()), "the hold ends").await;
    // What the last beat of each node brings about has happened.
    ask(&mut bob, json!({"type": "set_status", "status": "dnd"})).await;
    let heard = watch.collect_until(|frame| frame["status"] == "dnd").await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    // Now the marks decide.
    ask(&mut ada, json!({"type": "user_activity", "idle": true})).await;
    assert_eq!(event(&mut watch, "ada").await["status"], "away");
}

#[tokio::test]
async fn when_a_user_was_last_seen_and_active_is_known_everywhere() {
    for place in Place::each(quick).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join("ada").await;
        event(&mut watch, "ada").await;
        let active = async |client: &mut WsClient| {
            let status = ask(client, json!({"type": "check_user_online", "userId": "ada"})).await;
            status["lastActive"].as_str().map(str::to_owned)
        };
        let first = active(&mut watch).await.expect("a join is an activity");
        let later = async || {
            ask(&mut ada, json!({"type": "user_activity"})).await;
            active(&mut watch).await.is_some_and(|at| at > first)
        };
        eventually(later, "another node learns of the activity").await;
        let never = ask(&mut watch, json!({"type": "check_user_online", "userId": "nobody"})).await;
        assert_eq!((&never["online"], never.get("lastSeen")), (&json!(false), None));
        ada.close(1000).await;
        let told = watch.wait_for(|frame| frame["type"] == "user_offline").await;
        assert!(told["lastActive"].as_str() <= told["lastSeen"].as_str(), "{told}");
        let gone = ask(&mut watch, json!({"type": "check_user_online", "userId": "ada"})).await;
        assert_eq!(
            (&gone["online"], &gone["lastSeen"], &gone["lastActive"]),
            (&json!(false), &told["lastSeen"], &told["lastActive"])
        );
    }
}

#[tokio::test]
async fn while_redis_is_away_statuses_hold_here_and_are_told_everywhere_after() {
    let (_redis, proxy, node) = node_behind_proxy().await;
    let mut watch = node.join("watch").await;
    let mut ada = node.join("ada").await;
    event(&mut watch, "ada").await;
    proxy.cut().await;
    let degraded = async || node.is_degraded().await;
    eventually_eq(degraded, Some(true), "the node is degraded").await;
    let own = ask(&mut ada, json!({"type": "set_status", "status": "busy"})).await;
    assert_eq!((&own["effective"], &own["degraded"]), (&json!("busy"), &json!(true)));
    let told = event(&mut watch, "ada").await;
    assert_eq!((&told["status"], &told["provisional"]), (&json!("busy"), &json!(true)));
    proxy.restore().await;
    eventually_eq(degraded, Some(false), "the node is back").await;
    assert_eq!(watch.fence().await, NOTHING, "it was told already");
    assert_eq!(listed(&node, "ada").await["status"], "busy");
}

#[tokio::test]
async fn a_choice_whose_time_comes_while_redis_is_away_ends_when_redis_is_back() {
    let (_redis, proxy, node) = node_behind_proxy().await;
    let mut watch = node.join("watch").await;
    let mut ada = node.join("ada").await;
    event(&mut watch, "ada").await;
    proxy.cut().await;
    let degraded = async || node.is_degraded().await;
    eventually_eq(degraded, Some(true), "the node is degraded").await;
    let own = ask(&mut ada, json!({"type": "set_status", "status": "busy", "expiresInMs": 300})).await;
    assert_eq!(event(&mut watch, "ada").await["status"], "busy");
    let end = rollcall::clock::parse_rfc3339(own["expiresAt"].as_str().expect("it ends")).expect("a time");
    eventually(async || rollcall::clock::now() > end, "its time has come").await;
    proxy.restore().await;
    assert_eq!(event(&mut watch, "ada").await["status"], "online");
    let own = ada.wait_for(|frame| frame["type"] == "own_status" && frame["chosen"] == "online").await;
    assert_eq!(own["effective"], "online");
}

#[tokio::test]
async fn a_client_that_was_answered_without_redis_hears_what_became_of_its_choice() {
    let (_redis, proxy, node) = node_behind_proxy().await;
    let mut watch = node.join("watch").await;
    let mut ada = node.join("ada").await;
    event(&mut watch, "ada").await;
    // The node needs longer to notice that Redis is away than a client waits for its answer.
    proxy.freeze();
    let own = ask(&mut ada, json!({"type": "set_status", "status": "busy", "expiresInMs": 1200})).await;
    assert_eq!((&own["effective"], &own["degraded"]), (&json!("busy"), &json!(true)));
    assert_eq!(event(&mut watch, "ada").await["status"], "busy", "others see what the client was told");
    let end = rollcall::clock::parse_rfc3339(own["expiresAt"].as_str().expect("it ends")).expect("a time");
    eventually(async || rollcall::clock::now() > end, "its time has come").await;
    proxy.thaw();
    let own = ada.wait_for(|frame| frame["type"] == "own_status" && frame["chosen"] == "online").await;
    assert_eq!(own["effective"], "online");
    assert_eq!(event(&mut watch, "ada").await["status"], "online");
}
