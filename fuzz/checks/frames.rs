//! `wire::reader`: a client's bytes become the same messages however they are cut, and those that RFC 6455 says.
//! Whoever includes this file has `tools/support/frame.rs` beside it.

use rollcall::wire::reader::{Incoming, Reader, Violation};

use super::frame::append_frame;

/// What is read from a stream: its messages, and why it is read no further if it is not.
#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Incoming>,
    end: Option<Violation>,
}

/// Around each of the three forms of a length, and the default.
const LIMITS: [usize; 6] = [4, 125, 126, 1000, 16_384, 70_000];

/// The first byte chooses the size limit and whether the rest is the client's bytes or a script of well-formed messages;
/// the second is how long the pieces are in which it comes.
///
/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let Some((&[choice, piece], rest)) = input.split_first_chunk() else { return };
    let limit = LIMITS[usize::from(choice >> 1) % LIMITS.len()];
    if choice & 1 == 0 {
        check_stream(rest, limit, piece);
    } else {
        let (stream, messages) = play(rest, limit);
        assert_eq!(check_stream(&stream, limit, piece), Outcome { messages, end: None });
    }
}

fn check_stream(stream: &[u8], limit: usize, piece: u8) -> Outcome {
    let expected = by_the_rfc(stream, limit);
    assert_eq!(read(stream, stream.len(), limit), expected, "in one piece");
    // A long stream in small pieces takes long, and finds nothing that a short one does not.
    let piece = usize::from(piece).max(stream.len() / 256);
    assert_eq!(read(stream, piece, limit), expected, "in pieces of {piece}");
    if stream.len() <= 256 {
        assert_eq!(read(stream, 1, limit), expected, "byte by byte");
    }
    expected
}

/// What the reader makes of a stream that comes in pieces of this length.
fn read(stream: &[u8], piece: usize, limit: usize) -> Outcome {
    let piece = piece.max(1);
    let mut reader = Reader::new(limit);
    let mut messages = Vec::new();
    for bytes in stream.chunks(piece) {
        reader.push(bytes);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => {
                    let length = match &message {
                        Incoming::Text(text) => text.len(),
                        Incoming::Ping(payload) => payload.len(),
                        Incoming::Binary | Incoming::Pong | Incoming::Close(_) => 0,
                    };
                    assert!(length <= limit, "{length} bytes of {limit}");
                    messages.push(message);
                }
                Ok(None) => break,
                Err(violation) => return Outcome { messages, end: Some(violation) },
            }
        }
        // The fragments and a frame, of 14 bytes of header and the payload, with what was read behind it. Both buffers grow
        // by doubling, and small ones are rounded up. Source: docs/architecture.md, "What bounds the memory"
        let most = 2 * (limit + 14 + limit + piece.min(stream.len())) + 64;
        assert!(reader.held_bytes() <= most, "holds {} bytes of {most}", reader.held_bytes());
    }
    Outcome { messages, end: None }
}

/// What RFC 6455 §5 makes of a stream, written without regard to speed, memory and the code under test. What a header says
/// is judged before what follows it.
fn by_the_rfc(stream: &[u8], limit: usize) -> Outcome {
    let mut outcome = Outcome { messages: Vec::new(), end: None };
    let mut unread = stream.iter().copied();
    let mut started: Option<(u8, Vec<u8>)> = None;
    loop {
        match frame(&mut unread, limit, started.as_ref().map_or(0, |(_, bytes)| bytes.len())) {
            Ok(Some((is_last, opcode, payload))) => match message(&mut started, is_last, opcode, payload) {
                Ok(message) => outcome.messages.extend(message),
                Err(violation) => return Outcome { end: Some(violation), ..outcome },
            },
            Ok(None) => return outcome,
            Err(violation) => return Outcome { end: Some(violation), ..outcome },
        }
    }
}

/// FIN, opcode and payload of the next frame; none if the bytes end before it does.
type Framed = Result<Option<(bool, u8, Vec<u8>)>, Violation>;

fn frame(bytes: &mut impl Iterator<Item = u8>, limit: usize, joined: usize) -> Framed {
    let (Some(first), Some(second)) = (bytes.next(), bytes.next()) else { return Ok(None) };
    let (is_last, reserved, opcode) = (first >= 0x80, first >> 4 & 7, first & 15);
    let (is_masked, short) = (second >= 0x80, second & 127);
    let is_known = [0, 1, 2, 8, 9, 10].contains(&opcode);
    if reserved != 0 || !is_known || !is_masked || (opcode >= 8 && (!is_last || short > 125)) {
        return Err(Violation::Protocol);
    }
    let n_more = [0, 2, 8][usize::from(short.saturating_sub(125))];
    let more: Vec<u8> = bytes.by_ref().take(n_more).collect();
    if more.len() < n_more {
        return Ok(None);
    }
    let length = more.iter().fold(0_u128, |length, byte| length << 8 | u128::from(*byte));
    let length = if n_more == 0 { u128::from(short) } else { length };
    // The shortest form is a must, and so is the zero in the first of 64 bits.
    let shortest = if length < 126 {
        0
    } else if length < 65_536 {
        2
    } else {
        8
    };
    if n_more != shortest || length >> 63 != 0 {
        return Err(Violation::Protocol);
    }
    let joined = if opcode == 0 { joined } else { 0 };
    if length + joined as u128 > limit as u128 {
        return Err(Violation::TooLarge);
    }
    let mask: Vec<u8> = bytes.by_ref().take(4).collect();
    let payload: Vec<u8> = bytes.by_ref().take(length as usize).collect();
    if mask.len() < 4 || payload.len() < length as usize {
        return Ok(None);
    }
    let payload = payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
    Ok(Some((is_last, opcode, payload)))
}

