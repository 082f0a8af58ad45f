//! What the callbacks of Socket.IO say, and how the tongues answer what goes wrong.

use serde_json::{Value, json};

use crate::auth::secret_node;
use crate::support::*;

/// Asks, and returns the callback. The event of that name, which is the answer too, must say the same.
async fn answered_alike(client: &mut SioWs, request: Value, name: &str) -> Value {
    let (heard, mut ack) = client.ask_and_hear(request).await;
    let event = heard.iter().rfind(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name} in {heard:?}"));
    assert_eq!(ack.as_object_mut().expect("an object").remove("success"), Some(json!(true)), "{ack}");
    assert_eq!(ack, event.1);
    ack
}

#[tokio::test]
async fn callbacks_of_s1_have_the_members_of_its_own_events() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = SioWs::connect(&node, "").await;
    for request in [json!(["authenticate", {"userId": "ada"}]), json!(["authenticate", "ada"])] {
        let answer = answered_alike(&mut ada, request, "authentication-success").await;
        assert_eq!((&answer["userId"], &answer["onlineCount"]), (&json!("ada"), &json!(1)), "{answer}");
    }
    let list = answered_alike(&mut ada, json!(["get-online-users"]), "online-users-list").await;
    assert_eq!((&list["users"][0]["_id"], &list["count"]), (&json!("ada"), &json!(1)), "{list}");
    let joined = ada.ask(json!(["join-chat-session", {"chatSessionId": "c"}])).await;
    assert_eq!(
        (&joined["success"], &joined["chatSessionId"], &joined["count"]),
        (&json!(true), &json!("c"), &json!(1))
    );
    let user = &joined["users"][0];
    assert_eq!((&user["_id"], &user["isOnline"]), (&json!("ada"), &json!(true)), "{joined}");
    assert!(user["lastSeen"].is_string(), "{joined}");
    assert_eq!(ada.ask(json!(["typing-start", "c"])).await, json!({"success": true}));
    let left = ada.ask(json!(["leave-chat-session", "c"])).await;
    assert_eq!(left, json!({"success": true, "chatSessionId": "c"}));
    assert_eq!(ada.ask(json!(["ping"])).await, "pong");
    // For the other native requests there are no words of its own.
    let status = answered_alike(&mut ada, json!(["set_status", "busy"]), "own_status").await;
    assert_eq!(status["chosen"], "busy");
    let checked = answered_alike(&mut ada, json!(["check_user_online", "ada"]), "user_online_status").await;
    assert_eq!(checked["online"], true, "{checked}");
}

#[tokio::test]
async fn callbacks_of_s0_have_the_members_of_its_own_events() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = SioWs::connect(&node, "").await;
    let request = json!(["join-room", {"roomId": "r", "userId": "ada", "username": "adal"}]);
    let update = answered_alike(&mut ada, request, "online-count-updated").await;
    assert_eq!((&update["roomId"], &update["onlineCount"]), (&json!("r"), &json!(1)), "{update}");
    let user = &update["onlineUsers"][0];
    assert_eq!((&user["userId"], &user["username"]), (&json!("ada"), &json!("adal")), "{update}");
    assert_eq!(ada.ask(json!(["leave-room", "r"])).await, json!({"success": true, "roomId": "r"}));
    let list = answered_alike(&mut ada, json!(["get_online_users"]), "online_users_list").await;
    assert_eq!((&list["users"][0]["id"], &list["total"]), (&json!("ada"), &json!(1)), "{list}");
}

#[tokio::test]
async fn native_requests_about_the_own_user_and_rooms_are_answered_in_the_tongue() {
    let node = Node::start_with(|_| ()).await;
    let mut s1 = SioWs::connect(&node, "").await;
    assert_eq!(s1.ask(json!(["ping"])).await["code"], "not_joined", "it has chosen the tongue");
    let success = answered_alike(&mut s1, json!(["join_user", "ada"]), "authentication-success").await;
    assert_eq!(success["onlineCount"], 1, "{success}");
    s1.wait_for("online-users-list").await;
    answered_alike(&mut s1, json!(["get_online_users"]), "online-users-list").await;
    let (heard, joined) = s1.ask_and_hear(json!(["join_room", "r"])).await;
    assert_eq!((&joined["chatSessionId"], &joined["users"][0]["_id"]), (&json!("r"), &json!("ada")), "{joined}");
    assert_eq!(heard, [], "the callback is the answer");
    assert_eq!(s1.ask(json!(["user_activity"])).await, "pong");
    s1.emit(json!(["subscribe", "everyone"])).await;
    let own = s1.wait_for("user-status-change").await;
    assert_eq!((&own["userId"], &own["status"]), (&json!("ada"), &json!("online")), "its own status, in its words");
    let as_another = s1.ask_and_hear(json!(["join_user", "eve"])).await;
    assert_eq!((&*as_another.0[0].0, &as_another.1["code"]), ("authentication-error", &json!("already_joined")));

    let mut s0 = SioWs::connect(&node, "").await;
    assert_eq!(s0.ask(json!(["leave-room", "r"])).await["code"], "not_joined", "it has chosen the tongue");
    let (heard, welcome) = s0.ask_and_hear(json!(["join_user", "bob"])).await;
    assert_eq!((&welcome["userId"], &welcome["onlineCount"]), (&json!("bob"), &json!(2)), "{welcome}");
    assert_eq!(heard, [], "the callback is the answer");
    assert_eq!(s0.wait_for("online_users_list").await["total"], 2);
    answered_alike(&mut s0, json!(["join_room", "r"]), "online-count-updated").await;
    let (heard, left) = s0.ask_and_hear(json!(["leave_room", "r"])).await;
    assert_eq!((heard.len(), left), (0, json!({"success": true, "roomId": "r"})));
    assert_eq!(s0.ask(json!(["user_activity"])).await, json!({"success": true}));
}

