//! What a client of Socket.IO gives and gets when it polls: a body is the frames that it stands for, and a pipe loses nothing.

use rollcall::fuzzing::payloads::{frames_of, payloads_of};
use rollcall::wire::reader::{Incoming, Reader};

use super::frame::{FIN, TEXT, frame};

/// Larger than any input.
const MESSAGE_BYTES: usize = 1 << 20;

/// What separates the packets of a payload.
const SEPARATOR: char = '\x1e';

/// The first byte says how the frames of the second check are cut, and the second how much a pipe holds.
///
/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let [n_bytes, max_bytes, body @ ..] = input else { return };
    check_body(body);
    if let Ok(text) = std::str::from_utf8(body) {
        check_pipe(text, usize::from(*n_bytes), usize::from(*max_bytes) + 10);
    }
}

/// A session reads the packets of a body, as it reads messages.
fn check_body(body: &[u8]) {
    let Some((frames, says_close)) = frames_of(body) else { return };
    let mut reader = Reader::new(MESSAGE_BYTES);
    reader.push(&frames);
    let text = std::str::from_utf8(body).expect("a body is UTF-8");
    let mut packets = text.split(SEPARATOR);
    loop {
        let heard = reader.next_message().expect("frames are in order");
        match packets.next() {
            None => return assert_eq!((heard, says_close), (None, false)),
            Some("1") => return assert_eq!((heard, says_close), (Some(Incoming::Close(None)), true)),
            Some(packet) if packet.starts_with('b') => assert_eq!(heard, Some(Incoming::Binary)),
            Some(packet) => assert_eq!(heard, Some(Incoming::Text(packet.to_owned()))),
        }
    }
}

/// A client fetches what was written, whole and in order.
fn check_pipe(text: &str, n_bytes: usize, max_bytes: usize) {
    // A server says no empty packet, and "6" is said by the pipe.
    let packets: Vec<_> = text.split(SEPARATOR).filter(|packet| !["", "6"].contains(packet)).collect();
    let frames: Vec<u8> = packets.iter().flat_map(|packet| frame(FIN | TEXT, None, packet.as_bytes())).collect();
    let payloads = payloads_of(&frames, n_bytes, max_bytes);
    let payloads: Vec<_> = payloads.into_iter().map(|payload| String::from_utf8(payload).expect("UTF-8")).collect();
    let fetched: Vec<_> =
        payloads.iter().flat_map(|payload| payload.split(SEPARATOR)).filter(|it| *it != "6").collect();
    assert_eq!(fetched, packets);
    // After this packet, a client reads no further one in the same payload.
    for payload in &payloads {
        assert!(!payload.starts_with("41\x1e") && !payload.contains("\x1e41\x1e"), "{payload:?}");
    }
}
