//! `/api/user-status/…`: how users are, for everybody who asks.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::shared::http::head_length;
use crate::support::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const BATCH: &str = "/api/user-status/batch";

async fn set_status(client: &mut WsClient, status: &str) {
    client.send_json(json!({"type": "set_status", "status": status, "ref": "s"})).await;
    client.wait_for(|frame| frame["ref"] == "s").await;
}

async fn batch(node: &Endpoint, body: &Value) -> (u16, Value) {
    let answer = node.request(Method::POST, BATCH, &[JSON], &body.to_string()).await;
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

/// What a node says of one user, without times.
async fn status(node: &Endpoint, user: &str) -> (u16, Value) {
    let (status, mut body) = node.get(&format!("/api/user-status/{}", percent_encoded(user))).await;
    hide_times(&mut body);
    (status, body)
}

/// Replaces each time. Fails if a time does not look like one.
fn hide_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member.as_str()) {
                    ("timestamp" | "lastSeen" | "lastActive" | "expiresAt" | "asOf", Some(time)) => {
                        assert!(rollcall::clock::parse_rfc3339(time).is_some() && time.len() == 24, "{time}");
                        *member = "…".into();
                    }
                    _ => hide_times(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_times),
        _ => {}
    }
}

/// Waits until every node of the place answers the same of the user.
async fn everywhere(place: &Place, user: &str, expected: (u16, Value)) {
    for number in 0..3 {
        let what = format!("node {number} says of {user}");
        eventually_eq(async || status(place.node(number), user).await, expected.clone(), &what).await;
    }
}

fn offline(user: &str) -> (u16, Value) {
    let data = json!({"userId": user, "isOnline": false, "status": "offline", "lastSeen": "…", "lastActive": "…", "devices": {}});
    (200, json!({"success": true, "data": data, "timestamp": "…"}))
}

fn not_found() -> (u16, Value) {
    (404, json!({"success": false, "message": "User not found", "code": "user_not_found"}))
}

#[tokio::test]
async fn every_node_says_the_same_of_a_user_who_is_there_went_or_never_came() {
    for place in Place::each(|_| ()).await {
        everywhere(&place, "ada b/c", not_found()).await;
        let join = json!({
            "userId": "ada b/c", "name": "Ada \"A\"", "metadata": {"a": 1}, "status": "busy", "statusText": "x\u{301}\"",
            "device": {"kind": "web"},
        });
        let ada = place.node(1).join_as(join).await;
        let tab = place.node(2).join_as(json!({"userId": "ada b/c", "device": {"kind": "mobile"}})).await;
        let user = json!({
            "id": "ada b/c", "name": "Ada \"A\"", "metadata": {"a": 1}, "status": "busy", "statusText": "x\u{301}\"",
        });
        let data = json!({
            "userId": "ada b/c", "isOnline": true, "status": "busy", "statusText": "x\u{301}\"", "lastSeen": "…",
            "lastActive": "…", "devices": {"mobile": 1, "web": 1}, "user": user,
        });
        everywhere(&place, "ada b/c", (200, json!({"success": true, "data": data, "timestamp": "…"}))).await;
        // The list and the batch have the same object.
        let (_, mut list) = place.node(0).get("/api/user-status/online").await;
        hide_times(&mut list);
        assert_eq!(list, json!({"success": true, "data": [data], "count": 1, "timestamp": "…"}));
        let (_, mut many) = batch(place.node(0), &json!({"userIds": ["ada b/c"]})).await;
        hide_times(&mut many);
        assert_eq!(many, json!({"success": true, "data": [data], "timestamp": "…"}));
        ada.close(1000).await;
        tab.close(1000).await;
        everywhere(&place, "ada b/c", offline("ada b/c")).await;
    }
}

#[tokio::test]
async fn who_is_online_is_seen_now_and_was_active_when_last_heard() {
    for place in Place::each(|_| ()).await {
        let _ada = place.node(0).join("ada").await;
        let seen = async || {
            let (_, body) = place.node(0).get("/api/user-status/ada").await;
            let time = |member: &str| body["data"][member].as_str().expect("a time").to_owned();
            (time("lastSeen"), time("lastActive"), body["timestamp"].as_str().expect("a time").to_owned())
        };
        let (first_seen, first_active, timestamp) = seen().await;
        assert!(first_seen <= timestamp && first_active <= first_seen, "{first_active} {first_seen} {timestamp}");
        eventually(async || seen().await.0 > first_seen, "the time of the answer goes on").await;
        assert_eq!(seen().await.1, first_active, "without activity it stays");
    }
}

