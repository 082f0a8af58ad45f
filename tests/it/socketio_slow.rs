//! Clients of S1 and S0 that do not read a WebSocket for a while: the last state comes afterwards, or a close.

use std::collections::BTreeSet;
use std::time::Duration;

use rollcall::settings::Settings;
use serde_json::json;

use crate::support::*;

/// Others who are online. A list of them is about 22 KB.
const OTHERS: usize = 15;

/// How often something happens that the client does not read.
const CHANGES: usize = 600;

/// The logs keep less than what happens meanwhile.
fn small_logs(settings: &mut Settings, log_bytes: usize) {
    settings.fanout.log_bytes = log_bytes;
    settings.fanout.resync_interval = Duration::from_secs(300);
    (settings.limits.requests_per_second, settings.limits.request_burst) = (1_000_000, 1_000_000);
}

/// Many others with long names. They hear nothing of each other, and are in these rooms.
async fn others(node: &Endpoint, rooms: &[String]) -> Vec<WsClient> {
    let mut others = Vec::new();
    for n in 0..OTHERS {
        let mut other = node.ws(&format!("/ws?userId=other-{n}&presence=none")).await;
        other.expect_type("welcome").await;
        let user = format!("other-{n}");
        other.ask(json!({"type": "join_user", "userId": user, "name": "x".repeat(1400), "rooms": rooms})).await;
        others.push(other);
    }
    others
}

/// The client `slow` asks for lists and reads none, until the kernel holds no more for it.
async fn stop_reading(slow: &mut SioWs, node: &Endpoint, list: &str) {
    const AT_ONCE: usize = 20;
    let mut ask = async || {
        for _ in 0..AT_ONCE {
            slow.emit(json!([list])).await;
        }
    };
    let is_blocked = async || {
        ask().await;
        let explained = node.get("/api/users/slow/explain").await.1;
        let sockets = explained["data"]["sockets"].as_array().expect("sockets");
        let accounts = sockets.iter().filter_map(|socket| socket["account"].as_str());
        accounts.into_iter().any(|account| account.contains("does not read"))
    };
    eventually_within(6 * DEADLINE, is_blocked, "the client's buffers are full").await;
    // The lists until now may just have filled the buffers. These do not fit.
    ask().await;
}

async fn set_status(client: &mut WsClient, status: &str) {
    assert_eq!(client.ask(json!({"type": "set_status", "status": status})).await["chosen"], status);
}

/// Waits until the node knows the status of a user.
async fn knows(node: &Endpoint, user: &str, status: &str) {
    let path = format!("/api/user-status/{user}");
    eventually_eq(async || node.get(&path).await.1["data"]["status"].clone(), json!(status), "the node knows it").await;
}

#[tokio::test]
async fn a_client_of_s1_that_does_not_read_gets_the_last_state_and_is_closed_if_it_goes_on() {
    for place in Place::each(|settings| small_logs(settings, 65_536)).await {
        let (here, elsewhere) = (place.node(0), place.node(1));
        let _others = others(elsewhere, &[]).await;
        let mut slow = SioWs::connect_slow(here).await;
        assert_eq!(slow.ask(json!(["authenticate", "slow"])).await["success"], true);
        // Its user has another tab, which reads.
        let mut tab = elsewhere.ws("/ws?userId=slow&presence=none").await;
        tab.expect_type("welcome").await;
        let mut bob = here.join("bob").await;
        slow.wait_until("user-status-change", |change| change["userId"] == "bob").await;

        stop_reading(&mut slow, here, "get-online-users").await;
        change_often(&mut bob, "dnd").await;
        set_status(&mut tab, "busy").await;
        knows(here, "slow", "busy").await;
        // Its own status comes as it changes, whatever else is left out. It comes again after the list that starts over.
        let (mut heard, mut n_own) = (Vec::new(), 0);
        while n_own < 2 {
            heard.push(slow.next_event().await);
            n_own += usize::from(heard[heard.len() - 1].1["userId"] == "slow");
        }
        let [.., (list_name, list), (name, own)] = &heard[..] else { panic!("{} events", heard.len()) };
        assert_eq!((name.as_str(), &own["status"]), ("user-status-change", &json!("busy")), "{own}");
        assert_eq!((&own["isOnline"], own["timestamp"].is_string()), (&json!(true), true), "{own}");
        assert_eq!((list_name.as_str(), &list["count"]), ("online-users-list", &json!(OTHERS + 2)));
        for (user, status) in [("slow", "busy"), ("bob", "dnd")] {
            let listed = list["users"].as_array().expect("users").iter().find(|listed| listed["id"] == user);
            assert_eq!(listed.expect("a user of the list")["status"], status, "{user}");
        }
        let n_told = heard.iter().filter(|(_, argument)| argument["userId"] == "bob").count();
        assert!(n_told < CHANGES, "{n_told}: some were left out");
        assert_eq!(here.counter("rollcall_resyncs_total").await, 1);
        assert_eq!(slow.ask(json!(["ping"])).await, "pong");
        // From there on it hears everything again.
        set_status(&mut bob, "away").await;
        slow.wait_until("user-status-change", |change| change["userId"] == "bob" && change["status"] == "away").await;

        stop_reading(&mut slow, here, "get-online-users").await;
        change_often(&mut bob, "dnd").await;
        knows(here, "bob", "dnd").await;
        assert_eq!(slow.expect_close().await.1, 4008);
    }
}

