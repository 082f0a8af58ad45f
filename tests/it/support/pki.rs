//! Certificates, and a way into what is encrypted.
//!
//! ```ignore
//! let pki = Pki::new();
//! let server = pki.issue("server");                            // for 127.0.0.1 and localhost
//! let node = Node::spawn(encrypted(test_settings(), &server)).await;
//! node.wait_ready().await;                                     // all clients of the tests go through a `Tunnel`
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use rollcall::settings::Settings;

/// An authority of its own, and the files of what it has issued. They are removed with it.
pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    directory: PathBuf,
}

/// The files of a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// The certificate, and that of the authority.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Pki {
    /// A new authority.
    pub(crate) fn new() -> Pki {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pki-{}-{number}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&directory).expect("a temporary directory can be created");
        let mut parameters = named(&name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = parameters.self_signed(&key).expect("a root certificate").pem();
        std::fs::write(directory.join("ca.pem"), &root).expect("a file can be written");
        Pki { issuer: Issuer::new(parameters, key), root, directory }
    }

    /// The file with the certificate of the authority.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for this machine, in new files.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 2099)
    }

    /// The same, valid until the second day of this year.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let (certificate, key) = self.certify(name, year);
        let file = |ending: &str| self.directory.join(format!("{name}.{ending}"));
        let issued = Issued { certificate: file("pem"), key: file("key") };
        std::fs::write(&issued.certificate, certificate).expect("a file can be written");
        std::fs::write(&issued.key, key).expect("a file can be written");
        issued
    }

    /// A certificate for this machine with that of the authority behind it, and its key, as PEM.
    fn certify(&self, name: &str, year: i32) -> (String, String) {
        let mut parameters = named(name);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 2);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate").pem();
        (certificate + &self.root, key.serialize_pem())
    }
}

impl Issued {
    /// Puts other files in the place of these, at once for each, as `mv` does.
    pub(crate) fn replace_by(&self, other: &Issued) {
        for (old, new) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            std::fs::rename(new, old).expect("a file can be renamed");
        }
    }

    /// What the certificate file has first, as DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_file(&self.certificate).expect("a certificate").to_vec()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// For this machine. The name is in the subject: OpenSSL takes two authorities of one name for one.
fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("valid names");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// The settings of a node that encrypts with this certificate.
pub(crate) fn encrypted(mut settings: Settings, issued: &Issued) -> Settings {
    settings.server.tls_certificate_path = Some(issued.certificate.clone());
    settings.server.tls_key_path = Some(issued.key.clone());
    settings
}

/// Does a TLS handshake with what listens there. It trusts who has issued the certificate in this file.
pub(crate) async fn connect_tls(addr: SocketAddr, trusted: &Path) -> std::io::Result<TlsStream<TcpStream>> {
    connector(trusted).connect(server_name(), TcpStream::connect(addr).await?).await
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

fn connector(trusted: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let chain = CertificateDer::pem_file_iter(trusted).expect("a file with certificates");
    let issuer = chain.last().expect("a certificate").expect("a certificate in PEM");
    roots.add(issuer).expect("it can be a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the versions of the library").with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A port at which plain text goes in, and TLS comes out to a server. So every client of the tests can speak TLS.
///
/// It holds little: its buffers and those of the kernel are small, so that a client that does not read is soon noticed.
pub(crate) struct Tunnel {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

/// Of each buffer. The kernel doubles it.
const BUFFER_BYTES: usize = 4096;

impl Tunnel {
    /// Leads to `server`, and trusts who has issued the certificate in this file.
    pub(crate) async fn start(server: SocketAddr, trusted: &Path) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let connector = connector(trusted);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, server, connector.clone()));
            }
        });
        Tunnel { addr, task }
    }

    /// Where plain text goes in.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when one of the two sides fails, or when both have ended.
async fn carry(mut client: TcpStream, server: SocketAddr, connector: TlsConnector) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER_BYTES as u32)?;
    let tcp = socket.connect(server).await?;
    tcp.set_nodelay(true)?;
    client.set_nodelay(true)?;
    socket2::SockRef::from(&client).set_send_buffer_size(BUFFER_BYTES)?;
    let mut tls = connector.connect(server_name(), tcp).await?;
    copy_bidirectional_with_sizes(&mut client, &mut tls, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}
