//! Clients that hear of some users, of their number, or of nobody; and clients that pause.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::raw_ws::{FIN, TEXT, frame};
use crate::support::*;

async fn ask(client: &mut WsClient, mut request: Value) -> Value {
    request["ref"] = "asked".into();
    client.send_json(request).await;
    client.wait_for(|frame| frame["ref"] == "asked").await
}

async fn watch(client: &mut WsClient, users: &[&str]) -> Vec<Value> {
    let answer = ask(client, json!({"type": "watch", "userIds": users})).await;
    assert_eq!(answer["type"], "watching", "{answer}");
    answer["users"].as_array().expect("a list").clone()
}

/// The kinds and the users of events, in order.
fn told(frames: &[Value]) -> Vec<(String, String)> {
    let text = |frame: &Value, member: &str| frame[member].as_str().unwrap_or_default().to_owned();
    frames.iter().map(|frame| (text(frame, "type"), text(frame, "userId"))).collect()
}

fn events(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(kind, user)| ((*kind).to_owned(), (*user).to_owned())).collect()
}

/// Waits until the node shows that these users are online.
async fn until_online(node: &Endpoint, users: &[&str]) {
    eventually_eq(async || node.online_ids().await, users, "the node knows who is online").await;
}

#[tokio::test]
async fn whoever_watches_hears_of_the_watched_users_and_of_nobody_else() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let was = place.node(1).join("was").await;
        was.close(1000).await;
        let _bob = place.node(1).join("bob").await;
        until_online(node, &["bob"]).await;
        let mut watcher = node.ws("/ws?userId=me&presence=watch").await;
        let welcome = watcher.expect_type("welcome").await;
        assert_eq!(welcome["onlineCount"], 2, "{welcome}");
        assert_eq!(watcher.fence().await, NOTHING, "there is no list");
        let users = watch(&mut watcher, &["was", "bob", "carol", "bob"]).await;
        let ids: Vec<_> = users.iter().map(|user| (&user["userId"], &user["online"])).collect();
        assert_eq!(
            ids,
            [(&json!("bob"), &json!(true)), (&json!("carol"), &json!(false)), (&json!("was"), &json!(false))]
        );
        assert_eq!(users[0]["user"], json!({"id": "bob", "status": "online"}));
        assert!(users[2]["lastSeen"].is_string() && users[1].get("lastSeen").is_none(), "{users:?}");

        let mut carol = place.node(2).join("carol").await;
        let dora = place.node(2).join("dora").await;
        ask(&mut carol, json!({"type": "set_status", "status": "busy"})).await;
        until_online(node, &["bob", "carol", "dora", "me"]).await;
        dora.close(1000).await;
        carol.close(1000).await;
        until_online(node, &["bob", "me"]).await;
        let expected = [("user_online", "carol"), ("user_status_changed", "carol"), ("user_offline", "carol")];
        assert_eq!(told(&watcher.fence().await), events(&expected));

        let answer = ask(&mut watcher, json!({"type": "unwatch", "userIds": ["carol", "nobody"]})).await;
        assert_eq!((&answer["type"], &answer["userIds"]), (&json!("unwatched"), &json!(["carol", "nobody"])));
        let carol = place.node(2).join("carol").await;
        carol.close(1000).await;
        until_online(node, &["bob", "me"]).await;
        assert_eq!(watcher.fence().await, NOTHING);
    }
}

