//! `docs/asyncapi.json` says what the native format says: no message less, none more, and each as it is.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::*;

const DOCUMENT: &str = "docs/asyncapi.json";

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// The messages of the document.
struct Wire(Document);

impl Wire {
    fn read() -> Wire {
        Wire(Document::read(DOCUMENT))
    }

    /// The messages that one side sends, each with its `type`.
    fn messages(&self, side: Side) -> Vec<(&str, &Value)> {
        let operations = self.0.at("/operations").as_object().expect("operations").values();
        let mut named = BTreeSet::new();
        for operation in operations {
            let sends = operation["action"] == "send";
            let mut add = |messages: &'static str, by: Side| {
                let messages = operation.pointer(messages).and_then(Value::as_array).into_iter().flatten();
                let references = messages.filter(|_| by == side);
                named.extend(references.map(|message| message["$ref"].as_str().expect("a reference").to_owned()));
            };
            add("/messages", if sends { Side::Server } else { Side::Client });
            add("/reply/messages", Side::Server);
        }
        let messages = named.iter().map(|reference| {
            let message = self.0.resolve(self.0.at(reference.strip_prefix('#').expect("in this document")));
            (message["name"].as_str().expect("a name"), message)
        });
        messages.collect()
    }

    fn types(&self, side: Side) -> BTreeSet<String> {
        self.messages(side).into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// Fails if a frame is none of the messages of that side.
    fn check(&self, side: Side, frame: &Value) {
        let kind = frame["type"].as_str().unwrap_or_else(|| panic!("{frame} has no type"));
        let messages = self.messages(side);
        let (_, message) =
            messages.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("{frame} is not documented"));
        assert_eq!(self.0.violations(&message["payload"], frame), NO_VIOLATIONS, "{frame}");
    }
}

/// The names within quotation marks in a part of a file, without what is no name.
fn names_in(file: &str, from: &str, to: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("{}/src/wire/{file}", env!("CARGO_MANIFEST_DIR"))).expect("the file");
    let part = text.split_once(from).unwrap_or_else(|| panic!("{file} has no {from}")).1;
    let part = part.split_once(to).unwrap_or_else(|| panic!("{file} has no {to} after {from}")).0;
    let quoted = part.split('"').skip(1).step_by(2);
    let is_name = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    quoted.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_request_that_is_read_is_documented_and_no_other() {
    let arms = names_in("native/request.rs", "match kind {", "short if");
    let fields = ["userId", "text", "idle", "presence"];
    let read: BTreeSet<_> = arms.into_iter().filter(|name| !fields.contains(&name.as_str())).collect();
    assert_eq!(Wire::read().types(Side::Client), read);
}

#[test]
fn every_message_that_is_written_is_documented_and_no_other() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/native.rs")).expect("the file");
    let answers = text.split("object(\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name);
    let mut written: BTreeSet<String> = answers.map(str::to_owned).collect();
    written.extend(names_in("native.rs", "let kind = match", "};"));
    let of_rooms = text.split_once("fn room_event_object").expect("the function").1;
    let of_rooms = of_rooms.split_once("};").expect("the end of its names").0;
    written.extend(of_rooms.split('"').skip(1).step_by(2).map(str::to_owned));
    assert_eq!(Wire::read().types(Side::Server), written);
}

