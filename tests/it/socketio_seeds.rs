//! The official client of Socket.IO, unmodified, with the lines of the seeds' own pages (contract, S0 to S3): over a WebSocket
//! alone, by polling alone, and by default, which goes over from one to the other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::auth::secret_node;
use crate::support::*;

#[tokio::test]
async fn pages_of_s2_show_who_is_online() {
    for way in WAYS {
        let (cluster, js) = (Cluster::start(2).await, Js::start());
        let mut ann = js.page(&cluster[0], way, "s2", json!(42)).await;
        ann.until_shown(json!({"online": ["42"]})).await;
        let mut bob = js.page(&cluster[1], way, "s2", json!({"userId": "bob", "name": "Bob"})).await;
        for page in [&mut ann, &mut bob] {
            page.until_shown(json!({"online": ["42", "bob"]})).await;
        }
        ann.until_settled(way).await;
        // A list comes to all when somebody has come, too.
        ann.hear_until("online_users_list", |list| list["total"] == 2).await;
        ann.emit(json!(["get_online_users"]));
        assert_eq!(ann.hear("online_users_list").await["users"][1]["name"], "Bob");
        for (asked, is_online) in [("bob", true), ("nobody", false)] {
            ann.emit(json!(["check_user_online", asked]));
            let status = ann.hear("user_online_status").await;
            assert_eq!((&status["userId"], &status["isOnline"]), (&json!(asked), &json!(is_online)), "{way}: {status}");
        }
        ann.emit(json!(["user_online", 42]));
        ann.emit(json!(["user_activity", {"userId": 42}]));
        assert_eq!(ann.ask(json!(["user_activity"])).await, json!({"success": true}), "{way}");
        bob.disconnect();
        bob.wait_for("disconnect").await;
        ann.until_shown(json!({"online": ["42"]})).await;
        for name in ["user_online", "user_offline"] {
            let whom: Vec<_> = ann.heard(name).iter().map(|event| event["userId"].clone()).collect();
            assert_eq!(whom, ["bob"], "{way}: {name} is not about oneself");
        }
        assert_eq!(bob.connections(), ["connect", "disconnect"], "{way}");
        bob.come_back();
        ann.until_shown(json!({"online": ["42", "bob"]})).await;
    }
}

#[tokio::test]
async fn pages_of_s1_show_the_status_of_each_user_and_who_types() {
    for way in WAYS {
        let (cluster, js) = (Cluster::start(2).await, Js::start());
        let mut ann = js.page(&cluster[0], way, "s1", json!("ann")).await;
        ann.until_shown(json!({"authenticated": "ann", "online": ["ann"], "typing": []})).await;
        let success = &ann.heard("authentication-success")[0];
        assert_eq!(success["onlineCount"], 1, "{way}: {success}");
        let mut bob = js.page(&cluster[1], way, "s1", json!(7)).await;
        bob.until_shown(json!({"authenticated": "7", "online": ["7", "ann"], "typing": []})).await;
        ann.until_shown(json!({"authenticated": "ann", "online": ["7", "ann"], "typing": []})).await;
        ann.until_settled(way).await;
        assert_eq!(ann.ask(json!(["ping"])).await, "pong", "{way}");

        // The room of the other node is known there a moment later. One signal a second is told.
        let typing = json!({"chatSessionId": "chat", "userId": 7});
        while ann.heard("user-typing").is_empty() {
            bob.ask(json!(["typing-start", typing])).await;
            ann.ask(json!(["ping"])).await;
        }
        ann.until_shown(json!({"authenticated": "ann", "online": ["7", "ann"], "typing": ["7"]})).await;
        bob.emit(json!(["typing-stop", typing]));
        ann.until_shown(json!({"authenticated": "ann", "online": ["7", "ann"], "typing": []})).await;
        assert_eq!(
            bob.ask(json!(["leave-chat-session", "chat"])).await,
            json!({"success": true, "chatSessionId": "chat"})
        );

        bob.disconnect();
        ann.until_shown(json!({"authenticated": "ann", "online": ["ann"], "typing": []})).await;
        let change = ann.heard("user-status-change").pop().expect("it was heard");
        assert_eq!((&change["userId"], &change["status"]), (&json!("7"), &json!("offline")), "{way}: {change}");
        for time in ["lastSeen", "timestamp"] {
            assert!(change[time].as_str().is_some_and(|time| time.ends_with('Z')), "{way}: {change}");
        }
    }
}

