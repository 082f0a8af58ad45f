//! One HTTP answer of a node.

use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use super::way::{Conversation, Way, why_unread};

/// What a node answered.
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: String,
}

/// How long the connecting and each read may take. A node answers within a second or two, also if others do not answer the
/// node.
const PATIENCE: Duration = Duration::from_secs(10);

/// No answer is longer.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Asks for `path` with GET, and shows `key` if there is one. It uses no HTTP client: one request of HTTP/1.0 needs none. `way`
/// says who may answer at an `https://` URL.
///
/// # Errors
/// `url` is no `http://host:port` or `https://host:port`, nobody listens there, or what listens there does not speak HTTP, or
/// is not whom `way` trusts.
pub(super) fn get(url: &str, way: Way, path: &str, key: Option<&str>) -> anyhow::Result<Answer> {
    let (authority, default_port) = authority(url)?;
    let way = match way {
        way if default_port == PLAIN_PORT => Way { trust: None, ..way },
        way => {
            ensure!(way.trust.is_some(), "{url:?} needs the certificate of the node (server.tls_certificate_path)");
            way
        }
    };
    let mut stream = connect(authority, default_port, &way).with_context(|| format!("cannot connect to {url}"))?;
    let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n{authorization}\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let read = stream.take(BYTES_MAX).read_to_end(&mut bytes).map_err(|error| why_unread(error, PATIENCE));
    read.with_context(|| format!("{url} does not answer"))?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{url} does not speak HTTP"))
}

/// The port of a URL that has none.
const PLAIN_PORT: u16 = 80;
const TLS_PORT: u16 = 443;

/// The `host:port` of a URL, and the port if it has none.
fn authority(url: &str) -> anyhow::Result<(&str, u16)> {
    let plain = url.strip_prefix("http://").map(|rest| (rest, PLAIN_PORT));
    let (rest, port) = plain
        .or_else(|| Some((url.strip_prefix("https://")?, TLS_PORT)))
        .with_context(|| format!("{url:?} does not begin with http:// or https://"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c));
    ensure!(!authority.is_empty() && is_plain(authority), "{url:?} must be http://host:port");
    Ok((authority, port))
}

fn connect(authority: &str, default_port: u16, way: &Way) -> anyhow::Result<Box<dyn Conversation>> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    let addresses: Vec<SocketAddr> = with_port.to_socket_addrs()?.collect();
    let mut failure = None;
    for address in addresses {
        match way.open(address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| anyhow!("the host has no address")))
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
        assert_eq!(authority("http://[::1]:8080/").unwrap(), ("[::1]:8080", 80));
        assert_eq!(authority("https://host").unwrap(), ("host", 443));
        for bad in ["ftp://host:1", "host:1", "http://", "http://a/b", "http://a@b", "http://a\r\nb"] {
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
