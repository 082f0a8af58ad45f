//! The clients of a killed node come back to the others all at once.
//!
//! The suite lets 400 come back. 5 000 (a debug build is slow: so the lease is long):
//!
//!     ulimit -n 20000 && ROLLCALL_FAULT_CLIENTS=5000 ROLLCALL_FAULT_LEASE_MS=60000 ROLLCALL_FAULT_JOINS=500 \
//!         cargo test --test it -- --nocapture a_storm

use std::time::Duration;

use super::*;

/// More clients than this are further tabs: what each is told waits unread in the kernel, and must not fill its memory.
const MAX_USERS: usize = 400;

#[tokio::test]
async fn a_storm_of_reconnects_is_admitted_at_a_bounded_rate_and_nobody_hears_of_it() {
    let n_clients = number_from_env("ROLLCALL_FAULT_CLIENTS", 400) as usize;
    let n_users = n_clients.min(MAX_USERS);
    let lease = number_from_env("ROLLCALL_FAULT_LEASE_MS", 8000).to_string();
    // Few enough that the storm is over the limit, on each of two nodes.
    let joins = number_from_env("ROLLCALL_FAULT_JOINS", 100).to_string();
    let environment = [
        ("ROLLCALL__PRESENCE__LEASE_MS", lease.as_str()),
        ("ROLLCALL__LIMITS__JOINS_PER_SECOND", joins.as_str()),
        ("ROLLCALL__LIMITS__JOIN_QUEUE", "50"),
    ];
    let mut cluster = Cluster::processes_with(3, &environment).await;
    let listeners =
        [Listener::join(cluster[1].addr(), "listener-1").await, Listener::join(cluster[2].addr(), "listener-2").await];
    let before = all_join(&[cluster[0].addr()], n_clients).await;
    for listener in &listeners {
        eventually_eq_within(lease_of(&lease), async || listener.online().len(), n_users + 2, "all are known").await;
    }
    let frames_before = [sent(&cluster[1]).await, sent(&cluster[2]).await];

    cluster[0].kill9();
    drop(before);
    let returns = all_join(&[cluster[1].addr(), cluster[2].addr()], n_clients).await;
    let n_refused: usize = returns.iter().map(|(_, n_refused)| n_refused).sum();
    assert!(n_refused > 0, "the storm was over the limit");
    println!("{n_clients} came back; they were told {n_refused} times to try again");

    for listener in &listeners {
        let departures = listener.events("user_offline");
        assert!(departures.is_empty(), "they were back before the lease ended: {departures:?}");
        assert_eq!(listener.online().len(), n_users + 2);
        assert!(listener.heard().wrong.is_empty(), "{:?}", listener.heard().wrong);
    }
    for (node, before) in cluster.nodes[1..].iter().zip(frames_before) {
        let (frames, writes) = sent(node).await;
        println!("{} frames in {} writes", frames - before.0, writes - before.1);
    }
}

/// All users join, spread over these nodes, as many at once as one process of clients can keep alive.
async fn all_join(nodes: &[SocketAddr], n_clients: usize) -> Vec<(WsClient, usize)> {
    const AT_ONCE: usize = 500;
    let joins = (0..n_clients).map(|number| join_obediently(nodes[number % nodes.len()], number));
    futures_util::stream::iter(joins).buffer_unordered(AT_ONCE).collect().await
}

/// Joins as a good client does: told to try again, it waits as long as it was told, and a little at random. Returns the
/// socket, and how often it was told so.
async fn join_obediently(addr: SocketAddr, number: usize) -> (WsClient, usize) {
    let path = format!("/ws?userId=user-{}", number % MAX_USERS);
    for n_refused in 0.. {
        match WsClient::try_connect(addr, &path).await {
            Ok(mut client) => {
                client.expect_type("welcome").await;
                client.expect_type("online_users_list").await;
                return (client, n_refused);
            }
            Err(refusal) => {
                assert_eq!(refusal.status, 503, "{refusal:?}");
                let seconds: u64 = refusal.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
                let spread = Duration::from_millis(rand::random_range(0..1000));
                tokio::time::sleep(Duration::from_secs(seconds) + spread).await;
            }
        }
    }
    unreachable!("the loop ends by returning")
}

fn lease_of(milliseconds: &str) -> Duration {
    Duration::from_millis(milliseconds.parse().expect("a number")) + DEADLINE
}

/// Frames and writes of a node.
async fn sent(node: &NodeProcess) -> (u64, u64) {
    (node.counter("rollcall_frames_total").await, node.counter("rollcall_writes_total").await)
}
