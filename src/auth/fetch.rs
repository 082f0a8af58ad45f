//! One request for the keys of an issuer. It blocks, and it is bounded in time, size and redirects.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Asks for the keys.
pub(super) struct Fetcher {
    agent: Agent,
    url: String,
}

/// The largest set of keys. 64 keys with certificates are smaller.
const BYTES_MAX: u64 = 256 * 1024;

impl Fetcher {
    /// A client for `url`, which trusts the certificates in `ca_path`, or those of the system. One request takes `timeout` at
    /// most.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub(super) fn new(url: &str, ca_path: Option<&Path>, timeout: Duration) -> anyhow::Result<Self> {
        let roots = match ca_path {
            Some(path) => {
                roots_in(path).with_context(|| format!("cannot use {} (auth.jwks_ca_path)", path.display()))?
            }
            None => roots_of_the_system(),
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            // Whoever answers there says who signs tokens. So the answer comes from there, and from nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent(), url: url.to_owned() })
    }

    /// What the issuer answers.
    ///
    /// # Errors
    /// Why there is no answer of 200. The text is for the log.
    pub(super) fn fetch(&self) -> Result<Vec<u8>, String> {
        let mut answer = self.agent.get(&self.url).call().map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(format!("the issuer answered {status}"));
        }
        answer.body_mut().with_config().limit(BYTES_MAX).read_to_vec().map_err(|error| error.to_string())
    }
}

fn roots_in(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(path)?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item? {
            RootCertStore::empty().add(CertificateDer::from(certificate.der()).into_owned())?;
            roots.push(certificate);
        }
    }
    ensure!(!roots.is_empty(), "there is no certificate in it");
    Ok(roots)
}

/// A system without root certificates is no error: the URL may be on this machine.
fn roots_of_the_system() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(error = %error, "A root certificate of the system cannot be read");
    }
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}
