//! Texts that are meant to do harm. Each is an id exactly as it is, or is refused: it never names another key, another user or
//! another room.

use serde_json::{Value, json};

use crate::support::*;

/// Valid ids that look like patterns, keys, paths, formats or members of JavaScript objects.
const VALID: [&str; 16] = [
    "*",
    "?",
    "[a-z]",
    "{}",
    "{user}",
    "%",
    "%3A",
    "%s%n",
    "__proto__",
    "constructor",
    "users:set",
    "presence:users:set",
    "../../etc/passwd",
    "a\u{202e}b",
    "a\u{2028}b",
    "'; DROP TABLE users; --",
];

/// Texts that are no ids.
fn invalid() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", "a\u{0}", "a\nb", "a\r\nb", "\u{1b}[31m", "\u{7f}", "\u{85}"].map(str::to_owned).into();
    texts.extend(["x".repeat(129), "ë".repeat(65), "😀".repeat(10_000 / 4)]);
    texts
}

#[tokio::test]
async fn every_text_is_one_user_and_one_room_or_is_refused() {
    let cluster = Cluster::start_with(2, |settings| settings.limits.request_burst = 1_000_000).await;
    let mut watch = cluster[1].join("watch").await;
    let mut sockets = Vec::new();
    for id in VALID {
        sockets.push(cluster[0].join_as(json!({"userId": id, "name": id, "rooms": [id]})).await);
        let told = watch.wait_for(|frame| frame["type"] == "user_online").await;
        assert_eq!((&told["userId"], &told["user"]["name"]), (&json!(id), &json!(id)), "{told}");
        let (status, answer) = cluster[1].get(&format!("/api/user-status/{}", percent_encoded(id))).await;
        assert_eq!((status, &answer["data"]["userId"]), (200, &json!(id)), "{answer}");
        let path = format!("/api/chatroom/{}/online-users", percent_encoded(id));
        let members = async || cluster[1].get(&path).await.1["data"]["onlineCount"].clone();
        eventually_eq(members, json!(1), &format!("the room {id:?} has one member")).await;
    }
    let mut everybody: Vec<String> = VALID.iter().chain(&["watch"]).map(|id| (*id).to_owned()).collect();
    everybody.sort();
    assert_eq!(cluster[1].online_ids().await, everybody);
    assert_eq!(cluster.redis.smembers("online:users:set").await, everybody);
    let rooms: u64 = cluster.redis.query(&["SCARD", "online:rooms:set"]).await;
    assert_eq!(rooms, VALID.len() as u64, "each id is a room of its own");

    let mut client = cluster[0].ws("/ws").await;
    for text in invalid() {
        for request in [
            json!({"type": "join_user", "userId": text}),
            json!({"type": "check_user_online", "userId": text}),
            json!({"type": "join_user", "userId": "good", "rooms": [text]}),
        ] {
            client.send_json(request.clone()).await;
            let refused = client.expect_type("error").await;
            assert_eq!(refused["code"], "invalid_field", "{request} {refused}");
            assert!(refused.to_string().len() < 600, "what a client sends does not come back: {refused}");
        }
        if !text.is_empty() && text.len() < 1000 {
            let (status, _) = cluster[0].get(&format!("/api/user-status/{}", percent_encoded(&text))).await;
            assert_eq!(status, 400, "{text:?}");
        }
    }
    assert_eq!(cluster[0].online_ids().await, everybody, "nobody else came");
    drop(sockets);
}

#[tokio::test]
async fn a_member_that_stands_twice_means_the_last_and_huge_numbers_mean_nothing() {
    let node = Node::start_with(|settings| settings.limits.request_burst = 1_000_000).await;
    let mut client = node.ws("/ws").await;
    // Requests and claims are read by one reader, so no two parts of the service can see two users here.
    client.send_text(r#"{"type":"join_user","userId":"first","userId":"last"}"#).await;
    client.expect_type("welcome").await;
    assert_eq!(node.online_ids().await, ["last"]);
    client.expect_type("online_users_list").await;
    for number in ["1e400", "-1", "18446744073709551616", "0.5", "1e2", "123456789012345678901234567890"] {
        client.send_text(&format!(r#"{{"type":"get_online_users","limit":{number}}}"#)).await;
        let refused = client.expect_type("error").await;
        assert!(["invalid_field", "invalid_json"].contains(&refused["code"].as_str().unwrap_or_default()), "{refused}");
    }
    client.send_text(r#"{"type":"get_online_users","limit":1,"limit":2,"__proto__":{"limit":3}}"#).await;
    let list = client.expect_type("online_users_list").await;
    assert_eq!(list["users"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(client.fence().await, [] as [Value; 0]);
}
