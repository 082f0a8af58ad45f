//! One HTTP answer of a node.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use super::printout::clean;
use super::way::{Conversation, Way, why_unread};

/// What a node answered.
struct Answer {
    status: u16,
    body: String,
}

/// How long the connecting may take, and then the answer. A node answers within a second or two, also if others do not answer the
/// node.
const PATIENCE: Duration = Duration::from_secs(10);

/// No answer is longer.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Asks for `path` with GET. Shows the API key in `key_file`, if there is one.
///
/// # Errors
/// The file cannot be read, or the node does not answer, or refuses. Or `way` is not the way to it ([`get`]).
pub(super) fn get_json(url: &str, way: &Way, path: &str, key_file: Option<&Path>) -> anyhow::Result<Value> {
    let key = key_file.map(key_in).transpose()?;
    let Answer { status, body } = get(url, way, path, key.as_deref(), PATIENCE)?;
    let answer: Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered {status}, and no JSON: not a node"))?;
    if status != 200 {
        bail!("{url} answered {status}: {}", clean(answer["message"].as_str().unwrap_or("no message")));
    }
    Ok(answer)
}

/// The key in a file, without the end of its line. It is never shown: neither is it an argument, which other users of the machine
/// can see.
fn key_in(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = text.trim();
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_plain, "{} must have an API key, and nothing else", path.display());
    Ok(key.to_owned())
}

/// Asks for `path` with GET, and shows `key` if there is one. It uses no HTTP client: one request of HTTP/1.0 needs none. `way`
/// says who may answer at an `https://` URL.
///
/// # Errors
/// `url` is no `http://host:port` or `https://host:port`, nobody listens there, or what listens there does not speak HTTP, or
/// is not whom `way` trusts.
fn get(url: &str, way: &Way, path: &str, key: Option<&str>, patience: Duration) -> anyhow::Result<Answer> {
    let (authority, default_port) = authority(url)?;
    let way = match way {
        way if default_port == PLAIN_PORT => Way { trust: None, ..way.clone() },
        way => {
            ensure!(way.trust.is_some(), "{url:?} needs the certificate of the node (server.tls_certificate_path)");
            way.clone()
        }
    };
    let mut stream =
        connect(authority, default_port, &way, patience).with_context(|| format!("cannot connect to {url}"))?;
    let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).with_context(|| format!("cannot speak with {url}"))?;
    let read = read_all(&mut *stream, patience).map_err(|error| why_unread(error, patience));
    let bytes = read.with_context(|| format!("{url} does not answer"))?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{url} does not speak HTTP"))
}

/// Reads all that comes, within this time. A read that waits for its first byte has a deadline of its own.
fn read_all(stream: &mut dyn Conversation, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n_bytes) => bytes.extend_from_slice(&piece[..n_bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.len() > BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
        if Instant::now() > deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// The port of a URL that has none.
pub(super) const PLAIN_PORT: u16 = 80;
pub(super) const TLS_PORT: u16 = 443;

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

/// The host in a `host:port`, without the brackets of an IPv6 address.
pub(super) fn host_of(authority: &str) -> &str {
    let has_port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let host = has_port.map_or(authority, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The addresses of an authority.
///
/// # Errors
/// The host has none.
pub(super) fn addresses(authority: &str, default_port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    Ok(with_port.to_socket_addrs()?.collect())
}

fn connect(authority: &str, default_port: u16, way: &Way, patience: Duration) -> anyhow::Result<Box<dyn Conversation>> {
    let mut failure = None;
    for address in addresses(authority, default_port)? {
        match way.open(host_of(authority), address, patience) {
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
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_that_never_ends_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut client = listener.accept().unwrap().0;
            while client.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let error = get(&url, &Way::default(), "/", None, Duration::from_secs(1)).err().expect("it never ends");
        assert!(format!("{error:#}").ends_with("does not answer: no answer within 1 s"), "{error:#}");
        server.join().unwrap();
    }

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