#[tokio::test]
async fn a_change_of_interest_leaves_no_hole_and_repeats_nothing() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let mut client = node.join("me").await;
        let bob = place.node(1).join("bob").await;
        client.expect_type("user_online").await;
        assert_eq!(watch(&mut client, &["bob"]).await.len(), 1);
        let _carol = place.node(1).join("carol").await;
        bob.close(1000).await;
        until_online(node, &["carol", "me"]).await;
        assert_eq!(told(&client.fence().await), events(&[("user_offline", "bob")]));

        let answer = ask(&mut client, json!({"type": "subscribe", "presence": "everyone"})).await;
        assert_eq!((&answer["presence"], &answer["onlineCount"]), (&json!("everyone"), &json!(2)), "{answer}");
        let list = client.expect_type("online_users_list").await;
        assert_eq!(list["total"], 2);
        client.expect_type("own_status").await;
        let _bob = place.node(2).join("bob").await;
        until_online(node, &["bob", "carol", "me"]).await;
        assert_eq!(told(&client.fence().await), events(&[("user_online", "bob")]), "once, not twice");

        let answer = ask(&mut client, json!({"type": "subscribe", "presence": "none"})).await;
        assert_eq!(answer["type"], "subscribed");
        client.expect_type("own_status").await;
        let dora = place.node(1).join("dora").await;
        dora.close(1000).await;
        until_online(node, &["bob", "carol", "me"]).await;
        assert_eq!(client.fence().await, NOTHING);
        // What concerns the own user is told all the same.
        let mut tab = place.node(1).join("me").await;
        ask(&mut tab, json!({"type": "set_status", "status": "dnd"})).await;
        let own = client.expect_type("own_status").await;
        assert_eq!(own["effective"], "dnd");
    }
}

#[tokio::test]
async fn one_may_listen_without_being_online_and_the_time_to_join_does_not_end_that() {
    let short = |settings: &mut rollcall::settings::Settings| {
        settings.websocket.join_timeout = Duration::from_millis(300);
    };
    for place in Place::each(short).await {
        let node = place.node(0);
        let mut board = node.ws("/ws").await;
        board.send_json(json!({"type": "watch", "userIds": [], "ref": 1})).await;
        assert_eq!(board.expect_type("error").await["code"], "not_joined");
        ask(&mut board, json!({"type": "subscribe", "presence": "everyone"})).await;
        board.expect_type("online_users_list").await;
        // A socket that has not joined ends in this time.
        node.ws("/ws").await.expect_close().await;
        let ada = place.node(1).join("ada").await;
        board.expect_type("user_online").await;
        assert_eq!(node.online_ids().await, ["ada"], "who listens is not online");
        ada.close(1000).await;
        board.expect_type("user_offline").await;
        let list = ask(&mut board, json!({"type": "get_online_users"})).await;
        assert_eq!(list["total"], 0);
        // It may come later, and hears of itself no more than others do.
        board.send_json(json!({"type": "join_user", "userId": "board"})).await;
        board.expect_type("welcome").await;
        board.expect_type("online_users_list").await;
        until_online(node, &["board"]).await;
        assert_eq!(board.fence().await, NOTHING);
    }
}

#[tokio::test]
async fn who_wants_the_number_is_told_it_once_a_second_at_most_and_only_if_it_changes() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let mut counter = node.ws("/ws").await;
        let answer = ask(&mut counter, json!({"type": "subscribe", "presence": "count"})).await;
        assert_eq!((&answer["type"], &answer["onlineCount"]), (&json!("subscribed"), &json!(0)), "{answer}");
        let started = tokio::time::Instant::now();
        let mut users = Vec::new();
        for number in 0..30 {
            users.push(place.node(number % 3).join(&format!("user-{number}")).await);
        }
        let mut n_frames = 0;
        let last = loop {
            let frame = counter.expect_type("online_count").await;
            n_frames += 1;
            if frame["onlineCount"] == 30 {
                break frame;
            }
        };
        assert!(last["timestamp"].is_string() && last.get("userId").is_none(), "{last}");
        assert!(n_frames <= started.elapsed().as_secs() + 1, "{n_frames} frames in {:?}", started.elapsed());
        // One comes and one goes: the number stands.
        let n_before = async || node.get("/api/online-users?countOnly=true").await.1["count"].clone();
        let more = place.node(1).join("more").await;
        users.pop().expect("there are thirty").close(1000).await;
        eventually_eq(n_before, json!(30), "as many as before").await;
        more.close(1000).await;
        let frame = counter.wait_for(|frame| frame["onlineCount"] == 29).await;
        assert_eq!(frame["type"], "online_count");

        ask(&mut counter, json!({"type": "pause"})).await;
        users.pop().expect("there are more").close(1000).await;
        eventually_eq(n_before, json!(28), "one less").await;
        assert_eq!(counter.fence().await, NOTHING);
        ask(&mut counter, json!({"type": "resume"})).await;
        let frame = counter.next_json().await;
        assert_eq!((&frame["type"], &frame["onlineCount"]), (&json!("online_count"), &json!(28)), "{frame}");

        let answer = ask(&mut counter, json!({"type": "unwatch_count"})).await;
        assert_eq!(answer["type"], "count_unwatched");
        let answer = ask(&mut counter, json!({"type": "watch_count"})).await;
        assert_eq!((&answer["type"], &answer["onlineCount"]), (&json!("online_count"), &json!(28)), "{answer}");
        assert!(answer["revision"].is_number(), "{answer}");
    }
}

