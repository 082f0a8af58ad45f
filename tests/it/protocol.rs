//! The native WebSocket protocol, as docs/protocol.md tells it to clients: on one node with the embedded store.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::raw_ws::{FIN, PING, PONG, TEXT, frame};
use crate::support::*;

/// A ready node with the embedded store.
async fn node() -> Node {
    Node::start_with(|_| ()).await
}

/// The names of a frame's members, sorted.
fn members(frame: &Value) -> Vec<&str> {
    let mut names: Vec<_> = frame.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn ids(users: &Value) -> Vec<&str> {
    users.as_array().expect("a list of users").iter().map(|user| user["id"].as_str().expect("an id")).collect()
}

// Coming.

#[tokio::test]
async fn a_user_id_in_the_query_joins_and_gets_welcome_and_then_the_list() {
    let node = node().await;
    let _bob = node.join("bob").await;
    let mut ada = node.ws("/ws?userId=ada").await;

    let welcome = ada.expect_type("welcome").await;
    let names = [
        "chosen",
        "effective",
        "epoch",
        "nodeId",
        "onlineCount",
        "revision",
        "socketId",
        "timestamp",
        "type",
        "userId",
    ];
    assert_eq!(members(&welcome), names);
    assert_eq!((&welcome["userId"], &welcome["onlineCount"]), (&json!("ada"), &json!(2)));
    assert_eq!(welcome["nodeId"], node.node_id());
    let socket_id = welcome["socketId"].as_str().expect("a text");
    assert!(socket_id.starts_with(&format!("{}.", node.node_id())), "{socket_id}");

    let list = ada.expect_type("online_users_list").await;
    assert_eq!(members(&list), ["epoch", "revision", "total", "type", "users"]);
    assert_eq!(list["users"], json!([{"id": "ada", "status": "online"}, {"id": "bob", "status": "online"}]));
    assert_eq!(list["total"], 2);
    assert_eq!((&list["revision"], &list["epoch"]), (&welcome["revision"], &welcome["epoch"]));
    assert_eq!(ada.fence().await, NOTHING);
}

#[tokio::test]
async fn join_user_joins_with_a_text_or_a_number() {
    let node = node().await;
    let ids = [(json!("42"), "42"), (json!(43), "43"), (json!(-7), "-7"), (json!(u64::MAX), "18446744073709551615")];
    for (sent, id) in ids {
        let mut client = node.ws("/ws").await;
        client.send_json(json!({"type": "join_user", "userId": sent})).await;
        assert_eq!(client.expect_type("welcome").await["userId"], id);
        let list = client.expect_type("online_users_list").await;
        assert_eq!(list["users"], json!([{"id": id, "status": "online"}]));
        client.close(1000).await;
        eventually_eq(async || node.online_ids().await, NOBODY, "the user is gone").await;
    }
}

#[tokio::test]
async fn a_profile_is_shown_to_everybody_with_every_field() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let mut bob = node.ws("/ws").await;
    let profile = json!({"name": "Bob \"B\" Ørn", "username": "bob", "email": "bob@example.com", "avatar": "/b.jpg"});
    let mut join = json!({"type": "join_user", "userId": "bob", "shoeSize": 44});
    let mut shown = json!({"id": "bob", "status": "online"});
    for (name, value) in profile.as_object().expect("an object") {
        (join[name], shown[name]) = (value.clone(), value.clone());
    }
    bob.send_json(join).await;
    bob.expect_type("welcome").await;
    assert_eq!(bob.expect_type("online_users_list").await["users"][1], shown);
    let event = ada.expect_type("user_online").await;
    assert_eq!(members(&event), ["epoch", "revision", "timestamp", "type", "user", "userId"]);
    assert_eq!(event["user"], shown);
    ada.send_json(json!({"type": "check_user_online", "userId": "bob"})).await;
    assert_eq!(ada.expect_type("user_online_status").await["user"], shown);
    assert_eq!(node.get("/api/online-users").await.1["data"][1], shown);
}

