//! Builds the parts of a node and runs them. `main` and every test start a node here.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::App as HttpApp;
use actix_web::dev::AppConfig;
use anyhow::{Context, bail};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::auth::{Auth, KeyTask};
use crate::doctor::{self, Finding};
use crate::domain::NodeId;
use crate::http::{
    self, Bodies, Connection, Connections, Counted, Engine, EngineError, Entrance, OnWorker, Readiness, Reads,
};
use crate::hub::{Fanout, Hub};
use crate::metrics::{
    AddressMetrics, AdmissionMetrics, AnswerMetrics, AuditorMetrics, AuthMetrics, BodyMetrics, CertificateMetrics,
    ConnectionMetrics, FileMetrics, HubMetrics, PeerMetrics, Registry, ReplicaMetrics, RequestMetrics, RoomReadMetrics,
    SessionMetrics, SocketioMetrics, StoreMetrics, SweeperMetrics, TableMetrics, TypingMetrics, WorkerMetrics,
    WriterMetrics,
};
use crate::node::{Refresher, Table, Writer};
use crate::peers::Peers;
use crate::replica::{Replica, Times};
use crate::rooms::Rooms;
use crate::session::{self, Addresses, Admission, Answers, RequestRate, Services, SocketRate, Worker};
use crate::settings::{AuthMode, AuthSettings, FanoutSettings, ServerSettings, Settings};
use crate::shutdown::{Drain, Signals};
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;
use crate::store::{PresenceStore, StoreError};
use crate::sweeper::{Auditor, Sweeper};
use crate::tasks::Tasks;
use crate::transport::{Certificates, Sids, files};
use crate::typing::{Typing, TypingTask};
use crate::wire::Format;
use crate::worker_delay;

/// A node that has its port and its parts, and does not serve yet.
pub struct App {
    settings: Settings,
    listener: TcpListener,
    addr: SocketAddr,
    core: Core,
    writer: Writer,
    typing_task: TypingTask,
    sweeper: Sweeper,
    auditor: Auditor,
    certificates: Option<Arc<Certificates>>,
    key_task: Option<KeyTask>,
    edge: Edge,
    drain: Drain,
}

/// What the node knows, and how it reaches others.
struct Core {
    store: Arc<dyn PresenceStore>,
    table: Arc<Table>,
    replica: Arc<Replica>,
    peers: Arc<Peers>,
    rooms: Arc<Rooms>,
    typing: Typing,
    fanout: Arc<Fanout>,
}

/// What clients meet.
struct Edge {
    connections: Arc<Connections>,
    reads: Arc<Reads>,
    entrance: Arc<Entrance>,
    sessions: Arc<Services>,
    fanout: Arc<Fanout>,
    hub_metrics: HubMetrics,
    worker_metrics: WorkerMetrics,
}

