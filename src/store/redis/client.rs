//! How this node reaches Redis and logs in.

use std::path::Path;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, TlsCertificates,
};

use super::{StoreError, StoreResult};
use crate::settings::RedisSettings;

/// What the URL does not say of how to reach Redis, read once.
pub(super) struct Access<'a> {
    url: &'a str,
    settings: &'a RedisSettings,
    certificates: Option<TlsCertificates>,
}

impl<'a> Access<'a> {
    /// Reads the files that the settings name. A file that changes later is not read again.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] names the file that cannot be read, or that has not what it should.
    pub(super) fn read(url: &'a str, settings: &'a RedisSettings) -> StoreResult<Self> {
        let root_cert = match &settings.tls_ca_path {
            Some(path) => Some(read_pem(path, "redis.tls_ca_path", &CERTIFICATE)?),
            None => None,
        };
        let client_tls = match (&settings.tls_certificate_path, &settings.tls_key_path) {
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: read_pem(certificate, "redis.tls_certificate_path", &CERTIFICATE)?,
                client_key: read_pem(key, "redis.tls_key_path", &KEY)?,
            }),
            _ => None,
        };
        let needs_files = root_cert.is_some() || client_tls.is_some();
        Ok(Self { url, settings, certificates: needs_files.then_some(TlsCertificates { client_tls, root_cert }) })
    }

    /// A client that speaks `protocol`. Two defaults of the library are switched off. Nagle's algorithm would hold back a
    /// pipeline's last part until the server has acknowledged the part before. The library also names itself to the server,
    /// and a user may lack the right for that.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if the URL is not one of Redis, or if a file has no valid PEM.
    pub(super) fn client(&self, protocol: ProtocolVersion) -> StoreResult<Client> {
        let misconfigured = |error: RedisError| StoreError::Misconfigured(error.to_string());
        let info: ConnectionInfo = self.url.into_connection_info().map_err(misconfigured)?;
        let mut login = info.redis_settings().clone().set_protocol(protocol).set_skip_set_lib_name();
        if let Some(username) = &self.settings.username {
            // Without a password, the library would not log in at all. A user may have none ("nopass").
            login = login.set_username(username).set_password("");
        }
        if let Some(password) = &self.settings.password {
            login = login.set_password(password.expose_secret());
        }
        let info = info.set_redis_settings(login).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        client.map_err(misconfigured)
    }
}

/// What a file must have. The library takes a file without any certificate for a list of none.
struct Kind {
    name: &'static str,
    ending: &'static str,
}

const CERTIFICATE: Kind = Kind { name: "certificate", ending: " CERTIFICATE-----" };
const KEY: Kind = Kind { name: "private key", ending: " PRIVATE KEY-----" };

fn read_pem(path: &Path, setting: &str, kind: &Kind) -> StoreResult<Vec<u8>> {
    let refuse = |problem: &str| StoreError::Misconfigured(format!("{setting}: {} {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let begins = |line: &str| line.starts_with("-----BEGIN") && line.trim_end().ends_with(kind.ending);
    if !text.lines().any(begins) {
        return Err(refuse(&format!("has no {} in PEM", kind.name)));
    }
    Ok(text.into_bytes())
}