#[tokio::test]
async fn any_printable_text_is_a_user_id() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let longest = "x".repeat(128);
    for id in [r#"Zoë "{1}":%/\&?=#"#, "日本", " ", "__proto__", &longest] {
        let bob = node.join(id).await;
        assert_eq!(ada.expect_type("user_online").await["user"]["id"], id);
        bob.close(1000).await;
        assert_eq!(ada.expect_type("user_offline").await["userId"], id);
    }
}

#[tokio::test]
async fn what_comes_in_one_packet_with_the_handshake_is_heard() {
    let node = node().await;
    let join = frame(FIN | TEXT, br#"{"type":"join_user","userId":"ada","ref":1}"#);
    let mut ada = RawWs::connect_and_send(node.addr(), "/ws", &join).await;
    assert_eq!(ada.wait_for_type("welcome").await["ref"], 1);
}

#[tokio::test]
async fn everybody_reads_their_own_join_everywhere() {
    let node = node().await;
    for n in 0..20 {
        let id = format!("user-{n:02}");
        let mut client = node.join(&id).await;
        assert!(node.online_ids().await.contains(&id));
        client.send_json(json!({"type": "check_user_online", "userId": id})).await;
        assert_eq!(client.expect_type("user_online_status").await["online"], true);
        client.send_json(json!({"type": "leave"})).await;
        client.expect_type("left").await;
    }
}

// Who hears of it.

#[tokio::test]
async fn others_hear_a_user_come_and_go_and_the_user_does_not() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let mut bob = node.join("bob").await;
    let mut bobs_tab = node.join("bob").await;

    let came = ada.expect_type("user_online").await;
    assert_eq!((&came["userId"], &came["user"]), (&json!("bob"), &json!({"id": "bob", "status": "online"})));
    assert_eq!((bob.fence().await, bobs_tab.fence().await), (NOTHING.to_vec(), NOTHING.to_vec()));

    bobs_tab.close(1000).await;
    bob.send_json(json!({"type": "leave"})).await;
    assert_eq!(bob.next_json().await, json!({"type": "left", "userId": "bob"}));
    let went = ada.expect_type("user_offline").await;
    assert_eq!(
        members(&went),
        ["epoch", "lastActive", "lastSeen", "reason", "revision", "timestamp", "type", "userId"]
    );
    assert_eq!((&went["userId"], &went["reason"]), (&json!("bob"), &json!("left")));
    assert_eq!(went["revision"].as_u64(), came["revision"].as_u64().map(|revision| revision + 1));
}

#[tokio::test]
async fn a_second_tab_comes_and_goes_in_silence() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let mut bob = node.join("bob").await;
    ada.expect_type("user_online").await;

    let tab = node.join("bob").await;
    assert_eq!(ada.fence().await, NOTHING);
    tab.close(1000).await;
    let _carol = node.join("carol").await;
    assert_eq!(ada.next_json().await["userId"], "carol");
    assert_eq!(bob.next_json().await["userId"], "carol");
    assert_eq!(node.online_ids().await, ["ada", "bob", "carol"]);
}

#[tokio::test]
async fn every_event_after_a_list_has_a_higher_revision() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    for n in 0..10 {
        let bob = node.join("bob").await;
        ada.send_json(json!({"type": "get_online_users", "ref": n})).await;
        bob.close(1000).await;
        let told = ada.collect_until(|frame| frame["type"] == "user_offline").await;
        let list = told.iter().position(|frame| frame["ref"] == n).expect("the list came");
        let revision = told[list]["revision"].as_u64();
        assert!(told[..list].iter().all(|frame| frame["revision"].as_u64() <= revision), "{told:?}");
        assert!(told[list + 1..].iter().all(|frame| frame["revision"].as_u64() > revision), "{told:?}");
        let bob_was_listed = ids(&told[list]["users"]).contains(&"bob");
        let bob_had_come = told[..list].iter().any(|frame| frame["type"] == "user_online");
        let bob_had_gone = told[..list].iter().any(|frame| frame["type"] == "user_offline");
        assert_eq!(bob_was_listed, bob_had_come && !bob_had_gone, "{told:?}");
    }
}

