//! One client is one client: what it may ask for, hold and leave behind.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use rollcall::settings::Settings;

use crate::support::raw_ws::{FIN, PING, PONG, TEXT, frame};
use crate::support::*;

/// The answer to a request with this `ref`; what comes before it is skipped.
async fn ask(client: &mut WsClient, mut request: Value, reference: u64) -> Value {
    request["ref"] = reference.into();
    client.send_json(request).await;
    client.wait_for(|frame| frame["ref"] == reference).await
}

async fn limited(node: &Node, limit: &str) -> u64 {
    node.counter(&format!("rollcall_limited_total{{limit=\"{limit}\"}}")).await
}

#[tokio::test]
async fn who_asks_too_often_is_refused_and_who_goes_on_is_closed() {
    let node =
        Node::start_with(|settings| (settings.limits.requests_per_second, settings.limits.request_burst) = (1, 4))
            .await;
    let watch = node.join("watch").await;
    let mut ada = node.join("ada").await;
    let join = || json!({"type": "join_user", "userId": "ada"});
    let mut n_granted = 0;
    let refused = loop {
        assert!(n_granted < 60, "nothing is refused");
        let request = if n_granted % 2 == 0 { json!({"type": "leave"}) } else { join() };
        let answer = ask(&mut ada, request, n_granted).await;
        if answer["type"] == "error" {
            break answer;
        }
        n_granted += 1;
    };
    assert!(n_granted >= 4, "a burst of 4: {n_granted}");
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    assert!(refused["retryAfterMs"].as_u64().is_some_and(|ms| (1..=2000).contains(&ms)), "{refused}");
    // What was refused was not carried out.
    let is_online = n_granted % 2 == 0;
    let status = ask(&mut ada, json!({"type": "check_user_online", "userId": "ada"}), 100).await;
    assert_eq!(status["online"], is_online, "{status}");

    for _ in 0..200 {
        ada.send_json(json!({"type": "get_online_users"})).await;
    }
    assert_eq!(ada.expect_close().await, (4029, "Too many requests".to_owned()));
    assert!(limited(&node, "requests").await > 1);
    drop(watch);
}

#[tokio::test]
async fn who_waits_as_told_is_served_again() {
    let node =
        Node::start_with(|settings| (settings.limits.requests_per_second, settings.limits.request_burst) = (5, 2))
            .await;
    let mut ada = node.join("ada").await;
    let mut reference = 0;
    let refused = loop {
        reference += 1;
        assert!(reference < 200, "nothing is refused");
        let answer = ask(&mut ada, json!({"type": "get_online_users"}), reference).await;
        if answer["type"] == "error" {
            break answer;
        }
    };
    tokio::time::sleep(Duration::from_millis(refused["retryAfterMs"].as_u64().expect("a time"))).await;
    let answer = ask(&mut ada, json!({"type": "get_online_users"}), 0).await;
    assert_eq!(answer["type"], "online_users_list", "{answer}");
}

#[tokio::test]
async fn heartbeats_and_checks_are_never_refused() {
    let node =
        Node::start_with(|settings| (settings.limits.requests_per_second, settings.limits.request_burst) = (1, 1))
            .await;
    let mut ada = node.join("ada").await;
    for reference in 0..200 {
        let request = if reference % 2 == 0 {
            json!({"type": "user_activity"})
        } else {
            json!({"type": "check_user_online", "userId": "ada"})
        };
        let answer = ask(&mut ada, request, reference).await;
        assert_ne!(answer["type"], "error", "{answer}");
    }
}

#[tokio::test]
async fn a_user_has_so_many_sockets_on_a_node_and_no_more() {
    let node = Node::start_with(|settings| settings.limits.sockets_per_user = 2).await;
    let first = node.join("ada").await;
    let _second = node.join("ada").await;
    let mut third = node.ws("/ws?userId=ada").await;
    assert_eq!(third.next_json().await["code"], "too_many_sockets");
    let refused = ask(&mut third, json!({"type": "join_user", "userId": "ada"}), 1).await;
    assert_eq!(refused["code"], "too_many_sockets", "{refused}");
    let welcome = ask(&mut third, json!({"type": "join_user", "userId": "bob"}), 2).await;
    assert_eq!(welcome["type"], "welcome", "the connection goes on: {welcome}");
    assert_eq!(limited(&node, "sockets_per_user").await, 2);
    first.close(1000).await;
    let mut fourth = node.ws("/ws").await;
    let joins = async || ask(&mut fourth, json!({"type": "join_user", "userId": "ada"}), 3).await["type"].clone();
    eventually_eq(joins, "welcome", "there is room again").await;
}

