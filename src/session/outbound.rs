//! A socket's TCP stream, written by the hub.

use std::io;

use actix_rt::net::TcpStream;

use crate::hub::Outbound;

/// Writes straight into the kernel's buffer, without a buffer, a queue or a task in between (docs/adr/0001).
impl Outbound for TcpStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }
}