#[tokio::test]
async fn who_has_not_joined_hears_no_events() {
    let node = node().await;
    let mut nameless = node.ws("/ws").await;
    let mut ada = node.join("ada").await;
    let _bob = node.join("bob").await;
    ada.expect_type("user_online").await;
    assert_eq!(nameless.fence().await, NOTHING);
}

#[tokio::test]
async fn joining_again_with_another_profile_is_a_change() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let mut bob = node.join("bob").await;
    let mut bobs_tab = node.join("bob").await;
    ada.expect_type("user_online").await;

    bob.send_json(json!({"type": "join_user", "userId": "bob", "name": "Bob", "ref": "again"})).await;
    assert_eq!(bob.expect_type("welcome").await["ref"], "again");
    let shown = json!({"id": "bob", "name": "Bob", "status": "online"});
    assert_eq!(bob.expect_type("online_users_list").await["users"][1], shown);
    let changed = ada.expect_type("user_changed").await;
    assert_eq!((&changed["userId"], &changed["user"]), (&json!("bob"), &shown));
    assert_eq!(members(&changed), ["epoch", "revision", "timestamp", "type", "user", "userId"]);
    assert_eq!(bobs_tab.fence().await, NOTHING);

    // The same again, and a join without a profile, change nothing.
    for join in
        [json!({"type": "join_user", "userId": "bob", "name": "Bob"}), json!({"type": "join_user", "userId": "bob"})]
    {
        bob.send_json(join).await;
        bob.expect_type("welcome").await;
        assert_eq!(bob.expect_type("online_users_list").await["users"][1], shown);
    }
    assert_eq!(ada.fence().await, NOTHING);
}

// Asking.

#[tokio::test]
async fn the_list_is_read_in_pages_in_the_order_of_the_ids_bytes() {
    let node = Node::start_with(|settings| settings.limits.page_default = 3).await;
    let mut clients = Vec::new();
    for id in ["é", "b", "a", "B", "10", "9"] {
        clients.push(node.join(id).await);
    }
    let asker = &mut clients[5];
    asker.send_json(json!({"type": "get_online_users", "ref": 1})).await;
    let page = asker.wait_for(|frame| frame["ref"] == 1).await;
    assert_eq!(
        (ids(&page["users"]), &page["nextCursor"], &page["total"]),
        (vec!["10", "9", "B"], &json!("B"), &json!(6))
    );

    asker.send_json(json!({"type": "get_online_users", "limit": 2, "cursor": "B", "ref": 2})).await;
    let page = asker.expect_type("online_users_list").await;
    assert_eq!((ids(&page["users"]), &page["nextCursor"]), (vec!["a", "b"], &json!("b")));

    asker.send_json(json!({"type": "get_online_users", "limit": 2, "cursor": "b", "ref": 3})).await;
    let page = asker.expect_type("online_users_list").await;
    assert_eq!((ids(&page["users"]), page.get("nextCursor"), &page["total"]), (vec!["é"], None, &json!(6)));

    // A cursor is a place among the ids, whoever is there; a number is its text.
    for (cursor, rest) in [(json!("Bx"), vec!["a", "b", "é"]), (json!(10), vec!["9", "B", "a"]), (json!("ü"), vec![])]
    {
        asker.send_json(json!({"type": "get_online_users", "cursor": cursor})).await;
        assert_eq!(ids(&asker.expect_type("online_users_list").await["users"]), rest, "after {cursor}");
    }
}

#[tokio::test]
async fn the_first_list_is_a_page_too() {
    let node = Node::start_with(|settings| settings.limits.page_default = 1).await;
    let _ada = node.join("ada").await;
    let mut bob = node.ws("/ws?userId=bob").await;
    assert_eq!(bob.expect_type("welcome").await["onlineCount"], 2);
    let list = bob.expect_type("online_users_list").await;
    assert_eq!((ids(&list["users"]), &list["nextCursor"], &list["total"]), (vec!["ada"], &json!("ada"), &json!(2)));
}

