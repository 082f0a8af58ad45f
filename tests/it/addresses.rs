//! What single addresses may do, and what proxies say of them.
//!
//! All connections of a test come from loopback, which is exempt. So the test speaks as a proxy that the node trusts.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use rollcall::settings::{ProxyProtocol, Settings};

use crate::support::shared::http::{head_length, upgrade_request};
use crate::support::*;

/// A node that believes the test what it says of its clients.
async fn node_behind_the_test(change: impl FnOnce(&mut Settings)) -> Node {
    Node::start_with(|settings| {
        settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
        change(settings);
    })
    .await
}

/// The same, and each connection of the test has to begin with a PROXY header.
async fn node_that_wants_a_header(change: impl FnOnce(&mut Settings)) -> Node {
    let mut settings = test_settings();
    settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
    settings.server.proxy_protocol = ProxyProtocol::On;
    change(&mut settings);
    let node = Node::spawn(settings).await;
    let is_ready = async || answer(&node, LOCAL, GET_READY).await.is_some_and(|answer| answer.status == 200);
    eventually(is_ready, "the node is ready").await;
    node
}

/// The header of a proxy that speaks for itself.
const LOCAL: &[u8] = b"PROXY UNKNOWN\r\n";

const GET_HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_READY: &str = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An answer, and the connection that it came over.
struct Answer {
    status: u16,
    /// The head, and the body if there is one.
    text: String,
    stream: TcpStream,
}

impl Answer {
    fn retry_after(&self) -> Option<u64> {
        self.text.lines().find_map(|line| line.strip_prefix("retry-after: "))?.parse().ok()
    }

    fn has_code(&self, code: &str) -> bool {
        self.text.contains(&format!("\"code\":\"{code}\""))
    }
}

/// The answer to a request behind these bytes, which are sent together. It is none if the connection ends without one.
async fn answer(node: &Node, before: &[u8], request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    // A node that refuses may have closed already.
    let _ = stream.write_all(&[before, request.as_bytes()].concat()).await;
    read_answer(stream).await
}

