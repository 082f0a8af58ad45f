//! What every node has, in a thread or a process: an address, an id, and the questions a test asks over HTTP.
//!
//! [`super::Node`] and [`super::NodeProcess`] dereference to an [`Endpoint`], so a test writes
//! `node.get("/api/online-users").await` to either.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{DEADLINE, WsClient, eventually_eq_within};

/// A node as a client sees it.
pub(crate) struct Endpoint {
    addr: SocketAddr,
    listens_on: SocketAddr,
    node_id: String,
    http: reqwest::Client,
}

/// An HTTP answer before anything is made of it.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: reqwest::header::HeaderMap,
    /// The body.
    pub(crate) body: String,
}

impl Endpoint {
    /// The endpoint of the node that listens on `addr`.
    pub(crate) fn new(addr: SocketAddr, node_id: String) -> Endpoint {
        let http = reqwest::Client::builder()
            .timeout(DEADLINE)
            // The proxy of the environment is for the world outside.
            .no_proxy()
            // A kept connection would be one more thing that a drain closes or that a killed node leaves behind.
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client can be built");
        Endpoint { addr, listens_on: addr, node_id, http }
    }

    /// Where clients of the tests find the node.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the node listens, if a tunnel leads there.
    pub(crate) fn listens_on(&self) -> SocketAddr {
        self.listens_on
    }

    /// Clients of the tests find the node at this address from now on.
    pub(super) fn lead_through(&mut self, addr: SocketAddr) {
        self.addr = addr;
    }

    /// The id the node gave itself at this start.
    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Connects a WebSocket, for example to `/ws?userId=42`.
    pub(crate) async fn ws(&self, path: &str) -> WsClient {
        WsClient::connect(self.addr, path).await
    }

    /// Connects a WebSocket as this user and reads `welcome` and the first `online_users_list`: what the client reads
    /// next are events.
    pub(crate) async fn join(&self, user_id: &str) -> WsClient {
        let mut client = self.ws(&format!("/ws?userId={}", percent_encoded(user_id))).await;
        client.expect_type("welcome").await;
        client.expect_type("online_users_list").await;
        client
    }

