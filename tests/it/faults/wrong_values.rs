//! A hand in Redis: values that no node writes. Each is left out or cleared, and what it hid is there again.

use serde_json::json;

use super::*;

/// Nodes that audit so often that a test can wait for it.
async fn audited(count: usize) -> Cluster {
    Cluster::start_with(count, |settings| settings.presence.audit = std::time::Duration::from_millis(500)).await
}

/// Runs Lua in Redis: the way to values that are no text.
async fn eval(redis: &RedisServer, lua: &str, key: &str) -> redis::Value {
    redis.command(&["EVAL", lua, "1", key]).await
}

/// Replaces a key by one of another type.
async fn retype(redis: &RedisServer, key: &str) {
    redis.command(&["DEL", key]).await;
    redis.command(&["LPUSH", key, "a hand"]).await;
}

async fn type_of(redis: &RedisServer, key: &str) -> String {
    redis.query(&["TYPE", key]).await
}

/// What the nodes of a cluster have found that no node wrote.
async fn bad_records(cluster: &Cluster) -> u64 {
    let mut sum = 0;
    for node in &cluster.nodes {
        sum += node.counter("rollcall_bad_records_total").await;
    }
    sum
}

async fn epoch(redis: &RedisServer) -> Option<String> {
    redis.query(&["HGET", "online:epoch", "epoch"]).await
}

/// Waits until the view of every node is right, and says so.
async fn wait_until_all_list(cluster: &Cluster, users: &[&str]) {
    for node in &cluster.nodes {
        eventually_eq_within(2 * DEADLINE, async || node.online_ids().await, users, "every node lists who is here")
            .await;
        wait_until_degraded(node, false).await;
    }
}

/// Somebody comes to the first node and goes, and the listener, on another, hears both.
async fn assert_told(cluster: &Cluster, watch: &Listener, user: &str) {
    let mut client = cluster[0].ws(&format!("/ws?userId={user}")).await;
    let heard = |kind: &'static str| {
        let user = user.to_owned();
        async move || watch.events(kind).iter().any(|event| event.is(kind, &user))
    };
    eventually_eq_within(2 * DEADLINE, heard("user_online"), true, "the arrival is told").await;
    client.send_json(json!({"type": "leave"})).await;
    eventually_eq_within(2 * DEADLINE, heard("user_offline"), true, "the departure is told").await;
}

#[tokio::test]
async fn members_that_are_no_ids_keep_no_node_from_starting_and_are_removed() {
    let mut cluster = audited(1).await;
    let _ada = cluster[0].join("ada").await;
    eval(&cluster.redis, r"return redis.call('SADD', KEYS[1], '', 'line\nbreak', '\255\254')", "online:users:set")
        .await;
    let fresh = cluster.add().await;
    assert_eq!(cluster[fresh].online_ids().await, ["ada"]);
    let n_members = async || cluster.redis.query::<u64>(&["SCARD", "online:users:set"]).await;
    eventually_eq(n_members, 1, "the set holds users only").await;
    assert!(bad_records(&cluster).await >= 3);
}

#[tokio::test]
async fn a_presence_that_cannot_be_read_keeps_no_node_from_starting_and_is_asserted_anew() {
    let mut cluster = audited(1).await;
    let mut ada = cluster[0].ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    ada.expect_type("welcome").await;
    for (spoil, is_counted) in [
        (r"redis.call('SET', KEYS[1], 'no json')", true),
        (r#"redis.call('SET', KEYS[1], '{"name":5,"updatedAt":1}')"#, true),
        (r"redis.call('SET', KEYS[1], '\255\254')", true),
        (r"redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'a')", false),
    ] {
        let known = bad_records(&cluster).await;
        eval(&cluster.redis, spoil, "online:presence:ada").await;
        let fresh = cluster.add().await;
        assert_eq!(cluster[fresh].online_ids().await, ["ada"], "{spoil}");
        let read = "local stored = redis.pcall('GET', KEYS[1]) return type(stored) == 'string' and stored or ''";
        let is_back = async || {
            let stored = cluster.redis.query::<Vec<u8>>(&["EVAL", read, "1", "online:presence:ada"]).await;
            String::from_utf8_lossy(&stored).contains(r#""name":"Ada""#)
        };
        eventually(is_back, spoil).await;
        if is_counted {
            assert!(bad_records(&cluster).await > known, "{spoil}");
        }
        cluster.remove(fresh).stop().await;
    }
}

#[tokio::test]
async fn a_presence_that_cannot_be_read_is_not_told() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    cluster.redis.command(&["SET", "online:presence:ada", "no json"]).await;
    let _ada = cluster[0].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    let stored = cluster.redis.get("online:presence:ada").await.expect("a presence");
    serde_json::from_str::<serde_json::Value>(&stored).expect("JSON again");
    for node in &cluster.nodes {
        assert_eq!(node.counter("rollcall_bad_records_total").await, 0, "nothing unreadable was published");
    }
}

#[tokio::test]
async fn a_bad_entry_in_the_log_after_a_jump_of_the_revision_keeps_nobody_from_later_arrivals() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let redis = &cluster.redis;
    let revision: u64 = redis.query(&["INCRBY", "online:revision", "5"]).await;
    redis.command(&["XADD", "online:log", &format!("{}-0", revision - 2), "event", "no json"]).await;
    assert_told(&cluster, &watch, "bob").await;
    wait_until_all_list(&cluster, &["watch"]).await;
    watch.assert_sound();
}

