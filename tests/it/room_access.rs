//! Who may enter a room, and how the application's server says so.

use std::time::Duration;

use reqwest::Method;
use rollcall::settings::{RoomRule, Settings};
use serde_json::{Value, json};

use crate::support::*;

fn registered(settings: &mut Settings) {
    settings.rooms.access = RoomRule::Registered;
    settings.limits.request_burst = 1_000_000;
}

/// Registers a room with these members.
async fn register(node: &Endpoint, room: &str, users: &[&str]) {
    let (status, body) = node.register(Method::PUT, &percent_encoded(room)).await;
    assert_eq!((status, &body["success"], &body["data"]["roomId"]), (200, &json!(true), &json!(room)), "{body}");
    for user in users {
        let path = format!("{}/members/{}", percent_encoded(room), percent_encoded(user));
        let (status, body) = node.register(Method::PUT, &path).await;
        assert_eq!((status, &body["data"]), (200, &json!({"roomId": room, "userId": user})), "{body}");
    }
}

async fn remove(node: &Endpoint, room: &str, user: &str) -> Value {
    let (status, body) = node.register(Method::DELETE, &format!("{room}/members/{user}")).await;
    assert_eq!((status, &body["data"]["roomId"], &body["data"]["userId"]), (200, &json!(room), &json!(user)), "{body}");
    assert!(body["timestamp"].is_string(), "{body}");
    body["data"].clone()
}

async fn refusal(client: &mut WsClient, kind: &str, room: &str) -> Value {
    let answer = client.ask(json!({"type": kind, "roomId": room})).await;
    assert_eq!((&answer["type"], &answer["roomId"]), (&json!("error"), &json!(room)), "{answer}");
    answer["code"].clone()
}

#[tokio::test]
async fn only_registered_members_enter_and_ask() {
    for place in Place::each(registered).await {
        register(place.node(1), "a/b", &["ada", "7"]).await;
        let mut ada = place.node(0).join("ada").await;
        let mut eve = place.node(2).join("eve").await;
        assert_eq!(shown(&ada.join_room("a/b").await), ["ada"]);
        for kind in ["join_room", "get_room_users", "get_room_count"] {
            assert_eq!(refusal(&mut eve, kind, "a/b").await, "not_a_member", "{kind}");
            assert_eq!(refusal(&mut ada, kind, "unknown").await, "room_not_found", "{kind}");
        }
        // A member who is not in the room may ask.
        let mut seven = place.node(2).join_as(json!({"userId": 7})).await;
        let users = seven.ask(json!({"type": "get_room_users", "roomId": "a/b"})).await;
        assert_eq!(shown(&users), ["ada"]);
        let mut board = place.node(0).ws("/ws").await;
        board.ask(json!({"type": "subscribe", "presence": "none"})).await;
        let answer = board.ask(json!({"type": "get_room_count", "roomId": "a/b"})).await;
        assert_eq!(answer["code"], "not_joined", "nobody knows who it is: {answer}");

        for (room, parameters, status, code, message) in [
            ("a/b", "userId=ada", 200, Value::Null, Value::Null),
            ("a/b", "userId=eve", 403, json!("not_a_member"), json!("Not a member of this chat room")),
            ("unknown", "userId=ada", 404, json!("room_not_found"), json!("Chat room not found")),
            ("a/b", "", 400, json!("invalid_parameter"), json!("`userId` is missing")),
        ] {
            let (answered, body) = place.node(1).room_users(room, parameters).await;
            let told = (answered, body.get("code").cloned(), body.get("message").cloned());
            let expected = if status == 200 { (status, None, None) } else { (status, Some(code), Some(message)) };
            assert_eq!(told, expected, "{room} {parameters}: {body}");
        }
        let (_, body) = place.node(1).room_users("a/b", "userId=7").await;
        assert_eq!(body["data"]["onlineCount"], 1, "{body}");
    }
}

