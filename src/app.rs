//! Builds the parts of a node and runs them: what `main` and every test start.

use std::future::ready;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::App as HttpApp;
use actix_web::dev::AppConfig;
use anyhow::{Context, bail};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::NodeId;
use crate::http::{self, Connections};
use crate::hub::Fanout;
use crate::metrics::{
    AdmissionMetrics, AnswerMetrics, AuditorMetrics, ConnectionMetrics, HubMetrics, Registry, ReplicaMetrics,
    SessionMetrics, StoreMetrics, SweeperMetrics, TableMetrics, WriterMetrics,
};
use crate::node::{Refresher, Table, Writer};
use crate::replica::Replica;
use crate::session::{self, Admission, Answers, RequestLimit, Services};
use crate::settings::Settings;
use crate::shutdown::{self, Signals};
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;
use crate::store::{PresenceStore, StoreError};
use crate::sweeper::{Auditor, Sweeper};
use crate::tasks::Tasks;

/// A node that has its port and its parts, and does not serve yet.
pub struct App {
    listener: TcpListener,
    addr: SocketAddr,
    store: Arc<dyn PresenceStore>,
    writer: Writer,
    sweeper: Sweeper,
    auditor: Auditor,
    connections: Arc<Connections>,
    services: Arc<Services>,
}

impl App {
    /// Binds the port and builds the parts. To be called and run within one `actix_rt::System`.
    ///
    /// # Errors
    /// A contradiction in the settings, a port in use, or a Redis that refuses the password. A Redis that does not answer is
    /// no error: the node starts, is not ready, and becomes so when Redis comes.
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        settings.validate()?;
        let node = NodeId::from_bits(rand::random());
        let mut registry = Registry::default();
        let store = open_store(node, &settings, StoreMetrics::new(&mut registry)).await?;
        Self::assemble(settings, node, store, registry)
    }

    /// The same on any store, for a node that the store knows by `node`.
    ///
    /// # Errors
    /// A contradiction in the settings, or a port in use.
    pub fn with_store(settings: Settings, node: NodeId, store: Arc<dyn PresenceStore>) -> anyhow::Result<Self> {
        settings.validate()?;
        let mut registry = Registry::default();
        // Any store will do, but the same metrics are there.
        let _ = StoreMetrics::new(&mut registry);
        Self::assemble(settings, node, store, registry)
    }

    fn assemble(
        settings: Settings,
        node: NodeId,
        store: Arc<dyn PresenceStore>,
        mut registry: Registry,
    ) -> anyhow::Result<Self> {
        let (host, port) = (settings.server.host.as_str(), settings.server.port);
        let listener =
            listen(host, port).with_context(|| format!("cannot listen on {host}:{port} (server.host, server.port)"))?;
        let addr = listener.local_addr().context("cannot read the address listened on")?;
        let fanout = Arc::new(Fanout::new(settings.fanout.log_bytes));
        let table = Table::new(node, settings.presence.grace, TableMetrics::new(&mut registry));
        let metrics = WriterMetrics::new(&mut registry);
        let (writer, link) = Writer::new(store.clone(), table.clone(), metrics, &settings.presence, &settings.redis);
        let metrics = ReplicaMetrics::new(&mut registry);
        let backoff_max = settings.redis.backoff_max;
        let replica = Replica::new(store.clone(), table.clone(), fanout.clone(), metrics, link, backoff_max);
        let sweeper = Sweeper::new(store.clone(), SweeperMetrics::new(&mut registry), &settings.presence);
        let auditor = Auditor::new(store.clone(), AuditorMetrics::new(&mut registry), settings.presence.audit);
        let (sessions, draining) = (TaskTracker::new(), CancellationToken::new());
        let metrics = AdmissionMetrics::new(&mut registry);
        let admission = Admission::new(&settings, sessions.clone(), draining.clone(), metrics);
        let answers = Answers::new(settings.limits.answers_bytes, AnswerMetrics::new(&mut registry));
        let requests = RequestLimit::new(&settings.limits);
        let connections = Connections::new(&settings.server, ConnectionMetrics::new(&mut registry));
        let services = Arc::new(Services {
            settings,
            table,
            replica,
            fanout,
            metrics: SessionMetrics::new(&mut registry),
            hub_metrics: HubMetrics::new(&mut registry),
            registry,
            draining,
            closing: CancellationToken::new(),
            sessions,
            admission,
            answers,
            requests,
        });
        Ok(Self { listener, addr, store, writer, sweeper, auditor, connections, services })
    }

    /// The address that is listened on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The node's id, fresh at every start.
    pub fn node_id(&self) -> NodeId {
        self.services.table.node()
    }

    /// Which store is in use, for people; without the password.
    pub fn store_name(&self) -> String {
        let redis = &self.services.settings.redis;
        match &redis.url {
            Some(url) => format!("{url} (prefix {})", redis.prefix),
            None => "embedded (one node; set REDIS_URL for many)".to_owned(),
        }
    }

    /// Serves until a signal, then drains. A task that fails drains the node as well: its clients go elsewhere, and whoever
    /// runs the node starts it again.
    ///
    /// # Errors
    /// If the server cannot start or fails, or a task has failed.
    pub async fn run(self, signals: Signals) -> anyhow::Result<()> {
        let Self { listener, store, writer, sweeper, auditor, connections, services, .. } = self;
        let settings = services.settings.clone();
        let stop = CancellationToken::new();
        let _stop_all = stop.clone().drop_guard();

        let mut tasks = Tasks::default();
        let (writer, writing) = writer.into_task(settings.drain.reconnect_spread + settings.presence.grace);
        tasks.spawn("writer", writing);
        tasks.spawn("replica", services.replica.clone().run(stop.clone()));
        tasks.spawn("sweeper", sweeper.run(stop.clone()));
        tasks.spawn("auditor", auditor.run(stop.clone()));
        let refresher = Refresher::new(store, services.table.clone(), &settings.presence);
        tasks.spawn("refresher", refresher.run(stop.clone()));

        let every = settings.telemetry.totals;
        tasks.spawn("totals", session::log_totals(services.clone(), every, stop.clone()));

        let server = serve(listener, connections, services.clone())?;
        let handle = server.handle();
        let mut server = actix_rt::spawn(server);
        let outcome = tokio::select! {
            ended = &mut server => {
                ended.context("the server panicked")?.context("the server failed")?;
                bail!("the server ended by itself");
            }
            () = signals.drain() => Ok(()),
            failure = tasks.failure() => {
                tracing::error!(error = %failure, "This node cannot go on, and drains: {failure}");
                Err(failure.into())
            }
        };
        shutdown::drain(&services, &handle, writer, settings.drain.timeout).await;
        outcome
    }
}

