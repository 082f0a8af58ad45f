//! The way to a node on this machine: what comes before HTTP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// What a connection begins with.
#[derive(Default, Clone)]
pub(crate) struct Way {
    /// Who may answer, if the node encrypts.
    pub(crate) trust: Option<Trust>,
    /// Whether the node expects a PROXY header from an address.
    pub(crate) proxies: Option<Rc<dyn Fn(IpAddr) -> bool>>,
}

/// Who may answer. No authority is asked, because the node is on this machine.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Anybody: for a question without secrets, whose answer matters little. A certificate that has just been replaced, and
    /// that the node does not use yet, is no reason to take the node for dead.
    Anybody,
    /// Whoever has the key of the first certificate in this file.
    Only(PathBuf),
}

/// A connection that is read and written.
pub(crate) trait Conversation: Read + Write {}

impl<T: Read + Write> Conversation for T {}

/// Why a read failed. The system's own words for a time that is over say nothing to a person.
pub(super) fn why_unread(error: io::Error, patience: Duration) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => anyhow!("no answer within {} s", patience.as_secs()),
        _ => error.into(),
    }
}

impl Way {
    /// Opens a connection. The connecting, and each read and write, may take as long as `patience`.
    ///
    /// # Errors
    /// Nobody listens, or the certificate cannot be read. A wrong certificate shows with the first write.
    pub(crate) fn open(&self, address: SocketAddr, patience: Duration) -> anyhow::Result<Box<dyn Conversation>> {
        let mut tcp = TcpStream::connect_timeout(&address, patience)?;
        tcp.set_read_timeout(Some(patience))?;
        tcp.set_write_timeout(Some(patience))?;
        let own = tcp.local_addr()?.ip();
        if self.proxies.as_ref().is_some_and(|expects_header_of| expects_header_of(own)) {
            tcp.write_all(b"PROXY UNKNOWN\r\n")?;
        }
        let Some(trust) = &self.trust else { return Ok(Box::new(tcp)) };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let only = match trust {
            Trust::Anybody => None,
            Trust::Only(path) => Some(certificate(path)?),
        };
        let verifier = Arc::new(Verifier { only, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), ServerName::IpAddress(address.ip().into()))?;
        Ok(Box::new(StreamOwned::new(connection, tcp)))
    }
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path).with_context(|| format!("{} has no certificate", path.display()))
}

/// Accepts one certificate, or all. Whoever shows it must have its key.
#[derive(Debug)]
struct Verifier {
    only: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.only.as_ref().is_none_or(|only| only == shown) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