    /// GET: the status and the JSON body.
    ///
    /// # Panics
    /// When the node does not answer in time, or the body is no JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.get_raw(path).await;
        let body = serde_json::from_str(&answer.body);
        (answer.status, body.unwrap_or_else(|error| panic!("GET {path}: {error} in {answer:?}")))
    }

    /// GET: status, headers and body as they came.
    pub(crate) async fn get_raw(&self, path: &str) -> HttpAnswer {
        self.request(reqwest::Method::GET, path, &[], "").await
    }

    /// Any request: `node.request(Method::PUT, "/healthz", &[("origin", "https://example.com")], "").await`.
    pub(crate) async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpAnswer {
        let what = format!("{method} http://{}{path}", self.addr);
        self.try_request(method, path, headers, body).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Joins as the request says, and waits until the socket is online.
    pub(crate) async fn join_as(&self, mut request: Value) -> WsClient {
        request["type"] = "join_user".into();
        let mut client = self.ws("/ws").await;
        client.send_json(request).await;
        client.expect_type("welcome").await;
        client.expect_type("online_users_list").await;
        client
    }

    /// Whether the node says that it may be out of date.
    pub(crate) async fn is_degraded(&self) -> Option<bool> {
        self.get("/readyz").await.1["degraded"].as_bool()
    }

    /// Opens an HTTP connection and asks something over it. The answer says that the connection has its place. Without
    /// it, a later connection could take the place first.
    ///
    /// # Panics
    /// When there is no place in time. A place may be free a moment after the client of the last connection has let go.
    pub(crate) async fn open_http(&self) -> TcpStream {
        let mut last = None;
        let is_open = async || {
            let mut stream = TcpStream::connect(self.addr).await.expect("the kernel takes it");
            let mut answer = [0; 12];
            let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let read = async { asked.and(stream.read_exact(&mut answer).await) };
            let is_answered = tokio::time::timeout(DEADLINE, read).await.expect("an answer in time").is_ok();
            last = Some(stream);
            is_answered && &answer == b"HTTP/1.1 200"
        };
        eventually_eq_within(DEADLINE, is_open, true, "there is a place").await;
        last.expect("it is open")
    }

    /// Begins a POST whose JSON has `n_bytes`, and never sends the last one.
    pub(crate) async fn unfinished_post(&self, path: &str, n_bytes: usize) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("the kernel takes it");
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json", self.addr);
        let head = format!("{head}\r\nContent-Length: {n_bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it is read");
        stream.write_all(&vec![b' '; n_bytes - 1]).await.expect("it is read");
        stream
    }

    /// A counter without labels, as the node's `/metrics` tells it.
    ///
    /// # Panics
    /// When it is not there.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        self.sample(name).await
    }

    /// A metric without labels, as the node's `/metrics` tells it.
    ///
    /// # Panics
    /// When it is not there.
    pub(crate) async fn sample<T: std::str::FromStr>(&self, name: &str) -> T {
        let text = self.get_raw("/metrics").await.body;
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let sample = sample.unwrap_or_else(|| panic!("no {name} in {text}"));
        sample.parse().unwrap_or_else(|_| panic!("{name} is {sample:?}"))
    }

    /// The ids of all online users as this node lists them, sorted; read in pages with `limit` and `nextCursor`.
    ///
    /// # Panics
    /// When a page is refused, or a user is listed twice.
    pub(crate) async fn online_ids(&self) -> Vec<String> {
        let mut ids = BTreeSet::new();
        let mut cursor: Option<String> = None;
        loop {
            let from = cursor.as_deref().map(|cursor| format!("&cursor={}", percent_encoded(cursor)));
            let path = format!("/api/online-users?limit={PAGE}{}", from.unwrap_or_default());
            let (status, body) = self.get(&path).await;
            assert_eq!((status, &body["success"]), (200, &Value::Bool(true)), "GET {path}: {body}");
            let page = body["data"].as_array().unwrap_or_else(|| panic!("GET {path}: no `data` in {body}"));
            for user in page {
                let id = user["id"].as_str().unwrap_or_else(|| panic!("GET {path}: no `id` in {user}"));
                assert!(ids.insert(id.to_owned()), "GET {path}: `{id}` is listed twice");
            }
            match body["nextCursor"].as_str() {
                Some(next) => {
                    // Without this an endless list of empty pages would be an endless test.
                    assert!(!page.is_empty(), "GET {path}: an empty page has a next one: {body}");
                    cursor = Some(next.to_owned());
                }
                None => return ids.into_iter().collect(),
            }
        }
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn wait_ready(&self) {
        let status = async || match self.try_request(reqwest::Method::GET, "/readyz", &[], "").await {
            Ok(answer) if answer.status == 200 => Ok(200),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
            Err(error) => Err(format!("{error:?}")),
        };
        eventually_eq_within(READY_DEADLINE, status, Ok(200), &format!("/readyz of {} answers 200", self.addr)).await;
    }

    /// Waits until the node lets clients in. It may still wait for other nodes to say who is online.
    pub(crate) async fn wait_until_it_serves(&self) {
        let serves = async || self.get_raw("/api/online-users?limit=1").await.status;
        eventually_eq_within(READY_DEADLINE, serves, 200, &format!("{} lets clients in", self.addr)).await;
    }

    /// A request whose failure is not the test's.
    async fn try_request(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> reqwest::Result<HttpAnswer> {
        let mut request = self.http.request(method, format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.to_owned()).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(HttpAnswer { status, headers, body: response.text().await? })
    }
}

/// A node on an empty Redis is ready after one lease, which is 10 s by default.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Users a page of [`Endpoint::online_ids`]: small enough that tests with some hundred users page, too.
const PAGE: usize = 100;

/// A query value with everything encoded that is not plain.
pub(crate) fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[test]
fn a_query_value_is_encoded_byte_by_byte() {
    assert_eq!(percent_encoded("a-1 ü&%"), "a-1%20%C3%BC%26%25");
}