/// Connections that the kernel accepts ahead of the server: when a peer dies, all its clients come within a moment. The
/// kernel caps it (`net.core.somaxconn`, 4096 by default), and std's own would be 128.
const BACKLOG: u32 = 4096;

fn listen(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted node takes its port back, although connections of its former life linger.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return listener.into_std(),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Opens the store that the settings name.
async fn open_store(
    node: NodeId,
    settings: &Settings,
    metrics: StoreMetrics,
) -> anyhow::Result<Arc<dyn PresenceStore>> {
    let Some(url) = &settings.redis.url else { return Ok(Arc::new(MemoryStore::new())) };
    let count_bad_record = Arc::new(move || metrics.bad_record());
    let store = RedisStore::new(node, url.expose_secret(), &settings.redis, &settings.presence, count_bad_record)
        .with_context(|| format!("cannot use {url} (redis.url)"))?;
    match store.open_writer().await {
        Err(error @ StoreError::Misconfigured(_)) => {
            Err(error).with_context(|| format!("cannot use {url} (redis.url)"))
        }
        Err(error) => {
            tracing::warn!(error = %error, "Redis does not answer yet; this node is not ready until it does: {error}");
            Ok(Arc::new(store))
        }
        Ok(_) => Ok(Arc::new(store)),
    }
}

fn serve(listener: TcpListener, connections: Arc<Connections>, services: Arc<Services>) -> anyhow::Result<Server> {
    let server_settings = services.settings.server.clone();
    let n_workers = match server_settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let builder = Server::build()
        .workers(n_workers)
        // `Connections` and `Admission` bound what is open. The server's own bound would leave clients without an answer.
        .max_concurrent_connections(usize::MAX)
        .disable_signals()
        // Sessions are drained before (`shutdown.rs`).
        .shutdown_timeout(1);
    let server = builder.listen("rollcall", listener, move || {
        let (services, server_settings) = (services.clone(), server_settings.clone());
        let app_services = services.clone();
        let app = HttpApp::new()
            .configure(move |config| http::configure(config, app_services))
            .wrap(http::cors(&server_settings));
        let connections = connections.clone();
        let open = move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            let opened = connections.open(stream).map(|connection| (connection, Protocol::Http1, peer));
            ready(opened.map_err(DispatchError::Io))
        };
        let http = HttpService::build()
            // A client that closes its side is gone; waiting for more leaks CLOSE_WAIT sockets.
            .h1_allow_half_closed(false)
            .upgrade(http::upgrade_service(services))
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(open).and_then(http)
    });
    Ok(server.context("cannot serve on the port")?.run())
}
