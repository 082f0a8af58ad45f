//! The bad network between a node and its Redis.
//!
//! ```ignore
//! let redis = RedisServer::start().await;
//! let proxy = ChaosProxy::start(redis.port()).await;
//! let node = Node::spawn(test_settings_with_redis(&proxy.url())).await;
//! proxy.cut().await;                  // connections are reset, new ones refused
//! proxy.restore().await;
//! proxy.refuse().await;               // new connections are refused, those of now stay
//! proxy.freeze();                     // connections stay open, nothing passes in either direction
//! proxy.strand();                     // the same for the connections of now only
//! proxy.set_rate(100_000);           // a slow line to each client
//! proxy.thaw();                       // what waited passes now: late, as after a real stall
//! proxy.switch(other.port());         // new connections lead to another server, those of now stay where they are
//! ```
//!
//! Every fault holds for data that is sent after the call has returned, so a test needs no pause after it.
//! The proxy runs on a thread of its own: it keeps working while the test blocks, and for nodes that outlive the test.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ports::{Port, stop_listening};

/// A TCP proxy on 127.0.0.1 whose network can be broken and mended; all its connections end on Drop.
pub(crate) struct ChaosProxy {
    port: Port,
    faults: watch::Sender<Faults>,
    upstream_port: Arc<AtomicU16>,
    swallowed: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    // Both `None` only while dropping.
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl ChaosProxy {
    /// Starts a proxy to `127.0.0.1:upstream_port`, which need not be there yet: until it is, connections are accepted
    /// and closed.
    pub(crate) async fn start(upstream_port: u16) -> ChaosProxy {
        let port = Port::reserve();
        let (faults, faults_seen) = watch::channel(Faults::default());
        let (orders, orders_taken) = mpsc::unbounded_channel();
        let swallowed = Arc::new(AtomicU64::new(0));
        let accepted = Arc::new(AtomicU64::new(0));
        let upstream_port = Arc::new(AtomicU16::new(upstream_port));
        let network = Network {
            port: port.number(),
            upstream_port: upstream_port.clone(),
            faults: faults_seen,
            swallowed: swallowed.clone(),
            accepted: accepted.clone(),
            number: 0,
        };
        let thread = std::thread::Builder::new()
            .name(format!("chaos-proxy-{}", network.port))
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(serve(network, orders_taken));
            })
            .expect("a thread can be started");
        let proxy =
            ChaosProxy { port, faults, upstream_port, swallowed, accepted, orders: Some(orders), thread: Some(thread) };
        proxy.order(Order::Listen).await;
        proxy
    }

    /// The proxy's port; it stays the same when the network is cut and restored.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// `redis://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Resets every connection (RST, so what was under way is lost) and refuses new ones.
    pub(crate) async fn cut(&self) {
        self.order(Order::StopListening).await;
        self.faults.send_modify(|faults| faults.cut = true);
        self.order(Order::AwaitNoConnections).await;
    }

    /// Refuses new connections. Those of now go on.
    pub(crate) async fn refuse(&self) {
        self.order(Order::StopListening).await;
    }

    /// Accepts connections again after [`ChaosProxy::cut`] or [`ChaosProxy::refuse`].
    pub(crate) async fn restore(&self) {
        self.faults.send_modify(|faults| faults.cut = false);
        self.order(Order::Listen).await;
    }

    /// Half-open: connections stay, new ones are accepted, and nothing is read or forwarded in either direction.
    /// [`ChaosProxy::thaw`] delivers what has waited, so a command may arrive long after its sender gave it up.
    pub(crate) fn freeze(&self) {
        self.flow(Flow::Held, Flow::Held);
    }

    /// Commands pass, and what the server answers is swallowed: a sender never learns the outcome of what was done.
    pub(crate) fn freeze_downstream(&self) {
        self.flow(Flow::Open, Flow::Swallowed);
    }

    /// Swallows what the server sends on connections that have subscribed to something, and on no other: the
    /// subscription is deaf while commands work. New subscriptions are deaf, too.
    pub(crate) fn deafen_subscriptions(&self) {
        self.flow(Flow::Open, Flow::SwallowedIfSubscribed);
    }

    /// Does the same to connections that have subscribed to transitions of rooms, and to no other.
    pub(crate) fn deafen_rooms(&self) {
        self.flow(Flow::Open, Flow::SwallowedIfInRooms);
    }

    /// Half-open like [`ChaosProxy::freeze`], but only for the connections of now: those that come later pass. So what a
    /// sender has given up can arrive, after [`ChaosProxy::thaw`], behind what it sent on a new connection.
    pub(crate) fn strand(&self) {
        let stranded = self.accepted.load(Ordering::Relaxed);
        self.faults.send_modify(|faults| faults.stranded = stranded);
    }

    /// Lets everything pass again in both directions. What was swallowed is lost.
    pub(crate) fn thaw(&self) {
        self.faults.send_modify(|faults| faults.stranded = 0);
        self.flow(Flow::Open, Flow::Open);
    }

    /// Lets new connections lead to `127.0.0.1:upstream_port`, as an address does that is given to another server. The
    /// connections of now stay open, and stay where they are.
    pub(crate) fn switch(&self, upstream_port: u16) {
        self.upstream_port.store(upstream_port, Ordering::Relaxed);
    }

    /// Lets every byte read from now on arrive this much later, in each direction; the order stays.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Lets no more than this many bytes a second pass from the server to each client, of what is read from now on.
    pub(crate) fn set_rate(&self, bytes_per_second: u32) {
        self.faults.send_modify(|faults| faults.bytes_per_second = Some(bytes_per_second));
    }

    /// The bytes swallowed so far: a test that needs something lost waits until this rises.
    pub(crate) fn swallowed_bytes(&self) -> u64 {
        self.swallowed.load(Ordering::Relaxed)
    }

    fn flow(&self, to_server: Flow, to_client: Flow) {
        self.faults.send_modify(|faults| (faults.to_server, faults.to_client) = (to_server, to_client));
    }

    /// Has the proxy's thread do something, and waits until it is done.
    async fn order(&self, order: fn(oneshot::Sender<()>) -> Order) {
        let (done, is_done) = oneshot::channel();
        let orders = self.orders.as_ref().expect("taken only while dropping");
        let _ = orders.send(order(done));
        is_done.await.expect("the proxy's thread works; its panic is printed above");
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        // The thread ends when nobody can give it orders, and takes all connections along.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is wrong with the network at the moment.
#[derive(Clone, Copy, Default)]
struct Faults {
    cut: bool,
    to_server: Flow,
    to_client: Flow,
    delay: Duration,
    /// To a client; `None`: as fast as it goes.
    bytes_per_second: Option<u32>,
    /// Connections with numbers up to this are held.
    stranded: u64,
}

impl Faults {
    fn flow(&self, direction: Direction, connection: u64) -> Flow {
        match direction {
            _ if connection <= self.stranded => Flow::Held,
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

/// What happens to the data of one direction.
#[derive(Clone, Copy, Default, PartialEq)]
enum Flow {
    #[default]
    Open,
    Held,
    Swallowed,
    SwallowedIfSubscribed,
    SwallowedIfInRooms,
}

/// What a connection has subscribed to.
#[derive(Default)]
struct Subscribed {
    something: AtomicBool,
    /// Transitions of a room.
    rooms: AtomicBool,
}

impl Subscribed {
    /// Takes note of what is sent to the server. Redis clients write a command in one piece, so its name is not torn between
    /// two chunks. With the line before it, it is no word in a script.
    fn note(&self, bytes: &[u8]) {
        let has = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
        if has(b"$9\r\nSUBSCRIBE") {
            self.something.store(true, Ordering::Relaxed);
            self.rooms.fetch_or(has(b":room:") && has(b":events"), Ordering::Relaxed);
        }
    }

    /// Whether what comes from the server is swallowed.
    fn is_deaf(&self, flow: Flow) -> bool {
        match flow {
            Flow::Swallowed => true,
            Flow::SwallowedIfSubscribed => self.something.load(Ordering::Relaxed),
            Flow::SwallowedIfInRooms => self.rooms.load(Ordering::Relaxed),
            Flow::Open | Flow::Held => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    ToServer,
    ToClient,
}

/// What the tasks of one proxy share.
#[derive(Clone)]
struct Network {
    port: u16,
    upstream_port: Arc<AtomicU16>,
    faults: watch::Receiver<Faults>,
    swallowed: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    /// Which connection this is of, counted from 1.
    number: u64,
}

impl Network {
    /// What to do with the data of a direction, as soon as it is not to be held.
    async fn unless_held(&mut self, direction: Direction) -> io::Result<Flow> {
        let number = self.number;
        match self.faults.wait_for(|faults| faults.flow(direction, number) != Flow::Held).await {
            Ok(faults) => Ok(faults.flow(direction, number)),
            Err(_) => Err(io::Error::other("the proxy was dropped")),
        }
    }
}

/// What only the thread that owns the listener and the connections can do; each says when it is done.
enum Order {
    Listen(oneshot::Sender<()>),
    StopListening(oneshot::Sender<()>),
    AwaitNoConnections(oneshot::Sender<()>),
}

/// The proxy's thread: accepts, and obeys, until nobody can give orders.
async fn serve(network: Network, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut listener: Option<TcpListener> = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Listen(done)) => {
                    if listener.is_none() {
                        let bound = TcpListener::bind(("127.0.0.1", network.port)).await;
                        listener = Some(bound.expect("the reserved port is free"));
                    }
                    let _ = done.send(());
                }
                Some(Order::StopListening(done)) => {
                    if let Some(listener) = listener.take() {
                        stop_listening(listener.into_std().expect("a listener leaves the runtime"));
                    }
                    let _ = done.send(());
                }
                Some(Order::AwaitNoConnections(done)) => {
                    while connections.join_next().await.is_some() {}
                    let _ = done.send(());
                }
            },
            Ok(client) = accept(listener.as_ref()) => {
                let number = network.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                connections.spawn(connection(client, Network { number, ..network.clone() }));
            }
            // Forgets those that have ended, so that a long chaos test does not collect them.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next client; never comes while nobody listens.
async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// One client and its server, until both have closed, one broke, or the network is cut.
async fn connection(mut client: TcpStream, mut network: Network) {
    let upstream_port = network.upstream_port.load(Ordering::Relaxed);
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream_port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let is_cut = {
        let forwarding_network = network.clone();
        tokio::select! {
            _ = forward(&mut client, &mut server, &forwarding_network) => false,
            _ = network.faults.wait_for(|faults| faults.cut) => true,
        }
    };
    if is_cut {
        // A closed socket says goodbye in order; a cut network does not.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Forwards both directions; returns when both have ended, or one broke.
async fn forward(client: &mut TcpStream, server: &mut TcpStream, network: &Network) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let subscribed = Subscribed::default();
    let (upstream, upstream_taken) = mpsc::channel(QUEUE);
    let (downstream, downstream_taken) = mpsc::channel(QUEUE);
    tokio::try_join!(
        take(from_client, Direction::ToServer, upstream, network.clone(), &subscribed),
        deliver(upstream_taken, Direction::ToServer, to_server, network.clone(), &subscribed),
        take(from_server, Direction::ToClient, downstream, network.clone(), &subscribed),
        deliver(downstream_taken, Direction::ToClient, to_client, network.clone(), &subscribed),
    )?;
    Ok(())
}

/// Chunks that may be under way in one direction. When they are, the proxy reads no more, and the kernel's buffers,
/// then the sender, fill up: what a stalled network does.
const QUEUE: usize = 256;

/// Bytes under way.
struct Chunk {
    bytes: Vec<u8>,
    due: Instant,
}

/// Reads one direction into its queue until its end.
async fn take(
    mut from: ReadHalf<'_>,
    direction: Direction,
    queue: mpsc::Sender<Chunk>,
    mut network: Network,
    subscribed: &Subscribed,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut line_free_at = Instant::now();
    loop {
        network.unless_held(direction).await?;
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let Faults { delay, bytes_per_second, .. } = *network.faults.borrow();
        let rate = bytes_per_second.filter(|_| direction == Direction::ToClient);
        let on_the_line = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(count as f64 / f64::from(rate)));
        line_free_at = line_free_at.max(Instant::now()) + on_the_line;
        let due = line_free_at + delay;
        let bytes = buffer[..count].to_vec();
        if direction == Direction::ToServer {
            subscribed.note(&bytes);
        }
        if queue.send(Chunk { bytes, due }).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes one direction's queue, each chunk when it is due, then closes the direction.
async fn deliver(
    mut queue: mpsc::Receiver<Chunk>,
    direction: Direction,
    mut to: WriteHalf<'_>,
    mut network: Network,
    subscribed: &Subscribed,
) -> io::Result<()> {
    while let Some(chunk) = queue.recv().await {
        tokio::time::sleep_until(chunk.due).await;
        // Asked again here: the fault may have come while the chunk was under way.
        if subscribed.is_deaf(network.unless_held(direction).await?) {
            swallow(&network, &chunk);
        } else {
            to.write_all(&chunk.bytes).await?;
        }
    }
    to.shutdown().await
}

fn swallow(network: &Network, chunk: &Chunk) {
    network.swallowed.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::support::{ChaosProxy, DEADLINE, RedisServer, eventually};

    /// A proxy before a server that answers each byte with the same byte, and a connection through it.
    async fn echo_through_proxy() -> (ChaosProxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = ChaosProxy::start(listener.local_addr().unwrap().port()).await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        });
        let client = connect(&proxy).await.unwrap();
        (proxy, client)
    }

    async fn connect(proxy: &ChaosProxy) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", proxy.port())).await
    }

    /// Reads exactly one answer of the length of `expected`.
    async fn expect(client: &mut TcpStream, expected: &str) {
        let mut answer = vec![0; expected.len()];
        let read = tokio::time::timeout(DEADLINE, client.read_exact(&mut answer)).await;
        read.expect("an answer in time").expect("an answer");
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_healthy_network_passes_everything_and_the_end() {
        let (_proxy, mut client) = echo_through_proxy().await;
        client.write_all(b"one").await.unwrap();
        expect(&mut client, "one").await;
        client.write_all(b"two").await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "two");
    }

    #[tokio::test]
    async fn a_switched_proxy_leads_new_connections_elsewhere_and_leaves_the_old_ones() {
        let (proxy, mut client) = echo_through_proxy().await;
        client.write_all(b"one").await.unwrap();
        expect(&mut client, "one").await;
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.switch(other.local_addr().unwrap().port());
        let _fresh = connect(&proxy).await.unwrap();
        let accepted = tokio::time::timeout(DEADLINE, other.accept()).await;
        accepted.expect("in time").expect("the new connection leads there");
        client.write_all(b"two").await.unwrap();
        expect(&mut client, "two").await;
    }

    #[tokio::test]
    async fn a_cut_network_resets_connections_and_refuses_new_ones_until_it_is_restored() {
        let (proxy, mut client) = echo_through_proxy().await;
        client.write_all(b"one").await.unwrap();
        expect(&mut client, "one").await;

        proxy.cut().await;
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(connect(&proxy).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

        proxy.restore().await;
        let mut client = connect(&proxy).await.unwrap();
        client.write_all(b"two").await.unwrap();
        expect(&mut client, "two").await;
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_keeps_the_connections_that_it_has() {
        let (proxy, mut client) = echo_through_proxy().await;
        client.write_all(b"one").await.unwrap();
        expect(&mut client, "one").await;
        proxy.refuse().await;
        assert_eq!(connect(&proxy).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        client.write_all(b"two").await.unwrap();
        expect(&mut client, "two").await;
        proxy.restore().await;
        connect(&proxy).await.unwrap();
    }

    #[tokio::test]
    async fn a_frozen_network_accepts_and_stays_silent_and_delivers_after_the_thaw() {
        let (proxy, mut client) = echo_through_proxy().await;
        proxy.freeze();
        client.write_all(b"one").await.unwrap();
        let mut late = connect(&proxy).await.unwrap();
        late.write_all(b"two").await.unwrap();
        // Long enough for an answer of a proxy that does not freeze. A slow machine can only let this pass, not fail.
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
        assert!(early.is_err(), "a frozen proxy forwarded {early:?}");
        proxy.thaw();
        expect(&mut client, "one").await;
        expect(&mut late, "two").await;
    }

    #[tokio::test]
    async fn a_frozen_downstream_loses_answers_and_not_commands() {
        let redis = RedisServer::start().await;
        let proxy = ChaosProxy::start(redis.port()).await;
        let mut client = connect(&proxy).await.unwrap();
        proxy.freeze_downstream();
        client.write_all(b"SET key done\r\n").await.unwrap();
        let answer = "+OK\r\n".len() as u64;
        eventually(async || proxy.swallowed_bytes() == answer, "the answer is swallowed").await;
        proxy.thaw();
        client.write_all(b"GET key\r\n").await.unwrap();
        expect(&mut client, "$4\r\ndone\r\n").await;
    }

    #[tokio::test]
    async fn a_deaf_subscription_hears_nothing_while_commands_are_answered() {
        let redis = RedisServer::start().await;
        let proxy = ChaosProxy::start(redis.port()).await;
        let mut subscriber = connect(&proxy).await.unwrap();
        subscriber.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n").await.unwrap();
        expect(&mut subscriber, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n").await;

        proxy.deafen_subscriptions();
        let mut client = connect(&proxy).await.unwrap();
        client.write_all(b"PUBLISH news lost\r\n").await.unwrap();
        expect(&mut client, ":1\r\n").await;
        eventually(async || proxy.swallowed_bytes() > 0, "the message is swallowed").await;

        proxy.thaw();
        client.write_all(b"PUBLISH news heard\r\n").await.unwrap();
        expect(&mut subscriber, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nheard\r\n").await;
    }

    #[tokio::test]
    async fn a_delay_holds_for_each_direction() {
        let (proxy, mut client) = echo_through_proxy().await;
        let delay = Duration::from_millis(60);
        proxy.set_delay(delay);
        let sent = Instant::now();
        client.write_all(b"one").await.unwrap();
        expect(&mut client, "one").await;
        assert!(sent.elapsed() >= 2 * delay, "there and back took {:?}", sent.elapsed());
    }

    #[tokio::test]
    async fn a_stranded_connection_waits_while_a_new_one_passes() {
        let (proxy, mut old) = echo_through_proxy().await;
        old.write_all(b"one").await.unwrap();
        expect(&mut old, "one").await;
        proxy.strand();
        old.write_all(b"two").await.unwrap();
        let mut new = connect(&proxy).await.unwrap();
        new.write_all(b"three").await.unwrap();
        expect(&mut new, "three").await;
        proxy.thaw();
        expect(&mut old, "two").await;
    }

    #[tokio::test]
    async fn a_dropped_proxy_closes_its_connections() {
        let (proxy, mut client) = echo_through_proxy().await;
        drop(proxy);
        let end = tokio::time::timeout(DEADLINE, client.read_u8()).await.expect("an end in time");
        assert!(end.is_err());
    }
}
