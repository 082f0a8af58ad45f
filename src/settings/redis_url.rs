//! Where Redis is, with a password that is never shown.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use super::Secret;

/// Where Redis is and how to log in. `Debug` and `Display` write `redis://host:port/db`, without user and password.
#[derive(Clone)]
pub struct RedisUrl {
    secret: Secret,
    shown: String,
    is_tls: bool,
    has_login: bool,
}

impl RedisUrl {
    /// The URL as given, with the password. It is for the Redis driver alone, never for a log or an error.
    pub(crate) fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Whether the connection is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether the URL has a user or a password.
    pub(crate) fn has_login(&self) -> bool {
        self.has_login
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.shown)
    }
}

/// What is wrong with a Redis URL. It never quotes the URL. If a password has a `/`, parts of the password can be
/// anywhere in the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisUrlError(&'static str);

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let is_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlError("must start with redis://, or with rediss:// for TLS")),
        };
        if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c)) {
            return Err(RedisUrlError("must not contain spaces, ?, # or \\ (percent-encode them in a password)"));
        }
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        let address = authority.rsplit_once('@').map_or(authority, |(_login, address)| address);
        // A colon inside the brackets of an IPv6 address does not begin a port.
        let (host, port) = match address.rfind(':') {
            Some(colon) if !address[colon..].contains(']') => (&address[..colon], &address[colon + 1..]),
            _ => (address, "6379"),
        };
        let port: u16 = port.parse().map_err(|_| RedisUrlError("must have a port number from 1 to 65535"))?;
        let db: u32 = if db.is_empty() { Ok(0) } else { db.parse() }.map_err(|_| {
            RedisUrlError(
                "must end in a database number, as in redis://:password@host:6379/0 (percent-encode / in a password)",
            )
        })?;
        if host.is_empty() || port == 0 {
            return Err(RedisUrlError("must name a host and a port, as in redis://:password@host:6379/0"));
        }
        let secret = text.parse().unwrap_or_else(|never: Infallible| match never {});
        let shown = format!("{scheme}://{host}:{port}/{db}");
        Ok(Self { secret, shown, is_tls, has_login: authority.contains('@') })
    }
}
