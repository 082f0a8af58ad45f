//! A WebSocket client of both formats that costs little: it counts what it hears. The tests have other clients, which check and
//! keep every frame: ten thousand such clients would be most of the load.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall::wire::Format;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::support::frame::{CLOSE, FIN, PING, PONG, TEXT, append_frame, frame, whole_frame};
use crate::support::http::{head_length, upgrade_request};

/// What a crowd of sockets has heard together.
#[derive(Default)]
pub(crate) struct Tally {
    /// Frames `user_online`, `user_changed`, `user_status_changed` and `user_offline`. In the plain format `USER_ONLINE` and
    /// `USER_OFFLINE`.
    pub events: AtomicU64,
    /// Frames `welcome`.
    pub welcomes: AtomicU64,
    /// Frames `online_users_list`: a join is answered with `welcome` and one of these, if the client hears of everyone.
    pub lists: AtomicU64,
    /// Frames `online_count`.
    pub counts: AtomicU64,
    /// Frames `CONNECTION_ESTABLISHED`: in the plain format a join is answered with one of these.
    pub established: AtomicU64,
    /// The sum of `onlineCount` in all `welcome`s: who was there already, the joiner included.
    pub online: AtomicU64,
    /// Pings, each of which was answered with a pong.
    pub pings: AtomicU64,
    /// Frames `user_activity_ack`.
    pub acks: AtomicU64,
    /// Frames `resync` and `RESYNC`.
    pub resyncs: AtomicU64,
    /// Frames `error`, events of the other format, and whatever else nobody asked for.
    pub unexpected: AtomicU64,
    /// Connections that the server ended.
    pub closed: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
    mark: Mutex<Option<Instant>>,
    marked: AtomicBool,
    /// With how many events [`Tally::until_told`] is woken.
    awaited: AtomicU64,
    told: Notify,
    latencies: Mutex<Vec<Duration>>,
}

impl Tally {
    /// From now on every event's delay since this moment is recorded.
    pub(crate) fn mark(&self) {
        *self.mark.lock().expect("not poisoned") = Some(Instant::now());
        self.marked.store(true, Ordering::Release);
    }

    /// The delays recorded, in order; recording ends.
    pub(crate) fn take_latencies(&self) -> Vec<Duration> {
        self.marked.store(false, Ordering::Release);
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("not poisoned"));
        latencies.sort_unstable();
        latencies
    }

    /// Waits until `counter` has reached exactly `expected`.
    pub(crate) async fn until(&self, what: &str, counter: &AtomicU64, expected: u64, patience: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let count = counter.load(Ordering::Acquire);
            if count == expected {
                return Ok(());
            }
            let late = started.elapsed() > patience;
            ensure!(count < expected && !late, "{what}: {count} of exactly {expected} after {:?}", started.elapsed());
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Waits until exactly `expected` events have come, and goes on at once.
    pub(crate) async fn until_told(&self, expected: u64, patience: Duration) -> Result<()> {
        self.awaited.store(expected, Ordering::SeqCst);
        loop {
            let count = self.events.load(Ordering::SeqCst);
            ensure!(count <= expected, "deliveries: {count}, more than {expected}");
            if count == expected {
                return Ok(());
            }
            let told = tokio::time::timeout(patience, self.told.notified()).await;
            told.with_context(|| format!("deliveries: {count} of exactly {expected} after {patience:?}"))?;
        }
    }

    /// So many events more have come.
    fn add_events(&self, n_events: u64) {
        let before = self.events.fetch_add(n_events, Ordering::SeqCst);
        let awaited = self.awaited.load(Ordering::SeqCst);
        if before < awaited && awaited <= before + n_events {
            self.told.notify_one();
        }
    }

    /// Fails if something came that nobody asked for, or a connection ended.
    pub(crate) fn check_quiet(&self) -> Result<()> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (unexpected, resyncs, closed) = (load(&self.unexpected), load(&self.resyncs), load(&self.closed));
        ensure!(
            (unexpected, resyncs, closed) == (0, 0, 0),
            "{unexpected} unexpected frames, {resyncs} resyncs, {closed} connections ended by the server"
        );
        Ok(())
    }
}

