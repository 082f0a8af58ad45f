//! The Socket.IO protocol 5, item by item: <https://socket.io/docs/v4/socket-io-protocol/>.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::raw_ws::{BINARY, FIN, frame};
use crate::support::*;

const PROTOCOL_ERROR: u16 = 1002;

async fn node() -> Node {
    Node::start_with(|_| ()).await
}

/// The packets until the node closes, which must be for a protocol error.
async fn refused(client: &mut SioWs, what: &str) -> Vec<String> {
    let (packets, code) = client.expect_close().await;
    assert_eq!(code, PROTOCOL_ERROR, "{what}: {packets:?}");
    packets
}

#[tokio::test]
async fn the_main_namespace_is_entered_once_and_before_anything_is_said() {
    let node = node().await;
    for connect in ["40", "40{}", "40/,", r#"40/,{"x":1}"#] {
        let mut client = SioWs::open(&node, "").await;
        client.send(connect).await;
        let connected = client.next().await;
        let sid: Value = serde_json::from_str(connected.strip_prefix("40").expect("a CONNECT")).expect("JSON");
        assert!(sid["sid"].as_str().is_some_and(|sid| sid.len() == 26), "{connect}: {connected}");
        client.send(connect).await;
        refused(&mut client, "a second CONNECT").await;
    }
    let mut early = SioWs::open(&node, "").await;
    early.emit(json!(["join_user", "ada"])).await;
    refused(&mut early, "an event before CONNECT").await;
    assert_eq!(node.online_ids().await, NOBODY);
}

