//! `GET /api/chatroom/{roomId}/online-users`, and `GET /api/rooms`.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::*;

/// Joins the service with rooms. Returns the client, and the id of its socket.
async fn join_with_rooms(node: &Endpoint, mut request: Value, rooms: &[&str]) -> (WsClient, Value) {
    (request["type"], request["rooms"]) = ("join_user".into(), rooms.into());
    let mut client = node.ws("/ws").await;
    client.send_json(request).await;
    let welcome = client.expect_type("welcome").await;
    (client, welcome["socketId"].clone())
}

async fn until_in(node: &Endpoint, room: &str, users: &[&str]) {
    eventually_eq(async || node.room_ids(room).await, users, "the room shows these users").await;
}

#[tokio::test]
async fn any_node_says_who_is_in_a_room_in_the_shape_of_the_contract() {
    for place in Place::each(|_| ()).await {
        let ada = json!({"userId": "ada", "name": "Ada", "username": "ad \"a\""});
        let (_ada, first) = join_with_rooms(place.node(0), ada, &["a/b %"]).await;
        let (_bob, second) = join_with_rooms(place.node(1), json!({"userId": 7}), &["a/b %"]).await;
        for number in 0..3 {
            let node = place.node(number);
            until_in(node, "a/b %", &["7", "ada"]).await;
            let sockets = async || {
                let (_, body) = node.room_users("a/b %", "userId=anybody").await;
                let users = body["data"]["onlineUsers"].as_array().expect("a list").clone();
                users.iter().map(|user| user["socketId"].clone()).collect::<Vec<_>>()
            };
            eventually_eq(sockets, vec![second.clone(), first.clone()], "the sockets are known").await;
            let (status, body) = node.room_users("a/b %", "").await;
            assert_eq!((status, &body["success"], body.get("degraded")), (200, &json!(true), None), "{body}");
            assert!(body["timestamp"].is_string() && body.get("nextCursor").is_none(), "{body}");
            let data = body["data"].as_object().expect("an object");
            assert_eq!(data.keys().collect::<Vec<_>>(), ["onlineCount", "onlineUsers", "roomId"]);
            assert_eq!((&data["roomId"], &data["onlineCount"]), (&json!("a/b %"), &json!(2)));
            let users = data["onlineUsers"].as_array().expect("a list");
            let names: Vec<_> = users.iter().map(|user| (&user["userId"], &user["username"])).collect();
            assert_eq!(names, [(&json!("7"), &Value::Null), (&json!("ada"), &json!("ad \"a\""))]);
            for user in users {
                assert_eq!(user.as_object().expect("an object").len(), 4, "{user}");
                assert!(user["lastSeen"].is_string(), "{user}");
            }
            // Somebody asks about a room in which nobody is.
            let (status, body) = node.room_users("nobody", "").await;
            assert_eq!((status, body.get("degraded")), (200, None), "{body}");
            assert_eq!(body["data"], json!({"roomId": "nobody", "onlineCount": 0, "onlineUsers": []}));
        }
        for parameters in ["limit=0", "limit=10001", "cursor=%ff", "userId=%ff"] {
            let (status, body) = place.node(0).room_users("lobby", parameters).await;
            assert_eq!((status, &body["code"]), (400, &json!("invalid_parameter")), "{parameters}");
        }
        for room in ["%ff", &"x".repeat(129), "a%0Ab"] {
            let (status, body) = place.node(0).get(&format!("/api/chatroom/{room}/online-users")).await;
            assert_eq!((status, &body["code"]), (400, &json!("invalid_parameter")), "{room}");
        }
    }
}

#[tokio::test]
async fn the_pages_are_the_same_on_every_node() {
    for place in Place::each(|_| ()).await {
        let mut sockets = Vec::new();
        for user in ["a", "b", "c", "d", "e"] {
            sockets.push(join_with_rooms(place.node(0), json!({"userId": user}), &["lobby"]).await);
        }
        // The first node has the room open, and the others have not.
        for number in 0..3 {
            let node = place.node(number);
            until_in(node, "lobby", &["a", "b", "c", "d", "e"]).await;
            let (mut pages, mut cursor) = (Vec::new(), String::new());
            loop {
                let (_, body) = node.room_users("lobby", &format!("limit=2&cursor={cursor}")).await;
                assert_eq!(body["data"]["onlineCount"], 5, "the total of all pages");
                let users = body["data"]["onlineUsers"].as_array().expect("a list");
                pages.push(users.iter().filter_map(|user| user["userId"].as_str()).collect::<String>());
                match body.get("nextCursor") {
                    Some(next) => cursor = next.as_str().expect("an id").to_owned(),
                    None => break,
                }
            }
            assert_eq!(pages, ["ab", "cd", "e"]);
        }
    }
}

#[tokio::test]
async fn who_hides_or_goes_is_not_shown_although_the_members_were_read_before() {
    for place in Place::each(|_| ()).await {
        let (mut ada, _) = join_with_rooms(place.node(0), json!({"userId": "ada"}), &["lobby"]).await;
        let (bob, _) = join_with_rooms(place.node(0), json!({"userId": "bob"}), &["lobby"]).await;
        let node = place.node(1);
        until_in(node, "lobby", &["ada", "bob"]).await;
        ada.ask(json!({"type": "set_status", "status": "invisible"})).await;
        eventually_eq(async || node.online_ids().await, ["bob"], "the node has heard it").await;
        assert_eq!(node.room_ids("lobby").await, ["bob"]);
        bob.close(1000).await;
        eventually_eq(async || node.online_ids().await, NOBODY, "the node has heard it").await;
        assert_eq!(node.room_ids("lobby").await, NOBODY);
    }
}

