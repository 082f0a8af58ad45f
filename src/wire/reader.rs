//! Turns WebSocket frames from client to server (RFC 6455 §5) into whole messages. It gets bytes, and knows no socket.

use actix_http::ws::{Codec, Frame, Item, ProtocolError};
use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Unmasks frames, joins fragments and checks both. It holds no memory while nothing is half read.
pub struct Reader {
    codec: Codec,
    /// Bytes of a frame that has not come whole.
    buffer: BytesMut,
    /// The fragments of a message that has not come whole. They are boxed, because an idle socket has none.
    fragments: Option<Box<Fragments>>,
    max_message_bytes: usize,
}

struct Fragments {
    is_text: bool,
    n_parts: usize,
    bytes: Vec<u8>,
}

/// Most frames of one message. A frame may be empty, so without this a message need never end, and would count as none. No client
/// cuts a message of some kilobytes into so many.
const MAX_PARTS: usize = 1024;

/// A whole message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Text, valid UTF-8.
    Text(String),
    /// A binary message. Its content is not used.
    Binary,
    /// A ping. The answer has the same payload.
    Ping(Bytes),
    /// A pong: the answer to a ping.
    Pong,
    /// A close frame, and its close code if there was one.
    Close(Option<u16>),
}

/// Why the reader cannot read the client's bytes any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A frame is against RFC 6455.
    Protocol,
    /// A text message is not UTF-8.
    InvalidUtf8,
    /// A message is longer than the reader was made for.
    TooLarge,
}

/// The longest payload of a control frame. It is also the longest payload whose length fits into seven bits of the
/// header. Source: RFC 6455 §5.2, §5.5
const MAX_SHORT_LENGTH: u8 = 125;

impl Reader {
    /// A reader for messages of at most `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> Self {
        let codec = Codec::new().max_size(max_message_bytes);
        Self { codec, buffer: BytesMut::new(), fragments: None, max_message_bytes }
    }

    /// Takes in the bytes that have come. Call [`Reader::next_message`] after it, until that has no more message.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if all of it has come.
    ///
    /// # Errors
    /// The client broke the protocol. Nothing further that the client sends may be read. The result does not depend on
    /// how the bytes were cut when they were pushed.
    pub fn next_message(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let announced = announced_length(&self.buffer)?;
            let Some(frame) = self.codec.decode(&mut self.buffer).map_err(|error| violation(&error))? else {
                // The codec waits for the whole frame, however long the frame says that it is.
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

    /// The bytes that came after the last message. Another reader may go on with them, if no message is half read.
    pub(crate) fn into_unread(self) -> Vec<u8> {
        self.buffer.into()
    }

    /// The memory held for a half-read frame or message, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity())
    }

    /// The longest payload that the frame at the front of the buffer may have.
    fn room(&self) -> usize {
        let continues = self.buffer.first().is_some_and(|first| first & 0x0F == 0);
        let taken = self.fragments.as_ref().filter(|_| continues).map_or(0, |fragments| fragments.bytes.len());
        self.max_message_bytes - taken
    }

    /// Returns a frame as a message. Returns `None` if the frame is only a part of a message.
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
                self.fragments = Some(Box::new(Fragments { is_text: true, n_parts: 0, bytes: Vec::new() }));
                (false, part)
            }
            Item::FirstBinary(part) => {
                self.fragments = Some(Box::new(Fragments { is_text: false, n_parts: 0, bytes: Vec::new() }));
                (false, part)
            }
            Item::Continue(part) => (false, part),
            Item::Last(part) => (true, part),
        };
        let Some(fragments) = &mut self.fragments else { return Err(Violation::Protocol) };
        if fragments.bytes.len() + part.len() > self.max_message_bytes {
            return Err(Violation::TooLarge);
        }
        fragments.n_parts += 1;
        if fragments.n_parts > MAX_PARTS {
            return Err(Violation::TooLarge);
        }
        fragments.bytes.extend_from_slice(&part);
        if !is_last {
            return Ok(None);
        }
        match self.fragments.take().map(|fragments| *fragments) {
            Some(Fragments { is_text: true, bytes, .. }) => Ok(Some(Incoming::Text(text(bytes)?))),
            _ => Ok(Some(Incoming::Binary)),
        }
    }
}

/// The length of the payload of the frame at the front of `bytes`. It is `None` until the header has come.
///
/// This function refuses three kinds of frames:
///
/// - A length that uses more bytes than it needs. The codec accepts such a frame.
/// - A length whose highest bit of 64 is set. The codec reports such a frame as too large, not as against the protocol.
/// - A control frame that is too long, or that is a fragment. The codec finds this only when the whole frame has come.
///
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
    fn a_message_has_so_many_parts_and_no_more() {
        for (n_parts, expected) in
            [(MAX_PARTS, Ok(Some(Incoming::Text(String::new())))), (MAX_PARTS + 1, Err(Violation::TooLarge))]
        {
            let mut reader = Reader::new(1000);
            reader.push(&[0x01, 0x80, 0, 0, 0, 0]);
            (2..n_parts).for_each(|_| reader.push(&[0x00, 0x80, 0, 0, 0, 0]));
            reader.push(&[0x80, 0x80, 0, 0, 0, 0]);
            assert_eq!(reader.next_message(), expected, "{n_parts}");
        }
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
        // The fragments before it count as well.
        let mut reader = Reader::new(4);
        reader.push(&[0x01, 0x83, 0, 0, 0, 0, b'a', b'b', b'c', 0x80, 0x82]);
        assert_eq!(reader.next_message(), Err(Violation::TooLarge));
    }
}
