//! The connection of a client that polls, as its session sees it.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::Stream;
use super::pipe::{Came, Pipe};
use super::sids::SidPlace;

/// The session's end of a pipe. If a WebSocket takes over, it is that.
pub(crate) struct PollingStream {
    pipe: Arc<Pipe>,
    upgraded: OnceCell<Stream>,
    /// What the client has said before the WebSocket took over, and after it in the same breath. The session has not read it.
    unread: RefCell<Vec<u8>>,
    /// What the server has said before the WebSocket took over. It goes first.
    held: RefCell<VecDeque<u8>>,
    _place: SidPlace,
}

impl PollingStream {
    /// The session's end of this pipe. Its id is known as long as it is here.
    pub(super) fn new(pipe: Arc<Pipe>, place: SidPlace) -> Self {
        let (upgraded, unread, held) = (OnceCell::new(), RefCell::default(), RefCell::default());
        Self { pipe, upgraded, unread, held, _place: place }
    }

    /// See [`Stream::try_write`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.settle()? {
            Some(stream) => {
                self.write_held(stream)?;
                Stream::try_write(stream, bytes)
            }
            None => self.pipe.try_write(bytes),
        }
    }

    /// See [`Stream::try_flush`]. What is in the pipe counts as taken.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        let Some(stream) = self.settle()? else { return Ok(()) };
        self.write_held(stream)?;
        Stream::try_flush(stream)
    }

    /// See [`Stream::poll_read`].
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(stream) = self.settle()? {
                return self.poll_read_upgraded(stream, context, buffer, take);
            }
            match ready!(self.pipe.poll_read(context)) {
                Came::Frames(frames) => {
                    take(&frames);
                    return Poll::Ready(Ok(()));
                }
                Came::End => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Came::Upgrade => {}
            }
        }
    }

    /// See [`Stream::writable`].
    pub(super) async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.pipe_or_upgrade(context)).await?;
        match self.upgraded.get() {
            Some(stream) => Box::pin(stream.writable()).await,
            None => Ok(()),
        }
    }

    /// See [`Stream::shutdown_write`]. A pipe ends when the client has fetched the close frame.
    pub(super) fn shutdown_write(&self) {
        if let Ok(Some(stream)) = self.settle() {
            let _ = self.write_held(stream);
            stream.shutdown_write();
        }
    }

    fn pipe_or_upgrade(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.settle()?.is_some() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.pipe.poll_writable(context))?;
            if !self.pipe.is_taken_over() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_read_upgraded(
        &self,
        stream: &Stream,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        // The session may write nothing for a long time. So what is held goes on from here, too.
        while !self.held.borrow().is_empty() {
            match self.write_held(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if stream.poll_write_ready(context)?.is_pending() {
                        break;
                    }
                }
                written => written?,
            }
        }
        let unread = self.unread.take();
        if unread.is_empty() {
            return stream.poll_read(context, buffer, take);
        }
        take(&unread);
        Poll::Ready(Ok(()))
    }

    /// The WebSocket that has taken over. It comes from another thread, so it is taken here, on the session's own.
    fn settle(&self) -> io::Result<Option<&Stream>> {
        if self.upgraded.get().is_none()
            && let Some(taken) = self.pipe.take_over()
        {
            let stream = taken.connection.attach().inspect_err(|_| self.pipe.leave())?;
            self.unread.replace(taken.unread);
            self.held.replace(taken.unsent.into());
            let _ = self.upgraded.set(stream);
        }
        Ok(self.upgraded.get())
    }

    /// Writes what is held.
    fn write_held(&self, stream: &Stream) -> io::Result<()> {
        let mut held = self.held.borrow_mut();
        if held.capacity() == 0 {
            return Ok(());
        }
        while !held.is_empty() {
            let n_written = Stream::try_write(stream, held.as_slices().0)?;
            if n_written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            held.drain(..n_written);
        }
        *held = VecDeque::new();
        Ok(())
    }
}

impl Drop for PollingStream {
    fn drop(&mut self) {
        self.pipe.leave();
    }
}