#[tokio::test]
async fn questions_about_rooms_that_do_not_exist_leave_nothing_behind() {
    let cluster = Cluster::start(1).await;
    let node = &cluster[0];
    let client = reqwest::Client::new();
    let ask = |n: usize| client.get(format!("http://{}/api/chatroom/none-{n}/online-users", node.addr())).send();
    for first in (0..400).step_by(4) {
        for answer in futures_util::future::join_all((first..first + 4).map(ask)).await {
            assert_eq!(answer.expect("an answer").status(), 200);
        }
    }
    let mut ada = node.join("ada").await;
    for n in 0..20 {
        let answer = ada.ask(json!({"type": "get_room_count", "roomId": format!("none-{n}")})).await;
        assert_eq!(answer["onlineCount"], 0, "{answer}");
    }
    assert_eq!(cluster.redis.keys("*none-*").await, NOBODY);
    let channels: Vec<String> = cluster.redis.query(&["PUBSUB", "CHANNELS", "*none-*"]).await;
    assert_eq!(channels, NOBODY);
}

#[tokio::test]
async fn without_redis_a_room_that_is_open_here_is_shown_and_no_other_is_called_empty() {
    let mut cluster = Cluster::start(1).await;
    let (mut ada, _) = join_with_rooms(&cluster[0], json!({"userId": "ada"}), &["lobby"]).await;
    until_in(&cluster[0], "lobby", &["ada"]).await;
    ada.wait_for(|frame| frame["type"] == "room_joined").await;
    cluster.redis.kill();
    let node = &cluster[0];
    eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "the node has noticed").await;
    let (status, body) = node.room_users("lobby", "").await;
    assert_eq!((status, &body["degraded"]), (200, &json!(true)), "{body}");
    let user = &body["data"]["onlineUsers"][0];
    assert_eq!((&user["userId"], &user["socketId"]), (&json!("ada"), &Value::Null), "{body}");
    let (status, body) = node.room_users("other", "").await;
    assert_eq!((status, &body["code"]), (503, &json!("store_unavailable")), "{body}");
    let answer = ada.ask(json!({"type": "get_room_users", "roomId": "lobby"})).await;
    assert_eq!((shown(&answer), &answer["degraded"]), (vec!["ada"], &json!(true)), "{answer}");
    for kind in ["get_room_users", "get_room_count"] {
        let answer = ada.ask(json!({"type": kind, "roomId": "other"})).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("store_unavailable")), "{answer}");
    }
    // Who enters now has opened the room.
    ada.join_room("other").await;
    let (status, body) = node.room_users("other", "").await;
    assert_eq!((status, &body["data"]["onlineCount"], &body["degraded"]), (200, &json!(1), &json!(true)), "{body}");
    let answer = ada.ask(json!({"type": "get_room_users", "roomId": "other"})).await;
    assert_eq!((shown(&answer), &answer["degraded"]), (vec!["ada"], &json!(true)), "{answer}");
}

#[tokio::test]
async fn the_applications_server_lists_the_rooms_with_their_members() {
    for place in Place::each(|_| ()).await {
        assert_eq!(place.node(1).get("/api/rooms").await.1["data"], json!([]));
        let hidden = json!({"userId": "ada", "status": "invisible"});
        let _ada = join_with_rooms(place.node(0), hidden, &["one", "two"]).await;
        let _bob = join_with_rooms(place.node(1), json!({"userId": "bob"}), &["two"]).await;
        let list = async || {
            let (status, body) = place.node(2).get("/api/rooms").await;
            assert_eq!(status, 200, "{body}");
            let rooms = body["data"].as_array().expect("a list").iter();
            rooms.map(|room| (room["roomId"].to_string(), room["memberCount"].clone())).collect::<BTreeMap<_, _>>()
        };
        let expected = BTreeMap::from([("\"one\"".to_owned(), json!(1)), ("\"two\"".to_owned(), json!(2))]);
        eventually_eq(list, expected, "the hidden user counts").await;
        let mut sockets = Vec::new();
        for n in 0..30 {
            let room = format!("room-{n}");
            sockets.push(join_with_rooms(place.node(n), json!({"userId": "carol"}), &[&room]).await);
        }
        let pages = async || {
            let (mut rooms, mut cursor) = (Vec::new(), "0".to_owned());
            loop {
                let (_, body) = place.node(0).get(&format!("/api/rooms?limit=5&cursor={cursor}")).await;
                rooms.extend(body["data"].as_array().expect("a list").iter().map(|room| room["roomId"].to_string()));
                match body.get("nextCursor") {
                    Some(next) => cursor = next.as_str().expect("a text").to_owned(),
                    None => break,
                }
            }
            rooms.sort();
            rooms.dedup();
            rooms.len()
        };
        eventually_eq(pages, 32, "all rooms are in the pages").await;
        for parameters in ["limit=0", "limit=1001", "cursor=x", "cursor=-1"] {
            let (status, body) = place.node(0).get(&format!("/api/rooms?{parameters}")).await;
            assert_eq!((status, &body["code"]), (400, &json!("invalid_parameter")), "{parameters}");
        }
        let page = [("origin", "https://chat.example.com")];
        let answer = place.node(0).request(Method::GET, "/api/rooms", &page, "").await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}