async fn read_answer(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    loop {
        if let Some(length) = head_length(&bytes) {
            let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let n_body = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let n_body: usize = n_body.map_or(0, |n| n.parse().expect("a length"));
            if bytes.len() >= length + n_body {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Some(Answer { status: head[9..12].parse().expect("a status"), text, stream });
            }
        }
        let read = timeout(DEADLINE, stream.read_buf(&mut bytes)).await.expect("an answer or an end in time");
        if read.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// A handshake of this client, as the proxy passes it on.
async fn upgrade_of(node: &Node, forwarded_for: &str) -> Answer {
    let request = with_header(&upgrade_request("/ws"), forwarded_for);
    answer(node, b"", &request).await.expect("an answer")
}

/// A read of this client, as the proxy passes it on.
async fn read_of(node: &Node, forwarded_for: &str) -> HttpAnswer {
    node.request(Method::GET, "/api/online-users?countOnly=true", &[("x-forwarded-for", forwarded_for)], "").await
}

fn with_header(request: &str, forwarded_for: &str) -> String {
    request.replacen("\r\n", &format!("\r\nX-Forwarded-For: {forwarded_for}\r\n"), 1)
}

/// Reads until the node has had enough, and returns its refusal, and how many reads it has answered before.
async fn read_until_refused(node: &Node, mut forwarded_for: impl FnMut(usize) -> String) -> (HttpAnswer, usize) {
    for n_answered in 0..1000 {
        let answer = read_of(node, &forwarded_for(n_answered)).await;
        if answer.status != 200 {
            return (answer, n_answered);
        }
    }
    panic!("nothing is refused");
}

#[tokio::test]
async fn an_address_has_so_many_sockets_and_no_more() {
    let node = node_behind_the_test(|settings| settings.limits.sockets_per_address = 2).await;
    let first = upgrade_of(&node, "203.0.113.1").await;
    let second = upgrade_of(&node, "203.0.113.1").await;
    assert_eq!((first.status, second.status), (101, 101));
    let refused = upgrade_of(&node, "203.0.113.1").await;
    assert_eq!((refused.status, refused.retry_after()), (429, Some(1)), "{}", refused.text);
    assert!(refused.has_code("too_many_sockets"), "{}", refused.text);
    assert_eq!(upgrade_of(&node, "203.0.113.2").await.status, 101, "another address");
    assert_eq!(node.counter("rollcall_refused_total{reason=\"address_full\"}").await, 1);
    drop(first.stream);
    eventually_eq(async || upgrade_of(&node, "203.0.113.1").await.status, 101, "there is room again").await;
}

#[tokio::test]
async fn an_address_tries_so_many_handshakes_and_no_more() {
    let node = node_behind_the_test(|settings| settings.limits.upgrades_per_address = 1).await;
    let mut n_admitted = 0;
    let refused = loop {
        assert!(n_admitted < 1000, "nothing is refused");
        let upgrade = upgrade_of(&node, "203.0.113.1").await;
        if upgrade.status != 101 {
            break upgrade;
        }
        n_admitted += 1;
    };
    assert!(n_admitted >= 10, "ten seconds' worth may come at once: {n_admitted}");
    assert_eq!((refused.status, refused.retry_after()), (429, Some(1)), "{}", refused.text);
    assert!(refused.has_code("rate_limited"), "{}", refused.text);
    assert_eq!(upgrade_of(&node, "203.0.113.2").await.status, 101, "another address");
    assert_eq!(node.counter("rollcall_refused_total{reason=\"address_busy\"}").await, 1);
    // What would be refused for another reason is a try as well.
    for request in [
        upgrade_request("/nothing"),
        upgrade_request("/ws").replacen("\r\n", "\r\nOrigin: https://evil.example\r\n", 1),
        upgrade_request("/ws").replace("Sec-WebSocket-Version: 13\r\n", ""),
    ] {
        let refused = answer(&node, b"", &with_header(&request, "203.0.113.1")).await.expect("an answer");
        assert_eq!(refused.status, 429, "{request}");
    }
    tokio::time::sleep(Duration::from_secs(refused.retry_after().expect("a time"))).await;
    assert_eq!(upgrade_of(&node, "203.0.113.1").await.status, 101, "who waits as told is let in");
}

#[tokio::test]
async fn an_address_asks_so_much_over_http_and_no_more() {
    let node = node_behind_the_test(|settings| settings.limits.http_requests_per_address = 1).await;
    let (refused, n_answered) = read_until_refused(&node, |_| "203.0.113.1".to_owned()).await;
    assert!(n_answered >= 10, "ten seconds' worth may come at once: {n_answered}");
    assert_eq!((refused.status, &refused.headers["retry-after"]), (429, &"1".parse().expect("a header")));
    assert!(refused.body.contains(r#""code":"rate_limited""#), "{refused:?}");
    assert_eq!(node.counter("rollcall_limited_total{limit=\"requests_per_address\"}").await, 1);
    // A preflight is answered before any resource, and costs a request, too.
    let preflight = [
        ("x-forwarded-for", "203.0.113.1"),
        ("origin", "http://localhost:3000"),
        ("access-control-request-method", "GET"),
    ];
    assert_eq!(node.request(Method::OPTIONS, "/api/online-users", &preflight, "").await.status, 429);
    // What is not there costs a request, too.
    for n_answered in 0.. {
        assert!(n_answered < 1000, "nothing is refused");
        let answer = node.request(Method::GET, "/nothing", &[("x-forwarded-for", "203.0.113.2")], "").await;
        if answer.status == 429 {
            break;
        }
        assert_eq!(answer.status, 404);
    }
    for _ in 0..20 {
        assert_eq!(node.get("/api/online-users").await.0, 200, "this machine is exempt, and so is the proxy itself");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(read_of(&node, "203.0.113.1").await.status, 200, "who waits as told is answered");
}

#[tokio::test]
async fn what_is_refused_to_a_client_that_polls_counts_among_the_requests_of_its_address() {
    let node = node_behind_the_test(|settings| settings.limits.http_requests_per_address = 1).await;
    let client = Polling::open(&node, "").await;
    let headers = [("x-forwarded-for", "203.0.113.1"), ("content-type", "application/octet-stream")];
    for n_refused in 0.. {
        assert!(n_refused < 50, "a flood of refused requests is free");
        let answer = node.request(Method::POST, &client.path(), &headers, "3").await;
        if answer.status == 429 {
            break;
        }
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // What is not refused is a message of the client.
    let other = Polling::open(&node, "").await;
    for packet in ["40", r#"42["join_user","ada"]"#] {
        let answer = node.request(Method::POST, &other.path(), &headers[..1], packet).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_thousand_addresses_behind_one_proxy_are_a_thousand_clients() {
    let node = node_behind_the_test(|settings| {
        settings.limits.http_requests_per_address = 1;
        settings.limits.upgrades_per_address = 1;
        settings.limits.sockets_per_address = 1;
    })
    .await;
    let address = |n: usize| format!("203.0.{}.{}", n / 256, n % 256);
    let mut connection = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    for n in 0..1000 {
        connection.write_all(with_header(GET_HEALTH, &address(n)).as_bytes()).await.expect("it is read");
        let answer = read_answer(connection).await.expect("an answer");
        assert_eq!(answer.status, 200, "{n}");
        connection = answer.stream;
    }
    let mut sockets = Vec::new();
    for n in 0..100 {
        let upgrade = upgrade_of(&node, &address(n)).await;
        assert_eq!(upgrade.status, 101, "{n}");
        sockets.push(upgrade);
    }
    assert_eq!(upgrade_of(&node, &address(0)).await.status, 429);
}

#[tokio::test]
async fn the_first_64_bits_of_an_ipv6_address_count() {
    let node = node_behind_the_test(|settings| settings.limits.sockets_per_address = 1).await;
    let _first = upgrade_of(&node, "2001:db8:0:1::1").await;
    assert_eq!(upgrade_of(&node, "2001:db8:0:1:ffff::2").await.status, 429);
    assert_eq!(upgrade_of(&node, "2001:db8:0:2::1").await.status, 101);
}

#[tokio::test]
async fn what_a_client_writes_before_the_word_of_the_proxy_changes_nothing() {
    let node = node_behind_the_test(|settings| settings.limits.http_requests_per_address = 1).await;
    let spoofed = |n: usize| match n % 3 {
        0 => format!("198.51.100.{}, 203.0.113.1", n % 250),
        1 => "127.0.0.1, 203.0.113.1".to_owned(),
        _ => "\", unknown, 203.0.113.1".to_owned(),
    };
    assert_eq!(read_until_refused(&node, spoofed).await.0.status, 429);
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_names_clients() {
    let node = node_that_wants_a_header(|settings| settings.limits.sockets_per_address = 1).await;
    // The client of the proxy is no proxy itself.
    let client = b"PROXY TCP4 203.0.113.1 127.0.0.1 5000 80\r\n";
    let upgrade = async |forwarded_for| {
        answer(&node, client, &with_header(&upgrade_request("/ws"), forwarded_for)).await.expect("an answer")
    };
    let _first = upgrade("198.51.100.1").await;
    assert_eq!(upgrade("198.51.100.2").await.status, 429);
}

#[tokio::test]
async fn a_load_balancer_that_nobody_has_named_is_named_in_the_log_once() {
    let limits = [("ROLLCALL__LIMITS__SOCKETS_PER_ADDRESS", "1"), ("ROLLCALL__TELEMETRY__LOG_FILTER", "warn")];
    let node = NodeProcess::spawn(&limits).await;
    let n_warnings = || node.stderr().matches("server.trusted_proxies").count();
    assert_eq!(n_warnings(), 0);
    for _ in 0..5 {
        let headers = [("x-forwarded-for", "203.0.113.1")];
        assert_eq!(node.request(Method::GET, "/healthz", &headers, "").await.status, 200);
    }
    eventually(async || n_warnings() == 1, "it is said").await;
    node.expect_log("127.0.0.1").await;
}

/// Headers of both versions. Each says that this client comes.
fn headers_of(client: [u8; 4]) -> BTreeMap<&'static str, Vec<u8>> {
    let [a, b, c, d] = client;
    let length = |addresses: &[u8]| u16::try_from(addresses.len()).expect("it is short").to_be_bytes();
    let version_2 = |family: u8, addresses: &[u8]| {
        [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length(addresses), addresses].concat()
    };
    let ipv4 = [a, b, c, d, 127, 0, 0, 1, 0x13, 0x88, 0, 80];
    let mapped = |last: [u8; 4]| [&[0; 10][..], &[0xFF, 0xFF], &last].concat();
    let ipv6 = [&mapped(client)[..], &mapped([127, 0, 0, 1]), &[0x13, 0x88, 0, 80]].concat();
    // An extension that we do not know (type 0xE0).
    let extended = [&ipv4[..], &[0xE0, 0, 3, 1, 2, 3]].concat();
    BTreeMap::from([
        ("version 1", format!("PROXY TCP4 {a}.{b}.{c}.{d} 127.0.0.1 5000 80\r\n").into_bytes()),
        ("version 1, IPv6", format!("PROXY TCP6 ::ffff:{a}.{b}.{c}.{d} ::1 5000 80\r\n").into_bytes()),
        ("version 2", version_2(0x11, &ipv4)),
        ("version 2, IPv6", version_2(0x21, &ipv6)),
        ("version 2 with an extension", version_2(0x11, &extended)),
    ])
}

#[tokio::test]
async fn both_versions_of_the_proxy_header_name_the_client() {
    let node = node_that_wants_a_header(|settings| settings.limits.sockets_per_address = 1).await;
    let mut sockets = Vec::new();
    for (number, name) in headers_of([0; 4]).into_keys().enumerate() {
        let client = [203, 0, 113, u8::try_from(number).expect("few")];
        for (same, header) in headers_of(client) {
            let upgrade = answer(&node, &header, &upgrade_request("/ws")).await.expect("an answer");
            let expected = if sockets.len() == number { 101 } else { 429 };
            assert_eq!(upgrade.status, expected, "{name}, then {same}: {}", upgrade.text);
            if upgrade.status == 101 {
                sockets.push(upgrade);
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_header_may_come_in_pieces_and_must_be_whole() {
    let node = node_that_wants_a_header(|_| ()).await;
    let mut n_cut = 0;
    for (name, header) in headers_of([203, 0, 113, 1]) {
        let mut slow = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
        slow.set_nodelay(true).expect("a TCP stream");
        for byte in &header {
            slow.write_all(&[*byte]).await.expect("it is read");
            tokio::task::yield_now().await;
        }
        slow.write_all(GET_HEALTH.as_bytes()).await.expect("it is read");
        assert_eq!(read_answer(slow).await.map(|answer| answer.status), Some(200), "{name}");

        for n_bytes in 0..header.len() {
            let mut cut = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
            cut.write_all(&header[..n_bytes]).await.expect("it is read");
            cut.shutdown().await.expect("an end");
            assert!(read_answer(cut).await.is_none(), "{name}, {n_bytes} bytes");
            n_cut += 1;
        }
    }
    assert_eq!(n_failed_headers(&node).await, n_cut);
}

#[tokio::test]
async fn without_a_proxy_header_a_connection_from_a_proxy_ends() {
    let node = node_that_wants_a_header(|_| ()).await;
    let too_long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0"[..], &[1; 4096]].concat();
    let garbage: [&[u8]; 5] =
        [b"", b"PROXY TCP4 a b c d\r\n", b"PROXY UDP4 1.1.1.1 2.2.2.2 1 1\r\n", &[b'P'; 300], &too_long];
    for (n_before, bytes) in garbage.into_iter().enumerate() {
        assert!(answer(&node, bytes, GET_HEALTH).await.is_none(), "{bytes:?}");
        assert_eq!(n_failed_headers(&node).await, n_before as u64 + 1, "{bytes:?}");
    }
    // A header that never ends has as long as the head of a request.
    let mut slow = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    slow.write_all(b"PROXY TCP4 203.0.113.1").await.expect("it is read");
    assert!(read_answer(slow).await.is_none(), "it is closed in time");
    assert_eq!(n_failed_headers(&node).await, garbage.len() as u64 + 1);
}

/// How many PROXY headers have failed. The test asks as a proxy for itself.
async fn n_failed_headers(node: &Node) -> u64 {
    let metrics = answer(node, LOCAL, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("metrics");
    let sample =
        metrics.text.lines().find_map(|line| line.strip_prefix("rollcall_limited_total{limit=\"proxy_header\"} "));
    sample.expect("the counter").parse().expect("a number")
}

#[tokio::test]
async fn from_others_a_proxy_header_is_never_read() {
    let node = Node::start_with(|settings| {
        settings.server.trusted_proxies = vec!["192.0.2.1".to_owned()];
        settings.server.proxy_protocol = ProxyProtocol::On;
    })
    .await;
    let [header] = [&headers_of([203, 0, 113, 1])["version 1"]];
    assert_eq!(answer(&node, header, GET_HEALTH).await.map(|answer| answer.status), Some(400));
    assert_eq!(node.get_raw("/healthz").await.status, 200, "and none is needed");
}

#[tokio::test]
async fn who_comes_through_a_proxy_does_not_speak_for_the_applications_server() {
    let request = "GET /api/rooms HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let node = node_that_wants_a_header(|_| ()).await;
    for (name, header) in headers_of([203, 0, 113, 1]).into_iter().chain(headers_of([127, 0, 0, 1])) {
        let refused = answer(&node, &header, request).await.expect("an answer");
        assert!(refused.status == 403 && refused.has_code("loopback_only"), "{name}: {}", refused.text);
    }
    assert_eq!(answer(&node, LOCAL, request).await.map(|answer| answer.status), Some(200), "the proxy's own machine");

    let node = Node::start_with(|_| ()).await;
    assert_eq!(node.get("/api/rooms").await.0, 200);
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let refused = node.request(Method::GET, "/api/rooms", &[(name, "127.0.0.1")], "").await;
        assert_eq!(refused.status, 403, "{name}: {refused:?}");
    }
}