#[tokio::test]
async fn an_entry_above_the_revision_does_not_stop_the_log() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let redis = &cluster.redis;
    for ahead in [1, 1_000_000] {
        let revision: u64 = redis.query(&["GET", "online:revision"]).await;
        redis.command(&["XADD", "online:log", &format!("{}-0", revision + ahead), "event", "no json"]).await;
        assert_told(&cluster, &watch, &format!("bob-{ahead}")).await;
        let last: Vec<(String, Vec<String>)> = redis.query(&["XREVRANGE", "online:log", "+", "-", "COUNT", "1"]).await;
        assert_eq!(last[0].0, format!("{}-0", redis.query::<u64>(&["GET", "online:revision"]).await));
    }
    watch.assert_sound();
}

#[tokio::test]
async fn a_revision_that_is_no_number_below_2_to_the_53_ends_the_epoch() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let redis = &cluster.redis;
    for (number, wrong) in ["9223372036854775806", "9007199254740990", "-5", "garbage", "1.5e3"].iter().enumerate() {
        let before = epoch(redis).await;
        redis.command(&["SET", "online:revision", wrong]).await;
        assert_told(&cluster, &watch, &format!("bob-{number}")).await;
        assert_ne!(epoch(redis).await, before, "{wrong}");
        let revision: u64 = redis.query(&["GET", "online:revision"]).await;
        assert!(revision < 1 << 53, "{wrong} became {revision}");
        wait_until_all_list(&cluster, &["watch"]).await;
    }
    watch.assert_sound();
}

#[tokio::test]
async fn a_revision_that_runs_out_begins_again_below() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    // The last that the scripts take: the next transition is beyond.
    cluster.redis.command(&["SET", "online:revision", "9007199249999999"]).await;
    for number in 0..3 {
        assert_told(&cluster, &watch, &format!("bob-{number}")).await;
    }
    let revision: u64 = cluster.redis.query(&["GET", "online:revision"]).await;
    assert!(revision < 1 << 52, "there is room again: {revision}");
    wait_until_all_list(&cluster, &["watch"]).await;
    watch.assert_sound();
}

#[tokio::test]
async fn a_key_of_another_type_ends_the_epoch() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let ada = cluster[0].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    let redis = &cluster.redis;
    let ours = ["epoch", "revision", "log", "nodes", "sweep:after", "users:set"].map(|name| format!("online:{name}"));
    for (number, key) in ours.iter().enumerate() {
        let before = epoch(redis).await;
        retype(redis, key).await;
        assert_told(&cluster, &watch, &format!("bob-{number}")).await;
        eventually(async || type_of(redis, key).await != "list", key).await;
        // An event may have come before the beat, and has begun the log anew by itself.
        eventually(async || epoch(redis).await != before || key.ends_with("log"), key).await;
        wait_until_all_list(&cluster, &["ada", "watch"]).await;
        eventually_eq(async || redis.smembers("online:users:set").await, ["ada", "watch"], key).await;
    }
    assert!(!watch.events("user_offline").iter().any(|event| event.is("user_offline", "ada")), "she was always here");
    watch.assert_sound();
    drop(ada);
}

#[tokio::test]
async fn wrong_fields_of_the_epoch_end_it() {
    let cluster = Cluster::start(1).await;
    let watch = Listener::join(cluster[0].addr(), "watch").await;
    for (number, field) in ["epoch", "holdUntil", "run_id"].iter().enumerate() {
        eval(&cluster.redis, &format!(r"return redis.call('HSET', KEYS[1], '{field}', '\255')"), "online:epoch").await;
        assert_told(&cluster, &watch, &format!("bob-{number}")).await;
        wait_until_all_list(&cluster, &["watch"]).await;
    }
    watch.assert_sound();
}

