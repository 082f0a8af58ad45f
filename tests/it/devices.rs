//! What the sockets of a user run on, as the user's own sockets are told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

fn patient(settings: &mut rollcall::settings::Settings) {
    settings.presence.grace = Duration::from_secs(30);
    settings.presence.lease = Duration::from_mins(1);
}

async fn join(node: &Endpoint, user: &str, device: Value) -> WsClient {
    node.join_as(json!({"userId": user, "device": device})).await
}

async fn devices(client: &mut WsClient) -> Vec<Value> {
    client.send_json(json!({"type": "get_devices", "ref": "asked"})).await;
    let answer = client.wait_for(|frame| frame["ref"] == "asked").await;
    assert_eq!(answer["type"], "devices", "{answer}");
    answer["devices"].as_array().expect("a list").clone()
}

/// The states of the devices, each with the name of the device.
fn states(devices: &[Value]) -> Vec<(&str, &str)> {
    let mut states: Vec<_> = devices
        .iter()
        .map(|device| (device["device"]["name"].as_str().unwrap_or("-"), device["state"].as_str().expect("a state")))
        .collect();
    states.sort_unstable();
    states
}

#[tokio::test]
async fn every_own_socket_is_told_all_devices_and_nobody_else_is() {
    // So long that the grace does not end before the test has looked.
    for place in Place::each(patient).await {
        let mut phone = join(place.node(0), "ada", json!({"kind": "mobile", "name": "Ada's \"phone\""})).await;
        let mut tab = join(place.node(1), "ada", json!({"kind": "web", "name": "tab"})).await;
        let mut bare = place.node(2).join("ada").await;
        let mut bob = join(place.node(0), "bob", json!({"kind": "web", "name": "bob's"})).await;
        tab.send_json(json!({"type": "user_activity", "idle": true})).await;
        let expected = [("-", "active"), ("Ada's \"phone\"", "active"), ("tab", "idle")];
        for client in [&mut phone, &mut tab, &mut bare] {
            let told = async || states(&devices(client).await) == expected;
            eventually(told, "all three devices").await;
            let own: Vec<_> = devices(client).await.into_iter().filter(|device| device["own"] == true).collect();
            assert_eq!(own.len(), 1, "{own:?}");
            assert!(own[0]["since"].is_string() && own[0]["socketId"].is_string(), "{own:?}");
        }
        assert_eq!(states(&devices(&mut bob).await), [("bob's", "active")]);

        drop(phone);
        let told = async || states(&devices(&mut tab).await).contains(&("Ada's \"phone\"", "grace"));
        eventually(told, "the phone's connection broke").await;
    }
}

#[tokio::test]
async fn devices_are_asked_for_after_a_join() {
    let node = Node::start_with(|_| ()).await;
    let mut client = node.ws("/ws").await;
    client.send_json(json!({"type": "get_devices", "ref": 1})).await;
    let error = client.expect_type("error").await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("not_joined"), &json!(1)));
}

#[tokio::test]
async fn without_redis_the_devices_are_not_known() {
    let mut cluster = Cluster::start(1).await;
    let mut ada = cluster[0].join("ada").await;
    cluster.redis.kill();
    ada.send_json(json!({"type": "get_devices", "ref": 1})).await;
    let error = ada.expect_type("error").await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("store_unavailable"), &json!(1)));
}
