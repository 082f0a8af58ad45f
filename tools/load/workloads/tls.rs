//! What TLS of the listener costs for each socket.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process::{Process, Programs};
use crate::support::http::upgrade_request;
use crate::support::process::OwnedProcess;
use crate::table::{Measure, Row, Target};

/// Sockets of each kind. They hear nothing of one another.
const N_SOCKETS: usize = 2000;

/// Sockets that come first, so that what a node needs once is not counted.
const N_WARM: usize = 200;

/// Memory of an idle socket with TLS, beside one without.
pub(super) async fn measure(programs: &Programs) -> Result<Vec<Row>> {
    let plain = memory_of_a_socket(programs, None).await?;
    let encrypted = memory_of_a_socket(programs, Some(Pair::new(programs)?)).await?;
    Ok(vec![Row {
        workload: format!("idle socket over TLS, RSS each at {N_SOCKETS}"),
        measured: Measure(encrypted, "bytes"),
        beside: Some((plain, "without TLS")),
        target: Target::None,
        note: format!("{:.0} bytes more", encrypted - plain),
    }])
}

/// A certificate for this machine, and the files that a node reads.
struct Pair {
    certificate: String,
    key: String,
    root: CertificateDer<'static>,
}

impl Pair {
    fn new(programs: &Programs) -> Result<Self> {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let file = |name: &str, pem: String| {
            let path = programs.scratch.join(name);
            std::fs::write(&path, pem)?;
            path.into_os_string().into_string().ok().context("a path in UTF-8")
        };
        Ok(Self {
            certificate: file("tls.pem", issued.cert.pem())?,
            key: file("tls.key", issued.signing_key.serialize_pem())?,
            root: issued.cert.der().clone(),
        })
    }

    fn connector(&self) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

async fn memory_of_a_socket(programs: &Programs, pair: Option<Pair>) -> Result<f64> {
    let mut command = OwnedProcess::command(&programs.server);
    command.env("HOST", "127.0.0.1").env("PORT", "0").env("REDIS_URL", "");
    command.env("ROLLCALL__LIMITS__JOINS_PER_SECOND", "1000000").env("ROLLCALL__LIMITS__JOIN_QUEUE", "100000");
    if let Some(Pair { certificate, key, .. }) = &pair {
        command.env("ROLLCALL__SERVER__TLS_CERTIFICATE_PATH", certificate);
        command.env("ROLLCALL__SERVER__TLS_KEY_PATH", key);
    }
    let mut process = Process::start("tls", &programs.scratch, &mut command)?;
    let line = process.line()?;
    let (_, addr) = line.rsplit_once("://").with_context(|| format!("the node says {line:?}"))?;
    let (addr, connector) = (addr.parse()?, pair.map(|pair| pair.connector()).transpose()?);

    let mut sockets = Vec::with_capacity(N_WARM + N_SOCKETS);
    let mut before = 0;
    for number in 0..N_WARM + N_SOCKETS {
        if number == N_WARM {
            before = process.rss()?;
        }
        sockets.push(open(addr, connector.as_ref(), number).await?);
    }
    Ok((process.rss()? - before) as f64 / N_SOCKETS as f64)
}

/// A stream that is kept open.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Joins as a user who hears nothing, and waits for the answer.
async fn open(addr: SocketAddr, connector: Option<&TlsConnector>, number: usize) -> Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = match connector {
        Some(connector) => Box::new(connector.connect(ServerName::try_from("localhost")?, tcp).await?),
        None => Box::new(tcp),
    };
    let request = upgrade_request(&format!("/ws?userId=user-{number}&presence=none"));
    stream.write_all(request.as_bytes()).await?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while !answer.windows(7).any(|window| window == b"welcome") {
        let n_bytes = stream.read(&mut piece).await?;
        ensure!(n_bytes > 0, "the node ended the connection");
        answer.extend_from_slice(&piece[..n_bytes]);
    }
    Ok(stream)
}
