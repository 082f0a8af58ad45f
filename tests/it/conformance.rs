//! RFC 6455, section by section, against a node over a raw socket: what a client may send and how it is answered, and how a
//! client that may not is refused. What the messages mean is in `protocol.rs`.

use std::time::Duration;

use rollcall::settings::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::raw_ws::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, frame};
use crate::support::shared::http::upgrade_request;
use crate::support::*;

/// The largest message of these nodes: such that each of the three forms of a length is of use.
const LIMIT: usize = 70_000;

/// The bit that says in the second byte that a mask follows.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [1, 2, 3, 4];

async fn node() -> Node {
    let mut settings = test_settings();
    settings.websocket.max_frame_bytes = LIMIT;
    start(settings).await
}

/// Starts a node. `tls.rs` has these tests, too, and there it encrypts.
async fn start(settings: Settings) -> Node {
    let node = if module_path!().contains("::tls::") {
        // Its files are read once.
        let pki = Pki::new();
        Node::spawn(encrypted(settings, &pki.issue("node"))).await
    } else {
        Node::spawn(settings).await
    };
    node.wait_ready().await;
    node
}

/// A request that anybody may send, of this many bytes. Its answer is a `user_online_status`.
fn request(length: usize) -> Vec<u8> {
    let start = r#"{"type":"check_user_online","userId":"Bjørn","pad":""#;
    format!("{start}{}\"}}", "x".repeat(length - start.len() - 2)).into_bytes()
}

