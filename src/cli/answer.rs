//! One HTTP answer of a node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// What a node answered.
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: String,
}

/// A node answers within a second or two, also if others do not answer the node.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// No answer is longer.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Asks for `path` with GET. It uses no HTTP client: one request of HTTP/1.0 needs none.
///
/// # Errors
/// `url` is no `http://host:port`, nobody listens there, or what listens there does not speak HTTP.
pub(super) fn get(url: &str, path: &str) -> anyhow::Result<Answer> {
    let authority = authority(url)?;
    let mut stream = connect(authority).with_context(|| format!("cannot connect to {url}"))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut bytes).with_context(|| format!("{url} does not answer"))?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{url} does not speak HTTP"))
}

/// The `host:port` of a URL. Without a port it is 80.
fn authority(url: &str) -> anyhow::Result<&str> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} does not begin with http://"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c));
    ensure!(!authority.is_empty() && is_plain(authority), "{url:?} must be http://host:port");
    Ok(authority)
}

fn connect(authority: &str) -> anyhow::Result<TcpStream> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let addresses: Vec<SocketAddr> = with_port.to_socket_addrs()?.collect();
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None => bail!("the host has no address"),
    }
}

fn parse(text: &str) -> anyhow::Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").context("no whole head")?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok()).context("no status")?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        assert_eq!(authority("http://[::1]:8080/").unwrap(), "[::1]:8080");
        for bad in ["https://host:1", "host:1", "http://", "http://a/b", "http://a@b", "http://a\r\nb"] {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = parse("HTTP/1.0 403 Forbidden\r\nallow: x\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!((answer.status, &*answer.body), (403, "{\"a\":1}"));
        assert!(parse("HTTP/1.1 200 OK\r\n").is_err() && parse("+PONG\r\n\r\n").is_err());
    }
}
