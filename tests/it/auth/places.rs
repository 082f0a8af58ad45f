//! Where a token goes: three places in a handshake, one in an HTTP request, and a message.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{ask, authenticate, code_of, handshake, join_with, online, secret_node};
use crate::support::*;

#[tokio::test]
async fn a_handshake_takes_a_token_in_three_places() {
    let node = secret_node().await;
    let token = token(json!({"sub": "ada"}));
    let (bearer, protocols) = (format!("Bearer {token}"), format!("rollcall, {token}"));
    let in_header = handshake(&node, "/ws?userId=ada", &[("authorization", &bearer)]).await;
    assert_eq!((in_header.status, in_header.headers.get("sec-websocket-protocol")), (101, None));
    let in_url = handshake(&node, &format!("/ws?userId=ada&token={token}"), &[]).await;
    assert_eq!(in_url.status, 101);
    let as_protocol = handshake(&node, "/ws?userId=ada", &[("sec-websocket-protocol", &protocols)]).await;
    assert_eq!(as_protocol.status, 101);
    assert_eq!(as_protocol.headers["sec-websocket-protocol"], "rollcall", "the token is never repeated");

    // A wrong one is refused before there is a socket, wherever it is.
    let wrong = format!("{token}x");
    let (bearer, protocols) = (format!("Bearer {wrong}"), format!("rollcall, {wrong}"));
    for (path, lines) in [
        ("/ws", vec![("authorization", &*bearer)]),
        (&*format!("/ws?token={wrong}"), vec![]),
        ("/?format=native", vec![("sec-websocket-protocol", &*protocols)]),
        ("/", vec![("authorization", "Bearer ")]),
    ] {
        let refused = handshake(&node, path, &lines).await;
        assert_eq!(code_of(&refused), (401, "token_invalid".to_owned()), "{refused:?}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    }
    let ended = crate::support::token(json!({"sub": "ada", "exp": 1}));
    let refused = handshake(&node, &format!("/ws?token={ended}"), &[]).await;
    assert_eq!(code_of(&refused), (401, "token_expired".to_owned()));
}

#[tokio::test]
async fn two_tokens_in_a_handshake_are_refused_even_if_they_are_one() {
    let node = secret_node().await;
    let token = token(json!({"sub": "ada"}));
    let bearer = format!("Bearer {token}");
    for (path, lines) in [
        (format!("/ws?token={token}"), vec![("authorization", &*bearer)]),
        (format!("/ws?token={token}&token={token}"), vec![]),
        ("/ws".to_owned(), vec![("authorization", &*bearer), ("authorization", &*bearer)]),
    ] {
        let refused = handshake(&node, &path, &lines).await;
        assert_eq!(code_of(&refused), (400, "several_tokens".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_url_joins_only_as_what_its_token_allows() {
    let node = secret_node().await;
    let code = async |path: &str, scopes: &str| {
        let sign = if path.contains('?') { '&' } else { '?' };
        code_of(&handshake(&node, &format!("{path}{sign}token={}", token_of("ada", scopes)), &[]).await)
    };
    let forbidden = (403, "forbidden".to_owned());
    let all = "presence:read presence:write presence:invisible";
    assert_eq!(code("/ws?userId=bob", all).await, (403, "other_user".to_owned()));
    assert_eq!(code("/?userId=bob", all).await, (403, "other_user".to_owned()));
    assert_eq!(code("/ws?userId=ada", "presence:read").await, forbidden);
    assert_eq!(code("/", "presence:read").await, forbidden, "a plain client joins at once");
    assert_eq!(code("/ws?userId=ada&status=invisible", "presence:read presence:write").await, forbidden);
    assert_eq!(code("/ws?userId=ada&presence=count", "presence:write").await, forbidden);
    assert_eq!(code("/ws?userId=ada&presence=none", "presence:write").await.0, 101);
    assert_eq!(code("/ws?userId=ada&status=invisible", all).await.0, 101);
    assert_eq!(code("/ws", "").await.0, 101, "it has joined as nobody yet");
    // A later message of a plain client cannot hide it.
    let hidden = handshake(&node, "/?status=invisible", &[]).await;
    assert_eq!(code_of(&hidden), (401, "token_missing".to_owned()));
}

#[tokio::test]
async fn a_message_says_who_a_client_is() {
    let node = secret_node().await;
    let mut ada = node.ws("/ws?userId=ada").await;
    let refused = ada.ask(json!({"type": "join_user", "userId": "ada"})).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("unauthenticated")));
    let missing = ada.ask(json!({"type": "authenticate", "userId": "ada"})).await;
    assert_eq!((&missing["type"], &missing["code"]), (&json!("authentication_error"), &json!("missing_field")));
    let known = ada.ask(json!({"type": "authenticate", "userId": "ada", "token": token(json!({"sub": "ada"}))})).await;
    assert_eq!((&known["type"], &known["userId"]), (&json!("authentication_success"), &json!("ada")));
    assert_eq!(known["onlineCount"], 0, "{known}");
    assert!(known["expiresAt"].is_string(), "{known}");
    // To say who one is does not make one present.
    let welcome = ada.ask(json!({"type": "join_user"})).await;
    assert_eq!((&welcome["type"], &welcome["userId"]), (&json!("welcome"), &json!("ada")));
    let other = ada.ask(json!({"type": "join_user", "userId": "bob"})).await;
    assert_eq!(other["code"], "other_user");
    assert_eq!(online(&node, &token(json!({"sub": "watch"}))).await, ["ada"]);
}

#[tokio::test]
async fn a_wrong_token_in_a_message_closes_the_socket() {
    let node = secret_node().await;
    let unauthorized = (4401, "Unauthorized".to_owned());
    for (shown, named, code) in [
        ("x".to_owned(), None, "token_invalid"),
        ("x".repeat(9000), None, "token_invalid"),
        (token(json!({"sub": "ada", "exp": 1})), None, "token_expired"),
        (token(json!({"sub": "ada"})), Some("bob"), "other_user"),
        ("rck_x".to_owned(), None, "token_invalid"),
    ] {
        let mut client = node.ws("/ws").await;
        let answer = client.ask(json!({"type": "authenticate", "userId": named, "token": shown})).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("authentication_error"), &json!(code)), "{answer}");
        assert_eq!(client.expect_close().await, unauthorized);
    }
    // Also if the client had shown a good one before.
    let mut ada = join_with(&node, "ada", &token(json!({"sub": "ada"}))).await;
    let answer = authenticate(&mut ada, &token(json!({"sub": "bob"}))).await;
    assert_eq!(answer["code"], "other_user", "{answer}");
    assert_eq!(ada.expect_close().await, unauthorized);
}

#[tokio::test]
async fn who_never_says_who_it_is_is_closed() {
    let node = Node::start_with(|settings| {
        with_secret(settings);
        settings.websocket.join_timeout = Duration::from_millis(100);
        settings.auth.metrics = rollcall::settings::MetricsRule::Open;
    })
    .await;
    assert_eq!(node.ws("/ws?userId=ada").await.expect_close().await.0, 4401);
    assert_eq!(node.ws("/").await.expect_close().await.0, 4401);
    // Who has said it, and does not join, is told that.
    let mut named = node.ws(&format!("/ws?token={}", token(json!({"sub": "ada"})))).await;
    assert_eq!(named.expect_close().await, (1008, "User ID required".to_owned()));
    assert_eq!(node.counter("rollcall_limited_total{limit=\"join_timeout\"}").await, 3);
}

#[tokio::test]
async fn a_plain_client_joins_by_its_token() {
    let node = secret_node().await;
    let token = token(json!({"sub": 42}));
    let mut in_url = node.ws(&format!("/?token={token}")).await;
    let hello = in_url.next_json().await;
    assert_eq!((&hello["type"], &hello["userId"]), (&json!("CONNECTION_ESTABLISHED"), &json!(42)));
    in_url.close(1000).await;

    let mut by_message = node.ws("/").await;
    by_message.send_json(json!({"type": "NEW_MESSAGE"})).await;
    assert_eq!(by_message.next_json().await["code"], "unknown_type");
    by_message.send_json(json!({"type": "AUTHENTICATE", "userId": 42, "token": token})).await;
    let known = by_message.next_json().await;
    assert_eq!((&known["type"], &known["userId"]), (&json!("AUTHENTICATION_SUCCESS"), &json!(42)));
    assert_eq!(by_message.next_json().await["type"], "CONNECTION_ESTABLISHED");
    assert_eq!(online(&node, &token).await, ["42"]);

    for (shown, code) in [("x".to_owned(), "token_invalid"), (token_of("7", "presence:read"), "forbidden")] {
        let mut refused = node.ws("/").await;
        refused.send_json(json!({"type": "AUTHENTICATE", "token": shown})).await;
        let answer = refused.next_json().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("AUTHENTICATION_ERROR"), &json!(code)), "{answer}");
        assert_eq!(refused.expect_close().await.0, 4401);
    }
}

