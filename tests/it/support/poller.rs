//! Polling in the background: one GET waits all the time, and POSTs go out one after the other.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::DEADLINE;
use super::polling::{POLLING, SEPARATOR};
use super::sio_client::Ended;

/// A session that polls. It breaks off on Drop.
pub(crate) struct Poller {
    fetched: mpsc::UnboundedReceiver<Result<String, Ended>>,
    to_post: mpsc::UnboundedSender<Post>,
    tasks: [JoinHandle<()>; 2],
}

/// A packet that waits for the next POST.
struct Post {
    packet: String,
    is_taken: oneshot::Sender<()>,
}

/// A GET may wait for 20 s, and the node may be stopped meanwhile.
const REQUEST: Duration = Duration::from_secs(60);

impl Poller {
    /// Begins a session with this in the query. The error is why there is none.
    pub(crate) async fn begin(addr: SocketAddr, query: &str) -> Result<Poller, String> {
        // Each request has a connection of its own. So a client that breaks off leaves none.
        let http = Client::builder().timeout(REQUEST).no_proxy().pool_max_idle_per_host(0).build();
        let http = http.expect("an HTTP client can be built");
        let open = get(&http, &format!("http://{addr}{POLLING}&{query}")).await?;
        let open: Value = open.strip_prefix('0').and_then(|open| serde_json::from_str(open).ok()).ok_or("no packet")?;
        let url = format!("http://{addr}{POLLING}&sid={}", open["sid"].as_str().ok_or("no sid")?);
        let (fetch, fetched) = mpsc::unbounded_channel();
        let (to_post, posts) = mpsc::unbounded_channel();
        let tasks =
            [tokio::spawn(fetch_all(http.clone(), url.clone(), fetch)), tokio::spawn(post_all(http, url, posts))];
        Ok(Poller { fetched, to_post, tasks })
    }

    /// The next packet, or how the session ended.
    ///
    /// # Cancel safety
    /// No packet is lost.
    pub(crate) async fn next(&mut self) -> Result<String, Ended> {
        self.fetched.recv().await.unwrap_or_else(|| Err((1006, "it broke off".to_owned())))
    }

    /// Sends a packet, and returns once the node has taken it. A failure shows as the end of the session.
    pub(crate) async fn post(&self, packet: &str) {
        let (taken, is_taken) = oneshot::channel();
        let _ = self.to_post.send(Post { packet: packet.to_owned(), is_taken: taken });
        let _ = tokio::time::timeout(DEADLINE, is_taken).await;
    }

    /// Asks for nothing any more. A GET that waits ends unanswered.
    pub(crate) fn break_off(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.break_off();
    }
}

async fn fetch_all(http: Client, url: String, fetch: mpsc::UnboundedSender<Result<String, Ended>>) {
    loop {
        let payload = match get(&http, &url).await {
            Ok(payload) => payload,
            Err(error) => {
                let _ = fetch.send(Err((1006, error)));
                return;
            }
        };
        for packet in payload.split(SEPARATOR) {
            let is_end = packet == "1";
            let packet = if is_end { Err((1005, "the node closed".to_owned())) } else { Ok(packet.to_owned()) };
            if fetch.send(packet).is_err() || is_end {
                return;
            }
        }
    }
}

/// All packets that wait are one POST, as those of the official client are.
async fn post_all(http: Client, url: String, mut posts: mpsc::UnboundedReceiver<Post>) {
    while let Some(first) = posts.recv().await {
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| posts.try_recv().ok()));
        let packets: Vec<&str> = batch.iter().map(|post| post.packet.as_str()).collect();
        let body = packets.join(&SEPARATOR.to_string());
        let post = || http.post(&url).header("content-type", "text/plain;charset=UTF-8").body(body.clone());
        if ask(post).await.is_err() {
            return;
        }
        for post in batch {
            let _ = post.is_taken.send(());
        }
    }
}

async fn get(http: &Client, url: &str) -> Result<String, String> {
    ask(|| http.get(url)).await
}

/// Makes a request, and returns the body of the answer. With a 408, the node has not read the request, because it stood still. So
/// the request is made again.
async fn ask(request: impl Fn() -> RequestBuilder) -> Result<String, String> {
    loop {
        let answer = request().send().await.map_err(|error| format!("{error:?}"))?;
        let (status, body) = (answer.status(), answer.text().await.map_err(|error| format!("{error:?}"))?);
        match status {
            StatusCode::REQUEST_TIMEOUT => {}
            _ if status.is_success() => return Ok(body),
            _ => return Err(format!("{status} {body}")),
        }
    }
}
