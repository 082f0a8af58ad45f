//! Three nodes behind the load balancer of `deploy/`: any node serves any request, and one node the requests of a client that
//! polls.

mod failing_nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::polling::{POLLING, WEBSOCKET, next_text, text};
use crate::support::shared::http::upgrade_request;
use crate::support::*;

/// Three nodes and the balancer before them.
async fn balanced() -> (Cluster<NodeProcess>, Balancer) {
    let cluster = Cluster::processes(3).await;
    let ports: Vec<_> = cluster.nodes.iter().map(|node| node.addr().port()).collect();
    let balancer = Balancer::start(&ports).await;
    (cluster, balancer)
}

/// Joins through the balancer; returns the node that serves, too.
async fn join(balancer: &Balancer, user: &str) -> (WsClient, String) {
    let mut client = balancer.ws(&format!("/ws?userId={user}")).await;
    let node = client.expect_type("welcome").await["nodeId"].as_str().expect("a text").to_owned();
    client.expect_type("online_users_list").await;
    (client, node)
}

#[tokio::test]
async fn sockets_land_on_all_nodes_and_all_tell_the_same() {
    let (cluster, balancer) = balanced().await;
    let mut clients = Vec::new();
    let mut serving = BTreeSet::new();
    let users: Vec<_> = (0..6).map(|n| format!("user-{n}")).collect();
    for user in &users {
        let (client, node) = join(&balancer, user).await;
        clients.push(client);
        serving.insert(node);
    }
    assert_eq!(serving, cluster.nodes.iter().map(|node| node.node_id().to_owned()).collect(), "every node serves");
    for (n, client) in clients.iter_mut().enumerate() {
        for later in &users[n + 1..] {
            assert_eq!(client.expect_type("user_online").await["userId"], *later);
        }
        assert_eq!(client.fence().await, NOTHING);
    }
    // Whichever node answers.
    for _ in 0..6 {
        assert_eq!(balancer.online_ids().await, users);
    }
    assert_eq!(balancer.request(Method::POST, "/api/online-users", &[], "{}").await.status, 405);
}

#[tokio::test]
async fn the_clients_of_a_killed_node_come_back_through_the_balancer() {
    let (mut cluster, balancer) = balanced().await;
    let mut clients = BTreeMap::new();
    for user in ["a", "b", "c", "d", "e", "f"] {
        let (client, node) = join(&balancer, user).await;
        clients.insert(user, (client, node));
    }
    let dead = cluster[0].node_id().to_owned();
    cluster[0].kill9();
    let lost: Vec<_> = clients.iter().filter(|(_, (_, node))| *node == dead).map(|(user, _)| *user).collect();
    assert!(!lost.is_empty());
    for user in lost {
        let (mut client, _) = clients.remove(user).expect("a client");
        assert_eq!(client.expect_close().await.0, 1006);
        let (client, node) = join(&balancer, user).await;
        assert_ne!(node, dead);
        clients.insert(user, (client, node));
    }
    for _ in 0..6 {
        assert_eq!(balancer.online_ids().await, ["a", "b", "c", "d", "e", "f"]);
    }
}

