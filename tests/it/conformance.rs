//! RFC 6455, section by section, against a node over a raw socket: what a client may send and how it is answered, and how a
//! client that may not is refused. What the messages mean is in `protocol.rs`.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::raw_ws::{CLOSE, FIN, Frame, PING, TEXT, frame, handshake};
use crate::support::*;

/// The largest message of these nodes: such that each of the three forms of a length is of use.
const LIMIT: usize = 70_000;

/// The bit that says in the second byte that a mask follows.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [1, 2, 3, 4];

async fn node() -> Node {
    let mut settings = test_settings();
    settings.websocket.max_frame_bytes = LIMIT;
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    node
}

/// A close frame.
fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Asserts that a socket that sends these bytes is closed with this code, and nothing else is said.
async fn assert_fails(node: &Node, what: &str, bytes: &[u8], code: u16) {
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    socket.send(bytes).await;
    let Frame { opcode, payload } = socket.next_frame().await.unwrap_or_else(|| panic!("{what}: no close frame"));
    assert_eq!((opcode, payload.get(..2)), (CLOSE, Some(&code.to_be_bytes()[..])), "{what}");
    socket.expect_orderly_end().await;
}

// Section 4: the opening handshake.

/// What a node answers to a request as it stands, until it closes.
async fn answer_to(node: &Node, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.addr()).await.expect("the node listens");
    stream.write_all(request).await.expect("the node reads");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    read.unwrap_or_else(|_| panic!("the node does not close after {answer}")).expect("it closes in order");
    answer
}

#[tokio::test]
async fn section_4_2_1_what_is_no_handshake_is_told_to_upgrade() {
    let node = node().await;
    // A good one, and what is wrong with it.
    for (good, bad) in [
        ("GET ", "POST "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Connection: Upgrade", "Connection: close"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 14"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ!!"),
    ] {
        let answer = answer_to(&node, handshake("/ws?userId=ada").replace(good, bad).as_bytes()).await;
        assert_eq!(answer.get(8..13), Some(" 426 "), "{bad}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.to_lowercase().contains("\r\nsec-websocket-version: 13\r\n"), "{bad}: {head}");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["code"], "not_a_websocket_handshake", "{bad}: {body}");
    }
    // That one is no HTTP/1.1 request either.
    let answer = answer_to(&node, handshake("/ws?userId=ada").replace("Host: test\r\n", "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = node.get_raw("/ws?userId=ada").await;
    assert_eq!((answer.status, &answer.headers["upgrade"]), (426, &"websocket".parse().expect("a header")));
    assert_eq!(serde_json::from_str::<Value>(&answer.body).expect("JSON")["code"], "not_a_websocket_handshake");
    assert_eq!(node.online_ids().await, NOBODY);
}

#[tokio::test]
async fn section_4_2_2_the_answer_proves_that_the_key_was_read_and_grants_no_extension() {
    let node = node().await;
    // As another client would write it: names and tokens in other letters, and offers that are not taken.
    let request = handshake("/ws")
        .replace("Upgrade: websocket\r\nConnection: Upgrade", "upgrade: WebSocket\r\nconnection: keep-alive, upgrade")
        .replace("dGhlIHNhbXBsZSBub25jZQ==", "x3JJHMbDL1EzLkh9GBhXDw==")
        .replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        );
    // With a close frame behind it, so that the answer ends.
    let answer = answer_to(&node, &[request.as_bytes(), &close(1000, b"")].concat()).await;
    let head = answer.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{answer}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{answer}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{answer}");
    assert!(answer.contains(": HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n"), "{answer}");
    assert!(!head.contains("sec-websocket-protocol") && !head.contains("sec-websocket-extensions"), "{answer}");
}

// Section 7: closing.

#[tokio::test]
async fn section_7_1_7_a_client_that_goes_on_sending_hears_why_it_was_refused() {
    let node = node().await;
    // Far more than is read at once: whoever closes a connection with bytes unread resets it.
    let flood = vec![b'x'; 1024 * 1024];
    for (what, bytes, code) in [
        ("a reserved bit", frame(0x40 | FIN | TEXT, b"{}"), 1002),
        ("a text that is not UTF-8", frame(FIN | TEXT, b"\xFF"), 1007),
        (
            "a frame that is too large",
            [&[FIN | TEXT, MASKED | 127, 0, 0, 0, 0, 0, 0x80, 0, 0][..], &MASK].concat(),
            1009,
        ),
    ] {
        assert_fails(&node, what, &[&bytes[..], &flood].concat(), code).await;
    }
}

#[tokio::test]
async fn section_7_1_7_nothing_is_answered_after_a_violation() {
    let node = node().await;
    let mut watcher = node.join("watcher").await;
    let rest =
        [frame(FIN | TEXT, br#"{"type":"join_user","userId":"ghost"}"#), frame(FIN | PING, b"?"), close(1000, b"")];
    let bytes = [frame(FIN | TEXT, b"\xFF"), rest.concat()].concat();
    assert_fails(&node, "a text that is not UTF-8", &bytes, 1007).await;
    assert_eq!(watcher.fence().await, NOTHING);
}
