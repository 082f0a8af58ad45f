//! Where a command connects to over WebSocket, and how.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, RETRY_AFTER};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, handshake::client::Response};

use super::authority::{PLAIN_PORT, TLS_PORT, host_and_port};
use super::printout::clean;
use super::reconnect::DELAY_MAX;
use super::secret_file::TokenFile;
use super::socket::Socket;
use super::way::Way;

/// A node, or a load balancer.
pub(crate) struct Destination {
    /// For people.
    url: String,
    authority: String,
    default_port: u16,
    path: String,
    way: Way,
    /// It is read anew for each connection, because tokens end.
    token_file: Option<TokenFile>,
}

/// Why there is no connection.
pub(super) enum Failure {
    /// Nobody answers, or not as a node does. Or there is no token now: somebody may be about to write it. Another try may help.
    Unreachable(anyhow::Error),
    /// The node asks to come later, perhaps after this time.
    Later(String, Option<Duration>),
    /// Another try does not help.
    Refused(anyhow::Error),
}

/// How long all may take until the socket is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest message of a node. A page of a list has about 1 MiB.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Destination {
    /// The node at `url`: `ws://`, `wss://`, `http://` or `https://`, and a path, `/ws` unless given. `way` says how to get there.
    ///
    /// # Errors
    /// `url` is not of this form.
    pub(crate) fn parse(url: &str, way: Way, token_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").with_context(|| format!("{url:?} is no URL"))?;
        let (default_port, way) = match scheme {
            "ws" | "http" => (PLAIN_PORT, Way { trust: None, ..way }),
            "wss" | "https" => (TLS_PORT, way),
            _ => return Err(anyhow!("{url:?} does not begin with ws://, wss://, http:// or https://")),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c));
        ensure!(!authority.is_empty() && is_plain(rest), "{url:?} must be {scheme}://host:port/path");
        let path = if path == "/" { "/ws" } else { path };
        Ok(Self {
            url: url.to_owned(),
            authority: authority.to_owned(),
            default_port,
            path: path.to_owned(),
            way,
            token_file: token_file.map(TokenFile::at),
        })
    }

    /// The URL, for people.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Connects, within ten seconds.
    ///
    /// # Errors
    /// [`Failure`].
    ///
    /// # Cancel safety
    /// The connection is dropped.
    pub(super) async fn connect(&self) -> Result<Socket, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let authorization = match &self.token_file {
            Some(file) => {
                let token = file.read_by(deadline).await.map_err(Failure::Unreachable)?;
                Some(bearer(&token).map_err(Failure::Refused)?)
            }
            None => None,
        };
        let addresses = timeout_at(deadline, tokio::net::lookup_host(self.host_and_port())).await;
        let addresses = addresses.map_err(|_| unreachable("the name service does not answer"))?;
        let addresses: Vec<_> = addresses.map_err(|error| Failure::Unreachable(error.into()))?.collect();
        self.connect_to_one_of(&addresses, authorization.as_ref(), deadline).await
    }

    fn host_and_port(&self) -> (&str, u16) {
        host_and_port(&self.authority, self.default_port)
    }

    /// Connects to the first address where a node answers. Each has its share of the time that is left: one that swallows what
    /// it is sent does not keep the command from the others.
    async fn connect_to_one_of(
        &self,
        addresses: &[SocketAddr],
        authorization: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<Socket, Failure> {
        let mut failure = unreachable("the host has no address");
        for (index, address) in addresses.iter().enumerate() {
            let n_left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let patience = deadline.saturating_duration_since(Instant::now()) / n_left;
            match self.connect_to(*address, authorization, patience).await {
                Err(Failure::Unreachable(error)) => failure = Failure::Unreachable(error),
                outcome => return outcome,
            }
        }
        Err(failure)
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        authorization: Option<&HeaderValue>,
        patience: Duration,
    ) -> Result<Socket, Failure> {
        let deadline = Instant::now() + patience;
        let (host, _) = self.host_and_port();
        let stream = self.way.open_async(host, address, patience).await.map_err(Failure::Unreachable)?;
        // The scheme says nothing here: the stream is encrypted already, if it is.
        let url = format!("ws://{}{}", self.authority, self.path);
        let mut request = url.into_client_request().map_err(|error| Failure::Refused(error.into()))?;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX));
        match timeout_at(deadline, client_async_with_config(request, stream, Some(config))).await {
            Ok(Ok((stream, _))) => Ok(Socket::new(stream)),
            Ok(Err(Error::Http(response))) => Err(refusal(&response)),
            Ok(Err(error)) => Err(Failure::Unreachable(error.into())),
            Err(_) => Err(unreachable("no answer to the handshake")),
        }
    }
}

fn unreachable(what: &'static str) -> Failure {
    Failure::Unreachable(anyhow!(what))
}

/// A token, as a header that is never shown.
fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// What an HTTP answer in place of a socket means.
fn refusal(response: &Response) -> Failure {
    let status = response.status().as_u16();
    let body = response.body().as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let said = body.as_ref().and_then(|body| body["message"].as_str()).map(|message| format!(": {}", clean(message)));
    let told = format!("the node answered {status}{}", said.unwrap_or_default());
    match status {
        429 | 500.. => {
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Failure::Later(told, seconds.map(|seconds| Duration::from_secs(seconds).min(DELAY_MAX)))
        }
        401 => Failure::Refused(anyhow!("{told} (--token-file)")),
        _ => Failure::Refused(anyhow!(told)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::http::StatusCode;

    use super::*;

    #[test]
    fn nobody_is_sent_away_for_longer_than_between_other_tries() {
        for (said, expected) in [("2", 2), ("18446744073709551615", 30)] {
            let mut response = Response::new(None);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(said));
            let Failure::Later(_, least) = refusal(&response) else { panic!("it may be tried again") };
            assert_eq!(least, Some(Duration::from_secs(expected)));
        }
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_does_not_keep_from_the_next() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent.local_addr().unwrap(), node.local_addr().unwrap()];
        tokio::spawn(async move {
            let (stream, _) = node.accept().await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap();
        });
        let destination = Destination::parse("ws://node", Way::default(), None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(4);
        assert!(destination.connect_to_one_of(&addresses, None, deadline).await.is_ok());
    }

    #[test]
    fn a_url_may_have_a_path_and_nothing_that_is_secret() {
        let parse = |url: &str| Destination::parse(url, Way::default(), None).ok();
        for (url, authority, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", "/ws"),
            ("ws://node1/", "node1", "/ws"),
            ("wss://chat.example.com/presence/ws", "chat.example.com", "/presence/ws"),
            ("https://[::1]:1", "[::1]:1", "/ws"),
        ] {
            let parsed = parse(url).unwrap();
            assert_eq!((&*parsed.authority, &*parsed.path), (authority, path), "{url}");
        }
        for url in ["", "node1", "ftp://node1", "ws://", "ws:///ws", "ws://a/ws?token=x", "ws://me:pw@a", "ws://a b"] {
            assert!(parse(url).is_none(), "{url}");
        }
    }
}
