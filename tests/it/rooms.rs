//! What clients see of rooms.

use std::time::Duration;

use rollcall::settings::Settings;
use serde_json::{Value, json};

use crate::support::*;

/// Enters a room with an interest and returns how it is shown.
async fn join_with(client: &mut WsClient, room: &str, presence: &str) -> Value {
    let answer = client.ask(json!({"type": "join_room", "roomId": room, "presence": presence})).await;
    assert_eq!(answer["type"], "room_joined", "{answer}");
    answer
}

/// Waits until a client that is in the room is shown these users there.
async fn until_shown(client: &mut WsClient, room: &str, users: &[&str]) {
    let request = json!({"type": "get_room_users", "roomId": room});
    let ids = async || {
        let answer = client.ask(request.clone()).await;
        shown(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    eventually_eq(ids, users, "the room shows these users").await;
}

/// No goodbye of a connection ends while a test runs.
fn long_grace(settings: &mut Settings) {
    settings.presence.grace = Duration::from_secs(30);
    settings.presence.lease = Duration::from_mins(1);
}

fn unlimited(settings: &mut Settings) {
    settings.limits.request_burst = 1_000_000;
}

#[tokio::test]
async fn those_in_a_room_hear_of_one_another_and_nobody_else_does() {
    for place in Place::each(|_| ()).await {
        let mut ada = place.node(0).join("ada").await;
        let mut carol = place.node(2).join("carol").await;
        let alone = ada.join_room("lobby").await;
        assert_eq!((shown(&alone), &alone["total"]), (vec!["ada"], &json!(1)), "{alone}");
        assert!(alone.get("nextCursor").is_none() && alone.get("degraded").is_none(), "{alone}");

        let mut bob = place.node(1).join_as(json!({"userId": "bob", "name": "Bob"})).await;
        let both = bob.join_room("lobby").await;
        assert_eq!((shown(&both), &both["total"]), (vec!["ada", "bob"], &json!(2)), "{both}");
        let came = ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        let user = json!({"id": "bob", "name": "Bob", "status": "online"});
        assert_eq!((&came["roomId"], &came["userId"], &came["user"]), (&json!("lobby"), &json!("bob"), &user));
        assert!(came["timestamp"].is_string() && came.get("revision").is_none(), "{came}");

        bob.send_json(json!({"type": "set_status", "status": "busy"})).await;
        let changed = ada.wait_for(|frame| frame["type"] == "room_user_changed").await;
        assert_eq!((&changed["userId"], &changed["user"]["status"]), (&json!("bob"), &json!("busy")), "{changed}");
        let own = bob.wait_for(|frame| frame["type"] == "room_user_changed").await;
        assert_eq!(own["userId"], "bob", "the own sockets hear it, too");

        let left = bob.ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
        assert_eq!(left, json!({"type": "room_left", "roomId": "lobby", "ref": "asked"}));
        let gone = ada.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!((&gone["userId"], &gone["reason"]), (&json!("bob"), &json!("left")), "{gone}");
        assert_eq!(told_of(&ada.room_fence("lobby").await), []);

        // Whoever was never in the room has heard nothing of it, and whoever left hears no more.
        ada.ask(json!({"type": "set_status", "status": "dnd"})).await;
        for client in [&mut bob, &mut carol] {
            let heard =
                client.collect_until(|frame| frame["type"] == "user_status_changed" && frame["userId"] == "ada");
            let heard = heard.await;
            let of_rooms = heard.iter().filter(|frame| frame.get("roomId").is_some());
            assert_eq!(of_rooms.count(), 0, "{heard:?}");
        }
    }
}

#[tokio::test]
async fn a_user_is_in_a_room_while_one_of_their_sockets_is() {
    for place in Place::each(|_| ()).await {
        let mut ada = place.node(0).join("ada").await;
        ada.join_room("lobby").await;
        let mut tabs = [place.node(1).join("bob").await, place.node(2).join("bob").await];
        for tab in &mut tabs {
            assert_eq!(shown(&tab.join_room("lobby").await), ["ada", "bob"]);
        }
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        tabs[0].ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
        // What is told of the other user comes later than what the first goodbye could have caused.
        let mut carol = place.node(1).join("carol").await;
        carol.join_room("lobby").await;
        let heard = ada.collect_until(|frame| frame["userId"] == "carol" && frame["type"] == "room_user_joined").await;
        assert!(heard.iter().all(|frame| frame["type"] != "room_user_left"), "{heard:?}");
        let [_first, last] = tabs;
        last.close(1000).await;
        let gone = ada.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!((&gone["userId"], &gone["reason"]), (&json!("bob"), &json!("left")), "{gone}");
    }
}

#[tokio::test]
async fn a_reload_is_silent_and_a_lost_connection_is_told_after_the_grace() {
    for place in Place::each(long_grace).await {
        let (mut ada, bob) = place.two_in("lobby").await;
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        bob.abort();
        let mut bob = place.node(2).ws("/ws").await;
        bob.send_json(json!({"type": "join_user", "userId": "bob", "rooms": ["lobby"]})).await;
        let back = bob.wait_for(|frame| frame["type"] == "room_joined").await;
        assert_eq!((shown(&back), back.get("ref")), (vec!["ada", "bob"], None), "{back}");
        let mut carol = place.node(1).join("carol").await;
        carol.join_room("lobby").await;
        let heard = ada.collect_until(|frame| frame["userId"] == "carol" && frame["type"] == "room_user_joined").await;
        let of_the_room: Vec<_> = heard.into_iter().filter(|frame| frame.get("roomId").is_some()).collect();
        assert_eq!(told_of(&of_the_room), [("room_user_joined", "carol")]);
    }
    for place in Place::each(|settings| settings.presence.grace = Duration::from_millis(100)).await {
        let (mut ada, bob) = place.two_in("lobby").await;
        bob.abort();
        let gone = ada.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!((&gone["userId"], &gone["reason"]), (&json!("bob"), &json!("connection_lost")), "{gone}");
        until_shown(&mut ada, "lobby", &["ada"]).await;
    }
}

#[tokio::test]
async fn rooms_are_joined_with_the_service_and_shown_after_the_list() {
    for place in Place::each(|settings| settings.limits.rooms_per_socket = 3).await {
        let mut bob = place.node(1).join("bob").await;
        bob.join_room("7").await;
        let mut ada = place.node(0).ws("/ws").await;
        ada.send_json(json!({"type": "join_user", "userId": "ada", "rooms": [7, "a b", "7"], "ref": 1})).await;
        assert_eq!(ada.next_json().await["ref"], 1);
        ada.expect_type("online_users_list").await;
        let mut rooms = Vec::new();
        while rooms.len() < 2 {
            let frame = ada.next_json().await;
            if frame["type"] == "room_joined" {
                assert_eq!(frame.get("ref"), None, "{frame}");
                rooms.push((frame["roomId"].clone(), shown(&frame).join(" ")));
            }
        }
        rooms.sort_by_key(|(room, _)| room.to_string());
        assert_eq!(rooms, [(json!("7"), "ada bob".to_owned()), (json!("a b"), "ada".to_owned())]);

        // A further join enters further rooms, and leaves none.
        ada.send_json(json!({"type": "join_user", "userId": "ada", "rooms": ["x", "y"], "ref": 2})).await;
        let mut answers = Vec::new();
        while answers.len() < 2 {
            let frame = ada.next_json().await;
            if frame.get("roomId").is_some() && frame["type"] != "room_user_joined" {
                answers.push((frame["type"].clone(), frame["roomId"].clone(), frame["code"].clone()));
            }
        }
        assert_eq!(
            answers,
            [(json!("error"), json!("y"), json!("too_many_rooms")), (json!("room_joined"), json!("x"), Value::Null),]
        );
        for room in ["7", "a b", "x"] {
            assert_eq!(ada.ask(json!({"type": "leave_room", "roomId": room})).await["type"], "room_left", "{room}");
        }
    }
}

#[tokio::test]
async fn a_client_hears_of_a_room_what_it_wants() {
    for place in Place::each(unlimited).await {
        let mut counts = place.node(0).join("counts").await;
        let mut deaf = place.node(0).join("deaf").await;
        let shown_to = join_with(&mut counts, "lobby", "count").await;
        assert_eq!((shown_to.get("users"), &shown_to["total"]), (None, &json!(1)), "{shown_to}");
        join_with(&mut deaf, "lobby", "none").await;
        let told = counts.wait_for(|frame| frame["type"] == "room_count" && frame["onlineCount"] == 2).await;
        assert!(told["timestamp"].is_string() && told.get("degraded").is_none(), "{told}");
        let mut bob = place.node(1).join("bob").await;
        bob.join_room("lobby").await;
        counts.wait_for(|frame| frame["type"] == "room_count" && frame["onlineCount"] == 3).await;
        let heard = deaf.room_fence("lobby").await;
        assert!(heard.iter().all(|frame| frame.get("roomId").is_none()), "{heard:?}");

        // Both change what they hear. The room is shown, and what comes later is told.
        let now = deaf.join_room("lobby").await;
        assert_eq!(shown(&now), ["bob", "counts", "deaf"]);
        join_with(&mut counts, "lobby", "none").await;
        bob.ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
        let gone = deaf.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!(gone["userId"], "bob");
        let heard = counts.room_fence("lobby").await;
        assert!(heard.iter().all(|frame| frame.get("roomId").is_none()), "{heard:?}");
    }
}

#[tokio::test]
async fn who_is_invisible_is_in_no_room() {
    for place in Place::each(|_| ()).await {
        let (mut ada, mut bob) = place.two_in("lobby").await;
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        bob.send_json(json!({"type": "set_status", "status": "invisible"})).await;
        for client in [&mut ada, &mut bob] {
            let gone = client.wait_for(|frame| frame["type"] == "room_user_left").await;
            assert_eq!((&gone["userId"], &gone["reason"]), (&json!("bob"), &json!("left")), "{gone}");
        }
        until_shown(&mut bob, "lobby", &["ada"]).await;
        assert_eq!(place.node(2).room_ids("lobby").await, ["ada"]);
        // Another user comes while hidden: nobody hears of it.
        let mut eve = place.node(2).ws("/ws?userId=eve&status=invisible").await;
        eve.expect_type("welcome").await;
        assert_eq!(shown(&eve.join_room("lobby").await), ["ada"]);
        bob.ask(json!({"type": "set_status", "status": "online"})).await;
        let heard = ada.collect_until(|frame| frame["type"] == "room_user_joined").await;
        let of_the_room: Vec<_> = heard.into_iter().filter(|frame| frame.get("roomId").is_some()).collect();
        assert_eq!(told_of(&of_the_room), [("room_user_joined", "bob")]);
    }
}

#[tokio::test]
async fn a_room_is_read_in_pages_by_those_in_it_and_by_others() {
    for place in Place::each(unlimited).await {
        let mut sockets = Vec::new();
        for user in ["a", "b", "c", "d", "e"] {
            let mut socket = place.node(sockets.len()).join(user).await;
            socket.join_room("lobby").await;
            sockets.push(socket);
        }
        let mut outside = place.node(1).join("z").await;
        let mut board = place.node(2).ws("/ws").await;
        board.ask(json!({"type": "subscribe", "presence": "none"})).await;
        for client in [&mut sockets[0], &mut outside, &mut board] {
            until_shown(client, "lobby", &["a", "b", "c", "d", "e"]).await;
            let (mut pages, mut cursor) = (Vec::new(), Value::Null);
            loop {
                let request = json!({"type": "get_room_users", "roomId": "lobby", "limit": 2, "cursor": cursor});
                let page = client.ask(request).await;
                assert_eq!((&page["type"], &page["total"]), (&json!("room_users"), &json!(5)), "{page}");
                pages.push(shown(&page).join(""));
                match page.get("nextCursor") {
                    Some(next) => cursor = next.clone(),
                    None => break,
                }
            }
            assert_eq!(pages, ["ab", "cd", "e"]);
            let count = client.ask(json!({"type": "get_room_count", "roomId": "lobby"})).await;
            assert_eq!((&count["type"], &count["onlineCount"]), (&json!("room_count"), &json!(5)), "{count}");
            let empty = client.ask(json!({"type": "get_room_users", "roomId": "nobody"})).await;
            assert_eq!((shown(&empty).len(), &empty["total"], empty.get("degraded")), (0, &json!(0), None), "{empty}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_changes_nothing() {
    for place in Place::each(|settings| settings.limits.rooms_per_socket = 2).await {
        let mut ada = place.node(0).ws("/ws").await;
        for kind in ["join_room", "leave_room", "get_room_users", "get_room_count"] {
            let answer = ada.ask(json!({"type": kind, "roomId": "lobby"})).await;
            assert_eq!(answer["code"], "not_joined", "{kind}: {answer}");
        }
        ada.ask(json!({"type": "join_user", "userId": "ada", "rooms": ["one"]})).await;
        ada.join_room("two").await;
        for (request, code) in [
            (json!({"type": "join_room", "roomId": "three"}), "too_many_rooms"),
            (json!({"type": "join_room"}), "missing_field"),
            (json!({"type": "join_room", "roomId": "a\nb"}), "invalid_field"),
            (json!({"type": "join_room", "roomId": "one", "presence": "watch"}), "invalid_field"),
            (json!({"type": "leave_room", "roomId": "three"}), "not_in_room"),
            (json!({"type": "get_room_users", "roomId": "one", "limit": 10_001}), "invalid_field"),
            (json!({"type": "join_user", "userId": "ada", "rooms": ["1", "2", "3"]}), "invalid_field"),
        ] {
            let answer = ada.ask(request.clone()).await;
            assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{request}: {answer}");
        }
        let answer = ada.ask(json!({"type": "join_room", "roomId": "three"})).await;
        assert_eq!(answer["roomId"], "three", "{answer}");
        // To enter a room again is allowed, however many there are.
        ada.join_room("one").await;
        ada.ask(json!({"type": "leave_room", "roomId": "one"})).await;
        ada.join_room("three").await;
    }
}

#[tokio::test]
async fn who_leaves_the_service_hears_no_room_and_is_in_none() {
    for place in Place::each(|_| ()).await {
        let (mut ada, mut bob) = place.two_in("lobby").await;
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        assert_eq!(ada.ask(json!({"type": "leave"})).await["type"], "left");
        let gone = bob.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!((&gone["userId"], &gone["reason"]), (&json!("ada"), &json!("left")), "{gone}");
        // The socket becomes another user's. It is in no room.
        ada.send_json(json!({"type": "join_user", "userId": "eve"})).await;
        ada.expect_type("welcome").await;
        let answer = ada.ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
        assert_eq!(answer["code"], "not_in_room", "{answer}");
        let mut carol = place.node(1).join("carol").await;
        carol.join_room("lobby").await;
        bob.wait_for(|frame| frame["type"] == "room_user_joined" && frame["userId"] == "carol").await;
        let heard = ada.collect_until(|frame| frame["userId"] == "carol" && frame["type"] == "user_online").await;
        assert!(heard.iter().all(|frame| frame.get("roomId").is_none()), "{heard:?}");
    }
}

#[tokio::test]
async fn a_pause_is_silent_and_rooms_that_told_something_are_shown_again() {
    for place in Place::each(unlimited).await {
        let mut ada = place.node(0).join("ada").await;
        for (room, presence) in [("busy", "everyone"), ("quiet", "everyone"), ("counted", "count")] {
            join_with(&mut ada, room, presence).await;
        }
        // Another listener on the same node shows that the node has heard of everything.
        let mut witness = place.node(0).join("witness").await;
        let mut bob = place.node(1).join("bob").await;
        for room in ["busy", "counted"] {
            witness.join_room(room).await;
        }
        ada.wait_for(|frame| frame["type"] == "room_count" && frame["onlineCount"] == 2).await;
        ada.room_fence("busy").await;
        assert_eq!(ada.ask(json!({"type": "pause"})).await["type"], "paused");
        for room in ["busy", "counted"] {
            bob.join_room(room).await;
            witness.wait_for(|frame| frame["type"] == "room_user_joined" && frame["roomId"] == room).await;
        }
        assert_eq!(ada.fence().await, NOTHING);
        assert_eq!(ada.room_fence("busy").await, NOTHING);

        ada.send_json(json!({"type": "resume", "ref": "r"})).await;
        let mut of_rooms = Vec::new();
        ada.wait_for(|frame| frame["ref"] == "r").await;
        while of_rooms.len() < 2 {
            let frame = ada.next_json().await;
            if frame.get("roomId").is_some() {
                of_rooms.push(frame);
            }
        }
        of_rooms.sort_by_key(|frame| frame["roomId"].to_string());
        assert_eq!((&of_rooms[0]["type"], shown(&of_rooms[0])), (&json!("room_joined"), vec!["ada", "bob", "witness"]));
        let counted = &of_rooms[1];
        assert_eq!((&counted["type"], &counted["onlineCount"]), (&json!("room_count"), &json!(3)), "{counted}");
        // From here on it hears again, and the quiet room was not shown.
        for room in ["busy", "quiet"] {
            bob.join_room(room).await;
        }
        let came = ada.wait_for(|frame| frame.get("roomId").is_some()).await;
        assert_eq!((&came["type"], &came["roomId"]), (&json!("room_user_joined"), &json!("quiet")), "{came}");
    }
}

#[tokio::test]
async fn a_subscription_or_a_join_ends_a_pause_for_rooms_too() {
    for place in Place::each(unlimited).await {
        for request in [
            json!({"type": "subscribe", "presence": "none"}),
            json!({"type": "join_user", "userId": "ada", "presence": "none"}),
        ] {
            let mut ada = place.node(0).join("ada").await;
            ada.join_room("lobby").await;
            let mut witness = place.node(0).join("witness").await;
            witness.join_room("lobby").await;
            ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
            ada.ask(json!({"type": "pause"})).await;
            let mut bob = place.node(1).join("bob").await;
            bob.join_room("lobby").await;
            witness.wait_for(|frame| frame["type"] == "room_user_joined" && frame["userId"] == "bob").await;
            ada.ask(request).await;
            let again = ada.wait_for(|frame| frame.get("roomId").is_some()).await;
            assert_eq!((&again["type"], shown(&again)), (&json!("room_joined"), vec!["ada", "bob", "witness"]));
            bob.ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
            let gone = ada.wait_for(|frame| frame.get("roomId").is_some()).await;
            assert_eq!((&gone["type"], &gone["userId"]), (&json!("room_user_left"), &json!("bob")), "{gone}");
            for client in [ada, witness, bob] {
                client.close(1000).await;
            }
            eventually_eq(async || place.node(0).online_ids().await, NOBODY, "all have gone").await;
        }
    }
}

#[tokio::test]
async fn a_client_that_starts_over_is_shown_its_rooms() {
    // A client that hears of everyone, and missed more than a page while it was paused, starts over.
    for place in Place::each(|settings| settings.limits.page_default = 2).await {
        let mut ada = place.node(0).join("ada").await;
        ada.join_room("lobby").await;
        join_with(&mut ada, "counted", "count").await;
        ada.ask(json!({"type": "pause"})).await;
        let mut others = Vec::new();
        for user in ["b", "c", "d"] {
            let mut other = place.node(1).join(user).await;
            other.join_room("lobby").await;
            others.push(other);
        }
        eventually_eq(async || place.node(0).online_ids().await, ["ada", "b", "c", "d"], "the node knows them").await;
        let all = async || place.node(0).room_users("lobby", "").await.1["data"]["onlineCount"].clone();
        eventually_eq(all, json!(4), "the node knows the room").await;
        ada.send_json(json!({"type": "resume"})).await;
        let mut rooms = Vec::new();
        ada.wait_for(|frame| frame["type"] == "resync").await;
        ada.expect_type("online_users_list").await;
        ada.expect_type("own_status").await;
        while rooms.len() < 2 {
            rooms.push(ada.expect_type("room_joined").await);
        }
        rooms.sort_by_key(|frame| frame["roomId"].to_string());
        assert_eq!((&rooms[0]["total"], rooms[0].get("users")), (&json!(1), None), "only the number: {}", rooms[0]);
        assert_eq!((shown(&rooms[1]), &rooms[1]["total"]), (vec!["ada", "b"], &json!(4)), "a page has 2 users");
        assert_eq!(rooms[1]["nextCursor"], "b");
    }
}