/// A node with a list of about 1 MiB, and the sockets of its users.
async fn node_with_a_large_list(change: impl FnOnce(&mut Settings)) -> (Node, Vec<WsClient>) {
    let node = Node::start_with(|settings| {
        settings.limits.profile_bytes = 65_536;
        settings.websocket.max_frame_bytes = 1 << 20;
        change(settings);
    })
    .await;
    let mut sockets = Vec::new();
    for i in 0..20 {
        let mut socket = node.ws("/ws").await;
        let name = "x".repeat(60_000);
        socket.send_json(json!({"type": "join_user", "userId": format!("u{i:02}"), "name": name})).await;
        socket.expect_type("welcome").await;
        sockets.push(socket);
    }
    (node, sockets)
}

/// A client that asks for the list again and again, and reads nothing: the kernel takes some answers for it.
async fn reads_nothing(node: &Node) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(node.addr()).await.expect("somebody listens");
    let request = "GET /api/online-users HTTP/1.1\r\nHost: test\r\n\r\n".repeat(12);
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    // An answer says that the node holds this connection. Otherwise a later one could take its place first.
    let mut answer = [0; 12];
    let is_answered = async || stream.peek(&mut answer).await.is_ok_and(|n_bytes| n_bytes == 12);
    eventually(is_answered, "a first answer").await;
    assert_eq!(&answer[..9], b"HTTP/1.1 ");
    stream
}