#[tokio::test]
async fn anybody_may_ask_whether_a_user_is_online() {
    let node = node().await;
    let mut nameless = node.ws("/ws").await;
    nameless.send_json(json!({"type": "check_user_online", "userId": 42, "ref": 1})).await;
    let answer = nameless.expect_type("user_online_status").await;
    assert_eq!(members(&answer), ["epoch", "online", "ref", "revision", "type", "userId"]);
    assert_eq!((&answer["userId"], &answer["online"]), (&json!("42"), &json!(false)));

    let _someone = node.join("42").await;
    nameless.send_json(json!({"type": "check_user_online", "userId": "42", "ref": 2})).await;
    let answer = nameless.expect_type("user_online_status").await;
    assert_eq!((&answer["online"], &answer["user"]), (&json!(true), &json!({"id": "42", "status": "online"})));
}

#[tokio::test]
async fn every_answer_echoes_the_ref_of_its_request() {
    let node = node().await;
    let mut ada = node.ws("/ws").await;
    let requests = [
        (json!({"type": "authenticate", "userId": "ada"}), "authentication_success"),
        (json!({"type": "authenticate", "userId": "bob"}), "authentication_error"),
        (json!({"type": "join_user", "userId": "ada"}), "welcome"),
        (json!({"type": "get_online_users"}), "online_users_list"),
        (json!({"type": "check_user_online", "userId": "ada"}), "user_online_status"),
        (json!({"type": "user_activity"}), "user_activity_ack"),
        (json!({"type": "set_status", "status": "busy"}), "own_status"),
        (json!({"type": "update_presence", "name": "Ada"}), "presence_updated"),
        (json!({"type": "get_devices"}), "devices"),
        (json!({"type": "join_room", "roomId": "lobby"}), "room_joined"),
        (json!({"type": "get_room_users", "roomId": "lobby"}), "room_users"),
        (json!({"type": "get_room_users", "roomId": "nobody"}), "room_users"),
        (json!({"type": "get_room_count", "roomId": "lobby"}), "room_count"),
        (json!({"type": "leave_room", "roomId": "lobby"}), "room_left"),
        (json!({"type": "leave_room", "roomId": "lobby"}), "error"),
        (json!({"type": "dance"}), "error"),
        (json!({"type": "leave"}), "left"),
    ];
    for reference in [json!("a \"b\""), json!(7), json!(-1.5)] {
        for (request, answer) in &requests {
            let mut request = request.clone();
            request["ref"] = reference.clone();
            ada.send_json(request).await;
            assert_eq!(ada.wait_for(|frame| frame.get("ref").is_some()).await["ref"], reference, "{answer}");
        }
    }
}

#[tokio::test]
async fn user_activity_is_answered_only_if_it_has_a_ref() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    ada.send_json(json!({"type": "user_activity"})).await;
    assert_eq!(ada.fence().await, NOTHING);
    ada.send_json(json!({"type": "user_activity", "ref": 1})).await;
    assert_eq!(ada.next_json().await, json!({"type": "user_activity_ack", "ref": 1}));
}

// Going.

#[tokio::test]
async fn who_leaves_may_join_again_on_the_same_socket_as_anybody() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let mut bob = node.join("bob").await;
    ada.expect_type("user_online").await;
    for (leaves, comes) in [("bob", "bob"), ("bob", "carol")] {
        bob.send_json(json!({"type": "leave", "ref": 1})).await;
        assert_eq!(bob.next_json().await, json!({"type": "left", "userId": leaves, "ref": 1}));
        assert_eq!(ada.expect_type("user_offline").await["userId"], leaves);
        bob.send_json(json!({"type": "join_user", "userId": comes})).await;
        assert_eq!(bob.expect_type("welcome").await["userId"], comes);
        assert_eq!(ids(&bob.expect_type("online_users_list").await["users"]), ["ada", comes]);
        assert_eq!(ada.expect_type("user_online").await["userId"], comes);
    }
}

