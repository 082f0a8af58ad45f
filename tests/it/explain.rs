//! Why is, or is not, this user online? `GET /api/users/{userId}/explain`, `rollcall explain`, and the signals behind them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::*;

/// What a node explains of a user.
async fn explain(node: &Endpoint, user: &str) -> Value {
    let (status, body) = node.get(&format!("/api/users/{user}/explain")).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    body["data"].clone()
}

fn summary(data: &Value) -> &str {
    data["summary"].as_str().expect("a summary")
}

/// The member of this name of each element, in order.
fn each<'a>(elements: &'a Value, name: &str) -> Vec<&'a Value> {
    elements.as_array().expect("an array").iter().map(|element| &element[name]).collect()
}

/// The element whose member `nodeId` is this node.
fn of_node<'a>(elements: &'a Value, node: &Endpoint) -> &'a Value {
    let mut elements = elements.as_array().expect("an array").iter();
    elements.find(|element| element["nodeId"] == node.node_id()).expect("an element of this node")
}

/// A cluster whose sockets stay in grace for as long as a test needs.
async fn cluster_with_long_grace(count: usize) -> Cluster {
    Cluster::start_with(count, |settings| {
        settings.presence.lease = Duration::from_secs(60);
        settings.presence.grace = Duration::from_secs(30);
    })
    .await
}

#[tokio::test]
async fn two_tabs_on_two_nodes_are_explained_by_a_third() {
    let cluster = Cluster::start(3).await;
    let mut tab = cluster[0].ws("/ws").await;
    let device = json!({"kind": "web", "name": "\"grace\":1"});
    tab.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada", "device": device})).await;
    let welcome = tab.expect_type("welcome").await;
    let _second = cluster[1].join("ada").await;
    let about = async || explain(&cluster[2], "ada").await;
    eventually(async || about().await["here"]["shows"] == "visible", "the third node has heard of both").await;
    let data = about().await;

    assert_eq!(
        (&data["userId"], &data["presence"], &data["status"]),
        (&json!("ada"), &json!("online"), &json!("online"))
    );
    assert_eq!((&data["hidden"], &data["user"]["name"]), (&json!(false), &json!("Ada")));
    assert_eq!(summary(&data), "Online: 2 sockets on 2 nodes.");
    assert_eq!(data["devices"], json!({"web": 1}));
    assert_eq!(each(&data["sockets"], "state"), ["active", "active"]);
    assert_eq!(each(&data["sockets"], "account"), ["wanted, confirmed", "wanted, confirmed"]);
    assert_eq!(each(&data["sockets"], "format"), ["native", "native"]);
    let first = of_node(&data["sockets"], &cluster[0]);
    assert_eq!((&first["socketId"], &first["device"]), (&welcome["socketId"], &device));
    assert!(first["heardMsAgo"].is_u64() && first["ageMs"].is_u64() && first["since"].is_string(), "{first}");
    assert_eq!(of_node(&data["sockets"], &cluster[1]).get("device"), None);

    assert_eq!(each(&data["nodes"], "answered"), [true, true, true]);
    assert_eq!(each(&data["nodes"], "leaseExpired"), [false, false, false]);
    for (node, n_sockets) in cluster.nodes.iter().zip([1, 1, 0]) {
        let account = of_node(&data["nodes"], node);
        assert_eq!(account["sockets"], n_sockets, "{account}");
        assert!(account["leaseEndsInMs"].as_u64().is_some_and(|ms| ms <= 3000), "{account}");
    }
    assert_eq!(each(&data["transitions"], "type"), ["online"], "a second tab is no transition");
    let here = &data["here"];
    assert_eq!((&here["nodeId"], &here["revision"]), (&json!(cluster[2].node_id()), &data["store"]["revision"]));
    assert_eq!((&here["provisional"], &here["holding"], here.get("held")), (&json!(false), &json!(false), None));
    assert_eq!((&data["store"]["answered"], here.get("degraded")), (&json!(true), None));
}

#[tokio::test]
async fn idle_sockets_are_told_one_by_one() {
    let cluster = Cluster::start(2).await;
    let mut near = cluster[0].join("ada").await;
    let mut far = cluster[1].join("ada").await;
    near.send_json(json!({"type": "user_activity", "idle": true})).await;
    let states = async || {
        let data = explain(&cluster[1], "ada").await;
        let states = cluster.nodes.iter().map(|node| of_node(&data["sockets"], node)["state"].clone());
        (states.collect::<Vec<_>>(), data["status"].clone(), summary(&data).to_owned())
    };
    let one =
        (vec![json!("idle"), json!("active")], json!("online"), "Online: 2 sockets on 2 nodes; 1 is idle.".into());
    eventually_eq(states, one, "one is idle").await;
    far.send_json(json!({"type": "user_activity", "idle": true})).await;
    let all = "Online as away, because nobody is active: 2 sockets on 2 nodes; all are idle.";
    eventually_eq(async || states().await.2, all, "both are idle").await;
}

