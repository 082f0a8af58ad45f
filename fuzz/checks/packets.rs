//! Packets of Socket.IO: whatever text comes, all tongues read the same, and what is refused is refused in few words.

use rollcall::domain::ProfileLimits;
use rollcall::wire::Format;
use rollcall::wire::message::{BadRequest, Message, RequestLimits};
use serde_json::Value;

/// Small, so that they are reached soon.
const LIMITS: RequestLimits = RequestLimits {
    profile: ProfileLimits { fields_bytes: 64, metadata_bytes: 32 },
    page_max: 100,
    watches_max: 4,
    rooms_max: 4,
};

const TONGUES: [Format; 3] = [Format::Socketio, Format::SocketioStatus, Format::SocketioRoom];

/// How packets begin. The engine need not find these.
const BEGINNINGS: [&str; 8] = ["", "4", "42[\"", "427[\"", "42/,1[\"", "451-[\"", "40{", "437["];

/// Most digits of the number of an acknowledgement. Source: docs/socketio.md
const ACK_DIGITS_MAX: usize = 16;

/// Above every error there is: what a client sends must not come back to it in full. An error repeats 64 bytes of a client. Each may
/// need 7 bytes, as `\\u{7f}`, and stands in the event and in the acknowledgement.
const ERROR_BYTES_MAX: usize = 1280;

/// The first byte says how the packet begins.
///
/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let begin = BEGINNINGS[usize::from(*choice) % BEGINNINGS.len()];
    let packet = format!("{begin}{}", String::from_utf8_lossy(rest));
    let read = Format::Socketio.parse(&packet, LIMITS);
    for tongue in TONGUES {
        assert_eq!(tongue.parse(&packet, LIMITS), read, "{packet}");
    }
    let reference = match &read {
        Ok(message) => &message.reference,
        Err(bad) => &bad.reference,
    };
    if let Some(digits) = reference {
        assert!((1..=ACK_DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(
            packet.starts_with("42") || packet.starts_with("45"),
            "only an event asks for an acknowledgement: {packet}"
        );
    }
    if let Err(bad) = read {
        TONGUES.into_iter().for_each(|tongue| check_error(tongue, &bad));
    }
}

/// An error is an event, and then an acknowledgement if one was asked for.
fn check_error(tongue: Format, bad: &BadRequest) {
    let message = Message::Error { code: bad.code, message: &bad.message, retry_after: None, room: None };
    let frames = tongue.encode(&message, bad.reference.as_deref()).expect("every tongue has errors");
    assert!(frames.len() <= ERROR_BYTES_MAX, "{} bytes", frames.len());
    let (event, rest) = next_packet(&frames);
    let event: Value = serde_json::from_str(event.strip_prefix("42").expect("an event")).expect("JSON");
    assert_eq!((&event[0], &event[1]["code"]), (&"error".into(), &bad.code.as_str().into()));
    let Some(digits) = &bad.reference else { return assert!(rest.is_empty()) };
    let (ack, rest) = next_packet(rest);
    let ack = ack.strip_prefix("43").and_then(|ack| ack.strip_prefix(digits.as_str())).expect("an acknowledgement");
    let ack: Value = serde_json::from_str(ack).expect("JSON");
    assert_eq!((&ack[0]["success"], &ack[0]["code"]), (&false.into(), &bad.code.as_str().into()));
    assert!(rest.is_empty());
}

/// The text of the first frame, and the frames after it.
fn next_packet(frames: &[u8]) -> (&str, &[u8]) {
    let (length, rest) = match frames[1] {
        126 => (usize::from(u16::from_be_bytes([frames[2], frames[3]])), &frames[4..]),
        short => (usize::from(short), &frames[2..]),
    };
    let (payload, rest) = rest.split_at(length);
    (std::str::from_utf8(payload).expect("a text"), rest)
}
