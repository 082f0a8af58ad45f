//! The WebSocket client of the tests.
//!
//! ```ignore
//! let mut ada = WsClient::connect(node.addr(), "/ws?userId=ada").await;
//! let welcome = ada.expect_type("welcome").await;
//! ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "bob").await;
//! ada.send_json(json!({"type": "leave"})).await;
//! assert_eq!(ada.fence().await, NOTHING);    // nothing else was told so far
//! ```
//!
//! Nothing is read in the background: a client that is not asked for frames is a slow one, and answers no ping. Every
//! wait has a deadline of [`DEADLINE`] and fails with what the client saw instead. Dropping a client closes the TCP
//! stream without a close frame (the server sees 1006); [`WsClient::abort`] resets it.

use std::fmt::{self, Display, Write as _};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::DEADLINE;

/// One WebSocket.
pub(crate) struct WsClient {
    stream: WebSocketStream<TcpStream>,
    /// Names the client in failures.
    url: String,
}

/// What a server answered instead of the upgrade.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Refusal {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in the refusal {self:?}"))
    }
}

impl WsClient {
    /// Connects to `addr` ("127.0.0.1:8080") at a path with its query ("/ws?userId=42").
    ///
    /// # Panics
    /// When the server refuses; [`WsClient::try_connect`] expects that.
    pub(crate) async fn connect(addr: impl Display, path: &str) -> WsClient {
        match WsClient::try_connect(&addr, path).await {
            Ok(client) => client,
            Err(refusal) => panic!("ws://{addr}{path} refused the upgrade: {refusal:?}"),
        }
    }