#[tokio::test]
async fn a_pause_is_silent_and_what_was_missed_comes_at_once() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let mut client = node.join("me").await;
        let stays = place.node(1).join("stays").await;
        let goes = place.node(1).join("goes").await;
        until_online(node, &["goes", "me", "stays"]).await;
        client.fence().await;
        assert_eq!(ask(&mut client, json!({"type": "pause"})).await["type"], "paused");
        goes.close(1000).await;
        until_online(node, &["me", "stays"]).await;
        let mut comes = place.node(2).join("comes").await;
        ask(&mut comes, json!({"type": "set_status", "status": "busy"})).await;
        let brief = place.node(2).join("brief").await;
        until_online(node, &["brief", "comes", "me", "stays"]).await;
        brief.close(1000).await;
        until_online(node, &["comes", "me", "stays"]).await;
        assert_eq!(client.fence().await, NOTHING);

        let answer = ask(&mut client, json!({"type": "resume"})).await;
        assert_eq!(answer["type"], "resumed");
        let changes = answer["changes"].as_array().expect("a list");
        assert_eq!(told(changes), events(&[("user_offline", "goes"), ("user_online", "comes")]), "{answer}");
        assert_eq!(changes[1]["user"]["status"], "busy");
        client.expect_type("own_status").await;
        stays.close(1000).await;
        until_online(node, &["comes", "me"]).await;
        assert_eq!(told(&client.fence().await), events(&[("user_offline", "stays")]));
    }
}

#[tokio::test]
async fn who_watches_and_pauses_is_told_the_last_states() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let mut client = node.join("me").await;
        watch(&mut client, &["bob", "carol", "dora"]).await;
        ask(&mut client, json!({"type": "pause"})).await;
        let bob = place.node(1).join("bob").await;
        bob.close(1000).await;
        let _carol = place.node(1).join("carol").await;
        let _erin = place.node(1).join("erin").await;
        until_online(node, &["carol", "erin", "me"]).await;
        let answer = ask(&mut client, json!({"type": "resume"})).await;
        assert_eq!(told(answer["changes"].as_array().expect("a list")), events(&[("user_online", "carol")]));
        client.expect_type("own_status").await;
        let _dora = place.node(2).join("dora").await;
        until_online(node, &["carol", "dora", "erin", "me"]).await;
        assert_eq!(told(&client.fence().await), events(&[("user_online", "dora")]));
    }
}

#[tokio::test]
async fn who_missed_more_than_a_page_starts_over() {
    for place in Place::each(|settings| settings.limits.page_default = 2).await {
        let node = place.node(0);
        let mut client = node.join("me").await;
        ask(&mut client, json!({"type": "pause"})).await;
        let _users = [place.node(1).join("a").await, place.node(1).join("b").await, place.node(2).join("c").await];
        until_online(node, &["a", "b", "c", "me"]).await;
        let answer = ask(&mut client, json!({"type": "resume"})).await;
        assert_eq!(answer["changes"], json!([]), "{answer}");
        client.expect_type("resync").await;
        assert_eq!(client.expect_type("online_users_list").await["total"], 4);
        client.expect_type("own_status").await;
        let _dora = place.node(1).join("dora").await;
        assert_eq!(client.expect_type("user_online").await["userId"], "dora");
    }
}