#[tokio::test]
async fn keys_with_an_id_of_another_type_are_cleared_and_written_anew() {
    let cluster = audited(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let mut ada = cluster[0].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    let redis = &cluster.redis;
    let node = cluster[0].node_id();
    let names = ["user:socket:ada".to_owned(), "presence:ada".to_owned(), format!("socket:user:{node}.1")];
    let names = names.into_iter().chain([format!("node:sockets:{node}"), format!("node:generation:{node}")]);
    for (number, key) in names.map(|name| format!("online:{name}")).enumerate() {
        let right = type_of(redis, &key).await;
        retype(redis, &key).await;
        if !key.contains("socket:user") {
            // Nothing reads it, and the next join or departure writes over it.
            eventually_eq_within(2 * DEADLINE, async || type_of(redis, &key).await, &*right, &key).await;
        }
        assert_told(&cluster, &watch, &format!("bob-{number}")).await;
        wait_until_all_list(&cluster, &["ada", "watch"]).await;
    }
    assert!(!watch.events("user_offline").iter().any(|event| event.is("user_offline", "ada")), "she was always here");
    // Also when her keys are spoilt at the very end.
    for key in ["online:user:socket:ada", "online:presence:ada", "online:last-seen:ada"] {
        retype(redis, key).await;
    }
    ada.send_json(json!({"type": "leave"})).await;
    watch.wait_for("user_offline", "ada").await;
    watch.assert_sound();
}

#[tokio::test]
async fn what_a_hand_has_written_for_the_auditors_stops_no_audit() {
    let cluster = audited(1).await;
    let redis = &cluster.redis;
    let suspects = "online:audit:suspects";
    let foreign = r"redis.call('DEL', KEYS[1]) return redis.call('ZADD', KEYS[1], '1', '\255\254', '1e18', 'ghost')";
    for spoilt in ["online:audit", suspects, "online:rooms:set", "members"] {
        match spoilt {
            "members" => drop(eval(redis, foreign, suspects).await),
            key => retype(redis, key).await,
        }
        redis.command(&["SADD", "online:users:set", "ghost"]).await;
        let users = async || redis.smembers("online:users:set").await;
        eventually_eq_within(2 * DEADLINE, users, NOBODY, &format!("the ghost is mended in spite of {spoilt}")).await;
        eventually_eq(async || redis.query::<u64>(&["EXISTS", suspects]).await, 0, "nobody is suspected").await;
    }
}

#[tokio::test]
async fn a_registry_with_foreign_fields_is_cleaned_over_the_same_connection() {
    let cluster = Cluster::start(1).await;
    let _ada = cluster[0].join("ada").await;
    let registry = format!("online:node:sockets:{}", cluster[0].node_id());
    let spoil = r"return redis.call('HSET', KEYS[1], '\255', 'a', 'no socket', 'b', 'aaaaaaaaaaaa.1', '')";
    eval(&cluster.redis, spoil, &registry).await;
    let n_fields = async || cluster.redis.query::<u64>(&["HLEN", &registry]).await;
    eventually_eq(n_fields, 1, "only ada's socket is left").await;
    assert_eq!(cluster[0].counter("rollcall_store_errors_total").await, 0);
    assert_eq!(bad_records(&cluster).await, 3);
}

#[tokio::test]
async fn a_dead_node_whose_registry_is_of_another_type_is_swept_and_its_users_go() {
    let mut cluster = Cluster::processes_with(2, &[("ROLLCALL__PRESENCE__AUDIT_MS", "500")]).await;
    let watch = Listener::join(cluster[0].addr(), "watch").await;
    let _bob = cluster[1].join("bob").await;
    watch.wait_for("user_online", "bob").await;
    let mut dead = cluster.remove(1);
    dead.kill9();
    retype(&cluster.redis, &format!("online:node:sockets:{}", dead.node_id())).await;
    cluster.redis.command(&["SET", "online:sweep:after", "soon"]).await;
    let told = async || watch.events("user_offline").iter().any(|event| event.is("user_offline", "bob"));
    eventually_eq_within(3 * DEADLINE, told, true, "bob's node is swept, and bob is found").await;
    eventually_eq(async || cluster.redis.keys(&format!("*{}*", dead.node_id())).await, NOBODY, "no trace is left")
        .await;
}

#[tokio::test]
async fn a_suspension_of_sweeps_lasts_no_longer_than_a_lease() {
    let mut cluster = Cluster::processes(2).await;
    let watch = Listener::join(cluster[0].addr(), "watch").await;
    let _bob = cluster[1].join("bob").await;
    watch.wait_for("user_online", "bob").await;
    cluster.redis.command(&["SET", "online:sweep:after", "9007199254740990"]).await;
    cluster.remove(1).kill9();
    let told = async || watch.events("user_offline").iter().any(|event| event.is("user_offline", "bob"));
    eventually_eq_within(3 * DEADLINE, told, true, "bob's node is swept").await;
}

#[tokio::test]
async fn what_a_forged_event_says_is_put_right() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let ada = cluster[0].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    let redis = &cluster.redis;
    let revision: u64 = redis.query(&["GET", "online:revision"]).await;
    let epoch: u64 = epoch(redis).await.expect("an epoch").parse().expect("a number");
    let forged = json!({
        "epoch": epoch, "revision": revision + 1, "type": "offline", "userId": "ada", "reason": "left", "at": 1,
    });
    redis.command(&["PUBLISH", "online:events", "no json"]).await;
    redis.command(&["PUBLISH", "online:events", &forged.to_string()]).await;
    watch.wait_for("user_offline", "ada").await;
    watch.wait_for("user_online", "ada").await;
    wait_until_all_list(&cluster, &["ada", "watch"]).await;
    assert!(bad_records(&cluster).await >= 2, "each node counts the one that is no JSON");
    watch.assert_sound();
    drop(ada);
}

