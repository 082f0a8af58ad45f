//! HEAD gets the status and the headers of GET, and no body. The tests use raw connections, because a client library
//! hides a body that should not be there.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::shared::http::{head_length, upgrade_request};
use crate::support::*;

/// A status and headers. Headers that differ from answer to answer are left out.
type Head = (u16, BTreeMap<String, String>);

/// One connection. The length of an answer alone says where the next answer begins.
struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    async fn open(node: &Endpoint) -> Self {
        Self { stream: TcpStream::connect(node.addr()).await.expect("the node listens"), unread: Vec::new() }
    }

    /// Sends these requests at once. Each is a method and a path.
    async fn send(&mut self, requests: &[(&str, &str)]) {
        let requests: String =
            requests.iter().map(|(method, path)| format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
        self.stream.write_all(requests.as_bytes()).await.expect("the node reads");
    }

    /// The next answer. It must be an answer to GET.
    async fn answer(&mut self) -> (Head, String) {
        let head = self.head().await;
        let length: usize = head.1["content-length"].parse().expect("a length");
        while self.unread.len() < length {
            self.read().await;
        }
        let body = self.unread.drain(..length).collect();
        (head, String::from_utf8(body).expect("UTF-8"))
    }

    /// The next answer. It must be an answer to HEAD, which ends where its headers end. If it had a body, the body
    /// would be read as the beginning of the answer after it.
    async fn head(&mut self) -> Head {
        let end = loop {
            match head_length(&self.unread) {
                Some(length) => break length,
                None => self.read().await,
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).expect("UTF-8");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
        let headers = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")));
        let headers = headers.filter(|(name, _)| *name != "date");
        (status, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn read(&mut self) {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.unread)).await;
        let count = read.unwrap_or_else(|_| panic!("no more after {:?}", String::from_utf8_lossy(&self.unread)));
        assert_ne!(count.expect("the connection stays"), 0, "the connection ended");
    }
}

async fn node() -> Node {
    Node::start_with(|_| ()).await
}

/// Every resource, an error of one resource, and a path that does not exist.
const PATHS: [&str; 16] = [
    "/api/online-users",
    "/api/online-users?countOnly=true",
    "/api/online-users?limit=0",
    "/api/users/nobody/explain",
    "/api/users/nobody/sockets",
    "/api/chatroom/nobody/online-users",
    "/api/rooms",
    "/api/nodes",
    "/healthz",
    "/readyz",
    "/metrics",
    "/ws",
    "/",
    "/page/page.css",
    "/docs",
    "/nowhere",
];

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let node = node().await;
    let _ada = node.join("ada").await;
    let mut connection = Connection::open(&node).await;
    for path in PATHS {
        connection.send(&[("GET", path)]).await;
        let (mut get, body) = connection.answer().await;
        assert!(!body.is_empty(), "{path}");
        connection.send(&[("HEAD", path)]).await;
        let mut head = connection.head().await;
        if ["/metrics", "/api/nodes"].contains(&path) {
            // Counters grow between the two answers.
            let lengths = [&mut get, &mut head].map(|(_, headers)| headers.remove("content-length"));
            assert!(lengths.iter().all(Option::is_some), "{lengths:?}");
        }
        assert_eq!(head, get, "{path}");
        // If a body had come, it would be read as the next answer.
        connection.send(&[("GET", "/healthz")]).await;
        assert_eq!(connection.answer().await.0.0, 200, "after HEAD {path}");
    }
}

#[tokio::test]
async fn a_get_sent_together_with_a_head_has_its_body() {
    let node = node().await;
    let mut connection = Connection::open(&node).await;
    // Only two requests are sent. From the third request on, actix-http 3.20 goes by the method of the last request
    // that it has read. Then a GET may lose its body, or a HEAD may get one (docs/http.md, "All requests").
    connection.send(&[("HEAD", "/api/online-users"), ("GET", "/healthz")]).await;
    assert_eq!(connection.head().await.0, 200);
    let (head, body) = connection.answer().await;
    assert_eq!((head.0, &*body), (200, r#"{"success":true,"status":"alive"}"#));
}

#[tokio::test]
async fn head_cannot_open_a_websocket() {
    let node = node().await;
    let mut connection = Connection::open(&node).await;
    let request = upgrade_request("/ws?userId=ada").replace("GET ", "HEAD ");
    connection.stream.write_all(request.as_bytes()).await.expect("the node reads");
    let (status, headers) = connection.head().await;
    assert_eq!((status, &*headers["upgrade"]), (426, "websocket"));
    let mut rest = Vec::new();
    timeout(DEADLINE, connection.stream.read_to_end(&mut rest)).await.expect("an end in time").expect("an end");
    assert_eq!((String::from_utf8_lossy(&connection.unread), &*rest), ("".into(), &b""[..]));
}

#[tokio::test]
async fn pages_may_ask_with_head() {
    let node = node().await;
    let preflight = [("origin", "https://chat.example.com"), ("access-control-request-method", "HEAD")];
    let answer = node.request(reqwest::Method::OPTIONS, "/api/online-users", &preflight, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut allowed: Vec<_> =
        answer.headers["access-control-allow-methods"].to_str().expect("a text").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST", "PUT"]);
}
