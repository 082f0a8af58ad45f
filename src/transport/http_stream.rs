//! A connection while HTTP is spoken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_rt::net::TcpStream;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream as ServerStream;

use super::Stream;
use super::tls::TlsStream;

/// What HTTP is read from and written to.
pub(crate) enum HttpStream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP. Few connections speak HTTP at a time, and the rest should not be as large.
    Tls(Box<ServerStream<TcpStream>>),
}

/// A connection that belongs to no thread. What was written to it is on its way.
pub(crate) struct Detached {
    tcp: std::net::TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl HttpStream {
    /// The same connection for another thread.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Plain(tcp) => Ok(Detached { tcp: tcp.into_std()?, tls: None }),
            Self::Tls(tls) => {
                let (tcp, connection) = tls.into_inner();
                Ok(Detached { tcp: tcp.into_std()?, tls: Some(Box::new(connection)) })
            }
        }
    }

    /// The same connection for a session.
    pub(crate) fn into_stream(self) -> Stream {
        match self {
            Self::Plain(tcp) => Stream::Plain(tcp),
            Self::Tls(tls) => {
                let (tcp, connection) = tls.into_inner();
                Stream::Tls(TlsStream::new(tcp, connection))
            }
        }
    }
}

impl Detached {
    /// The connection, for a session on this thread.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) fn attach(self) -> io::Result<Stream> {
        let tcp = TcpStream::from_std(self.tcp)?;
        Ok(match self.tls {
            Some(connection) => Stream::Tls(TlsStream::new(tcp, *connection)),
            None => Stream::Plain(tcp),
        })
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
