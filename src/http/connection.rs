//! TCP connections. This file counts each one from its acceptance until it ends or becomes a socket. It also sets a
//! deadline for what is written to the connection.
//!
//! actix-http does neither of the two. Its writes have no deadline. Its own count of a connection ends when the upgrade
//! service takes the connection over.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::net::TcpStream;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

use super::ApiError;
use super::turns::Moved;
use crate::clock::stood_still;
use crate::metrics::ConnectionMetrics;
use crate::settings::{ProxyProtocol, ServerSettings, TrustedProxies};
use crate::transport::{Certificates, Detached, HttpStream, Peer, Stream, proxy_header};

/// The plain HTTP connections of one process. A connection that is about to become a socket is among them.
pub(crate) struct Connections {
    n_open: AtomicUsize,
    n_max: usize,
    write_timeout: Duration,
    request_timeout: Duration,
    /// Whose connections begin with a PROXY header. It is none if nobody's do.
    with_header: Option<TrustedProxies>,
    /// The answer to a client if there are too many connections.
    refusal: String,
    /// What an encrypted connection begins with. It is none if nothing is encrypted here.
    certificates: Option<Arc<Certificates>>,
    metrics: ConnectionMetrics,
}

/// One HTTP connection. It ends if its client does not take what is written in time.
pub(crate) struct Connection {
    stream: HttpStream,
    peer: Peer,
    /// The time by which the client must have taken what was written. It is none while nothing waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The time at which the connection ends: if it is quiet then, or if it has got no further answer. actix-http has a
    /// deadline for the head of the first request. It has none for the head of a later request, and none for a body that
    /// nobody reads. Its deadline between two requests is switched off ([`KEEP_ALIVE`]).
    ends_at: Instant,
    /// Fires at that time, or before it: it is not set anew for each request.
    idle: Pin<Box<Sleep>>,
    /// Whether nothing was read or written since the client took all that was written.
    is_quiet: bool,
    has_written: bool,
    moved: Moved,
    waits: Waits,
    place: Place,
}

/// Whether a connection has a request that waits for news, with a deadline of its own. Such a connection is not idle, however
/// long that takes, and however long the process stands still meanwhile.
#[derive(Clone, Default)]
pub(crate) struct Waits(Rc<WaitsState>);

#[derive(Default)]
struct WaitsState {
    is_waiting: Cell<bool>,
    /// Requests that are being answered. There is one at most: HTTP/1.1 answers them one after the other.
    n_answering: Cell<u32>,
    /// When the last wait ended, until the connection takes note of it.
    ended_at: Cell<Option<Instant>>,
}

/// A request that waits. When it is dropped, the time of an idle connection begins anew.
pub(super) struct Waiting(Rc<WaitsState>);

/// A request that is being answered.
pub(super) struct Answering(Rc<WaitsState>);

/// How long a connection may be quiet between two requests. actix-http could do this, too. But it looks at the time before it
/// reads. So after a standstill of the process, it would close a connection on which a request waits.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long all may take that comes before HTTP. actix-http gives the head of a request as long.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// A place among the connections. Dropping it gives the place up.
struct Place(Arc<Connections>);

impl Connections {
    /// No connections yet, with the limits `server.max_http_connections`, `server.write_timeout_ms` and
    /// `server.request_timeout_ms`, and with PROXY headers as `server.proxy_protocol` says.
    pub(crate) fn new(
        settings: &ServerSettings,
        certificates: Option<Arc<Certificates>>,
        metrics: ConnectionMetrics,
    ) -> Arc<Self> {
        let body = ApiError::TooManyConnections.body();
        let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
                    content-type: application/json\r\ncontent-length:";
        let refusal = format!("{head} {}\r\n\r\n{}", body.len(), String::from_utf8_lossy(&body));
        Arc::new(Self {
            n_open: AtomicUsize::new(0),
            n_max: settings.max_http_connections,
            write_timeout: settings.write_timeout,
            request_timeout: settings.request_timeout,
            with_header: (settings.proxy_protocol == ProxyProtocol::On).then(|| TrustedProxies::new(settings)),
            refusal,
            certificates,
            metrics,
        })
    }

    /// How many connections there are, and how many there may be.
    pub(super) fn fill(&self) -> (usize, usize) {
        (self.n_open.load(Ordering::Relaxed), self.n_max)
    }

    /// Takes over a connection that was accepted, and reads what comes before HTTP.
    ///
    /// # Errors
    /// `ConnectionRefused` if there are too many connections. The client has been told so, unless it expects TLS. Any other
    /// error if the client has gone, or if what comes before HTTP is wrong, or does not come in time.
    pub(crate) async fn open(self: &Arc<Self>, tcp: TcpStream) -> io::Result<Connection> {
        let place = self.take_place(&tcp)?;
        let deadline = Instant::now() + OPENING_TIMEOUT;
        let peer = self.peer_of(&tcp, deadline).await?;
        // Answers are written whole, so it does not help to wait for more bytes.
        tcp.set_nodelay(true)?;
        let stream = self.encrypt(tcp, deadline).await?;
        let ends_at = Instant::now() + self.request_timeout;
        let idle = Box::pin(sleep_until(ends_at));
        let (moved, waits) = (Moved::default(), Waits::default());
        Ok(Connection {
            stream,
            peer,
            deadline: None,
            ends_at,
            idle,
            is_quiet: false,
            has_written: false,
            moved,
            waits,
            place,
        })
    }