#[tokio::test]
async fn what_a_token_states_of_a_user_is_what_others_see() {
    let node = secret_node().await;
    let mut watch = join_with(&node, "watch", &token(json!({"sub": "watch"}))).await;
    let token = token(json!({"sub": "ada", "name": "Ada", "picture": "https://a/b"}));
    let mut ada = node.ws(&format!("/ws?token={token}")).await;
    ada.send_json(json!({"type": "join_user", "name": "Eve", "email": "a@b"})).await;
    ada.expect_type("welcome").await;
    let online = watch.expect_type("user_online").await;
    let user = json!({"id": "ada", "name": "Ada", "email": "a@b", "avatar": "https://a/b", "status": "online"});
    assert_eq!(online["user"], user);
    let refused = ada.ask(json!({"type": "update_presence", "name": "Eve"})).await;
    assert_eq!(refused["code"], "forbidden", "{refused}");
    let changed = ada.ask(json!({"type": "update_presence", "email": "c@d"})).await;
    assert_eq!((&changed["user"]["name"], &changed["user"]["email"]), (&json!("Ada"), &json!("c@d")));
    // A tab that says nothing changes nothing.
    let _tab = join_with(&node, "ada", &token).await;
    let told = watch.fence().await;
    assert_eq!(told.last().expect("one event")["user"]["email"], "c@d", "{told:?}");
}