#[tokio::test]
async fn another_namespace_is_refused_and_the_socket_stays() {
    let node = node().await;
    let mut client = SioWs::connect(&node, "").await;
    for connect in ["40/admin,", r#"40/admin,{"token":"x"}"#, "40/admin"] {
        client.send(connect).await;
        assert_eq!(client.next().await, r#"44/admin,{"message":"Invalid namespace"}"#);
    }
    client.emit(json!(["join_user", "ada"])).await;
    client.wait_for("welcome").await;
    client.send(r#"42/admin,["join_user","eve"]"#).await;
    refused(&mut client, "an event in a namespace that was not entered").await;
}

#[tokio::test]
async fn an_acknowledgement_is_asked_for_with_a_number_and_ours_is_never_asked_for() {
    let node = node().await;
    let mut client = SioWs::connect(&node, "").await;
    client.send(r#"420["join_user","ada"]"#).await;
    client.send(r#"429007199254740991["user_activity"]"#).await;
    client.send(r#"42/,7["get_devices"]"#).await;
    let mut acks = Vec::new();
    while acks.len() < 3 {
        let packet = client.next().await;
        acks.extend(packet.strip_prefix("43").map(str::to_owned));
    }
    assert!(acks[0].starts_with(r#"0[{"success":true,"userId":"ada""#), "{acks:?}");
    assert_eq!(acks[1], r#"9007199254740991[{"success":true}]"#);
    assert!(acks[2].starts_with(r#"7[{"success":true,"devices":[{"#), "{acks:?}");
    // Nobody has asked for these.
    client.send(r#"4312["x"]"#).await;
    client.send("430[]").await;
    client.send(r#"462-7[{"_placeholder":true,"num":0}]"#).await;
    for _ in 0..2 {
        client.send_frame(&frame(FIN | BINARY, &[1, 2, 3])).await;
    }
    client.fence().await;
    client.send(r#"4212345678901234567["user_activity"]"#).await;
    refused(&mut client, "a number that JavaScript does not count").await;
}

#[tokio::test]
async fn whoever_disconnects_is_gone_at_once() {
    for goodbye in ["41", "1", "41/,"] {
        let node = node().await;
        let mut ada = SioWs::connect(&node, "").await;
        ada.emit(json!(["join_user", "ada"])).await;
        ada.wait_for("welcome").await;
        let mut bob = node.join("bob").await;
        ada.send(goodbye).await;
        let offline = bob.wait_for(|frame| frame["type"] == "user_offline").await;
        assert_eq!((&offline["userId"], &offline["reason"]), (&json!("ada"), &json!("left")), "{goodbye}");
    }
}

#[tokio::test]
async fn binary_attachments_are_read_and_refused_in_words() {
    let node = node().await;
    for n_attachments in [1, 10] {
        let mut client = SioWs::connect(&node, "").await;
        client.send(&format!(r#"45{n_attachments}-3["upload",{{"_placeholder":true,"num":0}}]"#)).await;
        for _ in 0..n_attachments {
            client.send_frame(&frame(FIN | BINARY, &[1, 2, 3])).await;
        }
        let (heard, ack) = client.ask_and_hear(json!(["user_activity"])).await;
        assert_eq!(heard[0].1["code"], "binary_not_supported", "{heard:?}");
        assert_eq!(ack["code"], "not_joined", "the socket goes on");
    }
    for (what, packets) in [
        ("eleven attachments", vec![Ok(r#"4511-["x",{"_placeholder":true,"num":0}]"#)]),
        ("a text among them", vec![Ok(r#"451-["x"]"#), Ok("3")]),
        ("one that nobody announced", vec![Err(())]),
        ("one too many", vec![Ok(r#"451-["x"]"#), Err(()), Err(())]),
    ] {
        let mut client = SioWs::connect(&node, "").await;
        for packet in packets {
            match packet {
                Ok(text) => client.send(text).await,
                Err(()) => client.send_frame(&frame(FIN | BINARY, &[1])).await,
            }
        }
        refused(&mut client, what).await;
    }
}

#[tokio::test]
async fn the_binaries_of_an_event_that_came_too_soon_are_known_as_such() {
    let node = Node::start_with(|settings| {
        settings.limits.messages_per_second = 1;
        settings.limits.message_burst = 5;
        settings.limits.request_burst = 5;
    })
    .await;
    let mut client = SioWs::connect(&node, "").await;
    for _ in 0..4 {
        client.emit(json!(["user_activity"])).await;
    }
    client.send(r#"452-["upload"]"#).await;
    for _ in 0..2 {
        client.send_frame(&frame(FIN | BINARY, &[1])).await;
    }
    for _ in 0..5 {
        client.send("3").await;
    }
    let (packets, code) = client.expect_close().await;
    assert_eq!(code, 4029, "{packets:?}");
    let refused = packets.iter().filter(|packet| packet.contains("rate_limited")).count();
    assert_eq!(refused, 5, "{packets:?}");
}

#[tokio::test]
async fn what_is_no_packet_ends_the_socket() {
    let node = node().await;
    for packet in [
        "",
        "x",
        "4",
        "7",
        "0",
        "0{}",
        "2",
        "2probe",
        "5",
        "6x",
        "3x",
        "1x",
        "48[]",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        r#"42["x""#,
        r#"42["x"]]"#,
        r#"42["connect"]"#,
        r#"42["disconnect"]"#,
        r#"42["newListener"]"#,
        "43",
        "43[]",
        "437{}",
        "44{}",
        "400{}",
        "40[]",
        r#"40"x""#,
        "45",
        r#"45-["x"]"#,
        r#"450-["x"]"#,
        r#"45x-["x"]"#,
    ] {
        let mut client = SioWs::connect(&node, "").await;
        client.send(packet).await;
        refused(&mut client, packet).await;
    }
    let mut client = SioWs::connect(&node, "").await;
    client.send(&format!("40/{},", "a".repeat(200))).await;
    refused(&mut client, "a very long namespace").await;
}

#[tokio::test]
async fn a_wrong_event_has_its_error_and_the_socket_stays() {
    let node = node().await;
    let mut client = SioWs::connect(&node, "").await;
    for (event, code) in [
        (json!([7]), "unknown_type"),
        (json!(["__proto__"]), "unknown_type"),
        (json!(["x".repeat(1000)]), "unknown_type"),
        (json!(["join_user"]), "missing_field"),
        (json!(["join_user", {"userId": {}}]), "invalid_field"),
        (json!(["join_user", "a", "b"]), "invalid_field"),
        (json!(["join_user", 1, {}, {}, {}, {}]), "invalid_field"),
        (json!(["join-room", {"userId": "a"}]), "missing_field"),
        (json!(["join-chat-session", []]), "invalid_field"),
        (json!(["get_online_users"]), "not_joined"),
    ] {
        let (heard, ack) = client.ask_and_hear(event.clone()).await;
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{event}: {ack}");
        assert!(ack["message"].as_str().is_some_and(|message| message.len() < 200), "{ack}");
        let [(name, error)] = &heard[..] else { panic!("{event}: {heard:?}") };
        assert_eq!((name.as_str(), &error["code"]), ("error", &json!(code)));
    }
}

#[tokio::test]
async fn the_node_asks_whether_the_client_is_there_and_closes_a_silent_one() {
    let node = Node::start_with(|settings| {
        settings.websocket.ping_interval = Duration::from_millis(100);
        settings.websocket.silence_timeout = Duration::from_millis(400);
    })
    .await;
    let mut ada = SioWs::connect(&node, "").await;
    ada.emit(json!(["join_user", "ada"])).await;
    let mut silent = SioWs::connect(&node, "").await;
    silent.emit(json!(["join_user", "silent"])).await;
    // Pings are answered on the way.
    let gone = ada.wait_for("user_offline").await;
    assert_eq!((&gone["userId"], &gone["reason"]), (&json!("silent"), &json!("timed_out")));
    let (packets, code) = silent.expect_close().await;
    assert!(packets.iter().any(|packet| packet == "2"), "{packets:?}");
    assert_eq!(code, 4001, "{packets:?}");
}
