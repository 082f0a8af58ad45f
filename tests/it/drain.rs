//! How a node ends: in order, and so that nobody who comes back elsewhere was ever away.

use std::io::ErrorKind;
use std::net::SocketAddr;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::*;

/// A close that asks to come back, within the spread.
fn assert_asks_to_come_back(close: &(u16, String), spread_ms: u64) {
    let (code, reason) = close;
    assert_eq!(*code, 1001, "{close:?}");
    let reason: Value = serde_json::from_str(reason).expect("the reason is JSON");
    let delay_ms = reason["reconnectAfterMs"].as_u64();
    assert!(delay_ms.is_some_and(|delay_ms| delay_ms <= spread_ms), "{close:?}");
    assert_eq!(reason.as_object().map(serde_json::Map::len), Some(1), "{close:?}");
}

/// Whether nobody takes a connection at an address.
async fn is_refused(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn sigterm_closes_every_socket_with_its_moment_to_come_back_and_exits_with_0() {
    let spread = ("ROLLCALL__DRAIN__RECONNECT_SPREAD_MS", "1234");
    let mut node = NodeProcess::spawn(&[spread]).await;
    let mut sockets = vec![node.ws("/ws").await];
    for n in 0..20 {
        sockets.push(node.join(&format!("user-{n}")).await);
    }
    node.sigterm();
    let mut reasons = std::collections::BTreeSet::new();
    for socket in &mut sockets {
        let close = socket.expect_close().await;
        assert!(is_refused(node.addr()).await, "who may come back at once does not come back here");
        assert_asks_to_come_back(&close, 1234);
        reasons.insert(close.1);
    }
    assert!(reasons.len() > 1, "the moments are spread: {reasons:?}");
    assert_eq!(node.wait().await.code(), Some(0), "{}", node.stderr());
}

#[tokio::test]
async fn a_node_that_drains_for_long_refuses_connections_meanwhile() {
    let mut redis = RedisServer::start().await;
    redis.begin_epoch().await;
    // A Redis that does not answer holds the drain up, for longer than the test takes.
    let environment = [
        ("REDIS_URL", &*redis.url()),
        ("ROLLCALL__REDIS__CALL_TIMEOUT_MS", "60000"),
        ("ROLLCALL__PRESENCE__LEASE_MS", "120000"),
        ("ROLLCALL__DRAIN__TIMEOUT_MS", "60000"),
    ];
    let mut node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    redis.pause();
    node.sigterm();
    // The node takes no connection. The kernel would, and the client would wait.
    eventually(async || is_refused(node.addr()).await, "connections are refused").await;
    node.kill9();
}

#[tokio::test]
async fn who_waits_to_be_let_in_is_sent_to_another_node_at_once() {
    let mut node = Node::start_with(|settings| {
        (settings.limits.joins_per_second, settings.limits.join_queue) = (1, 20);
    })
    .await;
    let addr = node.addr();
    // One comes in, twenty wait, and one is too many.
    let code = async |n| {
        let refused = WsClient::try_connect(addr, &format!("/ws?userId=user-{n}")).await.err()?;
        Some((refused.status, refused.json()["code"].as_str().expect("a code").to_owned()))
    };
    let mut knocking: FuturesUnordered<_> = (0..22).map(code).collect();
    let too_many = (503, "busy".to_owned());
    while knocking.next().await.expect("some are still waiting").as_ref() != Some(&too_many) {}
    node.drain();
    // Twenty seconds would be needed to let them in.
    let sent: Vec<_> = knocking.filter_map(std::future::ready).collect().await;
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|refused| *refused == (504, "draining".to_owned())), "{sent:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_neither_reads_nor_answers_does_not_hold_the_drain_up_for_ever() {
    let mut node = NodeProcess::spawn(&[]).await;
    let _silent = RawWs::connect(node.addr(), "/ws?userId=ada").await;
    node.signal("INT");
    assert_eq!(node.wait().await.code(), Some(0), "{}", node.stderr());
}

#[tokio::test]
async fn a_socket_that_was_just_upgraded_is_told_as_well() {
    for _ in 0..20 {
        let mut node = Node::spawn(test_settings()).await;
        let mut ada = RawWs::connect(node.addr(), "/ws?userId=ada").await;
        node.drain();
        assert_eq!(ada.expect_close().await.0, 1001);
        drop(ada);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let mut redis = RedisServer::start().await;
    // A Redis that does not answer holds the drain up, for longer than the test takes.
    let environment = [
        ("REDIS_URL", &*redis.url()),
        ("ROLLCALL__REDIS__CALL_TIMEOUT_MS", "60000"),
        ("ROLLCALL__PRESENCE__LEASE_MS", "120000"),
        ("ROLLCALL__DRAIN__TIMEOUT_MS", "60000"),
    ];
    redis.begin_epoch().await;
    let mut node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let mut ada = node.ws("/ws?userId=ada").await;
    ada.expect_type("welcome").await;
    redis.pause();
    node.sigterm();
    node.expect_log("Draining").await;
    node.sigterm();
    assert_eq!(node.wait().await.code(), Some(1), "{}", node.stderr());
    assert!(node.stderr().contains("Second signal"), "{}", node.stderr());
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_tells_the_sockets_also_if_redis_does_not_answer() {
    let mut redis = RedisServer::start().await;
    let environment = [
        ("REDIS_URL", &*redis.url()),
        ("ROLLCALL__REDIS__CALL_TIMEOUT_MS", "60000"),
        ("ROLLCALL__PRESENCE__LEASE_MS", "120000"),
        ("ROLLCALL__DRAIN__TIMEOUT_MS", "500"),
    ];
    redis.begin_epoch().await;
    let mut node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(node.ws("/ws").await);
    }
    redis.pause();
    node.sigterm();
    for socket in &mut sockets {
        assert_eq!(socket.expect_close().await.0, 1001);
    }
    assert_eq!(node.wait().await.code(), Some(0), "{}", node.stderr());
}

#[tokio::test]
async fn who_comes_back_elsewhere_in_time_was_never_away_and_who_does_not_goes_offline() {
    // The lease of the drained node is the spread and the grace: time enough to come back on a slow machine.
    let times =
        [("PRESENCE__GRACE_MS", "3000"), ("DRAIN__RECONNECT_SPREAD_MS", "1000"), ("PRESENCE__LEASE_MS", "4000")];
    let times = times.map(|(name, value)| (format!("ROLLCALL__{name}"), value));
    let times: Vec<_> = times.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let mut cluster = Cluster::processes_with(2, &times).await;
    let mut listener = cluster[1].join("listener").await;
    let mut bob = cluster[0].join("bob").await;
    let mut carol = cluster[0].join("carol").await;
    listener.wait_for(|frame| frame["userId"] == "carol").await;

    cluster[0].sigterm();
    assert_asks_to_come_back(&bob.expect_close().await, 1000);
    let _bob = cluster[1].join("bob").await;
    assert_asks_to_come_back(&carol.expect_close().await, 1000);
    assert_eq!(cluster[0].wait().await.code(), Some(0), "{}", cluster[0].stderr());

    let told = listener.collect_until(|frame| frame["type"] == "user_offline").await;
    assert_eq!(told.len(), 1, "nothing of bob: {told:?}");
    assert_eq!((&told[0]["userId"], &told[0]["reason"]), (&"carol".into(), &"node_drained".into()));
    assert_eq!(cluster[1].online_ids().await, ["bob", "listener"]);
    let drained = cluster[0].node_id().to_owned();
    let left = async || cluster.redis.keys(&format!("*{drained}*")).await;
    eventually_eq(left, NOBODY, "nothing is left of the drained node").await;
}