fn message(
    started: &mut Option<(u8, Vec<u8>)>,
    is_last: bool,
    opcode: u8,
    payload: Vec<u8>,
) -> Result<Option<Incoming>, Violation> {
    match opcode {
        0 => started.as_mut().ok_or(Violation::Protocol)?.1.extend(payload),
        1 | 2 if started.is_some() => return Err(Violation::Protocol),
        1 | 2 => *started = Some((opcode, payload)),
        8 => return close(&payload).map(|code| Some(Incoming::Close(code))),
        9 => return Ok(Some(Incoming::Ping(payload.into()))),
        _ => return Ok(Some(Incoming::Pong)),
    }
    match started.take_if(|_| is_last) {
        Some((1, text)) => match String::from_utf8(text) {
            Ok(text) => Ok(Some(Incoming::Text(text))),
            Err(_) => Err(Violation::InvalidUtf8),
        },
        Some(_) => Ok(Some(Incoming::Binary)),
        None => Ok(None),
    }
}

/// Source: RFC 6455 §5.5.1 and §7.4; of the codes that IANA has given out since, 1012 to 1014 may be sent.
fn close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    let is_valid = matches!(code, 1000..1004 | 1007..1015 | 3000..5000);
    if is_valid && std::str::from_utf8(reason).is_ok() { Ok(Some(code)) } else { Err(Violation::Protocol) }
}

/// Makes messages of a script, and the bytes by which a client would send them.
fn play(script: &[u8], limit: usize) -> (Vec<u8>, Vec<Incoming>) {
    let mut script = script.iter().copied();
    let (mut stream, mut messages) = (Vec::new(), Vec::new());
    // What is longer is only slower.
    while stream.len() < limit.min(20_000)
        && let (Some(kind), Some(low), Some(high)) = (script.next(), script.next(), script.next())
    {
        // Most are short, as long ones are slow.
        let is_long = kind & 0x18 == 0x18;
        let length = usize::from(low) | if is_long { usize::from(high) << 8 } else { 0 };
        // A little of the script is a lot of a message.
        let word: Vec<u8> = script.by_ref().take(usize::from(kind >> 5) + 1).collect();
        let bytes: Vec<u8> = word.iter().copied().cycle().take(if word.is_empty() { 0 } else { length }).collect();
        let mask = Some([kind, low, high, word.first().copied().unwrap_or_default()]);
        match kind & 7 {
            parts @ 0..=3 => {
                let mut text = String::from_utf8_lossy(&bytes).into_owned();
                while text.len() > limit {
                    text.pop();
                }
                // With an empty fragment at the end of some, and a ping within.
                for part in 0..=parts {
                    let cut = |part: u8| text.len() * usize::from(part) / usize::from(parts + 1);
                    let opcode = u8::from(part == 0) | if part == parts { 0x80 } else { 0 };
                    append_frame(&mut stream, opcode, mask, &text.as_bytes()[cut(part)..cut(part + 1)]);
                    if part < parts {
                        append_frame(&mut stream, 0x89, mask, &[part]);
                        messages.push(Incoming::Ping(vec![part].into()));
                    }
                }
                messages.push(Incoming::Text(text));
            }
            4 => {
                append_frame(&mut stream, 0x82, mask, &bytes[..bytes.len().min(limit)]);
                messages.push(Incoming::Binary);
            }
            5 => {
                let payload = bytes[..bytes.len().min(limit).min(125)].to_vec();
                append_frame(&mut stream, 0x89, mask, &payload);
                messages.push(Incoming::Ping(payload.into()));
            }
            6 => {
                append_frame(&mut stream, 0x8A, mask, &bytes[..bytes.len().min(limit).min(125)]);
                messages.push(Incoming::Pong);
            }
            _ => {
                let code = 3000 + (length % 2000) as u16;
                append_frame(&mut stream, 0x88, mask, &code.to_be_bytes());
                messages.push(Incoming::Close(Some(code)));
            }
        }
    }
    (stream, messages)
}
