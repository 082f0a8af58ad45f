//! `/api/users/…`: what only the application's server may do.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::*;

const JSON: (&str, &str) = ("content-type", "application/json");

/// `PUT /api/users/{userId}/presence`.
async fn put(node: &Endpoint, user: &str, body: &Value) -> (u16, Value) {
    let path = format!("/api/users/{}/presence", percent_encoded(user));
    let answer = node.request(Method::PUT, &path, &[JSON], &body.to_string()).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
}

/// `POST /api/users/query`.
async fn query(node: &Endpoint, users: &[&str]) -> Vec<Value> {
    let body = json!({"userIds": users}).to_string();
    let answer = node.request(Method::POST, "/api/users/query", &[JSON], &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(body.get("degraded"), None, "{body}");
    body["data"].as_array().expect("data").clone()
}

fn failure(code: &str) -> (u16, Value) {
    let status = match code {
        "loopback_only" => 403,
        "user_not_online" => 404,
        "store_unavailable" => 503,
        _ => 400,
    };
    (status, json!(code))
}

/// The status and the code of an error.
fn error((status, body): &(u16, Value)) -> (u16, Value) {
    assert_eq!(body["success"], false, "{body}");
    (*status, body["code"].clone())
}

#[tokio::test]
async fn what_the_server_states_is_heard_by_all_and_holds_on_every_node() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let mut ada = place.node(1).join_as(json!({"userId": "ada", "name": "Ada", "device": {"kind": "web"}})).await;
        watch.expect_type("user_online").await;
        eventually_eq(async || place.node(2).online_ids().await, ["ada", "watch"], "the node knows both").await;

        let (status, body) = put(place.node(2), "ada", &json!({"email": "a@b", "metadata": {"vip": true}})).await;
        let user = json!({"id": "ada", "name": "Ada", "email": "a@b", "metadata": {"vip": true}, "status": "online"});
        assert_eq!((status, &body["success"], &body["data"]["user"]), (200, &json!(true), &user), "{body}");
        let changed = watch.expect_type("user_changed").await;
        assert_eq!(changed["user"], user, "one change: {changed}");

        let change = json!({"status": "dnd", "statusText": "on \"stage\"", "expiresInMs": 3_600_000});
        let (status, body) = put(place.node(2), "ada", &change).await;
        assert_eq!(status, 200, "{body}");
        let data = &body["data"];
        for (member, value) in [
            ("userId", json!("ada")),
            ("isOnline", json!(true)),
            ("hidden", json!(false)),
            ("chosen", json!("dnd")),
            ("effective", json!("dnd")),
            ("statusText", json!("on \"stage\"")),
            ("devices", json!({"web": 1})),
        ] {
            assert_eq!(data[member], value, "{member} in {data}");
        }
        for member in ["expiresAt", "lastSeen", "lastActive"] {
            assert!(data[member].is_string(), "{member} in {data}");
        }
        let told = watch.expect_type("user_status_changed").await;
        assert_eq!((&told["status"], &told["statusText"]), (&json!("dnd"), &json!("on \"stage\"")));
        let own = ada.wait_for(|frame| frame["type"] == "own_status").await;
        assert_eq!((&own["chosen"], &own["expiresAt"]), (&json!("dnd"), &data["expiresAt"]));

        // A text that is null is taken away, and what is absent stays.
        let (_, body) = put(place.node(0), "ada", &json!({"name": null, "metadata": null})).await;
        assert_eq!(
            body["data"]["user"],
            json!({
                "id": "ada", "email": "a@b", "status": "dnd", "statusText": "on \"stage\"",
            })
        );
        for number in 0..3 {
            let known = async || query(place.node(number), &["ada"]).await[0]["user"].clone();
            eventually_eq(known, body["data"]["user"].clone(), &format!("node {number} knows it")).await;
        }
        // The client's later statement holds.
        ada.send_json(json!({"type": "set_status", "status": "online", "ref": "s"})).await;
        ada.wait_for(|frame| frame["ref"] == "s").await;
        let known = async || query(place.node(2), &["ada"]).await[0]["chosen"].clone();
        eventually_eq(known, json!("online"), "the later statement holds").await;
        assert_eq!(query(place.node(1), &["ada"]).await[0].get("statusText"), None);
    }
}