#[tokio::test]
async fn a_farewell_is_told_at_once_and_a_broken_socket_after_the_grace() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    for (code, reason) in [(1000, "left"), (1005, "left"), (1001, "connection_lost"), (3000, "connection_lost")] {
        node.join("bob").await.close(code).await;
        ada.expect_type("user_online").await;
        assert_eq!(ada.expect_type("user_offline").await["reason"], reason, "closed with {code}");
    }
    node.join("bob").await.abort();
    ada.expect_type("user_online").await;
    assert_eq!(ada.expect_type("user_offline").await["reason"], "connection_lost");
}

#[tokio::test]
async fn who_comes_back_within_the_grace_was_never_away() {
    let node = Node::start_with(|settings| {
        // As long as the test may take, and the lease longer still.
        settings.presence.grace = Duration::from_secs(60);
        settings.presence.lease = Duration::from_secs(100);
    })
    .await;
    let mut ada = node.join("ada").await;
    node.join("bob").await.abort();
    ada.expect_type("user_online").await;
    node.join("bob").await.close(1001).await;
    let bob = node.join("bob").await;
    assert_eq!(ada.fence().await, NOTHING);
    // The user's word counts for the sockets that broke as well.
    bob.close(1000).await;
    assert_eq!(ada.next_json().await["reason"], "left");
    assert_eq!(node.online_ids().await, ["ada"]);
}

// Mistakes, after which the connection goes on.

#[tokio::test]
async fn who_has_joined_cannot_join_as_another() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    ada.send_json(json!({"type": "join_user", "userId": "eve", "ref": 5})).await;
    let error = ada.expect_type("error").await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("already_joined"), &json!(5)));
    assert_eq!(node.online_ids().await, ["ada"]);
    ada.send_json(json!({"type": "user_activity", "ref": 6})).await;
    ada.expect_type("user_activity_ack").await;
}

#[tokio::test]
async fn what_needs_a_join_says_so_before_it_and_after_leaving() {
    let node = node().await;
    let mut ada = node.ws("/ws").await;
    for _ in ["before", "after"] {
        for request in ["get_online_users", "user_activity", "leave", "join_room", "leave_room", "get_room_count"] {
            ada.send_json(json!({"type": request, "roomId": "lobby", "ref": request})).await;
            let error = ada.expect_type("error").await;
            assert_eq!((&error["code"], &error["ref"]), (&json!("not_joined"), &json!(request)));
        }
        ada.send_json(json!({"type": "join_user", "userId": "ada"})).await;
        ada.expect_type("welcome").await;
        ada.send_json(json!({"type": "leave"})).await;
        ada.wait_for(|frame| frame["type"] == "left").await;
    }
}