#[tokio::test]
async fn pages_of_s0_show_who_is_in_their_room() {
    for way in WAYS {
        let (cluster, js) = (Cluster::start(2).await, Js::start());
        let mut ann = js.page(&cluster[0], way, "s0", json!("ann")).await;
        ann.until_shown(json!({"count": 1, "names": ["ann"]})).await;
        let mut bob = js.page(&cluster[1], way, "s0", json!(7)).await;
        for page in [&mut ann, &mut bob] {
            page.until_shown(json!({"count": 2, "names": ["7", "ann"]})).await;
        }
        ann.until_settled(way).await;
        let update = ann.heard("online-count-updated").pop().expect("it was heard");
        assert!(update["onlineUsers"][0]["lastSeen"].is_string(), "{way}: {update}");
        bob.emit(json!(["leave-room", {"roomId": "room", "userId": 7}]));
        ann.until_shown(json!({"count": 1, "names": ["ann"]})).await;
        bob.emit(json!(["join-room", {"roomId": "room", "userId": 7}]));
        ann.until_shown(json!({"count": 2, "names": ["7", "ann"]})).await;
        bob.disconnect();
        ann.until_shown(json!({"count": 1, "names": ["ann"]})).await;
    }
}

#[tokio::test]
async fn callbacks_are_called_with_the_answer_or_with_what_is_wrong() {
    let (node, js) = (Node::start_with(|_| ()).await, Js::start());
    for way in WAYS {
        let mut ann = js.connect(&node, way).await;
        let refused = ann.ask(json!(["join-room", {"roomId": "", "userId": "ann"}])).await;
        assert_eq!(
            (&refused["success"], &refused["code"]),
            (&json!(false), &json!("invalid_field")),
            "{way}: {refused}"
        );
        assert!(refused["message"].is_string(), "{way}: {refused}");
        for name in ["send_private_message", "new-message"] {
            let refused = ann.ask(json!([name, {"content": "hello"}])).await;
            assert_eq!(refused["code"], "not_available", "{way}: {refused}");
            assert_eq!(ann.heard("error").last().expect("it is an event, too")["code"], "not_available");
        }
        let joined = ann.ask(json!(["join_user", "ann"])).await;
        assert_eq!((&joined["success"], &joined["userId"]), (&json!(true), &json!("ann")), "{way}: {joined}");
        // Everything that native clients can do. The first event has chosen the words for what a room is like.
        assert_eq!(ann.ask(json!(["set_status", "busy"])).await["chosen"], "busy", "{way}");
        assert_eq!(ann.ask(json!(["join_room", "r"])).await["onlineCount"], 1, "{way}");
        assert_eq!(ann.ask(json!(["subscribe", "none"])).await["presence"], "none", "{way}");
        assert_eq!(ann.ask(json!(["watch", ["bob"]])).await["users"][0]["userId"], "bob", "{way}");
        ann.until_settled(way).await;
        ann.disconnect();
        eventually_eq(async || node.online_ids().await, NOBODY, "ann is gone at once").await;
    }
}

/// Events of each client while it goes over to a WebSocket.
const N_EVENTS: u64 = 300;

