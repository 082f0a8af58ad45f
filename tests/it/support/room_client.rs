//! What tests of rooms ask of a client and of a node.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{DEADLINE, Endpoint, Place, WsClient, percent_encoded};

impl WsClient {
    /// Makes a request and returns its answer. Frames that come before it are skipped.
    pub(crate) async fn ask(&mut self, mut request: Value) -> Value {
        request["ref"] = "asked".into();
        self.send_json(request).await;
        self.wait_for(|frame| frame["ref"] == "asked").await
    }

    /// Enters a room and returns how it is shown.
    ///
    /// # Panics
    /// When the answer is an error.
    pub(crate) async fn join_room(&mut self, room: &str) -> Value {
        let answer = self.ask(json!({"type": "join_room", "roomId": room})).await;
        assert_eq!((&answer["type"], &answer["roomId"]), (&json!("room_joined"), &json!(room)), "{answer}");
        answer
    }

    /// What was told before this point of a room in which the socket is. The order of a room and that of the service are two
    /// orders, so [`WsClient::fence`] says nothing about rooms.
    pub(crate) async fn room_fence(&mut self, room: &str) -> Vec<Value> {
        self.send_json(json!({"type": "get_room_count", "roomId": room, "ref": "room fence"})).await;
        let mut frames = self.collect_until(|frame| frame["ref"] == "room fence").await;
        let answer = frames.pop().expect("the last frame is the answer");
        assert_eq!(answer["type"], "room_count", "{answer}");
        frames
    }
}

impl Place {
    /// Ada on one node and Bob on another one, both in the same room. Ada has not read yet that Bob came.
    pub(crate) async fn two_in(&self, room: &str) -> (WsClient, WsClient) {
        let mut ada = self.node(0).join("ada").await;
        ada.join_room(room).await;
        let mut bob = self.node(1).join("bob").await;
        bob.join_room(room).await;
        (ada, bob)
    }
}

/// A user types, again and again, until the listener hears it. A node may hear of typing in a room a moment later than it shows
/// the room. Returns what the listener heard.
pub(crate) async fn until_typing_is_heard(writer: &mut WsClient, listener: &mut WsClient, target: Value) -> Value {
    let request = |kind: &str| {
        let mut request = target.clone();
        request["type"] = kind.into();
        request
    };
    let deadline = Instant::now() + DEADLINE;
    loop {
        writer.ask(request("typing_start")).await;
        // It is told once a second at most.
        let next = Instant::now() + Duration::from_millis(1050);
        while Instant::now() < next {
            listener.send_json(json!({"type": "user_activity", "ref": "heard"})).await;
            let heard = listener.wait_for(|frame| frame["type"] == "typing" || frame["ref"] == "heard").await;
            if heard["type"] == "typing" {
                listener.wait_for(|frame| frame["ref"] == "heard").await;
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(Instant::now() < deadline, "nobody heard of {target}");
    }
}

impl Endpoint {
    /// Who is in a room, by `GET /api/chatroom/{roomId}/online-users`.
    ///
    /// # Panics
    /// When the answer is no list, or when it contradicts itself.
    pub(crate) async fn room_ids(&self, room: &str) -> Vec<String> {
        let (status, body) = self.room_users(room, "").await;
        let users = body["data"]["onlineUsers"].as_array().unwrap_or_else(|| panic!("{status} {body}"));
        assert_eq!(body["data"]["onlineCount"], users.len(), "{body}");
        users.iter().map(|user| user["userId"].as_str().expect("an id").to_owned()).collect()
    }

    /// `GET /api/chatroom/{roomId}/online-users` with these parameters.
    pub(crate) async fn room_users(&self, room: &str, parameters: &str) -> (u16, Value) {
        self.get(&format!("/api/chatroom/{}/online-users?{parameters}", percent_encoded(room))).await
    }

    /// `PUT` or `DELETE` under `/api/rooms/`: the status and the JSON body.
    pub(crate) async fn register(&self, method: Method, path: &str) -> (u16, Value) {
        let answer = self.request(method, &format!("/api/rooms/{path}"), &[], "").await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
    }
}

/// The ids of the users that a frame shows.
pub(crate) fn shown(frame: &Value) -> Vec<&str> {
    let users = frame["users"].as_array().unwrap_or_else(|| panic!("no users in {frame}"));
    users.iter().map(|user| user["id"].as_str().expect("an id")).collect()
}

/// The kinds and the users of a room's events, in order.
pub(crate) fn told_of(frames: &[Value]) -> Vec<(&str, &str)> {
    fn text(value: &Value) -> &str {
        value.as_str().unwrap_or_default()
    }
    frames.iter().map(|frame| (text(&frame["type"]), text(&frame["userId"]))).collect()
}
