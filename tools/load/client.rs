//! A WebSocket client of all formats that costs little: it counts what it hears. The tests have other clients, which check and
//! keep every frame: ten thousand such clients would be most of the load.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall::wire::Format;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::frames::{Frames, Hears, REFERENCE};
use crate::support::frame::{CLOSE, FIN, TEXT, frame};
use crate::support::http::{head_length, upgrade_request};
use crate::tally::{Heard, Tally};

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
    /// Whose events it hears.
    pub hears: Hears,
}

impl Way {
    /// To a node, in the native format.
    pub(crate) fn to(addr: SocketAddr) -> Self {
        Self { addr, format: Some(Format::Native), receive_bytes: None, query: "", hears: Hears::Service }
    }

    /// The same in Socket.IO.
    pub(crate) fn to_socketio(addr: SocketAddr) -> Self {
        Self { format: Some(Format::Socketio), ..Self::to(addr) }
    }

    /// The same for a user who hears nothing of the service, but of rooms.
    pub(crate) fn to_rooms(addr: SocketAddr) -> Self {
        Self { query: "&presence=none", hears: Hears::Rooms, ..Self::to(addr) }
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
            // In Socket.IO a client joins by an event.
            let named = user.filter(|_| !format.is_socketio());
            let query = named.map_or(String::new(), |user| format!("?userId={user}{}", way.query));
            let request = upgrade_request(&format!("{}{query}", path(format)));
            write_all(&stream, request.as_bytes()).await?;
            early = read_head(&stream).await?;
        }
        let stream = Arc::new(stream);
        let heard = Arc::new(Heard::default());
        // The floor's frames have the native form.
        let frames = match way.format {
            Some(Format::Socketio) => Frames::of_socketio(user),
            format => Frames::of(format.unwrap_or(Format::Native), way.hears),
        };
        let reader = tokio::spawn(read(stream.clone(), frames, early, heard.clone(), tally.clone()));
        Ok(Self { stream, heard, reader })
    }

    /// Sends a text frame.
    pub(crate) async fn send(&self, text: &str) -> Result<()> {
        write_all(&self.stream, &text_frame(text)).await
    }

    /// Asks to be in a room, and to hear of it what `presence` names.
    pub(crate) async fn join_room(&self, room: &str, presence: &str) -> Result<()> {
        self.send(&format!(r#"{{"type":"join_room","roomId":"{room}","presence":"{presence}"{REFERENCE}"#)).await
    }

    /// Asks not to be in a room any more.
    pub(crate) async fn leave_room(&self, room: &str) -> Result<()> {
        self.send(&format!(r#"{{"type":"leave_room","roomId":"{room}"{REFERENCE}"#)).await
    }

    /// Waits until so many rooms have been joined by this socket since it came.
    pub(crate) async fn until_in_rooms(&self, n_joined: u64) -> Result<()> {
        self.until("`room_joined`", |heard| heard.rooms_joined.load(Ordering::Acquire) == n_joined).await
    }

    /// Waits until so many rooms have been left by this socket since it came.
    pub(crate) async fn until_left_rooms(&self, n_left: u64) -> Result<()> {
        self.until("`room_left`", |heard| heard.rooms_left.load(Ordering::Acquire) == n_left).await
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
        Format::Socketio | Format::SocketioStatus | Format::SocketioRoom => "/socket.io/?EIO=4&transport=websocket",
    }
}

/// A mask of zeros, which is a mask.
pub(crate) const MASK: Option<[u8; 4]> = Some([0; 4]);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crowd_comes_from_several_addresses() {
        let server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = server.local_addr().expect("it is bound");
        let way = Way { format: None, ..Way::to(addr) };
        let mut sources = std::collections::BTreeSet::new();
        for i in 0..2 * N_SOURCES {
            let _socket = Socket::open(&way, i, None, &Arc::default()).await.expect("the server listens");
            sources.insert(server.accept().expect("somebody comes").1.ip());
        }
        assert_eq!(sources.len(), N_SOURCES);
    }
}
