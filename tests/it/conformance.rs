//! RFC 6455, section by section, against a node over a raw socket: what a client may send and how it is answered, and how a
//! client that may not is refused. What the messages mean is in `protocol.rs`.

use crate::support::raw_ws::{CLOSE, FIN, Frame, PING, TEXT, frame};
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
