//! A socket's TCP stream, read as WebSocket messages.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use actix_rt::net::TcpStream;
use bytes::BytesMut;

use super::close::End;
use crate::wire::reader::{Incoming, Reader, Violation};

/// Reads one client's messages. Holds no memory while nothing is half read.
pub struct Inbound {
    stream: Rc<TcpStream>,
    reader: Reader,
}

/// What is read at once. One buffer for a worker's thread, because a read that has data never waits.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl Inbound {
    /// Reads from `stream`, after `early`.
    pub fn new(stream: Rc<TcpStream>, early: BytesMut, max_message_bytes: usize) -> Self {
        let mut reader = Reader::new(max_message_bytes);
        // A copy, for `early` is a part of a buffer of 8 KiB that would be kept.
        reader.push(&early);
        Self { stream, reader }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// The reason to end the session.
    ///
    /// # Cancel safety
    /// What was read stays in the reader for the next call.
    pub async fn next(&mut self) -> Result<Incoming, End> {
        loop {
            if let Some(incoming) = self.reader.next_message()? {
                return Ok(incoming);
            }
            self.stream.readable().await.map_err(|_| End::Broken)?;
            self.read(Reader::push)?;
        }
    }

    /// Reads what still comes and makes nothing of it, until the stream ends.
    pub async fn discard(&mut self) {
        while self.stream.readable().await.is_ok() && self.read(|_, _| ()).is_ok() {}
    }

    fn read(&mut self, take: impl FnOnce(&mut Reader, &[u8])) -> Result<(), End> {
        READ_BUFFER.with_borrow_mut(|read_buffer| match self.stream.try_read(read_buffer) {
            Ok(0) => Err(End::Broken),
            Ok(n_bytes) => {
                take(&mut self.reader, &read_buffer[..n_bytes]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(End::Broken),
        })
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Protocol => Self::ProtocolError,
            Violation::InvalidUtf8 => Self::InvalidUtf8,
            Violation::TooLarge => Self::TooLarge,
        }
    }
}
