//! WebSocket frames from client to server (RFC 6455 §5): bytes in, whole messages out. Knows no socket.

use actix_http::ws::{Codec, Frame, Item, ProtocolError};
use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Unmasks, joins fragments, checks. Holds no memory while nothing is half read.
pub struct Reader {
    codec: Codec,
    /// Bytes of a frame that has not come whole.
    buffer: BytesMut,
    /// The fragments of a message that has not come whole.
    fragments: Option<Fragments>,
    max_message_bytes: usize,
}

struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
}

/// A whole message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Text, valid UTF-8.
    Text(String),
    /// Binary; its content is of no interest.
    Binary,
    /// To be answered with the same payload.
    Ping(Bytes),
    /// Answers a ping.
    Pong,
    /// The close code, if there was one.
    Close(Option<u16>),
}

/// Why what the client sends can be read no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A frame is against RFC 6455.
    Protocol,
    /// A text message is not UTF-8.
    InvalidUtf8,
    /// A message is longer than the reader was made for.
    TooLarge,
}

/// The longest payload of a control frame, and the longest that a header says in seven bits. Source: RFC 6455 §5.2, §5.5
const MAX_SHORT_LENGTH: u8 = 125;

impl Reader {
    /// For messages of at most `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> Self {
        let codec = Codec::new().max_size(max_message_bytes);
        Self { codec, buffer: BytesMut::new(), fragments: None, max_message_bytes }
    }

    /// Takes in what has come; [`Reader::next_message`] is then to be called until it has nothing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if all of it has come.
    ///
    /// # Errors
    /// The client broke the protocol, and nothing further that it sends is to be read. How the bytes were cut when they were
    /// pushed makes no difference to what is found.
    pub fn next_message(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let announced = announced_length(&self.buffer)?;
            let Some(frame) = self.codec.decode(&mut self.buffer).map_err(|error| violation(&error))? else {
                // The codec waits for all of a frame, however long it says it will be.
                if announced.is_some_and(|length| length > self.room() as u64) {
                    return Err(Violation::TooLarge);
                }
                break;
            };
            if let Some(incoming) = self.take_in(frame)? {
                return Ok(Some(incoming));
            }
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(None)
    }

    /// The memory held for what is half read, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity())
    }

    /// How long the payload of the frame at the front of the buffer may be.
    fn room(&self) -> usize {
        let continues = self.buffer.first().is_some_and(|first| first & 0x0F == 0);
        let taken = self.fragments.as_ref().filter(|_| continues).map_or(0, |fragments| fragments.bytes.len());
        self.max_message_bytes - taken
    }

    /// A frame as a message, unless it is only a part of one.
    fn take_in(&mut self, frame: Frame) -> Result<Option<Incoming>, Violation> {
        Ok(Some(match frame {
            Frame::Text(bytes) => Incoming::Text(text(bytes.to_vec())?),
            Frame::Binary(_) => Incoming::Binary,
            Frame::Ping(payload) => Incoming::Ping(payload),
            Frame::Pong(_) => Incoming::Pong,
            Frame::Close(reason) => Incoming::Close(reason.map(|reason| reason.code.into())),
            Frame::Continuation(item) => return self.join_fragment(item),
        }))
    }

    fn join_fragment(&mut self, item: Item) -> Result<Option<Incoming>, Violation> {
        let (is_last, part) = match item {
            Item::FirstText(part) => {
                self.fragments = Some(Fragments { is_text: true, bytes: Vec::new() });
                (false, part)
            }
            Item::FirstBinary(part) => {
                self.fragments = Some(Fragments { is_text: false, bytes: Vec::new() });
                (false, part)
            }
            Item::Continue(part) => (false, part),
            Item::Last(part) => (true, part),
        };
        let Some(fragments) = &mut self.fragments else { return Err(Violation::Protocol) };
        if fragments.bytes.len() + part.len() > self.max_message_bytes {
            return Err(Violation::TooLarge);
        }
        fragments.bytes.extend_from_slice(&part);
        if !is_last {
            return Ok(None);
        }
        match self.fragments.take() {
            Some(Fragments { is_text: true, bytes }) => Ok(Some(Incoming::Text(text(bytes)?))),
            _ => Ok(Some(Incoming::Binary)),
        }
    }
}

