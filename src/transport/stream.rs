//! A connection that a session owns. It is read by the session and written by the hub, so it is shared. No buffer, queue or
//! task is in between (docs/adr/0001).

use std::io::{self, Read};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use socket2::SockRef;
use tokio::io::Interest;

use super::polling::PollingStream;
use super::tls::TlsStream;

/// The bytes of one session.
pub(crate) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(TlsStream),
    /// The HTTP requests of a client that polls.
    Polling(Box<PollingStream>),
}

impl Stream {
    /// Writes what can be written without waiting. Returns how many of the bytes were taken.
    ///
    /// # Errors
    /// `WouldBlock` if none can be taken now. Any other error ends the connection.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
            Self::Polling(polling) => polling.try_write(bytes),
        }
    }

    /// Writes what was taken and is still here. A plain connection keeps nothing, and an encrypted one a record at most.
    ///
    /// # Errors
    /// `WouldBlock` if something is still here. Any other error ends the connection.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
            Self::Polling(polling) => polling.try_flush(),
        }
    }

    /// Waits until there is something to read, and hands it to `take`, in one piece or in several. `buffer` is room for the
    /// work. A peer that sends all the time uses up the task's turn (tokio's budget). So the other things that the task waits
    /// for get their turn too.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer sends nothing any more. Any other error ends the connection.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => {
                ready!(tcp.poll_read_ready(context))?;
                Poll::Ready(match read_into(tcp, buffer) {
                    Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n_bytes) => {
                        take(&buffer[..n_bytes]);
                        Ok(())
                    }
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                        Ok(())
                    }
                    Err(error) => Err(error),
                })
            }
            Self::Tls(tls) => tls.poll_read(context, buffer, take),
            Self::Polling(polling) => polling.poll_read(context, buffer, take),
        }
    }

    /// Waits until bytes can be written.
    ///
    /// # Errors
    /// The connection has failed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.writable().await,
            Self::Tls(tls) => tls.writable().await,
            Self::Polling(polling) => polling.writable().await,
        }
    }

    /// Waits until the connection below a WebSocket can be written.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_write_ready(context),
            Self::Tls(tls) => tls.poll_write_ready(context),
            // A WebSocket is never below another one.
            Self::Polling(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends our half of the connection.
    pub(crate) fn shutdown_write(&self) {
        match self {
            Self::Plain(tcp) => end_writing(tcp),
            Self::Tls(tls) => tls.shutdown_write(),
            Self::Polling(polling) => polling.shutdown_write(),
        }
    }
}

/// Ends our half of a TCP connection. A peer that has gone needs no end.
pub(super) fn end_writing(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
}

/// Reads the bytes that are there. A read that does not fill the buffer took all of them. So the stream counts as not ready,
/// which saves a second read that would find nothing. The end of the stream is seen later (tokio's own `poll_read` does the
/// same).
pub(super) fn read_into(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_bytes = 0;
    let read = tcp.try_io(Interest::READABLE, || {
        n_bytes = (&*SockRef::from(tcp)).read(buffer)?;
        if (1..buffer.len()).contains(&n_bytes) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if n_bytes > 0 { Ok(n_bytes) } else { read.map(|()| 0) }
}
