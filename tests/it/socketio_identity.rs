//! Who a client of Socket.IO is, and how its session ends for good.

use std::time::Duration;

use reqwest::Method;
use rollcall::settings::Settings;
use serde_json::{Value, json};

use crate::auth::{handshake, secret_node};
use crate::support::polling::{POLLING, WEBSOCKET};
use crate::support::*;

async fn connect_with(node: &Endpoint, query: &str, auth: Value) -> SioWs {
    let mut client = SioWs::open(node, query).await;
    client.send(&format!("40{auth}")).await;
    client
}

/// What a client is told that is not let into the main namespace.
fn refusal(packet: &str) -> Value {
    serde_json::from_str(packet.strip_prefix("44").unwrap_or_else(|| panic!("{packet}"))).expect("JSON")
}

#[tokio::test]
async fn a_token_comes_with_the_connect_packet_the_query_or_a_header() {
    let node = secret_node().await;
    let token = token_of("ada", "presence:read presence:write");
    let mut clients = vec![connect_with(&node, "", json!({"token": token})).await];
    clients.push(connect_with(&node, &format!("token={token}"), json!({})).await);
    for client in &mut clients {
        assert!(client.next().await.starts_with("40{"));
        let as_another = client.ask(json!(["join_user", "eve"])).await;
        assert_eq!((&as_another["success"], &as_another["code"]), (&json!(false), &json!("other_user")));
        client.emit(json!(["join_user"])).await;
        assert_eq!(client.wait_for("welcome").await["userId"], "ada");
    }
    let bearer = format!("Bearer {token}");
    assert_eq!(handshake(&node, WEBSOCKET, &[("authorization", &bearer)]).await.status, 101);
}

#[tokio::test]
async fn a_bad_token_is_refused_with_its_code_and_another_may_be_shown() {
    let node = secret_node().await;
    let ended = token(json!({"sub": "ada", "exp": seconds_from_now(-60.0)}));
    for (shown, code) in [("rubbish", "token_invalid"), (&ended, "token_expired")] {
        let mut client = connect_with(&node, "", json!({"token": shown})).await;
        let refused = refusal(&client.next().await);
        assert_eq!(refused["data"]["code"], code, "{refused}");
        assert!(refused["message"].is_string(), "{refused}");
        client.send(&format!("40{}", json!({"token": token_of("ada", "presence:read presence:write")}))).await;
        assert!(client.next().await.starts_with("40{"));
        let refused = node.get_raw(&format!("{POLLING}&token={shown}")).await;
        assert_eq!(refused.status, 401, "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_comes_in_one_place_and_is_a_text() {
    let node = secret_node().await;
    let token = token_of("ada", "presence:read presence:write");
    for (query, auth) in [(format!("token={token}"), json!({"token": token})), (String::new(), json!({"token": 7}))] {
        let mut client = connect_with(&node, &query, auth).await;
        assert_eq!(refusal(&client.next().await)["data"]["code"], "invalid_field", "{query}");
    }
    let mut client = connect_with(&node, "", json!({"token": null})).await;
    assert!(client.next().await.starts_with("40{"), "nothing is shown");
    // Where the client's word counts, a token is not read.
    let trusted = Node::start_with(|_| ()).await;
    for shown in [json!(7), json!("rubbish")] {
        let mut client = connect_with(&trusted, "", json!({"token": shown.to_string()})).await;
        assert!(client.next().await.starts_with("40{"), "{shown}");
    }
}

#[tokio::test]
async fn a_client_of_s1_that_has_shown_its_token_says_again_who_it_is() {
    let node = secret_node().await;
    let token = token_of("ada", "presence:read presence:write");
    let mut client = connect_with(&node, "", json!({"token": token})).await;
    let ack = client.ask(json!(["authenticate", {"userId": "ada", "token": null}])).await;
    assert_eq!((&ack["success"], &ack["userId"]), (&json!(true), &json!("ada")), "{ack}");
    // But nobody gets in that way, and nobody becomes somebody else.
    let mut nobody = SioWs::connect(&node, "").await;
    let ack = nobody.ask(json!(["authenticate", {"userId": "ada"}])).await;
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("missing_field")), "{ack}");
    let mut eve = connect_with(&node, "", json!({"token": token})).await;
    eve.emit(json!(["authenticate", {"userId": "eve"}])).await;
    let (packets, code) = eve.expect_close().await;
    assert_eq!(code, 4401, "{packets:?}");
}

#[tokio::test]
async fn a_token_ends_and_the_client_comes_back_by_itself() {
    let node = secret_node().await;
    let token = token(json!({"sub": "ada", "exp": seconds_from_now(0.5)}));
    let mut client = connect_with(&node, "", json!({"token": token})).await;
    client.emit(json!(["authenticate", {"userId": "ada"}])).await;
    let (packets, code) = client.expect_close().await;
    assert_eq!(code, 4402, "{packets:?}");
    assert!(!packets.iter().any(|packet| packet == "41"), "{packets:?}");
}

