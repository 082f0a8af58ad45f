//! A socket's stream, read as WebSocket messages.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::close::End;
use crate::transport::Stream;
use crate::wire::reader::{Incoming, Reader, Violation};

/// Reads one client's messages. It holds no memory while nothing is half read.
pub(crate) struct Inbound {
    stream: Rc<Stream>,
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
    pub(crate) fn new(stream: Rc<Stream>, early: &[u8], max_message_bytes: usize) -> Self {
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

    /// Waits until there is something to read, and hands it to `take`.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(&mut Reader, &[u8]),
    ) -> Poll<Result<(), End>> {
        let Self { stream, reader } = self;
        READ_BUFFER.with_borrow_mut(|buffer| {
            let read = stream.poll_read(context, buffer, &mut |bytes| take(reader, bytes));
            read.map_err(|_| End::Broken)
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
