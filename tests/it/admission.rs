//! Which sockets are let in when all come at once.

use futures_util::future::join_all;

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