/// A close frame.
fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// What a new socket is answered to these bytes, in order: the types of messages, the codes of errors, and the lengths of
/// pongs. The socket must survive them.
async fn answers(node: &Node, bytes: &[u8]) -> Vec<String> {
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    socket.send(&[bytes, &frame(FIN | PING, b"the end")].concat()).await;
    let mut answers = Vec::new();
    loop {
        let Frame { opcode, payload } = socket.next_frame().await.expect("the socket stays open");
        match opcode {
            PONG if payload == b"the end" => return answers,
            PONG => answers.push(format!("pong of {}", payload.len())),
            TEXT => {
                let json: Value = serde_json::from_slice(&payload).expect("a text frame is JSON");
                let told = json.get("code").unwrap_or(&json["type"]);
                answers.push(told.as_str().expect("a text").to_owned());
            }
            _ => panic!("{answers:?} and then {opcode:x}: {payload:?}"),
        }
    }
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
        let answer = answer_to(&node, upgrade_request("/ws?userId=ada").replace(good, bad).as_bytes()).await;
        assert_eq!(answer.get(8..13), Some(" 426 "), "{bad}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.to_lowercase().contains("\r\nsec-websocket-version: 13\r\n"), "{bad}: {head}");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["code"], "not_a_websocket_handshake", "{bad}: {body}");
    }
    // That one is no HTTP/1.1 request either.
    let answer =
        answer_to(&node, upgrade_request("/ws?userId=ada").replace("Host: localhost\r\n", "").as_bytes()).await;
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
    let request = upgrade_request("/ws")
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

// Section 5: data framing.

#[tokio::test]
async fn section_5_1_a_frame_may_come_in_any_pieces() {
    let node = node().await;
    let (text, ping) = (frame(FIN | TEXT, &request(130)), frame(FIN | PING, b"and on"));
    let bytes = [text.clone(), ping.clone(), text, ping].concat();
    for size in [1, 2, 3, 5, 100, 140] {
        let mut socket = RawWs::connect(node.addr(), "/ws").await;
        for piece in bytes.chunks(size) {
            socket.send(piece).await;
        }
        for _ in 0..2 {
            assert_eq!(socket.next_json().await["type"], "user_online_status", "in pieces of {size}");
            let pong = Frame { opcode: PONG, payload: b"and on".to_vec() };
            assert_eq!(socket.next_frame().await, Some(pong), "in pieces of {size}");
        }
    }
}

#[tokio::test]
async fn section_5_1_the_node_sends_whole_frames_without_a_mask_in_each_form_of_length() {
    let node = node().await;
    let mut ada = RawWs::connect(node.addr(), "/ws?userId=ada").await;
    ada.wait_for_type("online_users_list").await;
    let mut lengths = Vec::new();
    let mut others = Vec::new();
    // As many users as it takes; `RawWs` checks each frame that it reads.
    while lengths.iter().all(|length| *length < 0x1_0000) {
        let mut bob = RawWs::connect(node.addr(), "/ws").await;
        let join = json!({"type": "join_user", "userId": others.len(), "avatar": "x".repeat(2000)});
        bob.send(&frame(FIN | TEXT, join.to_string().as_bytes())).await;
        bob.wait_for_type("online_users_list").await;
        others.push(bob);
        ada.send(&frame(FIN | TEXT, br#"{"type":"get_online_users","ref":1}"#)).await;
        ada.send(&frame(FIN | TEXT, br#"{"type":"user_activity","ref":2}"#)).await;
        loop {
            let text = ada.next_frame().await.expect("the socket stays open");
            lengths.push(text.payload.len());
            let json: Value = serde_json::from_slice(&text.payload).expect("JSON");
            if json["ref"] == 2 {
                break;
            }
        }
    }
    for form in [0..126, 126..0x1_0000, 0x1_0000..usize::MAX] {
        assert!(lengths.iter().any(|length| form.contains(length)), "none of {form:?}: {lengths:?}");
    }
}

#[tokio::test]
async fn section_5_2_whoever_uses_what_is_reserved_is_refused() {
    let node = node().await;
    for bit in [0x40, 0x20, 0x10] {
        for first in [TEXT, FIN | TEXT, FIN | BINARY, FIN | PING, FIN | CLOSE] {
            assert_fails(&node, &format!("{:#x}", bit | first), &frame(bit | first, b""), 1002).await;
        }
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        for first in [opcode, FIN | opcode] {
            assert_fails(&node, &format!("{first:#x}"), &frame(first, b"{}"), 1002).await;
        }
    }
}

#[tokio::test]
async fn section_5_2_a_length_is_said_in_7_or_16_or_64_bits() {
    let node = node().await;
    for length in [125, 126, 127, 65_535, 65_536, LIMIT] {
        assert_eq!(answers(&node, &frame(FIN | TEXT, &request(length))).await, ["user_online_status"], "{length}");
    }
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, LIMIT] {
        let binary = frame(FIN | BINARY, &vec![0xFF; length]);
        assert_eq!(answers(&node, &binary).await, ["binary_not_supported"], "{length}");
    }
}

#[tokio::test]
async fn section_5_2_a_length_in_more_bytes_than_it_needs_is_refused() {
    let node = node().await;
    // Each length is right, and what is announced has come.
    for length in [0_u16, 1, 125] {
        let header = [&[FIN | TEXT, MASKED | 126][..], &length.to_be_bytes(), &MASK].concat();
        let bytes = [header, vec![b' '; length.into()]].concat();
        assert_fails(&node, &format!("{length} in 16 bits"), &bytes, 1002).await;
    }
    for length in [0_u16, 125, 126, 65_535] {
        let header = [&[FIN | TEXT, MASKED | 127][..], &u64::from(length).to_be_bytes(), &MASK].concat();
        let bytes = [header, vec![b' '; length.into()]].concat();
        assert_fails(&node, &format!("{length} in 64 bits"), &bytes, 1002).await;
    }
    let highest_bit = [&[FIN | TEXT, MASKED | 127, 0x80, 0, 0, 0, 0, 0, 0, 1][..], &MASK, b" "].concat();
    assert_fails(&node, "a length of more than 63 bits", &highest_bit, 1002).await;
}

#[tokio::test]
async fn section_5_3_a_frame_without_a_mask_is_refused() {
    let node = node().await;
    for first in [FIN | TEXT, TEXT, FIN | BINARY, FIN | PING, FIN | PONG, FIN | CLOSE] {
        assert_fails(&node, &format!("{first:#x}"), &[first, 2, b'{', b'}'], 1002).await;
        assert_fails(&node, &format!("{first:#x}, empty"), &[first, 0], 1002).await;
    }
}

#[tokio::test]
async fn section_5_3_a_mask_may_be_anything() {
    let node = node().await;
    for mask in [[0; 4], [0xFF; 4], [0, 0, 0, 1], [0x7B, 0x7D, 0, 0xFF]] {
        // Of each length that a word can have left over.
        for length in 70..78 {
            let payload = request(length);
            let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            let bytes = [FIN | TEXT, MASKED | length as u8].into_iter().chain(mask).chain(masked);
            assert_eq!(answers(&node, &bytes.collect::<Vec<_>>()).await, ["user_online_status"], "{mask:?}, {length}");
        }
    }
}

#[tokio::test]
async fn section_5_4_a_message_may_come_in_any_fragments() {
    let node = node().await;
    let text = request(100);
    let fragments = |sizes: &[usize]| {
        let mut rest = &text[..];
        let mut bytes = Vec::new();
        for (position, size) in sizes.iter().chain([&usize::MAX]).enumerate() {
            let (part, others) = rest.split_at(rest.len().min(*size));
            let first = if position == 0 { TEXT } else { CONTINUATION };
            bytes.extend(frame(if *size == usize::MAX { FIN | first } else { first }, part));
            rest = others;
        }
        bytes
    };
    for sizes in [&[50][..], &[0], &[100], &[0, 0, 100, 0], &[1; 99], &[33, 0, 33]] {
        assert_eq!(answers(&node, &fragments(sizes)).await, ["user_online_status"], "{sizes:?}");
    }
    for (what, bytes, answer) in [
        ("text of nothing", [frame(TEXT, b""), frame(FIN, b"")].concat(), "invalid_json"),
        ("binary", [frame(BINARY, b"\xFF"), frame(FIN, b"\xFF")].concat(), "binary_not_supported"),
        ("binary of nothing", [frame(BINARY, b""), frame(FIN, b"")].concat(), "binary_not_supported"),
    ] {
        assert_eq!(answers(&node, &bytes).await, [answer], "{what}");
    }
}

#[tokio::test]
async fn section_5_4_control_frames_may_come_within_a_message_and_are_answered_at_once() {
    let node = node().await;
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    let text = request(100);
    socket.send(&frame(TEXT, &text[..50])).await;
    for payload in [&b"now"[..], b""] {
        socket.send(&frame(FIN | PING, payload)).await;
        assert_eq!(socket.next_frame().await, Some(Frame { opcode: PONG, payload: payload.to_vec() }));
        socket.send(&frame(FIN | PONG, payload)).await;
        socket.send(&frame(CONTINUATION, b"")).await;
    }
    socket.send(&frame(FIN | CONTINUATION, &text[50..])).await;
    assert_eq!(socket.next_json().await["type"], "user_online_status");
    // A close frame is one, too.
    socket.send(&[frame(TEXT, b"{"), close(1001, b"")].concat()).await;
    assert_eq!(socket.expect_close().await.0, 1001);
}

#[tokio::test]
async fn section_5_4_fragments_out_of_order_are_refused() {
    let node = node().await;
    let message = [frame(TEXT, b"{"), frame(FIN | CONTINUATION, b"}")].concat();
    for (what, bytes) in [
        ("a continuation of nothing", frame(CONTINUATION, b"{")),
        ("the last of nothing", frame(FIN | CONTINUATION, b"{}")),
        ("a text within a text", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat()),
        ("a first fragment within a text", [frame(TEXT, b"{"), frame(TEXT, b"}")].concat()),
        ("a binary within a text", [frame(TEXT, b"{"), frame(FIN | BINARY, b"}")].concat()),
        ("a text within a binary", [frame(BINARY, b"{"), frame(FIN | TEXT, b"}")].concat()),
    ] {
        assert_fails(&node, what, &bytes, 1002).await;
    }
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    socket.send(&[message, frame(FIN | CONTINUATION, b"")].concat()).await;
    assert_eq!(socket.next_json().await["code"], "missing_field");
    assert_eq!(socket.expect_close().await.0, 1002, "a continuation after the last");
}

#[tokio::test]
async fn section_5_5_a_control_frame_is_short_and_whole() {
    let node = node().await;
    for opcode in [PING, PONG, CLOSE] {
        let (one, two) = (frame(opcode, b""), frame(FIN | CONTINUATION, b""));
        assert_fails(&node, &format!("{opcode:#x} in fragments"), &[one, two].concat(), 1002).await;
        for length in [126, 65_536, LIMIT + 1] {
            let bytes = frame(FIN | opcode, &vec![b'x'; length]);
            assert_fails(&node, &format!("{opcode:#x} of {length}"), &bytes, 1002).await;
        }
    }
}

#[tokio::test]
async fn section_5_5_2_pings_are_answered_in_their_order_with_their_payloads() {
    let node = node().await;
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    let payloads: Vec<Vec<u8>> = [0, 1, 4, 5, 124, 125, 0].map(|length| vec![0xFF - length as u8; length]).into();
    socket.send(&payloads.iter().flat_map(|payload| frame(FIN | PING, payload)).collect::<Vec<_>>()).await;
    for payload in payloads {
        assert_eq!(socket.next_frame().await, Some(Frame { opcode: PONG, payload }));
    }
}

#[tokio::test]
async fn section_5_5_3_a_pong_that_nobody_asked_for_is_ignored() {
    let node = node().await;
    let pongs = [frame(FIN | PONG, b""), frame(FIN | PONG, &[0xFF; 125])].concat();
    assert_eq!(answers(&node, &pongs).await, [""; 0]);
}

// Section 7: closing.

#[tokio::test]
async fn section_7_1_5_a_close_frame_is_answered_with_its_code_and_then_the_stream_ends() {
    let node = node().await;
    let valid = [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for (code, reason) in
        valid.map(|code| (code, &b"bye"[..])).into_iter().chain([(1000, &[b'x'; 123][..]), (1001, b"")])
    {
        let mut socket = RawWs::connect(node.addr(), "/ws").await;
        socket.send(&close(code, reason)).await;
        assert_eq!(socket.expect_close().await.0, code);
        socket.expect_end().await;
    }
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    socket.send(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(socket.expect_close().await.0, 1000, "the answer to a close frame without a code");
    socket.expect_end().await;
}

#[tokio::test]
async fn section_7_4_a_close_frame_with_a_bad_code_or_reason_is_refused() {
    let node = node().await;
    assert_fails(&node, "half a code", &frame(FIN | CLOSE, &[3]), 1002).await;
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        for reason in [&b""[..], b"bye"] {
            assert_fails(&node, &format!("a close frame with {code}"), &close(code, reason), 1002).await;
        }
    }
    for reason in [&b"\xFF"[..], b"bye\xC3", b"\xED\xA0\x80"] {
        assert_fails(&node, "a reason that is not UTF-8", &close(1000, reason), 1002).await;
    }
}

#[tokio::test]
async fn section_7_1_what_comes_after_a_close_frame_is_ignored() {
    let node = node().await;
    let mut watcher = node.join("watcher").await;
    let join = frame(FIN | TEXT, br#"{"type":"join_user","userId":"ghost"}"#);
    for rest in [join.clone(), frame(FIN | PING, b"?"), close(1001, b""), vec![0xFF; 100], join[..5].to_vec()] {
        let mut socket = RawWs::connect(node.addr(), "/ws").await;
        socket.send(&[close(4000, b""), rest].concat()).await;
        let answer = Frame { opcode: CLOSE, payload: 4000_u16.to_be_bytes().to_vec() };
        assert_eq!(socket.next_frame().await, Some(answer));
        socket.expect_end().await;
    }
    assert_eq!(watcher.fence().await, NOTHING);
}

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
async fn section_7_1_7_a_violation_does_not_take_away_the_close_frame_that_came_before_it() {
    let mut settings = test_settings();
    settings.websocket.join_timeout = Duration::from_millis(50);
    let node = start(settings).await;
    let mut socket = RawWs::connect(node.addr(), "/ws").await;
    assert_eq!(socket.expect_close().await.0, 1008);
    socket.send(&[frame(0x40 | FIN | TEXT, b"{}"), vec![b'x'; 1024 * 1024]].concat()).await;
    socket.expect_orderly_end().await;
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

#[tokio::test]
async fn section_7_4_1_a_message_that_is_too_large_is_refused_without_waiting_for_it() {
    let node = node().await;
    let announce = |first: u8, length: u64| [&[first, MASKED | 127][..], &length.to_be_bytes(), &MASK].concat();
    for (what, bytes) in [
        ("one byte too many", frame(FIN | TEXT, &request(LIMIT + 1))),
        ("one byte too many, announced", announce(FIN | TEXT, LIMIT as u64 + 1)),
        ("as much as there can be, announced", announce(FIN | BINARY, i64::MAX as u64)),
        ("in a first fragment", announce(TEXT, 1 << 32)),
        ("two fragments", [frame(TEXT, &request(LIMIT)), frame(FIN | CONTINUATION, b" ")].concat()),
        ("two fragments, announced", [frame(TEXT, b"{}"), announce(FIN | CONTINUATION, LIMIT as u64 - 1)].concat()),
        ("many fragments", [frame(TEXT, b""), frame(CONTINUATION, &[b' '; 1000]).repeat(LIMIT / 1000 + 1)].concat()),
    ] {
        assert_fails(&node, what, &bytes, 1009).await;
    }
}

// Section 8: UTF-8.

#[tokio::test]
async fn section_8_1_a_text_may_be_cut_within_a_character() {
    let node = node().await;
    let text = r#"{"type":"check_user_online","userId":"κόσμε, 日本, 😀"}"#.as_bytes();
    for cut in 0..=text.len() {
        let bytes = [frame(TEXT, &text[..cut]), frame(FIN | CONTINUATION, &text[cut..])].concat();
        assert_eq!(answers(&node, &bytes).await, ["user_online_status"], "cut at {cut}");
    }
}

#[tokio::test]
async fn section_8_1_a_text_that_is_not_utf8_is_refused() {
    let node = node().await;
    for invalid in [
        &b"\xFF"[..],
        b"{\"type\":\"dance\xC3\"}",
        // A continuation alone, an overlong slash, a surrogate, beyond U+10FFFF, and a character that is cut off.
        b"\x80",
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xF0\x9F\x98",
    ] {
        assert_fails(&node, &format!("{invalid:x?}"), &frame(FIN | TEXT, invalid), 1007).await;
        let in_the_second = [frame(TEXT, b"{"), frame(FIN | CONTINUATION, invalid)].concat();
        assert_fails(&node, &format!("{invalid:x?} in the second fragment"), &in_the_second, 1007).await;
        let in_the_first = [frame(TEXT, invalid), frame(FIN | CONTINUATION, b"}")].concat();
        assert_fails(&node, &format!("{invalid:x?} in the first fragment"), &in_the_first, 1007).await;
        assert_eq!(answers(&node, &frame(FIN | BINARY, invalid)).await, ["binary_not_supported"]);
    }
}