    /// Who is at the other end. A trusted proxy says it in its PROXY header.
    async fn peer_of(&self, tcp: &TcpStream, deadline: Instant) -> io::Result<Peer> {
        let peer = Peer::of(tcp)?;
        if !self.with_header.as_ref().is_some_and(|proxies| proxies.contains(peer.addr.ip())) {
            return Ok(peer);
        }
        let read = timeout_at(deadline, proxy_header::read(tcp, peer)).await;
        read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).inspect_err(|_| self.metrics.proxy_header_failed())
    }

    /// Does the TLS handshake, if there is to be one.
    async fn encrypt(&self, tcp: TcpStream, deadline: Instant) -> io::Result<HttpStream> {
        let Some(certificates) = &self.certificates else { return Ok(HttpStream::Plain(tcp)) };
        let accepted = timeout_at(deadline, certificates.accept(tcp)).await;
        accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).inspect_err(|error| {
            self.metrics.tls_handshake_failed();
            tracing::debug!(error = %error, "A TLS handshake failed");
        })
    }

    fn take_place(self: &Arc<Self>, tcp: &TcpStream) -> io::Result<Place> {
        let place = Place(self.clone());
        if self.n_open.fetch_add(1, Ordering::Relaxed) >= self.n_max {
            self.metrics.too_many();
            // A handshake for a client that is turned away would cost more than the client.
            if self.certificates.is_some() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let socket = SockRef::from(tcp);
            // The buffer of a new connection has room for the refusal. But the refusal may be lost. If a request has
            // arrived and nobody reads it, the kernel resets the connection.
            let _ = socket.send(self.refusal.as_bytes()).and_then(|_| socket.shutdown(Shutdown::Write));
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(place)
    }
}

impl Connection {
    /// The stream alone, for a session. The session has a deadline of its own, and its seat counts the connection.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream.into_stream()
    }

    /// The stream alone, for a session on another thread.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) fn detach(self) -> io::Result<Detached> {
        self.stream.detach()
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Whether a request of the connection waits for news, from now on.
    pub(crate) fn waits(&self) -> Waits {
        self.waits.clone()
    }

    /// How many bytes it has moved, from now on.
    pub(super) fn moved(&self) -> Moved {
        self.moved.clone()
    }

    /// Whether the connection has been quiet for too long. If the process stood still, the time begins anew.
    ///
    /// # Errors
    /// The connection has got no answer for too long.
    fn ends_now(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.waits.0.is_waiting.get() {
            return Ok(false);
        }
        // A quiet connection has got its answer since then.
        if let Some(ended_at) = self.waits.0.ended_at.take().filter(|_| !self.is_quiet) {
            self.end_at(ended_at + self.place.0.request_timeout);
        }
        while self.idle.as_mut().poll(context).is_ready() {
            if Instant::now() < self.ends_at {
                self.idle.as_mut().reset(self.ends_at);
            } else if stood_still(self.ends_at.into_std()) {
                self.begin_time();
            } else if !self.is_quiet || self.patience() == self.place.0.request_timeout {
                // With so short a time for requests, nobody can tell half a request from quiet.
                self.place.0.metrics.request_timed_out();
                return Err(io::ErrorKind::TimedOut.into());
            } else if self.waits.0.n_answering.get() == 0 {
                return Ok(true);
            } else {
                // The request had come with the one before.
                self.end_quiet();
            }
        }
        Ok(false)
    }

    /// The time of the connection begins anew.
    fn begin_time(&mut self) {
        self.end_at(Instant::now() + self.patience());
    }

    fn end_at(&mut self, end: Instant) {
        self.ends_at = end;
        if end < self.idle.deadline() {
            self.idle.as_mut().reset(end);
        }
    }

    /// How long the connection may go on as it is.
    fn patience(&self) -> Duration {
        let request_timeout = self.place.0.request_timeout;
        if self.is_quiet { KEEP_ALIVE.min(request_timeout) } else { request_timeout }
    }

    /// The connection is not quiet any more.
    fn end_quiet(&mut self) {
        if std::mem::take(&mut self.is_quiet) {
            self.begin_time();
        }
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

impl Waits {
    /// A request waits. HTTP/1.1 answers one request of a connection after the other, so no other one does.
    pub(super) fn begin(&self) -> Waiting {
        self.0.is_waiting.set(true);
        Waiting(self.0.clone())
    }

    /// A request is being answered.
    pub(super) fn answer(&self) -> Answering {
        self.0.n_answering.update(|n| n + 1);
        Answering(self.0.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.n_answering.update(|n| n - 1);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.is_waiting.set(false);
        self.0.ended_at.set(Some(Instant::now()));
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let n_before = buffer.filled().len();
        // This comes first: a request that is there has come in time, whatever the time is now.
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let n_bytes = buffer.filled().len() - n_before;
        this.moved.add(n_bytes);
        if n_bytes > 0 {
            this.end_quiet();
        }
        if this.ends_now(context)? && read.is_pending() {
            // To actix-http, this is a client that has closed its side.
            return Poll::Ready(Ok(()));
        }
        read
    }
}

/// The HTTP dispatcher writes until its buffer is empty, and then flushes. So a flush says that the client has taken
/// everything. If the client takes only a part, the deadline stays. So a client that reads a byte now and then is not
/// served for ever.
impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // An answer that the client takes slowly is no quiet.
        this.end_quiet();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.has_written = true;
        if let Poll::Ready(Ok(n_bytes)) = written {
            this.moved.add(n_bytes);
        }
        this.or_deadline(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An encrypted connection may have taken what the client has not.
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        let flushed = ready!(this.or_deadline(context, flushed));
        this.deadline = None;
        if std::mem::take(&mut this.has_written) {
            this.is_quiet = true;
            this.begin_time();
        }
        // Each turn of the dispatcher ends with a flush, even if the dispatcher reads nothing.
        this.ends_now(context)?;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = Pin::new(&mut this.stream).poll_shutdown(context);
        this.or_deadline(context, ended)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Ordering::Relaxed);
    }
}
