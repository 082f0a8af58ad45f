//! An encrypted connection that a session owns.
//!
//! rustls encrypts and decrypts in memory, and this file moves the bytes. What is encrypted and not yet written stays with the
//! connection. It is at most one record, because nothing more is encrypted before it is written. So a client that reads too
//! slowly costs no more than one record more than it would without TLS.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use rustls::ServerConnection;

use super::stream::{end_writing, read_into};

/// The bytes of one session, encrypted. The handshake is over.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    tls: RefCell<Box<ServerConnection>>,
}

/// How many bytes are encrypted and wait, at most. A record has no more (RFC 8446 §5.1).
const MAX_WAITING: usize = 16 * 1024;

impl TlsStream {
    /// A connection that has served HTTP so far.
    pub(super) fn new(tcp: TcpStream, mut tls: ServerConnection) -> Self {
        tls.set_buffer_limit(Some(MAX_WAITING));
        Self { tcp, tls: RefCell::new(Box::new(tls)) }
    }

    /// See [`super::Stream::try_write`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut tls = self.tls.borrow_mut();
        send(&self.tcp, &mut tls)?;
        let n_taken = tls.writer().write(bytes)?;
        match send(&self.tcp, &mut tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(n_taken),
        }
    }

    /// See [`super::Stream::try_flush`].
    pub(super) fn try_flush(&self) -> io::Result<()> {
        send(&self.tcp, &mut self.tls.borrow_mut())
    }

    /// See [`super::Stream::poll_read`].
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        let mut tls = self.tls.borrow_mut();
        // Some of it came along with the end of the handshake.
        if hand_over(&mut tls, buffer, take)? {
            return Poll::Ready(Ok(()));
        }
        ready!(self.tcp.poll_read_ready(context))?;
        match tls.read_tls(&mut Wire(&self.tcp)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {
                let processed = tls.process_new_packets();
                // An alert for the client, or an answer to its new keys. Whether it is written shows with the next write.
                let _ = send(&self.tcp, &mut tls);
                processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                Poll::Ready(hand_over(&mut tls, buffer, take).map(|_| ()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// See [`super::Stream::writable`].
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// See [`super::Stream::poll_write_ready`].
    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(context)
    }

    /// See [`super::Stream::shutdown_write`].
    pub(super) fn shutdown_write(&self) {
        self.say_end();
        end_writing(&self.tcp);
    }

    /// Tells the peer that nothing more comes, so that it knows that nobody has cut the connection. If the peer does not read,
    /// it is not told.
    fn say_end(&self) {
        let mut tls = self.tls.borrow_mut();
        tls.send_close_notify();
        let _ = send(&self.tcp, &mut tls);
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.say_end();
    }
}

/// Writes what is encrypted. An error says that something of it is still here.
fn send(tcp: &TcpStream, tls: &mut ServerConnection) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(&mut Wire(tcp))? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Hands over what is decrypted. Returns whether there was anything. The end of the stream is an error, once all is handed
/// over.
fn hand_over(tls: &mut ServerConnection, buffer: &mut [u8], take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    let mut has_any = false;
    loop {
        match tls.reader().read(buffer) {
            Ok(0) if has_any => return Ok(true),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n_bytes) => {
                take(&buffer[..n_bytes]);
                has_any = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(has_any),
            Err(error) => return Err(error),
        }
    }
}

/// The TCP connection as rustls reads and writes it, without waiting.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_into(self.0, buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