#[tokio::test]
async fn every_bad_frame_gets_an_error_and_the_connection_goes_on() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let too_long = json!({"type": "check_user_online", "userId": "x".repeat(129)}).to_string();
    let long_reference = json!({"type": "leave", "ref": "x".repeat(127)}).to_string();
    let big_profile = json!({"type": "join_user", "userId": "ada", "avatar": "x".repeat(2048)}).to_string();
    let deep = "[".repeat(10_000);
    let frames = [
        ("", "invalid_json"),
        ("hello", "invalid_json"),
        (r#"{"type":"leave""#, "invalid_json"),
        (r#"{"type":"leave"}{"type":"leave"}"#, "invalid_json"),
        (&deep, "invalid_json"),
        ("[]", "not_an_object"),
        (r#""leave""#, "not_an_object"),
        ("null", "not_an_object"),
        ("{}", "missing_field"),
        (r#"{"type":null}"#, "missing_field"),
        (r#"{"type":["leave"]}"#, "invalid_field"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"LEAVE"}"#, "unknown_type"),
        (r#"{"type":"welcome"}"#, "unknown_type"),
        (r#"{"type":"join_user"}"#, "missing_field"),
        (r#"{"type":"join_user","userId":null}"#, "missing_field"),
        (r#"{"type":"join_user","userId":true}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":4.5}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":["ada"]}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":""}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":"a\nb"}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":"ada","name":1}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":"ada","email":{}}"#, "invalid_field"),
        (&big_profile, "invalid_field"),
        (r#"{"type":"check_user_online"}"#, "missing_field"),
        (r#"{"type":"check_user_online","userId":{}}"#, "invalid_field"),
        (&too_long, "invalid_field"),
        (r#"{"type":"get_online_users","limit":0}"#, "invalid_field"),
        (r#"{"type":"get_online_users","limit":10001}"#, "invalid_field"),
        (r#"{"type":"get_online_users","limit":-1}"#, "invalid_field"),
        (r#"{"type":"get_online_users","limit":"5"}"#, "invalid_field"),
        (r#"{"type":"get_online_users","cursor":false}"#, "invalid_field"),
        (r#"{"type":"get_online_users","cursor":""}"#, "invalid_field"),
        (r#"{"type":"join_room"}"#, "missing_field"),
        (r#"{"type":"join_room","roomId":""}"#, "invalid_field"),
        (r#"{"type":"join_room","roomId":"a","presence":"watch"}"#, "invalid_field"),
        (r#"{"type":"leave_room","roomId":{}}"#, "invalid_field"),
        (r#"{"type":"get_room_users","roomId":"a","limit":0}"#, "invalid_field"),
        (r#"{"type":"join_user","userId":"ada","rooms":"a"}"#, "invalid_field"),
        (r#"{"type":"leave","ref":{}}"#, "invalid_field"),
        (r#"{"type":"leave","ref":true}"#, "invalid_field"),
        (&long_reference, "invalid_field"),
    ];
    for (text, code) in frames {
        ada.send_text(text).await;
        let error = ada.expect_type("error").await;
        assert_eq!(error["code"], code, "{text}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}: {error}");
    }
    ada.send_binary(br#"{"type":"leave"}"#).await;
    assert_eq!(ada.expect_type("error").await["code"], "binary_not_supported");
    assert_eq!(ada.fence().await, NOTHING);
    assert_eq!(node.online_ids().await, ["ada"]);
}

#[tokio::test]
async fn unknown_fields_and_null_fields_are_as_if_they_were_not_there() {
    let node = node().await;
    let mut ada = node.ws("/ws").await;
    let join = json!({"type": "join_user", "userId": "ada", "name": null, "ref": null, "extra": [1]});
    ada.send_json(join).await;
    assert_eq!(ada.expect_type("welcome").await.get("ref"), None);
    assert_eq!(ada.expect_type("online_users_list").await["users"], json!([{"id": "ada", "status": "online"}]));
}

// Below the messages is RFC 6455: `conformance.rs`.

#[tokio::test]
async fn whoever_breaks_rfc_6455_is_gone_after_the_grace() {
    let node = node().await;
    let mut ada = node.join("ada").await;
    let mut bob = RawWs::connect(node.addr(), "/ws?userId=bob").await;
    ada.expect_type("user_online").await;
    bob.send(&frame(FIN | TEXT, b"\xFF")).await;
    assert_eq!(bob.expect_close().await, (1007, "Text is not UTF-8".to_owned()));
    assert_eq!(ada.expect_type("user_offline").await["reason"], "connection_lost");
}

// Who is silent.

#[tokio::test]
async fn who_does_not_say_who_they_are_is_closed() {
    let node = Node::start_with(|settings| settings.websocket.join_timeout = Duration::from_millis(200)).await;
    let mut nameless = node.ws("/ws").await;
    assert_eq!(nameless.expect_close().await, (1008, "User ID required".to_owned()));
    // Whoever has left has as long again.
    let mut ada = node.join("ada").await;
    ada.send_json(json!({"type": "leave"})).await;
    assert_eq!(ada.expect_close().await, (1008, "User ID required".to_owned()));
}

#[tokio::test]
async fn who_answers_no_ping_is_closed_and_gone() {
    let node = Node::start_with(|settings| {
        settings.websocket.ping_interval = Duration::from_millis(100);
        settings.websocket.silence_timeout = Duration::from_millis(1500);
    })
    .await;
    let mut ada = RawWs::connect(node.addr(), "/ws?userId=ada").await;
    ada.wait_for_type("online_users_list").await;
    assert_eq!(ada.next_frame().await.map(|frame| frame.opcode), Some(PING));
    assert_eq!(ada.expect_close().await, (4001, "Silent for too long".to_owned()));
    eventually_eq(async || node.online_ids().await, NOBODY, "the silent one is gone").await;
}

#[tokio::test]
async fn who_answers_pings_may_say_nothing_for_ever() {
    let node = Node::start_with(|settings| {
        settings.websocket.ping_interval = Duration::from_millis(50);
        settings.websocket.silence_timeout = Duration::from_millis(1500);
    })
    .await;
    let mut ada = RawWs::connect(node.addr(), "/ws?userId=ada").await;
    ada.wait_for_type("online_users_list").await;
    // Forty pings take 2 s at least: longer than the silence that is allowed.
    for _ in 0..40 {
        let ping = ada.next_frame().await.expect("the socket stays open");
        assert_eq!(ping.opcode, PING, "{ping:?}");
        ada.send(&frame(FIN | PONG, &ping.payload)).await;
    }
}

// The upgrade, and the end.

#[tokio::test]
async fn a_bad_user_id_is_refused_at_the_upgrade() {
    let node = node().await;
    let too_long = format!("/ws?userId={}", "x".repeat(129));
    for path in [&*too_long, "/ws?userId=a%0Ab", "/ws?userId=a&userId=b"] {
        let refusal = WsClient::try_connect(node.addr(), path).await.err().expect("a refusal");
        assert_eq!((refusal.status, refusal.header("content-type")), (400, Some("application/json")), "{path}");
        let body = refusal.json();
        assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!("invalid_parameter")), "{path}: {body}");
        assert!(body["message"].as_str().is_some_and(|message| message.contains("userId")), "{path}: {body}");
    }
    assert_eq!(node.online_ids().await, NOBODY);
}

#[tokio::test]
async fn an_empty_user_id_is_none() {
    let node = node().await;
    let mut nameless = node.ws("/ws?userId=").await;
    nameless.send_json(json!({"type": "user_activity"})).await;
    assert_eq!(nameless.expect_type("error").await["code"], "not_joined");
}

#[tokio::test]
async fn a_websocket_to_another_path_is_not_found() {
    let node = node().await;
    for path in ["/ws/", "/socket", "/api/online-users", "/healthz"] {
        let refusal = WsClient::try_connect(node.addr(), path).await.err().expect("a refusal");
        assert_eq!((refusal.status, &refusal.json()["code"]), (404, &json!("not_found")), "{path}");
    }
}

#[tokio::test]
async fn a_full_node_says_so_and_when_to_try_again() {
    let node = Node::start_with(|settings| settings.server.max_sockets = 2).await;
    let ada = node.join("ada").await;
    let _nameless = node.ws("/ws").await;
    let refusal = WsClient::try_connect(node.addr(), "/ws?userId=bob").await.err().expect("a refusal");
    assert_eq!((refusal.status, refusal.header("retry-after")), (503, Some("1")));
    assert_eq!(refusal.json()["code"], "full");
    assert_eq!(node.get("/healthz").await.0, 200);
    ada.close(1000).await;
    let comes = async || WsClient::try_connect(node.addr(), "/ws?userId=bob").await.is_ok();
    eventually(comes, "there is room again").await;
}

#[tokio::test]
async fn json_that_is_nested_too_deeply_is_refused() {
    let node = Node::start_with(|_| ()).await;
    let mut client = node.ws("/ws").await;
    for member in ["metadata", "device"] {
        for (n_levels, is_right) in [(32, true), (33, false), (120, false)] {
            let nested = format!("{}1{}", "[".repeat(n_levels - 1), "]".repeat(n_levels - 1));
            let object = format!(r#"{{"kind":"web","a":{nested}}}"#);
            client.send_text(&format!(r#"{{"type":"join_user","userId":"a","{member}":{object},"ref":1}}"#)).await;
            let answer = client.wait_for(|frame| frame["ref"] == 1).await;
            let expected = if is_right { "welcome" } else { "error" };
            assert_eq!(answer["type"], expected, "{member}, {n_levels}: {answer}");
        }
    }
}
