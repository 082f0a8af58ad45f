//! HTTP: the list as the contract has it, errors of one shape, CORS, and health.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::shared::http::upgrade_request;
use crate::support::*;

async fn node() -> Node {
    Node::start_with(|_| ()).await
}

/// A node and the sockets of these users.
async fn node_with(users: &[&str]) -> (Node, Vec<WsClient>) {
    let node = node().await;
    let mut sockets = Vec::new();
    for user in users {
        sockets.push(node.join(user).await);
    }
    (node, sockets)
}

/// The ids of a page, its `count` and its `nextCursor`.
async fn page(node: &Node, query: &str) -> (Vec<String>, u64, Option<String>) {
    let (status, body) = node.get(&format!("/api/online-users{query}")).await;
    assert_eq!(status, 200, "{query}: {body}");
    let ids = body["data"].as_array().expect("data").iter().map(|user| user["id"].as_str().expect("an id").to_owned());
    let next = body.get("nextCursor").map(|cursor| cursor.as_str().expect("a text").to_owned());
    (ids.collect(), body["count"].as_u64().expect("a count"), next)
}

fn found(ids: &[&str], count: u64, next: Option<&str>) -> (Vec<String>, u64, Option<String>) {
    (ids.iter().map(|id| (*id).to_owned()).collect(), count, next.map(str::to_owned))
}

