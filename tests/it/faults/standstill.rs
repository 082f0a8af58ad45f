//! A node that stands still, and what it owes to those who spoke meanwhile.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Longer than a connection may be quiet, and than a timer may be late.
const STANDSTILL: Duration = Duration::from_secs(7);

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";

/// Reads an answer of 200, to the end of its body.
async fn read_answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut buffer = [0; 1024];
        let read = tokio::time::timeout(2 * DEADLINE, stream.read(&mut buffer)).await.expect("an answer in time");
        let n_bytes = read.expect("the connection lives");
        assert!(n_bytes > 0, "the connection ended: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n_bytes]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_request_over_a_quiet_connection_is_answered_after_a_standstill() {
    let mut node = NodeProcess::spawn(&[]).await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("the node accepts");
    stream.write_all(REQUEST).await.expect("it is sent");
    read_answer(&mut stream).await;
    node.sigstop();
    stream.write_all(REQUEST).await.expect("the kernel takes it");
    // This is how long the node stands still. Nothing is waited for.
    tokio::time::sleep(STANDSTILL).await;
    node.sigcont();
    read_answer(&mut stream).await;
}

#[tokio::test]
async fn a_connection_that_stays_quiet_ends_and_counts_as_no_limit() {
    let node = NodeProcess::spawn(&[]).await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("the node accepts");
    for _ in 0..2 {
        stream.write_all(REQUEST).await.expect("it is sent");
        read_answer(&mut stream).await;
    }
    let ended = tokio::time::timeout(2 * DEADLINE, stream.read_u8()).await.expect("it ends in time");
    assert_eq!(ended.expect_err("nothing more comes").kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(node.counter("rollcall_limited_total{limit=\"request_timeout\"}").await, 0);
}