#[tokio::test]
async fn a_statement_twice_is_one_change() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let _ada = place.node(1).join("ada").await;
        watch.expect_type("user_online").await;
        for number in 0..3 {
            let known = async || place.node(number).online_ids().await;
            eventually_eq(known, ["ada", "watch"], "every node knows ada").await;
        }
        for number in [0, 1, 2, 0] {
            let (status, body) = put(place.node(number), "ada", &json!({"name": "Ada", "status": "busy"})).await;
            assert_eq!((status, &body["data"]["effective"]), (200, &json!("busy")), "{body}");
        }
        let (_, body) = put(place.node(1), "ada", &json!({"name": "Bea"})).await;
        assert_eq!(body["data"]["user"]["status"], "busy");
        let told = watch.collect_until(|frame| frame["user"]["name"] == "Bea").await;
        let kinds: Vec<_> = told.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
        assert_eq!(kinds, ["user_status_changed", "user_changed"], "{told:?}");
    }
}

#[tokio::test]
async fn a_status_ends_when_its_time_has_come() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let _ada = place.node(1).join("ada").await;
        watch.expect_type("user_online").await;
        let (status, body) = put(place.node(0), "ada", &json!({"status": "busy", "expiresInMs": 300})).await;
        assert_eq!((status, &body["data"]["effective"]), (200, &json!("busy")), "{body}");
        assert_eq!(watch.expect_type("user_status_changed").await["status"], "busy");
        assert_eq!(watch.expect_type("user_status_changed").await["status"], "online");
    }
}

#[tokio::test]
async fn the_server_hides_shows_and_sees_who_is_hidden() {
    for place in Place::each(|_| ()).await {
        let mut watch = place.node(0).join("watch").await;
        let ada = place.node(1).join_as(json!({"userId": "ada", "name": "Ada", "device": {"kind": "web"}})).await;
        watch.expect_type("user_online").await;
        let node = place.node(2);
        eventually_eq(async || node.online_ids().await, ["ada", "watch"], "the node knows both").await;
        let (_, body) = put(node, "ada", &json!({"status": "invisible"})).await;
        let hidden = &body["data"];
        assert_eq!((&hidden["isOnline"], &hidden["hidden"]), (&json!(false), &json!(true)), "{hidden}");
        assert_eq!(watch.expect_type("user_offline").await["reason"], "left");
        assert_eq!(node.online_ids().await, ["watch"]);
        // The profile of a hidden user can be stated, and nobody hears of it.
        let (status, _) = put(node, "ada", &json!({"name": "Eve"})).await;
        assert_eq!((status, watch.fence().await), (200, NOTHING.to_vec()));
        for number in 0..3 {
            let known = async || query(place.node(number), &["ada"]).await[0]["user"]["name"].clone();
            eventually_eq(known, json!("Eve"), "every node knows it").await;
            let told = query(place.node(number), &["watch", "ada", "nobody", "ada"]).await;
            let ids: Vec<_> = told.iter().map(|user| user["userId"].as_str().expect("an id")).collect();
            assert_eq!(ids, ["watch", "ada", "nobody", "ada"]);
            assert_eq!((&told[1], &told[0]["hidden"]), (&told[3], &json!(false)));
            let ada = &told[1];
            assert_eq!((&ada["chosen"], &ada["effective"]), (&json!("invisible"), &json!("invisible")));
            assert_eq!((&ada["devices"], &ada["user"]["name"]), (&json!({"web": 1}), &json!("Eve")));
            let unknown =
                json!({"userId": "nobody", "isOnline": false, "hidden": false, "effective": "unknown", "devices": {}});
            assert_eq!(told[2], unknown);
        }
        put(node, "ada", &json!({"status": "online"})).await;
        let came = watch.expect_type("user_online").await;
        assert_eq!(came["user"]["name"], "Eve");
        ada.close(1000).await;
        watch.expect_type("user_offline").await;
        let gone = async || query(node, &["ada"]).await[0]["effective"].clone();
        eventually_eq(gone, json!("offline"), "ada has gone").await;
        let gone = &query(node, &["ada"]).await[0];
        assert!(gone["lastSeen"].is_string() && gone.get("chosen").is_none() && gone.get("user").is_none(), "{gone}");
    }
}

