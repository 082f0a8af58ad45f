//! A client that does not read: it costs a bounded amount, is told that it missed something, and is closed in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use rollcall::settings::Settings;
use serde_json::{Value, json};

use crate::support::polling::event;
use crate::support::raw_ws::{FIN, TEXT, frame};
use crate::support::*;

/// A profile of nearly the largest size, so that a few thousand changes are megabytes: more than the kernel holds for a
/// client that does not read.
fn profile(version: u64) -> Value {
    json!({"type": "join_user", "userId": "busy", "name": version.to_string(), "avatar": "x".repeat(1900)})
}

/// 8 MB of events: the kernel holds at most 4 MB of them, and the broadcast log of these nodes less than 1 MB.
pub(crate) const CHANGES: u64 = 4000;
const LOG_BYTES: usize = 1_000_000;

/// Changes a profile this often, as fast as the node answers. Returns what the changing user heard meanwhile.
pub(crate) async fn flood(busy: &mut WsClient, versions: std::ops::Range<u64>) -> Vec<Value> {
    const AHEAD: u64 = 20;
    let mut heard = Vec::new();
    let (mut sent, mut answered) = (versions.start, versions.start);
    while answered < versions.end {
        while sent < versions.end && sent < answered + AHEAD {
            busy.send_json(profile(sent)).await;
            sent += 1;
        }
        let frame = busy.next_json().await;
        match frame["type"].as_str() {
            Some("online_users_list") => answered += 1,
            Some("welcome") => {}
            _ => heard.push(frame),
        }
    }
    heard
}

/// A node with a small broadcast log, one user who will be busy, and one who does not read.
pub(crate) async fn node_with_slow_client() -> (Node, WsClient, RawWs) {
    node_with_slow_client_and(|_| ()).await
}

async fn node_with_slow_client_and(change: impl FnOnce(&mut Settings)) -> (Node, WsClient, RawWs) {
    let mut settings = test_settings();
    change(&mut settings);
    settings.fanout.log_bytes = LOG_BYTES;
    settings.limits.page_default = 1;
    settings.limits.request_burst = 1_000_000;
    // `tls.rs` has these tests, too. Its files are read once.
    let pki = module_path!().contains("::tls::").then(Pki::new);
    if let Some(pki) = &pki {
        settings = encrypted(settings, &pki.issue("node"));
    }
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let mut slow = RawWs::connect_with_receive_buffer(node.addr(), "/ws?userId=slow", 4096).await;
    slow.wait_for_type("online_users_list").await;
    let busy = node.join("busy").await;
    slow.wait_for_type("user_online").await;
    (node, busy, slow)
}

/// The version that a frame shows of the busy user.
fn version(user: &Value) -> u64 {
    user["name"].as_str().and_then(|name| name.parse().ok()).unwrap_or_else(|| panic!("no version: {user}"))
}

#[tokio::test]
async fn who_does_not_read_is_told_to_start_over_with_nothing_torn_before_it() {
    let (_node, mut busy, mut slow) = node_with_slow_client().await;
    flood(&mut busy, 0..CHANGES).await;

    // What the kernel held comes first: whole frames, in order, without a hole.
    let mut next = 0;
    let resync = loop {
        let frame = slow.next_json().await;
        if frame["type"] != "user_changed" {
            break frame;
        }
        assert_eq!(version(&frame["user"]), next, "in order");
        next += 1;
    };
    assert!(next < CHANGES, "something was missed");
    assert_eq!(resync, json!({"type": "resync"}));
    let list = slow.next_json().await;
    assert_eq!(list["type"], "online_users_list");
    assert_eq!((&list["users"][0]["id"], version(&list["users"][0])), (&json!("busy"), CHANGES - 1));
    assert_eq!((&list["total"], &list["nextCursor"]), (&json!(2), &json!("busy")));
    assert_eq!(slow.next_json().await["type"], "own_status");

    // From there on everything is heard again.
    flood(&mut busy, CHANGES..CHANGES + 3).await;
    for expected in CHANGES..CHANGES + 3 {
        let event = slow.next_json().await;
        assert_eq!((&event["type"], version(&event["user"])), (&json!("user_changed"), expected));
        assert!(event["revision"].as_u64() > list["revision"].as_u64(), "{expected}");
    }
}

