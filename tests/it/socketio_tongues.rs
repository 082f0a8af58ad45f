//! What clients of Socket.IO say and hear, each in the tongue of its system (contract, S0 to S3), over a WebSocket.

use serde_json::{Value, json};

use crate::support::*;

fn named<'a>(heard: &'a [(String, Value)], name: &str) -> Vec<&'a Value> {
    heard.iter().filter(|(found, _)| found == name).map(|(_, argument)| argument).collect()
}

fn ids(list: &Value) -> Vec<&str> {
    list["users"].as_array().expect("users").iter().map(|user| user["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn clients_of_s2_say_who_they_are_and_hear_who_comes_and_goes() {
    for place in Place::each(|_| ()).await {
        let mut ada = SioWs::connect(place.node(0), "").await;
        ada.emit(json!(["join_user", 42])).await;
        assert_eq!(ada.wait_for("welcome").await["userId"], "42");
        assert_eq!(ids(&ada.wait_for("online_users_list").await), ["42"]);

        let mut bob = SioWs::connect(place.node(1), "").await;
        let (heard, ack) = bob.ask_and_hear(json!(["join_user", {"userId": "bob", "name": "Bob"}])).await;
        assert_eq!((&ack["success"], &ack["userId"]), (&json!(true), &json!("bob")), "{ack}");
        assert_eq!(named(&heard, "welcome").len(), 1, "{heard:?}");
        let online = ada.wait_for("user_online").await;
        assert_eq!((&online["userId"], &online["user"]["name"]), (&json!("bob"), &json!("Bob")));
        let told = ada.wait_until("online_users_list", |list| list["total"] == 2).await;
        assert_eq!(ids(&told), ["42", "bob"]);

        for (asked, is_online) in [("bob", true), ("nobody", false)] {
            ada.emit(json!(["check_user_online", asked])).await;
            let status = ada.wait_for("user_online_status").await;
            assert_eq!((&status["userId"], &status["isOnline"]), (&json!(asked), &json!(is_online)), "{status}");
        }
        ada.emit(json!(["get_online_users"])).await;
        assert_eq!(ids(&ada.wait_for("online_users_list").await), ["42", "bob"]);
        assert_eq!(ada.ask(json!(["user_activity", {"userId": 42}])).await, json!({"success": true}));
        assert_eq!(ada.ask(json!(["user_online", "42"])).await, json!({"success": true}));

        bob.send("41").await;
        assert_eq!(ada.wait_for("user_offline").await["userId"], "bob");
        let told = ada.wait_until("online_users_list", |list| list["total"] == 1).await;
        assert_eq!(ids(&told), ["42"]);
        let about_oneself = ada.fence().await;
        assert!(!about_oneself.iter().any(|(_, argument)| argument["userId"] == "42"), "{about_oneself:?}");
    }
}

#[tokio::test]
async fn clients_of_s1_authenticate_and_hear_each_change_of_a_status() {
    for place in Place::each(|_| ()).await {
        let mut ada = SioWs::connect(place.node(0), "").await;
        let (heard, ack) = ada.ask_and_hear(json!(["authenticate", {"userId": "ada", "token": null}])).await;
        assert_eq!(ack["success"], true, "{ack}");
        let [success] = named(&heard, "authentication-success")[..] else { panic!("{heard:?}") };
        assert_eq!((&success["userId"], &success["onlineCount"]), (&json!("ada"), &json!(1)));
        let list = ada.wait_for("online-users-list").await;
        assert_eq!((&list["users"][0]["_id"], &list["users"][0]["isOnline"]), (&json!("ada"), &json!(true)), "{list}");
        assert_eq!(ada.ask(json!(["ping"])).await, json!("pong"));

        let mut bob = SioWs::connect(place.node(1), "").await;
        bob.emit(json!(["authenticate", {"userId": 7}])).await;
        assert_eq!(bob.wait_for("authentication-success").await["userId"], "7");
        let change = ada.wait_until("user-status-change", |change| change["userId"] == "7").await;
        assert_eq!((&change["isOnline"], &change["status"]), (&json!(true), &json!("online")), "{change}");
        for time in ["lastSeen", "timestamp"] {
            assert!(change[time].as_str().is_some_and(|time| time.ends_with('Z')), "{change}");
        }
        ada.emit(json!(["get-online-users"])).await;
        assert_eq!(ada.wait_until("online-users-list", |list| list["count"] == 2).await["users"][0]["id"], "7");

        for client in [&mut ada, &mut bob] {
            assert_eq!(client.ask(json!(["join-chat-session", "c1"])).await["success"], true);
        }
        let mut typing = json!(null);
        while typing.is_null() {
            // The other node may not have subscribed to the room yet. One signal a second is told.
            _ = bob.ask(json!(["typing-start", {"chatSessionId": "c1", "userId": 7}])).await;
            typing = named(&ada.fence().await, "user-typing").first().map_or(json!(null), |typing| (*typing).clone());
        }
        assert_eq!(typing, json!({"userId": "7", "chatSessionId": "c1", "isTyping": true}));
        assert_eq!(bob.ask(json!(["leave-chat-session", "c1"])).await["success"], true);

        assert_eq!(bob.ask(json!(["set_status", "busy"])).await["success"], true);
        let change = ada.wait_until("user-status-change", |change| change["status"] == "busy").await;
        assert_eq!((&change["userId"], &change["isOnline"]), (&json!("7"), &json!(true)));
        bob.send("41").await;
        let change = ada.wait_until("user-status-change", |change| change["isOnline"] == false).await;
        assert_eq!((&change["userId"], &change["status"]), (&json!("7"), &json!("offline")));
    }
}

#[tokio::test]
async fn clients_of_s0_hear_who_is_in_their_room_whenever_that_changes() {
    for place in Place::each(|_| ()).await {
        let mut ada = SioWs::connect(place.node(0), "").await;
        let (heard, ack) =
            ada.ask_and_hear(json!(["join-room", {"roomId": "r1", "userId": "ada", "username": "adal"}])).await;
        assert_eq!(ack["success"], true, "{ack}");
        let [(name, first)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(
            (name.as_str(), &first["roomId"], &first["onlineCount"]),
            ("online-count-updated", &json!("r1"), &json!(1))
        );
        assert_eq!(
            (&first["onlineUsers"][0]["userId"], &first["onlineUsers"][0]["username"]),
            (&json!("ada"), &json!("adal"))
        );
        assert!(first["onlineUsers"][0]["lastSeen"].is_string(), "{first}");

        let mut bob = SioWs::connect(place.node(1), "").await;
        bob.emit(json!(["join-room", {"roomId": "r1", "userId": 7}])).await;
        let of_both = |update: &Value| update["onlineCount"] == 2;
        assert_eq!(bob.wait_until("online-count-updated", of_both).await["onlineUsers"][0]["username"], "7");
        assert_eq!(ada.wait_until("online-count-updated", of_both).await["onlineUsers"][1]["userId"], "ada");
        let elsewhere = SioWs::connect(place.node(1), "").await;
        let mut elsewhere = elsewhere;
        assert_eq!(elsewhere.ask(json!(["join-room", {"roomId": "r2", "userId": "carol"}])).await["success"], true);

        assert_eq!(bob.ask(json!(["leave-room", {"roomId": "r1", "userId": 7}])).await["success"], true);
        let of_one = ada.wait_until("online-count-updated", |update| update["onlineCount"] == 1).await;
        assert_eq!(of_one["onlineUsers"].as_array().map(Vec::len), Some(1), "{of_one}");
        let other = elsewhere.fence().await;
        assert!(!other.iter().any(|(_, argument)| argument["roomId"] == "r1"), "{other:?}");
        let as_another = ada.ask(json!(["join-room", {"roomId": "r1", "userId": "eve"}])).await;
        assert_eq!((&as_another["success"], &as_another["code"]), (&json!(false), &json!("already_joined")));
    }
}

#[tokio::test]
async fn large_rooms_are_told_their_number_alone_and_large_services_no_list() {
    let node = Node::start_with(|settings| {
        settings.socketio.list_below = 2;
        settings.socketio.room_list_below = 1;
    })
    .await;
    let mut ada = SioWs::connect(&node, "").await;
    let mut lister = SioWs::connect(&node, "").await;
    lister.emit(json!(["join_user", "lister"])).await;
    lister.wait_for("online_users_list").await;
    ada.emit(json!(["join-room", {"roomId": "r", "userId": "ada"}])).await;
    assert!(ada.wait_for("online-count-updated").await["onlineUsers"].is_array());
    let mut bob = SioWs::connect(&node, "").await;
    bob.emit(json!(["join-room", {"roomId": "r", "userId": "bob"}])).await;
    let update = ada.wait_until("online-count-updated", |update| update["onlineCount"] == 2).await;
    assert_eq!(update.get("onlineUsers"), None, "{update}");
    lister.wait_until("user_online", |event| event["userId"] == "bob").await;
    assert!(named(&lister.fence().await, "online_users_list").is_empty(), "there are two, which is not below two");
}

#[tokio::test]
async fn what_is_not_offered_is_said_to_be_and_the_socket_stays() {
    let node = Node::start_with(|_| ()).await;
    let mut client = SioWs::connect(&node, "").await;
    for name in ["send_private_message", "join_conversation", "new-message", "send-message"] {
        let (heard, ack) = client.ask_and_hear(json!([name, {"content": "hello"}])).await;
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("not_available")), "{ack}");
        assert_eq!(named(&heard, "error")[0]["code"], "not_available");
    }
    let ack = client.ask(json!(["dance"])).await;
    assert_eq!((&ack["code"], ack["message"].is_string()), (&json!("unknown_type"), true));
    // None of these has chosen a tongue.
    client.emit(json!(["authenticate", {"userId": "ada"}])).await;
    client.wait_for("authentication-success").await;
}

#[tokio::test]
async fn all_formats_see_the_same_users() {
    for place in Place::each(|_| ()).await {
        let mut native = place.node(0).join("native").await;
        let mut plain = place.node(1).ws("/?userId=plain").await;
        plain.wait_for(|frame| frame["type"] == "CONNECTION_ESTABLISHED").await;
        let mut s2 = SioWs::connect(place.node(2), "").await;
        s2.emit(json!(["join_user", "s2"])).await;
        let mut s1 = SioWs::connect(place.node(0), "").await;
        s1.emit(json!(["authenticate", {"userId": "s1"}])).await;
        let mut s0 = SioWs::connect(place.node(1), "").await;
        s0.emit(json!(["join-room", {"roomId": "r", "userId": "s0"}])).await;
        let all = ["native", "plain", "s0", "s1", "s2"];
        for number in 0..3 {
            eventually_eq(async || place.node(number).online_ids().await, all, "every node lists all").await;
        }
        s2.send("41").await;
        native.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "s2").await;
        plain.wait_for(|frame| frame["type"] == "USER_OFFLINE" && frame["userId"] == "s2").await;
        let change = s1.wait_until("user-status-change", |change| change["isOnline"] == false).await;
        assert_eq!(change["userId"], "s2");
    }
}