#[tokio::test]
async fn a_batch_keeps_order_and_duplicates_and_names_the_unknown() {
    for place in Place::each(|_| ()).await {
        let node = place.node(0);
        let _ada = place.node(1).join("ada").await;
        let went = place.node(2).join("7").await;
        went.close(1000).await;
        everywhere(&place, "7", offline("7")).await;
        eventually_eq(async || node.online_ids().await, ["ada"], "the node has heard it").await;
        let asked = json!({"userIds": ["nobody", 7, "ada", "7", "nobody", "ada"]});
        let (code, body) = batch(node, &asked).await;
        let told = body["data"].as_array().expect("data").iter().map(|user| {
            let text = |member: &str| user[member].as_str().expect("a text");
            (text("userId"), user["isOnline"].as_bool(), text("status"))
        });
        let told: Vec<_> = told.collect();
        let expected = [
            ("nobody", Some(false), "unknown"),
            ("7", Some(false), "offline"),
            ("ada", Some(true), "online"),
            ("7", Some(false), "offline"),
            ("nobody", Some(false), "unknown"),
            ("ada", Some(true), "online"),
        ];
        assert_eq!((code, told), (200, expected.to_vec()));
        assert_eq!(body["data"][0], json!({"userId": "nobody", "isOnline": false, "status": "unknown", "devices": {}}));
        let (code, mut none) = batch(node, &json!({"userIds": []})).await;
        hide_times(&mut none);
        assert_eq!((code, none), (200, json!({"success": true, "data": [], "timestamp": "…"})));
    }
}