#[tokio::test]
async fn what_is_said_and_heard_while_going_over_to_a_websocket_comes_once_and_in_order() {
    let (node, js) = (Node::start_with(|settings| settings.limits.request_burst = 1_000_000).await, Js::start());
    for _ in 0..3 {
        let mut native = node.join("native").await;
        let mut ann = js.page(&node, "default", "s2", json!("ann")).await;
        let begin = ann.emit_with_callback(json!(["user_activity"]));
        for version in 0..N_EVENTS {
            native.send_json(json!({"type": "update_presence", "name": format!("{version}")})).await;
            ann.emit_with_callback(json!(["check_user_online", format!("user-{version}")]));
        }
        ann.until_settled("default").await;
        let end = ann.emit_with_callback(json!(["user_activity"]));
        ann.wait_until("ack", |line| line["ack"] == end).await;
        assert_eq!(ann.acks(), (begin..=end).collect::<Vec<_>>());
        let asked: Vec<_> = (0..N_EVENTS).map(|version| json!(format!("user-{version}"))).collect();
        let answered: Vec<_> = ann.heard("user_online_status").iter().map(|status| status["userId"].clone()).collect();
        assert_eq!(answered, asked);
        let last = json!(format!("{}", N_EVENTS - 1));
        if ann.heard("user_changed").last().is_none_or(|event| event["user"]["name"] != last) {
            ann.hear_until("user_changed", |event| event["user"]["name"] == last).await;
        }
        // It may have joined in the middle: its list has the state until then.
        let told = ann.heard("user_changed");
        let told: Vec<u64> = told
            .iter()
            .map(|event| event["user"]["name"].as_str().expect("a name").parse().expect("a number"))
            .collect();
        assert_eq!(told, (N_EVENTS - told.len() as u64..N_EVENTS).collect::<Vec<_>>());
        assert_eq!(ann.heard("resync").len(), 0);
        ann.disconnect();
        native.close(1000).await;
        eventually_eq(async || node.online_ids().await, NOBODY, "both are gone").await;
    }
}

#[tokio::test]
async fn a_token_is_in_the_options_and_a_client_that_is_sent_away_stays_away() {
    let (node, js) = (secret_node().await, Js::start());
    for way in WAYS {
        let mut eve = js.open(&node, way, json!({"auth": {"token": "rubbish"}}));
        let error = eve.wait_for("connect_error").await;
        assert_eq!(error["data"]["code"], "token_invalid", "{way}: {error}");

        let token = token_of("ann", "presence:read presence:write");
        let mut ann = js.open(&node, way, json!({"auth": {"token": token}}));
        ann.wait_for("connect").await;
        assert_eq!(ann.ask(json!(["join_user", "eve"])).await["code"], "other_user", "{way}");
        assert_eq!(ann.ask(json!(["join_user"])).await["userId"], "ann", "{way}");
        ann.until_settled(way).await;

        let admin = format!("Bearer {}", token_of("backend", "admin"));
        let headers = [("authorization", admin.as_str())];
        let answer = node.request(reqwest::Method::DELETE, "/api/users/ann/sockets", &headers, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let disconnect = ann.wait_for("disconnect").await;
        assert_eq!(disconnect["reason"], "io server disconnect", "{way}: {disconnect}");
        ann.come_back();
        ann.wait_for("connect").await;
        assert_eq!(ann.connections(), ["connect", "disconnect", "connect"], "{way}");
    }
}

#[tokio::test]
async fn another_namespace_is_refused() {
    let (node, js) = (Node::start_with(|_| ()).await, Js::start());
    let mut client = js.open_in(&node, "/other");
    assert_eq!(client.wait_for("connect_error").await["message"], "Invalid namespace");
}

/// Three nodes in processes and the balancer before them. They leave a client the time in which the official one comes back: half
/// a second to one and a half, and a further try.
async fn balanced() -> (Cluster<NodeProcess>, Balancer) {
    let environment = [("ROLLCALL__PRESENCE__LEASE_MS", "8000"), ("ROLLCALL__PRESENCE__GRACE_MS", "5000")];
    let cluster = Cluster::processes_with(3, &environment).await;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.addr().port()).collect();
    let balancer = Balancer::start(&ports).await;
    (cluster, balancer)
}

/// Pages of S2 behind the balancer, in all ways by turns.
async fn pages(js: &Js, balancer: &Balancer, n_pages: usize) -> Vec<JsClient> {
    let mut pages = Vec::new();
    for n in 0..n_pages {
        pages.push(js.page(balancer, WAYS[n % WAYS.len()], "s2", json!(format!("user-{n}"))).await);
    }
    pages
}

