//! Clients that mean no good: a process of its own, which takes what the others leave of the processors.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink, split};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{MASK, text_frame};
use crate::process::{Process, Programs};
use crate::support::frame::{FIN, PING, frame};
use crate::support::http::{head_length, upgrade_request};

/// Sockets, and as many HTTP clients. Each has an address of its own, as the load balancer tells it.
pub(crate) const N_EACH: usize = 50;

/// Frames of a socket, and requests of an HTTP client, in one write.
const N_AT_ONCE: usize = 32;

/// Starts them. They end when this is dropped.
pub(crate) fn start(programs: &Programs, addr: SocketAddr) -> Result<Process> {
    programs.own_last("hostile", &["hostile", &addr.to_string()])
}

/// What the process does: it floods until it is killed.
pub(crate) async fn run(addr: SocketAddr) -> Result<()> {
    let mut clients = JoinSet::new();
    for i in 0..N_EACH {
        clients.spawn(again_and_again(addr, upgrade_of(i), messages()));
        clients.spawn(again_and_again(addr, String::new(), reads_of(N_EACH + i)));
    }
    clients.join_next().await;
    Ok(())
}

/// Connects, says who it is, and then sends as much as the server takes. When it is refused or closed, it comes back at
/// once.
async fn again_and_again(addr: SocketAddr, handshake: String, flood: Vec<u8>) {
    loop {
        // Whatever the server does is right.
        let _ = once(addr, &handshake, &flood).await;
    }
}

async fn once(addr: SocketAddr, handshake: &str, flood: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    if !handshake.is_empty() {
        stream.write_all(handshake.as_bytes()).await?;
        let mut head = Vec::new();
        while head_length(&head).is_none() {
            anyhow::ensure!(stream.read_buf(&mut head).await? > 0, "refused");
        }
        anyhow::ensure!(head.starts_with(b"HTTP/1.1 101 "), "refused");
    }
    let ((mut from, mut to), mut nowhere) = (split(stream), sink());
    let send = async { while to.write_all(flood).await.is_ok() {} };
    tokio::select! {
        () = send => {}
        _ = copy(&mut from, &mut nowhere) => {}
    }
    Ok(())
}

/// The handshake of client `i`.
fn upgrade_of(i: usize) -> String {
    upgrade_request("/ws").replacen("\r\n", &format!("\r\n{}", forwarded_for(i)), 1)
}

/// Requests of client `i` for the whole list.
fn reads_of(i: usize) -> Vec<u8> {
    let request = format!("GET /api/online-users?limit=10000 HTTP/1.1\r\nHost: localhost\r\n{}\r\n", forwarded_for(i));
    request.repeat(N_AT_ONCE).into_bytes()
}

fn forwarded_for(i: usize) -> String {
    format!("X-Forwarded-For: 203.0.113.{i}\r\n")
}

/// What costs the server something: pings, questions that have to be read, and pages of the list. The client hears nothing
/// of others. Otherwise these would have to hear of it, and be counted.
fn messages() -> Vec<u8> {
    let ask = text_frame(r#"{"type":"check_user_online","userId":"listener000000"}"#);
    let list = text_frame(r#"{"type":"get_online_users","limit":10000}"#);
    let round = [&ask[..], &frame(FIN | PING, MASK, b""), &list, &ask].concat();
    let subscribe = text_frame(r#"{"type":"subscribe","presence":"none"}"#);
    [&subscribe[..], &round.repeat(N_AT_ONCE / 4)].concat()
}