#[tokio::test]
async fn a_join_with_a_room_that_is_refused_is_a_join_all_the_same() {
    for place in Place::each(registered).await {
        register(place.node(0), "mine", &["ada"]).await;
        register(place.node(0), "other", &[]).await;
        let mut ada = place.node(1).ws("/ws").await;
        ada.send_json(json!({"type": "join_user", "userId": "ada", "rooms": ["other", "mine", "none"], "ref": 1}))
            .await;
        assert_eq!(ada.next_json().await["type"], "welcome");
        ada.expect_type("online_users_list").await;
        let mut told = Vec::new();
        while told.len() < 3 {
            let frame = ada.next_json().await;
            if frame.get("roomId").is_some() {
                assert_eq!(frame.get("ref"), None, "{frame}");
                told.push((frame["roomId"].clone(), frame["type"].clone(), frame["code"].clone()));
            }
        }
        told.sort_by_key(|(room, ..)| room.to_string());
        let expected = [
            (json!("mine"), json!("room_joined"), Value::Null),
            (json!("none"), json!("error"), json!("room_not_found")),
            (json!("other"), json!("error"), json!("not_a_member")),
        ];
        assert_eq!(told, expected);
        let left = ada.ask(json!({"type": "leave_room", "roomId": "other"})).await;
        assert_eq!(left["code"], "not_in_room", "{left}");
    }
}