/// The users of so many pages.
fn all(n_pages: usize) -> BTreeSet<String> {
    (0..n_pages).map(|n| format!("user-{n}")).collect()
}

#[tokio::test]
async fn behind_the_balancer_clients_of_any_way_see_one_another() {
    const N: usize = 18;
    let ((_cluster, balancer), js) = (balanced().await, Js::start());
    let mut pages = pages(&js, &balancer, N).await;
    for (n, page) in pages.iter_mut().enumerate() {
        page.until_shown(json!({"online": all(N)})).await;
        page.until_settled(WAYS[n % WAYS.len()]).await;
    }
    for page in &mut pages {
        assert_eq!(page.ask(json!(["user_activity"])).await, json!({"success": true}));
        assert_eq!(page.connections(), ["connect"]);
    }
}

#[tokio::test]
async fn clients_come_back_by_themselves_when_their_node_is_killed_or_drained() {
    const N: usize = 9;
    let ((mut cluster, balancer), js) = (balanced().await, Js::start());
    let mut native = cluster[2].join("native").await;
    let mut pages = pages(&js, &balancer, N).await;
    let mut shown = all(N);
    shown.insert("native".to_owned());
    for page in &mut pages {
        page.until_shown(json!({"online": shown})).await;
    }
    for (end, leaver) in [("kill", "leaver-1"), ("drain", "leaver-2")] {
        // Somebody of that node who does not come back: when others hear that, they have heard all of its end.
        let leaver_socket = cluster[0].join(leaver).await;
        native.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == leaver).await;
        let mut node = cluster.remove(0);
        if end == "kill" {
            node.kill9();
        } else {
            node.sigterm();
            assert!(node.wait().await.success());
        }
        drop(leaver_socket);
        // This takes a lease and a grace.
        let last = &cluster.nodes[cluster.nodes.len() - 1];
        let online = async || last.online_ids().await.into_iter().collect::<BTreeSet<_>>();
        eventually_eq_within(3 * DEADLINE, online, shown.clone(), "all others are online").await;
        let is_gone = |frame: &Value| frame["type"] == "user_offline" && frame["userId"] == leaver;
        let told = native.collect_until(is_gone).await;
        let offline = told.iter().filter(|frame| frame["type"] == "user_offline").count();
        assert_eq!(offline, 1, "{end}: only {leaver}: {told:?}");
    }
    for page in &mut pages {
        page.until_shown(json!({"online": shown})).await;
        assert_eq!(page.ask(json!(["user_activity"])).await, json!({"success": true}));
        assert_eq!(page.connections().last(), Some(&"connect"));
    }
}

#[tokio::test]
async fn clients_of_all_kinds_in_one_service_see_the_same() {
    let (cluster, js) = (Cluster::start(3).await, Js::start());
    let mut native = cluster[0].join("native").await;
    let mut plain = cluster[1].ws("/?userId=plain").await;
    plain.wait_for(|frame| frame["type"] == "CONNECTION_ESTABLISHED").await;
    let mut s2 = js.page(&cluster[2], "default", "s2", json!("s2")).await;
    let mut s1 = js.page(&cluster[0], "polling", "s1", json!("s1")).await;
    let s0 = js.page(&cluster[1], "websocket", "s0", json!("s0")).await;
    let all = ["native", "plain", "s0", "s1", "s2"];
    s2.until_shown(json!({"online": all})).await;
    s1.until_shown(json!({"authenticated": "s1", "online": all, "typing": []})).await;
    for node in &cluster.nodes {
        eventually_eq(async || node.online_ids().await, all, "each node lists all").await;
    }
    s0.disconnect();
    native.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "s0").await;
    plain.wait_for(|frame| frame["type"] == "USER_OFFLINE" && frame["userId"] == "s0").await;
    let left = ["native", "plain", "s1", "s2"];
    s2.until_shown(json!({"online": left})).await;
    s1.until_shown(json!({"authenticated": "s1", "online": left, "typing": []})).await;
    native.close(1000).await;
    s2.until_shown(json!({"online": ["plain", "s1", "s2"]})).await;
}