#[test]
fn every_error_and_every_reason_is_documented_and_no_other() {
    let document = Document::read(DOCUMENT);
    let listed = |name: &str| -> BTreeSet<String> {
        let values = document.at(&format!("/components/schemas/{name}/enum")).as_array().expect("values");
        values.iter().map(|value| value.as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(listed("ErrorCode"), names_in("message.rs", "impl ErrorCode {", "\n}\n"));
    let reasons = names_in("../domain/transition.rs", "impl OfflineReason {", "/// The reason of that name");
    assert_eq!(listed("Reason"), reasons);
    let statuses = rollcall::domain::Status::ALL.map(|status| status.as_str().to_owned());
    assert_eq!(listed("Status"), statuses.into());
    assert_eq!(document.at("/info/version"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_protocol_page_has_every_message() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).expect("the page");
    let wire = Wire::read();
    for kind in wire.types(Side::Client).union(&wire.types(Side::Server)) {
        assert!(page.contains(&format!("`{kind}`")) || page.contains(&format!("\"type\":\"{kind}\"")), "{kind}");
    }
}

#[test]
fn the_examples_are_what_they_are_examples_of() {
    let wire = Wire::read();
    for side in [Side::Client, Side::Server] {
        for (name, message) in wire.messages(side) {
            for example in message["examples"].as_array().expect("examples") {
                assert_eq!(wire.0.violations(&message["payload"], &example["payload"]), NO_VIOLATIONS, "{name}");
            }
        }
    }
}

/// A client that checks everything it says and hears.
struct Checked<'a> {
    client: WsClient,
    wire: &'a Wire,
    heard: BTreeSet<String>,
}

impl<'a> Checked<'a> {
    async fn open(node: &Endpoint, path: &str, wire: &'a Wire) -> Checked<'a> {
        Checked { client: node.ws(path).await, wire, heard: BTreeSet::new() }
    }

    async fn say(&mut self, request: Value) {
        self.wire.check(Side::Client, &request);
        self.client.send_json(request).await;
    }

    async fn hear(&mut self, kind: &str) -> Value {
        let frames = self.client.collect_until(|frame| frame["type"] == kind).await;
        for frame in &frames {
            self.wire.check(Side::Server, frame);
            self.heard.insert(frame["type"].as_str().expect("a type").to_owned());
        }
        frames.into_iter().next_back().expect("the last one is it")
    }
}

#[tokio::test]
async fn the_frames_of_a_real_run_are_as_documented() {
    let wire = Wire::read();
    let mut heard = BTreeSet::new();
    for place in Place::each(|settings| settings.fanout.log_bytes = 65_536).await {
        let mut watch = Checked::open(place.node(0), "/ws?userId=watch", &wire).await;
        watch.hear("online_users_list").await;
        let mut ada = Checked::open(place.node(1), "/ws", &wire).await;
        ada.say(json!({"type": "authenticate", "userId": 42, "token": null, "ref": 0})).await;
        ada.hear("authentication_success").await;
        ada.say(json!({"type": "authenticate", "ref": 0})).await;
        ada.hear("authentication_error").await;
        ada.say(json!({
            "type": "join_user", "userId": 42, "name": "Ada", "username": null, "metadata": {"a": [1, {"b": null}]},
            "status": "busy", "statusText": "a \"b\"", "expiresInMs": 3_600_000, "device": {"kind": "web", "name": "x"},
            "ref": 1,
        }))
        .await;
        ada.hear("online_users_list").await;
        let came = watch.hear("user_online").await;
        assert_eq!(came["user"]["statusText"], "a \"b\"", "{came}");
        ada.say(json!({"type": "set_status", "status": "dnd", "text": "x", "expiresInMs": 60_000, "ref": "s"})).await;
        ada.hear("own_status").await;
        watch.hear("user_status_changed").await;
        ada.say(json!({"type": "update_presence", "name": null, "email": "a@b", "ref": 2})).await;
        ada.hear("presence_updated").await;
        watch.hear("user_changed").await;
        let mut tab = Checked::open(place.node(2), "/ws?userId=42&status=online", &wire).await;
        tab.hear("online_users_list").await;
        ada.hear("own_status").await;
        for kind in ["user_activity", "user_online"] {
            ada.say(json!({"type": kind, "idle": true, "ref": 1.5})).await;
            ada.hear("user_activity_ack").await;
        }
        ada.say(json!({"type": "get_online_users", "limit": 1, "ref": "p"})).await;
        let page = ada.hear("online_users_list").await;
        ada.say(json!({"type": "get_online_users", "cursor": page["nextCursor"]})).await;
        ada.hear("online_users_list").await;
        for user in ["watch", "nobody"] {
            ada.say(json!({"type": "check_user_online", "userId": user, "ref": "c"})).await;
            ada.hear("user_online_status").await;
        }
        ada.say(json!({"type": "get_devices", "ref": 5})).await;
        ada.hear("devices").await;
        ada.client.send_json(json!({"type": "dance", "ref": "x"})).await;
        ada.hear("error").await;
        for (request, answer) in [
            (json!({"type": "watch", "userIds": ["watch", 7], "ref": 1}), "watching"),
            (json!({"type": "unwatch", "userIds": [7], "ref": 1}), "unwatched"),
            (json!({"type": "watch_count", "ref": 1}), "online_count"),
            (json!({"type": "unwatch_count", "ref": 1}), "count_unwatched"),
            (json!({"type": "pause", "ref": 1}), "paused"),
            (json!({"type": "resume", "ref": 1}), "resumed"),
            (json!({"type": "subscribe", "presence": "count", "ref": 1}), "subscribed"),
        ] {
            tab.say(request).await;
            tab.hear(answer).await;
        }
        ada.say(json!({"type": "join_user", "userId": "42", "rooms": ["lobby", 7]})).await;
        for _ in ["lobby", "7"] {
            ada.hear("room_joined").await;
        }
        watch.say(json!({"type": "join_room", "roomId": "lobby", "presence": "everyone", "ref": 1})).await;
        watch.hear("room_joined").await;
        ada.hear("room_user_joined").await;
        watch.say(json!({"type": "set_status", "status": "busy"})).await;
        ada.hear("room_user_changed").await;
        for target in [json!({"roomId": "lobby"}), json!({"toUserId": "watch"})] {
            let heard = until_typing_is_heard(&mut ada.client, &mut watch.client, target.clone()).await;
            wire.check(Side::Server, &heard);
            let mut stop = target;
            (stop["type"], stop["ref"]) = ("typing_stop".into(), 1.into());
            ada.say(stop).await;
            ada.hear("typing_ack").await;
            watch.hear("typing").await;
        }
        for (request, answer) in [
            (json!({"type": "get_room_users", "roomId": "lobby", "limit": 1, "cursor": "4", "ref": 1}), "room_users"),
            (json!({"type": "get_room_count", "roomId": 7, "ref": 2}), "room_count"),
            (json!({"type": "join_room", "roomId": "lobby", "presence": "count"}), "room_joined"),
            (json!({"type": "leave_room", "roomId": "lobby", "ref": "l"}), "room_left"),
            (json!({"type": "leave_room", "roomId": "lobby"}), "error"),
        ] {
            watch.say(request).await;
            watch.hear(answer).await;
        }
        ada.hear("room_user_left").await;
        place.node(2).register(reqwest::Method::DELETE, "7").await;
        ada.hear("room_left").await;
        tab.say(json!({"type": "leave"})).await;
        tab.hear("left").await;
        ada.say(json!({"type": "leave", "ref": 3})).await;
        ada.hear("left").await;
        watch.hear("user_offline").await;
        watch.say(json!({"type": "check_user_online", "userId": 42})).await;
        assert!(watch.hear("user_online_status").await["lastSeen"].is_string());
        heard.extend([watch.heard, ada.heard, tab.heard].into_iter().flatten());
    }
    // A client is told to start over only if it does not read. `slow_consumer.rs` shows that.
    heard.insert("resync".to_owned());
    assert_eq!(heard, wire.types(Side::Server), "the run has every message");
}
