//! Engine.IO 4 over HTTP, item by item: <https://socket.io/docs/v4/engine-io-protocol/>. What clients say and hear is in the
//! other files.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::polling::{POLLING, SEPARATOR, WEBSOCKET, event};
use crate::support::*;

/// The body of an error of Engine.IO.
fn error(code: u8, message: &str) -> Value {
    json!({"code": code, "message": message})
}

const UNKNOWN_SID: (u8, &str) = (1, "Session ID unknown");
const BAD_METHOD: (u8, &str) = (2, "Bad handshake method");
const BAD_REQUEST: (u8, &str) = (3, "Bad request");

#[track_caller]
fn assert_error(answer: &HttpAnswer, (code, message): (u8, &str)) {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!((answer.status, &body), (400, &error(code, message)), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
}

async fn node() -> Node {
    Node::start_with(|settings| settings.server.name = "node-7".to_owned()).await
}

#[tokio::test]
async fn a_session_begins_with_the_numbers_that_its_client_keeps_to() {
    let node = node().await;
    for path in ["/socket.io/", "/socket.io", "/api/socketio/", "/api/socketio"] {
        let answer = node.get_raw(&format!("{path}?EIO=4&transport=polling&t=abc")).await;
        assert_eq!((answer.status, &answer.headers["cache-control"]), (200, &"no-store".parse().expect("a value")));
        assert_eq!(answer.headers["content-type"], "text/plain; charset=UTF-8");
        let mut open: Value =
            serde_json::from_str(answer.body.strip_prefix('0').expect("an open packet")).expect("JSON");
        let sid = open["sid"].take();
        let secret = sid.as_str().expect("a text").strip_prefix("node-7.").expect("the name of the node");
        assert!(secret.len() == 26 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{secret}");
        let numbers = json!({
            "sid": null, "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 35000, "maxPayload": 65536
        });
        assert_eq!(open, numbers);
    }
    assert_eq!(node.counter("rollcall_socketio_polling_sockets").await, 4);
    assert_eq!(node.counter("rollcall_socketio_handshakes_total{transport=\"polling\"}").await, 4);
}

#[tokio::test]
async fn each_wrong_request_has_its_error() {
    let node = node().await;
    let client = Polling::open(&node, "").await;
    let sid = client.sid();
    for (method, query, expected) in [
        (Method::GET, "EIO=4".to_owned(), (0, "Transport unknown")),
        (Method::GET, "EIO=4&transport=abc".to_owned(), (0, "Transport unknown")),
        (Method::GET, "EIO=4&transport=polling&transport=polling".to_owned(), (0, "Transport unknown")),
        (Method::GET, "EIO=4&transport=polling&sid=abc".to_owned(), UNKNOWN_SID),
        (Method::POST, "EIO=4&transport=polling&sid=".to_owned(), UNKNOWN_SID),
        (Method::GET, format!("EIO=4&transport=polling&sid={sid}&sid={sid}"), UNKNOWN_SID),
        (Method::GET, format!("EIO=4&transport=polling&sid=other{sid}"), UNKNOWN_SID),
        (Method::POST, "EIO=4&transport=polling".to_owned(), BAD_METHOD),
        (Method::PUT, "EIO=4&transport=polling".to_owned(), BAD_METHOD),
        (Method::GET, "EIO=4&transport=websocket".to_owned(), BAD_REQUEST),
        (Method::GET, format!("EIO=4&transport=websocket&sid={sid}"), BAD_REQUEST),
    ] {
        let answer = node.request(method.clone(), &format!("/socket.io/?{query}"), &[], "").await;
        println!("{method} {query}");
        assert_error(&answer, expected);
    }
    for version in ["", "EIO=3&", "EIO=5&", "EIO=4&EIO=4&"] {
        let (status, body) = node.get(&format!("/socket.io/?{version}transport=polling")).await;
        assert_eq!((status, &body["code"], &body["message"]), (400, &json!(5), &json!("Unsupported protocol version")));
        assert!(body["hint"].as_str().is_some_and(|hint| hint.contains("Engine.IO 4")), "{body}");
    }
    let head = node.request(Method::HEAD, POLLING, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (400, ""));
    for method in [Method::PUT, Method::HEAD, Method::DELETE] {
        let answer = node.request(method, &client.path(), &[], "").await;
        assert_eq!((answer.status, &answer.headers["allow"]), (405, &"GET, POST".parse().expect("a value")));
    }
    // None of these has ended the session.
    client.send("40").await;
    assert_eq!(node.counter("rollcall_socketio_refused_total{code=\"5\"}").await, 4);
}

#[tokio::test]
async fn each_wrong_handshake_of_a_websocket_has_its_error() {
    let node = node().await;
    let client = Polling::open(&node, "").await;
    for (query, status, code) in [
        ("EIO=3&transport=websocket".to_owned(), 400, 5),
        ("EIO=4".to_owned(), 400, 0),
        ("EIO=4&transport=abc".to_owned(), 400, 0),
        ("EIO=4&transport=polling".to_owned(), 400, 3),
        ("EIO=4&transport=websocket&sid=abc".to_owned(), 400, 1),
        (format!("EIO=4&transport=polling&sid={}", client.sid()), 400, 3),
    ] {
        let refusal =
            WsClient::try_connect(node.addr(), &format!("/socket.io/?{query}")).await.err().expect("a refusal");
        assert_eq!((refusal.status, &refusal.json()["code"]), (status, &json!(code)), "{query}");
    }
    client.send("40").await;
}

#[tokio::test]
async fn what_is_said_between_two_gets_comes_with_the_next_in_order() {
    let node = node().await;
    let mut ada = Polling::connect(&node, "userId=ada").await;
    let mut last = node.join("user-0").await;
    for n in 1..40 {
        let next = node.join(&format!("user-{n}")).await;
        last.close(1000).await;
        last = next;
    }
    let mut heard = Vec::new();
    while heard.len() < 40 {
        let user = ada.wait_for("user_online").await["userId"].clone();
        heard.push(user.as_str().expect("a text").to_owned());
    }
    assert_eq!(heard, (0..40).map(|n| format!("user-{n}")).collect::<Vec<_>>());
    // Two packets of a client in one body, too.
    let two = format!(r#"421["user_activity"]{SEPARATOR}422["user_activity"]"#);
    ada.send(&two).await;
    let mut acks = Vec::new();
    while acks.len() < 2 {
        let packet = ada.next().await;
        acks.extend(packet.starts_with("43").then(|| packet.clone()));
    }
    assert_eq!(acks, [r#"431[{"success":true}]"#, r#"432[{"success":true}]"#]);
}

#[tokio::test]
async fn a_get_that_finds_nothing_waits_and_is_answered_in_time() {
    let node = Node::start_with(|settings| settings.server.request_timeout = Duration::from_millis(900)).await;
    let client = Polling::open(&node, "").await;
    assert_eq!(client.get().await.body, "6");
    // What comes meanwhile is its answer.
    let (answer, ()) = tokio::join!(client.get(), client.send("40"));
    assert!(answer.body.starts_with("40{\"sid\":\""), "{answer:?}");
}

#[tokio::test]
async fn two_gets_at_once_end_the_session() {
    let node = node().await;
    let client = Polling::open(&node, "").await;
    // Whichever comes first waits, until the other one ends the session.
    let (one, other) = tokio::join!(client.get(), client.get());
    let (first, second) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!((first.status, first.body.as_str()), (200, "6"));
    assert_error(&second, BAD_REQUEST);
    gone(&client).await;
}

/// Waits until the session of a client is unknown.
async fn gone(client: &Polling) {
    let is_unknown = async || client.post("3").await.status == 400 && client.get().await.body.contains(UNKNOWN_SID.1);
    eventually(is_unknown, "the session has ended").await;
}

/// A GET of this session on a connection of its own, or on a given one.
async fn write_get(stream: &mut TcpStream, client: &Polling) {
    let head = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", client.path());
    stream.write_all(head.as_bytes()).await.expect("it is read");
}

/// The answer to a GET that found nothing.
async fn expect_nothing(stream: &mut TcpStream) {
    let (mut answer, mut bytes) = (String::new(), [0; 1024]);
    while !answer.ends_with("\r\n\r\n6") {
        let n_bytes = timeout(DEADLINE, stream.read(&mut bytes)).await.expect("an answer in time").expect("no reset");
        assert!(n_bytes > 0, "the connection ended after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..n_bytes]).expect("UTF-8"));
    }
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_get_may_wait_on_a_connection_that_was_quiet_before() {
    let request_timeout = Duration::from_secs(3);
    let node = Node::start_with(|settings| settings.server.request_timeout = request_timeout).await;
    let client = Polling::connect(&node, "").await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    write_get(&mut stream, &client).await;
    expect_nothing(&mut stream).await;
    // Together with the wait of the next GET, this is longer than the connection may be idle.
    tokio::time::sleep(request_timeout / 2).await;
    write_get(&mut stream, &client).await;
    expect_nothing(&mut stream).await;
    client.send("3").await;
}

#[tokio::test]
async fn requests_outlive_a_standstill() {
    let environment = [("ROLLCALL__SERVER__REQUEST_TIMEOUT_MS", "2000"), ("ROLLCALL__SERVER__WORKERS", "1")];
    let mut node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let mut client = Polling::connect(&node, "userId=ada").await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    // What the join said has been fetched when a GET finds nothing.
    while client.fetch().await.iter().all(|packet| packet != "6") {}
    write_get(&mut stream, &client).await;
    let mut post = half_a_post(&node, &client).await;
    // The only worker has read both before this request.
    assert_eq!(node.get("/healthz").await.0, 200);
    node.sigstop();
    tokio::time::sleep(Duration::from_secs(4)).await;
    node.sigcont();
    expect_nothing(&mut stream).await;
    post.write_all(br#"["abc"]"#).await.expect("it is read");
    let mut answer = [0; 12];
    timeout(DEADLINE, post.read_exact(&mut answer)).await.expect("an answer in time").expect("no reset");
    assert_eq!(&answer, b"HTTP/1.1 200");
    client.send("3").await;
    assert_eq!(node.online_ids().await, ["ada"]);
}

/// Begins a POST of this session, and never ends it.
async fn half_a_post(node: &Endpoint, client: &Polling) -> TcpStream {
    let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n42", client.path());
    stream.write_all(head.as_bytes()).await.expect("it is read");
    stream
}

#[tokio::test]
async fn two_posts_at_once_end_the_session() {
    let node = node().await;
    let client = Polling::open(&node, "").await;
    let _half = half_a_post(&node, &client).await;
    let refused = async || client.post("3").await.body.contains(BAD_REQUEST.1);
    eventually(refused, "the second one is refused").await;
    gone(&client).await;
}

#[tokio::test]
async fn a_post_that_breaks_off_ends_the_session() {
    let node = node().await;
    let mut client = Polling::connect(&node, "userId=ada").await;
    client.wait_for("online_users_list").await;
    let half = half_a_post(&node, &client).await;
    let mut bob = node.join("bob").await;
    client.wait_for("user_online").await;
    drop(half);
    assert_eq!(bob.wait_for(|frame| frame["type"] == "user_offline").await["userId"], "ada");
    gone(&client).await;
}

#[tokio::test]
async fn who_closes_is_gone_at_once_and_the_get_that_waits_ends() {
    let node = node().await;
    let mut bob = node.join("bob").await;
    for close in ["1".to_owned(), format!("41{SEPARATOR}1")] {
        let mut ada = Polling::connect(&node, "userId=ada").await;
        ada.wait_for("online_users_list").await;
        let get = async {
            loop {
                let answer = ada.get().await;
                if !answer.body.starts_with("42") {
                    return answer;
                }
            }
        };
        let (answer, ()) = tokio::join!(get, ada.send(&close));
        assert_eq!((answer.status, answer.body.as_str()), (200, "6"), "{close}");
        let offline = bob.wait_for(|frame| frame["type"] == "user_offline").await;
        assert_eq!((&offline["userId"], &offline["reason"]), (&json!("ada"), &json!("left")));
        gone(&ada).await;
    }
}

#[tokio::test]
async fn who_goes_away_while_a_get_waits_is_missed_at_once() {
    // Its silence would be noticed after a minute.
    let node = node().await;
    let mut bob = node.join("bob").await;
    let mut ada = Polling::connect(&node, "userId=ada").await;
    ada.wait_for("online_users_list").await;
    bob.wait_for(|frame| frame["type"] == "user_online").await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    let head = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", ada.path());
    stream.write_all(head.as_bytes()).await.expect("it is read");
    // While that GET waits, another one is an overlap. So this event comes to that GET.
    let carol = node.join("carol").await;
    let mut answer = [0; 2048];
    let n_bytes = timeout(DEADLINE, stream.read(&mut answer)).await.expect("in time").expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..n_bytes]).contains("carol"));
    stream.write_all(head.as_bytes()).await.expect("it is read");
    drop(stream);
    let offline = bob.wait_for(|frame| frame["type"] == "user_offline").await;
    assert_eq!((&offline["userId"], &offline["reason"]), (&json!("ada"), &json!("connection_lost")));
    gone(&ada).await;
    carol.close(1000).await;
}

#[tokio::test]
async fn a_client_is_pinged_and_one_that_is_silent_is_closed() {
    let node = Node::start_with(|settings| {
        settings.websocket.ping_interval = Duration::from_millis(100);
        settings.websocket.silence_timeout = Duration::from_millis(1000);
    })
    .await;
    let client = Polling::open(&node, "userId=ada").await;
    assert_eq!((&client.open["pingInterval"], &client.open["pingTimeout"]), (&json!(100), &json!(900)));
    client.send("40").await;
    let mut n_pings = 0;
    // Who answers lives on: these take two silences.
    while n_pings < 20 {
        let answer = client.get().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for _ in answer.body.split(SEPARATOR).filter(|packet| *packet == "2") {
            n_pings += 1;
            client.send("3").await;
        }
    }
    let last = loop {
        let answer = client.get().await;
        let last = answer.body.split(SEPARATOR).next_back().expect("a packet").to_owned();
        if last != "2" {
            break last;
        }
    };
    assert_eq!(last, "1");
    gone(&client).await;
}

#[tokio::test]
async fn a_body_is_bounded_and_a_bad_one_ends_the_session() {
    let node = node().await;
    let client = Polling::open(&node, "").await;
    let answer = client.post(&"3".repeat(65_537)).await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &body["code"]), (413, &json!("payload_too_large")));
    // What was in it is lost, so the session is over.
    gone(&client).await;
    for body in ["", "abc", "7", "3\x1e", "\x1e3", "0{}", "2", "5", "2probe", "4", &"3\x1e".repeat(300)] {
        let client = Polling::connect(&node, "").await;
        // Each packet of the right kind is taken, and then the session finds out.
        let answer = client.post(body).await;
        assert!(answer.body == "ok" || answer.body.contains(BAD_REQUEST.1), "{body}: {answer:?}");
        gone(&client).await;
    }
    let client = Polling::connect(&node, "").await;
    let binary = [("content-type", "application/octet-stream")];
    assert_error(&node.request(Method::POST, &client.path(), &binary, "3").await, BAD_REQUEST);
    gone(&client).await;
}

#[tokio::test]
async fn texts_keep_their_letters_and_binaries_are_refused_as_what_they_are() {
    let node = node().await;
    let mut ada = Polling::connect(&node, "userId=ada").await;
    let mut bob = Polling::connect(&node, "userId=bob").await;
    ada.send(r#"42["update_presence",{"name":"Zoë €😀"}]"#).await;
    loop {
        let (name, changed) = event(&bob.next().await).expect("an event");
        if name == "user_changed" {
            assert_eq!(changed["user"]["name"], "Zoë €😀");
            break;
        }
    }
    ada.send(&format!(r#"451-7["user_activity",{{"_placeholder":true,"num":0}}]{SEPARATOR}bAQIDBA=="#)).await;
    assert_eq!(ada.wait_for("error").await["code"], "binary_not_supported");
    ada.send(r#"428["user_activity"]"#).await;
    while ada.next().await != r#"438[{"success":true}]"# {}
}

#[tokio::test]
async fn the_id_of_a_session_is_known_on_its_node_alone() {
    let (one, other) = (node().await, node().await);
    let client = Polling::open(&one, "").await;
    assert_error(&other.request(Method::GET, &client.path(), &[], "").await, UNKNOWN_SID);
    let path = format!("{WEBSOCKET}&sid={}", client.sid());
    let refusal = WsClient::try_connect(other.addr(), &path).await.err().expect("a refusal");
    assert_eq!(refusal.json()["code"], 1);
    client.send("40").await;
}

#[tokio::test]
async fn so_many_poll_and_no_more() {
    let node = Node::start_with(|settings| settings.socketio.max_polling = 1).await;
    let client = Polling::open(&node, "").await;
    let refused = node.get_raw(POLLING).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().expect("a value")));
    assert!(refused.body.contains(r#""code":"busy""#), "{refused:?}");
    // A WebSocket is another matter, and the place is free again after an upgrade.
    let _socket = RawWs::connect(node.addr(), WEBSOCKET).await;
    let mut upgraded = client.probe().await;
    upgraded.send(&crate::support::polling::text("5")).await;
    eventually_eq(async || node.get_raw(POLLING).await.status, 200, "there is room").await;

    let node = Node::start_with(|settings| settings.socketio.max_polling = 0).await;
    assert_error(&node.get_raw(POLLING).await, (0, "Transport unknown"));
    let _socket = RawWs::connect(node.addr(), WEBSOCKET).await;
    let node = Node::start_with(|settings| settings.socketio.paths = Vec::new()).await;
    assert_eq!(node.get_raw(POLLING).await.status, 404);
}

#[tokio::test]
async fn only_pages_of_listed_origins_poll() {
    let node = Node::start_with(|settings| {
        settings.server.cors_allowed_origins = vec!["https://chat.example.com".to_owned()];
    })
    .await;
    let page = |origin: &'static str| [("origin", origin)];
    let answer = node.request(Method::GET, POLLING, &page("https://chat.example.com"), "").await;
    assert_eq!(
        (answer.status, &answer.headers["access-control-allow-origin"]),
        (200, &"https://chat.example.com".parse().expect("a value"))
    );
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    let answer = node.request(Method::GET, POLLING, &page("https://evil.example"), "").await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, body), (403, error(4, "Forbidden")));
    let preflight = [
        ("origin", "https://chat.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    let answer = node.request(Method::OPTIONS, POLLING, &preflight, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["access-control-allow-headers"], "authorization");
}

#[tokio::test]
async fn a_drain_ends_the_get_that_waits() {
    let node = node().await;
    let mut ada = Polling::connect(&node, "userId=ada").await;
    ada.wait_for("online_users_list").await;
    let last = async {
        loop {
            let answer = ada.get().await;
            if let Some(last) = answer.body.split(SEPARATOR).next_back().filter(|packet| !packet.starts_with('4')) {
                return last.to_owned();
            }
        }
    };
    let (last, ()) = tokio::join!(last, node.stop());
    assert_eq!(last, "1");
}

#[tokio::test]
async fn what_ends_a_session_for_good_is_said_in_a_payload_of_its_own() {
    let node = node().await;
    let mut ada = Polling::connect(&node, "userId=ada").await;
    ada.wait_for("online_users_list").await;
    let disconnected = async || node.request(Method::DELETE, "/api/users/ada/sockets", &[], "").await.status;
    let last = async {
        loop {
            let answer = ada.get().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.body.ends_with("41") {
                return ada.get().await.body;
            }
            assert!(answer.body.starts_with("42"), "{answer:?}");
        }
    };
    let (last, status) = tokio::join!(last, disconnected());
    assert_eq!((status, last.as_str()), (200, "1"));
}
