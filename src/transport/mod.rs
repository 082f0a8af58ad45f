//! What lies under HTTP and under sessions: the bytes of one connection, and who is at its other end.
//!
//! A connection begins as an [`HttpStream`]. When it becomes a socket, a [`Stream`] is left of it (docs/adr/0013). A client that
//! polls has many connections, one after the other, and its session has a [`Stream`] all the same (docs/adr/0014).

mod certificates;
pub(crate) mod files;
mod http_stream;
mod pipe;
mod polling;
pub(crate) mod proxy_header;
mod sids;
mod stream;
mod tls;
mod validity;

use std::io;
use std::net::SocketAddr;

use actix_rt::net::TcpStream;

pub(crate) use self::certificates::Certificates;
pub(crate) use self::http_stream::{Detached, HttpStream};
pub(crate) use self::pipe::{Pipe, PollRefused, Probe};
pub(crate) use self::polling::PollingStream;
pub(crate) use self::sids::{Sid, Sids};
pub(crate) use self::stream::Stream;

/// Who is at the other end of a connection. HTTP adds what proxies say in headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The client's address. A trusted proxy may have said it. Otherwise it is where the TCP connection comes from.
    pub addr: SocketAddr,
    /// Whether a trusted proxy has said the address.
    pub is_proxied: bool,
}

impl Peer {
    /// Where a TCP connection comes from.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { addr: stream.peer_addr()?, is_proxied: false })
    }
}