#[tokio::test]
async fn a_page_may_connect_long_before_its_user_logs_in() {
    let node = Node::start_with(|settings| settings.websocket.join_timeout = Duration::from_secs(1)).await;
    let mut page = SioWs::connect(&node, "").await;
    let mut left = SioWs::connect(&node, "").await;
    left.emit(json!(["join_user", "left"])).await;
    left.ask(json!(["leave"])).await;
    let mut named = SioWs::open(&node, "userId=named").await;
    named.send("40").await;
    // These do not enter the main namespace. They began after the others, and are closed, also if the URL names the user.
    for query in ["", "userId=lingering"] {
        let mut lingering = SioWs::open(&node, query).await;
        let (packets, code) = lingering.expect_close().await;
        assert_eq!(code, 1008, "{packets:?}");
    }
    assert_eq!(named.ask(json!(["user_activity"])).await["success"], true);
    for client in [&mut page, &mut left] {
        assert_eq!(client.ask(json!(["join_user", "ada"])).await["success"], true);
    }
    let trusted: fn(&mut Settings) = |_| ();
    for change in [with_secret, trusted] {
        let hasty = Node::start_with(|settings| {
            change(settings);
            settings.socketio.join_timeout = Duration::from_millis(50);
        })
        .await;
        let mut client = SioWs::open(&hasty, "").await;
        client.send("40").await;
        let (packets, code) = client.expect_close().await;
        assert_eq!(code, 1008);
        assert!(!packets.iter().any(|packet| packet == "41"), "the client comes back by itself: {packets:?}");
    }
}

#[tokio::test]
async fn a_user_whom_the_url_names_is_told_in_the_tongue_of_the_first_event() {
    let node = Node::start_with(|_| ()).await;
    let mut bob = node.join("bob").await;
    let mut ada = SioWs::open(&node, "userId=ada").await;
    bob.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "ada").await;
    ada.send("40").await;
    ada.emit(json!(["authenticate", {"userId": "ada", "token": null}])).await;
    let list = ada.wait_for("online-users-list").await;
    assert_eq!(list["count"], 2, "{list}");
    assert_eq!(ada.wait_for("authentication-success").await["userId"], "ada");
    bob.close(1000).await;
    let heard = ada.next().await;
    assert!(heard.starts_with(r#"42["user-status-change",{"userId":"bob","isOnline":false"#), "{heard}");

    let mut carol = SioWs::open(&node, "userId=carol").await;
    carol.send("40").await;
    carol.wait_for("online_users_list").await;
    // Clients of S0 hear of rooms alone: their list is that of the room.
    let (heard, ack) = carol.ask_and_hear(json!(["join-room", {"roomId": "r", "userId": "carol"}])).await;
    assert_eq!(ack["success"], true, "{ack}");
    let names: Vec<_> = heard.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["online-count-updated"], "{heard:?}");
    let _dave = node.join("dave").await;
    ada.wait_until("user-status-change", |change| change["userId"] == "dave").await;
    assert_eq!(carol.fence().await, [], "of the others she hears nothing any more");
    let metrics = node.get_raw("/metrics").await.body;
    for line in [
        "rollcall_sockets_by_format{format=\"socketio\"} 0",
        "rollcall_sockets_by_format{format=\"socketio-status\"} 1",
        "rollcall_sockets_by_format{format=\"socketio-room\"} 1",
    ] {
        assert!(metrics.lines().any(|scraped| scraped == line), "no `{line}` in {metrics}");
    }
}

#[tokio::test]
async fn whoever_shows_nothing_may_authenticate_and_nothing_else() {
    let node = secret_node().await;
    let mut client = SioWs::connect(&node, "").await;
    for event in [json!(["join_user", "ada"]), json!(["get_online_users"]), json!(["check_user_online", "ada"])] {
        assert_eq!(client.ask(event.clone()).await["code"], "unauthenticated", "{event}");
    }
    let token = token_of("ada", "presence:read presence:write");
    let mut s1 = SioWs::connect(&node, "").await;
    s1.emit(json!(["authenticate", {"userId": "ada", "token": token}])).await;
    assert_eq!(s1.wait_for("authentication-success").await["userId"], "ada");
    s1.emit(json!(["authenticate", {"userId": "ada", "token": token}])).await;
    assert!(s1.wait_for("authentication-success").await["expiresAt"].is_string(), "it prolongs");
    let mut s0 = connect_with(&node, "", json!({"token": token})).await;
    assert!(s0.next().await.starts_with("40{"));
    assert_eq!(s0.ask(json!(["join-room", {"roomId": "r", "userId": "eve"}])).await["code"], "other_user");
    assert_eq!(s0.ask(json!(["join-room", {"roomId": "r", "userId": "ada"}])).await["success"], true);

    let mut eve = SioWs::connect(&node, "").await;
    eve.emit(json!(["authenticate", {"userId": "eve", "token": token}])).await;
    let (packets, code) = eve.expect_close().await;
    assert_eq!(code, 4401);
    let [error, disconnect] = &packets[..] else { panic!("{packets:?}") };
    assert!(error.starts_with(r#"42["authentication-error",{"message":""#), "{error}");
    assert_eq!(disconnect, "41", "the official client does not come back by itself");
}

#[tokio::test]
async fn the_server_disconnects_for_good_and_says_how_it_knows_the_socket() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = SioWs::connect(&node, "").await;
    ada.emit(json!(["authenticate", "ada"])).await;
    ada.wait_for("authentication-success").await;
    let (_, explained) = node.get("/api/users/ada/explain").await;
    assert!(explained.to_string().contains(r#""format":"socketio-status""#), "{explained}");
    let answer = node.request(Method::DELETE, "/api/users/ada/sockets", &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let (packets, code) = ada.expect_close().await;
    assert_eq!((packets.last().map(String::as_str), code), (Some("41"), 4003));
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let mut settings = test_settings();
    settings.server.cors_allowed_origins = vec!["https://chat.example.com".to_owned()];
    let node = Node::spawn(settings).await;
    for (origin, status) in [("https://evil.example.com", 403), ("https://chat.example.com", 101)] {
        assert_eq!(handshake(&node, WEBSOCKET, &[("origin", origin)]).await.status, status, "{origin}");
    }
    for (origin, status) in [("https://evil.example.com", 403), ("https://chat.example.com", 200)] {
        let answer = node.request(Method::GET, POLLING, &[("origin", origin)], "").await;
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
    }
}
