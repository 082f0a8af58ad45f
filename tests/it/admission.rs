//! Which sockets are let in when all come at once.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn of_a_storm_some_are_let_in_some_wait_and_the_rest_is_told_to_come_back() {
    let mut settings = test_settings();
    settings.limits.joins_per_second = 20;
    settings.limits.join_queue = 5;
    let node = Node::spawn(settings).await;
    let storm =
        (0..40).map(|i| WsClient::try_connect(node.addr(), Box::leak(format!("/ws?userId=u{i}").into_boxed_str())));
    let (admitted, refused): (Vec<_>, Vec<_>) = join_all(storm).await.into_iter().partition(Result::is_ok);
    assert!(admitted.len() >= 7, "a burst and a queue: {}", admitted.len());
    assert!(!refused.is_empty());
    for refusal in refused.into_iter().filter_map(Result::err) {
        assert_eq!((refusal.status, &refusal.json()["code"]), (503, &"busy".into()));
        assert_eq!(refusal.header("retry-after"), Some("1"));
    }
    eventually(async || WsClient::try_connect(node.addr(), "/ws?userId=late").await.is_ok(), "later there is room")
        .await;
}

#[tokio::test]
async fn a_full_node_says_so_and_has_room_when_somebody_leaves() {
    let mut settings = test_settings();
    settings.server.max_sockets = 1;
    let node = Node::spawn(settings).await;
    let ada = node.join("ada").await;
    let refusal = WsClient::try_connect(node.addr(), "/ws?userId=bob").await.err().expect("no room");
    assert_eq!((refusal.status, &refusal.json()["code"]), (503, &"full".into()));
    ada.close(1000).await;
    eventually(async || WsClient::try_connect(node.addr(), "/ws?userId=bob").await.is_ok(), "there is room again")
        .await;
}

#[tokio::test]
async fn those_who_do_not_say_who_they_are_cannot_take_all_places() {
    let mut settings = test_settings();
    settings.limits.unnamed_sockets = 2;
    let node = Node::spawn(settings).await;
    let mut first = node.ws("/ws").await;
    let second = node.ws("/ws").await;
    let refusal = WsClient::try_connect(node.addr(), "/ws").await.err().expect("no room");
    assert_eq!((refusal.status, &refusal.json()["code"]), (503, &"busy".into()));
    // Who has a name at once needs none of their places.
    let _cid = node.join("cid").await;
    assert_eq!(node.counter("rollcall_refused_total{reason=\"busy\"}").await, 1);
    // Who has a name does not count any more.
    first.send_json(json!({"type": "join_user", "userId": "ada"})).await;
    first.expect_type("welcome").await;
    let _bob = node.join("bob").await;
    let mut third = node.ws("/ws").await;
    third.send_json(json!({"type": "subscribe", "presence": "count"})).await;
    third.expect_type("subscribed").await;
    let _fourth = node.ws("/ws").await;
    assert!(WsClient::try_connect(node.addr(), "/ws").await.is_err(), "two are unnamed again");
    second.close(1000).await;
    eventually(async || WsClient::try_connect(node.addr(), "/ws").await.is_ok(), "there is room again").await;
}
