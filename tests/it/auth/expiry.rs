//! The end of a token, while its socket is open.

use std::time::Duration;

use serde_json::{Value, json};

use super::{authenticate, join_with, online};
use crate::support::*;

/// A node whose users stay in grace for as long as a test needs.
async fn patient_node() -> Node {
    Node::start_with(|settings| {
        with_secret(settings);
        settings.presence.grace = Duration::from_secs(30);
        settings.presence.lease = Duration::from_secs(60);
    })
    .await
}

fn short_token() -> String {
    token(json!({"sub": "ada", "exp": seconds_from_now(0.5)}))
}

#[tokio::test]
async fn nobody_notices_a_client_that_comes_back_with_a_new_token() {
    let node = patient_node().await;
    let mut watch = join_with(&node, "watch", &token(json!({"sub": "watch"}))).await;
    let mut ada = join_with(&node, "ada", &short_token()).await;
    watch.expect_type("user_online").await;
    assert_eq!(ada.expect_close().await, (4402, "Token expired".to_owned()));
    let _ada = join_with(&node, "ada", &token(json!({"sub": "ada"}))).await;
    assert_eq!(watch.fence().await, NOTHING);
}

#[tokio::test]
async fn without_a_new_token_the_user_goes() {
    let node = Node::start_with(with_secret).await;
    let mut watch = join_with(&node, "watch", &token(json!({"sub": "watch"}))).await;
    let mut ada = join_with(&node, "ada", &short_token()).await;
    assert_eq!(ada.expect_close().await.0, 4402);
    let gone = watch.wait_for(|frame| frame["type"] == "user_offline").await;
    assert_eq!((&gone["userId"], &gone["reason"]), (&json!("ada"), &json!("connection_lost")));
}

#[tokio::test]
async fn a_new_token_in_time_prolongs() {
    let node = patient_node().await;
    let mut ada = join_with(&node, "ada", &short_token()).await;
    // This socket ends with the first token of the other one, or later.
    let mut witness = node.ws(&format!("/ws?token={}", short_token())).await;
    witness.send_json(json!({"type": "join_user"})).await;
    let prolonged = authenticate(&mut ada, &token(json!({"sub": "ada"}))).await;
    assert_eq!(prolonged["type"], "authentication_success", "{prolonged}");
    assert_eq!(witness.expect_close().await.0, 4402);
    assert_eq!(ada.ask(json!({"type": "get_devices"})).await["type"], "devices");
}

#[tokio::test]
async fn rights_that_a_new_token_lacks_are_gone_for_later_requests() {
    let node = patient_node().await;
    let mut ada = join_with(&node, "ada", &token(json!({"sub": "ada"}))).await;
    let status = json!({"type": "set_status", "status": "busy"});
    assert_eq!(ada.ask(status.clone()).await["type"], "own_status");
    authenticate(&mut ada, &token_of("ada", "presence:read")).await;
    assert_eq!(ada.ask(status).await["code"], "forbidden");
    // What was asked for before stays.
    assert_eq!(online(&node, &token(json!({"sub": "x"}))).await, ["ada"]);
    let _bob = join_with(&node, "bob", &token(json!({"sub": "bob"}))).await;
    ada.expect_type("user_online").await;
    assert_eq!(ada.ask(json!({"type": "leave"})).await["type"], "left");
}

#[tokio::test]
async fn a_process_that_stood_still_does_not_prolong_a_token() {
    let environment =
        [("ROLLCALL__AUTH__MODE", "jwt"), ("ROLLCALL__AUTH__SECRET", SECRET), ("ROLLCALL__AUTH__LEEWAY_MS", "0")];
    let mut node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let mut ada = join_with(&node, "ada", &short_token()).await;
    node.sigstop();
    tokio::time::sleep(Duration::from_millis(1600)).await;
    node.sigcont();
    assert_eq!(ada.expect_close().await.0, 4402);
}

/// A node process that takes tokens, and some sockets. Each sends `frame` while the process stands still, in time. Then the
/// tokens end, and the process goes on.
async fn sent_while_the_process_stood_still(frame: Value) -> (NodeProcess, [WsClient; 4]) {
    let environment =
        [("ROLLCALL__AUTH__MODE", "jwt"), ("ROLLCALL__AUTH__SECRET", SECRET), ("ROLLCALL__AUTH__LEEWAY_MS", "0")];
    let mut node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let end = seconds_from_now(3.0);
    let token = token(json!({"sub": "ada", "exp": end}));
    let mut sockets = [
        join_with(&node, "ada", &token).await,
        join_with(&node, "ada", &token).await,
        join_with(&node, "ada", &token).await,
        join_with(&node, "ada", &token).await,
    ];
    node.sigstop();
    for socket in &mut sockets {
        socket.send_json(frame.clone()).await;
    }
    while seconds_from_now(0.0).as_f64() <= end.as_f64() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.sigcont();
    (node, sockets)
}

#[tokio::test]
async fn a_new_token_that_was_sent_in_time_counts_also_if_the_process_stood_still() {
    let show = json!({"type": "authenticate", "token": token(json!({"sub": "ada"})), "ref": 1});
    let (_node, sockets) = sent_while_the_process_stood_still(show).await;
    for mut ada in sockets {
        let answer = ada.wait_for(|frame| frame["ref"] == 1).await;
        assert_eq!(answer["type"], "authentication_success", "{answer}");
        assert_eq!(ada.ask(json!({"type": "get_devices"})).await["type"], "devices");
    }
}

#[tokio::test]
async fn a_request_after_the_end_of_the_token_is_not_answered() {
    let (_node, sockets) = sent_while_the_process_stood_still(json!({"type": "get_online_users", "ref": 1})).await;
    for mut ada in sockets {
        assert_eq!(ada.expect_close().await.0, 4402);
    }
}