#[tokio::test]
async fn who_is_not_there_and_what_makes_no_sense_is_refused() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let _ada = node.join_as(json!({"userId": "ada", "metadata": {"a": 1}})).await;
        let change = json!({"name": "x", "status": "busy"});
        assert_eq!(error(&put(node, "bob", &change).await), failure("user_not_online"));
        let too_long = "x".repeat(3000);
        for (body, code) in [
            (json!({}), "missing_field"),
            (json!({"other": 1, "status": null}), "missing_field"),
            (json!([]), "not_an_object"),
            (json!({"name": 5}), "invalid_field"),
            (json!({"metadata": []}), "invalid_field"),
            (json!({"name": too_long}), "invalid_field"),
            (json!({"metadata": {"a": too_long}}), "invalid_field"),
            (json!({"status": "asleep"}), "invalid_field"),
            (json!({"statusText": "x"}), "invalid_field"),
            (json!({"name": "x", "expiresInMs": 5}), "invalid_field"),
            (json!({"status": "busy", "statusText": "a\nb"}), "invalid_field"),
            (json!({"status": "busy", "statusText": "x".repeat(129)}), "invalid_field"),
            (json!({"status": "busy", "expiresInMs": 0}), "invalid_field"),
            (json!({"status": "busy", "expiresAt": "tomorrow"}), "invalid_field"),
            (json!({"status": "busy", "expiresAt": "2999-01-01T00:00:00Z"}), "invalid_field"),
            (json!({"status": "busy", "expiresAt": "2026-01-01T00:00:00Z", "expiresInMs": 5}), "invalid_field"),
        ] {
            let answer = put(node, "ada", &body).await;
            assert_eq!(error(&answer), failure(code), "{body}: {}", answer.1);
        }
        let unchanged = &query(node, &["ada"]).await[0];
        assert_eq!(unchanged["user"], json!({"id": "ada", "metadata": {"a": 1}, "status": "online"}));
        for path in ["/api/users/a%0Ab/presence", "/api/users/%ff/presence", "/api/users/%zz/presence"] {
            let answer = node.request(Method::PUT, path, &[JSON], "{}").await;
            assert!(answer.status == 400 && answer.body.contains("invalid_parameter"), "{path}: {answer:?}");
        }
        let answer = node.request(Method::PUT, "/api/users/ada/presence", &[], "{\"name\":\"x\"}").await;
        assert!(answer.status == 415 && answer.body.contains("unsupported_media_type"), "{answer:?}");
    }
}

