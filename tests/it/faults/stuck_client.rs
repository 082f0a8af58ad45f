//! A client that stops reading is its own problem.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::support::raw_ws::{FIN, TEXT, frame};
use crate::support::shared::http::upgrade_request;

/// A client that reads, and makes as little of it as possible: a hundred of them read hundreds of megabytes.
struct Reader {
    stream: TcpStream,
    /// The end of what was read, for what is searched may come in two pieces.
    tail: Vec<u8>,
    n_bytes: usize,
}

impl Reader {
    async fn join(node: &Endpoint, user: &str) -> Reader {
        let mut stream = TcpStream::connect(node.addr()).await.expect("the node accepts");
        let request = upgrade_request(&format!("/ws?userId={user}"));
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut reader = Reader { stream, tail: Vec::new(), n_bytes: 0 };
        reader.read_until("online_users_list").await;
        reader
    }

    /// Reads on until this has come.
    async fn read_until(&mut self, needle: &str) {
        let read = async {
            let mut buffer = vec![0; 256 * 1024];
            while !String::from_utf8_lossy(&self.tail).contains(needle) {
                let count = self.stream.read(&mut buffer).await.expect("the socket stays open");
                assert!(count > 0, "the socket stays open");
                self.n_bytes += count;
                self.tail.extend_from_slice(&buffer[..count]);
                let old = self.tail.len().saturating_sub(64 * 1024);
                self.tail.drain(..old);
            }
            // In place of pongs.
            let sign_of_life = frame(FIN | TEXT, br#"{"type":"user_activity"}"#);
            self.stream.write_all(&sign_of_life).await.expect("the socket stays open");
        };
        let read = tokio::time::timeout(6 * DEADLINE, read).await;
        read.unwrap_or_else(|_| panic!("no {needle} in {} bytes", self.n_bytes));
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_beside_a_hundred_that_read_costs_them_nothing() {
    const N_READERS: usize = 100;
    const PROFILE_BYTES: usize = 15_000;
    let mut settings = test_settings();
    settings.limits.profile_bytes = 16_000;
    settings.limits.request_burst = 1_000_000;
    // The least: what is not kept for the one must not be missed by the others.
    settings.fanout.log_bytes = 64 * 1024;
    settings.websocket.ping_interval = Duration::from_millis(1000);
    settings.websocket.silence_timeout = Duration::from_millis(4000);
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let watch = Listener::join(node.addr(), "watch").await;
    let mut readers = Vec::new();
    for number in 0..N_READERS {
        readers.push(Reader::join(&node, &format!("reader-{number}")).await);
    }
    let mut stuck = node.join("stuck").await;
    let mut speaker = node.ws("/ws?userId=speaker").await;
    speaker.expect_type("welcome").await;

    // Every change of the speaker's profile is told to all, and read by the hundred before the next is made: so only the
    // stuck one can fall behind. Its kernel takes some megabytes, then nothing; nor does it answer pings.
    let mut n_changes = 0;
    while !watch.heard().events.iter().any(|event| event.is("user_offline", "stuck")) {
        n_changes += 1;
        let name = format!("<{n_changes}>{}", "x".repeat(PROFILE_BYTES));
        speaker.send_json(json!({"type": "join_user", "userId": "speaker", "name": name})).await;
        speaker.wait_for(|frame| frame["type"] == "online_users_list").await;
        for reader in &mut readers {
            reader.read_until(&format!("<{n_changes}>")).await;
        }
    }
    assert_eq!(watch.wait_for("user_offline", "stuck").await.frame["reason"], "timed_out");
    for reader in &readers {
        assert!(reader.n_bytes > n_changes * PROFILE_BYTES, "every reader got everything");
    }
    // It was closed with 4001. Whether it ever reads that, behind all it has not read, is up to its kernel.
    let (code, reason) = stuck.expect_close().await;
    assert!([4001, 1006].contains(&code), "{code} {reason}");
    watch.assert_sound();
}