#[tokio::test]
async fn what_speaks_of_one_node_is_not_passed_on() {
    let (_cluster, balancer) = balanced().await;
    let not_found = (404, json!({"success": false, "message": "not found", "code": "not_found"}));
    assert_eq!(balancer.get("/readyz").await, not_found);
    assert_eq!(balancer.get("/metrics").await, not_found);
    // The nodes of this test are on the machine of the balancer, so they would answer.
    let hidden = [
        "/api/users/ada/explain",
        "/api//users/ada/explain",
        "/api/%75sers/ada/explain",
        "/api/x/../users/a",
        "/api/rooms",
        "/api/rooms?limit=1",
        "/api/rooms/lobby",
        "/api/%72ooms",
        "/api/nodes",
        "/api//nodes",
    ];
    for path in hidden {
        let answer = answer_to(&balancer, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains(r#""code":"not_found""#), "{path}: {answer}");
    }
    let sockets = balancer.request(Method::DELETE, "/api/users/ada/sockets", &[], "").await;
    assert!(sockets.status == 404 && sockets.body.contains(r#""message":"not found""#), "{sockets:?}");
    for path in ["/api/rooms/lobby", "/api/rooms/lobby/members/ada"] {
        let room = balancer.request(Method::DELETE, path, &[], "").await;
        assert!(room.status == 404 && room.body.contains(r#""message":"not found""#), "{room:?}");
    }
    assert_eq!(balancer.get("/healthz").await.0, 200);
    assert_eq!(balancer.get("/api/chatroom/lobby/online-users").await.0, 200);
    let refusal = WsClient::try_connect(balancer.addr(), "/ws?userId=a%0Ab").await.err().expect("a refusal");
    assert_eq!((refusal.status, &refusal.json()["code"]), (400, &json!("invalid_parameter")));
}

/// The whole answer to a path, which is sent as it is: a client library would tidy it up.
async fn answer_to(balancer: &Balancer, path: &str) -> String {
    let mut stream = TcpStream::connect(balancer.addr()).await.expect("haproxy listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("haproxy reads");
    let mut answer = String::new();
    timeout(3 * DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer in time").expect("an answer");
    answer
}

/// A node that is ready, whatever it says besides: what `answer` makes of the head of a request. Without an answer, the
/// connection stays silent. After an upgrade, the node sends back what it is sent.
async fn scripted_node(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                let answer = if head.starts_with("GET /readyz ") {
                    Some(http_answer("200 OK", r#"{"success":true,"status":"ready","degraded":false}"#))
                } else {
                    answer(&head)
                };
                let Some(answer) = answer else { return std::future::pending().await };
                stream.write_all(answer.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

/// An answer with a JSON body, after which the connection ends.
fn http_answer(status: &str, body: &str) -> String {
    let n_bytes = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {n_bytes}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// A connection through the balancer that was upgraded at this path.
async fn upgraded(balancer: &Balancer, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(balancer.addr()).await.expect("haproxy listens");
    stream.write_all(upgrade_request(path).as_bytes()).await.expect("haproxy reads");
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
    stream
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, stream.read_u8()).await.expect("a head in time").expect("a head"));
    }
    String::from_utf8(head).expect("UTF-8")
}

#[tokio::test]
async fn a_silent_websocket_outlives_the_time_that_an_answer_has() {
    let upgrades = |head: &str| {
        let is_upgrade = head.to_lowercase().contains("upgrade: websocket\r\n");
        // The answer to the key of `upgrade_request`. HAProxy looks for one.
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket";
        is_upgrade.then(|| format!("{answer}\r\n{accept}\r\n\r\n"))
    };
    let balancer = Balancer::start(&[scripted_node(upgrades).await]).await;
    let mut sockets = Vec::new();
    for path in ["/ws?userId=42", "/?userId=42", WEBSOCKET, "/api/socketio/?EIO=4&transport=websocket&sid=node1.x"] {
        sockets.push((path, upgraded(&balancer, path).await));
    }
    // Later than the others. So their time would have run out before.
    let plain = answer_to(&balancer, "/api/online-users").await;
    assert!(plain.starts_with("HTTP/1.1 503 "), "{plain}");
    for (path, socket) in &mut sockets {
        socket.write_all(b"x").await.expect("haproxy reads");
        let echo = timeout(DEADLINE, socket.read_u8()).await.expect("an echo in time");
        assert_eq!(echo.ok(), Some(b'x'), "{path} was cut");
    }
}

#[tokio::test]
async fn a_client_may_pause_in_the_middle_of_a_body() {
    let node = Node::start_with(|_| ()).await;
    let balancer = Balancer::start(&[node.addr().port()]).await;
    let mut stream = TcpStream::connect(balancer.addr()).await.expect("haproxy listens");
    let (begin, rest) = (r#"{"userIds":["#, r#""ada"]}"#);
    let n_bytes = begin.len() + rest.len();
    let head = format!(
        "POST /api/user-status/batch HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {n_bytes}\r\n\r\n{begin}"
    );
    stream.write_all(head.as_bytes()).await.expect("haproxy reads");
    // Longer than the answer to a read may take.
    tokio::time::sleep(Duration::from_secs(5)).await;
    stream.write_all(rest.as_bytes()).await.expect("haproxy reads");
    let mut answer = String::new();
    timeout(3 * DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""userId":"ada""#), "{answer}");
}

#[tokio::test]
async fn no_other_upgrade_than_to_a_websocket_is_passed_on() {
    let has_upgrade = |head: &str| Some(http_answer("200 OK", &head.to_lowercase().contains("upgrade").to_string()));
    let balancer = Balancer::start(&[scripted_node(has_upgrade).await]).await;
    for protocol in ["h2c", "TLS/1.0", "websocket2"] {
        let headers = [("connection", "Upgrade"), ("upgrade", protocol)];
        let answer = balancer.request(Method::GET, "/api/online-users", &headers, "").await;
        assert_eq!((answer.status, &*answer.body), (200, "false"), "{protocol}");
    }
}

#[tokio::test]
async fn what_a_client_claims_about_itself_is_replaced() {
    let echo = |head: &str| {
        let claims = head.lines().filter(|line| line.to_lowercase().starts_with("x-forwarded")).collect::<Vec<_>>();
        Some(http_answer("200 OK", &claims.join(";").to_lowercase()))
    };
    let balancer = Balancer::start(&[scripted_node(echo).await]).await;
    let claims = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
    let answer = balancer.request(Method::GET, "/api/online-users", &claims, "").await;
    assert_eq!(answer.body, "x-forwarded-for: 127.0.0.1;x-forwarded-proto: http");
}

#[tokio::test]
async fn without_a_node_the_balancer_says_so_in_the_same_form() {
    let closed = RedisServer::start().await;
    let port = closed.port();
    drop(closed);
    let balancer = Balancer::start(&[port]).await;
    let answer = balancer.get_raw("/api/online-users").await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (503, &"1".parse().expect("a header")));
    assert!(
        answer.body.contains(r#""success":false"#) && answer.body.contains(r#""code":"unavailable""#),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_client_that_polls_finds_its_node_again_and_goes_over_to_a_websocket() {
    let (_cluster, balancer) = balanced().await;
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = Polling::connect(&balancer, &format!("userId=user-{n}")).await;
        client.wait_for("online_users_list").await;
        clients.push(client);
    }
    let nodes: BTreeSet<_> = clients.iter().map(|client| client.sid().split('.').next().expect("a name")).collect();
    assert_eq!(nodes, BTreeSet::from(["node1", "node2", "node3"]));
    // None of its requests goes to another node: that one would not know the session.
    for (n, client) in clients.iter_mut().enumerate() {
        for later in n + 1..6 {
            assert_eq!(client.wait_for("user_online").await["userId"], format!("user-{later}"));
        }
        for ack in 0..9 {
            client.send(&format!(r#"42{ack}["user_activity"]"#)).await;
            while client.next().await != format!(r#"43{ack}[{{"success":true}}]"#) {}
        }
    }
    for client in &clients {
        let mut probe = client.probe().await;
        probe.send(&[text("5"), text(r#"421["user_activity"]"#)].concat()).await;
        while next_text(&mut probe).await != r#"431[{"success":true}]"# {}
    }
}

#[tokio::test]
async fn a_session_of_a_node_that_is_gone_begins_anew_elsewhere() {
    let (mut cluster, balancer) = balanced().await;
    let client = loop {
        let client = Polling::connect(&balancer, "").await;
        if client.sid().starts_with("node1.") {
            break client;
        }
    };
    let port = cluster[0].addr().port().to_string();
    cluster[0].kill9();
    // Any other node says so.
    let unknown = json!({"code": 1, "message": "Session ID unknown"});
    let is_unknown = async || serde_json::from_str(&client.get().await.body).ok() == Some(unknown.clone());
    eventually(is_unknown, "its session is unknown").await;
    balancer.wait_until("node1", "is DOWN").await;
    assert_eq!(client.post("3").await.status, 400);
    for n in 0..6 {
        let mut client = Polling::connect(&balancer, &format!("userId=user-{n}")).await;
        assert!(!client.sid().starts_with("node1."));
        client.wait_for("online_users_list").await;
    }
    // It comes back with its name, and without its sessions.
    let (url, mut environment) = (cluster.redis.url(), test_environment());
    environment.extend([("REDIS_URL", &url), ("PORT", &port)].map(|(name, value)| (name.to_owned(), value.clone())));
    environment.push(("ROLLCALL__SERVER__NAME".to_owned(), "node1".to_owned()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let _node = NodeProcess::spawn(&environment).await;
    balancer.wait_until("node1", "is UP").await;
    assert_eq!(client.get().await.status, 400);
    // A name that is no node's goes to any node, and each says the same.
    for sid in ["node9.x", "x", "", "node1"] {
        assert_eq!(balancer.get(&format!("{POLLING}&sid={sid}")).await, (400, unknown.clone()), "{sid}");
    }
}

#[tokio::test]
async fn a_node_that_is_added_gets_clients_after_a_reload_and_nobody_is_cut_off() {
    let mut cluster = Cluster::processes(2).await;
    let ports =
        |cluster: &Cluster<NodeProcess>| cluster.nodes.iter().map(|node| node.addr().port()).collect::<Vec<_>>();
    let mut balancer = Balancer::start(&ports(&cluster)).await;
    let (mut ada, _) = join(&balancer, "ada").await;
    cluster.add().await;
    balancer.reload(&ports(&cluster)).await;
    let mut clients = Vec::new();
    let mut serving = BTreeSet::new();
    for n in 0..6 {
        let (client, node) = join(&balancer, &format!("user-{n}")).await;
        clients.push(client);
        serving.insert(node);
    }
    assert!(serving.contains(cluster[2].node_id()), "the new node serves");
    for n in 0..6 {
        assert_eq!(ada.expect_type("user_online").await["userId"], format!("user-{n}"));
    }
}