#[tokio::test]
async fn a_user_in_grace_is_told_with_what_is_left_of_it() {
    let cluster = cluster_with_long_grace(2).await;
    cluster[0].join("ada").await.abort();
    let data = async || explain(&cluster[1], "ada").await;
    let in_grace = async || each(&data().await["sockets"], "state") == ["grace"];
    eventually(in_grace, "the socket is in grace").await;
    let data = data().await;
    assert_eq!(data["presence"], "online");
    let told =
        "Online: 1 socket on 1 node; it is in grace. If nobody comes back within the grace, the user goes offline.";
    assert_eq!(summary(&data), told);
    let socket = &data["sockets"][0];
    assert!(socket["graceLeftMs"].as_u64().is_some_and(|left| (1..30_000).contains(&left)), "{socket}");
    assert_eq!(socket["account"], "in grace, confirmed as in grace");
    assert_eq!((socket.get("format"), socket.get("heardMsAgo")), (None, None), "nobody is connected");
}

#[tokio::test]
async fn a_killed_node_does_not_answer_until_its_sockets_are_swept() {
    let mut cluster = Cluster::processes_with(2, &[("ROLLCALL__PRESENCE__LEASE_MS", "6000")]).await;
    let _ada = cluster[0].join("ada").await;
    cluster[0].kill9();
    let data = explain(&cluster[1], "ada").await;
    let dead = of_node(&data["nodes"], &cluster[0]);
    assert_eq!((&dead["answered"], &dead["sockets"]), (&json!(false), &json!(1)), "{data}");
    assert!(dead["leaseEndsInMs"].is_u64() || dead["leaseExpired"] == true, "{dead}");
    assert_eq!(data["presence"], "online");
    assert!(summary(&data).contains(&format!("Node {} does not answer", cluster[0].node_id())), "{}", summary(&data));
    assert_eq!(data["sockets"][0].get("account"), None);
    assert_eq!(cluster[1].counter("rollcall_questions_unanswered_total").await, 1);

    let gone = async || explain(&cluster[1], "ada").await["presence"] == "offline";
    eventually_within(3 * DEADLINE, gone, "the node is swept").await;
    let data = explain(&cluster[1], "ada").await;
    assert!(summary(&data).ends_with(": the node was lost."), "{}", summary(&data));
    assert_eq!(data["transitions"][0]["reason"], "node_lost");
    assert_eq!(data["sockets"], json!([]));
    assert_eq!(each(&data["nodes"], "nodeId"), [cluster[1].node_id()]);
}

#[tokio::test]
async fn an_absent_user_is_told_with_the_last_transition_and_last_seen() {
    let cluster = Cluster::start(1).await;
    let data = explain(&cluster[0], "nobody").await;
    assert_eq!(summary(&data), "Offline. The store remembers nothing of this user.");
    assert_eq!((&data["presence"], data.get("lastSeen"), data.get("user")), (&json!("offline"), None, None));

    cluster[0].join("ada").await.close(1000).await;
    let data = async || explain(&cluster[0], "ada").await;
    eventually(async || data().await["presence"] == "offline", "ada is gone").await;
    let data = data().await;
    let last = &data["transitions"][0];
    assert_eq!((&last["type"], &last["reason"], &last["at"]), (&json!("offline"), &json!("left"), &data["lastSeen"]));
    let at = last["at"].as_str().expect("a time");
    assert_eq!(summary(&data), format!("Offline since {at}: the client said goodbye, or the server disconnected it."));

    // The log is shorter than the memory of the last time.
    cluster.redis.command(&["DEL", "online:log"]).await;
    let data = explain(&cluster[0], "ada").await;
    assert_eq!(summary(&data), format!("Offline. Last seen {at}."));
}