#[tokio::test]
async fn who_hides_is_gone_in_every_tongue() {
    for place in Place::each(|_| ()).await {
        let mut s2 = SioWs::connect(place.node(0), "").await;
        s2.emit(json!(["join_user", "s2"])).await;
        s2.wait_for("online_users_list").await;
        let mut s1 = SioWs::connect(place.node(1), "").await;
        s1.emit(json!(["authenticate", {"userId": "s1"}])).await;
        s1.wait_for("online-users-list").await;
        let mut s0 = SioWs::connect(place.node(2), "").await;
        assert_eq!(s0.ask(json!(["join-room", {"roomId": "r", "userId": "s0"}])).await["success"], true);
        let mut eve = SioWs::connect(place.node(0), "").await;
        assert_eq!(eve.ask(json!(["join_user", "eve"])).await["success"], true);
        assert_eq!(eve.ask(json!(["join_room", "r"])).await["success"], true);
        s2.wait_until("online_users_list", |list| ids(list).contains(&"eve")).await;
        s1.wait_until("user-status-change", |change| change["userId"] == "eve").await;
        s0.wait_until("online-count-updated", |update| update["onlineCount"] == 2).await;

        assert_eq!(eve.ask(json!(["set_status", "invisible"])).await["success"], true);
        assert_eq!(s2.wait_for("user_offline").await["userId"], "eve");
        s2.wait_until("online_users_list", |list| !ids(list).contains(&"eve")).await;
        let change = s1.wait_until("user-status-change", |change| change["isOnline"] == false).await;
        assert_eq!((&change["userId"], &change["status"]), (&json!("eve"), &json!("offline")));
        let update = s0.wait_until("online-count-updated", |update| update["onlineCount"] == 1).await;
        assert_eq!(update["onlineUsers"][0]["userId"], "s0", "{update}");
        s1.emit(json!(["get-online-users"])).await;
        let list = s1.wait_for("online-users-list").await;
        assert_eq!(list["count"], 3, "{list}");
        assert!(!ids(&list).contains(&"eve"), "{list}");
    }
}