    /// Connects, or says how the server refused the upgrade.
    ///
    /// # Panics
    /// When nobody listens, or what is there does not speak HTTP.
    pub(crate) async fn try_connect(addr: impl Display, path: &str) -> Result<WsClient, Refusal> {
        let url = format!("ws://{addr}{path}");
        let connected = in_time(&url, "a TCP connection", TcpStream::connect(addr.to_string())).await;
        let stream = connected.unwrap_or_else(|error| panic!("{url}: cannot connect: {error}"));
        stream.set_nodelay(true).unwrap_or_else(|error| panic!("{url}: {error}"));
        // The handshake keeps the stream for itself when it fails, and hands out only the part of the body that came
        // with the headers; the rest is read from this second handle of the same socket.
        let (stream, rest) = two_handles(stream);
        match in_time(&url, "the upgrade", tokio_tungstenite::client_async(&url, stream)).await {
            Ok((stream, _)) => Ok(WsClient { stream, url }),
            Err(Error::Http(response)) => {
                let headers: Vec<_> = response
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                    .collect();
                let status = response.status().as_u16();
                let mut body = response.into_body().unwrap_or_default();
                let length = headers.iter().find(|(name, _)| name == "content-length");
                let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(body.len());
                let missing = length.saturating_sub(body.len()) as u64;
                let read = in_time(&url, "the whole refusal", rest.take(missing).read_to_end(&mut body)).await;
                read.unwrap_or_else(|error| panic!("{url}: the refusal broke off: {error}"));
                Err(Refusal { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
            }
            Err(error) => panic!("{url}: the upgrade failed: {error}"),
        }
    }

    /// Sends a JSON frame.
    pub(crate) async fn send_json(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a text frame, JSON or not.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends a binary frame.
    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.send(Message::binary(bytes.to_vec())).await;
    }

    /// The next frame.
    ///
    /// # Panics
    /// When none comes in time, it is no JSON text, or the socket ends.
    pub(crate) async fn next_json(&mut self) -> Value {
        self.next_before(Instant::now() + DEADLINE, "a frame", &[]).await
    }

    /// The next frame, which must have this `type`.
    pub(crate) async fn expect_type(&mut self, expected: &str) -> Value {
        let frame = self.next_before(Instant::now() + DEADLINE, &format!("`{expected}`"), &[]).await;
        assert_eq!(frame["type"], expected, "{}: expected `{expected}`, the next frame is {frame}", self.url);
        frame
    }

    /// Skips frames until one matches, and returns that one.
    ///
    /// # Panics
    /// When none does in time; the message shows all skipped frames.
    pub(crate) async fn wait_for(&mut self, matches: impl FnMut(&Value) -> bool) -> Value {
        self.collect_until(matches).await.pop().expect("the last frame is the one that matched")
    }

    /// Collects frames until one matches; the last one is the match. Panics like [`WsClient::wait_for`].
    pub(crate) async fn collect_until(&mut self, mut matches: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + DEADLINE;
        let mut frames = Vec::new();
        loop {
            let frame = self.next_before(deadline, "a frame that matches", &frames).await;
            let is_match = matches(&frame);
            frames.push(frame);
            if is_match {
                return frames;
            }
        }
    }

    /// Everything the node has told this socket so far: asks a question, and returns the frames before its answer.
    ///
    /// On one socket a node keeps the order, so what is not among them was not told when the node read the question.
    /// That is how a test says that *no* event came, without waiting for nothing. Whatever the event is about must have
    /// reached this node before: let another listener of the same node hear of it, or of something later.
    pub(crate) async fn fence(&mut self) -> Vec<Value> {
        static FENCES: AtomicU64 = AtomicU64::new(0);
        let mark = Value::from(format!("fence-{}", FENCES.fetch_add(1, Ordering::Relaxed)));
        self.send_json(json!({"type": "check_user_online", "userId": "fence", "ref": mark})).await;
        let mut frames = self.collect_until(|frame| frame["ref"] == mark).await;
        let answer = frames.pop().expect("the last frame is the answer");
        assert_eq!(answer["type"], "user_online_status", "{}: the fence was answered with {answer}", self.url);
        frames
    }

    /// Reads to the end of the socket and returns the code and reason of the server's close frame: 1005 for a close
    /// without a code, 1006 for an end without a close frame, as browsers report them. Frames before it are skipped.
    ///
    /// # Panics
    /// When the socket does not end in time, that is, the server sent no close frame or left the TCP stream open after
    /// the answer; the message says which, and shows the skipped frames.
    pub(crate) async fn expect_close(&mut self) -> (u16, String) {
        let deadline = Instant::now() + DEADLINE;
        let mut skipped = Vec::new();
        let mut close = None;
        loop {
            match timeout_at(deadline, self.stream.next()).await {
                Ok(Some(Ok(Message::Close(frame)))) => close = Some(code_and_reason(frame)),
                Ok(Some(Ok(Message::Text(text)))) => skipped.push(Value::from(text.as_str())),
                Ok(Some(Ok(_))) => {}
                Ok(None | Some(Err(_))) => return close.unwrap_or((1006, String::new())),
                Err(_) => match close {
                    Some(close) => panic!("{}: closed with {close:?}, but the TCP stream stays open", self.url),
                    None => panic!("{}: not closed within {DEADLINE:?}{}", self.url, Frames(&skipped)),
                },
            }
        }
    }

    /// Closes with a code (1005: a close frame without one) and waits until the server has closed the TCP stream.
    /// Frames that were still under way are lost.
    pub(crate) async fn close(mut self, code: u16) {
        let frame = (code != 1005).then(|| CloseFrame { code: code.into(), reason: "".into() });
        self.send(Message::Close(frame)).await;
        self.expect_close().await;
    }

    /// Drops the TCP stream with a reset, as a crashed client or a broken network does.
    pub(crate) fn abort(self) {
        self.stream.get_ref().set_zero_linger().unwrap_or_else(|error| panic!("{}: {error}", self.url));
    }

    async fn send(&mut self, message: Message) {
        let sent = in_time(&self.url, "the server to read", self.stream.send(message)).await;
        sent.unwrap_or_else(|error| panic!("{}: cannot send: {error}", self.url));
    }

    /// The next JSON frame; answers pings on the way.
    async fn next_before(&mut self, deadline: Instant, wanted: &str, skipped: &[Value]) -> Value {
        loop {
            let ended = match timeout_at(deadline, self.stream.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str(&text) {
                    Ok(frame) => return frame,
                    Err(error) => format!("got a text that is no JSON ({error}): {text}"),
                },
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Ok(Some(Ok(Message::Close(frame)))) => format!("was closed with {:?}", code_and_reason(frame)),
                Ok(Some(Ok(other))) => format!("got {other:?}"),
                Ok(Some(Err(error))) => format!("broke: {error}"),
                Ok(None) => "ended".to_owned(),
                Err(_) => format!("got nothing more within {DEADLINE:?}"),
            };
            panic!("{}: waited for {wanted}, and {ended}{}", self.url, Frames(skipped));
        }
    }
}

/// Two handles of one socket.
fn two_handles(stream: TcpStream) -> (TcpStream, TcpStream) {
    let stream = stream.into_std().expect("a fresh stream leaves the runtime");
    let second = stream.try_clone().expect("a socket can have a second handle");
    (TcpStream::from_std(stream).expect("it returns"), TcpStream::from_std(second).expect("it joins"))
}

/// The code and reason of a close frame; 1005 stands for an empty one. Source: RFC 6455 §7.1.5
fn code_and_reason(frame: Option<CloseFrame>) -> (u16, String) {
    frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()))
}