#[tokio::test]
async fn a_member_who_is_removed_leaves_at_once_on_all_nodes() {
    let long_grace = |settings: &mut Settings| {
        registered(settings);
        settings.presence.grace = Duration::from_secs(30);
        settings.presence.lease = Duration::from_mins(1);
    };
    for place in Place::each(long_grace).await {
        register(place.node(0), "lobby", &["ada", "bob"]).await;
        register(place.node(0), "attic", &["bob"]).await;
        let mut ada = place.node(0).join("ada").await;
        ada.join_room("lobby").await;
        let mut tabs = [place.node(1).join("bob").await, place.node(2).join("bob").await];
        let lost = place.node(1).join("bob").await;
        let mut in_grace = lost;
        in_grace.join_room("lobby").await;
        in_grace.abort();
        for tab in &mut tabs {
            tab.join_room("lobby").await;
            tab.join_room("attic").await;
        }
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        let data = remove(place.node(2), "lobby", "bob").await;
        assert_eq!((&data["deleted"], &data["sockets"]), (&json!(true), &json!(3)), "{data}");
        let nodes = data["nodes"].as_array().expect("a list");
        assert!(!nodes.is_empty() && nodes.iter().all(|node| node["confirmed"] == true), "{data}");
        for tab in &mut tabs {
            let left = tab.wait_for(|frame| frame["type"] == "room_left").await;
            assert_eq!(left, json!({"type": "room_left", "roomId": "lobby", "removed": true}));
            assert_eq!(refusal(tab, "join_room", "lobby").await, "not_a_member");
            // The socket is open, and its other room stays.
            assert_eq!(shown(&tab.join_room("attic").await), ["bob"]);
        }
        let gone = ada.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!((&gone["userId"], &gone["reason"]), (&json!("bob"), &json!("left")), "{gone}");
        let members = async || place.node(1).get("/api/rooms").await.1["data"].to_string();
        let is_alone = async || members().await.contains(r#"{"memberCount":1,"roomId":"lobby"}"#);
        eventually(is_alone, "the store has nobody else there, also not in grace").await;

        let data = remove(place.node(0), "lobby", "bob").await;
        assert_eq!((&data["deleted"], &data["sockets"], &data["nodes"]), (&json!(false), &json!(0), &json!([])));
    }
}

#[tokio::test]
async fn a_room_that_is_deleted_is_left_by_all_and_is_unknown() {
    for place in Place::each(registered).await {
        let users: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
        let names: Vec<&str> = users.iter().map(String::as_str).collect();
        register(place.node(0), "lobby", &names).await;
        let mut sockets = Vec::new();
        for (n, user) in names.iter().enumerate() {
            let mut socket = place.node(n).ws(&format!("/ws?userId={user}&presence=none")).await;
            socket.expect_type("welcome").await;
            socket.join_room("lobby").await;
            sockets.push(socket);
        }
        let all_in = async || place.node(1).room_users("lobby", "userId=u0").await.1["data"]["onlineCount"].clone();
        eventually_eq(all_in, json!(40), "all are in the room").await;
        let (status, body) = place.node(1).register(Method::DELETE, "lobby").await;
        let data = json!({"roomId": "lobby", "deleted": true, "users": 40, "confirmed": true});
        assert_eq!((status, &body["data"]), (200, &data), "{body}");
        for socket in &mut sockets {
            let left = socket.wait_for(|frame| frame["type"] == "room_left").await;
            assert_eq!((&left["roomId"], &left["removed"]), (&json!("lobby"), &json!(true)), "{left}");
            assert_eq!(refusal(socket, "join_room", "lobby").await, "room_not_found");
        }
        let list = async || place.node(2).get("/api/rooms").await.1["data"].clone();
        eventually_eq(list, json!([]), "nobody is in a room").await;
        let (_, body) = place.node(1).register(Method::DELETE, "lobby").await;
        let data = json!({"roomId": "lobby", "deleted": false, "users": 0, "confirmed": true});
        assert_eq!(body["data"], data);
        let (status, body) = place.node(1).register(Method::PUT, "lobby/members/u0").await;
        assert_eq!(
            (status, &body["code"], &body["message"]),
            (404, &json!("room_not_found"), &json!("Chat room not found"))
        );
        // It begins anew without its former members.
        register(place.node(2), "lobby", &[]).await;
        assert_eq!(refusal(&mut sockets[0], "join_room", "lobby").await, "not_a_member");
    }
}

#[tokio::test]
async fn a_removal_that_meets_an_entry_wins() {
    for place in Place::each(registered).await {
        register(place.node(0), "lobby", &[]).await;
        let mut ada = place.node(1).join("ada").await;
        for round in 0..30 {
            register(place.node(0), "lobby", &["ada"]).await;
            ada.send_json(json!({"type": "join_room", "roomId": "lobby", "ref": round})).await;
            remove(place.node(0), "lobby", "ada").await;
            // Refused, or shown and then removed, or removed before it was shown.
            let answer = ada.wait_for(|frame| frame["ref"] == round).await;
            match answer["type"].as_str() {
                Some("room_joined") => {
                    let left = ada.wait_for(|frame| frame["type"] == "room_left").await;
                    assert_eq!(left["removed"], true, "{left}");
                }
                Some("room_left") => assert_eq!(answer["removed"], true, "{answer}"),
                _ => assert_eq!(answer["code"], "not_a_member", "{answer}"),
            }
            let list = async || place.node(2).get("/api/rooms").await.1["data"].clone();
            eventually_eq(list, json!([]), "nobody is in the room").await;
        }
    }
}

#[tokio::test]
async fn a_room_that_somebody_enters_again_at_once_is_not_said_to_be_empty() {
    let (node, store) = Node::start_staged(|_| ()).await;
    let mut ada = node.join("ada").await;
    ada.join_room("lobby").await;
    let reads = store.hold("room_page");
    let comes_back = async {
        reads.until_held(1).await;
        reads.pass_one();
        ada.wait_for(|frame| frame["type"] == "room_left").await;
        assert_eq!(shown(&ada.join_room("lobby").await), ["ada"]);
        reads.release();
    };
    let ((status, body), ()) = tokio::join!(node.register(Method::DELETE, "lobby"), comes_back);
    let data = json!({"roomId": "lobby", "deleted": false, "users": 1, "confirmed": false});
    assert_eq!((status, &body["data"]), (200, &data), "{body}");
    // Whoever comes back stays.
    assert_eq!(node.room_ids("lobby").await, ["ada"]);
    assert!(ada.room_fence("lobby").await.iter().all(|frame| frame["type"] != "room_left"));
}

#[tokio::test]
async fn a_member_who_is_removed_after_the_lookup_does_not_enter() {
    let requests = [
        ("a first join", None, json!({"type": "join_user", "userId": "ada", "rooms": ["lobby"]})),
        ("a further join", Some("ada"), json!({"type": "join_user", "userId": "ada", "rooms": ["lobby"]})),
        ("an entry", Some("ada"), json!({"type": "join_room", "roomId": "lobby"})),
    ];
    for (name, joined_as, request) in requests {
        let (node, store) = Node::start_staged(registered).await;
        register(&node, "lobby", &["ada"]).await;
        let mut ada = match joined_as {
            Some(user) => node.join(user).await,
            None => node.ws("/ws").await,
        };
        let lookups = store.hold("room_access");
        ada.send_json(request).await;
        // The store has said that ada is a member. There is no entry to remove yet.
        lookups.until_held(1).await;
        let data = remove(&node, "lobby", "ada").await;
        assert_eq!((&data["deleted"], &data["sockets"]), (&json!(true), &json!(0)), "{name}: {data}");
        lookups.release();
        let answer = ada.wait_for(|frame| frame["roomId"] == "lobby").await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("not_a_member")), "{name}: {answer}");
        let list = async || node.get("/api/rooms").await.1["data"].clone();
        eventually_eq(list, json!([]), "nobody is in the room").await;
    }
}

