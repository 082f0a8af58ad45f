//! The PROXY header, versions 1 and 2: what a proxy says of a client before the client's own bytes. Source:
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io;
use std::net::SocketAddr;

use actix_rt::net::TcpStream;
use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

use super::Peer;

/// Longest header of version 2 that is read, in bytes. Source: the specification, section 2.2. A network passes so many at
/// once, without cutting them.
const MAX_BYTES: usize = 536;

/// Longest header of version 1, in bytes. Source: the specification, section 2.1.
const MAX_BYTES_OF_TEXT: usize = 107;

/// Whom a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// The client with this address.
    At(SocketAddr),
    /// A client without an address of the internet.
    Somebody,
    /// Nobody: the proxy speaks for itself, as in a health check.
    Nobody,
}

/// What the first bytes of a connection say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole header.
    Whole {
        /// How many bytes it has.
        n_bytes: usize,
        /// Who is at the other end of the proxy.
        client: Client,
    },
    /// The beginning of a header.
    Part,
    /// Anything else.
    Invalid,
}

/// Reads the header of a connection, and not one byte more. `proxy` is where the TCP connection comes from. Returns who is
/// at the other end of the proxy.
///
/// # Errors
/// There is no header, or it is too long, or the connection has ended.
///
/// # Cancel safety
/// None: a part of the header may have been read. Then the connection is of no use.
pub(crate) async fn read(tcp: &TcpStream, proxy: Peer) -> io::Result<Peer> {
    let mut header = [0; MAX_BYTES];
    let mut n_read = 0;
    loop {
        // What follows the header belongs to others. So the bytes are looked at before they are taken.
        let n_seen = n_read + tcp.peek(&mut header[n_read..]).await?;
        if n_seen == n_read {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&header[..n_seen]) {
            Parsed::Whole { n_bytes, client } => {
                take(tcp, &mut header[n_read..n_bytes])?;
                return Ok(match client {
                    Client::At(addr) => Peer { addr, is_proxied: true },
                    Client::Somebody => Peer { is_proxied: true, ..proxy },
                    Client::Nobody => proxy,
                });
            }
            // A part of a header is taken. If it stayed, the next look would return at once, again and again.
            Parsed::Part => take(tcp, &mut header[n_read..n_seen])?,
            Parsed::Invalid => return Err(io::ErrorKind::InvalidData.into()),
        }
        n_read = n_seen;
    }
}

/// What these first bytes of a connection say.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    if let Some(parsed) = parse_local(bytes) {
        return parsed;
    }
    let max_bytes = if bytes.starts_with(b"P") { MAX_BYTES_OF_TEXT } else { MAX_BYTES };
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        // It depends on what has arrived already whether the library looks at the length.
        Ok((_, n_bytes)) if n_bytes > max_bytes => Parsed::Invalid,
        Ok((header, n_bytes)) => match header.proxied_address() {
            Some(address) if address.protocol != Protocol::Stream => Parsed::Invalid,
            Some(address) => Parsed::Whole { n_bytes, client: Client::At(address.source) },
            // Version 1 has no family for others, and calls them unknown.
            None if bytes.starts_with(b"P") => Parsed::Whole { n_bytes, client: Client::Nobody },
            None => Parsed::Whole { n_bytes, client: Client::Somebody },
        },
        Err(Error::BufferTooShort) if bytes.len() < max_bytes => Parsed::Part,
        Err(_) => Parsed::Invalid,
    }
}

/// A header of version 2 with which the proxy speaks for itself. What it says of addresses does not count, whatever it is. It is
/// none if the bytes are no such header. Source: the specification, section 2.2
fn parse_local(bytes: &[u8]) -> Option<Parsed> {
    let rest = bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n\x20")?;
    let Some(&[_, high, low]) = rest.first_chunk() else { return Some(Parsed::Part) };
    let n_bytes = 16 + usize::from(u16::from_be_bytes([high, low]));
    Some(match n_bytes {
        too_many if too_many > MAX_BYTES => Parsed::Invalid,
        n_bytes if n_bytes > bytes.len() => Parsed::Part,
        n_bytes => Parsed::Whole { n_bytes, client: Client::Nobody },
    })
}

/// Takes bytes that were seen before. Nobody else reads from the connection, so they are still there.
fn take(tcp: &TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    let n_bytes = bytes.len();
    if tcp.try_read(bytes)? == n_bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_whole_at_its_last_byte_and_not_before() {
        let source: SocketAddr = "203.0.113.7:5000".parse().unwrap();
        let version_2 = |command: u8, addresses: &[u8]| {
            let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
            [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, if addresses.is_empty() { 0 } else { 0x11 }], &length, addresses]
                .concat()
        };
        let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
        for (header, client) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 80\r\n".to_vec(), Client::At(source)),
            (b"PROXY UNKNOWN\r\n".to_vec(), Client::Nobody),
            (version_2(0x21, &addresses), Client::At(source)),
            // A client of a Unix socket, or of something else.
            (version_2(0x21, &[]), Client::Somebody),
            (version_2(0x20, &[]), Client::Nobody),
            (version_2(0x20, &addresses), Client::Nobody),
            (version_2(0x20, &[7]), Client::Nobody),
        ] {
            for n_bytes in 0..header.len() {
                assert_eq!(parse(&header[..n_bytes]), Parsed::Part, "{n_bytes} bytes of {header:?}");
            }
            let with_request = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&with_request), Parsed::Whole { n_bytes: header.len(), client });
        }
    }

    #[test]
    fn what_is_no_header_is_invalid() {
        for bytes in [&b"GET /healthz HTTP/1.1\r\n"[..], b"POST /healthz HTTP/1.1\r\n", b"\x16\x03\x01", &[b'P'; 200]] {
            assert_eq!(parse(bytes), Parsed::Invalid, "{bytes:?}");
        }
        // A line that is too long, whether its end is there or not.
        for end in ["", "\r\n"] {
            assert_eq!(parse(format!("PROXY UNKNOWN{}{end}", " ".repeat(107)).as_bytes()), Parsed::Invalid);
        }
        // UDP.
        let datagram = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c"[..], &[1; 12]].concat();
        assert_eq!(parse(&datagram), Parsed::Invalid);
    }
}