/// The outcome of a future that must end within [`DEADLINE`].
async fn in_time<T>(url: &str, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{url}: waited {DEADLINE:?} for {what}"),
    }
}

/// The frames that a failed wait has skipped, one a line.
struct Frames<'a>(&'a [Value]);

impl Display for Frames<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = String::new();
        for frame in self.0 {
            write!(lines, "\n  {frame}")?;
        }
        match self.0.len() {
            0 => formatter.write_str("; there was no frame before"),
            count => write!(formatter, "; {count} frames before:{lines}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::support::NOTHING;

    /// A server that runs `serve` on its first connection, and hands over what that returns.
    async fn server<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> (SocketAddr, tokio::task::JoinHandle<T>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (addr, tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await }))
    }

    /// A server that sends these frames after the upgrade, then answers fences until the socket ends.
    async fn telling(frames: &'static [&'static str]) -> (SocketAddr, tokio::task::JoinHandle<Option<Error>>) {
        server(async move |stream| {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            for frame in frames {
                socket.send(Message::text(*frame)).await.unwrap();
            }
            loop {
                match socket.next().await? {
                    Ok(Message::Text(text)) => {
                        let mut answer: Value = serde_json::from_str(&text).unwrap();
                        answer["type"] = "user_online_status".into();
                        socket.send(Message::text(answer.to_string())).await.unwrap();
                    }
                    Ok(_) => {}
                    Err(error) => return Some(error),
                }
            }
        })
        .await
    }

    /// The message of the panic that a future ends with.
    async fn panic_of<T>(future: impl Future<Output = T>) -> String {
        let panic = AssertUnwindSafe(future).catch_unwind().await.err().expect("it panics");
        panic.downcast_ref::<String>().expect("a formatted message").clone()
    }

    #[tokio::test]
    async fn frames_come_in_order_and_a_fence_returns_those_before_its_answer() {
        let (addr, _) = telling(&[r#"{"type":"a"}"#, r#"{"type":"b"}"#, r#"{"type":"c"}"#, r#"{"type":"d"}"#]).await;
        let mut client = WsClient::connect(addr, "/ws").await;
        assert_eq!(client.next_json().await, json!({"type": "a"}));
        client.expect_type("b").await;
        assert_eq!(client.fence().await, [json!({"type": "c"}), json!({"type": "d"})]);
        assert_eq!(client.fence().await, NOTHING);
    }

    #[tokio::test]
    async fn a_failed_wait_shows_what_came_instead() {
        let (addr, server) = telling(&[r#"{"type":"a"}"#, r#"{"type":"b"}"#]).await;
        let mut client = WsClient::connect(addr, "/ws").await;
        client.wait_for(|frame| frame["type"] == "b").await;
        server.abort();
        let message = panic_of(client.wait_for(|_| true)).await;
        assert!(message.contains("waited for a frame that matches"), "{message}");

        let (addr, _) = telling(&[r#"{"type":"a"}"#, "no json"]).await;
        let mut client = WsClient::connect(addr, "/ws").await;
        let message = panic_of(client.wait_for(|frame| frame["type"] == "never")).await;
        assert!(message.contains(r#"1 frames before:"#) && message.contains(r#"{"type":"a"}"#), "{message}");

        let (addr, _) = telling(&[r#"{"type":"a"}"#]).await;
        let mut client = WsClient::connect(addr, "/ws").await;
        let message = panic_of(client.expect_type("b")).await;
        assert!(message.contains(r#"expected `b`, the next frame is {"type":"a"}"#), "{message}");
    }

    #[tokio::test]
    async fn pings_are_answered_while_reading_and_binary_frames_arrive() {
        let (addr, server) = server(async |stream| {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            socket.send(Message::Ping(b"1".to_vec().into())).await.unwrap();
            socket.send(Message::text("{}")).await.unwrap();
            (socket.next().await.unwrap().unwrap(), socket.next().await.unwrap().unwrap())
        })
        .await;
        let mut client = WsClient::connect(addr, "/ws").await;
        client.next_json().await;
        client.send_binary(b"2").await;
        assert_eq!(server.await.unwrap(), (Message::Pong(b"1".to_vec().into()), Message::binary(b"2".to_vec())));
    }

    #[tokio::test]
    async fn the_servers_close_is_read_with_its_code_and_reason() {
        let (addr, _) = server(async |stream| {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let frame = CloseFrame { code: 1008.into(), reason: "User ID required".into() };
            socket.close(Some(frame)).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        })
        .await;
        let mut client = WsClient::connect(addr, "/ws").await;
        assert_eq!(client.expect_close().await, (1008, "User ID required".to_owned()));
    }

    #[tokio::test]
    async fn an_end_without_a_close_frame_is_1006() {
        let (addr, _) = server(async |stream| drop(tokio_tungstenite::accept_async(stream).await)).await;
        let mut client = WsClient::connect(addr, "/ws").await;
        assert_eq!(client.expect_close().await, (1006, String::new()));
    }

    #[tokio::test]
    async fn the_server_sees_how_a_client_goes() {
        /// The code the server got, or how the socket broke.
        async fn how_it_ended(stream: TcpStream) -> Result<(u16, String), String> {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let first = socket.next().await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
            match first {
                Ok(Message::Close(frame)) => Ok(code_and_reason(frame)),
                other => Err(format!("{other:?}")),
            }
        }
        for code in [1000, 1001, 1005] {
            let (addr, server) = server(how_it_ended).await;
            WsClient::connect(addr, "/ws").await.close(code).await;
            assert_eq!(server.await.unwrap(), Ok((code, String::new())));
        }
        let (addr, server) = server(how_it_ended).await;
        WsClient::connect(addr, "/ws").await.abort();
        let error = server.await.unwrap().unwrap_err();
        assert!(error.contains("ConnectionReset"), "{error}");
    }

    #[tokio::test]
    async fn a_refused_upgrade_is_returned_with_its_whole_body() {
        let (addr, _) = server(async |mut stream| {
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let head = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 16\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(br#"{"code":"#).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(br#""full" }"#).await.unwrap();
            // Held open: the client must not depend on the end of the stream.
            stream.read(&mut request).await
        })
        .await;
        let refusal = WsClient::try_connect(addr, "/ws").await.err().expect("a refusal");
        assert_eq!((refusal.status, refusal.header("retry-after")), (503, Some("2")));
        assert_eq!(refusal.json(), json!({"code": "full"}));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_the_server_up() {
        // The premise of the tests of slow clients: nothing is read in the background.
        let (addr, server) = server(async |stream| {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let megabyte = "x".repeat(1 << 20);
            // 32 MiB are more than the buffers of the kernel hold.
            for _ in 0..32 {
                if socket.send(Message::text(megabyte.as_str())).await.is_err() {
                    return "the client went before it had read";
                }
            }
            "everything was read"
        })
        .await;
        let client = WsClient::connect(addr, "/ws").await;
        drop(client);
        assert_eq!(server.await.unwrap(), "the client went before it had read");
    }
}