#[tokio::test]
async fn what_a_hand_writes_about_a_living_node_keeps_it_busy_for_a_moment_only() {
    let cluster = Cluster::start(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let node = cluster[0].node_id().to_owned();
    let mut later = Vec::new();
    for (number, (key, value)) in [
        (format!("online:node:generation:{node}"), "1000000"),
        (format!("online:node:generation:{node}"), "nan"),
        (format!("online:node:generation:{node}"), "drained"),
        ("online:epoch".to_owned(), "0001"),
    ]
    .into_iter()
    .enumerate()
    {
        match key.as_str() {
            "online:epoch" => drop(cluster.redis.command(&["HSET", &key, "epoch", value]).await),
            _ => drop(cluster.redis.command(&["SET", &key, value]).await),
        }
        let before: u64 = commands(&cluster.redis).await;
        let user = format!("later-{number}");
        later.push(cluster[0].join(&user).await);
        let heard = async || watch.online().contains(&user);
        eventually_within(3 * DEADLINE, heard, &format!("{user} is heard of after {key} = {value}")).await;
        let n_commands = commands(&cluster.redis).await - before;
        assert!(n_commands < 20_000, "{key} = {value}: {n_commands} commands");
    }
    watch.assert_sound();
}

async fn commands(redis: &RedisServer) -> u64 {
    let info = redis.info("stats").await;
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.expect("a number").trim().parse().expect("a number")
}

#[tokio::test]
async fn a_presence_of_another_shape_costs_nobody_but_its_user() {
    let cluster = Cluster::start(2).await;
    let mut ada = cluster[0].join("ada").await;
    for (number, ours) in [
        r#""chosen":{"status":"busy"}"#,
        r#""chosen":null"#,
        r#""chosen":{"status":"busy","at":"1"}"#,
        r#""chosen":{"status":"asleep","at":1}"#,
        r#""devices":null"#,
        r#""devices":{"web":{}}"#,
        r#""devices":{"web":null}"#,
        r#""statusText":7"#,
        r#""shownAt":1.5"#,
    ]
    .iter()
    .enumerate()
    {
        let stored = format!(r#"{{"id":"ada","status":"busy",{ours},"profileBytes":0,"activeAt":1,"updatedAt":0}}"#);
        cluster.redis.command(&["SET", "online:presence:ada", &stored]).await;
        ada.send_json(json!({"type": "set_status", "status": "dnd", "text": format!("{number}"), "ref": number})).await;
        let answer = ada.wait_for(|frame| frame["ref"] == number).await;
        assert!(answer.get("degraded").is_none(), "{ours}: {answer}");
        let text = async || cluster[1].get("/api/user-status/ada").await.1["data"]["statusText"].clone();
        eventually_eq(text, json!(format!("{number}")), ours).await;
        assert_eq!(cluster[0].get("/readyz").await.1["degraded"], false, "{ours}");
    }
}

#[tokio::test]
async fn after_somebody_deleted_a_presence_all_nodes_show_what_the_sockets_say() {
    let mut cluster = Cluster::start(2).await;
    let mut tab = cluster[0].ws("/ws").await;
    tab.send_json(json!({"type": "join_user", "userId": "ada", "device": {"kind": "web"}})).await;
    tab.expect_type("welcome").await;
    tab.send_json(json!({"type": "user_activity", "idle": true})).await;
    let status = async |node: &Endpoint| {
        let (_, answer) = node.get("/api/user-status/ada").await;
        (answer["data"]["status"].clone(), answer["data"]["devices"].clone())
    };
    eventually_eq(async || status(&cluster[1]).await.0, json!("away"), "the tab is idle").await;
    cluster.redis.command(&["DEL", "online:presence:ada"]).await;
    let _active = cluster[1].join("ada").await;
    let fresh = cluster.add().await;
    for node in [0, 1, fresh] {
        let expected = (json!("online"), json!({"web": 1}));
        eventually_eq(async || status(&cluster[node]).await, expected, "every node says the same").await;
    }
}
