//! The way to a node: what comes before HTTP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What a connection begins with.
#[derive(Default, Clone)]
pub(crate) struct Way {
    /// Who may answer, if the node encrypts.
    pub(crate) trust: Option<Trust>,
    /// Whether the node expects a PROXY header from an address.
    pub(crate) proxies: Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
}

/// Who may answer. About a node on this machine, no authority is asked.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Anybody: for a question without secrets, whose answer matters little. A certificate that has just been replaced, and
    /// that the node does not use yet, is no reason to take the node for dead.
    Anybody,
    /// Whoever has the key of the first certificate in this file.
    Only(PathBuf),
    /// The same, if there is a file. Or whoever has a certificate for the host, from an authority that the system knows.
    OrAuthority(Option<PathBuf>),
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

/// The same as a [`Conversation`], for a task.
pub(crate) trait AsyncConversation: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncConversation for T {}

/// What a connection to a trusted proxy's node begins with. It names no client.
const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

impl Way {
    /// Opens a connection to `host`, at one of its addresses. The connecting, and each read and write, may take as long as
    /// `patience`.
    ///
    /// # Errors
    /// Nobody listens, or the certificate cannot be read. A wrong certificate shows with the first write.
    pub(crate) fn open(
        &self,
        host: &str,
        address: SocketAddr,
        patience: Duration,
    ) -> anyhow::Result<Box<dyn Conversation>> {
        let mut tcp = TcpStream::connect_timeout(&address, patience)?;
        tcp.set_read_timeout(Some(patience))?;
        tcp.set_write_timeout(Some(patience))?;
        if self.begins_with_header(tcp.local_addr()?.ip()) {
            tcp.write_all(PROXY_HEADER)?;
        }
        let Some(trust) = &self.trust else { return Ok(Box::new(tcp)) };
        let connection = ClientConnection::new(Arc::new(trust.config()?), server_name(host)?)?;
        Ok(Box::new(StreamOwned::new(connection, tcp)))
    }

    /// Does the same for a task, within `patience`, and does the TLS handshake. Reads and writes have no deadline.
    ///
    /// # Errors
    /// Nobody listens, the certificate cannot be read, or the node has another one.
    ///
    /// # Cancel safety
    /// The connection is dropped.
    pub(crate) async fn open_async(
        &self,
        host: &str,
        address: SocketAddr,
        patience: Duration,
    ) -> anyhow::Result<Box<dyn AsyncConversation>> {
        let opened = timeout(patience, async {
            let mut tcp = tokio::net::TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            if self.begins_with_header(tcp.local_addr()?.ip()) {
                tcp.write_all(PROXY_HEADER).await?;
            }
            let Some(trust) = &self.trust else { return Ok(Box::new(tcp) as Box<dyn AsyncConversation>) };
            let connector = TlsConnector::from(Arc::new(trust.config()?));
            Ok(Box::new(connector.connect(server_name(host)?, tcp).await?) as Box<dyn AsyncConversation>)
        });
        opened.await.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", patience.as_secs())))
    }

    fn begins_with_header(&self, own: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|expects_header_of| expects_header_of(own))
    }
}

impl Trust {
    fn config(&self) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (own, others) = match self {
            Self::Anybody => (None, Others::Welcome),
            Self::Only(path) => (Some(certificate(path)?), Others::Refused),
            Self::OrAuthority(path) => {
                (path.as_deref().map(certificate).transpose()?, Others::of_authorities(&provider)?)
            }
        };
        let verifier = Arc::new(Verifier { own, others, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }
}

fn server_name(host: &str) -> anyhow::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).with_context(|| format!("{host:?} is no name of a host"))
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path).with_context(|| format!("{} has no certificate", path.display()))
}

/// Accepts the certificate of the node, and perhaps others. Whoever shows one must have its key.
#[derive(Debug)]
struct Verifier {
    own: Option<CertificateDer<'static>>,
    others: Others,
    provider: Arc<CryptoProvider>,
}

/// What becomes of other certificates.
#[derive(Debug)]
enum Others {
    Welcome,
    Refused,
    /// An authority must have signed them.
    Verified(Arc<WebPkiServerVerifier>),
}

impl Others {
    /// Those that the authorities of this system have signed.
    fn of_authorities(provider: &Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Ok(Self::Refused);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        Ok(Self::Verified(verifier))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.own.as_ref() == Some(shown) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.others {
            Others::Welcome => Ok(ServerCertVerified::assertion()),
            Others::Refused => Err(CertificateError::ApplicationVerificationFailure.into()),
            Others::Verified(verifier) => verifier.verify_server_cert(shown, intermediates, host, ocsp, now),
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