#[tokio::test]
async fn http_takes_a_token_in_one_place_alone() {
    let node = secret_node().await;
    let good = token(json!({"sub": "ada"}));
    let path = "/api/online-users";
    assert_eq!(ask(&node, Method::GET, path, &good).await.status, 200);
    for (path, lines) in [
        (format!("{path}?token={good}"), vec![]),
        (path.to_owned(), vec![("authorization", format!("Basic {good}"))]),
        (path.to_owned(), vec![("x-api-key", good.clone()), ("cookie", format!("token={good}"))]),
    ] {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = node.request(Method::GET, &path, &lines, "").await;
        assert_eq!(code_of(&answer), (401, "token_missing".to_owned()), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let twice = format!("Bearer {good}");
    let answer = node.request(Method::GET, path, &[("authorization", &twice), ("authorization", &twice)], "").await;
    assert_eq!(code_of(&answer), (400, "several_tokens".to_owned()));
    // What is open to everybody does not look at tokens.
    assert_eq!(ask(&node, Method::GET, "/healthz", "old").await.status, 200);
}

#[tokio::test]
async fn what_a_url_asks_for_is_carried_out_or_refused() {
    let node = secret_node().await;
    let path = |scopes: &str, query: &str| format!("/ws?token={}&{query}", token_of("ada", scopes));
    // A later `join_user` would not be hidden.
    let answer = handshake(&node, &path("presence:write presence:invisible", "status=invisible"), &[]).await;
    assert_eq!(code_of(&answer), (400, "invalid_parameter".to_owned()));
    let answer = handshake(&node, &path("presence:write", "presence=everyone"), &[]).await;
    assert_eq!(code_of(&answer), (403, "forbidden".to_owned()));
    assert_eq!(handshake(&node, &path("presence:write", "presence=none"), &[]).await.status, 101);
}

#[tokio::test]
async fn where_the_word_of_clients_counts_tokens_are_not_read() {
    let node = Node::start_with(|_| ()).await;
    let answer = handshake(&node, "/ws?userId=ada&token=x", &[("sec-websocket-protocol", "rollcall, x")]).await;
    assert_eq!(
        (answer.status, &answer.headers["sec-websocket-protocol"]),
        (101, &"rollcall".parse().expect("a value"))
    );
    let answer = handshake(&node, "/ws?userId=ada", &[("authorization", "Bearer x")]).await;
    assert_eq!(answer.status, 101);
    let twice = handshake(&node, "/ws?userId=ada&token=x&token=x", &[]).await;
    assert_eq!(twice.status, 101);
    for shown in ["x".to_owned(), "x".repeat(9000)] {
        assert_eq!(ask(&node, Method::GET, "/api/online-users", &shown).await.status, 200);
    }
    let lines = [("authorization", "Bearer x"), ("authorization", "Bearer y")];
    assert_eq!(node.request(Method::GET, "/api/online-users", &lines, "").await.status, 200);
    let mut bob = node.join("bob").await;
    let answer = authenticate(&mut bob, "x").await;
    assert_eq!(answer["code"], "missing_field", "{answer}");
    let answer = bob.ask(json!({"type": "authenticate", "userId": "bob", "token": "x"})).await;
    assert_eq!(answer["type"], "authentication_success", "{answer}");
    assert_eq!(answer.get("expiresAt"), None, "{answer}");
}
