//! A deploy is not a departure: every node is restarted, and nobody is told of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::*;

/// The nodes that a load balancer would choose from, and what the clients went through.
struct Balancer {
    addrs: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
    joined: AtomicUsize,
    came_back: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Balancer {
    fn addr(&self) -> SocketAddr {
        let addrs = lock(&self.addrs);
        addrs[self.next.fetch_add(1, Ordering::Relaxed) % addrs.len()]
    }
}

#[tokio::test]
async fn a_rolling_restart_under_clients_that_obey_the_close_frame_is_not_heard() {
    const N_USERS: usize = 300;
    let mut cluster = Cluster::processes_with(
        3,
        &[
            ("ROLLCALL__PRESENCE__LEASE_MS", "6000"),
            // Time for three hundred debug handshakes on a busy machine.
            ("ROLLCALL__PRESENCE__GRACE_MS", "4500"),
            ("ROLLCALL__DRAIN__RECONNECT_SPREAD_MS", "1000"),
        ],
    )
    .await;
    let balancer = Arc::new(Balancer {
        addrs: Mutex::new(addrs(&cluster)),
        next: AtomicUsize::new(0),
        joined: AtomicUsize::new(0),
        came_back: AtomicUsize::new(0),
        wrong: Mutex::default(),
    });
    let clients: Vec<_> =
        (0..N_USERS).map(|number| tokio::spawn(obey(balancer.clone(), format!("user-{number}")))).collect();
    let joined = async || balancer.joined.load(Ordering::Relaxed);
    eventually_eq_within(3 * DEADLINE, joined, N_USERS, "everybody has joined").await;

    let mut drained = Vec::new();
    for _ in 0..3 {
        let mut old = cluster.remove(0);
        lock(&balancer.addrs).retain(|addr| *addr != old.addr());
        old.sigterm();
        assert!(old.wait().await.success(), "{}", old.stderr());
        drained.push(old.node_id().to_owned());
        let index = cluster.add().await;
        lock(&balancer.addrs).push(cluster[index].addr());
        eventually_eq_within(3 * DEADLINE, joined, N_USERS, "everybody has come back").await;
    }
    for node in &drained {
        let known = async || cluster.redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", node]).await;
        eventually_eq(known, None, "the drained node is swept").await;
    }
    // Whatever the sweeps told lies before this.
    let watches = futures_util::future::join_all(
        cluster.nodes.iter().enumerate().map(|(n, node)| Listener::join(node.addr(), format!("watch-{n}").leak())),
    )
    .await;
    let mut marker = cluster[0].join("marker").await;
    for watch in &watches {
        watch.wait_for("user_online", "marker").await;
        assert_eq!(watch.online().len(), N_USERS + 4, "everybody is online");
    }
    marker.send_json(serde_json::json!({"type": "leave"})).await;
    for watch in &watches {
        watch.wait_for("user_offline", "marker").await;
        watch.assert_sound();
    }
    assert_eq!(*lock(&balancer.wrong), NOBODY, "nobody was told of a departure");
    for reason in ["node_drained", "node_lost", "connection_lost", "timed_out"] {
        assert_eq!(logged_offline(&cluster.redis, reason).await, NOBODY, "and there was none");
    }
    assert!(balancer.came_back.load(Ordering::Relaxed) >= N_USERS, "everybody was moved at least once");
    clients.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A client that comes back when and because the close frame says so.
async fn obey(balancer: Arc<Balancer>, user: String) {
    loop {
        let addr = balancer.addr();
        let listener = match Listener::connect(addr, &user).await {
            Ok(listener) => listener,
            // It began to drain after it was chosen.
            Err(_) => continue,
        };
        balancer.joined.fetch_add(1, Ordering::Relaxed);
        let (code, reason) = loop {
            let end = listener.heard().end.clone();
            if let Some(end) = end {
                break end;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        balancer.joined.fetch_sub(1, Ordering::Relaxed);
        let close: serde_json::Value = serde_json::from_str(&reason).unwrap_or_default();
        let after_ms = close["reconnectAfterMs"].as_u64();
        {
            let mut wrong = lock(&balancer.wrong);
            wrong.extend(listener.heard().wrong.iter().cloned());
            let told = listener.events("user_offline");
            wrong.extend(told.iter().filter(|e| e.frame["userId"] != "marker").map(|e| e.frame.to_string()));
            if code != 1001 || after_ms.is_none() {
                wrong.push(format!("{user} was closed with {code} {reason}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(after_ms.unwrap_or_default())).await;
        balancer.came_back.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_does_not_come_back_from_a_drain_is_told_so_once() {
    // The drain takes a second, for nobody answers its close frames; then ada needs her time.
    let mut cluster = Cluster::start_with(3, |settings| settings.presence.grace = Duration::from_millis(2700)).await;
    let watches =
        [Listener::join(cluster[1].addr(), "watch-1").await, Listener::join(cluster[2].addr(), "watch-2").await];
    let _ada = cluster[0].join("ada").await;
    let _bob = cluster[0].join("bob").await;
    for watch in &watches {
        watch.wait_for("user_online", "bob").await;
    }
    cluster.remove(0).stop().await;
    // Ada comes back, Bob does not.
    let _ada = cluster[0].join("ada").await;
    for watch in &watches {
        assert_eq!(watch.wait_for("user_offline", "bob").await.frame["reason"], "node_drained");
        watch.fence().await;
        assert_eq!(watch.events("user_offline").len(), 1);
        watch.assert_sound();
    }
}
