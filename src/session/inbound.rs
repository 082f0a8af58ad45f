//! A socket's TCP stream, read as WebSocket messages.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use actix_http::ws::{Codec, Frame, Item, ProtocolError};
use actix_rt::net::TcpStream;
use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::close::End;

/// Reads one client's frames (RFC 6455): unmasks, joins fragments, checks. Holds no memory while nothing is half read.
pub struct Inbound {
    stream: Rc<TcpStream>,
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
#[derive(Debug)]
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

/// The longest header of a client's frame: 2 bytes, a 64-bit length, a mask.
const MAX_HEADER_BYTES: usize = 14;

/// What is read at once. One buffer for a worker's thread, because a read that has data never waits.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl Inbound {
    /// Reads from `stream`, after `early`.
    pub fn new(stream: Rc<TcpStream>, early: BytesMut, max_message_bytes: usize) -> Self {
        // A copy, for `early` is a part of a buffer of 8 KiB that would be kept.
        let buffer = if early.is_empty() { BytesMut::new() } else { BytesMut::from(&early[..]) };
        let codec = Codec::new().max_size(max_message_bytes);
        Self { stream, codec, buffer, fragments: None, max_message_bytes }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// The reason to end the session.
    ///
    /// # Cancel safety
    /// What was read stays in the buffer for the next call.
    pub async fn next(&mut self) -> Result<Incoming, End> {
        loop {
            while let Some(frame) = self.codec.decode(&mut self.buffer).map_err(|error| protocol_end(&error))? {
                if let Some(incoming) = self.take_in(frame)? {
                    return Ok(incoming);
                }
            }
            // The codec waits for all of a frame, however long it says it will be.
            if self.buffer.len() > self.max_message_bytes + MAX_HEADER_BYTES {
                return Err(End::TooLarge);
            }
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            self.stream.readable().await.map_err(|_| End::Broken)?;
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), End> {
        READ_BUFFER.with_borrow_mut(|read_buffer| match self.stream.try_read(read_buffer) {
            Ok(0) => Err(End::Broken),
            Ok(n_bytes) => {
                self.buffer.extend_from_slice(&read_buffer[..n_bytes]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(End::Broken),
        })
    }

    /// A frame as a message, unless it is only a part of one.
    fn take_in(&mut self, frame: Frame) -> Result<Option<Incoming>, End> {
        Ok(Some(match frame {
            Frame::Text(bytes) => Incoming::Text(text(bytes.to_vec())?),
            Frame::Binary(_) => Incoming::Binary,
            Frame::Ping(payload) => Incoming::Ping(payload),
            Frame::Pong(_) => Incoming::Pong,
            Frame::Close(reason) => Incoming::Close(reason.map(|reason| reason.code.into())),
            Frame::Continuation(item) => return self.join_fragment(item),
        }))
    }

    fn join_fragment(&mut self, item: Item) -> Result<Option<Incoming>, End> {
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
        let Some(fragments) = &mut self.fragments else { return Err(End::ProtocolError) };
        if fragments.bytes.len() + part.len() > self.max_message_bytes {
            return Err(End::TooLarge);
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

fn text(bytes: Vec<u8>) -> Result<String, End> {
    String::from_utf8(bytes).map_err(|_| End::InvalidUtf8)
}

fn protocol_end(error: &ProtocolError) -> End {
    match error {
        ProtocolError::Overflow => End::TooLarge,
        _ => End::ProtocolError,
    }
}