#[tokio::test]
async fn where_everybody_may_enter_a_removal_is_for_the_moment() {
    for place in Place::each(|_| ()).await {
        let mut ada = place.node(0).join("ada").await;
        let mut bob = place.node(1).join("bob").await;
        ada.join_room("lobby").await;
        bob.join_room("lobby").await;
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
        let data = remove(place.node(0), "lobby", "bob").await;
        assert_eq!((&data["deleted"], &data["sockets"]), (&json!(false), &json!(1)), "{data}");
        let left = bob.wait_for(|frame| frame["type"] == "room_left").await;
        assert_eq!(left["removed"], true, "{left}");
        ada.wait_for(|frame| frame["type"] == "room_user_left").await;
        assert_eq!(shown(&bob.join_room("lobby").await), ["ada", "bob"]);
        ada.wait_for(|frame| frame["type"] == "room_user_joined").await;
    }
}

#[tokio::test]
async fn the_register_is_for_the_applications_server_alone_and_stays() {
    for place in Place::each(registered).await {
        let page = [("origin", "https://chat.example.com")];
        for (method, path) in [
            (Method::PUT, "/api/rooms/lobby"),
            (Method::DELETE, "/api/rooms/lobby"),
            (Method::PUT, "/api/rooms/lobby/members/ada"),
            (Method::DELETE, "/api/rooms/lobby/members/ada"),
        ] {
            let answer = place.node(0).request(method.clone(), path, &page, "").await;
            assert!(answer.status == 403 && answer.body.contains("loopback_only"), "{method} {path}: {answer:?}");
            let answer = place.node(0).request(Method::GET, path, &[], "").await;
            assert_eq!((answer.status, &answer.headers["allow"]), (405, &"PUT, DELETE".parse().expect("a header")));
        }
        for created in [true, false] {
            let (_, body) = place.node(1).register(Method::PUT, "lobby").await;
            assert_eq!(body["data"], json!({"roomId": "lobby", "created": created}));
        }
        for path in ["%ff", "a%0Ab", "lobby/members/%ff", "%ff/members/ada"] {
            for method in [Method::PUT, Method::DELETE] {
                let (status, body) = place.node(0).register(method.clone(), path).await;
                assert_eq!((status, &body["code"]), (400, &json!("invalid_parameter")), "{method} {path}");
            }
        }
        if let Place::Cluster(cluster) = &place {
            for key in cluster.redis.keys("online:registered*").await {
                assert_eq!(cluster.redis.pttl(&key).await, -1, "{key} stays");
            }
        }
    }
}

#[tokio::test]
async fn without_redis_nobody_is_let_in_by_a_guess() {
    let mut cluster = Cluster::start_with(1, registered).await;
    register(&cluster[0], "lobby", &["ada"]).await;
    let mut ada = cluster[0].join("ada").await;
    cluster.redis.kill();
    let node = &cluster[0];
    eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "the node has noticed").await;
    for kind in ["join_room", "get_room_users", "get_room_count"] {
        assert_eq!(refusal(&mut ada, kind, "lobby").await, "store_unavailable", "{kind}");
    }
    let (status, body) = node.room_users("lobby", "userId=ada").await;
    assert_eq!((status, &body["code"]), (503, &json!("store_unavailable")), "{body}");
    for (method, path) in [
        (Method::PUT, "lobby"),
        (Method::DELETE, "lobby"),
        (Method::PUT, "lobby/members/ada"),
        (Method::DELETE, "lobby/members/ada"),
    ] {
        let (status, body) = node.register(method.clone(), path).await;
        assert_eq!((status, &body["code"]), (503, &json!("store_unavailable")), "{method} {path}");
    }
    // The service goes on: a join with a room that nobody can answer for is a join.
    let mut bob = node.ws("/ws").await;
    bob.send_json(json!({"type": "join_user", "userId": "bob", "rooms": ["lobby"]})).await;
    bob.expect_type("welcome").await;
    let refused = bob.wait_for(|frame| frame["type"] == "error").await;
    assert_eq!((&refused["code"], &refused["roomId"]), (&json!("store_unavailable"), &json!("lobby")), "{refused}");
}