#[tokio::test]
async fn a_batch_may_ask_about_a_thousand_of_the_longest_ids() {
    let node = Node::start_with(|_| ()).await;
    let id = |n: usize| format!("{n:04}{}", "<".repeat(124));
    let _last = node.join(&id(999)).await;
    // As an encoder writes them that escapes what could be read as HTML.
    let ids: Vec<_> = (0..1000).map(|n| format!("\"{}\"", id(n).replace('<', "\\u003c"))).collect();
    let body = format!(r#"{{"userIds":[{}]}}"#, ids.join(","));
    let answer = node.request(Method::POST, BATCH, &[JSON], &body).await;
    let told: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, told["data"].as_array().map(Vec::len)), (200, Some(1000)));
    assert_eq!((&told["data"][998]["isOnline"], &told["data"][999]["isOnline"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn the_list_and_the_count_are_by_status() {
    for place in Place::each(|_| ()).await {
        let mut sockets = Vec::new();
        for (n, (user, status)) in
            [("a", "online"), ("b", "dnd"), ("c", "away"), ("d", "dnd"), ("e", "invisible"), ("f", "online")]
                .into_iter()
                .enumerate()
        {
            sockets.push(place.node(n).join_as(json!({"userId": user, "status": status})).await);
        }
        let count = async |node: &Endpoint| node.get("/api/user-status/online/count").await.1["data"].clone();
        let expected = json!({"count": 5, "byStatus": {"online": 2, "away": 1, "busy": 0, "dnd": 2}});
        for number in 0..3 {
            eventually_eq(async || count(place.node(number)).await, expected.clone(), "everybody is counted").await;
            let node = place.node(number);
            assert_eq!(pages(node, "").await, ("a b c d f".to_owned(), 5));
            assert_eq!(pages(node, "&limit=2").await, ("a b|c d|f".to_owned(), 5));
            assert_eq!(pages(node, "&status=dnd").await, ("b d".to_owned(), 2));
            assert_eq!(pages(node, "&status=dnd&limit=1").await, ("b|d|".to_owned(), 2), "a page may be empty");
            assert_eq!(pages(node, "&status=busy").await, (String::new(), 0));
        }
        set_status(&mut sockets[1], "busy").await;
        set_status(&mut sockets[4], "busy").await;
        set_status(&mut sockets[5], "invisible").await;
        let expected = json!({"count": 5, "byStatus": {"online": 1, "away": 1, "busy": 2, "dnd": 1}});
        eventually_eq(async || count(place.node(0)).await, expected, "the counts follow").await;
    }
}

/// The ids of all pages of the list, and its count.
async fn pages(node: &Endpoint, query: &str) -> (String, u64) {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let (code, body) = node.get(&format!("/api/user-status/online?cursor={cursor}{query}")).await;
        assert_eq!((code, &body["success"]), (200, &json!(true)), "{body}");
        let users = body["data"].as_array().expect("data").iter();
        pages.push(users.map(|user| user["userId"].as_str().expect("an id")).collect::<Vec<_>>().join(" "));
        match body["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return (pages.join("|"), body["count"].as_u64().expect("a count")),
        }
    }
}

#[tokio::test]
async fn a_filter_looks_at_a_bounded_number_of_users_at_once() {
    let node = Node::start_with(|settings| (settings.limits.page_default, settings.limits.page_max) = (2, 2)).await;
    let mut sockets = Vec::new();
    for (user, status) in
        [("a", "online"), ("b", "online"), ("c", "dnd"), ("d", "online"), ("e", "online"), ("f", "dnd")]
    {
        sockets.push(node.join_as(json!({"userId": user, "status": status})).await);
    }
    assert_eq!(pages(&node, "&status=dnd").await, ("|c|f".to_owned(), 2));
    assert_eq!(pages(&node, "").await, ("a b|c d|e f".to_owned(), 6));
}

/// The status and the code of an error. Fails if the answer does not have the form of all errors.
fn error(answer: &HttpAnswer) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(body["success"] == false && body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    (answer.status, body["code"].as_str().expect("a code").to_owned())
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let node = Node::start_with(|_| ()).await;
    for (path, name) in [
        ("/api/user-status/online?status=invisible", "status"),
        ("/api/user-status/online?status=", "status"),
        ("/api/user-status/online?status=dnd&status=dnd", "status"),
        ("/api/user-status/online?limit=0", "limit"),
        ("/api/user-status/online?limit=10001", "limit"),
        ("/api/user-status/online?cursor=%00", "cursor"),
        ("/api/user-status/a%0Ab", "userId"),
        ("/api/user-status/%7F", "userId"),
        ("/api/user-status/%ff", "userId"),
        ("/api/user-status/ada%C3", "userId"),
        ("/api/user-status/%ED%A0%80", "userId"),
        ("/api/user-status/100%", "userId"),
        ("/api/user-status/%zz", "userId"),
        (&format!("/api/user-status/{}", "x".repeat(129)), "userId"),
    ] {
        let answer = node.get_raw(path).await;
        assert_eq!(error(&answer), (400, "invalid_parameter".to_owned()), "{path}");
        assert!(answer.body.contains(&format!("`{name}`")), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_id_in_a_path_is_decoded_once() {
    let node = Node::start_with(|_| ()).await;
    for user in ["a+b", "a/b", "%41", "100%", "Zo\u{eb} {1}:%", "\u{1F3A7}", "..x", "online."] {
        let _socket = node.join(user).await;
        assert_eq!(status(&node, user).await.1["data"]["userId"], user);
    }
    assert_eq!(status(&node, "A").await, not_found(), "%41 was not decoded twice");
    // A user whose id is the name of a resource can be asked about with the batch.
    let _socket = node.join("online").await;
    assert_eq!(node.get("/api/user-status/online").await.1["count"], 9);
    assert_eq!(batch(&node, &json!({"userIds": ["online"]})).await.1["data"][0]["isOnline"], true);
}

#[tokio::test]
async fn a_bad_body_says_what_is_wrong() {
    let node = Node::start_with(|_| ()).await;
    let too_many = json!({"userIds": vec!["a"; 1001]}).to_string();
    let long = json!({"userIds": ["a", "x".repeat(129)]}).to_string();
    for (body, code, what) in [
        ("", "invalid_json", "JSON"),
        ("{\"userIds\":[\"a\"]", "invalid_json", "JSON"),
        ("\u{feff}{}", "invalid_json", "JSON"),
        ("[\"a\"]", "not_an_object", "object"),
        ("{}", "missing_field", "`userIds`"),
        ("{\"userIds\":null}", "missing_field", "`userIds`"),
        ("{\"userIds\":{}}", "invalid_field", "`userIds` must be an array"),
        ("{\"userIds\":[\"a\",null]}", "invalid_field", "`userIds[1]`"),
        ("{\"userIds\":[\"a\",4.5]}", "invalid_field", "`userIds[1]`"),
        ("{\"userIds\":[\"a\",\"\"]}", "invalid_field", "`userIds[1]` must not be empty"),
        ("{\"userIds\":[\"a\",\"b\\n\"]}", "invalid_field", "`userIds[1]`"),
        (&long, "invalid_field", "`userIds[1]` must be at most 128 bytes"),
        (&too_many, "invalid_field", "at most 1000"),
    ] {
        let answer = node.request(Method::POST, BATCH, &[JSON], body).await;
        assert_eq!(error(&answer), (400, code.to_owned()), "{body}");
        assert!(answer.body.contains(what), "{body}: {}", answer.body);
    }
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[JSON, ("content-encoding", "gzip")],
    ] {
        let answer = node.request(Method::POST, BATCH, headers, "{\"userIds\":[]}").await;
        assert_eq!(error(&answer), (415, "unsupported_media_type".to_owned()), "{headers:?}");
    }
    let utf8 = [("content-type", "Application/Json; charset=utf-8")];
    assert_eq!(node.request(Method::POST, BATCH, &utf8, "{\"userIds\":[]}").await.status, 200);
}

/// Sends a request as it is, and reads one answer to the end of its headers.
async fn raw(node: &Endpoint, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.addr()).await.expect("the node listens");
    stream.write_all(request).await.expect("the node reads");
    let mut answer = Vec::new();
    while head_length(&answer).is_none() {
        let read = tokio::time::timeout(DEADLINE, stream.read_buf(&mut answer)).await.expect("an answer in time");
        assert_ne!(read.expect("the connection stays"), 0, "the connection ended");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_is_read_up_to_its_bound_whether_its_length_is_said_or_not() {
    const MAX: usize = 768 * 1024;
    let node = Node::start_with(|_| ()).await;
    let path = "/api/user-status/batch";
    let body = |n_bytes: usize| format!("{{\"userIds\":[]{}}}", " ".repeat(n_bytes - 14));
    assert_eq!(node.request(Method::POST, path, &[JSON], &body(MAX)).await.status, 200);
    let answer = node.request(Method::POST, path, &[JSON], &body(MAX + 1)).await;
    assert_eq!(error(&answer), (413, "payload_too_large".to_owned()));
    assert!(answer.body.contains("786432"), "{}", answer.body);

    let head = "POST /api/user-status/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = |n_bytes: usize| {
        let mut request = head.to_owned();
        for part in body(n_bytes).as_bytes().chunks(100_000) {
            request += &format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).expect("ASCII"));
        }
        request + "0\r\n\r\n"
    };
    assert!(raw(&node, chunked(MAX).as_bytes()).await.starts_with("HTTP/1.1 200 "));
    // The answer comes before the rest is read.
    let answer = raw(&node, &chunked(MAX + 100_001).as_bytes()[..MAX + 50_000]).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_with_its_connection() {
    let node = Node::start_with(|settings| settings.server.request_timeout = Duration::from_millis(500)).await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("the node listens");
    let request = "POST /api/user-status/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the connection ends");
    assert!(ended.is_err() || rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn all_bodies_together_have_a_bound() {
    let node = Node::start_with(|settings| settings.limits.bodies_bytes = 1_048_576).await;
    let ask = async |n_bytes: usize| {
        let body = format!("{{\"userIds\":[]{}}}", " ".repeat(n_bytes));
        node.request(Method::POST, BATCH, &[JSON], &body).await
    };
    assert_eq!(ask(500_000).await.status, 200);
    // If the third one comes too early, one of the two may be refused instead. Then two others begin.
    let mut open = Vec::new();
    let third = async || {
        open = vec![node.unfinished_post(BATCH, 500_000).await, node.unfinished_post(BATCH, 500_000).await];
        ask(500_000).await.status
    };
    eventually_eq(third, 503, "there is no room for another").await;
    let answer = ask(500_000).await;
    assert_eq!(error(&answer), (503, "too_many_bodies".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(node.counter("rollcall_limited_total{limit=\"bodies\"}").await >= 1);
    assert_eq!(ask(10).await.status, 200, "a small one has room");
    drop(open);
    eventually_eq(async || ask(500_000).await.status, 200, "there is room again").await;
}

#[tokio::test]
async fn other_methods_are_told_which_one_there_is() {
    let node = Node::start_with(|_| ()).await;
    for (path, allowed) in [
        ("/api/user-status/online", "GET, HEAD"),
        ("/api/user-status/online/count", "GET, HEAD"),
        ("/api/user-status/ada", "GET, HEAD"),
        ("/api/user-status/batch", "POST"),
        ("/api/user-status/last-seen", "PUT"),
        ("/api/users/ada/presence", "PUT"),
        ("/api/users/query", "POST"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            if allowed.contains(method.as_str()) {
                continue;
            }
            let answer = node.request(method.clone(), path, &[], "").await;
            assert_eq!(error(&answer), (405, "method_not_allowed".to_owned()), "{method} {path}");
            assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
        }
    }
    for path in ["/api/user-status", "/api/user-status/", "/api/user-status/a/b", "/api/users/", "/api/users//presence"]
    {
        assert_eq!(error(&node.get_raw(path).await), (404, "not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn pages_may_ask_with_post_and_put() {
    let node = Node::start_with(|_| ()).await;
    let page = ("origin", "https://chat.example.com");
    for (path, method) in [("/api/user-status/batch", "POST"), ("/api/user-status/last-seen", "PUT")] {
        let preflight =
            [page, ("access-control-request-method", method), ("access-control-request-headers", "content-type")];
        let answer = node.request(Method::OPTIONS, path, &preflight, "").await;
        assert_eq!(
            (answer.status, &answer.headers["access-control-allow-origin"]),
            (200, &"*".parse().expect("a value"))
        );
        assert!(answer.headers["access-control-allow-methods"].to_str().is_ok_and(|methods| methods.contains(method)));
    }
    let answer = node.request(Method::POST, BATCH, &[JSON, page], "{\"userIds\":[]}").await;
    assert_eq!((answer.status, &answer.headers["access-control-allow-origin"]), (200, &"*".parse().expect("a value")));
}

/// `PUT /api/user-status/last-seen`.
async fn note(node: &Endpoint, query: &str, body: &str) -> HttpAnswer {
    let headers = if body.is_empty() { &[][..] } else { &[JSON] };
    node.request(Method::PUT, &format!("/api/user-status/last-seen{query}"), headers, body).await
}

#[tokio::test]
async fn a_caller_who_is_online_notes_that_it_is_active() {
    for place in Place::each(|settings| settings.presence.active_every = Duration::from_millis(100)).await {
        // Any node will do.
        let (own, other) = (place.node(0), place.node(1));
        let ada = own.join("ada").await;
        let last_active = async |node: &Endpoint| {
            let (_, body) = node.get("/api/user-status/ada").await;
            body["data"]["lastActive"].as_str().expect("a time").to_owned()
        };
        eventually_eq(async || other.online_ids().await, ["ada"], "the other node has heard it").await;
        let before = last_active(other).await;
        for (query, body) in [("?userId=ada", ""), ("", r#"{"userId":"ada"}"#), ("?userId=ada", r#"{"userId":"ada"}"#)]
        {
            let noted = async || {
                let answer = note(other, query, body).await;
                assert_eq!(answer.status, 200, "{query} {body}: {answer:?}");
                serde_json::from_str::<Value>(&answer.body).expect("JSON")
            };
            eventually(async || noted().await["data"]["lastActive"].as_str() > Some(&before), "time goes on").await;
            let mut answer = noted().await;
            hide_times(&mut answer);
            let data = json!({"userId": "ada", "lastSeen": "…", "lastActive": "…"});
            assert_eq!(answer, json!({"success": true, "data": data, "timestamp": "…"}));
        }
        // The store is told once in a while, and then it shows.
        let shows = async || {
            note(other, "?userId=ada", "").await;
            last_active(other).await > before
        };
        eventually(shows, "the note shows").await;
        // It is remembered after the user has gone.
        let noted_at = last_active(other).await;
        ada.close(1000).await;
        for number in 0..3 {
            let is_offline = async || status(place.node(number), "ada").await == offline("ada");
            eventually(is_offline, "ada has gone").await;
            assert!(last_active(place.node(number)).await >= noted_at, "node {number}");
        }
    }
}

#[tokio::test]
async fn a_caller_must_say_who_it_is_and_be_online() {
    let node = Node::start_with(|_| ()).await;
    let _ada = node.join("ada").await;
    for (query, body, status, code) in [
        ("", "", 400, "missing_field"),
        ("?userId=", "", 400, "missing_field"),
        ("", "{}", 400, "missing_field"),
        ("", "{", 400, "invalid_json"),
        ("", "[]", 400, "not_an_object"),
        ("", r#"{"userId":true}"#, 400, "invalid_field"),
        ("?userId=ada", r#"{"userId":"bob"}"#, 400, "invalid_field"),
        ("?userId=%ff", "", 400, "invalid_parameter"),
        ("?userId=bob", "", 404, "user_not_online"),
    ] {
        assert_eq!(error(&note(&node, query, body).await), (status, code.to_owned()), "{query} {body}");
    }
    let answer = node.request(Method::PUT, "/api/user-status/last-seen?userId=ada", &[], "{}").await;
    assert_eq!(error(&answer), (415, "unsupported_media_type".to_owned()));
}

/// Everything that anybody can ask about a user. The id and times are hidden.
async fn all_answers(node: &Endpoint, user: &str) -> Vec<String> {
    let id = percent_encoded(user);
    let get = async |path: String| node.get_raw(&path).await;
    let post = async |body: Value| node.request(Method::POST, BATCH, &[JSON], &body.to_string()).await;
    let answers = [
        get(format!("/api/user-status/{id}")).await,
        node.request(Method::HEAD, &format!("/api/user-status/{id}"), &[], "").await,
        post(json!({"userIds": [user]})).await,
        post(json!({"userIds": ["watch", user, "somebody", user]})).await,
        get("/api/user-status/online".to_owned()).await,
        get(format!("/api/user-status/online?cursor={id}")).await,
        get("/api/user-status/online?status=busy".to_owned()).await,
        get("/api/user-status/online?status=online".to_owned()).await,
        get("/api/user-status/online/count".to_owned()).await,
        get(format!("/api/online-users?excludeUserId={id}")).await,
        note(node, &format!("?userId={id}"), "").await,
        note(node, "", &json!({"userId": user}).to_string()).await,
    ];
    let masked = answers.iter().map(|answer| {
        let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| *name != "date").collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        let body = match serde_json::from_str::<Value>(&answer.body) {
            Ok(mut body) => {
                hide_times(&mut body);
                body.to_string().replace(&format!("\"{user}\""), "\"user\"")
            }
            Err(_) => answer.body.clone(),
        };
        format!("{} {headers:?} {body}", answer.status)
    });
    masked.collect()
}

#[tokio::test]
async fn hidden_is_byte_for_byte_offline_in_every_answer() {
    for place in Place::each(|_| ()).await {
        let _watch = place.node(0).join("watch").await;
        let join = |user: &str| json!({"userId": user, "name": "N", "status": "busy", "device": {"kind": "web"}});
        // The ids have the same length, so the answers have it, too.
        let mut hides = place.node(1).join_as(join("hides")).await;
        let mut leave = place.node(1).join_as(join("leave")).await;
        let _second = place.node(2).join_as(join("hides")).await;
        set_status(&mut hides, "invisible").await;
        leave.send_json(json!({"type": "leave"})).await;
        leave.wait_for(|frame| frame["type"] == "left").await;
        for number in 0..3 {
            let node = place.node(number);
            eventually_eq(async || node.online_ids().await, ["watch"], "both are gone for others").await;
            assert_eq!(all_answers(node, "hides").await, all_answers(node, "leave").await, "node {number}");
        }
        // What the hidden user does changes nothing for others.
        let (_, before) = place.node(0).get("/api/user-status/hides").await;
        hides.send_json(json!({"type": "update_presence", "name": "Other", "ref": "u"})).await;
        hides.wait_for(|frame| frame["ref"] == "u").await;
        hides.send_json(json!({"type": "user_activity", "ref": "a"})).await;
        hides.wait_for(|frame| frame["ref"] == "a").await;
        let tab = place.node(2).join("hides").await;
        tab.close(1000).await;
        for number in 0..3 {
            let (_, after) = place.node(number).get("/api/user-status/hides").await;
            assert_eq!(after["data"], before["data"], "node {number}");
        }
    }
}

#[tokio::test]
async fn who_is_hidden_and_was_never_seen_is_somebody_who_does_not_exist() {
    for place in Place::each(|_| ()).await {
        let _watch = place.node(0).join("watch").await;
        let _hidden = place.node(1).join_as(json!({"userId": "hidden", "status": "invisible"})).await;
        for number in 0..3 {
            let node = place.node(number);
            assert_eq!(status(node, "hidden").await, not_found());
            assert_eq!(all_answers(node, "hidden").await, all_answers(node, "nobody").await, "node {number}");
        }
    }
}

#[tokio::test]
async fn without_redis_what_is_known_is_answered_and_nobody_is_called_offline() {
    let mut cluster =
        Cluster::start_with(3, |settings| settings.presence.active_every = Duration::from_millis(100)).await;
    let _here = cluster[0].join("here").await;
    let _elsewhere = cluster[1].join("elsewhere").await;
    let mut hidden = cluster[1].join("hidden").await;
    cluster[2].join("went").await.close(1000).await;
    set_status(&mut hidden, "invisible").await;
    let node = &cluster[0];
    eventually_eq(async || node.online_ids().await, ["elsewhere", "here"], "the node knows both").await;
    assert_eq!(status(node, "went").await, offline("went"));
    cluster.redis.kill();
    let node = &cluster[0];
    eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "the node has noticed").await;

    for user in ["here", "elsewhere"] {
        let (code, body) = status(node, user).await;
        assert_eq!((code, &body["data"]["isOnline"], &body["degraded"]), (200, &json!(true), &json!(true)), "{body}");
    }
    for user in ["went", "hidden", "nobody"] {
        let data = json!({"userId": user, "isOnline": false, "status": "unknown", "devices": {}});
        let expected = json!({"success": true, "data": data, "degraded": true, "asOf": "…", "timestamp": "…"});
        assert_eq!(status(node, user).await, (200, expected), "unknown is never offline");
    }
    let (code, mut body) = batch(node, &json!({"userIds": ["went", "here", "hidden"]})).await;
    hide_times(&mut body);
    assert_eq!((code, &body["degraded"], &body["asOf"]), (200, &json!(true), &json!("…")));
    let told: Vec<_> = body["data"].as_array().expect("data").iter().map(|user| user["status"].clone()).collect();
    assert_eq!(told, ["unknown", "online", "unknown"]);
    for path in ["/api/user-status/online", "/api/user-status/online/count"] {
        let (code, body) = node.get(path).await;
        assert_eq!((code, &body["degraded"]), (200, &json!(true)), "{path}: {body}");
    }
    // What was noted a moment ago need not be noted again.
    eventually_eq(async || note(node, "?userId=here", "").await.status, 503, "a note is due").await;
    let answer = note(node, "?userId=here", "").await;
    assert_eq!(error(&answer), (503, "store_unavailable".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");

    cluster.redis.restart().await;
    let node = &cluster[0];
    let known_again = async || status(node, "nobody").await;
    eventually_eq(known_again, not_found(), "the store answers again").await;
}

#[tokio::test]
async fn a_redis_that_hangs_delays_an_answer_by_its_deadline_and_makes_it_degraded() {
    let mut cluster = Cluster::start_with(1, |settings| settings.redis.call_timeout = Duration::from_millis(300)).await;
    let _ada = cluster[0].join("ada").await;
    cluster.redis.pause();
    // At first the node does not know that the store is away, and asks it.
    let node = &cluster[0];
    let (code, body) = status(node, "nobody").await;
    let data = json!({"userId": "nobody", "isOnline": false, "status": "unknown", "devices": {}});
    let expected = json!({"success": true, "data": data, "degraded": true, "asOf": "…", "timestamp": "…"});
    assert_eq!((code, body), (200, expected));
    assert_eq!(status(node, "ada").await.1["data"]["isOnline"], true);
    cluster.redis.resume();
}
