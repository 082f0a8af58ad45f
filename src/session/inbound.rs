//! A socket's TCP stream, read as WebSocket messages.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use socket2::SockRef;
use tokio::io::Interest;

use super::close::End;
use crate::wire::reader::{Incoming, Reader, Violation};

/// Reads one client's messages. It holds no memory while nothing is half read.
pub(crate) struct Inbound {
    stream: Rc<TcpStream>,
    reader: Reader,
}

/// How many bytes one read takes. All sockets of a worker's thread share one buffer, because a read that has data never
/// waits.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl Inbound {
    /// Reads from `stream`, after `early`.
    pub(crate) fn new(stream: Rc<TcpStream>, early: &[u8], max_message_bytes: usize) -> Self {
        let mut reader = Reader::new(max_message_bytes);
        reader.push(early);
        Self { stream, reader }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// The reason to end the session.
    ///
    /// # Cancel safety
    /// The bytes that were read stay in the reader for the next call.
    pub(crate) fn next(&mut self) -> impl Future<Output = Result<Incoming, End>> {
        poll_fn(|context| {
            loop {
                if let Some(incoming) = self.reader.next_message()? {
                    return Poll::Ready(Ok(incoming));
                }
                ready!(self.poll_read(context, Reader::push))?;
            }
        })
    }

    /// Reads and throws away all bytes that still come, until the stream ends.
    pub(crate) async fn discard(&mut self) {
        poll_fn(|context| {
            while ready!(self.poll_read(context, |_, _| ())).is_ok() {}
            Poll::Ready(())
        })
        .await;
    }

    /// Waits until there is something to read, and reads it. A peer that sends all the time uses up the task's turn
    /// (tokio's budget). So the other things that the task waits for get their turn too.
    fn poll_read(&mut self, context: &mut Context<'_>, take: impl FnOnce(&mut Reader, &[u8])) -> Poll<Result<(), End>> {
        ready!(self.stream.poll_read_ready(context)).map_err(|_| End::Broken)?;
        Poll::Ready(self.read(take))
    }

    fn read(&mut self, take: impl FnOnce(&mut Reader, &[u8])) -> Result<(), End> {
        READ_BUFFER.with_borrow_mut(|read_buffer| match self.read_into(read_buffer) {
            Ok(0) => Err(End::Broken),
            Ok(n_bytes) => {
                take(&mut self.reader, &read_buffer[..n_bytes]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(End::Broken),
        })
    }

    /// Reads the bytes that are there. A read that does not fill the buffer took all of them. So the stream counts as
    /// not ready, which saves a second read that would find nothing. The end of the stream is seen later (tokio's own
    /// `poll_read` does the same).
    fn read_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut n_bytes = 0;
        let read = self.stream.try_io(Interest::READABLE, || {
            n_bytes = (&*SockRef::from(&*self.stream)).read(buffer)?;
            if (1..buffer.len()).contains(&n_bytes) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if n_bytes > 0 { Ok(n_bytes) } else { read.map(|()| 0) }
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