#[tokio::test]
async fn join_room_states_the_profile_anew() {
    for place in Place::each(|_| ()).await {
        let mut ada = SioWs::connect(place.node(0), "").await;
        let mut bob = SioWs::connect(place.node(1), "").await;
        for (client, id) in [(&mut ada, "ada"), (&mut bob, "bob")] {
            assert_eq!(client.ask(json!(["join-room", {"roomId": "r", "userId": id}])).await["success"], true);
        }
        let renamed = ada.ask(json!(["join-room", {"roomId": "r", "userId": "ada", "username": "adal"}])).await;
        assert_eq!(
            renamed["onlineUsers"][0],
            json!({
                "userId": "ada", "username": "adal", "lastSeen": renamed["onlineUsers"][0]["lastSeen"],
            })
        );
        bob.wait_until("online-count-updated", |update| update["onlineUsers"][0]["username"] == "adal").await;
        // Who states nothing keeps the name.
        let other = ada.ask(json!(["join-room", {"roomId": "other", "userId": "ada"}])).await;
        assert_eq!(other["onlineUsers"][0]["username"], "adal", "{other}");
        let long = "x".repeat(5_000);
        let refused = ada.ask(json!(["join-room", {"roomId": "third", "userId": "ada", "username": long}])).await;
        assert_eq!((&refused["success"], &refused["code"]), (&json!(false), &json!("invalid_field")), "{refused}");
    }
}

#[tokio::test]
async fn who_hides_is_offline_for_the_own_tabs_of_s1_and_s0_as_well() {
    for place in Place::each(|_| ()).await {
        let mut tab = SioWs::connect(place.node(0), "").await;
        assert_eq!(tab.ask(json!(["authenticate", "eve"])).await["success"], true);
        let mut in_room = SioWs::connect(place.node(1), "").await;
        assert_eq!(in_room.ask(json!(["join-room", {"roomId": "r", "userId": "eve"}])).await["onlineCount"], 1);
        let mut hiding = SioWs::connect(place.node(2), "").await;
        assert_eq!(hiding.ask(json!(["authenticate", "eve"])).await["success"], true);
        hiding.emit(json!(["set_status", "invisible"])).await;
        for client in [&mut tab, &mut hiding] {
            let change = client.wait_until("user-status-change", |change| change["isOnline"] == false).await;
            assert_eq!((&change["userId"], &change["status"]), (&json!("eve"), &json!("offline")), "{change}");
            client.emit(json!(["get-online-users"])).await;
            assert_eq!(client.wait_for("online-users-list").await["count"], 0);
        }
        in_room.wait_until("online-count-updated", |update| update["onlineCount"] == 0).await;
        hiding.emit(json!(["set_status", "online"])).await;
        for client in [&mut tab, &mut hiding] {
            let change = client.wait_until("user-status-change", |change| change["isOnline"] == true).await;
            assert_eq!((&change["userId"], &change["status"]), (&json!("eve"), &json!("online")), "{change}");
        }
        in_room.wait_until("online-count-updated", |update| update["onlineCount"] == 1).await;
    }
}

#[tokio::test]
async fn whatever_refuses_an_authenticate_of_s1_is_an_authentication_error() {
    let trusted = Node::start_with(|settings| {
        settings.limits.sockets_per_user = 1;
        settings.limits.request_burst = 4;
    })
    .await;
    let _first = trusted.join("taken").await;
    let secret = secret_node().await;
    let malformed = [json!({"userId": {}}), json!({"userId": ""}), json!({"userId": "ada", "token": 7}), json!([[]])];
    let mut cases: Vec<_> =
        malformed.iter().flat_map(|it| [(&trusted, it, "invalid_field"), (&secret, it, "invalid_field")]).collect();
    let (nobody, taken) = (json!({}), json!({"userId": "taken"}));
    cases.extend([(&trusted, &nobody, "missing_field"), (&trusted, &taken, "too_many_sockets")]);
    for (node, argument, code) in cases {
        let mut client = SioWs::connect(node, "").await;
        let (heard, ack) = client.ask_and_hear(json!(["authenticate", argument])).await;
        let [(name, error)] = &heard[..] else { panic!("{argument}: {heard:?}") };
        assert_eq!((name.as_str(), &error["code"]), ("authentication-error", &json!(code)), "{argument}");
        assert!(error["message"].is_string(), "{error}");
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{argument}: {ack}");
    }
    let mut hasty = SioWs::connect(&trusted, "").await;
    let refused = loop {
        let (heard, ack) = hasty.ask_and_hear(json!(["authenticate", "ada"])).await;
        if ack["success"] == false {
            break heard;
        }
    };
    assert_eq!((refused[0].0.as_str(), &refused[0].1["code"]), ("authentication-error", &json!("rate_limited")));
    assert!(refused[0].1["retryAfterMs"].is_number(), "{refused:?}");
    // Others say it in their own words.
    let mut s2 = SioWs::connect(&trusted, "").await;
    assert_eq!(s2.ask(json!(["join_user", "bob"])).await["success"], true);
    s2.emit(json!(["authenticate", {"userId": {}}])).await;
    assert_eq!(s2.wait_for("error").await["code"], "invalid_field");
}