/// The length of the payload of the frame at the front of `bytes`, once its header tells.
///
/// Refuses what the codec lets pass (a length in more bytes than it needs), what it takes for a matter of size (a length of
/// 64 bits), and what it finds only when all of the frame has come (a control frame that is too long or a fragment).
/// Source: RFC 6455 §5.2, §5.5
fn announced_length(bytes: &[u8]) -> Result<Option<u64>, Violation> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let (is_last, is_control, short) = (first & 0x80 != 0, first & 0x08 != 0, second & 0x7F);
    if is_control && !(is_last && short <= MAX_SHORT_LENGTH) {
        return Err(Violation::Protocol);
    }
    let (length, valid) = match short {
        ..=MAX_SHORT_LENGTH => (short.into(), 0..=u64::from(MAX_SHORT_LENGTH)),
        126 => {
            let Some(&length) = rest.first_chunk() else { return Ok(None) };
            (u16::from_be_bytes(length).into(), 126..=0xFFFF)
        }
        _ => {
            let Some(&length) = rest.first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(length), 0x1_0000..=i64::MAX as u64)
        }
    };
    if valid.contains(&length) { Ok(Some(length)) } else { Err(Violation::Protocol) }
}

fn text(bytes: Vec<u8>) -> Result<String, Violation> {
    String::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)
}

fn violation(error: &ProtocolError) -> Violation {
    match error {
        ProtocolError::Overflow => Violation::TooLarge,
        _ => Violation::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'{', b'}'];

    #[test]
    fn a_reader_holds_memory_only_while_something_is_half_read() {
        let mut reader = Reader::new(1000);
        for cut in 0..TEXT.len() {
            reader.push(&TEXT[..cut]);
            assert_eq!(reader.next_message(), Ok(None));
            assert_eq!(reader.held_bytes() > 0, cut > 0);
            reader.push(&TEXT[cut..]);
            assert_eq!(reader.next_message(), Ok(Some(Incoming::Text("{}".to_owned()))));
            assert_eq!((reader.next_message(), reader.held_bytes()), (Ok(None), 0));
        }
        // A fragment, and the rest of the message.
        reader.push(&[0x01, 0x81, 0, 0, 0, 0, b'{']);
        assert_eq!((reader.next_message(), reader.held_bytes() > 0), (Ok(None), true));
        reader.push(&[0x80, 0x81, 0, 0, 0, 0, b'}']);
        assert_eq!(reader.next_message(), Ok(Some(Incoming::Text("{}".to_owned()))));
        assert_eq!((reader.next_message(), reader.held_bytes()), (Ok(None), 0));
    }

    #[test]
    fn what_a_header_tells_is_not_waited_for() {
        for (header, expected) in [
            (&[0x81, 0x80 | 126, 0x03, 0xE9][..], Violation::TooLarge),
            (&[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], Violation::TooLarge),
            (&[0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::Protocol),
            (&[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Violation::Protocol),
            (&[0x81, 0x80 | 126, 0, 125], Violation::Protocol),
            (&[0x89, 0x80 | 126], Violation::Protocol),
            (&[0x09, 0x80], Violation::Protocol),
        ] {
            let mut reader = Reader::new(1000);
            reader.push(&header[..header.len() - 1]);
            assert_eq!(reader.next_message(), Ok(None), "{header:x?}");
            reader.push(&header[header.len() - 1..]);
            assert_eq!(reader.next_message(), Err(expected), "{header:x?}");
        }
        // Together with the fragments before it.
        let mut reader = Reader::new(4);
        reader.push(&[0x01, 0x83, 0, 0, 0, 0, b'a', b'b', b'c', 0x80, 0x82]);
        assert_eq!(reader.next_message(), Err(Violation::TooLarge));
    }
}