#[tokio::test]
async fn who_falls_behind_again_soon_is_closed_with_4008() {
    let (_node, mut busy, mut slow) = node_with_slow_client().await;
    flood(&mut busy, 0..CHANGES).await;
    slow.wait_for_type("resync").await;
    flood(&mut busy, CHANGES..2 * CHANGES).await;
    assert_eq!(slow.expect_close().await, (4008, "Too slow".to_owned()));
}

#[tokio::test]
async fn who_talks_but_never_reads_is_closed_all_the_same() {
    let (node, mut busy, mut slow) = node_with_slow_client_and(|settings| {
        settings.websocket.ping_interval = Duration::from_millis(300);
        settings.websocket.silence_timeout = Duration::from_millis(1000);
    })
    .await;
    let talk_until_closed = async || {
        slow.send(&frame(FIN | TEXT, br#"{"type":"user_activity"}"#)).await;
        node.counter("rollcall_slow_consumers_total").await == 1
    };
    // It talks from the beginning: else its silence would end it.
    let closed = eventually_within(3 * DEADLINE, talk_until_closed, "the node closes whoever never reads");
    tokio::join!(flood(&mut busy, 0..CHANGES), closed);
    eventually_eq(async || node.online_ids().await, ["busy"], "and after the grace they are gone").await;
}

#[tokio::test]
async fn others_are_served_while_one_does_not_read() {
    let (node, mut busy, mut slow) = node_with_slow_client().await;
    let mut reader = RawWs::connect(node.addr(), "/ws?userId=reader").await;
    reader.wait_for_type("online_users_list").await;
    let reading = tokio::spawn(async move {
        let mut versions = BTreeMap::new();
        let mut starts = 0;
        while !versions.contains_key(&(CHANGES - 1)) {
            let frame = reader.next_frame().await.expect("the reader stays connected");
            assert_eq!(frame.opcode, TEXT);
            let frame: Value = serde_json::from_slice(&frame.payload).expect("JSON");
            match frame["type"].as_str() {
                Some("user_changed") => *versions.entry(version(&frame["user"])).or_insert(0) += 1,
                Some("resync") => starts += 1,
                _ => {}
            }
        }
        (versions, starts)
    });
    flood(&mut busy, 0..CHANGES).await;
    let (versions, starts) = reading.await.expect("the reader reads to the end");
    assert!(versions.values().all(|times| *times == 1), "nothing is told twice");
    assert!(starts > 0 || versions.len() as u64 == CHANGES, "{} of {CHANGES}", versions.len());
    slow.wait_for_type("resync").await;
}

#[tokio::test]
async fn who_polls_and_does_not_fetch_is_told_to_start_over_and_is_closed_in_the_end() {
    let (node, mut busy, _) = node_with_slow_client_and(|settings| {
        settings.socketio.list_below = 0;
        // It is not pinged, because it has nobody who answers.
        settings.websocket.ping_interval = Duration::from_secs(100);
        settings.websocket.silence_timeout = Duration::from_secs(300);
    })
    .await;
    let mut slow = Polling::connect(&node, "userId=poller").await;
    slow.wait_for("online_users_list").await;
    busy.wait_for(|frame| frame["userId"] == "poller").await;
    flood(&mut busy, 0..CHANGES).await;
    let (mut next, mut n_bytes) = (0, 0);
    let resync = loop {
        let packet = slow.next().await;
        n_bytes += packet.len();
        match event(&packet).expect("an event") {
            (name, changed) if name == "user_changed" => {
                assert_eq!(version(&changed["user"]), next, "in order");
                next += 1;
            }
            // The client of the other tests, which does not read either. And the list, once a second.
            (name, _) if ["user_offline", "online_users_list"].contains(&name.as_str()) => {}
            other => break other,
        }
    };
    assert_eq!(resync, ("resync".to_owned(), json!({})));
    assert!((1..CHANGES).contains(&next), "{next}");
    // What waited in the pipe, and what the log had when the client began to fetch.
    assert!(n_bytes < 65_536 + 2 * LOG_BYTES, "{n_bytes}");
    let list = slow.wait_for("online_users_list").await;
    assert_eq!(version(&list["users"][0]), CHANGES - 1);

    flood(&mut busy, CHANGES..2 * CHANGES).await;
    let last = loop {
        let packet = slow.next().await;
        if event(&packet).is_none() {
            break packet;
        }
    };
    assert_eq!(last, "1");
    // The one of the other tests may be closed, too.
    assert!(node.counter("rollcall_slow_consumers_total").await >= 1);
}