#[tokio::test]
async fn watches_are_bounded_and_bad_requests_change_nothing() {
    let narrow = |settings: &mut rollcall::settings::Settings| {
        (settings.limits.watches_per_socket, settings.limits.watches) = (3, 4);
    };
    for place in Place::each(narrow).await {
        let node = place.node(0);
        let mut client = node.join("me").await;
        watch(&mut client, &["a", "b"]).await;
        for (request, code) in [
            (json!({"type": "watch", "userIds": ["c", "d"]}), "too_many_watches"),
            (json!({"type": "watch", "userIds": ["a", "b", "c", "d"]}), "invalid_field"),
            (json!({"type": "watch"}), "missing_field"),
            (json!({"type": "watch", "userIds": [""]}), "invalid_field"),
            (json!({"type": "subscribe", "presence": "all"}), "invalid_field"),
            (json!({"type": "subscribe"}), "missing_field"),
        ] {
            let answer = ask(&mut client, request.clone()).await;
            assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{request}: {answer}");
        }
        // Whom it watches already costs nothing.
        assert_eq!(watch(&mut client, &["a", "b", "c"]).await.len(), 3);
        let mut other = node.join("other").await;
        let answer = ask(&mut other, json!({"type": "watch", "userIds": ["a", "b"]})).await;
        assert_eq!(answer["code"], "too_many_watches", "all sockets of the node together: {answer}");
        client.close(1000).await;
        eventually_eq(async || node.counter("rollcall_watches").await, 0, "a socket that is gone watches nobody").await;
        assert_eq!(watch(&mut other, &["a", "b"]).await.len(), 2);
    }
}

/// A client that reads nothing until it is asked to, and its node.
async fn not_reading(node: &Endpoint, path: &str) -> RawWs {
    let mut client = RawWs::connect_with_receive_buffer(node.addr(), path, 4096).await;
    client.wait_for_type("welcome").await;
    client
}

async fn say(client: &mut RawWs, request: Value) {
    client.send(&frame(FIN | TEXT, request.to_string().as_bytes())).await;
}

/// Another user changes the profile until the kernel holds no more for the client `slow`. Returns this user's client, and how
/// often it changed the profile.
async fn flood(place: &Place) -> (WsClient, u64) {
    const AT_ONCE: u64 = 200;
    let mut bob = place.node(1).ws("/ws?userId=bob&presence=none").await;
    bob.expect_type("welcome").await;
    let profile = "x".repeat(1900);
    let mut n_sent = 0;
    let mut change_often = async || {
        for _ in 0..AT_ONCE {
            n_sent += 1;
            bob.send_json(json!({"type": "join_user", "userId": "bob", "name": n_sent.to_string(), "avatar": profile}))
                .await;
        }
        for _ in 0..AT_ONCE {
            bob.expect_type("welcome").await;
        }
    };
    let is_blocked = async || {
        change_often().await;
        let explained = place.node(0).get("/api/users/slow/explain").await.1;
        explained["data"]["sockets"][0]["account"].as_str().is_some_and(|account| account.contains("does not read"))
    };
    eventually_within(6 * DEADLINE, is_blocked, "the client's buffers are full").await;
    // The changes until now may just have filled the buffers. These do not fit.
    change_often().await;
    (bob, n_sent)
}

/// Which of the changes a frame shows.
fn version(frame: &Value) -> u64 {
    frame["user"]["name"].as_str().and_then(|name| name.parse().ok()).unwrap_or_default()
}