/// The status and the body of an answer; none if the connection ends without one.
async fn answer(node: &Endpoint, path: &str) -> Option<(u16, String)> {
    let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
    let answer = http.get(format!("http://{}{path}", node.addr())).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

/// The status of an answer; none if the connection ends without one.
async fn status(node: &Endpoint, path: &str) -> Option<u16> {
    answer(node, path).await.map(|(status, _)| status)
}

#[tokio::test]
async fn a_connection_ends_if_nobody_reads_its_answer() {
    let (node, _sockets) = node_with_a_large_list(|settings| {
        settings.server.write_timeout = Duration::from_millis(300);
        settings.server.max_http_connections = 2;
    })
    .await;
    // Both places are taken.
    let _stuck = [reads_nothing(&node).await, reads_nothing(&node).await];
    // Each question takes a place of its own. The server may give it back a moment after its client has let go.
    let counted = async || match answer(&node, "/metrics").await {
        Some((200, metrics)) => metrics.contains("rollcall_limited_total{limit=\"write_timeout\"} 2"),
        _ => false,
    };
    eventually(counted, "both have ended, and their places are free again").await;
}

#[tokio::test]
async fn answers_that_nobody_reads_have_one_bound() {
    let (node, _sockets) = node_with_a_large_list(|settings| {
        settings.server.write_timeout = Duration::from_mins(5);
        settings.limits.answers_bytes = 4 * settings.limits.page_bytes;
    })
    .await;
    let list = async || node.get("/api/online-users").await.0;
    assert_eq!(list().await, 200);
    let mut stuck = Vec::new();
    for _ in 0..5 {
        stuck.push(reads_nothing(&node).await);
    }
    eventually_eq(list, 503, "further lists are refused").await;
    let (_, refusal) = node.get("/api/online-users").await;
    assert_eq!(refusal["code"], "too_many_answers", "{refusal}");
    assert_eq!(node.get("/api/online-users?countOnly=true").await.0, 200, "what is small is answered");

    let mut ada = node.ws("/ws?userId=ada").await;
    ada.expect_type("welcome").await;
    let first = ada.expect_type("online_users_list").await;
    assert_eq!(first["users"].as_array().map(Vec::len), Some(1), "the first page is short");
    assert_eq!(first["nextCursor"], "ada", "and says that there is more");
    let refused = ask(&mut ada, json!({"type": "get_online_users"}), 1).await;
    assert_eq!((&refused["code"], &refused["retryAfterMs"]), (&json!("rate_limited"), &json!(1000)), "{refused}");

    drop(stuck);
    eventually_eq(list, 200, "there is room again").await;
}

#[tokio::test]
async fn a_page_ends_at_its_bytes_and_the_next_one_goes_on() {
    let node = Node::start_with(|settings| settings.limits.page_bytes = 4096).await;
    let mut sockets = Vec::new();
    for user in ["a", "b", "c", "d", "e"] {
        let mut socket = node.ws("/ws").await;
        socket.send_json(json!({"type": "join_user", "userId": user, "name": "x".repeat(1500)})).await;
        socket.expect_type("welcome").await;
        sockets.push(socket);
    }
    let ids = |page: &Value| -> Vec<String> {
        let users = page.as_array().expect("users").iter();
        users.map(|user| user["id"].as_str().expect("an id").to_owned()).collect()
    };
    let (_, page) = node.get("/api/online-users?limit=100").await;
    assert_eq!(
        (ids(&page["data"]), &page["count"], &page["nextCursor"]),
        (vec!["a".into(), "b".into()], &json!(5), &json!("b"))
    );
    assert_eq!(node.online_ids().await, ["a", "b", "c", "d", "e"]);
    let page = ask(&mut sockets[0], json!({"type": "get_online_users", "cursor": "c"}), 1).await;
    assert_eq!((ids(&page["users"]), &page["nextCursor"]), (vec!["d".into(), "e".into()], &Value::Null));
}

#[tokio::test]
async fn http_connections_are_bounded_and_sockets_are_not_among_them() {
    let node = Node::start_with(|settings| settings.server.max_http_connections = 3).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(node.join("ada").await);
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(node.open_http().await);
    }
    let mut fourth = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    let mut refusal = String::new();
    let read = tokio::time::timeout(DEADLINE, fourth.read_to_string(&mut refusal)).await.expect("it is told in time");
    read.expect("an orderly end");
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains(r#""code":"too_many_connections""#), "{refusal}");
    assert_eq!(sockets[0].fence().await, NOTHING, "sockets go on");
    open.clear();
    // The server sees their ends a moment later: a question before that is refused, and counted, as well.
    let mut n_refused = 1;
    let is_served = async || {
        let served = status(&node, "/healthz").await == Some(200);
        n_refused += u64::from(!served);
        served
    };
    eventually(is_served, "there is room again").await;
    assert_eq!(limited(&node, "connections").await, n_refused);
}

#[tokio::test]
async fn connections_whose_requests_never_end_give_their_places_back() {
    let node = Node::start_with(|settings| {
        settings.server.max_http_connections = 4;
        settings.server.request_timeout = Duration::from_millis(500);
    })
    .await;
    let mut open = Vec::new();
    for number in 0..4 {
        let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
        // A body that never comes; and a second head that never ends, after an answer.
        let request = match number % 2 {
            0 => "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            _ => "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        };
        stream.write_all(request.as_bytes()).await.expect("it is read");
        // The answer says that this connection has its place. Otherwise a later one could take the place first.
        let mut answer = [0; 12];
        let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("an answer in time");
        read.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        open.push(stream);
    }
    eventually_eq(async || status(&node, "/healthz").await, Some(200), "there is room again").await;
    for mut stream in open {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is closed");
    }
    eventually(async || limited(&node, "request_timeout").await >= 4, "all four are counted").await;
}

#[tokio::test]
async fn a_client_may_pause_in_the_middle_of_its_answers() {
    const REQUESTS: usize = 100;
    let node = Node::start_with(|_| ()).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(node.addr()).await.expect("the node accepts");
    let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(REQUESTS);
    let requests = request + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).await.expect("the kernel takes it");
    // Longer than a quiet connection lives, and less than `server.write_timeout_ms`.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut answers = Vec::new();
    let read = tokio::time::timeout(6 * DEADLINE, stream.read_to_end(&mut answers)).await.expect("all in time");
    read.expect("the connection lives");
    let n_answers = answers.windows(12).filter(|bytes| bytes == b"HTTP/1.1 200").count();
    assert_eq!(n_answers, REQUESTS + 1, "{} bytes", answers.len());
}

