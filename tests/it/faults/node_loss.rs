//! Nodes that die, and nodes that are thought dead.
//!
//! The suite kills a node with 500 users. With 2 000 and the default lease:
//!
//!     ROLLCALL_FAULT_USERS=2000 ROLLCALL_FAULT_LEASE_MS=10000 ulimit -n 10000 && \
//!         cargo test --release --test it -- --nocapture a_killed_node

use std::time::Duration;

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_killed_nodes_users_are_told_offline_once_each_and_leave_no_key() {
    let n_users = number_from_env("ROLLCALL_FAULT_USERS", 500) as usize;
    let lease = Duration::from_millis(number_from_env("ROLLCALL_FAULT_LEASE_MS", 3000));
    let sweep = Duration::from_millis(200);
    let lease_ms = lease.as_millis().to_string();
    let environment =
        [("ROLLCALL__PRESENCE__LEASE_MS", lease_ms.as_str()), ("ROLLCALL__LIMITS__PAGE_DEFAULT", "10000")];
    let mut cluster = Cluster::processes_with(3, &environment).await;
    let mut listeners = Vec::new();
    for number in 0..6 {
        listeners.push(Listener::join(cluster[1 + number % 2].addr(), &format!("listener-{number}")).await);
    }
    let crowd = crowd(&[cluster[0].addr()], "victim", n_users).await;
    for listener in &listeners {
        let known = async || listener.online().len();
        eventually_eq(known, n_users + 6, "every listener knows everybody").await;
    }
    let dead = cluster[0].node_id().to_owned();

    let killed_at = Instant::now();
    cluster[0].kill9();
    let mut last = killed_at;
    for listener in &listeners {
        let gone = async || listener.events("user_offline").len();
        eventually_eq_within(lease + DEADLINE, gone, n_users, "every victim is told offline").await;
        listener.fence().await;
        listener.assert_sound();
        let offline = listener.events("user_offline");
        assert_eq!(offline.len(), n_users);
        assert!(offline.iter().all(|event| event.frame["reason"] == "node_lost"), "{:?}", offline[0]);
        assert!(offline.iter().all(|event| event.frame["userId"].as_str().is_some_and(|id| id.starts_with("victim-"))));
        last = last.max(offline.last().expect("there are some").at);
    }
    eprintln!("kill -9 of a node with {n_users} users: last user_offline {:?} later", last - killed_at);
    // What is promised; ten times the sweep interval for the batches, and for a busy machine.
    assert!(last - killed_at <= lease + 10 * sweep, "{:?}", last - killed_at);

    let redis = &cluster.redis;
    for pattern in ["online:user:socket:victim-*", "online:presence:victim-*", "online:socket:user:*", "online:node:*"]
    {
        let left: Vec<String> = redis.keys(pattern).await.into_iter().filter(|key| is_of(key, &dead)).collect();
        assert_eq!(left, NOBODY, "nothing of theirs is left");
    }
    assert_eq!(redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", &dead]).await, None);
    let mut rest: Vec<String> = listeners.iter().map(|listener| listener.user().to_owned()).collect();
    rest.sort();
    assert_eq!(redis.smembers("online:users:set").await, rest);
    assert_eq!(cluster[1].online_ids().await, rest);
    assert_eq!(cluster[2].online_ids().await, rest);
    drop(crowd);
}

/// Whether the key names a victim or the node.
fn is_of(key: &str, node: &str) -> bool {
    key.contains("victim-") || key.contains(node)
}

#[tokio::test]
async fn a_paused_nodes_users_are_offline_elsewhere_and_online_again_when_it_wakes() {
    let mut cluster = Cluster::processes(2).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let mut paused = Vec::new();
    for number in 0..20 {
        paused.push(Listener::join(cluster[0].addr(), &format!("paused-{number:02}")).await);
    }
    let everybody = paused.last().expect("there are some").online();
    eventually_eq(async || watch.online(), everybody.clone(), "the other node knows everybody").await;

    cluster[0].sigstop();
    eventually_eq(async || watch.online(), ["watch"], "elsewhere they are offline").await;
    assert!(watch.events("user_offline").iter().all(|event| event.frame["reason"] == "node_lost"));
    // A change that the paused node has to learn when it wakes.
    let late = Listener::join(cluster[1].addr(), "zoe").await;

    let mut everybody_now = everybody.clone();
    everybody_now.push("zoe".to_owned());
    everybody_now.sort();
    let woken_at = Instant::now();
    cluster[0].sigcont();
    eventually_eq(async || watch.online(), everybody_now.clone(), "they are online again").await;
    eprintln!("SIGCONT of a node with 20 users: all online again {:?} later", woken_at.elapsed());
    for listener in &paused {
        eventually_eq(async || listener.online(), everybody_now.clone(), "who slept knows everybody").await;
        listener.assert_sound();
    }
    watch.assert_sound();
    late.assert_sound();
    eventually_eq(async || cluster[0].online_ids().await, everybody_now, "the woken node lists everybody").await;
}

#[tokio::test]
async fn a_node_that_slept_longer_than_silence_is_allowed_does_not_blame_its_clients() {
    let timers =
        [("ROLLCALL__WEBSOCKET__PING_INTERVAL_MS", "400"), ("ROLLCALL__WEBSOCKET__SILENCE_TIMEOUT_MS", "1000")];
    let mut cluster = Cluster::processes_with(2, &timers).await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let mut paused = Vec::new();
    for number in 0..20 {
        paused.push(Listener::join(cluster[0].addr(), &format!("paused-{number:02}")).await);
    }
    let everybody = paused.last().expect("there are some").online();
    cluster[0].sigstop();
    eventually_eq(async || watch.online(), ["watch"], "elsewhere they are offline").await;
    cluster[0].sigcont();
    eventually_eq(async || watch.online(), everybody, "they are online again").await;
    for listener in &paused {
        listener.fence().await;
        listener.assert_sound();
    }
    watch.assert_sound();
}

#[tokio::test]
async fn a_sweep_that_its_sweeper_did_not_finish_is_finished_by_a_peer() {
    // One socket a batch, so that the sweeper dies with most of its work undone.
    let batch = [("ROLLCALL__PRESENCE__SWEEP_BATCH", "1"), ("ROLLCALL__PRESENCE__SWEEP_MS", "100")];
    let mut cluster = Cluster::processes_with(3, &batch).await;
    let watch = Listener::join(cluster[2].addr(), "watch").await;
    let crowd = crowd(&[cluster[0].addr()], "victim", 300).await;
    eventually_eq(async || watch.online().len(), 301, "the listener knows everybody").await;
    cluster[0].kill9();
    eventually(async || !watch.events("user_offline").is_empty(), "somebody has begun to sweep").await;
    // Whoever it was, of two: the other goes on.
    cluster[1].kill9();
    eventually_eq(async || watch.online(), ["watch"], "everybody is swept").await;
    watch.assert_sound();
    assert_eq!(watch.events("user_offline").len(), 300);
    drop(crowd);
}

#[tokio::test]
async fn a_dead_node_whose_lease_ends_far_ahead_is_swept_within_a_lease() {
    // What a clock leaves behind that was set back.
    let mut cluster = Cluster::processes(2).await;
    let watch = Listener::join(cluster[0].addr(), "watch").await;
    let ada = cluster[1].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    let dead = cluster[1].node_id().to_owned();
    cluster[1].kill9();
    let far = (rollcall::clock::now().0 + 3_600_000).to_string();
    cluster.redis.command(&["ZADD", "online:nodes", "XX", &far, &dead]).await;
    assert_eq!(watch.wait_for("user_offline", "ada").await.frame["reason"], "node_lost");
    watch.assert_sound();
    drop(ada);
}