/// The user changes the status often. The last one is this.
async fn change_often(bob: &mut WsClient, last: &str) {
    for n in 0..CHANGES {
        set_status(bob, if n % 2 == 0 { "busy" } else { "online" }).await;
    }
    set_status(bob, last).await;
}

#[tokio::test]
async fn a_client_of_s0_that_does_not_read_gets_its_rooms_as_they_are() {
    let rooms: Vec<_> = (0..10).map(|n| format!("room-{n}")).collect();
    // A list may take an eighth of the logs.
    for place in Place::each(|settings| small_logs(settings, 200_000)).await {
        let (here, elsewhere) = (place.node(0), place.node(1));
        let _others = others(elsewhere, &rooms).await;
        let mut slow = SioWs::connect_slow(here).await;
        for room in &rooms {
            assert_eq!(slow.ask(json!(["join-room", {"roomId": room, "userId": "slow"}])).await["success"], true);
        }
        let mut tab = elsewhere.ws("/ws?userId=slow&presence=none").await;
        tab.expect_type("welcome").await;
        let mut bob = here.join("bob").await;

        stop_reading(&mut slow, here, "get_online_users").await;
        // The logs have room for nine lists.
        let n_told = async || here.counter(r#"rollcall_bulletins_total{scope="room"}"#).await;
        let (n_told_before, mut n_changes) = (n_told().await, 0);
        while n_changes < CHANGES || n_told().await < n_told_before + 20 {
            for room in &rooms {
                bob.join_room(room).await;
                bob.ask(json!({"type": "leave_room", "roomId": room})).await;
            }
            n_changes += 2 * rooms.len();
        }
        for room in &rooms {
            bob.join_room(room).await;
        }
        set_status(&mut tab, "busy").await;
        knows(here, "slow", "busy").await;
        let mut left: BTreeSet<_> = rooms.iter().map(String::as_str).collect();
        let own = slow.wait_for("own_status").await;
        assert_eq!((&own["chosen"], &own["effective"]), (&json!("busy"), &json!("busy")), "{own}");
        while !left.is_empty() {
            let update = slow.wait_for("online-count-updated").await;
            left.remove(update["roomId"].as_str().expect("an id"));
            assert_eq!(update["onlineCount"], OTHERS + 2);
            let users = update["onlineUsers"].as_array().expect("users");
            let is_there = |id: &str| users.iter().any(|user| user["userId"] == id);
            assert!(users.len() == OTHERS + 2 && is_there("slow") && is_there("bob"), "{update}");
        }
        assert_eq!(here.counter("rollcall_resyncs_total").await, 1);
        // From there on it hears everything again.
        bob.ask(json!({"type": "leave_room", "roomId": rooms[0]})).await;
        slow.wait_until("online-count-updated", |update| update["onlineCount"] == OTHERS + 1).await;
    }
}