#[tokio::test]
async fn a_hidden_user_is_told_to_the_server() {
    let cluster = Cluster::start(2).await;
    let mut ada = cluster[0].join("ada").await;
    ada.send_json(json!({"type": "set_status", "status": "invisible", "text": "at the \"dentist\""})).await;
    let hidden = async || explain(&cluster[1], "ada").await["here"]["shows"] == "hidden";
    eventually(hidden, "the other node has heard of it").await;
    let data = explain(&cluster[1], "ada").await;
    assert_eq!(
        (&data["presence"], &data["hidden"], &data["status"]),
        (&json!("hidden"), &json!(true), &json!("invisible"))
    );
    let chosen = &data["chosen"];
    assert_eq!((&chosen["status"], &chosen["statusText"]), (&json!("invisible"), &json!("at the \"dentist\"")));
    assert_eq!(summary(&data), "Hidden from others, because the user chose to be invisible: 1 socket on 1 node.");
    assert_eq!(each(&data["transitions"], "status"), ["invisible", "online"]);
    assert!(data["lastSeen"].is_string(), "others saw ada last when ada hid");
}

#[tokio::test]
async fn without_redis_the_node_tells_what_it_knows_and_never_that_somebody_is_offline() {
    let (_redis, proxy, node) = node_behind_proxy().await;
    let _ada = node.join("ada").await;
    proxy.cut().await;
    eventually(async || node.get("/readyz").await.1["degraded"] == true, "the node notices").await;
    let _bob = node.join("bob").await;
    for (user, n_sockets, provisional) in [("ada", 1, false), ("bob", 1, true), ("carol", 0, false)] {
        let (status, body) = node.get(&format!("/api/users/{user}/explain")).await;
        assert_eq!((status, &body["success"], &body["degraded"]), (200, &json!(true), &json!(true)), "{body}");
        assert!(body["asOf"].is_string());
        let data = &body["data"];
        assert_eq!((&data["presence"], &data["store"]), (&json!("unknown"), &json!({"answered": false})));
        assert!(!body.to_string().to_lowercase().contains("offline"), "{body}");
        assert_eq!(data["sockets"].as_array().map(Vec::len), Some(n_sockets), "{data}");
        assert_eq!(data["here"]["provisional"], provisional, "{user}");
        let shows = if n_sockets > 0 { "visible" } else { "absent" };
        assert_eq!(data["here"]["shows"], shows);
    }
    proxy.restore().await;
    let known = async || explain(&node, "bob").await["presence"] == "online";
    eventually(known, "the store answers again").await;
}

#[tokio::test]
async fn the_embedded_store_is_explained_as_well() {
    let node = Node::start_with(|settings| settings.server.workers = 2).await;
    let _tab = node.join("ada").await;
    let _plain = node.ws("/?userId=ada").await;
    let explained = async || {
        let data = explain(&node, "ada").await;
        let mut formats: Vec<_> = each(&data["sockets"], "format").into_iter().cloned().collect();
        formats.sort_by_key(Value::to_string);
        (summary(&data).to_owned(), formats)
    };
    let both = ("Online: 2 sockets on 1 node.".to_owned(), vec![json!("native"), json!("plain")]);
    eventually_eq(explained, both, "both tabs, on whichever worker").await;
    let data = explain(&node, "ada").await;
    let node_id = node.node_id();
    let version = env!("CARGO_PKG_VERSION");
    let expected = json!([{"nodeId": node_id, "sockets": 2, "answered": true, "version": version}]);
    assert_eq!(data["nodes"], expected, "there is no lease");
}

#[tokio::test]
async fn a_user_id_in_a_path_is_read_strictly() {
    let node = Node::start_with(|_| ()).await;
    let _team = node.join("team/zoë+1").await;
    let data = explain(&node, "team%2Fzo%C3%AB+1").await;
    assert_eq!((&data["userId"], &data["presence"]), (&json!("team/zoë+1"), &json!("online")));
    for resource in ["explain", "sockets"] {
        let method = if resource == "explain" { Method::GET } else { Method::DELETE };
        for bad in ["%00", "a%0Ab", "%FF", "%C3", "%zz", "a%", &"x".repeat(129)] {
            let path = format!("/api/users/{bad}/{resource}");
            let answer = node.request(method.clone(), &path, &[], "").await;
            let body: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!((answer.status, &body["code"]), (400, &json!("invalid_parameter")), "{path}: {body}");
            assert!(body["message"].as_str().is_some_and(|message| message.starts_with("`userId` must")), "{body}");
        }
        let answer = node.request(method.clone(), &format!("/api/users//{resource}"), &[], "").await;
        assert_eq!(answer.status, 404, "no id is no resource");
    }
}