#[tokio::test]
async fn no_web_page_may_speak_for_the_server() {
    let node = Node::start_with(|_| ()).await;
    let _ada = node.join("ada").await;
    let page = ("origin", "http://localhost:3000");
    for (method, path, body) in [
        (Method::PUT, "/api/users/ada/presence", r#"{"name":"x"}"#),
        (Method::POST, "/api/users/query", r#"{"userIds":["ada"]}"#),
    ] {
        let answer = node.request(method.clone(), path, &[JSON, page], body).await;
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((answer.status, &body["code"]), (403, &json!("loopback_only")), "{path}");
        let preflight = [page, ("access-control-request-method", method.as_str())];
        let preflight = node.request(Method::OPTIONS, path, &preflight, "").await;
        for answer in [answer, preflight] {
            assert!(answer.status >= 400, "{answer:?}");
            assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{answer:?}");
        }
    }
    assert_eq!(query(&node, &["ada"]).await[0]["user"], json!({"id": "ada", "status": "online"}));
}

#[tokio::test]
async fn a_statement_is_made_again_until_the_store_answers() {
    let mut cluster = Cluster::start_with(2, |settings| settings.redis.call_timeout = Duration::from_millis(300)).await;
    let mut watch = cluster[0].join("watch").await;
    let _ada = cluster[1].join("ada").await;
    watch.expect_type("user_online").await;
    cluster.redis.pause();
    let (change, node) = (json!({"status": "busy"}), &cluster.nodes[0]);
    let redis = &mut cluster.redis;
    let stated = async {
        let answer = put(node, "ada", &change).await;
        assert_eq!((answer.0, &answer.1["data"]["chosen"]), (200, &json!("busy")), "{}", answer.1);
    };
    let resumed = async {
        // Until at least one call has had no answer.
        eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "the node has noticed").await;
        redis.resume();
    };
    tokio::join!(stated, resumed);
    assert_eq!(watch.expect_type("user_status_changed").await["status"], "busy");
    assert_eq!(watch.fence().await, NOTHING, "it is told once");
}

#[tokio::test]
async fn without_redis_nothing_is_stated_and_hidden_users_are_still_seen() {
    let mut cluster = Cluster::start(2).await;
    let _hidden = cluster[0].join_as(json!({"userId": "hidden", "status": "invisible"})).await;
    let node = &cluster[1];
    let known = async || query(node, &["hidden"]).await[0]["hidden"].clone();
    eventually_eq(known, json!(true), "the other node knows the hidden user").await;
    cluster.redis.kill();
    let node = &cluster[1];
    eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "the node has noticed").await;
    for user in ["hidden", "nobody"] {
        let answer = put(node, user, &json!({"status": "busy"})).await;
        assert_eq!(error(&answer), failure("store_unavailable"), "{user}: {}", answer.1);
    }
    let body = json!({"userIds": ["hidden", "nobody"]}).to_string();
    let answer = node.request(Method::POST, "/api/users/query", &[JSON], &body).await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    let effective: Vec<_> = body["data"].as_array().expect("data").iter().map(|user| &user["effective"]).collect();
    assert_eq!((&body["degraded"], effective), (&json!(true), vec![&json!("invisible"), &json!("unknown")]), "{body}");
}

#[tokio::test]
async fn changes_of_different_fields_at_once_do_not_undo_each_other() {
    for place in Place::each(|_| ()).await {
        let mut tabs = [place.node(0).join("ada").await, place.node(1).join("ada").await];
        for round in 0..10 {
            let [first, second] = &mut tabs;
            let named = json!({"type": "update_presence", "name": format!("N{round}"), "ref": round});
            let pictured = json!({"type": "update_presence", "avatar": format!("A{round}"), "ref": round});
            tokio::join!(first.send_json(named), second.send_json(pictured));
            let (status, answer) = put(place.node(2), "ada", &json!({"email": format!("E{round}")})).await;
            assert_eq!(status, 200, "{answer}");
            for tab in [first, second] {
                tab.wait_for(|frame| frame["type"] == "presence_updated" && frame["ref"] == round).await;
            }
            let user = async || place.node(0).get("/api/user-status/ada").await.1["data"]["user"].clone();
            let holds = async || {
                let user = user().await;
                ["name", "avatar", "email"].map(|field| user[field].as_str().unwrap_or_default().to_owned())
            };
            eventually_eq(holds, ["N", "A", "E"].map(|letter| format!("{letter}{round}")), "all three hold").await;
        }
    }
}