/// What one socket has heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub events: AtomicU64,
    pub online: AtomicU64,
    pub welcomes: AtomicU64,
    pub lists: AtomicU64,
    pub counts: AtomicU64,
    /// Frames `watching`.
    pub answers: AtomicU64,
    pub lefts: AtomicU64,
    /// Frames `own_status`: the events and the answers.
    pub own_statuses: AtomicU64,
    pub pings: AtomicU64,
    pub resyncs: AtomicU64,
    pub closed: AtomicBool,
    /// Reads nothing while set.
    pub deaf: AtomicBool,
    /// `deaf` has been unset.
    pub hearing: Notify,
    /// Something other than an event has come.
    pub changed: Notify,
}

/// How a socket connects.
#[derive(Clone)]
pub(crate) struct Way {
    /// The server.
    pub addr: SocketAddr,
    /// What it speaks over WebSocket; none on the floor, which knows neither WebSocket nor HTTP.
    pub format: Option<Format>,
    /// `SO_RCVBUF`, if not the system's.
    pub receive_bytes: Option<u32>,
    /// What the URL of a user has besides.
    pub query: &'static str,
}

impl Way {
    /// To a node, in the native format.
    pub(crate) fn to(addr: SocketAddr) -> Self {
        Self { addr, format: Some(Format::Native), receive_bytes: None, query: "" }
    }
}

/// One connection; the stream ends when this is dropped.
pub(crate) struct Socket {
    stream: Arc<TcpStream>,
    pub heard: Arc<Heard>,
    reader: JoinHandle<()>,
}

/// Addresses that connections come from, so that their ports do not run out: 28 000 each, unless the system is told otherwise.
const N_SOURCES: usize = 8;

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

impl Socket {
    /// Connects as number `i` of the crowd; `user` joins at once.
    pub(crate) async fn open(way: &Way, i: usize, user: Option<&str>, tally: &Arc<Tally>) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = way.receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(source(i))?;
        let stream = socket.connect(way.addr).await.with_context(|| format!("cannot connect to {}", way.addr))?;
        stream.set_nodelay(true)?;
        let mut early = Vec::new();
        if let Some(format) = way.format {
            let query = user.map_or(String::new(), |user| format!("?userId={user}{}", way.query));
            let request = upgrade_request(&format!("{}{query}", path(format)));
            write_all(&stream, request.as_bytes()).await?;
            early = read_head(&stream).await?;
        }
        let stream = Arc::new(stream);
        let heard = Arc::new(Heard::default());
        // The floor's frames have the native form.
        let frames = Frames::of(way.format.unwrap_or(Format::Native));
        let reader = tokio::spawn(read(stream.clone(), frames, early, heard.clone(), tally.clone()));
        Ok(Self { stream, heard, reader })
    }

    /// Sends a text frame.
    pub(crate) async fn send(&self, text: &str) -> Result<()> {
        write_all(&self.stream, &text_frame(text)).await
    }

    /// Closes with 1000: the user means it.
    pub(crate) async fn close(&self) -> Result<()> {
        write_all(&self.stream, &frame(FIN | CLOSE, MASK, &1000_u16.to_be_bytes())).await
    }

    /// Waits for the server to have said something in particular.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Heard) -> bool) -> Result<()> {
        let waiting = async {
            while !holds(&self.heard) {
                self.heard.changed.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.with_context(|| format!("no {what} in 20 s"))
    }

    /// Stops or goes on reading.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.heard.deaf.store(deaf, Ordering::Release);
        self.heard.hearing.notify_one();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Where number `i` of a crowd comes from: any free port of one of the addresses.
fn source(i: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (i % N_SOURCES) as u8), 0))
}

/// Where the clients of a format connect.
fn path(format: Format) -> &'static str {
    match format {
        Format::Native => "/ws",
        Format::Plain => "/",
    }
}

/// A mask of zeros, which is a mask.
const MASK: Option<[u8; 4]> = Some([0; 4]);

/// A client's text frame.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    frame(FIN | TEXT, MASK, text.as_bytes())
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(n_bytes) => bytes = &bytes[n_bytes..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads the answer to the handshake; returns what came behind it.
async fn read_head(stream: &TcpStream) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut head) {
            Ok(0) => anyhow::bail!("the connection ended in the handshake"),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        if let Some(length) = head_length(&head) {
            let status = String::from_utf8_lossy(&head[..length.min(64)]).into_owned();
            ensure!(status.starts_with("HTTP/1.1 101 "), "the handshake was refused: {status}");
            return Ok(head.split_off(length));
        }
    }
}