#[tokio::test]
async fn web_pages_and_other_methods_are_refused() {
    let node = Node::start_with(|_| ()).await;
    for (resource, method, allowed) in [("explain", Method::GET, "GET, HEAD"), ("sockets", Method::DELETE, "DELETE")] {
        let path = format!("/api/users/ada/{resource}");
        let answer = node.request(method.clone(), &path, &[("origin", "http://127.0.0.1:3000")], "").await;
        assert!(answer.status == 403 && answer.body.contains(r#""code":"loopback_only""#), "{answer:?}");
        // A proxy on this machine passes it on for somebody else.
        for claim in [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")] {
            let answer = node.request(method.clone(), &path, &[claim], "").await;
            assert!(answer.status == 403 && answer.body.contains(r#""code":"loopback_only""#), "{answer:?}");
        }
        for other in [Method::GET, Method::DELETE, Method::POST, Method::PUT, Method::PATCH] {
            if other != method {
                let answer = node.request(other, &path, &[], "").await;
                assert_eq!((answer.status, answer.headers["allow"].to_str().ok()), (405, Some(allowed)));
                assert!(answer.body.contains(r#""code":"method_not_allowed""#), "{answer:?}");
            }
        }
    }
    assert_eq!(node.request(Method::HEAD, "/api/users/ada/explain", &[], "").await.status, 200);
    assert_eq!(node.request(Method::HEAD, "/api/users/ada/sockets", &[], "").await.status, 405);
}

/// Runs `rollcall` with these arguments until it ends.
async fn rollcall(arguments: &[&str]) -> (bool, String, String) {
    let ended = NodeProcess::try_spawn(arguments, &[]).await.err().expect("a command that ends");
    (ended.status.success(), ended.stdout, ended.stderr)
}

#[tokio::test]
async fn the_command_prints_it_for_a_person() {
    let cluster = cluster_with_long_grace(2).await;
    let mut ada = cluster[0].ws("/ws").await;
    let device = json!({"kind": "web", "name": "\u{1b}[2J"});
    ada.send_json(json!({"type": "join_user", "userId": "team/ada", "name": "Ada\u{1b}]0;x\u{7}", "device": device}))
        .await;
    ada.expect_type("welcome").await;
    ada.send_json(json!({"type": "set_status", "status": "busy", "text": "in a \"call\""})).await;
    ada.wait_for(|frame| frame["type"] == "own_status").await;
    cluster[1].join("team/ada").await.abort();
    let url = format!("http://{}", cluster[0].addr());
    let explained = async || {
        let (is_good, stdout, stderr) = rollcall(&["explain", "team/ada", "--url", &url]).await;
        assert!(is_good, "{stderr}");
        stdout
    };
    eventually(async || explained().await.contains("in grace for "), "the second tab is in grace").await;
    let printed = explained().await;
    let first = "Online as busy, because the user chose so: 2 sockets on 2 nodes; 1 is in grace.\n";
    assert!(printed.starts_with(first), "{printed}");
    for words in [
        "team/ada",
        r#"busy, "in a \"call\"", said "#,
        r"Ada\u{1b}]0;x\u{7}",
        "wanted, confirmed ",
        r#"{"kind":"web","name":"\u001b[2J"}"#,
        &format!("{} (asked)", cluster[0].node_id()),
        "ends in ",
        &format!("{} shows the user as online", cluster[0].node_id()),
    ] {
        assert!(printed.contains(words), "no {words:?} in\n{printed}");
    }
    assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "nothing that a terminal obeys: {printed:?}");

    let (is_good, stdout, _) = rollcall(&["explain", "team/ada", "--json", "--url", &url]).await;
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(is_good && answer["data"]["userId"] == "team/ada", "{answer}");
}

#[tokio::test]
async fn the_command_says_why_it_cannot_tell() {
    let node = Node::start_with(|_| ()).await;
    let url = format!("http://{}", node.addr());
    let said = async |arguments: &[&str]| {
        let (is_good, stdout, stderr) = rollcall(arguments).await;
        assert!(!is_good && stdout.is_empty(), "{stdout}");
        stderr
    };
    let stderr = said(&["explain", "a\nb", "--url", &url]).await;
    assert!(stderr.contains("answered 400: `userId` must not contain control characters"), "{stderr}");
    let stderr = said(&["explain", "ada", "--url", "ftp://example.com"]).await;
    assert!(stderr.contains("does not begin with http://"), "{stderr}");
    let stderr = said(&["explain", "ada", "--url", "https://example.com"]).await;
    assert!(stderr.contains("needs the certificate of the node"), "{stderr}");
    let redis = RedisServer::start().await;
    let stderr = said(&["explain", "ada", "--url", &format!("http://127.0.0.1:{}", redis.port())]).await;
    assert!(stderr.contains("does not speak HTTP"), "{stderr}");
    let port = redis.port();
    drop(redis);
    let stderr = said(&["explain", "ada", "--url", &format!("http://127.0.0.1:{port}")]).await;
    assert!(stderr.contains("cannot connect to"), "{stderr}");
}

#[tokio::test]
async fn signals_that_no_node_sends_change_nothing() {
    let cluster = Cluster::start(2).await;
    let _ada = cluster[0].join("ada").await;
    let inbox = format!("online:node:{}:inbox", cluster[1].node_id());
    let publish = async |channel: &str, message: &str| cluster.redis.command(&["PUBLISH", channel, message]).await;
    let n_bad = cluster[1].counter("rollcall_bad_records_total").await;
    let device = r#""device":"{\"kind\":\"web\"}""#;
    let account = |state: &str| format!(r#"{{"number":1,"state":"{state}","isIdle":false,{device},"format":"x"}}"#);
    let answer = |from: &str, number: u64, sockets: &str| {
        format!(r#"{{"type":"answer","from":"{from}","number":{number},"sockets":[{sockets}]}}"#)
    };
    for bad in [
        "",
        "{}",
        r#"{"type":"dance"}"#,
        r#"{"type":"question","from":"x","number":1,"user":"ada","inquiry":"disconnect"}"#,
        r#"{"type":"question","from":"000000000000","number":1,"user":"a\nb","inquiry":"disconnect"}"#,
        r#"{"type":"question","from":"000000000000","number":-1,"user":"ada","inquiry":"disconnect"}"#,
        r#"{"type":"question","from":"000000000000","number":1,"user":"ada","inquiry":"sing"}"#,
        &answer("000000000000", 1, r#"{"number":1,"state":5}"#),
        &format!(r#"{{"type":"echo","number":1,"x":"{}"}}"#, "x".repeat(300_000)),
    ] {
        publish(&inbox, bad).await;
    }
    let counted = async || cluster[1].counter("rollcall_bad_records_total").await - n_bad;
    eventually_eq(counted, 9, "each is counted and left out").await;

    // These are well formed, and nobody asked for them.
    for number in 0..100 {
        publish(&inbox, &answer(cluster[0].node_id(), number, &account("wanted"))).await;
        publish(&inbox, &answer("000000000000", number, &account(&"x".repeat(1000)))).await;
    }
    publish(&inbox, r#"{"type":"echo","number":18446744073709551615}"#).await;
    let future = r#"{"type":"active","users":[["ada",18446744073709551615],["nobody",5]]}"#;
    publish("online:signals", future).await;
    let data = explain(&cluster[1], "ada").await;
    assert_eq!(summary(&data), "Online: 1 socket on 1 node.");
    assert_eq!(each(&data["sockets"], "account"), ["wanted, confirmed"], "only what the node says");
    assert_eq!(each(&data["nodes"], "answered"), [true, true]);
    let mut bob = cluster[1].join("bob").await;
    bob.send_json(json!({"type": "check_user_online", "userId": "ada", "ref": 1})).await;
    let status = bob.wait_for(|frame| frame["ref"] == 1).await;
    let active = status["lastActive"].as_str().expect("a time");
    assert!(active.starts_with('2'), "an activity of the year 9999 is cut: {status}");
}

#[tokio::test]
async fn a_node_hears_when_users_of_other_nodes_were_active() {
    let cluster = Cluster::start_with(2, |settings| settings.presence.active_every = Duration::from_millis(100)).await;
    let mut ada = cluster[0].join("ada").await;
    let mut watch = cluster[1].join("watch").await;
    let mut last_active = async || {
        watch.send_json(json!({"type": "check_user_online", "userId": "ada", "ref": "a"})).await;
        let status = watch.wait_for(|frame| frame["ref"] == "a").await;
        status["lastActive"].as_str().map(str::to_owned)
    };
    let joined = last_active().await;
    let moved = async || {
        ada.send_json(json!({"type": "user_activity"})).await;
        last_active().await > joined
    };
    eventually(moved, "the time of the last activity moves on the other node").await;
}

#[tokio::test]
async fn a_node_that_does_not_hear_its_peers_notices_it() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let deaf = Node::spawn(test_settings_with_redis(&proxy.url())).await;
    let asking = Node::spawn(test_settings_with_redis(&redis.url())).await;
    deaf.wait_ready().await;
    asking.wait_ready().await;
    let _ada = deaf.join("ada").await;
    let answered = async || of_node(&explain(&asking, "ada").await["nodes"], &deaf)["answered"] == true;
    eventually(answered, "the node answers").await;
    // The connections of now stay open and silent. So nothing but its own echo tells the node that it hears nothing.
    proxy.strand();
    assert!(!answered().await);
    eventually_within(3 * DEADLINE, answered, "the node has subscribed anew").await;
}
