//! The plain format (`docs/plain.md`): for clients that only show who comes and who goes.

use serde_json::{Value, json};

use crate::support::*;

/// A client of the plain format that has been told that it is connected.
async fn plain(node: &Endpoint, path: &str, user: Value) -> WsClient {
    let mut client = node.ws(path).await;
    let hello = client.next_json().await;
    assert_eq!((&hello["type"], &hello["userId"]), (&json!("CONNECTION_ESTABLISHED"), &user), "{hello}");
    assert!(is_time(&hello["timestamp"]), "{hello}");
    client
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == "2024-01-01T00:00:00.000Z".len() && text.ends_with('Z'))
}

/// The next event, which has these three members and no others.
async fn expect(client: &mut WsClient, kind: &str, user: Value) {
    let event = client.next_json().await;
    assert!(is_time(&event["timestamp"]), "{event}");
    assert_eq!(event, json!({"type": kind, "userId": user, "timestamp": event["timestamp"]}));
}

#[tokio::test]
async fn plain_clients_hear_who_comes_and_goes_and_native_ones_see_the_same_users() {
    let node = Node::spawn(test_settings()).await;
    node.wait_ready().await;
    let mut native = node.join("native").await;
    let mut ada = plain(&node, "/?userId=42", json!(42)).await;
    assert_eq!(native.next_json().await["userId"], "42", "to others the id is a string");
    assert_eq!(node.online_ids().await, ["42", "native"]);

    let bob = plain(&node, "/ws?userId=bob&format=plain", json!("bob")).await;
    expect(&mut ada, "USER_ONLINE", json!("bob")).await;
    // A second socket is no event, and nobody hears of themselves.
    let tab = plain(&node, "/?userId=bob", json!("bob")).await;
    tab.close(1000).await;
    let carol = node.join("007").await;
    expect(&mut ada, "USER_ONLINE", json!("007")).await;
    carol.close(1000).await;
    expect(&mut ada, "USER_OFFLINE", json!("007")).await;
    bob.close(1000).await;
    expect(&mut ada, "USER_OFFLINE", json!("bob")).await;
    ada.close(1000).await;
    native.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "42").await;
}

#[tokio::test]
async fn on_three_nodes_clients_of_both_formats_see_the_same_users() {
    let cluster = Cluster::start(3).await;
    let mut listeners = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        listeners.push(plain(node, &format!("/?userId={number}"), json!(number)).await);
        let user = number.to_string();
        for listener in listeners.iter_mut().take(number) {
            expect(listener, "USER_ONLINE", json!(number)).await;
        }
        for node in &cluster.nodes {
            eventually(async || node.online_ids().await.contains(&user), "every node lists the plain client").await;
        }
    }
    let native = cluster[1].join("native").await;
    for listener in &mut listeners {
        expect(listener, "USER_ONLINE", json!("native")).await;
    }
    native.close(1000).await;
    for listener in &mut listeners {
        expect(listener, "USER_OFFLINE", json!("native")).await;
    }
}

#[tokio::test]
async fn a_reload_of_a_plain_client_is_no_event() {
    let node = Node::spawn(test_settings()).await;
    node.wait_ready().await;
    let mut ada = plain(&node, "/?userId=ada", json!("ada")).await;
    let reloaded = plain(&node, "/?userId=bob", json!("bob")).await;
    expect(&mut ada, "USER_ONLINE", json!("bob")).await;
    reloaded.close(1001).await;
    let bob = plain(&node, "/?userId=bob", json!("bob")).await;
    eventually(async || node.counter("rollcall_flaps_suppressed_total").await == 1, "the grace is over").await;
    bob.close(1000).await;
    expect(&mut ada, "USER_OFFLINE", json!("bob")).await;
}

#[tokio::test]
async fn a_plain_client_without_a_user_is_closed_at_once() {
    let mut settings = test_settings();
    // Only what happens at once can be what is seen.
    settings.websocket.join_timeout = std::time::Duration::from_secs(300);
    let node = Node::spawn(settings).await;
    for path in ["/", "/?userId=", "/ws?format=plain"] {
        let close = node.ws(path).await.expect_close().await;
        assert_eq!(close, (1008, "User ID required".to_owned()), "{path}");
    }
    for (path, name) in [("/?userId=%ff", "userId"), ("/?userId=a%0ab", "userId"), ("/ws?format=html", "format")] {
        let refusal = WsClient::try_connect(node.addr(), path).await.err().expect("a refusal");
        let body = refusal.json();
        assert_eq!((refusal.status, &body["code"]), (400, &json!("invalid_parameter")), "{path}: {body}");
        assert!(body["message"].as_str().is_some_and(|text| text.contains(name)), "{body}");
    }
}

#[tokio::test]
async fn what_a_plain_client_says_is_answered_with_an_error_and_the_connection_goes_on() {
    let node = Node::spawn(test_settings()).await;
    node.wait_ready().await;
    let mut ada = plain(&node, "/?userId=ada", json!("ada")).await;
    let cases = [
        (r#"{"type":"NEW_MESSAGE","chat_id":1,"sender_id":42,"content":"hi"}"#, "unknown_type"),
        (r#"{"type":"join_user","userId":"eve"}"#, "unknown_type"),
        (r#"{"kind":"x"}"#, "missing_field"),
        ("[]", "not_an_object"),
        ("hello", "invalid_json"),
    ];
    for (text, code) in cases {
        ada.send_text(text).await;
        let answer = ada.next_json().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("ERROR"), &json!(code)), "{answer}");
        assert!(answer["message"].is_string() && is_time(&answer["timestamp"]), "{answer}");
    }
    ada.send_binary(b"x").await;
    assert_eq!(ada.next_json().await["code"], "binary_not_supported");
    let _bob = node.join("bob").await;
    expect(&mut ada, "USER_ONLINE", json!("bob")).await;
}

#[tokio::test]
async fn a_change_of_profile_is_nothing_to_a_plain_client() {
    let node = Node::spawn(test_settings()).await;
    node.wait_ready().await;
    let mut ada = plain(&node, "/?userId=ada", json!("ada")).await;
    let mut native = node.join("native").await;
    expect(&mut ada, "USER_ONLINE", json!("native")).await;
    native.send_json(json!({"type": "join_user", "userId": "native", "name": "N"})).await;
    native.expect_type("welcome").await;
    native.close(1000).await;
    expect(&mut ada, "USER_OFFLINE", json!("native")).await;
}

#[tokio::test]
async fn the_log_has_a_line_of_totals() {
    let node = NodeProcess::spawn(&[("ROLLCALL__TELEMETRY__TOTALS_MS", "100")]).await;
    node.wait_ready().await;
    let _ada = plain(&node, "/?userId=ada", json!("ada")).await;
    let _tab = plain(&node, "/?userId=ada", json!("ada")).await;
    let _bob = node.join("bob").await;
    node.expect_log("2 users, 3 connections").await;
}