/// Few messages, so that they are soon too many.
fn few_messages(settings: &mut Settings) {
    (settings.limits.messages_per_second, settings.limits.message_burst) = (1, 20);
    settings.limits.request_burst = 20;
}

#[tokio::test]
async fn who_sends_too_many_messages_is_refused_and_who_goes_on_is_closed() {
    let node = Node::start_with(few_messages).await;
    let mut ada = node.join("ada").await;
    let started = Instant::now();
    for _ in 0..100 {
        // It costs next to nothing, but it has to be read.
        ada.send_json(json!({"type": "check_user_online", "userId": "ada"})).await;
    }
    let mut told = ada.collect_until(|frame| frame["type"] == "error").await;
    let refused = told.pop().expect("a refusal");
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    assert!(refused["retryAfterMs"].as_u64().is_some_and(|ms| (1..=2000).contains(&ms)), "{refused}");
    assert!(told.len() >= 20, "a burst of 20: {}", told.len());
    assert_eq!(ada.expect_close().await, (4029, "Too many requests".to_owned()));
    let n_refused = limited(&node, "messages").await;
    assert!((20..80).contains(&n_refused), "as many are refused: {n_refused}");
    // After each refusal, the client is not read for 10 ms.
    assert!(started.elapsed() >= Duration::from_millis(10) * 20, "{:?}", started.elapsed());
}

