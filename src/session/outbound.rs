//! A socket's TCP stream, written by the hub.

use std::io;
use std::rc::Rc;

use actix_rt::net::TcpStream;

use crate::hub::Outbound;

/// Writes straight into the kernel's buffer, without a buffer, a queue or a task in between (docs/adr/0001).
pub(crate) struct TcpOutbound(pub Rc<TcpStream>);

impl Outbound for TcpOutbound {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
}
