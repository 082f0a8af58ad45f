//! WebSocket frames as bytes, without a check of what they say. Source: RFC 6455 §5.2

use std::ops::Range;

/// The bit that marks the last frame of a message.
pub(crate) const FIN: u8 = 0x80;
/// Opcodes, with which a frame begins.
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// The bit before the length that says that a mask follows.
const MASKED: u8 = 0x80;

/// A frame: its first byte, such as `FIN | TEXT`, then the shortest length, the mask if there is one, and the payload.
/// A client's frame has a mask, a server's has none.
pub(crate) fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, first, mask, payload);
    bytes
}

/// [`frame`], behind what is in `bytes` already.
pub(crate) fn append_frame(bytes: &mut Vec<u8>, first: u8, mask: Option<[u8; 4]>, payload: &[u8]) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    bytes.push(first);
    match payload.len() {
        length @ 0..126 => bytes.push(masked | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let mask = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The first byte of the frame at the beginning of `bytes`, and where its payload is; none until the frame is whole. The
/// frame must be a server's: it has no mask.
pub(crate) fn whole_frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (&[first, short], rest) = bytes.split_first_chunk()?;
    let (begin, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
        length => (2, usize::from(length)),
    };
    let end = begin + length;
    (bytes.len() >= end).then_some((first, begin..end))
}

#[test]
fn a_frame_is_masked_and_has_the_shortest_length() {
    let mask = Some([0x12, 0x34, 0x56, 0x78]);
    assert_eq!(frame(FIN | TEXT, mask, &[0x12, 0]), [0x81, 0x82, 0x12, 0x34, 0x56, 0x78, 0, 0x34]);
    assert_eq!(frame(FIN | BINARY, mask, &[0; 126])[..4], [0x82, 0xFE, 0, 126]);
    assert_eq!(frame(FIN | BINARY, mask, &[0; 0x1_0000])[..10], [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(frame(FIN | TEXT, None, b"{}"), [0x81, 2, b'{', b'}']);
}

#[test]
fn a_frame_is_read_when_it_is_whole() {
    let bytes = [0x81, 2, b'{', b'}', 0x88];
    assert_eq!(whole_frame(&bytes[..3]), None);
    assert_eq!(whole_frame(&bytes), Some((FIN | TEXT, 2..4)));
    for (length, begin) in [(0, 2), (125, 2), (126, 4), (0xFFFF, 4), (0x1_0000, 10)] {
        let long = frame(FIN | PING, None, &vec![b'x'; length]);
        assert_eq!(whole_frame(&long), Some((FIN | PING, begin..long.len())));
        assert_eq!(whole_frame(&long[..long.len() - 1]), None);
    }
}
