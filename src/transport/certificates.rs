//! The certificate of the listener: how it is loaded, how a changed one comes into use, and the handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_rt::net::TcpStream;
use anyhow::{Context, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::HttpStream;
use super::validity;
use crate::backoff::Reminder;
use crate::domain::Timestamp;
use crate::metrics::CertificateMetrics;
use crate::settings::ServerSettings;

/// What the listener shows to clients. It follows the files that the settings name.
pub(crate) struct Certificates {
    files: Files,
    look_every: Duration,
    /// What the files were when they were read first.
    first: Stamp,
    current: watch::Sender<Arc<ServerConfig>>,
    metrics: CertificateMetrics,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What can be seen of the two files without reading them. A link that points elsewhere changes it, too.
type Stamp = [Option<(u64, SystemTime, u64)>; 2];

impl Certificates {
    /// Loads the certificate that the settings name. It is none if they name none: then the listener does not encrypt.
    ///
    /// # Errors
    /// A file cannot be read, or has not what it should, or the two do not belong together.
    pub(crate) fn load(settings: &ServerSettings, metrics: CertificateMetrics) -> anyhow::Result<Option<Arc<Self>>> {
        let (Some(certificate), Some(key)) = (&settings.tls_certificate_path, &settings.tls_key_path) else {
            return Ok(None);
        };
        let files = Files { certificate: certificate.clone(), key: key.clone() };
        // If a file changes while it is read, it looks changed afterwards.
        let first = files.stamp();
        let (config, ends_at) = files.read()?;
        metrics.uses(ends_at);
        let current = watch::Sender::new(Arc::new(config));
        Ok(Some(Arc::new(Self { files, look_every: settings.tls_reload, first, current, metrics })))
    }

    /// Does the handshake with a client. The caller sets the deadline.
    ///
    /// # Errors
    /// The client does not speak TLS, accepts nothing that we offer, or has gone.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> io::Result<HttpStream> {
        let acceptor = TlsAcceptor::from(self.current.borrow().clone());
        Ok(HttpStream::Tls(Box::new(acceptor.accept(tcp).await?)))
    }

    /// Looks at the files from time to time, and uses what is new for new connections, until `stop`. If the files cannot be
    /// used, the old certificate stays, and the files are read again each time. One of the two may not be there yet.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval(self.look_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut is_good, mut reminder) = (self.first, true, Reminder::default());
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => return,
            }
            let stamp = self.files.stamp();
            if stamp == seen && is_good {
                continue;
            }
            let is_news = stamp != seen;
            seen = stamp;
            match self.reload() {
                Ok(()) => {
                    is_good = true;
                    reminder.reset();
                }
                Err(error) => {
                    if is_news {
                        self.metrics.reload_failed();
                    }
                    let lasting = reminder.failed();
                    if is_good {
                        warn!(error = %format_args!("{error:#}"), "The new certificate cannot be used, and the old one stays");
                    } else if let Some(seconds) = lasting {
                        warn!(error = %format_args!("{error:#}"), "For {seconds} s the new certificate could not be used");
                    }
                    is_good = false;
                }
            }
        }
    }

    fn reload(&self) -> anyhow::Result<()> {
        let (config, ends_at) = self.files.read()?;
        self.current.send_replace(Arc::new(config));
        self.metrics.reloaded(ends_at);
        info!("New connections get the new certificate");
        Ok(())
    }
}

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?, inode(&metadata)))
        })
    }

    /// What the listener works with, and when the certificate ends. If that cannot be read, it is 0.
    fn read(&self) -> anyhow::Result<(ServerConfig, Timestamp)> {
        let (certificate, key) = ("server.tls_certificate_path", "server.tls_key_path");
        let chain = CertificateDer::pem_slice_iter(&read(&self.certificate, certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} is no PEM ({certificate})", self.certificate.display()))?;
        ensure!(!chain.is_empty(), "{} has no certificate in PEM ({certificate})", self.certificate.display());
        for (index, issued) in chain.iter().enumerate() {
            // rustls reads the first one alone. Clients read all.
            ParsedCertificate::try_from(issued).with_context(|| {
                format!("certificate {} in {} is none ({certificate})", index + 1, self.certificate.display())
            })?;
        }
        let private = PrivateKeyDer::from_pem_slice(&read(&self.key, key)?)
            .with_context(|| format!("{} has no private key in PEM ({key})", self.key.display()))?;
        let ends_at = validity::ends_at(&chain[0]).unwrap_or_default();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .with_context(|| format!("the certificate and the key cannot be used together ({certificate}, {key})"))?;
        // A client that offers other protocols only could not be served.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((config, ends_at))
    }
}

fn read(path: &Path, setting: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {} ({setting})", path.display()))
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> u64 {
    0
}
