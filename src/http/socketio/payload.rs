//! The bodies of POST: packets with a separator between them (<https://socket.io/docs/v4/engine-io-protocol/>).

/// What a client gives with one POST.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The packets as WebSocket frames of a client, masked with zeros.
    pub(crate) frames: Vec<u8>,
    /// Whether the last of them says that the client is done.
    pub(crate) says_close: bool,
}

/// A body that is no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPayload;

/// Most packets of a payload. A client sends all that has come up during its last POST. No client may send more messages than
/// `limits.message_burst` at once, which is 200 by default.
const PACKETS_MAX: usize = 256;

/// Longest header of a frame: two bytes, a length of 64 bits, and the mask. Source: RFC 6455 §5.2
const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// Reads a body. What the packets say is the session's business, but what they are is not: an empty packet, or one that no
/// client sends, makes the whole body bad.
///
/// # Errors
/// [`BadPayload`].
pub(crate) fn read(body: &[u8]) -> Result<Given, BadPayload> {
    let text = std::str::from_utf8(body).map_err(|_| BadPayload)?;
    let mut frames = Vec::with_capacity(body.len() + HEADER_BYTES_MAX);
    for (n_before, packet) in text.split('\x1e').enumerate() {
        if n_before == PACKETS_MAX {
            return Err(BadPayload);
        }
        match packet.as_bytes() {
            // What comes after it does not count.
            b"1" => {
                push_frame(&mut frames, CLOSE, b"");
                return Ok(Given { frames, says_close: true });
            }
            // No event with binaries is accepted. So it only matters that there is one.
            [b'b', ..] => push_frame(&mut frames, BINARY, b""),
            [b'0'..=b'6', ..] => push_frame(&mut frames, TEXT, packet.as_bytes()),
            _ => return Err(BadPayload),
        }
    }
    Ok(Given { frames, says_close: false })
}

fn push_frame(frames: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    frames.push(FIN | opcode);
    match payload.len() {
        length @ ..126 => frames.push(MASKED | length as u8),
        length @ ..0x1_0000 => {
            frames.push(MASKED | 126);
            frames.extend((length as u16).to_be_bytes());
        }
        length => {
            frames.push(MASKED | 127);
            frames.extend((length as u64).to_be_bytes());
        }
    }
    frames.extend([0; 4]);
    frames.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reader::{Incoming, Reader};

    /// What a session reads.
    fn heard(body: &[u8]) -> Option<Vec<Incoming>> {
        let mut reader = Reader::new(1 << 20);
        reader.push(&read(body).ok()?.frames);
        Some(std::iter::from_fn(|| reader.next_message().unwrap()).collect())
    }

    #[test]
    fn a_payload_is_what_its_packets_are() {
        let text = |text: &str| Incoming::Text(text.to_owned());
        let (short, long) = (format!("42[\"{}\"]", "ë".repeat(100)), format!("42[\"{}\"]", "x".repeat(70_000)));
        let body = format!("40\x1e{short}\x1e3\x1e{long}\x1e451-[\"a\"]\x1ebAQID");
        let expected = [text("40"), text(&short), text("3"), text(&long), text("451-[\"a\"]"), Incoming::Binary];
        assert_eq!(heard(body.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn nothing_counts_after_a_close() {
        assert_eq!(heard(b"41\x1e1\x1e42[]").unwrap(), [Incoming::Text("41".to_owned()), Incoming::Close(None)]);
        assert!(read(b"1").unwrap().says_close && !read(b"41").unwrap().says_close);
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        for body in [&b""[..], b"\x1e", b"40\x1e", b"\x1e40", b"7", b"40\x1ex", b"\xff", b"4\xc3", b" 40"] {
            assert_eq!(read(body), Err(BadPayload), "{body:?}");
        }
        assert!(read("3\x1e".repeat(255).as_bytes()).is_err());
        assert!(read(format!("{}3", "3\x1e".repeat(255)).as_bytes()).is_ok());
        assert_eq!(read(format!("{}3", "3\x1e".repeat(256)).as_bytes()), Err(BadPayload));
    }
}
