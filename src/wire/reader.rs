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

/// The longest header of a client's frame: 2 bytes, a 64-bit length, a mask.
const MAX_HEADER_BYTES: usize = 14;

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
    /// The client broke the protocol, and nothing further that it sends is to be read.
    pub fn next_message(&mut self) -> Result<Option<Incoming>, Violation> {
        while let Some(frame) = self.codec.decode(&mut self.buffer).map_err(|error| violation(&error))? {
            if let Some(incoming) = self.take_in(frame)? {
                return Ok(Some(incoming));
            }
        }
        // The codec waits for all of a frame, however long it says it will be.
        if self.buffer.len() > self.max_message_bytes + MAX_HEADER_BYTES {
            return Err(Violation::TooLarge);
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(None)
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

fn text(bytes: Vec<u8>) -> Result<String, Violation> {
    String::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)
}

fn violation(error: &ProtocolError) -> Violation {
    match error {
        ProtocolError::Overflow => Violation::TooLarge,
        _ => Violation::Protocol,
    }
}
