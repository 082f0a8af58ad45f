//! TCP connections. This file counts each one from its acceptance until it ends or becomes a socket. It also sets a
//! deadline for what is written to the connection.
//!
//! actix-http does neither of the two. Its writes have no deadline. Its own count of a connection ends when the upgrade
//! service takes the connection over.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::net::TcpStream;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::ApiError;
use crate::metrics::ConnectionMetrics;
use crate::settings::ServerSettings;

/// The plain HTTP connections of one process. A connection that is about to become a socket is among them.
pub(crate) struct Connections {
    n_open: AtomicUsize,
    n_max: usize,
    write_timeout: Duration,
    request_timeout: Duration,
    /// The answer to a client if there are too many connections.
    refusal: String,
    metrics: ConnectionMetrics,
}

/// One HTTP connection. It ends if its client does not take what is written in time.
pub(crate) struct Connection {
    stream: TcpStream,
    /// The time by which the client must have taken what was written. It is none while nothing waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The time at which the connection ends if it has got no further answer. actix-http has deadlines for the head of
    /// the first request, and between two requests. It has none for the head of a later request, and none for a body
    /// that nobody reads.
    idle: Pin<Box<Sleep>>,
    has_written: bool,
    place: Place,
}

/// A place among the connections. Dropping it gives the place up.
struct Place(Arc<Connections>);

impl Connections {
    /// No connections yet, with the limits `server.max_http_connections`, `server.write_timeout_ms` and
    /// `server.request_timeout_ms`.
    pub(crate) fn new(settings: &ServerSettings, metrics: ConnectionMetrics) -> Arc<Self> {
        let body = ApiError::TooManyConnections.body();
        let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
                    content-type: application/json\r\ncontent-length:";
        let refusal = format!("{head} {}\r\n\r\n{}", body.len(), String::from_utf8_lossy(&body));
        Arc::new(Self {
            n_open: AtomicUsize::new(0),
            n_max: settings.max_http_connections,
            write_timeout: settings.write_timeout,
            request_timeout: settings.request_timeout,
            refusal,
            metrics,
        })
    }

    /// Takes over a connection that was accepted.
    ///
    /// # Errors
    /// `ConnectionRefused` if there are too many connections. The client has been told so.
    pub(crate) fn open(self: &Arc<Self>, stream: TcpStream) -> io::Result<Connection> {
        let place = Place(self.clone());
        if self.n_open.fetch_add(1, Ordering::Relaxed) >= self.n_max {
            self.metrics.too_many();
            let socket = SockRef::from(&stream);
            // The buffer of a new connection has room for the refusal. But the refusal may be lost. If a request has
            // arrived and nobody reads it, the kernel resets the connection.
            let _ = socket.send(self.refusal.as_bytes()).and_then(|_| socket.shutdown(Shutdown::Write));
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        // Answers are written whole, so it does not help to wait for more bytes.
        stream.set_nodelay(true)?;
        let idle = Box::pin(sleep(self.request_timeout));
        Ok(Connection { stream, deadline: None, idle, has_written: false, place })
    }
}

impl Connection {
    /// The stream alone, for a session. The session has a deadline of its own, and its seat counts the connection.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Ends a connection that has got no answer for too long.
    fn end_if_idle(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.idle.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.place.0.metrics.request_timed_out();
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Lets a write wait until the deadline.
    fn or_deadline<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let write_timeout = self.place.0.write_timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        ready!(deadline.as_mut().poll(context));
        self.place.0.metrics.write_timed_out();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.end_if_idle(context)?;
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

/// The HTTP dispatcher writes until its buffer is empty, and then flushes. So a flush says that the client has taken
/// everything. If the client takes only a part, the deadline stays. So a client that reads a byte now and then is not
/// served for ever.
impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.has_written = true;
        this.or_deadline(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(context));
        this.deadline = None;
        if std::mem::take(&mut this.has_written) {
            let next = tokio::time::Instant::now() + this.place.0.request_timeout;
            this.idle.as_mut().reset(next);
        }
        // Each turn of the dispatcher ends with a flush, even if the dispatcher reads nothing.
        this.end_if_idle(context)?;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Ordering::Relaxed);
    }
}