#[tokio::test]
async fn pings_count_among_the_messages_and_pongs_do_not() {
    let node = Node::start_with(few_messages).await;
    let mut ada = RawWs::connect(node.addr(), "/ws?userId=ada").await;
    ada.wait_for_type("online_users_list").await;
    ada.send(&frame(FIN | PONG, b"").repeat(100)).await;
    ada.send(&frame(FIN | PING, b"").repeat(100)).await;
    let mut n_pongs = 0;
    let refused = loop {
        let frame = ada.next_frame().await.expect("a refusal before the end");
        match frame.opcode {
            PONG => n_pongs += 1,
            TEXT => break String::from_utf8(frame.payload).expect("UTF-8"),
            _ => panic!("{frame:?}"),
        }
    };
    assert!(refused.contains(r#""code":"rate_limited""#), "{refused}");
    assert!(n_pongs >= 20, "a burst of 20: {n_pongs}");
    assert_eq!(ada.expect_close().await.0, 4029);
}

#[tokio::test]
async fn a_socket_whose_message_is_too_large_is_counted() {
    let node = Node::start_with(|settings| settings.websocket.max_frame_bytes = 256).await;
    let mut ada = node.join("ada").await;
    ada.send_text(&"x".repeat(257)).await;
    assert_eq!(ada.expect_close().await.0, 1009);
    eventually_eq(async || limited(&node, "frame").await, 1, "it is counted").await;
}

#[tokio::test]
async fn a_socket_that_does_not_join_in_time_is_counted() {
    let node = Node::start_with(|settings| settings.websocket.join_timeout = Duration::from_millis(100)).await;
    let mut nobody = node.ws("/ws").await;
    assert_eq!(nobody.expect_close().await.0, 1008);
    assert_eq!(limited(&node, "join_timeout").await, 1);
}

#[tokio::test]
async fn a_request_with_a_large_head_is_told_so() {
    let node = Node::start_with(|settings| settings.limits.head_bytes = 1024).await;
    let get = async |path, n_bytes: usize| {
        let cookie = "x".repeat(n_bytes);
        node.request(Method::GET, path, &[("cookie", &cookie)], "").await
    };
    assert_eq!(get("/healthz", 800).await.status, 200);
    for path in ["/healthz", "/nothing"] {
        let refused = get(path, 1024).await;
        assert!(refused.status == 431 && refused.body.contains(r#""code":"head_too_large""#), "{path}: {refused:?}");
    }
    let user = "x".repeat(1024);
    let refused = WsClient::try_connect(node.addr(), &format!("/ws?userId={user}")).await.err().expect("a refusal");
    assert_eq!((refused.status, &refused.json()["code"]), (431, &json!("head_too_large")));
    assert_eq!(limited(&node, "head").await, 3);
    // The bound of the server itself.
    assert_eq!(get("/healthz", 200_000).await.status, 431);
}

#[tokio::test]
async fn a_client_that_sends_and_never_reads_keeps_no_processor_busy() {
    let node = NodeProcess::spawn(&[("ROLLCALL__SERVER__WORKERS", "1")]).await;
    let mut client = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    // The answers are large, so the node soon cannot write. The requests are more than it reads ahead.
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000_000);
    let sent = tokio::time::timeout(Duration::from_secs(1), client.write_all(requests.as_bytes())).await;
    assert!(sent.is_err(), "the node does not read so much ahead");
    let before = node.cpu_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = node.cpu_time() - before;
    // It would be the whole two seconds. Other work on the machine only makes it less.
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in 2 s");
}

#[tokio::test]
async fn a_client_that_sends_many_requests_at_once_is_refused_slowly() {
    let node = Node::start_with(|settings| {
        settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
        settings.limits.http_requests_per_address = 1;
    })
    .await;
    let mut client = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n";
    let started = Instant::now();
    client.write_all(request.repeat(1000).as_bytes()).await.expect("it is read");
    eventually(async || limited(&node, "requests_per_address").await > 3, "it is refused").await;
    let n_refused = u128::from(limited(&node, "requests_per_address").await);
    // At least 25 ms each.
    assert!(n_refused <= 1 + started.elapsed().as_millis() / 25, "{n_refused} in {:?}", started.elapsed());
}

/// A process that may open so many files. With them it has room for about 150 clients.
const FEW_FILES: u64 = 300;

#[tokio::test]
async fn a_node_with_few_files_refuses_clients_and_never_runs_out_of_files() {
    let mut node = NodeProcess::spawn_with_files(FEW_FILES, &[("ROLLCALL__SERVER__WORKERS", "1")]).await;
    node.expect_log("This process may open 300 files").await;
    assert_eq!(node.counter("rollcall_open_files_limit").await, FEW_FILES);
    let mut clients = Vec::new();
    for _ in 0..2 * FEW_FILES {
        let mut client = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
        // A node that refuses may have closed already.
        let _ = client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        clients.push(client);
    }
    let mut n_served = 0;
    for client in &mut clients {
        let mut answer = [0; 12];
        // A reset may overtake the refusal. What may not be is that nothing comes.
        let read = tokio::time::timeout(DEADLINE, client.read_exact(&mut answer)).await.expect("an answer in time");
        match &answer[9..] {
            b"200" => n_served += 1,
            b"503" => {}
            _ => assert!(read.is_err(), "{answer:?}"),
        }
    }
    assert!((1..150).contains(&n_served), "{n_served} are served");
    assert!(node.n_open_files() < FEW_FILES as usize, "{} files are open", node.n_open_files());
    drop(clients);
    let is_answered = async || status(&node, "/healthz").await == Some(200);
    eventually(is_answered, "there is room again").await;

    let mut sockets = Vec::new();
    let refused = loop {
        assert!(sockets.len() < FEW_FILES as usize, "nobody is refused");
        match WsClient::try_connect(node.addr(), "/ws?userId=ada").await {
            Ok(socket) => sockets.push(socket),
            Err(refused) => break refused,
        }
    };
    assert!(sockets.len() > 50, "{}", sockets.len());
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("full")));
    assert!(!node.stderr().contains("Error accepting"), "{}", node.stderr());
    node.sigterm();
    assert!(node.wait().await.success(), "{}", node.stderr());
}

#[tokio::test]
async fn a_node_with_next_to_no_files_refuses_to_start() {
    let ended = NodeProcess::try_spawn_with_files(170, &[("ROLLCALL__SERVER__WORKERS", "1")]).await;
    let ended = ended.err().expect("it refuses");
    assert!(!ended.status.success() && ended.stderr.contains("this process may open 170 files"), "{ended:?}");
}
