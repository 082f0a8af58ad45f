//! The floor: what the kernel costs, and nothing else. One pre-encoded frame for all, one write for each socket and event; no
//! HTTP, no Redis, no log, no decision. What the service costs is told as a multiple of this, measured in the same run.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::process::{Process, Programs};
use crate::support;
use crate::support::frame::{FIN, TEXT};

enum Job {
    Serve(std::net::TcpStream),
    /// To every socket of the part.
    Write(Arc<[u8]>, u8),
}

/// Into how many parts the sockets fall that can be written to apart.
pub(crate) const N_PARTS: u8 = 100;

/// All parts.
const ALL: u8 = u8::MAX;

/// Asks on the control connection how many sockets are served.
const HOW_MANY: u8 = u8::MAX - 1;

/// Runs the floor with as many threads as the service has workers: prints the port of the sockets and the port on which the
/// measurement says what to send, as often as it says so.
pub(crate) fn run(n_threads: usize) -> Result<()> {
    let sockets = listen()?;
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{} {}", sockets.local_addr()?, control.local_addr()?);
    let n_served = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..n_threads)
        .map(|_| {
            let n_served = n_served.clone();
            let (sender, receiver) = mpsc::unbounded_channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime can be built");
                LocalSet::new().block_on(&runtime, serve(receiver, &n_served)).expect("the floor holds");
            });
            sender
        })
        .collect();
    let acceptors = threads.clone();
    std::thread::spawn(move || {
        for (i, stream) in sockets.incoming().enumerate() {
            let stream = stream.expect("a connection can be accepted");
            // An error is a thread that has failed, and has said so.
            let _ = acceptors[i % acceptors.len()].send(Job::Serve(stream));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        control.set_nonblocking(true)?;
        let (mut control, _) = tokio::net::TcpListener::from_std(control)?.accept().await?;
        let mut frame = vec![0; control.read_u32().await? as usize];
        control.read_exact(&mut frame).await?;
        let frame: Arc<[u8]> = frame.into();
        while let Ok(part) = control.read_u8().await {
            if part == HOW_MANY {
                control.write_u32(n_served.load(Ordering::Acquire)).await?;
                continue;
            }
            for thread in &threads {
                thread.send(Job::Write(frame.clone(), part)).ok().context("a thread has failed")?;
            }
        }
        Ok(())
    })
}

/// With room for all who come within a moment, as the service has: of those beyond it, the kernel forgets some whom it has
/// told that they are connected. std's own would be 128.
fn listen() -> Result<TcpListener> {
    const BACKLOG: i32 = 4096;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn serve(mut jobs: mpsc::UnboundedReceiver<Job>, n_served: &AtomicU32) -> Result<()> {
    let mut sockets: Vec<OwnedWriteHalf> = Vec::new();
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Serve(stream) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let (reader, writer) = TcpStream::from_std(stream)?.into_split();
                tokio::task::spawn_local(read(reader));
                sockets.push(writer);
                n_served.fetch_add(1, Ordering::AcqRel);
            }
            Job::Write(frame, part) => {
                let (first, apart) = if part == ALL { (0, 1) } else { (part.into(), N_PARTS.into()) };
                for socket in sockets.iter().skip(first).step_by(apart) {
                    let n_bytes = socket.try_write(&frame).context("an idle socket takes a frame")?;
                    ensure!(n_bytes == frame.len(), "an idle socket takes a frame whole");
                }
            }
        }
    }
    Ok(())
}

/// Reads whatever comes, and makes nothing of it: one system call a message.
async fn read(mut reader: OwnedReadHalf) {
    let mut buffer = [0; 64];
    while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
}

/// The floor in a process of its own.
pub(crate) struct Floor {
    /// The process.
    pub process: Process,
    /// Where sockets connect.
    pub addr: SocketAddr,
    /// How it is told.
    pub control: Control,
}

/// The connection on which the floor is told to send.
pub(crate) struct Control(TcpStream);

impl Floor {
    /// Starts it. `frame` is what it sends.
    pub(crate) async fn start(programs: &Programs, n_threads: usize, frame: &[u8]) -> Result<Self> {
        let mut process = programs.own("floor", &["floor", &n_threads.to_string()])?;
        let line = process.line()?;
        let Some((addr, control)) = line.split_once(' ') else { bail!("the floor says {line:?}") };
        let mut control = TcpStream::connect(control.parse::<SocketAddr>()?).await?;
        control.set_nodelay(true)?;
        control.write_u32(frame.len() as u32).await?;
        control.write_all(frame).await?;
        Ok(Self { addr: addr.parse()?, process, control: Control(control) })
    }
}

impl Control {
    /// Waits until the floor serves `count` sockets: a client may take a connection for made that is still to be accepted.
    pub(crate) async fn until_serving(&mut self, count: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            self.0.write_u8(HOW_MANY).await?;
            let n_served = self.0.read_u32().await?;
            if n_served as usize == count {
                return Ok(());
            }
            ensure!(started.elapsed() < Duration::from_secs(20), "the floor serves {n_served} of {count} sockets");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// One event to all.
    pub(crate) async fn send(&mut self) -> Result<()> {
        self.send_to_part(ALL).await
    }

    /// One event to a part of the sockets, below [`N_PARTS`].
    pub(crate) async fn send_to_part(&mut self, part: u8) -> Result<()> {
        Ok(self.0.write_all(&[part]).await?)
    }
}

/// A frame as long as the service's own for an arrival.
pub(crate) fn frame() -> Vec<u8> {
    support::frame::frame(FIN | TEXT, None, format!(r#"{{"type":"user_online",{ARRIVAL}}}"#).as_bytes())
}

/// A frame as long as that in Socket.IO. The clients of the floor know it as a native one.
pub(crate) fn socketio_frame() -> Vec<u8> {
    let as_long = format!(r#"42["user_online",{{{ARRIVAL}}}]"#).len();
    let begin = r#"{"type":"user_online""#;
    support::frame::frame(FIN | TEXT, None, format!("{begin:<width$}}}", width = as_long - 1).as_bytes())
}

const ARRIVAL: &str = concat!(
    r#""userId":"actor","user":{"id":"actor","status":"online"},"#,
    r#""epoch":1795312345678901,"revision":1795312345678902,"timestamp":"2026-11-22T00:00:00.000Z""#
);
