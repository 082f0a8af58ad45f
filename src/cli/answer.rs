//! One HTTP answer of a node.

use std::io::{self, ErrorKind};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use super::authority::{PLAIN_PORT, TLS_PORT, host_and_port};
use super::printout::clean;
use super::secret_file::secret_in;
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
    let key = key_file.map(|path| secret_in(path, "an API key")).transpose()?;
    let Answer { status, body } = get(url, way, path, key.as_deref(), PATIENCE)?;
    let answer: Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered {status}, and no JSON: not a node"))?;
    if status != 200 {
        bail!("{url} answered {status}: {}", clean(answer["message"].as_str().unwrap_or("no message")));
    }
    Ok(answer)
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

fn connect(authority: &str, default_port: u16, way: &Way, patience: Duration) -> anyhow::Result<Box<dyn Conversation>> {
    let mut failure = None;
    let (host, port) = host_and_port(authority, default_port);
    for address in (host, port).to_socket_addrs()? {
        match way.open(host, address, patience) {
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