fn unlimited(settings: &mut rollcall::settings::Settings) {
    (settings.limits.requests_per_second, settings.limits.request_burst) = (1_000_000, 1_000_000);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_told_the_last_state_of_each_user() {
    for place in Place::each(unlimited).await {
        let mut slow = not_reading(place.node(0), "/ws?userId=slow&presence=watch").await;
        say(&mut slow, json!({"type": "watch", "userIds": ["bob"]})).await;
        slow.wait_for_type("watching").await;
        let (_bob, n_sent) = flood(&place).await;
        // It reads again: the last state comes, however many were left out.
        let (mut n_heard, mut last) = (0, 0);
        while last < n_sent {
            let frame = slow.next_json().await;
            n_heard += 1;
            assert!(["user_online", "user_changed"].contains(&frame["type"].as_str().expect("a type")), "{frame}");
            assert!(n_heard == 1 || version(&frame) > last, "after {last}: {frame}");
            last = version(&frame);
        }
        assert!(n_heard < n_sent, "{n_heard} of {n_sent}: some were left out");
    }
}

#[tokio::test]
async fn a_resume_without_a_pause_takes_nothing_from_a_slow_client() {
    let wide = |settings: &mut rollcall::settings::Settings| {
        unlimited(settings);
        settings.fanout.log_bytes = 64 << 20;
    };
    for place in Place::each(wide).await {
        let mut slow = not_reading(place.node(0), "/ws?userId=slow").await;
        slow.wait_for_type("online_users_list").await;
        let (_bob, n_sent) = flood(&place).await;
        say(&mut slow, json!({"type": "resume", "ref": 1})).await;
        slow.wait_for_type("user_online").await;
        // The last changes may still be on their way from the other node when the client resumes.
        let mut n_heard = 0;
        let mut answer = None;
        while n_heard < n_sent || answer.is_none() {
            let frame = slow.next_json().await;
            if frame["type"] == "resumed" {
                answer = Some(frame["changes"].clone());
                continue;
            }
            n_heard += 1;
            assert_eq!((frame["type"].as_str(), version(&frame)), (Some("user_changed"), n_heard));
        }
        assert_eq!(answer, Some(json!([])));
    }
}

#[tokio::test]
async fn a_change_of_interest_loses_no_change_of_the_own_status() {
    for place in Place::each(|_| ()).await {
        let mut paused = place.node(0).join("me").await;
        let mut tab = place.node(1).join("me").await;
        ask(&mut paused, json!({"type": "pause"})).await;
        ask(&mut tab, json!({"type": "set_status", "status": "busy"})).await;
        let status = async || place.node(0).get("/api/user-status/me").await.1["data"]["status"].clone();
        eventually_eq(status, json!("busy"), "the node knows it").await;
        ask(&mut paused, json!({"type": "subscribe", "presence": "none"})).await;
        assert_eq!(paused.expect_type("own_status").await["chosen"], "busy");
    }
}

#[tokio::test]
async fn the_plain_format_hears_of_everyone_or_of_nobody() {
    let node = Node::start_with(|_| ()).await;
    let mut quiet = node.ws("/?userId=quiet&presence=none").await;
    quiet.expect_type("CONNECTION_ESTABLISHED").await;
    let mut loud = node.ws("/?userId=loud&presence=everyone").await;
    loud.expect_type("CONNECTION_ESTABLISHED").await;
    let ada = node.join("ada").await;
    loud.expect_type("USER_ONLINE").await;
    ada.close(1000).await;
    loud.expect_type("USER_OFFLINE").await;
    quiet.send_text("{}").await;
    quiet.expect_type("ERROR").await;
    for presence in ["watch", "count", "all", ""] {
        let refused = WsClient::try_connect(node.addr(), &format!("/?userId=a&presence={presence}")).await;
        let refusal = refused.err().expect("it is refused");
        assert_eq!((refusal.status, refusal.json()["code"].as_str()), (400, Some("invalid_parameter")), "{presence}");
    }
}