#[tokio::test]
async fn the_list_has_the_shape_of_the_contract_letter_for_letter() {
    let node = node().await;
    let mut john = node.ws("/ws").await;
    john.send_json(json!({
        "type": "join_user", "userId": 123, "avatar": "/uploads/profiles/user123.jpg", "email": "john@example.com",
        "username": "johndoe", "name": "John Doe",
    }))
    .await;
    john.expect_type("welcome").await;
    let body = node.get_raw("/api/online-users").await.body;
    let (before, after) = body.rsplit_once(r#""timestamp":""#).expect("a timestamp");
    assert_eq!(
        before,
        r#"{"success":true,"data":[{"id":"123","name":"John Doe","username":"johndoe","email":"john@example.com","avatar":"/uploads/profiles/user123.jpg","status":"online"}],"count":1,"#
    );
    // 2024-01-01T00:00:00.000Z
    let shape: String = after.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, r#"0000-00-00T00:00:00.000Z"}"#);
}

#[tokio::test]
async fn an_empty_house_is_an_empty_list() {
    let node = node().await;
    let (status, mut body) = node.get("/api/online-users").await;
    body["timestamp"].take();
    assert_eq!((status, body), (200, json!({"success": true, "data": [], "count": 0, "timestamp": null})));
}

#[tokio::test]
async fn the_count_is_the_total_less_the_excluded_user() {
    let (node, _sockets) = node_with(&["a", "b", "c", "b"]).await;
    assert_eq!(page(&node, "").await, found(&["a", "b", "c"], 3, None));
    assert_eq!(page(&node, "?excludeUserId=b").await, found(&["a", "c"], 2, None));
    assert_eq!(page(&node, "?excludeUserId=nobody").await, found(&["a", "b", "c"], 3, None));
    assert_eq!(page(&node, "?excludeUserId=").await, found(&["a", "b", "c"], 3, None));
    assert_eq!(page(&node, "?excludeUserId=a&limit=1").await, found(&["b"], 2, Some("b")));
}

#[tokio::test]
async fn count_only_has_no_data() {
    let (node, _sockets) = node_with(&["a", "b"]).await;
    for (query, count) in [("countOnly=true", 2), ("countOnly=true&excludeUserId=a", 1), ("countOnly=true&limit=1", 2)]
    {
        let (status, mut body) = node.get(&format!("/api/online-users?{query}")).await;
        body["timestamp"].take();
        assert_eq!((status, body), (200, json!({"success": true, "count": count, "timestamp": null})), "{query}");
    }
    assert_eq!(page(&node, "?countOnly=false").await, found(&["a", "b"], 2, None));
}

#[tokio::test]
async fn pages_follow_each_other_without_overlap_or_hole() {
    let (node, _sockets) = node_with(&["a", "b", "c", "d", "e f&g"]).await;
    assert_eq!(page(&node, "?limit=2").await, found(&["a", "b"], 5, Some("b")));
    assert_eq!(page(&node, "?limit=2&cursor=b").await, found(&["c", "d"], 5, Some("d")));
    assert_eq!(page(&node, "?limit=2&cursor=d").await, found(&["e f&g"], 5, None));
    assert_eq!(page(&node, "?cursor=e+f%26g").await, found(&[], 5, None));
    assert_eq!(page(&node, "?limit=2&cursor=&excludeUserId=b").await, found(&["a", "c"], 4, Some("c")));
    assert_eq!(page(&node, "?limit=10000").await.0.len(), 5);
    assert_eq!(page(&node, "?cursor=bb&unknown=1").await, found(&["c", "d", "e f&g"], 5, None));
}

#[tokio::test]
async fn a_list_says_since_when_it_may_be_out_of_date() {
    // Redis is empty: other nodes may be about to say who is online.
    let redis = RedisServer::start().await;
    let mut settings = test_settings_with_redis(&redis.url());
    settings.presence.lease = Duration::from_secs(60);
    let node = Node::spawn(settings).await;
    node.wait_until_it_serves().await;
    let (status, body) = node.get("/api/online-users").await;
    assert_eq!((status, &body["degraded"]), (200, &json!(true)), "{body}");
    assert!(body["asOf"].is_string(), "{body}");
    assert_eq!(error(&node.get_raw("/readyz").await), (503, failure("held")));
}

/// Status, and the body without its message, which is for people.
fn error(answer: &HttpAnswer) -> (u16, Value) {
    let mut body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    body["message"].take();
    (answer.status, body)
}

fn failure(code: &str) -> Value {
    json!({"success": false, "message": null, "code": code})
}

#[tokio::test]
async fn every_bad_parameter_is_named() {
    let node = node().await;
    let too_long = format!("cursor={}", "x".repeat(129));
    for (query, name) in [
        ("countOnly=yes", "countOnly"),
        ("countOnly=", "countOnly"),
        ("countOnly=TRUE", "countOnly"),
        ("countOnly=true&countOnly=true", "countOnly"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=many", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("excludeUserId=a%0Ab", "excludeUserId"),
        ("excludeUserId=a&excludeUserId=b", "excludeUserId"),
        ("cursor=%00", "cursor"),
        (&too_long, "cursor"),
    ] {
        let answer = node.get_raw(&format!("/api/online-users?{query}")).await;
        assert_eq!(error(&answer), (400, failure("invalid_parameter")), "{query}");
        assert!(answer.body.contains(&format!("`{name}`")), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_utf_8_is_refused_and_never_becomes_another_text() {
    let node = node().await;
    for name in ["limit", "countOnly", "excludeUserId", "cursor"] {
        for value in ["%ff%fe", "a%ff", "%C3", "a+%ED%A0%80"] {
            let answer = node.get_raw(&format!("/api/online-users?{name}={value}")).await;
            assert_eq!(error(&answer), (400, failure("invalid_parameter")), "{name}={value}");
            assert!(answer.body.contains(&format!("`{name}` must be UTF-8")), "{name}: {}", answer.body);
        }
    }
    for path in ["/ws?userId=%ff%fe", "/ws?userId=ada%80"] {
        let refusal = WsClient::try_connect(node.addr(), path).await.err().expect("no user id");
        assert_eq!((refusal.status, &refusal.json()["code"]), (400, &json!("invalid_parameter")), "{path}");
    }
    // What is not asked for is ignored, and the character that stands for what is no text is one.
    let _socket = node.join("\u{FFFD}").await;
    assert_eq!(page(&node, "?unknown=%ff&%ff=1&%6Cimit=1").await, found(&["\u{FFFD}"], 1, None));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let node = node().await;
    for path in ["/api", "/api/online-users/", "/api/online-users/42", "/index.html", "/page/", "/healthz/x", "//"] {
        for method in [Method::GET, Method::POST] {
            let answer = node.request(method, path, &[], "").await;
            assert_eq!(error(&answer), (404, failure("not_found")), "{path}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_not_allowed_and_told_which_is() {
    let node = node().await;
    for path in [
        "/",
        "/page/page.js",
        "/api/online-users",
        "/api/chatroom/a/online-users",
        "/api/rooms",
        "/api/nodes",
        "/healthz",
        "/readyz",
        "/ws",
    ] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = node.request(method.clone(), path, &[], "{}").await;
            assert_eq!(error(&answer), (405, failure("method_not_allowed")), "{method} {path}");
            assert_eq!(answer.headers["allow"], "GET, HEAD", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let node = node().await;
    let body = "x".repeat(64 * 1024 + 1);
    for (method, path) in [(Method::POST, "/api/online-users"), (Method::GET, "/healthz"), (Method::POST, "/nowhere")] {
        let answer = node.request(method.clone(), path, &[], &body).await;
        assert_eq!(error(&answer), (413, failure("payload_too_large")), "{method} {path}");
    }
    let answer = node.request(Method::POST, "/api/online-users", &[], &body[1..]).await;
    assert_eq!(answer.status, 405);
}

const PAGE: (&str, &str) = ("origin", "https://chat.example.com");
const OTHER_PAGE: (&str, &str) = ("origin", "https://evil.example.com");
const PREFLIGHT: (&str, &str) = ("access-control-request-method", "GET");

#[tokio::test]
async fn by_default_every_page_may_read() {
    let node = node().await;
    for path in ["/api/online-users", "/api/online-users?limit=0", "/nowhere"] {
        let answer = node.request(Method::GET, path, &[PAGE], "").await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*", "{path}");
    }
    let preflight = node.request(Method::OPTIONS, "/api/online-users", &[PAGE, PREFLIGHT], "").await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn only_the_pages_named_may_read_if_some_are() {
    let mut settings = test_settings();
    settings.server.cors_allowed_origins = vec!["https://chat.example.com".to_owned(), "app://desktop".to_owned()];
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let path = "/api/online-users";

    let answer = node.request(Method::GET, path, &[PAGE], "").await;
    assert_eq!(
        (answer.status, &answer.headers["access-control-allow-origin"]),
        (200, &PAGE.1.parse().expect("a header"))
    );
    assert!(answer.headers["vary"].to_str().is_ok_and(|vary| vary.to_lowercase().contains("origin")), "{answer:?}");
    let answer = node.request(Method::GET, path, &[OTHER_PAGE], "").await;
    assert_eq!(answer.headers.get("access-control-allow-origin"), None, "{answer:?}");
    let preflight = node.request(Method::OPTIONS, path, &[OTHER_PAGE, PREFLIGHT], "").await;
    assert_eq!(preflight.headers.get("access-control-allow-origin"), None, "{preflight:?}");
    // What is no web page sends no origin.
    assert_eq!(node.request(Method::GET, path, &[], "").await.status, 200);
}

#[tokio::test]
async fn no_page_may_read_if_the_list_is_empty() {
    let mut settings = test_settings();
    settings.server.cors_allowed_origins = Vec::new();
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let answer = node.request(Method::GET, "/api/online-users", &[PAGE], "").await;
    assert_eq!(answer.headers.get("access-control-allow-origin"), None, "{answer:?}");
}

#[tokio::test]
async fn a_living_node_is_alive_and_ready() {
    let node = node().await;
    assert_eq!(node.get("/healthz").await, (200, json!({"success": true, "status": "alive"})));
    assert_eq!(node.get("/readyz").await, (200, json!({"success": true, "status": "ready", "degraded": false})));
}

#[tokio::test]
async fn a_node_that_has_not_read_who_is_online_is_alive_and_not_ready() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let node = Node::spawn(test_settings_with_redis(&redis.url())).await;
    assert_eq!(node.get("/healthz").await.0, 200);
    let answer = node.get_raw("/readyz").await;
    assert_eq!(error(&answer), (503, failure("not_ready")));
    assert_eq!(answer.headers["retry-after"], "1");
    let answer = node.get_raw("/api/online-users").await;
    assert_eq!(error(&answer), (504, failure("not_ready")));
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_node_that_lost_its_redis_is_ready_and_says_degraded() {
    let mut cluster = Cluster::start(1).await;
    let _ada = cluster[0].join("ada").await;
    cluster.redis.kill();
    let node = &cluster[0];
    eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "/readyz says degraded").await;
    let (status, body) = node.get("/readyz").await;
    assert_eq!((status, &body["success"], &body["status"]), (200, &json!(true), &json!("ready")));
    assert!(body["asOf"].is_string(), "{body}");
    let (_, list) = node.get("/api/online-users").await;
    assert_eq!((&list["count"], &list["degraded"]), (&json!(1), &json!(true)), "unknown is never offline: {list}");
}

#[tokio::test]
async fn a_draining_node_is_not_ready_and_sends_clients_to_another() {
    let mut cluster = Cluster::start(1).await;
    let mut settings = test_settings_with_redis(&cluster.redis.url());
    // A Redis that does not answer holds the drain up, for longer than the test takes.
    settings.redis.call_timeout = Duration::from_secs(30);
    settings.presence.lease = Duration::from_secs(60);
    settings.drain.timeout = Duration::from_secs(60);
    settings.socketio.max_polling = 1;
    let mut node = Node::spawn(settings).await;
    node.wait_ready().await;
    // There is no room for another one that polls.
    let _polling = Polling::open(&node, "").await;
    // While it drains a node takes no new connections, so this one is opened before.
    let mut kept = TcpStream::connect(node.addr()).await.expect("the node listens");
    assert!(ask(&mut kept, "/readyz").await.starts_with("HTTP/1.1 200 "));

    cluster.redis.pause();
    node.drain();
    eventually(async || ask(&mut kept, "/readyz").await.starts_with("HTTP/1.1 503 "), "/readyz says 503").await;
    let answer = ask(&mut kept, "/readyz").await;
    assert!(answer.contains(r#""code":"draining""#), "{answer}");
    let answer = ask(&mut kept, "/socket.io/?EIO=4&transport=polling").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains(r#""code":"draining""#), "{answer}");
    assert!(ask(&mut kept, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let answer = send(&mut kept, &upgrade_request("/ws?userId=ada")).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains(r#""code":"draining""#), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    cluster.redis.resume();
    node.stop().await;
}

/// Asks on a connection that stays open, and reads up to the end of the JSON.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    send(stream, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await
}

/// The same with a whole request.
async fn send(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    let mut answer = String::new();
    while !answer.ends_with('}') {
        let mut buffer = [0; 1024];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut buffer)).await.expect("an answer in time");
        let count = read.expect("the connection stays");
        assert!(count > 0, "the connection ended: {answer}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    answer
}