async fn read(stream: Arc<TcpStream>, mut frames: Frames, early: Vec<u8>, heard: Arc<Heard>, tally: Arc<Tally>) {
    let mut answers = frames.take_in(&early, &heard, &tally);
    drop(early);
    loop {
        let answers_due = std::mem::take(&mut answers);
        if !answers_due.is_empty() && write_all(&stream, &answers_due).await.is_err() {
            break;
        }
        if stream.readable().await.is_err() {
            break;
        }
        if heard.deaf.load(Ordering::Acquire) {
            heard.hearing.notified().await;
            continue;
        }
        let read = READ_BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => Err(()),
            Ok(n_bytes) => Ok(frames.take_in(&buffer[..n_bytes], &heard, &tally)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(_) => Err(()),
        });
        match read {
            Ok(more) => answers = more,
            Err(()) => break,
        }
    }
    heard.closed.store(true, Ordering::Release);
    tally.closed.fetch_add(1, Ordering::AcqRel);
    heard.changed.notify_one();
}

/// The stream as frames of one format.
struct Frames {
    format: Format,
    /// What has not come whole.
    rest: Vec<u8>,
}

impl Frames {
    fn of(format: Format) -> Self {
        Self { format, rest: Vec::new() }
    }

    /// Counts what has come whole; returns what is to be answered.
    fn take_in(&mut self, bytes: &[u8], heard: &Heard, tally: &Tally) -> Vec<u8> {
        tally.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut answers = Vec::new();
        if self.rest.is_empty() {
            let n_taken = count(bytes, self.format, heard, tally, &mut answers);
            self.rest.extend_from_slice(&bytes[n_taken..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let n_taken = count(&self.rest, self.format, heard, tally, &mut answers);
            self.rest.drain(..n_taken);
        }
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        answers
    }
}

/// Counts the whole frames at the beginning of `bytes`; returns how long they are.
fn count(bytes: &[u8], format: Format, heard: &Heard, tally: &Tally, answers: &mut Vec<u8>) -> usize {
    let (mut at, mut n_events) = (0, 0);
    while let Some((first, payload)) = whole_frame(&bytes[at..]) {
        let (payload, end) = (&bytes[at + payload.start..at + payload.end], at + payload.end);
        at = end;
        match first & 0xF {
            TEXT if is_event(payload, format) => n_events += 1,
            TEXT => note(payload, heard, tally),
            PING => {
                append_frame(answers, FIN | PONG, MASK, payload);
                heard.pings.fetch_add(1, Ordering::AcqRel);
                tally.pings.fetch_add(1, Ordering::AcqRel);
            }
            // The end of the stream follows, and is counted.
            CLOSE => {}
            _ => {
                tally.unexpected.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    if n_events > 0 {
        heard.events.fetch_add(n_events, Ordering::Release);
        if tally.marked.load(Ordering::Acquire) {
            let now = Instant::now();
            if let Some(mark) = *tally.mark.lock().expect("not poisoned") {
                let late = now.saturating_duration_since(mark);
                tally.latencies.lock().expect("not poisoned").extend((0..n_events).map(|_| late));
            }
        }
        tally.add_events(n_events);
    }
    at
}

fn is_event(payload: &[u8], format: Format) -> bool {
    let kind = payload.strip_prefix(br#"{"type":""#).unwrap_or_default();
    let kinds: &[&[u8]] = match format {
        Format::Native => &[b"user_online\"", b"user_offline\"", b"user_changed\"", b"user_status_changed\""],
        Format::Plain => &[b"USER_ONLINE\"", b"USER_OFFLINE\""],
    };
    kinds.iter().any(|of_event| kind.starts_with(of_event))
}

/// Takes note of a frame that is no event.
fn note(payload: &[u8], heard: &Heard, tally: &Tally) {
    let kind = payload.strip_prefix(br#"{"type":""#).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b'"').next().unwrap_or_default();
    let both = |one: &AtomicU64, all: &AtomicU64| {
        one.fetch_add(1, Ordering::AcqRel);
        all.fetch_add(1, Ordering::AcqRel);
    };
    match kind {
        b"welcome" => {
            let online = number_after(payload, br#""onlineCount":"#);
            heard.online.store(online, Ordering::Release);
            both(&heard.welcomes, &tally.welcomes);
            tally.online.fetch_add(online, Ordering::AcqRel);
        }
        b"online_users_list" => both(&heard.lists, &tally.lists),
        b"online_count" => both(&heard.counts, &tally.counts),
        b"watching" => {
            heard.answers.fetch_add(1, Ordering::AcqRel);
        }
        b"CONNECTION_ESTABLISHED" => {
            tally.established.fetch_add(1, Ordering::AcqRel);
        }
        b"left" => {
            heard.lefts.fetch_add(1, Ordering::AcqRel);
        }
        b"user_activity_ack" => {
            tally.acks.fetch_add(1, Ordering::AcqRel);
        }
        b"resync" | b"RESYNC" => both(&heard.resyncs, &tally.resyncs),
        b"own_status" => {
            heard.own_statuses.fetch_add(1, Ordering::AcqRel);
        }
        _ => {
            tally.unexpected.fetch_add(1, Ordering::AcqRel);
        }
    }
    heard.changed.notify_one();
}

fn number_after(payload: &[u8], name: &[u8]) -> u64 {
    let at = payload.windows(name.len()).position(|window| window == name).map_or(payload.len(), |at| at + name.len());
    payload[at..].iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crowd_comes_from_several_addresses() {
        let server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let way = Way { addr: server.local_addr().expect("it is bound"), format: None, receive_bytes: None, query: "" };
        let mut sources = std::collections::BTreeSet::new();
        for i in 0..2 * N_SOURCES {
            let _socket = Socket::open(&way, i, None, &Arc::default()).await.expect("the server listens");
            sources.insert(server.accept().expect("somebody comes").1.ip());
        }
        assert_eq!(sources.len(), N_SOURCES);
    }

    #[tokio::test]
    async fn who_waits_for_events_is_woken_by_the_last_and_fails_on_one_too_many() {
        let tally = Arc::new(Tally::default());
        let telling = {
            let tally = tally.clone();
            async move {
                for n_events in [3, 2, 5] {
                    tokio::task::yield_now().await;
                    tally.add_events(n_events);
                }
            }
        };
        let patience = Duration::from_secs(10);
        let (told, ()) = tokio::join!(tally.until_told(10, patience), telling);
        told.expect("exactly ten have come");
        tally.add_events(2);
        tally.until_told(11, patience).await.expect_err("one too many has come");
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        for payload in [
            r#"{"type":"welcome","userId":"a","onlineCount":42}"#.to_owned(),
            format!(r#"{{"type":"online_users_list","users":["{}"]}}"#, "x".repeat(70_000)),
            r#"{"type":"user_online","userId":"b"}"#.to_owned(),
            format!(r#"{{"type":"user_offline","userId":"{}"}}"#, "c".repeat(200)),
            r#"{"type":"user_status_changed","userId":"b","status":"away"}"#.to_owned(),
            r#"{"type":"own_status","chosen":"online","effective":"away"}"#.to_owned(),
            r#"{"type":"user_online_status","userId":"b"}"#.to_owned(),
        ] {
            append_frame(&mut stream, FIN | TEXT, None, payload.as_bytes());
        }
        stream.extend_from_slice(&[0x89, 0]);
        for piece in [1, 7, 4096, stream.len()] {
            let (mut frames, heard, tally) = (Frames::of(Format::Native), Heard::default(), Tally::default());
            let answers: Vec<u8> =
                stream.chunks(piece).flat_map(|piece| frames.take_in(piece, &heard, &tally)).collect();
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!((load(&heard.events), load(&heard.lists), load(&heard.online)), (3, 1, 42));
            assert_eq!((load(&tally.events), load(&tally.unexpected)), (3, 1));
            assert_eq!((load(&heard.pings), load(&tally.pings), load(&heard.own_statuses)), (1, 1, 1));
            assert_eq!(answers, [0x8a, 0x80, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_client_counts_the_events_of_its_own_format_only() {
        let mut stream = Vec::new();
        for kind in ["CONNECTION_ESTABLISHED", "USER_ONLINE", "USER_OFFLINE", "USER_OFFLINE", "RESYNC", "user_online"] {
            append_frame(&mut stream, FIN | TEXT, None, format!(r#"{{"type":"{kind}","userId":"a"}}"#).as_bytes());
        }
        for (format, events, unexpected) in [(Format::Plain, 3, 1), (Format::Native, 1, 3)] {
            let tally = Tally::default();
            Frames::of(format).take_in(&stream, &Heard::default(), &tally);
            let counts = [&tally.events, &tally.unexpected, &tally.established, &tally.resyncs];
            assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [events, unexpected, 1, 1]);
        }
    }
}