impl App {
    /// Binds the port and builds the parts. Call it and run the node within one `actix_rt::System`.
    ///
    /// # Errors
    /// A contradiction in the settings, a port in use, or a Redis that refuses the password. A Redis that does not
    /// answer is no error. The node starts, and becomes ready when Redis comes.
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        settings.validate()?;
        choose_cryptography();
        let node = NodeId::from_bits(rand::random());
        let mut registry = Registry::default();
        let store = open_store(node, &settings, StoreMetrics::new(&mut registry)).await?;
        Self::assemble(settings, node, store, registry)
    }

    /// Does the same on any store. The store knows the node by `node`.
    ///
    /// # Errors
    /// A contradiction in the settings, or a port in use.
    pub fn with_store(settings: Settings, node: NodeId, store: Arc<dyn PresenceStore>) -> anyhow::Result<Self> {
        settings.validate()?;
        choose_cryptography();
        let mut registry = Registry::default();
        // The metrics are the same with any store.
        let _ = StoreMetrics::new(&mut registry);
        Self::assemble(settings, node, store, registry)
    }

    fn assemble(
        mut settings: Settings,
        node: NodeId,
        store: Arc<dyn PresenceStore>,
        mut registry: Registry,
    ) -> anyhow::Result<Self> {
        let n_workers = n_workers(&settings.server);
        let limit = files::fit(&mut settings, n_workers)?;
        FileMetrics::new(&mut registry).limit(limit);
        let (host, port) = (settings.server.host.as_str(), settings.server.port);
        let listener =
            listen(host, port).with_context(|| format!("cannot listen on {host}:{port} (server.host, server.port)"))?;
        let addr = listener.local_addr().context("cannot read the address listened on")?;
        warn_if_believing(&settings.auth, addr);
        let fanout = Arc::new(Fanout::new(settings.fanout.log_bytes));
        let table = Table::new(node, &settings.presence, TableMetrics::new(&mut registry));
        let metrics = WriterMetrics::new(&mut registry);
        let (writer, link) = Writer::new(store.clone(), table.clone(), metrics, &settings.presence, &settings.redis);
        let metrics = ReplicaMetrics::new(&mut registry);
        let times = Times {
            lease: settings.presence.lease,
            backoff_max: settings.redis.backoff_max,
            active_every: settings.presence.active_every,
            rooms_linger: settings.rooms.linger,
            compare_rooms_every: settings.presence.compare_rooms(),
        };
        let replica = Replica::new(store.clone(), table.clone(), fanout.clone(), metrics, link, times);
        let parts = (store.clone(), table.clone(), replica.clone());
        let times = (settings.presence.echo(), settings.redis.backoff_max);
        let metrics = TypingMetrics::new(&mut registry);
        let (typing, typing_task) = Typing::new(parts.clone(), fanout.clone(), metrics, times);
        let metrics = PeerMetrics::new(&mut registry);
        let peers = Peers::new(parts, (fanout.clone(), typing.clone()), metrics, times, settings.server.node_name());
        let metrics = RoomReadMetrics::new(&mut registry);
        let rooms = Rooms::new(store.clone(), replica.clone(), settings.rooms.access, metrics);
        let sweeper = Sweeper::new(store.clone(), SweeperMetrics::new(&mut registry), &settings.presence);
        let auditor = Auditor::new(store.clone(), AuditorMetrics::new(&mut registry), settings.presence.audit);
        let (auth, key_task) = Auth::new(&settings.auth, &settings.limits, AuthMetrics::new(&mut registry))?;
        let certificates = Certificates::load(&settings.server, CertificateMetrics::new(&mut registry))?;
        let drain = Drain::default();
        let core = Core { store, table, replica, peers, rooms, typing, fanout };
        let edge = Edge::new(&settings, &core, auth, certificates.clone(), &drain, registry);
        Ok(Self {
            settings,
            listener,
            addr,
            core,
            writer,
            typing_task,
            sweeper,
            auditor,
            key_task,
            certificates,
            edge,
            drain,
        })
    }

    /// The address that the node listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where clients find the node: `http://` or `https://`, with the address.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The node's id. It is new at every start.
    pub fn node_id(&self) -> NodeId {
        self.core.table.node()
    }

    /// Which store is in use, for people. The password is left out.
    pub fn store_name(&self) -> String {
        let redis = &self.settings.redis;
        match &redis.url {
            Some(url) => format!("{url} (prefix {})", redis.prefix),
            None => "embedded (one node; set REDIS_URL for many)".to_owned(),
        }
    }

    /// Serves until a signal, then drains. A task that fails drains the node as well. The node's clients go elsewhere,
    /// and the program that runs the node starts it again.
    ///
    /// # Errors
    /// The server cannot start, or fails, or a task has failed.
    pub async fn run(self, signals: Signals) -> anyhow::Result<()> {
        let Core { store, table, replica, peers, .. } = self.core;
        let stop = CancellationToken::new();
        let _stop_all = stop.clone().drop_guard();

        let mut tasks = Tasks::default();
        let (writer, writing) =
            self.writer.into_task(self.settings.drain.reconnect_spread + self.settings.presence.grace);
        tasks.spawn("writer", writing);
        tasks.spawn("replica", replica.clone().run(stop.clone()));
        tasks.spawn("peers", peers.run(stop.clone()));
        tasks.spawn("typing", self.typing_task.run(stop.clone()));
        tasks.spawn("sweeper", self.sweeper.run(stop.clone()));
        tasks.spawn("auditor", self.auditor.run(stop.clone()));
        if let Some(certificates) = self.certificates {
            tasks.spawn("certificates", certificates.run(stop.clone()));
        }
        if let Some(key_task) = self.key_task {
            tasks.spawn("keys", key_task.run(stop.clone()));
        }
        let refresher = Refresher::new(store, table.clone(), &self.settings.presence);
        tasks.spawn("refresher", refresher.run(stop.clone()));

        let every = self.settings.telemetry.totals;
        tasks.spawn("totals", session::log_totals(table, replica, every, stop.clone()));

        let listener = self.listener.try_clone().context("cannot keep hold of the port")?;
        let server = self.edge.serve(self.listener, self.settings.server.clone(), self.settings.fanout)?;
        let handle = server.handle();
        let mut server = actix_rt::spawn(server);
        let outcome = tokio::select! {
            ended = &mut server => {
                ended.context("the server panicked")?.context("the server failed")?;
                bail!("the server ended by itself");
            }
            () = signals.drain() => Ok(()),
            failure = tasks.failure() => {
                tracing::error!(error = %failure, "This node cannot go on, and drains");
                Err(failure.into())
            }
        };
        self.drain.run(&handle, listener, writer, self.settings.drain.timeout).await;
        outcome
    }
}

/// Names the library that encrypts for everybody in this process, once. A second node in the same process finds it chosen.
fn choose_cryptography() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Checks what a node with these settings needs of its surroundings.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    choose_cryptography();
    doctor::examine(settings, n_workers(&settings.server), BACKLOG).await
}

/// How many connections the kernel accepts ahead of the server. When a peer dies, all its clients come within a moment.
/// The kernel has a cap (`net.core.somaxconn`, 4096 by default). The default of std would be 128.
const BACKLOG: u32 = 4096;

/// How many connections a worker takes above its share of `server.max_http_connections`. `Connections` refuses these, with an
/// answer. So it is above the share: at the bound of the server itself, clients wait without an answer. But there has to be
/// one: if a worker is busy, new connections would wait there as open files, and nothing would count them. Then they wait in
/// the kernel. `transport/files.rs` counts so many for each worker.
const CONNECTIONS_AHEAD: usize = 64;

fn n_workers(settings: &ServerSettings) -> usize {
    match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

fn listen(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted node gets its port back, even if connections of its former life are still there.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return listener.into_std(),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Says loudly that others can reach this node, and can be whoever they say.
fn warn_if_believing(auth: &AuthSettings, addr: SocketAddr) {
    if believes_strangers(auth, addr) {
        tracing::warn!(
            "NO AUTHENTICATION: this node listens on {addr}, and believes every client which user it is \
             (auth.mode = \"trusted\"). Whoever reaches the port can be anybody. Set auth.mode = \"jwt\", or let only a \
             service in that authenticates."
        );
    }
}

/// Whether clients on other machines are believed who they are.
fn believes_strangers(auth: &AuthSettings, addr: SocketAddr) -> bool {
    auth.mode == AuthMode::Trusted && !addr.ip().to_canonical().is_loopback()
}

/// Takes over a connection that was accepted. HTTP gets the address that the TCP connection comes from.
async fn open_connection(
    connections: Arc<Connections>,
    stream: TcpStream,
) -> Result<(Connection, Protocol, Option<SocketAddr>), DispatchError> {
    let from = stream.peer_addr().ok();
    let connection = connections.open(stream).await.map_err(DispatchError::Io)?;
    Ok((connection, Protocol::Http1, from))
}

/// What clients of Socket.IO meet.
fn open_engine(settings: &Settings, metrics: SocketioMetrics) -> Engine {
    let (server, socketio, metrics) = (&settings.server, &settings.socketio, Arc::new(metrics));
    let n_max = socketio.max_polling_within(server.max_http_connections);
    let sids = Sids::new(server.node_name(), n_max, socketio.poll_queue_bytes, metrics.clone());
    Engine::new(socketio.clone(), sids, server.request_timeout, metrics)
}

/// Opens the store that the settings name.
async fn open_store(
    node: NodeId,
    settings: &Settings,
    metrics: StoreMetrics,
) -> anyhow::Result<Arc<dyn PresenceStore>> {
    let Some(url) = &settings.redis.url else { return Ok(Arc::new(MemoryStore::new(&settings.presence))) };
    let count_bad_record = Arc::new(move || metrics.bad_record());
    let store = RedisStore::new(node, url.expose_secret(), &settings.redis, &settings.presence, count_bad_record)
        .with_context(|| {
            let files = settings.redis.tls_files();
            format!("cannot use {url} ({})", [&["redis.url"], &files[..]].concat().join(", "))
        })?;
    match store.open_writer().await {
        Err(error @ StoreError::Misconfigured(_)) => {
            Err(error).with_context(|| format!("cannot use {url} (redis.url)"))
        }
        Err(error) => {
            tracing::warn!(error = %error, "Redis does not answer yet; this node is not ready until it does");
            Ok(Arc::new(store))
        }
        Ok(_) => Ok(Arc::new(store)),
    }
}

impl Edge {
    fn new(
        settings: &Settings,
        core: &Core,
        auth: Arc<Auth>,
        certificates: Option<Arc<Certificates>>,
        drain: &Drain,
        mut registry: Registry,
    ) -> Self {
        let connections = Connections::new(&settings.server, certificates, ConnectionMetrics::new(&mut registry));
        let metrics = AdmissionMetrics::new(&mut registry);
        let admission = Admission::new(settings, drain.sessions.clone(), drain.draining.clone(), metrics);
        let answers = Answers::new(settings.limits.answers_bytes, AnswerMetrics::new(&mut registry));
        let hub_metrics = HubMetrics::new(&mut registry);
        let worker_metrics = WorkerMetrics::new(&mut registry);
        hub_metrics.know_formats(Format::ALL.map(Format::name));
        let addresses = Addresses::new(settings, AddressMetrics::new(&mut registry));
        let engine = open_engine(settings, SocketioMetrics::new(&mut registry, EngineError::codes()));
        let session_metrics = SessionMetrics::new(&mut registry);
        let counted = Counted {
            hubs: hub_metrics.clone(),
            sessions: session_metrics.clone(),
            connections: connections.clone(),
            store: if settings.redis.url.is_some() { "redis" } else { "embedded" },
        };
        let sessions = Services {
            auth: auth.clone(),
            limits: settings.limits.clone(),
            websocket: settings.websocket.clone(),
            socketio: settings.socketio.clone(),
            reconnect_spread: settings.drain.reconnect_spread,
            table: core.table.clone(),
            replica: core.replica.clone(),
            rooms: core.rooms.clone(),
            answers: answers.clone(),
            messages: SocketRate::of_messages(&settings.limits),
            requests: RequestRate::new(&settings.limits),
            typing: core.typing.clone(),
            metrics: session_metrics,
            closing: drain.closing.clone(),
        };
        let readiness = Readiness::new(core.replica.clone(), settings.redis.url.is_none());
        let reads = Reads {
            auth: auth.clone(),
            addresses: addresses.clone(),
            replica: core.replica.clone(),
            readiness: readiness.clone(),
            peers: core.peers.clone(),
            rooms: core.rooms.clone(),
            answers,
            bodies: Bodies::new(settings.limits.bodies_bytes, BodyMetrics::new(&mut registry)),
            limits: settings.limits.clone(),
            draining: drain.draining.clone(),
            requests: RequestMetrics::new(&mut registry),
            counted,
            registry,
        };
        let entrance = Entrance {
            server: settings.server.clone(),
            websocket: settings.websocket.clone(),
            auth,
            addresses,
            readiness,
            admission,
            engine,
        };
        let (reads, entrance, sessions) = (Arc::new(reads), Arc::new(entrance), Arc::new(sessions));
        let fanout = core.fanout.clone();
        Self { connections, reads, entrance, sessions, fanout, hub_metrics, worker_metrics }
    }

    fn serve(
        self,
        listener: TcpListener,
        server_settings: ServerSettings,
        fanout_settings: FanoutSettings,
    ) -> anyhow::Result<Server> {
        let n_workers = n_workers(&server_settings);
        let builder = Server::build()
            .workers(n_workers)
            .max_concurrent_connections(server_settings.max_http_connections.div_ceil(n_workers) + CONNECTIONS_AHEAD)
            .disable_signals()
            // The sessions have been drained before this (`shutdown.rs`).
            .shutdown_timeout(1);
        let Self { connections, reads, entrance, sessions, fanout, hub_metrics, worker_metrics } = self;
        let n_started = Arc::new(AtomicUsize::new(0));
        // This is called once on each worker thread.
        let server = builder.listen("rollcall", listener, move || {
            let number = n_started.fetch_add(1, Ordering::Relaxed);
            actix_rt::spawn(worker_delay::measure(worker_metrics.of(number)));
            let connections = connections.clone();
            let open = move |stream: TcpStream| open_connection(connections.clone(), stream);
            let (sessions, fanout, metrics) = (sessions.clone(), fanout.clone(), hub_metrics.clone());
            let settings = fanout_settings.clone();
            let start_worker = move || Worker::start(sessions.clone(), Hub::start(&fanout, metrics.clone(), &settings));
            let on_worker = OnWorker::new(start_worker);
            let (reads, edge, worker) = (reads.clone(), entrance.clone(), on_worker.clone());
            let app = HttpApp::new().configure(|config| http::configure(config, reads, edge, worker));
            let service = HttpService::build()
                // A client that closes its side is gone. Waiting for more would leak sockets in CLOSE_WAIT.
                .h1_allow_half_closed(false)
                // A quiet connection ends by a time of ours (`http/connection.rs`).
                .keep_alive(KeepAlive::Os)
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert(connection.peer());
                    data.insert(connection.waits());
                })
                .upgrade(http::upgrade_service(entrance.clone(), on_worker))
                .finish(map_config(app, |()| AppConfig::default()));
            fn_service(open).and_then(http::in_turns(service))
        });
        Ok(server.context("cannot serve on the port")?.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_others_can_reach_believes_strangers() {
        let mut auth = Settings::default().auth;
        let believes = |auth: &AuthSettings, addr: &str| believes_strangers(auth, addr.parse().unwrap());
        for addr in ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert!(!believes(&auth, addr), "{addr}");
        }
        for addr in ["0.0.0.0:8080", "[::]:8080", "10.0.0.5:8080", "192.0.2.1:8080", "[2001:db8::1]:8080"] {
            assert!(believes(&auth, addr), "{addr}");
        }
        auth.mode = AuthMode::Jwt;
        assert!(!believes(&auth, "0.0.0.0:8080"));
    }
}
